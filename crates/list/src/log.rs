//! What each session did, in its own order. Kinds of operations have tables of their own, each a run
//! of operations a row, all tied together by the session's count of items: one for each element an
//! operation inserts, deletes, sets or moves. Elements a session inserted (and places it moved
//! elements to) are counted apart, in `numbers`, so that typing that is interrupted by deletions
//! still gives consecutive names.

use crate::id::Session;
use crate::tree::Elem;

/// The session's elements `number .. number + len` came with the items from `item` on. A place that
/// a move made is such an element too; its item is among the revisions as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InsertRun {
    pub(crate) item: u32,
    pub(crate) number: u32,
    pub(crate) len: u32,
}

/// Items `item ..` deleted `len` elements, from `target` upwards or downwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeleteRun {
    pub(crate) item: u32,
    pub(crate) target: Elem,
    len: u32,
}

const BACKWARD: u32 = 1 << 31;

impl DeleteRun {
    pub(crate) fn new(item: u32, target: Elem, len: u32, backward: bool) -> Self {
        Self {
            item,
            target,
            len: len | if backward { BACKWARD } else { 0 },
        }
    }

    pub(crate) fn len(self) -> u32 {
        self.len & !BACKWARD
    }

    pub(crate) fn is_backward(self) -> bool {
        self.len & BACKWARD != 0
    }

    /// The lowest element among the first `len` ones after `skip`.
    pub(crate) fn lowest(self, skip: u32, len: u32) -> Elem {
        if self.is_backward() {
            self.target - skip - (len - 1)
        } else {
            self.target + skip
        }
    }
}

/// A set or a move: one item.
#[derive(Clone, Debug)]
pub(crate) struct Revision<V> {
    pub(crate) item: u32,
    pub(crate) target: Elem,
    pub(crate) what: Revised<V>,
}

#[derive(Clone, Debug)]
pub(crate) enum Revised<V> {
    /// The element holds this from now on.
    Value(V),
    /// The element stands at this place from now on.
    Place(Elem),
}

/// Transactions `tx ..`, the first at item `item`, have `per_tx` items each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeSpan {
    pub(crate) tx: u32,
    pub(crate) item: u32,
    pub(crate) per_tx: u32,
}

/// From transaction `tx` on, `value`, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since<T> {
    pub(crate) tx: u32,
    pub(crate) value: T,
}

/// Transaction `tx` was made knowing `count` transactions of session `on` (a local index), which is
/// more than the session's transaction before it knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) tx: u32,
    pub(crate) on: u32,
    pub(crate) count: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct SessionLog<V> {
    pub(crate) id: Session,
    pub(crate) inserts: Vec<InsertRun>,
    pub(crate) deletes: Vec<DeleteRun>,
    pub(crate) revisions: Vec<Revision<V>>,
    pub(crate) sizes: Vec<SizeSpan>,
    /// Lamport counters; within a row they go up by one a transaction.
    pub(crate) lamports: Vec<Since<u32>>,
    /// Wall-clock times in milliseconds, where they change.
    pub(crate) times: Vec<Since<u64>>,
    pub(crate) dependencies: Vec<Dependency>,
    /// Transactions that were refused: in the log, without effect. Ascending.
    pub(crate) refused: Vec<u32>,
    /// `number` and the element it is here; consecutive up to the next row.
    pub(crate) elems: Vec<(u32, Elem)>,
    pub(crate) txs: u32,
    pub(crate) items: u32,
    /// Items of transactions that were counted.
    committed: u32,
    pub(crate) numbers: u32,
    /// The Lamport counter of the newest transaction.
    pub(crate) lamport: u32,
}

impl<V> SessionLog<V> {
    pub(crate) fn new(id: Session) -> Self {
        Self {
            id,
            inserts: Vec::new(),
            deletes: Vec::new(),
            revisions: Vec::new(),
            sizes: Vec::new(),
            lamports: Vec::new(),
            times: Vec::new(),
            dependencies: Vec::new(),
            refused: Vec::new(),
            elems: Vec::new(),
            txs: 0,
            items: 0,
            committed: 0,
            numbers: 0,
            lamport: 0,
        }
    }

    /// Notes the insertion of `count` elements, here numbered from `elem`.
    #[inline]
    pub(crate) fn insert(&mut self, elem: Elem, count: u32) {
        match self.inserts.last_mut() {
            Some(run) if run.item + run.len == self.items => run.len += count,
            _ => self.inserts.push(InsertRun {
                item: self.items,
                number: self.numbers,
                len: count,
            }),
        }
        self.items += count;
        let goes_on = self
            .elems
            .last()
            .is_some_and(|&(number, first)| elem - first == self.numbers - number);
        if !goes_on {
            self.elems.push((self.numbers, elem));
        }
        self.numbers += count;
    }

    /// Notes the deletion of `len` elements from `target` on, upwards or downwards.
    #[inline]
    pub(crate) fn delete(&mut self, target: Elem, len: u32, backward: bool) {
        let items = self.items;
        self.items += len;
        if let Some(last) = self.deletes.last_mut()
            && last.item + last.len() == items
        {
            let up = (!last.is_backward() || last.len() == 1)
                && (!backward || len == 1)
                && target == last.target + last.len();
            let down = (last.is_backward() || last.len() == 1)
                && (backward || len == 1)
                && target.wrapping_add(last.len()) == last.target;
            if up || down {
                *last = DeleteRun::new(last.item, last.target, last.len() + len, down);
                return;
            }
        }
        self.deletes
            .push(DeleteRun::new(items, target, len, backward));
    }

