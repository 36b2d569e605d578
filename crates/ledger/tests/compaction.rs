//! Scenarios 1 to 14: compaction, and what it must never do.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use parking_lot::Mutex;
use siltstone_ledger::{
    Background, BulkWrite, Captured, Compaction, CompactionReport, Content, Document, Error, Full,
    Ledger, Options, Output, Result, Strategy,
};
use siltstone_storage::{CallKind, Env, FaultPlan, FaultyBlobs, ManualClock, MemBlobs};
use std::path::Path;
use std::sync::Arc;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// `puts` puts by `writers` threads, with automatic compaction on a thread of the ledger.
fn parallel_puts(writers: u64, puts: u64) {
    let folder = temp();
    let ledger = in_folder(folder.path(), Options::default());
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let ledger = &ledger;
            scope.spawn(move || {
                for n in (writer..puts).step_by(writers as usize) {
                    put(ledger, n);
                }
            });
        }
    });
    check(&ledger, &model(0..puts));
    drop_and_compare(ledger, folder.path());
    let ledger = in_folder(folder.path(), quiet());
    check(&ledger, &model(0..puts));
    if writers == 1 {
        let stats = ledger.stats();
        assert!(stats.compactions >= 5, "{stats:?}");
        assert!(stats.cars < 250, "{stats:?}");
    }
}

#[test]
fn s01_a_thousand_puts_of_one_writer_survive_automatic_compaction() {
    parallel_puts(1, 1000);
}

#[test]
fn s02_a_thousand_puts_of_8_and_of_32_writers_survive_it() {
    parallel_puts(8, 1000);
    parallel_puts(32, 1000);
}

#[test]
fn s03_a_put_between_capture_and_swap_stays_in_the_log_behind_the_output() {
    let folder = temp();
    let ledger = in_folder(folder.path(), quiet());
    (0..5).for_each(|n| put(&ledger, n));
    let mut compaction = ledger.begin_compaction().unwrap();
    put(&ledger, 5);
    compaction.copy(&Content).unwrap();
    put(&ledger, 6);
    let before = ledger.meta().cars;
    let report = compaction.swap().unwrap();
    assert_eq!((report.captured_cars, report.output_cars), (5, 1));
    let after = ledger.meta().cars;
    assert_eq!(after.len(), 3);
    assert!(!before.contains(&after[0]));
    assert_eq!(after[1..], before[5..]);
    check(&ledger, &model(0..7));
    drop_and_compare(ledger, folder.path());
}

/// A store in memory that runs `hook` at its calls.
fn hooked(mem: &MemBlobs, options: Options) -> (FaultyBlobs, Ledger) {
    let blobs = FaultyBlobs::new(
        Arc::new(mem.clone()),
        Arc::new(ManualClock::default()),
        FaultPlan::default(),
    );
    let (env, _) = Env::simulated(Arc::new(blobs.clone()), 3);
    (blobs, Ledger::open(env, NAME, options).unwrap())
}

#[test]
fn s04_a_car_on_disk_whose_head_is_not_yet_published_is_not_half_captured() {
    let mem = MemBlobs::new();
    let (blobs, ledger) = hooked(&mem, quiet());
    (0..4).for_each(|n| put(&ledger, n));
    // While the fifth put's CAR is being synced, a compaction captures.
    let captured: Arc<Mutex<Option<Compaction>>> = Arc::default();
    let (slot, handle) = (captured.clone(), ledger.clone());
    blobs.on_call(Box::new(move |call| {
        if call.kind == CallKind::Sync && slot.lock().is_none() {
            *slot.lock() = handle.begin_compaction();
        }
    }));
    put(&ledger, 4);
    blobs.clear_hook();
    let mut compaction = captured.lock().take().unwrap();
    assert_eq!(compaction.captured().len(), 4);
    compaction.copy(&Content).unwrap();
    compaction.swap().unwrap();
    check(&ledger, &model(0..5));
    drop(ledger);
    check(&in_memory(&mem, quiet()), &model(0..5));
}

