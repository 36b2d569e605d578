//! Several open transactions, stepped by a seed on one thread: the same seed gives the same history.
//! Flushes, compactions, reopenings, planned errors of the store and crashes come in between.

use crate::common::{simulated, small_options};
use crate::history::{Did, Recorder};
use crate::steps::{Planner, Step, keyspace_options, keyspaces, planned, take};
use adya::{Valid, Workload};
use fastrand::Rng;
use siltstone_kv::{CompactOptions, Durability, Error, Isolation, Keyspace, Kv, Transaction};
use siltstone_storage::{FaultPlan, FaultyBlobs, Injected, MemBlobs};

const PROCESSES: usize = 4;

struct Open {
    txn: Transaction,
    steps: Vec<Step>,
    at: usize,
    did: Vec<Did>,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    workload: Workload,
    /// `None`: each transaction as chance has it.
    isolation: Option<Isolation>,
    faults: bool,
    bucket: bool,
}

struct Run {
    rng: Rng,
    kind: Kind,
    mem: MemBlobs,
    store: FaultyBlobs,
    kv: Kv,
    keyspaces: [Keyspace; 2],
    planner: Planner,
    open: [Option<Open>; PROCESSES],
    process: [i64; PROCESSES],
    history: Recorder,
    crashes: u64,
}

impl Run {
    fn new(seed: u64, kind: Kind) -> Self {
        let mem = match kind.bucket {
            true => MemBlobs::bucket(),
            false => MemBlobs::new(),
        };
        let (env, _, store) = simulated(&mem, seed);
        let kv = Kv::open(env, small_options(), keyspace_options(), None).unwrap();
        Self {
            rng: Rng::with_seed(seed),
            kind,
            mem,
            store,
            keyspaces: keyspaces(&kv).unwrap(),
            kv,
            planner: Planner::new(kind.workload, 0),
            open: Default::default(),
            process: std::array::from_fn(|n| n as i64),
            history: Recorder::default(),
            crashes: 0,
        }
    }

    fn step(&mut self) {
        let slot = self.rng.usize(0..PROCESSES);
        match self.rng.u8(0..40) {
            0 => drop(self.kv.flush()),
            1 => {
                let at = self.rng.usize(0..2);
                drop(self.keyspaces[at].compact(&CompactOptions::default()));
            }
            2 => drop(self.kv.work()),
            3 if self.kind.faults && self.rng.u8(0..3) == 0 => {
                let fault = match self.rng.u8(0..4) {
                    0 => Injected::ErrorBefore,
                    1 => Injected::ErrorAfter,
                    _ => Injected::Crash,
                };
                let at = self.store.calls() + self.rng.u64(1..8);
                self.store.set_plan(FaultPlan::at(at, fault));
            }
            4 if self.rng.u8(0..6) == 0 => self.reopen(),
            _ => self.go_on(slot),
        }
        if self.store.is_crashed() || self.kv.is_stopped() {
            self.reopen();
        }
    }

    fn go_on(&mut self, slot: usize) {
        let process = self.process[slot];
        let Some(mut open) = self.open[slot].take() else {
            return self.begin(slot);
        };
        if let Some(step) = open.steps.get(open.at) {
            open.at += 1;
            let done = take(
                &open.txn,
                &self.keyspaces,
                self.kind.workload,
                step,
                &mut open.did,
            );
            match done {
                Ok(()) => self.open[slot] = Some(open),
                // It is given up; that nothing of it is written is checked.
                Err(_) => self.history.fail(process, planned(&open.steps)),
            }
            return;
        }
        if self.rng.u8(0..12) == 0 {
            open.txn.roll_back().unwrap();
            return self.history.fail(process, planned(&open.steps));
        }
        let before = open.txn.snapshot_commit();
        match open.txn.commit_with(Durability::Durable) {
            Ok(stats) => {
                let commit = (stats.commit > before).then_some(stats.commit.0);
                self.history.ok(process, open.did, commit);
            }
            Err(Error::Conflict { .. }) => self.history.fail(process, planned(&open.steps)),
            // Certain as long as writes go on.
            Err(_) if !self.kv.is_stopped() && !self.store.is_crashed() => {
                self.history.fail(process, planned(&open.steps));
            }
            Err(_) => {
                self.history.unknown(process, planned(&open.steps));
                self.process[slot] += PROCESSES as i64;
            }
        }
    }

