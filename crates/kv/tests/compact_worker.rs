//! Compactions by another process: they change no answer, whatever the writer does meanwhile and
//! wherever the worker dies; a worker that comes too late changes nothing.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, Model, assert_no_orphan, retained, simulated, small_keyspace, small_options};
use siltstone_kv::{
    CompactWorker, Error, History, KeyRange, KeyspaceOptions, Kv, MergeOperator, Options, Source,
    Worked,
};
use siltstone_storage::{Clock, FaultPlan, FaultyBlobs, ManualClock, MemBlobs};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Jobs are offered from two tables on.
fn options() -> Options {
    Options {
        level0_trigger: 2,
        worker_patience: PATIENCE,
        ..small_options()
    }
}

/// A worker over the same bytes, with a store and a clock of its own.
struct Helper {
    worker: CompactWorker,
    store: FaultyBlobs,
    clock: Arc<ManualClock>,
}

impl Helper {
    fn new(mem: &MemBlobs, seed: u64) -> Self {
        let (env, clock, store) = simulated(mem, seed);
        let worker = CompactWorker::open(env, options()).unwrap();
        Self {
            worker,
            store,
            clock,
        }
    }

    fn finds_nothing(&self) {
        let worked = self.worker.work().unwrap();
        assert!(matches!(worked, Worked::Nothing), "{worked:?}");
    }

    fn compacts(&self) {
        let worked = self.worker.work().unwrap();
        assert!(matches!(worked, Worked::Compacted(_)), "{worked:?}");
    }

    fn loses(&self) {
        let worked = self.worker.work();
        assert!(
            matches!(worked, Ok(Worked::Lost(Error::CompactionLost { .. }))),
            "{worked:?}"
        );
    }
}

fn db() -> (Db, Model) {
    (
        Db::on(MemBlobs::new(), options(), small_keyspace()),
        Model::default(),
    )
}

/// Two tables of level 0 with overwrites and deletions, and something in memory.
fn fill(db: &Db, model: &mut Model) {
    for table in 0..2 {
        for n in 0..12 {
            let key = format!("key{}", n * (3 + table) % 10);
            let value = format!("{table}:{n}:{}", "v".repeat(90));
            let value = (n % 4 != 1).then_some(value.as_str());
            db.commit(model, &[(&key, value)]);
        }
        db.kv.flush().unwrap();
    }
    for n in 0..3 {
        db.commit(model, &[(&format!("key{n}"), Some("in memory"))]);
    }
}

/// A database with a job on offer and a worker that knows of it.
fn offered() -> (Db, Model, Helper) {
    let (db, mut model) = db();
    let helper = Helper::new(&db.mem, 7);
    helper.finds_nothing();
    fill(&db, &mut model);
    assert!(db.kv.work().unwrap());
    assert_eq!(jobs(&db.kv), 1, "the worker is offered the job");
    (db, model, helper)
}

/// How often a worker calls the store for the job of [`offered`].
fn calls_of_a_job() -> u64 {
    let (_db, _, helper) = offered();
    let before = helper.store.calls();
    helper.compacts();
    helper.store.calls() - before
}

fn jobs(kv: &Kv) -> usize {
    kv.manifest().state.work.jobs.len()
}

/// Every retained commit answers as the model does, here and after a reopen.
fn check(db: Db, model: &Model) {
    let history = db.default().options().history;
    let readable = |n| n == model.head() || retained(&history, model.head(), n);
    while db.kv.work().unwrap() {}
    for n in (0..=model.head()).filter(|n| readable(*n)) {
        model.check(&db.default().at_commit(siltstone_kv::Commit(n)).unwrap(), n);
    }
    db.assert_no_orphan();
    let report = db.kv.verify(|_, _| {}).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    let db = db.reopen();
    model.check(&db.default(), model.head());
    db.assert_no_orphan();
}

#[test]
fn a_worker_compacts_what_the_writer_offers() {
    let (db, mut model, helper) = offered();
    let before = db.live();
    // The writer neither waits nor does it too.
    assert!(!db.kv.work().unwrap());
    db.commit(&mut model, &[("key1", Some("meanwhile"))]);
    helper.compacts();
    assert!(db.kv.work().unwrap(), "the writer takes note");
    assert_eq!(jobs(&db.kv), 0);
    let after = db.live();
    assert!(before.iter().all(|id| !after.contains(id)));
    assert_eq!(db.kv.stats().totals.worker_compactions, 1);
    assert_eq!(db.kv.stats().totals.compactions, 0);
    helper.finds_nothing();
    check(db, &model);
}

