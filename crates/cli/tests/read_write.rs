//! Writing and reading with the command.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, Ran, command};
use std::process::Stdio;

const CITIES: &[u8] = br#"{"_id":"NO/Oslo","population":700000}
{"_id":"NO/Bergen","population":290000}

{"_id":"SE/Malm\u00f6","population":350000}
"#;

#[test]
fn a_key_is_put_read_and_deleted() {
    let db = Db::new();
    db.run(&["put", "k", "v"])
        .ok()
        .says("")
        .notes(&["commit 1, durable"]);
    db.run(&["get", "k"])
        .ok()
        .says("v\n")
        .notes(&["found in sst/", "1 table read, 0 skipped"]);
    db.run(&["get", "k", "--raw"]).ok().says("v");
    db.run(&["delete", "k", "other"])
        .ok()
        .notes(&["deleted 2 keys in commit 2"]);
    db.run(&["get", "k"])
        .fails(3, &["k: deleted by commit 2", "read at commit 2"])
        .says("");
    db.run(&["get", "never"]).fails(3, &["never: not found"]);
}

#[test]
fn the_past_is_read_at_a_commit() {
    let db = Db::new();
    for value in ["one", "two", "three"] {
        db.run(&["put", "k", value]).ok();
    }
    db.run(&["get", "k", "--at", "2"]).ok().says("two\n");
    db.run(&["scan", "--at", "1"]).ok().says("k\tone\n");
    db.run(&["get", "k", "--at", "9"])
        .fails(1, &["commit 9 does not exist yet", "newest is 3"]);
    let history = db.run(&["history", "k", "--json"]).ok();
    let values: Vec<_> = history
        .objects()
        .iter()
        .map(|v| v["value_text"].clone())
        .collect();
    assert_eq!(values, ["three", "two", "one"]);
    db.run(&["history", "k", "--limit", "1"])
        .ok()
        .notes(&["3 versions"]);
    db.run(&["history", "nothing"])
        .fails(3, &["no version is stored"]);
}

#[test]
fn a_database_that_keeps_one_commit_refuses_the_past_and_names_what_is_left() {
    let db = Db::new();
    db.run(&["init", "--window", "1"])
        .ok()
        .notes(&["created an empty database"]);
    db.run(&["put", "k", "one"]).ok();
    db.run(&["checkpoint", "create", "first"]).ok();
    db.run(&["put", "k", "two"]).ok();
    db.run(&["put", "k", "three"]).ok();
    db.run(&["get", "k", "--at", "1"]).ok().says("one\n");
    db.run(&["get", "k", "--at", "2"])
        .fails(1, &["not retained", "are 1 and 3"]);
}

#[test]
fn lines_go_in_with_their_keys_and_come_out_in_order() {
    let db = Db::new();
    db.feed(&["put"], CITIES)
        .ok()
        .says("")
        .notes(&["3 records"]);
    db.run(&["scan", "--keys-only"])
        .ok()
        .says("NO/Bergen\nNO/Oslo\nSE/Malmö\n")
        .notes(&["3 rows"]);
    db.run(&["scan", "--prefix", "NO/"])
        .ok()
        .says("NO/Bergen\t{\"population\":290000}\nNO/Oslo\t{\"population\":700000}\n");
    db.run(&["scan", "--reverse", "--limit", "1", "--keys-only"])
        .ok()
        .says("SE/Malmö\n");
    db.run(&["scan", "--from", "NO/C", "--to", "SE/M", "--keys-only"])
        .ok()
        .says("NO/Oslo\n");
    db.run(&["scan", "--from", "x", "--to", "x"]).ok().says("");
}

#[test]
fn another_field_can_hold_the_key() {
    let db = Db::new();
    db.feed(&["put", "--key-field", "sku"], b"{\"sku\":17,\"n\":1.50}\n")
        .ok();
    db.run(&["get", "17"])
        .ok()
        .says("{\"sku\":17,\"n\":1.50}\n");
}

#[test]
fn acknowledgements_come_one_a_write_in_order() {
    let db = Db::new();
    let keys = "NO/Oslo\nNO/Bergen\nSE/Malmö\n";
    db.feed(&["put", "--ack"], CITIES).ok().says(keys);
    let acks = db.feed(&["put", "--ack", "--json"], CITIES).ok().objects();
    let commits: Vec<_> = acks
        .iter()
        .map(|ack| ack["commit"].as_u64().unwrap())
        .collect();
    assert_eq!(commits, [4, 5, 6]);
    db.run(&["put", "k", "v", "--ack"]).ok().says("k\n");
    db.feed(&["put", "--buffered"], CITIES).ok();
    db.run(&["get", "NO/Oslo"]).ok();
}

