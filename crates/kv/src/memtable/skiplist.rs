//! A skip list in one block of memory: one writer at a time, any number of readers that never wait.
//!
//! Its `unsafe`, and the argument (besides, only `memory.rs` and `prefetch.rs` have any):
//! - The memory is one zeroed allocation that lives as long as the list; nothing is ever moved or
//!   freed before. A node's bytes are written only before the node is linked, by the thread that
//!   holds `writer`, and never again, except its links, forward and back, which are atomic.
//! - A node becomes reachable by a `Release` store into a link of a predecessor or, backwards, of the
//!   entry after it; readers follow links with `Acquire` loads, so they see all bytes of a node they reach.
//! - Node indices come from links, and from callers who pass on what this list gave them; both hold
//!   nothing but indices made by `allocate`, which checks the capacity; so every index is in bounds and aligned to 8 bytes, and links to 4.
//! - References handed out borrow the list, so the memory outlives them.
#![expect(unsafe_code, reason = "argued above")]

use super::memory::{ALIGN, Memory};
use crate::prefetch::prefetch;
use crate::types::{Commit, Tag};
use parking_lot::Mutex;
use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

const MAX_HEIGHT: usize = 10;
/// Bytes of a node before its links.
const HEADER: usize = size_of::<Header>();
const LINK: usize = size_of::<AtomicU32>();
const _: () = assert!(HEADER.is_multiple_of(LINK));
const UNIT: usize = ALIGN;
const NULL: u32 = 0;
const HEAD: u32 = 1;

/// What stands before a node's links.
#[repr(C)]
struct Header {
    /// Little-endian, as bytes so that the header's alignment is that of a link.
    commit: [u8; 8],
    value_len: u32,
    /// The entry that stands before.
    before: AtomicU32,
    key_len: u16,
    tag: u8,
    height: u8,
}

impl Header {
    #[inline(always)]
    fn commit(&self) -> Commit {
        Commit(u64::from_le_bytes(self.commit))
    }
}

/// Up to this height the predecessors of an entry are found from the one that is to stand behind it,
/// going back; with each level the way is eight times as long.
const NEAR: usize = 2;

/// What one entry of the list holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) commit: Commit,
    pub(crate) tag: Tag,
    pub(crate) value: &'a [u8],
}

/// The list, ordered by key, then newest commit first; of two entries with the same key and commit
/// the later insertion comes first.
pub(crate) struct SkipList {
    memory: Memory,
    capacity: usize,
    used: AtomicUsize,
    /// Some commit wrote a key twice.
    twins: AtomicBool,
    writer: Mutex<Writer>,
}

/// Held while inserting.
struct Writer {
    /// State of the generator of heights.
    rng: u64,
    /// The entry inserted last, where it stands, or what stands before it: where the search for a
    /// later key may start, so that keys in order cost next to nothing.
    hint: [u32; MAX_HEIGHT],
}

impl SkipList {
    /// The bytes an entry may need, padding and the tallest tower included.
    pub(crate) fn entry_bytes(key_len: usize, value_len: usize) -> usize {
        HEADER + MAX_HEIGHT * LINK + key_len + value_len + UNIT
    }

