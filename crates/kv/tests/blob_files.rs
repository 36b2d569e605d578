//! Values apart from keys: they are read alike, moved by no compaction, freed when they are garbage,
//! and checked.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, files, roomy_options, rows, simulated};
use siltstone_kv::{Commit, History, KeyspaceOptions, Kv, Options, Read, ScanOptions};
use siltstone_storage::{Blobs, FaultPlan, MemBlobs};
use std::time::Duration;

fn apart(history: History) -> KeyspaceOptions {
    KeyspaceOptions {
        history,
        blob_threshold: Some(100),
        compression: siltstone_kv::Compression::None,
        ..KeyspaceOptions::default()
    }
}

fn db() -> Db {
    Db::with(roomy_options(), apart(History::head_only()))
}

fn large(n: u32) -> String {
    format!("{n:05} ").repeat(100)
}

fn fill(db: &Db, keys: std::ops::Range<u32>, version: u32) {
    for n in keys {
        db.put(&format!("key{n:05}"), &large(n * 10 + version));
    }
}

fn blob_files(db: &Db) -> Vec<String> {
    files(&db.mem, "blob/").into_iter().collect()
}

#[test]
fn large_values_stand_apart_and_read_as_any_other() {
    let db = db();
    fill(&db, 0..50, 0);
    db.put("small", "beside its key");
    db.default()
        .put_ttl(b"passing", large(7).as_bytes(), Duration::from_secs(60))
        .unwrap();
    db.kv.flush().unwrap();
    assert_eq!(blob_files(&db).len(), 1);
    let check = |db: &Db| {
        for n in 0..50 {
            assert_eq!(db.get(&format!("key{n:05}")), Some(large(n * 10)));
        }
        assert_eq!(db.get("small").as_deref(), Some("beside its key"));
        assert_eq!(db.get("passing"), Some(large(7)));
        let forward = db.rows();
        assert_eq!(forward.len(), 52);
        let scan = db.default().scan_with::<&[u8]>(.., ScanOptions::reverse());
        let mut backward = rows(scan.unwrap());
        backward.reverse();
        assert_eq!(forward, backward);
        assert_eq!(forward[20], ("key00020".to_string(), large(200)));
    };
    check(&db);
    let tables: u64 = db.kv.manifest().state.tables().map(|t| t.meta.bytes).sum();
    assert!(tables < 10_000, "{tables}: pointers, not values");
    let db = db.power_cut();
    check(&db);
    let report = db.kv.verify(|_, _| {}).unwrap();
    assert_eq!((report.blob_files, report.problems), (1, vec![]));
    // From another process.
    let (env, _, _) = simulated(&db.mem, 9);
    let reader = siltstone_kv::Reader::open(env, roomy_options()).unwrap();
    let keyspace = reader.default_keyspace();
    assert_eq!(
        keyspace.get(b"key00003").unwrap().unwrap(),
        large(30).as_bytes()
    );
    db.clock.advance(Duration::from_secs(61));
    assert_eq!(db.get("passing"), None);
}

#[test]
fn a_compaction_moves_pointers_and_not_values() {
    let db = db();
    for round in 0..4 {
        fill(&db, round * 20..round * 20 + 20, 0);
        db.kv.flush().unwrap();
    }
    let before = blob_files(&db);
    assert_eq!(before.len(), 4);
    let stats = db.compact_all();
    assert_eq!((stats.entries, stats.outputs.len()), (80, 1));
    assert!(stats.bytes_written < 10_000, "{}", stats.bytes_written);
    assert_eq!(blob_files(&db), before);
    assert_eq!(db.rows().len(), 80);
}

#[test]
fn garbage_is_cleared_out_and_its_files_go() {
    let db = db();
    fill(&db, 0..100, 0);
    db.kv.flush().unwrap();
    let first = blob_files(&db);
    let snapshot = db.default().snapshot().unwrap();
    // A quarter is overwritten: not worth copying the rest.
    fill(&db, 0..25, 1);
    db.kv.flush().unwrap();
    db.kv.settle().unwrap();
    db.compact_all();
    assert!(blob_files(&db).contains(&first[0]));
    fill(&db, 25..80, 1);
    db.kv.flush().unwrap();
    db.kv.settle().unwrap();
    assert!(
        blob_files(&db).contains(&first[0]),
        "the snapshot reads from it"
    );
    assert_eq!(
        snapshot.get(b"key00050").unwrap().unwrap(),
        large(500).as_bytes()
    );
    drop(snapshot);
    db.put("wake", "up");
    db.kv.flush().unwrap();
    for _ in 0..3 {
        db.compact_all();
        db.kv.settle().unwrap();
    }
    assert!(
        !blob_files(&db).contains(&first[0]),
        "{:?}",
        blob_files(&db)
    );
    for n in 0..100 {
        let version = u32::from(n < 80);
        assert_eq!(db.get(&format!("key{n:05}")), Some(large(n * 10 + version)));
    }
    let bytes: u64 = db
        .mem
        .list("blob/")
        .unwrap()
        .iter()
        .map(|blob| blob.size)
        .sum();
    assert!(bytes < 2 * 100 * 600, "{bytes}");
    for n in 0..100 {
        db.delete(&format!("key{n:05}"));
    }
    db.kv.flush().unwrap();
    db.compact_all();
    db.kv.settle().unwrap();
    assert_eq!(blob_files(&db), Vec::<String>::new());
    assert!(db.kv.verify(|_, _| {}).unwrap().problems.is_empty());
}

