//! Scenarios 15 to 20 and 23: replicas over one remote.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::json;
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{Attachment, Document, Error, Keep, Ledger, Options, Phase, Remote};
use siltstone_storage::{Blobs, MemBlobs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

fn options(author: &str) -> Options {
    Options {
        author: Some(author.as_bytes().to_vec()),
        ..quiet()
    }
}

/// A ledger in a folder of its own, attached to a folder.
fn replica(folder: &Path, author: &str, remote: &Path) -> (Ledger, Attachment) {
    let ledger = in_folder(&folder.join(author), options(author));
    let attached = ledger.attach(by_hand(remote)).unwrap();
    (ledger, attached)
}

fn by_hand(remote: &Path) -> Remote {
    Remote::folder("shared", remote).unwrap().background(false)
}

/// Syncs all until nobody has anything to say any more.
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

fn texts(ledger: &Ledger) -> Vec<(String, Document)> {
    let rows = rows(ledger).into_iter();
    rows.map(|row| (row.id, row.document.unwrap())).collect()
}

fn note(text: &str) -> Document {
    doc(json!({"text": text}))
}

fn sound(ledger: &Ledger) {
    let report = ledger.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

/// The end of each scenario: the same in a fresh process.
fn end(folder: &Path, all: Vec<(&str, Ledger)>) {
    for (author, ledger) in all {
        sound(&ledger);
        drop_and_compare(ledger, &folder.join(author));
    }
}

#[test]
fn s15_disjoint_edits_of_two_replicas_are_united() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let (a, at_a) = replica(folder.path(), "a", &remote);
    let (b, at_b) = replica(folder.path(), "b", &remote);
    (0..20).for_each(|n| put(&a, n));
    (20..40).for_each(|n| put(&b, n));
    let report = at_a.sync().unwrap();
    assert_eq!((report.pushed_cars, report.pushed_events), (20, 20));
    let report = at_b.sync().unwrap();
    assert_eq!((report.pulled_cars, report.pulled_events), (20, 21));
    at_a.sync().unwrap();
    assert_eq!(a.clock(), b.clock());
    check(&a, &model(0..40));
    check(&b, &model(0..40));
    settle(&[&at_a, &at_b]);
    end(folder.path(), vec![("a", a), ("b", b)]);
}

#[test]
fn s16_the_same_key_has_one_winner_and_the_loser_is_in_history_and_conflicts() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let (a, at_a) = replica(folder.path(), "a", &remote);
    let (b, at_b) = replica(folder.path(), "b", &remote);
    a.put("k", &note("from a")).unwrap();
    b.put("k", &note("from b")).unwrap();
    settle(&[&at_a, &at_b]);
    assert_eq!(a.clock(), b.clock());
    assert_eq!(a.get("k").unwrap(), b.get("k").unwrap());
    for ledger in [&a, &b] {
        assert_eq!(ledger.conflicts().unwrap().len(), 1);
        let history = ledger.history("k", 10).unwrap();
        let mut seen: Vec<_> = history
            .versions
            .iter()
            .map(|v| v.document.clone())
            .collect();
        seen.sort_by_key(|document| document.as_ref().map(|d| d.to_json().to_string()));
        assert_eq!(seen, [Some(note("from a")), Some(note("from b"))]);
    }
    b.put("k", &note("settled")).unwrap();
    settle(&[&at_a, &at_b]);
    assert_eq!(a.get("k").unwrap(), note("settled"));
    assert!(a.conflicts().unwrap().is_empty());
    end(folder.path(), vec![("a", a), ("b", b)]);
}

#[test]
fn s17_both_compacted_twice_after_diverging_and_only_that_is_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let (a, at_a) = replica(folder.path(), "a", &remote);
    let (b, at_b) = replica(folder.path(), "b", &remote);
    (0..10).for_each(|n| put(&a, n));
    settle(&[&at_a, &at_b]);
    for round in 0..2 {
        for n in 0..10 {
            put(&a, 100 + round * 10 + n);
            put(&b, 200 + round * 10 + n);
            a.put("both", &note(&format!("a{round}{n}"))).unwrap();
            b.put("both", &note(&format!("b{round}{n}"))).unwrap();
        }
        a.compact().unwrap();
        b.compact().unwrap();
    }
    let (cars_a, cars_b) = (a.meta().cars.len(), b.meta().cars.len());
    assert_eq!((cars_a, cars_b), (1, 1));
    settle(&[&at_a, &at_b]);
    assert_eq!(a.clock(), b.clock());
    assert_eq!(texts(&a), texts(&b));
    assert_eq!(rows(&a).len(), 10 + 40 + 1);
    assert_eq!(a.conflicts().unwrap().len(), 1);
    end(folder.path(), vec![("a", a), ("b", b)]);
}

