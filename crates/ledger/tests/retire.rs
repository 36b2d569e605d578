//! Replicas that never come back, and those that do after they were given up.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{Attachment, Error, Ledger, Options, Remote, Replica, Standing};
use siltstone_storage::{Blobs, Env, FaultPlan, FaultyBlobs, Injected, ManualClock, MemBlobs};
use std::sync::Arc;
use std::time::Duration;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

const HOUR: Duration = Duration::from_secs(3600);

/// A replica under a clock that all share.
struct Peer {
    store: MemBlobs,
    ledger: Ledger,
    at: Attachment,
    seed: u64,
}

fn env(blobs: Arc<dyn Blobs>, clock: &Arc<ManualClock>, seed: u64) -> Env {
    let (mut env, _) = Env::simulated(blobs, seed);
    env.clock = clock.clone();
    env
}

fn options(seed: u64) -> Options {
    Options {
        author: Some(seed.to_be_bytes().to_vec()),
        ..quiet()
    }
}

impl Peer {
    fn new(clock: &Arc<ManualClock>, remote: &Arc<dyn Blobs>, seed: u64) -> Self {
        Self::over(MemBlobs::new(), clock, remote, seed)
    }

    fn over(store: MemBlobs, clock: &Arc<ManualClock>, remote: &Arc<dyn Blobs>, seed: u64) -> Self {
        let env = env(Arc::new(store.clone()), clock, seed);
        let ledger = Ledger::open(env, NAME, options(seed)).unwrap();
        let remote = Remote::new("shared", remote.clone()).background(false);
        let at = ledger.attach(remote).unwrap();
        Self {
            store,
            ledger,
            at,
            seed,
        }
    }

    /// The same ledger after its machine was switched off and on.
    fn restarted(self, clock: &Arc<ManualClock>, remote: &Arc<dyn Blobs>) -> Self {
        let store = self.store.after_crash(|_| 0);
        let seed = self.seed;
        drop(self);
        Self::over(store, clock, remote, seed + 1000)
    }

    fn id(&self) -> String {
        let replicas = self.at.replicas().unwrap();
        let own = replicas.iter().find(|one| one.standing == Standing::Own);
        own.unwrap().id.clone()
    }
}

fn shared() -> (MemBlobs, Arc<dyn Blobs>, Arc<ManualClock>) {
    let mem = MemBlobs::new();
    let (_, clock) = Env::simulated(Arc::new(MemBlobs::new()), 1);
    (mem.clone(), Arc::new(mem), clock)
}

fn settle(all: &[&Peer]) {
    for round in 0.. {
        let reports = all.iter().map(|one| one.at.sync().unwrap());
        let quiet = reports.filter(|report| report.published || report.pulled_events > 0);
        if quiet.count() == 0 {
            return;
        }
        assert!(round < 10, "they do not come to an end");
    }
}

/// What a stranger sees of the remote: whatever a replica names is there.
fn nothing_dangles(remote: &Arc<dyn Blobs>, clock: &Arc<ManualClock>) -> Vec<Replica> {
    let stranger = Peer::new(clock, remote, 99);
    let replicas = stranger.at.replicas().unwrap();
    for replica in &replicas {
        assert_eq!(replica.missing_cars, 0, "{replica:?}");
        assert!(replica.unreadable.is_none(), "{replica:?}");
    }
    replicas
}

fn cars(mem: &MemBlobs) -> usize {
    mem.list("car/").unwrap().len()
}

#[test]
fn what_a_retired_replica_named_is_given_back_after_the_grace() {
    let (mem, remote, clock) = shared();
    let (a, b) = (Peer::new(&clock, &remote, 1), Peer::new(&clock, &remote, 2));
    (0..20).for_each(|n| put(&a.ledger, n));
    (20..40).for_each(|n| put(&b.ledger, n));
    settle(&[&a, &b]);
    let id = b.id();
    drop(b);
    a.ledger.compact().unwrap();
    settle(&[&a]);
    clock.advance(5 * HOUR);
    settle(&[&a]);
    // All that was ever pushed: its last meta holds it.
    assert!(cars(&mem) > 40);
    let seen = a.at.replicas().unwrap();
    let found = seen.iter().find(|one| one.id == id).unwrap();
    assert_eq!((found.standing, found.merged), (Standing::Active, true));
    assert_eq!(found.only_cars, found.cars);
    assert!(found.only_bytes > 0 && found.only_bytes == found.bytes);
    let report = a.at.retire(&id).unwrap();
    assert_eq!((report.cars, report.bytes), (found.cars, found.bytes));
    assert!(report.metas > 0 && report.lost.is_none());
    assert_eq!(a.at.sync().unwrap().deleted_cars, 0);
    clock.advance(2 * HOUR);
    let report = a.at.sync().unwrap();
    assert!(report.deleted_cars >= 40, "{report:?}");
    assert_eq!(cars(&mem), 1);
    let seen = nothing_dangles(&remote, &clock);
    let found = seen.iter().find(|one| one.id == id).unwrap();
    assert_eq!(found.standing, Standing::Retired);
    // What is left is all there is.
    let c = Peer::new(&clock, &remote, 3);
    settle(&[&a, &c]);
    check(&c.ledger, &model(0..40));
    // There is nothing of it to be retired any more; doing it again does no harm.
    assert_eq!(a.at.retire(&id).unwrap().metas, 0);
}

