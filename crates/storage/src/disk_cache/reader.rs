//! A bucket with a cache in front of it.

use super::DiskCacheStats;
use super::counters::add;
use super::identity::Identity;
use super::open::Cache;
use super::page::{Database, PAGE_BYTES};
use super::store::{Loads, Store};
use crate::blobs::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, Caching, PendingList, PendingPut,
    PendingRead, Place, PutOutcome, StoreKind, Wait,
};
use crate::env::Env;
use crate::error::Result;
use crate::probe::STANDING;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// A store with a cache in front of it.
#[derive(Debug, Clone)]
pub(super) struct CachedBlobs {
    inner: Arc<dyn Blobs>,
    cache: Arc<Cache>,
    identity: Arc<Identity>,
    caching: Caching,
}

/// The number of the page that holds the size of a blob.
const SIZE_PAGE: u64 = u64::MAX;

/// True for what never changes once it is written: tables, blob files, archives of ledgers.
fn is_immutable(name: &str) -> bool {
    let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
    match folders {
        "sst" => file.ends_with(".sst"),
        "blob" => file.ends_with(".blob"),
        _ => folders.starts_with("ledger/") && folders.ends_with("/car") && file.ends_with(".car"),
    }
}

impl CachedBlobs {
    pub(super) fn new(env: &Env, cache: Arc<Cache>) -> Self {
        Self {
            inner: env.blobs.clone(),
            identity: Arc::new(Identity::ask(env)),
            cache,
            caching: Caching::Use,
        }
    }

    /// A reader through the cache, for what may be cached.
    fn cached(&self, name: &str, inner: Arc<dyn BlobReader>) -> Arc<dyn BlobReader> {
        match is_immutable(name) {
            false => inner,
            true => Arc::new(CachedReader {
                name: name.into(),
                inner,
                cache: self.cache.clone(),
                identity: self.identity.clone(),
                caching: self.caching,
            }),
        }
    }

    /// The size of a blob file, where it is known: asking is a request, and whoever opens one knows
    /// from a table that it is there.
    fn known_size(&self, name: &str) -> Option<u64> {
        if self.caching == Caching::Past || !name.starts_with("blob/") {
            return None;
        }
        let (store, database) = (self.cache.store()?, self.identity.get()?);
        let key = database.key(name, SIZE_PAGE);
        if !store.may_have(key) {
            return None;
        }
        let page = store.start_load(vec![key]).wait(1).pop()??;
        let size = database.open(name, SIZE_PAGE, page)?;
        Some(u64::from_le_bytes(size[..].try_into().ok()?))
    }

    fn note_size(&self, name: &str, size: u64) {
        if self.caching != Caching::Use || !name.starts_with("blob/") {
            return;
        }
        if let (Some(store), Some(database)) = (self.cache.store(), self.identity.get()) {
            let page = database.seal(name, SIZE_PAGE, &size.to_le_bytes());
            store.put(database.key(name, SIZE_PAGE), page);
        }
    }

    /// Called before a blob of `size` bytes is written. A name that is used again (a damaged archive
    /// that is written anew) must not be answered with what it was, also after a restart, when what
    /// was taken out of the cache may be back: the database gets another identity instead.
    fn note_written(&self, name: &str, size: u64) -> Result<()> {
        if !is_immutable(name) {
            return Ok(());
        }
        let (Some(store), Some(database)) = (self.cache.store(), self.identity.get()) else {
            return Ok(());
        };
        let pages = 0..=size.saturating_sub(1) / PAGE_BYTES;
        match pages
            .into_iter()
            .any(|n| store.may_have(database.key(name, n)))
        {
            true => self.identity.renew(),
            false => Ok(()),
        }
    }
}

