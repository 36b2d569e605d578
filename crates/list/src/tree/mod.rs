//! The order of the list: entries in a balanced tree whose nodes count the visible elements below
//! them. Nodes live in two arenas and name each other by index; nothing is ever removed, because a
//! deleted element keeps its place.
//!
//! Invariants, walked by [`Tree::check`]: every node's counts are those of what is below it, every
//! node knows its place in its parent, leaves are linked from left to right, no leaf is empty unless
//! it is the only one, and every element stands in one entry.

mod check;
mod entry;
mod inner;
mod lookup;
mod places;

#[allow(unreachable_pub, reason = "named by the sealed trait `Content`")]
pub use entry::{Elem, Entry};
pub(crate) use entry::{MAX_ELEMS, NONE};
use lookup::Recent;
use places::Places;

use crate::bits::Bits;

/// Entries in a leaf. 32 of 8 bytes are four cache lines: short to scan, few to split.
const LEAF: usize = 32;
/// Children of an inner node.
const FAN: usize = 32;

#[derive(Clone)]
struct Leaf {
    entries: [Entry; LEAF],
    visible: u32,
    parent: u32,
    next: u32,
    len: u8,
    /// Which child of its parent it is.
    slot: u8,
}

#[derive(Clone)]
struct Inner {
    children: [u32; FAN],
    visible: [u32; FAN],
    parent: u32,
    len: u8,
    slot: u8,
    /// Whether its children are leaves.
    above_leaves: bool,
}

/// An entry, and a place in or beside it: `offset` elements of it stand to the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) leaf: u32,
    pub(crate) index: usize,
    pub(crate) offset: u32,
}

/// Where the last search by position ended. Searches near it start there.
#[derive(Clone, Copy)]
struct Hint {
    leaf: u32,
    /// Visible elements before the leaf.
    leaf_start: u32,
    index: usize,
    /// Visible elements before the entry.
    start: u32,
}

const NO_HINT: Hint = Hint {
    leaf: NONE,
    leaf_start: NONE,
    index: 0,
    start: NONE,
};

#[allow(unreachable_pub, reason = "named by the sealed trait `Content`")]
#[derive(Clone)]
pub struct Tree {
    leaves: Vec<Leaf>,
    inners: Vec<Inner>,
    /// A leaf if there is no inner node.
    root: u32,
    visible: u32,
    hint: Hint,
    places: Option<Places>,
    recent: Recent,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            leaves: Vec::new(),
            inners: Vec::new(),
            root: NONE,
            visible: 0,
            hint: NO_HINT,
            places: None,
            recent: Recent::default(),
        }
    }
}

impl Tree {
    pub(crate) fn visible(&self) -> u32 {
        self.visible
    }

    pub(crate) fn entry(&self, at: Point) -> Entry {
        self.leaves[at.leaf as usize].entries[at.index]
    }