#[test]
fn s05_an_old_name_leads_to_the_output_and_one_that_came_later_to_itself() {
    let folder = temp();
    let ledger = in_folder(folder.path(), quiet());
    (0..3).for_each(|n| put(&ledger, n));
    let old = ledger.meta();
    let mut compaction = ledger.begin_compaction().unwrap();
    put(&ledger, 3);
    let mixed = ledger.meta();
    compaction.copy(&Content).unwrap();
    compaction.swap().unwrap();
    let now = ledger.meta().cars;
    for car in &old.cars {
        assert_eq!(ledger.resolve(car).unwrap(), now[..1]);
    }
    assert_eq!(ledger.resolve(&mixed.cars[3]).unwrap(), mixed.cars[3..]);
    for (meta, count) in [(&old, 3), (&mixed, 4)] {
        let rows = ledger.at_meta(meta).unwrap().all_docs(&Default::default());
        assert_eq!(rows.unwrap().rows.len(), count);
    }
    drop_and_compare(ledger, folder.path());
    let ledger = in_folder(folder.path(), quiet());
    assert_eq!(ledger.resolve(&old.cars[0]).unwrap(), now[..1]);
}

/// Compactions of the two newest CARs, so that redirects chain through all of them.
#[test]
fn s06_a_meta_older_than_1500_compactions_opens_with_all_it_saw() {
    let mem = MemBlobs::new();
    let ledger = in_memory(&mem, quiet());
    put(&ledger, 0);
    let mut metas = Vec::new();
    for n in 0..1500_u64 {
        // The same key and text again and again: the log grows by the clock alone.
        ledger.put("counter", &numbered(n % 3)).unwrap();
        if [0, 1495, 1498].contains(&n) {
            metas.push((n, ledger.meta()));
        }
        let newest = ledger.meta().cars;
        let two = &newest[newest.len().saturating_sub(2)..];
        let mut compaction = ledger.begin_compaction_of(two).unwrap();
        compaction.copy(&Content).unwrap();
        compaction.swap().unwrap();
        if n % 50 == 49 {
            // Start over with a new newest CAR, so that the chain's copies stay small.
            put(&ledger, n);
        }
    }
    let look = |ledger: &Ledger| {
        assert!(ledger.stats().redirect_files < 40, "{:?}", ledger.stats());
        for (n, meta) in &metas {
            let then = ledger.at_meta(meta).unwrap();
            assert_eq!(then.get("counter").unwrap(), numbered(n % 3));
            assert_eq!(then.get(&key(0)).unwrap(), numbered(0));
            assert_eq!(then.clock().0, meta.heads);
        }
        let mut strange = metas[0].1.clone();
        strange.cars.push(strange.heads[0]);
        assert!(matches!(ledger.at_meta(&strange), Err(Error::Stale { .. })));
    };
    look(&ledger);
    drop(ledger);
    look(&in_memory(&mem, quiet()));
}

#[test]
fn s07_of_two_compactions_of_the_same_cars_the_second_changes_nothing() {
    let folder = temp();
    let ledger = in_folder(folder.path(), quiet());
    (0..6).for_each(|n| put(&ledger, n));
    let mut first = ledger.begin_compaction().unwrap();
    let mut second = ledger.begin_compaction().unwrap();
    put(&ledger, 6);
    first.copy(&Content).unwrap();
    second.copy(&Full).unwrap();
    first.swap().unwrap();
    let log = ledger.meta();
    assert!(matches!(second.swap(), Err(Error::CompactionLost)));
    assert_eq!(ledger.meta(), log);
    check(&ledger, &model(0..7));
    ledger.checkpoint().unwrap();
    no_orphans(&folder_blobs(folder.path()), &ledger);
    drop_and_compare(ledger, folder.path());
}

#[test]
fn s09_compacting_little_or_nothing_new_changes_nothing() {
    let folder = temp();
    let ledger = in_folder(folder.path(), quiet());
    assert_eq!(ledger.compact().unwrap(), CompactionReport::default());
    put(&ledger, 0);
    let meta = ledger.meta();
    assert_eq!(ledger.compact().unwrap(), CompactionReport::default());
    assert_eq!(ledger.meta(), meta);
    put(&ledger, 1);
    assert_eq!(ledger.compact().unwrap().captured_cars, 2);
    let (meta, bytes) = (ledger.meta(), disk_bytes(folder.path()));
    for _ in 0..2 {
        assert_eq!(ledger.compact().unwrap(), CompactionReport::default());
    }
    assert_eq!((ledger.meta(), disk_bytes(folder.path())), (meta, bytes));
    drop_and_compare(ledger, folder.path());
}

