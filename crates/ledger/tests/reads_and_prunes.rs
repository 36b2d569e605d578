//! Scenarios 26 to 30, 37 and 38: documents, listings, changes, many ledgers, pruning.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::json;
use siltstone_ledger::{AllDocs, BulkWrite, Clock, Document, Error, Keep, Ledger, Options, Since};
use siltstone_storage::{Blobs, Env, LocalBlobs, MemBlobs};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

#[test]
fn s26_missing_deleted_and_corrupt_are_told_apart() {
    let mem = MemBlobs::new();
    let ledger = in_memory(&mem, quiet());
    put(&ledger, 1);
    put(&ledger, 2);
    ledger.delete(&key(1)).unwrap();
    assert!(is_not_found(&ledger.get("never")));
    assert!(is_not_found(&ledger.get(&key(1))));
    let history = ledger.history(&key(1), 10).unwrap();
    assert_eq!(history.versions.len(), 2);
    assert_eq!(history.versions[0].document, None);
    assert_eq!(history.versions[1].document, Some(numbered(1)));
    ledger.compact().unwrap();
    drop(ledger);
    // A byte of the text of document 2, in the CAR.
    let name = names(&mem, "car").pop().unwrap();
    let bytes = mem.get(&name).unwrap();
    let text = b"the number 2";
    let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
    mem.flip_byte(&name, at);
    let ledger = in_memory(&mem, quiet());
    let broken = ledger.get(&key(2));
    assert!(broken.as_ref().is_err_and(Error::is_corrupt), "{broken:?}");
    assert!(is_not_found(&ledger.get("never")));
    assert_eq!(ledger.verify().unwrap().problems.len(), 2);
    // And a CAR that is gone.
    mem.delete(&name).unwrap();
    let ledger = in_memory(&mem, quiet());
    let gone = ledger.get(&key(2));
    assert!(
        gone.as_ref()
            .is_err_and(|error| !matches!(error, Error::NotFound { .. })),
        "{gone:?}"
    );
    assert!(!ledger.verify().unwrap().problems.is_empty());
}

#[test]
fn s27_what_is_stored_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    let table = [
        json!({}),
        json!({"null": null, "deep": {"er": [1, [2, {"x": null}], "three"]}}),
        json!({"small": -9_223_372_036_854_775_808_i64, "large": 18_446_744_073_709_551_615_u64}),
        json!({"float": 0.1, "tiny": 5e-324, "whole": 3.0}),
        json!({"bytes": {"/": {"bytes": "AQID/w"}}}),
        json!({"ключ": "значение", "空": "🦀"}),
    ];
    let long = "é".repeat(2048);
    let names = ["a", "ä/ö", "空", "🦀", " ", &long];
    for (id, value) in names.iter().zip(&table) {
        ledger.put(id, &doc(value.clone())).unwrap();
    }
    for (id, value) in names.iter().zip(&table) {
        let found = ledger.get(id).unwrap().to_json();
        assert_eq!(found, *value, "{id}");
    }
    // No id: a new one, in the order of time.
    let first = ledger.put_json(&json!({"v": 1})).unwrap().id;
    let second = ledger.put_json(&json!({"_id": "", "v": 2})).unwrap().id;
    assert!(first.len() == 36 && second.len() == 36 && first != second);
    assert_eq!(
        ledger.put_json(&json!({"_id": "mine", "v": 3})).unwrap().id,
        "mine"
    );
    assert_eq!(ledger.get("mine").unwrap().to_json(), json!({"v": 3}));
    // Refused, and nothing written.
    let clock = ledger.clock();
    #[derive(serde::Serialize)]
    struct Float {
        f: f64,
    }
    for f in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(Document::from_serde(&Float { f }).is_err());
    }
    let too_long = "x".repeat(4097);
    assert!(matches!(
        ledger.put(&too_long, &doc(json!({}))),
        Err(Error::TooLarge { .. })
    ));
    assert!(ledger.delete("").is_err());
    assert!(ledger.bulk(vec![]).is_err());
    assert_eq!(ledger.clock(), clock);
    drop_and_compare(ledger, folder.path());
}

