//! A block: a few kilobytes of entries, keys apart from values.
//!
//! Keys are delta-coded against their predecessor and stand in full every [`RESTART`] entries; a
//! search is a binary search over those and a short walk through a dense region of keys that never
//! touches the values. Layout: keys, values, restarts (key offset, value offset), trailer. Decoding
//! trusts nothing: any bytes give entries or `None`, never a panic.

mod cursor;
mod restarts;

pub(crate) use cursor::BlockCursor;

use crate::prefetch::prefetch;
use crate::types::{Commit, Tag};
use crate::varint;
use bytes::Bytes;
use restarts::{Restart, Restarts};
use std::cmp::Ordering;
use std::sync::atomic::{AtomicU8, Ordering as AtomicOrdering};

/// Entries from one full key to the next.
const RESTART: u32 = 8;
const RESTART_BYTES: usize = 8;
const TRAILER: usize = 20;

/// Builds a block entry by entry, in order.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    keys: Vec<u8>,
    values: Vec<u8>,
    restarts: Vec<u8>,
    last_key: Vec<u8>,
    entries: u32,
    base: u64,
}

impl BlockBuilder {
    /// No entry's commit may be below `base`.
    pub(crate) fn new(base: Commit) -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            restarts: Vec::new(),
            last_key: Vec::new(),
            entries: 0,
            base: base.0,
        }
    }

    pub(crate) fn add(&mut self, key: &[u8], commit: Commit, tag: Tag, value: &[u8]) {
        let shared = if self.entries.is_multiple_of(RESTART) {
            self.restarts
                .extend_from_slice(&(self.keys.len() as u32).to_le_bytes());
            self.restarts
                .extend_from_slice(&(self.values.len() as u32).to_le_bytes());
            0
        } else {
            common_prefix(&self.last_key, key)
        };
        debug_assert!(commit.0 >= self.base);
        varint::put(&mut self.keys, shared as u64);
        varint::put(&mut self.keys, (key.len() - shared) as u64);
        self.keys.push(tag.byte());
        varint::put(&mut self.keys, commit.0.wrapping_sub(self.base));
        varint::put(&mut self.keys, value.len() as u64);
        self.keys.extend_from_slice(&key[shared..]);
        self.values.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.entries += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Size of the block so far, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() + self.values.len() + self.restarts.len() + TRAILER
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Appends the block to `out` and starts a new one.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.reserve(self.bytes());
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&self.values);
        out.extend_from_slice(&self.restarts);
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&(self.keys.len() as u32).to_le_bytes());
        out.extend_from_slice(&((self.restarts.len() / RESTART_BYTES) as u32).to_le_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        self.keys.clear();
        self.values.clear();
        self.restarts.clear();
        self.last_key.clear();
        self.entries = 0;
    }
}

#[inline]
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A block, decompressed and checked for shape.
#[derive(Debug)]
pub(crate) struct Block {
    data: Bytes,
    keys_len: usize,
    restarts_at: usize,
    restarts: Restarts,
    prefix: Prefix,
    entries: u32,
    /// Uses that the cache was told of since its hand passed.
    told: AtomicU8,
    base: u64,
}

/// The values between two restarts are fetched while the keys are walked when they have at most so many
/// bytes together; the keys alike.
const FETCH: usize = 1280;
/// The cache counts so many uses of a block from one passing of its hand to the next. It takes one away
/// where it moves a block to its hot part, and does not say so; with one alone, such a block would then look unused.
const TOLD: u8 = 2;

/// Prefixes up to this length stand beside a block's fields, in bytes: a search has no need of the
/// block for them.
const SHORT_PREFIX: usize = 24;

/// What all restart keys of a block begin with.
#[derive(Debug, Clone, Copy, Default)]
struct Prefix {
    len: u32,
    /// Where it stands in the block.
    at: u32,
    /// Its start, zeros behind its end.
    short: [u8; SHORT_PREFIX],
}

/// The first eight bytes of a key as a number, zeros behind its end.
#[inline(always)]
pub(crate) fn head_of(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(head)
        }
    }
}

