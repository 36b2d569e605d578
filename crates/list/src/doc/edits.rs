//! This copy's own edits: by position, or beside an element.

use super::{Change, Doc, Moved, SetValues};
use crate::births::Side;
use crate::content::Content;
use crate::order::Rank;
use crate::tree::{Elem, Entry, Point};
use std::ops::Range;

impl<C: Content> Doc<C> {
    /// Inserts `items` so that the first stands at `position`, and says how many they were. The
    /// caller has checked position, room and permission, and commits.
    #[inline]
    pub(crate) fn insert(&mut self, position: u32, items: &C::Slice) -> u32 {
        if let Some(count) = self.type_on(position, items) {
            return count;
        }
        let (at, left) = self.gap(position);
        let (parent, side) = self.local_parent(at, left);
        self.insert_at(at, parent, side, position, items)
    }

    /// The quick way for typing, which is when the element to the left is the newest there is, is this
    /// copy's, and nothing was put after it: the new ones go on in its chain, its entry and its row of
    /// the log, and no place has to be searched.
    #[inline]
    fn type_on(&mut self, position: u32, items: &C::Slice) -> Option<u32> {
        let last = self.births.elems().checked_sub(1)?;
        let mine = self
            .arrivals
            .last()
            .is_some_and(|row| row.session == self.my_log);
        if !mine || !self.joins_last || self.has_right(last) {
            return None;
        }
        let count = C::count(items);
        if !self.births.go_on(0) || !self.tree.type_on(position, last, count) {
            return None;
        }
        self.births.go_on(count);
        self.content.push(items);
        self.right.set_range(last, last + count);
        self.logs[self.my_log as usize].insert(last + 1, count);
        if let Some(changes) = &mut self.changes {
            changes.push(Change {
                position,
                removed: 0,
                added: Some(Entry::shown(last + 1, count)),
            });
        }
        Some(count)
    }

    /// The same next to element `near`, deleted or not: to its right, or to its left.
    pub(crate) fn insert_beside(&mut self, near: Elem, on: Side, items: &C::Slice) -> u32 {
        let (at, parent, side) = self.beside(near, on);
        self.insert_at(at, parent, side, self.tree.position(at), items)
    }

    fn insert_at(
        &mut self,
        at: Point,
        parent: Elem,
        side: Side,
        position: u32,
        items: &C::Slice,
    ) -> u32 {
        let me = self.own_log();
        self.arrive(me);
        let first = self.births.elems();
        let count = self.content.push(items);
        let entry = Entry::shown(first, count);
        self.bear(at, entry, parent, side, self.lamport + 1);
        self.logs[me as usize].insert(first, count);
        if let Some(changes) = &mut self.changes {
            changes.push(Change {
                position,
                removed: 0,
                added: Some(entry),
            });
        }
        count
    }

    /// The place before the element at `position`, and the element to its left.
    #[inline]
    pub(crate) fn gap(&mut self, position: u32) -> (Point, Option<Elem>) {
        if position == 0 {
            return (self.tree.start(), None);
        }
        let at = self.tree.seek(position - 1);
        let left = self.tree.entry(at).at(at.offset);
        (
            Point {
                offset: at.offset + 1,
                ..at
            },
            Some(left),
        )
    }

    /// The place next to `near` on a side, with the parent and the side a new element there gets.
    fn beside(&mut self, near: Elem, on: Side) -> (Point, Elem, Side) {
        let mut at = self.tree.place(near);
        self.tree.forget_hint();
        if on == Side::Right {
            at.offset += 1;
            let (parent, side) = self.local_parent(at, Some(near));
            return (at, parent, side);
        }
        if !self.has_left(near) {
            return (at, near, Side::Left);
        }
        // What stands to the left is below `near`, and nothing is to the right of it below itself.
        (at, self.last_below_left(near), Side::Right)
    }

