//! Bulk ingest: one commit, all or none, among other writes; at every crash point.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, files, rows, simulated, small_options, threaded_options};
use siltstone_kv::{
    ChangeKind, Commit, CompactOptions, Error, History, Ingest, IngestStats, Isolation, KeyRange,
    KeyspaceOptions, Kv, Options, Read, Touched,
};
use siltstone_storage::{Env, FaultPlan, MemBlobs};
use std::ops::Bound;
use std::sync::Arc;
use std::thread;

fn db() -> Db {
    let options = Options {
        level0_trigger: 100,
        level0_stop: 200,
        ..small_options()
    };
    Db::with(options, KeyspaceOptions::default())
}

fn ingest(kv: &Kv, keys: std::ops::Range<u32>, value: &str) -> Result<IngestStats, Error> {
    let mut ingest = kv.default_keyspace().ingest()?;
    for n in keys {
        ingest.put(format!("key{n:05}").as_bytes(), value.as_bytes())?;
    }
    ingest.finish()
}

#[test]
fn an_ingest_is_one_commit_in_as_many_tables_as_it_takes() {
    let db = db();
    let value = "x".repeat(100);
    let stats = ingest(&db.kv, 0..5_000, &value).unwrap();
    assert_eq!(
        (stats.commit, stats.entries, stats.level),
        (Commit(1), 5_000, 1)
    );
    assert!(stats.tables.len() > 1);
    assert_eq!(db.rows().len(), 5_000);
    assert_eq!(db.get("key00500").unwrap(), value);
    let db = db.power_cut();
    assert_eq!((db.rows().len(), db.kv.head()), (5_000, Commit(1)));
    assert!(db.kv.verify(|_, _| {}).unwrap().problems.is_empty());
    db.compact_all();
    let db = db.reopen();
    assert_eq!(db.rows().len(), 5_000);
    assert_eq!(
        ingest(&db.kv, 0..0, "").unwrap().commit,
        Commit(1),
        "nothing: no number"
    );
}

#[test]
fn what_is_newer_wins_whether_it_was_put_or_ingested() {
    for flushed in [false, true] {
        let db = db();
        let maybe_flush = || {
            if flushed {
                db.kv.flush().unwrap();
            }
        };
        db.put("key00001", "before");
        db.put("key00009", "beside");
        maybe_flush();
        let before = db.default().snapshot().unwrap();
        ingest(&db.kv, 0..5, "ingested").unwrap();
        assert_eq!(db.get("key00001").as_deref(), Some("ingested"));
        db.put("key00002", "after");
        db.delete("key00003");
        maybe_flush();
        let expected: Vec<_> = [
            ("key00000", "ingested"),
            ("key00001", "ingested"),
            ("key00002", "after"),
            ("key00004", "ingested"),
            ("key00009", "beside"),
        ]
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .into();
        let check = |db: &Db| {
            assert_eq!(db.rows(), expected, "flushed {flushed}");
            for (key, value) in &expected {
                assert_eq!(db.get(key).as_deref(), Some(value.as_str()));
            }
            assert_eq!(db.get("key00003"), None);
            let at = db.default().at_commit(Commit(3)).unwrap();
            assert_eq!(
                at.get(b"key00002").unwrap().as_deref(),
                Some(&b"ingested"[..])
            );
        };
        check(&db);
        assert_eq!(
            before.get(b"key00001").unwrap().as_deref(),
            Some(&b"before"[..])
        );
        assert_eq!(rows(before.scan::<&[u8]>(..).unwrap()).len(), 2);
        drop(before);
        let db = db.power_cut();
        check(&db);
        db.kv.flush().unwrap();
        check(&db);
        db.compact(&CompactOptions {
            max_files: Some(2),
            ..CompactOptions::default()
        });
        check(&db);
        db.compact_all();
        check(&db);
        // A second one over the first, and a deletion of a range over both.
        ingest(&db.kv, 0..3, "again").unwrap();
        assert_eq!(db.get("key00002").as_deref(), Some("again"));
        let all = KeyRange::new(Bound::Unbounded, Bound::Unbounded).unwrap();
        db.default().delete_range(&all).unwrap();
        assert_eq!(db.rows(), []);
        ingest(&db.kv, 7..8, "last").unwrap();
        let db = db.reopen();
        assert_eq!(db.rows(), [("key00007".to_string(), "last".to_string())]);
    }
}

