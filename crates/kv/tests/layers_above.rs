//! What a layer above a keyspace builds on: numbers told in order, listeners around commits, and what
//! happened in a range.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, text};
use proptest::prelude::*;
use siltstone_kv::{
    Batch, Commit, CommitListener, Durability, Error, Go, History, Isolation, KeyRange, PutStats,
    Read, Written, changed_since, range_history,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[test]
fn a_write_is_told_its_number_before_anybody_waits() {
    let db = Db::new();
    let mut told = None;
    let mut batch = Batch::new();
    batch.put(&db.default(), b"k", b"v");
    let head = db.kv.head();
    let commit = db
        .kv
        .write_numbered(&batch, Durability::Durable, |commit| {
            assert_eq!(db.kv.head(), head, "not visible yet");
            told = Some(commit);
        })
        .unwrap();
    assert_eq!(told, Some(commit));
    assert_eq!(db.kv.head(), commit);
    let nothing = db
        .kv
        .write_numbered(&Batch::new(), Durability::Durable, |_| panic!("no number"));
    assert_eq!(nothing.unwrap(), commit);
    db.kv.wait_visible().unwrap();
    assert_eq!(db.kv.head(), commit, "a wait uses no number");
}

#[test]
fn numbers_told_under_a_lock_are_in_the_locks_order() {
    let db = Db::with(
        common::threaded_options(),
        siltstone_kv::KeyspaceOptions::default(),
    );
    let order = Mutex::new(Vec::new());
    let keyspace = db.default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..100u32 {
                    let mut locked = order.lock().unwrap();
                    let mut batch = Batch::new();
                    batch.put(&keyspace, b"n", &n.to_le_bytes());
                    let durability = if n % 2 == 0 {
                        Durability::Durable
                    } else {
                        Durability::Buffered
                    };
                    db.kv
                        .write_numbered(&batch, durability, |commit| {
                            locked.push(commit);
                            drop(locked);
                        })
                        .unwrap();
                }
            });
        }
    });
    let order = order.into_inner().unwrap();
    assert_eq!(order.len(), 400);
    assert!(order.is_sorted());
}

#[derive(Debug, Default)]
struct Listening {
    heard: Mutex<Vec<String>>,
    refuse: bool,
    keyspace: Mutex<Option<siltstone_kv::KeyspaceId>>,
}

impl CommitListener for Listening {
    fn commit(&self, writes: &Batch, go: &mut Go<'_>) -> siltstone_kv::Result<PutStats> {
        if self.refuse {
            return Err(Error::Refused {
                keyspace: "default".into(),
                cause: Arc::new(std::io::Error::other("not today")),
            });
        }
        let id = self.keyspace.lock().unwrap().unwrap();
        writes.for_each_in(id, |write| {
            let word = match write {
                Written::Put { key, value } => format!("{}={}", text(key), text(value)),
                Written::Delete { key } => format!("{}-", text(key)),
                Written::DeleteRange(range) => format!("{:?}", range.bounds().0.map(text)),
                _ => "?".into(),
            };
            self.heard.lock().unwrap().push(word);
        });
        let answer = go(&mut |commit| self.heard.lock().unwrap().push(format!("number {commit}")));
        self.heard
            .lock()
            .unwrap()
            .push(format!("done {}", answer.is_ok()));
        answer
    }
}

#[test]
fn a_listener_stands_around_the_commit_of_a_transaction() {
    let db = Db::new();
    let keyspace = db.default();
    let listening = Arc::new(Listening::default());
    *listening.keyspace.lock().unwrap() = Some(keyspace.id());
    let heard = || std::mem::take(&mut *listening.heard.lock().unwrap());
    let begin = || {
        let txn = db.kv.begin(Isolation::Serializable).unwrap();
        txn.listen(&keyspace, listening.clone()).unwrap();
        txn.listen(&keyspace, listening.clone()).unwrap();
        txn
    };
    let txn = begin();
    txn.put(&keyspace, b"a", b"1").unwrap();
    txn.delete(&keyspace, b"b").unwrap();
    txn.delete_range(&keyspace, &KeyRange::prefix(b"p"))
        .unwrap();
    txn.commit().unwrap();
    assert_eq!(
        heard(),
        ["a=1", "b-", "Some(\"p\")", "number 1", "done true"],
        "once, and in order"
    );
    let txn = begin();
    txn.put(&keyspace, b"a", b"2").unwrap();
    db.put("a", "first");
    assert!(matches!(txn.commit(), Err(Error::Conflict { .. })));
    assert_eq!(heard(), ["a=2", "done false"], "no number");
    drop(begin());
    assert!(heard().is_empty(), "rolled back");
    let txn = db.kv.begin(Isolation::Serializable).unwrap();
    txn.listen(
        &keyspace,
        Arc::new(Listening {
            refuse: true,
            ..Listening::default()
        }),
    )
    .unwrap();
    txn.put(&keyspace, b"a", b"3").unwrap();
    let error = txn.commit().unwrap_err().to_string();
    assert!(
        error.contains("not today") && error.contains("nothing was written"),
        "{error}"
    );
    assert_eq!(db.get("a").as_deref(), Some("first"));
}

