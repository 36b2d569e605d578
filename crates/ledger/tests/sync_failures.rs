//! Scenarios 21, 22 and 25: a remote that fails, two processes on one remote, space that is given back.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use siltstone_ledger::{Attachment, Background, Keep, Ledger, Options, Remote};
use siltstone_storage::{
    Blobs, Env, FaultPlan, FaultyBlobs, Injected, LocalBlobs, ManualClock, MemBlobs,
};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

const HOUR: Duration = Duration::from_secs(3600);

/// A ledger in memory or in a folder under a clock of its own.
fn simulated(blobs: Arc<dyn Blobs>, seed: u64) -> (Ledger, Arc<ManualClock>) {
    let (env, clock) = Env::simulated(blobs, seed);
    let options = Options {
        author: Some(seed.to_be_bytes().to_vec()),
        ..quiet()
    };
    (Ledger::open(env, NAME, options).unwrap(), clock)
}

fn attach(ledger: &Ledger, blobs: Arc<dyn Blobs>) -> Attachment {
    let remote = Remote::new("shared", blobs).background(false);
    ledger.attach(remote).unwrap()
}

fn settle(all: &[&Attachment]) {
    for round in 0.. {
        let reports = all.iter().map(|one| one.sync().unwrap());
        let quiet = reports.filter(|report| report.published || report.pulled_events > 0);
        if quiet.count() == 0 {
            return;
        }
        assert!(round < 10, "they do not come to an end");
    }
}

fn count(blobs: &dyn Blobs, prefix: &str) -> usize {
    blobs.list(prefix).unwrap().len()
}

fn bytes(blobs: &dyn Blobs) -> u64 {
    blobs.list("").unwrap().iter().map(|blob| blob.size).sum()
}

#[test]
fn s21_puts_succeed_while_the_remote_fails_and_the_upload_is_retried_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalBlobs::create(folder.path()).unwrap());
    let (ledger, clock) = simulated(local, 21);
    let mem = MemBlobs::new();
    let all_fail = FaultPlan {
        error_before: 1000,
        ..FaultPlan::default()
    };
    let remote = FaultyBlobs::new(Arc::new(mem.clone()), clock.clone(), all_fail);
    let at = attach(&ledger, Arc::new(remote.clone()));
    let mut waits = Vec::new();
    for n in 0..12 {
        put(&ledger, n);
        assert!(at.tick().is_err());
        // What was written since does not make it come back sooner.
        put(&ledger, 100 + n);
        assert!(at.tick().unwrap().is_none());
        let status = at.status();
        assert_eq!(status.pending_cars as u64, 2 * n + 2);
        assert_eq!(u64::from(status.failures), n + 1);
        assert!(status.pending_bytes > 0 && status.last_error.is_some());
        let wait = status.next_try.unwrap().since(ledger_now(&clock));
        waits.push(wait);
        clock.advance(wait);
    }
    assert!(waits[0] < Duration::from_secs(2) && waits[5] >= Duration::from_secs(32));
    assert!(
        waits.iter().all(|wait| *wait <= Duration::from_secs(375)),
        "{waits:?}"
    );
    // Half of all calls fail: it goes on where it was, each archive before the meta.
    remote.set_plan(FaultPlan {
        seed: 5,
        error_before: 250,
        error_after: 250,
        ..FaultPlan::default()
    });
    let mut tries = 0;
    while at.status().failures > 0 {
        clock.advance(Duration::from_secs(400));
        let _ = at.tick();
        let (cars, metas) = (count(&mem, "car/"), count(&mem, "meta/"));
        assert!(
            metas == 0 || cars == 24,
            "{metas} metas and {cars} archives"
        );
        tries += 1;
        assert!(tries < 1000, "it does not come through");
    }
    remote.set_plan(FaultPlan::default());
    at.sync().unwrap();
    assert_eq!(at.status().pending_cars, 0);
    assert!(at.status().last_error.is_none());
    let (other, _) = simulated(Arc::new(MemBlobs::new()), 22);
    attach(&other, Arc::new(mem)).sync().unwrap();
    check(&other, &model((0..12).chain(100..112)));
    drop(at);
    drop_and_compare(ledger, folder.path());
}

