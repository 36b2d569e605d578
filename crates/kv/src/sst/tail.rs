//! What stands behind a table's blocks: its index and filter, in memory or as they are wanted.
//!
//! They stay in memory while a share of the budget lasts; beyond it they come and go with the cache
//! like any block.

use crate::cache::{CacheKey, Cached};
use crate::error::{Error, Result};
use crate::sst::block::Block;
use crate::sst::filter::{Filter, Sections};
use crate::sst::format::{FOOTER, Footer};
use crate::sst::frame;
use crate::sst::pinned::PinnedIndex;
use crate::sst::table::Table;
use siltstone_storage::{BlobReader, Wait};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The cache slot of a table's tail; no block starts there.
const TAIL_SLOT: u64 = u64::MAX;
/// Index and filter of a folder's table come into memory whole at once when they have at most so many
/// bytes,
const SMALL_TAIL: u64 = 64 << 10;
/// and else when it has been used so often: a first read after open, or a compaction, does not wait
/// for megabytes that it has no use for.
const OFTEN: u32 = 8;
/// Uses of a table from one attempt to keep them in memory to the next.
const ATTEMPT_EVERY: u32 = 4096;

/// Index and filter of a table.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(super) top: Arc<Block>,
    /// The whole index, when it is pinned.
    pub(super) index: Option<PinnedIndex>,
    pub(super) filter: Option<KeyFilter>,
}

/// A table's filter: in memory, or its sections read as they are wanted.
#[derive(Debug)]
pub(super) enum KeyFilter {
    Whole(Filter),
    Sections(Sections),
}

impl Tail {
    pub(crate) fn weight(&self) -> usize {
        let index = self.index.as_ref().map_or(0, PinnedIndex::weight);
        let filter = match &self.filter {
            Some(KeyFilter::Whole(filter)) => filter.weight(),
            Some(KeyFilter::Sections(_)) | None => 0,
        };
        self.top.weight() + index + filter + size_of::<Self>()
    }
}

/// Pinned tails are borrowed, others shared with the cache.
pub(super) enum TailRef<'a> {
    Pinned(&'a Tail),
    Cached(Arc<Tail>),
}

impl std::ops::Deref for TailRef<'_> {
    type Target = Tail;

    fn deref(&self) -> &Tail {
        match self {
            TailRef::Pinned(tail) => tail,
            TailRef::Cached(tail) => tail,
        }
    }
}

