//! Where a new key belongs in the ordered list of a memtable: a B+-tree beside it, for its writer alone.
//!
//! The list is made for readers that never wait, and a search in it goes from one cache miss to the
//! next, about twenty in a list of a million entries. The tree has one writer and no readers, so its
//! nodes are plain arrays, and a search misses the cache about twice. It holds the place in the list of
//! one version of each key; the keys themselves stay there.
//!
//! Keys are compared by *heads*: four bytes, after those that all keys of a node share. What they share
//! follows from the separators around the node, as every key between two keys begins with what these two
//! have in common. Only keys with the same head are fetched from the list.

use crate::prefetch::prefetch;

/// Entries of a node.
const FAN: usize = 64;
/// No place, and no node.
const NONE: u32 = 0;

/// The keys that a tree's places stand for.
pub(super) trait Keys {
    fn key(&self, place: u32) -> &[u8];
}

/// The tree.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "a vector that grows would copy all nodes, in the midst of a write"
)]
pub(super) struct KeyTree {
    leaves: Vec<Box<Leaf>>,
    inners: Vec<Box<Inner>>,
    /// Inner nodes above a leaf.
    height: usize,
    root: u32,
    /// The largest key, and the leaf that it is in.
    last: u32,
    last_leaf: u32,
    /// The way to the leaf of the last search, from the root.
    path: Vec<Step>,
    /// Where the last key that was looked for belongs; `None` is behind all others.
    wanted: Option<InLeaf>,
}

/// Before the entry `at` of a leaf, or behind its last one.
#[derive(Debug, Clone, Copy)]
struct InLeaf {
    leaf: u32,
    at: usize,
    fences: Fences,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    inner: u32,
    child: usize,
    fences: Fences,
}

/// The separators around a node: its keys are from `low` on and below `high`, where there is one.
#[derive(Debug, Clone, Copy, Default)]
struct Fences {
    low: u32,
    high: u32,
}

/// Where a key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// The key is here already.
    Taken,
    /// Between the key before, where that is at hand, and the next one, each by the place noted for it.
    Between(Option<u32>, u32),
    /// Behind all others.
    Last,
}

/// Sorted keys.
#[derive(Debug, Clone)]
struct Sorted {
    heads: [u32; FAN],
    places: [u32; FAN],
    len: usize,
    /// Bytes that all keys begin with.
    skip: usize,
}

#[derive(Debug, Clone)]
struct Leaf {
    sorted: Sorted,
    next: u32,
}

/// Child `n` has the keys from separator `n - 1` on and below separator `n`.
#[derive(Debug, Clone)]
struct Inner {
    sorted: Sorted,
    children: [u32; FAN + 1],
}

impl Fences {
    /// What all keys between the two begin with, in bytes.
    fn shared(self, keys: &impl Keys) -> usize {
        if self.low == NONE || self.high == NONE {
            return 0;
        }
        let (low, high) = (keys.key(self.low), keys.key(self.high));
        low.iter().zip(high).take_while(|(a, b)| a == b).count()
    }

    /// Those of the two halves of a node that is split where `separator` begins.
    fn split(self, separator: u32) -> (Self, Self) {
        let left = Self {
            high: separator,
            ..self
        };
        let right = Self {
            low: separator,
            ..self
        };
        (left, right)
    }
}

