//! What keeps a database in shape, and what looks into it.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, command};

#[test]
fn init_creates_once() {
    let db = Db::new();
    db.run(&["init"]).ok().notes(&["created an empty database"]);
    db.run(&["init"]).ok().notes(&["nothing was changed"]);
    db.run(&["init", "--window", "5"]).fails(1, &["already"]);
    db.run(&["scan"])
        .ok()
        .says("")
        .notes(&["0 rows at commit 0"]);
    db.run(&["get", "k"]).fails(3, &["not found"]);
    db.run(&["stats"]).ok();
    db.run(&["verify"]).ok().notes(&["all is well"]);
    db.run(&["export"]).ok().says("");
}

#[test]
fn compaction_takes_tables_by_order_and_limits() {
    let db = Db::with(&["a", "b", "c"]);
    let compact = |args: &[&str]| {
        let mut all = vec!["compact", "--json"];
        all.extend(args);
        db.run(&all).ok().objects().remove(0)
    };
    let inputs = |object: &serde_json::Value| object["inputs"].as_array().unwrap().len();
    assert_eq!(inputs(&compact(&["--min-files", "8"])), 0);
    assert_eq!(inputs(&compact(&["--min-size", "1MiB"])), 0);
    assert_eq!(inputs(&compact(&["--max-size", "10"])), 0);
    assert_eq!(inputs(&compact(&["--max-time", "2001-01-01T00:00:00Z"])), 0);
    assert_eq!(inputs(&compact(&["--min-time", "2100-01-01"])), 0);
    let two = compact(&[
        "--order",
        "newest-first",
        "--max-files",
        "2",
        "--min-time",
        "2001-01-01",
    ]);
    assert_eq!((inputs(&two), two["entries"].as_u64()), (2, Some(2)));
    for order in ["smallest-first", "largest-first", "oldest-first"] {
        assert!(inputs(&compact(&["--order", order])) > 0);
    }
    db.run(&["compact"])
        .ok()
        .says("")
        .notes(&["compacted 1 table", "into 1 table"]);
    db.run(&["scan", "--keys-only"]).ok().says("a\nb\nc\n");
}

#[test]
fn flush_says_what_it_wrote() {
    let db = Db::with(&["a"]);
    db.run(&["flush"]).ok().notes(&["nothing to flush"]);
    let mut child = db.spawn(&["put", "--ack"]);
    common_write(&mut child, b"{\"_id\":\"b\"}\n");
    child.kill().unwrap();
    child.wait().unwrap();
    db.run(&["get", "b"])
        .ok()
        .says("{}\n")
        .notes(&["found in", "memtable"]);
    let flushed = db.run(&["flush", "--json"]).ok().objects().remove(0);
    assert_eq!(flushed["flushes"], 1);
    assert!(flushed["bytes"].as_u64().unwrap() > 0);
    db.run(&["get", "b"]).ok().notes(&["found in sst/"]);
}

/// Writes a line and waits for its acknowledgement.
fn common_write(child: &mut std::process::Child, line: &[u8]) {
    use std::io::{BufRead, BufReader, Write};
    child.stdin.as_mut().unwrap().write_all(line).unwrap();
    let mut ack = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut ack)
        .unwrap();
    assert_eq!(ack, "b\n");
}

#[test]
fn stats_draw_levels_and_measure_on_request() {
    let db = Db::with(&["a", "b"]);
    let drawn = db.run(&["stats"]).ok().out;
    for word in ["commit 2", "keyspace default", "mem", "L0", "2 tables", "█"] {
        assert!(drawn.contains(word), "{drawn}");
    }
    assert!(
        drawn
            .lines()
            .all(|line| line.chars().count() <= 80 || line.contains("commit 2,")),
        "{drawn}"
    );
    let deep = db.run(&["stats", "--deep"]).ok().out;
    for word in ["live       2 rows", "filters", "cache"] {
        assert!(deep.contains(word), "{deep}");
    }
    let objects = db.run(&["stats", "--deep", "--json"]).ok().objects();
    assert_eq!(objects[0]["commit"], 2);
    assert_eq!(objects[1]["live_rows"], 2);
    assert_eq!(objects[1]["levels"][0]["tables"], 2);
    db.run(&["stats", "--keyspace", "other"])
        .fails(1, &["no keyspace"]);
}