    /// Deletes the elements at `range`. The caller has checked range and permission, and commits.
    pub(crate) fn delete(&mut self, range: Range<u32>) {
        let me = self.own_log();
        let mut left = range.end - range.start;
        while left > 0 {
            let at = self.tree.seek(range.start);
            let entry = self.tree.entry(at);
            let count = left.min(entry.len() - at.offset);
            let part = entry.part(at.offset, at.offset + count);
            if entry.is_slot() {
                let target = self.moves.slots[&part.lo];
                self.moves
                    .of
                    .entry(target)
                    .and_modify(|moved| moved.deleted = true);
                self.logs[me as usize].delete(target, 1, false);
            } else {
                self.logs[me as usize].delete(part.first(), count, part.is_reversed());
            }
            self.tree
                .set_hidden(at.leaf, at.index, at.offset, at.offset + count, true);
            if let Some(changes) = &mut self.changes {
                changes.push(Change {
                    position: range.start,
                    removed: count,
                    added: None,
                });
            }
            left -= count;
        }
    }

    /// Sets the element at `position`. The caller has checked, and commits.
    pub(crate) fn set(&mut self, position: u32, item: C::Item) {
        let elem = self.elem_at(position);
        let me = self.own_log();
        let rank = self.next_rank(me);
        self.logs[me as usize].set(elem, item.clone());
        self.put_value(elem, item, rank);
        if let Some(changes) = &mut self.changes {
            changes.push(Change {
                position,
                removed: 1,
                added: Some(Entry::shown(elem, 1)),
            });
        }
    }

    /// The rank of the operation this copy is about to make.
    fn next_rank(&self, me: u32) -> Rank {
        Rank {
            lamport: self.lamport + 1,
            session: me,
            number: self.logs[me as usize].items,
        }
    }

    /// Gives `elem` the value of an operation of `rank` unless a later one gave it another; whether
    /// it did.
    pub(crate) fn put_value(&mut self, elem: Elem, item: C::Item, rank: Rank) -> bool {
        match self.sets.get(&elem) {
            Some(set) if self.compare(set.winner, rank).is_gt() => false,
            Some(_) => {
                self.content.replace(elem, item);
                self.sets.entry(elem).and_modify(|set| set.winner = rank);
                true
            }
            None => {
                let inserted = self.content.replace(elem, item);
                self.sets.insert(
                    elem,
                    SetValues {
                        inserted,
                        winner: rank,
                    },
                );
                true
            }
        }
    }

    /// Moves the element at `from` so that it stands at `to` afterwards. The caller has checked, and
    /// commits.
    pub(crate) fn move_to(&mut self, from: u32, to: u32) {
        let elem = self.elem_at(from);
        let (at, left) = self.gap(if to <= from { to } else { to + 1 });
        let (parent, side) = self.local_parent(at, left);
        self.move_into(elem, at, parent, side);
    }

    /// Moves `elem`, which is shown, next to `near`, shown or not.
    pub(crate) fn move_beside(&mut self, elem: Elem, near: Elem, on: Side) {
        let (at, parent, side) = self.beside(near, on);
        self.move_into(elem, at, parent, side);
    }

    fn move_into(&mut self, elem: Elem, at: Point, parent: Elem, side: Side) {
        let me = self.own_log();
        self.arrive(me);
        let slot = self.births.elems();
        self.content.push_empty();
        let entry = Entry::shown(slot, 1).slot().with_hidden(true);
        self.bear(at, entry, parent, side, self.lamport + 1);
        self.logs[me as usize].moved(elem, slot);
        self.moves.slots.insert(slot, elem);
        let from = self.slot_of(elem);
        self.moves.of.insert(
            elem,
            Moved {
                slot,
                deleted: false,
            },
        );
        self.show(from, false);
        self.show(slot, true);
        self.tree.forget_hint();
    }

    /// Shows or hides the one element at a place, if it is not so already.
    pub(crate) fn show(&mut self, place: Elem, shown: bool) -> bool {
        let at = self.tree.place(place);
        let entry = self.tree.entry(at);
        if entry.is_hidden() != shown {
            return false;
        }
        if self.changes.is_some() {
            let position = self.tree.position(at);
            let added =
                shown.then(|| self.shown(entry.part(at.offset, at.offset + 1).with_hidden(false)));
            let change = Change {
                position,
                removed: u32::from(!shown),
                added,
            };
            self.changes.get_or_insert_default().push(change);
        }
        self.tree
            .set_hidden(at.leaf, at.index, at.offset, at.offset + 1, !shown);
        true
    }
}
