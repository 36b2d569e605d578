//! Partial replicas: heads first, archives when a read needs them. Never an empty answer, never a name
//! that leads nowhere.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::json;
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{
    AllDocs, Attachment, BulkWrite, Document, Error, Fetch, FileRef, Keep, Ledger, Options, Remote,
};
use siltstone_storage::{
    Blobs, Env, FaultPlan, FaultyBlobs, Injected, LocalBlobs, ManualClock, MemBlobs,
};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

/// Documents of about 1 KiB, so that archives are large.
fn large(n: u64) -> Document {
    let mut rng = fastrand::Rng::with_seed(n);
    let text: String = (0..1000).map(|_| rng.alphanumeric()).collect();
    doc(json!({"n": n, "text": text}))
}

fn put_large(ledger: &Ledger, numbers: std::ops::Range<u64>) {
    let writes = numbers.map(|n| BulkWrite::Put(key(n), large(n))).collect();
    ledger.bulk(writes).unwrap();
}

fn small_archives(keys: &Option<Arc<KeyRing>>) -> Options {
    Options {
        compacted_car_bytes: 400_000,
        car_bytes: 400_000,
        cache_bytes: 100_000,
        keys: keys.clone(),
        ..quiet()
    }
}

fn open(
    blobs: Arc<dyn Blobs>,
    seed: u64,
    keys: &Option<Arc<KeyRing>>,
) -> (Ledger, Arc<ManualClock>) {
    let (env, clock) = Env::simulated(blobs, seed);
    (
        Ledger::open(env, NAME, small_archives(keys)).unwrap(),
        clock,
    )
}

fn attach(ledger: &Ledger, blobs: impl Blobs + 'static, fetch: Option<Fetch>) -> Attachment {
    let remote = Remote::new("shared", Arc::new(blobs)).background(false);
    let remote = match fetch {
        Some(fetch) => remote.fetch(fetch),
        None => remote,
    };
    ledger.attach(remote).unwrap()
}

const DOCS: u64 = 2000;

/// A ledger of some megabytes, compacted, with a file, in a remote.
fn original(keys: &Option<Arc<KeyRing>>) -> (Ledger, Arc<ManualClock>, MemBlobs, FileRef) {
    let (a, clock) = open(Arc::new(MemBlobs::new()), 1, keys);
    for from in (0..DOCS).step_by(250) {
        put_large(&a, from..from + 250);
    }
    a.compact().unwrap();
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n / 7) as u8).collect();
    let file = a.put_file(&mut &bytes[..]).unwrap();
    a.put("file", &doc(json!({"file": file.link()}))).unwrap();
    let shared = MemBlobs::new();
    attach(&a, shared.clone(), None).sync().unwrap();
    a.detach("shared");
    (a, clock, shared, file)
}

fn failing(shared: &MemBlobs) -> FaultyBlobs {
    let clock = Arc::new(ManualClock::default());
    FaultyBlobs::new(Arc::new(shared.clone()), clock, FaultPlan::default())
}

fn all_fail() -> FaultPlan {
    FaultPlan {
        error_before: 1000,
        ..FaultPlan::default()
    }
}

fn is_away<T>(result: &siltstone_ledger::Result<T>) -> bool {
    matches!(result, Err(Error::Away { .. }))
}

fn whole(ledger: &Ledger) {
    let report = ledger.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!((report.away, report.away_blocks), (0, 0));
}

