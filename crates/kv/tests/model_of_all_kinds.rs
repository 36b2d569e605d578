//! Every kind of write against a model that keeps the whole contents at every commit: puts,
//! deletions, merges, deletions of ranges, values that expire, batches and transactions of them all;
//! with flushes, compactions of any tables in any order, and reopening in between.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, roomy_options};
use proptest::prelude::*;
use siltstone_kv::{
    Batch, Commit, CompactOptions, CompactOrder, Durability, History, Isolation, KeyRange,
    Keyspace, KeyspaceOptions, Read, ScanOptions,
};
use siltstone_storage::Timestamp;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Write {
    Put(u8, u8),
    Delete(u8),
    Merge(u8, u8),
    DeleteRange(u8, Option<u8>),
    Expiring(u8, u8, u8),
}

#[derive(Debug, Clone)]
enum Step {
    One(Write),
    Batch(Vec<Write>),
    Transaction(Vec<Write>, bool),
    Flush,
    Compact(u8, usize),
    Reopen,
    PowerCut,
    Sleep(u8),
    Pin,
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (0u8..6, any::<u8>()).prop_map(|(k, v)| Write::Put(k, v)),
        1 => (0u8..6).prop_map(Write::Delete),
        4 => (0u8..6, any::<u8>()).prop_map(|(k, v)| Write::Merge(k, v)),
        1 => (0u8..6, prop::option::of(0u8..7)).prop_map(|(a, b)| Write::DeleteRange(a, b)),
        1 => (0u8..6, any::<u8>(), 1u8..20).prop_map(|(k, v, t)| Write::Expiring(k, v, t)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => write().prop_map(Step::One),
        2 => prop::collection::vec(write(), 1..6).prop_map(Step::Batch),
        2 => (prop::collection::vec(write(), 1..6), any::<bool>()).prop_map(|(w, c)| Step::Transaction(w, c)),
        2 => Just(Step::Flush),
        2 => (0u8..4, 1usize..4).prop_map(|(order, most)| Step::Compact(order, most)),
        1 => Just(Step::Reopen),
        1 => Just(Step::PowerCut),
        1 => (1u8..10).prop_map(Step::Sleep),
        1 => Just(Step::Pin),
    ]
}

/// A value with the second at which it goes.
type Contents = BTreeMap<Vec<u8>, (Vec<u8>, Option<Timestamp>)>;

fn key(n: u8) -> Vec<u8> {
    vec![b'a' + n, b'k']
}

/// Some values are large enough to be kept apart from their keys.
fn value(v: u8) -> Vec<u8> {
    match v % 3 {
        0 => vec![v; 100],
        _ => vec![v],
    }
}

fn range(from: u8, to: Option<u8>) -> KeyRange {
    let (start, end) = (key(from), to.map(|to| key(from.max(to))));
    let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    KeyRange::new(Bound::Included(&start), end).unwrap()
}

fn apply(contents: &mut Contents, write: &Write, now: Timestamp) {
    match write {
        Write::Put(k, v) => drop(contents.insert(key(*k), (value(*v), None))),
        Write::Delete(k) => drop(contents.remove(&key(*k))),
        Write::Merge(k, v) => {
            // What has expired is gone, and what is merged onto it starts anew. In one commit time
            // stands still.
            let k = key(*k);
            let (mut merged, expires) = contents.remove(&k).unwrap_or_default();
            merged.extend(value(*v));
            contents.insert(k, (merged, expires));
        }
        Write::DeleteRange(from, to) => {
            let (start, end) = (key(*from), to.map(|to| key((*from).max(to))));
            contents.retain(|k, _| *k < start || end.as_ref().is_some_and(|end| k >= end));
        }
        Write::Expiring(k, v, seconds) => {
            let expires = now.after(Duration::from_secs(u64::from(*seconds)));
            contents.insert(key(*k), (value(*v), Some(expires)));
        }
    }
}

fn add(batch: &mut Batch, keyspace: &Keyspace, write: &Write) {
    match write {
        Write::Put(k, v) => batch.put(keyspace, &key(*k), &value(*v)),
        Write::Delete(k) => batch.delete(keyspace, &key(*k)),
        Write::Merge(k, v) => batch.merge(keyspace, &key(*k), &value(*v)),
        Write::DeleteRange(from, to) => batch.delete_range(keyspace, &range(*from, *to)),
        Write::Expiring(k, v, seconds) => {
            let ttl = Duration::from_secs(u64::from(*seconds));
            batch.put_ttl(keyspace, &key(*k), &value(*v), ttl)
        }
    };
}

/// The rows at one commit.
fn rows(read: &impl Read, options: ScanOptions) -> Vec<(Vec<u8>, Vec<u8>)> {
    let scan = read.scan_prefix(b"", options).unwrap();
    let row = |row: siltstone_kv::Result<(bytes::Bytes, bytes::Bytes)>| {
        row.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()
    };
    scan.into_iter().map(row).collect()
}

fn check(read: &impl Read, contents: &Contents, what: &str) {
    let expected: Vec<_> = contents
        .iter()
        .map(|(k, (v, _))| (k.clone(), v.clone()))
        .collect();
    assert_eq!(
        rows(read, ScanOptions::default()),
        expected,
        "forward {what}"
    );
    let mut backward = rows(read, ScanOptions::reverse());
    backward.reverse();
    assert_eq!(backward, expected, "backward {what}");
    for n in 0..6 {
        let found = read.get(&key(n)).unwrap().map(|v| v.to_vec());
        let expected = contents.get(&key(n)).map(|(v, _)| v.clone());
        assert_eq!(found, expected, "get {n} {what}");
        let looked_at = read.get_with(&key(n), <[u8]>::to_vec).unwrap();
        assert_eq!(looked_at, expected, "look at {n} {what}");
    }
}

