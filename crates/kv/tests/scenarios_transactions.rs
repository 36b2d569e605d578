//! Acceptance scenarios 61-71: transactions; and what goes with them: savepoints, locks by
//! announcement, idle time, limits.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, keys, roomy_options, small_keyspace, text, threaded_options};
use siltstone_kv::{
    CompactOptions, Durability, Error, History, Isolation, KeyspaceOptions, Kv, Options, Read,
    ScanOptions, Source, Touched, Transaction,
};
use siltstone_storage::{Env, MemBlobs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const BOTH: [Isolation; 2] = [Isolation::Serializable, Isolation::Snapshot];

fn begin(db: &Db) -> Transaction {
    db.kv.begin(Isolation::Serializable).unwrap()
}

fn get(db: &Db, txn: &Transaction, key: &str) -> Option<String> {
    let value = txn.on(&db.default()).get(key.as_bytes()).unwrap();
    value.map(|value| text(&value))
}

fn put(db: &Db, txn: &Transaction, key: &str, value: &str) {
    txn.put(&db.default(), key.as_bytes(), value.as_bytes())
        .unwrap();
}

/// The key that a conflict names.
fn conflict<T: std::fmt::Debug>(result: Result<T, Error>) -> Touched {
    match result.unwrap_err() {
        Error::Conflict {
            touched,
            keyspace,
            snapshot,
            commit,
        } => {
            assert_eq!(keyspace, "default");
            assert!(commit > snapshot);
            touched
        }
        other => panic!("{other}"),
    }
}

fn key(name: &str) -> Touched {
    Touched::Key(name.into())
}

#[test]
fn s61_an_open_transaction_sees_its_writes_and_others_do_not() {
    for isolation in BOTH {
        let db = Db::new();
        for name in ["a", "b", "c"] {
            db.put(name, "old");
        }
        db.kv.flush().unwrap();
        let txn = db.kv.begin(isolation).unwrap();
        put(&db, &txn, "b", "new");
        put(&db, &txn, "b", "newer");
        put(&db, &txn, "d", "new");
        txn.delete(&db.default(), b"a").unwrap();
        assert_eq!(get(&db, &txn, "a"), None);
        assert_eq!(get(&db, &txn, "b").as_deref(), Some("newer"));
        assert_eq!(get(&db, &txn, "c").as_deref(), Some("old"));
        let view = db.default();
        let inside = txn.on(&view);
        let forward = keys(inside.scan::<&[u8]>(..).unwrap());
        assert_eq!(forward, ["b", "c", "d"]);
        let back = inside
            .scan_with::<&[u8]>(.., ScanOptions::reverse())
            .unwrap();
        assert_eq!(keys(back), ["d", "c", "b"]);
        let (_, stats) = inside.get_with_stats(b"d").unwrap();
        assert_eq!(stats.source, Source::Transaction);
        assert_eq!(db.get("a").as_deref(), Some("old"));
        assert_eq!(db.get("b").as_deref(), Some("old"));
        assert_eq!(db.get("d"), None);
        assert_eq!(
            keys(db.default().scan::<&[u8]>(..).unwrap()),
            ["a", "b", "c"]
        );
        // A write after a scan was opened is not in that scan.
        let mut scan = inside.scan::<&[u8]>(..).unwrap();
        assert!(scan.next());
        put(&db, &txn, "e", "late");
        let mut rows = 1;
        while scan.next() {
            rows += 1;
        }
        assert_eq!(rows, 3);
    }
}

#[test]
fn s61_own_writes_are_seen_however_many_there_are() {
    let db = Db::new();
    let txn = begin(&db);
    for n in 0..2_000 {
        put(&db, &txn, &format!("{n:05}"), &format!("value {n}"));
    }
    for n in [0, 1, 999, 1_999] {
        assert_eq!(
            get(&db, &txn, &format!("{n:05}")),
            Some(format!("value {n}"))
        );
    }
    txn.commit().unwrap();
    assert_eq!(db.rows().len(), 2_000);
}

#[test]
fn s62_others_see_all_of_a_commit_or_nothing() {
    let env = Env::system(Arc::new(MemBlobs::new()));
    let kv = Kv::open(env, threaded_options(), small_keyspace(), None).unwrap();
    let names: Vec<String> = (0..20).map(|n| format!("k{n:02}")).collect();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let keyspace = kv.default_keyspace();
            for round in 0..150u32 {
                let txn = kv.begin(Isolation::Serializable).unwrap();
                for name in &names {
                    txn.put(&keyspace, name.as_bytes(), &round.to_be_bytes())
                        .unwrap();
                }
                txn.commit_with(Durability::Buffered).unwrap();
            }
        });
        let keyspace = kv.default_keyspace();
        while !writer.is_finished() {
            let rows: Vec<_> = keyspace
                .scan::<&[u8]>(..)
                .unwrap()
                .into_iter()
                .map(|row| row.unwrap().1)
                .collect();
            assert!(rows.is_empty() || rows.len() == names.len());
            assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "{rows:?}");
            let values = keyspace.multi_get(&names).unwrap();
            assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
        }
        writer.join().unwrap();
    });
}

