//! Ledgers on the command line: documents, history, copies that merge, keys, damage, and a writer
//! that is killed.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::Db;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};

#[test]
fn documents_are_put_read_listed_and_looked_back_at() {
    let db = Db::new();
    db.run(&["ledger", "put", "notes", "sand", "{\"grain\": 0.2}"])
        .ok()
        .says("sand\n")
        .notes(&["clock bafy"]);
    let first = db.run(&["ledger", "clock", "notes"]).ok().out;
    let lines = b"{\"_id\": \"silt\", \"grain\": 0.02}\n\n{\"_id\": \"clay\", \"grain\": 0.002}\n";
    db.feed(&["ledger", "put", "notes"], lines)
        .ok()
        .notes(&["2 documents put"]);
    db.run(&["ledger", "put", "notes", "sand", "{\"grain\": 1}"])
        .ok();
    db.run(&["ledger", "delete", "notes", "clay"]).ok();
    let sand = db.run(&["ledger", "get", "notes", "sand"]).ok();
    assert_eq!(sand.objects()[0]["grain"], 1);
    let then = ["ledger", "get", "notes", "sand", "--at", first.trim()];
    assert_eq!(db.run(&then).ok().objects()[0]["grain"], 0.2);
    let all = db.run(&["ledger", "all", "notes"]).ok();
    let ids: Vec<_> = all
        .objects()
        .iter()
        .map(|row| row["_id"].to_string())
        .collect();
    assert_eq!(ids, ["\"sand\"", "\"silt\""]);
    db.run(&["ledger", "all", "notes", "--ids", "--reverse", "--deleted"])
        .ok()
        .says("silt\nsand\nclay\n");
    let changes = db
        .run(&["ledger", "changes", "notes", "--since", first.trim()])
        .ok();
    let changes = changes.objects();
    assert_eq!(changes.last().unwrap()["_deleted"], true);
    assert_eq!(changes.len(), 3);
    let history = db.run(&["ledger", "history", "notes", "sand"]).ok().out;
    assert_eq!(history.lines().count(), 2);
    assert!(history.starts_with('*') && history.contains("{\"grain\":0.2}"));
    // What is not there, and what cannot be.
    db.run(&["ledger", "get", "notes", "clay"])
        .fails(3, &["clay"]);
    db.run(&["ledger", "get", "nope", "x"])
        .fails(3, &["nope", "notes"]);
    db.run(&["ledger", "put", "notes", "x", "7"])
        .fails(2, &["object"]);
    db.feed(&["ledger", "put", "notes"], b"{}\n{\n")
        .fails(2, &["line 2", "JSON"]);
    db.run(&["ledger", "names"]).ok().says("notes\n");
    db.run(&["ledger", "drop", "notes"]).ok();
    db.run(&["ledger", "names"]).ok().says("");
}

#[test]
fn compaction_and_pruning_keep_the_documents_and_say_what_they_did() {
    let db = Db::new();
    for version in 0..6 {
        let lines: String = (0..20)
            .map(|id| format!("{{\"_id\": \"d{id:02}\", \"version\": {version}}}\n"))
            .collect();
        db.feed(&["ledger", "put", "log", "--bulk", "5"], lines.as_bytes())
            .ok();
    }
    let before = db.run(&["ledger", "all", "log"]).ok().out;
    let compacted = db.run(&["ledger", "compact", "log", "--json"]).ok();
    assert_eq!(compacted.objects()[0]["captured_cars"], 24);
    db.run(&["ledger", "compact", "log"])
        .ok()
        .notes(&["nothing to compact"]);
    let history = ["ledger", "history", "log", "d07"];
    assert_eq!(db.run(&history).ok().out.lines().count(), 6);
    db.run(&["ledger", "prune", "log", "--keep-versions", "4"])
        .ok()
        .notes(&["dropped"]);
    db.run(&["ledger", "prune", "log"]).fails(2, &["required"]);
    db.run(&["ledger", "verify", "log"])
        .ok()
        .notes(&["nothing wrong"]);
    assert_eq!(db.run(&["ledger", "all", "log"]).ok().out, before);
    assert!(db.run(&history).ok().out.lines().count() < 6);
    let stats = db.run(&["ledger", "stats", "log"]).ok().out;
    assert!(stats.contains("archives") && stats.contains("redirects"));
}