#[test]
fn s28_parallel_puts_are_durable_and_each_writer_keeps_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), Options::default());
    std::thread::scope(|scope| {
        for writer in 0..8_u64 {
            let ledger = &ledger;
            scope.spawn(move || {
                for n in 0..40 {
                    put(ledger, writer * 1000 + n);
                }
                // The last one wins.
                for n in 0..10 {
                    ledger.put(&format!("own-{writer}"), &numbered(n)).unwrap();
                }
            });
        }
    });
    // Nobody made siblings.
    assert_eq!(ledger.clock().0.len(), 1);
    assert!(ledger.conflicts().unwrap().is_empty());
    let changes = ledger.changes(Clock::start(), usize::MAX).unwrap().rows;
    for writer in 0..8_u64 {
        assert_eq!(ledger.get(&format!("own-{writer}")).unwrap(), numbered(9));
        let own: Vec<&str> = changes
            .iter()
            .map(|row| row.id.as_str())
            .filter(|id| id.starts_with(&format!("doc-{writer:03}")))
            .collect();
        assert_eq!(own.len(), 40);
        assert!(own.is_sorted(), "{own:?}");
    }
    drop_and_compare(ledger, folder.path());
}

fn changed(ledger: &Ledger, since: impl Into<Since>) -> Vec<String> {
    let rows = ledger.changes(since, usize::MAX).unwrap().rows;
    rows.into_iter().map(|row| row.id).collect()
}

#[test]
fn s29_changes_since_a_clock_page_forward_and_mark_deletions() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    let bulk = |range: std::ops::Range<u64>| {
        let writes = range.map(|n| BulkWrite::Put(key(n), numbered(n)));
        ledger.bulk(writes.collect()).unwrap();
        ledger.clock()
    };
    let first = bulk(0..10);
    let second = bulk(10..25);
    let expected: Vec<String> = (10..25).map(key).collect();
    assert_eq!(changed(&ledger, &first), expected);
    assert!(changed(&ledger, &second).is_empty());
    ledger.delete(&key(3)).unwrap();
    put(&ledger, 0);
    ledger.delete(&key(12)).unwrap();
    let all = ledger.changes(Clock::start(), usize::MAX).unwrap();
    assert_eq!(all.rows.len(), 25);
    let tail: Vec<_> = all.rows[22..]
        .iter()
        .map(|row| (row.id.clone(), row.deleted))
        .collect();
    assert_eq!(tail, [(key(3), true), (key(0), false), (key(12), true)]);
    // Pages of 4, with writes between them: forward, nothing twice but what changed again.
    let (mut since, mut paged) = (Since::default(), Vec::new());
    let mut rounds = 0;
    loop {
        let page = ledger.changes(since, 4).unwrap();
        assert!(page.rows.len() <= 4);
        paged.extend(page.rows);
        since = page.next;
        rounds += 1;
        if rounds == 3 {
            put(&ledger, 2);
        }
        if !page.more {
            break;
        }
    }
    let ids: Vec<&str> = paged.iter().map(|row| row.id.as_str()).collect();
    let again = key(2);
    assert_eq!(ids.iter().filter(|id| **id == again).count(), 2);
    assert_eq!(ids.len(), 26);
    assert_eq!(since.clock, ledger.clock());
    assert!(changed(&ledger, since).is_empty());
    let stranger = Clock(vec![siltstone_ledger::Cid::of(
        siltstone_ledger::Codec::DAG_CBOR,
        b"?",
    )]);
    assert!(matches!(
        ledger.changes(stranger, 1),
        Err(Error::Stale { .. })
    ));
    drop_and_compare(ledger, folder.path());
}

