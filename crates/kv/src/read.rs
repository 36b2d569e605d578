//! Reads: one trait for a keyspace, a snapshot and a reader, all through one point lookup and one
//! scan.

use crate::blob::Pointer;
use crate::cache::{CacheKey, Cached};
use crate::cursor::Cursor;
use crate::error::{Error, Result, show_key};
use crate::key_range::KeyRange;
use crate::memtable::MemCursor;
use crate::merge::MergeCursor;
use crate::operator::{self, Fold, MergeOperator};
use crate::options::{KeyspaceOptions, Options};
use crate::scan::{Scan, ScanOptions};
use crate::sst::filter;
use crate::sst::table::{Hit, Lookup, ReadState, Table};
use crate::stats::{GetStats, Source, add};
use crate::transaction::overlay::Overlay;
use crate::ttl;
use crate::types::{Commit, Kind, Tag};
use crate::view::View;
use bytes::Bytes;
use siltstone_storage::{Timestamp, Wait};
use std::borrow::Cow;
use std::ops::RangeBounds;
use std::sync::Arc;

/// Values up to this size are copied out of their block, so that a small value does not hold a
/// large block in memory.
const COPY_UP_TO: usize = 4096;

/// Values of blob files up to this size enter the cache, in bytes.
const CACHE_UP_TO: usize = 64 << 10;

/// Where a value stays that was read from a blob file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    InCache,
    /// A scan comes by once: what it reads would only push out what gets come back to.
    Nowhere,
}

/// Reads of one keyspace at one commit. Implemented by [`crate::Keyspace`] (at the newest commit),
/// [`crate::Snapshot`] and [`crate::Reader`].
pub trait Read {
    /// What to read from. Not for callers.
    #[doc(hidden)]
    fn at(&self) -> Result<ReadAt>;

    /// As `at`, without waiting for a disk or a network. Not for callers.
    #[doc(hidden)]
    fn try_at(&self) -> Result<ReadAt> {
        self.at()
    }

    /// The newest value of `key`, `None` when it is absent or deleted.
    ///
    /// # Errors
    /// [`Error::KeyLength`], and the store's errors.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.at()?.get(key, Wait::Allowed, &mut GetStats::default())
    }

    /// As [`Read::get`], for callers that only look: `see` gets the value where it lies, without a
    /// copy, and its answer is returned. Meanwhile the block of the value stays in memory.
    ///
    /// # Errors
    /// As [`Read::get`].
    fn get_with<T>(&self, key: &[u8], see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>>
    where
        Self: Sized,
    {
        let at = self.at()?;
        let value = at.find(key, Wait::Allowed, &mut GetStats::default())?;
        Ok(value.map(|value| see(value.bytes())))
    }

    /// As [`Read::get`], and what the read did.
    ///
    /// # Errors
    /// As [`Read::get`].
    fn get_with_stats(&self, key: &[u8]) -> Result<(Option<Bytes>, GetStats)> {
        let at = self.at()?;
        let clock = at.shared.env.clock.clone();
        let started = clock.elapsed();
        let mut stats = GetStats::default();
        let value = at.get(key, Wait::Allowed, &mut stats)?;
        stats.latency = clock.elapsed().saturating_sub(started);
        Ok((value, stats))
    }

    /// As [`Read::get`], without ever waiting for a disk or a network: fails with
    /// [`Error::is_would_block`] when the bytes are not in memory or in the page cache.
    ///
    /// # Errors
    /// As [`Read::get`].
    fn try_get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.try_at()?
            .get(key, Wait::Never, &mut GetStats::default())
    }

    /// The values of several keys, all at one commit, in the order asked for.
    ///
    /// # Errors
    /// As [`Read::get`].
    fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>>
    where
        Self: Sized,
    {
        let at = self.at()?;
        let mut order: Vec<usize> = (0..keys.len()).collect();
        // In key order neighbours share blocks.
        order.sort_by(|a, b| keys[*a].as_ref().cmp(keys[*b].as_ref()));
        let mut values = vec![None; keys.len()];
        for i in order {
            values[i] = at.get(keys[i].as_ref(), Wait::Allowed, &mut GetStats::default())?;
        }
        Ok(values)
    }

    /// The keys of `range` in order.
    ///
    /// # Errors
    /// [`Error::InvalidRange`] when start lies after end, [`Error::Cancelled`] when it gave up
    /// waiting for other scans to end, and the store's errors.
    fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Scan>
    where
        Self: Sized,
    {
        self.scan_with(range, ScanOptions::default())
    }

    /// As [`Read::scan`], with options: direction, cancellation.
    ///
    /// # Errors
    /// As [`Read::scan`].
    fn scan_with<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        options: ScanOptions,
    ) -> Result<Scan>
    where
        Self: Sized,
    {
        let range = KeyRange::new(
            range.start_bound().map(AsRef::as_ref),
            range.end_bound().map(AsRef::as_ref),
        )?;
        Scan::open(self.at()?, range, options)
    }

    /// Opens a scan that waits for its turn at its first step: for tasks, by [`Scan::poll_turn`]. It
    /// reads at the commit of this call.
    ///
    /// # Errors
    /// The store's; with [`Wait::Never`], one for which [`Error::is_would_block`] holds when opening
    /// would have to wait.
    fn open_scan(&self, range: KeyRange, options: ScanOptions, wait: Wait) -> Result<Scan> {
        let at = match wait {
            Wait::Allowed => self.at()?,
            Wait::Never => self.try_at()?,
        };
        Ok(Scan::open_outside(at, range, options))
    }

    /// The keys that start with `prefix`, in order.
    ///
    /// # Errors
    /// As [`Read::scan`].
    fn scan_prefix(&self, prefix: &[u8], options: ScanOptions) -> Result<Scan>
    where
        Self: Sized,
    {
        Scan::open(self.at()?, KeyRange::prefix(prefix), options)
    }

    /// The commit that this reads at.
    ///
    /// # Errors
    /// [`Error::Closed`].
    fn commit(&self) -> Result<Commit> {
        Ok(self.at()?.commit)
    }
}