    /// Every entry, from left to right.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut leaf = if self.leaves.is_empty() { NONE } else { 0 };
        std::iter::from_fn(move || {
            let here = self.leaves.get(leaf as usize)?;
            leaf = here.next;
            Some(&here.entries[..here.len as usize])
        })
        .flatten()
        .copied()
    }

    /// The entries from the one at `from` on.
    pub(crate) fn entries_from(&self, from: Point) -> impl Iterator<Item = Entry> {
        self.stretches_from(from).flatten().copied()
    }

    /// The same, those of a leaf together.
    pub(crate) fn stretches_from(&self, from: Point) -> impl Iterator<Item = &[Entry]> {
        let (mut leaf, mut index) = (from.leaf, from.index);
        std::iter::from_fn(move || {
            let here = self.leaves.get(leaf as usize)?;
            let entries = &here.entries[index..here.len as usize];
            (leaf, index) = (here.next, 0);
            Some(entries)
        })
    }

    /// The place before everything.
    pub(crate) fn start(&mut self) -> Point {
        if !self.leaves.is_empty() {
            self.hint = Hint {
                leaf: 0,
                leaf_start: 0,
                index: 0,
                start: 0,
            };
        }
        Point {
            leaf: 0,
            index: 0,
            offset: 0,
        }
    }

    /// The visible element at `position`, which must be below [`Tree::visible`].
    #[inline]
    pub(crate) fn seek(&mut self, position: u32) -> Point {
        let hint = self.hint;
        let near = position >= hint.leaf_start
            && position - hint.leaf_start < self.leaves[hint.leaf as usize].visible;
        let (leaf, leaf_start) = if near {
            (hint.leaf, hint.leaf_start)
        } else {
            self.descend(position)
        };
        let entries = &self.leaves[leaf as usize].entries;
        let (mut index, mut start) = if near && position >= hint.start {
            (hint.index, hint.start)
        } else {
            (0, leaf_start)
        };
        loop {
            let len = entries[index].visible_len();
            if position - start < len {
                break;
            }
            start += len;
            index += 1;
        }
        self.hint = Hint {
            leaf,
            leaf_start,
            index,
            start,
        };
        Point {
            leaf,
            index,
            offset: position - start,
        }
    }

    /// Typing goes on: adds elements at the right end of the entry found last, if that shows the element
    /// just before `position` as its last, and this is `last`, the newest there is. Whether it did.
    #[inline]
    pub(crate) fn type_on(&mut self, position: u32, last: Elem, count: u32) -> bool {
        let hint = self.hint;
        let Some(leaf) = self.leaves.get_mut(hint.leaf as usize) else {
            return false;
        };
        // A split may have left the hint behind the leaf's end.
        let Some(entry) = leaf.entries[..leaf.len as usize].get_mut(hint.index) else {
            return false;
        };
        if hint.start + entry.len() != position || !entry.grow_after(last, count) {
            return false;
        }
        if let Some(places) = &mut self.places {
            places.assign(last + 1, last + 1 + count, hint.leaf);
        }
        self.add_visible(hint.leaf, count as i32);
        true
    }

    /// The same without leaving a hint behind.
    pub(crate) fn find(&self, position: u32) -> Point {
        let (leaf, mut start) = self.descend(position);
        let mut index = 0;
        loop {
            let len = self.leaves[leaf as usize].entries[index].visible_len();
            if position - start < len {
                return Point {
                    leaf,
                    index,
                    offset: position - start,
                };
            }
            start += len;
            index += 1;
        }
    }

    /// The leaf with the visible element at `position`, and how many stand before the leaf.
    fn descend(&self, position: u32) -> (u32, u32) {
        let mut start = 0;
        let mut node = self.root;
        if self.inners.is_empty() {
            return (node, start);
        }
        loop {
            let inner = &self.inners[node as usize];
            let mut slot = 0;
            while position - start >= inner.visible[slot] {
                start += inner.visible[slot];
                slot += 1;
            }
            node = inner.children[slot];
            if inner.above_leaves {
                return (node, start);
            }
        }
    }

    /// How many visible elements stand to the left of `at`.
    pub(crate) fn position(&self, at: Point) -> u32 {
        let leaf = &self.leaves[at.leaf as usize];
        let mut position: u32 = leaf.entries[..at.index]
            .iter()
            .map(|entry| entry.visible_len())
            .sum();
        if !leaf.entries[at.index].is_hidden() {
            position += at.offset;
        }
        let (mut parent, mut slot) = (leaf.parent, leaf.slot);
        while parent != NONE {
            let inner = &self.inners[parent as usize];
            position += inner.visible[..slot as usize].iter().sum::<u32>();
            (parent, slot) = (inner.parent, inner.slot);
        }
        position
    }

    /// The element next to the right of the place `at`, shown or hidden.
    #[inline]
    pub(crate) fn right_of(&self, at: Point) -> Option<Elem> {
        let leaf = self.leaves.get(at.leaf as usize)?;
        let entry = leaf.entries[at.index];
        if at.offset < entry.len() {
            return Some(entry.at(at.offset));
        }
        if at.index + 1 < leaf.len as usize {
            return Some(leaf.entries[at.index + 1].first());
        }
        self.leaves
            .get(leaf.next as usize)
            .map(|next| next.entries[0].first())
    }

    /// Puts `entry`, whose elements are in no entry yet, at the place `at`.
    #[inline]
    pub(crate) fn insert(&mut self, at: Point, entry: Entry) {
        if self.leaves.is_empty() {
            return self.insert_first(entry);
        }
        let here = self.leaves[at.leaf as usize].entries[at.index];
        // Typing: the entry left of the place goes on.
        if at.offset == here.len()
            && let Some(joined) = Entry::join(here, entry)
        {
            self.leaves[at.leaf as usize].entries[at.index] = joined;
            self.note_place(entry, at.leaf);
            self.add_visible(at.leaf, entry.visible_len() as i32);
            return;
        }
        self.insert_apart(at, here, entry);
    }

    fn insert_first(&mut self, entry: Entry) {
        let mut leaf = Leaf {
            entries: [Entry::default(); LEAF],
            visible: 0,
            parent: NONE,
            next: NONE,
            len: 1,
            slot: 0,
        };
        leaf.entries[0] = entry;
        leaf.visible = entry.visible_len();
        self.visible = leaf.visible;
        self.leaves.push(leaf);
        self.root = 0;
        self.note_place(entry, 0);
    }

    fn insert_apart(&mut self, at: Point, here: Entry, entry: Entry) {
        let (leaf, index) = (at.leaf, at.index);
        self.note_place(entry, leaf);
        let more = entry.visible_len() as i32;
        if at.offset > 0 && at.offset < here.len() {
            let parts = [
                here.part(0, at.offset),
                entry,
                here.part(at.offset, here.len()),
            ];
            return self.splice(leaf, index, index + 1, &parts, more);
        }
        let gap = if at.offset == 0 { index } else { index + 1 };
        let leaf_len = self.leaves[leaf as usize].len as usize;
        if gap > 0
            && let Some(joined) = Entry::join(self.leaves[leaf as usize].entries[gap - 1], entry)
        {
            return self.splice(leaf, gap - 1, gap, &[joined], more);
        }
        if gap < leaf_len
            && let Some(joined) = Entry::join(entry, self.leaves[leaf as usize].entries[gap])
        {
            return self.splice(leaf, gap, gap + 1, &[joined], more);
        }
        self.splice(leaf, gap, gap, &[entry], more);
    }

    #[inline]
    fn note_place(&mut self, entry: Entry, leaf: u32) {
        if let Some(places) = &mut self.places {
            places.assign(entry.lo, entry.end(), leaf);
        }
    }

    /// Hides or shows the elements of the entry at (`leaf`, `index`) whose offsets are from `from`
    /// to before `to`. They must not be in that state already.
    pub(crate) fn set_hidden(&mut self, leaf: u32, index: usize, from: u32, to: u32, hidden: bool) {
        let node = &self.leaves[leaf as usize];
        let here = node.entries[index];
        let change = here.part(from, to).with_hidden(hidden);
        let delta = if hidden {
            -((to - from) as i32)
        } else {
            (to - from) as i32
        };
        if self.hint.leaf == leaf && self.hint.index >= index {
            // The entry may join the one before it, which stays where it is.
            self.hint = match index.checked_sub(1) {
                Some(before) if self.hint.index == index => Hint {
                    index: before,
                    start: self.hint.start - node.entries[before].visible_len(),
                    ..self.hint
                },
                _ => Hint {
                    index: 0,
                    start: self.hint.leaf_start,
                    ..self.hint
                },
            };
        }
        let node = &mut self.leaves[leaf as usize];
        // Deleting on: a neighbour takes the elements over and nothing else moves.
        if to == here.len() && from > 0 && index + 1 < node.len as usize {
            if let Some(joined) = Entry::join(change, node.entries[index + 1]) {
                node.entries[index] = here.part(0, from);
                node.entries[index + 1] = joined;
                return self.add_visible(leaf, delta);
            }
        } else if from == 0
            && to < here.len()
            && index > 0
            && let Some(joined) = Entry::join(node.entries[index - 1], change)
        {
            node.entries[index - 1] = joined;
            node.entries[index] = here.part(to, here.len());
            return self.add_visible(leaf, delta);
        }
        let mut parts = [Entry::default(); 5];
        let (mut count, mut start, mut stop) = (0, index, index + 1);
        let mut push = |entry: Entry| {
            if count > 0
                && let Some(joined) = Entry::join(parts[count - 1], entry)
            {
                parts[count - 1] = joined;
            } else {
                parts[count] = entry;
                count += 1;
            }
        };
        if from > 0 {
            push(here.part(0, from));
        } else if index > 0 && Entry::join(node.entries[index - 1], change).is_some() {
            start -= 1;
            push(node.entries[start]);
        }
        push(change);
        if to < here.len() {
            push(here.part(to, here.len()));
        } else if stop < node.len as usize && Entry::join(change, node.entries[stop]).is_some() {
            push(node.entries[stop]);
            stop += 1;
        }
        let parts = parts;
        self.splice(leaf, start, stop, &parts[..count], delta);
    }

    /// Puts `with` in the place of the leaf's entries from `start` to before `stop`; the leaf then
    /// shows `delta` elements more. Splits the leaf if they do not fit.
    fn splice(&mut self, leaf: u32, start: usize, stop: usize, with: &[Entry], delta: i32) {
        let node = &mut self.leaves[leaf as usize];
        let (len, new_len) = (
            node.len as usize,
            node.len as usize - (stop - start) + with.len(),
        );
        if new_len <= LEAF {
            if start + with.len() != stop {
                node.entries.copy_within(stop..len, start + with.len());
            }
            node.entries[start..start + with.len()].copy_from_slice(with);
            node.len = new_len as u8;
            self.add_visible(leaf, delta);
            return;
        }
        let mut all = [Entry::default(); LEAF + 4];
        all[..start].copy_from_slice(&node.entries[..start]);
        all[start..start + with.len()].copy_from_slice(with);
        all[start + with.len()..new_len].copy_from_slice(&node.entries[stop..len]);
        // Growth at the right end leaves full leaves behind.
        let at_end = stop == len && node.next == NONE;
        let keep = if at_end {
            new_len.min(LEAF) - 1
        } else {
            new_len / 2
        };
        node.entries[..keep].copy_from_slice(&all[..keep]);
        node.len = keep as u8;
        self.add_visible(leaf, delta);
        self.split_off(leaf, &all[keep..new_len]);
    }

    /// A new leaf to the right of `leaf` with `entries`, which `leaf` still counts.
    fn split_off(&mut self, leaf: u32, entries: &[Entry]) {
        let right = self.leaves.len() as u32;
        let visible = entries.iter().map(|entry| entry.visible_len()).sum();
        let node = &mut self.leaves[leaf as usize];
        let mut new = Leaf {
            entries: [Entry::default(); LEAF],
            visible,
            parent: node.parent,
            next: node.next,
            len: entries.len() as u8,
            slot: 0,
        };
        new.entries[..entries.len()].copy_from_slice(entries);
        node.next = right;
        node.visible -= visible;
        let (parent, slot) = (node.parent, node.slot);
        self.leaves.push(new);
        if let Some(places) = &mut self.places {
            for entry in entries {
                places.assign(entry.lo, entry.end(), right);
            }
        }
        if parent == NONE {
            self.root = self.new_root(leaf, right, true);
        } else {
            self.add_above(parent, slot, -(visible as i32));
            self.insert_child(parent, slot as usize + 1, right, true);
            let new = &self.leaves[right as usize];
            self.add_above(new.parent, new.slot, visible as i32);
        }
    }

    /// Forgets where the last search ended: the list changed elsewhere.
    #[inline]
    pub(crate) fn forget_hint(&mut self) {
        self.hint = NO_HINT;
    }

    /// The tree of these entries, from left to right, joined where they can be.
    pub(crate) fn from_entries(entries: impl Iterator<Item = Entry>) -> Self {
        let mut tree = Self::default();
        let empty = Leaf {
            entries: [Entry::default(); LEAF],
            visible: 0,
            parent: NONE,
            next: NONE,
            len: 0,
            slot: 0,
        };
        for entry in entries {
            if let Some(leaf) = tree.leaves.last_mut() {
                let last = &mut leaf.entries[leaf.len as usize - 1];
                if let Some(joined) = Entry::join(*last, entry) {
                    *last = joined;
                    leaf.visible += entry.visible_len();
                    continue;
                }
            }
            // A little room in each leaf, so that the first edits do not split every one of them.
            if tree
                .leaves
                .last()
                .is_none_or(|leaf| leaf.len as usize == LEAF - 4)
            {
                let at = tree.leaves.len() as u32;
                if let Some(leaf) = tree.leaves.last_mut() {
                    leaf.next = at;
                }
                tree.leaves.push(empty.clone());
            }
            let leaf = tree.leaves.last_mut().expect("one was just made sure of");
            leaf.entries[leaf.len as usize] = entry;
            leaf.len += 1;
            leaf.visible += entry.visible_len();
        }
        tree.visible = tree.leaves.iter().map(|leaf| leaf.visible).sum();
        tree.build_inner();
        tree
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.leaves.capacity() * size_of::<Leaf>()
            + self.inners.capacity() * size_of::<Inner>()
            + self.places.as_ref().map_or(0, Places::heap_bytes)
    }
}
