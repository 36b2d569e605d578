//! Reads a table of a bucket in order: neighbouring blocks in one request, and the next request
//! under way before its bytes are wanted.
//!
//! A cursor reads a window at a time, small at first, four times as large with every one that it
//! went on from. Windows follow each other without a gap; a block that lies in two is put together.
//! Memory for large windows comes out of the budget; without it, windows stay small.

use crate::cache::BlockCache;
use crate::error::Result;
use crate::sst::writer::Handle;
use bytes::Bytes;
use siltstone_storage::{BlobReader, Error as StorageError, PendingRead, Wait};
use std::sync::Arc;

/// The first window of a walk, in bytes: a thousand rows of a hundred bytes come in one request, and
/// on its way to a distant store it takes hardly longer than a block.
const FIRST: u64 = 128 << 10;
/// The largest window, in bytes.
const LARGEST: u64 = 4 << 20;
/// How much larger each window is than the one before.
const GROWTH: u64 = 4;

/// Which way a cursor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// Budget set aside for a window.
#[derive(Debug)]
struct SetAside {
    cache: Arc<BlockCache>,
    bytes: u64,
}

impl Drop for SetAside {
    fn drop(&mut self) {
        self.cache.give_back_ahead(self.bytes);
    }
}

#[derive(Debug)]
struct Window {
    start: u64,
    bytes: Bytes,
    _memory: Option<SetAside>,
}

