//! Acceptance scenarios 23, 25, 27 (the memtable's life) and 28-38 (bounded resources). Scenario 24
//! is in `view_and_pins_model.rs`, 26 in `crash_walk.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, roomy_options, small_keyspace, threaded_options};
use siltstone_kv::{
    Background, Batch, CancelToken, CompactOptions, Durability, Error, History, KeyspaceOptions,
    Kv, Options, Read, ScanOptions,
};
use siltstone_storage::{CallKind, Env, FaultPlan, Injected, MemBlobs};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

fn threaded(options: Options) -> Kv {
    let env = Env::system(Arc::new(MemBlobs::new()));
    Kv::open(env, options, small_keyspace(), None).unwrap()
}

#[test]
fn s23_a_flushed_memtable_stays_for_an_open_scan_and_is_freed_when_it_closes() {
    let db = Db::new();
    for n in 0..100 {
        db.put(&format!("key{n:02}"), "v");
    }
    let in_memory = db.default().watch_memtable();
    let mut scan = db.default().scan::<&[u8]>(..).unwrap();
    assert!(scan.next());
    db.kv.flush().unwrap();
    assert!(in_memory(), "the scan reads it");
    let mut rows = 1;
    while scan.next() {
        rows += 1;
    }
    assert_eq!(rows, 100);
    assert!(!in_memory(), "the end of the scan closed it");
    let in_memory = db.default().watch_memtable();
    db.put("k", "v");
    let scan = db.default().scan::<&[u8]>(..).unwrap();
    db.kv.flush().unwrap();
    assert!(in_memory());
    drop(scan);
    assert!(!in_memory());
}

#[test]
fn s25_every_acknowledged_put_is_found_while_memtables_rotate_and_flush() {
    let kv = threaded(Options {
        settle_after: Duration::from_secs(60),
        ..threaded_options()
    });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let keyspace = kv.default_keyspace();
                scope.spawn(move || {
                    for n in 0..1_500 {
                        let key = format!("{writer}:{n:04}");
                        keyspace
                            .put_with(key.as_bytes(), &[b'v'; 20], Durability::Buffered)
                            .unwrap();
                    }
                })
            })
            .collect();
        let flusher = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                kv.flush().unwrap();
                thread::yield_now();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        flusher.join().unwrap();
    });
    let keys = common::keys(kv.default_keyspace().scan::<&[u8]>(..).unwrap());
    let expected: BTreeSet<_> = (0..3)
        .flat_map(|w| (0..1_500).map(move |n| format!("{w}:{n:04}")))
        .collect();
    assert_eq!(keys, expected.into_iter().collect::<Vec<_>>());
    assert_eq!(kv.head().0, 4_500);
    kv.close().unwrap();
}

#[test]
fn s27_when_many_concurrent_scans_have_closed_nothing_is_held() {
    let kv = threaded(threaded_options());
    let keyspace = kv.default_keyspace();
    for n in 0..200 {
        keyspace
            .put_with(format!("key{n:03}").as_bytes(), b"v", Durability::Buffered)
            .unwrap();
    }
    let in_memory = keyspace.watch_memtable();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(
                        kv.default_keyspace()
                            .scan::<&[u8]>(..)
                            .unwrap()
                            .into_iter()
                            .count(),
                        200
                    );
                }
            });
        }
        scope.spawn(|| kv.flush().unwrap());
    });
    kv.flush().unwrap();
    assert_eq!((kv.stats().open_scans, kv.stats().open_snapshots), (0, 0));
    assert!(!in_memory());
    kv.close().unwrap();
}

#[test]
fn s28_with_ten_times_more_tables_than_fit_the_cache_stays_under_its_limit() {
    let options = Options {
        memory_budget: 8 << 20,
        memtable_bytes: 2 << 20,
        ..roomy_options()
    };
    let keyspace = KeyspaceOptions {
        compression: siltstone_kv::Compression::None,
        ..KeyspaceOptions::default()
    };
    let db = Db::with(options, keyspace);
    let value = vec![b'v'; 8_000];
    let mut rng = fastrand::Rng::with_seed(28);
    for table in 0..40 {
        for n in 0..200 {
            let key = format!("{table:02}:{n:03}");
            db.default()
                .put_with(key.as_bytes(), &value, Durability::Buffered)
                .unwrap();
        }
        db.kv.flush().unwrap();
    }
    let size: u64 = db
        .kv
        .manifest()
        .state
        .tables
        .live()
        .iter()
        .map(|s| s.meta.bytes)
        .sum();
    assert!(size > 60 << 20, "{size}");
    for _ in 0..4_000 {
        let key = format!("{:02}:{:03}", rng.u32(0..40), rng.u32(0..200));
        assert_eq!(db.default().get(key.as_bytes()).unwrap().unwrap(), value);
        let stats = db.kv.stats();
        assert!(stats.cache_bytes <= stats.cache_capacity, "{stats:?}");
        assert!(stats.cache_capacity + stats.pinned_bytes <= 8 << 20);
    }
    assert!(db.kv.stats().cache_misses > 1_000);
}

