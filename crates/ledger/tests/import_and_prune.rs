//! Imports and prunes in any order, with snapshots held and reopenings between: what the ledger lists
//! is whole, and an import is taken in, or refused and nothing is changed.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::json;
use siltstone_ledger::{AllDocs, Error, Keep, Ledger, Options};
use siltstone_storage::MemBlobs;
use std::sync::Arc;

fn options(author: &str) -> Options {
    Options {
        author: Some(author.as_bytes().to_vec()),
        ..quiet()
    }
}

/// Every document can be read, and every block that is named is there.
fn check(ledger: &Ledger, seed: u64) -> usize {
    let report = ledger.verify().unwrap();
    assert!(report.problems.is_empty(), "seed {seed}: {report:?}");
    ledger.all_docs(&AllDocs::default()).unwrap().rows.len()
}

#[test]
fn imports_and_prunes_in_any_order_leave_no_block_behind() {
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let blobs = [0, 1].map(|_| Arc::new(MemBlobs::new()));
        let open = |at: usize| in_memory(&blobs[at], options(["a", "b"][at]));
        let mut ledgers = [open(0), open(1)];
        let mut archives: Vec<Vec<u8>> = Vec::new();
        let mut held = Vec::new();
        for step in 0..60 {
            let at = random.usize(..2);
            match random.u8(..12) {
                0..4 => {
                    let id = format!("d{}", random.u8(..12));
                    let document = doc(json!({"step": step, "by": at}));
                    ledgers[at].put(&id, &document).unwrap();
                }
                4..6 => {
                    let mut archive = Vec::new();
                    ledgers[at].export(&mut archive).unwrap();
                    archives.push(archive);
                }
                6..9 if !archives.is_empty() => {
                    let archive = &archives[random.usize(..archives.len())];
                    let before = ledgers[at].clock();
                    match ledgers[at].import(&mut archive.as_slice()) {
                        Ok(_) => taken += 1,
                        Err(Error::BehindPrune { .. } | Error::Stale { .. }) => {
                            refused += 1;
                            assert_eq!(ledgers[at].clock(), before);
                        }
                        Err(error) => panic!("seed {seed}, step {step}: {error}"),
                    }
                }
                9 => match ledgers[at].prune(&Keep::Versions(random.u64(1..4))) {
                    Ok(_) | Err(Error::CompactionLost) => {}
                    Err(error) => panic!("seed {seed}, step {step}: {error}"),
                },
                10 => {
                    held.push(ledgers[at].snapshot());
                    held.truncate(2);
                    match ledgers[at].compact() {
                        Ok(_) | Err(Error::CompactionLost) => {}
                        Err(error) => panic!("seed {seed}, step {step}: {error}"),
                    }
                }
                _ => {
                    held.clear();
                    let before = check(&ledgers[at], seed);
                    let placeholder = in_memory(&Arc::new(MemBlobs::new()), options("none"));
                    let old = std::mem::replace(&mut ledgers[at], placeholder);
                    old.close().unwrap();
                    ledgers[at] = open(at);
                    assert_eq!(check(&ledgers[at], seed), before);
                }
            }
        }
        held.clear();
        ledgers.iter().for_each(|ledger| {
            check(ledger, seed);
        });
    }
    assert!(
        taken > 100 && refused > 10,
        "{taken} taken, {refused} refused"
    );
}
