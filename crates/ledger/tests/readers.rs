//! Readers beside a writer: they follow it, what they hold is not deleted under them, they write nothing,
//! and one that died holds nothing for long.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::json;
use siltstone_ledger::{
    AllDocs, BulkWrite, Clock, Error, Keep, Ledger, Options, Query, Remote, Snapshot,
};
use siltstone_storage::{Blobs, Env, FaultPlan, FaultyBlobs, Injected, ManualClock, MemBlobs};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(60);

fn env(blobs: Arc<dyn Blobs>, clock: &Arc<ManualClock>, seed: u64) -> Env {
    let (mut env, _) = Env::simulated(blobs, seed);
    env.clock = clock.clone();
    env
}

fn writer(mem: &MemBlobs, clock: &Arc<ManualClock>) -> Ledger {
    let env = env(Arc::new(mem.clone()), clock, 1);
    Ledger::open(env, NAME, quiet()).unwrap()
}

/// Pins have random names: no two readers may have the same seed.
fn next_seed() -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(2);
    SEED.fetch_add(1, Ordering::Relaxed)
}

fn reader(mem: &MemBlobs, clock: &Arc<ManualClock>) -> Ledger {
    let env = env(Arc::new(mem.clone()), clock, next_seed());
    Ledger::open_reader(env, NAME, quiet()).unwrap()
}

fn both() -> [(MemBlobs, Arc<ManualClock>); 2] {
    [MemBlobs::new(), MemBlobs::bucket()].map(|mem| (mem, Arc::new(ManualClock::default())))
}

fn held(snapshot: &Snapshot) -> Model {
    let rows = snapshot.all_docs(&AllDocs::default()).unwrap().rows;
    rows.into_iter()
        .map(|row| (row.id, row.document.unwrap()))
        .collect()
}

/// Everything that is replaced is deleted, as far as it may be.
fn tidy(writer: &Ledger) {
    writer.compact().unwrap();
    writer.checkpoint().unwrap();
    // The next edit says what is deleted.
    writer.put("tidy", &numbered(0)).unwrap();
    writer.delete("tidy").unwrap();
    writer.checkpoint().unwrap();
}

#[test]
fn a_reader_sees_what_was_written_when_it_looks_and_at_most_a_second_late() {
    for (mem, clock) in both() {
        let none = Ledger::open_reader(env(Arc::new(mem.clone()), &clock, 2), NAME, quiet());
        assert!(matches!(none, Err(Error::Storage(error)) if error.is_not_found()));
        let writer = writer(&mem, &clock);
        let reader = reader(&mem, &clock);
        assert!(reader.is_reader() && !writer.is_reader());
        check(&reader, &model([]));
        put(&writer, 1);
        assert!(is_not_found(&reader.get(&key(1))), "it looked just now");
        clock.advance(SECOND);
        assert_eq!(reader.get(&key(1)).unwrap(), numbered(1));
        put(&writer, 2);
        assert_eq!(reader.refresh().unwrap(), writer.clock());
        check(&reader, &model(1..3));
        // Over manifests, new journals and another writer.
        (3..40).for_each(|n| put(&writer, n));
        writer.checkpoint().unwrap();
        (40..60).for_each(|n| put(&writer, n));
        clock.advance(SECOND);
        check(&reader, &model(1..60));
        drop(writer);
        let writer = self::writer(&mem, &clock);
        put(&writer, 60);
        tidy(&writer);
        clock.advance(SECOND);
        check(&reader, &model(1..61));
        assert_eq!(answers(&reader), answers(&writer));
        assert_eq!(reader.history(&key(1), 9).unwrap().versions.len(), 1);
        let changes = reader.changes(Clock::start(), 10).unwrap();
        assert_eq!(changes.rows.len(), 10);
        let old = Clock(vec![changes.rows[0].event]);
        assert!(is_not_found(&reader.get_at(&old, &key(2))));
        let (mut here, mut there) = (Vec::new(), Vec::new());
        reader.export(&mut here).unwrap();
        writer.export(&mut there).unwrap();
        assert_eq!(here, there);
    }
}