#[test]
fn s63_nothing_of_a_transaction_that_did_not_commit_is_left() {
    let db = Db::new();
    db.put("k", "old");
    let rolled_back = begin(&db);
    put(&db, &rolled_back, "k", "rolled back");
    rolled_back.roll_back().unwrap();
    let dropped = begin(&db);
    put(&db, &dropped, "k", "dropped");
    drop(dropped);
    let open = begin(&db);
    put(&db, &open, "k", "open at the crash");
    assert_eq!(
        db.kv.stats().open_snapshots,
        1,
        "only the open one holds its commit"
    );
    let head = db.kv.head();
    std::mem::forget(open);
    let db = db.power_cut();
    assert_eq!(db.get("k").as_deref(), Some("old"));
    assert_eq!(db.kv.head(), head, "no number was used");
}

#[test]
fn s64_of_two_transactions_on_one_key_the_second_conflicts_and_the_key_is_named() {
    for isolation in BOTH {
        let db = Db::new();
        db.put("k", "old");
        let first = db.kv.begin(isolation).unwrap();
        let second = db.kv.begin(isolation).unwrap();
        put(&db, &first, "k", "first");
        put(&db, &second, "other", "second");
        put(&db, &second, "k", "second");
        first.commit().unwrap();
        let head = db.kv.head();
        let error = second.commit().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("key \"k\" was written at commit 2"),
            "{error}"
        );
        assert_eq!(conflict(second.commit()), key("k"));
        assert_eq!(db.get("k").as_deref(), Some("first"));
        assert_eq!(db.get("other"), None);
        assert_eq!(db.kv.head(), head, "a refused commit uses no number");
    }
}

#[test]
fn s65_transactions_that_write_different_keys_both_commit() {
    for isolation in BOTH {
        let db = Db::new();
        let first = db.kv.begin(isolation).unwrap();
        let second = db.kv.begin(isolation).unwrap();
        put(&db, &first, "a", "1");
        put(&db, &second, "b", "2");
        let one = first.commit().unwrap().commit;
        let two = second.commit().unwrap().commit;
        assert_eq!(two.0, one.0 + 1);
        assert_eq!(db.rows().len(), 2);
    }
}

#[test]
fn s66_a_key_that_was_read_conflicts_under_serializable_and_not_under_snapshot() {
    for (isolation, conflicts) in [
        (Isolation::Serializable, true),
        (Isolation::Snapshot, false),
    ] {
        for flushed in [false, true] {
            for value in [Some("new"), None] {
                let db = Db::history(History::head_only());
                db.put("k", "old");
                let txn = db.kv.begin(isolation).unwrap();
                assert_eq!(get(&db, &txn, "k").as_deref(), Some("old"));
                put(&db, &txn, "mine", "1");
                match value {
                    Some(value) => db.put("k", value),
                    None => db.delete("k"),
                };
                if flushed {
                    db.kv.flush().unwrap();
                    db.put("filler", "x");
                    db.kv.flush().unwrap();
                    db.compact_all();
                }
                match conflicts {
                    true => assert_eq!(conflict(txn.commit()), key("k")),
                    false => drop(txn.commit().unwrap()),
                }
            }
        }
    }
}

#[test]
fn s66_write_skew_passes_under_snapshot_and_not_under_serializable_or_when_announced() {
    let run = |isolation, announced| {
        let db = Db::new();
        db.put("x", "1");
        db.put("y", "1");
        let txns: Vec<_> = (0..2).map(|_| db.kv.begin(isolation).unwrap()).collect();
        for (txn, (read, write)) in txns.iter().zip([("x", "y"), ("y", "x")]) {
            match announced {
                true => txn.get_for_update(&db.default(), read.as_bytes()).unwrap(),
                false => txn.on(&db.default()).get(read.as_bytes()).unwrap(),
            };
            put(&db, txn, write, "0");
        }
        txns.iter().filter(|txn| txn.commit().is_ok()).count()
    };
    assert_eq!(run(Isolation::Snapshot, false), 2);
    assert_eq!(run(Isolation::Snapshot, true), 1);
    assert_eq!(run(Isolation::Serializable, false), 1);
}

