//! The CARs that blocks are read from: the live ones, and replaced ones that somebody may still read.
//!
//! A block is found through the index at the end of its CAR. The indexes of small CARs (commits,
//! mostly) are read when a block is first looked for: a [`Table`] says which of them to look into again, and
//! the cache holds them as long as there is room. Large CARs keep their index in pages of which a lookup
//! reads one. Nothing is read before a block is asked for.

use super::cache::{BlockCache, HashAddresses, Slot};
use super::car_ref::{CarId, CarMeta, Location, car_name, tail_name};
use super::follow::Follower;
use super::journal::journal_name;
use super::table::Table;
use crate::block::{Block, Cid, Codec};
use crate::car::{CarIndex, IndexPage, Location as Place, Lookup, MAX_FRAME_BYTES};
use crate::crypto::{KeyRing, key_of};
use crate::error::{Error, Result};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use siltstone_storage::{BlobReader, Blobs, Caching, Wait};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Bytes of an address in front of a frame's bytes.
pub(crate) const RAW_CID: usize = 36;
/// Files that are kept open for reading.
const OPEN_FILES: usize = 256;

/// A CAR, its index once it was read.
#[derive(Debug)]
pub(crate) struct OpenCar {
    pub(crate) id: CarId,
    pub(crate) meta: CarMeta,
    index: OnceLock<Arc<CarIndex>>,
}

impl OpenCar {
    pub(super) fn new(id: CarId, meta: CarMeta) -> Self {
        Self {
            id,
            meta,
            index: OnceLock::new(),
        }
    }
}

type Paged = Arc<Vec<Arc<OpenCar>>>;

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<CarId, Arc<OpenCar>, HashAddresses>,
    /// The small CARs whose index was read.
    table: Table,
    /// CARs whose index was not read yet.
    unread: Vec<Arc<OpenCar>>,
    /// CARs with an index in pages.
    paged: Paged,
    /// CARs that are in a remote only. They are asked last.
    away: Paged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum FileKey {
    Journal(u64),
    Car(CarId),
    Tail(CarId),
}

/// Where archives come from that are in a remote only.
pub(crate) trait Origin: Send + Sync {
    /// The bytes of an archive, checked.
    ///
    /// # Errors
    /// [`Error::Away`] when no remote gives it.
    fn archive(&self, id: &CarId, meta: &CarMeta) -> Result<Bytes>;
}

/// All CARs that blocks are read from.
pub(crate) struct Cars {
    blobs: Arc<dyn Blobs>,
    keys: Option<Arc<KeyRing>>,
    known: RwLock<Known>,
    files: Cache<FileKey, Arc<dyn BlobReader>>,
    /// One thread reads indexes at a time.
    reading: Mutex<()>,
    /// One thread fetches archives at a time.
    fetching: Mutex<()>,
    origin: OnceLock<Box<dyn Origin>>,
    /// Of a reader: what is read must be held.
    follower: OnceLock<Arc<Follower>>,
}

impl fmt::Debug for Cars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cars")
            .field("blobs", &self.blobs)
            .finish_non_exhaustive()
    }
}

impl Cars {
    pub(crate) fn new(blobs: Arc<dyn Blobs>, keys: Option<Arc<KeyRing>>) -> Self {
        Self {
            blobs,
            keys,
            known: RwLock::default(),
            files: Cache::new(OPEN_FILES),
            reading: Mutex::default(),
            fetching: Mutex::default(),
            origin: OnceLock::new(),
            follower: OnceLock::new(),
        }
    }

    /// What is read is held by this reader's pin.
    pub(super) fn set_follower(&self, follower: Arc<Follower>) {
        let _ = self.follower.set(follower);
    }

    /// The CARs that blocks may be read from.
    pub(super) fn ids(&self) -> Vec<CarId> {
        self.known.read().by_id.keys().copied().collect()
    }

    fn check_held(&self) -> Result<()> {
        match self.follower.get() {
            Some(follower) => follower.renew(),
            None => Ok(()),
        }
    }

