//! A walk through a block.

use super::{Block, RESTART};
use crate::types::{Commit, Tag};
use std::cmp::Ordering;
use std::sync::Arc;

/// A place in a block. Every movement answers `None` when the bytes are damaged.
#[derive(Debug)]
pub(crate) struct BlockCursor {
    block: Arc<Block>,
    /// The entry's number; `entries` past the end.
    index: u32,
    key: Vec<u8>,
    tag: Tag,
    commit: Commit,
    value_at: usize,
    value_len: usize,
    next_at: usize,
}

impl BlockCursor {
    /// A cursor past the end of `block`.
    pub(crate) fn new(block: Arc<Block>) -> Self {
        Self {
            index: block.entries,
            block,
            key: Vec::new(),
            tag: Tag::DELETE,
            commit: Commit::ZERO,
            value_at: 0,
            value_len: 0,
            next_at: 0,
        }
    }

    /// Goes over to another block, keeping the memory; stands past its end.
    pub(crate) fn reset(&mut self, block: Arc<Block>) {
        self.index = block.entries;
        self.block = block;
    }

    pub(crate) fn valid(&self) -> bool {
        self.index < self.block.entries
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn commit(&self) -> Commit {
        self.commit
    }

    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.block.data[self.value_at..self.value_at + self.value_len]
    }

    pub(crate) fn seek_first(&mut self) -> Option<()> {
        if self.block.entries == 0 {
            self.index = 0;
            return Some(());
        }
        self.go_to_restart(0)
    }

    pub(crate) fn seek_last(&mut self) -> Option<()> {
        let Some(last) = self.block.entries.checked_sub(1) else {
            self.index = 0;
            return Some(());
        };
        self.go_to_index(last)
    }

    /// To the first entry not before (`key`, `commit`); past the end when there is none.
    pub(crate) fn seek(&mut self, key: &[u8], commit: Commit) -> Option<()> {
        if self.block.entries == 0 {
            self.index = 0;
            return Some(());
        }
        let before = self.block.restarts_before(key, commit)?;
        self.go_to_restart(before.saturating_sub(1))?;
        while self.valid() && self.sorts_before(key, commit) {
            self.next()?;
        }
        Some(())
    }

    /// To the last entry before (`key`, `commit`); past the end when there is none.
    pub(crate) fn seek_before(&mut self, key: &[u8], commit: Commit) -> Option<()> {
        self.seek(key, commit)?;
        match self.index.checked_sub(1) {
            Some(before) => self.go_to_index(before),
            None => {
                self.index = self.block.entries;
                Some(())
            }
        }
    }

    /// To the next entry.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<()> {
        self.index += 1;
        if self.index >= self.block.entries {
            return Some(());
        }
        let value_at = self.value_at + self.value_len;
        self.load(self.next_at, value_at)
    }

    /// The next entry's value, seen from here.
    pub(crate) fn next_value(&self) -> Option<&[u8]> {
        if self.index.checked_add(1)? >= self.block.entries {
            return None;
        }
        let len = self.block.head(self.next_at)?.value_len;
        let at = self.value_at + self.value_len;
        self.block.data.get(at..at.checked_add(len)?)
    }

    /// To the entry before; past the end from the first one.
    pub(crate) fn prev(&mut self) -> Option<()> {
        match self.index.checked_sub(1) {
            Some(before) => self.go_to_index(before),
            None => {
                self.index = self.block.entries;
                Some(())
            }
        }
    }

    fn sorts_before(&self, key: &[u8], commit: Commit) -> bool {
        self.key.as_slice().cmp(key).then(commit.cmp(&self.commit)) == Ordering::Less
    }

    fn go_to_restart(&mut self, n: usize) -> Option<()> {
        let (key_at, value_at) = self.block.restart(n)?;
        self.index = n as u32 * RESTART;
        self.key.clear();
        self.load(key_at, value_at)
    }

    fn go_to_index(&mut self, index: u32) -> Option<()> {
        self.go_to_restart((index / RESTART) as usize)?;
        while self.index < index {
            self.next()?;
        }
        Some(())
    }

    /// Decodes the entry at `at`, whose predecessor's key is in `self.key`.
    #[inline]
    fn load(&mut self, at: usize, value_at: usize) -> Option<()> {
        let head = self.block.head(at)?;
        if head.shared > self.key.len()
            || value_at.checked_add(head.value_len)? > self.block.restarts_at
        {
            return None;
        }
        self.key.truncate(head.shared);
        self.key
            .extend_from_slice(&self.block.data[head.suffix_at..head.end()]);
        self.tag = head.tag;
        self.commit = head.commit;
        self.value_at = value_at;
        self.value_len = head.value_len;
        self.next_at = head.end();
        Some(())
    }
}
