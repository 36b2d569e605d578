//! Merges, deletions of ranges, values that expire, conditions: what each promises beyond the model
//! in `model_of_all_kinds.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, keys, roomy_options, text, threaded_options};
use siltstone_kv::{
    Batch, Durability, Error, Expect, History, Isolation, KeyRange, KeyspaceOptions, Kv,
    MergeOperator, Options, Read, Touched,
};
use siltstone_storage::{Env, MemBlobs, Timestamp};
use std::ops::Bound;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn with_operator(name: &str) -> KeyspaceOptions {
    KeyspaceOptions {
        merge_operator: Some(name.into()),
        ..KeyspaceOptions::default()
    }
}

fn head_only() -> Db {
    Db::history(History::head_only())
}

fn range(from: &str, to: &str) -> KeyRange {
    KeyRange::new(
        Bound::Included(from.as_bytes()),
        Bound::Excluded(to.as_bytes()),
    )
    .unwrap()
}

fn all() -> KeyRange {
    KeyRange::new(Bound::Unbounded, Bound::Unbounded).unwrap()
}

fn fill(db: &Db, rows: u32) {
    for n in 0..rows {
        db.put(&format!("key{n:05}"), "value");
    }
}

fn tables_and_ranges(db: &Db) -> (usize, usize) {
    let manifest = db.kv.manifest();
    let ranges = manifest.state.keyspaces[0].range_deletes.len();
    (manifest.state.tables.live().len(), ranges)
}

#[test]
fn a_range_is_deleted_by_one_small_record_whatever_it_holds() {
    let db = head_only();
    fill(&db, 2_000);
    db.kv.flush().unwrap();
    let before = db.kv.stats().totals;
    db.default()
        .delete_range(&range("key00100", "key01900"))
        .unwrap();
    let after = db.kv.stats().totals;
    assert!(after.user_bytes - before.user_bytes < 50);
    assert_eq!(db.rows().len(), 200);
    assert_eq!(db.get("key00100"), None);
    assert_eq!(db.get("key01899"), None);
    assert!(db.get("key00099").is_some() && db.get("key01900").is_some());
    // What comes later is there again.
    db.put("key00500", "again");
    assert_eq!(db.rows().len(), 201);
    let db = db.power_cut();
    assert_eq!(db.rows().len(), 201);
    db.kv.flush().unwrap();
    assert_eq!(tables_and_ranges(&db), (2, 1));
    let db = db.reopen();
    assert_eq!(db.rows().len(), 201);
    let stats = db.compact_all();
    assert_eq!(stats.dropped, 1_800);
    assert_eq!(
        tables_and_ranges(&db),
        (1, 0),
        "the deletion has nothing left to hide"
    );
    assert_eq!(db.rows().len(), 201);
}

#[test]
fn a_snapshot_keeps_what_a_range_deletion_took_and_then_the_space_is_freed() {
    let db = head_only();
    fill(&db, 100);
    let snapshot = db.default().snapshot().unwrap();
    let mut scan = db.default().scan::<&[u8]>(..).unwrap();
    assert!(scan.next());
    db.default().delete_range(&all()).unwrap();
    db.kv.flush().unwrap();
    db.compact_all();
    assert_eq!(tables_and_ranges(&db), (1, 1));
    assert_eq!(db.rows(), []);
    let mut rows = 1;
    while scan.next() {
        rows += 1;
    }
    assert_eq!(rows, 100);
    assert_eq!(keys(snapshot.scan::<&[u8]>(..).unwrap()).len(), 100);
    assert!(snapshot.get(b"key00007").unwrap().is_some());
    drop(snapshot);
    db.kv.settle().unwrap();
    assert_eq!(
        tables_and_ranges(&db),
        (0, 0),
        "idle time frees it, nobody has to ask"
    );
    assert_eq!(db.rows(), []);
}