#[test]
fn what_is_not_merged_is_named_and_lost_only_on_request() {
    let (mem, remote, clock) = shared();
    let (a, b) = (Peer::new(&clock, &remote, 1), Peer::new(&clock, &remote, 2));
    (0..3).for_each(|n| put(&a.ledger, n));
    settle(&[&a, &b]);
    (10..13).for_each(|n| put(&b.ledger, n));
    b.at.sync().unwrap();
    let id = b.id();
    let refused = a.at.retire(&id).unwrap_err();
    let Error::Unmerged { replica, what } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*replica, id);
    let head = b.ledger.clock().0[0].to_string();
    assert!(
        what.contains(&head) && what.contains("3 archives"),
        "{what}"
    );
    assert!(refused.to_string().contains("Sync with the remote first"));
    assert!(
        a.at.replicas()
            .unwrap()
            .iter()
            .any(|one| one.id == id && !one.merged)
    );
    // Nobody retires itself, or one that is not there.
    let own = a.id();
    assert!(matches!(a.at.retire(&own), Err(Error::Invalid { .. })));
    let unknown = a.at.retire("0123").unwrap_err().to_string();
    assert!(unknown.contains(&id), "{unknown}");
    // Nothing of that changed anything: the documents can still be had.
    nothing_dangles(&remote, &clock);
    let c = Peer::new(&clock, &remote, 3);
    c.at.sync().unwrap();
    check(&c.ledger, &model((0..3).chain(10..13)));
    let third = c.id();
    drop(c);
    // Losing two replicas that know the same names it both times.
    for id in [&id, &third] {
        let report = a.at.retire_losing(id).unwrap();
        assert!(report.lost.unwrap().contains(&head) || *id == third);
    }
    clock.advance(2 * HOUR);
    a.at.sync().unwrap();
    clock.advance(2 * HOUR);
    a.at.sync().unwrap();
    nothing_dangles(&remote, &clock);
    assert_eq!(cars(&mem), 3);
    check(&a.ledger, &model(0..3));
    // Who has it still brings it back.
    settle(&[&a, &b]);
    clock.advance(2 * HOUR);
    settle(&[&a, &b]);
    check(&a.ledger, &model((0..3).chain(10..13)));
    nothing_dangles(&remote, &clock);
}

#[test]
fn one_whose_meta_is_damaged_is_retired_on_request_and_comes_back_whole() {
    let (mem, remote, clock) = shared();
    let (a, b) = (Peer::new(&clock, &remote, 1), Peer::new(&clock, &remote, 2));
    put(&a.ledger, 1);
    put(&b.ledger, 2);
    settle(&[&a, &b]);
    let id = b.id();
    let newest = mem.list(&format!("meta/{id}/")).unwrap().pop().unwrap();
    let mut bytes = mem.get(&newest.name).unwrap().to_vec();
    bytes[30] ^= 1;
    mem.put(&newest.name, &bytes).unwrap();
    let a = a.restarted(&clock, &remote);
    // As long as it is there, nothing is deleted.
    assert!(matches!(a.at.retire(&id), Err(Error::Unmerged { .. })));
    assert!(
        a.at.replicas()
            .unwrap()
            .iter()
            .any(|one| one.unreadable.is_some())
    );
    let report = a.at.retire_losing(&id).unwrap();
    assert!(report.lost.unwrap().contains("cannot be read"));
    put(&b.ledger, 3);
    for _ in 0..3 {
        settle(&[&a, &b]);
        nothing_dangles(&remote, &clock);
        clock.advance(2 * HOUR);
    }
    assert_eq!(a.ledger.clock(), b.ledger.clock());
    check(&a.ledger, &model(1..4));
}

