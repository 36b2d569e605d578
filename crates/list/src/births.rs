//! How elements came into the order: for each, the element it is a child of and on which side. An
//! unbroken run of elements, each the child of the one before, is one row.

use crate::tree::{Elem, NONE};

/// On which side of its parent an element stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub(crate) enum Side {
    Left,
    Right,
}

/// The elements from `elem` on, up to the next row.
#[derive(Clone, Copy, Debug)]
struct Birth {
    elem: Elem,
    /// The parent of the first; flags above.
    link: u32,
}

const RIGHT: u32 = 1 << 31;
const BACKWARD: u32 = 1 << 30;
const ROOT: u32 = BACKWARD - 1;

/// One row, spelled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) first: Elem,
    pub(crate) end: Elem,
    /// Parent of the first element; [`NONE`] is the root.
    pub(crate) parent: Elem,
    pub(crate) side: Side,
    /// Each next element is the left child of the one before, not the right.
    pub(crate) backward: bool,
}

impl Chain {
    /// The side on which each element of the chain but the last has the next.
    pub(crate) fn inner_side(self) -> Side {
        if self.backward {
            Side::Left
        } else {
            Side::Right
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Births {
    rows: Vec<Birth>,
    elems: u32,
}

impl Births {
    /// How many elements there are.
    #[inline]
    pub(crate) fn elems(&self) -> u32 {
        self.elems
    }

    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            elems: 0,
        }
    }

    /// Adds `count` new elements: the first a child of `parent`, each next one a child of the one
    /// before, to its right or, `backward`, to its left. `joins` says whether the first may continue
    /// the last row, which takes that both are of one session.
    #[inline]
    pub(crate) fn push(
        &mut self,
        count: u32,
        parent: Elem,
        side: Side,
        backward: bool,
        joins: bool,
    ) -> Elem {
        let first = self.elems;
        self.elems += count;
        if joins
            && first > 0
            && parent == first - 1
            && let Some(last) = self.rows.last_mut()
        {
            let lone = first - last.elem == 1;
            let was_backward = last.link & BACKWARD != 0;
            let wants_backward = side == Side::Left;
            let agrees = count == 1 || backward == wants_backward;
            if agrees && (lone || was_backward == wants_backward) {
                if lone && wants_backward {
                    last.link |= BACKWARD;
                }
                return first;
            }
        }
        let parent = if parent == NONE { ROOT } else { parent };
        let side = if side == Side::Right { RIGHT } else { 0 };
        let backward = if backward && count > 1 { BACKWARD } else { 0 };
        self.rows.push(Birth {
            elem: first,
            link: parent | side | backward,
        });
        first
    }

    /// Adds `count` elements to the last chain, each the right child of the one before, if that chain
    /// goes this way.
    #[inline]
    pub(crate) fn go_on(&mut self, count: u32) -> bool {
        let goes_on = self
            .rows
            .last()
            .is_some_and(|last| last.link & BACKWARD == 0);
        if goes_on {
            self.elems += count;
        }
        goes_on
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn chain(&self, row: usize) -> Chain {
        let birth = self.rows[row];
        let parent = birth.link & ROOT;
        Chain {
            first: birth.elem,
            end: self.rows.get(row + 1).map_or(self.elems, |next| next.elem),
            parent: if parent == ROOT { NONE } else { parent },
            side: if birth.link & RIGHT != 0 {
                Side::Right
            } else {
                Side::Left
            },
            backward: birth.link & BACKWARD != 0,
        }
    }

    pub(crate) fn row_of(&self, elem: Elem) -> usize {
        self.rows.partition_point(|row| row.elem <= elem) - 1
    }

    /// The parent of `elem` and the side it is on.
    pub(crate) fn parent(&self, elem: Elem) -> (Elem, Side) {
        let chain = self.chain(self.row_of(elem));
        if elem == chain.first {
            (chain.parent, chain.side)
        } else {
            (elem - 1, chain.inner_side())
        }
    }

    pub(crate) fn chains(&self) -> impl Iterator<Item = Chain> + '_ {
        (0..self.rows.len()).map(|row| self.chain(row))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Birth>()
    }
}
