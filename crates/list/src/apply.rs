//! Others' transactions come in: in any order, in any batches, more than once. A transaction is
//! applied when everything it builds on is here; until then it waits.

mod operations;

use std::borrow::Cow;
use std::sync::Arc;

use crate::births::Side;
use crate::content::Content;
use crate::doc::Doc;
use crate::error::{Error, Result};
use crate::id::{OpId, Session};
use crate::incoming::{Incoming, Locals, Piece, UNKNOWN};
use crate::log::Dependency;
use crate::pending::{MAX_PENDING_ITEMS, Missing, Parked};
use crate::permit::{Action, Permit, Request};
use crate::tree::{Elem, NONE};
use crate::update::{LAST, Name, Op, Part};

/// Two operations on one element that did not know of each other: one counts, the other does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The element both set, or both moved.
    pub element: OpId,
    /// The operation that counts, on every copy.
    pub kept: OpId,
    /// The operation that does not.
    pub lost: OpId,
}

/// What came of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Transactions that took effect, among them such as had waited.
    pub transactions: u32,
    /// Transactions that were here already.
    pub known: u32,
    /// Transactions the permission check refused.
    pub refused: u32,
    /// Operations (elements inserted, deleted, set, moved) that wait for others, in all.
    pub pending: usize,
    /// Concurrent sets and moves of one element.
    pub conflicts: Vec<Conflict>,
}

impl Applied {
    pub(crate) fn join(&mut self, other: Self) {
        self.transactions += other.transactions;
        self.known += other.known;
        self.refused += other.refused;
        self.pending = other.pending;
        self.conflicts.extend(other.conflicts);
    }
}

impl<C: Content> Doc<C> {
    /// Applies what can be applied of `update`, and of what waited; the rest waits.
    pub(crate) fn apply(
        &mut self,
        sessions: &Arc<[Session]>,
        parts: &[Part<C>],
    ) -> Result<Applied> {
        let mut applied = Applied::default();
        self.tree.know_places();
        self.hear();
        let incoming = |part| Incoming::new(sessions.clone(), Cow::Borrowed(part));
        if let [part] = parts
            && self.pending.is_empty()
        {
            // Most messages: nothing waits that it could free, and nothing beside it could free it.
            if self.take_lone(sessions, part)? {
                applied.transactions = 1;
                return Ok(applied);
            }
            let mut incoming = incoming(part);
            if let Some(missing) = self.take_in(&mut incoming, &mut applied)? {
                self.park(missing, incoming)?;
            }
            applied.pending = self.pending.items();
            return Ok(applied);
        }
        let mut queue: Vec<_> = parts.iter().map(incoming).collect();
        while !queue.is_empty() {
            let mut blocked = Vec::new();
            let mut progress = Vec::new();
            for mut incoming in queue.drain(..) {
                let before = applied.transactions;
                let missing = self.take_in(&mut incoming, &mut applied)?;
                if applied.transactions > before && !self.pending.is_empty() {
                    progress.push(incoming.sessions[incoming.part.session as usize].clone());
                }
                if let Some(missing) = missing {
                    blocked.push((missing, incoming));
                }
            }
            for session in &progress {
                if self.pending.is_empty() {
                    break;
                }
                let count = self.known_of(session);
                let ready = self.pending.take(session, count);
                queue.extend(
                    ready
                        .into_iter()
                        .map(|parked| Incoming::new(parked.sessions, Cow::Owned(parked.part))),
                );
            }
            for (missing, incoming) in blocked {
                if self.known_of(&missing.session) >= missing.count {
                    queue.push(incoming);
                } else {
                    self.park(missing, incoming)?;
                }
            }
        }
        applied.pending = self.pending.items();
        Ok(applied)
    }

    /// How many of a session's transactions are here.
    fn known_of(&self, session: &Session) -> u32 {
        self.log_of(session)
            .map_or(0, |log| self.logs[log as usize].txs)
    }