#[test]
fn nothing_is_offered_without_a_worker_or_to_one_that_is_long_gone() {
    let (db, mut model) = db();
    fill(&db, &mut model);
    assert!(db.kv.work().unwrap());
    assert_eq!((jobs(&db.kv), db.kv.stats().totals.compactions), (0, 1));
    let helper = Helper::new(&db.mem, 7);
    helper.finds_nothing();
    // It has died since. A writer that opens later does not know when.
    let db = db.reopen();
    fill(&db, &mut model);
    assert!(db.kv.work().unwrap());
    assert_eq!((jobs(&db.kv), db.kv.stats().totals.compactions), (0, 1));
    // It was only slow: it sees that there is a new writer, and shows itself.
    helper.finds_nothing();
    fill(&db, &mut model);
    assert!(db.kv.work().unwrap());
    assert_eq!(jobs(&db.kv), 1);
    check(db, &model);
}

#[test]
fn a_worker_that_says_goodbye_is_offered_nothing() {
    let (db, mut model) = db();
    let helper = Helper::new(&db.mem, 7);
    helper.finds_nothing();
    helper.worker.leave().unwrap();
    fill(&db, &mut model);
    db.kv.work().unwrap();
    assert_eq!((jobs(&db.kv), db.kv.stats().totals.compactions), (0, 1));
}

#[test]
fn a_job_that_nobody_begins_comes_back() {
    let (db, model, helper) = offered();
    db.clock.advance(PATIENCE / 3);
    assert!(db.kv.work().unwrap());
    assert_eq!(jobs(&db.kv), 0);
    assert!(db.kv.work().unwrap(), "the writer does it itself");
    assert_eq!(db.kv.stats().totals.compactions, 1);
    helper.finds_nothing();
    check(db, &model);
}

#[test]
fn a_job_comes_back_when_level_0_fills_up() {
    let (db, mut model, helper) = offered();
    for n in 0..options().level0_stop * 3 / 4 {
        db.commit(&mut model, &[(&format!("more{n}"), Some("row"))]);
        db.kv.flush().unwrap();
    }
    assert!(db.kv.work().unwrap());
    assert_eq!(jobs(&db.kv), 0);
    helper.finds_nothing();
    check(db, &model);
}

#[test]
fn a_worker_that_goes_on_keeps_its_job_and_one_that_stands_still_loses_it() {
    let (db, model, helper) = offered();
    let (clock, seen) = (db.clock.clone(), Arc::new(AtomicBool::new(false)));
    let flag = seen.clone();
    // While it writes, more time passes for the writer than it has patience.
    let kv = db.kv.clone();
    on_first_write(&helper.store, move || {
        kv.work().unwrap();
        clock.advance(PATIENCE - Duration::from_secs(1));
        kv.work().unwrap();
        assert_eq!(jobs(&kv), 1, "it has been claimed since");
        clock.advance(Duration::from_secs(1));
        kv.work().unwrap();
        assert_eq!(jobs(&kv), 0);
        flag.store(true, Ordering::Relaxed);
    });
    helper.loses();
    assert!(seen.load(Ordering::Relaxed));
    check(db, &model);
}

/// Runs `what` once, when the store is first written to under `sst/`.
fn on_first_write(store: &FaultyBlobs, what: impl FnOnce() + Send + 'static) {
    let what = std::sync::Mutex::new(Some(what));
    store.on_call(Box::new(move |call| {
        if call.name.starts_with("sst/") && call.bytes > 0 {
            let what = what.lock().unwrap().take();
            if let Some(what) = what {
                what();
            }
        }
    }));
}

type Deed = fn(&Db, &mut Model);

/// What a writer may do while somebody compacts for it.
const DEEDS: &[(&str, Deed)] = &[
    ("writes and flushes", |db, model| {
        db.commit(model, &[("key1", None), ("key2", Some("newer"))]);
        db.kv.flush().unwrap();
    }),
    ("deletes a range", |db, model| {
        let range = KeyRange::new(Bound::Included(b"key2"), Bound::Excluded(b"key5")).unwrap();
        db.default().delete_range(&range).unwrap();
        model.commit(&[("key2", None), ("key3", None), ("key4", None)]);
        db.kv.flush().unwrap();
    }),
    ("compacts everything by hand", |db, _| {
        db.compact_all();
    }),
    ("shortens the history", |db, _| {
        db.set_history(History {
            window: 5,
            ..History::default()
        });
    }),
    ("shortens the history and changes its mind", |db, _| {
        let history = db.default().options().history;
        db.set_history(History::head_only());
        db.set_history(history);
    }),
    ("takes the job back", |db, _| {
        db.kv.work().unwrap();
        db.clock.advance(PATIENCE);
        db.kv.work().unwrap();
    }),
    ("takes the job back and does it", |db, _| {
        db.kv.work().unwrap();
        db.clock.advance(PATIENCE);
        while db.kv.work().unwrap() {}
    }),
    ("holds the head by name", |db, _| {
        db.kv.checkpoint("held", None).unwrap();
    }),
];