#[test]
fn ranges_conflict_with_what_transactions_read_and_write() {
    let db = Db::new();
    fill(&db, 10);
    for flushed in [false, true] {
        let reader = db.kv.begin(Isolation::Serializable).unwrap();
        reader.on(&db.default()).get(b"key00003").unwrap();
        reader.put(&db.default(), b"mine", b"1").unwrap();
        let ranger = db.kv.begin(Isolation::Snapshot).unwrap();
        ranger
            .delete_range(&db.default(), &range("x", "y"))
            .unwrap();
        db.default()
            .delete_range(&range("key00002", "key00005"))
            .unwrap();
        db.put("xx", "theirs");
        if flushed {
            db.kv.flush().unwrap();
        }
        let Error::Conflict { touched, .. } = reader.commit().unwrap_err() else {
            panic!("the key was deleted with a range");
        };
        assert_eq!(touched, Touched::Key(b"key00003".to_vec()));
        let Error::Conflict { touched, .. } = ranger.commit().unwrap_err() else {
            panic!("a key of the range was written");
        };
        assert!(matches!(touched, Touched::Range { key, .. } if key == b"xx"));
        assert_eq!(db.get("xx").as_deref(), Some("theirs"));
        db.put("key00003", "back");
    }
}

#[test]
fn in_a_batch_the_later_write_counts_also_among_ranges_and_merges() {
    let db = Db::with(roomy_options(), with_operator("append"));
    db.put("a", "old");
    let keyspace = db.default();
    let mut batch = Batch::new();
    batch
        .put(&keyspace, b"b", b"gone")
        .merge(&keyspace, b"a", b"+1")
        .delete_range(&keyspace, &range("a", "c"))
        .merge(&keyspace, b"b", b"x")
        .merge(&keyspace, b"b", b"y")
        .put(&keyspace, b"c", b"c")
        .merge(&keyspace, b"c", b"+")
        .merge(&keyspace, b"d", b"1")
        .merge(&keyspace, b"d", b"2");
    db.kv.write(&batch, Durability::Durable).unwrap();
    let expected = [("b", "xy"), ("c", "c+"), ("d", "12")];
    let expected: Vec<_> = expected.map(|(k, v)| (k.to_string(), v.to_string())).into();
    assert_eq!(db.rows(), expected);
    let db = db.power_cut();
    assert_eq!(db.rows(), expected);
    assert_eq!(db.kv.head().0, 2);
}

#[test]
fn a_value_expires_for_every_read_and_its_space_is_freed() {
    let db = head_only();
    let keyspace = db.default();
    db.put("stays", "v");
    db.put("k", "below");
    for n in 0..100u32 {
        let key = format!("session{n:03}");
        keyspace
            .put_ttl(key.as_bytes(), &[b'x'; 100], Duration::from_secs(60))
            .unwrap();
    }
    keyspace
        .put_ttl(b"k", b"short", Duration::from_secs(10))
        .unwrap();
    let snapshot = keyspace.snapshot().unwrap();
    assert_eq!(db.get("k").as_deref(), Some("short"));
    db.clock.advance(Duration::from_secs(10));
    assert_eq!(db.get("k"), None, "what was below does not come back");
    assert_eq!(snapshot.get(b"k").unwrap(), None);
    assert_eq!(db.rows().len(), 101);
    drop(snapshot);
    db.kv.flush().unwrap();
    assert_eq!(db.rows().len(), 101);
    db.clock.advance(Duration::from_secs(50));
    assert_eq!(keys(db.default().scan::<&[u8]>(..).unwrap()), ["stays"]);
    db.kv.settle().unwrap();
    let manifest = db.kv.manifest();
    let entries: u64 = manifest
        .state
        .tables
        .live()
        .iter()
        .map(|t| t.meta.entries)
        .sum();
    assert_eq!(entries, 1, "the rest is gone from the tables");
    // A clock that steps back brings nothing back.
    db.clock.set_wall(Timestamp(1));
    assert_eq!(keys(db.default().scan::<&[u8]>(..).unwrap()), ["stays"]);
}

