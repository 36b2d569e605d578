//! The levels above the leaves: nodes that count what is visible below each child.

use super::{FAN, Inner, NONE, Tree};

impl Tree {
    pub(super) fn node_visible(&self, node: u32, is_leaf: bool) -> u32 {
        if is_leaf {
            return self.leaves[node as usize].visible;
        }
        let inner = &self.inners[node as usize];
        inner.visible[..inner.len as usize].iter().sum()
    }

    pub(super) fn new_root(&mut self, left: u32, right: u32, above_leaves: bool) -> u32 {
        let root = self.inners.len() as u32;
        let mut inner = Inner {
            children: [NONE; FAN],
            visible: [0; FAN],
            parent: NONE,
            len: 2,
            slot: 0,
            above_leaves,
        };
        for (slot, node) in [left, right].into_iter().enumerate() {
            inner.children[slot] = node;
            inner.visible[slot] = self.node_visible(node, above_leaves);
            self.hang(node, above_leaves, root, slot);
        }
        self.inners.push(inner);
        root
    }

    fn hang(&mut self, node: u32, is_leaf: bool, parent: u32, slot: usize) {
        if is_leaf {
            let leaf = &mut self.leaves[node as usize];
            (leaf.parent, leaf.slot) = (parent, slot as u8);
        } else {
            let inner = &mut self.inners[node as usize];
            (inner.parent, inner.slot) = (parent, slot as u8);
        }
    }

    /// Puts `child` at `slot` of `parent`, as yet without its count, and splits `parent` if it is full.
    pub(super) fn insert_child(&mut self, parent: u32, slot: usize, child: u32, is_leaf: bool) {
        let (mut parent, mut slot) = (parent, slot);
        if self.inners[parent as usize].len as usize == FAN {
            let at_end = slot == FAN && self.inners[parent as usize].parent == NONE;
            let keep = if at_end { FAN - 1 } else { FAN / 2 };
            let right = self.split_inner(parent, keep);
            if slot > keep {
                (parent, slot) = (right, slot - keep);
            }
        }
        let inner = &mut self.inners[parent as usize];
        let len = inner.len as usize;
        inner.children.copy_within(slot..len, slot + 1);
        inner.visible.copy_within(slot..len, slot + 1);
        inner.children[slot] = child;
        inner.visible[slot] = 0;
        inner.len += 1;
        let children = inner.children;
        for (at, &node) in children.iter().enumerate().take(len + 1).skip(slot) {
            self.hang(node, is_leaf, parent, at);
        }
    }

    /// Moves the children from `keep` on to a new node to the right, which is its result.
    fn split_inner(&mut self, node: u32, keep: usize) -> u32 {
        let right = self.inners.len() as u32;
        let inner = &mut self.inners[node as usize];
        let mut new = Inner {
            children: [NONE; FAN],
            visible: [0; FAN],
            parent: inner.parent,
            len: inner.len - keep as u8,
            slot: 0,
            above_leaves: inner.above_leaves,
        };
        let len = inner.len as usize;
        new.children[..len - keep].copy_from_slice(&inner.children[keep..len]);
        new.visible[..len - keep].copy_from_slice(&inner.visible[keep..len]);
        inner.len = keep as u8;
        let (parent, slot, above_leaves) = (inner.parent, inner.slot, inner.above_leaves);
        let (children, count) = (new.children, new.len as usize);
        self.inners.push(new);
        for (at, &child) in children.iter().enumerate().take(count) {
            self.hang(child, above_leaves, right, at);
        }
        let moved = self.node_visible(right, false);
        if parent == NONE {
            self.root = self.new_root(node, right, false);
        } else {
            self.add_above(parent, slot, -(moved as i32));
            self.insert_child(parent, slot as usize + 1, right, false);
            let new = &self.inners[right as usize];
            self.add_above(new.parent, new.slot, moved as i32);
        }
        right
    }

    #[inline]
    pub(super) fn add_visible(&mut self, leaf: u32, delta: i32) {
        let node = &mut self.leaves[leaf as usize];
        node.visible = node.visible.wrapping_add_signed(delta);
        self.visible = self.visible.wrapping_add_signed(delta);
        let (parent, slot) = (node.parent, node.slot);
        self.add_above(parent, slot, delta);
    }

    /// The node at `slot` of `parent` shows `delta` elements more.
    #[inline]
    pub(super) fn add_above(&mut self, parent: u32, slot: u8, delta: i32) {
        let (mut parent, mut slot) = (parent, slot);
        while let Some(inner) = self.inners.get_mut(parent as usize) {
            let count = &mut inner.visible[slot as usize];
            *count = count.wrapping_add_signed(delta);
            (parent, slot) = (inner.parent, inner.slot);
        }
    }

    pub(super) fn build_inner(&mut self) {
        if self.leaves.is_empty() {
            return;
        }
        let mut level: Vec<u32> = (0..self.leaves.len() as u32).collect();
        let mut is_leaf = true;
        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len() / (FAN - 4) + 1);
            for group in level.chunks(FAN - 4) {
                let node = self.inners.len() as u32;
                let mut inner = Inner {
                    children: [NONE; FAN],
                    visible: [0; FAN],
                    parent: NONE,
                    len: group.len() as u8,
                    slot: 0,
                    above_leaves: is_leaf,
                };
                for (slot, &child) in group.iter().enumerate() {
                    inner.children[slot] = child;
                    inner.visible[slot] = self.node_visible(child, is_leaf);
                    self.hang(child, is_leaf, node, slot);
                }
                self.inners.push(inner);
                above.push(node);
            }
            (level, is_leaf) = (above, false);
        }
        self.root = level[0];
    }
}
