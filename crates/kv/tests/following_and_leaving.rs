//! Readers that follow, keyspaces dropped in the middle of things, backups to used places, closing
//! while others write.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, files, roomy_options, rows, simulated};
use siltstone_kv::{
    Background, Commit, Durability, Error, History, Isolation, KeyspaceOptions, Kv, Options, Read,
    Reader,
};
use siltstone_storage::{Blobs, CallKind, Env, MemBlobs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn reader(mem: &MemBlobs) -> Reader {
    let (env, _, _) = simulated(mem, 77);
    Reader::open(env, roomy_options()).unwrap()
}

#[test]
fn a_readers_snapshot_answers_the_same_after_the_writer_dropped_its_versions() {
    let db = Db::history(History {
        window: 3,
        ..History::default()
    });
    db.table(&[("k", "1")]);
    db.table(&[("k", "2")]);
    let reader = reader(&db.mem);
    let snapshot = reader.default_keyspace().at_commit(Commit(1)).unwrap();
    for n in 3..10 {
        db.table(&[("k", &n.to_string())]);
    }
    db.compact_all();
    assert_eq!(reader.refresh().unwrap(), Commit(9));
    match snapshot.get(b"k") {
        Ok(value) => assert_eq!(&value.unwrap()[..], b"1"),
        Err(error) => assert!(matches!(error, Error::Storage(_)), "{error}"),
    }
    assert_eq!(
        &reader.default_keyspace().get(b"k").unwrap().unwrap()[..],
        b"9"
    );
}

#[test]
fn a_reader_sees_all_durable_writes_at_every_call_of_a_flush() {
    let db = Db::history(History::head_only());
    let side = db
        .kv
        .create_keyspace("side", KeyspaceOptions::default())
        .unwrap();
    side.put(b"in the log only", b"1").unwrap();
    for n in 0..5 {
        db.put("k", &n.to_string());
    }
    let following = reader(&db.mem);
    let (mem, checks) = (db.mem.clone(), Arc::new(AtomicBool::new(false)));
    let checked = checks.clone();
    db.store.on_call(Box::new(move |_| {
        let check = |reader: &Reader| {
            assert_eq!(
                &reader.default_keyspace().get(b"k").unwrap().unwrap()[..],
                b"4"
            );
            let side = reader.keyspace("side").unwrap();
            assert_eq!(&side.get(b"in the log only").unwrap().unwrap()[..], b"1");
        };
        following.refresh().unwrap();
        check(&following);
        check(&reader(&mem));
        checked.store(true, Ordering::Relaxed);
    }));
    db.kv.flush().unwrap();
    db.compact_all();
    db.store.clear_hook();
    assert!(checks.load(Ordering::Relaxed));
}

#[test]
fn a_reader_and_its_writer_run_together() {
    let mem = MemBlobs::new();
    let env = Env::system(Arc::new(mem.clone()));
    let keyspace = KeyspaceOptions {
        history: History::head_only(),
        ..KeyspaceOptions::default()
    };
    let kv = Kv::open(env, common::threaded_options(), keyspace, None).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let env = Env::system(Arc::new(mem.clone()));
            let reader = Reader::open(env, roomy_options()).unwrap();
            while !done.load(Ordering::Relaxed) {
                let head = reader.refresh().unwrap().0;
                // Every commit writes one key, round and round.
                let found = rows(reader.default_keyspace().scan::<&[u8]>(..).unwrap());
                let first = head.saturating_sub(99).max(1);
                let mut expected: Vec<_> = (first..=head)
                    .map(|n| (format!("{:02}", n % 100), n.to_string()))
                    .collect();
                expected.sort();
                assert_eq!(found, expected, "at {head}");
            }
        });
        let keyspace = kv.default_keyspace();
        for n in 1..=6_000u64 {
            let key = format!("{:02}", n % 100);
            keyspace
                .put_with(
                    key.as_bytes(),
                    n.to_string().as_bytes(),
                    Durability::Buffered,
                )
                .unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    kv.close().unwrap();
}

#[test]
fn writes_of_every_kind_to_a_dropped_keyspace_go_nowhere() {
    let merging = KeyspaceOptions {
        merge_operator: Some("counter".into()),
        ..KeyspaceOptions::default()
    };
    let db = Db::with(roomy_options(), KeyspaceOptions::default());
    let side = db.kv.create_keyspace("side", merging).unwrap();
    let txn = db.kv.begin(Isolation::Serializable).unwrap();
    txn.merge(&side, b"n", b"1").unwrap();
    txn.put(&db.default(), b"k", b"v").unwrap();
    db.kv.drop_keyspace("side").unwrap();
    txn.commit().unwrap();
    side.merge(b"n", b"1").unwrap();
    assert_eq!(db.rows(), [("k".to_string(), "v".to_string())]);
    let db = db.reopen();
    assert_eq!(db.rows().len(), 1);
    assert_eq!(db.kv.head(), Commit(2));
}

