//! Where a node ends: decided by the keys in it alone, so that equal content has equal nodes.
//!
//! Counted from its first entry, a node ends behind the first entry that is at least the
//! [`MIN_ENTRIES`]th and whose key's hash falls below a threshold, or that is the [`MAX_ENTRIES`]th, or
//! that brings its keys and values to [`MAX_PAYLOAD`] bytes. Values count by their size only, so
//! replacing one rarely moves an end.

use std::sync::Arc;

use crate::block::{Cid, Staged};
use crate::error::{Error, Result};

use super::node::{MAX_LEVEL, NodeBuilder, put_child};

/// The least entries of a node that is not the last of its level nor full in bytes.
pub const MIN_ENTRIES: usize = 16;
/// The most entries of a node.
pub const MAX_ENTRIES: usize = 256;
/// Bytes of keys and values at which a node ends.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// One key in 48 ends a node once it has its least entries: 64 entries in the mean.
const THRESHOLD: u64 = u64::MAX / 48;

/// A node that was written: as its parent names it.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) key: Vec<u8>,
    pub(super) cid: Cid,
    pub(super) count: u64,
}

/// Cuts one level into nodes and stages them.
#[derive(Debug)]
pub(super) struct Chunker {
    level: u8,
    builder: NodeBuilder,
    /// Nodes that ended since they were last taken.
    pub(super) done: Vec<Child>,
}

impl Chunker {
    pub(super) fn new(level: u8) -> Self {
        Self {
            level,
            builder: NodeBuilder::default(),
            done: Vec::new(),
        }
    }

    /// True when the next entry begins a node.
    pub(super) fn is_between_nodes(&self) -> bool {
        self.builder.is_empty()
    }

    pub(super) fn push(&mut self, staged: &mut Staged<'_>, key: &[u8], value: &[u8]) {
        self.builder.push(key, value);
        self.end_if_due(staged);
    }

    pub(super) fn push_parts(
        &mut self,
        staged: &mut Staged<'_>,
        prefix: &[u8],
        suffix: &[u8],
        value: &[u8],
    ) {
        self.builder.push_parts(prefix, suffix, value);
        self.end_if_due(staged);
    }

    fn end_if_due(&mut self, staged: &mut Staged<'_>) {
        let count = self.builder.len();
        if count >= MAX_ENTRIES
            || self.builder.payload() >= MAX_PAYLOAD
            || (count >= MIN_ENTRIES && ends_node(self.level, self.builder.last_key()))
        {
            self.end(staged);
        }
    }

    /// The level is over: what is left is its last node.
    pub(super) fn flush(&mut self, staged: &mut Staged<'_>) {
        if !self.builder.is_empty() {
            self.end(staged);
        }
    }

    /// The child, when the level so far is one branch with one child: then that child is the root.
    pub(super) fn only_child(&self) -> Option<Cid> {
        if self.level == 0 || !self.done.is_empty() {
            return None;
        }
        let value = self.builder.only_value()?;
        crate::cbor::Reader::new(value).link().ok()
    }

    fn end(&mut self, staged: &mut Staged<'_>) {
        let key = self.builder.last_key().to_vec();
        let (block, node) = self.builder.finish(self.level);
        let count = node.count();
        let cid = staged.put_node(block, Arc::new(node));
        self.done.push(Child { key, cid, count });
    }
}

/// True when an entry with this key ends its node, if the node has enough entries.
pub(super) fn ends_node(level: u8, key: &[u8]) -> bool {
    xxhash_rust::xxh3::xxh3_64_with_seed(key, u64::from(level)) <= THRESHOLD
}

/// Builds the levels above `children`, the nodes of `level`, up to one root.
pub(super) fn build_up(
    staged: &mut Staged<'_>,
    mut level: u8,
    mut children: Vec<Child>,
) -> Result<Option<Cid>> {
    let mut value = Vec::new();
    while children.len() > 1 {
        if level >= MAX_LEVEL {
            return Err(Error::invalid("a map cannot hold more entries"));
        }
        level += 1;
        let mut chunker = Chunker::new(level);
        for child in children {
            value.clear();
            put_child(&child.cid, child.count, &mut value);
            chunker.push(staged, &child.key, &value);
        }
        chunker.flush(staged);
        children = chunker.done;
    }
    Ok(children.first().map(|child| child.cid))
}