    pub(crate) fn set(&mut self, target: Elem, value: V) {
        self.revisions.push(Revision {
            item: self.items,
            target,
            what: Revised::Value(value),
        });
        self.items += 1;
    }

    /// Notes that `target` moved to the place `slot`, an element of its own.
    pub(crate) fn moved(&mut self, target: Elem, slot: Elem) {
        self.revisions.push(Revision {
            item: self.items,
            target,
            what: Revised::Place(slot),
        });
        self.insert(slot, 1);
    }

    /// Counts `count` more transactions of `per_tx` items each, made at `time`, with Lamport counters
    /// from `lamport` up. Their items are noted before or after.
    #[inline]
    pub(crate) fn commit(&mut self, count: u32, per_tx: u32, time: u64, lamport: u32) {
        let tx = self.txs;
        if self.sizes.last().is_none_or(|span| span.per_tx != per_tx) {
            self.sizes.push(SizeSpan {
                tx,
                item: self.committed,
                per_tx,
            });
        }
        if lamport != self.lamport + 1 || tx == 0 {
            self.lamports.push(Since { tx, value: lamport });
        }
        if self.times.last().is_none_or(|known| known.value != time) {
            self.times.push(Since { tx, value: time });
        }
        self.txs += count;
        self.committed += count * per_tx;
        self.lamport = lamport + (count - 1);
    }

    /// Counts one more transaction if it is in all but its number like the last.
    #[inline]
    pub(crate) fn commit_like_last(&mut self, per_tx: u32, time: u64, lamport: u32) -> bool {
        let alike = lamport == self.lamport + 1
            && self.sizes.last().is_some_and(|span| span.per_tx == per_tx)
            && self.times.last().is_some_and(|row| row.value == time);
        if alike {
            self.txs += 1;
            self.committed += per_tx;
            self.lamport = lamport;
        }
        alike
    }

    /// How many consecutive elements there are from `number` on, and the first of them.
    pub(crate) fn stretch(&self, number: u32) -> Option<(Elem, u32)> {
        if number >= self.numbers {
            return None;
        }
        let row = self.elems.partition_point(|&(first, _)| first <= number) - 1;
        let (first, elem) = self.elems[row];
        let end = self
            .elems
            .get(row + 1)
            .map_or(self.numbers, |&(next, _)| next);
        Some((elem + (number - first), end - number))
    }

    /// The element this session's `number` is here.
    #[inline]
    pub(crate) fn elem(&self, number: u32) -> Option<Elem> {
        if number >= self.numbers {
            return None;
        }
        let last = self.elems.last()?;
        let &(first, elem) = if number >= last.0 {
            last
        } else {
            &self.elems[self.elems.partition_point(|&(first, _)| first <= number) - 1]
        };
        Some(elem + (number - first))
    }

    /// At most `limit` consecutive elements that end with `number`: the lowest, and how many.
    pub(crate) fn stretch_down(&self, number: u32, limit: u32) -> (Elem, u32) {
        let row = self.elems.partition_point(|&(first, _)| first <= number) - 1;
        let (first, elem) = self.elems[row];
        let count = limit.min(number - first + 1);
        (elem + (number - first) - (count - 1), count)
    }

    /// The item that brought element `number`.
    pub(crate) fn item_of(&self, number: u32) -> u32 {
        let run = self.inserts[self.inserts.partition_point(|run| run.number <= number) - 1];
        run.item + (number - run.number)
    }

    /// The transaction that holds `item`, and where in it the item is.
    pub(crate) fn tx_of(&self, item: u32) -> (u32, u32) {
        let span = self.sizes[self.sizes.partition_point(|span| span.item <= item) - 1];
        let past = item - span.item;
        (span.tx + past / span.per_tx, past % span.per_tx)
    }

    /// The first item of transaction `tx`; of the one after the last, the end.
    pub(crate) fn item_at(&self, tx: u32) -> u32 {
        if tx >= self.txs {
            return self.items;
        }
        let span = self.sizes[self.sizes.partition_point(|span| span.tx <= tx) - 1];
        span.item + (tx - span.tx) * span.per_tx
    }

    /// How many elements the items before `item` brought.
    pub(crate) fn number_at(&self, item: u32) -> u32 {
        match self
            .inserts
            .partition_point(|run| run.item < item)
            .checked_sub(1)
        {
            Some(at) => {
                let run = self.inserts[at];
                run.number + run.len.min(item - run.item)
            }
            None => 0,
        }
    }

    pub(crate) fn lamport_of(&self, tx: u32) -> u32 {
        let row = self.lamports[self.lamports.partition_point(|row| row.tx <= tx) - 1];
        row.value + (tx - row.tx)
    }

    pub(crate) fn time_of(&self, tx: u32) -> u64 {
        self.times[self.times.partition_point(|row| row.tx <= tx) - 1].value
    }

    pub(crate) fn is_refused(&self, tx: u32) -> bool {
        !self.refused.is_empty() && self.refused.binary_search(&tx).is_ok()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.inserts.capacity() * size_of::<InsertRun>()
            + self.deletes.capacity() * size_of::<DeleteRun>()
            + self.revisions.capacity() * size_of::<Revision<V>>()
            + self.sizes.capacity() * size_of::<SizeSpan>()
            + self.lamports.capacity() * size_of::<Since<u32>>()
            + self.times.capacity() * size_of::<Since<u64>>()
            + self.dependencies.capacity() * size_of::<Dependency>()
            + self.elems.capacity() * size_of::<(u32, Elem)>()
    }
}