#[test]
fn a_threshold_that_changes_holds_for_what_is_written_from_then_on() {
    let db = db();
    fill(&db, 0..10, 0);
    db.kv.flush().unwrap();
    let options = KeyspaceOptions {
        blob_threshold: None,
        ..db.default().options()
    };
    db.kv.set_keyspace("default", options).unwrap();
    fill(&db, 5..20, 1);
    db.kv.flush().unwrap();
    assert_eq!(blob_files(&db).len(), 1);
    db.compact_all();
    fill(&db, 0..4, 1);
    db.kv.flush().unwrap();
    for _ in 0..2 {
        db.compact_all();
        db.kv.settle().unwrap();
    }
    assert_eq!(
        blob_files(&db).len(),
        0,
        "the last value has moved to its key"
    );
    for n in 0..20 {
        let version = u32::from(n != 4);
        assert_eq!(db.get(&format!("key{n:05}")), Some(large(n * 10 + version)));
    }
}

#[test]
fn a_missing_or_damaged_blob_file_is_a_typed_error_that_names_it() {
    let db = db();
    fill(&db, 0..3, 0);
    db.kv.flush().unwrap();
    let name = blob_files(&db)[0].clone();
    let mem = db.mem.clone();
    let bytes = mem.get(&name).unwrap();
    drop(db);
    let open = || {
        let (env, _, _) = simulated(&mem, 5);
        Kv::open(env, roomy_options(), KeyspaceOptions::default(), None).unwrap()
    };
    for at in (0..bytes.len()).step_by(7) {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1;
        mem.put(&name, &bad).unwrap();
        let kv = open();
        let problems = kv.verify(|_, _| {}).unwrap().problems;
        assert_eq!(problems.len(), 1, "flip at {at}: {problems:?}");
        assert!(problems[0].contains(&name));
        for n in 0..3 {
            let found = kv.default_keyspace().get(format!("key{n:05}").as_bytes());
            match found {
                Ok(value) => assert_eq!(value.unwrap(), large(n * 10).as_bytes()),
                Err(error) => assert!(error.to_string().contains(&name), "{error}"),
            }
        }
    }
    mem.delete(&name).unwrap();
    let kv = open();
    let error = kv.default_keyspace().get(b"key00001").unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
    let mut scan = kv.default_keyspace().scan::<&[u8]>(..).unwrap();
    assert!(!scan.next() && scan.error().is_some());
}

#[test]
fn a_crash_at_any_call_of_flush_and_clearing_out_loses_no_value() {
    for bucket in [false, true] {
        let mut at = 0;
        loop {
            let mem = match bucket {
                true => MemBlobs::bucket(),
                false => MemBlobs::new(),
            };
            let db = Db::on(mem, roomy_options(), apart(History::head_only()));
            fill(&db, 0..20, 0);
            db.kv.flush().unwrap();
            fill(&db, 0..15, 1);
            let first = db.store.calls() + 1;
            db.store.set_plan(FaultPlan::crash_at(first + at));
            let run = || -> siltstone_kv::Result<()> {
                db.kv.flush()?;
                for _ in 0..2 {
                    let compacted = db.default().compact(&Default::default());
                    compacted.map_err(|failed| failed.error)?;
                }
                db.kv.settle()
            };
            let result = run();
            let done = !db.store.is_crashed();
            let Db { mem, kv, store, .. } = db;
            store.crash();
            drop(kv);
            let after = mem.after_crash(|_| 0);
            let (env, _, _) = simulated(&after, 2);
            let kv = Kv::open(env, roomy_options(), KeyspaceOptions::default(), None).unwrap();
            for n in 0..20 {
                let version = u32::from(n < 15);
                let found = kv.default_keyspace().get(format!("key{n:05}").as_bytes());
                assert_eq!(found.unwrap().unwrap(), large(n * 10 + version).as_bytes());
            }
            assert_eq!(kv.head(), Commit(35));
            let manifest = kv.manifest();
            let listed = manifest.state.tables.live().iter().map(|s| s.id.blob());
            let retired = manifest.state.tables.retired().map(|id| id.blob());
            let listed: std::collections::BTreeSet<_> = listed.chain(retired).collect();
            let there = files(&after, "blob/");
            assert!(there.is_subset(&listed), "call {at}: {there:?} {listed:?}");
            assert!(kv.verify(|_, _| {}).unwrap().problems.is_empty());
            if done {
                result.unwrap();
                assert!(at > 10);
                break;
            }
            at += 1;
        }
    }
}