impl Table {
    pub(super) fn tail(&self, wait: Wait) -> Result<TailRef<'_>> {
        if let Some((tail, _)) = self.pinned.get() {
            return Ok(TailRef::Pinned(tail));
        }
        self.load_tail(wait)
    }

    #[cold]
    fn load_tail(&self, wait: Wait) -> Result<TailRef<'_>> {
        let slot = CacheKey {
            segment: self.id,
            at: TAIL_SLOT,
        };
        let bytes = self.meta.bytes.saturating_sub(self.meta.index_at);
        let uses = self.uses.fetch_add(1, Ordering::Relaxed);
        let at_once = bytes <= SMALL_TAIL || self.is_remote();
        let due = !at_once && uses % ATTEMPT_EVERY == OFTEN;
        if !due && let Some(Cached::Tail(tail)) = self.cache.get(&slot) {
            return Ok(TailRef::Cached(tail));
        }
        let name = self.id.blob();
        let pin = (at_once || uses >= OFTEN) && self.cache.pin(bytes);
        let loaded = self.read_tail(&name, pin, wait);
        let tail = match loaded {
            Ok(tail) => tail,
            Err(error) => {
                if pin {
                    self.cache.unpin(bytes);
                }
                return Err(error);
            }
        };
        if !pin {
            let tail = Arc::new(tail);
            self.cache.insert(slot, Cached::Tail(tail.clone()));
            return Ok(TailRef::Cached(tail));
        }
        let short_cut = tail.index.as_ref();
        let short_cut = short_cut.map_or(0, PinnedIndex::short_cut_weight) as u64;
        self.cache.pin_beside(short_cut);
        if self.pinned.set((tail, bytes + short_cut)).is_err() {
            self.cache.unpin(bytes + short_cut);
        }
        let (tail, _) = self.pinned.get().expect("set by this thread or another");
        Ok(TailRef::Pinned(tail))
    }

    /// Starts to read index and filter when that is a request; [`Table::tail`] then waits for it.
    pub(crate) fn expect_tail(&self) -> Result<()> {
        let slot = CacheKey {
            segment: self.id,
            at: TAIL_SLOT,
        };
        if !self.is_remote() || self.pinned.get().is_some() || self.cache.get(&slot).is_some() {
            return Ok(());
        }
        let mut coming = self.coming_tail.lock();
        if coming.is_none() {
            let (at, len) = self.tail_span();
            *coming = Some(self.reader()?.start_read(at, len));
        }
        Ok(())
    }

    /// Where everything behind the blocks lies.
    fn tail_span(&self) -> (u64, usize) {
        let at = self.meta.index_at.min(self.meta.bytes);
        (at, (self.meta.bytes - at) as usize)
    }

    /// Everything behind the blocks, in one request of a bucket; nothing of a folder, whose reads
    /// are cheap and better small.
    fn tail_at_once(&self, wait: Wait) -> Result<(u64, bytes::Bytes)> {
        let (at, len) = self.tail_span();
        if !self.is_remote() {
            return Ok((at, bytes::Bytes::new()));
        }
        let reader = self.reader()?;
        let coming = match wait {
            Wait::Allowed => self.coming_tail.lock().take(),
            Wait::Never => None,
        };
        let read = match coming {
            Some(coming) => coming.wait(),
            None => reader.read(at, len, wait),
        };
        Ok((at, read.map_err(|error| self.explain(error.into()))?))
    }

    /// As blocks are, it is read once more past a cache of the store when it is damaged.
    fn read_tail(&self, name: &str, with_parts: bool, wait: Wait) -> Result<Tail> {
        let at_once = self.tail_at_once(wait)?;
        let decoded = self.decode_tail(name, self.reader()?, at_once, with_parts, wait);
        decoded.or_else(|damage| {
            let reader = self.reader_past(damage)?;
            let (at, len) = self.tail_span();
            let read = reader.read(at, len, wait);
            let at_once = (at, read.map_err(|error| self.explain(error.into()))?);
            self.decode_tail(name, &reader, at_once, with_parts, wait)
        })
    }

    fn decode_tail(
        &self,
        name: &str,
        reader: &Arc<dyn BlobReader>,
        (tail_at, tail): (u64, bytes::Bytes),
        with_parts: bool,
        wait: Wait,
    ) -> Result<Tail> {
        let fetch = |from: u64, len: usize| -> Result<bytes::Bytes> {
            let offset = from.checked_sub(tail_at).map(|offset| offset as usize);
            let end = offset.and_then(|offset| offset.checked_add(len));
            match (offset, end) {
                (Some(offset), Some(end)) if end <= tail.len() => Ok(tail.slice(offset..end)),
                _ => Ok(reader.read(from, len, wait)?),
            }
        };
        let footer = read_footer(name, reader.size(), fetch)?;
        let read = |from: u64, to: u64| -> Result<bytes::Bytes> {
            let framed = fetch(from, (to - from) as usize)?;
            frame::open_part(&framed).map_err(|what| Error::corrupt(name, from, what))
        };
        let parse = |at: u64, raw| Block::parse(raw).map_err(|what| Error::corrupt(name, at, what));
        let top = parse(footer.top_at, read(footer.top_at, footer.properties_at)?)?;
        let top = Arc::new(top);
        // A bucket's are here already.
        let whole = with_parts || !tail.is_empty();
        let filter_damaged = |what: &str| Error::corrupt(name, footer.filter_at, what);
        let filter = match footer.top_at - footer.filter_at {
            0 => None,
            len if footer.filter_has_sections() => {
                let head_at = footer.top_at - Sections::HEAD_FRAME.min(len);
                let head = read(head_at, footer.top_at)?;
                let sections = Sections::parse(&head, footer.filter_at, len);
                let sections = sections.map_err(filter_damaged)?;
                Some(match whole {
                    true => {
                        let region = fetch(footer.filter_at, len as usize)?;
                        KeyFilter::Whole(sections.all(&region).map_err(filter_damaged)?)
                    }
                    false => KeyFilter::Sections(sections),
                })
            }
            _ => {
                let raw = read(footer.filter_at, footer.top_at)?;
                let filter = Filter::parse(raw).map_err(filter_damaged)?;
                Some(KeyFilter::Whole(filter))
            }
        };
        let index = match whole {
            false => None,
            true => {
                let mut parts = Vec::new();
                for handle in self.handles(&top)? {
                    let framed = fetch(handle.at, handle.len)?;
                    parts.push(Arc::new(self.parse(handle, frame::open_part(&framed))?));
                }
                let index = PinnedIndex::new(parts);
                Some(index.ok_or_else(|| self.damaged(self.meta.index_at))?)
            }
        };
        Ok(Tail { top, index, filter })
    }
}

pub(super) fn read_footer(
    name: &str,
    size: u64,
    fetch: impl FnOnce(u64, usize) -> Result<bytes::Bytes>,
) -> Result<Footer> {
    let Some(at) = size.checked_sub(FOOTER as u64) else {
        return Ok(Footer::decode(name, size, &[])?);
    };
    Ok(Footer::decode(name, size, &fetch(at, FOOTER)?)?)
}
