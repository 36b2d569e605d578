//! Undo and redo of this copy's own transactions. An undo is a transaction like any other: what was
//! inserted is deleted, what was deleted comes back as new elements where it was, and what was set or
//! moved goes back unless somebody set or moved it since.

use std::collections::HashMap;
use std::ops::Range;

use crate::births::Side;
use crate::content::Content;
use crate::doc::Doc;
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::log::{Revised, Revision};
use crate::order::Rank;
use crate::permit::{Action, Request};
use crate::sequence::Sequence;
use crate::tree::{Elem, Entry};

/// Transactions as ranges: typing undisturbed is one.
#[derive(Clone, Debug, Default)]
struct Stack {
    ranges: Vec<Range<u32>>,
}

impl Stack {
    fn push(&mut self, tx: u32) {
        match self.ranges.last_mut() {
            Some(last) if last.end == tx => last.end += 1,
            _ => self.ranges.push(tx..tx + 1),
        }
    }

    fn extend(&mut self, tx: Option<u32>) {
        if let Some(tx) = tx {
            self.push(tx);
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let last = self.ranges.last_mut()?;
        last.end -= 1;
        let tx = last.end;
        if last.start == last.end {
            self.ranges.pop();
        }
        Some(tx)
    }
}

/// What can be undone and redone here.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    done: Stack,
    undone: Stack,
    /// Transactions that are in neither: undos, and redos that were undone.
    seen: u32,
    /// Deleted elements that came back as others.
    reborn: HashMap<Elem, Elem>,
}

