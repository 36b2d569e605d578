//! The list as it was: which elements a version shows, without a copy of any of them.

use std::collections::HashMap;
use std::ops::Range;

use crate::bits::Bits;
use crate::content::Content;
use crate::delta::{Delta, DeltaBuilder};
use crate::doc::Doc;
use crate::error::{Error, Result};
use crate::id::{Frontier, OpId};
use crate::log::Revised;
use crate::order::Rank;
use crate::tree::{Elem, Entry};

/// What a version shows: a bit an element, and the few that were set or moved by name.
pub(crate) struct Shown<V> {
    elems: Bits,
    /// Who stands at which place made by a move, and whose own place is empty for that.
    slots: HashMap<Elem, Elem>,
    /// The values of elements that were set, if they are not those they were inserted with.
    values: HashMap<Elem, V>,
}

impl<C: Content> Doc<C> {
    /// How many transactions of each session are in `frontier`.
    fn counts(&self, frontier: &Frontier) -> Result<Vec<u32>> {
        let mut counts = vec![0; self.logs.len()];
        for (session, count) in frontier.iter() {
            let log = self.log_of(session);
            let known = log.map_or(0, |log| self.logs[log as usize].txs);
            if count > known {
                return Err(Error::UnknownVersion {
                    session: session.clone(),
                    count,
                    known,
                });
            }
            if let Some(log) = log {
                counts[log as usize] = count;
            }
        }
        if let Some(oldest) = &self.shallow
            && !frontier.includes(oldest)
        {
            return Err(Error::HistoryDropped {
                oldest: oldest.to_string(),
            });
        }
        Ok(counts)
    }

    /// What the version `frontier` shows.
    pub(crate) fn shown_at(&self, frontier: &Frontier) -> Result<Shown<C::Item>> {
        let counts = self.counts(frontier)?;
        let mut elems = Bits::with_len(self.births.elems());
        let numbers: Vec<u32> = self
            .logs
            .iter()
            .zip(&counts)
            .map(|(log, &count)| log.number_at(log.item_at(count)))
            .collect();
        for (row, arrival) in self.arrivals.iter().enumerate() {
            let end = self
                .arrivals
                .get(row + 1)
                .map_or(self.births.elems(), |next| next.elem);
            let in_version = numbers[arrival.session as usize].saturating_sub(arrival.number);
            elems.set_range(
                arrival.elem,
                end.min(arrival.elem.saturating_add(in_version)),
            );
        }
        elems.clear_all(&self.void);
        for (log, &count) in self.logs.iter().zip(&counts) {
            let end = log.item_at(count);
            for run in log.deletes.iter().take_while(|run| run.item < end) {
                let len = run.len().min(end - run.item);
                self.each_effective(log, run.item, len, |skip, len| {
                    let lo = run.lowest(skip, len);
                    elems.clear_range(lo, lo + len);
                });
            }
        }
        let (slots, values) = self.revised_at(&counts, &mut elems);
        Ok(Shown {
            elems,
            slots,
            values,
        })
    }

    /// The elements that the version `at` has and does not show, because they were deleted.
    pub(crate) fn deleted_at(&self, at: &Frontier) -> Result<Bits> {
        let counts = self.counts(at)?;
        let shown = self.shown_at(at)?;
        let mut gone = Bits::with_len(self.births.elems());
        for (log, &count) in self.logs.iter().zip(&counts) {
            let end = log.item_at(count);
            for run in log.deletes.iter().take_while(|run| run.item < end) {
                let len = run.len().min(end - run.item);
                self.each_effective(log, run.item, len, |skip, len| {
                    let lo = run.lowest(skip, len);
                    gone.set_range(lo, lo + len);
                });
            }
        }
        for &elem in shown.slots.values() {
            gone.clear_range(elem, elem + 1);
        }
        Ok(gone)
    }

    /// Calls `each` with the parts of `len` items from `item` on that were not refused.
    fn each_effective(
        &self,
        log: &crate::log::SessionLog<C::Item>,
        item: u32,
        len: u32,
        mut each: impl FnMut(u32, u32),
    ) {
        if log.refused.is_empty() {
            return each(0, len);
        }
        for skip in 0..len {
            if !log.is_refused(log.tx_of(item + skip).0) {
                each(skip, 1);
            }
        }
    }

