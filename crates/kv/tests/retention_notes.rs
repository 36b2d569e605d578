//! The hard cases on which count-driven, per-path compaction of history fails: what is retained at
//! a level would depend on when each path was compacted. Here it depends on commit numbers alone.
//!
//! The criterion: level L is correct at commit N exactly when N is a multiple of divisor^L, for
//! every key at once.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, Model, retained, roomy_options, text};
use siltstone_kv::{
    Batch, Commit, CompactOptions, CompactOrder, Durability, History, KeyspaceOptions, history,
};

fn levels(window: u64, divisor: u64, levels: u32) -> History {
    History {
        window,
        divisor,
        levels,
        ..History::default()
    }
}

fn some(order: CompactOrder, files: usize) -> CompactOptions {
    CompactOptions {
        order,
        max_files: Some(files),
        ..CompactOptions::default()
    }
}

fn numbers(db: &Db, key: &str) -> Vec<u64> {
    let versions = history(&db.default(), key.as_bytes()).unwrap();
    versions.iter().map(|version| version.commit.0).collect()
}

/// Commits `from..=to` of the keys whose commits `when` says, one table each `every` commits.
fn write(db: &Db, model: &mut Model, to: u64, every: u64, when: fn(&str, u64) -> bool) {
    for n in model.head() + 1..=to {
        let value = n.to_string();
        let rows: Vec<_> = ["a", "a.b", "a.c", "z"]
            .into_iter()
            .filter(|key| when(key, n))
            .map(|key| (key, Some(&value[..])))
            .collect();
        assert!(!rows.is_empty(), "each commit writes something");
        db.commit(model, &rows);
        if n % every == 0 {
            db.kv.flush().unwrap();
        }
    }
}

#[test]
fn work_that_is_announced_out_of_order_leaves_the_same_history() {
    // Sixteen tables of one commit each, merged in every kind of order, newer ones before older
    // ones, and merged ones again before others were merged at all.
    use CompactOrder::{LargestFirst, NewestFirst, OldestFirst, SmallestFirst};
    let policy = levels(2, 2, 3);
    let mut kept = Vec::new();
    for order in [
        vec![(OldestFirst, 16)],
        vec![
            (NewestFirst, 2),
            (OldestFirst, 2),
            (NewestFirst, 5),
            (OldestFirst, 16),
        ],
        vec![
            (OldestFirst, 3),
            (OldestFirst, 3),
            (NewestFirst, 4),
            (NewestFirst, 16),
        ],
        vec![
            (LargestFirst, 7),
            (SmallestFirst, 4),
            (LargestFirst, 4),
            (NewestFirst, 16),
        ],
    ] {
        let db = Db::history(policy.clone());
        let mut model = Model::default();
        write(&db, &mut model, 16, 1, |key, n| key != "a.b" || n % 3 == 0);
        assert_eq!(db.live().len(), 16);
        for (order, files) in order {
            db.compact(&some(order, files));
            db.check_history(&model, |n| retained(&policy, 16, n));
        }
        db.compact_all();
        kept.push(["a", "a.b", "z"].map(|key| numbers(&db, key)));
        let db = db.reopen();
        db.check_history(&model, |n| retained(&policy, 16, n));
    }
    assert_eq!(
        kept[0],
        [
            vec![16, 15, 14, 12, 8],
            vec![15, 12, 6],
            vec![16, 15, 14, 12, 8]
        ]
    );
    assert!(kept.iter().all(|one| *one == kept[0]), "{kept:?}");
}

