//! How many requests a cold read of a bucket takes, and how long: each is some twenty milliseconds
//! away, so they are counted exactly.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Bucket;
use siltstone_kv::{
    Background, Batch, CompactOptions, Compression, Durability, KeyspaceOptions, Kv, Options, Read,
    Reader, ScanOptions,
};
use siltstone_s3_test_server::{Fault, Rule};
use siltstone_storage::{Blobs, Clock, Env, SystemClock};
use std::sync::Arc;
use std::time::Duration;

fn open(bucket: &Bucket) -> Kv {
    // Nobody makes requests but the test.
    open_with(bucket, Background::Manual)
}

fn open_with(bucket: &Bucket, background: Background) -> Kv {
    let keyspace = KeyspaceOptions {
        // What is stored is as large as what was written.
        compression: Compression::None,
        ..KeyspaceOptions::default()
    };
    let options = Options {
        background,
        ..Options::default()
    };
    let env = Env::system(Arc::new(bucket.store("db")));
    Kv::open(env, options, keyspace, None).unwrap()
}

fn key(n: u32) -> Vec<u8> {
    format!("key {n:08}").into_bytes()
}

/// Writes `rows` rows of 100 bytes from `from` on as one table.
fn table(kv: &Kv, from: u32, rows: u32) {
    let mut batch = Batch::new();
    for n in from..from + rows {
        batch.put(&kv.default_keyspace(), &key(n), &[n as u8; 100]);
    }
    kv.write(&batch, Durability::Durable).unwrap();
    kv.flush().unwrap();
}

/// A bucket with tables of `rows` rows each, about 120 bytes a row, and a handle that has read
/// nothing.
fn cold(tables: u32, rows: u32) -> (Bucket, Kv) {
    let bucket = Bucket::new();
    let kv = open(&bucket);
    for n in 0..tables {
        table(&kv, n * rows, rows);
    }
    kv.close().unwrap();
    let kv = open(&bucket);
    (bucket, kv)
}

/// The requests that `work` makes.
fn requests<T>(bucket: &Bucket, work: impl FnOnce() -> T) -> (u64, T) {
    let before = bucket.server.faults().requests();
    let done = work();
    (bucket.server.faults().requests() - before, done)
}

#[test]
fn a_cold_get_takes_two_requests_and_one_once_index_and_filter_are_there() {
    let (bucket, kv) = cold(1, 50_000);
    let keyspace = kv.default_keyspace();
    let (made, answer) = requests(&bucket, || keyspace.try_get(&key(777)));
    assert_eq!(made, 0, "a call that must not wait makes none");
    assert!(answer.unwrap_err().is_would_block());
    let get = |n| requests(&bucket, || keyspace.get(&key(n)).unwrap().is_some());
    assert_eq!(get(777), (2, true), "index and filter, then the block");
    assert_eq!(get(40_000), (1, true), "the block");
    assert_eq!(get(40_000), (0, true), "it is cached");
    assert_eq!(get(60_000), (0, false), "outside the table");
    let absent = requests(&bucket, || keyspace.get(b"key 00000777x").unwrap());
    assert_eq!(absent, (0, None), "the filter knows");
}

#[test]
fn a_cold_scan_takes_few_requests_that_grow() {
    let (bucket, kv) = cold(1, 50_000);
    let keyspace = kv.default_keyspace();
    let scan = |rows: usize, options| {
        let scan = keyspace.scan_with::<&[u8]>(.., options).unwrap();
        scan.into_iter().take(rows).map(Result::unwrap).count()
    };
    let first = requests(&bucket, || scan(10, ScanOptions::default()));
    assert_eq!(first, (2, 10), "index and filter, then a window of 64 KiB");
    // About 5 MB, of which one block is cached: windows of
    // 64 KiB, 256 KiB, 1 MiB and 4 MiB.
    let whole = requests(&bucket, || scan(50_000, ScanOptions::default()));
    assert_eq!(whole, (4, 50_000));
    let again = requests(&bucket, || scan(50_000, ScanOptions::default()));
    assert_eq!(again, (0, 50_000), "all of it is cached");
    let (bucket, kv) = cold(1, 50_000);
    let keyspace = kv.default_keyspace();
    let (count, rows) = requests(&bucket, || {
        let scan = keyspace.scan_with::<&[u8]>(.., ScanOptions::reverse());
        scan.unwrap().into_iter().map(Result::unwrap).count()
    });
    assert_eq!((count, rows), (5, 50_000), "index and filter, four windows");
}

