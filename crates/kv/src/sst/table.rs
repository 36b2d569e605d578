//! Reads a table: which block may hold a key, that block, the entry.

use crate::cache::{BlockCache, CacheKey, Cached};
use crate::error::{Error, Result};
use crate::sst::block::{Block, BlockCursor, Found};
use crate::sst::filter::Sections;
use crate::sst::format::{FOOTER, TableMeta, decode_properties};
use crate::sst::frame;
use crate::sst::pinned::{Part, PinnedIndex};
use crate::sst::slots::Home;
use crate::sst::tail::{KeyFilter, Tail, read_footer};
use crate::sst::writer::Handle;
use crate::types::{Commit, SegmentId};
use parking_lot::Mutex;
use siltstone_storage::{BlobReader, Blobs, Caching, PendingRead, Wait};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// How a read goes about it, and what it did. Shared by the cursors of one scan.
#[derive(Debug)]
pub(crate) struct ReadState {
    may_wait: AtomicBool,
    /// False for reads that would only push other blocks out of the cache.
    pub(super) fill_cache: bool,
    pub(crate) blocks_read: AtomicU64,
    pub(crate) tables_read: AtomicU64,
}

impl ReadState {
    pub(crate) fn new(wait: Wait) -> Self {
        Self {
            may_wait: AtomicBool::new(wait == Wait::Allowed),
            fill_cache: true,
            blocks_read: AtomicU64::new(0),
            tables_read: AtomicU64::new(0),
        }
    }

    /// For compactions: blocks that are not in the cache do not enter it.
    pub(crate) fn past_cache(wait: Wait) -> Self {
        Self {
            fill_cache: false,
            ..Self::new(wait)
        }
    }

    pub(crate) fn set_wait(&self, wait: Wait) {
        self.may_wait
            .store(wait == Wait::Allowed, Ordering::Relaxed);
    }

    pub(crate) fn wait(&self) -> Wait {
        if self.may_wait.load(Ordering::Relaxed) {
            Wait::Allowed
        } else {
            Wait::Never
        }
    }
}

/// An entry of the index: the data block that it stands for.
#[derive(Debug)]
pub(super) struct Place<'t> {
    part: PartRef<'t>,
    number: usize,
    entry: Found,
}

#[derive(Debug)]
enum PartRef<'t> {
    Pinned(&'t PinnedIndex, &'t Part),
    Read(Arc<Block>),
}

impl PartRef<'_> {
    fn index(&self) -> &Arc<Block> {
        match self {
            PartRef::Pinned(_, part) => &part.index,
            PartRef::Read(index) => index,
        }
    }
}

/// An open table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) id: SegmentId,
    pub(crate) meta: TableMeta,
    blobs: Arc<dyn Blobs>,
    pub(super) cache: Arc<BlockCache>,
    reader: OnceLock<Arc<dyn BlobReader>>,
    pub(super) pinned: OnceLock<(Tail, u64)>,
    /// How often it was used before its tail was pinned.
    pub(super) uses: AtomicU32,
    /// The tail on its way, asked for before it was wanted.
    pub(super) coming_tail: Mutex<Option<PendingRead>>,
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some((_, bytes)) = self.pinned.get() {
            self.cache.unpin(*bytes);
        }
    }
}

/// A version found in a table.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) block: Arc<Block>,
    pub(crate) found: Found,
}

impl Table {
    /// A table whose file is opened when it is first read.
    pub(crate) fn new(
        id: SegmentId,
        meta: TableMeta,
        blobs: Arc<dyn Blobs>,
        cache: Arc<BlockCache>,
    ) -> Self {
        Self {
            id,
            meta,
            blobs,
            cache,
            reader: OnceLock::new(),
            pinned: OnceLock::new(),
            uses: AtomicU32::new(0),
            coming_tail: Mutex::new(None),
        }
    }

    /// Opens a file that no manifest describes, by its footer.
    pub(crate) fn open_file(
        id: SegmentId,
        name: &str,
        blobs: Arc<dyn Blobs>,
        cache: Arc<BlockCache>,
    ) -> Result<Self> {
        let reader = blobs.open(name)?;
        let size = reader.size();
        let footer = read_footer(name, size, |at, len| {
            Ok(reader.read(at, len, Wait::Allowed)?)
        })?;
        let end = size - FOOTER as u64;
        let len = (end - footer.properties_at) as usize;
        let framed = reader.read(footer.properties_at, len, Wait::Allowed)?;
        let damaged = |what: &str| Error::corrupt(name, footer.properties_at, what);
        let raw = frame::open(framed).map_err(damaged)?;
        let mut meta = decode_properties(&raw).map_err(damaged)?;
        meta.bytes = size;
        let table = Self::new(id, meta, blobs, cache);
        let _ = table.reader.set(reader);
        Ok(table)
    }