/// A view, a commit to read it at, and what the read needs of the database.
#[doc(hidden)]
#[derive(Debug)]
pub struct ReadAt {
    pub(crate) view: ViewRef,
    pub(crate) commit: Commit,
    pub(crate) shared: Arc<crate::shared::Shared>,
    /// Keeps a snapshot's commit while a scan lives on without the snapshot.
    pub(crate) hold: Option<Arc<crate::snapshot::CommitPin>>,
    /// A transaction's own writes, and its notes.
    pub(crate) overlay: Option<Overlay>,
}

/// A view, borrowed cheaply for a point read or held for longer.
#[derive(Debug)]
pub(crate) enum ViewRef {
    Guard(arc_swap::Guard<Arc<View>>),
    Held(Arc<View>),
}

impl ViewRef {
    pub(crate) fn into_arc(self) -> Arc<View> {
        match self {
            ViewRef::Guard(guard) => arc_swap::Guard::into_inner(guard),
            ViewRef::Held(view) => view,
        }
    }
}

impl std::ops::Deref for ViewRef {
    type Target = View;

    #[inline]
    fn deref(&self) -> &View {
        match self {
            ViewRef::Guard(guard) => guard,
            ViewRef::Held(view) => view,
        }
    }
}

impl ReadAt {
    /// The newest value at or before the commit.
    pub(crate) fn get(
        &self,
        key: &[u8],
        wait: Wait,
        stats: &mut GetStats,
    ) -> Result<Option<Bytes>> {
        let value = self.find(key, wait, stats)?;
        Ok(value.map(Value::into_bytes))
    }