#[test]
fn copies_merge_by_an_exported_file_and_tell_their_conflicts() {
    let (a, b) = (Db::new(), Db::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.car");
    let file = file.to_str().unwrap();
    a.run(&["ledger", "put", "notes", "both", "{\"by\": \"a\"}"])
        .ok();
    a.run(&["ledger", "put", "notes", "mine", "{}"]).ok();
    b.run(&["ledger", "put", "notes", "both", "{\"by\": \"b\"}"])
        .ok();
    a.run(&["ledger", "export", "notes", file]).ok();
    b.run(&["ledger", "import", "notes", file]).ok();
    b.run(&["ledger", "export", "notes", file]).ok();
    a.run(&["ledger", "import", "notes", file]).ok();
    let (clock, all) = (["ledger", "clock", "notes"], ["ledger", "all", "notes"]);
    assert_eq!(a.run(&clock).ok().out, b.run(&clock).ok().out);
    assert_eq!(a.run(&all).ok().out, b.run(&all).ok().out);
    let conflicts = a.run(&["ledger", "conflicts", "notes", "--json"]).ok();
    let conflict = &conflicts.objects()[0];
    assert_eq!(conflict["id"], "both");
    assert_ne!(conflict["kept"], conflict["lost"][0]);
    // The next put settles it.
    a.run(&["ledger", "put", "notes", "both", "{\"by\": \"c\"}"])
        .ok();
    a.run(&["ledger", "conflicts", "notes"])
        .ok()
        .notes(&["no conflicts"]);
    a.run(&["ledger", "import", "notes", "/nowhere.car"])
        .fails(1, &["/nowhere.car"]);
    fs::write(file, b"no archive").unwrap();
    a.run(&["ledger", "import", "notes", file])
        .fails(4, &["notes.car"]);
}

#[test]
fn an_encrypted_ledger_needs_its_keys_and_old_ones_go_on_opening() {
    let db = Db::new();
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    let keys = keys.to_str().unwrap();
    db.run(&["ledger", "new", "vault", "--keys", keys]).ok();
    let put = |id: &str| {
        let document = format!("{{\"secret\": \"quartz {id}\"}}");
        db.run(&["ledger", "put", "vault", id, &document, "--keys", keys])
            .ok();
    };
    put("one");
    db.run(&["ledger", "keys", "rotate", "--keys", keys]).ok();
    put("two");
    let shown = db.run(&["ledger", "keys", "show", "--keys", keys]).ok().out;
    assert_eq!(shown.lines().count(), 2);
    db.run(&["ledger", "compact", "vault", "--keys", keys]).ok();
    for id in ["one", "two"] {
        let got = db.run(&["ledger", "get", "vault", id, "--keys", keys]).ok();
        assert_eq!(got.objects()[0]["secret"], format!("quartz {id}"));
    }
    db.run(&["ledger", "get", "vault", "one"])
        .fails(1, &["cannot be decrypted", "key"]);
    db.run(&["ledger", "verify", "vault", "--files"]).ok();
    for file in db.files("ledger/vault/car") {
        let bytes = fs::read(file).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"quartz"));
    }
    db.run(&["ledger", "keys", "show"]).fails(2, &["--keys"]);
    db.run(&["ledger", "new", "other", "--keys", "/nowhere/keys"])
        .fails(2, &["/nowhere/keys"]);
}

#[test]
fn a_flipped_byte_is_found_and_named() {
    let db = Db::new();
    let lines: String = (0..50).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    db.feed(&["ledger", "put", "log", "--bulk", "10"], lines.as_bytes())
        .ok();
    db.run(&["ledger", "compact", "log"]).ok();
    let car = db
        .files("ledger/log/car")
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "car"))
        .unwrap();
    let mut bytes = fs::read(&car).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&car, bytes).unwrap();
    let name = car.file_stem().unwrap().to_str().unwrap();
    db.run(&["ledger", "verify", "log"])
        .fails(4, &["problem", "log"]);
    let verified = db.run(&["ledger", "verify", "log"]).code(4).out;
    assert!(verified.contains(name), "{verified}");
}

