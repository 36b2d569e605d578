//! Acceptance scenarios 77-83: history kept by levels.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, Model, retained, roomy_options, small_options, text};
use proptest::prelude::*;
use siltstone_kv::{
    Commit, CompactOptions, CompactOrder, Durability, Error, History, KeyspaceOptions, Kv, Read,
    Reader, history,
};
use siltstone_storage::{CallKind, Clock, Env, ManualClock, MemBlobs, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

fn levels(window: u64, divisor: u64, levels: u32) -> History {
    History {
        window,
        divisor,
        levels,
        ..History::default()
    }
}

fn commits(db: &Db, key: &str) -> Vec<u64> {
    let versions = history(&db.default(), key.as_bytes()).unwrap();
    versions.iter().map(|version| version.commit.0).collect()
}

const ORDERS: [CompactOrder; 4] = [
    CompactOrder::OldestFirst,
    CompactOrder::NewestFirst,
    CompactOrder::SmallestFirst,
    CompactOrder::LargestFirst,
];

fn some(order: CompactOrder, files: usize) -> CompactOptions {
    CompactOptions {
        order,
        max_files: Some(files),
        ..CompactOptions::default()
    }
}

#[test]
fn s77_every_retained_commit_reads_as_before_and_every_other_names_both_neighbours() {
    let policy = levels(100, 10, 2);
    let keyspace = KeyspaceOptions {
        history: policy.clone(),
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let db = Db::with(roomy_options(), keyspace);
    let mut model = Model::default();
    const HEAD: u64 = 5_000;
    for n in 1..=HEAD {
        let value = n.to_string();
        let mut rows = vec![("dense", Some(&value[..]))];
        for (key, every) in [("sparse-3", 3), ("sparse-97", 97), ("sparse-1100", 1_100)] {
            if n % every == every / 2 {
                rows.push((key, Some(&value)));
            }
        }
        match n % 61 {
            0 => rows.push(("comes-and-goes", Some(&value))),
            30 => rows.push(("comes-and-goes", None)),
            _ => {}
        }
        if n == 7 {
            rows.push(("once", Some(&value)));
        }
        db.commit(&mut model, &rows);
        if n % 500 == 0 {
            db.kv.flush().unwrap();
        }
    }
    db.compact_all();
    // Another time, for what a first flush had to keep.
    let stats = db.compact_all();
    assert_eq!(stats.dropped, 0, "one compaction of everything is enough");
    let bound = 100 + 2 * 9 * 100 / 10;
    for key in [
        "dense",
        "sparse-3",
        "sparse-97",
        "sparse-1100",
        "comes-and-goes",
        "once",
    ] {
        let kept = commits(&db, key);
        assert!(kept.len() <= bound, "{key}: {} versions", kept.len());
    }
    assert_eq!(commits(&db, "dense").len(), 100 + 90 + 40);
    for db in [db].map(Db::reopen) {
        db.check_history(&model, |n| retained(&policy, HEAD, n));
    }
}

/// What scenario 78 does between writes.
#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(u8, bool)>),
    Flush,
    Compact(usize, usize),
    Policy(History),
    Snapshot,
    LetGo,
    Work,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let policy = (1..12u64, 2..5u64, 0..4u32);
    prop_oneof![
        12 => prop::collection::vec((0..6u8, prop::bool::weighted(0.8)), 0..4).prop_map(Step::Write),
        3 => Just(Step::Flush),
        4 => (0..4usize, 1..6usize).prop_map(|(order, files)| Step::Compact(order, files)),
        1 => policy.prop_map(|(w, d, k)| Step::Policy(levels(w, d, k))),
        1 => Just(Step::Snapshot),
        1 => Just(Step::LetGo),
        1 => Just(Step::Work),
        1 => Just(Step::Reopen),
    ]
}

/// What can have been lost so far, and what must be readable now.
#[derive(Debug)]
struct Promise {
    policy: History,
    /// For each commit: at some time it was not retained by the policy of that time.
    lapsed: Vec<bool>,
}

impl Promise {
    fn note(&mut self, head: u64) {
        self.lapsed.resize(head as usize + 1, false);
        for (n, lapsed) in self.lapsed.iter_mut().enumerate() {
            *lapsed |= !retained(&self.policy, head, n as u64);
        }
    }

    fn check(&self, db: &Db, model: &Model) {
        let readable: Vec<_> = (0..=model.head())
            .map(|n| match db.default().at_commit(Commit(n)) {
                Ok(_) => true,
                Err(Error::NotRetained { .. }) => false,
                Err(other) => panic!("{other}"),
            })
            .collect();
        for (n, readable) in readable.iter().enumerate() {
            assert!(*readable || self.lapsed[n], "{n} was always retained");
            let now = retained(&self.policy, model.head(), n as u64);
            assert!(!*readable || now, "{n} is not retained");
        }
        db.check_history(model, |n| readable[n as usize]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn s78_compactions_in_any_order_of_any_subsets_leave_the_same_answers(
        steps in prop::collection::vec(any_step(), 1..120),
    ) {
        let policy = levels(4, 3, 2);
        let keyspace = KeyspaceOptions { history: policy.clone(), block_bytes: 512, ..KeyspaceOptions::default() };
        let mut db = Db::with(small_options(), keyspace);
        let mut model = Model::default();
        let mut promise = Promise { policy, lapsed: vec![false] };
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Write(rows) if rows.is_empty() => {}
                Step::Write(mut rows) => {
                    rows.sort_unstable();
                    rows.dedup_by_key(|row| row.0);
                    let value = "v".repeat(model.head() as usize % 40) + &model.head().to_string();
                    let keys: Vec<_> = rows.iter().map(|(key, _)| format!("key{key}")).collect();
                    let rows: Vec<_> = rows
                        .iter()
                        .zip(&keys)
                        .map(|((_, put), key)| (&key[..], put.then_some(&value[..])))
                        .collect();
                    db.commit(&mut model, &rows);
                }
                Step::Flush => { db.kv.flush().unwrap(); }
                Step::Compact(order, files) => { db.compact(&some(ORDERS[order], files)); }
                Step::Policy(policy) => {
                    db.set_history(policy.clone());
                    promise.policy = policy;
                }
                Step::Snapshot => held.push((db.default().snapshot().unwrap(), model.head())),
                Step::LetGo => held.clear(),
                Step::Work => { db.kv.work().unwrap(); }
                Step::Reopen => {
                    held.clear();
                    db = db.reopen();
                }
            }
            promise.note(model.head());
        }
        for (snapshot, commit) in held.drain(..) {
            model.check(&snapshot, commit);
        }
        promise.check(&db, &model);
        db.kv.flush().unwrap();
        db.compact_all();
        promise.note(model.head());
        let db = db.reopen();
        promise.check(&db, &model);
    }
}

#[test]
fn s79_a_key_of_odd_commits_and_one_of_every_commit_are_exact_at_each_multiple() {
    let policy = levels(4, 2, 6);
    let db = Db::history(policy.clone());
    let mut model = Model::default();
    for n in 1..=300u64 {
        let value = n.to_string();
        let mut rows = vec![("every", Some(&value[..]))];
        if n % 2 == 1 {
            rows.push(("odd", Some(&value)));
        }
        db.commit(&mut model, &rows);
        if n % 5 == 0 {
            db.kv.flush().unwrap();
        }
        if n % 35 == 0 {
            db.compact(&some(ORDERS[n as usize % 4], 4));
        }
    }
    db.kv.flush().unwrap();
    db.compact_all();
    for db in [db].map(Db::reopen) {
        let mut levels_seen = 0;
        for level in 1..=6 {
            let step = 1u64 << level;
            for n in (0..=300)
                .step_by(step as usize)
                .filter(|n| n + 4 * step > 300)
            {
                let at = db.default().at_commit(Commit(n)).unwrap();
                let read = |key: &str| at.get(key.as_bytes()).unwrap().map(|v| text(&v));
                let number = |n: u64| (n > 0).then(|| n.to_string());
                assert_eq!(read("every"), number(n));
                assert_eq!(read("odd"), number(n.saturating_sub(1)), "at {n}");
                levels_seen |= 1 << level;
            }
        }
        assert_eq!(levels_seen, 0b111_1110);
        db.check_history(&model, |n| retained(&policy, 300, n));
    }
}

#[test]
fn s80_commits_stay_dense_and_readers_exact_while_compaction_thins_out_history() {
    let policy = levels(50, 4, 5);
    let keyspace = KeyspaceOptions {
        history: policy.clone(),
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let db = Db::with(common::threaded_options(), keyspace);
    let done = AtomicBool::new(false);
    let (read, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    // Of key k the values are the commits n with n % 7 == k.
    let expected = |key: u64, at: u64| at.checked_sub((at + 7 - key) % 7).filter(|n| *n > 0);
    std::thread::scope(|scope| {
        for seed in 0..2u64 {
            let (db, done, read, refused) = (&db, &done, &read, &refused);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while !done.load(Ordering::Relaxed) {
                    let listed = db.default().retained_commits().unwrap();
                    let at = listed.at_or_after(Commit(random.u64(0..=db.kv.head().0)));
                    let (at, key) = (at.unwrap_or(Commit::ZERO), random.u64(0..7));
                    let name = format!("key{key}");
                    let answer = match random.bool() {
                        true => db.default().get_at(name.as_bytes(), at),
                        false => db
                            .default()
                            .at_commit(at)
                            .and_then(|s| s.get(name.as_bytes())),
                    };
                    match answer {
                        Ok(value) => {
                            let value = value.map(|value| text(&value).parse().unwrap());
                            assert_eq!(value, expected(key, at.0), "{name} at {at}");
                            read.fetch_add(1, Ordering::Relaxed);
                        }
                        // The head moved on since it was listed.
                        Err(Error::NotRetained { .. }) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for n in 1..=10_000u64 {
            let key = format!("key{}", n % 7);
            let value = n.to_string();
            let put = db
                .default()
                .put_with(key.as_bytes(), value.as_bytes(), Durability::Buffered);
            assert_eq!(put.unwrap().commit.0, n);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(db.kv.stats().totals.compactions > 0);
    assert!(read.into_inner() > 100, "{refused:?} refused");
    let mut model = Model::default();
    for n in 1..=10_000u64 {
        model.commit(&[(&format!("key{}", n % 7), Some(&n.to_string()))]);
    }
    for db in [db].map(Db::reopen) {
        db.kv.flush().unwrap();
        db.compact_all();
        db.check_history(&model, |n| retained(&policy, 10_000, n));
    }
}

#[test]
fn s81_a_snapshot_between_two_levels_holds_its_versions_until_it_is_dropped() {
    let policy = levels(2, 4, 2);
    let db = Db::history(policy.clone());
    let mut model = Model::default();
    let mut write = |db: &Db| {
        let value = (model.head() + 1).to_string();
        db.commit(&mut model, &[("k", Some(&value))]);
        db.kv.flush().unwrap();
        model.clone()
    };
    for _ in 1..=9 {
        write(&db);
    }
    let snapshot = db.default().snapshot().unwrap();
    let checkpoint = db.kv.checkpoint("nine", None).unwrap();
    let model = (10..=40).map(|_| write(&db)).last().unwrap();
    db.compact_all();
    assert_eq!(commits(&db, "k"), [40, 39, 36, 32, 16, 9]);
    model.check(&snapshot, 9);
    db.check_history(&model, |n| retained(&policy, 40, n) || n == 9);
    drop(snapshot);
    let db = db.reopen();
    assert_eq!(checkpoint.commit, Commit(9));
    db.compact_all();
    db.check_history(&model, |n| retained(&policy, 40, n) || n == 9);
    db.kv.drop_checkpoint("nine").unwrap();
    db.check_history(&model, |n| retained(&policy, 40, n));
    assert_eq!(db.compact_all().dropped, 1);
    assert_eq!(commits(&db, "k"), [40, 39, 36, 32, 16]);
    db.check_history(&model, |n| retained(&policy, 40, n));
}

#[test]
fn s82_adding_levels_or_finer_ones_brings_no_dropped_commit_back() {
    let policies = [
        levels(3, 4, 1),
        levels(3, 2, 3),
        levels(20, 10, 1),
        History::everything(),
    ];
    let mut db = Db::history(policies[0].clone());
    let mut model = Model::default();
    let mut lapsed = [false; 200];
    for policy in &policies {
        db.set_history(policy.clone());
        for _ in 0..30 {
            let value = model.head().to_string();
            db.commit(&mut model, &[("k", Some(&value))]);
        }
        db.kv.flush().unwrap();
        db.compact_all();
        let head = model.head();
        for n in 0..=head {
            lapsed[n as usize] |= !retained(policy, head, n);
        }
        db.check_history(&model, |n| !lapsed[n as usize]);
        db = db.reopen();
        db.check_history(&model, |n| !lapsed[n as usize]);
    }
    let kept = (0..=model.head()).filter(|n| !lapsed[*n as usize]).count();
    assert!((31..110).contains(&kept), "{kept}");
}

#[test]
fn s82_a_policy_taken_back_and_set_again_during_a_compaction_counts_as_changed() {
    let db = Db::history(History::head_only());
    for n in 1..=3 {
        db.table(&[("k", &n.to_string())]);
    }
    let (kv, once) = (db.kv.clone(), Arc::new(AtomicBool::new(true)));
    let promised = Arc::new(parking_lot::Mutex::new(None));
    let answer = promised.clone();
    db.store.on_call(Box::new(move |call| {
        if call.kind == CallKind::Finish && once.swap(false, Ordering::SeqCst) {
            let set = |history| {
                let options = KeyspaceOptions {
                    history,
                    ..KeyspaceOptions::default()
                };
                kv.set_keyspace("default", options).unwrap();
            };
            set(History::everything());
            *answer.lock() = Some(kv.default_keyspace().at_commit(Commit(2)).unwrap());
            set(History::head_only());
        }
    }));
    let compacted = db.default().compact(&CompactOptions::default());
    db.store.clear_hook();
    assert!(compacted.is_err(), "in between it was another policy");
    let snapshot = promised.lock().take().unwrap();
    assert_eq!(&snapshot.get(b"k").unwrap().unwrap()[..], b"2");
    db.compact_all();
    assert_eq!(&snapshot.get(b"k").unwrap().unwrap()[..], b"2");
    assert_eq!(commits(&db, "k"), [3, 2]);
}

#[test]
fn s83_what_max_versions_took_from_a_level_is_refused_as_truncated() {
    let db = Db::history(History {
        max_versions: Some(2),
        ..levels(2, 4, 2)
    });
    for n in 1..=30 {
        db.table(&[("k", &n.to_string())]);
    }
    db.table(&[("other", "31")]);
    db.compact_all();
    assert_eq!(commits(&db, "k"), [30, 28], "28 is on a level");
    for db in [db].map(Db::reopen) {
        for n in [16, 24] {
            let error = db.default().get_at(b"k", Commit(n)).unwrap_err();
            assert!(
                matches!(error, Error::Truncated { asked, oldest_kept, .. }
                    if asked == Commit(n) && oldest_kept == Commit(28)),
                "{error}"
            );
            let other = db.default().get_at(b"other", Commit(n)).unwrap();
            assert_eq!(other, None, "nothing of this key was removed");
        }
        let refused = db.default().get_at(b"k", Commit(27)).unwrap_err();
        assert!(matches!(refused, Error::NotRetained { .. }), "{refused}");
        let read = db.default().get_at(b"k", Commit(28)).unwrap().unwrap();
        assert_eq!(&read[..], b"28");
    }
}

#[test]
fn a_window_given_as_an_age_keeps_what_is_younger_over_restarts_and_clock_steps() {
    let hour = Duration::from_secs(3_600);
    let db = Db::history(History {
        window: 2,
        window_age: Some(hour),
        ..History::default()
    });
    let mut model = Model::default();
    for n in 0..24u64 {
        db.commit(&mut model, &[("k", Some(&n.to_string()))]);
        db.kv.flush().unwrap();
        db.clock.advance(hour / 6);
    }
    // The last was written ten minutes ago, the sixth last exactly an hour ago.
    db.check_history(&model, |n| n > 19);
    db.compact_all();
    assert_eq!(commits(&db, "k"), [24, 23, 22, 21, 20]);
    let now = db.clock.now();
    db.clock.set_wall(Timestamp(now.0 - 7_200_000_000));
    db.check_history(&model, |n| n > 19);
    for db in [db].map(Db::reopen) {
        db.clock.set_wall(now);
        db.check_history(&model, |n| n > 19);
        db.clock.advance(hour * 5);
        db.check_history(&model, |n| n > 22);
        assert_eq!(db.compact_all().dropped, 3);
    }
}

#[test]
fn a_clock_that_steps_back_during_a_compaction_promises_nothing_that_it_drops() {
    let hour = Duration::from_secs(3_600);
    let db = Db::history(History {
        window: 1,
        window_age: Some(hour),
        ..History::default()
    });
    for n in 1..=3 {
        db.table(&[("k", &n.to_string())]);
        db.clock.advance(hour);
    }
    let (kv, clock, once) = (db.kv.clone(), db.clock.clone(), AtomicBool::new(true));
    let refused = Arc::new(AtomicBool::new(false));
    let answer = refused.clone();
    db.store.on_call(Box::new(move |call| {
        if call.kind == CallKind::Finish && once.swap(false, Ordering::SeqCst) {
            clock.set_wall(Timestamp(clock.now().0 - 10 * 3_600_000_000));
            let asked = kv.default_keyspace().at_commit(Commit(2));
            answer.store(asked.is_err(), Ordering::SeqCst);
        }
    }));
    assert_eq!(db.compact_all().dropped, 2);
    db.store.clear_hook();
    assert!(refused.load(Ordering::SeqCst));
}

/// A clock that lets something happen once when it is next asked for the time.
struct Interrupted {
    clock: Arc<ManualClock>,
    then: parking_lot::Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Clock for Interrupted {
    fn now(&self) -> Timestamp {
        let then = self.then.lock().take();
        if let Some(then) = then {
            then();
        }
        self.clock.now()
    }

    fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration);
    }
}

#[test]
fn a_checkpoint_dropped_while_a_compaction_looks_around_still_covers_who_took_over_from_it() {
    let (env, clock, _) = common::simulated(&MemBlobs::new(), 1);
    let clock = Arc::new(Interrupted {
        clock,
        then: parking_lot::Mutex::default(),
    });
    let env = Env {
        clock: clock.clone(),
        ..env
    };
    let keyspace = KeyspaceOptions {
        history: History::head_only(),
        ..KeyspaceOptions::default()
    };
    let kv = Kv::open(env, roomy_options(), keyspace, None).unwrap();
    let default = kv.default_keyspace();
    default.put(b"k", b"1").unwrap();
    kv.checkpoint("one", None).unwrap();
    default.put(b"k", b"2").unwrap();
    kv.flush().unwrap();
    let taken = Arc::new(parking_lot::Mutex::new(None));
    let (other, answer) = (kv.clone(), taken.clone());
    *clock.then.lock() = Some(Box::new(move || {
        let snapshot = other.default_keyspace().at_commit(Commit(1)).unwrap();
        other.drop_checkpoint("one").unwrap();
        *answer.lock() = Some(snapshot);
    }));
    default
        .compact(&CompactOptions::default())
        .map_err(|failed| failed.error)
        .unwrap();
    let snapshot = taken.lock().take().unwrap();
    assert_eq!(&snapshot.get(b"k").unwrap().unwrap()[..], b"1");
}

#[test]
fn a_reader_lists_and_refuses_the_same_commits_as_its_writer() {
    let policy = levels(3, 3, 3);
    let db = Db::history(policy.clone());
    let mut model = Model::default();
    for n in 1..=70u64 {
        db.commit(&mut model, &[("k", Some(&n.to_string()))]);
        if n == 25 {
            db.kv.checkpoint("here", None).unwrap();
        }
    }
    db.kv.flush().unwrap();
    db.compact_all();
    let (env, _, _) = common::simulated(&db.mem, 2);
    let reader = Reader::open(env, roomy_options()).unwrap();
    let keyspace = reader.default_keyspace();
    let listed = keyspace.retained_commits().unwrap();
    assert_eq!(listed, db.default().retained_commits().unwrap());
    let readable = |n: u64| retained(&policy, 70, n) || n == 25;
    for n in 0..=70 {
        assert_eq!(listed.contains(Commit(n)), readable(n), "{n}");
        match keyspace.at_commit(Commit(n)) {
            Ok(snapshot) => model.check(&snapshot, n),
            Err(Error::NotRetained { before, after, .. }) => {
                assert!(!readable(n));
                assert_eq!(before, listed.at_or_before(Commit(n)));
                assert_eq!(after, listed.at_or_after(Commit(n)));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn policies_out_of_bounds_are_refused_by_name() {
    let db = Db::new();
    for (history, setting) in [
        (levels(0, 10, 0), "history.window"),
        (levels(1, 1, 0), "history.divisor"),
        (levels(1, 10, 20), "history.levels"),
        (levels(1, 2, 64), "history.levels"),
    ] {
        let options = KeyspaceOptions {
            history,
            ..KeyspaceOptions::default()
        };
        match db.kv.create_keyspace("k", options.clone()).unwrap_err() {
            Error::Setting { setting: named, .. } => assert_eq!(named, setting),
            other => panic!("{other}"),
        }
        assert!(db.kv.set_keyspace("default", options).is_err());
    }
    for fine in [
        levels(1, 10, 19),
        levels(u64::MAX, 2, 63),
        levels(1, u64::MAX, 1),
    ] {
        db.set_history(fine);
        db.put("k", "v");
        db.kv.flush().unwrap();
        db.compact_all();
        assert_eq!(db.get("k").as_deref(), Some("v"));
    }
}