/// An entry's fixed part, and where its variable parts stand.
#[derive(Debug, Clone, Copy)]
struct Head {
    shared: usize,
    suffix_at: usize,
    suffix_len: usize,
    tag: Tag,
    commit: Commit,
    value_len: usize,
}

impl Head {
    fn end(&self) -> usize {
        self.suffix_at + self.suffix_len
    }
}

/// What a search for a key found: the entry, with its value's place in the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) commit: Commit,
    pub(crate) tag: Tag,
    value_at: usize,
    value_len: usize,
}

impl Found {
    /// Bytes of the value.
    #[inline]
    pub(crate) fn value_len(&self) -> usize {
        self.value_len
    }
}

impl Block {
    /// False when its bytes are a part of more that stays in memory with them.
    #[cfg(test)]
    pub(crate) fn holds_its_bytes_alone(&self) -> bool {
        self.data.is_unique()
    }

    /// Checks the shape of a block.
    pub(crate) fn parse(data: Bytes) -> Result<Self, &'static str> {
        let end = data
            .len()
            .checked_sub(TRAILER)
            .ok_or("a block shorter than its trailer")?;
        let u32_at = |at: usize| {
            u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes")) as usize
        };
        let base = u64::from_le_bytes(data[end..end + 8].try_into().expect("eight bytes"));
        let keys_len = u32_at(end + 8);
        let restarts = u32_at(end + 12);
        let entries = u32_at(end + 16) as u32;
        let restarts_at = restarts
            .checked_mul(RESTART_BYTES)
            .and_then(|bytes| end.checked_sub(bytes))
            .ok_or("a block with more restarts than bytes")?;
        if keys_len > restarts_at {
            return Err("a block whose keys overlap its restarts");
        }
        if restarts as u64 != u64::from(entries).div_ceil(u64::from(RESTART)) {
            return Err("a block whose restarts do not fit its entries");
        }
        let mut block = Self {
            data,
            keys_len,
            restarts_at,
            restarts: Restarts::NONE,
            prefix: Prefix::default(),
            entries,
            told: AtomicU8::new(0),
            base,
        };
        block
            .index_restarts(restarts)
            .ok_or("a block whose restarts are no entries")?;
        Ok(block)
    }

    /// Reads the restarts of the block's end.
    fn index_restarts(&mut self, count: usize) -> Option<()> {
        let Some(last) = count.checked_sub(1) else {
            return Some(());
        };
        let first = self.full_key(self.restart_at(0)?.0)?;
        let shared = common_prefix(first, self.full_key(self.restart_at(last)?.0)?);
        let mut short = [0; SHORT_PREFIX];
        let kept = shared.min(SHORT_PREFIX);
        short[..kept].copy_from_slice(&first[..kept]);
        let restarts = (0..count).map(|n| {
            let (key_at, value_at) = self.restart_at(n)?;
            Some(Restart {
                head: head_of(self.full_key(key_at)?.get(shared..)?),
                key_at: key_at as u32,
                value_at: u32::try_from(value_at).ok()?,
            })
        });
        let restarts = Restarts::collect(restarts)?;
        self.prefix = Prefix {
            len: u32::try_from(shared).ok()?,
            at: u32::try_from(self.head(restarts[0].key_at as usize)?.suffix_at).ok()?,
            short,
        };
        self.restarts = restarts;
        Some(())
    }

    /// Key and value offsets of restart `n`, as they are written.
    fn restart_at(&self, n: usize) -> Option<(usize, usize)> {
        let at = self.restarts_at + n * RESTART_BYTES;
        let pair = self.data.get(at..at + RESTART_BYTES)?;
        let key_at = u32::from_le_bytes(pair[..4].try_into().ok()?) as usize;
        let value_at = u32::from_le_bytes(pair[4..].try_into().ok()?) as usize;
        (key_at < self.keys_len).then_some((key_at, self.keys_len.checked_add(value_at)?))
    }

    /// The key of the restart entry at `at`, which shares nothing.
    #[inline]
    fn full_key(&self, at: usize) -> Option<&[u8]> {
        let head = self.head(at)?;
        self.data.get(head.suffix_at..head.end())
    }

    /// The block of an ingested table, whose entries were all written at `commit`.
    pub(crate) fn written_at(self, commit: Commit) -> Self {
        Self {
            base: commit.0,
            ..self
        }
    }

    /// A block without entries.
    pub(crate) fn empty() -> Self {
        Self {
            data: Bytes::new(),
            keys_len: 0,
            restarts_at: 0,
            restarts: Restarts::NONE,
            prefix: Prefix::default(),
            entries: 0,
            told: AtomicU8::new(0),
            base: 0,
        }
    }

    /// Bytes this block takes in memory.
    pub(crate) fn weight(&self) -> usize {
        self.data.len() + self.restarts.weight() + size_of::<Self>() + 48
    }

    /// All of its bytes.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Its entries.
    pub(crate) fn len(&self) -> usize {
        self.entries as usize
    }

    /// Whether the cache knows enough of the block's uses.
    #[inline]
    pub(crate) fn is_told(&self) -> bool {
        self.told.load(AtomicOrdering::Relaxed) >= TOLD
    }

    /// The cache is told of a use. Two readers may count one: then it is told once more.
    pub(crate) fn count_told(&self) {
        let told = self.told.load(AtomicOrdering::Relaxed);
        self.told
            .store(told.saturating_add(1), AtomicOrdering::Relaxed);
    }

    /// The cache's hand passes.
    pub(crate) fn forget_told(&self) {
        // A write only where it changes something: readers share the line.
        if self.told.load(AtomicOrdering::Relaxed) > 0 {
            self.told.store(0, AtomicOrdering::Relaxed);
        }
    }

    /// The bytes of a found value.
    pub(crate) fn value(&self, found: &Found) -> &[u8] {
        &self.data[found.value_at..found.value_at + found.value_len]
    }

    /// The found value, sharing the block's memory.
    pub(crate) fn value_bytes(&self, found: &Found) -> Bytes {
        self.data
            .slice(found.value_at..found.value_at + found.value_len)
    }

    /// The newest entry of `key` at or before `commit`. `None`: damaged bytes.
    pub(crate) fn get(&self, key: &[u8], commit: Commit) -> Option<Option<Found>> {
        if self.restarts.is_empty() {
            return Some(None);
        }
        let restart = self.restarts_before(key, commit)?.saturating_sub(1);
        let (mut at, mut value_at) = self.restart(restart)?;
        self.prefetch_group(restart)?;
        // How many bytes of the target the previous entry, which sorts before it, matched.
        let mut matched = 0;
        let mut walked = 0;
        while at < self.keys_len {
            let head = self.head(at)?;
            if walked == RESTART {
                // A full key again: it says nothing about its predecessor.
                matched = 0;
            }
            walked += 1;
            match head.shared.cmp(&matched) {
                // Still sorts before the target, for the same byte as its predecessor did.
                Ordering::Greater => {}
                // Differs from the target where its predecessor did not: sorts after it.
                Ordering::Less => return Some(None),
                Ordering::Equal => {
                    let suffix = &self.data[head.suffix_at..head.end()];
                    let rest = key.get(matched..)?;
                    let common = common_prefix(suffix, rest);
                    match (suffix.get(common), rest.get(common)) {
                        (None, None) if head.commit <= commit => {
                            return Some(Some(self.found(&head, value_at)?));
                        }
                        (None, _) => {}
                        (Some(own), Some(wanted)) if own < wanted => {}
                        (Some(_), _) => return Some(None),
                    }
                    matched += common;
                }
            }
            value_at = value_at.checked_add(head.value_len)?;
            at = head.end();
        }
        Some(None)
    }

    /// The number of the first entry not before (`key`, `commit`), and the entry. `None`: damaged.
    pub(crate) fn lower_bound(&self, key: &[u8], commit: Commit) -> Option<Option<(usize, Found)>> {
        if self.restarts.is_empty() {
            return Some(None);
        }
        let restart = self.restarts_before(key, commit)?.saturating_sub(1);
        let (mut at, mut value_at) = self.restart(restart)?;
        let mut number = restart * RESTART as usize;
        let mut matched = 0;
        while at < self.keys_len {
            let head = self.head(at)?;
            if number.is_multiple_of(RESTART as usize) {
                matched = 0;
            }
            let reached = match head.shared.cmp(&matched) {
                Ordering::Greater => false,
                Ordering::Less => true,
                Ordering::Equal => {
                    let suffix = &self.data[head.suffix_at..head.end()];
                    let rest = key.get(matched..)?;
                    matched += common_prefix(suffix, rest);
                    suffix.cmp(rest).then(commit.cmp(&head.commit)) != Ordering::Less
                }
            };
            if reached {
                return Some(Some((number, self.found(&head, value_at)?)));
            }
            number += 1;
            value_at = value_at.checked_add(head.value_len)?;
            at = head.end();
        }
        Some(None)
    }

    fn found(&self, head: &Head, value_at: usize) -> Option<Found> {
        (value_at.checked_add(head.value_len)? <= self.restarts_at).then_some(Found {
            commit: head.commit,
            tag: head.tag,
            value_at,
            value_len: head.value_len,
        })
    }

    /// Where key and value of restart `n` stand.
    #[inline]
    fn restart(&self, n: usize) -> Option<(usize, usize)> {
        let restart = self.restarts.get(n)?;
        Some((restart.key_at as usize, restart.value_at as usize))
    }

    /// The number of restarts whose entry sorts before (`key`, `commit`). `None`: damaged.
    fn restarts_before(&self, key: &[u8], commit: Commit) -> Option<usize> {
        match self.prefix_of(key)? {
            Ordering::Less => return Some(0),
            Ordering::Equal => {}
            Ordering::Greater => return Some(self.restarts.len()),
        }
        let head = head_of(&key[self.prefix.len as usize..]);
        let mut low = self.restarts.partition_point(|own| own.head < head);
        // Only keys with the same head are compared in full.
        let alike = &self.restarts[low..];
        let mut high = low + alike.partition_point(|own| own.head == head);
        while low < high {
            let middle = (low + high) / 2;
            let head = self.head(self.restarts[middle].key_at as usize)?;
            let own = &self.data[head.suffix_at..head.end()];
            if own.cmp(key).then(commit.cmp(&head.commit)) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    /// How `key` stands to the keys with the block's prefix; equal when it has that too.
    #[inline]
    fn prefix_of(&self, key: &[u8]) -> Option<Ordering> {
        let Prefix { len, at, short } = &self.prefix;
        let (len, at) = (*len as usize, *at as usize);
        if len <= 8 && len <= key.len() {
            return Some(head_of(&key[..len]).cmp(&head_of(&short[..8])));
        }
        let prefix = match short.get(..len) {
            Some(prefix) => prefix,
            None => self.data.get(at..at.checked_add(len)?)?,
        };
        Some(key[..len.min(key.len())].cmp(prefix))
    }

    /// Fetches the keys from restart `n` to the next, and the values when they are small: which one
    /// will be wanted is known only when the keys are there, and then is too late. `None`: damaged.
    #[inline]
    fn prefetch_group(&self, n: usize) -> Option<()> {
        let (keys_at, values_at) = self.restart(n)?;
        let end = (self.keys_len, self.restarts_at);
        let (keys_end, values_end) = self.restart(n + 1).unwrap_or(end);
        let keys = self.data.get(keys_at..keys_end)?;
        prefetch(&keys[..keys.len().min(FETCH)]);
        let values = self.data.get(values_at..values_end)?;
        if values.len() <= FETCH {
            prefetch(values);
        }
        Some(())
    }

    #[inline(always)]
    fn head(&self, at: usize) -> Option<Head> {
        let keys = self.data.get(..self.keys_len)?;
        let mut at = at;
        let shared = varint::get_len(keys, &mut at)?;
        let suffix_len = varint::get_len(keys, &mut at)?;
        let tag = Tag::from_byte(*keys.get(at)?)?;
        at += 1;
        let commit = varint::get(keys, &mut at)?;
        let value_len = varint::get_len(keys, &mut at)?;
        if suffix_len > keys.len() - at {
            return None;
        }
        Some(Head {
            shared,
            suffix_at: at,
            suffix_len,
            tag,
            commit: Commit(self.base.checked_add(commit)?),
            value_len,
        })
    }
}

#[cfg(test)]
mod tests;
