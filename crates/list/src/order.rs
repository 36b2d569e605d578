//! Where a new element goes: the Fugue rule. Every element is a left or a right child of another, or
//! of the root; the list is the walk of that tree, left children first, then the element, then right
//! children. Children on one side stand in the order of their transactions' Lamport counters, then of
//! their sessions.
//!
//! Weidner and Kleppmann, "The Art of the Fugue: Minimizing Interleaving in Collaborative Text
//! Editing", 2023.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::births::Side;
use crate::content::Content;
use crate::doc::Doc;
use crate::tree::{Elem, Entry, NONE, Point};

/// What decides between children of one parent on one side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rank {
    pub(crate) lamport: u32,
    /// A local index; compared by the session's name.
    pub(crate) session: u32,
    pub(crate) number: u32,
}

/// The first elements of chains by parent and side, each list in order. Built when concurrent
/// insertions first meet.
#[derive(Clone, Default)]
pub(crate) struct Children {
    of: BTreeMap<(Elem, Side), Vec<Elem>>,
}

impl Children {
    fn of(&self, parent: Elem, side: Side) -> &[Elem] {
        self.of.get(&(parent, side)).map_or(&[], Vec::as_slice)
    }
}

impl<C: Content> Doc<C> {
    /// Where a new element goes that this copy's author puts next to the right of the place `at`,
    /// after element `left`: its parent and side. Nothing stands between the two, so it has no
    /// siblings, and the place is `at` itself.
    #[inline]
    pub(crate) fn local_parent(&self, at: Point, left: Option<Elem>) -> (Elem, Side) {
        match left {
            Some(left) if !self.has_right(left) => (left, Side::Right),
            None if self.births.elems() == 0 => (NONE, Side::Right),
            _ => {
                let right = self.tree.right_of(at);
                (
                    right.expect("an element with a right child has one to its right"),
                    Side::Left,
                )
            }
        }
    }

    /// Where a new child of `parent` on `side` stands if it is the only one there.
    #[inline]
    pub(crate) fn place_of_lone_child(&mut self, parent: Elem, side: Side) -> Point {
        if parent == NONE {
            return self.tree.start();
        }
        let mut at = self.tree.place(parent);
        if side == Side::Right {
            at.offset += 1;
        }
        at
    }

    /// The same where the parent has children on that side already.
    pub(crate) fn place_among(&mut self, parent: Elem, side: Side, rank: Rank) -> Point {
        self.know_children();
        let siblings = self.children_of(parent, side);
        let next = siblings
            .iter()
            .copied()
            .find(|&sibling| self.compare(self.rank(sibling), rank).is_gt());
        let before = match (next, side) {
            (Some(next), _) => self.leftmost(next),
            (None, Side::Left) => parent,
            (None, Side::Right) => {
                let last = *siblings.last().expect("there is a child on that side");
                let last = self.rightmost(last);
                let mut at = self.tree.place(last);
                at.offset += 1;
                return at;
            }
        };
        self.tree.place(before)
    }

    fn know_children(&mut self) {
        if self.children.is_some() {
            return;
        }
        let mut children = Children::default();
        for chain in self.births.chains() {
            children
                .of
                .entry((chain.parent, chain.side))
                .or_default()
                .push(chain.first);
        }
        let mut of = std::mem::take(&mut children.of);
        for siblings in of.values_mut().filter(|siblings| siblings.len() > 1) {
            siblings.sort_by(|&a, &b| self.compare(self.rank(a), self.rank(b)));
        }
        self.children = Some(Children { of });
    }

    /// Notes a new chain that begins with `first`.
    fn note_child(&mut self, first: Elem, parent: Elem, side: Side, lamport: u32) {
        let Some(children) = &self.children else {
            return;
        };
        let (session, number) = self.origin(first);
        let rank = Rank {
            lamport,
            session,
            number,
        };
        let siblings = children.of(parent, side);
        let at =
            siblings.partition_point(|&sibling| self.compare(self.rank(sibling), rank).is_lt());
        if let Some(children) = &mut self.children {
            children
                .of
                .entry((parent, side))
                .or_default()
                .insert(at, first);
        }
    }

