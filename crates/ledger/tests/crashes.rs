//! Scenarios 8, 34 and 35: crashes at every call, failures at every call, damage at every byte,
//! kill -9.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{Background, Error, Keep, Ledger, Options};
use siltstone_storage::{Blobs, Env, FaultPlan, FaultyBlobs, Injected, ManualClock, MemBlobs};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

/// Small files, so that the script passes every turn.
fn small() -> Options {
    Options {
        car_bytes: 2000,
        compacted_car_bytes: 3000,
        journal_bytes: 4000,
        ..quiet()
    }
}

/// One step of the script; the model after it.
type Step = (
    &'static str,
    fn(&Ledger) -> siltstone_ledger::Result<()>,
    fn(&mut Model),
);

fn steps() -> Vec<Step> {
    fn nothing(_: &mut Model) {}
    fn put_one(ledger: &Ledger, n: u64) -> siltstone_ledger::Result<()> {
        ledger.put(&key(n), &numbered(n)).map(|_| ())
    }
    fn insert(model: &mut Model, n: u64) {
        model.insert(key(n), numbered(n));
    }
    vec![
        ("put", |l| put_one(l, 1), |m| insert(m, 1)),
        ("put", |l| put_one(l, 2), |m| insert(m, 2)),
        ("compact", |l| l.compact().map(|_| ()), nothing),
        ("put", |l| put_one(l, 3), |m| insert(m, 3)),
        (
            "bulk",
            |l| {
                let write = |n| siltstone_ledger::BulkWrite::Put(key(n), numbered(n));
                l.bulk((10..30).map(write).collect()).map(|_| ())
            },
            |m| (10..30).for_each(|n| insert(m, n)),
        ),
        ("checkpoint", |l| l.checkpoint(), nothing),
        (
            "delete",
            |l| l.delete(&key(1)).map(|_| ()),
            |m| drop(m.remove(&key(1))),
        ),
        ("compact", |l| l.compact().map(|_| ()), nothing),
        ("put", |l| put_one(l, 4), |m| insert(m, 4)),
        (
            "prune",
            |l| l.prune(&Keep::Versions(2)).map(|_| ()),
            nothing,
        ),
        ("put", |l| put_one(l, 5), |m| insert(m, 5)),
        ("compact", |l| l.compact().map(|_| ()), nothing),
        ("checkpoint", |l| l.checkpoint(), nothing),
        ("put", |l| put_one(l, 6), |m| insert(m, 6)),
    ]
}

/// Runs the script until something fails. How many steps were acknowledged.
fn run(blobs: &FaultyBlobs) -> usize {
    let (env, _) = Env::simulated(Arc::new(blobs.clone()), 5);
    let Ok(ledger) = Ledger::open(env, NAME, small()) else {
        return 0;
    };
    let mut done = 0;
    for (_, step, _) in steps() {
        if step(&ledger).is_err() {
            break;
        }
        done += 1;
    }
    done
}

/// After `done` acknowledged steps and perhaps one more: everything is as one of the two says.
fn check_after(mem: &MemBlobs, done: usize, at: &str) {
    let ledger = try_in_memory(mem, small()).unwrap_or_else(|error| panic!("{at}: {error}"));
    let states: Vec<Model> = steps()
        .iter()
        .scan(Model::new(), |model, (_, _, change)| {
            change(model);
            Some(model.clone())
        })
        .collect();
    let before = done
        .checked_sub(1)
        .map_or_else(Model::new, |at| states[at].clone());
    let after = states.get(done).unwrap_or(&before);
    let found: Model = rows(&ledger)
        .into_iter()
        .map(|row| (row.id, row.document.unwrap()))
        .collect();
    assert!(
        found == before || found == *after,
        "{at}: {done} acknowledged, {} rows",
        found.len()
    );
    let report = ledger.verify().unwrap();
    assert!(report.problems.is_empty(), "{at}: {:?}", report.problems);
    no_orphans(mem, &ledger);
    // And it goes on.
    put(&ledger, 77);
    ledger.compact().unwrap();
    assert_eq!(ledger.get(&key(77)).unwrap(), numbered(77));
    assert_eq!(rows(&ledger).len(), found.len() + 1);
}

fn faulty(mem: &MemBlobs, plan: FaultPlan) -> FaultyBlobs {
    FaultyBlobs::new(
        Arc::new(mem.clone()),
        Arc::new(ManualClock::default()),
        plan,
    )
}

