//! The walk that proves a tree sound. Fuzzers call it after every step.

use super::{Bits, Entry, NONE, Tree};

impl Tree {
    /// Checks every invariant; says what is wrong with the first that does not hold. `elems` is how
    /// many elements there are in all.
    pub(crate) fn check(&self, elems: u32) -> Result<(), String> {
        let mut seen = Bits::with_len(elems);
        let mut count = 0;
        for entry in self.entries() {
            if entry.len() == 0 || entry.end() > elems {
                return Err(format!(
                    "entry {entry:?} is empty or beyond the {elems} elements"
                ));
            }
            if (entry.lo..entry.end()).any(|elem| seen.get(elem)) {
                return Err(format!("an element of {entry:?} stands in two entries"));
            }
            seen.set_range(entry.lo, entry.end());
            count += entry.len();
        }
        if count != elems {
            return Err(format!("{count} of {elems} elements have a place"));
        }
        let visible = self.entries().map(Entry::visible_len).sum::<u32>();
        if visible != self.visible {
            return Err(format!(
                "{visible} elements are visible, {} are counted",
                self.visible
            ));
        }
        self.check_nodes()?;
        self.check_places(elems)
    }

    fn check_nodes(&self) -> Result<(), String> {
        if self.leaves.is_empty() {
            return Ok(());
        }
        // Leaves as their links give them and as the tree gives them.
        let mut linked = Vec::new();
        let mut leaf = 0;
        while leaf != NONE {
            linked.push(leaf);
            if linked.len() > self.leaves.len() {
                return Err("the leaves' links form a circle".into());
            }
            leaf = self.leaves[leaf as usize].next;
        }
        let mut reached = Vec::new();
        let mut inner_nodes = 0;
        let mut left = vec![(self.root, self.inners.is_empty(), NONE, 0_usize)];
        while let Some((node, is_leaf, parent, slot)) = left.pop() {
            if is_leaf {
                let leaf = &self.leaves[node as usize];
                let visible: u32 = leaf.entries[..leaf.len as usize]
                    .iter()
                    .map(|e| e.visible_len())
                    .sum();
                if leaf.len == 0
                    || leaf.visible != visible
                    || (leaf.parent, leaf.slot as usize) != (parent, slot)
                {
                    return Err(format!(
                        "leaf {node} is empty, miscounts or misses its parent {parent}"
                    ));
                }
                reached.push(node);
                continue;
            }
            inner_nodes += 1;
            let inner = &self.inners[node as usize];
            if inner.len == 0 || (inner.parent, inner.slot as usize) != (parent, slot) {
                return Err(format!(
                    "node {node} is empty or misses its parent {parent}"
                ));
            }
            for slot in (0..inner.len as usize).rev() {
                let child = inner.children[slot];
                if self.node_visible(child, inner.above_leaves) != inner.visible[slot] {
                    return Err(format!("node {node} miscounts child {slot}"));
                }
                left.push((child, inner.above_leaves, node, slot));
            }
        }
        if reached != linked
            || reached.len() != self.leaves.len()
            || inner_nodes != self.inners.len()
        {
            return Err("a node is reached twice, never, or out of order".into());
        }
        Ok(())
    }

    fn check_places(&self, elems: u32) -> Result<(), String> {
        let Some(places) = &self.places else {
            return Ok(());
        };
        for elem in 0..elems {
            let leaf = places.leaf(elem);
            if leaf.is_none_or(|leaf| self.in_leaf(leaf, elem).is_none()) {
                return Err(format!(
                    "element {elem} is not in leaf {leaf:?}, where it is said to be"
                ));
            }
        }
        Ok(())
    }
}
