//! The demo, in a reduced size: it proves what it says, and leaves a database behind.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Ran, command};

#[test]
fn the_demo_proves_everything_and_leaves_its_database() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let dir = dir.to_str().unwrap();
    let demo = || {
        let args = ["demo", "--dir", dir, "--records", "2000", "--rounds", "2"];
        Ran::of(command().args(args).output().unwrap())
    };
    let ran = demo().ok();
    for word in [
        "1  Import",
        "obsolete versions",
        "acknowledged writes are there",
        "--at",
        "not retained",
        "6  The cities as one document",
        "nothing wrong",
        "The bill",
        "All 9 proofs hold",
    ] {
        assert!(
            ran.out.contains(word),
            "{word:?} is missing in\n{}",
            ran.out
        );
    }
    for line in ran.out.lines() {
        let path = line.contains(dir);
        assert!(path || line.chars().count() <= 80, "too wide: {line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
    let proposed: Vec<_> = ran
        .out
        .lines()
        .filter_map(|l| l.strip_prefix("   siltstone "))
        .collect();
    assert_eq!(proposed.len(), 4);
    for line in proposed {
        Ran::of(command().args(line.split(' ')).output().unwrap()).ok();
    }
    Ran::of(command().args(["--db", dir, "verify"]).output().unwrap()).ok();
    demo().fails(1, &["is not an empty folder", "--dir"]);
}

#[test]
fn the_demo_speaks_to_machines_too() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let args = [
        "demo",
        "--records",
        "500",
        "--rounds",
        "1",
        "--json",
        "--dir",
    ];
    let ran = Ran::of(command().args(args).arg(dir).output().unwrap()).ok();
    let last = ran.objects().pop().unwrap();
    assert_eq!(last["ok"], true);
    assert!(last["recovered"].as_u64().unwrap() >= last["acknowledged"].as_u64().unwrap());
}

#[test]
fn the_ledger_demo_loses_with_the_naive_swap_and_never_with_ours() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("ledger");
    let dir = dir.to_str().unwrap();
    let demo = |more: &[&str]| {
        let args = ["demo", "ledger", "--dir", dir, "--documents", "60"];
        Ran::of(command().args(args).args(more).output().unwrap())
    };
    let ran = demo(&[]).ok();
    for word in [
        "an acknowledged commit is lost",
        "a published meta leads to nothing",
        "T1  ",
        "nothing lost, nothing dangling",
        "opened again: all there, verified",
    ] {
        assert!(
            ran.out.contains(word),
            "{word:?} is missing in\n{}",
            ran.out
        );
    }
    let listed = ["--db", dir, "ledger", "all", "demo", "--ids"];
    let listed = Ran::of(command().args(listed).output().unwrap()).ok();
    assert_eq!(listed.out.lines().count(), 60);
    demo(&[]).fails(1, &["is not an empty folder"]);
}