#[test]
fn whatever_the_writer_does_at_any_call_of_the_worker_no_answer_changes() {
    let calls = calls_of_a_job();
    assert!(calls > 10);
    for (name, deed) in DEEDS {
        for at in 1..=calls {
            let (db, model, helper) = offered();
            let shared = Arc::new(std::sync::Mutex::new(Some((db, model))));
            let inner = shared.clone();
            let count = std::sync::atomic::AtomicU64::new(0);
            helper.store.on_call(Box::new(move |_| {
                if count.fetch_add(1, Ordering::Relaxed) + 1 == at {
                    let mut world = inner.lock().unwrap();
                    let (db, model) = world.as_mut().unwrap();
                    deed(db, model);
                }
            }));
            match helper.worker.work() {
                Ok(Worked::Compacted(_) | Worked::Lost(_) | Worked::Nothing) => {}
                // A job that was taken back and done: its inputs are gone.
                Err(Error::Storage(error)) if error.is_not_found() => {}
                Err(error) => panic!("{name} at call {at}: {error}"),
            }
            helper.store.clear_hook();
            let (db, model) = shared.lock().unwrap().take().unwrap();
            check(db, &model);
        }
    }
}

#[test]
fn wherever_a_worker_dies_the_writer_goes_on() {
    let calls = calls_of_a_job();
    for at in 1..=calls {
        let (db, mut model, helper) = offered();
        let number = helper.store.calls() + at;
        helper.store.set_plan(FaultPlan::crash_at(number));
        let worked = helper.worker.work();
        assert!(helper.store.is_crashed(), "call {at} is made: {worked:?}");
        db.commit(&mut model, &[("key3", Some("after its death"))]);
        db.kv.work().unwrap();
        db.clock.advance(PATIENCE);
        while db.kv.work().unwrap() {}
        assert_eq!(jobs(&db.kv), 0);
        let totals = db.kv.stats().totals;
        assert_eq!(totals.worker_compactions + totals.compactions, 1);
        check(db, &model);
    }
}

/// A writer that holds the lock of its folder opens at any call of a worker, and takes charge with its
/// first write, when the worker is done.
#[test]
fn what_a_worker_publishes_before_a_new_writer_takes_charge_counts() {
    let calls = calls_of_a_job();
    let mut published = 0;
    for at in 1..=calls {
        let (db, mut model, helper) = offered();
        db.kv.sync().unwrap();
        db.store.crash();
        let (mem, next) = (db.mem.clone(), Arc::new(std::sync::Mutex::new(None)));
        let (inner, count) = (next.clone(), std::sync::atomic::AtomicU64::new(0));
        helper.store.on_call(Box::new(move |_| {
            if count.fetch_add(1, Ordering::Relaxed) + 1 == at {
                let keyspace = KeyspaceOptions::default();
                *inner.lock().unwrap() = Some(Db::locked(mem.clone(), options(), keyspace));
            }
        }));
        helper.compacts();
        helper.store.clear_hook();
        let new = next.lock().unwrap().take().unwrap();
        model.check(&new.default(), model.head());
        let before = new.live();
        new.commit(&mut model, &[("key5", Some("of the new writer"))]);
        published += u32::from(new.live() != before);
        assert_eq!(jobs(&new.kv), 0);
        for n in 3..10 {
            let (found, stats) = new.get_with_stats(&format!("key{n}"));
            if let (Some(_), Source::Table(id)) = (found, stats.source) {
                assert!(
                    new.live().contains(&id),
                    "call {at}: read from a replaced table"
                );
            }
        }
        check(new, &model);
    }
    assert!(published > 3, "{published} of {calls}");
}