impl<C: Content> Sequence<C> {
    /// Takes back this session's last transaction that was not taken back yet; whether there was one.
    /// Others' edits stay.
    ///
    /// # Errors
    /// [`Full`](crate::Error::Full), [`Refused`](crate::Error::Refused); nothing is changed then.
    pub fn undo(&mut self) -> Result<bool> {
        self.note_own();
        let Some(tx) = self.history.done.pop() else {
            return Ok(false);
        };
        match self.invert(tx) {
            Ok(new) => self.history.undone.extend(new),
            Err(error) => {
                self.history.done.push(tx);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Makes again what the last undo took back, unless something was edited since; whether there was
    /// anything.
    ///
    /// # Errors
    /// As [`undo`](Self::undo).
    pub fn redo(&mut self) -> Result<bool> {
        self.note_own();
        let Some(tx) = self.history.undone.pop() else {
            return Ok(false);
        };
        match self.invert(tx) {
            Ok(new) => self.history.done.extend(new),
            Err(error) => {
                self.history.undone.push(tx);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Puts the session's transactions since the last call on the stack of what can be undone.
    fn note_own(&mut self) {
        let Some(log) = self.doc.own_log_if_any() else {
            return;
        };
        let txs = self.doc.logs[log as usize].txs;
        if self.history.seen < txs {
            for tx in self.history.seen..txs {
                self.history.done.push(tx);
            }
            self.history.undone = Stack::default();
            self.history.seen = txs;
        }
    }

    /// Makes the opposite of the session's transaction `tx`; the transaction that is, if it changed
    /// anything.
    fn invert(&mut self, tx: u32) -> Result<Option<u32>> {
        let me = self.doc.own_log();
        let before = self.before_many();
        let items = self.doc.logs[me as usize].items;
        self.doc.tree.know_places();
        let inverted = self.doc.invert(me, tx, &mut self.history.reborn);
        self.doc.tree.forget_hint();
        inverted?;
        let count = self.doc.logs[me as usize].items - items;
        self.doc.commit(count);
        self.tell(Origin::Undo, before.as_ref());
        self.history.seen = self.doc.logs[me as usize].txs;
        Ok((count > 0).then(|| self.history.seen - 1))
    }
}

impl<C: Content> Doc<C> {
    fn invert(&mut self, me: u32, tx: u32, reborn: &mut HashMap<Elem, Elem>) -> Result<()> {
        let log = &self.logs[me as usize];
        let items = log.item_at(tx)..log.item_at(tx + 1);
        self.room(items.len())?;
        let mut inserted: Vec<Range<Elem>> = Vec::new();
        for run in log.inserts[log
            .inserts
            .partition_point(|run| run.item + run.len <= items.start)..]
            .iter()
        {
            let (from, to) = (
                run.item.max(items.start),
                (run.item + run.len).min(items.end),
            );
            if from >= to {
                break;
            }
            let mut number = run.number + (from - run.item);
            let end = run.number + (to - run.item);
            while number < end {
                let Some((elem, len)) = log.stretch(number) else {
                    break;
                };
                let len = len.min(end - number);
                inserted.push(elem..elem + len);
                number += len;
            }
        }
        let mut deleted: Vec<Range<Elem>> = Vec::new();
        for run in log.deletes[log
            .deletes
            .partition_point(|run| run.item + run.len() <= items.start)..]
            .iter()
        {
            let (from, to) = (
                run.item.max(items.start),
                (run.item + run.len()).min(items.end),
            );
            if from >= to {
                break;
            }
            let lo = run.lowest(from - run.item, to - from);
            deleted.push(lo..lo + (to - from));
        }
        let revised: Vec<_> = log.revisions[log
            .revisions
            .partition_point(|revision| revision.item < items.start)..]
            .iter()
            .take_while(|revision| revision.item < items.end)
            .cloned()
            .collect();
        self.ask_to_invert(me, &inserted, &deleted, &revised)?;
        for revision in revised.into_iter().rev() {
            self.revert(me, revision.item, revision.target, &revision.what, reborn);
        }
        for range in deleted.into_iter().rev() {
            self.bring_back(me, range, reborn);
        }
        for range in inserted.into_iter().rev() {
            self.take_back(me, range, reborn);
        }
        Ok(())
    }

    /// Asks the permission check, if there is one, about everything that taking back these changes may
    /// do.
    fn ask_to_invert(
        &self,
        me: u32,
        inserted: &[Range<Elem>],
        deleted: &[Range<Elem>],
        revised: &[Revision<C::Item>],
    ) -> Result<()> {
        let Some(permit) = &self.permit else {
            return Ok(());
        };
        let by = &self.logs[me as usize].id;
        let count = |ranges: &[Range<Elem>]| {
            ranges
                .iter()
                .map(|range| range.end - range.start)
                .sum::<u32>()
        };
        let mut requests = vec![
            (Action::Delete, me, count(inserted)),
            (Action::Insert, me, count(deleted)),
        ];
        for revision in revised {
            let action = if matches!(revision.what, Revised::Value(_)) {
                Action::Set
            } else {
                Action::Move
            };
            requests.push((action, self.origin(revision.target).0, 1));
        }
        for (action, of, count) in requests.into_iter().filter(|request| request.2 > 0) {
            let request = Request {
                by,
                time: self.time,
                action,
                of: &self.logs[of as usize].id,
                count,
            };
            permit(&request).map_err(|reason| Error::Refused {
                author: by.author().to_owned(),
                reason,
            })?;
        }
        Ok(())
    }

    /// The element that `elem` lives on as.
    fn living(elem: Elem, reborn: &HashMap<Elem, Elem>) -> Elem {
        let mut at = elem;
        while let Some(&next) = reborn.get(&at) {
            at = next;
        }
        at
    }

    /// Deletes elements, those that are still there.
    fn take_back(&mut self, me: u32, range: Range<Elem>, reborn: &HashMap<Elem, Elem>) {
        for elem in range {
            if self.moves.slots.contains_key(&elem) {
                continue;
            }
            let elem = Self::living(elem, reborn);
            if self.position_of(elem).is_some() {
                self.logs[me as usize].delete(elem, 1, false);
                self.hide(elem, elem + 1);
            }
        }
    }

    /// Puts deleted elements' contents back, those that nobody else deleted too.
    fn bring_back(&mut self, me: u32, range: Range<Elem>, reborn: &mut HashMap<Elem, Elem>) {
        // One stretch of elements side by side comes back as one insertion.
        let mut at = range.start;
        while at < range.end {
            let place = self.tree.place(at);
            let entry = self.tree.entry(place);
            let mut end = at + 1;
            let mine = |doc: &Self, elem| {
                !doc.moves.of.contains_key(&elem) && !doc.deleted_by_another(me, elem)
            };
            if !mine(self, at) && !self.moves.of.contains_key(&at)
                || self.position_of(Self::living(at, reborn)).is_some()
            {
                at += 1;
                continue;
            }
            if mine(self, at) {
                while end < range.end.min(entry.end())
                    && mine(self, end)
                    && !reborn.contains_key(&end)
                {
                    end += 1;
                }
            }
            let mut part = Entry::shown(at, end - at);
            if entry.is_reversed() && end - at > 1 {
                part = part.reversed();
            }
            let mut items = C::Owned::default();
            self.content.read(part, &mut items);
            let near = self.slot_of(part.last());
            let first = self.births.elems();
            self.insert_beside(Self::living(near, reborn), Side::Right, C::borrow(&items));
            for offset in 0..part.len() {
                reborn.insert(Self::living(part.at(offset), reborn), first + offset);
            }
            at = end;
        }
    }

    fn deleted_by_another(&self, me: u32, elem: Elem) -> bool {
        self.logs.iter().enumerate().any(|(session, log)| {
            session as u32 != me
                && log.deletes.iter().any(|run| {
                    let lo = run.lowest(0, run.len());
                    (lo..lo + run.len()).contains(&elem) && !log.is_refused(log.tx_of(run.item).0)
                })
        })
    }

    /// Undoes a set or a move, if it is the one that counts.
    fn revert(
        &mut self,
        me: u32,
        item: u32,
        target: Elem,
        what: &Revised<C::Item>,
        reborn: &HashMap<Elem, Elem>,
    ) {
        let living = Self::living(target, reborn);
        let Some(position) = self.position_of(living) else {
            return;
        };
        match what {
            Revised::Value(_) => {
                let counts = self
                    .sets
                    .get(&target)
                    .is_some_and(|set| set.winner.session == me && set.winner.number == item);
                if living == target && !counts {
                    return;
                }
                let before = self.value_before(me, item, target);
                self.set(position, before);
            }
            Revised::Place(slot) => {
                if self.slot_of(target) == *slot && living == target {
                    let before = self.place_before(me, item, target);
                    self.move_beside(target, before, Side::Right);
                }
            }
        }
    }

    /// Sets and moves of `target` but the one at `item` of `me`, the one of highest rank last.
    fn other_revisions(&self, me: u32, item: u32, target: Elem) -> Vec<(Rank, &Revised<C::Item>)> {
        let mut others = Vec::new();
        for (session, log) in self.logs.iter().enumerate() {
            for revision in log
                .revisions
                .iter()
                .filter(|revision| revision.target == target)
            {
                let (tx, _) = log.tx_of(revision.item);
                if log.is_refused(tx) || (session as u32 == me && revision.item >= item) {
                    continue;
                }
                let rank = Rank {
                    lamport: log.lamport_of(tx),
                    session: session as u32,
                    number: revision.item,
                };
                others.push((rank, &revision.what));
            }
        }
        others.sort_by(|a, b| self.compare(a.0, b.0));
        others
    }

    fn value_before(&self, me: u32, item: u32, target: Elem) -> C::Item {
        let others = self.other_revisions(me, item, target);
        let last = others.into_iter().rev().find_map(|(_, what)| match what {
            Revised::Value(value) => Some(value.clone()),
            Revised::Place(_) => None,
        });
        last.unwrap_or_else(|| self.sets[&target].inserted.clone())
    }

    fn place_before(&self, me: u32, item: u32, target: Elem) -> Elem {
        let others = self.other_revisions(me, item, target);
        let last = others.into_iter().rev().find_map(|(_, what)| match what {
            Revised::Place(slot) => Some(*slot),
            Revised::Value(_) => None,
        });
        last.unwrap_or(target)
    }
}