fn disk_bytes(folder: &Path) -> u64 {
    use siltstone_storage::Blobs;
    let blobs = folder_blobs(folder);
    blobs
        .list("ledger/")
        .unwrap()
        .iter()
        .map(|blob| blob.size)
        .sum()
}

#[test]
fn s10_a_snapshot_reads_on_through_compaction_and_deletion() {
    let folder = temp();
    let ledger = in_folder(folder.path(), quiet());
    (0..20).for_each(|n| put(&ledger, n));
    ledger.compact().unwrap();
    put(&ledger, 20);
    let snapshot = ledger.snapshot();
    (0..10).for_each(|n| drop(ledger.delete(&key(n)).unwrap()));
    let report = ledger.compact().unwrap();
    assert_eq!(report.deleted_bytes, 0, "the snapshot holds them");
    assert!(ledger.stats().replaced_cars > 0);
    ledger
        .prune(&siltstone_ledger::Keep::Clock(ledger.clock()))
        .unwrap();
    ledger.drop_caches();
    let seen = snapshot.all_docs(&Default::default()).unwrap().rows;
    assert_eq!(seen.len(), 21);
    for n in 0..21 {
        assert_eq!(snapshot.get(&key(n)).unwrap(), numbered(n));
    }
    drop(snapshot);
    ledger.checkpoint().unwrap();
    assert_eq!(ledger.stats().replaced_cars, 0);
    no_orphans(&folder_blobs(folder.path()), &ledger);
    drop_and_compare(ledger, folder.path());
}

#[test]
fn s11_one_commit_of_3_mb_is_a_group_of_cars_and_so_is_a_large_output() {
    let folder = temp();
    let options = Options {
        compacted_car_bytes: 1 << 20,
        ..quiet()
    };
    let ledger = in_folder(folder.path(), options);
    put(&ledger, 9999);
    let text = |n: u64| "x".repeat(1000) + &n.to_string();
    let large = |n: u64| doc(serde_json::json!({"n": n, "text": text(n)}));
    let writes = (0..3000).map(|n| BulkWrite::Put(key(n), large(n)));
    ledger.bulk(writes.collect()).unwrap();
    let cars = ledger.stats().cars;
    assert!((4..8).contains(&cars), "{cars} CARs");
    let mut expected: Model = (0..3000).map(|n| (key(n), large(n))).collect();
    expected.insert(key(9999), numbered(9999));
    check(&ledger, &expected);
    let report = ledger.compact().unwrap();
    assert!((3..8).contains(&report.output_cars), "{report:?}");
    ledger.drop_caches();
    check(&ledger, &expected);
    drop_and_compare(ledger, folder.path());
}

#[derive(Debug)]
enum Bad {
    Nothing,
    Fails,
    DropsOne,
}

impl Strategy for Bad {
    fn name(&self) -> &str {
        "bad"
    }

    fn compact(&self, captured: &Captured<'_>, output: &mut Output<'_>) -> Result<()> {
        let mut first = true;
        match self {
            Bad::Nothing => Ok(()),
            Bad::Fails => {
                captured.for_each(|block| output.copy(&block))?;
                Err(Error::invalid("no more ideas"))
            }
            Bad::DropsOne => captured.for_each(|block| match std::mem::take(&mut first) {
                true => Ok(()),
                false => output.copy(&block),
            }),
        }
    }
}

#[test]
fn s12_a_strategy_that_returns_nothing_fails_or_drops_a_block_is_refused() {
    let folder = temp();
    let ledger = in_folder(folder.path(), quiet());
    (0..5).for_each(|n| put(&ledger, n));
    let log = ledger.meta();
    for bad in [Bad::Nothing, Bad::DropsOne] {
        let refused = ledger.compact_with(&bad);
        assert!(
            matches!(&refused, Err(Error::StrategyRefused { strategy, .. }) if strategy == "bad"),
            "{bad:?}: {refused:?}"
        );
    }
    let failed = ledger.compact_with(&Bad::Fails);
    assert!(matches!(failed, Err(Error::Invalid { what }) if what == "no more ideas"));
    assert_eq!(ledger.meta(), log);
    no_orphans(&folder_blobs(folder.path()), &ledger);
    check(&ledger, &model(0..5));
    assert_eq!(ledger.compact_with(&Full).unwrap().captured_cars, 5);
    check(&ledger, &model(0..5));
    drop_and_compare(ledger, folder.path());
}