#[test]
fn a_compaction_reads_windows_and_not_blocks() {
    let (bucket, kv) = cold(3, 5000);
    let (count, _) = requests(&bucket, || {
        kv.default_keyspace()
            .compact(&CompactOptions::default())
            .map_err(|failed| failed.error)
            .unwrap()
    });
    // 1.8 MB are some 230 blocks.
    assert!(count < 40, "{count} requests");
}

/// Reads every row of a cold database whose requests are answered after `away`.
fn scan_from_afar(tables: u32, rows: u32, away: Duration) -> (u64, Duration) {
    let (bucket, kv) = cold(tables, rows);
    let delay = Rule::always(Fault::Delay(away));
    bucket.server.faults().inject(delay);
    let clock = SystemClock::default();
    let started = clock.elapsed();
    let (count, read) = requests(&bucket, || {
        let scan = kv.default_keyspace().scan::<&[u8]>(..).unwrap();
        scan.into_iter().map(Result::unwrap).count()
    });
    let took = clock.elapsed() - started;
    bucket.server.faults().clear();
    println!("{tables} tables, requests {away:?} away: {count} requests, {took:?}");
    assert_eq!(read as u32, tables * rows);
    (count, took)
}

#[test]
fn a_cold_scan_of_a_thousand_keys_takes_the_time_of_two_requests() {
    // The figures in `docs/operations.md`.
    assert_eq!(scan_from_afar(1, 1000, Duration::from_millis(20)).0, 2);
    assert_eq!(scan_from_afar(4, 250, Duration::from_millis(20)).0, 8);
    // So far away that nothing else counts: the requests of several tables overlap.
    let away = Duration::from_millis(300);
    let (count, took) = scan_from_afar(4, 250, away);
    assert_eq!(count, 8, "index and filter, and a window, of each");
    assert!(took < away * 4, "{took:?}");
}

#[test]
fn opening_takes_the_time_of_three_requests_also_with_a_log_to_read() {
    let bucket = Bucket::new();
    let kv = open(&bucket);
    for n in 0..10 {
        kv.default_keyspace().put(&key(n), b"v").unwrap();
    }
    // A writer that dies: its log stays, an object for each put.
    std::mem::forget(kv);
    let away = Duration::from_millis(500);
    let delay = Rule::always(Fault::Delay(away));
    bucket.server.faults().inject(delay);
    bucket.server.traffic().start_over();
    let kv = open_with(&bucket, Background::Threads);
    let tally = bucket.server.traffic().tally();
    bucket.server.faults().clear();
    assert_eq!(kv.open_stats().replayed_commits, 10);
    assert_eq!(tally.in_sequence, 3, "{tally:?}");
    assert!(kv.default_keyspace().get(&key(9)).unwrap().is_some());
    kv.default_keyspace().put(b"next", b"v").unwrap();
}

#[test]
fn a_reader_opens_in_five_requests_one_after_another_also_with_a_log_to_read() {
    let bucket = Bucket::new();
    let kv = open(&bucket);
    for n in 0..10 {
        kv.default_keyspace().put(&key(n), b"v").unwrap();
    }
    let delay = Rule::always(Fault::Delay(Duration::from_millis(500)));
    bucket.server.faults().inject(delay);
    bucket.server.traffic().start_over();
    let env = Env::system(Arc::new(bucket.store("db")));
    let reader = Reader::open(env, Options::default()).unwrap();
    let tally = bucket.server.traffic().tally();
    bucket.server.faults().clear();
    assert_eq!(reader.head().0, 10);
    // Listing, manifest, pin, a look at both, the log.
    assert_eq!(tally.in_sequence, 5, "{tally:?}");
}

