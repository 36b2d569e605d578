//! What others do not have yet, named as all copies name it.

use std::ops::Range;

use crate::births::Side;
use crate::content::Content;
use crate::doc::Doc;
use crate::error::{Error, Result};
use crate::id::{Frontier, Session};
use crate::log::{Revised, SessionLog};
use crate::tree::{Elem, Entry, NONE};
use crate::update::{Name, Op, Part, Update};

/// Sessions in the order of their names, and where in it each local one is.
pub(crate) struct Order {
    pub(crate) sessions: Vec<Session>,
    pub(crate) of_local: Vec<u32>,
    pub(crate) locals: Vec<u32>,
}

impl<C: Content> Doc<C> {
    /// The sessions in the order of their names: the same on every copy.
    pub(crate) fn session_order(&self) -> Order {
        let mut locals: Vec<u32> = (0..self.logs.len() as u32)
            .filter(|&log| self.logs[log as usize].txs > 0)
            .collect();
        locals.sort_by(|&a, &b| self.logs[a as usize].id.cmp(&self.logs[b as usize].id));
        let mut of_local = vec![0; self.logs.len()];
        for (at, &local) in locals.iter().enumerate() {
            of_local[local as usize] = at as u32;
        }
        let sessions = locals
            .iter()
            .map(|&local| self.logs[local as usize].id.clone())
            .collect();
        Order {
            sessions,
            of_local,
            locals,
        }
    }

    /// The transactions that are not in `frontier`, each session's in its order.
    pub(crate) fn since(&self, frontier: &Frontier) -> Result<Update<C>> {
        self.between(frontier, &self.frontier())
    }

    /// The transactions of the version `to` that are not in `frontier`.
    pub(crate) fn between(&self, frontier: &Frontier, to: &Frontier) -> Result<Update<C>> {
        if let Some(oldest) = &self.shallow
            && !frontier.includes(oldest)
        {
            return Err(Error::HistoryDropped {
                oldest: oldest.to_string(),
            });
        }
        let order = self.session_order();
        let mut parts = Vec::new();
        for (at, &local) in order.locals.iter().enumerate() {
            let log = &self.logs[local as usize];
            let (from, count) = (frontier.count(&log.id), to.count(&log.id));
            if count > log.txs {
                return Err(Error::UnknownVersion {
                    session: log.id.clone(),
                    count,
                    known: log.txs,
                });
            }
            if from < count {
                parts.push(self.part(log, at as u32, from..count, &order, true));
            }
        }
        Ok(Update {
            sessions: order.sessions.into(),
            parts,
        })
    }

    pub(crate) fn name(&self, elem: Elem, order: &Order) -> Option<Name> {
        if elem == NONE {
            return None;
        }
        let (session, number) = self.origin(elem);
        Some(Name {
            session: order.of_local[session as usize],
            number,
        })
    }

    /// The transactions of `log` from `from` on; `with_content` as well as names.
    pub(crate) fn part(
        &self,
        log: &SessionLog<C::Item>,
        session: u32,
        txs: Range<u32>,
        order: &Order,
        with_content: bool,
    ) -> Part<C> {
        let from = txs.start;
        let dependencies = log.dependencies
            [log.dependencies.partition_point(|known| known.tx < from)..]
            .iter()
            .take_while(|known| known.tx < txs.end)
            .map(|known| (known.tx, order.of_local[known.on as usize], known.count))
            .collect();
        let mut part = Part {
            session,
            first_tx: from,
            first_number: log.number_at(log.item_at(from)),
            txs: txs.end - from,
            sizes: spans(&log.sizes, from, txs.end, |span| (span.tx, span.per_tx)),
            times: spans(&log.times, from, txs.end, |row| (row.tx, row.value)),
            dependencies,
            ops: Vec::new(),
            content: C::Owned::default(),
        };
        let (start, end_item) = (log.item_at(from), log.item_at(txs.end));
        let mut inserts = log
            .inserts
            .partition_point(|run| run.item + run.len <= start);
        let mut deletes = log
            .deletes
            .partition_point(|run| run.item + run.len() <= start);
        let mut revisions = log
            .revisions
            .partition_point(|revision| revision.item < start);
        let mut item = start;
        while item < end_item {
            let revision = log.revisions.get(revisions);
            if let Some(revision) = revision.filter(|revision| revision.item == item) {
                part.ops
                    .push(self.revision_op(revision.target, &revision.what, order));
                revisions += 1;
                item += 1;
                continue;
            }
            while log
                .inserts
                .get(inserts)
                .is_some_and(|run| run.item + run.len <= item)
            {
                inserts += 1;
            }
            if let Some(run) = log.inserts.get(inserts).filter(|run| run.item <= item) {
                let mut end = (run.item + run.len).min(end_item);
                if let Some(revision) = revision {
                    end = end.min(revision.item);
                }
                let number = run.number + (item - run.item);
                self.insert_ops(log, number, end - item, order, with_content, &mut part);
                item = end;
                continue;
            }
            while log
                .deletes
                .get(deletes)
                .is_some_and(|run| run.item + run.len() <= item)
            {
                deletes += 1;
            }
            let run = log.deletes[deletes];
            let skip = item - run.item;
            let len = (run.len() - skip).min(end_item - item);
            self.delete_ops(
                run.lowest(skip, len),
                len,
                run.is_backward(),
                order,
                &mut part,
            );
            item += len;
        }
        part
    }

    fn revision_op(&self, target: Elem, what: &Revised<C::Item>, order: &Order) -> Op<C::Item> {
        let target = self.name(target, order).expect("a revision has a target");
        match what {
            Revised::Value(value) => Op::Set {
                target,
                value: value.clone(),
            },
            Revised::Place(slot) => {
                let (parent, side) = self.births.parent(*slot);
                Op::Move {
                    target,
                    parent: self.name(parent, order),
                    side,
                }
            }
        }
    }

