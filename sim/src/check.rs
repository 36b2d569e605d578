//! Compares answers with the model.

use crate::model::{Key, Map, key_bytes, value_bytes};
use siltstone_kv::{Error, KeyRange, Order, Read, ScanOptions};
use std::ops::Bound;

pub(crate) type Checked = Result<(), String>;

/// An error that a read may answer with instead of the right answer.
pub(crate) fn may_be(error: &Error, map: &Map, faulty: bool) -> bool {
    match error {
        Error::Truncated { .. } => map.limited,
        Error::Storage(siltstone_storage::Error::Io { .. } | siltstone_storage::Error::Crashed) => {
            faulty
        }
        _ => false,
    }
}

/// Compares one key at `commit`.
pub(crate) fn point(read: &impl Read, map: &Map, key: Key, commit: u64, faulty: bool) -> Checked {
    let expected = map
        .get(key, commit)
        .map(|written| value_bytes(key, written));
    match read.get(&key_bytes(key)) {
        Ok(found) if found.as_deref() == expected.as_deref() => Ok(()),
        Ok(found) => Err(format!(
            "get {key} at {commit}: found {:?}, expected commit {:?}",
            found.map(|bytes| bytes.iter().take(8).copied().collect::<Vec<_>>()),
            map.get(key, commit),
        )),
        Err(error) if may_be(&error, map, faulty) => Ok(()),
        Err(error) => Err(format!("get {key} at {commit}: {error}")),
    }
}

/// Compares the rows between two keys at `commit`, or the first `limit` of them.
pub(crate) fn range(
    read: &impl Read,
    map: &Map,
    (from, to): (Key, Key),
    order: Order,
    limit: usize,
    commit: u64,
    faulty: bool,
) -> Checked {
    let expected = map.rows(commit).filter(|(key, _)| (from..to).contains(key));
    let expected: Vec<_> = match order {
        Order::Forward => expected.take(limit).collect(),
        Order::Reverse => expected.rev().take(limit).collect(),
    };
    let (start, end) = (key_bytes(from), key_bytes(to));
    let bounds = (
        Bound::Included(start.as_slice()),
        Bound::Excluded(end.as_slice()),
    );
    debug_assert!(KeyRange::new(bounds.0, bounds.1).is_ok());
    let options = ScanOptions {
        order,
        ..ScanOptions::default()
    };
    let mut scan = match read.scan_with::<&[u8]>(bounds, options) {
        Ok(scan) => scan,
        Err(error) if may_be(&error, map, faulty) => return Ok(()),
        Err(error) => return Err(format!("scan at {commit}: {error}")),
    };
    for (at, (key, written)) in expected.iter().enumerate() {
        if !scan.next() {
            return match scan.error() {
                Some(error) if may_be(error, map, faulty) => Ok(()),
                error => Err(format!(
                    "scan {from}..{to} {order:?} at {commit}: ended after {at} of {} rows: {error:?}",
                    expected.len()
                )),
            };
        }
        if scan.key() != key_bytes(*key) || scan.value() != value_bytes(*key, *written) {
            return Err(format!(
                "scan {from}..{to} {order:?} at {commit}, row {at}: found {:?} written by {:?}, expected {key} written by {written}",
                scan.key(),
                scan.value().get(..8),
            ));
        }
        if scan.stats().rows != at as u64 + 1 {
            return Err(format!(
                "scan: {} rows counted after {}",
                scan.stats().rows,
                at + 1
            ));
        }
    }
    if expected.len() < limit && scan.next() {
        return Err(format!(
            "scan {from}..{to} {order:?} at {commit}: one row too many, {:?}",
            scan.key()
        ));
    }
    Ok(())
}