    fn begin(&mut self, slot: usize) {
        let isolation = self
            .kind
            .isolation
            .unwrap_or_else(|| match self.rng.bool() {
                true => Isolation::Serializable,
                false => Isolation::Snapshot,
            });
        let steps = self.planner.plan(&mut self.rng);
        self.history.invoke(self.process[slot], planned(&steps));
        match self.kv.begin(isolation) {
            Ok(txn) => {
                self.open[slot] = Some(Open {
                    txn,
                    steps,
                    at: 0,
                    did: Vec::new(),
                });
            }
            Err(_) => self.history.fail(self.process[slot], planned(&steps)),
        }
    }

    fn reopen(&mut self) {
        for (slot, open) in self.open.iter_mut().enumerate() {
            if let Some(open) = open.take() {
                self.history.fail(self.process[slot], planned(&open.steps));
            }
        }
        if self.store.is_crashed() || self.kv.close().is_err() {
            self.store.crash();
            let rng = &mut self.rng;
            self.mem = self.mem.after_crash(|most| rng.usize(0..=most));
            self.crashes += 1;
        }
        let (env, _, store) = simulated(&self.mem, self.rng.u64(..));
        self.store = store;
        self.kv = Kv::open(env, small_options(), keyspace_options(), None).unwrap();
        self.keyspaces = keyspaces(&self.kv).unwrap();
    }

    fn run(mut self, steps: usize) -> Self {
        for _ in 0..steps {
            self.step();
        }
        self
    }
}

fn kinds(isolation: Option<Isolation>) -> impl Iterator<Item = Kind> {
    (0..8).map(move |n| Kind {
        workload: [Workload::ListAppend, Workload::RwRegister][n & 1],
        isolation,
        faults: n & 2 != 0,
        bucket: n & 4 != 0,
    })
}

/// Runs `rounds` seeds of every kind; answers how many were not serializable.
fn check(isolation: Option<Isolation>, model: &str, rounds: u64) -> usize {
    let (mut skewed, mut committed, mut unknown, mut crashes) = (0, 0, 0, 0);
    for kind in kinds(isolation) {
        for seed in 0..rounds {
            let run = Run::new(seed, kind).run(300);
            let what = format!("seed {seed} of {kind:?}");
            run.history.expect(kind.workload, model, &what);
            committed += run.history.committed();
            unknown += run.history.unknowns();
            crashes += run.crashes;
            if isolation == Some(Isolation::Snapshot) {
                let report = run.history.check(kind.workload, "serializable");
                skewed += usize::from(report.valid == Valid::False);
            }
        }
    }
    assert!(committed as u64 > rounds * 100, "{committed} committed");
    assert!(
        unknown > 0 && crashes > 0,
        "{unknown} unknown, {crashes} crashes"
    );
    println!("{committed} committed, {unknown} unknown, {crashes} crashes, {skewed} skewed");
    skewed
}

#[test]
fn serializable_transactions_are_strictly_serializable() {
    check(Some(Isolation::Serializable), "strict-serializable", 100);
}

#[test]
fn snapshot_transactions_are_isolated_and_write_skew_is_seen_among_them() {
    let skewed = check(Some(Isolation::Snapshot), "strong-snapshot-isolation", 100);
    assert!(skewed > 10, "only {skewed} histories show write skew");
}

#[test]
fn both_isolations_side_by_side_keep_what_the_weaker_one_promises() {
    check(None, "strong-snapshot-isolation", 100);
}

#[test]
fn a_seed_repeats_its_history() {
    let kind = kinds(None).nth(2).unwrap();
    let again = || format!("{:?}", Run::new(9, kind).run(300).history);
    assert_eq!(again(), again());
}
