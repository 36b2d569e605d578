//! Single operations of several threads at once: each takes effect at one moment between call and
//! return. Writes have numbers, so their order is also checked directly: it is the order in time.

use crate::common::threaded_options;
use crate::wing_gong::{Asked, Operation, is_linearizable};
use fastrand::Rng;
use siltstone_kv::{
    Commit, Durability, Error, Expect, Keyspace, KeyspaceOptions, Kv, PutStats, Read,
};
use siltstone_storage::{Env, MemBlobs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const KEYS: usize = 3;

/// A thread's operations: key, what, and the commit of a write.
type Did = Vec<(usize, Operation, Option<Commit>)>;

fn bytes(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

/// What a conditional write came to.
fn done(result: Result<PutStats, Error>) -> Option<Commit> {
    match result {
        Ok(stats) => Some(stats.commit),
        Err(Error::ConditionFailed { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn client(keyspace: &Keyspace, moments: &AtomicU64, seed: u64) -> Did {
    let mut rng = Rng::with_seed(seed);
    let mut did = Did::new();
    let mut last = [None; KEYS];
    for n in 0..20u32 {
        let at = rng.usize(0..KEYS);
        let key = [b'k', at as u8];
        let new = (seed as u32) << 8 | n;
        let durability = match rng.bool() {
            true => Durability::Durable,
            false => Durability::Buffered,
        };
        let called = moments.fetch_add(1, Ordering::SeqCst);
        let (asked, commit) = match rng.u8(0..10) {
            0..=1 => {
                let put = keyspace.put_with(&key, &bytes(new), durability).unwrap();
                (Asked::Put(new), Some(put.commit))
            }
            2 => {
                let deleted = keyspace.delete_with(&key, durability).unwrap();
                (Asked::Delete, Some(deleted.commit))
            }
            3..=5 => {
                let expected = last[at];
                let wanted = expected.map(bytes);
                let expect = wanted.as_ref().map_or(Expect::Absent, |v| Expect::Value(v));
                let commit = done(keyspace.put_if(&key, expect, &bytes(new)));
                let done = commit.is_some();
                let asked = Asked::PutIf {
                    expected,
                    new,
                    done,
                };
                (asked, commit)
            }
            6 if last[at].is_some() => {
                let expected = last[at].unwrap();
                let commit = done(keyspace.delete_if(&key, Expect::Value(&bytes(expected))));
                let done = commit.is_some();
                (Asked::DeleteIf { expected, done }, commit)
            }
            _ => {
                let found = keyspace.get(&key).unwrap();
                let found = found.map(|v| u32::from_be_bytes((&v[..]).try_into().unwrap()));
                last[at] = found;
                (Asked::Get(found), None)
            }
        };
        let operation = Operation {
            asked,
            called,
            returned: moments.fetch_add(1, Ordering::SeqCst),
        };
        did.push((at, operation, commit));
    }
    did
}

/// Writes have distinct numbers that grow in time.
fn in_order(writes: &mut [(Commit, Operation)]) -> bool {
    writes.sort_by_key(|(commit, _)| *commit);
    let mut latest_call = 0;
    writes.iter().all(|(_, write)| {
        let fits = write.returned > latest_call;
        latest_call = latest_call.max(write.called);
        fits
    }) && writes.windows(2).all(|pair| pair[0].0 < pair[1].0)
}

#[test]
fn single_operations_of_threads_are_linearizable() {
    let mut conditional = 0;
    for bucket in [false, true] {
        let mem = match bucket {
            true => MemBlobs::bucket(),
            false => MemBlobs::new(),
        };
        let env = Env::system(Arc::new(mem));
        let kv = Kv::open(env, threaded_options(), KeyspaceOptions::default(), None).unwrap();
        for round in 0..150u64 {
            let name = format!("round{round}");
            let keyspace = kv
                .create_keyspace(&name, KeyspaceOptions::default())
                .unwrap();
            let moments = AtomicU64::new(1);
            let did: Did = thread::scope(|scope| {
                let clients: Vec<_> = (0..4)
                    .map(|n| {
                        let (keyspace, moments) = (&keyspace, &moments);
                        scope.spawn(move || client(keyspace, moments, round * 4 + n))
                    })
                    .collect();
                if round % 4 == 0 {
                    kv.flush().unwrap();
                }
                clients
                    .into_iter()
                    .flat_map(|c| c.join().unwrap())
                    .collect()
            });
            for key in 0..KEYS {
                let of_key = did.iter().filter(|(at, _, _)| *at == key);
                let operations: Vec<_> = of_key.map(|(_, operation, _)| *operation).collect();
                let what = format!("bucket {bucket}, round {round}, key {key}: {operations:#?}");
                assert!(is_linearizable(&operations), "{what}");
                conditional += operations
                    .iter()
                    .filter(|one| matches!(one.asked, Asked::PutIf { done: true, .. }))
                    .count();
            }
            let numbered = |(_, operation, commit): &(usize, Operation, Option<Commit>)| {
                commit.map(|commit| (commit, *operation))
            };
            let mut writes: Vec<_> = did.iter().filter_map(numbered).collect();
            assert!(in_order(&mut writes), "bucket {bucket}, round {round}");
            kv.drop_keyspace(&name).unwrap();
        }
        kv.close().unwrap();
    }
    assert!(conditional > 500, "{conditional}");
}

#[test]
fn numbers_against_time_are_found() {
    let write = |commit, called, returned| {
        let asked = Asked::Delete;
        let operation = Operation {
            asked,
            called,
            returned,
        };
        (Commit(commit), operation)
    };
    assert!(in_order(&mut [write(1, 1, 2), write(2, 3, 4)]));
    assert!(in_order(&mut [write(2, 1, 4), write(1, 2, 3)]));
    assert!(!in_order(&mut [write(2, 1, 2), write(1, 3, 4)]));
    assert!(!in_order(&mut [write(1, 1, 2), write(1, 3, 4)]));
}