#[test]
fn s18_three_replicas_two_detach_the_third_writes_they_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let (a, at_a) = replica(folder.path(), "a", &remote);
    let (b, at_b) = replica(folder.path(), "b", &remote);
    let (c, at_c) = replica(folder.path(), "c", &remote);
    put(&a, 1);
    put(&b, 2);
    put(&c, 3);
    settle(&[&at_a, &at_b, &at_c]);
    for ledger in [&a, &b, &c] {
        check(ledger, &model(1..4));
    }
    assert!(a.detach("shared") && b.detach("shared"));
    let detached = at_a.sync();
    assert!(
        matches!(detached, Err(Error::Invalid { .. })),
        "{detached:?}"
    );
    (4..30).for_each(|n| put(&c, n));
    c.compact().unwrap();
    put(&a, 40);
    at_c.sync().unwrap();
    let at_a = a.attach(by_hand(&remote)).unwrap();
    let at_b = b.attach(by_hand(&remote)).unwrap();
    settle(&[&at_a, &at_b, &at_c]);
    for ledger in [&a, &b, &c] {
        check(ledger, &model((1..30).chain([40])));
        assert_eq!(ledger.clock(), a.clock());
    }
    end(folder.path(), vec![("a", a), ("b", b), ("c", c)]);
}

#[test]
fn s19_what_was_written_before_attaching_goes_there_too() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let a = in_folder(&folder.path().join("a"), options("a"));
    (0..50).for_each(|n| put(&a, n));
    let told = Arc::new(AtomicU64::new(0));
    let seen = told.clone();
    let at_a = by_hand(&remote).progress(move |progress| {
        assert_eq!((progress.phase, progress.of_cars), (Phase::Push, 50));
        seen.fetch_add(1, Ordering::Relaxed);
    });
    let at_a = a.attach(at_a).unwrap();
    assert_eq!(at_a.status().pending_cars, 50);
    assert_eq!(at_a.sync().unwrap().pushed_cars, 50);
    assert_eq!(told.load(Ordering::Relaxed), 50);
    let status = at_a.status();
    assert_eq!((status.pending_cars, status.pending_bytes), (0, 0));
    assert!(status.last_success.is_some());
    let (b, at_b) = replica(folder.path(), "b", &remote);
    assert_eq!(at_b.sync().unwrap().pulled_events, 50);
    check(&b, &model(0..50));
    end(folder.path(), vec![("a", a), ("b", b)]);
}

#[test]
fn s20_an_empty_replica_joins_and_two_attachments_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let (a, at_a) = replica(folder.path(), "a", &remote);
    (0..30).for_each(|n| put(&a, n));
    a.compact().unwrap();
    at_a.sync().unwrap();
    let (b, at_b) = replica(folder.path(), "b", &remote);
    let again = b.attach(by_hand(&remote)).unwrap();
    assert_eq!(b.remotes().len(), 1);
    let other = Remote::folder("shared", folder.path().join("other")).unwrap();
    assert!(matches!(b.attach(other), Err(Error::Invalid { .. })));
    at_b.sync().unwrap();
    assert_eq!(again.status().last_success, at_b.status().last_success);
    assert_eq!(texts(&a), texts(&b));
    assert_eq!(a.clock(), b.clock());
    // What it joined with is not sent again.
    let report = again.sync().unwrap();
    assert_eq!((report.pushed_cars, report.published), (0, false));
    assert!(b.detach("shared") && !b.detach("shared"));
    assert!(b.remotes().is_empty());
    let threaded = Remote::folder("thread", &remote).unwrap();
    let left = b.attach(threaded).unwrap();
    b.clone().close().unwrap();
    assert!(b.remotes().is_empty());
    assert!(left.sync().is_err());
    drop(b);
    let b = in_folder(&folder.path().join("b"), options("b"));
    end(folder.path(), vec![("a", a), ("b", b)]);
}

