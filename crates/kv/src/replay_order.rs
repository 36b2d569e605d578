//! The order in which a replay fills memtables: that of keys, in which it is quickest.
//!
//! Keys lie all over the log, so they are compared by numbers beside each other, eight bytes at a
//! time. Keys that begin alike, as those of one user or document do, are told apart by the next eight.

use crate::sst::block::head_of;
use crate::types::{Commit, KeyspaceId};
use crate::wal::frame::Op;
use std::cmp::Reverse;

/// Bytes that are compared at once.
const STEP: usize = 8;
/// So few that begin alike are compared in full.
const FEW: usize = 8;
/// Keys that are alike for so many bytes are compared in full.
const DEEPEST: usize = 64;

/// An operation's place in the order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    keyspace: KeyspaceId,
    /// A piece of its key, zeros behind the end: where all before it is alike, it orders as the key
    /// does, or is alike too.
    piece: u64,
    at: u32,
}

impl Place {
    /// The operation's number.
    pub(crate) fn at(&self) -> usize {
        self.at as usize
    }
}

type Logged<'l> = (Commit, Op<'l>);

/// The operations with the numbers `wanted`, by keyspace and key, newest first, and those of one
/// commit as they stand in the log.
pub(crate) fn sorted(wanted: impl Iterator<Item = u32>, ops: &[Logged<'_>]) -> Vec<Place> {
    let place = |at: u32| {
        let op = &ops[at as usize].1;
        Place {
            keyspace: op.keyspace,
            piece: head_of(op.key),
            at,
        }
    };
    let mut order: Vec<Place> = wanted.map(place).collect();
    order.sort_unstable_by_key(|place| (place.keyspace, place.piece));
    tell_apart(&mut order, ops, STEP);
    order
}

/// Sorts those whose keys are alike for `depth` bytes.
fn tell_apart(order: &mut [Place], ops: &[Logged<'_>], depth: usize) {
    let key = |place: &Place| ops[place.at()].1.key;
    for alike in order.chunk_by_mut(|a, b| (a.keyspace, a.piece) == (b.keyspace, b.piece)) {
        let go_on = alike.iter().any(|place| key(place).len() > depth);
        if alike.len() < FEW || depth >= DEEPEST || !go_on {
            alike.sort_unstable_by_key(|place| {
                let (commit, op) = &ops[place.at()];
                (op.key, Reverse(*commit), place.at)
            });
            continue;
        }
        for place in alike.iter_mut() {
            place.piece = head_of(key(place).get(depth..).unwrap_or_default());
        }
        alike.sort_unstable_by_key(|place| place.piece);
        tell_apart(alike, ops, depth + STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Tag;
    use proptest::prelude::*;

    /// Many of one beginning, many the same, some that only zeros tell apart.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let start = prop::sample::select(vec![
            b"".to_vec(),
            b"user/07/".to_vec(),
            vec![0; 9],
            b"a long name that all of them have in common, longer than is looked at by pieces/"
                .to_vec(),
        ]);
        let end = prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..20);
        (start, end).prop_map(|(start, end)| [start, end].concat())
    }

    proptest! {
        #[test]
        fn it_is_that_of_the_whole_keys(
            entries in prop::collection::vec((any_key(), 1..5u64, 0..3u32), 0..300),
            skipped in 1..5u32,
        ) {
            let op = |(key, commit, keyspace): &(Vec<u8>, u64, u32)| {
                (Commit(*commit), (key.clone(), KeyspaceId(*keyspace)))
            };
            let owned: Vec<_> = entries.iter().map(op).collect();
            let ops: Vec<Logged<'_>> = owned.iter().map(|(commit, (key, keyspace))| {
                (*commit, Op { keyspace: *keyspace, tag: Tag::PUT, key, value: b"" })
            }).collect();
            let wanted = || (0..ops.len() as u32).filter(|at| at % skipped == 0);
            let mut whole: Vec<u32> = wanted().collect();
            whole.sort_by_key(|at| {
                let (commit, op) = &ops[*at as usize];
                (op.keyspace, op.key, Reverse(*commit), *at)
            });
            let order: Vec<u32> = sorted(wanted(), &ops).iter().map(|place| place.at).collect();
            prop_assert_eq!(order, whole);
        }
    }
}
