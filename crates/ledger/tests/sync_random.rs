//! Random histories of three replicas over one remote: writes, syncs, partitions, failures, crashes,
//! compactions, prunes, time. Each write leaves a mark of its own beside its key, so that what a replica
//! knows can be read from it; what it must answer then follows from the rule of the DAG alone: of the
//! known writes to a key those stay that no known write knew.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::json;
use siltstone_ledger::crypto::SeededEntropy;
use siltstone_ledger::{
    AllDocs, Attachment, Background, BulkWrite, Document, Error, Keep, Ledger, Options, Remote,
};
use siltstone_storage::{
    Blobs, Env, FaultPlan, FaultyBlobs, ManualClock, MemBlobs, Rng, SeededRng,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A write: key, what was written, what its writer knew.
struct Write {
    key: String,
    doc: Option<Document>,
    knew: BTreeSet<usize>,
    /// The writer was told that it is durable.
    acknowledged: bool,
}

#[derive(Debug)]
struct Seeded(SeededRng);

impl Rng for Seeded {
    fn next(&self) -> u64 {
        self.0.next()
    }
}

struct Replica {
    name: u8,
    seed: u64,
    clock: Arc<ManualClock>,
    store: MemBlobs,
    local: FaultyBlobs,
    remote: FaultyBlobs,
    ledger: Ledger,
    at: Attachment,
}

impl Replica {
    fn new(name: u8, seed: u64, clock: &Arc<ManualClock>, store: MemBlobs, mem: &MemBlobs) -> Self {
        let none = FaultPlan::default;
        let local = FaultyBlobs::new(Arc::new(store.clone()), clock.clone(), none());
        let remote = FaultyBlobs::new(Arc::new(mem.clone()), clock.clone(), none());
        let env = Env {
            clock: clock.clone(),
            rng: Arc::new(SeededRng::new(seed)),
            blobs: Arc::new(local.clone()),
        };
        let options = Options {
            author: Some(vec![name]),
            car_bytes: 1500,
            compacted_car_bytes: 4000,
            journal_bytes: 8000,
            checkpoint_edits: 15,
            compact_from: Some(6),
            compact_fan_in: 2,
            background: Background::Inline,
            entropy: Arc::new(SeededEntropy(Seeded(SeededRng::new(seed)))),
            ..Options::default()
        };
        let ledger = Ledger::open(env, NAME, options).unwrap();
        let shared = Remote::new("shared", Arc::new(remote.clone()) as Arc<dyn Blobs>);
        let at = ledger.attach(shared.background(false)).unwrap();
        Self {
            name,
            seed,
            clock: clock.clone(),
            store,
            local,
            remote,
            ledger,
            at,
        }
    }

    /// The process ends, and another opens what the disk kept.
    fn restart(self, mem: &MemBlobs, random: &mut fastrand::Rng) -> Self {
        let Self {
            name,
            seed,
            clock,
            store,
            ledger,
            ..
        } = self;
        drop(ledger);
        let store = store.after_crash(|most| random.usize(0..=most));
        Self::new(name, seed + 1000, &clock, store, mem)
    }

    /// The writes that are here, by their marks.
    fn known(&self) -> siltstone_ledger::Result<BTreeSet<usize>> {
        let marks = AllDocs {
            prefix: Some("w-".into()),
            ..AllDocs::default()
        };
        let rows = self.ledger.all_docs(&marks)?.rows;
        Ok(rows
            .iter()
            .map(|row| row.id[2..].parse().unwrap())
            .collect())
    }

    /// What is answered follows from what is known.
    fn check(&self, writes: &[Write]) {
        let known = self.known().unwrap();
        let mut left: BTreeMap<&str, Vec<&Option<Document>>> = BTreeMap::new();
        for at in &known {
            let write = &writes[*at];
            let replaced = known
                .iter()
                .any(|by| writes[*by].key == write.key && writes[*by].knew.contains(at));
            if !replaced {
                left.entry(&write.key).or_default().push(&write.doc);
            }
        }
        let mut conflicts = BTreeSet::new();
        for (key, docs) in left {
            let found = match self.ledger.get(key) {
                Ok(document) => Some(document),
                Err(Error::NotFound { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            assert!(
                docs.contains(&&found),
                "seed {}: {key} is {found:?}",
                self.seed
            );
            if docs.iter().any(|doc| *doc != docs[0]) {
                conflicts.insert(key.to_string());
            }
        }
        let found = self.ledger.conflicts().unwrap();
        let found: BTreeSet<String> = found.into_iter().map(|conflict| conflict.id).collect();
        assert_eq!(found, conflicts, "seed {}", self.seed);
    }
}

fn settle(all: &[Replica], seed: u64) {
    for round in 0.. {
        let mut quiet = true;
        for one in all {
            let report = one.at.sync().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert!(
                report.refused.is_empty(),
                "seed {seed}: {:?}",
                report.refused
            );
            quiet &= !report.published && report.pulled_events == 0;
        }
        if quiet {
            return;
        }
        assert!(round < 12, "seed {seed}: they do not come to an end");
    }
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (_, clock) = Env::simulated(Arc::new(MemBlobs::new()), seed);
    let mem = match seed % 2 {
        0 => MemBlobs::new(),
        _ => MemBlobs::bucket(),
    };
    let mut writes: Vec<Write> = Vec::new();
    let new = |name: u8| {
        Replica::new(
            name,
            seed * 10 + u64::from(name),
            &clock,
            MemBlobs::new(),
            &mem,
        )
    };
    let mut all: Vec<Replica> = (0..3).map(new).collect();
    for _ in 0..random.usize(10..50) {
        let who = random.usize(0..3);
        let mut dead = false;
        if random.u8(0..12) == 0 {
            let one = &all[who];
            let at = one.local.calls() + random.u64(1..30);
            one.local.set_plan(FaultPlan::crash_at(at));
        }
        match random.u8(0..20) {
            0..=8 => {
                let one = &all[who];
                let id = writes.len();
                let key = format!("k{}", random.u8(0..6));
                let doc = (random.u8(0..5) > 0).then(|| doc(json!({"by": id})));
                let knew = one.known();
                writes.push(Write {
                    key: key.clone(),
                    doc: doc.clone(),
                    knew: knew.clone().unwrap_or_default(),
                    acknowledged: false,
                });
                let write = match doc {
                    Some(doc) => BulkWrite::Put(key, doc),
                    None => BulkWrite::Delete(key),
                };
                let mark = BulkWrite::Put(format!("w-{id:05}"), numbered(id as u64));
                match knew.and_then(|_| one.ledger.bulk(vec![write, mark])) {
                    Ok(_) => writes[id].acknowledged = true,
                    Err(_) => dead = true,
                }
            }
            9..=14 => {
                let one = &all[who];
                let plan = match random.u8(0..6) {
                    // A partition.
                    0 => FaultPlan {
                        error_before: 1000,
                        ..FaultPlan::default()
                    },
                    1 => FaultPlan {
                        seed: random.u64(..),
                        error_before: 60,
                        error_after: 60,
                        ..FaultPlan::default()
                    },
                    _ => FaultPlan::default(),
                };
                one.remote.set_plan(plan);
                let _ = one.at.sync();
                one.remote.set_plan(FaultPlan::default());
            }
            15 => dead |= all[who].ledger.compact().is_err(),
            16 => dead |= all[who].ledger.checkpoint().is_err(),
            17 => clock.advance(Duration::from_secs(random.u64(1..6000))),
            18 => dead = random.bool(),
            _ => {
                if random.u8(0..3) == 0 && all.iter().all(|one| !one.local.is_crashed()) {
                    for one in &all {
                        one.local.set_plan(FaultPlan::default());
                    }
                    settle(&all, seed);
                    all[who]
                        .ledger
                        .prune(&Keep::Versions(random.u64(1..4)))
                        .unwrap();
                }
            }
        }
        if dead || all[who].local.is_crashed() {
            let one = all.remove(who);
            all.insert(who, one.restart(&mem, &mut random));
        }
        if random.u8(0..6) == 0 && !all[who].local.is_crashed() {
            all[who].local.set_plan(FaultPlan::default());
            all[who].check(&writes);
        }
    }
    for one in &all {
        one.local.set_plan(FaultPlan::default());
    }
    settle(&all, seed);
    all.push(new(3));
    settle(&all, seed);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(4000));
        settle(&all, seed);
    }
    // One more, who finds what is left after the cleaning.
    all.push(new(4));
    settle(&all, seed);
    for one in &all {
        let known = one.known().unwrap();
        let told = writes
            .iter()
            .enumerate()
            .filter(|(_, write)| write.acknowledged);
        for (id, _) in told {
            assert!(
                known.contains(&id),
                "seed {seed}: write {id} is lost on {}",
                one.name
            );
        }
        one.check(&writes);
        assert_eq!(one.ledger.clock(), all[0].ledger.clock(), "seed {seed}");
        assert_eq!(rows(&one.ledger), rows(&all[0].ledger), "seed {seed}");
        let report = one.ledger.verify().unwrap();
        assert!(
            report.problems.is_empty(),
            "seed {seed}: {:?}",
            report.problems
        );
    }
}

#[test]
fn three_replicas_agree_with_the_model_whatever_happens() {
    let seeds = std::env::var("LEDGER_SYNC_SEEDS").map_or(60, |text| text.parse().unwrap());
    let only = std::env::var("LEDGER_SYNC_SEED").ok();
    match only {
        Some(seed) => run(seed.parse().unwrap()),
        None => (0..seeds).for_each(run),
    }
}