#[test]
fn windows_that_end_at_different_commits_for_each_key_have_common_boundaries() {
    // Counted by their own writes, two inputs of `a` end at 2, 4, 6, of `a.b` at 6, 12, of `a.c`
    // at 9, 19, and of `z` in another keyspace at whatever commit its memtable was flushed.
    let policy = levels(3, 2, 5);
    let db = Db::history(policy.clone());
    let options = KeyspaceOptions {
        history: policy.clone(),
        ..KeyspaceOptions::default()
    };
    let side = db.kv.create_keyspace("side", options).unwrap();
    let mut model = Model::default();
    for n in 1..=97u64 {
        let value = n.to_string();
        let mut rows = vec![("a", Some(&value[..]))];
        if n % 3 == 0 {
            rows.push(("a.b", Some(&value)));
        }
        if n % 5 == 4 {
            rows.push(("a.c", Some(&value)));
        }
        let mut batch = Batch::new();
        for (key, _) in &rows {
            batch.put(&db.default(), key.as_bytes(), value.as_bytes());
        }
        if n % 7 == 1 {
            batch.put(&side, b"z", value.as_bytes());
        }
        db.kv.write(&batch, Durability::Buffered).unwrap();
        model.commit(&rows);
        if n % 4 == 3 {
            db.kv.flush().unwrap();
        }
        if n % 11 == 0 {
            db.compact(&some(CompactOrder::NewestFirst, 3));
        }
        if n % 23 == 0 {
            side.compact(&CompactOptions::default())
                .map_err(|failed| failed.error)
                .unwrap();
        }
    }
    db.kv.flush().unwrap();
    db.compact_all();
    for db in [db].map(Db::reopen) {
        let side = db.kv.keyspace("side").unwrap();
        db.check_history(&model, |n| retained(&policy, 97, n));
        let both = side.retained_commits().unwrap();
        assert_eq!(both, db.default().retained_commits().unwrap());
        for n in both.iter() {
            let last = (1..=n.0).rev().find(|n| n % 7 == 1);
            let read = side.get_at(b"z", n).unwrap().map(|value| text(&value));
            assert_eq!(read, last.map(|n| n.to_string()), "at {n}");
        }
    }
}

#[test]
fn a_key_with_odd_commits_only_never_aligns_and_is_exact_all_the_same() {
    let policy = levels(3, 2, 4);
    let db = Db::history(policy.clone());
    let mut model = Model::default();
    // Commits 1, 3, 5: a cut at the first one past boundary 2 would answer 3 there.
    let odd = |key: &str, n: u64| key == "z" || key == "a" && n % 2 == 1;
    write(&db, &mut model, 33, 3, odd);
    db.compact_all();
    for n in [16, 24, 28, 30, 32] {
        let read = db.default().get_at(b"a", Commit(n)).unwrap().unwrap();
        assert_eq!(text(&read), (n - 1).to_string());
    }
    // What is kept is what a retained commit reads: the odd one right before it.
    assert_eq!(numbers(&db, "a"), [33, 31, 29, 27, 23, 15]);
    let db = db.reopen();
    db.check_history(&model, |n| retained(&policy, 33, n));
    write(&db, &mut model, 80, 1, odd);
    db.compact_all();
    db.check_history(&model, |n| retained(&policy, 80, n));
}

#[test]
fn a_compaction_takes_no_commit_number_so_nothing_counts_as_covered_that_is_not() {
    // Three commits; the first two are compacted. Did the output take number 4, a restart would
    // take 3 for covered by 1..=4, and the next write would collide with it.
    let db = Db::history(History::everything());
    let mut model = Model::default();
    write(&db, &mut model, 3, 1, |_, _| true);
    let stats = db.compact(&some(CompactOrder::OldestFirst, 2));
    assert_eq!((stats.inputs.len(), stats.dropped), (2, 0));
    assert_eq!(db.kv.head(), Commit(3));
    let db = db.reopen();
    assert_eq!(db.kv.head(), Commit(3));
    model.check(&db.default(), 3);
    write(&db, &mut model, 4, 1, |_, _| true);
    db.compact_all();
    let db = db.reopen();
    db.check_history(&model, |_| true);
}

#[test]
fn idle_keys_need_no_tick_to_be_closed() {
    // `a.b` is written once and never again, while `z` moves the levels on far past it.
    let policy = levels(2, 3, 4);
    let db = Db::with(
        roomy_options(),
        KeyspaceOptions {
            history: policy.clone(),
            ..KeyspaceOptions::default()
        },
    );
    let mut model = Model::default();
    write(&db, &mut model, 300, 10, |key, n| {
        key == "z" || key == "a.b" && n == 5 || key == "a" && n <= 8
    });
    for files in [3, 7, 30] {
        db.compact(&some(CompactOrder::OldestFirst, files));
        db.check_history(&model, |n| retained(&policy, 300, n));
    }
    assert_eq!(numbers(&db, "a.b"), [5]);
    let db = db.reopen();
    db.check_history(&model, |n| retained(&policy, 300, n));
}

#[test]
fn a_window_keeps_the_newest_commits_and_not_all_or_nothing() {
    // Keeping two at commit 3: the inputs of a merge do not all go once the head is past two.
    let db = Db::history(levels(2, 2, 0));
    let mut model = Model::default();
    write(&db, &mut model, 3, 1, |_, _| true);
    db.compact_all();
    db.check_history(&model, |n| n >= 2);
    assert_eq!(numbers(&db, "a"), [3, 2]);
}
