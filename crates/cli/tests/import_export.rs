//! Import and export: what goes out comes back.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, Ran};
use std::fs;

#[test]
fn json_lines_come_back_byte_for_byte() {
    let db = Db::new();
    db.feed(&["put", "text", "-"], b"plain \"text\"\n").ok();
    db.feed(&["put", "bytes", "-"], b"\xff\x00").ok();
    db.feed(&["put", "spaced", "-"], b"{ \"n\" : 1.00 }").ok();
    db.feed(
        &["put"],
        b"{\"_id\":\"object\",\"n\":1.00,\"deep\":[1, {\"a\":null}]}",
    )
    .ok();
    let file = db.path("all.jsonl").to_string_lossy().into_owned();
    db.run(&["export", &file])
        .ok()
        .notes(&["exported 4 records at commit 4"]);
    let copy = Db::new();
    copy.run(&["import", &file])
        .ok()
        .notes(&["imported 4 records in 1 commit"]);
    let raw = |db: &Db, key: &str| db.command(&["get", key, "--raw"]).output().unwrap().stdout;
    for key in ["text", "bytes", "spaced", "object"] {
        assert_eq!(raw(&db, key), raw(&copy, key), "{key}");
    }
    assert_eq!(db.run(&["export"]).out, copy.run(&["export"]).out);
}

#[test]
fn tables_come_in_with_and_without_types() {
    let db = Db::new();
    let file = db.path("cities.csv").to_string_lossy().into_owned();
    fs::write(
        &file,
        "code,name,people\nNO-1,\"Oslo, by the fjord\",700000\nNO-2,Bergen,\n",
    )
    .unwrap();
    db.run(&["import", &file, "--key-field", "code"])
        .ok()
        .notes(&["2 records"]);
    db.run(&["get", "NO-1"])
        .ok()
        .says("{\"code\":\"NO-1\",\"name\":\"Oslo, by the fjord\",\"people\":\"700000\"}\n");
    db.run(&["import", &file, "--key-field", "code", "--typed"])
        .ok();
    db.run(&["get", "NO-2"])
        .ok()
        .says("{\"code\":\"NO-2\",\"name\":\"Bergen\",\"people\":null}\n");
    db.run(&["import", &file])
        .fails(1, &["no column \"_id\"", "code, name, people"]);
}

#[test]
fn tables_have_a_column_for_each_field() {
    let db = Db::new();
    let lines = b"{\"_id\":\"a\",\"x\":1}\n{\"_id\":\"b\",\"y\":[1,2],\"x\":\"t,u\"}\n";
    db.feed(&["put"], lines).ok();
    db.run(&["put", "c", "no object"]).ok();
    let table = "_id,x,y,_value\na,1,,\nb,\"t,u\",\"[1,2]\",\nc,,,no object\n";
    db.run(&["export", "--format", "csv"]).ok().says(table);
    db.run(&["export", "--format", "csv", "--prefix", "a"])
        .ok()
        .says("_id,x\na,1\n");
    let copy = Db::new();
    copy.feed(
        &["import", "-", "--format", "csv", "--typed"],
        table.as_bytes(),
    )
    .ok();
    copy.run(&["get", "c"]).ok().says("no object\n");
    copy.run(&["get", "a"]).ok().says("{\"x\":1,\"y\":null}\n");
}

#[test]
fn the_demo_data_imports_packed() {
    let db = Db::new();
    let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/cities.jsonl.gz");
    db.run(&["import", packed])
        .ok()
        .notes(&["imported 34,006 records in 35 commits"]);
    let oslo = db.run(&["get", "NO/Oslo", "--json"]).ok();
    assert_eq!(oslo.objects()[0]["value"]["timezone"], "Europe/Oslo");
    db.run(&["export", "--at", "1"])
        .ok()
        .notes(&["exported 1,000 records at commit 1"]);
}

#[test]
fn wrong_files_say_what_is_wrong_and_where() {
    let db = Db::new();
    db.run(&["import", "/nowhere/x.jsonl"])
        .fails(1, &["/nowhere/x.jsonl", "No such file"]);
    db.run(&["import", &db.dir.path().to_string_lossy()])
        .fails(1, &["is a folder"]);
    let file = db.path("bad.jsonl").to_string_lossy().into_owned();
    fs::write(&file, "{\"_id\":\"a\"}\n{\"_id\":\"b\"}\n{\"_id\":\n").unwrap();
    db.run(&["import", &file])
        .fails(1, &["bad.jsonl, line 3", "not JSON"])
        .notes(&["2 records"]);
    db.run(&["scan", "--keys-only"]).ok().says("a\nb\n");
    let ragged = db.path("bad.csv").to_string_lossy().into_owned();
    fs::write(&ragged, "_id,n\na,1\nb\n").unwrap();
    db.run(&["import", &ragged])
        .fails(1, &["bad.csv", "line: 3"]);
    let packed = db.path("bad.jsonl.gz").to_string_lossy().into_owned();
    fs::write(&packed, "not packed").unwrap();
    db.run(&["import", &packed])
        .fails(1, &["bad.jsonl.gz", "gzip"]);
}

#[test]
fn a_full_disk_is_said() {
    let full = "/dev/full";
    if !std::path::Path::new(full).exists() {
        return;
    }
    let db = Db::with(&["a"]);
    db.run(&["export", full]).fails(1, &["No space left"]);
    let sink = fs::File::options().write(true).open(full).unwrap();
    let ran = Ran::of(db.command(&["scan"]).stdout(sink).output().unwrap());
    ran.fails(1, &["stdout", "No space left"]);
}
