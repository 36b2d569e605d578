//! The engine on a bucket that speaks S3, over real connections: what was acknowledged is there, in
//! order and once, whatever the network and other writers do meanwhile.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Bucket;
use siltstone_kv::{
    Commit, Durability, Error, Keyspace, KeyspaceOptions, Kv, Options, Read, Reader, history,
};
use siltstone_s3_test_server::{Fault, Rule};
use siltstone_storage::{Env, Error as StorageError, FaultPlan, FaultyBlobs, SystemClock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// With clients and connections of its own.
fn env(bucket: &Bucket) -> Env {
    Env::system(Arc::new(bucket.store("db")))
}

fn try_open(env: Env) -> Result<Kv, Error> {
    let options = Options {
        memtable_bytes: 64 * 1024,
        ..Options::default()
    };
    Kv::open(env, options, KeyspaceOptions::default(), None)
}

fn open(bucket: &Bucket) -> Kv {
    try_open(env(bucket)).unwrap()
}

fn key(writer: u64, n: u64) -> Vec<u8> {
    format!("writer {writer:02}, write {n:04}").into_bytes()
}

fn is_fence(error: &Error) -> bool {
    match error {
        Error::Storage(StorageError::Fenced { .. }) => true,
        Error::Stopped { cause } => is_fence(cause),
        _ => false,
    }
}

/// Every acknowledged write has exactly one version, that of its commit, and no commit was given
/// twice.
fn assert_all_there(keyspace: &Keyspace, acknowledged: &BTreeMap<Vec<u8>, Commit>) {
    for (key, commit) in acknowledged {
        let versions = history(keyspace, key).unwrap();
        let commits: Vec<_> = versions.iter().map(|version| version.commit).collect();
        assert_eq!(commits, [*commit], "{}", String::from_utf8_lossy(key));
        assert_eq!(keyspace.get(key).unwrap().as_deref(), Some(&key[..]));
    }
    let commits: BTreeSet<_> = acknowledged.values().collect();
    assert_eq!(commits.len(), acknowledged.len());
}

#[test]
fn sixty_four_durable_writers_find_all_that_was_acknowledged_after_reopening() {
    const WRITERS: u64 = 64;
    const EACH: u64 = 10;
    let bucket = Bucket::new();
    let kv = open(&bucket);
    let acknowledged = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (keyspace, acknowledged) = (kv.default_keyspace(), &acknowledged);
            scope.spawn(move || {
                for n in 0..EACH {
                    let key = key(writer, n);
                    let commit = keyspace.put(&key, &key).unwrap().commit;
                    acknowledged.lock().unwrap().insert(key, commit);
                }
            });
        }
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    // The first handle is still open, as if its process hung: nothing is flushed for the second.
    let again = open(&bucket);
    assert_eq!(again.head(), Commit(WRITERS * EACH));
    assert_all_there(&again.default_keyspace(), &acknowledged);
    again.close().unwrap();
    drop(kv);
    assert_all_there(&open(&bucket).default_keyspace(), &acknowledged);
}

#[test]
fn a_second_writer_stops_the_first_and_keeps_all_it_acknowledged() {
    let bucket = Bucket::new();
    let first = open(&bucket);
    let acknowledged = Mutex::new(BTreeMap::new());
    let written = AtomicU64::new(0);
    let second = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (keyspace, acknowledged) = (first.default_keyspace(), &acknowledged);
                let written = &written;
                scope.spawn(move || {
                    for n in 0.. {
                        let key = key(writer, n);
                        match keyspace.put(&key, &key) {
                            Ok(stats) => {
                                acknowledged.lock().unwrap().insert(key, stats.commit);
                                written.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => return error,
                        }
                    }
                    unreachable!("it writes until it is stopped");
                })
            })
            .collect();
        while written.load(Ordering::Relaxed) < 30 {
            std::thread::yield_now();
        }
        let mut attempts = 0;
        let second = loop {
            attempts += 1;
            match try_open(env(&bucket)) {
                Ok(second) => break second,
                // The first one has just written where the fence was to stand.
                Err(Error::Storage(StorageError::Io { operation, .. }))
                    if operation == "take over the log" && attempts < 1000 => {}
                Err(other) => panic!("{other}"),
            }
        };
        for writer in writers {
            let error = writer.join().unwrap();
            assert!(is_fence(&error), "{error}");
        }
        second
    });
    let refused = first.default_keyspace().put(b"late", b"late").unwrap_err();
    assert!(is_fence(&refused), "{refused}");
    let acknowledged = acknowledged.into_inner().unwrap();
    let keyspace = second.default_keyspace();
    assert_all_there(&keyspace, &acknowledged);
    assert_eq!(keyspace.get(b"late").unwrap(), None);
    keyspace.put(b"next", b"next").unwrap();
    drop(first);
    second.close().unwrap();
    let third = open(&bucket);
    assert_all_there(&third.default_keyspace(), &acknowledged);
    assert!(third.default_keyspace().get(b"next").unwrap().is_some());
    assert!(third.verify(|_, _| {}).unwrap().problems.is_empty());
}

