//! What the commands that look inside say about kinds of writes and blob files.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::Db;

#[test]
fn blob_files_are_listed_counted_dumped_and_verified() {
    let db = Db::new();
    db.run(&[
        "init",
        "--blob-threshold",
        "100",
        "--merge-operator",
        "append",
    ])
    .ok();
    let large = "x".repeat(5000);
    db.run(&["put", "large", &large]).ok();
    db.run(&["put", "small", "v"]).ok();
    db.run(&["keyspace", "list"])
        .ok()
        .out
        .contains("merges by append; values from 100 B on in blob files")
        .then_some(())
        .unwrap();
    let stats = db.run(&["stats", "--json"]).ok().objects();
    assert_eq!(
        (&stats[0]["blob_files"], &stats[1]["blob_files"]),
        (&1.into(), &1.into())
    );
    let (bytes, live) = (&stats[1]["blob_bytes"], &stats[1]["blob_live_bytes"]);
    assert!(live.as_u64().unwrap() > 0 && live.as_u64() < bytes.as_u64());
    assert!(db.run(&["stats"]).ok().out.contains("in 1 blob file"));
    db.run(&["verify"])
        .ok()
        .notes(&["1 blob file", "all is well"]);
    db.run(&["verify", "--json"]).ok();
    let dumped = db
        .run(&["dump", "sst", &db.files("sst")[0].to_string_lossy()])
        .ok()
        .out;
    assert!(
        dumped.contains("put") && dumped.contains("bytes in blob/"),
        "{dumped}"
    );
    let blob = db.files("blob").remove(0);
    db.run(&["dump", "blob"])
        .ok()
        .out
        .contains("1 value in")
        .then_some(())
        .unwrap();
    let info = db
        .run(&["dump", "blob", "--json", &blob.to_string_lossy()])
        .ok()
        .objects();
    assert_eq!(info[0]["values"], 1);
    assert!(db.run(&["dump", "manifest"]).ok().out.contains("1 value\n"));
    db.run(&["dump", "sst", "blob/0000000000000001.blob"])
        .fails(2, &["dump blob blob/"]);
    // Overwritten and compacted, nothing points to it any more.
    db.run(&["put", "large", "now small"]).ok();
    db.run(&["keyspace", "set", "default", "--window", "1"])
        .ok();
    db.run(&["compact"]).ok();
    let stats = db.run(&["stats", "--json"]).ok().objects();
    assert_eq!(stats[1]["blob_live_bytes"], 0);
    std::fs::write(&blob, b"damaged").ok();
    db.run(&["get", "large"]).ok().says("now small\n");
}

#[test]
fn what_is_kept_apart_is_said_and_can_be_set_back() {
    let db = Db::new();
    db.run(&["init", "--blob-threshold", "none"]).ok();
    let listed = || db.run(&["keyspace", "list"]).ok().out;
    assert!(listed().contains("all values beside their keys"));
    let set = |to| {
        db.run(&["keyspace", "set", "default", "--blob-threshold", to])
            .ok();
    };
    set("20KiB");
    assert!(listed().contains("values from 20.0 KiB on in blob files"));
    set("default");
    assert!(!listed().contains("values"), "{}", listed());
    db.run(&["keyspace", "set", "default", "--blob-threshold", "some"])
        .fails(2, &["--blob-threshold"]);
}

#[test]
fn dumps_name_the_kind_of_every_entry() {
    let db = Db::new();
    db.run(&["init", "--merge-operator", "counter"]).ok();
    db.run(&["keep-log", "1MiB"]).ok();
    let script = b"put a 1\ndelete b\nmerge n 5\nmerge n 6\ndelete-range x y\nput short v ttl=1h\n";
    db.feed(&["txn"], script).ok();
    let logs = db.files("wal");
    let dump = |kind: &str, file: &std::path::Path, json: bool| {
        let file = file.to_string_lossy().into_owned();
        let mut args = vec!["dump", kind, &file];
        args.extend(json.then_some("--json"));
        db.run(&args).ok()
    };
    let of_log: Vec<_> = logs
        .iter()
        .flat_map(|log| dump("wal", log, true).objects())
        .collect();
    let kinds: Vec<_> = of_log
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["range_delete", "put", "delete", "merge", "put"]);
    assert_eq!(
        (&of_log[0]["key"], &of_log[0]["to"]),
        (&"x".into(), &"y".into())
    );
    assert_eq!(of_log[3]["operands"][1]["value"], 6);
    assert!(of_log[4]["expires"].is_string());
    let text: String = logs.iter().map(|log| dump("wal", log, false).out).collect();
    for words in [
        "delete        b\n",
        "merge         n\t5\t6\n",
        "range_delete  x\ty\n",
        "put           short\tv\tuntil 20",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let table = dump("sst", &db.files("sst")[0], true).objects();
    let kinds: Vec<_> = table
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["put", "put", "put"], "all is settled in a table");
    assert_eq!(table[1]["value"], 11);
}

#[test]
fn an_ingest_sorts_what_fits_memory_and_asks_for_order_beyond() {
    let db = Db::new();
    db.feed(
        &["import", "--ingest", "-"],
        b"{\"_id\":\"b\",\"n\":1}\n{\"_id\":\"a\"}\n{\"_id\":\"b\",\"n\":2}\n",
    )
    .ok()
    .notes(&["ingested 2 records as commit 1 into 1 table"]);
    db.run(&["scan"]).ok().says("a\t{}\nb\t{\"n\":2}\n");
    db.feed(&["import", "--ingest", "-"], b"{\"_id\":\"c\"}\n{broken\n")
        .fails(1, &["line 2"]);
    db.run(&["get", "c"]).fails(3, &["not found"]);
    let padding = "x".repeat(5000);
    let row = |n: u32| format!("{{\"_id\":\"{n:06}\",\"p\":\"{padding}\"}}\n");
    let rising: String = (0..1200).map(row).collect();
    let falling: String = (0..1200).rev().map(row).collect();
    let ingest = ["import", "--ingest", "-", "--memory", "8MiB", "--json"];
    db.feed(&ingest, falling.as_bytes())
        .fails(1, &["more than 4.00 MiB", "not sorted", "--memory"]);
    let done = db.feed(&ingest, rising.as_bytes()).ok().objects();
    assert_eq!(done[0]["records"], 1200);
    let late = rising + &row(5);
    db.feed(&ingest, late.as_bytes())
        .fails(1, &["line 1201", "rising order"]);
    let keys = db
        .run(&["scan", "--keys-only", "--from", "0", "--to", "1"])
        .ok()
        .out;
    assert_eq!(keys.lines().count(), 1200);
    db.run(&["import", "--ingest", "--batch", "5", "-"]).code(2);
    db.run(&["verify"]).ok();
}