#[test]
fn a_new_writer_voids_what_the_last_one_offered() {
    let calls = calls_of_a_job();
    for at in 1..=calls {
        let (db, mut model, helper) = offered();
        db.kv.sync().unwrap();
        let (mem, next) = (db.mem.clone(), Arc::new(std::sync::Mutex::new(None)));
        let (inner, count) = (next.clone(), std::sync::atomic::AtomicU64::new(0));
        helper.store.on_call(Box::new(move |_| {
            if count.fetch_add(1, Ordering::Relaxed) + 1 == at {
                *inner.lock().unwrap() =
                    Some(Db::on(mem.clone(), options(), KeyspaceOptions::default()));
            }
        }));
        let worked = helper.worker.work();
        helper.store.clear_hook();
        let new = next.lock().unwrap().take().unwrap();
        let published = matches!(worked, Ok(Worked::Compacted(_)));
        let lost = matches!(worked, Ok(Worked::Lost(_) | Worked::Nothing));
        assert!(published || lost, "call {at}: {worked:?}");
        db.store.crash();
        new.commit(&mut model, &[("key5", Some("of the new writer"))]);
        check(new, &model);
    }
}

#[test]
fn a_snapshot_holds_what_it_reads() {
    let (db, mut model) = db();
    db.set_history(History::head_only());
    let helper = Helper::new(&db.mem, 7);
    helper.finds_nothing();
    fill(&db, &mut model);
    let (snapshot, at) = (db.default().snapshot().unwrap(), model.head());
    let seen = model.clone();
    for n in 0..10 {
        db.commit(&mut model, &[(&format!("key{n}"), Some(&"z".repeat(300)))]);
    }
    db.kv.flush().unwrap();
    assert!(db.kv.work().unwrap());
    assert_eq!(jobs(&db.kv), 1);
    helper.compacts();
    db.kv.work().unwrap();
    seen.check(&snapshot, at);
    drop(snapshot);
    check(db, &model);
}

#[test]
fn merges_are_resolved_by_workers_that_know_the_operator() {
    let keyspace = KeyspaceOptions {
        merge_operator: Some("counter".into()),
        history: History::head_only(),
        ..small_keyspace()
    };
    let db = Db::on(MemBlobs::new(), options(), keyspace);
    let helper = Helper::new(&db.mem, 7);
    helper.finds_nothing();
    for _ in 0..2 {
        for n in 0..40 {
            db.default()
                .merge(format!("n{}", n % 20).as_bytes(), b"2")
                .unwrap();
        }
        db.kv.flush().unwrap();
    }
    assert!(db.kv.work().unwrap());
    assert_eq!(jobs(&db.kv), 1);
    helper.compacts();
    db.kv.work().unwrap();
    for n in 0..20 {
        assert_eq!(db.get(&format!("n{n}")).as_deref(), Some("8"));
    }
    let db = db.reopen();
    assert_eq!(db.get("n7").as_deref(), Some("8"));
}

/// Called like a built-in operator, and something else: the longest operand.
#[derive(Debug)]
struct Longest;

impl MergeOperator for Longest {
    fn name(&self) -> &str {
        "append"
    }

    fn merge(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        let longest = base.into_iter().chain(operands.iter().copied());
        let longest = longest.max_by_key(|value| value.len());
        Ok(longest.unwrap_or_default().to_vec())
    }
}

#[test]
fn a_program_s_own_operator_is_not_taken_for_the_built_in_one() {
    let options = Options {
        merge_operators: vec![Arc::new(Longest)],
        ..options()
    };
    let keyspace = KeyspaceOptions {
        merge_operator: Some("append".into()),
        history: History::head_only(),
        ..small_keyspace()
    };
    let db = Db::on(MemBlobs::new(), options, keyspace);
    let helper = Helper::new(&db.mem, 7);
    helper.finds_nothing();
    for operand in ["a", "longer"] {
        for n in 0..40 {
            let key = format!("n{n}");
            db.default()
                .merge(key.as_bytes(), operand.as_bytes())
                .unwrap();
        }
        db.kv.flush().unwrap();
    }
    assert!(db.kv.work().unwrap());
    assert_eq!((jobs(&db.kv), db.kv.stats().totals.compactions), (0, 1));
    assert_eq!(db.get("n7").as_deref(), Some("longer"));
}

#[test]
fn idle_workers_make_no_edits() {
    let (db, mut model) = db();
    let helpers = [Helper::new(&db.mem, 7), Helper::new(&db.mem, 8)];
    fill(&db, &mut model);
    let look = |times: u64| {
        for _ in 0..times {
            for helper in &helpers {
                helper.clock.advance(PATIENCE);
                helper.finds_nothing();
            }
        }
        helpers[1].worker.manifest().number
    };
    assert_eq!(look(2), look(20));
}

