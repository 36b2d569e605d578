//! An entry of the tree: consecutive elements that stand side by side and share their state.

/// An element's number in this copy of the list: dense, in order of arrival.
#[allow(unreachable_pub, reason = "named by the sealed trait `Content`")]
pub type Elem = u32;

/// No element; as a parent, the root of the order.
pub(crate) const NONE: Elem = u32::MAX;

/// The most elements a list can have had, ever. Numbers stay below 2^29 so that flags fit beside them.
pub(crate) const MAX_ELEMS: u32 = (1 << 29) - 1;

const HIDDEN: u32 = 1 << 31;
const REVERSED: u32 = 1 << 30;
const SLOT: u32 = 1 << 29;
const LEN: u32 = SLOT - 1;

/// Elements `lo .. lo + len`, ascending from left to right or, reversed, descending. All of them are
/// shown or all are hidden (deleted, moved away, refused). A slot is the place a moved element
/// stands at; its content is another element's.
#[allow(unreachable_pub, reason = "named by the sealed trait `Content`")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    pub(crate) lo: Elem,
    bits: u32,
}

impl Entry {
    #[inline]
    pub(crate) fn shown(lo: Elem, len: u32) -> Self {
        Self { lo, bits: len }
    }

    pub(crate) fn reversed(self) -> Self {
        Self {
            bits: self.bits | REVERSED,
            ..self
        }
    }

    pub(crate) fn slot(self) -> Self {
        Self {
            bits: self.bits | SLOT,
            ..self
        }
    }

    #[inline]
    pub(crate) fn with_hidden(self, hidden: bool) -> Self {
        Self {
            bits: if hidden {
                self.bits | HIDDEN
            } else {
                self.bits & !HIDDEN
            },
            ..self
        }
    }

    #[inline]
    pub(crate) fn len(self) -> u32 {
        self.bits & LEN
    }

    #[inline]
    pub(crate) fn is_hidden(self) -> bool {
        self.bits & HIDDEN != 0
    }

    #[inline]
    pub(crate) fn is_reversed(self) -> bool {
        self.bits & REVERSED != 0
    }

    #[inline]
    pub(crate) fn is_slot(self) -> bool {
        self.bits & SLOT != 0
    }

    #[inline]
    pub(crate) fn visible_len(self) -> u32 {
        if self.is_hidden() { 0 } else { self.len() }
    }

    /// One past the highest number.
    #[inline]
    pub(crate) fn end(self) -> Elem {
        self.lo + self.len()
    }

    #[inline]
    pub(crate) fn contains(self, elem: Elem) -> bool {
        elem.wrapping_sub(self.lo) < self.len()
    }

    /// The element `offset` places from the left.
    #[inline]
    pub(crate) fn at(self, offset: u32) -> Elem {
        if self.is_reversed() {
            self.end() - 1 - offset
        } else {
            self.lo + offset
        }
    }

    #[inline]
    pub(crate) fn first(self) -> Elem {
        self.at(0)
    }

    #[inline]
    pub(crate) fn last(self) -> Elem {
        self.at(self.len() - 1)
    }

    /// How many places from the left `elem` stands.
    #[inline]
    pub(crate) fn offset_of(self, elem: Elem) -> u32 {
        if self.is_reversed() {
            self.end() - 1 - elem
        } else {
            elem - self.lo
        }
    }

    /// The elements from `from` to before `to`, counted from the left.
    #[inline]
    pub(crate) fn part(self, from: u32, to: u32) -> Self {
        let lo = if self.is_reversed() {
            self.end() - to
        } else {
            self.lo + from
        };
        Self {
            lo,
            bits: (self.bits & !LEN) | (to - from),
        }
    }

    /// Adds `count` elements to the right of `last`, if that is the last here and they may follow it.
    #[inline]
    pub(crate) fn grow_after(&mut self, last: Elem, count: u32) -> bool {
        let grows = self.bits & (HIDDEN | SLOT) == 0
            && self.end().wrapping_sub(1) == last
            && (self.bits & REVERSED == 0 || self.len() == 1)
            && self.len() + count <= LEN;
        if grows {
            self.bits = (self.bits & !REVERSED) + count;
        }
        grows
    }

    /// The two as one entry, where `left` stands just left of `right`.
    #[inline]
    pub(crate) fn join(left: Self, right: Self) -> Option<Self> {
        const STATE: u32 = HIDDEN | SLOT;
        if (left.bits ^ right.bits) & STATE != 0 || left.is_slot() || left.len() + right.len() > LEN
        {
            return None;
        }
        let one_way = |reversed: bool| {
            (left.len() == 1 || left.is_reversed() == reversed)
                && (right.len() == 1 || right.is_reversed() == reversed)
        };
        let (state, len) = (left.bits & HIDDEN, left.len() + right.len());
        if left.end() == right.lo && one_way(false) {
            return Some(Self {
                lo: left.lo,
                bits: state | len,
            });
        }
        if right.end() == left.lo && one_way(true) {
            return Some(Self {
                lo: right.lo,
                bits: state | REVERSED | len,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elems(entry: Entry) -> Vec<Elem> {
        (0..entry.len()).map(|offset| entry.at(offset)).collect()
    }

    #[test]
    fn parts_and_joins_keep_every_element_in_its_place() {
        for entry in [
            Entry::shown(7, 5),
            Entry::shown(7, 5).reversed(),
            Entry::shown(7, 5).with_hidden(true),
        ] {
            for cut in 1..5 {
                let (left, right) = (entry.part(0, cut), entry.part(cut, 5));
                let both: Vec<Elem> = elems(left).into_iter().chain(elems(right)).collect();
                assert_eq!(both, elems(entry));
                assert_eq!(Entry::join(left, right).map(elems), Some(elems(entry)));
                assert_eq!(Entry::join(right, left), None);
            }
            for elem in 7..12 {
                assert_eq!(entry.at(entry.offset_of(elem)), elem);
            }
        }
    }

    #[test]
    fn entries_of_different_state_do_not_join() {
        let (left, right) = (Entry::shown(0, 2), Entry::shown(2, 2));
        assert!(Entry::join(left, right).is_some());
        assert_eq!(Entry::join(left.with_hidden(true), right), None);
        assert_eq!(Entry::join(left.slot(), right.slot()), None);
        assert_eq!(Entry::join(left, right.reversed()), None);
    }
}
