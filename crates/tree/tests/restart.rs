//! Scenario 32, and a crash or an error at every step of writes: what was acknowledged is there,
//! numbers go on, watches resume.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{drain, keyspace, open, open_planned, small_options, v};
use siltstone_kv::{Commit, Durability, History, Isolation};
use siltstone_storage::{FaultPlan, Injected, MemBlobs};
use siltstone_tree::{Edit, Trees, Value, WatchEvent, WatchFrom};

/// What step `n` commits, and as how durable.
fn step(n: u64) -> (Edit, Durability) {
    let edit = match n % 7 {
        0 => Edit::new().append("log", n).increment("sum", n),
        1 => Edit::new().set(
            format!("map.k{}", n % 5),
            v(&format!(r#"{{"n": {n}, "list": [1, 2]}}"#)),
        ),
        2 => Edit::new().patch("map", v(&format!(r#"{{"k{}": null}}"#, n % 5))),
        3 => Edit::new().insert("log", 0, n),
        4 => Edit::new().set(
            "big",
            Value::Object(
                (0..300)
                    .map(|k| (format!("k{k:03}"), Value::from(n)))
                    .collect(),
            ),
        ),
        5 => Edit::new().patch("", v(r#"{"big": null}"#)),
        _ => Edit::new().set("", v(&format!(r#"{{"log": [], "sum": {n}, "map": {{}}}}"#))),
    };
    (
        edit,
        if n.is_multiple_of(3) {
            Durability::Durable
        } else {
            Durability::Buffered
        },
    )
}

const STEPS: u64 = 24;

/// The document after each commit of a run that nothing disturbs.
fn expected() -> Vec<Option<Value>> {
    let kv = open(&MemBlobs::new(), small_options());
    let tree = Trees::of(&kv)
        .create("t", keyspace(History::everything()))
        .unwrap();
    let mut docs = vec![None];
    for n in 1..=STEPS * 2 {
        tree.commit_with(&step(n).0, Durability::Buffered).unwrap();
        docs.push(tree.find("").unwrap());
    }
    docs
}

#[test]
fn s32_after_a_crash_at_any_step_numbers_go_on_and_watches_resume() {
    let docs = expected();
    let mut crashes = 0;
    for at in 1..2_000 {
        let mem = MemBlobs::new();
        {
            let kv = open(&mem, small_options());
            Trees::of(&kv)
                .create("t", keyspace(History::everything()))
                .unwrap();
            kv.close().unwrap();
        }
        let (kv, store) = open_planned(&mem, small_options(), FaultPlan::crash_at(at));
        let (mut durable, mut seen, mut issued) = (0, 0, 0);
        if let Ok(kv) = kv
            && let Ok(tree) = Trees::of(&kv).open("t")
            && let Ok(mut watch) = tree.watch("", WatchFrom::After(Commit(0)))
        {
            for n in 1..=STEPS {
                let (edit, durability) = step(n);
                issued = n;
                match tree.commit_with(&edit, durability) {
                    Ok(done) => assert_eq!(done.commit, Commit(n)),
                    Err(_) => break,
                }
                if durability == Durability::Durable {
                    durable = n;
                    while let Ok(Some(event)) = watch.try_next() {
                        seen = event.commit().0;
                    }
                }
                if n % 10 == 0 && kv.flush().is_ok() {
                    durable = n;
                }
            }
        }
        let crashed = store.is_crashed();
        store.crash();
        let after = mem.after_crash(|_| 0);
        let kv = open(&after, small_options());
        let tree = Trees::of(&kv).open("t").unwrap();
        let head = tree.head().0;
        assert!(
            (durable..=issued).contains(&head),
            "durable {durable}, found {head}, issued {issued}"
        );
        for n in 0..=head {
            assert_eq!(
                tree.at(Commit(n)).unwrap().find("").unwrap(),
                docs[n as usize],
                "commit {n} after a crash at {at}"
            );
        }
        // What was seen was durable here; the watch goes on from there.
        let mut watch = tree.watch("", WatchFrom::After(Commit(seen))).unwrap();
        for n in head + 1..=head + 5 {
            assert_eq!(
                tree.commit(&step(n).0).unwrap().commit,
                Commit(n),
                "numbers go on"
            );
            assert_eq!(tree.find("").unwrap(), docs[n as usize]);
        }
        let changes: Vec<u64> = drain(&mut watch)
            .iter()
            .filter(|event| matches!(event, WatchEvent::Changes { .. }))
            .map(|event| event.commit().0)
            .collect();
        let changed: Vec<u64> = (seen + 1..=head + 5)
            .filter(|n| docs[*n as usize] != docs[*n as usize - 1])
            .collect();
        assert_eq!(changes, changed, "crash at {at}");
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 20, "{crashes}");
}

#[test]
fn s32_an_error_at_any_step_leaves_a_tree_that_says_what_it_has() {
    let docs = expected();
    for at in 1..400 {
        let mem = MemBlobs::new();
        let (kv, store) = open_planned(&mem, small_options(), FaultPlan::default());
        let kv = kv.unwrap();
        let tree = Trees::of(&kv)
            .create("t", keyspace(History::everything()))
            .unwrap();
        let fault = [Injected::ErrorBefore, Injected::ErrorAfter][at as usize % 2];
        let planned = store.calls() + at;
        store.set_plan(FaultPlan::at(planned, fault));
        let (mut done, mut durable) = (0, 0);
        for n in 1..=STEPS {
            let (edit, durability) = step(n);
            match tree.commit_with(&edit, durability) {
                Ok(commit) => {
                    assert_eq!(commit.commit.0, n);
                    done = n;
                    if durability == Durability::Durable {
                        durable = n;
                    }
                    assert_eq!(tree.find("").unwrap(), docs[n as usize]);
                }
                Err(_) => break,
            }
        }
        let met = store.calls() >= planned;
        drop(tree);
        let _ = kv.close();
        drop(kv);
        let kv = open(&mem, small_options());
        let tree = Trees::of(&kv).open("t").unwrap();
        let head = tree.head().0;
        assert!(
            (durable..=done + 1).contains(&head),
            "{durable} durable, {done} done, {head} there"
        );
        assert_eq!(tree.find("").unwrap(), docs[head as usize]);
        if !met {
            assert!(at > 10, "{at}");
            break;
        }
    }
}

#[test]
fn s32_a_failed_transaction_and_a_dropped_one_leave_no_trace() {
    let mem = MemBlobs::new();
    let kv = open(&mem, small_options());
    let tree = Trees::of(&kv)
        .create("t", keyspace(History::everything()))
        .unwrap();
    tree.set("a", 1).unwrap();
    let id = tree.new_tx(2, std::time::Duration::from_secs(60)).unwrap();
    let joined = tree.join(id, Edit::new().set("b", 1)).unwrap();
    let txn = kv.begin(Isolation::Serializable).unwrap();
    tree.on(&txn).set("c", 1).unwrap();
    drop((txn, joined));
    kv.close().unwrap();
    let kv = open(&mem, small_options());
    let tree = Trees::of(&kv).open("t").unwrap();
    assert_eq!(tree.get("").unwrap(), v(r#"{"a": 1}"#));
    assert_eq!(tree.open_txs(), []);
    assert_eq!(tree.set("d", 1).unwrap(), Commit(2));
}