    /// Archives that are in a remote only come from there, from now on.
    pub(crate) fn set_origin(&self, origin: Box<dyn Origin>) {
        let _ = self.origin.set(origin);
    }

    /// Blocks may be read from this CAR from now on.
    pub(crate) fn add(&self, id: CarId, meta: CarMeta) {
        let car = Arc::new(OpenCar::new(id, meta));
        let mut known = self.known.write();
        known.by_id.insert(id, car.clone());
        known.unread.push(car);
    }

    /// Blocks of this CAR are read from another place from now on; what is known of it may come from
    /// damaged bytes. Nothing happens when nobody reads from it any more.
    pub(crate) fn renew(&self, id: CarId, meta: CarMeta) {
        let _no_index_is_being_read = self.reading.lock();
        let mut known = self.known.write();
        if !known.by_id.contains_key(&id) {
            return;
        }
        let car = Arc::new(OpenCar::new(id, meta));
        known.by_id.insert(id, car.clone());
        self.files.remove(&FileKey::Car(id));
        known.table.remove(|other| *other == id);
        Arc::make_mut(&mut known.paged).retain(|other| other.id != id);
        Arc::make_mut(&mut known.away).retain(|other| other.id != id);
        known.unread.retain(|other| other.id != id);
        known.unread.push(car);
    }

    /// Nobody reads from these CARs any more.
    pub(crate) fn remove(&self, ids: &[CarId]) {
        let mut known = self.known.write();
        let ids: HashSet<&CarId, HashAddresses> = ids.iter().collect();
        for id in &ids {
            known.by_id.remove(*id);
            self.files.remove(&FileKey::Car(**id));
            self.files.remove(&FileKey::Tail(**id));
        }
        known.unread.retain(|car| !ids.contains(&car.id));
        Arc::make_mut(&mut known.paged).retain(|car| !ids.contains(&car.id));
        Arc::make_mut(&mut known.away).retain(|car| !ids.contains(&car.id));
        known.table.remove(|id| ids.contains(id));
    }

    /// A CAR that blocks may be read from.
    pub(crate) fn get(&self, id: &CarId) -> Option<Arc<OpenCar>> {
        self.known.read().by_id.get(id).cloned()
    }

    /// Lets go of all files; they are opened again when they are read.
    pub(crate) fn close_files(&self) {
        self.files.clear();
    }

    /// Lets go of a journal file that will be deleted.
    pub(crate) fn close_journal(&self, number: u64) {
        self.files.remove(&FileKey::Journal(number));
    }

    /// True for a CAR that is in a remote only.
    pub(crate) fn is_away(&self, id: &CarId) -> bool {
        let car = self.get(id);
        car.is_some_and(|car| car.meta.location == Location::Away)
    }

    /// As [`Cars::read`], but nothing is fetched: [`Error::Away`] for what would have to be.
    pub(crate) fn read_here(&self, cid: &Cid, cache: &BlockCache) -> Result<Bytes> {
        self.check_here(cid, cache)?;
        self.read(cid, cache)
    }

    /// Refuses a block for which an archive would have to be fetched.
    pub(crate) fn check_here(&self, cid: &Cid, cache: &BlockCache) -> Result<()> {
        match self.find(cid, cache)? {
            Some((car, _)) if car.meta.location == Location::Away => Err(Error::Away {
                car: car.id,
                why: "it was not fetched yet".into(),
            }),
            _ => Ok(()),
        }
    }