#[test]
fn one_that_comes_back_publishes_at_once_what_others_name() {
    let (_, remote, clock) = shared();
    let (a, b) = (Peer::new(&clock, &remote, 1), Peer::new(&clock, &remote, 2));
    put(&a.ledger, 1);
    put(&b.ledger, 2);
    settle(&[&a, &b]);
    let id = b.id();
    a.at.retire(&id).unwrap();
    put(&b.ledger, 3);
    let report = b.at.sync().unwrap();
    assert!(report.published && report.publishes_from.is_none());
    assert_eq!(report.pushed_cars, 1);
    assert_eq!(b.id(), id);
    settle(&[&a, &b]);
    nothing_dangles(&remote, &clock);
    check(&a.ledger, &model(1..4));
}

#[test]
fn one_that_comes_back_to_what_was_taken_over_waits_for_a_grace_and_is_whole_again() {
    let (mem, remote, clock) = shared();
    let (a, b) = (Peer::new(&clock, &remote, 1), Peer::new(&clock, &remote, 2));
    (0..5).for_each(|n| put(&a.ledger, n));
    (5..10).for_each(|n| put(&b.ledger, n));
    settle(&[&a, &b]);
    let id = b.id();
    a.at.retire(&id).unwrap();
    a.ledger.compact().unwrap();
    settle(&[&a]);
    clock.advance(2 * HOUR);
    settle(&[&a]);
    assert_eq!(cars(&mem), 1);
    put(&b.ledger, 10);
    put(&a.ledger, 11);
    settle(&[&a]);
    let report = b.at.sync().unwrap();
    let until = report.publishes_from.unwrap();
    assert!(!report.published && report.pulled_events > 0);
    let standing = |of: &Peer| {
        let found = of.at.replicas().unwrap();
        found.into_iter().find(|one| one.id == id).unwrap().standing
    };
    assert_eq!(standing(&a), Standing::Returning);
    // While it waits nobody deletes, and it survives a restart; the wait does not begin anew.
    a.ledger.compact().unwrap();
    settle(&[&a]);
    let before = cars(&mem);
    clock.advance(HOUR / 2);
    let b = b.restarted(&clock, &remote);
    assert_eq!(b.at.sync().unwrap().publishes_from, Some(until));
    clock.advance(HOUR);
    assert_eq!(a.at.sync().unwrap().deleted_cars, 0);
    assert_eq!(cars(&mem), before);
    let report = b.at.sync().unwrap();
    assert!(
        report.published && report.publishes_from.is_none(),
        "{report:?}"
    );
    assert_eq!(b.id(), id);
    assert!(mem.list("returning/").unwrap().is_empty());
    for _ in 0..3 {
        settle(&[&a, &b]);
        nothing_dangles(&remote, &clock);
        clock.advance(2 * HOUR);
    }
    assert_eq!(a.ledger.clock(), b.ledger.clock());
    check(&a.ledger, &model(0..12));
    check(&b.ledger, &model(0..12));
}

#[test]
fn one_that_came_back_and_went_again_keeps_nothing_for_ever() {
    let (mem, remote, clock) = shared();
    let (a, b) = (Peer::new(&clock, &remote, 1), Peer::new(&clock, &remote, 2));
    put(&a.ledger, 1);
    put(&b.ledger, 2);
    settle(&[&a, &b]);
    let id = b.id();
    a.at.retire(&id).unwrap();
    a.ledger.compact().unwrap();
    settle(&[&a]);
    clock.advance(2 * HOUR);
    settle(&[&a]);
    // Its next meta does not say any more where they went.
    put(&a.ledger, 4);
    settle(&[&a]);
    put(&b.ledger, 3);
    assert!(b.at.sync().unwrap().publishes_from.is_some());
    a.ledger.compact().unwrap();
    settle(&[&a]);
    clock.advance(2 * HOUR);
    assert_eq!(a.at.sync().unwrap().deleted_cars, 0);
    drop(b);
    a.at.retire(&id).unwrap();
    assert!(a.at.sync().unwrap().deleted_cars > 0);
    assert_eq!(cars(&mem), 1);
    nothing_dangles(&remote, &clock);
}