#[test]
fn a_reader_refuses_every_write_and_writes_nothing_but_its_pin() {
    for (mem, clock) in both() {
        let writer = writer(&mem, &clock);
        (0..4).for_each(|n| put(&writer, n));
        let before = mem.list("").unwrap();
        let reader = reader(&mem, &clock);
        let mut refused: Vec<Result<(), Error>> = vec![
            reader.put("x", &numbered(1)).map(drop),
            reader.put_json(&json!({"a": 1})).map(drop),
            reader.delete(&key(1)).map(drop),
            reader.bulk(vec![BulkWrite::Delete(key(1))]).map(drop),
            reader.put_file(&mut &[1; 500_000][..]).map(drop),
            reader.compact().map(drop),
            reader.checkpoint(),
            reader.prune(&Keep::Versions(1)).map(drop),
            reader.import(&mut &b""[..]).map(drop),
            reader.repair(None).map(drop),
            reader
                .attach(Remote::new("r", Arc::new(MemBlobs::new())))
                .map(drop),
        ];
        let by_number = reader.index_by_field("n").unwrap();
        assert_eq!(by_number.query(&Query::default()).unwrap().len(), 4);
        by_number.flush();
        refused.push(by_number.forget());
        for (at, refused) in refused.into_iter().enumerate() {
            assert!(
                matches!(refused, Err(Error::ReadOnly { .. })),
                "{at}: {refused:?}"
            );
        }
        assert!(reader.begin_compaction().is_none());
        assert_eq!(names(&mem, "pins").len(), 1);
        reader.close().unwrap();
        assert_eq!(mem.list("").unwrap(), before);
    }
}

#[test]
fn what_a_reader_holds_survives_compaction_pruning_and_another_writer() {
    for (mem, clock) in both() {
        let writer = writer(&mem, &clock);
        (0..20).for_each(|n| put(&writer, n));
        let reader = reader(&mem, &clock);
        let snapshot = reader.snapshot();
        (0..20).for_each(|n| {
            let newer = doc(json!({"newer": n}));
            drop(writer.put(&key(n), &newer).unwrap());
        });
        writer.prune(&Keep::Versions(1)).unwrap();
        tidy(&writer);
        drop(writer);
        let writer = self::writer(&mem, &clock);
        tidy(&writer);
        // It moves on, and its old snapshot stays.
        clock.advance(2 * SECOND);
        assert!(reader.get(&key(3)).unwrap().to_json()["newer"] == 3);
        tidy(&writer);
        assert_eq!(held(&snapshot), model(0..20));
        reader.drop_caches();
        assert_eq!(held(&snapshot), model(0..20));
        let report = reader.verify().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let many = names(&mem, "car").len() + names(&mem, "journal").len();
        drop(snapshot);
        // Let go of with the next renewal.
        clock.advance(LEASE / 2);
        reader.refresh().unwrap();
        tidy(&writer);
        drop(writer);
        let writer = self::writer(&mem, &clock);
        let few = names(&mem, "car").len() + names(&mem, "journal").len();
        assert!(few < many, "{few} and {many}");
        reader.refresh().unwrap();
        assert_eq!(answers(&reader), answers(&writer));
        let replaced = writer.stats().replaced_cars;
        drop(reader);
        assert!(names(&mem, "pins").is_empty());
        tidy(&writer);
        assert!(writer.stats().replaced_cars <= replaced.max(1));
    }
}