fn calls_of_a_whole_run(bucket: bool) -> u64 {
    let mem = if bucket {
        MemBlobs::bucket()
    } else {
        MemBlobs::new()
    };
    let blobs = faulty(&mem, FaultPlan::default());
    assert_eq!(run(&blobs), steps().len());
    blobs.calls()
}

fn crash_at_every_call(bucket: bool) {
    let calls = calls_of_a_whole_run(bucket);
    assert!(calls > 80, "{calls}");
    for number in 1..=calls {
        let mem = if bucket {
            MemBlobs::bucket()
        } else {
            MemBlobs::new()
        };
        let blobs = faulty(&mem, FaultPlan::crash_at(number));
        let done = run(&blobs);
        let at = blobs.trace().last().unwrap().to_string();
        // What was not synced is lost, half there, all there, all there but damaged.
        for kept in [0, 1, 2, 3] {
            let disk = mem.after_crash(|most| match kept {
                0 => 0,
                1 => most / 2,
                2 => most,
                _ => most - most / 3,
            });
            check_after(&disk, done, &format!("{at}, {kept}"));
        }
    }
}

#[test]
fn s08_a_crash_at_any_call_leaves_the_same_answers_and_no_orphans() {
    crash_at_every_call(false);
}

#[test]
fn s08_and_so_it_is_in_a_bucket() {
    crash_at_every_call(true);
}

#[test]
fn s08_a_call_that_fails_stops_writes_at_most_until_the_next_opening() {
    for bucket in [false, true] {
        let calls = calls_of_a_whole_run(bucket);
        for fault in [
            Injected::ErrorBefore,
            Injected::ErrorAfter,
            Injected::NoSpace,
        ] {
            for number in 1..=calls {
                let mem = if bucket {
                    MemBlobs::bucket()
                } else {
                    MemBlobs::new()
                };
                let blobs = faulty(&mem, FaultPlan::at(number, fault));
                let done = run(&blobs);
                let trace = blobs.trace();
                let at = trace.iter().find(|call| call.fault.is_some());
                let at = at.map_or_else(String::new, ToString::to_string);
                check_after(&mem, done, &format!("{at} of {bucket}"));
            }
        }
    }
}

#[test]
fn a_writer_that_was_replaced_is_fenced_in_a_bucket() {
    let mem = MemBlobs::bucket();
    let old = in_memory(&mem, quiet());
    put(&old, 1);
    let new = in_memory(&mem, quiet());
    put(&new, 2);
    let fenced = old.put(&key(3), &numbered(3));
    assert!(
        matches!(
            fenced,
            Err(Error::Storage(siltstone_storage::Error::Fenced { .. }))
        ),
        "{fenced:?}"
    );
    assert!(matches!(
        old.put(&key(3), &numbered(3)),
        Err(Error::Stopped { .. })
    ));
    new.checkpoint().unwrap();
    drop((old, new));
    check(&in_memory(&mem, quiet()), &model(1..3));
}

#[test]
fn a_folder_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    let second = Ledger::open_folder(folder.path(), NAME, quiet());
    assert!(matches!(
        second,
        Err(Error::Storage(siltstone_storage::Error::Locked { .. }))
    ));
    ledger.close().unwrap();
    in_folder(folder.path(), quiet());
}

fn keyed(ring: KeyRing) -> Options {
    Options {
        keys: Some(Arc::new(ring)),
        ..quiet()
    }
}

#[test]
fn s34_a_flipped_byte_anywhere_is_found_without_the_key() {
    for sealed in [false, true] {
        let mem = MemBlobs::new();
        let options = match sealed {
            true => keyed(KeyRing::generate(&SystemEntropy)),
            false => quiet(),
        };
        let ledger = in_memory(&mem, options.clone());
        (0..6).for_each(|n| put(&ledger, n));
        ledger.compact().unwrap();
        ledger.checkpoint().unwrap();
        (6..10).for_each(|n| put(&ledger, n));
        drop(ledger);
        // Without a key: only files can be checked, and they can.
        let ledger = in_memory(&mem, quiet());
        let report = ledger.verify().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert!(report.files >= 3 && report.cars >= 2, "{report:?}");
        let mut tried = 0;
        for blob in mem.list("").unwrap() {
            for offset in (0..blob.size as usize).step_by(7) {
                mem.flip_byte(&blob.name, offset);
                let problems = ledger.verify_files().unwrap().problems;
                assert!(
                    !problems.is_empty(),
                    "{} at {offset} of {}",
                    blob.name,
                    blob.size
                );
                mem.flip_byte(&blob.name, offset);
                tried += 1;
            }
        }
        assert!(tried > 1000, "{tried}");
    }
}

