//! From an element to its place.

use super::places::Places;
use super::{Elem, Point, Tree};

/// How many entries are remembered that somebody asked for.
const RECENT: usize = 4;

/// Where elements were asked for lately: whoever types names the element typed last, and a few may
/// type at once. The entries may have moved since, so each is looked at before it is believed.
#[derive(Clone, Copy, Default)]
pub(super) struct Recent {
    at: [(u32, u32); RECENT],
    /// Which one is forgotten next.
    oldest: u8,
}

impl Tree {
    /// The place of `elem`, which must be in the tree.
    #[inline]
    pub(crate) fn place(&mut self, elem: Elem) -> Point {
        for (leaf, index) in self.recent.at {
            if let Some(node) = self.leaves.get(leaf as usize)
                && let Some(entry) = node.entries[..node.len as usize].get(index as usize)
                && entry.contains(elem)
            {
                return Point {
                    leaf,
                    index: index as usize,
                    offset: entry.offset_of(elem),
                };
            }
        }
        self.look_up(elem)
    }

    fn look_up(&mut self, elem: Elem) -> Point {
        self.know_places();
        let at = self
            .place_if_known(elem)
            .expect("every element has a place, and places are known");
        let Recent { at: recent, oldest } = &mut self.recent;
        recent[*oldest as usize] = (at.leaf, at.index as u32);
        *oldest = (*oldest + 1) % RECENT as u8;
        at
    }

    /// The place of `elem`, for those who cannot wait for the index to be made: a search of all
    /// entries where there is none.
    pub(crate) fn place_of(&self, elem: Elem) -> Option<Point> {
        if self.places.is_some() {
            return self.place_if_known(elem);
        }
        (0..self.leaves.len() as u32).find_map(|leaf| self.in_leaf(leaf, elem))
    }

    #[inline]
    fn place_if_known(&self, elem: Elem) -> Option<Point> {
        self.in_leaf(self.places.as_ref()?.leaf(elem)?, elem)
    }

    #[inline]
    pub(super) fn in_leaf(&self, leaf: u32, elem: Elem) -> Option<Point> {
        let entries =
            &self.leaves[leaf as usize].entries[..self.leaves[leaf as usize].len as usize];
        let index = entries.iter().position(|entry| entry.contains(elem))?;
        Some(Point {
            leaf,
            index,
            offset: entries[index].offset_of(elem),
        })
    }

    #[inline]
    pub(crate) fn know_places(&mut self) {
        if self.places.is_none() {
            self.make_places();
        }
    }

    #[cold]
    fn make_places(&mut self) {
        let mut places = Places::default();
        for (at, leaf) in self.leaves.iter().enumerate() {
            for entry in &leaf.entries[..leaf.len as usize] {
                places.assign(entry.lo, entry.end(), at as u32);
            }
        }
        self.places = Some(places);
    }
}
