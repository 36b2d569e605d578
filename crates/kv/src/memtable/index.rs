//! Where the newest version of each key of a memtable stands: a hash table beside the ordered list,
//! so that a point read takes one step, and a read of a key that is not here none.
//!
//! A slot holds a place in the list and as many bits of the key's hash as are left over. One writer
//! at a time; readers never wait. When there are more keys than it was made for, it gives up and
//! says so, and the list answers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Bytes of list for each slot: entries with a key and a value of a few bytes each.
const BYTES_A_SLOT: usize = 56;
/// Slots that are set up together, when the first of them is used: a memtable with little in it
/// takes little memory, and there is one for every keyspace.
const CHUNK: usize = 4096;
const EMPTY: u32 = 0;
/// Each table of an index has so many times the slots of the one before.
const GROWTH: usize = 8;

/// The hash table: one, or several one after the other, each larger than the one before, when more
/// comes than was expected. A key stands in one of them.
#[derive(Debug)]
pub(crate) struct Index {
    stages: Box<[Stage]>,
    /// Stages that may hold something.
    live: AtomicUsize,
    /// Low bits of a slot that hold the place; the rest is of the hash.
    place_bits: u32,
    full: AtomicBool,
}

/// One table of the index.
#[derive(Debug)]
struct Stage {
    chunks: Box<[OnceLock<Box<[AtomicU32]>>]>,
    slots: usize,
    keys: AtomicUsize,
    /// Chunks that are set up.
    in_use: AtomicUsize,
}

/// What the index knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The newest version is here.
    At(u32),
    /// There is none.
    Absent,
    /// It has given up.
    Unknown,
}

impl Stage {
    fn new(slots: usize) -> Self {
        Self {
            chunks: std::iter::repeat_with(OnceLock::new)
                .take(slots.div_ceil(CHUNK))
                .collect(),
            slots,
            keys: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
        }
    }

    fn bytes(&self) -> usize {
        self.in_use.load(Ordering::Relaxed) * self.slots.min(CHUNK) * size_of::<AtomicU32>()
    }

    /// A slot, to be read; one that was never set up is empty.
    #[inline]
    fn read(&self, slot: usize) -> u32 {
        let chunk = self.chunks[slot / CHUNK].get();
        chunk.map_or(EMPTY, |chunk| chunk[slot % CHUNK].load(Ordering::Acquire))
    }

    fn write(&self, slot: usize, value: u32) {
        let chunk = self.chunks[slot / CHUNK].get_or_init(|| {
            self.in_use.fetch_add(1, Ordering::Relaxed);
            let empty = std::iter::repeat_with(|| AtomicU32::new(EMPTY));
            empty.take(self.slots.min(CHUNK)).collect()
        });
        chunk[slot % CHUNK].store(value, Ordering::Release);
    }

    /// The slot for which `is_here` holds, or else the empty one where the search ended. `None` when
    /// there is neither.
    #[inline]
    fn search(&self, hash: u64, is_here: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        let mask = self.slots - 1;
        let start = hash as usize & mask;
        for step in 0..self.slots {
            let slot = (start + step) & mask;
            let here = self.read(slot);
            if here == EMPTY || is_here(here) {
                return Some((slot, here));
            }
        }
        None
    }

    /// True when no further key may come in.
    fn is_full(&self, is_last: bool) -> bool {
        let most = match is_last {
            true => self.slots / 8 * 7,
            // Searched from now on for every key that is in a later one.
            false => self.slots / 8 * 5,
        };
        self.keys.load(Ordering::Relaxed) >= most
    }
}

impl Index {
    /// For a list of `capacity` bytes whose places are below `places`, and about `expected` keys.
    pub(crate) fn new(capacity: usize, places: usize, expected: usize) -> Self {
        let most = (capacity / BYTES_A_SLOT).next_power_of_two().max(16);
        let first = (expected * 8 / 5).next_power_of_two().max(CHUNK);
        Self::with_slots(first.min(most), most, places)
    }

    pub(super) fn with_slots(first: usize, most: usize, places: usize) -> Self {
        let sizes = std::iter::successors(Some(first), |slots| {
            (*slots < most).then(|| (slots * GROWTH).min(most))
        });
        let place_bits = usize::BITS - places.leading_zeros();
        Self {
            stages: sizes.map(Stage::new).collect(),
            live: AtomicUsize::new(1),
            place_bits: place_bits.min(32),
            full: AtomicBool::new(false),
        }
    }