    fn park(&mut self, missing: Missing, incoming: Incoming<'_, C>) -> Result<()> {
        let (sessions, part) = incoming.rest();
        let items = part.ops.iter().map(|op| op.items() as usize).sum::<usize>();
        let waiting = self.pending.items() + items;
        if waiting > MAX_PENDING_ITEMS {
            return Err(Error::TooManyPending {
                waiting,
                limit: MAX_PENDING_ITEMS,
            });
        }
        self.pending.park(
            missing,
            Parked {
                sessions,
                part,
                items,
            },
        );
        Ok(())
    }

    /// Applies the part as far as it goes; what it waits for, if it does.
    fn take_in(
        &mut self,
        incoming: &mut Incoming<'_, C>,
        applied: &mut Applied,
    ) -> Result<Option<Missing>> {
        let own = incoming.part.session;
        let here = self
            .known_by(incoming)
            .saturating_sub(incoming.next_tx())
            .min(incoming.part.txs - incoming.txs);
        if here > 0 {
            self.skip_known(incoming, here)?;
            applied.known += here;
        }
        while !incoming.is_done() {
            let tx = incoming.next_tx();
            if self.known_by(incoming) < tx {
                return Ok(Some(Missing {
                    session: incoming.sessions[own as usize].clone(),
                    count: tx,
                }));
            }
            let end = self.segment_end(incoming);
            if let Some(missing) = self.missing(incoming, end)? {
                return Ok(Some(missing));
            }
            let mut log = incoming.locals.get(own);
            if log == UNKNOWN {
                log = self.session_index(&incoming.sessions[own as usize]);
                incoming.locals.set(own, log);
            }
            self.take_segment(incoming, end, log, applied);
        }
        Ok(None)
    }

    /// How many transactions of the part's session are here.
    fn known_by(&self, incoming: &mut Incoming<'_, C>) -> u32 {
        let own = incoming.part.session;
        let local = self.local(&mut incoming.locals, own, &incoming.sessions);
        if local == UNKNOWN {
            0
        } else {
            self.logs[local as usize].txs
        }
    }

    fn skip_known(&mut self, incoming: &mut Incoming<'_, C>, txs: u32) -> Result<()> {
        let log = &self.logs[incoming.locals.get(incoming.part.session) as usize];
        let from = incoming.next_tx();
        let items = log.item_at(from + txs) - log.item_at(from);
        let (op, done) = (incoming.op, incoming.op_done);
        incoming.skip(txs, &mut self.content);
        let passed: u32 = incoming.part.ops[op..incoming.op]
            .iter()
            .map(Op::items)
            .sum();
        if passed + incoming.op_done - done != items {
            return Err(Error::TwoWriters {
                session: log.id.clone(),
                tx: from,
            });
        }
        Ok(())
    }

    /// Transactions up to this one know nothing more than the next one does.
    fn segment_end(&self, incoming: &Incoming<'_, C>) -> u32 {
        if self.permit.is_some() {
            return incoming.next_tx() + 1;
        }
        let tx = incoming.next_tx();
        let rest = &incoming.part.dependencies[incoming.dependency..];
        let next = rest.iter().find(|known| known.0 > tx).map(|known| known.0);
        next.unwrap_or(incoming.part.first_tx + incoming.part.txs)
    }

