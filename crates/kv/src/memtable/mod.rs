//! Recent writes in memory, ordered, until they are flushed to a table.
//!
//! A memtable is filled by one writer at a time, read by anybody, sealed once, and freed when its
//! last reader leaves after the flush.

mod index;
mod key_tree;
mod memory;
mod skiplist;

pub(crate) use skiplist::Entry;

use crate::blob::LARGE_VALUE;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::range_delete::{RangeDelete, Ranges};
use crate::sst::filter;
use crate::types::Commit;
use index::{Found, Index};
use key_tree::{KeyTree, Keys, Spot};
use parking_lot::Mutex;
use skiplist::SkipList;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Recent writes of one keyspace.
#[derive(Debug)]
pub(crate) struct Memtable {
    list: SkipList,
    index: Index,
    /// Where new keys belong in the list; `None` once it is complete.
    tree: Mutex<Option<KeyTree>>,
    tree_bytes: AtomicUsize,
    entries: AtomicU64,
    min_commit: AtomicU64,
    max_commit: AtomicU64,
    /// Bytes set aside for writes that are in the log and not here yet.
    reserved: AtomicUsize,
    /// The first log file that holds any of it.
    wal: AtomicU64,
    ranges: Ranges,
    has_ranges: AtomicBool,
    range_bytes: AtomicUsize,
    large_bytes: AtomicUsize,
}

impl Memtable {
    pub(crate) fn new(capacity: usize, wal: u64) -> Self {
        Self::expecting(0, capacity, wal)
    }

    /// As [`Memtable::new`], for about as many versions as `expected`.
    pub(crate) fn expecting(expected: u64, capacity: usize, wal: u64) -> Self {
        let list = SkipList::new(capacity);
        let expected = usize::try_from(expected)
            .unwrap_or(usize::MAX)
            .min(capacity);
        let index = Index::new(capacity, list.places(), expected);
        Self::of(list, index, wal)
    }

    fn of(list: SkipList, index: Index, wal: u64) -> Self {
        Self {
            index,
            list,
            tree: Mutex::new(Some(KeyTree::default())),
            tree_bytes: AtomicUsize::new(0),
            entries: AtomicU64::new(0),
            min_commit: AtomicU64::new(u64::MAX),
            max_commit: AtomicU64::new(0),
            reserved: AtomicUsize::new(0),
            wal: AtomicU64::new(wal),
            ranges: Ranges::default(),
            has_ranges: AtomicBool::new(false),
            range_bytes: AtomicUsize::new(0),
            large_bytes: AtomicUsize::new(0),
        }
    }

    /// Sets room aside for writes whose record stands in log file `wal`. One thread at a time.
    pub(crate) fn reserve(&self, bytes: usize, wal: u64) {
        // Room is released after the writes are in: looked at in this order, a memtable that holds
        // something is never taken for empty.
        if self.reserved() == 0 && self.is_empty() {
            self.wal.store(wal, Ordering::Relaxed);
        }
        self.reserved.fetch_add(bytes, Ordering::AcqRel);
    }