    /// As [`ReadAt::get`]; the value stays where it is.
    fn find(&self, key: &[u8], wait: Wait, stats: &mut GetStats) -> Result<Option<Value<'_>>> {
        check_key(key, &self.shared.options)?;
        add(&self.shared.counters.gets, 1);
        if let Some(overlay) = &self.overlay {
            overlay.note_key(key);
        }
        let best = self.lookup(key, wait, stats)?;
        if self.view.limited {
            self.refuse_truncated(key, wait)?;
        }
        match best {
            Some(best) if best.tag.is_plain_put() && !self.has_ranges() => {
                Ok(Some(Value::Stored(best.value, 0)))
            }
            Some(best) => self.resolve(key, best, wait, stats),
            None => Ok(None),
        }
    }

    /// What the newest entry of a key comes to: it may be hidden by the deletion of a range, have
    /// expired, or say only how to change what is below it.
    fn resolve<'a>(
        &'a self,
        key: &[u8],
        best: Best<'a>,
        wait: Wait,
        stats: &mut GetStats,
    ) -> Result<Option<Value<'a>>> {
        let range_deleted = self.range_deleted(key);
        if range_deleted.is_some_and(|at| at > best.commit) {
            return Ok(None);
        }
        match best.tag.kind() {
            Kind::Put => {
                let stored = best.value.bytes();
                if ttl::is_expired(best.tag, stored, || self.now()) {
                    return Ok(None);
                }
                let skip = ttl::prefix(best.tag, stored);
                Ok(Some(match best.tag.points() {
                    true => Value::Made(self.fetch(&stored[skip..], wait, Keep::InCache)?),
                    false => Value::Stored(best.value, skip),
                }))
            }
            Kind::Merge => {
                let folded = self.fold(key, range_deleted, wait, stats)?;
                Ok(Some(Value::Made(folded)))
            }
            Kind::Delete | Kind::RangeDelete | Kind::Ingested => Ok(None),
        }
    }

    /// Gathers the operands of `key` down to its value and merges them.
    fn fold(
        &self,
        key: &[u8],
        range_deleted: Option<Commit>,
        wait: Wait,
        stats: &mut GetStats,
    ) -> Result<Bytes> {
        let operator = self.operator()?;
        let state = Arc::new(ReadState::new(wait));
        let after = [key, b"\0"].concat();
        let mut merge = MergeCursor::new(self.sources((Some(key), Some(&after)), &state).0);
        merge.seek(key, Commit::MAX)?;
        let mut fold = Fold::default();
        let mut base = None;
        let mut last = None;
        while merge.valid() && merge.key() == key {
            let commit = merge.commit();
            // A twin that a log replay made counts once.
            if self.sees(commit) && last != Some(commit) {
                if range_deleted.is_some_and(|at| at > commit) {
                    break;
                }
                last = Some(commit);
                stats.records_scanned += 1;
                let (tag, value) = (merge.tag(), merge.value());
                if !tag.is_merge() {
                    base = self
                        .live_value(tag, value, wait, Keep::InCache)?
                        .map(Cow::into_owned);
                    break;
                }
                fold.add(value);
            }
            merge.next()?;
        }
        fold.finish(&*operator, key, base.as_deref())
            .map(Bytes::from)
    }

    /// The value of an entry that is no merge, when it has one.
    pub(crate) fn live_value<'a>(
        &self,
        tag: Tag,
        stored: &'a [u8],
        wait: Wait,
        keep: Keep,
    ) -> Result<Option<Cow<'a, [u8]>>> {
        if !tag.is_put() || ttl::is_expired(tag, stored, || self.now()) {
            return Ok(None);
        }
        let value = &stored[ttl::prefix(tag, stored)..];
        Ok(Some(match tag.points() {
            true => Cow::Owned(self.fetch(value, wait, keep)?.into()),
            false => Cow::Borrowed(value),
        }))
    }

    /// The value that a pointer stands for.
    fn fetch(&self, pointer: &[u8], wait: Wait, keep: Keep) -> Result<Bytes> {
        let shared = &self.shared;
        let pointer = Pointer::decode(pointer)
            .ok_or_else(|| Error::corrupt("sst", 0, "a pointer that decodes to nonsense"))?;
        let slot = CacheKey {
            segment: pointer.file,
            at: pointer.at,
        };
        if let Some(Cached::Value(value)) = shared.cache.get(&slot) {
            return Ok(value);
        }
        let value = shared.blob_files.read(&*shared.env.blobs, pointer, wait)?;
        shared.cache.count(0, 1);
        if keep == Keep::InCache && value.len() <= CACHE_UP_TO {
            shared.cache.insert(slot, Cached::Value(value.clone()));
        }
        Ok(value)
    }

    /// The time by which values have expired.
    fn now(&self) -> Timestamp {
        self.shared.env.clock.now().max(self.view.expired)
    }

    /// The merge operator of the keyspace.
    pub(crate) fn operator(&self) -> Result<Arc<dyn MergeOperator>> {
        operator_of(&self.view.options, &self.shared.options, "this")
    }

    /// True when deletions of ranges must be asked for.
    #[inline]
    pub(crate) fn has_ranges(&self) -> bool {
        let own = self.overlay.as_ref().and_then(|own| own.memtable.as_ref());
        self.view.has_ranges() || own.is_some_and(|own| own.has_ranges())
    }

    /// The newest deletion of a range that holds `key`, for this read.
    pub(crate) fn range_deleted(&self, key: &[u8]) -> Option<Commit> {
        let own = self.overlay.as_ref().and_then(|overlay| {
            let own = overlay.memtable.as_ref()?;
            own.ranges().newest(key, overlay.upto)
        });
        own.max(self.view.range_deleted(key, self.commit))
    }

    /// Cursors over everything that this read may find something in, newest first, and the number
    /// of tables left out.
    pub(crate) fn sources(
        &self,
        range: (Option<&[u8]>, Option<&[u8]>),
        state: &Arc<ReadState>,
    ) -> (Vec<crate::merge::Source>, u64) {
        let (mut sources, skipped) = self.view.sources(range, self.commit, state);
        let own = self.overlay.as_ref().and_then(|own| own.memtable.clone());
        if let Some(own) = own.filter(|own| !own.is_empty()) {
            sources.insert(0, crate::merge::Source::Memory(MemCursor::new(own)));
        }
        (sources, skipped)
    }

    /// True when a version with this commit is there for this read.
    #[inline]
    pub(crate) fn sees(&self, commit: Commit) -> bool {
        match commit <= self.commit {
            true => self.view.hidden.is_empty() || !self.view.hidden.contains(commit),
            false => self.overlay.as_ref().is_some_and(|own| own.sees(commit)),
        }
    }

    /// The newest version of a key in a table that this read may find.
    fn get_in(
        &self,
        table: &Table,
        key: &[u8],
        hash: u64,
        wait: Wait,
        blocks_read: &mut u64,
    ) -> Result<Lookup> {
        let mut commit = self.commit;
        loop {
            let found = table.get(key, hash, commit, wait, blocks_read)?;
            match &found {
                Lookup::Hit(hit)
                    if let Some(before) = self.view.hidden.before(hit.found.commit) =>
                {
                    commit = before;
                }
                _ => return Ok(found),
            }
        }
    }

    fn lookup(&self, key: &[u8], wait: Wait, stats: &mut GetStats) -> Result<Option<Best<'_>>> {
        let hash = filter::hash(key);
        if let Some(overlay) = &self.overlay
            && let Some(own) = self.lookup_own(overlay, key, hash, stats)
        {
            return Ok(Some(own));
        }
        for (at, table) in self.view.memtables().enumerate() {
            if let Some(entry) = table.get(key, hash, self.commit) {
                stats.records_scanned += 1;
                stats.commit = Some(entry.commit);
                stats.source = match at {
                    0 => Source::Memtable,
                    _ => Source::SealedMemtable,
                };
                let best = Best {
                    commit: entry.commit,
                    tag: entry.tag,
                    value: Stored::Memory(entry.value),
                };
                // Tables only hold what was written before any memtable, but for ingested ones.
                return match self.view.max_commit() <= entry.commit {
                    true => Ok(Some(best)),
                    false => self.newer_in_tables(key, hash, best, wait, stats),
                };
            }
        }
        self.lookup_in_tables(key, hash, wait, stats)
    }

    /// The newer one of what a memtable holds and what tables do.
    #[cold]
    fn newer_in_tables<'a>(
        &'a self,
        key: &[u8],
        hash: u64,
        best: Best<'a>,
        wait: Wait,
        stats: &mut GetStats,
    ) -> Result<Option<Best<'a>>> {
        let (source, commit) = (stats.source, stats.commit);
        let found = self.lookup_in_tables(key, hash, wait, stats)?;
        if let Some(found) = found.filter(|found| found.commit > best.commit) {
            return Ok(Some(found));
        }
        (stats.source, stats.commit) = (source, commit);
        Ok(Some(best))
    }

    fn lookup_own<'a>(
        &self,
        overlay: &'a Overlay,
        key: &[u8],
        hash: u64,
        stats: &mut GetStats,
    ) -> Option<Best<'a>> {
        let own = overlay.memtable.as_ref()?;
        let entry = own.get(key, hash, overlay.upto)?;
        stats.records_scanned += 1;
        stats.source = Source::Transaction;
        Some(Best {
            commit: entry.commit,
            tag: entry.tag,
            value: Stored::Memory(entry.value),
        })
    }

    fn lookup_in_tables(
        &self,
        key: &[u8],
        hash: u64,
        wait: Wait,
        stats: &mut GetStats,
    ) -> Result<Option<Best<'_>>> {
        let mut best: Option<(Commit, Hit)> = None;
        let mut filtered = 0;
        for run in self.view.runs.iter() {
            if let Some((commit, _)) = &best
                && *commit >= run.max_commit.min(self.commit)
            {
                // Runs come newest first: none of the rest can hold anything newer.
                break;
            }
            let Some(table) = run.table_for(key) else {
                continue;
            };
            if table.meta.min_commit > self.commit {
                continue;
            }
            match self.get_in(table, key, hash, wait, &mut stats.blocks_read)? {
                Lookup::Skipped => filtered += 1,
                Lookup::Absent => {
                    stats.tables_read += 1;
                    add(&self.shared.counters.filter_misses, 1);
                }
                Lookup::Hit(hit) => {
                    stats.tables_read += 1;
                    stats.records_scanned += 1;
                    let commit = hit.found.commit;
                    if best.as_ref().is_none_or(|(newest, _)| commit > *newest) {
                        stats.source = Source::Table(table.id);
                        stats.commit = Some(commit);
                        best = Some((commit, hit));
                    }
                }
            }
        }
        if filtered > 0 {
            add(&self.shared.counters.filter_skips, filtered);
        }
        let tables = self
            .view
            .runs
            .iter()
            .map(|run| run.tables.len() as u64)
            .sum::<u64>();
        stats.tables_skipped = tables - stats.tables_read;
        Ok(best.map(|(commit, hit)| Best {
            commit,
            tag: hit.found.tag,
            value: Stored::Table(hit),
        }))
    }

    /// Fails when versions between what a read at this commit finds and the next newer version
    /// were thinned away.
    fn refuse_truncated(&self, key: &[u8], wait: Wait) -> Result<()> {
        if self.commit >= self.shared.visible() || self.is_exact() {
            return Ok(());
        }
        let state = Arc::new(ReadState::new(wait));
        let (sources, _) = self.view.sources((Some(key), None), Commit::MAX, &state);
        let mut newer = MergeCursor::new(sources);
        newer.seek_before(key, self.commit)?;
        if newer.valid() && newer.key() == key && newer.tag().is_truncated() {
            return Err(self.truncated(key, newer.commit()));
        }
        Ok(())
    }

    /// True when marks of thinned versions do not concern this read.
    pub(crate) fn is_exact(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.is_exact())
    }

    pub(crate) fn truncated(&self, key: &[u8], oldest_kept: Commit) -> Error {
        Error::Truncated {
            key: show_key(key),
            asked: self.commit,
            oldest_kept,
        }
    }
}

