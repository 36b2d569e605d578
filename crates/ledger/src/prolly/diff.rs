//! What differs between two trees: subtrees with one address are equal and are passed over unread.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{Blocks, Cid};
use crate::error::Result;

use super::cursor::child_node;
use super::{Node, root_node};

/// A key whose value differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: Bytes,
    /// Its value in the left tree; None: it is not there.
    pub left: Option<Bytes>,
    /// Its value in the right tree; None: it is not there.
    pub right: Option<Bytes>,
}

/// The keys whose values differ, in order. Reads the nodes that differ, and a few at their edges. After
/// an error it is over.
pub struct Diff<'b> {
    blocks: &'b dyn Blocks,
    left: Side,
    right: Side,
    failed: bool,
}

impl<'b> Diff<'b> {
    /// Between the trees at `left` and `right` (None: empty).
    pub fn new(blocks: &'b dyn Blocks, left: Option<Cid>, right: Option<Cid>) -> Self {
        Self {
            blocks,
            left: Side::new(left),
            right: Side::new(right),
            failed: false,
        }
    }

    fn step(&mut self) -> Result<Option<Difference>> {
        loop {
            let (left, right) = (self.left.next_item(), self.right.next_item());
            match (left, right) {
                (None, None) => return Ok(None),
                (Some(Item::Tree(a)), Some(Item::Tree(b))) if a == b => {
                    self.left.pass();
                    self.right.pass();
                }
                (Some(Item::Tree(_)), Some(Item::Tree(_))) => {
                    // The higher one is opened, or both: unknown heights are those of roots.
                    match self.left.height().cmp(&self.right.height()) {
                        Ordering::Greater => self.left.open(self.blocks)?,
                        Ordering::Less => self.right.open(self.blocks)?,
                        Ordering::Equal => {
                            self.left.open(self.blocks)?;
                            self.right.open(self.blocks)?;
                        }
                    }
                }
                (Some(Item::Tree(_)), _) => self.left.open(self.blocks)?,
                (_, Some(Item::Tree(_))) => self.right.open(self.blocks)?,
                (Some(Item::Entry), Some(Item::Entry)) => {
                    match self.left.compare_keys(&self.right) {
                        Ordering::Less => return Ok(Some(self.only_left())),
                        Ordering::Greater => return Ok(Some(self.only_right())),
                        Ordering::Equal if self.left.value() == self.right.value() => {
                            self.left.pass();
                            self.right.pass();
                        }
                        Ordering::Equal => {
                            let difference = Difference {
                                key: self.left.key(),
                                left: Some(self.left.value_bytes()),
                                right: Some(self.right.value_bytes()),
                            };
                            self.left.pass();
                            self.right.pass();
                            return Ok(Some(difference));
                        }
                    }
                }
                (Some(Item::Entry), None) => return Ok(Some(self.only_left())),
                (None, Some(Item::Entry)) => return Ok(Some(self.only_right())),
            }
        }
    }

    fn only_left(&mut self) -> Difference {
        let difference = Difference {
            key: self.left.key(),
            left: Some(self.left.value_bytes()),
            right: None,
        };
        self.left.pass();
        difference
    }

    fn only_right(&mut self) -> Difference {
        let difference = Difference {
            key: self.right.key(),
            left: None,
            right: Some(self.right.value_bytes()),
        };
        self.right.pass();
        difference
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Difference>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

impl std::fmt::Debug for Diff<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Diff")
    }
}

/// What comes next on a side.
enum Item {
    /// A tree not opened yet.
    Tree(Cid),
    /// An entry of a leaf.
    Entry,
}

/// What is left of one tree: nodes with the entry that comes next in each.
struct Side {
    root: Option<Cid>,
    open: Vec<(Arc<Node>, usize)>,
}

impl Side {
    fn new(root: Option<Cid>) -> Self {
        Self {
            root,
            open: Vec::new(),
        }
    }

    fn top(&self) -> (&Node, usize) {
        let (node, at) = self.open.last().expect("an item comes next");
        (node, *at)
    }

    fn next_item(&mut self) -> Option<Item> {
        if let Some(root) = self.root {
            return Some(Item::Tree(root));
        }
        while let Some((node, at)) = self.open.last() {
            if *at == node.len() {
                self.open.pop();
                continue;
            }
            return Some(match node.level() {
                0 => Item::Entry,
                _ => Item::Tree(node.child(*at)),
            });
        }
        None
    }

    /// The level of the tree that comes next; above all others for a root.
    fn height(&self) -> u8 {
        match (self.root, self.open.last()) {
            (None, Some((node, _))) => node.level() - 1,
            _ => u8::MAX,
        }
    }

    fn pass(&mut self) {
        if self.root.take().is_none()
            && let Some((_, at)) = self.open.last_mut()
        {
            *at += 1;
        }
    }

    fn open(&mut self, blocks: &dyn Blocks) -> Result<()> {
        let node = match (self.root, self.open.last()) {
            (Some(root), _) => root_node(blocks, &root)?,
            (None, Some((node, at))) => child_node(blocks, node, *at)?,
            (None, None) => return Ok(()),
        };
        self.pass();
        self.open.push((node, 0));
        Ok(())
    }

    fn compare_keys(&self, other: &Self) -> Ordering {
        let ((a, i), (b, j)) = (self.top(), other.top());
        if a.prefix() == b.prefix() {
            return a.suffix(i).cmp(b.suffix(j));
        }
        let ours = a.prefix().iter().chain(a.suffix(i));
        ours.cmp(b.prefix().iter().chain(b.suffix(j)))
    }

    fn key(&self) -> Bytes {
        let (node, at) = self.top();
        Bytes::from(node.key(at))
    }

    fn value(&self) -> &[u8] {
        let (node, at) = self.top();
        node.value(at)
    }

    fn value_bytes(&self) -> Bytes {
        let (node, at) = self.top();
        node.value_bytes(at)
    }
}