#[test]
fn s67_an_insert_into_a_scanned_range_conflicts_and_one_beside_it_does_not() {
    // What is scanned: everything, until the third row, backward from the end to the second row.
    type Walk = fn(&Db, &Transaction);
    let whole: Walk = |db, txn| {
        let view = db.default();
        let _ = keys(txn.on(&view).scan(&b"b"[..]..&b"y"[..]).unwrap());
    };
    let start: Walk = |db, txn| {
        let view = db.default();
        let mut scan = txn.on(&view).scan(&b"b"[..]..&b"y"[..]).unwrap();
        for _ in 0..3 {
            assert!(scan.next());
        }
    };
    let end: Walk = |db, txn| {
        let view = db.default();
        let options = ScanOptions::reverse();
        let mut scan = txn
            .on(&view)
            .scan_with(&b"b"[..]..&b"y"[..], options)
            .unwrap();
        for _ in 0..2 {
            assert!(scan.next());
        }
    };
    for (walk, inserted, conflicts) in [
        (whole, "bb", true),
        (whole, "xx", true),
        (whole, "a", false),
        (whole, "y", false),
        (start, "bb", true),
        (start, "d", true),
        (start, "dd", false),
        (end, "xx", true),
        (end, "ee", true),
        (end, "dd", false),
    ] {
        for flushed in [false, true] {
            let db = Db::new();
            for name in ["b", "c", "d", "e", "x"] {
                db.put(name, "v");
            }
            let txn = begin(&db);
            walk(&db, &txn);
            put(&db, &txn, "zz", "mine");
            db.put(inserted, "theirs");
            if flushed {
                db.kv.flush().unwrap();
            }
            match txn.commit() {
                Ok(_) => assert!(!conflicts, "{inserted}"),
                Err(Error::Conflict {
                    touched: Touched::Range { key, .. },
                    ..
                }) => {
                    assert!(conflicts, "{inserted}");
                    assert_eq!(text(&key), inserted);
                }
                Err(other) => panic!("{inserted}: {other}"),
            }
        }
    }
}

#[test]
fn s67_an_empty_scan_guards_its_range() {
    let db = Db::new();
    let txn = begin(&db);
    assert!(
        keys(
            txn.on(&db.default())
                .scan_prefix(b"user/", ScanOptions::default())
                .unwrap()
        )
        .is_empty()
    );
    put(&db, &txn, "other", "1");
    db.put("user/1", "theirs");
    let Touched::Range { key, .. } = conflict(txn.commit()) else {
        panic!("a range was scanned");
    };
    assert_eq!(text(&key), "user/1");
}

#[test]
fn s68_a_second_commit_or_rollback_has_the_same_answer_and_the_rest_is_refused() {
    let db = Db::new();
    let committed = begin(&db);
    put(&db, &committed, "k", "v");
    let first = committed.commit().unwrap();
    assert_eq!(committed.commit().unwrap(), first);
    let over = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::TransactionOver { .. }), "{error}");
    };
    over(committed.put(&db.default(), b"k", b"w"));
    over(committed.roll_back());
    over(committed.savepoint().map(|_| ()));
    over(committed.on(&db.default()).get(b"k").map(|_| ()));
    let given_up = begin(&db);
    given_up.roll_back().unwrap();
    given_up.roll_back().unwrap();
    over(given_up.commit().map(|_| ()));
    over(given_up.put(&db.default(), b"k", b"w"));
    assert_eq!(db.get("k").as_deref(), Some("v"));

    let put_aside = begin(&db);
    put(&db, &put_aside, "aside", "v");
    let id = put_aside.suspend();
    let resumed = db.kv.resume(id).unwrap();
    assert_eq!(get(&db, &resumed, "aside").as_deref(), Some("v"));
    resumed.commit().unwrap();
    for unknown in [id, 12_345] {
        let error = db.kv.resume(unknown).unwrap_err();
        assert!(matches!(error, Error::UnknownTransaction { id } if id == unknown));
    }
}