/// The newest entry of a key.
#[derive(Debug)]
struct Best<'a> {
    commit: Commit,
    tag: Tag,
    value: Stored<'a>,
}

/// What an entry has for a value, where it lies.
#[derive(Debug)]
enum Stored<'a> {
    /// In a memtable of the view.
    Memory(&'a [u8]),
    /// In a block.
    Table(Hit),
}

impl Stored<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Stored::Memory(bytes) => bytes,
            Stored::Table(hit) => hit.block.value(&hit.found),
        }
    }
}

/// The value of a key.
#[derive(Debug)]
enum Value<'a> {
    /// What an entry has, without so many bytes at its start.
    Stored(Stored<'a>, usize),
    /// Fetched from a blob file, or merged.
    Made(Bytes),
}

impl Value<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Value::Stored(stored, skip) => &stored.bytes()[*skip..],
            Value::Made(bytes) => bytes,
        }
    }

    #[inline]
    fn into_bytes(self) -> Bytes {
        match self {
            Value::Stored(Stored::Table(hit), skip) if hit.found.value_len() > COPY_UP_TO => {
                hit.block.value_bytes(&hit.found).slice(skip..)
            }
            Value::Made(bytes) => bytes,
            small => Bytes::copy_from_slice(small.bytes()),
        }
    }
}

/// The merge operator of a keyspace with `options`.
pub(crate) fn operator_of(
    options: &KeyspaceOptions,
    all: &Options,
    keyspace: &str,
) -> Result<Arc<dyn MergeOperator>> {
    let missing = |what| Error::NoMergeOperator {
        keyspace: keyspace.to_string(),
        what,
        known: operator::known(all),
    };
    let Some(name) = &options.merge_operator else {
        return Err(missing("has no merge operator; set one".into()));
    };
    all.operator(name)
        .ok_or_else(|| missing(format!("has the merge operator {name:?}, unknown here")))
}

#[inline]
pub(crate) fn check_key(key: &[u8], options: &Options) -> Result<()> {
    if key.is_empty() || key.len() > options.max_key_bytes {
        return Err(Error::KeyLength {
            len: key.len(),
            max: options.max_key_bytes,
        });
    }
    Ok(())
}
