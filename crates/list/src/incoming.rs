//! A part of a message on its way in: how far it was taken, and what is left of it. It knows nothing of
//! the list; [`crate::apply`] drives it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::births::Side;
use crate::content::Content;
use crate::id::Session;
use crate::update::{LAST, Name, Op, Part};

/// A part on its way in, and how far it is.
pub(crate) struct Incoming<'a, C: Content> {
    pub(crate) sessions: Arc<[Session]>,
    /// The local indices of `sessions`, as far as they are known.
    pub(crate) locals: Locals,
    pub(crate) part: Cow<'a, Part<C>>,
    /// Transactions, operations, items of the operation at hand and content that are done.
    pub(crate) txs: u32,
    pub(crate) op: usize,
    pub(crate) op_done: u32,
    pub(crate) content_at: usize,
    pub(crate) dependency: usize,
    /// The stretches of sizes and times at hand, and how much of each is done.
    pub(crate) size: (usize, u32),
    pub(crate) time: (usize, u32),
}

/// As much of an operation as is within a transaction.
pub(crate) struct Piece<'a, V> {
    pub(crate) op: &'a Op<V>,
    pub(crate) skip: u32,
    pub(crate) count: u32,
}

pub(crate) const UNKNOWN: u32 = u32::MAX;

/// The local indices of a message's sessions: of the few that most messages name without an allocation.
pub(crate) struct Locals {
    few: [u32; 4],
    many: Vec<u32>,
}

impl Locals {
    pub(crate) fn unknown(sessions: usize) -> Self {
        let few = [UNKNOWN; 4];
        let many = if sessions > few.len() {
            vec![UNKNOWN; sessions]
        } else {
            Vec::new()
        };
        Self { few, many }
    }

    #[inline]
    pub(crate) fn get(&self, session: u32) -> u32 {
        let all = if self.many.is_empty() {
            &self.few[..]
        } else {
            &self.many
        };
        all[session as usize]
    }

    #[inline]
    pub(crate) fn set(&mut self, session: u32, local: u32) {
        let all = if self.many.is_empty() {
            &mut self.few[..]
        } else {
            &mut self.many
        };
        all[session as usize] = local;
    }
}

impl<'a, C: Content> Incoming<'a, C> {
    pub(crate) fn new(sessions: Arc<[Session]>, part: Cow<'a, Part<C>>) -> Self {
        let locals = Locals::unknown(sessions.len());
        Self {
            sessions,
            locals,
            part,
            txs: 0,
            op: 0,
            op_done: 0,
            content_at: 0,
            dependency: 0,
            size: (0, 0),
            time: (0, 0),
        }
    }

    pub(crate) fn next_tx(&self) -> u32 {
        self.part.first_tx + self.txs
    }

    pub(crate) fn is_done(&self) -> bool {
        self.txs == self.part.txs
    }

    /// The next stretch of at most `limit` transactions of one size and one time: how many, of how
    /// many items, and when. Counts it as done.
    pub(crate) fn next_stretch(&mut self, limit: u32) -> (u32, u32, u64) {
        let (count, per_tx) = self.part.sizes[self.size.0];
        let (at_once, time) = self.part.times[self.time.0];
        let txs = limit.min(count - self.size.1).min(at_once - self.time.1);
        self.size.1 += txs;
        if self.size.1 == count {
            self.size = (self.size.0 + 1, 0);
        }
        self.time.1 += txs;
        if self.time.1 == at_once {
            self.time = (self.time.0 + 1, 0);
        }
        self.txs += txs;
        (txs, per_tx, time)
    }