#[test]
fn archives_come_when_a_read_needs_them_and_stay_and_the_rest_comes_when_all_is_wanted() {
    let ring = Arc::new(KeyRing::generate(&SystemEntropy));
    for keys in [None, Some(ring)] {
        let (a, _, shared, file) = original(&keys);
        let mem = MemBlobs::new();
        let (b, _) = open(Arc::new(mem.clone()), 2, &keys);
        let remote = failing(&shared);
        let at = attach(&b, remote.clone(), Some(Fetch::OnDemand));
        let pulled = at.sync().unwrap();
        assert!(pulled.refused.is_empty(), "{:?}", pulled.refused);
        let there = shared.total_bytes();
        assert!(
            mem.total_bytes() < there / 2,
            "{} of {there}",
            mem.total_bytes()
        );
        let stats = b.stats();
        assert!(
            stats.away_cars >= 4 && stats.away_bytes > 2_000_000,
            "{stats:?}"
        );
        assert_eq!(b.clock(), a.clock());
        // Nothing is fetched by a check, and nothing is wrong.
        let report = b.verify().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(report.away as usize, stats.away_cars);
        assert!(report.away_blocks > 0);
        assert_eq!(b.stats(), stats);
        // A read fetches what it needs, and keeps it.
        assert_eq!(b.get(&key(7)).unwrap(), large(7));
        let some = b.stats().away_cars;
        assert!(some > 0 && some < stats.away_cars, "{some}");
        remote.set_plan(all_fail());
        b.drop_caches();
        assert_eq!(b.get(&key(7)).unwrap(), large(7));
        // What is not here is said to be so: never absent, never empty.
        let reads = (0..DOCS).map(|n| b.get(&key(n)));
        let (mut here, mut away) = (0, 0);
        for (n, read) in reads.enumerate() {
            match read {
                Ok(document) => {
                    assert_eq!(document, large(n as u64));
                    here += 1;
                }
                Err(error) => {
                    assert!(
                        matches!(&error, Error::Away { why, .. } if why.contains("shared")),
                        "{error}"
                    );
                    away += 1;
                }
            }
        }
        assert!(here > 100 && away > 500, "{here} {away}");
        assert!(is_away(&b.all_docs(&AllDocs::default())));
        assert!(is_away(&b.prune(&Keep::Versions(1))));
        // What is known not to be there still is not.
        assert!(is_not_found(&b.get("never")));
        // A compaction takes what is here, and writes go on.
        b.put("mine", &numbered(1)).unwrap();
        b.compact().unwrap();
        assert!(b.stats().away_cars == some);
        drop((b, at));
        // Reopened without the remote, then with it: the mode is kept.
        let (b, _) = open(Arc::new(mem.clone()), 3, &keys);
        assert_eq!(b.get(&key(7)).unwrap(), large(7));
        assert_eq!(b.get("mine").unwrap(), numbered(1));
        assert_eq!(b.stats().away_cars, some);
        assert!((0..DOCS).any(|n| is_away(&b.get(&key(n)))));
        remote.set_plan(FaultPlan::default());
        let at = attach(&b, remote.clone(), None);
        at.sync().unwrap();
        assert_eq!(b.stats().away_cars, some);
        let mut read = Vec::new();
        b.open_file(&file).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read.len(), 700_000);
        // All of it.
        let at_again = attach(&b, remote.clone(), Some(Fetch::All));
        assert!(at_again.sync().unwrap().pulled_cars > 0);
        assert_eq!(b.stats().away_cars, 0);
        remote.set_plan(all_fail());
        b.drop_caches();
        whole(&b);
        assert_eq!(rows(&b).len() as u64, DOCS + 2);
        drop((b, at, at_again));
        let (b, _) = open(Arc::new(mem.clone()), 4, &keys);
        whole(&b);
        assert_eq!(rows(&b).len() as u64, DOCS + 2);
        // And what b wrote comes to a.
        attach(&b, shared.clone(), None).sync().unwrap();
        assert_eq!(b.stats().away_cars, 0);
        attach(&a, shared.clone(), None).sync().unwrap();
        assert_eq!(a.get("mine").unwrap(), numbered(1));
        b.compact().unwrap();
        b.prune(&Keep::Versions(2)).unwrap();
        whole(&b);
        no_orphans(&mem, &b);
        assert!(names(&mem, "away").is_empty());
    }
}

#[test]
fn a_partial_replica_in_a_folder_is_the_same_in_a_fresh_process_once_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (_, _, shared, _) = original(&None);
    let local = LocalBlobs::create(folder.path()).unwrap();
    let (b, _) = open(Arc::new(local), 2, &None);
    attach(&b, shared.clone(), Some(Fetch::OnDemand))
        .sync()
        .unwrap();
    assert!(b.stats().away_cars > 0);
    // Reading everything makes it whole.
    let expected = answers(&b);
    let mut read = Vec::new();
    let link = b.get("file").unwrap().field(&["file"]).unwrap();
    let file = FileRef::from_link(&link).unwrap();
    b.open_file(&file).unwrap().read_to_end(&mut read).unwrap();
    drop(b);
    same_in_a_fresh_process(folder.path(), &expected);
}

