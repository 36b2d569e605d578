//! Several ordered sources read as one.
//!
//! Of entries with the same key and commit the one from the earlier source comes first; sources are
//! given newest first, so a copy that a log replay made again is met before its older twin.

use crate::cursor::Cursor;
use crate::error::Result;
use crate::memtable::MemCursor;
use crate::sst::run::RunCursor;
use crate::types::{Commit, Tag};
use std::cmp::Ordering;

/// One source of a merge.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost a scan one more step a row"
)]
pub(crate) enum Source {
    Memory(MemCursor),
    Run(RunCursor),
}

macro_rules! each {
    ($self:expr, $cursor:ident => $call:expr) => {
        match $self {
            Source::Memory($cursor) => $call,
            Source::Run($cursor) => $call,
        }
    };
}

impl Cursor for Source {
    fn seek(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        each!(self, cursor => cursor.seek(key, commit))
    }

    fn seek_first(&mut self) -> Result<()> {
        each!(self, cursor => cursor.seek_first())
    }

    fn seek_before(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        each!(self, cursor => cursor.seek_before(key, commit))
    }

    fn seek_last(&mut self) -> Result<()> {
        each!(self, cursor => cursor.seek_last())
    }

    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        each!(self, cursor => cursor.next())
    }

    fn prev(&mut self) -> Result<()> {
        each!(self, cursor => cursor.prev())
    }

    #[inline(always)]
    fn valid(&self) -> bool {
        each!(self, cursor => cursor.valid())
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        each!(self, cursor => cursor.key())
    }

    #[inline(always)]
    fn commit(&self) -> Commit {
        each!(self, cursor => cursor.commit())
    }

    #[inline(always)]
    fn tag(&self) -> Tag {
        each!(self, cursor => cursor.tag())
    }

    #[inline(always)]
    fn value(&self) -> &[u8] {
        each!(self, cursor => cursor.value())
    }
}