#[test]
fn one_that_died_holds_nothing_after_its_lease_and_one_that_stood_still_says_so() {
    for (mem, clock) in both() {
        let writer = writer(&mem, &clock);
        (0..10).for_each(|n| put(&writer, n));
        let reader = reader(&mem, &clock);
        let snapshot = reader.snapshot();
        let replaced = writer.stats().cars;
        writer.compact().unwrap();
        writer.checkpoint().unwrap();
        assert_eq!(writer.stats().replaced_cars, replaced, "it holds them");
        clock.advance(LEASE - SECOND);
        writer.checkpoint().unwrap();
        assert_eq!(writer.stats().replaced_cars, replaced, "it still does");
        clock.advance(2 * SECOND);
        reader.drop_caches();
        // What it read before is not told for what is there.
        tidy(&writer);
        assert!(writer.stats().replaced_cars < replaced);
        let stood = snapshot.get(&key(1)).unwrap_err();
        assert!(matches!(stood, Error::Stale { .. }), "{stood}");
        assert!(stood.to_string().contains("60 s"), "{stood}");
        // Asked again it looks again, and holds again.
        check(&reader, &model(0..10));
        assert!(matches!(snapshot.get(&key(1)), Err(Error::Stale { .. })));
        let snapshot = reader.snapshot();
        tidy(&writer);
        reader.drop_caches();
        assert_eq!(held(&snapshot), model(0..10));
    }
}

