//! A whole history at once. The order is a function of which element is whose child, so it is made by
//! one walk of that tree and not by replaying edits: no search, no splitting, time linear in runs.

use crate::births::{Births, Side};
use crate::bits::Bits;
use crate::content::Content;
use crate::doc::{Arrival, Doc};
use crate::error::{Error, Result};
use crate::log::Dependency;
use crate::tree::{Elem, Entry, MAX_ELEMS, NONE, Tree};
use crate::update::{LAST, Name, Op, Part, Update};

fn damaged(problem: &'static str) -> Error {
    Error::Damaged {
        what: "history",
        offset: 0,
        problem,
    }
}

/// Whether `update` is the whole history of its sessions, one part each, in order.
pub(crate) fn is_whole<C: Content>(update: &Update<C>) -> bool {
    update.parts.len() == update.sessions.len()
        && update
            .parts
            .iter()
            .enumerate()
            .all(|(at, part)| part.session as usize == at && part.first_tx == 0)
}

struct Builder<C: Content> {
    doc: Doc<C>,
    /// The first element of each session, and of one more.
    base: Vec<u32>,
    deleted: Bits,
    slots: Bits,
    /// Sets and moves by session, as they are in the logs.
    revised: bool,
}

impl<C: Content> Doc<C> {
    /// Takes in a whole history, where there is none yet. Contents are put in by the caller's
    /// `contents`, which gets the tree and how many elements there are.
    pub(crate) fn build(
        &mut self,
        update: Update<C>,
        contents: impl FnOnce(&Tree, u32) -> C,
    ) -> Result<()> {
        let mut builder = Builder::new(self.clone(), &update)?;
        for part in &update.parts {
            builder.log(part)?;
        }
        builder.lamports(&update)?;
        builder.arrange()?;
        let doc = &mut builder.doc;
        doc.content = contents(&doc.tree, doc.births.elems());
        if builder.revised {
            builder.revise()?;
        }
        *self = builder.doc;
        self.hear();
        Ok(())
    }
}

impl<C: Content> Builder<C> {
    fn new(mut doc: Doc<C>, update: &Update<C>) -> Result<Self> {
        let mut base = vec![0_u32];
        let mut rows = 0;
        for part in &update.parts {
            let numbers = part
                .ops
                .iter()
                .map(|op| u64::from(op.numbers()))
                .sum::<u64>();
            let end = u64::from(base[base.len() - 1]) + numbers;
            if end > u64::from(MAX_ELEMS) {
                return Err(Error::Full { limit: MAX_ELEMS });
            }
            base.push(end as u32);
            rows += part.ops.len();
        }
        let elems = base[base.len() - 1];
        for session in update.sessions.iter() {
            doc.session_index(session);
        }
        doc.births = Births::with_capacity(rows / 2 + 1);
        doc.right = Bits::with_len(elems);
        doc.left = Bits::with_len(elems);
        Ok(Self {
            doc,
            base,
            deleted: Bits::with_len(elems),
            slots: Bits::default(),
            revised: false,
        })
    }

    #[inline]
    fn elem(&self, name: Name) -> Result<Elem> {
        let session = name.session as usize;
        let elem = self.base[session]
            .checked_add(name.number)
            .filter(|&elem| elem < self.base[session + 1]);
        elem.ok_or_else(|| damaged("an operation names an element that never was"))
    }

