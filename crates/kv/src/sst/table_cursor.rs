//! A place in a table: block after block, through the parts of its index.

use crate::cache::{CacheKey, Cached};
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::sst::ahead::{Ahead, Direction};
use crate::sst::block::{Block, BlockCursor};
use crate::sst::frame;
use crate::sst::nearby::Nearby;
use crate::sst::table::{ReadState, Table};
use crate::sst::upcoming::Upcoming;
use crate::sst::writer::Handle;
use crate::types::{Commit, Tag};
use siltstone_storage::Wait;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A load that must succeed before the cursor stands somewhere again.
#[derive(Debug, Clone, Copy)]
enum Pending {
    None,
    Part(usize, Direction),
    Block(Handle, Direction),
}

/// A place in a table.
#[derive(Debug)]
pub(crate) struct TableCursor {
    table: Arc<Table>,
    state: Arc<ReadState>,
    part: usize,
    parts: Option<Arc<[Handle]>>,
    index: BlockCursor,
    data: BlockCursor,
    pending: Pending,
    /// Forward, the block after the one in `data`.
    upcoming: Upcoming,
    /// In a bucket, from the first block that is not in the cache.
    ahead: Option<Box<Ahead>>,
    /// In a folder, the last blocks that were read.
    nearby: Nearby,
}

impl TableCursor {
    pub(crate) fn new(table: Arc<Table>, state: Arc<ReadState>) -> Self {
        let empty = Arc::new(Block::empty());
        Self {
            table,
            state,
            part: 0,
            parts: None,
            index: BlockCursor::new(empty.clone()),
            data: BlockCursor::new(empty),
            pending: Pending::None,
            upcoming: Upcoming::Unknown,
            ahead: None,
            nearby: Nearby::default(),
        }
    }

    /// Goes over to another table, keeping the memory; to the same one, keeping what is on its way.
    pub(crate) fn reset(&mut self, table: Arc<Table>) {
        if !Arc::ptr_eq(&self.table, &table) {
            self.ahead = None;
            self.nearby.clear();
        }
        self.table = table;
        self.parts = None;
        self.pending = Pending::None;
        self.upcoming = Upcoming::Unknown;
        let empty = Arc::new(Block::empty());
        self.index.reset(empty.clone());
        self.data.reset(empty);
    }

    fn parts(&mut self) -> Result<Arc<[Handle]>> {
        if let Some(parts) = &self.parts {
            return Ok(parts.clone());
        }
        self.state.tables_read.fetch_add(1, Ordering::Relaxed);
        let tail = self.table.tail(self.state.wait())?;
        let handles: Arc<[Handle]> = self.table.handles(&tail.top)?.into();
        self.parts = Some(handles.clone());
        Ok(handles)
    }

    fn load_part(&mut self, number: usize) -> Result<bool> {
        let parts = self.parts()?;
        let Some(handle) = parts.get(number) else {
            return Ok(false);
        };
        let mut read = 0;
        let wait = self.state.wait();
        let tail = self.table.tail(wait)?;
        let block = self.table.part(&tail, number, *handle, wait, &mut read)?;
        drop(tail);
        self.index.reset(block);
        self.part = number;
        Ok(true)
    }

    fn load_data(&mut self, handle: Handle, direction: Direction) -> Result<()> {
        let wait = self.state.wait();
        let cache = &self.table.cache;
        let slot = CacheKey {
            segment: self.table.id,
            at: handle.at,
        };
        let upcoming = self.upcoming.take(handle.at);
        let cached = || match self.state.fill_cache.then(|| cache.get(&slot)).flatten() {
            Some(Cached::Block(block, _)) => Some(block),
            _ => None,
        };
        let block = match upcoming.or_else(cached) {
            Some(block) => block,
            None => {
                let block = Arc::new(self.fetch(handle, direction, wait)?);
                if self.state.fill_cache {
                    self.table.cache.count(0, 1);
                    let entry = Cached::Block(block.clone(), None);
                    self.table.cache.insert_if_absent(slot, entry);
                }
                block
            }
        };
        let read = u64::from(self.state.fill_cache);
        self.state.blocks_read.fetch_add(read, Ordering::Relaxed);
        self.data.reset(block);
        Ok(())
    }

    /// The block from the store, together with some of its neighbours.
    pub(super) fn fetch(
        &mut self,
        handle: Handle,
        direction: Direction,
        wait: Wait,
    ) -> Result<Block> {
        let table = self.table.clone();
        if table.is_remote() {
            let framed = self.ahead()?.read(handle, direction, wait);
            let framed = framed.map_err(|error| table.explain(error))?;
            return table.decode(handle, frame::open_part(&framed), wait);
        }
        let reader = &**table.reader()?;
        let end = table.meta.index_at.min(reader.size());
        // Before memory is taken for it: an index may say anything.
        if handle.end_within(end).is_none() {
            let what = "an index that points behind the blocks";
            return Err(Error::corrupt(table.id.blob(), end, what));
        }
        let framed = self.nearby.read(reader, handle, end, direction, wait);
        let framed = framed.map_err(|error| table.explain(error))?;
        table.decode(handle, frame::open_part(framed), wait)
    }

    /// In a bucket, starts to read the block that a seek to (`key`, `commit`) will want.
    pub(crate) fn expect(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        let table = self.table.clone();
        let tail = table.tail(Wait::Allowed)?;
        let Some(place) = table.place_of(&tail, key, commit, Wait::Allowed, &mut 0)? else {
            return Ok(());
        };
        let handle = table.handle_at(&place)?;
        let slot = CacheKey {
            segment: table.id,
            at: handle.at,
        };
        match table.cache.get(&slot) {
            Some(_) => Ok(()),
            None => self.ahead()?.expect(handle),
        }
    }