#[test]
fn a_companion_is_one_for_each_open_database() {
    let (one, other) = (Db::new(), Db::new());
    let first = one.kv.companion::<Mutex<u32>>();
    *first.lock().unwrap() = 7;
    assert_eq!(*one.kv.clone().companion::<Mutex<u32>>().lock().unwrap(), 7);
    assert_eq!(*other.kv.companion::<Mutex<u32>>().lock().unwrap(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Range(u8, u8),
    Flush,
    Compact,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..8, 0u8..3).prop_map(|(k, v)| Step::Put(k, v)),
        2 => (0u8..8).prop_map(Step::Delete),
        1 => (0u8..8, 0u8..8).prop_map(|(a, b)| Step::Range(a.min(b), a.max(b))),
        1 => Just(Step::Flush),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn the_history_of_a_range_is_what_happened_in_it(
        steps in prop::collection::vec(steps(), 1..60),
        span in (0u64..60, 0u64..60),
        range in (0u8..8, 0u8..9),
    ) {
        let db = Db::history(History::everything());
        let keyspace = db.default();
        let mut states: Vec<BTreeMap<u8, u8>> = vec![BTreeMap::new()];
        let mut wrote: Vec<Vec<u8>> = vec![Vec::new()];
        for step in &steps {
            let mut now = states.last().unwrap().clone();
            let mut batch = Batch::new();
            let touched = match step {
                Step::Put(k, v) => {
                    batch.put(&keyspace, &[b'k', *k], &[*v]);
                    now.insert(*k, *v);
                    vec![*k]
                }
                Step::Delete(k) => {
                    batch.delete(&keyspace, &[b'k', *k]);
                    now.remove(k);
                    vec![*k]
                }
                Step::Range(a, b) if a < b => {
                    let bounds = (std::ops::Bound::Included(&[b'k', *a][..]), std::ops::Bound::Excluded(&[b'k', *b][..]));
                    batch.delete_range(&keyspace, &KeyRange::new(bounds.0, bounds.1).unwrap());
                    now.retain(|k, _| !(*a..*b).contains(k));
                    (*a..*b).collect()
                }
                Step::Range(..) => continue,
                Step::Flush => { db.kv.flush().unwrap(); continue; }
                Step::Compact => { db.kv.flush().unwrap(); db.compact_all(); continue; }
            };
            db.kv.write(&batch, Durability::Buffered).unwrap();
            states.push(now);
            wrote.push(touched);
        }
        let head = db.kv.head().0;
        let (after, upto) = (span.0.min(span.1).min(head), span.0.max(span.1).min(head));
        let (from, to) = (range.0.min(range.1), range.0.max(range.1));
        let bounds = (std::ops::Bound::Included(&[b'k', from][..]), std::ops::Bound::Excluded(&[b'k', to][..]));
        let keys = KeyRange::new(bounds.0, bounds.1).unwrap();
        let mut expected = Vec::new();
        for k in from..to {
            for n in after + 1..=upto {
                let (old, new) = (states[n as usize - 1].get(&k), states[n as usize].get(&k));
                if old != new {
                    expected.push((n, k, old.copied(), new.copied()));
                }
            }
        }
        let found: Vec<_> = range_history(&keyspace, &keys, Commit(after), Commit(upto))
            .unwrap()
            .into_iter()
            .map(|change| (change.commit.0, change.key[1], change.old.map(|v| v[0]), change.new.map(|v| v[0])))
            .collect();
        prop_assert_eq!(&found, &expected);
        // A deletion of what was not there may be found, or be gone.
        let since = changed_since(&keyspace, &keys, Commit(after)).unwrap();
        let commits = || after + 1..=head;
        let of = |state: &BTreeMap<u8, u8>| -> Vec<_> { state.iter().filter(|(k, _)| (from..to).contains(k)).map(|(k, v)| (*k, *v)).collect() };
        if commits().any(|n| of(&states[n as usize - 1]) != of(&states[n as usize])) {
            prop_assert!(since.is_some());
        }
        if let Some(since) = since {
            prop_assert!(since > Commit(after));
            prop_assert!(commits().any(|n| wrote[n as usize].iter().any(|k| (from..to).contains(k))));
        }
        // As of an earlier commit the same.
        let earlier = keyspace.at_commit(Commit(upto)).unwrap();
        prop_assert_eq!(earlier.commit().unwrap(), Commit(upto));
        let again = range_history(&earlier, &keys, Commit(after), Commit::MAX).unwrap();
        prop_assert_eq!(again.len(), expected.len());
    }
}
