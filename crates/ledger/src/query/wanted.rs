//! What a query asks for, and the ranges of the tree that may hold it.

use super::key::{WHOLE_KEY_BYTES, encode, encode_prefix, stored};
use crate::prolly::KeyRange;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::Bound;

/// What [`Index::query`](crate::Index::query) shall list: what fits every condition that is set. All rows,
/// ascending, with their documents, by default.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Rows with exactly this key. `null`, `false`, `0` and `""` are keys as any other.
    pub key: Option<Value>,
    /// Rows with one of these keys, in the order of the index; none for an empty list.
    pub keys: Option<Vec<Value>>,
    /// Rows with keys from and to here.
    pub range: (Bound<Value>, Bound<Value>),
    /// Rows whose keys are arrays that begin with these items.
    pub prefix: Option<Vec<Value>>,
    /// Largest key first.
    pub descending: bool,
    /// At most this many rows; `None`: all.
    pub limit: Option<usize>,
    /// The documents with the rows.
    pub include_docs: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            key: None,
            keys: None,
            range: (Bound::Unbounded, Bound::Unbounded),
            prefix: None,
            descending: false,
            limit: None,
            include_docs: true,
        }
    }
}

impl Query {
    /// The rows with one key.
    pub fn key(key: impl Into<Value>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::default()
        }
    }

    /// The rows with one of these keys.
    pub fn keys(keys: impl IntoIterator<Item = Value>) -> Self {
        Self {
            keys: Some(keys.into_iter().collect()),
            ..Self::default()
        }
    }

    /// The rows from one bound to the other.
    pub fn range(from: Bound<Value>, to: Bound<Value>) -> Self {
        Self {
            range: (from, to),
            ..Self::default()
        }
    }

    /// The rows whose keys are arrays that begin with these items.
    pub fn prefix(items: impl IntoIterator<Item = Value>) -> Self {
        Self {
            prefix: Some(items.into_iter().collect()),
            ..Self::default()
        }
    }
}

/// The conditions in encoded form.
pub(super) struct Conditions {
    exact: Option<BTreeSet<Vec<u8>>>,
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
    prefix: Option<Vec<u8>>,
}

impl Conditions {
    pub(super) fn of(query: &Query) -> Self {
        let key = query.key.as_ref().map(encode);
        let keys = query.keys.as_ref();
        let keys: Option<BTreeSet<_>> = keys.map(|keys| keys.iter().map(encode).collect());
        let exact = match (key, keys) {
            (Some(key), Some(keys)) => Some(keys.into_iter().filter(|k| *k == key).collect()),
            (Some(key), None) => Some([key].into()),
            (None, keys) => keys,
        };
        Self {
            exact,
            start: query.range.0.as_ref().map(encode),
            end: query.range.1.as_ref().map(encode),
            prefix: query.prefix.as_deref().map(encode_prefix),
        }
    }

    /// The ranges of the tree by key that hold what fits, ascending and apart.
    pub(super) fn ranges(&self) -> Vec<KeyRange> {
        let mut all = KeyRange {
            start: match &self.start {
                Bound::Unbounded => Bound::Unbounded,
                Bound::Included(key) => begin(key).start,
                Bound::Excluded(key) if is_long(key) => begin(key).start,
                Bound::Excluded(key) => after(begin(key)),
            },
            end: match &self.end {
                Bound::Unbounded => Bound::Unbounded,
                Bound::Included(key) => begin(key).end,
                Bound::Excluded(key) if is_long(key) => begin(key).end,
                Bound::Excluded(key) => Bound::Excluded(Bytes::copy_from_slice(key)),
            },
        };
        if let Some(prefix) = &self.prefix {
            all = all.intersect(begin(prefix));
        }
        let some = match &self.exact {
            None => return Vec::from_iter(is_not_empty(&all).then_some(all)),
            Some(exact) => exact,
        };
        // In the order in which they are stored.
        let keys: BTreeSet<Bytes> = some.iter().map(|key| stored(key.clone())).collect();
        let ranges = keys
            .iter()
            .map(|key| KeyRange::prefix(key).intersect(all.clone()));
        ranges.filter(is_not_empty).collect()
    }

    /// Whether rows of the ranges are to be looked at one by one: a key of which only the beginning is
    /// stored is among the conditions.
    pub(super) fn is_rough(&self) -> bool {
        let bounds = [&self.start, &self.end].into_iter();
        let bounds = bounds.filter_map(|bound| match bound {
            Bound::Included(key) | Bound::Excluded(key) => Some(key),
            Bound::Unbounded => None,
        });
        let mut all = bounds
            .chain(&self.prefix)
            .chain(self.exact.iter().flatten());
        all.any(|key| is_long(key))
    }

    /// Whether a key fits.
    pub(super) fn fits(&self, key: &[u8]) -> bool {
        let above = match &self.start {
            Bound::Unbounded => true,
            Bound::Included(start) => key >= &start[..],
            Bound::Excluded(start) => key > &start[..],
        };
        let below = match &self.end {
            Bound::Unbounded => true,
            Bound::Included(end) => key <= &end[..],
            Bound::Excluded(end) => key < &end[..],
        };
        let within = self.prefix.as_ref().is_none_or(|p| key.starts_with(p));
        above && below && within && self.exact.as_ref().is_none_or(|all| all.contains(key))
    }
}

fn is_long(key: &[u8]) -> bool {
    key.len() > WHOLE_KEY_BYTES
}

/// What begins as a key does, as far as keys are stored.
fn begin(key: &[u8]) -> KeyRange {
    KeyRange::prefix(&key[..key.len().min(WHOLE_KEY_BYTES)])
}

/// Behind a range.
fn after(range: KeyRange) -> Bound<Bytes> {
    match range.end {
        Bound::Excluded(end) => Bound::Included(end),
        // The first byte of a key is a tag, far below 255.
        other => other,
    }
}

fn is_not_empty(range: &KeyRange) -> bool {
    match (&range.start, &range.end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(start), Bound::Included(end)) => start <= end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start < end,
    }
}