#[test]
fn a_sealed_ledger_is_no_different() {
    let (_, remote, clock) = shared();
    let keys = Arc::new(KeyRing::generate(&SystemEntropy));
    let open = |seed: u64| {
        let env = env(Arc::new(MemBlobs::new()), &clock, seed);
        let options = Options {
            keys: Some(keys.clone()),
            ..options(seed)
        };
        let ledger = Ledger::open(env, NAME, options).unwrap();
        let remote = Remote::new("shared", remote.clone()).background(false);
        let at = ledger.attach(remote).unwrap();
        (ledger, at)
    };
    let ((a, at_a), (b, at_b)) = (open(1), open(2));
    put(&a, 1);
    put(&b, 2);
    for _ in 0..3 {
        at_a.sync().unwrap();
        at_b.sync().unwrap();
    }
    let replicas = at_a.replicas().unwrap();
    let other = replicas.iter().find(|one| one.standing == Standing::Active);
    at_a.retire(&other.unwrap().id).unwrap();
    put(&b, 3);
    assert!(at_b.sync().unwrap().published);
    at_a.sync().unwrap();
    check(&a, &model(1..4));
}

/// What happens to b after a crash of a while a retired it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Gone,
    PublishesAtOnce,
    ComesBackLater,
}

#[test]
fn a_crash_at_every_call_of_retiring_leaves_it_there_or_retired_and_nothing_dangling() {
    let mut walked = 0;
    for then in [Then::Gone, Then::PublishesAtOnce, Then::ComesBackLater] {
        for at_remote in [true, false] {
            for number in 1_u64.. {
                let reached = crash_of_retiring(then, at_remote, number);
                walked += u64::from(reached);
                if !reached {
                    break;
                }
            }
        }
    }
    assert!(walked > 60, "{walked}");
}

fn crash_of_retiring(then: Then, at_remote: bool, number: u64) -> bool {
    let (mem, remote, clock) = shared();
    let b = Peer::new(&clock, &remote, 2);
    let store = MemBlobs::new();
    let faulty_store =
        FaultyBlobs::new(Arc::new(store.clone()), clock.clone(), FaultPlan::default());
    let faulty_remote =
        FaultyBlobs::new(Arc::new(mem.clone()), clock.clone(), FaultPlan::default());
    let env = env(Arc::new(faulty_store.clone()), &clock, 1);
    let ledger = Ledger::open(env, NAME, options(1)).unwrap();
    let attached = Remote::new("shared", Arc::new(faulty_remote.clone())).background(false);
    let at = ledger.attach(attached).unwrap();
    (0..3).for_each(|n| put(&ledger, n));
    (3..6).for_each(|n| put(&b.ledger, n));
    for _ in 0..3 {
        at.sync().unwrap();
        b.at.sync().unwrap();
    }
    let id = b.id();
    // Its meta is to be published by retiring.
    ledger.compact().unwrap();
    let faulty = if at_remote {
        &faulty_remote
    } else {
        &faulty_store
    };
    let fault = [Injected::Crash, Injected::ErrorAfter][(number % 2) as usize];
    let call = faulty.calls() + number.div_ceil(2);
    faulty.set_plan(FaultPlan::at(call, fault));
    let done = at.retire(&id);
    let reached = faulty.calls() >= call;
    drop((ledger, at));
    let a = Peer::over(store.after_crash(|_| 0), &clock, &remote, 3);
    nothing_dangles(&remote, &clock);
    let mut expected: Vec<u64> = (0..6).collect();
    if then == Then::PublishesAtOnce {
        put(&b.ledger, 20);
        expected.push(20);
        b.at.sync().unwrap();
        nothing_dangles(&remote, &clock);
        a.at.sync().unwrap();
    }
    if done.is_err() || then == Then::PublishesAtOnce {
        a.at.retire(&id).unwrap();
    }
    nothing_dangles(&remote, &clock);
    let gone = then == Then::Gone;
    for round in 0..4 {
        a.at.sync().unwrap();
        if !gone && (round > 1 || then == Then::PublishesAtOnce) {
            b.at.sync().unwrap();
        }
        nothing_dangles(&remote, &clock);
        clock.advance(2 * HOUR);
    }
    match gone {
        true => assert_eq!(cars(&mem), 1, "{then:?} {at_remote} {number}"),
        false => {
            settle(&[&a, &b]);
            assert_eq!(a.ledger.clock(), b.ledger.clock());
            check(&b.ledger, &model(expected.iter().copied()));
        }
    }
    check(&a.ledger, &model(expected));
    nothing_dangles(&remote, &clock);
    reached
}