#[test]
fn a_clock_that_steps_back_does_not_revive_what_compaction_has_taken() {
    let db = Db::history(History::everything());
    let start = db.clock_now();
    db.default()
        .put_ttl(b"a", b"v", Duration::from_secs(5))
        .unwrap();
    db.default()
        .put_ttl(b"b", b"v", Duration::from_secs(500))
        .unwrap();
    db.clock.advance(Duration::from_secs(6));
    db.kv.flush().unwrap();
    let db = db.reopen();
    db.clock.set_wall(start);
    assert_eq!(keys(db.default().scan::<&[u8]>(..).unwrap()), ["b"]);
    assert_eq!(db.get("a"), None);
    db.default()
        .put_ttl(b"c", b"v", Duration::from_secs(1))
        .unwrap();
    assert_eq!(
        db.get("c"),
        None,
        "time has been further than this clock says"
    );
}

#[test]
fn a_counter_counts_what_all_threads_added_and_compaction_makes_it_one_entry() {
    let env = Env::system(Arc::new(MemBlobs::new()));
    let options = KeyspaceOptions {
        history: History::head_only(),
        ..with_operator("counter")
    };
    let kv = Kv::open(env, threaded_options(), options, None).unwrap();
    thread::scope(|scope| {
        for thread in 0..4i64 {
            let keyspace = kv.default_keyspace();
            scope.spawn(move || {
                for n in 0..500 {
                    let operand = (thread * n - 3).to_string();
                    keyspace
                        .merge_with(b"n", operand.as_bytes(), Durability::Buffered)
                        .unwrap();
                }
            });
        }
    });
    let expected: i64 = (0..4).flat_map(|t| (0..500).map(move |n| t * n - 3)).sum();
    let keyspace = kv.default_keyspace();
    let read = || text(&keyspace.get(b"n").unwrap().unwrap());
    assert_eq!(read(), expected.to_string());
    kv.flush().unwrap();
    kv.settle().unwrap();
    keyspace
        .compact(&Default::default())
        .map_err(|e| e.error)
        .unwrap();
    assert_eq!(read(), expected.to_string());
    let manifest = kv.manifest();
    let entries: u64 = manifest
        .state
        .tables
        .live()
        .iter()
        .map(|t| t.meta.entries)
        .sum();
    assert_eq!(entries, 1);
}

#[test]
fn merging_needs_an_operator_and_well_formed_operands() {
    let db = Db::new();
    let error = db.default().merge(b"n", b"1").unwrap_err();
    assert!(matches!(error, Error::NoMergeOperator { .. }), "{error}");
    assert!(error.to_string().contains("json-merge-patch"), "{error}");
    db.kv
        .create_keyspace("counts", with_operator("counter"))
        .unwrap();
    let counts = db.kv.keyspace("counts").unwrap();
    let head = db.kv.head();
    let error = counts.merge(b"n", b"one").unwrap_err();
    assert!(
        matches!(&error, Error::Merge { operator, .. } if operator == "counter"),
        "{error}"
    );
    assert_eq!(db.kv.head(), head);
    counts.put(b"word", b"hello").unwrap();
    counts.merge(b"word", b"1").unwrap();
    let error = counts.get(b"word").unwrap_err();
    assert!(error.to_string().contains("\"hello\""), "{error}");
    let mut scan = counts.scan::<&[u8]>(..).unwrap();
    assert!(!scan.next());
    assert!(matches!(scan.error(), Some(Error::Merge { .. })));
    // Compaction loses neither the value nor the operand, and a put makes the key good again.
    db.kv.flush().unwrap();
    counts
        .compact(&Default::default())
        .map_err(|e| e.error)
        .unwrap();
    assert!(counts.get(b"word").is_err());
    counts.put(b"word", b"5").unwrap();
    counts.merge(b"word", b"1").unwrap();
    assert_eq!(counts.get(b"word").unwrap().as_deref(), Some(&b"6"[..]));
}

/// Keeps the longest.
#[derive(Debug)]
struct Longest;

impl MergeOperator for Longest {
    fn name(&self) -> &str {
        "longest"
    }

    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, String> {
        let all = base.iter().chain(operands);
        Ok(all.max_by_key(|value| value.len()).unwrap().to_vec())
    }
}