fn ledger_now(clock: &Arc<ManualClock>) -> siltstone_storage::Timestamp {
    siltstone_storage::Clock::now(&**clock)
}

#[test]
fn s21_a_crash_of_remote_or_store_at_every_call_of_a_sync_loses_nothing() {
    let mut at_remote = true;
    let mut number: u64 = 1;
    loop {
        let (store_a, store_b) = (MemBlobs::new(), MemBlobs::new());
        let mem = MemBlobs::new();
        let (a, clock) = simulated(Arc::new(store_a.clone()), 1);
        (0..3).for_each(|n| put(&a, n));
        attach(&a, Arc::new(mem.clone())).sync().unwrap();
        drop(a);
        // b has seen some of it, has writes of its own, and compacted.
        let inner: Arc<dyn Blobs> = Arc::new(store_b.clone());
        let faulty_store = FaultyBlobs::new(inner, clock.clone(), FaultPlan::default());
        let (b, _) = simulated(Arc::new(faulty_store.clone()), 2);
        (10..13).for_each(|n| put(&b, n));
        b.compact().unwrap();
        let inner: Arc<dyn Blobs> = Arc::new(mem.clone());
        let faulty_remote = FaultyBlobs::new(inner, clock.clone(), FaultPlan::default());
        let at_b = attach(&b, Arc::new(faulty_remote.clone()));
        let faulty = if at_remote {
            &faulty_remote
        } else {
            &faulty_store
        };
        let fault = [Injected::Crash, Injected::ErrorAfter][(number % 2) as usize];
        let at = faulty.calls() + number.div_ceil(2);
        faulty.set_plan(FaultPlan::at(at, fault));
        let done = at_b.sync();
        let reached = faulty.calls() >= at;
        drop((b, at_b));
        let (b, _) = simulated(Arc::new(store_b.after_crash(|_| 0)), 3);
        let (a, _) = simulated(Arc::new(store_a.after_crash(|_| 0)), 4);
        put(&a, 5);
        let (at_a, at_b) = (
            attach(&a, Arc::new(mem.clone())),
            attach(&b, Arc::new(mem.clone())),
        );
        settle(&[&at_a, &at_b]);
        assert_eq!(a.clock(), b.clock());
        check(&a, &model([0, 1, 2, 5, 10, 11, 12]));
        check(&b, &model([0, 1, 2, 5, 10, 11, 12]));
        number += 1;
        if !reached {
            assert!(done.is_ok());
            if !at_remote {
                break;
            }
            (at_remote, number) = (false, 1);
        }
    }
}

