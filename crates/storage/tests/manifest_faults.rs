//! Manifests under faults: a failure at every single call, and commits that another process
//! overtakes at the worst moment.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use siltstone_storage::{
    Blobs, CallKind, Env, FaultPlan, FaultyBlobs, Injected, ManifestState, ManifestStore,
    ManualClock, MemBlobs, Result, Role, SeededRng,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Every edit adds one number; an edit that is carried out twice shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edits(Vec<u8>);

impl ManifestState for Edits {
    fn encode(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self(bytes.to_vec()))
    }
}

fn env(blobs: Arc<dyn Blobs>, seed: u64) -> Env {
    Env {
        clock: Arc::new(ManualClock::default()),
        rng: Arc::new(SeededRng::new(seed)),
        blobs,
    }
}

fn add(store: &ManifestStore<Edits>, edit: u8) -> Result<Vec<u8>> {
    let done = store.commit(|state| {
        let mut next = state.clone();
        next.0.push(edit);
        Ok::<_, siltstone_storage::Error>(next)
    })?;
    Ok(done.state.0.clone())
}

/// A helper commits `overtaking` edits of its own at the first `kind` call that follows the
/// writer's creation of its manifest; the writer's edit must be there exactly once.
fn overtaken_at(kind: CallKind, overtaking: u8) -> Vec<u8> {
    let memory = Arc::new(MemBlobs::bucket());
    let clock = Arc::new(ManualClock::default());
    let hooked = FaultyBlobs::new(memory.clone(), clock, FaultPlan::default());
    let writer = ManifestStore::open(env(Arc::new(hooked.clone()), 1), Role::Writer, || {
        Edits(vec![])
    })
    .unwrap();
    let created = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    hooked.on_call(Box::new(move |call| {
        if created.load(Ordering::SeqCst) && call.kind == kind && !done.swap(true, Ordering::SeqCst)
        {
            let helper =
                ManifestStore::open(env(memory.clone(), 2), Role::Helper, || Edits(vec![]))
                    .unwrap();
            for edit in 0..overtaking {
                add(&helper, 100 + edit).unwrap();
            }
            helper.sweep(&[]).unwrap();
        }
        if call.kind == CallKind::PutIfAbsent && call.name.starts_with("manifest/") {
            created.store(true, Ordering::SeqCst);
        }
    }));
    add(&writer, 1).unwrap();
    hooked.clear_hook();
    writer.refresh().unwrap().state.0.clone()
}

#[test]
fn an_edit_overtaken_right_after_it_won_is_not_applied_twice() {
    for overtaking in 1..5 {
        let edits = overtaken_at(CallKind::List, overtaking);
        let ours = edits.iter().filter(|edit| **edit == 1).count();
        assert_eq!(ours, 1, "overtaken by {overtaking}: {edits:?}");
        assert_eq!(edits.len(), 1 + usize::from(overtaking), "{edits:?}");
    }
}

/// Opens, commits the edits 1 to 5 and sweeps, opening again after every failure. Gives back the
/// edits whose commits were acknowledged.
fn writes_through(store: &FaultyBlobs) -> Vec<u8> {
    let mut acknowledged = Vec::new();
    let mut open = None;
    for edit in 1..=5 {
        if store.is_crashed() {
            store.revive();
        }
        if open.is_none() {
            let seed = 100 + store.calls();
            let env = env(Arc::new(store.clone()), seed);
            open = ManifestStore::open(env, Role::Writer, || Edits(vec![])).ok();
        }
        let Some(writer) = &open else {
            continue;
        };
        match add(writer, edit).and_then(|_| {
            acknowledged.push(edit);
            writer.sweep(&[])
        }) {
            Ok(_) => {}
            Err(_) => open = None,
        }
    }
    store.revive();
    acknowledged
}

#[test]
fn a_fault_at_any_single_call_neither_loses_nor_repeats_an_edit() {
    let faulty = |plan: FaultPlan| {
        let clock = Arc::new(ManualClock::default());
        FaultyBlobs::new(Arc::new(MemBlobs::bucket()), clock, plan)
    };
    let whole = faulty(FaultPlan::default());
    assert_eq!(writes_through(&whole), [1, 2, 3, 4, 5]);
    assert!(whole.calls() > 20, "{}", whole.calls());
    for fault in [Injected::ErrorBefore, Injected::ErrorAfter, Injected::Crash] {
        for number in 1..=whole.calls() {
            let store = faulty(FaultPlan::at(number, fault));
            let acknowledged = writes_through(&store);
            let reader = env(Arc::new(store.clone()), 9);
            let found = ManifestStore::open(reader, Role::Reader, || Edits(vec![])).unwrap();
            let found = found.current().state.0.clone();
            let what = format!("{fault:?} at {}", store.trace()[number as usize - 1]);
            assert!(found.is_sorted_by(|a, b| a < b), "{what}: {found:?}");
            for edit in acknowledged {
                assert!(found.contains(&edit), "{what}: {edit} is lost of {found:?}");
            }
        }
    }
}