    /// What the transactions before `end` need and this copy does not have.
    fn missing(&self, incoming: &mut Incoming<'_, C>, end: u32) -> Result<Option<Missing>> {
        let tx = incoming.next_tx();
        for &(_, on, count) in incoming.part.dependencies[incoming.dependency..]
            .iter()
            .take_while(|known| known.0 == tx)
        {
            let session = &incoming.sessions[on as usize];
            let local = self.local(&mut incoming.locals, on, &incoming.sessions);
            if local == UNKNOWN || self.logs[local as usize].txs < count {
                return Ok(Some(Missing {
                    session: session.clone(),
                    count,
                }));
            }
        }
        let own = incoming.part.session;
        let local = self.local(&mut incoming.locals, own, &incoming.sessions);
        let mut own_numbers = if local == UNKNOWN {
            0
        } else {
            self.logs[local as usize].numbers
        };
        let (items, mut numbers) = (incoming.items_until(end), 0_usize);
        let mut locals = std::mem::replace(&mut incoming.locals, Locals::unknown(0));
        let mut missing = None;
        for piece in incoming.pieces(items) {
            let lacks = |name: Name, span: u32, locals: &mut Locals| {
                let session = &incoming.sessions[name.session as usize];
                let local = self.local(locals, name.session, &incoming.sessions);
                let has = match name.session {
                    session if session == own => own_numbers,
                    _ if local == UNKNOWN => 0,
                    _ => self.logs[local as usize].numbers,
                };
                let txs = if local == UNKNOWN {
                    0
                } else {
                    self.logs[local as usize].txs
                };
                let lacks = name.number.saturating_add(span) > has;
                lacks.then(|| Missing {
                    session: session.clone(),
                    count: txs + 1,
                })
            };
            if piece.skip == 0 && piece.op.parent() == Some(LAST) && own_numbers == 0 {
                let problem = "an insertion goes on that never began";
                return Err(Error::Damaged {
                    what: "history",
                    offset: 0,
                    problem,
                });
            }
            let needs = piece
                .needs()
                .into_iter()
                .flatten()
                .filter(|(name, _)| *name != LAST);
            for (name, span) in needs {
                missing = missing.or_else(|| lacks(name, span, &mut locals));
            }
            if missing.is_some() {
                break;
            }
            let more = if piece.op.numbers() == 0 {
                0
            } else {
                piece.count
            };
            own_numbers += more;
            numbers += more as usize;
        }
        incoming.locals = locals;
        if missing.is_none() {
            self.room(numbers)?;
        }
        Ok(missing)
    }

    #[inline]
    fn local(&self, locals: &mut Locals, index: u32, sessions: &[Session]) -> u32 {
        let known = locals.get(index);
        if known != UNKNOWN {
            return known;
        }
        let local = self.log_of(&sessions[index as usize]).unwrap_or(UNKNOWN);
        locals.set(index, local);
        local
    }

    /// Applies the transactions before `end`, all of whose names are known here.
    fn take_segment(
        &mut self,
        incoming: &mut Incoming<'_, C>,
        end: u32,
        log: u32,
        applied: &mut Applied,
    ) {
        let tx = incoming.next_tx();
        let mut lamport = self.logs[log as usize].lamport;
        while let Some(&(_, on, count)) = incoming
            .part
            .dependencies
            .get(incoming.dependency)
            .filter(|known| known.0 == tx)
        {
            let on = incoming.locals.get(on);
            lamport = lamport.max(self.logs[on as usize].lamport_of(count - 1));
            self.logs[log as usize]
                .dependencies
                .push(Dependency { tx, on, count });
            incoming.dependency += 1;
        }
        let mut items = 0;
        let first_time = incoming.part.times[incoming.time.0].1;
        while incoming.next_tx() < end {
            let (txs, per_tx, time) = incoming.next_stretch(end - incoming.next_tx());
            self.logs[log as usize].commit(txs, per_tx, time, lamport + 1);
            lamport += txs;
            items += txs * per_tx;
        }
        self.lamport = self.lamport.max(lamport);
        let refused = self.permit.clone().is_some_and(|permit| {
            let by = self.logs[log as usize].id.clone();
            incoming
                .pieces(items)
                .any(|piece| ask(&permit, &by, first_time, &piece, incoming).is_err())
        });
        if refused {
            self.logs[log as usize].refused.push(tx);
            applied.refused += 1;
        } else {
            applied.transactions += end - tx;
        }
        let mut content_at = incoming.content_at;
        for piece in incoming.pieces(items) {
            self.take_piece(&piece, incoming, log, &mut content_at, refused, applied);
        }
        incoming.content_at = content_at;
        incoming.done(items);
    }

