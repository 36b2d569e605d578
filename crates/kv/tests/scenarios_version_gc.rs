//! Acceptance scenarios 39-44 (version GC) and 80-83 (retention, without levels).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, roomy_options};
use siltstone_kv::{
    Commit, CompactOptions, CompactOrder, Error, History, KeyspaceOptions, Read, history,
};
use siltstone_storage::{CallKind, Clock, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn commits(db: &Db, key: &str) -> Vec<u64> {
    let versions = history(&db.default(), key.as_bytes()).unwrap();
    versions.iter().map(|version| version.commit.0).collect()
}

fn limited(most: u32) -> History {
    History {
        max_versions: Some(most),
        ..History::everything()
    }
}

fn set_history(db: &Db, history: History) {
    let options = KeyspaceOptions {
        history,
        ..db.default().options()
    };
    db.kv.set_keyspace("default", options).unwrap();
}

#[test]
fn s39_of_five_versions_the_newest_two_remain() {
    let db = Db::history(limited(2));
    for n in 1..=5 {
        db.table(&[("k", &format!("v{n}"))]);
    }
    assert_eq!(commits(&db, "k"), [5, 4, 3, 2, 1]);
    let stats = db.compact_all();
    assert_eq!((stats.entries, stats.dropped), (2, 3));
    assert_eq!(commits(&db, "k"), [5, 4]);
    assert_eq!(db.get("k").as_deref(), Some("v5"));
}

#[test]
fn s40_old_superseded_versions_go_and_the_live_one_only_when_expiry_is_asked_for() {
    for expire in [false, true] {
        let day = Duration::from_secs(86_400);
        let db = Db::history(History {
            max_age: Some(day),
            expire,
            ..History::everything()
        });
        db.table(&[("k", "v1"), ("old", "live")]);
        db.clock.advance(Duration::from_secs(60));
        db.table(&[("k", "v2")]);
        db.clock.advance(day * 2);
        db.table(&[("k", "v3")]);
        db.compact_all();
        // Version 2 was superseded just now, version 1 two days ago.
        assert_eq!(commits(&db, "k"), [4, 3]);
        assert_eq!(
            db.get("old").as_deref(),
            if expire { None } else { Some("live") }
        );
        assert_eq!(db.rows().len(), if expire { 1 } else { 2 });
    }
}

#[test]
fn s41_a_tombstone_stays_while_an_older_value_lies_outside_the_inputs() {
    let db = Db::history(History::head_only());
    db.table(&[("k", "old"), ("z", "")]);
    db.delete("k");
    let tombstone = db.flush_one();
    let stats = db.compact(&CompactOptions {
        order: CompactOrder::NewestFirst,
        max_files: Some(1),
        ..CompactOptions::default()
    });
    assert_eq!(stats.inputs, [tombstone]);
    assert_eq!(stats.dropped, 0);
    assert_eq!(db.get("k"), None);
    assert_eq!(db.rows(), [("z".to_string(), String::new())]);
    let db = db.reopen();
    assert_eq!(db.get("k"), None);
}

#[test]
fn s42_a_tombstone_goes_with_its_older_values_and_not_before_its_age() {
    for (age, waited, stays) in [(0, 0, false), (3_600, 60, true), (3_600, 7_200, false)] {
        let tombstone_age = Duration::from_secs(age);
        let db = Db::history(History {
            tombstone_age,
            ..History::head_only()
        });
        db.table(&[("k", "1")]);
        db.table(&[("k", "2")]);
        db.clock.advance(Duration::from_secs(10));
        db.delete("k");
        db.kv.flush().unwrap();
        db.clock.advance(Duration::from_secs(waited));
        let stats = db.compact_all();
        assert_eq!(
            (stats.entries, stats.dropped),
            if stays { (1, 2) } else { (0, 3) }
        );
        assert_eq!(db.live().len(), usize::from(stays));
    }
    let forever = History {
        tombstone_age: Duration::MAX,
        ..History::head_only()
    };
    let db = Db::history(forever);
    db.table(&[("k", "1")]);
    db.delete("k");
    db.kv.flush().unwrap();
    db.clock.advance(Duration::from_secs(1 << 32));
    assert_eq!(db.compact_all().entries, 1, "kept for ever");
}

#[test]
fn s43_a_snapshot_reads_the_same_before_and_after_every_gc() {
    for history in [History::head_only(), limited(1)] {
        let db = Db::history(history);
        db.table(&[("a", "1"), ("b", "1"), ("c", "1")]);
        db.table(&[("a", "2")]);
        let snapshot = db.default().snapshot().unwrap();
        let before = common::rows(snapshot.scan::<&[u8]>(..).unwrap());
        db.table(&[("a", "3"), ("b", "3")]);
        db.delete("c");
        db.kv.flush().unwrap();
        for _ in 0..2 {
            db.compact_all();
            assert_eq!(common::rows(snapshot.scan::<&[u8]>(..).unwrap()), before);
            assert_eq!(&snapshot.get(b"c").unwrap().unwrap()[..], b"1");
        }
        assert_eq!(db.rows().len(), 2);
    }
}

#[test]
fn s44_gc_memory_does_not_grow_with_keys() {
    // Ten million keys take minutes: `BIG_KEYS=10000000` runs them. Here: what the compaction keeps
    // in memory is what it keeps for one key, so the tables in flight stay of one size.
    let keys: u32 = std::env::var("BIG_KEYS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(20_000);
    let options = siltstone_kv::Options {
        table_bytes: 64 << 10,
        ..roomy_options()
    };
    let history = History::head_only();
    let db = Db::with(
        options,
        KeyspaceOptions {
            history,
            ..KeyspaceOptions::default()
        },
    );
    for round in 0..2u8 {
        for n in 0..keys {
            let durability = siltstone_kv::Durability::Buffered;
            db.default()
                .put_with(&n.to_be_bytes(), &[round; 8], durability)
                .unwrap();
        }
        db.kv.flush().unwrap();
    }
    let cached = db.kv.stats().cache_bytes;
    let stats = db.compact_all();
    assert_eq!(
        (stats.entries, stats.dropped),
        (u64::from(keys), u64::from(keys))
    );
    assert!(stats.outputs.len() > 2);
    let largest = db
        .kv
        .manifest()
        .state
        .tables
        .live()
        .iter()
        .map(|s| s.meta.bytes)
        .max()
        .unwrap();
    assert!(largest < 80 << 10, "{largest}");
    assert_eq!(
        db.kv.stats().cache_bytes,
        cached.min(db.kv.stats().cache_bytes),
        "blocks pass by the cache"
    );
}

#[test]
fn s80_commits_stay_dense_and_no_reader_errs_while_compaction_runs() {
    let db = Db::with(common::threaded_options(), common::small_keyspace());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let head = db.kv.head();
                    let (value, commit) = (db.get("key0"), db.default().commit().unwrap());
                    assert!(commit >= head);
                    if let Some(value) = value {
                        assert!(value.parse::<u64>().unwrap() + 8 >= head.0);
                    }
                    assert!(db.rows().len() <= 7);
                    match db.default().get_at(b"key1", head) {
                        Ok(_) | Err(Error::NotRetained { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for n in 1..=10_000u64 {
            let key = format!("key{}", n % 7);
            let durability = siltstone_kv::Durability::Buffered;
            let put = db
                .default()
                .put_with(key.as_bytes(), n.to_string().as_bytes(), durability);
            assert_eq!(put.unwrap().commit.0, n);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(db.kv.stats().totals.compactions > 0);
    assert_eq!(db.kv.head().0, 10_000);
}

#[test]
fn s81_a_snapshot_older_than_the_window_holds_its_versions_until_it_is_dropped() {
    let db = Db::history(History {
        window: 2,
        ..History::default()
    });
    db.table(&[("k", "1")]);
    let snapshot = db.default().snapshot().unwrap();
    for n in 2..=10 {
        db.table(&[("k", &n.to_string())]);
    }
    db.compact_all();
    assert_eq!(commits(&db, "k"), [10, 9, 1]);
    assert_eq!(&snapshot.get(b"k").unwrap().unwrap()[..], b"1");
    assert_eq!(
        &db.default().get_at(b"k", Commit(1)).unwrap().unwrap()[..],
        b"1",
        "held, so readable"
    );
    drop(snapshot);
    assert!(db.default().get_at(b"k", Commit(1)).is_err());
    let stats = db.compact_all();
    assert_eq!(stats.dropped, 1);
    assert_eq!(commits(&db, "k"), [10, 9]);
}

#[test]
fn s82_loosening_a_policy_does_not_bring_dropped_commits_back() {
    let db = Db::history(History::head_only());
    for n in 1..=5 {
        db.table(&[("k", &n.to_string())]);
    }
    db.compact_all();
    set_history(&db, History::everything());
    let db = db.reopen();
    db.put("k", "6");
    for commit in 1..=4 {
        match db.default().get_at(b"k", Commit(commit)).unwrap_err() {
            Error::NotRetained { before, after, .. } => {
                assert_eq!((before, after), (None, Some(Commit(5))));
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        &db.default().get_at(b"k", Commit(5)).unwrap().unwrap()[..],
        b"5"
    );
    assert_eq!(
        &db.default().get_at(b"k", Commit(6)).unwrap().unwrap()[..],
        b"6"
    );
}

#[test]
fn s82_what_max_versions_removed_stays_refused_when_the_limit_is_lifted() {
    let db = Db::history(limited(1));
    for n in 1..=3 {
        db.table(&[("k", &n.to_string())]);
    }
    db.compact_all();
    set_history(&db, History::everything());
    for db in [db].map(Db::reopen) {
        for commit in [1, 2] {
            let error = db.default().get_at(b"k", Commit(commit)).unwrap_err();
            assert!(matches!(error, Error::Truncated { .. }), "{error}");
            let at = db.default().at_commit(Commit(commit)).unwrap();
            let mut scan = at.scan::<&[u8]>(..).unwrap();
            assert!(!scan.next());
            assert!(matches!(scan.error(), Some(Error::Truncated { .. })));
        }
        db.table(&[("k", "4")]);
        db.compact_all();
        assert!(db.default().get_at(b"k", Commit(2)).is_err());
        assert_eq!(
            &db.default().get_at(b"k", Commit(3)).unwrap().unwrap()[..],
            b"3"
        );
    }
}

#[test]
fn s82_a_policy_loosened_during_a_compaction_promises_nothing_that_it_drops() {
    let db = Db::history(History::head_only());
    for n in 1..=3 {
        db.table(&[("k", &n.to_string())]);
    }
    let (kv, once) = (db.kv.clone(), Arc::new(AtomicBool::new(true)));
    let promised = Arc::new(parking_lot::Mutex::new(None));
    let answer = promised.clone();
    db.store.on_call(Box::new(move |call| {
        if call.kind == CallKind::Finish && once.swap(false, Ordering::SeqCst) {
            let options = KeyspaceOptions {
                history: History::everything(),
                ..KeyspaceOptions::default()
            };
            kv.set_keyspace("default", options).unwrap();
            *answer.lock() = Some(kv.default_keyspace().at_commit(Commit(2)).unwrap());
        }
    }));
    let compacted = db.default().compact(&CompactOptions::default());
    db.store.clear_hook();
    assert!(compacted.is_err(), "its rules were changed under it");
    let snapshot = promised.lock().take().unwrap();
    assert_eq!(&snapshot.get(b"k").unwrap().unwrap()[..], b"2");
    db.compact_all();
    assert_eq!(&snapshot.get(b"k").unwrap().unwrap()[..], b"2");
    drop(snapshot);
    assert_eq!(commits(&db, "k"), [3, 2, 1]);
}

#[test]
fn s83_a_read_before_the_oldest_kept_version_is_refused_as_truncated() {
    let db = Db::history(limited(2));
    for n in 1..=4 {
        db.table(&[("k", &n.to_string())]);
    }
    db.compact_all();
    match db.default().get_at(b"k", Commit(2)).unwrap_err() {
        Error::Truncated {
            key,
            asked,
            oldest_kept,
        } => {
            assert_eq!(
                (key.as_str(), asked, oldest_kept),
                ("k", Commit(2), Commit(3))
            );
        }
        other => panic!("{other}"),
    }
    assert_eq!(
        &db.default().get_at(b"k", Commit(3)).unwrap().unwrap()[..],
        b"3"
    );
}

#[test]
fn s83_the_mark_outlives_the_version_that_bore_it() {
    let db = Db::history(History {
        window: 4,
        max_versions: Some(1),
        ..History::default()
    });
    for n in 1..=3 {
        db.table(&[("k", &n.to_string())]);
    }
    db.compact_all();
    let held = db.default().at_commit(Commit(2)).unwrap();
    assert!(matches!(held.get(b"k"), Err(Error::Truncated { .. })));
    for n in 4..=9 {
        db.table(&[("k", &n.to_string())]);
        db.compact_all();
        assert!(
            matches!(held.get(b"k"), Err(Error::Truncated { .. })),
            "after commit {n}"
        );
    }
}

#[test]
fn a_commit_held_in_one_keyspace_is_not_taken_for_intact_in_another() {
    let db = Db::history(History::head_only());
    let wide = KeyspaceOptions {
        history: History::everything(),
        ..KeyspaceOptions::default()
    };
    let wide = db.kv.create_keyspace("wide", wide).unwrap();
    db.table(&[("k", "1")]);
    db.table(&[("k", "2")]);
    db.table(&[("k", "3")]);
    db.compact_all();
    let _held = wide.at_commit(Commit(1)).unwrap();
    assert!(matches!(
        db.default().get_at(b"k", Commit(1)),
        Err(Error::NotRetained { .. })
    ));
}

#[test]
fn two_callers_asking_for_a_dropped_commit_at_once_do_not_vouch_for_each_other() {
    let db = Db::history(History::head_only());
    db.table(&[("k", "1")]);
    db.table(&[("k", "2")]);
    db.compact_all();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    assert!(db.default().at_commit(Commit(1)).is_err());
                }
            });
        }
    });
}

#[test]
fn a_checkpoint_that_lapsed_stays_lapsed_when_the_clock_steps_back() {
    let db = Db::history(History::head_only());
    db.table(&[("k", "1")]);
    let started = db.clock.now();
    db.kv
        .checkpoint("c", Some(Duration::from_secs(60)))
        .unwrap();
    db.table(&[("k", "2")]);
    assert_eq!(
        &db.default().get_at(b"k", Commit(1)).unwrap().unwrap()[..],
        b"1"
    );
    db.clock.advance(Duration::from_secs(61));
    db.compact_all();
    db.clock.set_wall(Timestamp(started.0));
    assert!(matches!(
        db.default().get_at(b"k", Commit(1)),
        Err(Error::NotRetained { .. })
    ));
    assert!(db.kv.checkpoints().is_empty());
}

#[test]
fn a_checkpoint_that_lapsed_stays_lapsed_when_the_clock_steps_back_during_a_flush() {
    let db = Db::history(History::head_only());
    db.put("k", "1");
    let started = db.clock.now();
    db.kv
        .checkpoint("c", Some(Duration::from_secs(60)))
        .unwrap();
    db.put("k", "2");
    db.clock.advance(Duration::from_secs(61));
    let clock = db.clock.clone();
    db.store.on_call(Box::new(move |call| {
        if call.kind == CallKind::Finish {
            clock.set_wall(Timestamp(started.0));
        }
    }));
    db.kv.flush().unwrap();
    db.store.clear_hook();
    assert!(matches!(
        db.default().get_at(b"k", Commit(1)),
        Err(Error::NotRetained { .. })
    ));
    assert!(db.kv.checkpoints().is_empty());
}

#[test]
fn a_checkpoint_made_while_a_flush_runs_and_the_clock_steps_back_is_not_taken_for_lapsed() {
    let db = Db::history(History::head_only());
    db.put("k", "1");
    db.clock.advance(Duration::from_secs(1_000));
    let (clock, kv) = (db.clock.clone(), db.kv.clone());
    let once = AtomicBool::new(true);
    db.store.on_call(Box::new(move |call| {
        if call.kind == CallKind::Finish && once.swap(false, Ordering::SeqCst) {
            // Its lease will have ended by the time at which the flush began, which is yet to come.
            clock.set_wall(Timestamp(clock.now().0 - 900_000_000));
            kv.checkpoint("c", Some(Duration::from_secs(60))).unwrap();
        }
    }));
    db.kv.flush().unwrap();
    db.store.clear_hook();
    assert_eq!(db.kv.checkpoints().len(), 1);
    db.table(&[("k", "2")]);
    db.compact_all();
    assert_eq!(
        &db.default().get_at(b"k", Commit(1)).unwrap().unwrap()[..],
        b"1"
    );
}