#[test]
fn s23_subscribers_are_told_once_with_documents_and_deletes_marked() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let (a, at_a) = replica(folder.path(), "a", &remote);
    let (b, at_b) = replica(folder.path(), "b", &remote);
    (0..3).for_each(|n| put(&a, n));
    settle(&[&at_a, &at_b]);
    let told = b.subscribe();
    put(&b, 7);
    put(&a, 8);
    a.delete(&key(1)).unwrap();
    settle(&[&at_a, &at_b]);
    settle(&[&at_a, &at_b]);
    let mut heard = Vec::new();
    while let Some(changed) = told.try_recv().unwrap() {
        heard.push((changed.id, changed.document, changed.deleted));
    }
    let expected = [
        (key(7), Some(numbered(7)), false),
        (key(8), Some(numbered(8)), false),
        (key(1), None, true),
    ];
    assert_eq!(heard, expected);
    end(folder.path(), vec![("a", a), ("b", b)]);
}

#[test]
fn encrypted_replicas_exchange_envelopes_and_who_has_no_key_is_told_which() {
    let keys = Arc::new(KeyRing::generate(&SystemEntropy));
    let sealed = |author| Options {
        keys: Some(keys.clone()),
        ..options(author)
    };
    let remote = MemBlobs::bucket();
    let attach = |ledger: &Ledger| {
        let remote = Remote::new("shared", Arc::new(remote.clone()));
        ledger.attach(remote.background(false)).unwrap()
    };
    let a = in_memory(&MemBlobs::new(), sealed("a"));
    let b = in_memory(&MemBlobs::bucket(), sealed("b"));
    let write = |n| siltstone_ledger::BulkWrite::Put(key(n), numbered(n));
    a.bulk((0..2000).map(write).collect()).unwrap();
    put(&a, 1);
    a.compact().unwrap();
    put(&b, 5000);
    let (at_a, at_b) = (attach(&a), attach(&b));
    settle(&[&at_a, &at_b]);
    check(&b, &model((0..2000).chain([5000])));
    for blob in remote.list("").unwrap() {
        let bytes = remote.get(&blob.name).unwrap();
        let plain = bytes.windows(12).any(|window| window == b"the document");
        assert!(!plain, "{} can be read", blob.name);
    }
    let blind = in_memory(&MemBlobs::new(), options("c"));
    let report = attach(&blind).sync().unwrap();
    assert_eq!(report.refused.len(), 2);
    for (_, error) in report.refused {
        let current = keys.current().to_string();
        assert!(matches!(error, Error::Undecryptable { key, .. } if key == current));
    }
    assert!(rows(&blind).is_empty());
}

#[test]
fn a_replica_behind_a_prune_is_told_what_to_do_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let (a, at_a) = replica(folder.path(), "a", &remote);
    let (b, at_b) = replica(folder.path(), "b", &remote);
    let (c, at_c) = replica(folder.path(), "c", &remote);
    (0..5).for_each(|n| put(&a, n));
    settle(&[&at_a, &at_b, &at_c]);
    // b goes on without a network; a and c write and prune.
    put(&b, 50);
    (5..10).for_each(|n| put(&a, n));
    settle(&[&at_a, &at_c]);
    a.prune(&Keep::Versions(2)).unwrap();
    settle(&[&at_a, &at_c]);
    let (before, cars) = (answers(&b), b.meta());
    let listed = folder_blobs(&remote).list("").unwrap();
    let refused = at_b.sync();
    let Err(error @ Error::BehindPrune { .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.to_string().contains("join again"), "{error}");
    assert!(at_b.status().last_error.is_some());
    assert_eq!((answers(&b), b.meta()), (before, cars));
    assert_eq!(folder_blobs(&remote).list("").unwrap(), listed);
    // It does what it was told: a fresh clone, and its own edit anew.
    let (fresh, at_fresh) = replica(folder.path(), "fresh", &remote);
    let report = at_fresh.sync().unwrap();
    assert_eq!(texts(&fresh), texts(&a));
    put(&fresh, 50);
    settle(&[&at_fresh, &at_a, &at_c]);
    drop(report);
    for ledger in [&a, &c, &fresh] {
        let all: Vec<_> = model((0..10).chain([50])).into_iter().collect();
        assert_eq!(texts(ledger), all);
        assert_eq!(ledger.clock(), a.clock());
    }
    // c kept all of its history; the joined one begins at the floor.
    assert!(matches!(
        fresh.changes(siltstone_ledger::Clock::start(), 10),
        Err(Error::Pruned { .. })
    ));
    end(folder.path(), vec![("a", a), ("c", c), ("fresh", fresh)]);
}

