//! The faulty store: deterministic by seed, complete in what it covers, honest about crashes.

use bytes::Bytes;
use siltstone_storage::{
    Blobs, CallKind, Clock, Error, FaultPlan, FaultyBlobs, Injected, ManualClock, MemBlobs,
    PutOutcome, Result, Wait,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn faulty(plan: FaultPlan) -> (FaultyBlobs, Arc<MemBlobs>, Arc<ManualClock>) {
    let inner = Arc::new(MemBlobs::new());
    let clock = Arc::new(ManualClock::default());
    (
        FaultyBlobs::new(inner.clone(), clock.clone(), plan),
        inner,
        clock,
    )
}

/// Every operation once, whatever fails.
fn everything(store: &FaultyBlobs, round: u32) -> Vec<String> {
    let name = |what: &str| format!("{what}/{round}");
    let mut told = Vec::new();
    let mut tell = |result: Result<String>| told.push(format!("{result:?}"));
    tell(
        store
            .put(&name("put"), b"0123456789")
            .map(|()| String::new()),
    );
    tell(
        store
            .put_if_absent(&name("once"), b"0123456789")
            .map(|outcome| format!("{outcome:?}")),
    );
    let pending = store.start_put_if_absent(&name("later"), Bytes::from_static(b"0123456789"));
    tell(pending.wait().map(|outcome| format!("{outcome:?}")));
    tell(store.get(&name("put")).map(|bytes| format!("{bytes:?}")));
    if let Ok(reader) = store.open(&name("put")) {
        tell(
            reader
                .read(2, 3, Wait::Allowed)
                .map(|bytes| format!("{bytes:?}")),
        );
    }
    if let Ok(mut writer) = store.create(&name("written")) {
        tell(writer.write(b"piece").map(|()| String::new()));
        tell(writer.finish().map(|()| String::new()));
    }
    if let Ok(mut log) = store.append(&name("log"), 0) {
        tell(log.append(b"0123456789").map(|()| String::new()));
        tell(log.sync().map(|()| String::new()));
    }
    tell(store.list("").map(|list| format!("{list:?}")));
    tell(store.delete(&name("once")).map(|()| String::new()));
    told
}

fn mixed(seed: u64) -> FaultPlan {
    FaultPlan {
        seed,
        error_before: 100,
        error_after: 100,
        half_write: 100,
        delay: 100,
        delay_max: Duration::from_millis(5),
        ..FaultPlan::default()
    }
}

fn run(seed: u64) -> (Vec<String>, Vec<siltstone_storage::Call>, Duration) {
    let (store, _, clock) = faulty(mixed(seed));
    let told = (0..50)
        .flat_map(|round| everything(&store, round))
        .collect();
    (told, store.trace(), clock.elapsed())
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).1, run(8).1);
}

#[test]
fn every_kind_of_call_is_counted_and_every_kind_of_fault_occurs() {
    let (store, _, clock) = faulty(mixed(3));
    for round in 0..100 {
        everything(&store, round);
    }
    let trace = store.trace();
    assert_eq!(store.calls(), trace.len() as u64);
    for kind in [
        CallKind::Put,
        CallKind::PutIfAbsent,
        CallKind::Get,
        CallKind::Open,
        CallKind::Read,
        CallKind::Create,
        CallKind::Write,
        CallKind::Finish,
        CallKind::List,
        CallKind::Delete,
        CallKind::OpenAppend,
        CallKind::Append,
        CallKind::Sync,
    ] {
        assert!(store.calls_of(kind) > 20, "{kind:?}");
        for planned in [Injected::ErrorBefore, Injected::ErrorAfter] {
            let met = trace
                .iter()
                .any(|call| call.kind == kind && call.fault == Some(planned));
            assert!(met, "{kind:?} never met {planned:?}");
        }
    }
    let torn =
        |call: &&siltstone_storage::Call| matches!(call.fault, Some(Injected::HalfWrite { .. }));
    assert!(
        trace
            .iter()
            .filter(torn)
            .any(|call| call.kind == CallKind::Append)
    );
    assert!(clock.elapsed() > Duration::ZERO, "delays pass on the clock");
}

#[test]
fn without_a_plan_nothing_goes_wrong() {
    let (store, ..) = faulty(FaultPlan::default());
    let told = everything(&store, 0);
    assert!(told.iter().all(|told| told.starts_with("Ok")), "{told:?}");
}

#[test]
fn an_error_before_leaves_nothing_and_an_error_after_leaves_the_blob() {
    for (plan, there) in [
        (
            FaultPlan {
                error_before: 1000,
                ..FaultPlan::default()
            },
            false,
        ),
        (
            FaultPlan {
                half_write: 1000,
                ..FaultPlan::default()
            },
            false,
        ),
        (
            FaultPlan {
                error_after: 1000,
                ..FaultPlan::default()
            },
            true,
        ),
    ] {
        let (store, inner, _) = faulty(plan.clone());
        assert!(
            matches!(store.put("a", b"1234"), Err(Error::Io { .. })),
            "{plan:?}"
        );
        assert!(store.put_if_absent("b", b"1234").is_err(), "{plan:?}");
        let pending = store.start_put_if_absent("c", Bytes::from_static(b"1234"));
        assert!(pending.wait().is_err(), "{plan:?}");
        for name in ["a", "b", "c"] {
            assert_eq!(inner.get(name).is_ok(), there, "{name} {plan:?}");
        }
    }
}

