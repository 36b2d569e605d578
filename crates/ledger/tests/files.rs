//! Scenario 24, the part of one ledger: files of documents are stored once, kept by compactions, read
//! back after reopening, and go with the versions that named them.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::json;
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{Error, FILE_BLOCK_BYTES, FileRef, Keep, Ledger, Options};
use siltstone_storage::MemBlobs;
use std::io::Read;
use std::sync::Arc;

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(..)).collect()
}

fn read(ledger: &Ledger, file: &FileRef) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = ledger.open_file(file).unwrap();
    reader.read_to_end(&mut out).unwrap();
    assert_eq!(reader.size(), out.len() as u64);
    out
}

fn stored(ledger: &Ledger) -> u64 {
    ledger.verify().unwrap().car_bytes
}

#[test]
fn s24_a_file_is_stored_once_and_read_back_after_compaction_and_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    let large = bytes(1, 6_000_001);
    let file = ledger.put_file(&mut &large[..]).unwrap();
    let image = json!({"image": file.link(), "also": [{"deep": file.link()}]});
    ledger.put("a", &doc(image)).unwrap();
    assert_eq!(read(&ledger, &file), large);
    // Again, and with another end: what is there is not stored again.
    let cars = ledger.meta().cars;
    assert_eq!(ledger.put_file(&mut &large[..]).unwrap(), file);
    assert_eq!(ledger.meta().cars, cars);
    let before = stored(&ledger);
    let longer = [&large[..], b"more"].concat();
    let other = ledger.put_file(&mut &longer[..]).unwrap();
    assert!(stored(&ledger) - before < 2 * FILE_BLOCK_BYTES as u64);
    for len in [0, 1, FILE_BLOCK_BYTES, FILE_BLOCK_BYTES + 1] {
        let file = ledger.put_file(&mut &large[..len]).unwrap();
        assert_eq!(read(&ledger, &file), &large[..len]);
    }
    ledger.compact().unwrap();
    ledger.checkpoint().unwrap();
    assert_eq!(read(&ledger, &other), longer);
    drop_and_compare(ledger, folder.path());
    let ledger = in_folder(folder.path(), quiet());
    let link = ledger.get("a").unwrap().field(&["image"]).unwrap();
    assert_eq!(read(&ledger, &FileRef::from_link(&link).unwrap()), large);
    let nothing = FileRef {
        cid: doc(json!({"n": 1})).block().cid,
    };
    assert!(ledger.open_file(&nothing).unwrap_err().is_missing_block());
}

#[test]
fn s24_a_replaced_file_goes_with_a_prune_and_one_that_is_named_stays() {
    for keys in [None, Some(Arc::new(KeyRing::generate(&SystemEntropy)))] {
        let blobs = MemBlobs::new();
        let options = || Options {
            keys: keys.clone(),
            ..quiet()
        };
        let ledger = in_memory(&blobs, options());
        let (old, new) = (bytes(1, 3_000_000), bytes(2, 1_000_000));
        let first = ledger.put_file(&mut &old[..]).unwrap();
        ledger
            .put("a", &doc(json!({"file": first.link()})))
            .unwrap();
        let second = ledger.put_file(&mut &new[..]).unwrap();
        ledger
            .put("a", &doc(json!({"file": second.link()})))
            .unwrap();
        ledger.put("b", &doc(json!({"n": 1}))).unwrap();
        ledger.compact().unwrap();
        assert_eq!(read(&ledger, &first), old);
        ledger.prune(&Keep::Versions(1)).unwrap();
        ledger.checkpoint().unwrap();
        assert_eq!(read(&ledger, &second), new);
        assert!(stored(&ledger) < 1_100_000);
        assert!(matches!(
            ledger.open_file(&first),
            Err(Error::MissingBlock { .. })
        ));
        // The same bytes again, while the CAR that held them may still wait to be deleted.
        assert_eq!(ledger.put_file(&mut &old[..]).unwrap(), first);
        ledger
            .put("c", &doc(json!({"file": first.link()})))
            .unwrap();
        drop(ledger);
        let ledger = in_memory(&blobs, options());
        assert_eq!(read(&ledger, &first), old);
        assert_eq!(read(&ledger, &second), new);
        assert!(ledger.verify().unwrap().problems.is_empty());
    }
}