    /// Notes a session's operations: who is whose child, what is deleted.
    fn log(&mut self, part: &Part<C>) -> Result<()> {
        let session = part.session;
        let mut next = self.base[session as usize];
        if part.ops.iter().any(|op| op.numbers() > 0) {
            self.doc.arrivals.push(Arrival {
                elem: next,
                session,
                number: 0,
            });
        }
        let mut joins = false;
        for op in &part.ops {
            match op {
                Op::Insert {
                    count,
                    parent,
                    side,
                    backward,
                } => {
                    let parent = self.parent(*parent, next, session)?;
                    self.child(parent, *side);
                    self.doc
                        .births
                        .push(*count, parent, *side, *backward, joins);
                    if *count > 1 {
                        let inner = if *backward {
                            &mut self.doc.left
                        } else {
                            &mut self.doc.right
                        };
                        inner.set_range(next, next + count - 1);
                    }
                    self.doc.logs[session as usize].insert(next, *count);
                    next += count;
                    joins = true;
                }
                Op::Delete {
                    count,
                    target,
                    backward,
                } => {
                    let first = self.elem(*target)?;
                    let lo = if *backward {
                        first - (count - 1)
                    } else {
                        first
                    };
                    if lo + count > self.base[target.session as usize + 1]
                        || lo < self.base[target.session as usize]
                    {
                        return Err(damaged("a deletion names an element that never was"));
                    }
                    self.deleted.set_range(lo, lo + count);
                    self.doc.logs[session as usize].delete(first, *count, *backward);
                }
                Op::Set { target, value } => {
                    let target = self.elem(*target)?;
                    self.doc.logs[session as usize].set(target, value.clone());
                    self.revised = true;
                }
                Op::Move {
                    target,
                    parent,
                    side,
                } => {
                    let (target, parent) =
                        (self.elem(*target)?, self.parent(*parent, next, session)?);
                    self.child(parent, *side);
                    self.doc.births.push(1, parent, *side, false, false);
                    self.doc.logs[session as usize].moved(target, next);
                    self.doc.moves.slots.insert(next, target);
                    self.slots.set(next);
                    next += 1;
                    joins = false;
                    self.revised = true;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn parent(&self, parent: Option<Name>, next: Elem, session: u32) -> Result<Elem> {
        match parent {
            None => Ok(NONE),
            Some(LAST) if next > self.base[session as usize] => Ok(next - 1),
            Some(LAST) => Err(damaged("an insertion goes on that never began")),
            Some(name) => self.elem(name),
        }
    }

    #[inline]
    fn child(&mut self, parent: Elem, side: Side) {
        if parent != NONE {
            if side == Side::Right {
                self.doc.right.set(parent)
            } else {
                self.doc.left.set(parent)
            }
        }
    }

    /// Counts the transactions of all sessions, each stretch after those it knew of.
    fn lamports(&mut self, update: &Update<C>) -> Result<()> {
        struct Progress {
            size: (usize, u32),
            time: (usize, u32),
            dependency: usize,
        }
        let start = || Progress {
            size: (0, 0),
            time: (0, 0),
            dependency: 0,
        };
        let mut progress: Vec<_> = update.parts.iter().map(|_| start()).collect();
        let mut ready: Vec<usize> = (0..update.parts.len()).collect();
        let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); update.parts.len()];
        while let Some(at) = ready.pop() {
            let (part, state) = (&update.parts[at], &mut progress[at]);
            let before = self.doc.logs[at].txs;
            'part: while self.doc.logs[at].txs < part.txs {
                let tx = self.doc.logs[at].txs;
                let known = &part.dependencies[state.dependency..];
                let known = &known[..known.iter().take_while(|known| known.0 == tx).count()];
                for &(_, on, count) in known {
                    if self.doc.logs[on as usize].txs < count {
                        if count > update.parts[on as usize].txs {
                            return Err(damaged("a transaction knew of one that is not here"));
                        }
                        waiting[on as usize].push(at);
                        break 'part;
                    }
                }
                let mut lamport = self.doc.logs[at].lamport;
                for &(_, on, count) in known {
                    lamport = lamport.max(self.doc.logs[on as usize].lamport_of(count - 1));
                    self.doc.logs[at]
                        .dependencies
                        .push(Dependency { tx, on, count });
                }
                state.dependency += known.len();
                let end = part
                    .dependencies
                    .get(state.dependency)
                    .map_or(part.txs, |next| next.0);
                let mut next = tx;
                while next < end {
                    let ((count, per_tx), (at_once, time)) =
                        (part.sizes[state.size.0], part.times[state.time.0]);
                    let txs = (end - next)
                        .min(count - state.size.1)
                        .min(at_once - state.time.1);
                    state.size = if state.size.1 + txs == count {
                        (state.size.0 + 1, 0)
                    } else {
                        (state.size.0, state.size.1 + txs)
                    };
                    state.time = if state.time.1 + txs == at_once {
                        (state.time.0 + 1, 0)
                    } else {
                        (state.time.0, state.time.1 + txs)
                    };
                    self.doc.logs[at].commit(txs, per_tx, time, lamport + 1);
                    lamport += txs;
                    next += txs;
                }
            }
            if self.doc.logs[at].txs > before {
                ready.append(&mut waiting[at]);
            }
            self.doc.lamport = self.doc.lamport.max(self.doc.logs[at].lamport);
        }
        if update
            .parts
            .iter()
            .zip(&self.doc.logs)
            .any(|(part, log)| log.txs < part.txs)
        {
            return Err(damaged("transactions wait for each other in a circle"));
        }
        Ok(())
    }

    /// Walks the tree of parents and children from the root.
    fn arrange(&mut self) -> Result<()> {
        let doc = &self.doc;
        // Chains that do not simply go on from the one before, by their first elements' parents.
        let mut children: Vec<(u64, u32)> = Vec::with_capacity(doc.births.rows());
        for (row, chain) in doc.births.chains().enumerate() {
            let parent = if chain.parent == NONE {
                0
            } else {
                u64::from(chain.parent) + 1
            };
            children.push((
                parent << 1 | u64::from(chain.side == Side::Right),
                row as u32,
            ));
        }
        sort_by_parent(&mut children, doc.births.elems());
        let mut at = 0;
        while at < children.len() {
            let same = children[at..]
                .iter()
                .take_while(|child| child.0 == children[at].0)
                .count();
            if same > 1 {
                children[at..at + same].sort_by(|a, b| {
                    let rank = |row: u32| doc.rank(doc.births.chain(row as usize).first);
                    doc.compare(rank(a.1), rank(b.1))
                });
            }
            at += same;
        }
        let mut walk = Walk {
            doc,
            children: &children,
            left: Vec::new(),
            entries: Vec::with_capacity(children.len() * 2),
            deleted: &self.deleted,
            slots: &self.slots,
        };
        let roots = children.iter().take_while(|child| child.0 <= 1).count();
        walk.push_chains(0..roots);
        walk.run();
        let entries = walk.entries;
        let reached = entries
            .iter()
            .map(|entry| u64::from(entry.len()))
            .sum::<u64>();
        if reached != u64::from(doc.births.elems()) {
            return Err(damaged("elements are children of each other in a circle"));
        }
        self.doc.tree = Tree::from_entries(entries.into_iter());
        Ok(())
    }

    /// Applies sets and moves in the order of their ranks.
    fn revise(&mut self) -> Result<()> {
        use crate::log::Revised;
        use crate::order::Rank;
        let doc = &mut self.doc;
        doc.tree.know_places();
        let mut all = Vec::new();
        for (session, log) in doc.logs.iter().enumerate() {
            for (row, revision) in log.revisions.iter().enumerate() {
                let (tx, _) = log.tx_of(revision.item);
                let rank = Rank {
                    lamport: log.lamport_of(tx),
                    session: session as u32,
                    number: revision.item,
                };
                all.push((rank, row));
            }
        }
        all.sort_by(|a, b| doc.compare(a.0, b.0));
        let mut ignored = crate::apply::Applied::default();
        for (rank, row) in all {
            let revision = doc.logs[rank.session as usize].revisions[row].clone();
            if doc.moves.slots.contains_key(&revision.target) {
                continue;
            }
            match revision.what {
                Revised::Value(value) => {
                    doc.put_value(revision.target, value, rank);
                }
                Revised::Place(slot) => doc.take_move(revision.target, slot, &mut ignored),
            }
        }
        Ok(())
    }
}

/// Sorts by the first of each pair, of which none is above twice `elems` and three, keeping the order of
/// equal ones: by its low half, then by its high half.
fn sort_by_parent(children: &mut Vec<(u64, u32)>, elems: u32) {
    let bits = (64 - (u64::from(elems) * 2 + 3).leading_zeros()).div_ceil(2);
    if children.len() < 64 || children.len() < 1 << (bits - 2) {
        return children.sort();
    }
    let mut other = vec![(0, 0); children.len()];
    for shift in [0, bits] {
        let digit = |child: &(u64, u32)| (child.0 >> shift) as usize & ((1 << bits) - 1);
        let mut starts = vec![0_u32; 1 << bits];
        for child in children.iter() {
            starts[digit(child)] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            (*start, sum) = (sum, sum + *start);
        }
        for child in children.iter() {
            let start = &mut starts[digit(child)];
            other[*start as usize] = *child;
            *start += 1;
        }
        std::mem::swap(children, &mut other);
    }
}

enum Step {
    /// A chain from this element on, and the children of its elements.
    Chain { row: u32, from: Elem },
    /// Elements of a chain, from the lowest to before the end.
    Elems { lo: Elem, end: Elem, backward: bool },
}

struct Walk<'a, C: Content> {
    doc: &'a Doc<C>,
    /// By parent and side, then in the order of siblings.
    children: &'a [(u64, u32)],
    left: Vec<Step>,
    entries: Vec<Entry>,
    deleted: &'a Bits,
    slots: &'a Bits,
}