#[test]
fn keys_out_of_order_and_over_limits_are_refused_and_nothing_is_left() {
    let db = db();
    let mut ingest: Ingest = db.default().ingest().unwrap();
    ingest.put(b"b", b"1").unwrap();
    for key in ["b", "a"] {
        let error = ingest.put(key.as_bytes(), b"2").unwrap_err();
        assert!(matches!(error, Error::IngestOrder { .. }), "{error}");
    }
    assert!(matches!(ingest.put(b"", b""), Err(Error::KeyLength { .. })));
    ingest.put(b"c", b"3").unwrap();
    assert_eq!(ingest.len(), 2);
    drop(ingest);
    assert_eq!(files(&db.mem, "sst/").len(), 0);
    assert_eq!((db.rows().len(), db.kv.head()), (0, Commit(0)));
}

#[test]
fn transactions_and_feeds_know_of_an_ingest() {
    let db = db();
    db.put("key00002", "old");
    let mut changes = db.kv.changes(Commit(1)).unwrap();
    let reader = db.kv.begin(Isolation::Serializable).unwrap();
    reader.on(&db.default()).get(b"key00002").unwrap();
    reader.put(&db.default(), b"mine", b"1").unwrap();
    ingest(&db.kv, 1..4, "new").unwrap();
    let Error::Conflict { touched, .. } = reader.commit().unwrap_err() else {
        panic!("it was ingested over");
    };
    assert_eq!(touched, Touched::Key(b"key00002".to_vec()));
    let set = changes.try_next().unwrap().unwrap();
    assert_eq!(set.commit, Commit(2));
    let ChangeKind::Ingested { first, last } = &set.changes[0].write else {
        panic!("{set:?}");
    };
    assert_eq!(
        (&first[..], &last[..]),
        (&b"key00001"[..], &b"key00003"[..])
    );
}

#[test]
fn others_see_all_of_an_ingest_or_nothing() {
    for bucket in [false, true] {
        let mem = match bucket {
            true => MemBlobs::bucket(),
            false => MemBlobs::new(),
        };
        let env = Env::system(Arc::new(mem));
        let keyspace = KeyspaceOptions {
            history: History::head_only(),
            ..KeyspaceOptions::default()
        };
        let kv = Kv::open(env, threaded_options(), keyspace, None).unwrap();
        thread::scope(|scope| {
            let ingesting = scope.spawn(|| {
                for round in 0..25 {
                    ingest(&kv, 0..300, &round.to_string()).unwrap();
                }
            });
            let keyspace = kv.default_keyspace();
            scope.spawn(move || {
                for n in 0..400u32 {
                    keyspace.put(format!("other{n}").as_bytes(), b"v").unwrap();
                }
            });
            let keyspace = kv.default_keyspace();
            while !ingesting.is_finished() {
                let found = rows(keyspace.scan_prefix(b"key", Default::default()).unwrap());
                assert!(found.is_empty() || found.len() == 300);
                assert!(found.windows(2).all(|pair| pair[0].1 == pair[1].1));
            }
            ingesting.join().unwrap();
        });
        assert_eq!(kv.head(), Commit(425));
        kv.settle().unwrap();
        assert!(kv.verify(|_, _| {}).unwrap().problems.is_empty());
    }
}

#[test]
fn a_crash_at_any_call_leaves_all_of_it_or_nothing() {
    for bucket in [false, true] {
        let mut at = 0;
        loop {
            let mem = match bucket {
                true => MemBlobs::bucket(),
                false => MemBlobs::new(),
            };
            let db = Db::on(mem, small_options(), KeyspaceOptions::default());
            db.put("key00001", "before");
            let first = db.store.calls() + 1;
            db.store.set_plan(FaultPlan::crash_at(first + at));
            let result = ingest(&db.kv, 0..200, &"x".repeat(50));
            let done = !db.store.is_crashed();
            let acknowledged = result.is_ok();
            let Db { mem, kv, store, .. } = db;
            store.crash();
            drop(kv);
            let after = mem.after_crash(|_| 0);
            let (env, _, _) = simulated(&after, 2);
            let kv = Kv::open(env, small_options(), KeyspaceOptions::default(), None).unwrap();
            let found = rows(kv.default_keyspace().scan::<&[u8]>(..).unwrap());
            match found.len() {
                1 => assert!(!acknowledged, "call {at}: an acknowledged ingest was lost"),
                200 => {}
                rows => panic!("call {at}: {rows} rows"),
            }
            common::assert_no_orphan(&after, &kv);
            assert!(kv.verify(|_, _| {}).unwrap().problems.is_empty());
            if done {
                assert!(at > 5 && acknowledged);
                break;
            }
            at += 1;
        }
    }
}