#[test]
fn s34_a_wrong_or_missing_key_is_named_and_a_rotated_one_reads_on() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let ring = KeyRing::create(&keys, &SystemEntropy).unwrap();
    let (first, mut expected) = (ring.current(), model(0..5));
    let ledger = in_folder(folder.path(), keyed(ring));
    (0..5).for_each(|n| put(&ledger, n));
    ledger.compact().unwrap();
    put(&ledger, 5);
    expected.extend(model(5..6));
    check(&ledger, &expected);
    ledger.close().unwrap();
    for options in [quiet(), keyed(KeyRing::generate(&SystemEntropy))] {
        let ledger = in_folder(folder.path(), options);
        let refused = ledger.get(&key(0));
        assert!(
            matches!(&refused, Err(Error::Undecryptable { key, .. }) if *key == first.to_string()),
            "{refused:?}"
        );
        assert!(ledger.all_docs(&Default::default()).is_err());
        assert!(ledger.put(&key(0), &numbered(0)).is_err());
        assert!(ledger.changes(siltstone_ledger::Clock::start(), 1).is_err());
        assert!(ledger.verify_files().unwrap().problems.is_empty());
        ledger.close().unwrap();
    }
    let mut ring = KeyRing::open(&keys).unwrap();
    let second = ring.rotate(&SystemEntropy).unwrap();
    assert_ne!(first, second);
    let ledger = in_folder(folder.path(), keyed(ring));
    check(&ledger, &expected);
    put(&ledger, 6);
    expected.extend(model(6..7));
    check(&ledger, &expected);
    ledger.compact().unwrap();
    ledger.drop_caches();
    check(&ledger, &expected);
    ledger.close().unwrap();
    // After the compaction everything is under the second key.
    let mut only_new = KeyRing::open(&keys).unwrap();
    only_new.rotate(&SystemEntropy).unwrap();
    check(&in_folder(folder.path(), keyed(only_new)), &expected);
}

const KILLED: &str = "LEDGER_KILLED_FOLDER";

fn killed_options() -> Options {
    Options {
        compact_from: Some(20),
        compact_fan_in: 3,
        checkpoint_edits: 30,
        journal_bytes: 64 << 10,
        background: Background::Thread,
        ..Options::default()
    }
}

#[test]
#[ignore = "the process that is killed"]
fn killed_writer() {
    let Some(folder) = std::env::var_os(KILLED) else {
        return;
    };
    let ledger = in_folder(Path::new(&folder), killed_options());
    let from = rows(&ledger).len() as u64;
    let out = std::io::stdout();
    for n in from.. {
        put(&ledger, n);
        let mut out = out.lock();
        writeln!(out, "\nack {n}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn s35_kill_9_at_random_points_loses_nothing_acknowledged() {
    let rounds: u64 = std::env::var("LEDGER_KILLS").map_or(20, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(35);
    let mut acknowledged = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_writer", "--ignored", "--nocapture"])
            .env(KILLED, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ack = |line: &str| -> Option<u64> { line.strip_prefix("ack ")?.parse().ok() };
        for _ in 0..random.u64(1..60) {
            let said = lines
                .by_ref()
                .map_while(Result::ok)
                .find_map(|line| ack(&line));
            acknowledged = said.expect("the writer ended early") + 1;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = ack(&line).map_or(acknowledged, |n| n + 1);
        }
        let ledger = in_folder(folder.path(), quiet());
        let found = rows(&ledger).len() as u64;
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "round {round}: {acknowledged} acknowledged, {found} found"
        );
        if round % 5 == 4 || round + 1 == rounds {
            check(&ledger, &model(0..found));
            no_orphans(&folder_blobs(folder.path()), &ledger);
        }
        acknowledged = found;
    }
    let ledger = in_folder(folder.path(), quiet());
    drop_and_compare(ledger, folder.path());
}