/// Where a merge is to be placed.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    First,
    Last,
    At(&'a [u8], Commit),
    Before(&'a [u8], Commit),
}

/// The merge: a binary heap of the sources that stand somewhere.
#[derive(Debug)]
pub(crate) struct MergeCursor {
    sources: Vec<Source>,
    heap: Vec<usize>,
    backward: bool,
}

impl MergeCursor {
    pub(crate) fn new(sources: Vec<Source>) -> Self {
        Self {
            heap: Vec::with_capacity(sources.len()),
            sources,
            backward: false,
        }
    }

    /// Places every source; a call that failed because it must not wait is made again in full.
    fn place(&mut self, place: Place<'_>) -> Result<()> {
        self.heap.clear();
        self.backward = matches!(place, Place::Last | Place::Before(..));
        self.expect(place)?;
        for source in &mut self.sources {
            match place {
                Place::First => source.seek_first()?,
                Place::Last => source.seek_last()?,
                Place::At(key, commit) => source.seek(key, commit)?,
                Place::Before(key, commit) => source.seek_before(key, commit)?,
            }
        }
        self.heap
            .extend((0..self.sources.len()).filter(|i| self.sources[*i].valid()));
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
        Ok(())
    }

    /// Has runs in a bucket ask for what they will want all at the same time: a place costs as long
    /// as two requests, however many runs there are.
    fn expect(&mut self, place: Place<'_>) -> Result<()> {
        let (key, commit) = match place {
            Place::First => (&b""[..], Commit::MAX),
            Place::At(key, commit) => (key, commit),
            Place::Last | Place::Before(..) => return Ok(()),
        };
        for source in &self.sources {
            if let Source::Run(run) = source {
                run.expect_index(key)?;
            }
        }
        for source in &mut self.sources {
            if let Source::Run(run) = source {
                run.expect_block(key, commit)?;
            }
        }
        Ok(())
    }

    /// True when source `a` comes before source `b` in the direction of travel.
    #[inline]
    fn comes_first(&self, a: usize, b: usize) -> bool {
        let (left, right) = (&self.sources[a], &self.sources[b]);
        let order = left
            .key()
            .cmp(right.key())
            .then_with(|| right.commit().cmp(&left.commit()))
            .then(a.cmp(&b));
        (order == Ordering::Less) != self.backward
    }

    #[inline]
    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            if left >= self.heap.len() {
                return;
            }
            let right = left + 1;
            let child = match right < self.heap.len()
                && self.comes_first(self.heap[right], self.heap[left])
            {
                true => right,
                false => left,
            };
            if self.comes_first(self.heap[at], self.heap[child]) {
                return;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }

    #[inline]
    fn settle_top(&mut self) {
        if !self.sources[self.heap[0]].valid() {
            self.heap.swap_remove(0);
        }
        if self.heap.len() > 1 {
            self.sift_down(0);
        }
    }

    #[inline(always)]
    fn top(&self) -> &Source {
        &self.sources[self.heap[0]]
    }
}

impl Cursor for MergeCursor {
    fn seek(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        self.place(Place::At(key, commit))
    }

    fn seek_first(&mut self) -> Result<()> {
        self.place(Place::First)
    }

    fn seek_before(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        self.place(Place::Before(key, commit))
    }

    fn seek_last(&mut self) -> Result<()> {
        self.place(Place::Last)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        debug_assert!(!self.backward, "a merge does not turn round");
        let top = self.heap[0];
        self.sources[top].next()?;
        self.settle_top();
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        debug_assert!(self.backward, "a merge does not turn round");
        let top = self.heap[0];
        self.sources[top].prev()?;
        self.settle_top();
        Ok(())
    }

    #[inline(always)]
    fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        self.top().key()
    }

    #[inline(always)]
    fn commit(&self) -> Commit {
        self.top().commit()
    }

    #[inline(always)]
    fn tag(&self) -> Tag {
        self.top().tag()
    }

    #[inline(always)]
    fn value(&self) -> &[u8] {
        self.top().value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memtable::{Entry, Memtable};
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    type Model = BTreeMap<(Vec<u8>, Reverse<u64>), usize>;

    fn walk(merge: &mut MergeCursor, forward: bool) -> Vec<(Vec<u8>, u64)> {
        let mut rows = Vec::new();
        while merge.valid() {
            rows.push((merge.key().to_vec(), merge.commit().0));
            if forward {
                merge.next().unwrap()
            } else {
                merge.prev().unwrap()
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn a_merge_is_the_sorted_union_of_its_sources(
            writes in prop::collection::btree_map(
                (prop::collection::vec(0u8..3, 1..4), (1u64..30).prop_map(Reverse)), 0usize..4, 0..100),
            probe in prop::collection::vec(0u8..3, 1..4), commit in 0u64..32,
        ) {
            let model: Model = writes;
            let tables: Vec<_> = (0..4).map(|_| Arc::new(Memtable::new(1 << 16, 1))).collect();
            for ((key, commit), table) in &model {
                let entry = Entry { key, commit: Commit(commit.0), tag: Tag::PUT, value: b"v" };
                prop_assert!(tables[*table].insert(entry));
            }
            let sources = tables.iter().map(|t| Source::Memory(MemCursor::new(t.clone()))).collect();
            let mut merge = MergeCursor::new(sources);
            let all: Vec<_> = model.keys().map(|(k, c)| (k.clone(), c.0)).collect();
            merge.seek_first().unwrap();
            prop_assert_eq!(walk(&mut merge, true), all.clone());
            merge.seek_last().unwrap();
            prop_assert_eq!(walk(&mut merge, false), all.iter().rev().cloned().collect::<Vec<_>>());
            let from = (probe.clone(), Reverse(commit));
            merge.seek(&probe, Commit(commit)).unwrap();
            prop_assert_eq!(walk(&mut merge, true).len(), model.range(from.clone()..).count());
            merge.seek_before(&probe, Commit(commit)).unwrap();
            prop_assert_eq!(walk(&mut merge, false).len(), model.range(..from).count());
        }
    }
}