    fn take_piece(
        &mut self,
        piece: &Piece<'_, C::Item>,
        incoming: &Incoming<'_, C>,
        log: u32,
        content_at: &mut usize,
        refused: bool,
        applied: &mut Applied,
    ) {
        match piece.op {
            Op::Insert {
                parent,
                side,
                backward,
                ..
            } => {
                let (parent, side) = if piece.skip > 0 {
                    (
                        self.newest_of(log),
                        if *backward { Side::Left } else { Side::Right },
                    )
                } else {
                    (self.parent(*parent, log, incoming), *side)
                };
                self.content
                    .push_part(&incoming.part.content, content_at, piece.count);
                let entry = self
                    .new_entry(log, piece.count, *backward)
                    .with_hidden(refused);
                self.take_insert(entry, parent, side, log);
                if refused {
                    self.void.set_range(entry.lo, entry.end());
                }
                self.logs[log as usize].insert(entry.lo, entry.len());
            }
            Op::Delete {
                target, backward, ..
            } => {
                self.take_delete(*target, piece, *backward, incoming, log, refused);
            }
            Op::Set { target, value } => {
                let target = self.named(*target, incoming);
                let rank = self.rank_of_next(log);
                self.logs[log as usize].set(target, value.clone());
                if !refused && !self.moves.slots.contains_key(&target) {
                    self.take_set(target, value.clone(), rank, applied);
                }
            }
            Op::Move {
                target,
                parent,
                side,
            } => {
                let (target, parent) = (
                    self.named(*target, incoming),
                    self.parent(*parent, log, incoming),
                );
                self.content.push_empty();
                let entry = self.new_entry(log, 1, false).slot().with_hidden(true);
                self.take_insert(entry, parent, *side, log);
                self.logs[log as usize].moved(target, entry.lo);
                let real = !self.moves.slots.contains_key(&target);
                self.moves.slots.insert(entry.lo, target);
                if real && !refused {
                    self.take_move(target, entry.lo, applied);
                }
            }
        }
    }

    fn newest_of(&self, log: u32) -> Elem {
        let log = &self.logs[log as usize];
        log.elem(log.numbers - 1)
            .expect("an insertion that goes on has begun")
    }

    fn named(&self, name: Name, incoming: &Incoming<'_, C>) -> Elem {
        let log = &self.logs[incoming.locals.get(name.session) as usize];
        log.elem(name.number)
            .expect("the segment's names are known")
    }

    fn parent(&self, name: Option<Name>, log: u32, incoming: &Incoming<'_, C>) -> Elem {
        match name {
            None => NONE,
            Some(LAST) => self.newest_of(log),
            Some(name) => self.named(name, incoming),
        }
    }

    /// Whether the author of transaction `tx` of `by` had seen transaction `other_tx` of `other`.
    fn knew(&self, by: u32, tx: u32, other: u32, other_tx: u32) -> bool {
        if by == other {
            return other_tx < tx;
        }
        let known = &self.logs[by as usize].dependencies;
        let known = &known[..known.partition_point(|dependency| dependency.tx <= tx)];
        known
            .iter()
            .rev()
            .find(|dependency| dependency.on == other)
            .is_some_and(|found| found.count > other_tx)
    }

    /// The stable name of an item.
    pub(crate) fn item_id(&self, session: u32, item: u32) -> OpId {
        let log = &self.logs[session as usize];
        let (tx, change) = log.tx_of(item);
        OpId {
            session: log.id.clone(),
            tx,
            change,
        }
    }
}

/// Asks the check whether a part's author may do this.
fn ask<C: Content>(
    permit: &Permit,
    by: &Session,
    time: u64,
    piece: &Piece<'_, C::Item>,
    incoming: &Incoming<'_, C>,
) -> std::result::Result<(), String> {
    let (action, target) = match piece.op {
        Op::Insert { .. } => (Action::Insert, None),
        Op::Delete { target, .. } => (Action::Delete, Some(target)),
        Op::Set { target, .. } => (Action::Set, Some(target)),
        Op::Move { target, .. } => (Action::Move, Some(target)),
    };
    let of = target.map_or(by, |target| &incoming.sessions[target.session as usize]);
    permit(&Request {
        by,
        time,
        action,
        of,
        count: piece.count,
    })
}