#[test]
fn a_worker_with_large_values_shows_that_it_goes_on() {
    let roomy = Options {
        memtable_bytes: 2 << 20,
        ..options()
    };
    let keyspace = KeyspaceOptions {
        // Values in blob files are not for workers.
        blob_threshold: Some(u32::MAX),
        ..small_keyspace()
    };
    let db = Db::on(MemBlobs::new(), roomy, keyspace);
    let helper = Helper::new(&db.mem, 7);
    helper.finds_nothing();
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..2 {
        for n in 0..12 {
            let value: Vec<u8> = (0..100_000).map(|_| rng.u8(..)).collect();
            db.default()
                .put(format!("key{n}").as_bytes(), &value)
                .unwrap();
        }
        db.kv.flush().unwrap();
    }
    assert!(db.kv.work().unwrap());
    assert_eq!(jobs(&db.kv), 1);
    // Each value takes seconds to be read and written, all of them longer than the writer's patience.
    let (kv, clocks) = (db.kv.clone(), [db.clock.clone(), helper.clock.clone()]);
    helper.store.on_call(Box::new(move |call| {
        if call.bytes > 80_000 {
            clocks.iter().for_each(|clock| clock.advance(PATIENCE / 30));
            kv.work().unwrap();
        }
    }));
    helper.compacts();
    assert!(helper.clock.elapsed() > PATIENCE);
}

#[test]
fn random_histories_with_two_workers_that_come_and_go() {
    let by_workers: u64 = (0..200).map(random_history).sum();
    assert!(by_workers > 100, "they did {by_workers}");
}

/// Answers how many compactions workers did.
fn random_history(seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut db, mut model) = db();
    let mut helpers: Vec<Helper> = Vec::new();
    let mut by_workers = 0;
    for step in 0..120 {
        match rng.u32(0..20) {
            0..8 => {
                let key = format!("key{}", rng.u32(0..30));
                let value = "v".repeat(rng.usize(1..400));
                let value = rng.bool().then_some(value.as_str());
                db.commit(
                    &mut model,
                    &[(&key, value), ("count", Some(&step.to_string()))],
                );
            }
            8..10 => {
                db.kv.flush().unwrap();
            }
            10..13 => {
                db.kv.work().unwrap();
            }
            13..16 => {
                if let Some(helper) = rng.choice(&helpers) {
                    let crash = rng.u32(0..4) == 0;
                    if crash {
                        let at = helper.store.calls() + rng.u64(1..30);
                        helper.store.set_plan(FaultPlan::crash_at(at));
                    }
                    let worked = helper.worker.work();
                    assert!(worked.is_ok() || helper.store.is_crashed(), "seed {seed}");
                    helper.store.set_plan(FaultPlan::default());
                }
                helpers.retain(|helper| !helper.store.is_crashed());
            }
            16 => db.clock.advance(Duration::from_secs(rng.u64(1..20))),
            17 if helpers.len() < 2 => helpers.push(Helper::new(&db.mem, rng.u64(..))),
            18 if rng.u32(0..5) == 0 => {
                by_workers += db.kv.stats().totals.worker_compactions;
                db = db.reopen();
            }
            _ => model.check(&db.default(), model.head()),
        }
    }
    by_workers += db.kv.stats().totals.worker_compactions;
    let head = model.head();
    model.check(&db.default(), head);
    db.clock.advance(PATIENCE);
    check(db, &model);
    by_workers
}

#[test]
fn no_orphan_is_left_of_a_worker_that_died_with_the_writer() {
    let (db, model, helper) = offered();
    let at = helper.store.calls() + 12;
    helper.store.set_plan(FaultPlan::crash_at(at));
    let worked = helper.worker.work();
    assert!(helper.store.is_crashed(), "{worked:?}");
    db.kv.sync().unwrap();
    let db = db.power_cut();
    assert_no_orphan(&db.mem, &db.kv);
    model.check(&db.default(), model.head());
}

#[test]
fn a_database_that_is_not_there_is_not_worked_on() {
    let (env, _, _) = simulated(&MemBlobs::new(), 1);
    let refused = CompactWorker::open(env, options()).map(|_| ());
    assert!(matches!(refused, Err(Error::Storage(e)) if e.is_not_found()));
}
