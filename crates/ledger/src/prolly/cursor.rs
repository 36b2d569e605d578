//! A way from the root to one node of a level, and on to the next.

use std::sync::Arc;

use crate::block::{Blocks, Cid};
use crate::error::{Error, Result};

use super::Node;

/// Reads a child and checks that it is one level below.
pub(super) fn child_node(
    blocks: &(impl Blocks + ?Sized),
    parent: &Node,
    index: usize,
) -> Result<Arc<Node>> {
    let cid = parent.child(index);
    let node = blocks.node(&cid)?;
    if node.level() + 1 != parent.level() {
        return Err(Error::corrupt(
            format!("node {cid}"),
            format!(
                "its level is {}, its parent's is {}",
                node.level(),
                parent.level()
            ),
        ));
    }
    Ok(node)
}

/// Branches from the root down with the child taken in each, and the node they lead to.
#[derive(Debug)]
pub(super) struct Path {
    above: Vec<(Arc<Node>, usize)>,
    node: Arc<Node>,
    cid: Cid,
}

impl Path {
    /// To the node of `level` where `key` is or would be.
    pub(super) fn seek(
        blocks: &(impl Blocks + ?Sized),
        root: &Cid,
        level: u8,
        key: &[u8],
    ) -> Result<Self> {
        let mut path = Self {
            above: Vec::new(),
            node: super::root_node(blocks, root)?,
            cid: *root,
        };
        while path.node.level() > level {
            let at = path.node.search(key).0.min(path.node.len() - 1);
            path.down(blocks, at)?;
        }
        Ok(path)
    }

    fn down(&mut self, blocks: &(impl Blocks + ?Sized), at: usize) -> Result<()> {
        self.cid = self.node.child(at);
        let child = child_node(blocks, &self.node, at)?;
        let parent = std::mem::replace(&mut self.node, child);
        self.above.push((parent, at));
        Ok(())
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(super) fn cid(&self) -> &Cid {
        &self.cid
    }

    /// True when no node of this level comes after.
    pub(super) fn is_last(&self) -> bool {
        self.above.iter().all(|(node, at)| at + 1 == node.len())
    }

    /// On to the next node of the level; there must be one.
    pub(super) fn advance(&mut self, blocks: &(impl Blocks + ?Sized)) -> Result<()> {
        let level = self.node.level();
        while let Some((node, at)) = self.above.pop() {
            if at + 1 < node.len() {
                self.node = node;
                self.down(blocks, at + 1)?;
                break;
            }
        }
        while self.node.level() > level {
            self.down(blocks, 0)?;
        }
        Ok(())
    }
}
