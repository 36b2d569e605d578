//! Compares answers with the model.

use crate::commit::range_bytes;
use crate::model::Answer;
use crate::values::{Key, key_bytes};
use siltstone_kv::{Error, Order, Read, ScanOptions};
use siltstone_storage::Error as StorageError;
use std::ops::Bound;

pub(crate) type Checked = Result<(), String>;

/// What a read may answer with instead of the right answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Versions may have been thinned.
    pub(crate) truncated: bool,
    /// A planned fault is about.
    pub(crate) faults: bool,
}

impl Allowed {
    fn error(self, error: &Error) -> bool {
        match error {
            Error::Truncated { .. } => self.truncated,
            Error::Storage(StorageError::Io { .. } | StorageError::Crashed) => self.faults,
            _ => false,
        }
    }
}

fn shown(value: Option<&[u8]>) -> String {
    match value {
        None => "nothing".into(),
        Some(bytes) => format!("{} bytes {:?}", bytes.len(), &bytes[..bytes.len().min(24)]),
    }
}

/// Compares one key.
pub(crate) fn point(read: &impl Read, key: Key, expected: &Answer, allowed: Allowed) -> Checked {
    match read.get(&key_bytes(key)) {
        Ok(found) if expected.is(found.as_deref()) => Ok(()),
        Ok(found) => Err(format!(
            "get {key}: found {}, expected {}{}",
            shown(found.as_deref()),
            shown(expected.value.as_deref()),
            match expected.is_certain() {
                true => "",
                false => " or expired",
            },
        )),
        Err(error) if allowed.error(&error) => Ok(()),
        Err(error) => Err(format!("get {key}: {error}")),
    }
}

/// A scan from the first key to the one before the second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: Key,
    pub(crate) to: Key,
    pub(crate) order: Order,
    pub(crate) limit: usize,
}

/// Compares the rows of a range, or the first of them, with what `expected` says of each key.
pub(crate) fn range(
    read: &impl Read,
    range: Range,
    expected: impl Fn(Key) -> Answer,
    allowed: Allowed,
) -> Checked {
    let Range {
        from,
        to,
        order,
        limit,
    } = range;
    let (start, end) = range_bytes(from, to);
    let bounds = (
        Bound::Included(start.as_slice()),
        Bound::Excluded(end.as_slice()),
    );
    let options = ScanOptions {
        order,
        ..ScanOptions::default()
    };
    let mut scan = match read.scan_with::<&[u8]>(bounds, options) {
        Ok(scan) => scan,
        Err(error) if allowed.error(&error) => return Ok(()),
        Err(error) => return Err(format!("scan: {error}")),
    };
    let place = |key: usize| match order {
        Order::Forward => from + key as Key,
        Order::Reverse => to - 1 - key as Key,
    };
    let mut rows = 0;
    // The row that the scan stands on has not been compared yet.
    let mut waiting = false;
    let mut more = true;
    for key in (0..usize::from(to - from)).map(place) {
        if rows == limit {
            return Ok(());
        }
        let answer = expected(key);
        if answer.is_nothing() {
            continue;
        }
        if more && !waiting {
            more = scan.next();
            waiting = more;
            if !more && let Some(error) = scan.error() {
                return match allowed.error(error) {
                    true => Ok(()),
                    false => Err(format!("scan {range:?}, row {rows}: {error}")),
                };
            }
        }
        let met = waiting && scan.key() == key_bytes(key);
        let found = met.then(|| scan.value());
        if !answer.is(found) {
            let at = waiting.then(|| scan.key().to_vec());
            return Err(format!(
                "scan {range:?}, row {rows} at {at:?}: key {key} is {}, expected {}",
                shown(found),
                shown(answer.value.as_deref()),
            ));
        }
        if met {
            waiting = false;
            rows += 1;
            if scan.stats().rows != rows as u64 {
                return Err(format!(
                    "scan: {} rows counted after {rows}",
                    scan.stats().rows
                ));
            }
        }
    }
    if rows < limit && (waiting || more && scan.next()) {
        return Err(format!(
            "scan {range:?}: one row too many, {:?}",
            scan.key()
        ));
    }
    match scan.error() {
        Some(error) if !allowed.error(error) => Err(format!("scan {range:?}, end: {error}")),
        _ => Ok(()),
    }
}