    fn insert_ops(
        &self,
        log: &SessionLog<C::Item>,
        number: u32,
        count: u32,
        order: &Order,
        with_content: bool,
        part: &mut Part<C>,
    ) {
        let (mut number, end) = (number, number + count);
        while number < end {
            let (elem, stretch) = log
                .stretch(number)
                .expect("the log's own numbers are known");
            let chain = self.births.chain(self.births.row_of(elem));
            let count = stretch.min(end - number).min(chain.end - elem);
            let (parent, side) = if elem == chain.first {
                (chain.parent, chain.side)
            } else {
                (elem - 1, chain.inner_side())
            };
            let backward = chain.backward && count > 1;
            let piece = Inserted {
                count,
                parent: self.name(parent, order),
                side,
                backward,
            };
            push_inserted(
                &mut part.ops,
                piece,
                Name {
                    session: part.session,
                    number,
                },
            );
            if with_content {
                self.read_as_inserted(Entry::shown(elem, count), &mut part.content);
            }
            number += count;
        }
    }

    /// Elements that follow each other here may be of many sessions.
    fn delete_ops(&self, lo: Elem, len: u32, backward: bool, order: &Order, part: &mut Part<C>) {
        let mut done = 0;
        while done < len {
            let at = if backward {
                lo + (len - done) - 1
            } else {
                lo + done
            };
            let row = self.arrivals.partition_point(|row| row.elem <= at) - 1;
            let arrival = self.arrivals[row];
            let end = self
                .arrivals
                .get(row + 1)
                .map_or(self.births.elems(), |next| next.elem);
            let count = (len - done).min(if backward {
                at - arrival.elem + 1
            } else {
                end - at
            });
            let number = arrival.number + (at - arrival.elem);
            let target = Name {
                session: order.of_local[arrival.session as usize],
                number,
            };
            push_deleted(&mut part.ops, count, target, backward && count > 1);
            done += count;
        }
    }
}

/// New elements, each but the first a child of the one before.
struct Inserted {
    count: u32,
    parent: Option<Name>,
    side: Side,
    backward: bool,
}

impl Inserted {
    fn op<V>(self) -> Op<V> {
        let Self {
            count,
            parent,
            side,
            backward,
        } = self;
        Op::Insert {
            count,
            parent,
            side,
            backward: backward && count > 1,
        }
    }
}

/// Adds the insertion of the elements from `first` on. Elements are cut into operations in one way
/// only, whatever pieces they come in: an element that is the right child of the one before it stays
/// with that one; what is left and goes backward stays together too.
fn push_inserted<V>(ops: &mut Vec<Op<V>>, piece: Inserted, first: Name) {
    let before = first
        .number
        .checked_sub(1)
        .map(|number| Name { number, ..first });
    let goes_on = before.is_some() && piece.parent == before;
    let Some(Op::Insert {
        count, backward, ..
    }) = ops.last_mut().filter(|_| goes_on)
    else {
        return ops.push(piece.op());
    };
    let lone = *count == 1;
    match piece.side {
        Side::Right if !*backward => {
            // Joins, with as many as go the same way.
            let joined = if piece.backward { 1 } else { piece.count };
            *count += joined;
            if joined < piece.count {
                let rest = Inserted {
                    count: piece.count - 1,
                    parent: Some(first),
                    side: Side::Left,
                    ..piece
                };
                ops.push(rest.op());
            }
        }
        Side::Right => {
            // The last of those that go backward is the first of those that go forward.
            let kept = *count - 1;
            *count = kept;
            if kept == 1 {
                *backward = false;
            }
            let last = before.expect("it goes on from an element");
            let parent = Name {
                number: last.number.wrapping_sub(1),
                ..last
            };
            ops.push(Op::Insert {
                count: 1,
                parent: Some(parent),
                side: Side::Left,
                backward: false,
            });
            push_inserted(ops, piece, first);
        }
        Side::Left if (lone || *backward) && (piece.count == 1 || piece.backward) => {
            *count += piece.count;
            *backward = true;
        }
        Side::Left => ops.push(piece.op()),
    }
}

/// Adds a deletion, to the one before it if that goes on in it.
fn push_deleted<V>(ops: &mut Vec<Op<V>>, count: u32, target: Name, backward: bool) {
    if let Some(Op::Delete {
        count: before,
        target: first,
        backward: way,
    }) = ops.last_mut()
        && first.session == target.session
    {
        let up = (!*way || *before == 1) && !backward && target.number == first.number + *before;
        let down = (*way || *before == 1)
            && (backward || count == 1)
            && target.number.checked_add(*before) == Some(first.number);
        if up || down {
            *before += count;
            *way = down;
            return;
        }
    }
    ops.push(Op::Delete {
        count,
        target,
        backward,
    });
}

/// The rows from transaction `from` on as counts and values.
fn spans<R, T>(rows: &[R], from: u32, end: u32, read: impl Fn(&R) -> (u32, T)) -> Vec<(u32, T)> {
    let first = rows
        .partition_point(|row| read(row).0 <= from)
        .saturating_sub(1);
    let ends = rows[first..]
        .iter()
        .skip(1)
        .map(|row| read(row).0)
        .chain([end]);
    let mut spans = Vec::with_capacity(rows.len() - first);
    for (row, next) in rows[first..].iter().zip(ends) {
        let (tx, value) = read(row);
        if tx >= end {
            break;
        }
        spans.push((next.min(end) - tx.max(from), value));
    }
    spans
}