#[test]
fn a_process_that_does_not_know_the_operator_compacts_without_losing_operands() {
    let knowing = || Options {
        merge_operators: vec![Arc::new(Longest)],
        ..roomy_options()
    };
    let mut settings = with_operator("longest");
    settings.history = History::head_only();
    let db = Db::with(knowing(), settings);
    db.put("k", "four");
    db.kv.flush().unwrap();
    for operand in ["a", "longer", "bb"] {
        db.default().merge(b"k", operand.as_bytes()).unwrap();
        db.kv.flush().unwrap();
    }
    let mem = db.mem.clone();
    db.kv.close().unwrap();
    let stranger = Db::on(mem.clone(), roomy_options(), KeyspaceOptions::default());
    let error = stranger.default().get(b"k").unwrap_err();
    assert!(matches!(error, Error::NoMergeOperator { .. }), "{error}");
    assert!(stranger.default().merge(b"k", b"x").is_err());
    stranger.compact_all();
    stranger.compact_all();
    stranger.kv.close().unwrap();
    let db = Db::on(mem, knowing(), KeyspaceOptions::default());
    assert_eq!(db.get("k").as_deref(), Some("longer"));
    db.compact_all();
    assert_eq!(db.get("k").as_deref(), Some("longer"));
}

#[test]
fn a_history_shows_merges_as_values_and_deletions_of_ranges() {
    let db = Db::with(roomy_options(), with_operator("counter"));
    let keyspace = db.default();
    db.put("k", "1");
    keyspace.merge(b"k", b"2").unwrap();
    db.kv.flush().unwrap();
    keyspace.delete_range(&all()).unwrap();
    keyspace.delete_range(&all()).unwrap();
    keyspace.merge(b"k", b"5").unwrap();
    let versions: Vec<_> = siltstone_kv::history(&keyspace, b"k")
        .unwrap()
        .into_iter()
        .map(|v| (v.commit.0, v.value.map(|value| text(&value))))
        .collect();
    let value = |text: &str| Some(text.to_string());
    assert_eq!(
        versions,
        [(5, value("5")), (3, None), (2, value("3")), (1, value("1"))]
    );
}

#[test]
fn a_conditional_put_happens_only_when_its_condition_holds() {
    let db = Db::new();
    let keyspace = db.default();
    let failed = |result: Result<_, Error>| {
        let error = result.map(|_: siltstone_kv::PutStats| ()).unwrap_err();
        assert!(matches!(error, Error::ConditionFailed { .. }), "{error}");
        error.to_string()
    };
    failed(keyspace.put_if(b"k", Expect::Present, b"v"));
    failed(keyspace.put_if(b"k", Expect::Value(b""), b"v"));
    keyspace.put_if(b"k", Expect::Absent, b"v1").unwrap();
    let message = failed(keyspace.put_if(b"k", Expect::Absent, b"v2"));
    assert!(message.contains("the value is \"v1\""), "{message}");
    keyspace.put_if(b"k", Expect::Value(b"v1"), b"v2").unwrap();
    failed(keyspace.delete_if(b"k", Expect::Value(b"v1")));
    keyspace.delete_if(b"k", Expect::Present).unwrap();
    assert_eq!(db.get("k"), None);
    assert_eq!(db.kv.head().0, 3, "a failed condition uses no number");
}

#[test]
fn of_racing_conditional_puts_exactly_one_wins_each_round() {
    let env = Env::system(Arc::new(MemBlobs::new()));
    let kv = Kv::open(env, threaded_options(), KeyspaceOptions::default(), None).unwrap();
    let wins: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread: u32| {
                let keyspace = kv.default_keyspace();
                scope.spawn(move || {
                    let won = |round: &u32| {
                        let key = round.to_be_bytes();
                        let put = keyspace.put_if(&key, Expect::Absent, &thread.to_be_bytes());
                        match put {
                            Ok(_) => true,
                            Err(Error::ConditionFailed { .. }) => false,
                            Err(other) => panic!("{other}"),
                        }
                    };
                    (0..200).filter(won).count()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(wins, 200);
}