#[test]
fn a_crash_at_every_call_of_coming_back_leaves_it_away_or_whole() {
    let mut walked = 0;
    for at_remote in [true, false] {
        for number in 1_u64.. {
            let (mem, remote, clock) = shared();
            let a = Peer::new(&clock, &remote, 1);
            let mut b = Peer::new(&clock, &remote, 2);
            (0..3).for_each(|n| put(&a.ledger, n));
            (3..6).for_each(|n| put(&b.ledger, n));
            settle(&[&a, &b]);
            a.at.retire(&b.id()).unwrap();
            a.ledger.compact().unwrap();
            settle(&[&a]);
            clock.advance(2 * HOUR);
            settle(&[&a]);
            put(&b.ledger, 7);
            // Both of its syncs, before and after the wait, are one walk.
            let mut left: u64 = number;
            let mut reached = false;
            for _ in 0..2 {
                let store = b.store.clone();
                let seed = b.seed;
                drop(b);
                let faulty_store =
                    FaultyBlobs::new(Arc::new(store.clone()), clock.clone(), FaultPlan::default());
                let faulty_remote =
                    FaultyBlobs::new(Arc::new(mem.clone()), clock.clone(), FaultPlan::default());
                let env = env(Arc::new(faulty_store.clone()), &clock, seed);
                let ledger = Ledger::open(env, NAME, options(seed)).unwrap();
                let attached =
                    Remote::new("shared", Arc::new(faulty_remote.clone())).background(false);
                let at = ledger.attach(attached).unwrap();
                let faulty = if at_remote {
                    &faulty_remote
                } else {
                    &faulty_store
                };
                let before = faulty.calls();
                if !reached {
                    let fault = [Injected::Crash, Injected::ErrorAfter][(number % 2) as usize];
                    faulty.set_plan(FaultPlan::at(before + left.div_ceil(2), fault));
                }
                let _ = at.sync();
                let used = 2 * (faulty.calls() - before);
                reached |= used >= left;
                left = left.saturating_sub(used);
                drop((ledger, at));
                b = Peer::over(store.after_crash(|_| 0), &clock, &remote, seed + 10);
                nothing_dangles(&remote, &clock);
                clock.advance(2 * HOUR);
                a.at.sync().unwrap();
                nothing_dangles(&remote, &clock);
            }
            for _ in 0..3 {
                settle(&[&a, &b]);
                nothing_dangles(&remote, &clock);
                clock.advance(2 * HOUR);
            }
            assert_eq!(a.ledger.clock(), b.ledger.clock(), "{at_remote} {number}");
            check(&a.ledger, &model((0..6).chain([7])));
            assert!(mem.list("returning/").unwrap().is_empty());
            walked += u64::from(reached);
            if !reached {
                break;
            }
        }
    }
    assert!(walked > 40, "{walked}");
}

#[test]
fn whatever_is_retired_and_comes_back_in_any_order_nothing_dangles_and_all_converge() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (_, remote, clock) = shared();
        let mut peers: Vec<Peer> = (1..5).map(|n| Peer::new(&clock, &remote, n)).collect();
        let mut written = Vec::new();
        let mut retired = 0;
        for step in 0..120 {
            let at = random.usize(..peers.len());
            match random.u8(..10) {
                0..=2 => {
                    put(&peers[at].ledger, step);
                    written.push(step);
                }
                3..=5 => drop(peers[at].at.sync().unwrap()),
                6 => drop(peers[at].ledger.compact().unwrap()),
                7 => clock.advance(Duration::from_secs(random.u64(..7200))),
                8 => {
                    let other = random.usize(..peers.len());
                    let found = peers[at].at.replicas().unwrap();
                    let id = peers[other].at.replicas().unwrap();
                    let id = id.iter().find(|one| one.standing == Standing::Own);
                    if let Some(id) = id.filter(|id| found.iter().any(|one| one.id == id.id)) {
                        let done = match random.bool() {
                            true => peers[at].at.retire(&id.id),
                            false => peers[at].at.retire_losing(&id.id),
                        };
                        match done {
                            Ok(report) => retired += report.metas,
                            Err(
                                Error::Unmerged { .. }
                                | Error::Invalid { .. }
                                | Error::Stale { .. },
                            ) => {}
                            Err(error) => panic!("seed {seed} step {step}: {error}"),
                        }
                    }
                }
                _ => {
                    let peer = peers.swap_remove(at);
                    peers.push(peer.restarted(&clock, &remote));
                }
            }
            nothing_dangles(&remote, &clock);
        }
        for _ in 0..4 {
            for peer in &peers {
                peer.at.sync().unwrap();
                nothing_dangles(&remote, &clock);
            }
            clock.advance(2 * HOUR);
        }
        settle(&peers.iter().collect::<Vec<_>>());
        for peer in &peers {
            check(&peer.ledger, &model(written.iter().copied()));
            assert_eq!(peer.ledger.clock(), peers[0].ledger.clock());
        }
        assert!(retired > 0, "seed {seed}");
    }
}