    /// All children of `parent` on `side`, in order, the next of its own chain among them.
    fn children_of(&self, parent: Elem, side: Side) -> Vec<Elem> {
        let listed = self
            .children
            .as_ref()
            .map_or(&[][..], |children| children.of(parent, side));
        let mut all = listed.to_vec();
        if let Some(next) = self.next_in_chain(parent, side) {
            let rank = self.rank(next);
            let at = all.partition_point(|&sibling| self.compare(self.rank(sibling), rank).is_lt());
            all.insert(at, next);
        }
        all
    }

    fn next_in_chain(&self, elem: Elem, side: Side) -> Option<Elem> {
        if elem == NONE {
            return None;
        }
        let chain = self.births.chain(self.births.row_of(elem));
        (chain.inner_side() == side && elem + 1 < chain.end).then_some(elem + 1)
    }

    /// The element next to the left of `elem`, which has left children.
    pub(crate) fn last_below_left(&mut self, elem: Elem) -> Elem {
        self.know_children();
        let children = self.children_of(elem, Side::Left);
        self.rightmost(*children.last().expect("the element has left children"))
    }

    /// The leftmost element below `elem`, which may be itself.
    fn leftmost(&self, elem: Elem) -> Elem {
        self.outermost(elem, Side::Left, |children| children.first())
    }

    /// The rightmost element below `elem`, which may be itself.
    fn rightmost(&self, elem: Elem) -> Elem {
        self.outermost(elem, Side::Right, |children| children.last())
    }

    fn outermost(&self, elem: Elem, side: Side, pick: fn(&[Elem]) -> Option<&Elem>) -> Elem {
        let mut at = elem;
        loop {
            let children = self.children_of(at, side);
            let Some(&child) = pick(&children) else {
                return at;
            };
            let in_chain = children.len() == 1 && self.next_in_chain(at, side) == Some(child);
            at = if in_chain {
                self.skip_chain(child, side)
            } else {
                child
            };
        }
    }

    /// The next element of the chain from `elem` on that has other children on `side`, or its last.
    fn skip_chain(&self, elem: Elem, side: Side) -> Elem {
        let chain = self.births.chain(self.births.row_of(elem));
        let last = chain.end - 1;
        let children = self.children.as_ref().expect("made before the search");
        // Both sides of a parent are neighbours in the map, so at most every second one is not asked for.
        children
            .of
            .range((elem, Side::Left)..=(last, Side::Right))
            .find(|((_, on), _)| *on == side)
            .map_or(last, |((parent, _), _)| *parent)
    }

    pub(crate) fn rank(&self, elem: Elem) -> Rank {
        let (session, number) = self.origin(elem);
        let log = &self.logs[session as usize];
        let (tx, _) = log.tx_of(log.item_of(number));
        Rank {
            lamport: log.lamport_of(tx),
            session,
            number,
        }
    }

    pub(crate) fn compare(&self, a: Rank, b: Rank) -> Ordering {
        let name = |rank: Rank| &self.logs[rank.session as usize].id;
        a.lamport
            .cmp(&b.lamport)
            .then_with(|| {
                if a.session == b.session {
                    Ordering::Equal
                } else {
                    name(a).cmp(name(b))
                }
            })
            .then(a.number.cmp(&b.number))
    }

    /// Brings `count` new elements into the order at the place `at`: the first a child of `parent`,
    /// each next one of the one before. `lamport` is their transaction's counter.
    #[inline]
    pub(crate) fn bear(&mut self, at: Point, entry: Entry, parent: Elem, side: Side, lamport: u32) {
        let (first, count) = (entry.lo, entry.len());
        let backward = entry.is_reversed();
        let rows = self.births.rows();
        let joins = self.joins_last;
        self.births
            .push(count, parent, side, backward, joins && !entry.is_slot());
        self.joins_last = !entry.is_slot();
        if parent != NONE {
            if side == Side::Right {
                self.right.set(parent)
            } else {
                self.left.set(parent)
            }
        }
        if count > 1 {
            let inner = if backward {
                &mut self.left
            } else {
                &mut self.right
            };
            inner.set_range(first, first + count - 1);
        }
        self.tree.insert(at, entry);
        if self.children.is_some() && self.births.rows() > rows {
            self.note_child(first, parent, side, lamport);
        }
    }
}