#[test]
fn a_long_read_renews_what_it_holds() {
    let (mem, clock) = (MemBlobs::new(), Arc::new(ManualClock::default()));
    let writer = writer(&mem, &clock);
    (0..40).for_each(|n| put(&writer, n));
    // Every read of the store takes a while.
    let slow = FaultyBlobs::new(Arc::new(mem.clone()), clock.clone(), FaultPlan::default());
    let (ticking, passed) = (clock.clone(), Arc::new(AtomicU64::new(0)));
    let counted = passed.clone();
    let reader = Ledger::open_reader(env(Arc::new(slow.clone()), &clock, 2), NAME, quiet());
    let reader = reader.unwrap();
    slow.on_call(Box::new(move |call| {
        if !call.name.contains("pins/") {
            ticking.advance(LEASE / 10);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let snapshot = reader.snapshot();
    tidy(&writer);
    assert_eq!(held(&snapshot), model(0..40));
    assert!(passed.load(Ordering::Relaxed) > 20);
}

/// Whatever the other side does at any call of one side, the reader holds what it shows.
#[test]
fn a_compaction_at_every_call_of_opening_and_refreshing_takes_nothing_away() {
    for opening in [true, false] {
        for at in 1_u64.. {
            let (mem, clock) = match at % 2 {
                0 => (MemBlobs::new(), Arc::new(ManualClock::default())),
                _ => (MemBlobs::bucket(), Arc::new(ManualClock::default())),
            };
            let at = at.div_ceil(2);
            let writer = writer(&mem, &clock);
            (0..5).for_each(|n| put(&writer, n));
            writer.checkpoint().unwrap();
            (5..8).for_each(|n| put(&writer, n));
            let meddled =
                FaultyBlobs::new(Arc::new(mem.clone()), clock.clone(), FaultPlan::default());
            let (calls, other) = (AtomicU64::new(0), writer.clone());
            let hook = Box::new(move |_: &_| {
                if calls.fetch_add(1, Ordering::Relaxed) + 1 == at {
                    other.put(&key(100), &numbered(100)).unwrap();
                    tidy(&other);
                }
            });
            let open = || {
                let env = env(Arc::new(meddled.clone()), &clock, 2);
                Ledger::open_reader(env, NAME, quiet()).unwrap()
            };
            let reader = match opening {
                true => {
                    meddled.on_call(hook);
                    open()
                }
                false => {
                    let reader = open();
                    put(&writer, 8);
                    clock.advance(LEASE / 2);
                    meddled.on_call(hook);
                    reader.refresh().unwrap();
                    reader
                }
            };
            meddled.clear_hook();
            let happened = writer.get(&key(100)).is_ok();
            let snapshot = reader.snapshot();
            let shown = held(&snapshot);
            tidy(&writer);
            tidy(&writer);
            reader.drop_caches();
            assert_eq!(held(&snapshot), shown, "call {at}");
            let known = if opening { 8 } else { 9 };
            let before = model(0..known);
            let after = model((0..known).chain([100]));
            // It may be between two of the writes.
            let mut between = shown.clone();
            between.remove("tidy");
            assert!(
                between == before || between == after,
                "call {at}, {opening}: {:?}",
                between.keys()
            );
            reader.refresh().unwrap();
            check(&reader, &if happened { after } else { before });
            if !happened {
                assert!(at > 4, "{at}");
                break;
            }
        }
    }
}

#[test]
fn a_reader_at_every_call_of_a_compaction_and_of_an_opening_reads_on() {
    for (work, bucket) in [(0, false), (0, true), (1, false), (1, true)] {
        for at in 1.. {
            let mem = match bucket {
                false => MemBlobs::new(),
                true => MemBlobs::bucket(),
            };
            let clock = Arc::new(ManualClock::default());
            let meddled =
                FaultyBlobs::new(Arc::new(mem.clone()), clock.clone(), FaultPlan::default());
            let open = || {
                let env = env(Arc::new(meddled.clone()), &clock, 1);
                Ledger::open(env, NAME, quiet()).unwrap()
            };
            let writer = open();
            (0..8).for_each(|n| put(&writer, n));
            let reading = Arc::new(parking_lot::Mutex::new(None));
            let (calls, kept, beside) = (AtomicU64::new(0), reading.clone(), mem.clone());
            let ticking = clock.clone();
            let hook = Box::new(move |_: &_| {
                if calls.fetch_add(1, Ordering::Relaxed) + 1 == at {
                    let reader = reader(&beside, &ticking);
                    let snapshot = reader.snapshot();
                    *kept.lock() = Some((reader, snapshot));
                }
            });
            if work == 0 {
                meddled.on_call(hook);
                tidy(&writer);
            } else {
                writer.compact().unwrap();
                drop(writer);
                meddled.on_call(hook);
                drop(open());
            }
            meddled.clear_hook();
            let Some((reader, snapshot)) = reading.lock().take() else {
                assert!(at > 4, "{at}");
                break;
            };
            reader.drop_caches();
            let mut shown = held(&snapshot);
            shown.remove("tidy");
            assert_eq!(shown, model(0..8), "call {at} of {work}, {bucket}");
        }
    }
}

#[test]
fn a_failure_at_every_call_of_a_reader_is_an_error_and_no_more() {
    for fault in [Injected::ErrorBefore, Injected::ErrorAfter, Injected::Crash] {
        for number in 1.. {
            let (mem, clock) = (MemBlobs::new(), Arc::new(ManualClock::default()));
            let writer = writer(&mem, &clock);
            (0..5).for_each(|n| put(&writer, n));
            let faulty =
                FaultyBlobs::new(Arc::new(mem.clone()), clock.clone(), FaultPlan::default());
            faulty.set_plan(FaultPlan::at(number, fault));
            let env = env(Arc::new(faulty.clone()), &clock, 2);
            let done = Ledger::open_reader(env, NAME, quiet()).and_then(|reader| {
                put(&writer, 5);
                clock.advance(LEASE / 2);
                reader.refresh()?;
                let page = reader.all_docs(&AllDocs::default())?;
                assert_eq!(page.rows.len(), 6);
                Ok(())
            });
            let reached = faulty.calls() >= number;
            if let Err(error) = &done {
                assert!(matches!(error, Error::Storage(_)), "{error}");
            }
            if writer.get(&key(5)).is_err() {
                put(&writer, 5);
            }
            // Its pin may be left; it goes.
            clock.advance(2 * LEASE);
            tidy(&writer);
            check(&writer, &model(0..6));
            assert!(names(&mem, "pins").is_empty());
            if !reached {
                assert!(done.is_ok() && number > 5);
                break;
            }
        }
    }
}

#[test]
fn whatever_the_writer_does_a_refreshed_reader_is_what_it_is_and_a_snapshot_is_what_it_was() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut mem, clock) = both().into_iter().nth(seed as usize % 2).unwrap();
        let mut writer = writer(&mem, &clock);
        let mut expected = Model::new();
        let mut readers: Vec<Ledger> = Vec::new();
        let mut snapshots: Vec<(Snapshot, Model)> = Vec::new();
        for step in 0..150 {
            match random.u8(..16) {
                0..=4 => {
                    let n = random.u64(..30);
                    let document = doc(json!({"step": step}));
                    writer.put(&key(n), &document).unwrap();
                    expected.insert(key(n), document);
                }
                5 => {
                    let n = random.u64(..30);
                    writer.delete(&key(n)).unwrap();
                    expected.remove(&key(n));
                }
                6 => drop(writer.compact().unwrap()),
                7 => writer.checkpoint().unwrap(),
                8 if random.u8(..4) == 0 => {
                    // A snapshot holds what is pruned; that is a snapshot of the writer's process.
                    writer.prune(&Keep::Versions(2)).unwrap();
                }
                9 => clock.advance(SECOND * random.u32(..20)),
                10 => {
                    drop(writer);
                    writer = self::writer(&mem, &clock);
                }
                11 if readers.len() < 3 => readers.push(reader(&mem, &clock)),
                12 if !readers.is_empty() => {
                    let at = random.usize(..readers.len());
                    readers[at].refresh().unwrap();
                    let snapshot = readers[at].snapshot();
                    snapshots.push((snapshot, expected.clone()));
                }
                13 if !snapshots.is_empty() => {
                    snapshots.swap_remove(random.usize(..snapshots.len()));
                }
                14 if !readers.is_empty() => {
                    let at = random.usize(..readers.len());
                    readers[at].refresh().unwrap();
                    readers[at].drop_caches();
                    assert_eq!(held(&readers[at].snapshot()), expected);
                    let report = readers[at].verify().unwrap();
                    assert!(report.problems.is_empty(), "{:?}", report.problems);
                }
                15 if random.u8(..6) == 0 => {
                    // The machine goes down: the writer's process with all others.
                    snapshots.clear();
                    readers.clear();
                    drop(writer);
                    mem = mem.after_crash(|_| 0);
                    writer = self::writer(&mem, &clock);
                }
                _ => {}
            }
            for (snapshot, then) in &snapshots {
                match snapshot.all_docs(&AllDocs::default()) {
                    Ok(_) => assert_eq!(held(snapshot), *then, "seed {seed} step {step}"),
                    Err(Error::Stale { .. }) => {}
                    Err(error) => panic!("seed {seed} step {step}: {error}"),
                }
            }
            for reader in &readers {
                // Keeps its pin, as a reader that is used does.
                reader.refresh().unwrap();
            }
        }
    }
}

/// What a child shall do: where the ledger is.
const CHILD: &str = "LEDGER_READER_FOLDER";

/// A reader in a process of its own. It says when it holds a snapshot, and then, for each line it is
/// sent, what it reads from that and what it reads anew.
#[test]
#[ignore = "the other side of the test below"]
fn reading_process() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let options = Options {
        reader_lease: Duration::from_millis(1500),
        reader_staleness: Duration::ZERO,
        ..quiet()
    };
    let reader = Ledger::open_folder_reader(Path::new(&folder), NAME, options).unwrap();
    let snapshot = reader.snapshot();
    println!("held {}", held(&snapshot).len());
    for line in std::io::stdin().lines() {
        line.unwrap();
        reader.drop_caches();
        // It is renewed by reads, and they come often enough, or it says so.
        let old = match snapshot.all_docs(&AllDocs::default()) {
            Ok(page) => page.rows.len().to_string(),
            Err(Error::Stale { .. }) => "stale".into(),
            Err(error) => panic!("{error}"),
        };
        let problems = reader.verify().unwrap().problems;
        println!("old {old} now {} {problems:?}", rows(&reader).len());
    }
}

