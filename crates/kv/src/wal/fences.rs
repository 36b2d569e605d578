//! Which log objects of a bucket may be deleted.
//!
//! A writer of a bucket is kept out by the object that stands where its next record would go: its
//! successor's *fence*, a header alone, claimed put-if-absent when the successor opened. A writer may
//! sleep through anything and wake to write that record, and no clock says that it is dead, so a
//! fence must stay for as long as there may be a writer whose next record has its number.
//!
//! There is none when that writer has closed. Closing, it claims its next number itself, with an
//! *end mark*: a header and one zero byte, which every reader passes over. Its successor's fence then
//! stands right behind the mark. Behind a mark nobody's next record has the fence's number:
//! - the writer of the mark refused writes before it put it;
//! - writers before it have other numbers next, with fences or marks of their own there;
//! - one that slept while it *opened* may claim the number once more when the fence is gone, but after
//!   its claim it looks whether it is still in charge, and writes nothing before it knows
//!   (`Core::prove_charge`). When it is, whoever takes charge later sees its claim and stands behind it.
//!
//! So a fence behind a mark goes once the log starts after it, and then its mark. A crash between the
//! two leaves a mark without a fence; it goes when the log starts more than one file after it, for
//! until then its fence may be still to come. Only a writer that never closed leaves its successor's
//! fence for good: about 40 bytes for each crash.

use crate::error::Result;
use crate::wal::{FILE_HEADER, FileHeader, blob_name};
use siltstone_storage::Env;
use std::collections::BTreeMap;

const FENCE: u64 = FILE_HEADER as u64;
const END_MARK: u64 = FENCE + 1;

/// Claims log object `number`, the next one of the writer with `epoch`, which has refused writes.
/// When a successor stands there already, nothing is to be marked.
pub(crate) fn mark_end(env: &Env, number: u64, epoch: u64) -> Result<()> {
    let mut mark = Vec::with_capacity(END_MARK as usize);
    FileHeader {
        number,
        epoch,
        nonce: env.rng.next(),
    }
    .encode(&mut mark);
    mark.push(0);
    env.blobs.put_if_absent(&blob_name(number), &mark)?;
    Ok(())
}

/// The log objects that may go when the log starts at `floor`, in the order in which they may: a
/// fence before the mark that proves that it may.
pub(crate) fn deletable(sizes: &BTreeMap<u64, u64>, floor: u64) -> Vec<u64> {
    let mut gone = Vec::new();
    for (number, size) in sizes.range(..floor) {
        match *size {
            // It goes with its mark, or never.
            FENCE => {}
            END_MARK => {
                let behind = number + 1;
                if sizes.get(&behind) == Some(&FENCE) && behind < floor {
                    gone.extend([behind, *number]);
                } else if behind < floor {
                    gone.push(*number);
                }
            }
            _ => gone.push(*number),
        }
    }
    gone
}

/// True when an object of this size holds a record: those may go in any order.
pub(crate) fn is_record(size: u64) -> bool {
    size != FENCE && size != END_MARK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_goes_before_its_mark_and_never_without_one() {
        let record = 200;
        let log = BTreeMap::from([
            (1, FENCE),
            (2, record),
            (3, FENCE),
            (4, record),
            (5, END_MARK),
            (6, FENCE),
            (7, record),
            (8, END_MARK),
        ]);
        assert_eq!(deletable(&log, 9), [2, 4, 6, 5, 7]);
        assert_eq!(deletable(&log, 6), [2, 4], "the fence may be needed yet");
        let crashed_between = BTreeMap::from([(5, END_MARK), (7, record)]);
        assert!(deletable(&crashed_between, 6).is_empty());
        assert_eq!(deletable(&crashed_between, 8), [5, 7]);
    }
}