/// The deletions of a flush behind 300 log objects.
fn deletions_of_a_flush(bucket: &Bucket) -> u64 {
    let kv = open(bucket);
    for n in 0..300 {
        kv.default_keyspace().put(&key(n), b"v").unwrap();
    }
    bucket.server.traffic().start_over();
    kv.flush().unwrap();
    let left = bucket.store("db").list("wal/").unwrap();
    assert!(left.len() < 3, "{left:?}");
    bucket.server.traffic().tally().deletes
}

#[test]
fn the_log_of_a_flush_is_deleted_by_one_request() {
    assert_eq!(deletions_of_a_flush(&Bucket::new()), 1);
}

#[test]
fn a_store_that_deletes_one_by_one_only_is_asked_once_for_more() {
    let bucket = Bucket::new();
    bucket.server.faults().refuse_bulk_deletions(true);
    assert_eq!(deletions_of_a_flush(&bucket), 301);
    let store = bucket.store("db");
    let names: Vec<String> = (0..40).map(|n| format!("more/{n}")).collect();
    for round in 0..2 {
        for name in &names {
            store.put(name, b"x").unwrap();
        }
        let (made, done) = requests(&bucket, || store.delete_all(&names));
        done.unwrap();
        assert_eq!(made, if round == 0 { 41 } else { 40 });
        assert!(store.list("more/").unwrap().is_empty());
    }
}

#[test]
fn a_lone_durable_put_is_one_request_and_an_idle_database_makes_none() {
    let bucket = Bucket::new();
    let kv = open_with(&bucket, Background::Threads);
    let keyspace = kv.default_keyspace();
    keyspace.put(b"first", b"v").unwrap();
    // What opening left to a thread is over when nothing comes any more.
    let clock = SystemClock::default();
    let quiet = |since: u64| {
        clock.sleep(Duration::from_millis(300));
        bucket.server.faults().requests() == since
    };
    while !quiet(bucket.server.faults().requests()) {}
    let (count, ()) = requests(&bucket, || keyspace.put(b"lone", b"v").map(drop).unwrap());
    assert_eq!(count, 1);
    let (count, ()) = requests(&bucket, || clock.sleep(Duration::from_secs(2)));
    assert_eq!(count, 0);
}

/// Puts into the bucket while eight threads write durably for 400 ms or more, and how long that took.
fn log_objects(log_interval: Duration) -> (u64, Duration) {
    let bucket = Bucket::new();
    let options = Options {
        log_interval,
        ..Options::default()
    };
    let env = Env::system(Arc::new(bucket.store("db")));
    let kv = Kv::open(env, options, KeyspaceOptions::default(), None).unwrap();
    let keyspace = kv.default_keyspace();
    keyspace.put(b"first", b"v").unwrap();
    let clock = SystemClock::default();
    bucket.server.traffic().start_over();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (keyspace, clock) = (&keyspace, &clock);
            scope.spawn(move || {
                for n in 0.. {
                    keyspace.put(&key(writer << 20 | n), b"v").unwrap();
                    if clock.elapsed() > Duration::from_millis(400) {
                        break;
                    }
                }
            });
        }
    });
    (bucket.server.traffic().tally().puts, clock.elapsed())
}

#[test]
fn an_interval_bounds_the_objects_of_the_log_however_many_commit() {
    let interval = Duration::from_millis(100);
    let (puts, took) = log_objects(interval);
    // One for the first, and one that opening may have left to a thread.
    let most = took.as_millis() as u64 / 100 + 2;
    assert!(puts <= most, "{puts} in {took:?}");
    let (without, took) = log_objects(Duration::ZERO);
    assert!(without > 3 * most, "{without} in {took:?}");
}