/// A value that expires below a merge makes the merge's answer change with time: the model would
/// have to keep operands apart, so in it no merge meets such a value.
fn without_merges_on_expiring(contents: &Contents, writes: &[Write]) -> Vec<Write> {
    let mut expiring: std::collections::BTreeSet<Vec<u8>> = contents
        .iter()
        .filter(|(_, (_, expires))| expires.is_some())
        .map(|(k, _)| k.clone())
        .collect();
    let mut changed = Vec::new();
    for write in writes {
        let write = match write {
            Write::Merge(k, v) if expiring.contains(&key(*k)) => Write::Put(*k, *v),
            other => other.clone(),
        };
        match &write {
            Write::Expiring(k, _, _) => drop(expiring.insert(key(*k))),
            Write::Put(k, _) => drop(expiring.remove(&key(*k))),
            _ => {}
        }
        changed.push(write);
    }
    changed
}

fn run(steps: Vec<Step>, window: u64, apart: bool) {
    let keyspace = KeyspaceOptions {
        history: History {
            window,
            ..History::default()
        },
        merge_operator: Some("append".into()),
        blob_threshold: apart.then_some(64),
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let mut db = Db::with(roomy_options(), keyspace);
    // The contents at every commit, from 0.
    let mut model: Vec<Contents> = vec![Contents::new()];
    let mut pins = Vec::new();
    for (n, step) in steps.into_iter().enumerate() {
        let now = db.clock_now();
        let head = model.last().unwrap().clone();
        let view = db.default();
        match step {
            Step::One(_) | Step::Batch(_) | Step::Transaction(..) => {
                let (writes, transaction, commits) = match step {
                    Step::One(write) => (vec![write], false, true),
                    Step::Batch(writes) => (writes, false, true),
                    Step::Transaction(writes, commits) => (writes, true, commits),
                    _ => unreachable!(),
                };
                let writes = without_merges_on_expiring(&head, &writes);
                let mut next = head;
                for write in &writes {
                    apply(&mut next, write, now);
                }
                // An empty range is no write.
                let some = writes
                    .iter()
                    .any(|w| !matches!(w, Write::DeleteRange(a, Some(b)) if b <= a));
                if transaction {
                    let txn = db.kv.begin(Isolation::Serializable).unwrap();
                    for write in &writes {
                        match write {
                            Write::Put(k, v) => txn.put(&view, &key(*k), &value(*v)),
                            Write::Delete(k) => txn.delete(&view, &key(*k)),
                            Write::Merge(k, v) => txn.merge(&view, &key(*k), &value(*v)),
                            Write::DeleteRange(a, b) => txn.delete_range(&view, &range(*a, *b)),
                            Write::Expiring(k, v, s) => txn.put_ttl(
                                &view,
                                &key(*k),
                                &value(*v),
                                Duration::from_secs((*s).into()),
                            ),
                        }
                        .unwrap();
                    }
                    check(&txn.on(&view), &alive(&next, now), "inside a transaction");
                    if commits {
                        txn.commit().unwrap();
                    }
                } else {
                    let mut batch = Batch::new();
                    for write in &writes {
                        add(&mut batch, &view, write);
                    }
                    db.kv.write(&batch, Durability::Durable).unwrap();
                }
                if some && commits {
                    model.push(next);
                }
            }
            Step::Flush => drop(db.kv.flush().unwrap()),
            Step::Compact(order, most) => {
                let order = [
                    CompactOrder::OldestFirst,
                    CompactOrder::NewestFirst,
                    CompactOrder::SmallestFirst,
                    CompactOrder::LargestFirst,
                ][usize::from(order)];
                db.compact(&CompactOptions {
                    order,
                    max_files: Some(most),
                    ..CompactOptions::default()
                });
            }
            Step::Reopen => {
                pins.clear();
                drop(view);
                db = db.reopen();
                db.clock.set_wall(now);
            }
            Step::PowerCut => {
                pins.clear();
                drop(view);
                db = db.power_cut();
                db.clock.set_wall(now);
            }
            Step::Sleep(seconds) => db.clock.advance(Duration::from_secs(seconds.into())),
            Step::Pin => pins.push((model.len() - 1, view.snapshot().unwrap())),
        }
        let now = db.clock_now();
        let view = db.default();
        let head = model.len() as u64 - 1;
        assert_eq!(db.kv.head(), Commit(head), "step {n}");
        check(
            &view,
            &alive(&model[head as usize], now),
            &format!("at the head, step {n}"),
        );
        for back in 0..window.min(head + 1) {
            let commit = head - back;
            let read = view.at_commit(Commit(commit)).unwrap();
            let what = format!("at {commit} of {head}, step {n}");
            check(&read, &alive(&model[commit as usize], now), &what);
        }
        for (commit, pin) in &pins {
            check(
                pin,
                &alive(&model[*commit], now),
                &format!("pinned {commit}, step {n}"),
            );
        }
    }
    // At the end everything can be tidied up.
    drop(pins);
    let now = db.clock_now();
    db.kv.flush().unwrap();
    db.compact_all();
    db.compact_all();
    check(
        &db.default(),
        &alive(model.last().unwrap(), now),
        "at the end",
    );
    let report = db.kv.verify(|_, _| {}).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

fn alive(contents: &Contents, now: Timestamp) -> Contents {
    let alive = |(_, (_, expires)): &(&Vec<u8>, &(Vec<u8>, Option<Timestamp>))| {
        expires.is_none_or(|expires| expires > now)
    };
    contents
        .iter()
        .filter(alive)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_kind_of_write_reads_as_in_the_model_at_every_retained_commit(
        steps in prop::collection::vec(step(), 1..60), window in 1u64..12, apart: bool,
    ) {
        run(steps, window, apart);
    }
}
