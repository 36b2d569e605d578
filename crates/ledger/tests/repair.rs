//! Repair: what a disk lost comes back from remotes, exactly that and nothing else; a remote that lies is
//! refused; a repair that is cut short makes nothing worse and can be run again.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::json;
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{Error, FileRef, Keep, Ledger, Options, Remote};
use siltstone_storage::{
    Blobs, CallKind, Env, FaultPlan, FaultyBlobs, Injected, LocalBlobs, ManualClock, MemBlobs,
};
use std::sync::Arc;
use std::time::Duration;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

fn remote(blobs: impl Blobs + 'static) -> Remote {
    Remote::new("shared", Arc::new(blobs)).background(false)
}

fn sync(ledger: &Ledger, blobs: &MemBlobs) {
    ledger
        .attach(remote(blobs.clone()))
        .unwrap()
        .sync()
        .unwrap();
    ledger.detach("shared");
}

/// A ledger with documents and a file, in an archive of its own each and in one of a compaction, and its
/// remote.
fn whole(mem: &MemBlobs, options: Options) -> (Ledger, MemBlobs) {
    let ledger = in_memory(mem, options);
    (0..6).for_each(|n| put(&ledger, n));
    ledger.compact().unwrap();
    let file = ledger.put_file(&mut &[7; 300_000][..]).unwrap();
    let linked = doc(json!({"file": file.link()}));
    ledger.put("linked", &linked).unwrap();
    (6..9).for_each(|n| put(&ledger, n));
    let shared = MemBlobs::new();
    sync(&ledger, &shared);
    (ledger, shared)
}

fn sound(ledger: &Ledger) {
    let report = ledger.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.linked_files, 1);
}

#[test]
fn a_damaged_byte_anywhere_and_a_missing_archive_are_mended_and_nothing_else_is_fetched() {
    let ring = Arc::new(KeyRing::generate(&SystemEntropy));
    for keys in [None, Some(ring)] {
        let options = || Options {
            keys: keys.clone(),
            ..quiet()
        };
        let mem = MemBlobs::new();
        let (ledger, shared) = whole(&mem, options());
        let expected = answers(&ledger);
        drop(ledger);
        let mut tried = 0;
        for blob in mem.list("").unwrap() {
            let (is_car, is_journal) =
                (blob.name.contains("/car/"), blob.name.contains("/journal/"));
            if !is_car && !is_journal {
                continue;
            }
            let step = (blob.size as usize / 8).max(1);
            // Past the header of a journal; the last record's body would be taken for a torn one.
            let places = (60..blob.size as usize - 2000).step_by(step).map(Some);
            for at in places.chain([None].into_iter().filter(|_| is_car)) {
                let disk = mem.after_crash(|_| 0);
                let ledger = in_memory(&disk, options());
                match at {
                    Some(at) => disk.flip_byte(&blob.name, at),
                    None => disk.delete(&blob.name).unwrap(),
                }
                let counted = FaultyBlobs::new(
                    Arc::new(shared.clone()),
                    Arc::new(ManualClock::default()),
                    FaultPlan::default(),
                );
                let report = ledger.repair(Some(&remote(counted.clone()))).unwrap();
                let place = format!("{} at {at:?}", blob.name);
                assert!(!report.before.problems.is_empty(), "{place}");
                assert!(
                    report.after.problems.is_empty(),
                    "{place}: {:?}",
                    report.after.problems
                );
                assert_eq!(report.mended.len(), report.before.damaged.len());
                assert!(report.mended.len() <= 1 && (is_journal || report.mended.len() == 1));
                // One archive, by one opening and one read; nothing is written there.
                let calls = report.mended.len() as u64;
                assert_eq!(counted.calls_of(CallKind::Open), calls, "{place}");
                assert_eq!(counted.calls(), 2 * calls, "{place}: {:?}", counted.trace());
                assert_eq!(answers(&ledger), expected);
                assert!(ledger.repair(None).unwrap().mended.is_empty());
                drop(ledger);
                let ledger = in_memory(&disk, options());
                assert_eq!(answers(&ledger), expected);
                sound(&ledger);
                no_orphans(&disk, &ledger);
                tried += 1;
            }
        }
        assert!(tried > 20, "{tried}");
    }
}

