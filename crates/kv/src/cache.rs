//! The one cache of the engine: decompressed blocks, weighed in bytes, over the crate `quick_cache`.
//!
//! Its size is what the memory budget leaves after memtables, pinned indexes and filters, and what
//! scans of a bucket read ahead.

use crate::sst::block::Block;
use crate::sst::slots::Home;
use crate::types::SegmentId;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The least the cache is left with, in bytes.
const FLOOR: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub(crate) segment: SegmentId,
    pub(crate) at: u64,
}

/// What a cache slot holds.
#[derive(Debug, Clone)]
pub(crate) enum Cached {
    /// With its slot in its table, when it has one.
    Block(Arc<Block>, Option<Home>),
    Tail(Arc<crate::sst::tail::Tail>),
    Value(bytes::Bytes),
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<CacheKey, Cached> for Bytes {
    fn weight(&self, _: &CacheKey, value: &Cached) -> u64 {
        match value {
            Cached::Block(block, _) => block.weight() as u64,
            Cached::Tail(tail) => tail.weight() as u64,
            Cached::Value(value) => value.len() as u64 + 32,
        }
    }
}

/// What the cache's comings and goings mean for the slots of tables.
#[derive(Debug, Clone, Default)]
struct Turnover;

impl Lifecycle<CacheKey, Cached> for Turnover {
    /// What went last; its memory is given back outside the lock.
    type RequestState = Option<Cached>;

    /// Asked when the hand passes an entry that it might evict: the next uses count again. Nothing
    /// is ever pinned.
    fn is_pinned(&self, _: &CacheKey, value: &Cached) -> bool {
        if let Cached::Block(block, Some(_)) = value {
            block.forget_told();
        }
        false
    }

    fn on_evict(&self, went: &mut Option<Cached>, _: CacheKey, value: Cached) {
        if let Cached::Block(_, Some(home)) = &value {
            home.empty();
        }
        *went = Some(value);
    }
}

/// A fixed hash of two numbers: the same run caches and evicts the same blocks every time.
#[derive(Debug, Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0x9fb2_1c65_1e98_df25);
        mixed ^ mixed >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The cache, and how the budget is split.
#[derive(Debug)]
pub(crate) struct BlockCache {
    cache: Cache<CacheKey, Cached, Bytes, BuildHasherDefault<Mixer>, Turnover>,
    budget: u64,
    memtables: AtomicU64,
    pinned: AtomicU64,
    ahead: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl BlockCache {
    pub(crate) fn new(budget: u64) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity((budget / 8192) as usize)
            .weight_capacity(budget)
            .shards(16)
            .build()
            .expect("both capacities are set");
        let hasher = BuildHasherDefault::default();
        Self {
            cache: Cache::with_options(options, Bytes, hasher, Turnover),
            budget,
            memtables: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
            ahead: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: &CacheKey) -> Option<Cached> {
        self.cache.get(key)
    }

    /// True when this block is here, at `key`, and knows this slot.
    pub(crate) fn knows(&self, key: &CacheKey, block: &Arc<Block>, slot: &Home) -> bool {
        matches!(self.cache.peek(key), Some(Cached::Block(own, Some(home)))
            if home.is(slot) && Arc::ptr_eq(&own, block))
    }

    /// What is here now: the value, or one that was here before it.
    pub(crate) fn insert_if_absent(&self, key: CacheKey, value: Cached) -> Cached {
        let inserted = self
            .cache
            .get_or_insert_with(&key, || Ok::<_, std::convert::Infallible>(value));
        let Ok(value) = inserted;
        value
    }

    pub(crate) fn insert(&self, key: CacheKey, value: Cached) {
        self.cache.insert(key, value);
    }

    pub(crate) fn count(&self, hits: u64, misses: u64) {
        self.hits.fetch_add(hits, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// Forgets every block of a deleted table.
    pub(crate) fn forget(&self, segment: SegmentId) {
        self.cache.retain(|key, value| {
            let stays = key.segment != segment;
            if !stays && let Cached::Block(_, Some(home)) = value {
                home.empty();
            }
            stays
        });
    }

    /// Takes `bytes` of the budget for an index and filter that stay in memory; false when a
    /// quarter of the budget is used so already.
    pub(crate) fn pin(&self, bytes: u64) -> bool {
        let limit = self.budget / 4;
        let taken = self
            .pinned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pinned| {
                (pinned + bytes <= limit).then_some(pinned + bytes)
            });
        if taken.is_ok() {
            self.resize();
        }
        taken.is_ok()
    }

    /// Takes `bytes` more for what stands beside an index that is pinned.
    pub(crate) fn pin_beside(&self, bytes: u64) {
        self.pinned.fetch_add(bytes, Ordering::Relaxed);
        self.resize();
    }

    pub(crate) fn unpin(&self, bytes: u64) {
        self.pinned.fetch_sub(bytes, Ordering::Relaxed);
        self.resize();
    }

    /// Takes `bytes` of the budget for reading ahead; false when an eighth of it is used so already.
    pub(crate) fn take_ahead(&self, bytes: u64) -> bool {
        let limit = self.budget / 8;
        let taken = self
            .ahead
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ahead| {
                (ahead + bytes <= limit).then_some(ahead + bytes)
            });
        if taken.is_ok() {
            self.resize();
        }
        taken.is_ok()
    }

    pub(crate) fn give_back_ahead(&self, bytes: u64) {
        self.ahead.fetch_sub(bytes, Ordering::Relaxed);
        self.resize();
    }

    /// Memtables take this much of the budget from now on.
    pub(crate) fn set_memtables(&self, bytes: u64) {
        self.memtables.store(bytes, Ordering::Relaxed);
        self.resize();
    }

    fn resize(&self) {
        let used = [&self.pinned, &self.memtables, &self.ahead]
            .iter()
            .map(|part| part.load(Ordering::Relaxed))
            .sum::<u64>();
        let left = self.budget.saturating_sub(used).max(FLOOR);
        if self.cache.capacity() != left {
            self.cache.set_capacity(left);
        }
    }

    pub(crate) fn weight(&self) -> u64 {
        self.cache.weight()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.cache.capacity()
    }

    pub(crate) fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Relaxed)
    }

    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    /// The blocks of data that are here.
    #[cfg(test)]
    pub(crate) fn blocks(&self) -> Vec<Arc<Block>> {
        let block = |(_, cached)| match cached {
            Cached::Block(block, _) => Some(block),
            _ => None,
        };
        self.cache.iter().filter_map(block).collect()
    }

    /// The tables that have blocks here.
    pub(crate) fn segments(&self) -> std::collections::BTreeSet<SegmentId> {
        self.cache.iter().map(|(key, _)| key.segment).collect()
    }
}