#[test]
fn s29_nothing_of_a_deleted_table_stays_in_the_cache() {
    let db = Db::history(History::head_only());
    let first = db.table(&[("a", "1"), ("b", "1")]);
    let second = db.table(&[("a", "2"), ("c", "2")]);
    assert_eq!(db.rows().len(), 3);
    assert_eq!(db.kv.cached_tables(), BTreeSet::from([first, second]));
    let output = db.compact_all().outputs[0];
    assert_eq!(db.rows().len(), 3);
    db.kv.work().unwrap();
    assert_eq!(db.kv.cached_tables(), BTreeSet::from([output]));
    assert_eq!(db.files(), BTreeSet::from([output.blob()]));
}

#[test]
fn s30_a_burst_beyond_the_memtable_limit_flushes_and_slows_and_none_fails() {
    let limit = 256 << 10;
    let kv = threaded(Options {
        memtable_bytes: limit,
        wal_bytes: 1 << 20,
        ..threaded_options()
    });
    let most = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (keyspace, kv, most) = (kv.default_keyspace(), &kv, &most);
            scope.spawn(move || {
                for n in 0..2_500 {
                    let key = format!("{writer}:{n:05}");
                    keyspace
                        .put_with(key.as_bytes(), &[7; 500], Durability::Buffered)
                        .unwrap();
                    if n % 50 == 0 {
                        let stats = kv.stats();
                        most.fetch_max(stats.keyspaces[0].memtable_bytes, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let stats = kv.stats();
    assert!(stats.totals.flushes >= 10, "{:?}", stats.totals);
    // Three limits, and what came in between two looks.
    let most = most.load(Ordering::Relaxed);
    assert!(most <= (limit * 4) as u64, "{most} bytes in memtables");
    assert_eq!(kv.head().0, 10_000);
    assert_eq!(
        kv.default_keyspace()
            .scan::<&[u8]>(..)
            .unwrap()
            .into_iter()
            .count(),
        10_000
    );
    kv.close().unwrap();
}

#[test]
fn s30_memtables_of_many_keyspaces_never_stop_writers_for_good() {
    for background in [Background::Manual, Background::Threads] {
        let env = Env::system(Arc::new(MemBlobs::new()));
        let options = Options {
            background,
            memtable_bytes: 64 << 10,
            ..roomy_options()
        };
        let kv = Kv::open(env, options, KeyspaceOptions::default(), None).unwrap();
        let keyspaces: Vec<_> = (0..8)
            .map(|n| {
                kv.create_keyspace(&format!("k{n}"), KeyspaceOptions::default())
                    .unwrap()
            })
            .collect();
        // No memtable is ever full, all together are.
        for round in 0..50u32 {
            for keyspace in &keyspaces {
                let key = round.to_be_bytes();
                keyspace
                    .put_with(&key, &[1; 1_000], Durability::Buffered)
                    .unwrap();
            }
        }
        // One record larger than all memtables may be.
        keyspaces[0]
            .put_with(b"huge", &vec![2; 300 << 10], Durability::Buffered)
            .unwrap();
        for n in 0..200u32 {
            keyspaces[1]
                .put_with(&n.to_le_bytes(), &[3; 1_000], Durability::Buffered)
                .unwrap();
        }
        assert!(kv.stats().totals.flushes > 0);
        assert_eq!(keyspaces[0].get(b"huge").unwrap().unwrap().len(), 300 << 10);
        kv.close().unwrap();
    }
}

#[test]
fn s31_a_full_memtable_is_exceeded_by_no_record() {
    let options = Options {
        memtable_bytes: 64 << 10,
        ..roomy_options()
    };
    let kv = threaded(options);
    thread::scope(|scope| {
        for writer in 0..2u8 {
            let (keyspace, kv) = (kv.default_keyspace(), &kv);
            scope.spawn(move || {
                for n in 0..400u32 {
                    let key = [&[writer][..], &n.to_be_bytes()].concat();
                    keyspace
                        .put_with(&key, &[9; 1_000], Durability::Buffered)
                        .unwrap();
                    let stats = &kv.stats().keyspaces[0];
                    let tables = stats.sealed_memtables + 1;
                    let record = 1_000 + 200;
                    assert!(
                        stats.memtable_bytes <= tables * (64 << 10) + 2 * record,
                        "{stats:?}"
                    );
                }
            });
        }
    });
    assert!(kv.stats().totals.flushes > 5);
    kv.close().unwrap();
}

#[test]
fn s32_after_a_reopen_unflushed_data_counts() {
    let db = Db::new();
    for n in 0..50 {
        db.put(&format!("key{n}"), &"v".repeat(1_000));
    }
    let before = db.kv.stats().keyspaces[0].memtable_bytes;
    let db = db.power_cut();
    let after = &db.kv.stats().keyspaces[0];
    assert_eq!(after.memtable_entries, 50);
    assert!(
        after.memtable_bytes >= before,
        "{} < {before}",
        after.memtable_bytes
    );
    db.kv.work().unwrap();
    assert_eq!(
        db.kv.stats().keyspaces[0].memtable_bytes,
        Db::new().kv.stats().keyspaces[0].memtable_bytes
    );
}

fn db_of_tables(options: Options) -> Db {
    let db = Db::with(options, KeyspaceOptions::default());
    for n in 0..3 {
        db.table(&[("a", &format!("{n}")), ("m", ""), ("z", "")]);
    }
    db
}

#[test]
fn s33_s37_a_scan_that_fails_at_any_source_lets_go_of_everything() {
    for after in 1.. {
        let db = db_of_tables(Options {
            max_scans: 1,
            ..roomy_options()
        });
        db.store.set_plan(FaultPlan::at(
            db.store.calls() + after,
            Injected::ErrorBefore,
        ));
        let mut scan = db.default().scan::<&[u8]>(..).unwrap();
        let before = db.store.calls();
        while scan.next() {}
        let met = db.store.calls() >= before + after && scan.error().is_some();
        db.store.set_plan(FaultPlan::default());
        assert_eq!(db.kv.stats().open_scans, 0, "call {after}");
        // With one permit, the next scan would wait for ever had the first kept it.
        assert_eq!(db.rows().len(), 3);
        drop(scan);
        db.compact_all();
        db.kv.work().unwrap();
        assert_eq!(db.files().len(), 1, "no view is held");
        if !met {
            assert!(after > 3);
            break;
        }
    }
}

#[test]
fn s34_s35_close_twice_next_after_close_and_next_after_an_error_are_harmless() {
    let db = db_of_tables(roomy_options());
    let mut scan = db.default().scan::<&[u8]>(..).unwrap();
    assert!(scan.next());
    scan.close();
    scan.close();
    assert!(!scan.next() && scan.key().is_empty() && scan.value().is_empty());
    assert!(scan.error().is_none());
    // Two sources are damaged; the first error is reported, and sticks.
    let names: Vec<_> = db.live().iter().map(|id| id.blob()).collect();
    for name in &names[..2] {
        db.mem.truncate(name, 10);
    }
    let db = Db::on(db.mem.clone(), roomy_options(), KeyspaceOptions::default());
    let mut scan = db.default().scan::<&[u8]>(..).unwrap();
    assert!(!scan.next());
    let first = scan.error().unwrap().to_string();
    assert!(names.iter().any(|name| first.contains(name)), "{first}");
    for _ in 0..2 {
        assert!(!scan.next() && scan.key().is_empty() && scan.value().is_empty());
        assert_eq!(scan.error().unwrap().to_string(), first);
        scan.close();
    }
    assert_eq!(db.kv.permits_in_use(), (0, 0));
    db.kv.close().unwrap();
    db.kv.close().unwrap();
    assert!(matches!(db.default_after_close(), Err(Error::Closed)));
}

trait AfterClose {
    fn default_after_close(&self) -> siltstone_kv::Result<()>;
}

impl AfterClose for Db {
    fn default_after_close(&self) -> siltstone_kv::Result<()> {
        self.kv.keyspace("default").map(|_| ())
    }
}

#[test]
fn s36_one_scan_too_many_waits_can_be_cancelled_and_starts_when_one_closes() {
    let db = db_of_tables(Options {
        max_scans: 100,
        ..roomy_options()
    });
    let mut open: Vec<_> = (0..100)
        .map(|_| db.default().scan::<&[u8]>(..).unwrap())
        .collect();
    assert_eq!(db.kv.stats().open_scans, 100);
    let waiting = |options: ScanOptions| db.default().scan_with::<&[u8]>(.., options);
    let in_time = ScanOptions {
        deadline: Some(Duration::from_millis(5)),
        ..ScanOptions::default()
    };
    assert!(matches!(waiting(in_time), Err(Error::Cancelled { .. })));
    let token = CancelToken::new();
    let (told, heard) = channel();
    thread::scope(|scope| {
        let options = ScanOptions {
            cancel: Some(token.clone()),
            ..ScanOptions::default()
        };
        let keyspace = db.default();
        scope.spawn(move || {
            told.send(keyspace.scan_with::<&[u8]>(.., options).map(|_| ()))
                .unwrap()
        });
        token.cancel();
        assert!(matches!(
            heard.recv().unwrap(),
            Err(Error::Cancelled { .. })
        ));
        let keyspace = db.default();
        let late = scope.spawn(move || keyspace.scan::<&[u8]>(..).unwrap().into_iter().count());
        open.pop();
        assert_eq!(late.join().unwrap(), 3);
    });
    drop(open);
    assert_eq!(db.kv.stats().open_scans, 0);
}

#[test]
fn s37_permits_return_on_every_error_path_of_flush_and_compaction() {
    let mut failed_at = BTreeSet::new();
    for after in 1.. {
        let db = db_of_tables(roomy_options());
        db.put("new", "");
        let at = db.store.calls() + after;
        db.store.set_plan(FaultPlan::at(at, Injected::ErrorBefore));
        let flushed = db.kv.flush().map(|_| ());
        let compacted = db.default().compact(&CompactOptions::default());
        assert_eq!(db.kv.permits_in_use(), (0, 0), "call {after}");
        let Some(met) = db.store.trace().get(at as usize - 1).cloned() else {
            break;
        };
        if flushed.is_err() || compacted.is_err() {
            failed_at.insert(met.kind);
        }
    }
    for kind in [
        CallKind::Append,
        CallKind::Create,
        CallKind::Finish,
        CallKind::Read,
    ] {
        assert!(
            failed_at.contains(&kind),
            "{kind:?} is not in {failed_at:?}"
        );
    }
}

#[test]
#[ignore = "an hour; run with --ignored --release under `ulimit -v 1048576`, or HOUR_SECONDS=60"]
fn s38_an_hour_of_load_stays_within_a_gigabyte() {
    let seconds = std::env::var("HOUR_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(3_600);
    load_for(seconds);
}

#[test]
fn s38_short_form_memory_of_the_engine_stays_within_its_budget() {
    load_for(2);
}

fn load_for(seconds: u64) {
    let budget = 16 << 20;
    let options = Options {
        memory_budget: budget,
        memtable_bytes: 1 << 20,
        ..threaded_options()
    };
    let folder = tempfile::tempdir().unwrap();
    let env = Env::system(Arc::new(
        siltstone_storage::LocalBlobs::create(folder.path()).unwrap(),
    ));
    let clock = env.clock.clone();
    let kv = Kv::open(env, options, small_keyspace(), None).unwrap();
    let end = clock.elapsed() + Duration::from_secs(seconds);
    thread::scope(|scope| {
        for writer in 0..2u64 {
            let (kv, clock) = (&kv, clock.clone());
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(writer);
                let keyspace = kv.default_keyspace();
                while clock.elapsed() < end {
                    let mut batch = Batch::new();
                    for _ in 0..50 {
                        let key = rng.u64(0..200_000).to_be_bytes();
                        batch.put(&keyspace, &key, &vec![1; rng.usize(0..400)]);
                    }
                    kv.write(&batch, Durability::Buffered).unwrap();
                    let mut scan = keyspace.scan(rng.u64(0..200_000).to_be_bytes()..).unwrap();
                    for _ in 0..50 {
                        scan.next();
                    }
                    let stats = kv.stats();
                    let memtables: u64 = stats.keyspaces.iter().map(|k| k.memtable_bytes).sum();
                    let used = memtables + stats.cache_bytes + stats.pinned_bytes;
                    assert!(used <= budget as u64 * 3 / 2, "{stats:?}");
                }
            });
        }
    });
    assert!(kv.stats().totals.flushes > 1);
    kv.close().unwrap();
}