fn key(parent: Elem, side: Side) -> u64 {
    (u64::from(parent) + 1) << 1 | u64::from(side == Side::Right)
}

impl<C: Content> Walk<'_, C> {
    /// Plans the chains that are these children, the first to be walked first.
    fn push_chains(&mut self, children: std::ops::Range<usize>) {
        for &(_, row) in self.children[children].iter().rev() {
            let from = self.doc.births.chain(row as usize).first;
            self.left.push(Step::Chain { row, from });
        }
    }

    fn run(&mut self) {
        while let Some(step) = self.left.pop() {
            match step {
                Step::Elems { lo, end, backward } => self.emit(lo, end, backward),
                Step::Chain { row, from } => self.chain(row, from),
            }
        }
    }

    /// The first of the children listed whose parent is `elem` or higher.
    fn listed_from(&self, elem: Elem) -> usize {
        self.children
            .partition_point(|child| child.0 < key(elem, Side::Left))
    }

    fn chain(&mut self, row: u32, from: Elem) {
        let chain = self.doc.births.chain(row as usize);
        let at = self.listed_from(from);
        let parent = self
            .children
            .get(at)
            .map(|child| ((child.0 >> 1) - 1) as Elem);
        let Some(parent) = parent.filter(|&parent| parent < chain.end) else {
            return self.emit(from, chain.end, chain.backward);
        };
        let lefts = at..at + self.count(at, key(parent, Side::Left));
        let rights = lefts.end..lefts.end + self.count(lefts.end, key(parent, Side::Right));
        let goes_on = parent + 1 < chain.end;
        let next = Step::Chain {
            row,
            from: parent + 1,
        };
        // Steps are taken from the end: what stands rightmost is pushed first.
        if chain.backward {
            if parent > from {
                self.left.push(Step::Elems {
                    lo: from,
                    end: parent,
                    backward: true,
                });
            }
            self.push_chains(rights);
            self.left.push(Step::Elems {
                lo: parent,
                end: parent + 1,
                backward: false,
            });
            let (before, after) = self.around(parent, lefts, goes_on);
            self.push_chains(after);
            if goes_on {
                self.left.push(next);
            }
            self.push_chains(before);
        } else {
            let (before, after) = self.around(parent, rights, goes_on);
            self.push_chains(after);
            if goes_on {
                self.left.push(next);
            }
            self.push_chains(before);
            self.left.push(Step::Elems {
                lo: parent,
                end: parent + 1,
                backward: false,
            });
            self.push_chains(lefts);
            self.emit(from, parent, false);
        }
    }

    fn count(&self, at: usize, key: u64) -> usize {
        self.children[at..]
            .iter()
            .take_while(|child| child.0 == key)
            .count()
    }

    /// The children that stand before the chain's own next element, and those after it.
    fn around(
        &self,
        parent: Elem,
        children: std::ops::Range<usize>,
        goes_on: bool,
    ) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        if !goes_on || children.is_empty() {
            return (children.start..children.start, children);
        }
        let next = self.doc.rank(parent + 1);
        let first = |row: u32| self.doc.births.chain(row as usize).first;
        let before = self.children[children.clone()].partition_point(|child| {
            self.doc
                .compare(self.doc.rank(first(child.1)), next)
                .is_lt()
        });
        let middle = children.start + before;
        (children.start..middle, middle..children.end)
    }

    /// Adds the elements from `lo` to before `end`, cut where shown and hidden ones meet.
    fn emit(&mut self, lo: Elem, end: Elem, backward: bool) {
        if lo >= end {
            return;
        }
        if self.slots.get(lo) {
            // A place stands alone; nobody is at it until the moves are played.
            return self
                .entries
                .push(Entry::shown(lo, 1).slot().with_hidden(true));
        }
        let first = self.entries.len();
        let mut at = lo;
        while at < end {
            let next = self.deleted.stretch(at, end);
            let entry = Entry::shown(at, next - at).with_hidden(self.deleted.get(at));
            self.entries.push(if backward && next - at > 1 {
                entry.reversed()
            } else {
                entry
            });
            at = next;
        }
        if backward {
            self.entries[first..].reverse();
        }
    }
}