#[test]
fn s13_the_same_operations_with_the_same_clock_make_the_same_heads() {
    let run = |seed: u64, compact: bool| {
        let (env, clock) = Env::simulated(Arc::new(MemBlobs::new()), seed);
        let options = Options {
            author: Some(b"someone".to_vec()),
            ..quiet()
        };
        let ledger = Ledger::open(env, NAME, options).unwrap();
        for n in 0..30 {
            clock.advance(std::time::Duration::from_millis(5));
            put(&ledger, n % 7);
            if compact && n % 10 == 9 {
                ledger.compact().unwrap();
            }
        }
        ledger.delete(&key(3)).unwrap();
        ledger.clock()
    };
    assert_eq!(run(1, false), run(2, true));
}

/// Lets `puts` happen in the middle of copying.
#[derive(Debug)]
struct Slow(Ledger);

impl Strategy for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn compact(&self, captured: &Captured<'_>, output: &mut Output<'_>) -> Result<()> {
        let mut n = 100;
        captured.for_each(|block| {
            // Each waits for its own sync; none for the compaction.
            put(&self.0, n);
            n += 1;
            output.copy(&block)
        })
    }
}

#[test]
fn s14_writers_go_on_while_a_compaction_copies_and_its_swap_is_one_commit() {
    let mem = MemBlobs::new();
    let (blobs, ledger) = hooked(&mem, quiet());
    (0..10).for_each(|n| put(&ledger, n));
    let mut compaction = ledger.begin_compaction().unwrap();
    compaction.copy(&Slow(ledger.clone())).unwrap();
    let before = blobs.calls();
    compaction.swap().unwrap();
    // Between taking and leaving the queue: one append and one sync, as a put has.
    let calls = blobs.trace().split_off(before as usize);
    let journal: Vec<_> = calls
        .iter()
        .filter(|call| call.name.contains("journal/"))
        .map(|call| call.kind)
        .filter(|kind| matches!(kind, CallKind::Append | CallKind::Sync))
        .collect();
    assert_eq!(journal, [CallKind::Append, CallKind::Sync]);
    let written = rows(&ledger).len();
    assert!(written >= 40, "{written}");
    drop(ledger);
    let again = in_memory(&mem, quiet());
    assert_eq!(rows(&again).len(), written);
    assert!(again.verify().unwrap().problems.is_empty());
}

#[test]
fn s14_heavy_writers_and_compactions_side_by_side_lose_nothing() {
    let folder = temp();
    let options = Options {
        compact_from: Some(10),
        compact_fan_in: 3,
        ..Options::default()
    };
    let ledger = in_folder(folder.path(), options);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let ledger = &ledger;
            scope.spawn(move || (0..60).for_each(|n| put(ledger, writer * 1000 + n)));
        }
        scope.spawn(|| {
            for _ in 0..20 {
                match ledger.compact() {
                    Ok(_) | Err(Error::CompactionLost) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    });
    let expected = model((0..4).flat_map(|writer| (0..60).map(move |n| writer * 1000 + n)));
    check(&ledger, &expected);
    assert_eq!(ledger.stats().last_background_error, None);
    drop_and_compare(ledger, folder.path());
}

#[test]
fn background_work_runs_inline_under_simulation() {
    let mem = MemBlobs::new();
    let options = Options {
        background: Background::Inline,
        compact_from: Some(5),
        compact_fan_in: 2,
        checkpoint_edits: 7,
        ..Options::default()
    };
    let ledger = in_memory(&mem, options);
    (0..60).for_each(|n| put(&ledger, n));
    let stats = ledger.stats();
    assert!(stats.cars < 15 && stats.compactions > 10, "{stats:?}");
    check(&ledger, &model(0..60));
    let _: Document = ledger.get(&key(1)).unwrap();
}
