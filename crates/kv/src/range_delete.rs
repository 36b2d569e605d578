//! Deletions of whole ranges: one small record each, whatever they hide. Pure.
//!
//! A range deletion at commit C hides every version of the range's keys written before C. It stays
//! until no table holds such a version; it belongs to the keyspace, not to a table, so tables keep
//! their key ranges and nothing is cut at their borders.

use crate::key_range::KeyRange;
use crate::types::Commit;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;

/// One deletion of a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeDelete {
    /// First key of the range; empty: the first key there is.
    pub start: Vec<u8>,
    /// The key after the range; `None`: to the last key there is.
    pub end: Option<Vec<u8>>,
    /// The commit that deleted.
    pub commit: Commit,
}

impl RangeDelete {
    /// As log and memtable carry it: the start as key, the end as value, empty for none.
    pub(crate) fn of_op(start: &[u8], end: &[u8], commit: Commit) -> Self {
        Self {
            start: start.to_vec(),
            end: (!end.is_empty()).then(|| end.to_vec()),
            commit,
        }
    }

    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_deref().is_none_or(|end| key < end)
    }

    pub(crate) fn range(&self) -> KeyRange {
        KeyRange {
            start: (!self.start.is_empty()).then(|| self.start.clone()),
            end: self.end.clone(),
        }
    }

    /// True when the range holds every key from `min` to `max`.
    pub(crate) fn covers_all(&self, min: &[u8], max: &[u8]) -> bool {
        self.covers(min) && self.covers(max)
    }

    /// True when the range holds a key from `min` to `max`.
    pub(crate) fn meets(&self, min: &[u8], max: &[u8]) -> bool {
        self.start.as_slice() <= max && self.end.as_deref().is_none_or(|end| min < end)
    }
}

/// Range deletions, sorted by start, with the furthest end of every subtree: an interval tree in an
/// array. The middle of a part is its root.
#[derive(Debug, Default)]
pub(crate) struct RangeTree {
    ranges: Vec<RangeDelete>,
    /// For the subtree rooted at the same place: the index of the range that ends last in it.
    furthest: Vec<u32>,
}

impl RangeTree {
    pub(crate) fn new(mut ranges: Vec<RangeDelete>) -> Self {
        ranges.sort_by(|a, b| a.start.cmp(&b.start).then(b.commit.cmp(&a.commit)));
        let mut tree = Self {
            furthest: vec![0; ranges.len()],
            ranges,
        };
        tree.build(0, tree.ranges.len());
        tree
    }

    /// Fills in the part `from..to`; answers the range that ends last in it.
    fn build(&mut self, from: usize, to: usize) -> Option<u32> {
        if from >= to {
            return None;
        }
        let root = from + (to - from) / 2;
        let below = [self.build(from, root), self.build(root + 1, to)];
        let mut last = root as u32;
        for other in below.into_iter().flatten() {
            let (a, b) = (&self.ranges[other as usize], &self.ranges[last as usize]);
            if ends(a, b) == Ordering::Greater {
                last = other;
            }
        }
        self.furthest[root] = last;
        Some(last)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RangeDelete> {
        self.ranges.iter()
    }

    /// The newest deletion of all; 0 when there is none.
    pub(crate) fn newest_of_all(&self) -> Commit {
        let commits = self.ranges.iter().map(|range| range.commit);
        commits.max().unwrap_or_default()
    }

    /// Visits the deletions whose range holds `key`.
    pub(crate) fn for_each_covering(&self, key: &[u8], visit: &mut impl FnMut(&RangeDelete)) {
        self.visit(0, self.ranges.len(), key, visit);
    }

    fn visit(&self, from: usize, to: usize, key: &[u8], visit: &mut impl FnMut(&RangeDelete)) {
        if from >= to {
            return;
        }
        let root = from + (to - from) / 2;
        let furthest = &self.ranges[self.furthest[root] as usize];
        if furthest.end.as_deref().is_some_and(|end| end <= key) {
            return;
        }
        self.visit(from, root, key, visit);
        let range = &self.ranges[root];
        if range.start.as_slice() > key {
            return;
        }
        if range.covers(key) {
            visit(range);
        }
        self.visit(root + 1, to, key, visit);
    }

    /// The newest deletion of `key` up to `upto`.
    pub(crate) fn newest(&self, key: &[u8], upto: Commit) -> Option<Commit> {
        let mut newest = None;
        if !self.is_empty() {
            self.for_each_covering(key, &mut |range| {
                if range.commit <= upto {
                    newest = newest.max(Some(range.commit));
                }
            });
        }
        newest
    }
}

fn ends(a: &RangeDelete, b: &RangeDelete) -> Ordering {
    match (&a.end, &b.end) {
        (None, None) => Ordering::Equal,
        (None, _) => Ordering::Greater,
        (_, None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

/// The range deletions of a memtable: added one by one, read meanwhile. Trees of doubling size, so
/// that adding costs a logarithm and reading no more.
#[derive(Debug, Default)]
pub(crate) struct Ranges(ArcSwap<Vec<Arc<RangeTree>>>);

impl Ranges {
    /// One thread at a time.
    pub(crate) fn add(&self, range: RangeDelete) {
        let mut trees: Vec<_> = self.0.load().iter().cloned().collect();
        let mut merged = vec![range];
        while let Some(last) = trees.pop_if(|last| last.ranges.len() <= merged.len()) {
            merged.extend(last.ranges.iter().cloned());
        }
        trees.push(Arc::new(RangeTree::new(merged)));
        self.0.store(Arc::new(trees));
    }

    pub(crate) fn newest(&self, key: &[u8], upto: Commit) -> Option<Commit> {
        let trees = self.0.load();
        trees.iter().filter_map(|tree| tree.newest(key, upto)).max()
    }

    pub(crate) fn all(&self) -> Vec<RangeDelete> {
        let trees = self.0.load();
        trees.iter().flat_map(|tree| tree.iter()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = Vec<RangeDelete>> {
        let key = || prop::collection::vec(0u8..4, 0..3);
        prop::collection::vec((key(), prop::option::of(key()), 1u64..20), 0..20).prop_map(|all| {
            all.into_iter()
                .map(|(start, end, commit)| RangeDelete {
                    start,
                    end,
                    commit: Commit(commit),
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn a_tree_and_a_growing_set_find_what_a_list_finds(
            all in ranges(), key in prop::collection::vec(0u8..4, 1..3), upto in 0u64..22,
        ) {
            let upto = Commit(upto);
            let expected = all.iter().filter(|r| r.covers(&key) && r.commit <= upto).map(|r| r.commit).max();
            let growing = Ranges::default();
            for range in &all {
                growing.add(range.clone());
            }
            prop_assert_eq!(growing.newest(&key, upto), expected);
            prop_assert_eq!(growing.all().len(), all.len());
            prop_assert!(growing.0.load().len() <= 6);
            let tree = RangeTree::new(all.clone());
            prop_assert_eq!(tree.newest(&key, upto), expected);
            let mut covering = 0;
            tree.for_each_covering(&key, &mut |_| covering += 1);
            prop_assert_eq!(covering, all.iter().filter(|r| r.covers(&key)).count());
        }
    }
}
