//! What must not have changed since a transaction began: single keys and ranges, by keyspace. Pure.

use crate::error::show_key;
use crate::key_range::KeyRange;
use crate::types::KeyspaceId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

/// Keys and ranges under guard.
#[derive(Debug, Default, Clone)]
pub(crate) struct Guard(BTreeMap<KeyspaceId, Guarded>);

#[derive(Debug, Default, Clone)]
pub(crate) struct Guarded {
    pub(crate) keys: BTreeSet<Vec<u8>>,
    pub(crate) ranges: Vec<KeyRange>,
}

/// What of a guard was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Touched {
    /// A key that was read or written.
    Key(Vec<u8>),
    /// A range that was read or deleted: its start, its end, and the key in it.
    Range {
        /// Start of the range; `None`: from the first key.
        start: Option<Vec<u8>>,
        /// End of the range, excluded; `None`: to the last key.
        end: Option<Vec<u8>>,
        /// The key in it that was written.
        key: Vec<u8>,
    },
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Touched::Key(key) => write!(f, "key {:?}", show_key(key)),
            Touched::Range { start, end, key } => {
                let shown =
                    |bound: &Option<Vec<u8>>| bound.as_deref().map(show_key).unwrap_or_default();
                let (start, end, key) = (shown(start), shown(end), show_key(key));
                write!(f, "key {key:?} in the range {start:?}..{end:?}")
            }
        }
    }
}

impl Guard {
    pub(crate) fn add_key(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        let keys = &mut self.0.entry(keyspace).or_default().keys;
        if !keys.contains(key) {
            keys.insert(key.to_vec());
        }
    }

    pub(crate) fn add_range(&mut self, keyspace: KeyspaceId, range: KeyRange) {
        if !range.is_empty() {
            self.0.entry(keyspace).or_default().ranges.push(range);
        }
    }

    pub(crate) fn merge(&mut self, other: &Guard) {
        for (keyspace, guarded) in &other.0 {
            let own = self.0.entry(*keyspace).or_default();
            own.keys.extend(guarded.keys.iter().cloned());
            own.ranges.extend(guarded.ranges.iter().cloned());
        }
    }

    /// When more than `most` keys are guarded one by one, guards everything between them instead.
    pub(crate) fn coarsen(&mut self, keyspace: KeyspaceId, most: usize) {
        let Some(guarded) = self.0.get_mut(&keyspace) else {
            return;
        };
        if guarded.keys.len() > most {
            let start = guarded.keys.pop_first();
            let mut end = guarded.keys.pop_last();
            if let Some(end) = &mut end {
                end.push(0);
            }
            guarded.keys.clear();
            guarded.ranges.push(KeyRange { start, end });
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyspaceId, &Guarded)> {
        self.0
            .iter()
            .map(|(keyspace, guarded)| (*keyspace, guarded))
    }

    /// What a write of `key` touches.
    pub(crate) fn touched_by(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Touched> {
        let guarded = self.0.get(&keyspace)?;
        if guarded.keys.contains(key) {
            return Some(Touched::Key(key.to_vec()));
        }
        guarded
            .ranges
            .iter()
            .find(|range| range.contains(key))
            .map(|range| range.touched(key))
    }

    /// What a deletion of all of `deleted` touches.
    pub(crate) fn touched_by_range(
        &self,
        keyspace: KeyspaceId,
        deleted: &KeyRange,
    ) -> Option<Touched> {
        let guarded = self.0.get(&keyspace)?;
        if let Some(key) = guarded.keys_in(deleted).next() {
            return Some(Touched::Key(key.clone()));
        }
        let range = guarded.ranges.iter().find(|range| range.meets(deleted))?;
        let first = range.start.clone().max(deleted.start.clone());
        Some(range.touched(&first.unwrap_or_default()))
    }
}

impl Guarded {
    /// The guarded keys that lie in `range`.
    pub(crate) fn keys_in(&self, range: &KeyRange) -> impl Iterator<Item = &Vec<u8>> {
        let start = range
            .start
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Included);
        let end = range
            .end
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        // An empty range may have its start after its end, which a set does not take.
        let bounds = (!range.is_empty()).then_some((start, end));
        bounds
            .into_iter()
            .flat_map(|bounds| self.keys.range::<[u8], _>(bounds))
    }
}

impl KeyRange {
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.start.as_deref().is_none_or(|start| start <= key)
            && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// True when some key may lie in both.
    pub(crate) fn meets(&self, other: &KeyRange) -> bool {
        let before = |end: &Option<Vec<u8>>, start: &Option<Vec<u8>>| match (end, start) {
            (Some(end), Some(start)) => end <= start,
            (Some(end), None) => end.is_empty(),
            (None, _) => false,
        };
        !self.is_empty()
            && !other.is_empty()
            && !before(&self.end, &other.start)
            && !before(&other.end, &self.start)
    }

    pub(crate) fn touched(&self, key: &[u8]) -> Touched {
        Touched::Range {
            start: self.start.clone(),
            end: self.end.clone(),
            key: key.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: KeyspaceId = KeyspaceId(1);
    const B: KeyspaceId = KeyspaceId(2);

    fn bound() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop::option::of(prop::collection::vec(0u8..3, 0..3))
    }

    proptest! {
        #[test]
        fn a_coarse_guard_covers_what_a_fine_one_does(
            keys in prop::collection::btree_set(prop::collection::vec(0u8..3, 1..3), 3..8),
        ) {
            let mut guard = Guard::default();
            for key in &keys {
                guard.add_key(A, key);
            }
            guard.coarsen(A, 2);
            prop_assert_eq!(guard.0[&A].keys.len(), 0);
            for key in &keys {
                prop_assert!(guard.touched_by(A, key).is_some());
            }
        }

        #[test]
        fn a_guard_is_touched_exactly_where_it_holds(
            keys in prop::collection::btree_set(prop::collection::vec(0u8..3, 1..3), 0..4),
            ranges in prop::collection::vec((bound(), bound()), 0..3),
            probe in prop::collection::vec(0u8..3, 1..3),
            deleted in (bound(), bound()),
        ) {
            let mut guard = Guard::default();
            let ranges: Vec<_> = ranges.into_iter().map(|(start, end)| KeyRange { start, end }).collect();
            for key in &keys {
                guard.add_key(A, key);
            }
            for range in &ranges {
                guard.add_range(A, range.clone());
            }
            let holds = |key: &Vec<u8>| keys.contains(key) || ranges.iter().any(|r| r.contains(key));
            prop_assert_eq!(guard.touched_by(A, &probe).is_some(), holds(&probe));
            prop_assert!(guard.touched_by(B, &probe).is_none());
            let deleted = KeyRange { start: deleted.0, end: deleted.1 };
            // Every key of up to three bytes stands for all keys.
            let all = (1..4usize).flat_map(|len| (0..3usize.pow(len as u32)).map(move |n| {
                (0..len).map(|i| (n / 3usize.pow(i as u32) % 3) as u8).collect::<Vec<u8>>()
            }));
            let meets = all.into_iter().any(|key| deleted.contains(&key) && holds(&key));
            let touched = guard.touched_by_range(A, &deleted).is_some();
            // A gap may hold no key of this alphabet, and yet some key.
            prop_assert!(touched || !meets);
            prop_assert!(!touched || !deleted.is_empty());
        }
    }
}