#[test]
fn s30_all_docs_takes_prefix_range_limit_cursor_and_order() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    let listed = |wanted: AllDocs| {
        let rows = ledger.all_docs(&wanted).unwrap().rows;
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    for id in ["a", "ab", "abc", "b", "c", "d"] {
        ledger.put(id, &doc(json!({"id": id}))).unwrap();
    }
    ledger.delete("b").unwrap();
    assert_eq!(listed(AllDocs::default()), ["a", "ab", "abc", "c", "d"]);
    assert_eq!(listed(AllDocs::prefix("ab")), ["ab", "abc"]);
    let range = AllDocs {
        start: Bound::Included("ab".into()),
        end: Bound::Excluded("d".into()),
        ..AllDocs::default()
    };
    assert_eq!(listed(range.clone()), ["ab", "abc", "c"]);
    let down = AllDocs {
        descending: true,
        include_deleted: true,
        ..range
    };
    assert_eq!(listed(down.clone()), ["c", "b", "abc", "ab"]);
    for descending in [false, true] {
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let page = ledger
                .all_docs(&AllDocs {
                    limit: Some(2),
                    after,
                    descending,
                    include_docs: false,
                    ..AllDocs::default()
                })
                .unwrap();
            assert!(page.rows.len() <= 2 && page.rows.iter().all(|row| row.document.is_none()));
            seen.extend(page.rows.into_iter().map(|row| row.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut expected = vec!["a", "ab", "abc", "c", "d"];
        if descending {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    let marked = ledger.all_docs(&down).unwrap().rows;
    assert!(marked[1].deleted && marked[1].document.is_none());
    for id in ["a", "ab", "abc", "c", "d"] {
        ledger.delete(id).unwrap();
    }
    assert!(rows(&ledger).is_empty());
    drop_and_compare(ledger, folder.path());
}

#[test]
fn an_old_clock_is_read_as_it_was() {
    let mem = MemBlobs::new();
    let ledger = in_memory(&mem, quiet());
    let mut clocks = Vec::new();
    for n in 0..20 {
        ledger.put("it", &numbered(n)).unwrap();
        clocks.push(ledger.clock());
    }
    ledger.compact().unwrap();
    for (n, clock) in clocks.iter().enumerate() {
        assert_eq!(ledger.get_at(clock, "it").unwrap(), numbered(n as u64));
    }
    assert!(is_not_found(&ledger.get_at(&Clock::start(), "it")));
    let history = ledger.history("it", 5).unwrap();
    assert!(history.truncated && history.versions.len() == 5);
    let history = ledger.history("it", 100).unwrap();
    assert!(!history.truncated);
    let found: Vec<_> = history
        .versions
        .into_iter()
        .map(|v| v.document.unwrap())
        .collect();
    assert_eq!(found, (0..20).rev().map(numbered).collect::<Vec<_>>());
}

#[test]
fn subscribers_get_each_change_once_and_a_slow_one_is_told() {
    let mem = MemBlobs::new();
    let options = Options {
        subscriber_queue: 10,
        ..quiet()
    };
    let ledger = in_memory(&mem, options);
    put(&ledger, 0);
    let subscription = ledger.subscribe();
    let slow = ledger.subscribe();
    for n in 1..=30 {
        put(&ledger, n);
        let got = subscription.try_recv().unwrap().unwrap();
        assert_eq!((got.id, got.document), (key(n), Some(numbered(n))));
    }
    ledger.delete(&key(4)).unwrap();
    assert!(subscription.recv().unwrap().unwrap().deleted);
    assert!(subscription.try_recv().unwrap().is_none());
    for n in 1..=10 {
        assert_eq!(slow.recv().unwrap().unwrap().id, key(n));
    }
    assert!(matches!(slow.recv(), Err(Error::Lagged { limit: 10 })));
    ledger.close().unwrap();
    assert!(subscription.recv().unwrap().is_none());
}

#[test]
fn s37_a_hundred_ledgers_are_open_at_once_in_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let open = || -> Vec<Ledger> {
        let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::create(folder.path()).unwrap());
        let env = Env::system(blobs);
        let one = |n| Ledger::open(env.clone(), &format!("ledger-{n}"), Options::default());
        (0..100).map(|n| one(n).unwrap()).collect()
    };
    let ledgers = open();
    for (at, ledger) in ledgers.iter().enumerate() {
        (0..3).for_each(|n| put(ledger, at as u64 * 10 + n));
    }
    drop(ledgers);
    for (at, ledger) in open().iter().enumerate() {
        let at = at as u64 * 10;
        check(ledger, &model(at..at + 3));
    }
}

#[test]
fn s38_pruned_versions_are_refused_by_name_and_the_present_is_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    let behind = in_memory(&MemBlobs::new(), quiet());
    let mut clocks = Vec::new();
    for n in 0..40 {
        ledger.put(&format!("it-{}", n % 4), &numbered(n)).unwrap();
        clocks.push(ledger.clock());
        if n == 10 {
            let mut out = Vec::new();
            ledger.export(&mut out).unwrap();
            behind.import(&mut &out[..]).unwrap();
        }
    }
    put(&behind, 999);
    let before = rows(&ledger);
    let old_meta = ledger.meta();
    let bytes = ledger.stats().car_bytes;
    let report = ledger.prune(&Keep::Clock(clocks[29].clone())).unwrap();
    assert_eq!((report.floor, report.events), (clocks[29].clone(), 29));
    assert!(ledger.stats().car_bytes < bytes / 2);
    assert_eq!(rows(&ledger), before);
    let verified = ledger.verify().unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    assert_eq!(verified.events, 11);
    for (n, clock) in clocks.iter().enumerate() {
        let found = ledger.get_at(clock, &format!("it-{}", n % 4));
        match n < 29 {
            true => assert!(matches!(found, Err(Error::Pruned { .. })), "{n}: {found:?}"),
            false => assert_eq!(found.unwrap(), numbered(n as u64)),
        }
    }
    assert!(ledger.at_meta(&old_meta).is_ok());
    let history = ledger.history("it-0", 100).unwrap();
    assert!(history.truncated);
    assert_eq!(history.versions[0].document, Some(numbered(36)));
    assert!(matches!(
        ledger.changes(&clocks[3], 10),
        Err(Error::Pruned { .. })
    ));
    assert_eq!(ledger.changes(&clocks[29], 100).unwrap().rows.len(), 4);
    // A replica that has not seen the boundary is refused, with what to do.
    let mut out = Vec::new();
    behind.export(&mut out).unwrap();
    let refused = ledger.import(&mut &out[..]);
    assert!(
        matches!(refused, Err(Error::BehindPrune { .. })),
        "{refused:?}"
    );
    assert!(refused.unwrap_err().to_string().contains("Clone"));
    assert_eq!(rows(&ledger), before);
    // One that has is merged.
    let level = in_memory(&MemBlobs::new(), quiet());
    let mut out = Vec::new();
    ledger.export(&mut out).unwrap();
    level.import(&mut &out[..]).unwrap();
    assert_eq!(rows(&level), before);
    // Again, by number and by age.
    assert_eq!(ledger.prune(&Keep::Versions(100)).unwrap().events, 0);
    assert_eq!(ledger.prune(&Keep::Versions(5)).unwrap().events, 6);
    assert_eq!(
        ledger
            .prune(&Keep::Age(Duration::from_secs(3600)))
            .unwrap()
            .events,
        0
    );
    assert_eq!(rows(&ledger), before);
    put(&ledger, 1);
    ledger.delete("it-1").unwrap();
    drop_and_compare(ledger, folder.path());
}

#[test]
fn two_replicas_exchange_archives_and_agree() {
    let (one, two) = (
        in_memory(
            &MemBlobs::new(),
            Options {
                author: Some(b"one".to_vec()),
                ..quiet()
            },
        ),
        in_memory(
            &MemBlobs::new(),
            Options {
                author: Some(b"two".to_vec()),
                ..quiet()
            },
        ),
    );
    let subscription = two.subscribe();
    (0..20).for_each(|n| put(&one, n));
    (10..30).for_each(|n| drop(two.put(&key(n), &numbered(n + 100)).unwrap()));
    while subscription.try_recv().unwrap().is_some() {}
    let send = |from: &Ledger, to: &Ledger| {
        let mut out = Vec::new();
        from.export(&mut out).unwrap();
        to.import(&mut &out[..]).unwrap()
    };
    one.compact().unwrap();
    send(&one, &two);
    let mut told = Vec::new();
    while let Some(changed) = subscription.try_recv().unwrap() {
        told.push(changed.id);
    }
    assert!(
        told.len() >= 10 && (0..10).all(|n| told.contains(&key(n))),
        "{told:?}"
    );
    told.sort_unstable();
    told.dedup();
    assert!(told.len() <= 20);
    send(&two, &one);
    assert_eq!(one.clock(), two.clock());
    assert_eq!(rows(&one), rows(&two));
    let conflicts = one.conflicts().unwrap();
    assert_eq!(conflicts.len(), 10);
    assert_eq!(conflicts[0].losers.len(), 1);
    assert_ne!(
        conflicts[0].winner.document,
        conflicts[0].losers[0].document
    );
    // A put settles it.
    one.put(&conflicts[0].id, &numbered(1)).unwrap();
    assert_eq!(one.conflicts().unwrap().len(), 9);
    // The same again brings nothing.
    let stats = two.stats();
    send(&two, &two);
    assert_eq!(two.stats().commits, stats.commits);
    for ledger in [&one, &two] {
        let report = ledger.verify().unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}
