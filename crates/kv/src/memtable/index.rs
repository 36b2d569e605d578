//! Where the newest version of each key of a memtable stands: a hash table beside the ordered list,
//! so that a point read takes one step, and a read of a key that is not here none.
//!
//! A slot holds a place in the list and as many bits of the key's hash as are left over. One writer
//! at a time; readers never wait. When there are more keys than it was made for, it gives up and
//! says so, and the list answers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Bytes of list for each slot: entries are rarely smaller.
const BYTES_A_SLOT: usize = 96;
/// Slots that are set up together, when the first of them is used: a memtable with little in it
/// takes little memory, and there is one for every keyspace.
const CHUNK: usize = 4096;
const EMPTY: u32 = 0;

/// The hash table.
#[derive(Debug)]
pub(crate) struct Index {
    chunks: Box<[OnceLock<Box<[AtomicU32]>>]>,
    slots: usize,
    /// Low bits of a slot that hold the place; the rest is of the hash.
    place_bits: u32,
    keys: AtomicUsize,
    /// Chunks that are set up.
    in_use: AtomicUsize,
    full: AtomicBool,
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

impl Index {
    /// For a list of `capacity` bytes whose places are below `places`.
    pub(crate) fn new(capacity: usize, places: usize) -> Self {
        let slots = (capacity / BYTES_A_SLOT).next_power_of_two().max(16);
        let place_bits = usize::BITS - places.leading_zeros();
        Self {
            chunks: std::iter::repeat_with(OnceLock::new)
                .take(slots.div_ceil(CHUNK))
                .collect(),
            slots,
            place_bits: place_bits.min(32),
            keys: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// Bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.in_use.load(Ordering::Relaxed) * self.slots.min(CHUNK) * size_of::<AtomicU32>()
    }

    /// The numbers of the slots, from the first one that a hash may stand in.
    fn probe(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots - 1;
        let start = hash as usize & mask;
        (0..self.slots).map(move |step| (start + step) & mask)
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
        for slot in self.probe(hash) {
            let here = self.read(slot);
            if here == EMPTY {
                let keys = self.keys.load(Ordering::Relaxed) + 1;
                if keys > self.slots / 8 * 7 {
                    break;
                }
                self.keys.store(keys, Ordering::Relaxed);
                self.write(slot, mark | place);
                return;
            }
            let other = self.place(here);
            if here == mark | other && is_key(other) {
                if is_older(other) {
                    self.write(slot, mark | place);
                }
                return;
            }
        }
        self.full.store(true, Ordering::Release);
    }

    /// Where the newest version of a key stands.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_key: impl Fn(u32) -> bool) -> Found {
        if self.full.load(Ordering::Acquire) {
            return Found::Unknown;
        }
        let mark = self.mark(hash);
        for slot in self.probe(hash) {
            let here = self.read(slot);
            if here == EMPTY {
                return Found::Absent;
            }
            let place = self.place(here);
            if here == mark | place && is_key(place) {
                return Found::At(place);
            }
        }
        Found::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn little_in_it_takes_little_memory() {
        let index = Index::new(64 << 20, 8 << 20);
        let set_up = || {
            index
                .chunks
                .iter()
                .filter(|chunk| chunk.get().is_some())
                .count()
        };
        assert_eq!(index.find(7, |_| true), Found::Absent);
        assert_eq!((set_up(), index.slots), (0, 1 << 20));
        index.note(7, 1, |_| false, |_| true);
        assert_eq!(index.find(7, |_| true), Found::At(1));
        assert_eq!(set_up(), 1);
    }

    proptest! {
        #[test]
        fn the_newest_place_of_each_key_is_found_until_it_gives_up(
            keys in prop::collection::vec((0u64..60, 0u64..1000), 1..120), places in 1usize..1 << 33,
        ) {
            // Few slots, hashes that collide, and marks of every width.
            let index = Index::new(64 * BYTES_A_SLOT, places.max(200));
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
