//! Files of ledgers on the command line: in and out by files and pipes, listed, kept whole.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::Db;
use std::fs;

fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn files_go_in_and_out_by_names_and_pipes_and_are_listed() {
    let db = Db::new();
    let (photo, out) = (db.path("photo"), db.path("out"));
    let (photo_name, out_name) = (photo.to_str().unwrap(), out.to_str().unwrap());
    let content = bytes(1, 5_000_001);
    fs::write(&photo, &content).unwrap();
    db.run(&["ledger", "put", "notes", "sand", "{\"grain\": 0.2}"])
        .ok();
    let put = [
        "ledger", "file", "put", "notes", "sand", photo_name, "--json",
    ];
    let put = db.run(&put).ok().objects().remove(0);
    assert_eq!(
        (&put["bytes"], &put["field"]),
        (&5_000_001.into(), &"file".into())
    );
    // The rest of the document is as it was.
    let sand = db
        .run(&["ledger", "get", "notes", "sand"])
        .ok()
        .objects()
        .remove(0);
    assert_eq!(sand["grain"], 0.2);
    assert_eq!(sand["file"]["/"], put["file"]);
    db.run(&["ledger", "file", "get", "notes", "sand", out_name])
        .ok()
        .notes(&["written"]);
    assert!(fs::read(&out).unwrap() == content);
    // By pipes, under another field, of a document that was not there, in a ledger that was not there.
    let small = b"\x00\xff of stdin".as_slice();
    let put = [
        "ledger", "file", "put", "other", "silt", "-", "--field", "raw",
    ];
    db.feed(&put, small).ok();
    let get = [
        "ledger", "file", "get", "other", "silt", "-", "--field", "raw",
    ];
    let piped = db.command(&get).output().unwrap();
    assert!(piped.status.success());
    assert_eq!(piped.stdout, small);
    // An empty one, and one that is there already.
    let put = ["ledger", "file", "put", "notes", "empty", "-"];
    db.feed(&put, b"").ok();
    let put = ["ledger", "file", "put", "notes", "sand2", photo_name];
    db.run(&put).ok();
    let listed = db.run(&["ledger", "file", "list", "notes", "--json"]).ok();
    let listed: Vec<_> = listed
        .objects()
        .iter()
        .map(|row| (row["id"].to_string(), row["bytes"].as_u64().unwrap()))
        .collect();
    let id = |id: &str| format!("\"{id}\"");
    let whole = 5_000_001;
    assert_eq!(
        listed,
        [(id("empty"), 0), (id("sand"), whole), (id("sand2"), whole)]
    );
    db.run(&["ledger", "file", "list", "notes", "--prefix", "e"])
        .ok()
        .says("empty  file  0 B\n")
        .notes(&["1 file"]);
    let stats = db.run(&["ledger", "stats", "notes", "--json"]).ok();
    let stored = stats.objects()[0]["car_bytes"].as_u64().unwrap();
    assert!(stored < 2 * whole, "stored once: {stored}");
    // A link that leads nowhere is shown as such; verify follows those that lead somewhere.
    let list = db.run(&["ledger", "verify", "notes", "--json"]).ok();
    assert_eq!(list.objects()[0]["linked_files"], 2);
}

#[test]
fn what_cannot_be_put_or_got_is_said_and_leaves_nothing_behind() {
    let db = Db::new();
    let nowhere = db.path("nowhere");
    db.run(&[
        "ledger",
        "file",
        "put",
        "notes",
        "a",
        nowhere.to_str().unwrap(),
    ])
    .fails(1, &["nowhere"]);
    let folder = db.dir.path().to_str().unwrap().to_string();
    db.run(&["ledger", "file", "put", "notes", "a", &folder])
        .fails(2, &["folder"]);
    db.run(&["ledger", "put", "notes", "plain", "{\"file\": 7}"])
        .ok();
    let out = db.path("out");
    let out_name = out.to_str().unwrap();
    let get = |id: &str| db.run(&["ledger", "file", "get", "notes", id, out_name]);
    get("plain").fails(3, &["plain", "file"]);
    get("never").fails(3, &["never"]);
    assert!(!out.exists());
    // One whose archive is damaged: what was there stays.
    db.feed(
        &["ledger", "file", "put", "notes", "a", "-"],
        &bytes(2, 900_000),
    )
    .ok();
    let largest = db.files("ledger/notes/car").into_iter();
    let car = largest
        .max_by_key(|file| fs::metadata(file).unwrap().len())
        .unwrap();
    let mut damaged = fs::read(&car).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&car, damaged).unwrap();
    fs::write(&out, b"before").unwrap();
    get("a").fails(4, &["damaged"]);
    assert_eq!(fs::read(&out).unwrap(), b"before");
    assert!(!db.path("out.part").exists());
}