    /// The newest entry of `key` at or before `commit`. `Skipped` when the filter rules it out.
    pub(crate) fn get(
        &self,
        key: &[u8],
        hash: u64,
        commit: Commit,
        wait: Wait,
        blocks_read: &mut u64,
    ) -> Result<Lookup> {
        let tail = self.tail(wait)?;
        if let Some(KeyFilter::Whole(filter)) = &tail.filter {
            filter.prefetch(hash);
        }
        // While the filter's line is on its way.
        let index = tail.index.as_ref();
        let short_cut = index.and_then(|index| Some((index, index.block_number(key)?)));
        let possible = match &tail.filter {
            None => true,
            Some(KeyFilter::Whole(filter)) => filter.may_contain(hash),
            Some(KeyFilter::Sections(sections)) => {
                self.section_may_contain(sections, hash, wait, blocks_read)?
            }
        };
        if !possible {
            return Ok(Lookup::Skipped);
        }
        let block = match short_cut.and_then(|(index, block)| index.cached(block)) {
            Some(block) if block.is_told() => {
                *blocks_read += 1;
                block
            }
            _ => {
                let Some(place) = self.place_of(&tail, key, commit, wait, blocks_read)? else {
                    return Ok(Lookup::Absent);
                };
                self.block_of(&place, wait, blocks_read)?
            }
        };
        let Some(found) = block.get(key, commit) else {
            let place = self.place_of(&tail, key, commit, wait, blocks_read)?;
            let handle = place.map(|place| self.handle_at(&place)).transpose()?;
            return Err(self.damaged(handle.map_or(0, |handle| handle.at)));
        };
        Ok(match found {
            Some(found) => Lookup::Hit(Hit { block, found }),
            None => Lookup::Absent,
        })
    }

    fn section_may_contain(
        &self,
        sections: &Sections,
        hash: u64,
        wait: Wait,
        blocks_read: &mut u64,
    ) -> Result<bool> {
        let handle = sections.of(hash);
        let damaged = |what: &str| Error::corrupt(self.id.blob(), handle.at, what);
        let slot = CacheKey {
            segment: self.id,
            at: handle.at,
        };
        *blocks_read += 1;
        let section = match self.cache.get(&slot) {
            Some(Cached::Value(section)) => section,
            _ => {
                let framed = self.reader()?.read(handle.at, handle.len, wait);
                let framed = framed.map_err(|error| self.explain(error.into()))?;
                let section = frame::open(framed).map_err(damaged)?;
                self.cache.count(0, 1);
                self.cache.insert(slot, Cached::Value(section.clone()));
                section
            }
        };
        sections.may_contain(&section, hash).map_err(damaged)
    }

