//! Lists and texts on the command line: edits, looking back, syncing, and a writer that is killed.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, command};
use std::fs;

#[test]
fn a_list_is_edited_looked_back_at_and_drawn() {
    let db = Db::new();
    db.run(&["list", "append", "todo", "\"buy sand\"", "42", "{\"a\":1}"])
        .ok();
    db.run(&["list", "move", "todo", "2", "0"]).ok();
    db.run(&["list", "set", "todo", "1", "buy silt"]).ok();
    db.run(&["list", "insert", "todo", "3", "-7"]).ok();
    db.run(&["list", "delete", "todo", "2"]).ok();
    let shown = db.run(&["list", "show", "todo", "--json"]).ok().out;
    assert_eq!(shown.trim_end(), r#"{"values":[{"a":1},"buy silt",-7]}"#);
    let then = db
        .run(&["list", "show", "todo", "--at", "1", "--json"])
        .ok()
        .out;
    assert_eq!(then.trim_end(), r#"{"values":["buy sand",42,{"a":1}]}"#);
    let early = db
        .run(&["list", "show", "todo", "--at-time", "2020-01-01T00:00:00Z"])
        .ok()
        .out;
    assert_eq!(early, "");
    let history = db.run(&["list", "history", "todo"]).ok().out;
    assert_eq!(history.lines().count(), 5);
    assert!(
        history.contains("moved 1") && history.contains("set 1"),
        "{history}"
    );
    let stats = db.run(&["list", "stats", "todo"]).ok().out;
    assert!(
        stats.contains('█') && stats.contains("compaction ratio"),
        "{stats}"
    );
    db.run(&["list", "delete", "todo", "9"])
        .fails(3, &["9..10", "3 elements"]);
    db.run(&["list", "show", "nope"])
        .fails(3, &["nope", "todo"]);
    db.run(&["list", "append", "bad\nname", "1"])
        .fails(2, &["control characters"]);
    db.run(&["text", "edit", "todo", "-"])
        .fails(2, &["todo is not a text"]);
    assert_eq!(
        db.run(&["list", "names"])
            .ok()
            .out
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["todo", "list"]
    );
    db.run(&["list", "drop", "todo"]).ok();
    assert_eq!(db.run(&["list", "names"]).ok().out, "");
}

#[test]
fn a_text_follows_its_file_and_copies_come_together() {
    let (a, b) = (Db::new(), Db::new());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    let path = file.to_str().unwrap();
    fs::write(&file, "one\ntwo\nthree\n").unwrap();
    a.run(&["text", "edit", "notes", path, "--author", "ann"])
        .ok();
    a.run(&["text", "sync", "notes", &b.url()]).ok();
    fs::write(&file, "one\ntwo!\nthree\n").unwrap();
    a.run(&["text", "edit", "notes", path, "--author", "ann"])
        .ok();
    fs::write(&file, "zero\none\ntwo\nthree\n").unwrap();
    b.run(&["text", "edit", "notes", path, "--author", "ben"])
        .ok();
    let synced = a
        .run(&["text", "sync", "notes", &b.url(), "--json"])
        .ok()
        .out;
    assert!(synced.contains(r#""came":1,"went":1"#), "{synced}");
    let (in_a, in_b) = (
        a.run(&["text", "show", "notes"]).ok().out,
        b.run(&["text", "show", "notes"]).ok().out,
    );
    assert_eq!(
        (in_a.as_str(), in_b.as_str()),
        ("zero\none\ntwo!\nthree\n", "zero\none\ntwo!\nthree\n")
    );
    // By a file, into a third.
    let c = Db::new();
    let exported = dir.path().join("notes.slt");
    let exported = exported.to_str().unwrap();
    a.run(&["text", "sync", "notes", exported]).ok();
    c.run(&["text", "sync", "notes", exported]).ok();
    assert_eq!(c.run(&["text", "show", "notes"]).ok().out, in_a);
    assert_eq!(
        c.run(&["text", "history", "notes"]).ok().out,
        a.run(&["text", "history", "notes"]).ok().out
    );
    let mut bytes = fs::read(exported).unwrap();
    bytes[20] ^= 1;
    fs::write(exported, bytes).unwrap();
    c.run(&["text", "sync", "notes", exported])
        .fails(4, &["notes.slt", "checksum"]);
    assert_eq!(c.run(&["text", "show", "notes"]).ok().out, in_a);
    c.run(&["text", "sync", "other", "nowhere.slt"])
        .fails(3, &["other", "nowhere.slt"]);
}

#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let db = Db::new();
    for round in 0..6_u64 {
        // Each ends by itself or is killed somewhere on its way.
        let mut child = command()
            .args([
                "--db",
                &db.url(),
                "list",
                "append",
                "log",
                &round.to_string(),
            ])
            .spawn()
            .unwrap();
        if round % 2 == 1 {
            std::thread::sleep(std::time::Duration::from_millis(3 * round));
            child.kill().unwrap();
        }
        let acknowledged = child.wait().unwrap().success();
        let shown = db.run(&["list", "show", "log", "--json"]).ok().out;
        if acknowledged {
            assert!(shown.contains(&format!("{round}]")), "{round}: {shown}");
        }
    }
    let shown = db.run(&["list", "show", "log", "--json"]).ok().out;
    assert!(
        shown.contains("[0,") && shown.contains('2') && shown.contains('4'),
        "{shown}"
    );
}