#[test]
fn a_ledger_whose_head_was_lost_reads_again_and_so_does_a_fresh_process() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    let ledger = in_folder(folder.path(), quiet());
    (0..20).for_each(|n| put(&ledger, n));
    ledger.compact().unwrap();
    let to = Remote::folder("shared", &shared).unwrap();
    ledger.attach(to.background(false)).unwrap().sync().unwrap();
    let expected = answers(&ledger);
    drop(ledger);
    let blobs = folder_blobs(folder.path());
    for name in names(&blobs, "car") {
        blobs.delete(&name).unwrap();
    }
    let ledger = in_folder(folder.path(), quiet());
    assert!(ledger.get(&key(3)).is_err());
    // No remote is attached, so nobody is asked, and nothing is changed.
    let report = ledger.repair(None).unwrap();
    assert_eq!((report.mended.len(), report.unmended.len()), (0, 1));
    assert!(report.unmended[0].tried.is_empty() && !report.after.problems.is_empty());
    let to = Remote::new("shared", Arc::new(LocalBlobs::existing(&shared).unwrap()));
    ledger.attach(to.background(false)).unwrap();
    let report = ledger.repair(None).unwrap();
    assert_eq!(report.mended[0].from, "shared");
    assert!(report.after.problems.is_empty());
    check(&ledger, &model(0..20));
    put(&ledger, 20);
    ledger.delete(&key(20)).unwrap();
    assert_eq!(rows(&ledger).len(), 20);
    drop(ledger);
    let ledger = in_folder(folder.path(), quiet());
    assert!(answers(&ledger).contains(&expected[..200]));
    drop_and_compare(ledger, folder.path());
}

#[test]
fn a_remote_that_lies_is_refused_and_every_byte_stays_as_it_was() {
    let mem = MemBlobs::new();
    let (ledger, shared) = whole(&mem, quiet());
    let name = names(&mem, "car").remove(0);
    let remote_name = name
        .trim_start_matches(&format!("ledger/{NAME}/"))
        .to_string();
    mem.flip_byte(&name, 300);
    let before = mem.get(&name).unwrap();
    let good = shared.get(&remote_name).unwrap();
    for lie in [good.len() - 1, 0, 300, good.len() / 2] {
        shared.put(&remote_name, &good).unwrap();
        match lie {
            0 => shared.delete(&remote_name).unwrap(),
            at if at == good.len() - 1 => shared.truncate(&remote_name, at),
            at => shared.flip_byte(&remote_name, at),
        }
        let report = ledger.repair(Some(&remote(shared.clone()))).unwrap();
        assert!(report.mended.is_empty());
        assert_eq!(report.unmended.len(), 1);
        let said = &report.unmended[0].tried[0].1;
        assert!(
            said.is_corrupt() || matches!(said, Error::Storage(gone) if gone.is_not_found()),
            "{said}"
        );
        assert_eq!(mem.get(&name).unwrap(), before);
        assert_eq!(report.after.problems.len(), report.before.problems.len());
    }
    // The next remote has it.
    let other = MemBlobs::new();
    other.put(&remote_name, &good).unwrap();
    ledger.attach(remote(shared)).unwrap();
    let second = Remote::new("second", Arc::new(other)).background(false);
    ledger.attach(second).unwrap();
    let report = ledger.repair(None).unwrap();
    assert_eq!(report.mended[0].from, "second");
    sound(&ledger);
}

#[test]
fn an_archive_that_the_remote_replaced_is_swapped_for_what_replaced_it() {
    let (mem, shared) = (MemBlobs::new(), MemBlobs::new());
    let env = |mem: &MemBlobs, seed| Env::simulated(Arc::new(mem.clone()), seed);
    let (env_a, clock) = env(&mem, 1);
    let a = Ledger::open(env_a, NAME, quiet()).unwrap();
    (0..10).for_each(|n| put(&a, n));
    let (env_b, _) = env(&MemBlobs::new(), 2);
    let b = Ledger::open(env_b, NAME, quiet()).unwrap();
    sync(&a, &shared);
    sync(&b, &shared);
    b.compact().unwrap();
    sync(&b, &shared);
    // a names the replacement in its place from now on, and its own go after the grace.
    let at_a = a.attach(remote(shared.clone())).unwrap();
    at_a.sync().unwrap();
    clock.advance(Duration::from_secs(7200));
    assert_eq!(at_a.sync().unwrap().deleted_cars, 10);
    assert_eq!(shared.list("car/").unwrap().len(), 1);
    let expected = answers(&a);
    // One record of the journal is hit.
    let journal = names(&mem, "journal").pop().unwrap();
    let text = b"the number 4";
    let bytes = mem.get(&journal).unwrap();
    let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
    mem.flip_byte(&journal, at);
    a.drop_caches();
    assert!(a.get(&key(4)).is_err());
    let report = a.repair(None).unwrap();
    assert_eq!((report.mended.len(), report.unmended.len()), (1, 0));
    assert_ne!(report.mended[0].by, [report.mended[0].car]);
    assert!(
        report.after.problems.is_empty(),
        "{:?}",
        report.after.problems
    );
    assert_eq!(answers(&a), expected);
    // The old name leads on, and the two go on together.
    assert_eq!(
        a.resolve(&report.mended[0].car).unwrap(),
        report.mended[0].by
    );
    put(&b, 50);
    sync(&b, &shared);
    at_a.sync().unwrap();
    drop((a, at_a));
    let a = in_memory(&mem, quiet());
    check(&a, &model((0..10).chain([50])));
    no_orphans(&mem, &a);
}