#[test]
fn a_following_reader_sees_every_commit_in_order() {
    const COMMITS: u64 = 120;
    let bucket = Bucket::new();
    let kv = open(&bucket);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let reader = Reader::open(env(&bucket), Options::default()).unwrap();
            let keyspace = reader.default_keyspace();
            let (mut seen, mut last_round) = (0, false);
            loop {
                let head = reader.refresh().unwrap().0;
                assert!(head >= seen, "from {seen} back to {head}");
                seen = head;
                let rows: Vec<_> = keyspace.scan::<&[u8]>(..).unwrap().into_iter().collect();
                assert_eq!(rows.len() as u64, seen, "commit n writes key n");
                for (n, row) in (1..).zip(rows) {
                    assert_eq!(row.unwrap().0, key(0, n));
                }
                if last_round {
                    return seen;
                }
                last_round = done.load(Ordering::SeqCst);
            }
        });
        for n in 1..=COMMITS {
            kv.default_keyspace().put(&key(0, n), b"value").unwrap();
            if n % 40 == 0 {
                kv.flush().unwrap();
            }
        }
        done.store(true, Ordering::SeqCst);
        assert_eq!(follower.join().unwrap(), COMMITS);
    });
}

#[test]
fn writes_through_refusals_resets_delays_and_lost_answers_are_there_once() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 40;
    let bucket = Bucket::new();
    let mut acknowledged = BTreeMap::new();
    let faults = bucket.server.faults();
    let each = [
        Fault::Unavailable,
        Fault::Reset,
        Fault::ErrorAfterCommit,
        Fault::ResetAfterCommit,
        Fault::Delay(Duration::from_millis(5)),
    ];
    for (reopened, fault) in (0..).zip(each) {
        let kv = open(&bucket);
        let before = kv.head().0;
        faults.inject(Rule::always(fault).percent(15));
        let round = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (keyspace, round) = (kv.default_keyspace(), &round);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let key = key(writer, reopened * 1000 + n);
                        // What is not acknowledged may or may not be there.
                        if let Ok(stats) = keyspace.put(&key, &key) {
                            round.lock().unwrap().insert(key, stats.commit);
                        }
                        if writer == 0 && n == EACH / 2 {
                            let _ = keyspace.database().flush();
                        }
                    }
                });
            }
        });
        faults.clear();
        drop(kv);
        let kv = open(&bucket);
        let round = round.into_inner().unwrap();
        let commits = kv.head().0 - before;
        assert!(commits >= round.len() as u64 && commits <= WRITERS * EACH);
        acknowledged.extend(round);
        let keyspace = kv.default_keyspace();
        assert_all_there(&keyspace, &acknowledged);
        let rows = keyspace.scan::<&[u8]>(..).unwrap().into_iter();
        assert_eq!(rows.count() as u64, kv.head().0, "one row a commit");
        assert!(kv.verify(|_, _| {}).unwrap().problems.is_empty());
        kv.close().unwrap();
    }
    assert!(faults.met() > 60, "{}", faults.met());
    assert!(acknowledged.len() as u64 > WRITERS * EACH);
}

#[test]
fn a_writer_that_died_leaves_every_durable_write() {
    let bucket = Bucket::new();
    let mut acknowledged = BTreeMap::new();
    for life in 0..4 {
        let clock = Arc::new(SystemClock::default());
        let store = FaultyBlobs::new(Arc::new(bucket.store("db")), clock, FaultPlan::default());
        let kv = try_open(Env::system(Arc::new(store.clone()))).unwrap();
        let keyspace = kv.default_keyspace();
        assert_all_there(&keyspace, &acknowledged);
        for n in 0..20 {
            let key = key(life, n);
            let commit = keyspace.put(&key, &key).unwrap().commit;
            acknowledged.insert(key, commit);
            if n == 10 && life % 2 == 0 {
                kv.flush().unwrap();
            }
        }
        let lost = keyspace.put_with(b"buffered", b"value", Durability::Buffered);
        assert!(lost.is_ok());
        // No close, no flush, no sync: from here on the process reaches the bucket no more.
        store.crash();
        drop(keyspace);
        drop(kv);
    }
    let kv = open(&bucket);
    assert_all_there(&kv.default_keyspace(), &acknowledged);
    assert_eq!(kv.default_keyspace().get(b"buffered").unwrap(), None);
    assert_eq!(kv.head(), Commit(80));
}