#[test]
fn a_writer_that_is_killed_loses_no_document_it_acknowledged() {
    let db = Db::new();
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let mut child = db.spawn(&["ledger", "put", "log", "--bulk", "1", "--ack"]);
        let mut input = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            // Until the pipe breaks.
            for number in 0.. {
                let line = format!("{{\"_id\": \"{round}-{number:06}\", \"n\": {number}}}\n");
                if input.write_all(line.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        acknowledged.extend(lines.by_ref().take(10 + round * 7).map(Result::unwrap));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too.
        acknowledged.extend(lines.map_while(Result::ok));
        feeder.join().unwrap();
        let listed = db.run(&["ledger", "all", "log", "--ids"]).ok().out;
        let listed: BTreeSet<_> = listed.lines().collect();
        let lost = acknowledged.iter().find(|id| !listed.contains(id.as_str()));
        assert_eq!(lost, None);
        // At most the one under way was not acknowledged.
        assert!(listed.len() <= acknowledged.len() + round + 1);
        db.run(&["ledger", "verify", "log"]).ok();
    }
    assert!(acknowledged.len() >= 82);
}

#[test]
fn copies_sync_through_a_folder_and_an_encrypted_one_shows_nothing_there() {
    let (a, b, c) = (Db::new(), Db::new(), Db::new());
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    let shared = shared.to_str().unwrap();
    let keys = folder.path().join("keys.json");
    let keys = keys.to_str().unwrap();
    a.run(&["ledger", "new", "notes", "--keys", keys]).ok();
    let sync = |db: &Db| {
        let args = [
            "ledger", "sync", "notes", shared, "--keys", keys, "--json", "--grace", "0s",
        ];
        db.run(&args).ok().objects().remove(0)
    };
    let put = |db: &Db, id: &str, document: &str| {
        db.run(&["ledger", "put", "notes", id, document, "--keys", keys])
            .ok();
    };
    put(&a, "one", "{\"rock\": \"quartz\"}");
    put(&b, "two", "{\"rock\": \"feldspar\"}");
    assert_eq!(sync(&a)["pushed_events"], 1);
    let exchanged = sync(&b);
    assert_eq!(exchanged["pulled_cars"], 1);
    // What b wrote and merged comes back; then all three agree.
    sync(&a);
    sync(&c);
    let listed = |db: &Db| db.run(&["ledger", "all", "notes", "--keys", keys]).ok().out;
    let all = listed(&a);
    assert!(all.contains("quartz") && all.contains("feldspar"));
    assert_eq!((listed(&b), listed(&c)), (all.clone(), all));
    assert_eq!(sync(&a)["pulled_events"], 0);
    // Compacted, the remote does not grow without end, and nobody loses anything.
    for number in 0..5 {
        put(&a, "three", &format!("{{\"n\": {number}}}"));
        sync(&a);
    }
    a.run(&["ledger", "compact", "notes", "--keys", keys]).ok();
    sync(&a);
    sync(&a);
    sync(&b);
    assert_eq!(listed(&a), listed(&b));
    let mut seen = 0;
    let mut folders = vec![std::path::PathBuf::from(shared)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(path).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"quartz"));
            seen += 1;
        }
    }
    assert!(seen > 3);
    a.run(&["ledger", "sync", "notes", "s3://"])
        .fails(2, &["s3://"]);
}