#[test]
fn a_wrong_line_stops_after_the_ones_before_it() {
    let db = Db::new();
    let input = b"{\"_id\":\"a\",\"n\":1}\n{\"_id\":\"b\"}\nnonsense\n{\"_id\":\"c\"}\n";
    db.feed(&["put", "--ack"], input)
        .fails(1, &["line 3", "not JSON"])
        .says("a\nb\n");
    db.run(&["scan", "--keys-only"]).ok().says("a\nb\n");
    db.feed(&["put"], b"{\"n\":1}")
        .fails(1, &["line 1", "no field \"_id\"", "--key-field"]);
    db.feed(&["put"], b"\xff\n")
        .fails(1, &["line 1", "not UTF-8"]);
}

#[test]
fn machine_output_is_one_object_a_line() {
    let db = Db::new();
    let put = &db.run(&["put", "k", "{\"n\": 1}", "--json"]).ok().objects()[0];
    assert_eq!(put["key"], "k");
    assert_eq!(put["commit"], 1);
    let got = db.run(&["get", "k", "--json"]).ok();
    assert_eq!(got.objects()[0]["value"]["n"], 1);
    assert!(
        got.objects()[0]["source"]
            .as_str()
            .unwrap()
            .starts_with("sst/")
    );
    assert_eq!(db.run(&["scan", "--json"]).ok().objects()[0]["key"], "k");
    assert_eq!(
        db.run(&["delete", "k", "--json"]).ok().objects()[0]["deleted"],
        1
    );
    let gone = &db.run(&["history", "k", "--json"]).ok().objects()[0];
    assert_eq!(gone["deleted"], true);
}

#[test]
fn quiet_says_nothing_but_errors_and_pipes_have_no_colour() {
    let db = Db::new();
    let ran = db.run(&["put", "k", "v", "-q"]).ok();
    assert_eq!(ran.err, "");
    db.run(&["get", "absent", "-q"]).fails(3, &["not found"]);
    for args in [&["get", "k"][..], &["stats"], &["get", "absent"]] {
        let ran = db.run(args);
        assert!(
            !ran.out.contains('\x1b') && !ran.err.contains('\x1b'),
            "{ran:?}"
        );
    }
}

#[test]
fn values_of_any_bytes_stay_on_their_line() {
    let db = Db::new();
    db.feed(&["put", "bytes", "-"], b"a\tb\nc\xff\\").ok();
    db.run(&["scan"]).ok().says("bytes\ta\\tb\\nc\\xff\\\\\n");
    let output = db.command(&["get", "bytes", "--raw"]).output().unwrap();
    assert_eq!(output.stdout, b"a\tb\nc\xff\\");
    let object = &db.run(&["get", "bytes", "--json"]).ok().objects()[0];
    assert_eq!(object["value_hex"], "6109620a63ff5c");
}

#[test]
fn keyspaces_are_apart() {
    let db = Db::with(&["k"]);
    db.run(&[
        "keyspace",
        "create",
        "other",
        "--compression",
        "zstd",
        "--window",
        "all",
    ])
    .ok();
    db.run(&["put", "--keyspace", "other", "k", "elsewhere"])
        .ok();
    db.run(&["get", "k"]).ok().says("v\n");
    db.run(&["get", "k", "--keyspace", "other"])
        .ok()
        .says("elsewhere\n");
    let listed = db.run(&["keyspace", "list", "--json"]).ok();
    assert_eq!(listed.objects()[1]["name"], "other");
    assert_eq!(listed.objects()[1]["options"]["compression"], "Zstd");
    db.run(&["keyspace", "drop", "other"]).ok();
    db.run(&["get", "k", "--keyspace", "other"])
        .fails(1, &["no keyspace \"other\"", "default"]);
    db.run(&["keyspace", "drop", "default"])
        .fails(1, &["cannot be dropped"]);
    db.run(&["get", "k"]).ok().says("v\n");
}

#[test]
fn the_database_comes_from_the_environment_or_the_default_folder() {
    let db = Db::with(&["k"]);
    let from_env = command()
        .env("SILTSTONE_DB", db.url())
        .args(["get", "k"])
        .output()
        .unwrap();
    Ran::of(from_env).ok().says("v\n");
    let inside = command()
        .current_dir(db.dir.path())
        .args(["put", "a", "b"])
        .output()
        .unwrap();
    Ran::of(inside).ok();
    assert!(db.path("siltstone-data/manifest").is_dir());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let db = Db::new();
    let lines: String = (0..20_000)
        .map(|n| format!("{{\"_id\":\"key {n}\",\"n\":{n}}}\n"))
        .collect();
    db.feed(&["put", "--buffered"], lines.as_bytes()).ok();
    for args in [
        &["scan"][..],
        &["export"],
        &["export", "--format", "csv"],
        &["dump", "sst"],
    ] {
        let mut child = db.command(args).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output().unwrap()).ok();
        assert!(!ran.err.contains("error"), "{args:?}: {ran:?}");
    }
}