    /// The writes that this room was for are in.
    pub(crate) fn release(&self, bytes: usize) {
        self.reserved.fetch_sub(bytes, Ordering::AcqRel);
    }

    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Acquire)
    }

    /// The first log file that is needed for what is here or on its way; `None` when nothing is.
    pub(crate) fn wal(&self) -> Option<u64> {
        let expected = self.reserved() > 0;
        (expected || !self.is_empty()).then(|| self.wal.load(Ordering::Relaxed))
    }

    /// The most bytes an entry can take.
    pub(crate) fn entry_bytes(key_len: usize, value_len: usize) -> usize {
        SkipList::entry_bytes(key_len, value_len)
    }

    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.list.fits(bytes + self.reserved())
    }

    /// Most of its memory is about to be used, entry after entry.
    pub(crate) fn fills(&self) {
        self.list.fills();
    }

    /// Adds an entry; false when the memtable is full.
    pub(crate) fn insert(&self, entry: Entry<'_>) -> bool {
        if entry.tag.is_ingested() {
            // It is in tables.
            return true;
        }
        if entry.tag.is_range_delete() {
            self.insert_range(entry);
        } else if !self.insert_in_list(entry) {
            return false;
        }
        self.entries.fetch_add(1, Ordering::Relaxed);
        if entry.value.len() >= LARGE_VALUE {
            self.large_bytes
                .fetch_add(entry.value.len(), Ordering::Relaxed);
        }
        if entry.commit.0 < self.min_commit.load(Ordering::Relaxed) {
            self.min_commit.store(entry.commit.0, Ordering::Relaxed);
        }
        if entry.commit.0 > self.max_commit.load(Ordering::Relaxed) {
            self.max_commit.store(entry.commit.0, Ordering::Relaxed);
        }
        true
    }

    fn insert_in_list(&self, entry: Entry<'_>) -> bool {
        let mut tree = self.tree.lock();
        let hash = filter::hash(entry.key);
        let is_key = |other| self.list.key(other) == entry.key;
        // What the new entry stands right before, where that is known, and whether its key is new.
        let (next, is_new) = match self.index.find(hash, is_key) {
            Found::At(newest) if self.list.entry(newest).commit < entry.commit => {
                (Some(newest), false)
            }
            Found::At(_) => (None, false),
            Found::Absent | Found::Unknown => match &mut *tree {
                None => (None, false),
                Some(tree) => match tree.find(entry.key, &self.list) {
                    Spot::Taken => (None, false),
                    Spot::Between(before, next) => (self.first_version(next, before), true),
                    Spot::Last => (None, true),
                },
            },
        };
        let Some(node) = self.list.insert(entry, next) else {
            return false;
        };
        if let (Some(tree), true) = (&mut *tree, is_new) {
            tree.insert(node, entry.key, &self.list);
            self.tree_bytes.store(tree.bytes(), Ordering::Relaxed);
        }
        self.index.note(hash, node, is_key, |other| {
            self.list.entry(other).commit <= entry.commit
        });
        true
    }

    /// The first entry in the list with the key of `version`, where it is found at once. `other` has
    /// another key; it is likely to stand before.
    fn first_version(&self, version: u32, other: Option<u32>) -> Option<u32> {
        if let Some(other) = other {
            self.list.prefetch(other);
        }
        let before = self.list.before(version);
        if before == 0 || Some(before) == other {
            return Some(version);
        }
        let key = self.list.key(version);
        if self.list.key(before) != key {
            return Some(version);
        }
        let is_key = |other| self.list.key(other) == key;
        match self.index.find(filter::hash(key), is_key) {
            Found::At(newest) => Some(newest),
            Found::Absent | Found::Unknown => None,
        }
    }

    /// Everything is in: memory that only helps a writer is given back. What should still come is
    /// searched for in the list.
    pub(crate) fn complete(&self) {
        let tree = self.tree.lock().take();
        self.tree_bytes.store(0, Ordering::Relaxed);
        // Thousands of nodes, while nobody waits for the lock.
        drop(tree);
    }

    fn insert_range(&self, entry: Entry<'_>) {
        let range = RangeDelete::of_op(entry.key, entry.value, entry.commit);
        let bytes = Self::entry_bytes(entry.key.len(), entry.value.len());
        self.ranges.add(range);
        self.range_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.has_ranges.store(true, Ordering::Release);
    }

    /// True when it holds deletions of ranges.
    #[inline]
    pub(crate) fn has_ranges(&self) -> bool {
        self.has_ranges.load(Ordering::Acquire)
    }

    /// Its deletions of ranges.
    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// The newest entry of `key`, whose hash is `hash`, at or before `commit`.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64, commit: Commit) -> Option<Entry<'_>> {
        if self.is_empty() {
            return None;
        }
        match self.index.find(hash, |node| self.list.key(node) == key) {
            Found::Absent => return None,
            Found::At(node) => {
                let newest = self.list.entry(node);
                if newest.commit <= commit {
                    return Some(newest);
                }
            }
            Found::Unknown => {}
        }
        self.search(key, commit)
    }

    fn search(&self, key: &[u8], commit: Commit) -> Option<Entry<'_>> {
        let node = self.list.seek(key, commit);
        if node == 0 {
            return None;
        }
        let entry = self.list.entry(node);
        (entry.key == key).then_some(entry)
    }

    /// Visits every entry in order.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Entry<'_>)) {
        let mut node = self.list.first();
        while node != 0 {
            visit(self.list.entry(node));
            node = self.list.next(node);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries() == 0
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.list.used() + self.range_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of values of [`LARGE_VALUE`] and more.
    pub(crate) fn large_bytes(&self) -> usize {
        self.large_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of memory it takes, what finds keys included.
    pub(crate) fn memory(&self) -> usize {
        self.lasting_memory() + self.tree_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of memory that it takes until it is in a table.
    pub(crate) fn lasting_memory(&self) -> usize {
        self.bytes() + self.index.bytes()
    }

    pub(crate) fn min_commit(&self) -> Commit {
        Commit(self.min_commit.load(Ordering::Relaxed))
    }

    pub(crate) fn max_commit(&self) -> Commit {
        Commit(self.max_commit.load(Ordering::Relaxed))
    }
}

impl Keys for SkipList {
    #[inline(always)]
    fn key(&self, place: u32) -> &[u8] {
        SkipList::key(self, place)
    }
}

/// A place in a memtable.
#[derive(Debug)]
pub(crate) struct MemCursor {
    table: Arc<Memtable>,
    node: u32,
}

impl MemCursor {
    pub(crate) fn new(table: Arc<Memtable>) -> Self {
        Self { table, node: 0 }
    }

    fn entry(&self) -> Entry<'_> {
        self.table.list.entry(self.node)
    }
}

impl Cursor for MemCursor {
    fn seek(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        self.node = self.table.list.seek(key, commit);
        Ok(())
    }

    fn seek_first(&mut self) -> Result<()> {
        self.node = self.table.list.first();
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        self.node = self.table.list.seek_before(key, commit);
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        self.node = self.table.list.last();
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.node = self.table.list.next(self.node);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.node = self.table.list.previous(self.node);
        Ok(())
    }

    fn valid(&self) -> bool {
        self.node != 0
    }

    fn key(&self) -> &[u8] {
        self.entry().key
    }

    fn commit(&self) -> Commit {
        self.entry().commit
    }

    fn tag(&self) -> crate::types::Tag {
        self.entry().tag
    }

    fn value(&self) -> &[u8] {
        self.entry().value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Tag;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn put<'a>(key: &'a [u8], commit: u64, value: &'a [u8]) -> Entry<'a> {
        Entry {
            key,
            commit: Commit(commit),
            tag: Tag::PUT,
            value,
        }
    }

    type Model = BTreeMap<(Vec<u8>, std::cmp::Reverse<u64>), Vec<u8>>;

    type Row = ((Vec<u8>, std::cmp::Reverse<u64>), Vec<u8>);

    fn rows_from_behind(table: &Arc<Memtable>) -> Vec<Row> {
        let mut cursor = MemCursor::new(table.clone());
        cursor.seek_last().unwrap();
        let mut rows = Vec::new();
        while cursor.valid() {
            let key = (cursor.key().to_vec(), std::cmp::Reverse(cursor.commit().0));
            rows.push((key, cursor.value().to_vec()));
            cursor.prev().unwrap();
        }
        rows
    }

    fn rows(table: &Arc<Memtable>) -> Vec<Row> {
        let mut cursor = MemCursor::new(table.clone());
        cursor.seek_first().unwrap();
        let mut rows = Vec::new();
        while cursor.valid() {
            let key = (cursor.key().to_vec(), std::cmp::Reverse(cursor.commit().0));
            rows.push((key, cursor.value().to_vec()));
            cursor.next().unwrap();
        }
        rows
    }

    proptest! {
        #[test]
        fn a_memtable_is_an_ordered_map_of_versions(
            writes in prop::collection::vec((prop::collection::vec(0u8..4, 0..4), 1u64..20, prop::collection::vec(any::<u8>(), 0..40)), 0..200),
            rising in any::<bool>(),
            // From then on keys are searched for in the list.
            complete_at in 0usize..400,
            // The hash table gives up after 14 keys, or never.
            slots in prop::sample::select(vec![16, 1 << 12]),
            probes in prop::collection::vec((prop::collection::vec(0u8..4, 0..4), 0u64..22), 20),
        ) {
            let list = SkipList::new(1 << 20);
            let index = Index::with_slots(slots, slots, list.places());
            let table = Arc::new(Memtable::of(list, index, 1));
            let mut model = Model::new();
            for (at, (key, commit, value)) in writes.iter().enumerate() {
                if at == complete_at {
                    table.complete();
                }
                // One commit after the other, as writers go, or in any order, as a recovery does.
                let commit = &if rising { at as u64 / 10 } else { *commit };
                let slot = (key.clone(), std::cmp::Reverse(*commit));
                if model.contains_key(&slot) {
                    continue;
                }
                prop_assert!(table.insert(put(key, *commit, value)));
                model.insert(slot, value.clone());
            }
            prop_assert_eq!(rows(&table), model.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(rows_from_behind(&table), model.clone().into_iter().rev().collect::<Vec<_>>());
            for (key, commit) in probes {
                let found = table.get(&key, filter::hash(&key), Commit(commit)).map(|e| e.value.to_vec());
                let from = (key.clone(), std::cmp::Reverse(commit));
                let expected = model.range(from.clone()..).next().filter(|(k, _)| k.0 == key);
                prop_assert_eq!(found.as_ref(), expected.map(|(_, v)| v));
                let mut cursor = MemCursor::new(table.clone());
                cursor.seek_before(&key, Commit(commit)).unwrap();
                let before = model.range(..from).next_back();
                prop_assert_eq!(cursor.valid().then(|| cursor.value().to_vec()), before.map(|(_, v)| v.clone()));
            }
        }
    }

    #[test]
    fn of_two_entries_with_one_key_and_commit_the_later_is_read() {
        let table = Memtable::new(4096, 1);
        assert!(table.insert(put(b"k", 1, b"first")));
        assert!(table.insert(put(b"k", 1, b"second")));
        assert_eq!(
            table
                .get(b"k", filter::hash(b"k"), Commit(1))
                .unwrap()
                .value,
            b"second"
        );
    }

    #[test]
    fn a_full_memtable_refuses_and_keeps_what_it_has() {
        let table = Memtable::new(1024, 1);
        let mut n = 0u64;
        while table.insert(put(&n.to_be_bytes(), n + 1, &[7; 100])) {
            n += 1;
        }
        assert!((5..12).contains(&n), "{n}");
        for i in 0..n {
            let key = i.to_be_bytes();
            assert!(table.get(&key, filter::hash(&key), Commit::MAX).is_some());
        }
    }

    #[test]
    fn readers_never_meet_a_half_written_entry() {
        let table = Arc::new(Memtable::new(64 << 20, 1));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut x = 1u64;
                for commit in 1..=100_000u64 {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1);
                    // Half of them to a few keys, again and again.
                    let key = x >> if commit % 2 == 0 { 40 } else { 60 };
                    let key = key.to_be_bytes();
                    assert!(table.insert(put(&key, commit, &key)));
                }
                done.store(true, Ordering::Release);
            });
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let forward = rows(&table);
                    assert!(forward.iter().all(|((key, _), value)| key == value));
                    assert!(forward.is_sorted());
                    let backward = rows_from_behind(&table);
                    assert!(backward.iter().all(|((key, _), value)| key == value));
                    assert!(backward.iter().rev().is_sorted());
                }
            });
        });
        assert_eq!(rows(&table).len(), 100_000);
    }
}