#[test]
fn what_a_disk_lost_is_repaired_from_where_the_ledger_was_synced() {
    let db = Db::new();
    let shared = db.path("shared");
    let shared = shared.to_str().unwrap();
    let lines: String = (0..50).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    db.feed(&["ledger", "put", "log", "--bulk", "10"], lines.as_bytes())
        .ok();
    db.run(&["ledger", "compact", "log"]).ok();
    let all = db.run(&["ledger", "all", "log"]).ok().out;
    // Nothing wrong, nowhere to ask.
    db.run(&["ledger", "repair", "log"])
        .ok()
        .notes(&["nothing wrong"]);
    let car = db
        .files("ledger/log/car")
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "car"))
        .unwrap();
    let good = fs::read(&car).unwrap();
    fs::remove_file(&car).unwrap();
    db.run(&["ledger", "repair", "log"])
        .fails(4, &["left in ledger log", "--from"]);
    fs::write(&car, &good).unwrap();
    db.run(&["ledger", "sync", "log", shared]).ok();
    fs::write(&car, &good[..good.len() / 2]).unwrap();
    db.run(&["ledger", "verify", "log"]).code(4);
    let repaired = db.run(&["ledger", "repair", "log", "--json"]).ok();
    let report = &repaired.objects()[0];
    let name = car.file_stem().unwrap().to_str().unwrap();
    assert_eq!(report["mended"][0]["car"], name);
    assert_eq!(report["fetched_bytes"], good.len());
    assert_eq!(report["problems"].as_array().unwrap().len(), 0);
    assert_eq!(fs::read(&car).unwrap(), good);
    db.run(&["ledger", "verify", "log"]).ok();
    assert_eq!(db.run(&["ledger", "all", "log"]).ok().out, all);
    // By name; and what is not there is not made.
    fs::remove_file(&car).unwrap();
    let nowhere = db.path("nowhere");
    db.run(&[
        "ledger",
        "repair",
        "log",
        "--from",
        nowhere.to_str().unwrap(),
    ])
    .code(1);
    assert!(!nowhere.exists());
    db.run(&["ledger", "repair", "log", "--from", shared])
        .ok()
        .says(&format!("mended {name}\n"))
        .notes(&["1 archive mended"]);
    // The place is away: it says so, and changes nothing.
    fs::remove_file(&car).unwrap();
    fs::rename(shared, db.path("elsewhere")).unwrap();
    db.run(&["ledger", "repair", "log"])
        .notes(&["cannot be asked", shared])
        .fails(4, &["left in ledger log"]);
    assert!(!std::path::Path::new(shared).exists());
}

#[test]
fn a_copy_on_demand_fetches_what_is_read_and_says_what_it_cannot_reach() {
    let (a, b) = (Db::new(), Db::new());
    let shared = a.path("shared");
    let shared = shared.to_str().unwrap();
    let filler: String = (0..900)
        .map(|n| char::from(b'a' + (n % 26) as u8))
        .collect();
    let lines: String = (0..4000)
        .map(|n| format!("{{\"_id\": \"d{n:04}\", \"n\": {n}, \"text\": \"{n}{filler}\"}}\n"))
        .collect();
    a.feed(&["ledger", "put", "log"], lines.as_bytes()).ok();
    a.run(&["ledger", "sync", "log", shared]).ok();
    let sync = ["ledger", "sync", "log", shared, "--fetch", "on-demand"];
    b.run(&sync).ok();
    let away = || {
        let stats = b.run(&["ledger", "stats", "log", "--json"]).ok();
        stats.objects()[0]["away_cars"].as_u64().unwrap()
    };
    let first = away();
    assert!(first > 0);
    b.run(&["ledger", "verify", "log"])
        .ok()
        .notes(&["in a remote only", "nothing wrong"]);
    assert_eq!(away(), first);
    // A process of its own each: it fetches by itself, and what it fetched stays.
    let read = |id: &str| b.run(&["ledger", "get", "log", id]);
    assert_eq!(read("d0001").ok().objects()[0]["n"], 1);
    let second = away();
    assert!(second < first);
    let elsewhere = a.path("elsewhere");
    fs::rename(shared, &elsewhere).unwrap();
    assert_eq!(read("d0001").ok().objects()[0]["n"], 1);
    let ids: Vec<String> = (0..4000).step_by(333).map(|n| format!("d{n:04}")).collect();
    let refused = ids
        .iter()
        .map(|id| read(id))
        .filter(|ran| ran.code != Some(0));
    let refused: Vec<_> = refused.collect();
    assert!(!refused.is_empty());
    for ran in refused {
        ran.fails(1, &["in a remote only"]);
    }
    b.run(&["ledger", "all", "log"])
        .fails(1, &["in a remote only"]);
    fs::rename(&elsewhere, shared).unwrap();
    // The choice is kept, until another is made.
    b.run(&["ledger", "sync", "log", shared]).ok();
    assert_eq!(away(), second);
    b.run(&["ledger", "sync", "log", shared, "--fetch", "all"])
        .ok();
    assert_eq!(away(), 0);
    fs::remove_dir_all(shared).unwrap();
    let all = ["ledger", "all", "log"];
    assert_eq!(b.run(&all).ok().out, a.run(&all).ok().out);
}
