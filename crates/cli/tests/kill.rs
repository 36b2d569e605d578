//! A real process is killed in the middle of writing, again and again: every acknowledged write is
//! there afterwards, and what is there is a prefix of what was written.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::Db;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

const ROUNDS: u64 = 20;

fn key(n: u64) -> String {
    format!("{n:08}")
}

/// A writer fed with records from `from` on, killed after `run_for`. Answers how many it
/// acknowledged.
fn write_and_kill(db: &Db, from: u64, run_for: Duration) -> u64 {
    // Small memtables, so that flushes and compactions are under way when it is killed.
    let mut writer = db.spawn(&["put", "--ack", "--memory", "8MiB"]);
    let mut stdin = writer.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        for n in from.. {
            let padding = "x".repeat((n as usize * 37) % 3000);
            let line = format!("{{\"_id\":\"{}\",\"padding\":\"{padding}\"}}\n", key(n));
            if stdin.write_all(line.as_bytes()).is_err() {
                return;
            }
        }
    });
    let mut acks = BufReader::new(writer.stdout.take().unwrap());
    let mut line = String::new();
    acks.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), key(from));
    let counter = std::thread::spawn(move || {
        for n in from + 1.. {
            line.clear();
            acks.read_line(&mut line).unwrap();
            if !line.ends_with('\n') {
                return n - from;
            }
            assert_eq!(line.trim_end(), key(n));
        }
        unreachable!("the pipe ends");
    });
    std::thread::sleep(run_for);
    writer.kill().unwrap();
    writer.wait().unwrap();
    feeder.join().unwrap();
    counter.join().unwrap()
}

/// How many records there are; they must be the first ones, without a gap.
fn count_prefix(db: &Db) -> u64 {
    let keys = db.run(&["scan", "--keys-only"]).ok().out;
    for (n, line) in keys.lines().enumerate() {
        assert_eq!(line, key(n as u64));
    }
    keys.lines().count() as u64
}

#[test]
fn every_acknowledged_write_survives_kill_9() {
    let db = Db::new();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut there = 0;
    for round in 0..ROUNDS {
        let run_for = Duration::from_millis(rng.u64(0..80));
        let acknowledged = there + write_and_kill(&db, there, run_for);
        // A reader beside a dead writer, then the next writer: both see the same prefix.
        let seen = count_prefix(&db);
        if round % 4 == 0 {
            db.run(&["flush"]).ok();
            assert_eq!(count_prefix(&db), seen);
        }
        assert!(
            seen >= acknowledged,
            "round {round}: {acknowledged} acknowledged, {seen} there"
        );
        there = seen;
    }
    db.run(&["verify"]).ok();
}