    /// A block, checked against its address.
    pub(crate) fn read(&self, cid: &Cid, cache: &BlockCache) -> Result<Bytes> {
        // A CAR may be replaced and deleted between finding and reading; its replacement is there then.
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Some((car, place)) = self.find(cid, cache)? else {
                return Err(Error::MissingBlock { cid: *cid });
            };
            match self.read_at(&car, &place) {
                Err(Error::Storage(gone)) if gone.is_not_found() && attempts < 4 => {
                    if self.get(&car.id).is_some() {
                        return Err(Error::MissingBlock { cid: *cid });
                    }
                }
                Err(Error::Away { .. }) if self.get(&car.id).is_none() && attempts < 4 => {}
                other => return other,
            }
        }
    }

    /// Whether a block is here.
    pub(crate) fn holds(&self, cid: &Cid, cache: &BlockCache) -> Result<bool> {
        Ok(self.find(cid, cache)?.is_some())
    }

    /// The CAR that a block would be read from.
    pub(crate) fn holder(&self, cid: &Cid, cache: &BlockCache) -> Result<Option<CarId>> {
        Ok(self.find(cid, cache)?.map(|(car, _)| car.id))
    }

    /// Where a block is.
    fn find(&self, cid: &Cid, cache: &BlockCache) -> Result<Option<(Arc<OpenCar>, Place)>> {
        loop {
            let (small, paged, all_read) = {
                let known = self.known.read();
                let all_read = known.unread.is_empty();
                (known.table.holders(cid), known.paged.clone(), all_read)
            };
            match self.find_in_small(&small, cid, cache) {
                // Replaced and deleted meanwhile: what replaced it is known now.
                Err(Error::Storage(gone))
                    if gone.is_not_found()
                        && small.iter().any(|car| self.get(&car.id).is_none()) =>
                {
                    continue;
                }
                Ok(None) => {}
                found => return found,
            }
            if let Some(found) = self.find_in_pages(&paged, cid, cache)? {
                return Ok(Some(found));
            }
            if all_read {
                let away = self.known.read().away.clone();
                return self.find_in_pages(&away, cid, cache);
            }
            self.read_indexes(cache)?;
        }
    }

    /// Looks into the indexes of small CARs, which the cache holds.
    fn find_in_small(
        &self,
        cars: &[Arc<OpenCar>],
        cid: &Cid,
        cache: &BlockCache,
    ) -> Result<Option<(Arc<OpenCar>, Place)>> {
        for car in cars {
            // Under the CAR's own address, which no block has.
            let index = match cache.get(&car.id) {
                Some(Slot::Index(index)) => index,
                _ => {
                    let index = self.index(car)?;
                    cache.insert(car.id, Slot::Index(index.clone()));
                    index
                }
            };
            if let Lookup::At(place) = index.lookup(cid) {
                return Ok(Some((car.clone(), place)));
            }
        }
        Ok(None)
    }

    /// Newest first: what is looked for is mostly young.
    fn find_in_pages(
        &self,
        paged: &[Arc<OpenCar>],
        cid: &Cid,
        cache: &BlockCache,
    ) -> Result<Option<(Arc<OpenCar>, Place)>> {
        for car in paged.iter().rev() {
            let Some(index) = car.index.get() else {
                continue;
            };
            match index.lookup(cid) {
                Lookup::At(place) => return Ok(Some((car.clone(), place))),
                Lookup::Absent => {}
                Lookup::OnPage(page) => {
                    if let Some(place) = self.page(car, &page, cache)?.lookup(cid) {
                        return Ok(Some((car.clone(), place)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn page(&self, car: &OpenCar, page: &Place, cache: &BlockCache) -> Result<Arc<IndexPage>> {
        let key = page_key(car, page);
        if let Some(Slot::Page(found)) = cache.get(&key) {
            return Ok(found);
        }
        let found = Arc::new(self.read_page(car, page)?);
        cache.insert(key, Slot::Page(found.clone()));
        Ok(found)
    }

    /// A page of an index. Its place carries the address of its first entry, not its own: that one
    /// stands in front of its bytes.
    fn read_page(&self, car: &OpenCar, page: &Place) -> Result<IndexPage> {
        let front = u64::from(page.offset).saturating_sub(RAW_CID as u64);
        let framed = self.read_bytes(car, front, RAW_CID + page.length as usize)?;
        let bytes = framed.slice(RAW_CID..);
        if framed[..RAW_CID] != Cid::of(Codec::RAW, &bytes).to_bytes() {
            return Err(damaged(car, page));
        }
        let place = format!("a page of the index of CAR {}", car.id);
        match car.meta.sealed {
            true => IndexPage::decode(self.unseal(&place, &bytes)?.bytes),
            false => IndexPage::decode(bytes),
        }
    }

    /// Reads the indexes that were not read yet.
    fn read_indexes(&self, cache: &BlockCache) -> Result<()> {
        let _one_at_a_time = self.reading.lock();
        let unread = self.known.read().unread.clone();
        let mut read = Vec::with_capacity(unread.len());
        for car in &unread {
            match self.index(car) {
                Ok(index) => read.push((car.clone(), index)),
                // Replaced and deleted meanwhile.
                Err(Error::Storage(gone)) if gone.is_not_found() && self.get(&car.id).is_none() => {
                }
                Err(error) => return Err(error),
            }
        }
        let mut known = self.known.write();
        for (car, index) in read {
            if !known.by_id.contains_key(&car.id) {
                continue;
            }
            let before = known.unread.len();
            known.unread.retain(|other| other.id != car.id);
            if known.unread.len() == before {
                continue;
            }
            if car.meta.location == Location::Away {
                let _ = car.index.set(index);
                Arc::make_mut(&mut known.away).push(car);
            } else if index.pages().next().is_none() {
                let blocks = index.entries().map(|place| place.cid);
                known.table.add(car.clone(), blocks);
                cache.insert(car.id, Slot::Index(index.clone()));
            } else {
                let _ = car.index.set(index);
                Arc::make_mut(&mut known.paged).push(car);
            }
        }
        Ok(())
    }

    /// Takes note of the index of a small CAR that was just written, so that it need not be read.
    pub(crate) fn note_index(&self, id: &CarId, index: CarIndex, cache: &BlockCache) {
        let mut known = self.known.write();
        let Some(car) = known.by_id.get(id).cloned() else {
            return;
        };
        known.unread.retain(|other| other.id != *id);
        known.table.add(car, index.entries().map(|place| place.cid));
        cache.insert(*id, Slot::Index(Arc::new(index)));
    }

    /// The index of a CAR, checked against the address in front of it.
    pub(crate) fn index(&self, car: &OpenCar) -> Result<Arc<CarIndex>> {
        if let Some(index) = car.index.get() {
            return Ok(index.clone());
        }
        let place = || format!("the index of CAR {}", car.id);
        let length = car.meta.bytes.checked_sub(car.meta.index_offset);
        let length = length.filter(|length| *length <= MAX_FRAME_BYTES as u64);
        let front = car.meta.index_offset.checked_sub(RAW_CID as u64);
        let (Some(length), Some(front)) = (length, front) else {
            return Err(Error::corrupt(place(), "it is not where one can be"));
        };
        let framed = self.read_bytes(car, front, RAW_CID + length as usize)?;
        check_index(&place, car.meta.sealed, &framed)?;
        let bytes = framed.slice(RAW_CID..);
        let bytes = match car.meta.sealed {
            true => self.unseal(&place(), &bytes)?.bytes,
            false => bytes,
        };
        match CarIndex::decode(&bytes) {
            Err(Error::Corrupt { what, .. }) => Err(Error::corrupt(place(), what)),
            other => Ok(Arc::new(other?)),
        }
    }

    /// Every block of a CAR and where it is; pages of the index are not among them.
    pub(crate) fn places(&self, car: &OpenCar) -> Result<Vec<Place>> {
        let index = self.index(car)?;
        let mut places: Vec<Place> = index.entries().collect();
        for page in index.pages() {
            places.extend(self.read_page(car, &page)?.entries());
        }
        Ok(places)
    }

    /// The bytes of a block at a place, checked against its address.
    pub(crate) fn read_at(&self, car: &OpenCar, place: &Place) -> Result<Bytes> {
        let bytes = self.read_bytes(car, u64::from(place.offset), place.length as usize)?;
        if !car.meta.sealed {
            if !place.cid.matches(&bytes) {
                return Err(damaged(car, place));
            }
            return Ok(bytes);
        }
        let block = self.unseal(&format!("block {} in CAR {}", place.cid, car.id), &bytes)?;
        match block.cid == place.cid {
            true => Ok(block.bytes),
            false => Err(damaged(car, place)),
        }
    }

    /// Opens an envelope.
    pub(crate) fn unseal(&self, place: &dyn std::fmt::Display, envelope: &[u8]) -> Result<Block> {
        match &self.keys {
            Some(keys) => keys.open_envelope(place, envelope),
            None => Err(Error::Undecryptable {
                place: place.to_string(),
                key: key_of(place, envelope)?.to_string(),
                what: "the ledger is open without a key ring; open it with one",
            }),
        }
    }

    /// The bytes of a whole CAR, as they are, unchecked.
    pub(crate) fn read_whole(&self, car: &OpenCar) -> Result<Bytes> {
        self.read_bytes(car, 0, car.meta.bytes as usize)
    }

    /// As [`Cars::read_whole`], from the store and not from a file that was opened before.
    pub(crate) fn read_anew(&self, car: &OpenCar) -> Result<Bytes> {
        self.check_held()?;
        let (name, offset) = match car.meta.location {
            Location::File => (car_name(&car.id), 0),
            Location::Journal { number, offset } => (journal_name(number), offset),
            Location::Away => return self.read_bytes(car, 0, car.meta.bytes as usize),
        };
        let past = self.blobs.caching(Caching::Past);
        let file = past.as_ref().unwrap_or(&self.blobs).open(&name)?;
        if car.meta.location == Location::File && file.size() != car.meta.bytes {
            return Err(Error::corrupt(
                format!("CAR {}", car.id),
                format!(
                    "it has {} bytes and should have {}",
                    file.size(),
                    car.meta.bytes
                ),
            ));
        }
        Ok(file.read(offset, car.meta.bytes as usize, Wait::Allowed)?)
    }

    /// Bytes of a CAR, as they are, unchecked.
    pub(crate) fn read_bytes(&self, car: &OpenCar, offset: u64, len: usize) -> Result<Bytes> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > car.meta.bytes) {
            return Err(Error::corrupt(
                format!("CAR {}", car.id),
                format!(
                    "{len} bytes at {offset} are past its end at {}",
                    car.meta.bytes
                ),
            ));
        }
        match car.meta.location {
            Location::File => {
                let file = self.file(FileKey::Car(car.id), car.meta.bytes)?;
                Ok(file.read(offset, len, Wait::Allowed)?)
            }
            Location::Journal { number, offset: at } => {
                let end = at + offset + len as u64;
                let file = self.file(FileKey::Journal(number), end)?;
                Ok(file.read(at + offset, len, Wait::Allowed)?)
            }
            Location::Away => {
                if let Some(tail) = self.tail(car)? {
                    let start = car.meta.bytes.saturating_sub(tail.size());
                    if offset >= start {
                        return Ok(tail.read(offset - start, len, Wait::Allowed)?);
                    }
                }
                self.read_bytes(&*self.fetch(car)?, offset, len)
            }
        }
    }

    /// The end of a CAR that is in a remote only, if it is here.
    fn tail(&self, car: &OpenCar) -> Result<Option<Arc<dyn BlobReader>>> {
        match self.file(FileKey::Tail(car.id), 0) {
            Ok(tail) => Ok(Some(tail)),
            Err(Error::Storage(error)) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Checks the end of a CAR that is in a remote only, from the store: the index has the hash of its
    /// address, and so have its pages, as far as it can be opened.
    pub(crate) fn check_tail(&self, car: &OpenCar) -> Result<()> {
        self.files.remove(&FileKey::Tail(car.id));
        let place = || format!("the index of CAR {}", car.id);
        let Some(tail) = self.tail(car)? else {
            return Err(Error::corrupt(place(), "it is not here"));
        };
        let len = (car.meta.bytes - car.meta.index_offset) as usize + RAW_CID;
        let at = tail.size().checked_sub(len as u64);
        let at = at.ok_or_else(|| Error::corrupt(place(), "it was cut short"))?;
        let framed = tail.read(at, len, Wait::Allowed)?;
        check_index(&place, car.meta.sealed, &framed)?;
        if !car.meta.sealed || self.keys.is_some() {
            self.places(&OpenCar::new(car.id, car.meta))?;
        }
        Ok(())
    }

    /// Fetches a CAR that is in a remote only, and keeps it.
    pub(crate) fn fetch(&self, car: &OpenCar) -> Result<Arc<OpenCar>> {
        let _one_at_a_time = self.fetching.lock();
        let away = |why: &str| Error::Away {
            car: car.id,
            why: why.into(),
        };
        match self.get(&car.id) {
            None => return Err(away("it was replaced meanwhile")),
            Some(known) if known.meta.location != Location::Away => return Ok(known),
            Some(_) => {}
        }
        // One that was fetched before it became part of the log is here.
        let name = car_name(&car.id);
        let here = match self.blobs.open(&name) {
            Ok(file) => file.size() == car.meta.bytes,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error.into()),
        };
        if !here {
            let origin = self.origin.get();
            let origin = origin.ok_or_else(|| {
                away(match self.follower.get() {
                    Some(_) => "this is a reader, which fetches nothing; its writer does",
                    None => "the ledger is being opened",
                })
            })?;
            let bytes = origin.archive(&car.id, &car.meta)?;
            self.blobs.put(&name, &bytes)?;
        }
        let meta = CarMeta {
            location: Location::File,
            ..car.meta
        };
        self.renew(car.id, meta);
        self.get(&car.id)
            .ok_or_else(|| away("it was replaced meanwhile"))
    }

    /// An open file that has at least `end` bytes: a journal grows after it was opened.
    fn file(&self, key: FileKey, end: u64) -> Result<Arc<dyn BlobReader>> {
        self.check_held()?;
        if let Some(file) = self.files.get(&key)
            && file.size() >= end
        {
            return Ok(file);
        }
        let file = match key {
            FileKey::Journal(number) => self.blobs.open(&journal_name(number))?,
            FileKey::Car(id) => self.blobs.open_sized(&car_name(&id), end)?,
            FileKey::Tail(id) => self.blobs.open(&tail_name(&id))?,
        };
        self.files.insert(key, file.clone());
        Ok(file)
    }
}

/// Checks an index by the address in front of it.
pub(crate) fn check_index(place: &dyn Fn() -> String, sealed: bool, framed: &Bytes) -> Result<()> {
    check_framed(place, index_codec(sealed), framed)
}

/// The codec of the address in front of an index: what is sealed has that of its envelope.
pub(crate) fn index_codec(sealed: bool) -> Codec {
    match sealed {
        true => Codec::RAW,
        false => Codec::DAG_CBOR,
    }
}

/// Checks bytes by the address in front of them.
pub(crate) fn check_framed(place: &dyn Fn() -> String, codec: Codec, framed: &Bytes) -> Result<()> {
    match framed[..RAW_CID] == Cid::of(codec, &framed[RAW_CID..]).to_bytes() {
        true => Ok(()),
        false => Err(Error::corrupt(
            place(),
            "it does not have the hash of its address",
        )),
    }
}

/// What a page is cached under: an address that no block has.
fn page_key(car: &OpenCar, page: &Place) -> Cid {
    let mut digest = *car.id.digest();
    for (byte, offset) in digest.iter_mut().zip(page.offset.to_le_bytes()) {
        *byte ^= offset;
    }
    Cid::from_digest(Codec::CAR, digest)
}

fn damaged(car: &OpenCar, place: &Place) -> Error {
    Error::corrupt(
        format!(
            "block {} at byte {} of CAR {}",
            place.cid, place.offset, car.id
        ),
        "its bytes do not have the hash of its address",
    )
}