    /// An empty list that can hold `capacity` bytes of entries. Pages are touched as they fill.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(UNIT) + Self::entry_bytes(0, 0) + UNIT;
        assert!(
            capacity / UNIT < u32::MAX as usize,
            "a memtable is below 32 GiB"
        );
        let memory = Memory::zeroed(capacity);
        let head_bytes = (HEADER + MAX_HEIGHT * LINK).next_multiple_of(UNIT);
        Self {
            memory,
            capacity,
            twins: AtomicBool::new(false),
            used: AtomicUsize::new(HEAD as usize * UNIT + head_bytes),
            writer: Mutex::new(Writer {
                rng: 0x9e37_79b9_7f4a_7c15,
                hint: [HEAD; MAX_HEIGHT],
            }),
        }
    }

    /// Most of its memory is about to be used, from the start on.
    pub(crate) fn fills(&self) {
        self.memory.in_huge_pages();
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// True when an entry of these lengths certainly fits.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.used() + bytes <= self.capacity
    }

    /// Adds an entry and says where it stands. `next`: the entry that it stands right before, if that is
    /// known. `None` when it does not fit; then nothing changed.
    pub(crate) fn insert(&self, entry: Entry<'_>, next: Option<u32>) -> Option<u32> {
        let mut writer = self.writer.lock();
        writer.rng ^= writer.rng << 13;
        writer.rng ^= writer.rng >> 7;
        writer.rng ^= writer.rng << 17;
        // Each level holds an eighth of the one below.
        let height = (1 + (writer.rng.trailing_zeros() / 3) as usize).min(MAX_HEIGHT);
        let node = self.allocate(&entry, height)?;
        if let (Some(next), 1..=NEAR) = (next, height) {
            debug_assert_eq!(self.compare(next, entry.key, entry.commit), Greater);
            // Hints stay where they are: what stood before them still does.
            let predecessors = self.predecessors_of(next, height);
            debug_assert!(
                predecessors[0] == HEAD
                    || self.compare(predecessors[0], entry.key, entry.commit) == Less
            );
            self.link_in(node, &predecessors);
            return Some(node);
        }
        let last = writer.hint[0];
        let after_last = last != HEAD && self.compare(last, entry.key, entry.commit) == Less;
        let mut follow_hint = after_last;
        let mut predecessors = [HEAD; MAX_HEIGHT];
        let mut at = HEAD;
        for level in (0..MAX_HEIGHT).rev() {
            // All hints stand before the new entry. Once the walk has passed one, it has passed all.
            if follow_hint {
                at = writer.hint[level];
            }
            let mut next = self.link(at, level, Ordering::Relaxed);
            while self.leads_before(next, entry.key, entry.commit) {
                at = next;
                follow_hint = false;
                next = self.link(at, level, Ordering::Relaxed);
            }
            if level == 0 && next != NULL {
                let here = self.entry(next);
                if here.commit == entry.commit && here.key == entry.key {
                    self.twins.store(true, Ordering::Release);
                }
            }
            predecessors[level] = at;
        }
        writer.hint = predecessors;
        writer.hint[..height].fill(node);
        self.link_in(node, &predecessors[..height]);
        Some(node)
    }

    /// Who stands before `node` at each of the lowest levels.
    fn predecessors_of(&self, node: u32, levels: usize) -> [u32; NEAR] {
        let mut predecessors = [HEAD; NEAR];
        let mut at = self.header(node).before.load(Ordering::Relaxed);
        for (level, predecessor) in predecessors.iter_mut().enumerate().take(levels) {
            while at != HEAD && usize::from(self.header(at).height) <= level {
                at = self.header(at).before.load(Ordering::Relaxed);
            }
            *predecessor = at;
        }
        predecessors
    }

    /// Links a node in behind its predecessors, from the lowest level up. The caller holds `writer`.
    fn link_in(&self, node: u32, predecessors: &[u32]) {
        let levels = usize::from(self.header(node).height);
        let predecessors = &predecessors[..levels];
        for (level, before) in predecessors.iter().enumerate() {
            let next = self.link(*before, level, Ordering::Relaxed);
            self.link_cell(node, level).store(next, Ordering::Relaxed);
        }
        let before = predecessors[0];
        let next = self.link(node, 0, Ordering::Relaxed);
        self.header(node).before.store(before, Ordering::Relaxed);
        // From the bottom up, so that whoever can see the node can walk on from it.
        for (level, before) in predecessors.iter().enumerate() {
            self.link_cell(*before, level)
                .store(node, Ordering::Release);
        }
        if next != NULL {
            self.header(next).before.store(node, Ordering::Release);
        }
    }

    /// All places are below this one.
    pub(crate) fn places(&self) -> usize {
        self.capacity / UNIT + 1
    }

    /// The first entry that is not before (`key`, `commit`), in list order.
    pub(crate) fn seek(&self, key: &[u8], commit: Commit) -> u32 {
        let mut at = HEAD;
        let mut next = NULL;
        for level in (0..MAX_HEIGHT).rev() {
            next = self.link(at, level, Ordering::Acquire);
            while self.leads_before(next, key, commit) {
                at = next;
                next = self.link(at, level, Ordering::Acquire);
            }
        }
        next
    }

    /// The last entry before (`key`, `commit`), the later insertion of two equal ones; 0 when there
    /// is none.
    pub(crate) fn seek_before(&self, key: &[u8], commit: Commit) -> u32 {
        self.later_twin(self.last_where(|list, next| list.leads_before(next, key, commit)))
    }

    /// The last entry, the later insertion of two equal ones; 0 when the list is empty.
    pub(crate) fn last(&self) -> u32 {
        self.later_twin(self.last_where(|_, next| next != NULL))
    }

    /// The entry before `node`, as [`Self::seek_before`] has it.
    pub(crate) fn previous(&self, node: u32) -> u32 {
        if self.twins.load(Ordering::Acquire) {
            let entry = self.entry(node);
            return self.seek_before(entry.key, entry.commit);
        }
        self.before(node)
    }

    /// Whoever comes from behind meets the earlier insertion first, which counts for nothing.
    fn later_twin(&self, node: u32) -> u32 {
        if node == NULL || !self.twins.load(Ordering::Acquire) {
            return node;
        }
        let entry = self.entry(node);
        self.seek(entry.key, entry.commit)
    }

    fn last_where(&self, before: impl Fn(&Self, u32) -> bool) -> u32 {
        let mut at = HEAD;
        for level in (0..MAX_HEIGHT).rev() {
            let mut next = self.link(at, level, Ordering::Acquire);
            while before(self, next) {
                at = next;
                next = self.link(at, level, Ordering::Acquire);
            }
        }
        if at == HEAD { NULL } else { at }
    }

    /// The first entry; 0 when the list is empty.
    pub(crate) fn first(&self) -> u32 {
        self.link(HEAD, 0, Ordering::Acquire)
    }

    /// The entry after `node`; 0 at the end.
    pub(crate) fn next(&self, node: u32) -> u32 {
        self.link(node, 0, Ordering::Acquire)
    }

    /// The entry at `node`, which came from this list and is not 0.
    #[inline]
    pub(crate) fn entry(&self, node: u32) -> Entry<'_> {
        assert!(node > HEAD && (node as usize) * UNIT + HEADER <= self.capacity);
        let header = self.header(node);
        let at = node as usize * UNIT + HEADER + usize::from(header.height) * LINK;
        let key_len = usize::from(header.key_len);
        let value_len = header.value_len as usize;
        // SAFETY: `allocate` reserved these bytes for this node and wrote them before linking it.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.memory.base().add(at), key_len + value_len) };
        let (key, value) = bytes.split_at(key_len);
        Entry {
            key,
            commit: header.commit(),
            tag: Tag::from_byte(header.tag).expect("the tag was written from a tag"),
            value,
        }
    }

    /// The key of the entry at `node`, which came from this list and is not 0.
    #[inline(always)]
    pub(crate) fn key(&self, node: u32) -> &[u8] {
        assert!(node > HEAD && (node as usize) * UNIT + HEADER <= self.capacity);
        let header = self.header(node);
        let at = node as usize * UNIT + HEADER + usize::from(header.height) * LINK;
        // SAFETY: as in `entry`.
        unsafe {
            std::slice::from_raw_parts(self.memory.base().add(at), usize::from(header.key_len))
        }
    }

    /// The entry that stands before `node`, also the earlier of two with the same key and commit; 0 when
    /// there is none.
    pub(crate) fn before(&self, node: u32) -> u32 {
        match self.header(node).before.load(Ordering::Acquire) {
            HEAD => NULL,
            before => before,
        }
    }

    /// Asks for the memory at `node`, which came from this list.
    #[inline(always)]
    pub(crate) fn prefetch(&self, node: u32) {
        prefetch(self.header(node));
    }

    /// Reserves and fills a node that nobody can see yet.
    fn allocate(&self, entry: &Entry<'_>, height: usize) -> Option<u32> {
        let key_len = u16::try_from(entry.key.len()).ok()?;
        let value_len = u32::try_from(entry.value.len()).ok()?;
        let start = self.used.load(Ordering::Relaxed);
        let key_at = HEADER + height * LINK;
        let bytes = key_at + entry.key.len() + entry.value.len();
        let end = start.checked_add(bytes)?.next_multiple_of(UNIT);
        if end > self.capacity {
            return None;
        }
        self.used.store(end, Ordering::Relaxed);
        let header = Header {
            commit: entry.commit.0.to_le_bytes(),
            value_len,
            before: AtomicU32::new(NULL),
            key_len,
            tag: entry.tag.byte(),
            height: height as u8,
        };
        // SAFETY: `start..end` is in bounds, aligned to 8, unused so far, and only the holder of
        // `writer` comes here; no reader has the index yet.
        unsafe {
            let at = self.memory.base().add(start);
            at.cast::<Header>().write(header);
            let key = at.add(key_at);
            key.copy_from_nonoverlapping(entry.key.as_ptr(), entry.key.len());
            key.add(entry.key.len())
                .copy_from_nonoverlapping(entry.value.as_ptr(), entry.value.len());
        }
        u32::try_from(start / UNIT).ok()
    }

    #[inline(always)]
    fn header(&self, node: u32) -> &Header {
        // SAFETY: `node` is an index made by `allocate`, so a header was written there.
        unsafe {
            &*self
                .memory
                .base()
                .add(node as usize * UNIT)
                .cast::<Header>()
        }
    }

    #[inline(always)]
    fn link(&self, node: u32, level: usize, ordering: Ordering) -> u32 {
        self.link_cell(node, level).load(ordering)
    }

    #[inline(always)]
    fn link_cell(&self, node: u32, level: usize) -> &AtomicU32 {
        debug_assert!(level < MAX_HEIGHT);
        // SAFETY: the node has more than `level` links: the head has all, and any other node is
        // reached at a level it was linked at. They are 4-aligned, zero or written atomically.
        unsafe {
            let at = node as usize * UNIT + HEADER + level * LINK;
            &*self.memory.base().add(at).cast::<AtomicU32>()
        }
    }

    /// True when there is an entry `node` and it stands before (`key`, `commit`).
    #[inline(always)]
    fn leads_before(&self, node: u32, key: &[u8], commit: Commit) -> bool {
        node != NULL && self.compare(node, key, commit) == Less
    }

    #[inline(always)]
    fn compare(&self, node: u32, key: &[u8], commit: Commit) -> std::cmp::Ordering {
        let header = self.header(node);
        let own = self.key(node);
        match own.cmp(key) {
            // The newer one stands first.
            Equal => commit.cmp(&header.commit()),
            other => other,
        }
    }
}

impl std::fmt::Debug for SkipList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SkipList")
            .field("used", &self.used())
            .field("capacity", &self.capacity)
            .finish()
    }
}
