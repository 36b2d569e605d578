//! Ledgers held still: copied while they are written, by backups that share archives and into other stores;
//! damage is not copied; a crash leaves no half copy.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{Error, FILE_BLOCK_BYTES, Held, Ledger, Options};
use siltstone_storage::{Blobs, Env, FaultPlan, FaultyBlobs, Injected, ManualClock, MemBlobs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn env(blobs: &MemBlobs) -> Env {
    Env::simulated(Arc::new(blobs.clone()), 9).0
}

/// In the journal, in files, with redirects, a large one and an index.
fn filled(mem: &MemBlobs, options: Options) -> Ledger {
    let ledger = in_memory(mem, options);
    (0..5).for_each(|n| put(&ledger, n));
    ledger.compact().unwrap();
    let large = vec![3; 3 * FILE_BLOCK_BYTES];
    ledger.put_file(&mut &large[..]).unwrap();
    let query = siltstone_ledger::Query::key(3);
    ledger.index_by_field("n").unwrap().query(&query).unwrap();
    (5..9).for_each(|n| put(&ledger, n));
    ledger
}

fn restored(repository: &MemBlobs, number: u64, options: Options) -> (MemBlobs, Ledger) {
    let to = MemBlobs::new();
    let held = Held::of_backup(Arc::new(repository.clone()), NAME, number)
        .unwrap()
        .unwrap();
    assert!(held.verify().unwrap().problems.is_empty());
    held.copy_to(env(&to), NAME).unwrap();
    let ledger = in_memory(&to, options);
    (to, ledger)
}

#[test]
fn an_open_and_a_closed_ledger_are_copied_as_they_are_and_live_on_apart() {
    let ring = Arc::new(KeyRing::generate(&SystemEntropy));
    for keys in [None, Some(ring)] {
        let options = || Options {
            keys: keys.clone(),
            ..quiet()
        };
        let (mem, repository) = (MemBlobs::new(), MemBlobs::new());
        let shared: Arc<dyn Blobs> = Arc::new(repository.clone());
        let ledger = filled(&mem, options());
        let old = ledger.meta();
        let first = answers(&ledger);
        let held = ledger.hold().unwrap();
        // What comes while it is held is not in it; what is compacted meanwhile is.
        put(&ledger, 50);
        ledger.compact().unwrap();
        ledger.checkpoint().unwrap();
        let stats = held.back_up(shared.clone(), NAME, 1).unwrap();
        assert_eq!((stats.copied, stats.kept), (6, 0));
        drop(held);
        let second = answers(&ledger);
        drop(ledger);
        // Without opening it, and without its keys.
        let held = Held::of_files(env(&mem), NAME).unwrap().unwrap();
        assert_eq!(held.verify().unwrap().archives, 1);
        held.back_up(shared.clone(), NAME, 2).unwrap();
        let again = held.back_up(shared.clone(), NAME, 3).unwrap();
        assert_eq!((again.copied, again.kept, again.bytes), (0, 1, 0));
        for (number, expected) in [(1, &first), (2, &second), (3, &second)] {
            let (to, copy) = restored(&repository, number, options());
            assert_eq!(answers(&copy), *expected);
            assert!(copy.verify().unwrap().problems.is_empty());
            // Old names lead on, indexes are built anew, and it goes on.
            assert_eq!(rows_of(&copy, 3), 1);
            copy.at_meta(&old).unwrap();
            put(&copy, 77);
            copy.compact().unwrap();
            drop(copy);
            let copy = in_memory(&to, options());
            assert_eq!(copy.get(&key(77)).unwrap(), numbered(77));
            no_orphans(&to, &copy);
        }
        // Where there is one, none is made.
        let (to, copy) = restored(&repository, 1, options());
        drop(copy);
        let held = Held::of_backup(shared.clone(), NAME, 2).unwrap().unwrap();
        assert!(matches!(
            held.copy_to(env(&to), NAME),
            Err(Error::Invalid { .. })
        ));
        // A backup goes with what only it needed.
        assert!(Held::remove_backup(shared.clone(), NAME, 1).unwrap() > 0);
        assert_eq!(Held::remove_backup(shared.clone(), NAME, 2).unwrap(), 0);
        assert_eq!(answers(&restored(&repository, 3, options()).1), second);
        Held::remove_backup(shared.clone(), NAME, 3).unwrap();
        assert_eq!(repository.total_bytes(), 0);
        assert!(Held::of_backup(shared, NAME, 3).unwrap().is_none());
        assert!(Held::of_files(env(&mem), "other").unwrap().is_none());
    }
}

fn rows_of(ledger: &Ledger, n: u64) -> usize {
    let index = ledger.index_by_field("n").unwrap();
    index.query(&siltstone_ledger::Query::key(n)).unwrap().len()
}

#[test]
fn damage_anywhere_is_found_in_files_and_in_backups_and_is_not_copied() {
    let (mem, repository) = (MemBlobs::new(), MemBlobs::new());
    let shared: Arc<dyn Blobs> = Arc::new(repository.clone());
    let ledger = filled(&mem, quiet());
    ledger.checkpoint().unwrap();
    drop(ledger);
    let held = || Held::of_files(env(&mem), NAME).map(Option::unwrap);
    held().unwrap().back_up(shared.clone(), NAME, 1).unwrap();
    let mut found = 0;
    for blob in repository.list("").unwrap() {
        for at in (0..blob.size as usize).step_by(blob.size as usize / 9 + 1) {
            repository.flip_byte(&blob.name, at);
            let checked = Held::of_backup(shared.clone(), NAME, 1);
            let checked = checked.map(|held| held.unwrap().verify().unwrap().problems.len());
            assert!(
                checked.is_err() || checked.unwrap() == 1,
                "{} at {at}",
                blob.name
            );
            let to = MemBlobs::new();
            let copied = Held::of_backup(shared.clone(), NAME, 1)
                .and_then(|held| held.unwrap().copy_to(env(&to), NAME));
            assert!(copied.is_err());
            assert!(names(&to, "manifest").is_empty());
            repository.flip_byte(&blob.name, at);
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
    let car = names(&mem, "car").remove(0);
    mem.flip_byte(&car, 500);
    assert_eq!(held().unwrap().verify().unwrap().problems.len(), 1);
    let empty: Arc<dyn Blobs> = Arc::new(MemBlobs::new());
    let refused = held().unwrap().back_up(empty.clone(), NAME, 1);
    assert!(refused.unwrap_err().is_corrupt());
    assert!(Held::of_backup(empty, NAME, 1).unwrap().is_none());
}

#[test]
fn a_copy_that_crashes_at_any_call_is_no_copy_and_the_next_one_is() {
    for restore in [false, true] {
        let (mem, repository) = (MemBlobs::new(), MemBlobs::new());
        let expected = answers(&filled(&mem, quiet()));
        let held = Held::of_files(env(&mem), NAME).unwrap().unwrap();
        held.back_up(Arc::new(repository), NAME, 1).unwrap();
        for number in 1.. {
            let to = MemBlobs::new();
            let clock = Arc::new(ManualClock::default());
            let plan = FaultPlan::at(
                number,
                [Injected::Crash, Injected::ErrorBefore][number as usize % 2],
            );
            let faulty = FaultyBlobs::new(Arc::new(to.clone()), clock, plan);
            let copy = |blobs: Arc<dyn Blobs>| match restore {
                true => held.copy_to(Env::simulated(blobs, 3).0, NAME),
                false => held.back_up(blobs, NAME, 1),
            };
            let done = copy(Arc::new(faulty.clone()));
            let reached = faulty.calls() >= number;
            let there = match restore {
                true => Held::of_files(env(&to), NAME).unwrap(),
                false => Held::of_backup(Arc::new(to.clone()), NAME, 1).unwrap(),
            };
            // All of it or nothing, whatever the caller was told.
            match there {
                Some(there) => assert!(there.verify().unwrap().problems.is_empty()),
                None => {
                    assert!(done.is_err());
                    copy(Arc::new(to.clone())).unwrap();
                }
            }
            let copied = match restore {
                true => in_memory(&to, quiet()),
                false => restored(&to, 1, quiet()).1,
            };
            assert_eq!(answers(&copied), expected);
            if !reached {
                assert!(done.is_ok() && number > 5);
                break;
            }
        }
    }
}

/// The journal may go with a newer manifest while it is looked at: what it said is in that one.
#[test]
fn a_checkpoint_at_every_call_of_looking_at_its_files_hides_nothing() {
    for at in 1.. {
        let mem = MemBlobs::bucket();
        let ledger = in_memory(&mem, quiet());
        (0..3).for_each(|n| put(&ledger, n));
        ledger.checkpoint().unwrap();
        (3..6).for_each(|n| put(&ledger, n));
        let clock = Arc::new(ManualClock::default());
        let meddled = FaultyBlobs::new(Arc::new(mem.clone()), clock, FaultPlan::default());
        let (calls, other) = (AtomicU64::new(0), ledger.clone());
        meddled.on_call(Box::new(move |_: &_| {
            if calls.fetch_add(1, Ordering::Relaxed) + 1 == at {
                put(&other, 6);
                other.checkpoint().unwrap();
            }
        }));
        let looked = Env::simulated(Arc::new(meddled.clone()), 9).0;
        let held = Held::of_files(looked, NAME).unwrap().unwrap();
        meddled.clear_hook();
        let happened = ledger.get(&key(6)).is_ok();
        let to = MemBlobs::new();
        held.copy_to(env(&to), NAME).unwrap();
        let copy = in_memory(&to, quiet());
        (0..6).for_each(|n| {
            drop(
                copy.get(&key(n))
                    .unwrap_or_else(|e| panic!("call {at}: {e}")),
            )
        });
        if !happened {
            assert!(at > 3, "{at} calls");
            return;
        }
    }
}