#[test]
fn checkpoints_hold_are_listed_and_dropped() {
    let db = Db::with(&["a"]);
    db.run(&["checkpoint", "create", "before"])
        .ok()
        .notes(&["holds commit 1 until it is dropped"]);
    db.run(&["checkpoint", "create", "short", "--lease", "1h"])
        .ok()
        .notes(&["holds commit 1 until 2"]);
    db.run(&["checkpoint", "create", "before"])
        .fails(1, &["exists already"]);
    let listed = db.run(&["checkpoint", "list", "--json"]).ok().objects();
    assert_eq!(listed.len(), 2);
    assert_eq!(
        (listed[0]["name"].as_str(), listed[0]["commit"].as_u64()),
        (Some("before"), Some(1))
    );
    assert!(listed[0]["expires"].is_null() && listed[1]["expires"].is_string());
    db.run(&["checkpoint", "drop", "before"]).ok();
    db.run(&["checkpoint", "drop", "before"])
        .fails(1, &["none of this name"]);
    db.run(&["checkpoint", "list"])
        .ok()
        .notes(&["1 checkpoint"]);
}

#[test]
fn backups_take_what_is_new_and_restore_to_any_commit() {
    let db = Db::with(&["a", "b"]);
    let path = |name: &str| db.path(name).to_string_lossy().into_owned();
    let (repository, to, then) = (path("backups"), path("restored"), path("then"));
    db.run(&["backup", "create", &repository, "--label", "monday"])
        .ok()
        .notes(&["backup 1", "up to commit 2", "2 files copied"]);
    db.run(&["put", "c", "v"]).ok();
    let second = db.run(&["backup", "create", &repository, "--json"]).ok();
    let second = second.objects().remove(0);
    let counts = (
        second["copied_files"].as_u64(),
        second["kept_files"].as_u64(),
    );
    assert_eq!(counts, (Some(1), Some(2)));
    let listed = db.run(&["backup", "list", &repository]).ok().out;
    assert!(
        listed.contains("monday") && listed.lines().count() == 2,
        "{listed}"
    );
    db.run(&["backup", "verify", &repository])
        .ok()
        .notes(&["backup 1", "backup 2", "all is well"]);
    db.run(&["backup", "restore", &repository, &to]).ok();
    let restored = |url: &str, args: &[&str]| {
        common::Ran::of(command().args(["--db", url]).args(args).output().unwrap())
    };
    restored(&to, &["scan", "--keys-only"])
        .ok()
        .says("a\nb\nc\n");
    restored(&to, &["put", "d", "v"]).ok();
    restored(&to, &["verify"]).ok();
    db.run(&[
        "backup",
        "restore",
        &repository,
        &then,
        "--backup",
        "2",
        "--at",
        "1",
    ])
    .ok()
    .notes(&["contents at commit 1"]);
    restored(&then, &["scan", "--keys-only"]).ok().says("a\n");
    db.run(&["backup", "restore", &repository, &to])
        .fails(1, &["is not empty"]);
    db.run(&[
        "backup",
        "restore",
        &repository,
        &path("x"),
        "--backup",
        "9",
    ])
    .fails(1, &["no number 9", "1, 2"]);
    db.run(&["backup", "restore", &repository, &path("x"), "--at", "99"])
        .fails(1, &["does not exist yet"]);
    db.run(&["backup", "remove", &repository, "1"]).ok();
    db.run(&["backup", "verify", &repository]).ok();
    db.run(&["backup", "create", &db.url()])
        .fails(2, &["into itself"]);
    // A flipped byte is found and named.
    let data = std::fs::read_dir(db.path("backups/data")).unwrap();
    let file = data.map(|entry| entry.unwrap().path()).next().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    db.run(&["backup", "verify", &repository])
        .fails(4, &["1 problem", "make a new backup"]);
}

#[test]
fn a_clone_shares_files_and_goes_its_own_way() {
    let db = Db::with(&["a"]);
    db.run(&["checkpoint", "create", "before"]).ok();
    db.run(&["put", "b", "v"]).ok();
    let path = |name: &str| db.path(name).to_string_lossy().into_owned();
    let (now, then) = (path("now"), path("then"));
    let cloned = db.run(&["clone", &now, "--json"]).ok().objects().remove(0);
    assert_eq!(
        (cloned["copied"].as_u64(), cloned["bytes"].as_u64()),
        (Some(0), Some(0))
    );
    db.run(&["clone", &then, "--checkpoint", "before"])
        .ok()
        .notes(&["contents at commit 1"]);
    let on = |url: &str, args: &[&str]| {
        common::Ran::of(command().args(["--db", url]).args(args).output().unwrap())
    };
    on(&now, &["delete", "a"]).ok();
    on(&now, &["scan", "--keys-only"]).ok().says("b\n");
    on(&then, &["put", "c", "v"]).ok();
    on(&then, &["scan", "--keys-only"]).ok().says("a\nc\n");
    on(&then, &["verify"]).ok();
    db.run(&["scan", "--keys-only"]).ok().says("a\nb\n");
    db.run(&["clone", &now]).fails(1, &["is not empty"]);
    db.run(&["clone", &path("x"), "--checkpoint", "other"])
        .fails(2, &["no checkpoint \"other\"", "before"]);
    db.run(&["clone", &path("x"), "--at", "77"])
        .fails(1, &["does not exist yet"]);
    db.run(&["clone", &db.url()]).fails(2, &["into itself"]);
}

