//! What each kind of operation of others does.

use super::{Applied, Conflict};
use crate::births::Side;
use crate::content::Content;
use crate::doc::{Change, Doc, Moved};
use crate::incoming::{Incoming, Piece};
use crate::order::Rank;
use crate::tree::{Elem, Entry, NONE};
use crate::update::Name;

impl<C: Content> Doc<C> {
    pub(crate) fn new_entry(&mut self, log: u32, count: u32, backward: bool) -> Entry {
        self.arrive(log);
        let entry = Entry::shown(self.births.elems(), count);
        if backward && count > 1 {
            entry.reversed()
        } else {
            entry
        }
    }

    /// The rank of the item about to be noted in `log`, whose transaction is counted already.
    pub(super) fn rank_of_next(&self, log: u32) -> Rank {
        let number = self.logs[log as usize].items;
        let (tx, _) = self.logs[log as usize].tx_of(number);
        Rank {
            lamport: self.logs[log as usize].lamport_of(tx),
            session: log,
            number,
        }
    }

    pub(crate) fn take_insert(&mut self, entry: Entry, parent: Elem, side: Side, log: u32) {
        let free = match side {
            _ if parent == NONE => self.births.elems() == 0,
            Side::Right => !self.has_right(parent),
            Side::Left => !self.has_left(parent),
        };
        let mut lamport = 0;
        if !free || self.children.is_some() {
            lamport = self.rank_of_next(log).lamport;
        }
        let at = if free {
            self.place_of_lone_child(parent, side)
        } else {
            let number = self.logs[log as usize].numbers;
            self.place_among(
                parent,
                side,
                Rank {
                    lamport,
                    session: log,
                    number,
                },
            )
        };
        if self.changes.is_some() && !entry.is_hidden() {
            let position = if self.births.elems() == 0 {
                0
            } else {
                self.tree.position(at)
            };
            self.changes.get_or_insert_default().push(Change {
                position,
                removed: 0,
                added: Some(entry),
            });
        }
        self.bear(at, entry, parent, side, lamport);
    }

    pub(super) fn take_delete(
        &mut self,
        target: Name,
        piece: &Piece<'_, C::Item>,
        backward: bool,
        incoming: &Incoming<'_, C>,
        log: u32,
        refused: bool,
    ) {
        let of = incoming.locals.get(target.session) as usize;
        let mut left = piece.count;
        // Numbers that follow each other may be elements that do not, here.
        while left > 0 {
            let done = piece.skip + (piece.count - left);
            let (lo, count) = if backward {
                let number = target.number - done;
                let (lo, count) = self.logs[of].stretch_down(number, left);
                (lo, count)
            } else {
                let (lo, count) = self.logs[of]
                    .stretch(target.number + done)
                    .expect("the names are known");
                (lo, count.min(left))
            };
            self.logs[log as usize].delete(
                if backward { lo + count - 1 } else { lo },
                count,
                backward,
            );
            if !refused {
                self.hide(lo, lo + count);
            }
            left -= count;
        }
    }

    /// Hides the elements from `lo` to before `end`, wherever they stand.
    pub(crate) fn hide(&mut self, lo: Elem, end: Elem) {
        let mut at = lo;
        while at < end {
            let place = self.tree.place(at);
            let entry = self.tree.entry(place);
            let count = (entry.end() - at).min(end - at);
            if !entry.is_hidden() && !entry.is_slot() {
                let from = if entry.is_reversed() {
                    place.offset + 1 - count
                } else {
                    place.offset
                };
                if self.changes.is_some() {
                    let position = self.tree.position(crate::tree::Point {
                        offset: from,
                        ..place
                    });
                    let change = Change {
                        position,
                        removed: count,
                        added: None,
                    };
                    self.changes.get_or_insert_default().push(change);
                }
                self.tree
                    .set_hidden(place.leaf, place.index, from, from + count, true);
            }
            at += count;
        }
        if self.moves.of.is_empty() {
            return;
        }
        for elem in lo..end {
            if let Some(&Moved {
                slot,
                deleted: false,
            }) = self.moves.of.get(&elem)
            {
                self.moves.of.insert(
                    elem,
                    Moved {
                        slot,
                        deleted: true,
                    },
                );
                self.show(slot, false);
            }
        }
    }

    pub(super) fn take_set(
        &mut self,
        target: Elem,
        value: C::Item,
        rank: Rank,
        applied: &mut Applied,
    ) {
        let before = self.sets.get(&target).map(|set| set.winner);
        let won = self.put_value(target, value, rank);
        if let Some(before) = before {
            let (tx, _) = self.logs[rank.session as usize].tx_of(rank.number);
            let (other, _) = self.logs[before.session as usize].tx_of(before.number);
            if !won || !self.knew(rank.session, tx, before.session, other) {
                let (kept, lost) = if won { (rank, before) } else { (before, rank) };
                let name = |rank: Rank| self.item_id(rank.session, rank.number);
                let element = self.op_id(target);
                applied.conflicts.push(Conflict {
                    element,
                    kept: name(kept),
                    lost: name(lost),
                });
            }
        }
        if won
            && self.changes.is_some()
            && let Some(position) = self.position_of(target)
        {
            let change = Change {
                position,
                removed: 1,
                added: Some(Entry::shown(target, 1)),
            };
            self.changes.get_or_insert_default().push(change);
        }
    }

    pub(crate) fn take_move(&mut self, target: Elem, slot: Elem, applied: &mut Applied) {
        let before = self.moves.of.get(&target).copied();
        let (won, from, deleted) = match before {
            Some(moved) => (
                self.compare(self.rank(moved.slot), self.rank(slot)).is_lt(),
                moved.slot,
                moved.deleted,
            ),
            None => {
                let place = self.tree.place(target);
                (true, target, self.tree.entry(place).is_hidden())
            }
        };
        if let Some(moved) = before {
            let ((by, _), (other, _)) = (self.origin(slot), self.origin(moved.slot));
            let (new, old) = (self.op_id(slot), self.op_id(moved.slot));
            if !won || !self.knew(by, new.tx, other, old.tx) {
                let (kept, lost) = if won { (new, old) } else { (old, new) };
                applied.conflicts.push(Conflict {
                    element: self.op_id(target),
                    kept,
                    lost,
                });
            }
        }
        if won {
            self.moves.of.insert(target, Moved { slot, deleted });
            if !deleted {
                self.show(from, false);
                self.show(slot, true);
            }
        }
    }
}