struct Reading(Child, BufReader<std::process::ChildStdout>);

impl Reading {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "reading_process", "--ignored", "--nocapture"])
            .env(CHILD, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    fn line(&mut self, begins: &str) -> String {
        let mut line = String::new();
        while self.1.read_line(&mut line).unwrap() > 0 {
            // The harness may have begun the line.
            if let Some(at) = line.find(begins) {
                return line[at..].trim_end().to_string();
            }
            line.clear();
        }
        panic!("the reader ended");
    }

    fn ask(&mut self) -> String {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
        self.line("old ")
    }
}

#[test]
fn two_processes_read_while_a_third_writes_compacts_and_sweeps_and_one_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    (0..50).for_each(|n| put(&ledger, n));
    let (mut one, mut two) = (Reading::start(folder.path()), Reading::start(folder.path()));
    assert_eq!(one.line("held "), "held 50");
    assert_eq!(two.line("held "), "held 50");
    let mut stale = 0;
    for round in 0..20 {
        let from = 50 + round * 10;
        (from..from + 10).for_each(|n| put(&ledger, n));
        tidy(&ledger);
        let expected = format!("now {} []", from + 10);
        for reading in [&mut one, &mut two] {
            let said = reading.ask();
            assert!(said.ends_with(&expected), "{said}");
            stale += usize::from(said.starts_with("old stale"));
            assert!(
                said.starts_with("old 50") || said.starts_with("old stale"),
                "{said}"
            );
        }
    }
    assert!(stale < 40, "it never held anything");
    // A second process cannot write; one that is killed leaves a pin that lapses.
    assert!(Ledger::open_folder(folder.path(), NAME, quiet()).is_err());
    let pins = folder.path().join("ledger").join(NAME).join("pins");
    let count = || std::fs::read_dir(&pins).map_or(0, |files| files.count());
    one.0.kill().unwrap();
    one.0.wait().unwrap();
    assert!(count() >= 1);
    drop(two.0.stdin.take());
    two.0.wait().unwrap();
    while count() > 0 {
        // Whatever is replaced in the meantime is held until then.
        put(&ledger, 1000);
        ledger.compact().unwrap();
        ledger.checkpoint().unwrap();
    }
    tidy(&ledger);
    assert!(ledger.stats().replaced_cars <= 1);
    drop_and_compare(ledger, folder.path());
}

struct Ending<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_open_and_follow_while_a_writer_never_stops() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), Options::default());
    put(&ledger, 0);
    let ending = std::sync::atomic::AtomicBool::new(false);
    // The writer goes on while a reader looks, but not so far that looking takes ever longer.
    let seen_last = AtomicU64::new(0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for n in 1.. {
                let ended = || ending.load(Ordering::Relaxed);
                while n > seen_last.load(Ordering::Relaxed) + 40 && !ended() {
                    std::thread::yield_now();
                }
                if ended() {
                    return;
                }
                put(&ledger, n);
            }
        });
        // Also when this thread panics.
        let ending = Ending(&ending);
        let mut before = 0;
        for _ in 0..30 {
            let reader = Ledger::open_folder_reader(folder.path(), NAME, quiet()).unwrap();
            for _ in 0..5 {
                reader.refresh().unwrap();
                let seen = held(&reader.snapshot());
                assert!(seen.len() >= before, "{} after {before}", seen.len());
                before = seen.len();
                assert_eq!(seen, model(0..before as u64));
                seen_last.store(before as u64, Ordering::Relaxed);
            }
        }
        drop(ending);
    });
    drop_and_compare(ledger, folder.path());
}