/// The four bytes of `key` from `skip` on, as a number that orders as they do; a key that ends before is
/// as if filled up with zeros, so that keys with one head may differ.
#[inline]
fn head(key: &[u8], skip: usize) -> u32 {
    let rest = key.get(skip..).unwrap_or_default();
    match rest.first_chunk::<4>() {
        Some(first) => u32::from_be_bytes(*first),
        None => {
            let mut first = [0; 4];
            first[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(first)
        }
    }
}

impl Sorted {
    const EMPTY: Self = Self {
        heads: [0; FAN],
        places: [NONE; FAN],
        len: 0,
        skip: 0,
    };

    /// How many keys stand before `key`, and whether it is the next one.
    #[inline]
    fn position(&self, key: &[u8], keys: &impl Keys) -> (usize, bool) {
        let head = head(key, self.skip);
        let heads = &self.heads[..self.len];
        prefetch(&self.places);
        // Counted and not searched: no branch is mispredicted, and the cache lines come together.
        let at = heads.iter().filter(|other| **other < head).count();
        if heads.get(at) != Some(&head) {
            return (at, false);
        }
        let alike = heads[at..].iter().take_while(|other| **other == head);
        let alike = &self.places[at..at + alike.count()];
        match alike.binary_search_by(|place| keys.key(*place).cmp(key)) {
            Ok(among) => (at + among, true),
            Err(among) => (at + among, false),
        }
    }

    fn insert(&mut self, at: usize, place: u32, key: &[u8]) {
        self.heads.copy_within(at..self.len, at + 1);
        self.places.copy_within(at..self.len, at + 1);
        self.heads[at] = head(key, self.skip);
        self.places[at] = place;
        self.len += 1;
    }

    /// The keys from `at` on, which it gives up.
    fn split_off(&mut self, at: usize) -> Self {
        let mut right = Self::EMPTY;
        right.len = self.len - at;
        right.skip = self.skip;
        right.heads[..right.len].copy_from_slice(&self.heads[at..self.len]);
        right.places[..right.len].copy_from_slice(&self.places[at..self.len]);
        self.len = at;
        right
    }

    fn fit(&mut self, fences: Fences, keys: &impl Keys) {
        let skip = fences.shared(keys);
        if skip != self.skip {
            self.skip = skip;
            for (own, place) in self.heads.iter_mut().zip(&self.places[..self.len]) {
                *own = head(keys.key(*place), skip);
            }
        }
    }
}

impl KeyTree {
    /// Looks for a key. What is inserted next is inserted here.
    pub(super) fn find(&mut self, key: &[u8], keys: &impl Keys) -> Spot {
        // Keys that come in order need no search.
        if self.last == NONE || keys.key(self.last) < key {
            self.wanted = None;
            return Spot::Last;
        }
        let (wanted, here) = self.search(key, keys);
        self.wanted = Some(wanted);
        let leaf = &self.leaves[wanted.leaf as usize];
        let before = wanted.at.checked_sub(1).map(|at| leaf.sorted.places[at]);
        match leaf.sorted.places[..leaf.sorted.len].get(wanted.at) {
            Some(_) if here => Spot::Taken,
            Some(next) => Spot::Between(before, *next),
            None => Spot::Between(before, self.leaves[leaf.next as usize].sorted.places[0]),
        }
    }

    /// Where `key` belongs, and whether it is there; sets the path.
    fn search(&mut self, key: &[u8], keys: &impl Keys) -> (InLeaf, bool) {
        self.path.clear();
        let mut fences = Fences::default();
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = &self.inners[node as usize];
            let (before, here) = inner.sorted.position(key, keys);
            let child = before + usize::from(here);
            self.path.push(Step {
                inner: node,
                child,
                fences,
            });
            let places = &inner.sorted.places[..inner.sorted.len];
            if child > 0 {
                fences.low = places[child - 1];
            }
            if let Some(high) = places.get(child) {
                fences.high = *high;
            }
            node = inner.children[child];
        }
        let (at, here) = self.leaves[node as usize].sorted.position(key, keys);
        let leaf = node;
        (InLeaf { leaf, at, fences }, here)
    }

    /// Notes the key that was looked for last, and was not here, with a place where it stands.
    pub(super) fn insert(&mut self, place: u32, key: &[u8], keys: &impl Keys) {
        let Some(InLeaf { leaf, at, fences }) = self.wanted else {
            self.insert_last(place, key, keys);
            return;
        };
        let new = self.leaves.len() as u32;
        let left = &mut self.leaves[leaf as usize];
        if left.sorted.len < FAN {
            left.sorted.insert(at, place, key);
            return;
        }
        let middle = FAN / 2;
        let mut right = Box::new(Leaf {
            sorted: left.sorted.split_off(middle),
            next: left.next,
        });
        left.next = new;
        if leaf == self.last_leaf {
            self.last_leaf = new;
        }
        let separator = right.sorted.places[0];
        let halves = fences.split(separator);
        left.sorted.fit(halves.0, keys);
        right.sorted.fit(halves.1, keys);
        match at > middle {
            true => right.sorted.insert(at - middle, place, key),
            false => left.sorted.insert(at, place, key),
        }
        self.leaves.push(right);
        self.insert_separator(separator, new, keys);
    }

    /// As [`KeyTree::insert`], of a key behind all others. Such keys fill their leaves.
    fn insert_last(&mut self, place: u32, key: &[u8], keys: &impl Keys) {
        self.last = place;
        let new = self.leaves.len() as u32;
        if let Some(last) = self.leaves.get_mut(self.last_leaf as usize) {
            if last.sorted.len < FAN {
                last.sorted.insert(last.sorted.len, place, key);
                return;
            }
            last.next = new;
            let (wanted, _) = self.search(key, keys);
            let (left, _) = wanted.fences.split(place);
            self.leaves[wanted.leaf as usize].sorted.fit(left, keys);
            self.insert_separator(place, new, keys);
        }
        let mut leaf = Box::new(Leaf {
            sorted: Sorted::EMPTY,
            next: NONE,
        });
        leaf.sorted.insert(0, place, key);
        self.leaves.push(leaf);
        self.last_leaf = new;
    }

    /// Has `child`, whose keys begin with `separator`, below the inner nodes of the path.
    fn insert_separator(&mut self, mut separator: u32, mut child: u32, keys: &impl Keys) {
        while let Some(step) = self.path.pop() {
            let new = self.inners.len() as u32;
            let left = &mut self.inners[step.inner as usize];
            if left.sorted.len < FAN {
                left.insert(step.child, separator, child, keys);
                return;
            }
            let middle = FAN / 2;
            let mut right = Box::new(Inner {
                sorted: left.sorted.split_off(middle + 1),
                children: [NONE; FAN + 1],
            });
            let moved = &left.children[middle + 1..];
            right.children[..moved.len()].copy_from_slice(moved);
            let up = left.sorted.places[middle];
            left.sorted.len = middle;
            let halves = step.fences.split(up);
            left.sorted.fit(halves.0, keys);
            right.sorted.fit(halves.1, keys);
            match step.child > middle {
                true => right.insert(step.child - middle - 1, separator, child, keys),
                false => left.insert(step.child, separator, child, keys),
            }
            self.inners.push(right);
            (separator, child) = (up, new);
        }
        let mut root = Box::new(Inner {
            sorted: Sorted::EMPTY,
            children: [NONE; FAN + 1],
        });
        root.children[0] = self.root;
        root.insert(0, separator, child, keys);
        self.root = self.inners.len() as u32;
        self.inners.push(root);
        self.height += 1;
    }

    /// Bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.leaves.len() * size_of::<Leaf>() + self.inners.len() * size_of::<Inner>()
    }
}

