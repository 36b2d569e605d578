//! The entries of a range of keys, in either direction, read as they are asked for.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{Blocks, Cid};
use crate::error::Result;

use super::cursor::child_node;
use super::{Node, root_node};

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it begins.
    pub start: Bound<Bytes>,
    /// Where it ends.
    pub end: Bound<Bytes>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> Self {
        Self {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
        }
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let end = prefix.iter().rposition(|byte| *byte < 0xff).map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        });
        Self {
            start: Bound::Included(Bytes::copy_from_slice(prefix)),
            end: end.map_or(Bound::Unbounded, Bound::Excluded),
        }
    }

    /// The part of this range that is in `other` too.
    pub fn intersect(self, other: Self) -> Self {
        use Bound::{Excluded, Included, Unbounded};
        let start = match (self.start, other.start) {
            (Unbounded, bound) | (bound, Unbounded) => bound,
            (Included(a), Included(b)) => Included(a.max(b)),
            (Excluded(a), Excluded(b)) => Excluded(a.max(b)),
            (Included(a), Excluded(b)) | (Excluded(b), Included(a)) => {
                if a > b {
                    Included(a)
                } else {
                    Excluded(b)
                }
            }
        };
        let end = match (self.end, other.end) {
            (Unbounded, bound) | (bound, Unbounded) => bound,
            (Included(a), Included(b)) => Included(a.min(b)),
            (Excluded(a), Excluded(b)) => Excluded(a.min(b)),
            (Included(a), Excluded(b)) | (Excluded(b), Included(a)) => {
                if a < b {
                    Included(a)
                } else {
                    Excluded(b)
                }
            }
        };
        Self { start, end }
    }

    /// The entries of `node` in the range: from, to.
    fn within(&self, node: &Node) -> (usize, usize) {
        let from = match &self.start {
            Bound::Unbounded => 0,
            Bound::Included(key) => node.search(key).0,
            Bound::Excluded(key) => {
                let (at, found) = node.search(key);
                at + usize::from(found)
            }
        };
        let to = match &self.end {
            Bound::Unbounded => node.len(),
            Bound::Excluded(key) => node.search(key).0,
            Bound::Included(key) => {
                let (at, found) = node.search(key);
                at + usize::from(found)
            }
        };
        (from, to.max(from))
    }

    /// The children of `branch` that may have entries in the range: first and last.
    fn children(&self, branch: &Node) -> Option<(usize, usize)> {
        // A child's key is its last one: the children before the first whose key is in reach of the
        // start are below it, and those behind the first whose key is at or above the end are above.
        let first = match &self.start {
            Bound::Unbounded => 0,
            Bound::Included(key) => branch.search(key).0,
            Bound::Excluded(key) => {
                let (at, found) = branch.search(key);
                at + usize::from(found)
            }
        };
        let last = match &self.end {
            Bound::Unbounded => branch.len() - 1,
            Bound::Included(key) | Bound::Excluded(key) => {
                branch.search(key).0.min(branch.len() - 1)
            }
        };
        (first <= last).then_some((first, last))
    }
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// One DAG-CBOR item.
    pub value: Bytes,
}

/// The entries of a range, in order. An iterator; [`Scan::advance`] is the way without an allocation an
/// entry. After an error it is over.
pub struct Scan<'b> {
    blocks: &'b dyn Blocks,
    range: KeyRange,
    direction: Direction,
    /// The root, until the first entry is asked for.
    root: Option<Cid>,
    /// Branches with the children left in each: from, to (to left out).
    above: Vec<(Arc<Node>, usize, usize)>,
    /// The leaf with the entries left in it.
    leaf: Option<(Arc<Node>, usize, usize)>,
    /// The leaf's prefix, and behind it the suffix of the entry last returned.
    key: Vec<u8>,
    prefix_len: usize,
}

impl<'b> Scan<'b> {
    /// Over the tree at `root` (None: empty). Nothing is read before the first entry is asked for.
    pub fn new(
        blocks: &'b dyn Blocks,
        root: Option<Cid>,
        range: KeyRange,
        direction: Direction,
    ) -> Self {
        Self {
            blocks,
            range,
            direction,
            root,
            above: Vec::new(),
            leaf: None,
            key: Vec::new(),
            prefix_len: 0,
        }
    }

    /// The next entry, lent: its key and its item.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub fn advance(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let Some((leaf, index)) = self.step()? else {
            return Ok(None);
        };
        Ok(Some((&self.key, self.leaf_node(leaf).value(index))))
    }

    fn leaf_node(&self, _moved: Moved) -> &Node {
        &self.leaf.as_ref().expect("a step ended in a leaf").0
    }

    /// Moves to the next entry: where it is in the leaf. The key is in its buffer.
    fn step(&mut self) -> Result<Option<(Moved, usize)>> {
        loop {
            if let Some((leaf, from, to)) = &mut self.leaf
                && from < to
            {
                let index = match self.direction {
                    Direction::Ascending => {
                        *from += 1;
                        *from - 1
                    }
                    Direction::Descending => {
                        *to -= 1;
                        *to
                    }
                };
                self.key.truncate(self.prefix_len);
                self.key.extend_from_slice(leaf.suffix(index));
                return Ok(Some((Moved, index)));
            }
            let next = self.next_node();
            match next {
                Ok(Some(node)) => self.enter(node),
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.above.clear();
                    self.leaf = None;
                    return Err(error);
                }
            }
        }
    }

    fn next_node(&mut self) -> Result<Option<Arc<Node>>> {
        if let Some(root) = self.root.take() {
            return root_node(self.blocks, &root).map(Some);
        }
        self.leaf = None;
        while let Some((branch, from, to)) = self.above.last_mut() {
            if *from == *to {
                self.above.pop();
                continue;
            }
            let index = match self.direction {
                Direction::Ascending => {
                    *from += 1;
                    *from - 1
                }
                Direction::Descending => {
                    *to -= 1;
                    *to
                }
            };
            return child_node(self.blocks, branch, index).map(Some);
        }
        Ok(None)
    }

    fn enter(&mut self, node: Arc<Node>) {
        if node.level() > 0 {
            if let Some((first, last)) = self.range.children(&node) {
                self.above.push((node, first, last + 1));
            }
            return;
        }
        let (from, to) = self.range.within(&node);
        self.key.clear();
        self.key.extend_from_slice(node.prefix());
        self.prefix_len = self.key.len();
        self.leaf = Some((node, from, to));
    }
}

/// Proof that a scan stands on an entry.
struct Moved;

impl Iterator for Scan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(Some((leaf, index))) => Some(Ok(Entry {
                key: Bytes::copy_from_slice(&self.key),
                value: self.leaf_node(leaf).value_bytes(index),
            })),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("range", &self.range)
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}