    /// Bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.live().iter().map(Stage::bytes).sum()
    }

    fn live(&self) -> &[Stage] {
        &self.stages[..self.live.load(Ordering::Acquire)]
    }

    /// The part of a slot that is of the hash.
    fn mark(&self, hash: u64) -> u32 {
        match self.place_bits {
            32.. => 0,
            bits => ((hash >> 32) as u32) << bits,
        }
    }

    fn place(&self, slot: u32) -> u32 {
        match self.place_bits {
            32.. => slot,
            bits => slot & ((1 << bits) - 1),
        }
    }

    /// Notes that a version of a key stands at `place`, which is not 0. `is_key` tells whether the
    /// entry at a place has this key, `is_older` whether it then counts less than the new one.
    pub(crate) fn note(
        &self,
        hash: u64,
        place: u32,
        is_key: impl Fn(u32) -> bool,
        is_older: impl Fn(u32) -> bool,
    ) {
        if self.full.load(Ordering::Relaxed) {
            return;
        }
        let mark = self.mark(hash);
        let is_here = |slot| {
            let other = self.place(slot);
            slot == mark | other && is_key(other)
        };
        let live = self.live();
        let mut end = None;
        for stage in live {
            end = stage.search(hash, is_here);
            if let Some((slot, here)) = end
                && here != EMPTY
            {
                if is_older(self.place(here)) {
                    stage.write(slot, mark | place);
                }
                return;
            }
        }
        // A new key: into the last stage, or the first slot of the next one.
        let number = live.len();
        let last = &live[number - 1];
        let is_last = number == self.stages.len();
        match end {
            Some((slot, _)) if !last.is_full(is_last) => {
                last.keys.fetch_add(1, Ordering::Relaxed);
                last.write(slot, mark | place);
            }
            _ if !is_last => {
                let next = &self.stages[number];
                next.keys.fetch_add(1, Ordering::Relaxed);
                next.write(hash as usize & (next.slots - 1), mark | place);
                // Readers look into it from here on. Whoever does not yet reads at a commit before.
                self.live.store(number + 1, Ordering::Release);
            }
            _ => self.full.store(true, Ordering::Release),
        }
    }

    /// Where the newest version of a key stands.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_key: impl Fn(u32) -> bool) -> Found {
        if self.full.load(Ordering::Acquire) {
            return Found::Unknown;
        }
        let mark = self.mark(hash);
        let is_here = |slot| {
            let place = self.place(slot);
            slot == mark | place && is_key(place)
        };
        // The last one has the most.
        for stage in self.live().iter().rev() {
            if let Some((_, here)) = stage.search(hash, is_here)
                && here != EMPTY
            {
                return Found::At(self.place(here));
            }
        }
        Found::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn little_in_it_takes_little_memory() {
        let index = Index::new(64 << 20, 8 << 20, 0);
        assert_eq!(index.find(7, |_| true), Found::Absent);
        assert_eq!(index.bytes(), 0);
        assert_eq!(index.stages.last().unwrap().slots, 1 << 21);
        let hash = |n: u32| {
            u64::from(n)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(32)
        };
        for n in 1..=1_000_000u32 {
            // Five eighths of one are taken when the next, eight times as large, is begun.
            let slots = index.bytes() / 4;
            assert!(
                slots <= CHUNK + 15 * n as usize,
                "{slots} slots for {n} keys"
            );
            index.note(hash(n), n, |other| other == n, |_| true);
        }
        let found = |n| index.find(hash(n), |other| other == n);
        assert!((1..=1_000_000).all(|n| found(n) == Found::At(n)));
        assert_eq!(found(1_000_001), Found::Absent);
    }

    #[test]
    fn what_is_expected_stands_in_one_table() {
        let index = Index::new(64 << 20, 8 << 20, 300_000);
        assert_eq!(index.stages[0].slots, 1 << 19);
        assert_eq!(
            Index::new(64 << 20, 8 << 20, usize::MAX / 16).stages.len(),
            1
        );
    }

    proptest! {
        #[test]
        fn the_newest_place_of_each_key_is_found_until_it_gives_up(
            keys in prop::collection::vec((0u64..60, 0u64..1000), 1..120), places in 1usize..1 << 33,
            first in prop::sample::select(vec![4, 16, 32, 64]),
        ) {
            // Few slots, hashes that collide, and marks of every width.
            let index = Index::with_slots(first, 64, places.max(200));
            let mut entries: Vec<(u64, u64)> = vec![(u64::MAX, 0)];
            let mut newest: BTreeMap<u64, u32> = BTreeMap::new();
            let hash = |key: u64| (key % 7) | ((key % 3) << 32);
            for (key, commit) in keys {
                entries.push((key, commit));
                let place = entries.len() as u32 - 1;
                index.note(
                    hash(key),
                    place,
                    |other| entries[other as usize].0 == key,
                    |other| entries[other as usize].1 <= commit,
                );
                let best = newest.entry(key).or_insert(place);
                if entries[*best as usize].1 <= commit {
                    *best = place;
                }
                for key in 0..60 {
                    let found = index.find(hash(key), |other| entries[other as usize].0 == key);
                    match newest.get(&key) {
                        _ if found == Found::Unknown => prop_assert!(newest.len() > 56),
                        Some(place) => prop_assert_eq!(found, Found::At(*place)),
                        None => prop_assert_eq!(found, Found::Absent),
                    }
                }
            }
        }
    }
}
