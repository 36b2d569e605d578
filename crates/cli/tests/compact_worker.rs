//! Worker processes beside a writer process. One is killed while it works: the writer goes on, and
//! nothing that it wrote is lost or comes back.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::Db;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::time::Duration;

const KEYS: u64 = 12_000;

/// Records with overwrites, and what is there after the last of them.
fn records(count: u64) -> (String, BTreeMap<String, String>) {
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut lines, mut last) = (String::new(), BTreeMap::new());
    for n in 0..count {
        let key = format!("{:08}", rng.u64(0..KEYS));
        // Hardly compressible, so that tables are as large as what is written.
        let mut padding = String::new();
        for _ in 0..50 {
            write!(padding, "{:016x}", rng.u64(..)).unwrap();
        }
        let record = format!("{{\"_id\":\"{key}\",\"n\":{n},\"padding\":\"{padding}\"}}");
        lines.push_str(&record);
        lines.push('\n');
        last.insert(key, format!("\"n\":{n},"));
    }
    (lines, last)
}

fn work(db: &Db) -> Child {
    let pace = ["--interval", "10ms", "--until-idle", "120s"];
    db.spawn(&[&["--json", "--quiet", "compact-worker"], &pace[..]].concat())
}

#[test]
fn a_worker_that_is_killed_changes_nothing_and_the_writer_goes_on() {
    let db = Db::new();
    db.run(&["init"]).ok();
    let (lines, last) = records(80_000);
    let file = db.path("records.jsonl");
    std::fs::write(&file, lines).unwrap();
    let mut worker = work(&db);
    let mut writer = db.spawn(&["--memory", "8MiB", "import", file.to_str().unwrap()]);
    // Once it has done one, it is killed, with luck in the middle of the next.
    let mut reported = String::new();
    BufReader::new(worker.stdout.as_mut().unwrap())
        .read_line(&mut reported)
        .unwrap();
    assert!(reported.contains("\"outputs\""), "{reported}");
    let mut rng = fastrand::Rng::new();
    std::thread::sleep(Duration::from_millis(rng.u64(0..300)));
    worker.kill().unwrap();
    worker.wait().unwrap();
    let mut next = work(&db);
    assert!(writer.wait().unwrap().success());
    next.kill().unwrap();
    next.wait().unwrap();
    let there = db.run(&["scan"]).ok().out;
    assert_eq!(there.lines().count(), last.len());
    for (line, (key, expected)) in there.lines().zip(&last) {
        assert!(line.contains(key) && line.contains(expected), "{line}");
    }
    db.run(&["verify"]).ok();
    // What killed workers left goes when the database is opened for writing.
    db.run(&["flush"]).ok();
    let stats = db.run(&["--json", "stats"]).ok().objects();
    let levels = stats[1]["levels"].as_array().unwrap();
    let listed: u64 = levels.iter().map(|l| l["tables"].as_u64().unwrap()).sum();
    assert_eq!(db.files("sst").len() as u64, listed);
}

#[test]
fn a_worker_ends_when_there_is_nothing_to_do_and_says_what_it_did() {
    let db = Db::new();
    db.run(&["init"]).ok();
    db.run(&[
        "compact-worker",
        "--interval",
        "10ms",
        "--until-idle",
        "50ms",
    ])
    .ok()
    .notes(&["waiting for work", "0 compactions"]);
    // It has said goodbye.
    let stats = db.run(&["--json", "stats"]).ok().objects();
    assert_eq!(stats[0]["workers"], 0);
    assert_eq!(stats[0]["offered_compactions"], 0);
    db.run(&["verify"]).ok();
}

#[test]
fn a_worker_of_a_database_that_is_not_there_says_so() {
    let db = Db::new();
    db.run(&["compact-worker"])
        .fails(1, &["there is no database"]);
}