#[test]
fn a_copy_of_a_ledger_gets_a_name_of_its_own() {
    let remote = MemBlobs::new();
    let store = MemBlobs::new();
    let attach = |ledger: &Ledger| {
        let remote = Remote::new("shared", Arc::new(remote.clone()));
        ledger.attach(remote.background(false)).unwrap()
    };
    let a = in_memory(&store, options("a"));
    let at_a = attach(&a);
    put(&a, 1);
    at_a.sync().unwrap();
    let copy = in_memory(&store.after_crash(|_| 0), options("b"));
    let at_copy = attach(&copy);
    put(&a, 2);
    put(&copy, 3);
    at_a.sync().unwrap();
    settle(&[&at_copy, &at_a]);
    assert_eq!(a.clock(), copy.clock());
    check(&a, &model(1..4));
    let metas = remote.list("meta/").unwrap();
    let names: std::collections::BTreeSet<_> = metas
        .iter()
        .map(|blob| blob.name[5..37].to_string())
        .collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn the_thread_syncs_after_writes_and_on_the_poll() {
    let folder = tempfile::tempdir().unwrap();
    let remote = folder.path().join("remote");
    let a = in_folder(&folder.path().join("a"), options("a"));
    let b = in_folder(&folder.path().join("b"), options("b"));
    let often = || {
        let remote = Remote::folder("shared", &remote).unwrap();
        remote.poll(Duration::from_millis(2))
    };
    let told = b.subscribe();
    let _at_a = a.attach(often()).unwrap();
    let _at_b = b.attach(often()).unwrap();
    (0..5).for_each(|n| put(&a, n));
    for _ in 0..5 {
        assert!(told.recv().unwrap().unwrap().document.is_some());
    }
    check(&b, &model(0..5));
    a.close().unwrap();
    b.close().unwrap();
}

#[test]
fn s24_a_file_written_on_one_replica_is_read_on_the_other_and_sent_once() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    let (a, to) = replica(folder.path(), "a", &shared);
    let (b, from) = replica(folder.path(), "b", &shared);
    let mut random = fastrand::Rng::with_seed(24);
    let picture: Vec<u8> = (0..900_000).map(|_| random.u8(..)).collect();
    let file = a.put_file(&mut picture.as_slice()).unwrap();
    let named = |title: &str| doc(json!({"title": title, "picture": file.link()}));
    a.put("stone", &named("a stone")).unwrap();
    settle(&[&to, &from]);
    let read = |ledger: &Ledger| {
        let link = ledger.get("stone").unwrap().field(&["picture"]).unwrap();
        let file = siltstone_ledger::FileRef::from_link(&link).unwrap();
        let mut bytes = Vec::new();
        let mut reader = ledger.open_file(&file).unwrap();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        bytes
    };
    assert!(read(&b) == picture);
    // The document changes and the file does not: what is sent is small, also after a compaction.
    a.put("stone", &named("the same stone")).unwrap();
    let sent = to.sync().unwrap().pushed_bytes;
    assert!(sent < 20_000, "{sent} bytes were sent");
    b.compact().unwrap();
    settle(&[&to, &from]);
    assert!(read(&b) == picture);
    b.close().unwrap();
    drop(from);
    let (b, _from) = replica(folder.path(), "b", &shared);
    assert!(read(&b) == picture);
    assert_eq!(b.get("stone").unwrap(), named("the same stone"));
}