#[test]
fn a_keyspace_dropped_while_its_memtable_is_flushed_leaves_nothing() {
    let options = Options {
        memtable_bytes: 64 << 10,
        ..roomy_options()
    };
    let db = Db::with(options, KeyspaceOptions::default());
    let side = db
        .kv
        .create_keyspace("side", KeyspaceOptions::default())
        .unwrap();
    for n in 0..20u8 {
        side.put(&[n], &[1; 1_000]).unwrap();
    }
    let (kv, once) = (db.kv.clone(), AtomicBool::new(true));
    db.store.on_call(Box::new(move |call| {
        if call.kind == CallKind::Finish && once.swap(false, Ordering::SeqCst) {
            kv.drop_keyspace("side").unwrap();
        }
    }));
    db.kv.flush().unwrap();
    db.store.clear_hook();
    assert!(db.live().is_empty() && db.files().is_empty());
    // Room is counted rightly: writers are neither stopped nor let in without end.
    for n in 0..200 {
        db.put(&format!("key{n}"), &"x".repeat(1_000));
    }
    assert_eq!(db.rows().len(), 200);
    assert!(
        side.put(b"k", b"v").is_ok() || side.get(b"k").is_ok(),
        "an old handle does no harm"
    );
    let db = db.reopen();
    assert_eq!(db.kv.keyspaces(), ["default"]);
    assert_eq!(db.rows().len(), 200);
}

#[test]
fn a_backup_to_a_place_that_lived_on_holds_this_database_and_nothing_else() {
    let target = MemBlobs::new();
    let backup = |db: &Db| db.kv.backup(Arc::new(target.clone()), |_, _| ()).unwrap();
    let open_target = |put: Option<(&str, &str)>| {
        let db = Db::on(target.clone(), roomy_options(), KeyspaceOptions::default());
        if let Some((key, value)) = put {
            db.table(&[(key, value)]);
        }
        let found = db.rows();
        db.kv.close().unwrap();
        found
    };
    let db = Db::new();
    db.table(&[("a", "1")]);
    db.put("b", "2");
    assert_eq!(backup(&db).copied_tables, 1);
    assert_eq!(open_target(None), db.rows());
    // The copy is written to: its next table may get the name that the original's next gets.
    open_target(Some(("a", "not ours")));
    let db = db.reopen();
    db.table(&[("a", "3")]);
    backup(&db);
    assert_eq!(open_target(None), db.rows());
    let db = db.reopen();
    db.compact_all();
    db.put("c", "4");
    backup(&db);
    assert_eq!(open_target(None), db.rows());
}

#[test]
fn a_write_that_is_acknowledged_while_another_thread_closes_is_there_afterwards() {
    for round in 0..40 {
        let mem = MemBlobs::new();
        let options = Options {
            background: Background::Threads,
            ..roomy_options()
        };
        let (env, _, _) = simulated(&mem, round);
        let kv = Kv::open(env, options, KeyspaceOptions::default(), None).unwrap();
        let keyspace = kv.default_keyspace();
        let mut acknowledged = 0;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut last = 0;
                for n in 1..10_000u64 {
                    match keyspace.put(b"k", n.to_string().as_bytes()) {
                        Ok(_) => last = n,
                        Err(error) => {
                            assert!(matches!(error, Error::Closed), "{error}");
                            break;
                        }
                    }
                }
                last
            });
            while kv.head().0 < 5 + round {
                std::thread::yield_now();
            }
            kv.close().unwrap();
            acknowledged = writer.join().unwrap();
        });
        let db = Db::on(mem, roomy_options(), KeyspaceOptions::default());
        assert_eq!(
            db.get("k").unwrap(),
            acknowledged.to_string(),
            "round {round}"
        );
    }
}

#[test]
fn an_object_that_an_earlier_writer_left_late_is_replaced_by_the_one_in_charge() {
    let mem = MemBlobs::bucket();
    let old = Db::on(mem.clone(), roomy_options(), KeyspaceOptions::default());
    old.put("a", "old");
    let late = files(&mem, "wal/").pop_last().unwrap();
    let object = mem.get(&late).unwrap();
    let new = Db::on(mem.clone(), roomy_options(), KeyspaceOptions::default());
    new.put("b", "new");
    // The earlier writer's next object arrives where the new one's next would go.
    let number: u64 = files(&mem, "wal/").pop_last().unwrap()[4..24]
        .parse()
        .unwrap();
    mem.put(&format!("wal/{:020}.wal", number + 1), &object)
        .unwrap();
    new.put("c", "new");
    assert!(
        matches!(old.default().put(b"d", b"old"), Err(Error::Storage(_))),
        "fenced"
    );
    new.store.crash();
    let after = Db::on(mem, roomy_options(), KeyspaceOptions::default());
    assert_eq!(
        common::keys(after.default().scan::<&[u8]>(..).unwrap()),
        ["a", "b", "c"]
    );
}