    /// Where the index names the data block that holds the first entry not before (`key`, `commit`).
    pub(super) fn place_of<'t>(
        &self,
        tail: &'t Tail,
        key: &[u8],
        commit: Commit,
        wait: Wait,
        blocks_read: &mut u64,
    ) -> Result<Option<Place<'t>>> {
        let pinned = tail.index.as_ref();
        let only = pinned.and_then(|index| Some(PartRef::Pinned(index, index.only_part()?)));
        let part = match only {
            Some(part) => part,
            None => {
                let Some((number, handle)) = self.first_not_before(&tail.top, key, commit)? else {
                    return Ok(None);
                };
                self.part_of(tail, number, handle, wait, blocks_read)?
            }
        };
        let found = part.index().lower_bound(key, commit);
        let found = found.ok_or_else(|| self.damaged(self.meta.index_at))?;
        Ok(found.map(|(number, entry)| Place {
            part,
            number,
            entry,
        }))
    }

    /// Where the data block of a place lies in the file.
    pub(super) fn handle_at(&self, place: &Place<'_>) -> Result<Handle> {
        Handle::decode(place.part.index().value(&place.entry))
            .ok_or_else(|| self.damaged(self.meta.index_at))
    }

    pub(super) fn first_not_before(
        &self,
        index: &Block,
        key: &[u8],
        commit: Commit,
    ) -> Result<Option<(usize, Handle)>> {
        let damaged = || self.damaged(self.meta.index_at);
        match index.lower_bound(key, commit).ok_or_else(damaged)? {
            None => Ok(None),
            Some((number, entry)) => {
                let handle = Handle::decode(index.value(&entry)).ok_or_else(damaged)?;
                Ok(Some((number, handle)))
            }
        }
    }

    pub(super) fn part(
        &self,
        tail: &Tail,
        number: usize,
        handle: Handle,
        wait: Wait,
        blocks_read: &mut u64,
    ) -> Result<Arc<Block>> {
        let part = self.part_of(tail, number, handle, wait, blocks_read)?;
        Ok(part.index().clone())
    }

    fn part_of<'t>(
        &self,
        tail: &'t Tail,
        number: usize,
        handle: Handle,
        wait: Wait,
        blocks_read: &mut u64,
    ) -> Result<PartRef<'t>> {
        match &tail.index {
            Some(index) => index
                .part(number)
                .map(|part| PartRef::Pinned(index, part))
                .ok_or_else(|| self.damaged(self.meta.index_at)),
            None => Ok(PartRef::Read(self.block(handle, wait, blocks_read)?)),
        }
    }

    /// The data block of a place: from its slot, when the cache knows enough of its uses, else from
    /// the cache or the file.
    fn block_of(&self, place: &Place<'_>, wait: Wait, blocks_read: &mut u64) -> Result<Arc<Block>> {
        let PartRef::Pinned(index, part) = place.part else {
            return self.block(self.handle_at(place)?, wait, blocks_read);
        };
        *blocks_read += 1;
        let number = part.first + place.number;
        match index.cached(number) {
            Some(block) if block.is_told() => Ok(block),
            untold => {
                untold.iter().for_each(|block| block.count_told());
                let home = index.home(number);
                let home = home.ok_or_else(|| self.damaged(self.meta.index_at))?;
                self.block_for(home, self.handle_at(place)?, wait)
            }
        }
    }

    /// The block from the cache or the file, and from now on in its slot.
    #[cold]
    fn block_for(&self, home: Home, handle: Handle, wait: Wait) -> Result<Arc<Block>> {
        let key = CacheKey {
            segment: self.id,
            at: handle.at,
        };
        let entry = match self.cache.get(&key) {
            Some(entry) => entry,
            None => {
                let block = Arc::new(self.read_block(handle, wait)?);
                self.cache.count(0, 1);
                let entry = Cached::Block(block, Some(home.clone()));
                self.cache.insert_if_absent(key, entry)
            }
        };
        let Cached::Block(block, before) = entry else {
            return Err(self.damaged(handle.at));
        };
        if !before.as_ref().is_some_and(|before| before.is(&home)) {
            // A scan's, or of another handle of the same table, which takes it back when it reads it.
            let entry = Cached::Block(block.clone(), Some(home.clone()));
            self.cache.insert(key, entry);
            before.iter().for_each(Home::empty);
        }
        home.fill(block.clone());
        if !self.cache.knows(&key, &block, &home) {
            home.empty();
        }
        Ok(block)
    }

    /// The block at `handle`, from the cache or the file.
    pub(crate) fn block(
        &self,
        handle: Handle,
        wait: Wait,
        blocks_read: &mut u64,
    ) -> Result<Arc<Block>> {
        let slot = CacheKey {
            segment: self.id,
            at: handle.at,
        };
        *blocks_read += 1;
        if let Some(Cached::Block(block, _)) = self.cache.get(&slot) {
            return Ok(block);
        }
        let block = Arc::new(self.read_block(handle, wait)?);
        self.cache.count(0, 1);
        let entry = Cached::Block(block.clone(), None);
        self.cache.insert_if_absent(slot, entry);
        Ok(block)
    }

    /// Reads a block past the cache.
    pub(crate) fn read_block(&self, handle: Handle, wait: Wait) -> Result<Block> {
        let framed = self.reader()?.read(handle.at, handle.len, wait);
        let framed = framed.map_err(|error| self.explain(error.into()))?;
        self.decode(handle, frame::open(framed), wait)
    }

    /// The block of a frame that was read and opened. One that is damaged is read once more past a
    /// cache of the store, which may have kept what was damaged on its way there.
    pub(super) fn decode(
        &self,
        handle: Handle,
        opened: std::result::Result<bytes::Bytes, &'static str>,
        wait: Wait,
    ) -> Result<Block> {
        self.parse(handle, opened).or_else(|damage| {
            let reader = self.reader_past(damage)?;
            let framed = reader.read(handle.at, handle.len, wait);
            let framed = framed.map_err(|error| self.explain(error.into()))?;
            self.parse(handle, frame::open(framed))
        })
    }

    /// Reads of the store itself; `damage` when there is nothing in front of it.
    #[cold]
    pub(super) fn reader_past(&self, damage: Error) -> Result<Arc<dyn BlobReader>> {
        match self.blobs.caching(Caching::Past) {
            Some(blobs) => self.open_in(&*blobs),
            None => Err(damage),
        }
    }

    pub(super) fn parse(
        &self,
        handle: Handle,
        opened: std::result::Result<bytes::Bytes, &'static str>,
    ) -> Result<Block> {
        let damaged = |what: &str| Error::corrupt(self.id.blob(), handle.at, what);
        let block = opened.and_then(Block::parse).map_err(damaged)?;
        Ok(match self.meta.ingested {
            true => block.written_at(self.meta.max_commit),
            false => block,
        })
    }

    /// True when every read is a request to a bucket.
    pub(crate) fn is_remote(&self) -> bool {
        !self.blobs.can_append()
    }

    pub(crate) fn damaged(&self, at: u64) -> Error {
        Error::corrupt(self.id.blob(), at, "a block that decodes to nonsense")
    }

    pub(super) fn reader(&self) -> Result<&Arc<dyn BlobReader>> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let reader = self.open_in(&*self.blobs)?;
        Ok(self.reader.get_or_init(|| reader))
    }

    fn open_in(&self, blobs: &dyn Blobs) -> Result<Arc<dyn BlobReader>> {
        let opened = blobs.open_sized(&self.id.blob(), self.meta.bytes);
        let reader = opened.map_err(|error| self.explain(error.into()))?;
        if reader.size() != self.meta.bytes {
            let what = format!(
                "it has {} bytes, the manifest says {}",
                reader.size(),
                self.meta.bytes
            );
            return Err(Error::corrupt(self.id.blob(), reader.size(), what));
        }
        Ok(reader)
    }

    /// Reads that go on through the table and leave nothing in a cache of the store.
    pub(super) fn sparing_reader(&self) -> Result<Arc<dyn BlobReader>> {
        match self.blobs.caching(Caching::Spare) {
            Some(blobs) => self.open_in(&*blobs),
            None => self.reader().cloned(),
        }
    }

    /// A table that is not there is damage.
    pub(super) fn explain(&self, error: Error) -> Error {
        match &error {
            Error::Storage(cause) if cause.is_not_found() => Error::corrupt(
                self.id.blob(),
                0,
                "the manifest lists this table and it is not there (a reader that stood still for longer than its lease must refresh)",
            ),
            _ => error,
        }
    }

    /// All handles in an index block.
    pub(super) fn handles(&self, index: &Arc<Block>) -> Result<Vec<Handle>> {
        let damaged = || self.damaged(self.meta.index_at);
        let mut cursor = BlockCursor::new(index.clone());
        cursor.seek_first().ok_or_else(damaged)?;
        let mut handles = Vec::new();
        while cursor.valid() {
            handles.push(Handle::decode(cursor.value()).ok_or_else(damaged)?);
            cursor.next().ok_or_else(damaged)?;
        }
        Ok(handles)
    }

    /// The handles of all data blocks, in order; reads the index.
    pub(crate) fn data_handles(&self) -> Result<Vec<Handle>> {
        let tail = self.tail(Wait::Allowed)?;
        let mut all = Vec::new();
        for handle in self.handles(&tail.top)? {
            let part = Arc::new(self.read_block(handle, Wait::Allowed)?);
            all.extend(self.handles(&part)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
impl Table {
    fn pinned_tail(&self) -> (&Tail, &PinnedIndex) {
        let (tail, _) = self.pinned.get().expect("its index is in memory");
        (tail, tail.index.as_ref().expect("pinned"))
    }

    pub(super) fn has_short_cut(&self, key: &[u8]) -> bool {
        self.pinned_tail().1.block_number(key).is_some()
    }

    /// Whether the short cut leads where the index does, or nowhere.
    pub(super) fn short_cut_agrees(&self, key: &[u8]) -> bool {
        let (tail, index) = self.pinned_tail();
        let place = self.place_of(tail, key, Commit::MAX, Wait::Allowed, &mut 0);
        let number = place.expect("an index").map(|place| match place.part {
            PartRef::Pinned(_, part) => part.first + place.number,
            PartRef::Read(_) => unreachable!("it is pinned"),
        });
        index
            .block_number(key)
            .is_none_or(|short| Some(short) == number)
    }

    /// How many slots are filled, and of how many the cache knows.
    pub(super) fn filled_slots(&self) -> (usize, usize) {
        let (mut filled, mut known) = (0, 0);
        let (_, index) = self.pinned_tail();
        for part in index.parts() {
            let handles = self.handles(&part.index).expect("an index");
            for (number, handle) in handles.iter().enumerate() {
                let number = part.first + number;
                let home = index.home(number).expect("a slot for each block");
                let key = CacheKey {
                    segment: self.id,
                    at: handle.at,
                };
                filled += usize::from(index.cached(number).is_some());
                let block = self.cache.get(&key);
                known += usize::from(matches!(block, Some(Cached::Block(block, _))
                    if self.cache.knows(&key, &block, &home)));
            }
        }
        (filled, known)
    }
}

/// What a table has of a key.
pub(crate) enum Lookup {
    /// The filter says that it has nothing.
    Skipped,
    /// It was searched and has nothing.
    Absent,
    /// It has this.
    Hit(Hit),
}