impl Inner {
    /// Has `child` behind child `at`, with `separator` between them.
    fn insert(&mut self, at: usize, separator: u32, child: u32, keys: &impl Keys) {
        self.children
            .copy_within(at + 1..self.sorted.len + 1, at + 2);
        self.children[at + 1] = child;
        self.sorted.insert(at, separator, keys.key(separator));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Keys by place, from 1 on.
    impl Keys for Vec<Vec<u8>> {
        fn key(&self, place: u32) -> &[u8] {
            &self[place as usize - 1]
        }
    }

    /// Looks for each key beside a sorted map, and inserts those that are new.
    fn check(wanted: impl IntoIterator<Item = Vec<u8>>) -> KeyTree {
        let mut tree = KeyTree::default();
        let mut keys = Vec::new();
        let mut model: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        // The key before is not at hand where a leaf begins.
        let mut edges = 0;
        for key in wanted {
            let expected = match model.range(key.clone()..).next() {
                Some((next, _)) if *next == key => Spot::Taken,
                Some((_, place)) => {
                    let before = model.range(..key.clone()).next_back();
                    Spot::Between(before.map(|(_, place)| *place), *place)
                }
                None => Spot::Last,
            };
            match (tree.find(&key, &keys), expected) {
                (Spot::Between(None, next), Spot::Between(Some(_), expected)) => {
                    assert_eq!(next, expected, "{key:?}");
                    edges += 1;
                }
                (found, expected) => assert_eq!(found, expected, "{key:?}"),
            }
            if expected != Spot::Taken {
                keys.push(key.clone());
                let place = keys.len() as u32;
                tree.insert(place, &key, &keys);
                model.insert(key, place);
            }
        }
        assert!(edges <= keys.len() / 4, "{edges} of {}", keys.len());
        tree
    }

    fn mixed(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    #[test]
    fn keys_of_every_kind_are_found_in_trees_of_several_levels() {
        let many = 0..30_000u64;
        check(many.clone().map(|n| mixed(n).to_be_bytes().to_vec()));
        check(many.clone().map(|n| n.to_be_bytes().to_vec()));
        check(many.clone().rev().map(|n| n.to_be_bytes().to_vec()));
        // A prefix that is longer than a head, few heads for many keys, keys that are prefixes of others.
        let text = |n: u64| format!("orders/{:02}/item {}", mixed(n) >> 58, mixed(n));
        check(many.clone().map(|n| text(n).into_bytes()));
        check(many.clone().map(|n| vec![0; mixed(n) as usize % 300]));
        check(many.map(|n| {
            let tail = mixed(n).to_be_bytes();
            [&[7; 40], &tail[..mixed(n + 1) as usize % 8]].concat()
        }));
    }

    #[test]
    fn keys_in_order_fill_their_leaves() {
        let tree = check((0..64_000u64).map(|n| n.to_be_bytes().to_vec()));
        assert_eq!(tree.leaves.len(), 1000);
    }

    proptest! {
        #[test]
        fn a_tree_is_a_sorted_set(keys in prop::collection::vec(prop::collection::vec(0u8..3, 0..12), 0..2000)) {
            check(keys);
        }
    }
}