#[test]
fn s69_an_idle_transaction_times_out_and_history_goes_on_without_it() {
    let db = Db::history(History::head_only());
    db.put("k", "v1");
    let idle = begin(&db);
    put(&db, &idle, "mine", "1");
    db.clock.advance(Duration::from_secs(59));
    let in_use = begin(&db);
    db.put("k", "v2");
    db.put("k", "v3");
    db.kv.flush().unwrap();
    db.compact_all();
    let versions = || siltstone_kv::history(&db.default(), b"k").unwrap().len();
    assert_eq!(
        versions(),
        2,
        "both transactions hold commit 1, and 3 is the head"
    );
    db.clock.advance(Duration::from_secs(2));
    assert_eq!(get(&db, &in_use, "k").as_deref(), Some("v1"));
    db.clock.advance(Duration::from_secs(59));
    put(&db, &in_use, "mine too", "1");
    // Nobody calls the idle one: compaction passes it by itself.
    drop(in_use);
    db.put("filler", "1");
    db.kv.flush().unwrap();
    db.compact_all();
    assert_eq!(versions(), 1);
    let error = idle.commit().unwrap_err();
    assert!(matches!(error, Error::TransactionExpired { .. }), "{error}");
    assert!(matches!(
        idle.commit(),
        Err(Error::TransactionExpired { .. })
    ));
    assert!(matches!(
        idle.on(&db.default()).get(b"k"),
        Err(Error::TransactionExpired { .. })
    ));
    assert_eq!(db.get("mine"), None);
}

#[test]
fn s70_a_committed_transaction_outlives_flush_compaction_and_reopening() {
    let db = Db::new();
    let other = db
        .kv
        .create_keyspace("other", KeyspaceOptions::default())
        .unwrap();
    let txn = begin(&db);
    put(&db, &txn, "k", "v");
    txn.put(&other, b"k", b"w").unwrap();
    let commit = txn.commit().unwrap().commit;
    let check = |db: &Db| {
        assert_eq!(db.get("k").as_deref(), Some("v"));
        let other = db.kv.keyspace("other").unwrap();
        assert_eq!(other.get(b"k").unwrap().as_deref(), Some(&b"w"[..]));
        assert_eq!(db.kv.head(), commit);
    };
    let db = db.power_cut();
    check(&db);
    db.kv.flush().unwrap();
    check(&db);
    db.compact_all();
    check(&db);
    let db = db.reopen();
    check(&db);
}

#[test]
fn s71_a_plain_put_on_the_same_key_makes_the_transaction_conflict() {
    for isolation in BOTH {
        let db = Db::new();
        let txn = db.kv.begin(isolation).unwrap();
        put(&db, &txn, "k", "transaction");
        db.put("k", "plain");
        assert_eq!(conflict(txn.commit()), key("k"));
        assert_eq!(db.get("k").as_deref(), Some("plain"));
    }
}

/// Threads add to one counter with transactions, racing with each other and with plain writes that
/// are buffered: a write that has its number but is not visible must be met too.
#[test]
fn s71_racing_increments_are_never_lost() {
    for isolation in BOTH {
        let env = Env::system(Arc::new(MemBlobs::new()));
        let kv = Kv::open(env, threaded_options(), small_keyspace(), None).unwrap();
        let add = |durability| {
            let keyspace = kv.default_keyspace();
            loop {
                let txn = kv.begin(isolation).unwrap();
                let found = txn.on(&keyspace).get(b"n").unwrap();
                let n = found.map_or(0, |n| u64::from_be_bytes(n[..].try_into().unwrap()));
                txn.put(&keyspace, b"n", &(n + 1).to_be_bytes()).unwrap();
                match txn.commit_with(durability) {
                    Ok(_) => return,
                    Err(Error::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        };
        thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    let durability = match thread % 2 {
                        0 => Durability::Buffered,
                        _ => Durability::Durable,
                    };
                    for _ in 0..250 {
                        add(durability);
                    }
                });
            }
            let keyspace = kv.default_keyspace();
            scope.spawn(move || {
                for n in 0..500u32 {
                    let key = format!("noise{}", n % 7);
                    keyspace
                        .put_with(key.as_bytes(), b"x", Durability::Buffered)
                        .unwrap();
                }
            });
        });
        let n = kv.default_keyspace().get(b"n").unwrap().unwrap();
        assert_eq!(u64::from_be_bytes(n[..].try_into().unwrap()), 1_000);
    }
}

