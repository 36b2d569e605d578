//! Scenarios 13 to 17: transactions over trees and keyspaces, and of several participants.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{all_words, keyspace, threaded, tree, v};
use siltstone_kv::{History, Isolation, Read};
use siltstone_tree::{Edit, Error, Expect, Trees, TxEnd, WatchFrom};
use std::time::Duration;

#[test]
fn s13_two_patches_of_an_edit_share_a_commit_and_a_failed_match_leaves_nothing() {
    let (_kv, tree) = tree();
    let both = Edit::new().patch("a", v(r#"{"x": 1}"#)).patch("b", 2);
    let commit = tree.commit(&both).unwrap().commit;
    assert_eq!(
        tree.get_at("", commit).unwrap(),
        v(r#"{"a": {"x": 1}, "b": 2}"#)
    );
    assert_eq!(commit.0, 1);
    let failing = Edit::new()
        .expect("a.x", Expect::Value(9.into()))
        .patch("a", v(r#"{"x": 3}"#))
        .set("c", 1);
    assert!(matches!(
        tree.commit(&failing),
        Err(Error::Unexpected { .. })
    ));
    assert_eq!(tree.head(), commit);
    assert_eq!(tree.get("").unwrap(), v(r#"{"a": {"x": 1}, "b": 2}"#));
    let holding = Edit::new()
        .expect("a.x", Expect::Value(1.into()))
        .patch("a", v(r#"{"x": 3}"#));
    assert_eq!(tree.commit(&holding).unwrap().commit.0, 2);
}

#[test]
fn s13_a_transaction_spans_trees_and_keyspaces() {
    let (kv, tree) = tree();
    let other = Trees::of(&kv)
        .create("other", keyspace(History::everything()))
        .unwrap();
    let plain = kv.default_keyspace();
    tree.set("stock.apples", 5).unwrap();
    let mut watch = tree.watch("stock", WatchFrom::Now).unwrap();
    let mut watch_other = other.watch("", WatchFrom::Now).unwrap();
    assert_eq!(all_words(&mut watch), [r#"state@1 stock={"apples":5}"#]);
    assert_eq!(all_words(&mut watch_other), ["state@1"]);

    let txn = kv.begin(Isolation::Serializable).unwrap();
    tree.on(&txn).increment("stock.apples", -2).unwrap();
    assert_eq!(
        tree.on(&txn).get("stock.apples").unwrap(),
        v("3"),
        "its own writes"
    );
    assert_eq!(tree.get("stock.apples").unwrap(), v("5"), "nobody else's");
    tree.on(&txn).set("stock.pears", v("[1, 2]")).unwrap();
    other
        .on(&txn)
        .apply(&Edit::new().append("sold", "apples"))
        .unwrap();
    txn.put(&plain, b"k", b"v").unwrap();
    let refused = tree.on(&txn).set("stock.apples.x", 1);
    assert!(
        matches!(refused, Err(Error::WrongKind { .. })),
        "and the transaction goes on"
    );
    let commit = txn.commit().unwrap().commit;
    assert_eq!(commit.0, 2);
    assert_eq!(
        tree.get_at("", commit).unwrap(),
        v(r#"{"stock": {"apples": 3, "pears": [1, 2]}}"#)
    );
    assert_eq!(other.get("sold[0]").unwrap(), v("\"apples\""));
    assert_eq!(plain.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(
        all_words(&mut watch),
        ["2: stock.apples=3 stock.pears=[1,2]"]
    );
    assert_eq!(all_words(&mut watch_other), [r#"2: ={"sold":["apples"]}"#]);

    let txn = kv.begin(Isolation::Serializable).unwrap();
    tree.on(&txn).set("stock.apples", 0).unwrap();
    txn.roll_back().unwrap();
    assert_eq!(tree.get("stock.apples").unwrap(), v("3"));
    assert_eq!(all_words(&mut watch), Vec::<String>::new());
}

#[test]
fn s13_a_transaction_that_came_second_conflicts_and_writes_nothing() {
    let (kv, tree) = tree();
    tree.set("n", 1).unwrap();
    for (first, second) in [
        (Edit::new().set("n", 2), Edit::new().increment("n", 1)),
        (
            Edit::new().set("list", v("[]")),
            Edit::new().set("list[0]", 1),
        ),
        (Edit::new().append("log", 1), Edit::new().append("log", 2)),
        (
            Edit::new().set("n", 7),
            Edit::new().expect("n", Expect::Present).set("m", 1),
        ),
    ] {
        let txn = kv.begin(Isolation::Serializable).unwrap();
        if tree.on(&txn).apply(&second).is_err() {
            continue;
        }
        tree.commit(&first).unwrap();
        let head = tree.head();
        let before = tree.get("").unwrap();
        let error = Error::from(txn.commit().unwrap_err());
        assert!(error.is_conflict(), "{error}");
        assert_eq!((tree.head(), tree.get("").unwrap()), (head, before));
    }
    // What it did not look at does not matter.
    let txn = kv.begin(Isolation::Serializable).unwrap();
    tree.on(&txn).set("own", 1).unwrap();
    tree.set("foreign", 1).unwrap();
    txn.commit().unwrap();
}

#[test]
fn s13_transactions_and_commits_of_many_threads_lose_nothing() {
    let (kv, tree) = threaded();
    tree.set("a", 0).unwrap();
    tree.set("b", 0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..40 {
                    loop {
                        let txn = kv.begin(Isolation::Serializable).unwrap();
                        tree.on(&txn).increment("a", 1).unwrap();
                        tree.on(&txn).increment("b", -1).unwrap();
                        match txn.commit() {
                            Ok(_) => break,
                            Err(error) if Error::from(error.clone()).is_conflict() => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
            scope.spawn(|| {
                for _ in 0..40 {
                    tree.commit(&Edit::new().increment("a", 1).increment("b", -1))
                        .unwrap();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..200 {
                let view = tree.view().unwrap();
                let sum = view.get("a").unwrap().as_i64().unwrap()
                    + view.get("b").unwrap().as_i64().unwrap();
                assert_eq!(sum, 0, "at commit {}", view.commit());
            }
        });
    });
    assert_eq!(tree.get("").unwrap(), v(r#"{"a": 240, "b": -240}"#));
}

#[test]
fn s14_the_last_to_join_commits_for_all() {
    let (_kv, tree) = threaded();
    let id = tree.new_tx(3, Duration::from_secs(60)).unwrap();
    let first = tree.join(id, Edit::new().set("a", 1)).unwrap();
    let second = tree
        .join(id, Edit::new().set("b.c", 2).increment("b.n", 1))
        .unwrap();
    assert_eq!(first.outcome().unwrap(), None);
    assert_eq!(tree.find("").unwrap(), None, "nothing yet");
    assert_eq!(tree.open_txs(), [(id, 2, 3)]);
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| first.wait());
        let third = tree.join(id, Edit::new().append("d", 3)).unwrap();
        let commit = third.wait().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), commit);
        commit
    });
    assert_eq!(second.wait().unwrap(), waiting);
    assert_eq!(waiting.0, 1, "one commit");
    assert_eq!(
        tree.get("").unwrap(),
        v(r#"{"a": 1, "b": {"c": 2, "n": 1}, "d": [3]}"#)
    );
    assert!(
        matches!(
            tree.join(id, Edit::new().set("e", 1)),
            Err(Error::UnknownTx { .. })
        ),
        "finished"
    );
    assert!(matches!(
        tree.join(id + 1, Edit::new().set("e", 1)),
        Err(Error::UnknownTx { .. })
    ));
    assert!(matches!(
        tree.new_tx(0, Duration::from_secs(1)),
        Err(Error::TxRefused { .. })
    ));
    let id = tree.new_tx(2, Duration::from_secs(60)).unwrap();
    for (edit, word) in [
        (Edit::new(), "at least one"),
        (Edit::new().set("", 1), "not all of it"),
        (Edit::new().set("a..b", 1), "path"),
    ] {
        let error = tree.join(id, edit).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(tree.open_txs(), [(id, 0, 2)]);
}

#[test]
fn s14_one_too_many_is_refused_and_a_refused_commit_is_told_to_all() {
    let (_kv, tree) = threaded();
    let id = tree.new_tx(2, Duration::from_secs(60)).unwrap();
    let first = tree
        .join(id, Edit::new().expect("a", Expect::Present).set("a", 1))
        .unwrap();
    let second = tree.join(id, Edit::new().set("b", 1)).unwrap();
    for joined in [first, second] {
        assert!(matches!(joined.wait(), Err(Error::Unexpected { .. })));
    }
    assert_eq!(tree.head().0, 0);
    // Many at once: exactly two get in.
    let id = tree.new_tx(2, Duration::from_secs(60)).unwrap();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|n| {
                let tree = &tree;
                scope.spawn(move || {
                    tree.join(id, Edit::new().set(format!("p{n}"), n))
                        .and_then(|joined| joined.wait())
                })
            })
            .collect();
        all.into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let commits: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().ok())
        .collect();
    assert_eq!(commits.len(), 2, "{outcomes:?}");
    assert_eq!(commits[0], commits[1]);
    assert_eq!(tree.view().unwrap().len("").unwrap(), 2);
    for outcome in &outcomes {
        assert!(
            matches!(
                outcome,
                Ok(_) | Err(Error::TxFull { .. } | Error::UnknownTx { .. })
            ),
            "{outcome:?}"
        );
    }
}

#[test]
fn s15_a_participant_that_waits_in_vain_is_told_and_never_commits() {
    let (kv, tree) = threaded();
    let id = tree.new_tx(2, Duration::from_millis(50)).unwrap();
    let joined = tree.join(id, Edit::new().set("a", 1)).unwrap();
    let clock = kv.env().clock.clone();
    let started = clock.elapsed();
    let error = joined.wait().unwrap_err();
    let took = clock.elapsed() - started;
    assert!(
        (Duration::from_millis(40)..Duration::from_millis(200)).contains(&took),
        "{took:?}"
    );
    assert!(
        matches!(
            error,
            Error::TxOver {
                how: TxEnd::TimedOut(_),
                joined: 1,
                participants: 2,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        tree.join(id, Edit::new().set("b", 1)),
        Err(Error::UnknownTx { .. })
    ));
    assert_eq!(tree.open_txs(), []);
    assert_eq!(tree.head().0, 0);
    assert!(joined.wait().is_err(), "the same answer again");
}

#[test]
fn s15_time_runs_out_exactly_once_on_a_clock_in_hand() {
    let (env, clock) = siltstone_storage::Env::simulated(
        std::sync::Arc::new(siltstone_storage::MemBlobs::new()),
        1,
    );
    let kv =
        siltstone_kv::Kv::open(env, common::small_options(), Default::default(), None).unwrap();
    let tree = Trees::of(&kv).create("t", Default::default()).unwrap();
    let id = tree.new_tx(2, Duration::from_millis(50)).unwrap();
    let joined = tree.join(id, Edit::new().set("a", 1)).unwrap();
    clock.advance(Duration::from_millis(49));
    assert_eq!(joined.outcome().unwrap(), None);
    clock.advance(Duration::from_millis(1));
    let late = tree.join(id, Edit::new().set("b", 1)).unwrap_err();
    assert!(
        matches!(
            late,
            Error::TxOver {
                how: TxEnd::TimedOut(_),
                ..
            }
        ),
        "{late}"
    );
    assert!(joined.outcome().is_err());
    let id = tree.new_tx(2, Duration::from_millis(50)).unwrap();
    let joined = tree.join(id, Edit::new().set("a", 1)).unwrap();
    tree.abort_tx(id).unwrap();
    assert!(matches!(
        joined.wait(),
        Err(Error::TxOver {
            how: TxEnd::Aborted,
            ..
        })
    ));
    assert!(matches!(tree.abort_tx(id), Err(Error::UnknownTx { .. })));
    // Forgotten ones do not pile up.
    for _ in 0..5 {
        tree.new_tx(2, Duration::from_millis(1)).unwrap();
        clock.advance(Duration::from_millis(2));
    }
    assert!(tree.open_txs().len() <= 1, "{:?}", tree.open_txs());
    assert_eq!(tree.head().0, 0);
}

#[test]
fn s16_participants_have_parts_of_their_own() {
    let (_kv, tree) = threaded();
    for (a, b) in [
        ("a", "a"),
        ("a.b", "a"),
        ("a", "a.b.c"),
        ("a[0]", "a.b"),
        ("a{0}", "a[1]"),
        ("a{1}.x", "a.y"),
        ("a(k)", "a[0]"),
    ] {
        let id = tree.new_tx(2, Duration::from_secs(60)).unwrap();
        tree.join(id, Edit::new().set(a, 1)).unwrap();
        let refused = tree.join(id, Edit::new().set(b, 2));
        assert!(
            matches!(refused, Err(Error::TxRefused { .. })),
            "{a} and {b}"
        );
        // The refused one may come again.
        tree.join(id, Edit::new().set("elsewhere", 2)).unwrap();
        let _ = tree.delete("");
    }
    for (one, other, json) in [
        (("a[1]", 1), ("a[0]", 0), r#"{"a": [0, 1]}"#),
        (("a{42}", 42), ("a{0}", 0), r#"{"a": {"0": 0, "42": 42}}"#),
        (
            ("a.x.y", 1),
            ("a.x.z", 2),
            r#"{"a": {"x": {"y": 1, "z": 2}}}"#,
        ),
    ] {
        let id = tree.new_tx(2, Duration::from_secs(60)).unwrap();
        tree.join(id, Edit::new().set(one.0, one.1)).unwrap();
        tree.join(id, Edit::new().set(other.0, other.1))
            .unwrap()
            .wait()
            .unwrap();
        assert!(tree.get("").unwrap().same(&v(json)));
        tree.delete("").unwrap();
    }
}

#[test]
fn s17_two_participants_on_one_thread_do_not_wait_for_each_other() {
    let (_kv, tree) = tree();
    let id = tree.new_tx(2, Duration::from_secs(60)).unwrap();
    let first = tree.join(id, Edit::new().set("a", 1)).unwrap();
    let second = tree.join(id, Edit::new().set("b", 2)).unwrap();
    assert_eq!(first.wait().unwrap(), second.wait().unwrap());
    assert_eq!(tree.get("").unwrap(), v(r#"{"a": 1, "b": 2}"#));
}