    /// Plays the sets and moves of a version; takes from `elems` what moved away, and the places
    /// where nobody stands.
    fn revised_at(
        &self,
        counts: &[u32],
        elems: &mut Bits,
    ) -> (HashMap<Elem, Elem>, HashMap<Elem, C::Item>) {
        let mut places: HashMap<Elem, (Rank, Elem)> = HashMap::new();
        let mut values: HashMap<Elem, (Rank, &C::Item)> = HashMap::new();
        for (session, log) in self.logs.iter().enumerate() {
            let end = log.item_at(counts[session]);
            for revision in log
                .revisions
                .iter()
                .take_while(|revision| revision.item < end)
            {
                let (tx, _) = log.tx_of(revision.item);
                if let Revised::Place(slot) = revision.what {
                    elems.clear_range(slot, slot + 1);
                }
                if log.is_refused(tx) || self.moves.slots.contains_key(&revision.target) {
                    continue;
                }
                let rank = Rank {
                    lamport: log.lamport_of(tx),
                    session: session as u32,
                    number: revision.item,
                };
                let later = |known: Option<Rank>| {
                    known.is_none_or(|known| self.compare(known, rank).is_lt())
                };
                match &revision.what {
                    Revised::Place(slot) => {
                        if later(places.get(&revision.target).map(|known| known.0)) {
                            places.insert(revision.target, (rank, *slot));
                        }
                    }
                    Revised::Value(value) => {
                        if later(values.get(&revision.target).map(|known| known.0)) {
                            values.insert(revision.target, (rank, value));
                        }
                    }
                }
            }
        }
        let mut slots = HashMap::new();
        for (elem, (_, slot)) in places {
            if elems.get(elem) {
                elems.clear_range(elem, elem + 1);
                elems.set(slot);
                slots.insert(slot, elem);
            }
        }
        // An element whose newest value is not in the version has the one it was inserted with.
        let mut old: HashMap<Elem, C::Item> = self
            .sets
            .iter()
            .map(|(&elem, set)| (elem, set.inserted.clone()))
            .collect();
        old.extend(
            values
                .into_iter()
                .map(|(elem, (_, value))| (elem, value.clone())),
        );
        (slots, old)
    }

    /// The version of all transactions made at or before `millis`, of each session up to the first
    /// that was not.
    pub(crate) fn frontier_at(&self, millis: u64) -> Frontier {
        let until = |log: &crate::log::SessionLog<C::Item>| {
            log.times
                .iter()
                .find(|row| row.value > millis)
                .map_or(log.txs, |row| row.tx)
        };
        self.logs
            .iter()
            .map(|log| (log.id.clone(), until(log)))
            .collect()
    }

    /// Adds the contents that `part` has in the version.
    fn read_at(&self, shown: &Shown<C::Item>, part: Entry, out: &mut C::Owned) {
        if part.is_slot() {
            let elem = shown.slots[&part.lo];
            return self.read_value(shown, Entry::shown(elem, 1), out);
        }
        self.read_value(shown, part, out);
    }

    fn read_value(&self, shown: &Shown<C::Item>, part: Entry, out: &mut C::Owned) {
        if shown.values.is_empty() {
            return self.content.read(part, out);
        }
        for offset in 0..part.len() {
            match shown.values.get(&part.at(offset)) {
                Some(value) => C::push_item(out, value.clone()),
                None => self.content.read(part.part(offset, offset + 1), out),
            }
        }
    }