impl Blobs for CachedBlobs {
    fn kind(&self) -> StoreKind {
        self.inner.kind()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.note_written(name, bytes.len() as u64)?;
        self.inner.put(name, bytes)
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<PutOutcome> {
        self.note_written(name, bytes.len() as u64)?;
        let outcome = self.inner.put_if_absent(name, bytes)?;
        if name == STANDING && outcome == PutOutcome::Created {
            self.identity.forget();
        }
        Ok(outcome)
    }

    fn start_put_if_absent(&self, name: &str, bytes: Bytes) -> PendingPut {
        if let Err(error) = self.note_written(name, bytes.len() as u64) {
            return PendingPut::done(Err(error));
        }
        let pending = self.inner.start_put_if_absent(name, bytes);
        if name != STANDING {
            return pending;
        }
        let identity = self.identity.clone();
        PendingPut::new(move || {
            let outcome = pending.wait()?;
            if outcome == PutOutcome::Created {
                identity.forget();
            }
            Ok(outcome)
        })
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.inner.get(name)
    }

    fn start_get(&self, name: &str) -> PendingRead {
        self.inner.start_get(name)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>> {
        if let Some(size) = self.known_size(name) {
            return self.open_sized(name, size);
        }
        let reader = self.inner.open(name)?;
        self.note_size(name, reader.size());
        Ok(self.cached(name, reader))
    }

    fn open_sized(&self, name: &str, size: u64) -> Result<Arc<dyn BlobReader>> {
        Ok(self.cached(name, self.inner.open_sized(name, size)?))
    }

    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>> {
        self.note_written(name, 0)?;
        self.inner.create(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        self.inner.list(prefix)
    }

    fn start_list(&self, prefix: &str) -> PendingList {
        self.inner.start_list(prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let deleted = self.inner.delete(name);
        if name == STANDING {
            self.identity.forget();
        }
        deleted
    }

    fn delete_all(&self, names: &[String]) -> Result<()> {
        let deleted = self.inner.delete_all(names);
        if names.iter().any(|name| name == STANDING) {
            self.identity.forget();
        }
        deleted
    }

    fn place(&self, name: &str) -> Option<Place> {
        self.inner.place(name)
    }

    fn link(&self, name: &str, source: &Place) -> Result<bool> {
        self.note_written(name, 0)?;
        self.inner.link(name, source)
    }

    fn caching(&self, how: Caching) -> Option<Arc<dyn Blobs>> {
        Some(Arc::new(Self {
            caching: how,
            ..self.clone()
        }))
    }

    fn disk_cache(&self) -> Option<DiskCacheStats> {
        Some(self.cache.stats())
    }

    fn sync(&self, name: &str) -> Result<()> {
        self.inner.sync(name)
    }

    fn can_append(&self) -> bool {
        self.inner.can_append()
    }

    fn append(&self, name: &str, reserve: u64) -> Result<Box<dyn Appender>> {
        self.inner.append(name, reserve)
    }
}

/// Reads of one blob, through the cache.
#[derive(Debug, Clone)]
struct CachedReader {
    name: Arc<str>,
    inner: Arc<dyn BlobReader>,
    cache: Arc<Cache>,
    identity: Arc<Identity>,
    caching: Caching,
}

impl BlobReader for CachedReader {
    fn read(&self, offset: u64, len: usize, wait: Wait) -> Result<Bytes> {
        match wait {
            Wait::Allowed => self.start_read(offset, len).wait(),
            Wait::Never => self.inner.read(offset, len, wait),
        }
    }

    fn start_read(&self, offset: u64, len: usize) -> PendingRead {
        let end = offset.checked_add(len as u64);
        let inside = end.filter(|end| len > 0 && *end <= self.inner.size());
        let database = match self.cache.store().is_some() {
            true => self.identity.get(),
            false => None,
        };
        match (inside, database) {
            (Some(end), Some(database)) => {
                let reading = Reading::start(self.clone(), database, offset..end);
                PendingRead::new(move || reading.wait())
            }
            _ => self.inner.start_read(offset, len),
        }
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }
}

/// A range being read: one part from the store, the pages around it from the cache.
struct Reading {
    reader: CachedReader,
    database: Database,
    range: Range<u64>,
    /// Pages are read whole, to be kept.
    whole: bool,
    loads: Option<(Vec<u64>, Loads)>,
    remote: Option<(Range<u64>, PendingRead)>,
}

impl Reading {
    fn start(reader: CachedReader, database: Database, range: Range<u64>) -> Self {
        let mut reading = Self {
            reader,
            database,
            range,
            whole: true,
            loads: None,
            remote: None,
        };
        let cache = reading.reader.cache.clone();
        let Some(store) = cache.store() else {
            return reading;
        };
        let pages = reading.range.start / PAGE_BYTES..=(reading.range.end - 1) / PAGE_BYTES;
        reading.whole = match reading.reader.caching {
            Caching::Use => true,
            Caching::Spare => false,
            Caching::Past => pages
                .clone()
                .any(|number| store.may_have(reading.key(number))),
        };
        let (there, missing): (Vec<_>, Vec<_>) = pages.partition(|number| {
            reading.reader.caching != Caching::Past && store.may_have(reading.key(*number))
        });
        let missing = missing.first().copied().zip(missing.last().copied());
        if let Some((first, last)) = missing {
            let span = reading.span(first..=last);
            reading.remote = Some((span.clone(), reading.start_remote(&span)));
        }
        let outside = |number: &u64| missing.is_none_or(|(a, b)| *number < a || b < *number);
        let wanted: Vec<_> = there.into_iter().filter(outside).collect();
        if !wanted.is_empty() {
            let keys = wanted.iter().map(|number| reading.key(*number)).collect();
            reading.loads = Some((wanted, store.start_load(keys)));
        }
        reading
    }

    fn key(&self, number: u64) -> u128 {
        self.database.key(&self.reader.name, number)
    }

    /// What is read of the store for some pages: whole pages when they are to stay.
    fn span(&self, pages: RangeInclusive<u64>) -> Range<u64> {
        let whole = pages.start() * PAGE_BYTES
            ..((pages.end() + 1) * PAGE_BYTES).min(self.reader.inner.size());
        match self.whole {
            true => whole,
            false => whole.start.max(self.range.start)..whole.end.min(self.range.end),
        }
    }

    fn start_remote(&self, span: &Range<u64>) -> PendingRead {
        let len = (span.end - span.start) as usize;
        self.reader.inner.start_read(span.start, len)
    }

    /// Where page `number` of what is wanted lies.
    fn part(&self, number: u64) -> Range<u64> {
        let page = number * PAGE_BYTES..(number + 1) * PAGE_BYTES;
        page.start.max(self.range.start)..page.end.min(self.range.end)
    }

    fn wait(mut self) -> Result<Bytes> {
        let mut parts = BTreeMap::new();
        let unusable = self.take_loaded(&mut parts);
        if let Some((span, pending)) = self.remote.take() {
            self.take_read(&mut parts, span, pending.wait()?);
        }
        if let Some((first, last)) = unusable.first().copied().zip(unusable.last().copied()) {
            let span = self.span(first..=last);
            let bytes = self.start_remote(&span).wait()?;
            self.take_read(&mut parts, span, bytes);
        }
        Ok(join(self.range, parts))
    }

    /// Takes the pages that the cache had. Answers those that it did not have after all.
    fn take_loaded(&mut self, parts: &mut BTreeMap<u64, Bytes>) -> Vec<u64> {
        let Some((numbers, loads)) = self.loads.take() else {
            return Vec::new();
        };
        let counters = &self.reader.cache.counters;
        let mut unusable = Vec::new();
        for (number, page) in numbers.iter().copied().zip(loads.wait(numbers.len())) {
            let opened = page.and_then(|page| self.database.open(&self.reader.name, number, page));
            let part = self.part(number);
            let start = number * PAGE_BYTES;
            let inside = (part.start - start) as usize..(part.end - start) as usize;
            match opened {
                Some(bytes) if inside.end <= bytes.len() => {
                    add(&counters.hits, 1);
                    add(&counters.hit_bytes, bytes.len() as u64);
                    parts.insert(part.start, bytes.slice(inside));
                }
                // It was put there when less of the blob was known.
                Some(_) => unusable.push(number),
                None => {
                    add(&counters.dropped, 1);
                    unusable.push(number);
                }
            }
        }
        unusable
    }

    /// Takes what was read of the store, and puts it into the cache.
    fn take_read(&self, parts: &mut BTreeMap<u64, Bytes>, span: Range<u64>, bytes: Bytes) {
        let pages = span.start / PAGE_BYTES..=(span.end - 1) / PAGE_BYTES;
        add(
            &self.reader.cache.counters.misses,
            pages.end() - pages.start() + 1,
        );
        if let Some(store) = self.reader.cache.store() {
            for number in pages {
                self.keep(store, number, &span, &bytes);
            }
        }
        let wanted = span.start.max(self.range.start)..span.end.min(self.range.end);
        let inside = (wanted.start - span.start) as usize..(wanted.end - span.start) as usize;
        // What other pages gave of the same bytes is the same.
        parts.retain(|start, _| !wanted.contains(start));
        parts.insert(wanted.start, bytes.slice(inside));
    }

    fn keep(&self, store: &Store, number: u64, span: &Range<u64>, bytes: &Bytes) {
        let key = self.key(number);
        let wanted = match self.reader.caching {
            Caching::Use => true,
            Caching::Spare => false,
            Caching::Past => self.whole && store.may_have(key),
        };
        if wanted {
            let start = (number * PAGE_BYTES - span.start) as usize;
            let end = bytes.len().min(start + PAGE_BYTES as usize);
            let page = self
                .database
                .seal(&self.reader.name, number, &bytes[start..end]);
            store.put(key, page);
        }
    }
}

/// Puts neighbouring parts together that cover `range`.
fn join(range: Range<u64>, parts: BTreeMap<u64, Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.into_values().next().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity((range.end - range.start) as usize);
    for bytes in parts.into_values() {
        whole.extend_from_slice(&bytes);
    }
    whole.freeze()
}