    /// Walks the operations of the next `items` items without counting them as done.
    pub(crate) fn pieces(&self, items: u32) -> impl Iterator<Item = Piece<'_, C::Item>> {
        let (mut op, mut skip, mut left) = (self.op, self.op_done, items);
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let this = &self.part.ops[op];
            let count = left.min(this.items() - skip);
            let piece = Piece {
                op: this,
                skip,
                count,
            };
            left -= count;
            (op, skip) = (op + 1, 0);
            Some(piece)
        })
    }

    /// Counts `items` items of operations as done.
    pub(crate) fn done(&mut self, items: u32) {
        let mut left = items;
        while left > 0 {
            let rest = self.part.ops[self.op].items() - self.op_done;
            if left < rest {
                self.op_done += left;
                return;
            }
            left -= rest;
            (self.op, self.op_done) = (self.op + 1, 0);
        }
    }

    /// Passes over the next `txs` transactions, which are here already.
    pub(crate) fn skip(&mut self, txs: u32, content: &mut C) {
        let end = self.txs + txs;
        while self.txs < end {
            let (count, per_tx, _) = self.next_stretch(end - self.txs);
            let items = count * per_tx;
            let inserted: u32 = self
                .pieces(items)
                .map(|piece| {
                    if matches!(piece.op, Op::Insert { .. }) {
                        piece.count
                    } else {
                        0
                    }
                })
                .sum();
            content.skip_part(&self.part.content, &mut self.content_at, inserted);
            self.done(items);
        }
        let tx = self.next_tx();
        let later = self.part.dependencies[self.dependency..]
            .iter()
            .take_while(|known| known.0 < tx);
        self.dependency += later.count();
    }

    /// What is left, as a part of its own.
    pub(crate) fn rest(self) -> (Arc<[Session]>, Part<C>) {
        let mut part = self.part.into_owned();
        part.first_tx += self.txs;
        part.txs -= self.txs;
        part.sizes.drain(..self.size.0);
        if let Some(first) = part.sizes.first_mut() {
            first.0 -= self.size.1;
        }
        part.times.drain(..self.time.0);
        if let Some(first) = part.times.first_mut() {
            first.0 -= self.time.1;
        }
        part.dependencies.drain(..self.dependency);
        part.first_number += part.ops[..self.op].iter().map(Op::numbers).sum::<u32>();
        part.ops.drain(..self.op);
        part.content = C::rest(&part.content, self.content_at);
        if self.op_done > 0 {
            // Only operations on many elements are cut; an insertion goes on from its own last one,
            // which is named when its transactions have come and numbered it.
            if part.ops[0].numbers() > 0 {
                part.first_number += self.op_done;
            }
            part.ops[0] = cut(&part.ops[0], self.op_done);
        }
        (self.sessions, part)
    }
}

/// The operation without its first `skip` items.
fn cut<V: Clone>(op: &Op<V>, skip: u32) -> Op<V> {
    match op {
        Op::Delete {
            count,
            target,
            backward,
        } => {
            let number = if *backward {
                target.number - skip
            } else {
                target.number + skip
            };
            Op::Delete {
                count: count - skip,
                target: Name { number, ..*target },
                backward: *backward,
            }
        }
        Op::Insert {
            count, backward, ..
        } => {
            let side = if *backward { Side::Left } else { Side::Right };
            Op::Insert {
                count: count - skip,
                parent: Some(LAST),
                side,
                backward: *backward,
            }
        }
        op => op.clone(),
    }
}

impl<C: Content> Incoming<'_, C> {
    /// The items of the transactions from the next one to before `end`.
    pub(crate) fn items_until(&self, end: u32) -> u32 {
        let (mut at, mut done) = self.size;
        let (mut left, mut items) = (end - self.next_tx(), 0);
        while left > 0 {
            let (count, per_tx) = self.part.sizes[at];
            let txs = left.min(count - done);
            items += txs * per_tx;
            left -= txs;
            (at, done) = (at + 1, 0);
        }
        items
    }
}

impl<V> Piece<'_, V> {
    /// The names it needs, of each the lowest and how many from there on.
    #[inline]
    pub(crate) fn needs(&self) -> [Option<(Name, u32)>; 2] {
        match self.op {
            Op::Insert { parent, .. } => [
                parent.filter(|_| self.skip == 0).map(|parent| (parent, 1)),
                None,
            ],
            Op::Delete {
                target,
                count,
                backward: true,
            } => {
                let lowest = Name {
                    number: target.number - (count - 1),
                    ..*target
                };
                [Some((lowest, *count)), None]
            }
            Op::Delete { target, count, .. } => [Some((*target, *count)), None],
            Op::Set { target, .. } => [Some((*target, 1)), None],
            Op::Move { target, parent, .. } => {
                [Some((*target, 1)), parent.map(|parent| (parent, 1))]
            }
        }
    }
}