#[test]
fn s25_the_remote_shrinks_after_a_compaction_once_nothing_can_name_the_old_archives() {
    let folder = tempfile::tempdir().unwrap();
    let mem = MemBlobs::new();
    let local = Arc::new(LocalBlobs::create(folder.path()).unwrap());
    let (a, clock) = simulated(local, 1);
    let (b, _) = simulated(Arc::new(MemBlobs::new()), 2);
    let (at_a, at_b) = (
        attach(&a, Arc::new(mem.clone())),
        attach(&b, Arc::new(mem.clone())),
    );
    for n in 0..60 {
        put(&a, n % 20);
        a.put("same", &numbered(n)).unwrap();
    }
    settle(&[&at_a, &at_b]);
    let (cars, before) = (count(&mem, "car/"), bytes(&mem));
    assert_eq!(cars, 120);
    a.compact().unwrap();
    at_a.sync().unwrap();
    // b is away: its meta names the old ones, and they stay whatever the time.
    clock.advance(2 * HOUR);
    assert_eq!(at_a.sync().unwrap().deleted_cars, 0);
    assert_eq!(count(&mem, "car/"), 121);
    // b hears of the replacement and names it; it fetches nothing for that.
    let report = at_b.sync().unwrap();
    assert_eq!((report.pulled_cars, report.pushed_cars), (0, 0));
    assert!(report.published);
    // Now nobody names them; they go after the grace, not before.
    assert_eq!(at_a.sync().unwrap().deleted_cars, 0);
    clock.advance(HOUR / 2);
    assert_eq!(at_a.sync().unwrap().deleted_cars, 0);
    clock.advance(HOUR);
    assert_eq!(at_a.sync().unwrap().deleted_cars, 120);
    settle(&[&at_a, &at_b]);
    clock.advance(2 * HOUR);
    settle(&[&at_a, &at_b]);
    assert_eq!(count(&mem, "car/"), 1);
    assert!(bytes(&mem) < before, "{} of {before}", bytes(&mem));
    // What is left is all there is, for one who joins; and b goes on without sending anything again.
    let (c, _) = simulated(Arc::new(MemBlobs::new()), 3);
    let at_c = attach(&c, Arc::new(mem.clone()));
    at_c.sync().unwrap();
    assert_eq!(answers(&c), answers(&a));
    put(&b, 1000);
    assert_eq!(at_b.sync().unwrap().pushed_cars, 1);
    settle(&[&at_a, &at_b, &at_c]);
    assert_eq!(a.clock(), b.clock());
    assert!(a.get(&key(1000)).is_ok() && c.get(&key(1000)).is_ok());
    // Compacted by b too, and over again: it stays bounded.
    for round in 0..5 {
        b.compact().unwrap();
        a.compact().unwrap();
        put(&a, 2000 + round);
        for _ in 0..3 {
            settle(&[&at_a, &at_b, &at_c]);
            clock.advance(2 * HOUR);
        }
    }
    assert!(count(&mem, "car/") < 40, "{}", count(&mem, "car/"));
    // One who joins after a prune finds all that is current.
    a.prune(&Keep::Versions(1)).unwrap();
    for ledger in [&b, &c] {
        ledger.compact().unwrap();
    }
    for _ in 0..3 {
        settle(&[&at_a, &at_b, &at_c]);
        clock.advance(2 * HOUR);
    }
    let (d, _) = simulated(Arc::new(MemBlobs::new()), 4);
    attach(&d, Arc::new(mem.clone())).sync().unwrap();
    assert_eq!(rows(&d), rows(&b));
    drop((at_a, at_b));
    drop_and_compare(a, folder.path());
}

const FOLDER: &str = "LEDGER_SYNC_FOLDER";
const WHO: &str = "LEDGER_SYNC_WHO";

#[test]
#[ignore = "one of the processes"]
fn writing_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let who: u64 = std::env::var(WHO).unwrap().parse().unwrap();
    let folder = Path::new(&folder);
    let options = Options {
        author: Some(who.to_be_bytes().to_vec()),
        compact_from: Some(8),
        compact_fan_in: 2,
        background: Background::Thread,
        ..Options::default()
    };
    // Two devices in each process.
    for device in 0..2 {
        let options = Options {
            author: Some(vec![who as u8, device as u8]),
            ..options.clone()
        };
        let ledger = in_folder(&folder.join(format!("{who}-{device}")), options);
        let remote = Remote::folder("shared", folder.join("remote")).unwrap();
        let at = ledger
            .attach(remote.poll(Duration::from_millis(5)))
            .unwrap();
        for n in 0..25 {
            put(&ledger, who * 1000 + device * 100 + n);
            ledger.put("counter", &numbered(who * 1000 + n)).unwrap();
        }
        at.sync().unwrap();
        ledger.close().unwrap();
    }
}

