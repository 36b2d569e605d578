//! Transactions of several threads at once, with the engine's own threads flushing and compacting,
//! and a crash half way.

use crate::common::threaded_options;
use crate::history::Recorder;
use crate::steps::{Planner, keyspace_options, keyspaces, planned, take};
use adya::Workload;
use fastrand::Rng;
use siltstone_kv::{CompactOptions, Durability, Error, Isolation, Keyspace, Kv, Read};
use siltstone_storage::{Env, FaultPlan, FaultyBlobs, MemBlobs};
use std::sync::{Arc, Mutex};
use std::thread;

const THREADS: i64 = 4;

struct Life<'a> {
    kv: &'a Kv,
    keyspaces: &'a [Keyspace; 2],
    store: &'a FaultyBlobs,
    history: &'a Mutex<Recorder>,
    workload: Workload,
    isolation: Option<Isolation>,
}

impl Life<'_> {
    fn client(&self, process: i64, seed: u64, transactions: usize) {
        let mut rng = Rng::with_seed(seed);
        let mut planner = Planner::new(self.workload, process * 10_000);
        for _ in 0..transactions {
            let steps = planner.plan(&mut rng);
            let isolation = self.isolation.unwrap_or_else(|| match rng.bool() {
                true => Isolation::Serializable,
                false => Isolation::Snapshot,
            });
            self.history
                .lock()
                .unwrap()
                .invoke(process, planned(&steps));
            let mut did = Vec::new();
            let mut asked = false;
            let answer = self.kv.begin(isolation).and_then(|txn| {
                for step in &steps {
                    take(&txn, self.keyspaces, self.workload, step, &mut did)?;
                    if rng.u8(0..4) == 0 {
                        thread::yield_now();
                    }
                }
                asked = true;
                let answer = txn.commit_with(Durability::Durable)?;
                Ok((answer.commit > txn.snapshot_commit()).then_some(answer.commit.0))
            });
            let mut history = self.history.lock().unwrap();
            match answer {
                Ok(commit) => history.ok(process, did, commit),
                Err(Error::Conflict { .. }) => history.fail(process, planned(&steps)),
                Err(_) if !asked => return history.fail(process, planned(&steps)),
                Err(_) => return history.unknown(process, planned(&steps)),
            }
        }
    }

    /// Housekeeping, and now and then the end of the world.
    fn disturb(&self, seed: u64, crash: bool) {
        let mut rng = Rng::with_seed(seed);
        for round in 0..12 {
            match rng.u8(0..3) {
                0 => drop(self.kv.flush()),
                1 => drop(self.keyspaces[rng.usize(0..2)].compact(&CompactOptions::default())),
                _ => drop(self.kv.default_keyspace().get(b"k0")),
            }
            if crash && round == 8 {
                self.store.crash();
            }
            thread::yield_now();
        }
    }
}

fn run(seed: u64, workload: Workload, isolation: Option<Isolation>, bucket: bool) -> Recorder {
    let mut mem = match bucket {
        true => MemBlobs::bucket(),
        false => MemBlobs::new(),
    };
    let history = Mutex::new(Recorder::default());
    for life in 0..2i64 {
        let env = Env::system(Arc::new(mem.clone()));
        let store = FaultyBlobs::new(env.blobs.clone(), env.clock.clone(), FaultPlan::default());
        let env = Env {
            blobs: Arc::new(store.clone()),
            ..env
        };
        let kv = Kv::open(env, threaded_options(), keyspace_options(), None).unwrap();
        let keyspaces = keyspaces(&kv).unwrap();
        let life_of = Life {
            kv: &kv,
            keyspaces: &keyspaces,
            store: &store,
            history: &history,
            workload,
            isolation,
        };
        thread::scope(|scope| {
            for process in 0..THREADS {
                let process = life * THREADS + process;
                let life_of = &life_of;
                scope.spawn(move || life_of.client(process, seed * 100 + process as u64, 25));
            }
            life_of.disturb(seed, life == 0);
        });
        store.crash();
        // It cannot end well, and need not.
        drop(kv.close());
        let mut rng = Rng::with_seed(seed);
        mem = mem.after_crash(|most| rng.usize(0..=most));
    }
    history.into_inner().unwrap()
}

fn check(isolation: Option<Isolation>, model: &str) {
    let (mut committed, mut cut_short) = (0, 0);
    for seed in 0..12 {
        for workload in [Workload::ListAppend, Workload::RwRegister] {
            for bucket in [false, true] {
                let history = run(seed, workload, isolation, bucket);
                let what = format!("seed {seed} of {workload:?}, bucket {bucket}");
                history.expect(workload, model, &what);
                committed += history.committed();
                cut_short += history.unknowns();
            }
        }
    }
    assert!(committed > 500, "{committed} committed");
    println!("{committed} committed, {cut_short} unknown");
}

#[test]
fn serializable_transactions_of_threads_are_strictly_serializable() {
    check(Some(Isolation::Serializable), "strict-serializable");
}

#[test]
fn snapshot_transactions_of_threads_are_isolated() {
    check(Some(Isolation::Snapshot), "strong-snapshot-isolation");
}

#[test]
fn both_isolations_of_threads_keep_what_the_weaker_one_promises() {
    check(None, "strong-snapshot-isolation");
}