    fn ahead(&mut self) -> Result<&mut Ahead> {
        if self.ahead.is_none() {
            let table = &self.table;
            let reader = match self.state.fill_cache {
                true => table.reader()?.clone(),
                false => table.sparing_reader()?,
            };
            let cache = table.cache.clone();
            let ahead = Ahead::new(reader, cache, table.id.blob(), table.meta.index_at);
            self.ahead = Some(Box::new(ahead));
        }
        Ok(self.ahead.as_mut().expect("made just now"))
    }

    fn index_handle(&self) -> Result<Handle> {
        Handle::decode(self.index.value()).ok_or_else(|| self.damaged())
    }

    fn damaged(&self) -> Error {
        self.table.damaged(self.table.meta.index_at)
    }

    /// Does what is pending; may be called again after an error that says that it must not wait.
    fn resolve(&mut self) -> Result<()> {
        loop {
            match self.pending {
                Pending::None => return Ok(()),
                Pending::Part(number, direction) => {
                    if !self.load_part(number)? {
                        self.pending = Pending::None;
                        self.data.reset(Arc::new(Block::empty()));
                        return Ok(());
                    }
                    let moved = match direction {
                        Direction::Forward => self.index.seek_first(),
                        Direction::Backward => self.index.seek_last(),
                    };
                    moved.ok_or_else(|| self.damaged())?;
                    self.pending = Pending::Block(self.index_handle()?, direction);
                }
                Pending::Block(handle, direction) => {
                    self.load_data(handle, direction)?;
                    let moved = match direction {
                        Direction::Forward => self.data.seek_first(),
                        Direction::Backward => self.data.seek_last(),
                    };
                    moved.ok_or_else(|| self.damaged())?;
                    self.pending = Pending::None;
                }
            }
        }
    }

    /// Loads the part and the block that may hold (`key`, `commit`) and all before it; false when
    /// every entry sorts before it.
    fn approach(&mut self, key: &[u8], commit: Commit, direction: Direction) -> Result<bool> {
        self.pending = Pending::None;
        let number = {
            let tail = self.table.tail(self.state.wait())?;
            self.table.first_not_before(&tail.top, key, commit)?
        };
        let Some((number, _)) = number else {
            return Ok(false);
        };
        self.load_part(number)?;
        self.index.seek(key, commit).ok_or_else(|| self.damaged())?;
        if !self.index.valid() {
            return Ok(false);
        }
        let handle = self.index_handle()?;
        self.load_data(handle, direction)?;
        Ok(true)
    }
}

impl Cursor for TableCursor {
    fn seek(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        if !self.approach(key, commit, Direction::Forward)? {
            self.data.reset(Arc::new(Block::empty()));
            return Ok(());
        }
        self.data.seek(key, commit).ok_or_else(|| self.damaged())?;
        if !self.data.valid() {
            self.step(Direction::Forward)?;
        }
        Ok(())
    }

    fn seek_first(&mut self) -> Result<()> {
        self.pending = Pending::Part(0, Direction::Forward);
        self.resolve()
    }

    fn seek_before(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        if !self.approach(key, commit, Direction::Backward)? {
            return self.seek_last();
        }
        self.data
            .seek_before(key, commit)
            .ok_or_else(|| self.damaged())?;
        if !self.data.valid() {
            self.step(Direction::Backward)?;
        }
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        let last = self.parts()?.len().saturating_sub(1);
        self.pending = Pending::Part(last, Direction::Backward);
        self.resolve()
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if let Pending::None = self.pending {
            self.data.next().ok_or_else(|| self.damaged())?;
            if self.data.valid() {
                match &mut self.upcoming {
                    Upcoming::Found(upcoming) => upcoming.ask(),
                    Upcoming::Unknown => self.look_ahead(),
                    Upcoming::Absent => {}
                }
                return Ok(());
            }
            return self.step(Direction::Forward);
        }
        self.resolve()
    }

    fn prev(&mut self) -> Result<()> {
        if let Pending::None = self.pending {
            self.data.prev().ok_or_else(|| self.damaged())?;
            if self.data.valid() {
                return Ok(());
            }
            return self.step(Direction::Backward);
        }
        self.resolve()
    }

    fn valid(&self) -> bool {
        self.data.valid()
    }

    fn key(&self) -> &[u8] {
        self.data.key()
    }

    fn commit(&self) -> Commit {
        self.data.commit()
    }

    fn tag(&self) -> Tag {
        self.data.tag()
    }

    fn value(&self) -> &[u8] {
        self.data.value()
    }
}

impl TableCursor {
    /// Looks for the block after the current one, where walks use the cache. A part of the index
    /// ends without one.
    #[cold]
    fn look_ahead(&mut self) {
        let next = self.index.next_value().and_then(Handle::decode);
        self.upcoming = match next.filter(|_| self.state.fill_cache) {
            Some(handle) => {
                let segment = self.table.id;
                let at = handle.at;
                Upcoming::look(&self.table.cache, &CacheKey { segment, at })
            }
            None => Upcoming::Absent,
        };
    }

    /// Goes to the block after or before the current one.
    fn step(&mut self, direction: Direction) -> Result<()> {
        let moved = match direction {
            Direction::Forward => self.index.next(),
            Direction::Backward => self.index.prev(),
        };
        moved.ok_or_else(|| self.damaged())?;
        self.pending = if self.index.valid() {
            Pending::Block(self.index_handle()?, direction)
        } else {
            match direction {
                Direction::Forward => Pending::Part(self.part + 1, direction),
                Direction::Backward => match self.part.checked_sub(1) {
                    Some(before) => Pending::Part(before, direction),
                    None => Pending::None,
                },
            }
        };
        self.resolve()
    }
}