#[test]
fn savepoints_undo_writes_and_keep_what_came_before() {
    let db = Db::new();
    db.put("base", "v");
    let txn = begin(&db);
    put(&db, &txn, "a", "1");
    let first = txn.savepoint().unwrap();
    put(&db, &txn, "a", "2");
    txn.delete(&db.default(), b"base").unwrap();
    let second = txn.savepoint().unwrap();
    put(&db, &txn, "b", "3");
    txn.roll_back_to(&second).unwrap();
    assert_eq!(get(&db, &txn, "b"), None);
    assert_eq!(get(&db, &txn, "a").as_deref(), Some("2"));
    txn.roll_back_to(&first).unwrap();
    assert_eq!(get(&db, &txn, "a").as_deref(), Some("1"));
    assert_eq!(get(&db, &txn, "base").as_deref(), Some("v"));
    // A place that was undone itself, also when as much has been written since.
    put(&db, &txn, "a", "2");
    txn.delete(&db.default(), b"base").unwrap();
    let error = txn.roll_back_to(&second).unwrap_err();
    assert!(matches!(error, Error::Savepoint { .. }), "{error}");
    txn.roll_back_to(&first).unwrap();
    put(&db, &txn, "c", "4");
    let other = begin(&db);
    assert!(matches!(
        other.roll_back_to(&first),
        Err(Error::Savepoint { .. })
    ));
    txn.commit().unwrap();
    assert_eq!(
        keys(db.default().scan::<&[u8]>(..).unwrap()),
        ["a", "base", "c"]
    );
    assert_eq!(db.get("a").as_deref(), Some("1"));
    // What was undone does not conflict.
    let undone = begin(&db);
    let start = undone.savepoint().unwrap();
    put(&db, &undone, "a", "mine");
    undone.roll_back_to(&start).unwrap();
    put(&db, &undone, "d", "mine");
    db.put("a", "theirs");
    undone.commit().unwrap();
}

#[test]
fn limits_of_transactions_are_typed_errors() {
    let options = Options {
        max_transactions: 2,
        max_batch_bytes: 200,
        ..roomy_options()
    };
    let db = Db::with(options, KeyspaceOptions::default());
    let held: Vec<_> = (0..2).map(|_| begin(&db)).collect();
    let error = db.kv.begin(Isolation::Snapshot).unwrap_err();
    assert!(
        matches!(error, Error::TooManyTransactions { limit: 2 }),
        "{error}"
    );
    put(&db, &held[0], "a", "fits");
    let error = held[0].put(&db.default(), b"b", &[0; 300]).unwrap_err();
    assert!(matches!(error, Error::BatchTooLarge { .. }), "{error}");
    assert!(matches!(
        held[0].put(&db.default(), b"", b"v"),
        Err(Error::KeyLength { .. })
    ));
    held[0].commit().unwrap();
    assert_eq!(keys(db.default().scan::<&[u8]>(..).unwrap()), ["a"]);
    db.clock.advance(Duration::from_secs(61));
    for _ in 0..2 {
        // Idle ones make room.
        std::mem::forget(begin(&db));
    }
}

#[test]
fn a_transaction_that_only_read_commits_whatever_was_written_since() {
    let db = Db::new();
    db.put("k", "old");
    let txn = begin(&db);
    assert_eq!(get(&db, &txn, "k").as_deref(), Some("old"));
    db.put("k", "new");
    assert_eq!(get(&db, &txn, "k").as_deref(), Some("old"));
    assert_eq!(txn.commit().unwrap().commit, txn.snapshot_commit());
}

#[test]
fn a_key_put_and_deleted_again_since_conflicts_also_after_compaction() {
    let db = Db::history(History::head_only());
    db.put("other", "v");
    let txn = begin(&db);
    assert_eq!(get(&db, &txn, "k"), None);
    put(&db, &txn, "mine", "1");
    db.put("k", "v");
    db.delete("k");
    db.put("other", "w");
    db.kv.flush().unwrap();
    db.compact(&CompactOptions::default());
    assert_eq!(conflict(txn.commit()), key("k"));
    // With nobody left who could ask, the tombstone goes.
    db.put("other", "x");
    db.kv.flush().unwrap();
    db.compact_all();
    let tables = db.kv.manifest();
    let tombstones: u64 = tables
        .state
        .tables
        .live()
        .iter()
        .map(|t| t.meta.tombstones)
        .sum();
    assert_eq!(tombstones, 0);
}

#[test]
fn a_key_whose_history_was_read_conflicts() {
    let db = Db::new();
    db.put("k", "old");
    let txn = begin(&db);
    let versions = siltstone_kv::history(&txn.on(&db.default()), b"k").unwrap();
    assert_eq!(versions.len(), 1);
    put(&db, &txn, "mine", "1");
    db.put("k", "new");
    assert_eq!(conflict(txn.commit()), key("k"));
}
