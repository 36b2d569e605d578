//! Commands that read a ledger while another process has it open for writing.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, Ran, command};
use siltstone_s3_test_server::TestServer;
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// Reads until what a writer was told is there.
fn until(expected: &str, mut read: impl FnMut() -> Ran) {
    for _ in 0..2000 {
        if read().out == expected {
            return;
        }
    }
    panic!("never {expected:?}, but {:?}", read().out);
}

/// All commands that read, while `writer` waits for more; then more comes.
fn read_beside(mut writer: Child, run: impl Fn(&[&str]) -> Ran, exported: &str) {
    let mut input = writer.stdin.take().unwrap();
    for id in ["clay", "sand", "silt"] {
        writeln!(input, "{{\"_id\": \"{id}\", \"letters\": \"{id}\"}}").unwrap();
    }
    input.flush().unwrap();
    until("clay\nsand\nsilt\n", || {
        run(&["ledger", "all", "notes", "--ids"])
    });
    let sand = run(&["ledger", "get", "notes", "sand"]).ok();
    assert_eq!(sand.objects()[0]["letters"], "sand");
    assert_eq!(
        run(&["ledger", "changes", "notes"])
            .ok()
            .out
            .lines()
            .count(),
        3
    );
    assert_eq!(
        run(&["ledger", "history", "notes", "silt"])
            .ok()
            .out
            .lines()
            .count(),
        1
    );
    let found = [
        "ledger", "query", "notes", "letters", "--from", "\"s\"", "--limit", "9",
    ];
    assert_eq!(run(&found).ok().out.lines().count(), 2);
    run(&["ledger", "conflicts", "notes"]).ok();
    let clock = run(&["ledger", "clock", "notes"]).ok().out;
    assert!(clock.starts_with("bafy"), "{clock}");
    run(&["ledger", "stats", "notes"]).ok();
    run(&["ledger", "names"]).ok().says("notes\n");
    run(&["ledger", "verify", "notes"])
        .ok()
        .notes(&["nothing wrong"]);
    run(&["ledger", "verify", "notes", "--files"]).ok();
    run(&["ledger", "export", "notes", exported]).ok();
    run(&["ledger", "file", "list", "notes"]).ok();
    run(&["ledger", "get", "notes", "loam"]).fails(3, &["loam"]);
    run(&["ledger", "get", "nope", "loam"]).fails(3, &["nope", "notes"]);
    // The writer was not disturbed.
    writeln!(input, "{{\"_id\": \"loam\"}}").unwrap();
    input.flush().unwrap();
    until("clay\nloam\nsand\nsilt\n", || {
        run(&["ledger", "all", "notes", "--ids"])
    });
    drop(input);
    assert!(writer.wait().unwrap().success());
    run(&["ledger", "verify", "notes"]).ok();
}

#[test]
fn a_folder_is_read_beside_its_writer() {
    let db = Db::new();
    db.run(&["ledger", "new", "notes"]).ok();
    let writer = db.spawn(&["ledger", "put", "notes", "--bulk", "1"]);
    let exported = db.path("notes.car");
    read_beside(writer, |args| db.run(args), exported.to_str().unwrap());
    // What it wrote, another ledger takes in.
    let other = Db::new();
    other
        .run(&["ledger", "import", "notes", exported.to_str().unwrap()])
        .ok();
    let ids = other.run(&["ledger", "all", "notes", "--ids"]).ok();
    assert_eq!(ids.out, "clay\nsand\nsilt\n");
}

#[test]
fn a_write_beside_a_writer_is_refused() {
    let db = Db::new();
    db.run(&["ledger", "new", "notes"]).ok();
    let mut writer = db.spawn(&["ledger", "put", "notes", "--bulk", "1"]);
    let mut input = writer.stdin.take().unwrap();
    writeln!(input, "{{\"_id\": \"sand\"}}").unwrap();
    input.flush().unwrap();
    until("sand\n", || db.run(&["ledger", "all", "notes", "--ids"]));
    for args in [
        &["ledger", "put", "notes", "x", "{}"][..],
        &["ledger", "delete", "notes", "sand"],
        &["ledger", "compact", "notes"],
    ] {
        db.run(args).fails(1, &["process"]);
    }
    drop(input);
    assert!(writer.wait().unwrap().success());
    db.run(&["ledger", "put", "notes", "x", "{}"]).ok();
}

#[test]
fn a_bucket_is_read_without_taking_it_from_its_writer() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(folder.path()).unwrap();
    let url = format!("s3://{}/db", server.bucket());
    let at_bucket = |args: &[&str]| -> Command {
        let mut command = command();
        command
            .env("AWS_ENDPOINT_URL", server.endpoint())
            .env("AWS_ACCESS_KEY_ID", server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", server.secret_key())
            .env("SILTSTONE_DB", &url)
            .args(args);
        command
    };
    let run = |args: &[&str]| Ran::of(at_bucket(args).output().unwrap());
    run(&["ledger", "new", "notes"]).ok();
    let mut put = at_bucket(&["ledger", "put", "notes", "--bulk", "1"]);
    let writer = put.stdin(Stdio::piped()).spawn().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let exported = outside.path().join("notes.car");
    read_beside(writer, run, exported.to_str().unwrap());
}
