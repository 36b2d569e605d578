//! Scenarios 29 to 31: what stays readable, whatever compaction does.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{
    keyspace, open, open_faulty, open_planned, retained, small_options, threaded_options,
    tree_with, v,
};
use siltstone_kv::{
    Commit, CompactOptions, CompactOrder, Durability, Error as KvError, History, Kv, Options,
};
use siltstone_storage::{Blobs, FaultPlan, MemBlobs};
use siltstone_tree::{Edit, Error, Tree, Trees, Value, View};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// What commit `n` does: dense, sparse, and paths that only odd commits touch.
fn edit(n: u64) -> Edit {
    let edit = Edit::new()
        .set("count", n)
        .set(format!("dense[{}]", n % 10), n);
    match n % 6 {
        1 => edit.set(format!("odd.o{}", n % 7), n),
        3 => edit.set(
            format!("odd.o{}", n % 5),
            v(&format!(r#"{{"deep": [{n}]}}"#)),
        ),
        2 => edit.set(format!("sparse{{{}}}", (n % 40) as i64 - 20), n),
        4 => edit.patch("", v(&format!(r#"{{"gone": {{"g{}": {n}}}}}"#, n % 3))),
        5 => edit.patch("gone", Value::Null),
        _ => edit,
    }
}

#[test]
fn s29_every_retained_commit_is_exact_for_all_paths_after_compactions_in_any_order() {
    let history = History {
        window: 100,
        divisor: 10,
        levels: 3,
        ..History::default()
    };
    let options = Options {
        memtable_bytes: 64 << 10,
        table_bytes: 32 << 10,
        level1_bytes: 128 << 10,
        ..small_options()
    };
    let (kv, tree) = tree_with(options, history.clone());
    let model = open(&MemBlobs::new(), common::threaded_options());
    let model = Trees::of(&model)
        .create("model", keyspace(History::everything()))
        .unwrap();
    let first: Value = v(r#"{"dense": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}"#);
    for tree in [&tree, &model] {
        tree.commit_with(&Edit::new().set("", first.clone()), Durability::Buffered)
            .unwrap();
    }
    let mut rng = fastrand::Rng::with_seed(29);
    let mut held: Vec<(View, Value)> = Vec::new();
    let mut ever_compacted = 0;
    for n in 2..=10_000 {
        for tree in [&tree, &model] {
            let done = tree.commit_with(&edit(n), Durability::Buffered).unwrap();
            assert_eq!(done.commit, Commit(n));
        }
        if n % 1_700 == 3 {
            held.push((tree.view().unwrap(), model.get("").unwrap()));
        }
        if rng.u32(..150) == 0 {
            kv.flush().unwrap();
            let orders = [
                CompactOrder::OldestFirst,
                CompactOrder::NewestFirst,
                CompactOrder::SmallestFirst,
                CompactOrder::LargestFirst,
            ];
            let options = CompactOptions {
                order: orders[rng.usize(..4)],
                max_files: Some(rng.usize(1..5)),
                ..CompactOptions::default()
            };
            if tree.keyspace().compact(&options).is_ok() {
                ever_compacted += 1;
            }
        }
    }
    assert!(ever_compacted > 20, "{ever_compacted}");
    kv.flush().unwrap();
    tree.keyspace()
        .compact(&CompactOptions::default())
        .map_err(|e| e.error)
        .unwrap();
    let head = tree.head().0;
    let pinned = |n: u64| held.iter().any(|(view, _)| view.commit().0 == n);
    let readable = |n: &u64| retained(&history, head, *n) || pinned(*n);
    let listed: Vec<u64> = tree
        .retained_commits()
        .unwrap()
        .iter()
        .map(|commit| commit.0)
        .collect();
    assert_eq!(listed, (0..=head).filter(readable).collect::<Vec<_>>());
    for n in (0..=head).filter(readable) {
        let (ours, theirs) = (tree.at(Commit(n)).unwrap(), model.at(Commit(n)).unwrap());
        assert_eq!(
            ours.find("").unwrap(),
            theirs.find("").unwrap(),
            "commit {n}"
        );
        for path in ["odd.o1", "dense[3]", "sparse{7}", "gone.g1"] {
            assert_eq!(
                ours.find(path).unwrap(),
                theirs.find(path).unwrap(),
                "{path} at {n}"
            );
        }
    }
    for n in (0..=head).step_by(37).filter(|n| !readable(n)) {
        let Err(Error::Kv(KvError::NotRetained { before, after, .. })) =
            tree.get_at("count", Commit(n))
        else {
            panic!("commit {n}");
        };
        assert_eq!(before.map(|c| c.0), (0..n).rev().find(readable));
        assert_eq!(after.map(|c| c.0), (n + 1..=head).find(readable));
    }
    for (view, value) in &held {
        assert_eq!(
            &view.get("").unwrap(),
            value,
            "an open view at {}",
            view.commit()
        );
    }
    // The history says what the retained commits say.
    let history = tree.history("count", .., usize::MAX).unwrap();
    assert_eq!(history.complete_since, Commit(head - 99));
    for entry in &history.entries {
        assert_eq!(entry.new, Some(Value::from(entry.commit.0)));
        assert!(readable(&entry.commit.0) && readable(&entry.after.0));
    }
    let counts: Vec<_> = listed
        .iter()
        .map(|n| model.at(Commit(*n)).unwrap().find("count").unwrap())
        .collect();
    let changes = counts.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(history.entries.len(), changes);
}

/// The document at every retained commit.
fn contents(tree: &Tree) -> BTreeMap<u64, Option<Value>> {
    let commits = tree.retained_commits().unwrap();
    commits
        .iter()
        .map(|commit| (commit.0, tree.at(commit).unwrap().find("").unwrap()))
        .collect()
}

fn filled(mem: &MemBlobs, history: &History) -> Kv {
    let (kv, _) = open_faulty(mem, small_options());
    let kv = kv.unwrap();
    let tree = Trees::of(&kv)
        .create("t", keyspace(history.clone()))
        .unwrap();
    tree.set("", v(r#"{"dense": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}"#))
        .unwrap();
    for n in 2..60 {
        tree.commit_with(&edit(n), Durability::Buffered).unwrap();
        if n % 12 == 0 {
            kv.flush().unwrap();
        }
    }
    kv.flush().unwrap();
    kv
}

#[test]
fn s30_a_crash_at_any_step_of_a_compaction_leaves_every_retained_commit_as_it_was() {
    let history = History {
        window: 10,
        divisor: 3,
        levels: 2,
        ..History::default()
    };
    let mut steps = 0;
    for at in 1.. {
        let mem = MemBlobs::new();
        let kv = filled(&mem, &history);
        let tree = Trees::of(&kv).open("t").unwrap();
        let expected = contents(&tree);
        drop(tree);
        kv.close().unwrap();
        let (kv, store) = open_planned(&mem, small_options(), FaultPlan::default());
        let kv = kv.unwrap();
        let tree = Trees::of(&kv).open("t").unwrap();
        store.set_plan(FaultPlan::crash_at(store.calls() + at));
        let done = tree.keyspace().compact(&CompactOptions::default());
        let crashed = store.is_crashed();
        if !crashed {
            assert!(done.is_ok());
        }
        drop(tree);
        store.crash();
        drop(kv);
        let after = mem.after_crash(|_| 0);
        let kv = open(&after, small_options());
        kv.settle().unwrap();
        let tree = Trees::of(&kv).open("t").unwrap();
        assert_eq!(contents(&tree), expected, "crash at step {at}");
        let live = kv.manifest().state.tables.live().len();
        let retired = kv.manifest().state.tables.retired().count();
        let files = after.list("sst/").unwrap().len();
        assert!(
            files >= live && files <= live + retired,
            "{files} files, {live} live, {retired} retired"
        );
        steps = at;
        if !crashed {
            break;
        }
    }
    assert!(steps > 5, "{steps}");
}

#[test]
fn s31_commits_during_compactions_are_dense_and_readers_never_fail() {
    let history = History {
        window: 200,
        divisor: 10,
        levels: 2,
        ..History::default()
    };
    let run = |compact: bool| {
        let mem = MemBlobs::new();
        let kv = open(
            &mem,
            Options {
                memtable_bytes: 64 << 10,
                ..threaded_options()
            },
        );
        let tree = Trees::of(&kv)
            .create("t", keyspace(history.clone()))
            .unwrap();
        tree.set("", v(r#"{"dense": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]}"#))
            .unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if compact {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                        kv.flush().unwrap();
                        match tree.keyspace().compact(&CompactOptions::default()) {
                            Ok(_) => {}
                            Err(failed) => assert!(
                                matches!(failed.error, KvError::CompactionLost { .. }),
                                "{}",
                                failed.error
                            ),
                        }
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut reads = 0u64;
                    while !done.load(Ordering::SeqCst) {
                        let view = tree.view().unwrap();
                        let count = view.find("count").unwrap();
                        let document = view.get("").unwrap();
                        let Value::Object(fields) = &document else {
                            panic!()
                        };
                        assert_eq!(fields.get("count"), count.as_ref());
                        let at = view.commit();
                        assert!(
                            count.is_none_or(|count| count == Value::from(at.0)),
                            "at {at}"
                        );
                        reads += 1;
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    assert!(reads > 0);
                });
            }
            for n in 2..=10_000 {
                let done = tree.commit_with(&edit(n), Durability::Buffered).unwrap();
                assert_eq!(done.commit, Commit(n), "dense");
            }
            done.store(true, Ordering::SeqCst);
        });
        contents(&tree)
    };
    assert_eq!(run(true), run(false));
}