#[test]
fn files_can_be_looked_into() {
    let db = Db::with(&["a"]);
    db.run(&["delete", "a"]).ok();
    let manifest = db.run(&["dump", "manifest"]).ok().out;
    assert!(
        manifest.contains("keyspace 0 \"default\"") && manifest.contains("sst/"),
        "{manifest}"
    );
    let objects = db.run(&["dump", "manifest", "--json"]).ok().objects();
    let kinds: Vec<_> = objects
        .iter()
        .map(|o| o["kind"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(kinds, ["manifest", "keyspace", "table", "table"]);
    let name = objects[2]["name"].as_str().unwrap();
    let path = std::path::Path::new(&db.url()).join(name);
    let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
    for file in [name, path.to_str().unwrap(), &stem] {
        let ran = db
            .run(&["dump", "sst", file, "--json"])
            .ok()
            .notes(&["1 entry", "1 block"]);
        assert_eq!(ran.objects()[0]["key"], "a");
    }
    let newest = db.run(&["dump", "sst"]).ok();
    assert!(newest.out.contains("delete        a\n"), "{newest:?}");
    let number = objects[0]["number"].to_string();
    db.run(&["dump", "manifest", &number]).ok();
    let mut child = db.spawn(&["put", "--ack"]);
    common_write(&mut child, b"{\"_id\":\"b\",\"n\":1}\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let log = db.run(&["dump", "wal"]).ok().notes(&["1 record"]);
    assert!(
        log.out.contains("commits 3..=3") && log.out.contains("b\t{\"n\":1}"),
        "{log:?}"
    );
    // One that was made ahead stands behind it.
    let ahead = std::path::Path::new(&db.url()).join("wal/00000000000000009999.wal");
    std::fs::write(&ahead, []).unwrap();
    assert_eq!(db.run(&["dump", "wal"]).ok().out, log.out);
    std::fs::remove_file(ahead).unwrap();
    db.run(&["dump", "sst", "0123"])
        .fails(1, &["sst/0000000000000123.sst", "no such blob"]);
    let lying = db.path("lying-around.sst");
    std::fs::copy(&path, &lying).unwrap();
    db.run(&["dump", "sst", lying.to_str().unwrap()])
        .fails(2, &["a folder called sst"]);
}

#[test]
fn bench_measures_a_temporary_database_or_a_given_one() {
    let db = Db::with(&["mine"]);
    let ran = command()
        .args(["bench", "--count", "500", "--json"])
        .output()
        .unwrap();
    let objects = common::Ran::of(ran).ok().objects();
    assert_eq!(objects.len(), 6);
    assert!(
        objects
            .iter()
            .all(|o| o["ops_per_s"].as_f64().unwrap() > 0.0),
        "{objects:?}"
    );
    assert_eq!(objects[0]["operations"], 500);
    assert_eq!(objects[2]["operations"], 500, "every key is found");
    let shown = db
        .run(&["bench", "--count", "200", "--value-size", "1KiB"])
        .ok();
    assert!(shown.out.contains("put, durable"), "{shown:?}");
    db.run(&["keyspace", "list"]).ok();
    let keyspaces = db.run(&["keyspace", "list", "--json"]).ok().objects();
    assert_eq!(keyspaces.len(), 1);
    db.run(&["scan", "--keys-only"]).ok().says("mine\n");
}

#[test]
fn help_and_completions_are_complete() {
    let run = |args: &[&str]| {
        common::Ran::of(command().args(args).output().unwrap())
            .ok()
            .out
    };
    let help = run(&["--help"]);
    for word in [
        "Exit codes",
        "demo",
        "restore",
        "SILTSTONE_DB",
        "AWS_ACCESS_KEY_ID",
        "--wal-recovery",
    ] {
        assert!(help.contains(word), "{word} is not in the help:\n{help}");
    }
    for line in help.lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        if line.starts_with("  ")
            && !line.starts_with("   ")
            && name.chars().all(char::is_alphabetic)
        {
            run(&[name, "--help"]);
        }
    }
    assert!(!help.contains("demo-writer"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(
            run(&["completions", shell]).contains("checkpoint"),
            "{shell}"
        );
    }
    assert!(run(&["--version"]).starts_with("siltstone "));
}

#[test]
fn backups_clones_and_verify_include_the_ledgers() {
    let db = Db::with(&["a"]);
    let path = |name: &str| db.path(name).to_string_lossy().into_owned();
    let (repository, cloned) = (path("backups"), path("cloned"));
    let at = |url: &str, args: &[&str]| {
        let mut command = command();
        command.args(["--db", url]).args(args);
        common::Ran::of(command.output().unwrap())
    };
    let put = |url: &str, ledger: &str, id: &str| {
        at(url, &["ledger", "put", ledger, id, "{\"n\": 1}"]).ok();
    };
    let ids = |url: &str, ledger: &str| at(url, &["ledger", "all", ledger, "--ids"]).ok().out;
    let here = db.url();
    let keys = path("keys.json");
    db.run(&["ledger", "new", "vault", "--keys", &keys]).ok();
    let secret = ["ledger", "put", "vault", "secret", "{}", "--keys", &keys];
    db.run(&secret).ok();
    put(&here, "notes", "one");
    db.run(&["ledger", "compact", "notes"]).ok();
    put(&here, "notes", "two");
    // A backup asks for no key.
    db.run(&["backup", "create", &repository]).ok();
    put(&here, "notes", "three");
    db.run(&["ledger", "compact", "notes"]).ok();
    put(&here, "more", "four");
    db.run(&["backup", "create", &repository]).ok();
    db.run(&["backup", "verify", &repository])
        .ok()
        .notes(&["all is well"]);
    db.run(&["verify"]).ok().notes(&["3 ledgers with"]);
    let verified = db.run(&["verify", "--json"]).ok().objects().remove(0);
    assert_eq!(verified["ledgers"], 3);
    for (number, notes) in [("1", "one\ntwo\n"), ("2", "one\nthree\ntwo\n")] {
        let to = path(&format!("restored{number}"));
        db.run(&["backup", "restore", &repository, &to, "--backup", number])
            .ok();
        assert_eq!(ids(&to, "notes"), notes);
        let names = if number == "1" {
            "notes\nvault\n"
        } else {
            "more\nnotes\nvault\n"
        };
        assert_eq!(at(&to, &["ledger", "names"]).ok().out, names);
        at(&to, &["ledger", "get", "vault", "secret", "--keys", &keys]).ok();
        at(&to, &["verify"]).ok();
        at(&to, &["get", "a"]).ok();
        put(&to, "notes", "later");
    }
    // A place where ledgers are is no place for another database.
    let to = path("restored1");
    db.run(&["backup", "restore", &repository, &to]).code(1);
    assert_eq!(ids(&to, "notes"), "later\none\ntwo\n");
    db.run(&["clone", &cloned]).ok();
    assert_eq!(ids(&cloned, "notes"), "one\nthree\ntwo\n");
    put(&cloned, "notes", "apart");
    assert_eq!(ids(&here, "notes"), "one\nthree\ntwo\n");
    // A restore that fails leaves no ledgers behind.
    let nowhere = path("nowhere");
    db.run(&["backup", "restore", &repository, &nowhere, "--at", "999"])
        .code(1);
    db.run(&["backup", "restore", &repository, &nowhere]).ok();
    assert_eq!(ids(&nowhere, "more"), "four\n");
    db.run(&["backup", "remove", &repository, "1"]).ok();
    db.run(&["backup", "verify", &repository]).ok();
    // Damage is found by both, and is not backed up.
    let damage = |folder: &str| {
        let mut files = std::fs::read_dir(db.path(folder)).unwrap();
        let car = files.next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&car).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&car, bytes).unwrap();
    };
    damage("backups/ledger/notes/car");
    let found = db.run(&["backup", "verify", &repository]).code(4).out;
    assert!(found.contains("ledger notes"), "{found}");
    damage("db/ledger/notes/car");
    let found = db.run(&["verify"]).code(4).out;
    assert!(found.contains("ledger notes"), "{found}");
    db.run(&["backup", "create", &path("other")])
        .fails(4, &["damaged"]);
}