impl Window {
    fn empty_at(start: u64) -> Self {
        Self {
            start,
            bytes: Bytes::new(),
            _memory: None,
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn slice(&self, from: u64, to: u64) -> Option<Bytes> {
        let inside = self.start <= from && from <= to && to <= self.end();
        let offset = |at: u64| (at - self.start) as usize;
        inside.then(|| self.bytes.slice(offset(from)..offset(to)))
    }
}

/// A window on its way; it starts where the current one ends.
#[derive(Debug)]
struct Coming {
    len: u64,
    read: PendingRead,
    memory: Option<SetAside>,
}

/// The reads of one cursor in one table.
#[derive(Debug)]
pub(crate) struct Ahead {
    reader: Arc<dyn BlobReader>,
    cache: Arc<BlockCache>,
    name: String,
    /// Where the blocks end, in bytes.
    end: u64,
    current: Window,
    coming: Option<Coming>,
    /// Size of the next window, in bytes.
    next_len: u64,
}

impl Ahead {
    /// Reads of blocks that lie before `end`.
    pub(crate) fn new(
        reader: Arc<dyn BlobReader>,
        cache: Arc<BlockCache>,
        name: String,
        end: u64,
    ) -> Self {
        Self {
            end: end.min(reader.size()),
            reader,
            cache,
            name,
            current: Window::empty_at(u64::MAX),
            coming: None,
            next_len: FIRST,
        }
    }

    /// The framed bytes of the block at `handle`.
    pub(crate) fn read(
        &mut self,
        handle: Handle,
        direction: Direction,
        wait: Wait,
    ) -> Result<Bytes> {
        let (from, to) = self.span(handle)?;
        if let Some(bytes) = self.current.slice(from, to) {
            self.start_next(to, direction);
            return Ok(bytes);
        }
        if wait == Wait::Never {
            let name = self.name.clone();
            return Err(StorageError::WouldBlock { name }.into());
        }
        let goes_on = match direction {
            Direction::Forward => self.current.start <= from && from <= self.current.end(),
            Direction::Backward => self.current.start <= to && to <= self.current.end(),
        };
        if !goes_on {
            self.coming = None;
            self.next_len = FIRST;
            self.current = Window::empty_at(from);
        }
        match direction {
            Direction::Forward => self.go_on(from, to),
            Direction::Backward => self.go_back(from, to),
        }
    }

    /// Starts reading where the block at `handle` lies: it is wanted next, for a walk forward.
    pub(crate) fn expect(&mut self, handle: Handle) -> Result<()> {
        let (from, to) = self.span(handle)?;
        if self.current.slice(from, to).is_none() {
            self.next_len = FIRST;
            self.current = Window::empty_at(from);
            self.coming = Some(self.start(to - from));
        }
        Ok(())
    }

    fn span(&self, handle: Handle) -> Result<(u64, u64)> {
        match handle.end_within(self.end) {
            Some(to) => Ok((handle.at, to)),
            None => {
                let what = "an index that points behind the blocks";
                Err(StorageError::corrupt(self.name.clone(), self.end, what).into())
            }
        }
    }

    /// Size of the next window, at least `least`, and the memory for it.
    fn next_window(&mut self, least: u64) -> (u64, Option<SetAside>) {
        let wanted = self.next_len;
        self.next_len = (wanted * GROWTH).min(LARGEST);
        if wanted > FIRST && self.cache.take_ahead(wanted) {
            let memory = SetAside {
                cache: self.cache.clone(),
                bytes: wanted,
            };
            return (wanted.max(least), Some(memory));
        }
        (FIRST.max(least), None)
    }

    /// Starts the window that follows the current one.
    fn start(&mut self, least: u64) -> Coming {
        let at = self.current.end();
        let (len, memory) = self.next_window(least);
        let len = len.min(self.end - at);
        Coming {
            len,
            read: self.reader.start_read(at, len as usize),
            memory,
        }
    }

    /// When half of the current window is used, the next one is started.
    fn start_next(&mut self, used_to: u64, direction: Direction) {
        let middle = self.current.start + self.current.bytes.len() as u64 / 2;
        let wanted = direction == Direction::Forward
            && self.coming.is_none()
            && used_to > middle
            && self.current.end() < self.end;
        if wanted {
            self.coming = Some(self.start(0));
        }
    }

    /// The block starts in the current window, or right behind it, and ends in the next.
    fn go_on(&mut self, from: u64, to: u64) -> Result<Bytes> {
        let least = to - self.current.end();
        let coming = match self.coming.take() {
            Some(coming) if coming.len >= least => coming,
            _ => self.start(least),
        };
        let next = Window {
            start: self.current.end(),
            bytes: coming.read.wait()?,
            _memory: coming.memory,
        };
        let before = self.current.slice(from, next.start).unwrap_or_default();
        self.current = next;
        let rest = self.current.bytes.slice(..least as usize);
        self.start_next(to, Direction::Forward);
        Ok(match before.is_empty() {
            true => rest,
            false => Bytes::from([before, rest].concat()),
        })
    }

    /// A window that ends with the block.
    fn go_back(&mut self, from: u64, to: u64) -> Result<Bytes> {
        self.coming = None;
        let (len, memory) = self.next_window(to - from);
        let start = to.saturating_sub(len);
        let bytes = self
            .reader
            .read(start, (to - start) as usize, Wait::Allowed)?;
        self.current = Window {
            start,
            bytes,
            _memory: memory,
        };
        Ok(self.current.slice(from, to).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use siltstone_storage::{Blobs, MemBlobs};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn any_walk_gets_the_bytes_of_its_blocks(
            lens in prop::collection::vec(prop_oneof![20 => 1usize..9000, 1 => 60_000usize..150_000], 1..120),
            jumps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>(), 0usize..40), 1..8),
            budget in prop_oneof![Just(1u64 << 20), Just(64 << 20)],
        ) {
            let total: usize = lens.iter().sum();
            let bytes: Vec<u8> = (0..total + 500).map(|n| (n % 251) as u8).collect();
            let blobs = MemBlobs::bucket();
            blobs.put("sst/a", &bytes).unwrap();
            let mut at = 0;
            let handles: Vec<_> = lens.iter().map(|len| {
                let handle = Handle { at, len: *len };
                at += *len as u64;
                handle
            }).collect();
            let cache = Arc::new(BlockCache::new(budget));
            let mut ahead = Ahead::new(blobs.open("sst/a").unwrap(), cache.clone(), "sst/a".into(), at);
            for (from, forward, expected, steps) in jumps {
                let from = from.index(handles.len());
                let walk: Vec<_> = match forward {
                    true => handles[from..].iter().take(steps).collect(),
                    false => handles[..=from].iter().rev().take(steps).collect(),
                };
                if expected && forward {
                    ahead.expect(handles[from]).unwrap();
                }
                let direction = if forward { Direction::Forward } else { Direction::Backward };
                for handle in walk {
                    // Without waiting it answers the same or nothing.
                    let start = handle.at as usize;
                    let wanted = &bytes[start..start + handle.len];
                    if let Ok(found) = ahead.read(*handle, direction, Wait::Never) {
                        prop_assert_eq!(&found[..], wanted);
                    }
                    let found = ahead.read(*handle, direction, Wait::Allowed).unwrap();
                    prop_assert_eq!(&found[..], wanted);
                }
            }
            let behind = ahead.read(Handle { at, len: 1 }, Direction::Forward, Wait::Allowed);
            prop_assert!(behind.is_err());
            drop(ahead);
            prop_assert!(cache.take_ahead(budget / 8), "all memory was given back");
        }
    }
}