    /// What changes `from` into `to`.
    pub(crate) fn diff(&self, from: &Shown<C::Item>, to: &Shown<C::Item>) -> Vec<Delta<C::Owned>> {
        let mut delta = DeltaBuilder::default();
        for entry in self.tree.entries() {
            let (mut at, end) = (0, entry.len());
            while at < end {
                let elem = entry.at(at);
                let (was, is) = (from.elems.get(elem), to.elems.get(elem));
                let len = if entry.is_reversed() {
                    1
                } else {
                    from.elems
                        .stretch(elem, entry.end())
                        .min(to.elems.stretch(elem, entry.end()))
                        - elem
                };
                let part = entry.part(at, at + len);
                match (was, is) {
                    (false, false) => {}
                    (true, false) => delta.delete(len),
                    (false, true) => delta.insert(|out| self.read_at(to, part, out)),
                    (true, true) => self.diff_values(from, to, part, &mut delta),
                }
                at += len;
            }
        }
        delta.finish()
    }

    /// Elements that both versions show, at one place.
    fn diff_values(
        &self,
        from: &Shown<C::Item>,
        to: &Shown<C::Item>,
        part: Entry,
        delta: &mut DeltaBuilder<C::Owned>,
    ) {
        if from.values.is_empty() && to.values.is_empty() && !part.is_slot() {
            return delta.retain(part.len());
        }
        for offset in 0..part.len() {
            let one = part.part(offset, offset + 1);
            let owner = |shown: &Shown<C::Item>| {
                if one.is_slot() {
                    shown.slots[&one.lo]
                } else {
                    one.lo
                }
            };
            let same = owner(from) == owner(to)
                && from.values.get(&owner(from)) == to.values.get(&owner(to));
            if same {
                delta.retain(1);
            } else {
                delta.delete(1);
                delta.insert(|out| self.read_at(to, one, out));
            }
        }
    }
}

/// A list as it was at a version. It borrows the list and copies none of its contents; making one takes
/// time in proportion to the list's runs, and a bit an element.
pub struct View<'a, C: Content> {
    doc: &'a Doc<C>,
    shown: Shown<C::Item>,
    /// What is shown, from left to right, each with the position of its first element.
    parts: Vec<(u32, Entry)>,
    len: u32,
}

impl<'a, C: Content> View<'a, C> {
    pub(crate) fn new(doc: &'a Doc<C>, frontier: &Frontier) -> Result<Self> {
        let shown = doc.shown_at(frontier)?;
        let (mut parts, mut len): (Vec<(u32, Entry)>, u32) = (Vec::new(), 0);
        for entry in doc.tree.entries() {
            let (mut at, end) = (entry.lo, entry.end());
            let first = parts.len();
            while at < end {
                let next = shown.elems.stretch(at, end);
                if shown.elems.get(at) {
                    let offset = if entry.is_reversed() {
                        end - next
                    } else {
                        at - entry.lo
                    };
                    parts.push((
                        0,
                        entry.part(offset, offset + (next - at)).with_hidden(false),
                    ));
                }
                at = next;
            }
            if entry.is_reversed() {
                parts[first..].reverse();
            }
            for part in &mut parts[first..] {
                part.0 = len;
                len += part.1.len();
            }
        }
        Ok(Self {
            doc,
            shown,
            parts,
            len,
        })
    }

    /// How many elements the version shows.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it shows none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The stable name of the element at `position`.
    pub fn id_at(&self, position: usize) -> Option<OpId> {
        let (entry, offset) = self.find(position)?;
        let elem = entry.at(offset);
        Some(
            self.doc
                .op_id(self.shown.slots.get(&elem).copied().unwrap_or(elem)),
        )
    }

    fn find(&self, position: usize) -> Option<(Entry, u32)> {
        let position = u32::try_from(position)
            .ok()
            .filter(|&position| position < self.len)?;
        let (start, entry) = self.parts[self.parts.partition_point(|part| part.0 <= position) - 1];
        Some((entry, position - start))
    }

    /// Reads what is at `range`, as far as there is anything.
    pub(crate) fn read(&self, range: Range<usize>) -> C::Owned {
        let mut out = C::Owned::default();
        let (mut at, end) = (range.start, range.end.min(self.len()));
        while at < end {
            let Some((entry, offset)) = self.find(at) else {
                break;
            };
            let len = ((end - at) as u32).min(entry.len() - offset);
            self.doc
                .read_at(&self.shown, entry.part(offset, offset + len), &mut out);
            at += len as usize;
        }
        out
    }
}