/// A memtable that has room for all that is written.
fn one_memtable() -> Options {
    Options {
        memory_budget: 64 << 20,
        memtable_bytes: 16 << 20,
        ..roomy_options()
    }
}

/// Values of blob files.
fn apart_now(db: &Db) -> u64 {
    let manifest = db.kv.manifest();
    let live = manifest.state.tables.live().iter();
    let files = live.filter(|segment| segment.meta.is_blob_file());
    files.map(|segment| segment.meta.entries).sum()
}

fn random(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

#[test]
fn by_default_a_folder_keeps_large_values_apart_where_they_are_many() {
    const LARGE: usize = 16 * 1024;
    let apart_of = |mem: MemBlobs, large: usize, keyspace: &KeyspaceOptions| {
        let db = Db::on(mem, one_memtable(), keyspace.clone());
        let mut rng = fastrand::Rng::with_seed(7);
        let sizes = [10, LARGE - 1].into_iter();
        let sizes = sizes.chain(std::iter::repeat_n(LARGE, large));
        let values: Vec<Vec<u8>> = sizes.map(|len| random(&mut rng, len)).collect();
        for (n, value) in values.iter().enumerate() {
            db.default().put(&n.to_be_bytes(), value).unwrap();
        }
        let check = |db: &Db| {
            for (n, value) in values.iter().enumerate() {
                let found = db.default().get(&n.to_be_bytes()).unwrap();
                assert_eq!(found.as_deref(), Some(&value[..]));
            }
            let report = db.kv.verify(|_, _| {}).unwrap();
            assert!(report.problems.is_empty(), "{:?}", report.problems);
        };
        db.kv.flush().unwrap();
        check(&db);
        let flushed = apart_now(&db);
        db.compact_all();
        check(&db);
        assert_eq!(apart_now(&db), flushed);
        flushed
    };
    let usual = KeyspaceOptions::default();
    let with = |blob_threshold, merge_operator: Option<&str>| KeyspaceOptions {
        blob_threshold,
        merge_operator: merge_operator.map(String::from),
        ..KeyspaceOptions::default()
    };
    assert_eq!(apart_of(MemBlobs::new(), 256, &usual), 256);
    assert_eq!(apart_of(MemBlobs::new(), 255, &usual), 0, "below 4 MiB");
    assert_eq!(apart_of(MemBlobs::bucket(), 256, &usual), 0);
    let never = with(Some(u32::MAX), None);
    assert_eq!(apart_of(MemBlobs::new(), 256, &never), 0);
    let merged = with(None, Some("append"));
    assert_eq!(apart_of(MemBlobs::new(), 256, &merged), 0);
}

#[test]
fn what_a_flush_moved_apart_stays_so_when_garbage_is_cleared_out() {
    let keyspace = KeyspaceOptions {
        history: History::head_only(),
        ..KeyspaceOptions::default()
    };
    let db = Db::with(one_memtable(), keyspace);
    let mut rng = fastrand::Rng::with_seed(21);
    let mut write = |n: usize| {
        let value = random(&mut rng, 40_000);
        db.default().put(&n.to_be_bytes(), &value).unwrap();
        value
    };
    let mut values: Vec<Vec<u8>> = (0..150).map(&mut write).collect();
    db.kv.flush().unwrap();
    let first = blob_files(&db);
    for (n, value) in values.iter_mut().enumerate().take(120) {
        *value = write(n);
    }
    db.kv.flush().unwrap();
    for _ in 0..3 {
        db.compact_all();
        db.kv.settle().unwrap();
    }
    assert!(!blob_files(&db).contains(&first[0]));
    assert_eq!(apart_now(&db), 150);
    for (n, value) in values.iter().enumerate() {
        let found = db.default().get(&n.to_be_bytes()).unwrap();
        assert_eq!(found.as_deref(), Some(&value[..]));
    }
}
