//! The change feed of the command, beside a running writer.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, Ran};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command};
use std::time::Duration;

/// Asks a process to end, as Ctrl-C does.
fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn every_kind_of_change_is_shown_once_and_in_order() {
    let db = Db::new();
    db.run(&["init", "--merge-operator", "counter"]).ok();
    db.run(&["keep-log", "1MiB"])
        .ok()
        .notes(&["keeps 1.00 MiB of log"]);
    db.run(&["keyspace", "create", "side"]).ok();
    db.run(&["put", "k", "v"]).ok();
    db.run(&["put", "k", "v", "--keyspace", "side"]).ok();
    db.run(&["merge", "n", "5"]).ok();
    db.run(&["delete", "k", "--prefix", "a"]).ok();
    db.run(&["put", "brief", "v", "--ttl", "1h"]).ok();
    db.feed(
        &["import", "--ingest", "-"],
        b"{\"_id\":\"z\"}\n{\"_id\":\"y\"}\n",
    )
    .ok();
    let shown = db
        .run(&["changes"])
        .ok()
        .notes(&["6 commits; go on with --after 6"])
        .out;
    let lines: Vec<_> = shown
        .lines()
        .map(|line| {
            line.trim()
                .split("  ")
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        lines[..5],
        [
            "1 default put k\tv",
            "2 side put k\tv",
            "3 default merge n\t5",
            "4 default delete_range a\tb",
            "4 default delete k",
        ]
    );
    assert!(
        lines[5].starts_with("5 default put brief\tv\tuntil 20"),
        "{lines:?}"
    );
    assert_eq!(lines[6..], ["6 default ingested y\tz"]);
    let objects = db
        .run(&["changes", "--json", "--after", "2", "--limit", "2"])
        .ok()
        .objects();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["changes"][0]["operands"][0]["value"], 5);
    assert_eq!(objects[1]["changes"][0]["kind"], "delete_range");
    assert_eq!(objects[1]["changes"][0]["to"], "b");
    let side = db.run(&["changes", "--keyspace", "side"]).ok().out;
    assert_eq!(side.lines().count(), 1);
    db.run(&["changes", "--keyspace", "nowhere"])
        .fails(1, &["no keyspace \"nowhere\""]);
    db.run(&["changes", "--after", "9"])
        .fails(1, &["commit 9 does not exist yet"]);
}

#[test]
fn a_feed_that_fell_behind_says_where_to_go_on() {
    let db = Db::with(&["a", "b", "c"]);
    db.run(&["changes", "--after", "1"])
        .fails(7, &["after commit 1", "at commit 3 and go on"]);
    db.run(&["changes"])
        .ok()
        .says("")
        .notes(&["begins after commit 3", "go on with --after 3"]);
    // Neither holds any log afterwards.
    let stats = db.run(&["stats", "--json"]).ok().objects();
    assert_eq!(stats[0]["feeds"], 0);
    assert_eq!(stats[0]["wal_files"], 0);
}

#[test]
fn a_follower_sees_each_acknowledged_key_once_and_in_order() {
    const KEYS: usize = 300;
    let db = Db::new();
    db.run(&["init"]).ok();
    let mut follower = db.spawn(&["changes", "--after", "0", "--follow", "--json"]);
    let mut seen = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut writer = db.spawn(&["put", "--ack"]);
    let mut stdin = writer.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        for n in 0..KEYS {
            writeln!(stdin, "{{\"_id\":\"{n:05}\"}}").unwrap();
            if n % 20 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        stdin
    });
    let mut acks = BufReader::new(writer.stdout.take().unwrap()).lines();
    for n in 0..KEYS {
        assert_eq!(acks.next().unwrap().unwrap(), format!("{n:05}"));
    }
    for n in 0..KEYS {
        let Some(line) = seen.next() else {
            panic!("{:?}", Ran::of(follower.wait_with_output().unwrap()));
        };
        let line = line.unwrap();
        let set: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(set["commit"], n + 1);
        assert_eq!(set["changes"][0]["key"], format!("{n:05}"));
    }
    let stats = db.run(&["stats", "--json"]).ok().objects();
    assert_eq!(stats[0]["feeds"], 1, "the follower is seen");
    drop(feeder.join().unwrap());
    assert!(writer.wait().unwrap().success());
    // It waits on after the writer has gone, and sees the next one.
    db.run(&["put", "last", "v"]).ok();
    assert!(seen.next().unwrap().unwrap().contains("\"last\""));
    interrupt(&follower);
    assert!(seen.next().is_none());
    let ended = Ran::of(follower.wait_with_output().unwrap());
    ended.ok().notes(&["301 commits; go on with --after 301"]);
}

#[test]
fn a_follower_over_a_killed_writer_shows_what_is_there_and_no_more() {
    let db = Db::new();
    db.run(&["init"]).ok();
    // The file of a killed writer counts with the space that was set aside for it.
    db.run(&["keep-log", "64MiB"]).ok();
    let mut there = 0;
    for _ in 0..5 {
        let mut writer = db.spawn(&["put", "--ack"]);
        let mut stdin = writer.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            for n in there.. {
                if writeln!(stdin, "{{\"_id\":\"{n:06}\"}}").is_err() {
                    return;
                }
            }
        });
        let mut acks = BufReader::new(writer.stdout.take().unwrap()).lines();
        for _ in 0..50 {
            acks.next().unwrap().unwrap();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        feeder.join().unwrap();
        let shown = db
            .run(&["changes", "--json", "--after", "0"])
            .ok()
            .objects();
        there = db.run(&["scan", "--keys-only"]).ok().out.lines().count();
        assert_eq!(shown.len(), there);
        for (n, set) in shown.iter().enumerate() {
            assert_eq!(set["commit"], n + 1);
            assert_eq!(set["changes"][0]["key"], format!("{n:06}"));
        }
    }
}

#[test]
fn stats_follow_a_writer_until_interrupted() {
    let db = Db::with(&["a"]);
    let twice = ["stats", "--follow", "--interval", "1ms", "--limit", "2"];
    let out = db.run(&twice).ok().out;
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(
        lines.iter().all(|line| line.contains("commit 1")
            && line.contains("1 table (1 in L0)")
            && line.chars().count() <= 80),
        "{out}"
    );
    assert!(lines[1].contains("+0/s"), "{out}");
    let mut follower = db.spawn(&["stats", "--follow", "--interval", "10ms", "--json"]);
    let mut seen = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut commit = || {
        let line = seen.next().unwrap().unwrap();
        let look: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(look["kind"], "look");
        look["commit"].as_u64().unwrap()
    };
    assert_eq!(commit(), 1);
    db.run(&["put", "b", "v"]).ok();
    // The looks before it are on their way in the pipe; one that begins after it shows it.
    while commit() < 2 {}
    interrupt(&follower);
    Ran::of(follower.wait_with_output().unwrap()).ok();
    let alone = db.run(&["stats", "--interval", "1s"]).code(2);
    assert!(alone.err.contains("--follow"), "{alone:?}");
    db.run(&["stats", "--follow", "--keyspace", "other"])
        .fails(1, &["no keyspace"]);
}