#[test]
fn what_the_remote_replaced_is_followed_and_nobody_deletes_what_a_partial_replica_needs() {
    let (a, clock, shared, _) = original(&None);
    let (b, b_clock) = open(Arc::new(MemBlobs::new()), 2, &None);
    let at_b = attach(&b, shared.clone(), Some(Fetch::OnDemand));
    at_b.sync().unwrap();
    let at_a = attach(&a, shared.clone(), None);
    let hour = Duration::from_secs(3600);
    for round in 0..4 {
        // a replaces all of its archives; b has not heard of it, and they stay.
        put_large(&a, DOCS + round * 10..DOCS + round * 10 + 10);
        a.compact_with(&siltstone_ledger::Full).unwrap();
        a.put("salt", &numbered(round)).unwrap();
        a.compact().unwrap();
        at_a.sync().unwrap();
        clock.advance(2 * hour);
        at_a.sync().unwrap();
        b.drop_caches();
        assert_eq!(b.get(&key(round * 300)).unwrap(), large(round * 300));
        // b hears of it and names the new ones; the old ones go, and b reads on.
        at_b.sync().unwrap();
        at_a.sync().unwrap();
        clock.advance(2 * hour);
        b_clock.advance(2 * hour);
        at_a.sync().unwrap();
        at_b.sync().unwrap();
        let report = b.verify().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
    assert!(b.stats().away_cars > 0);
    for n in 0..DOCS {
        assert_eq!(b.get(&key(n)).unwrap(), large(n), "{n}");
    }
    assert_eq!(b.clock(), a.clock());
}

#[test]
fn a_partial_replica_publishes_nothing_that_names_what_nobody_has() {
    let (_, _, shared, _) = original(&None);
    let (b, _) = open(Arc::new(MemBlobs::new()), 2, &None);
    let first = failing(&shared);
    attach(&b, first.clone(), Some(Fetch::OnDemand))
        .sync()
        .unwrap();
    let second = MemBlobs::new();
    let remote = Remote::new("second", Arc::new(second.clone())).background(false);
    let at_second = b.attach(remote).unwrap();
    // The one that has the archives is away: the other gets no meta.
    first.set_plan(all_fail());
    assert!(is_away(&at_second.sync()));
    assert!(second.list("meta/").unwrap().is_empty());
    // It comes back: the archives go through here.
    first.set_plan(FaultPlan::default());
    at_second.sync().unwrap();
    assert_eq!(second.list("meta/").unwrap().len(), 1);
    let (c, _) = open(Arc::new(MemBlobs::new()), 3, &None);
    let at_c = attach(&c, second, None);
    assert!(at_c.sync().unwrap().refused.is_empty());
    whole(&c);
    assert_eq!(rows(&c).len() as u64, DOCS + 1);
}

#[test]
fn an_archive_that_is_not_what_its_index_said_is_an_error_and_is_not_kept() {
    let (_, _, shared, _) = original(&None);
    let mem = MemBlobs::new();
    let (b, _) = open(Arc::new(mem.clone()), 2, &None);
    attach(&b, shared.clone(), Some(Fetch::OnDemand))
        .sync()
        .unwrap();
    let kept = mem.total_bytes();
    for car in shared.list("car/").unwrap() {
        shared.flip_byte(&car.name, 2000.min(car.size as usize - 1));
    }
    let mut refused = 0;
    for n in 0..DOCS {
        match b.get(&key(n)) {
            Ok(document) => assert_eq!(document, large(n)),
            Err(error) => {
                assert!(matches!(error, Error::Away { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 500, "{refused}");
    assert_eq!(mem.total_bytes(), kept);
    // A damaged index is found, and the repair fetches the archive.
    let tail = names(&mem, "away").remove(0);
    mem.flip_byte(&tail, 100);
    let report = b.verify().unwrap();
    assert_eq!(report.damaged.len(), 1);
    for car in shared.list("car/").unwrap() {
        shared.flip_byte(&car.name, 2000.min(car.size as usize - 1));
    }
    let report = b.repair(None).unwrap();
    assert_eq!((report.mended.len(), report.after.problems.len()), (1, 0));
}

#[test]
fn a_crash_at_any_call_of_a_partial_sync_and_of_reads_after_it_loses_nothing() {
    let (_, _, shared, _) = original(&None);
    for number in 1.. {
        let mem = MemBlobs::new();
        let clock = Arc::new(ManualClock::default());
        let faulty = FaultyBlobs::new(Arc::new(mem.clone()), clock, FaultPlan::default());
        let (b, _) = open(Arc::new(faulty.clone()), 2, &None);
        let at = faulty.calls() + number;
        let fault = [Injected::Crash, Injected::ErrorAfter][(number % 2) as usize];
        faulty.set_plan(FaultPlan::at(at, fault));
        let at_b = attach_tried(&b, &shared);
        let done = at_b.and_then(|at_b| at_b.sync());
        let read = b.get(&key(7));
        let reached = faulty.calls() >= at;
        drop(b);
        let disk = mem.after_crash(|_| 0);
        let (b, _) = open(Arc::new(disk.clone()), 3, &None);
        let report = b.verify().unwrap();
        assert!(
            report.problems.is_empty(),
            "{number}: {:?}",
            report.problems
        );
        attach(&b, shared.clone(), Some(Fetch::OnDemand))
            .sync()
            .unwrap();
        assert!(b.stats().away_cars > 0);
        for n in [7, 999, DOCS - 1] {
            assert_eq!(b.get(&key(n)).unwrap(), large(n));
        }
        drop(b);
        let (b, _) = open(Arc::new(disk.clone()), 4, &None);
        no_orphans(&disk, &b);
        let live = b.meta().cars;
        for tail in names(&disk, "away") {
            let id = tail.rsplit('/').next().unwrap().trim_end_matches(".tail");
            assert!(live.iter().any(|car| car.to_string() == id), "{tail}");
        }
        if !reached {
            assert!(done.is_ok() && read.is_ok());
            assert!(number > 15, "{number}");
            return;
        }
    }
}

fn attach_tried(ledger: &Ledger, shared: &MemBlobs) -> siltstone_ledger::Result<Attachment> {
    let remote = Remote::new("shared", Arc::new(shared.clone())).background(false);
    ledger.attach(remote.fetch(Fetch::OnDemand))
}
