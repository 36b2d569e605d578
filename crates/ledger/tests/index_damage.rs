//! The index of an archive says where its blocks are: one that is damaged must never make a block look
//! absent, or another one.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use siltstone_ledger::car::Frames;
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{Document, Error, Ledger, Options, Query, Remote, Result};
use siltstone_storage::{Blobs, MemBlobs};
use std::ops::Range;
use std::sync::Arc;

/// Where the index of an archive lies, from the length of its frame on, and its pages.
fn index_of(bytes: bytes::Bytes, blocks: u64) -> Range<usize> {
    let end = bytes.len();
    let frames: Vec<_> = Frames::new(bytes).unwrap().map(|f| f.unwrap()).collect();
    // The header, the blocks; the rest is index.
    let first = &frames[blocks as usize + 1];
    first.offset as usize - 36 - 2..end
}

fn right_or_damaged(ledger: &Ledger, expected: &Model, place: &str) -> u32 {
    let mut damaged = 0;
    let mut look = |id: &str, got: Result<Document>| match got {
        Ok(found) => assert_eq!(Some(&found), expected.get(id), "{place}"),
        Err(error) => {
            assert!(error.is_corrupt(), "{place}: {id}: {error}");
            let said = error.to_string();
            assert!(said.contains("CAR bag"), "it does not say where: {said}");
            damaged += 1;
        }
    };
    for id in expected.keys() {
        look(id, ledger.get(id));
    }
    // What is not there is not there, or nobody knows.
    match ledger.get("absent") {
        Err(Error::NotFound { .. }) => {}
        Err(error) => assert!(error.is_corrupt(), "{place}: {error}"),
        Ok(found) => panic!("{place}: {found:?}"),
    }
    damaged
}

fn walk(keys: Option<Arc<KeyRing>>, documents: u64, step: usize) {
    let options = || Options {
        keys: keys.clone(),
        compacted_car_bytes: 64 << 20,
        ..quiet()
    };
    let mem = MemBlobs::new();
    let ledger = in_memory(&mem, options());
    let writes = (0..documents).map(|n| siltstone_ledger::BulkWrite::Put(key(n), numbered(n)));
    let writes: Vec<_> = writes.collect();
    ledger.bulk(writes).unwrap();
    put(&ledger, documents);
    let report = ledger.compact().unwrap();
    let shared = MemBlobs::new();
    let remote = || Remote::new("shared", Arc::new(shared.clone())).background(false);
    ledger.attach(remote()).unwrap().sync().unwrap();
    drop(ledger);
    let expected = model(0..=documents);
    let name = names(&mem, "car").pop().unwrap();
    let index = index_of(mem.get(&name).unwrap(), report.blocks);
    assert!(index.len() > 40 * report.blocks as usize);
    let mut mended = 0;
    for (turn, at) in index.step_by(step).enumerate() {
        let disk = mem.after_crash(|_| 0);
        disk.flip_byte(&name, at);
        let place = format!("byte {at} of {name}");
        let ledger = in_memory(&disk, options());
        let damaged = right_or_damaged(&ledger, &expected, &place);
        // The length of the frame is what an open archive does not read.
        let report = ledger.verify().unwrap();
        assert_eq!(report.damaged.len(), 1, "{place}: {:?}", report.problems);
        if turn % 7 == 0 {
            let report = ledger.repair(Some(&remote())).unwrap();
            assert!(report.after.problems.is_empty(), "{place}");
            check(&ledger, &expected);
            mended += u32::from(damaged > 0);
        }
    }
    assert!(mended > 5, "{mended}");
}

#[test]
fn every_byte_of_an_index_is_checked_before_it_is_believed_and_what_is_damaged_is_mended() {
    walk(None, 12, 1);
}

#[test]
fn a_sealed_index_too() {
    walk(Some(Arc::new(KeyRing::generate(&SystemEntropy))), 12, 1);
}

#[test]
fn pages_of_an_index_too() {
    walk(None, 1500, 997);
}

#[test]
fn an_index_in_a_journal_too() {
    let mem = MemBlobs::new();
    let ledger = in_memory(&mem, quiet());
    (0..6).for_each(|n| put(&ledger, n));
    drop(ledger);
    let name = names(&mem, "journal").pop().unwrap();
    let size = mem.get(&name).unwrap().len();
    let mut damaged = 0;
    // Not the last record, which would be taken for a torn one.
    for at in 44..size / 2 {
        let disk = mem.after_crash(|_| 0);
        disk.flip_byte(&name, at);
        match try_in_memory(&disk, quiet()) {
            Ok(ledger) => {
                damaged += right_or_damaged(&ledger, &model(0..6), &format!("byte {at}"));
                assert!(!ledger.verify().unwrap().problems.is_empty());
            }
            Err(error) => assert!(error.is_corrupt(), "byte {at}: {error}"),
        }
    }
    assert!(damaged > 100, "{damaged}");
}

#[test]
fn the_index_of_a_query_is_built_anew() {
    let mem = MemBlobs::new();
    let ledger = in_memory(&mem, quiet());
    (0..300).for_each(|n| put(&ledger, n));
    let rows = |ledger: &Ledger| {
        let by_number = ledger.index_by_field("n").unwrap();
        by_number.query(&Query::default()).unwrap()
    };
    let expected = rows(&ledger);
    assert_eq!(expected.len(), 300);
    ledger.close().unwrap();
    let listed = mem.list(&format!("ledger/{NAME}/index/")).unwrap();
    assert!(!listed.is_empty());
    for blob in listed {
        for at in (0..blob.size as usize).rev().step_by(1009) {
            let disk = mem.after_crash(|_| 0);
            disk.flip_byte(&blob.name, at);
            assert_eq!(rows(&in_memory(&disk, quiet())), expected, "{at}");
        }
    }
}

#[test]
fn a_damaged_index_in_a_remote_is_not_believed_either() {
    let shared = MemBlobs::new();
    let remote = || Remote::new("shared", Arc::new(shared.clone())).background(false);
    let a = in_memory(&MemBlobs::new(), quiet());
    (0..200).for_each(|n| put(&a, n));
    let report = a.compact().unwrap();
    a.attach(remote()).unwrap().sync().unwrap();
    let car = shared.list("car/").unwrap().pop().unwrap();
    let sound = shared.get(&car.name).unwrap();
    let index = index_of(sound.clone(), report.blocks);
    for at in index.step_by(499) {
        let b = in_memory(&MemBlobs::new(), quiet());
        put(&b, 500);
        let mut bad = sound.to_vec();
        bad[at] ^= 1;
        shared.put(&car.name, &bad).unwrap();
        let report = b.attach(remote()).unwrap().sync().unwrap();
        assert!(matches!(&report.refused[..], [(_, error)] if error.is_corrupt()));
        check(&b, &model([500]));
        shared.put(&car.name, &sound).unwrap();
        for name in shared.list("meta/").unwrap() {
            if name.name.contains(&report.refused[0].0) {
                continue;
            }
            shared.delete(&name.name).unwrap();
        }
    }
}