#[test]
fn s22_two_processes_with_two_devices_each_write_one_remote_and_no_update_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<_> = (1..3)
        .map(|who: u64| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "writing_process", "--ignored", "--nocapture"])
                .env(FOLDER, folder.path())
                .env(WHO, who.to_string())
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let names = ["1-0", "1-1", "2-0", "2-1"];
    let open = |name: &str| {
        let ledger = in_folder(&folder.path().join(name), quiet());
        let remote = Remote::folder("shared", folder.path().join("remote")).unwrap();
        let at = ledger.attach(remote.background(false)).unwrap();
        (ledger, at)
    };
    let all: Vec<_> = names.iter().map(|name| open(name)).collect();
    settle(&all.iter().map(|(_, at)| at).collect::<Vec<_>>());
    let (joined, at) = open("joined");
    at.sync().unwrap();
    let expected = (1..3).flat_map(|who| {
        (0..2).flat_map(move |device| (0..25).map(move |n| who * 1000 + device * 100 + n))
    });
    let mut expected = model(expected);
    expected.insert("counter".into(), joined.get("counter").unwrap());
    for (ledger, _) in &all {
        check(ledger, &expected);
        assert_eq!(ledger.clock(), joined.clock());
    }
    check(&joined, &expected);
    drop(at);
    drop_and_compare(joined, &folder.path().join("joined"));
    for (name, (ledger, at)) in names.iter().zip(all) {
        drop(at);
        drop_and_compare(ledger, &folder.path().join(name));
    }
}

#[test]
fn damage_in_the_remote_keeps_one_replica_out_and_nobody_else() {
    let mem = MemBlobs::new();
    let (a, _) = simulated(Arc::new(MemBlobs::new()), 1);
    let (b, _) = simulated(Arc::new(MemBlobs::new()), 2);
    (0..3).for_each(|n| put(&a, n));
    (10..13).for_each(|n| put(&b, n));
    let at_a = attach(&a, Arc::new(mem.clone()));
    at_a.sync().unwrap();
    let damaged = mem.list("car/").unwrap()[1].name.clone();
    attach(&b, Arc::new(mem.clone())).sync().unwrap();
    let good = mem.get(&damaged).unwrap();
    for at in (0..good.len()).step_by(7) {
        mem.put(&damaged, &good).unwrap();
        mem.flip_byte(&damaged, at);
        let (c, _) = simulated(Arc::new(MemBlobs::new()), 3);
        let report = attach(&c, Arc::new(mem.clone())).sync().unwrap();
        assert_eq!(report.refused.len(), 2, "flip at {at}");
        assert!(report.refused.iter().all(|(_, error)| error.is_corrupt()));
        check(&c, &model([]));
    }
    // Shorter than it should be: its owner sees that by the listing, and sends it again.
    mem.truncate(&damaged, 9);
    assert_eq!(at_a.sync().unwrap().pushed_cars, 1);
    assert_eq!(mem.get(&damaged).unwrap(), good);
    // A meta that nobody can read, and one of a replica that is not there.
    let meta = mem.list("meta/").unwrap()[0].name.clone();
    mem.put(
        &format!("meta/{}/{:020}", "0".repeat(32), 7),
        &mem.get(&meta).unwrap(),
    )
    .unwrap();
    mem.put("meta/readme.txt", b"hello").unwrap();
    mem.put("car/readme.txt", b"hello").unwrap();
    let (c, _) = simulated(Arc::new(MemBlobs::new()), 3);
    let at_c = attach(&c, Arc::new(mem.clone()));
    let report = at_c.sync().unwrap();
    assert_eq!(report.refused.len(), 1);
    check(&c, &model((0..3).chain(10..13)));
    // Nobody knows what the unreadable one names, so nothing is deleted.
    a.compact().unwrap();
    let before = count(&mem, "car/");
    for _ in 0..3 {
        at_a.sync().unwrap();
        at_c.sync().unwrap();
    }
    assert!(count(&mem, "car/") > before);
}