#[test]
fn half_an_append_gets_a_prefix_through() {
    let mut lengths = Vec::new();
    for seed in 0..20 {
        let (store, inner, _) = faulty(FaultPlan::default());
        let mut log = store.append("log", 0).unwrap();
        store.set_plan(FaultPlan {
            seed,
            half_write: 1000,
            ..FaultPlan::default()
        });
        assert!(log.append(b"0123456789").is_err());
        let there = inner.get("log").unwrap();
        assert!(
            there.len() < 10 && b"0123456789".starts_with(&there),
            "{there:?}"
        );
        lengths.push(there.len());
    }
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 3, "{lengths:?}");
}

#[test]
fn a_crash_can_be_walked_through_every_call_and_kills_what_was_open() {
    let (whole, ..) = faulty(FaultPlan::default());
    everything(&whole, 0);
    for number in 1..=whole.calls() {
        let (store, ..) = faulty(FaultPlan::crash_at(number));
        let log = store.append("early", 0).ok();
        everything(&store, 0);
        assert!(store.is_crashed(), "call {number}");
        assert_eq!(store.calls(), number, "refused calls are not counted");
        assert!(matches!(store.get("put/0"), Err(Error::Crashed)));
        store.revive();
        assert!(store.list("").is_ok(), "call {number}");
        if let Some(mut log) = log {
            assert!(
                matches!(log.append(b"x"), Err(Error::Crashed)),
                "a dead handle stays dead"
            );
        }
    }
}

#[test]
fn a_crash_in_an_append_lets_half_of_it_through() {
    let (store, inner, _) = faulty(FaultPlan::crash_at(2));
    let mut log = store.append("log", 0).unwrap();
    assert!(matches!(log.append(b"0123456789"), Err(Error::Crashed)));
    assert_eq!(inner.get("log").unwrap(), &b"01234"[..]);
}

#[test]
fn a_put_in_flight_at_a_crash_is_not_answered() {
    let (store, inner, _) = faulty(FaultPlan::default());
    let pending = store.start_put_if_absent("a", Bytes::from_static(b"x"));
    store.crash();
    assert!(matches!(pending.wait(), Err(Error::Crashed)));
    assert!(inner.get("a").is_ok(), "it may have happened all the same");
}

#[test]
fn a_hook_may_call_the_store_itself() {
    let (store, ..) = faulty(FaultPlan::default());
    let nested = store.clone();
    let runs = Arc::new(AtomicU64::new(0));
    let seen = runs.clone();
    store.on_call(Box::new(move |call| {
        seen.fetch_add(1, Ordering::Relaxed);
        if call.name == "slow" && call.kind == CallKind::PutIfAbsent {
            // Another writer is faster, between the decision to write and the write.
            assert_eq!(
                nested.put_if_absent("fast", b"1").unwrap(),
                PutOutcome::Created
            );
            nested.put("slow", b"theirs").unwrap();
        }
    }));
    assert_eq!(
        store.put_if_absent("slow", b"ours").unwrap(),
        PutOutcome::Exists
    );
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    store.clear_hook();
    assert_eq!(store.get("slow").unwrap(), &b"theirs"[..]);
    assert_eq!(runs.load(Ordering::Relaxed), 3);
}

#[test]
fn a_crash_inside_a_hook_stops_the_call_around_it() {
    let (store, inner, _) = faulty(FaultPlan::default());
    let other = store.clone();
    store.on_call(Box::new(move |_| other.crash()));
    assert!(matches!(store.put("a", b"x"), Err(Error::Crashed)));
    assert!(inner.get("a").is_err());
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_nothing_else_until_there_is_room() {
    let (store, inner, _) = faulty(FaultPlan::default());
    store.put("old", b"1234").unwrap();
    let mut log = store.append("log", 0).unwrap();
    let now = store.calls();
    store.set_plan(FaultPlan {
        full: now + 1..now + 7,
        ..FaultPlan::default()
    });
    let is_full = |error: Error| {
        let full = std::io::ErrorKind::StorageFull;
        assert!(
            matches!(&error, Error::Io { kind, .. } if *kind == full),
            "{error}"
        );
    };
    is_full(store.put("new", b"1234").unwrap_err());
    is_full(store.put_if_absent("new", b"1234").map(|_| ()).unwrap_err());
    is_full(log.append(b"0123456789").unwrap_err());
    is_full(store.create("new").map(|_| ()).unwrap_err());
    assert_eq!(store.get("old").unwrap(), Bytes::from_static(b"1234"));
    store.delete("old").unwrap();
    store.put("new", b"1234").unwrap();
    assert_eq!(inner.get("new").unwrap(), Bytes::from_static(b"1234"));
    assert_eq!(inner.get("log").unwrap(), Bytes::from_static(b"01234"));
}