#[test]
fn a_replica_that_pruned_what_is_kept_here_is_not_asked_for_a_replacement() {
    let (mem, shared) = (MemBlobs::new(), MemBlobs::new());
    let (env, clock) = Env::simulated(Arc::new(mem.clone()), 1);
    let a = Ledger::open(env, NAME, quiet()).unwrap();
    (0..5).for_each(|n| put(&a, n));
    let b = in_memory(&MemBlobs::new(), quiet());
    sync(&a, &shared);
    sync(&b, &shared);
    b.prune(&Keep::Versions(1)).unwrap();
    sync(&b, &shared);
    sync(&a, &shared);
    clock.advance(Duration::from_secs(7200));
    sync(&a, &shared);
    let journal = names(&mem, "journal").pop().unwrap();
    let bytes = mem.get(&journal).unwrap();
    let text = b"the number 1";
    let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
    mem.flip_byte(&journal, at);
    let report = a.repair(Some(&remote(shared.clone()))).unwrap();
    // What b has in its place is without the history that is kept here.
    assert_eq!((report.mended.len(), report.unmended.len()), (0, 1));
    let said = &report.unmended[0].tried[0].1;
    assert!(
        matches!(said, Error::Storage(gone) if gone.is_not_found()),
        "{said}"
    );
}

#[test]
fn a_repair_that_crashes_or_fails_at_any_call_makes_nothing_worse_and_is_run_again() {
    let mut walked = 0;
    for fault in [Injected::Crash, Injected::ErrorAfter, Injected::ErrorBefore] {
        for number in 1.. {
            let mem = MemBlobs::new();
            let (ledger, shared) = whole(&mem, quiet());
            drop(ledger);
            // A file and a record of the journal.
            mem.flip_byte(&names(&mem, "car")[0], 300);
            let journal = names(&mem, "journal").pop().unwrap();
            let text = b"the number 7";
            let bytes = mem.get(&journal).unwrap();
            let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
            mem.flip_byte(&journal, at);
            let faulty = FaultyBlobs::new(
                Arc::new(mem.clone()),
                Arc::new(ManualClock::default()),
                FaultPlan::default(),
            );
            let (env, _) = Env::simulated(Arc::new(faulty.clone()), 7);
            let ledger = Ledger::open(env, NAME, quiet()).unwrap();
            let before = ledger.verify().unwrap().damaged;
            assert_eq!(before.len(), 2);
            let at = faulty.calls() + number;
            faulty.set_plan(FaultPlan::at(at, fault));
            let done = ledger.repair(Some(&remote(shared.clone())));
            let reached = faulty.calls() >= at;
            drop(ledger);
            faulty.set_plan(FaultPlan::default());
            let disk = mem.after_crash(|most| most / 2);
            let ledger = in_memory(&disk, quiet());
            let now = ledger.verify().unwrap().damaged;
            assert!(now.iter().all(|car| before.contains(car)), "{number}");
            let report = ledger.repair(Some(&remote(shared.clone()))).unwrap();
            assert!(
                report.after.problems.is_empty(),
                "{number}: {:?}",
                report.after.problems
            );
            drop(ledger);
            let ledger = in_memory(&disk, quiet());
            sound(&ledger);
            assert_eq!(rows(&ledger).len(), 10);
            no_orphans(&disk, &ledger);
            walked += 1;
            if !reached {
                assert!(done.unwrap().after.problems.is_empty());
                break;
            }
        }
    }
    assert!(walked > 60, "{walked}");
}

#[test]
fn verify_follows_links_to_the_blocks_of_files() {
    let ledger = in_memory(&MemBlobs::new(), quiet());
    let chunk = siltstone_ledger::Block::raw(b"bytes".to_vec());
    // The list of a file, put as a document; its one block is nowhere.
    let list = doc(json!({"v": 1, "size": 5, "blocks": [{"/": chunk.cid.to_string()}]}));
    let file = FileRef {
        cid: list.block().cid,
    };
    ledger.put("list", &list).unwrap();
    sound_but(&ledger, &[]);
    ledger
        .put("a", &doc(json!({"deep": [{"file": file.link()}]})))
        .unwrap();
    sound_but(&ledger, &[chunk.cid]);
    // What was never here is no file.
    let never = FileRef { cid: chunk.cid };
    ledger
        .put("b", &doc(json!({"other": never.link()})))
        .unwrap();
    sound_but(&ledger, &[chunk.cid]);
    ledger.put_file(&mut &b"bytes"[..]).unwrap();
    sound_but(&ledger, &[]);
    sound(&ledger);
}

fn sound_but(ledger: &Ledger, missing: &[siltstone_ledger::Cid]) {
    let report = ledger.verify().unwrap();
    assert_eq!(report.missing, missing);
    assert_eq!(report.problems.len(), missing.len());
}
