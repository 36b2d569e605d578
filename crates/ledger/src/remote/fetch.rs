//! Gets an archive from the remote and trusts nothing: its name is the hash of its bytes, every frame's
//! address the hash of the frame, and its index names what is there.

use super::meta::RemoteCar;
use super::run::Run;
use crate::block::{Block, Codec};
use crate::car::{CarIndex, Frames, IndexPage, MAX_FRAME_BYTES};
use crate::error::{Error, Result};
use crate::store::{OpenCar, RAW_CID, Store, car_name, check_framed, check_index, index_codec};
use bytes::Bytes;
use siltstone_storage::Wait;
use std::collections::HashMap;
use std::sync::Arc;

/// Archives below this size are fetched without asking first what is in them, in bytes.
const SMALL: u64 = 16 << 10;
/// The longest end of an archive that is kept without the rest, in bytes: that of 1.6 million blocks.
const MAX_TAIL: u64 = 64 << 20;

impl Run<'_> {
    /// The bytes of an archive, checked.
    pub(super) fn fetch(&self, car: &RemoteCar) -> Result<Bytes> {
        let bytes = self.blobs.get(&car_name(&car.id()))?;
        check(&self.core.store, car, &bytes)?;
        Ok(bytes)
    }

    /// The end of an archive: its index and the pages of that. Each has the hash of its address; whether
    /// they say the truth about the rest is seen when the rest is fetched.
    pub(super) fn fetch_tail(&self, car: &RemoteCar) -> Result<Bytes> {
        let name = car_name(&car.id());
        let place = || format!("the index of {name} of the remote");
        let file = self.blobs.open_sized(&name, car.car.length)?;
        let read = |offset: Option<u64>| -> Result<Bytes> {
            let length = offset.and_then(|offset| car.car.length.checked_sub(offset));
            match (offset, length) {
                (Some(offset), Some(length)) if length <= MAX_TAIL => {
                    Ok(file.read(offset, length as usize, Wait::Allowed)?)
                }
                _ => Err(Error::corrupt(
                    place(),
                    "it is longer than the limit, or passes the end",
                )),
            }
        };
        let framed = read(car.car.index_offset.checked_sub(RAW_CID as u64))?;
        check_index(&place, car.sealed, &framed)?;
        let index = open(&self.core.store, car, &framed.slice(RAW_CID..))?;
        let index = CarIndex::decode(&index)?;
        if index.blocks() != car.car.blocks {
            let what = "it does not name as many blocks as its meta says";
            return Err(Error::corrupt(place(), what));
        }
        match index.pages().map(|page| u64::from(page.offset)).min() {
            Some(first) => read(first.checked_sub(RAW_CID as u64)),
            None => Ok(framed),
        }
    }

    /// True when every block of an archive is here already, by its index.
    pub(super) fn is_covered(&self, car: &RemoteCar) -> Result<bool> {
        if car.car.length < SMALL || self.core.view().heads.is_empty() {
            return Ok(false);
        }
        match self.covered_by_index(car) {
            // Fetching it says what is wrong with it.
            Err(Error::Corrupt { .. } | Error::NewerFormat { .. }) => Ok(false),
            other => other,
        }
    }

    fn covered_by_index(&self, car: &RemoteCar) -> Result<bool> {
        let store = &self.core.store;
        let name = car_name(&car.id());
        let file = self.blobs.open_sized(&name, car.car.length)?;
        let read = |offset: u64, length: u64, codec: Codec| -> Result<Bytes> {
            let (front, end) = (
                offset.checked_sub(RAW_CID as u64),
                offset.checked_add(length),
            );
            let end = end.filter(|end| *end <= car.car.length && length <= MAX_FRAME_BYTES as u64);
            let (Some(front), Some(end)) = (front, end) else {
                return Err(Error::corrupt(&name, "its index passes its end"));
            };
            let framed = file.read(front, (end - front) as usize, Wait::Allowed)?;
            check_framed(
                &|| format!("the index of {name} of the remote"),
                codec,
                &framed,
            )?;
            open(store, car, &framed.slice(RAW_CID..))
        };
        let (offset, length) = (car.car.index_offset, car.car.index_length());
        let index = CarIndex::decode(&read(offset, length, index_codec(car.sealed))?)?;
        let here = |cid: &crate::block::Cid| store.cars.holds(cid, &store.cache);
        for entry in index.entries() {
            if !here(&entry.cid)? {
                return Ok(false);
            }
        }
        for page in index.pages() {
            let page = read(u64::from(page.offset), u64::from(page.length), Codec::RAW)?;
            for entry in IndexPage::decode(page)?.entries() {
                if !here(&entry.cid)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The bytes of an archive of ours, checked: what is damaged here is not spread.
    pub(super) fn own_bytes(&self, car: &Arc<OpenCar>) -> Result<Bytes> {
        let bytes = self.core.store.cars.read_whole(car)?;
        if !car.id.matches(&bytes) {
            return Err(Error::corrupt(
                format!("CAR {}", car.id),
                "its bytes do not have the hash of its name",
            ));
        }
        Ok(bytes)
    }
}

/// The plain bytes of a frame.
fn open(store: &Store, car: &RemoteCar, bytes: &Bytes) -> Result<Bytes> {
    match car.sealed {
        true => {
            let place = format!("the index of CAR {}", car.id());
            Ok(store.cars.unseal(&place, bytes)?.bytes)
        }
        false => Ok(bytes.clone()),
    }
}

/// Refuses what is not the archive that a meta describes: every later read counts on its index.
pub(super) fn check(store: &Store, car: &RemoteCar, bytes: &Bytes) -> Result<()> {
    let place = format!("CAR {} of the remote", car.id());
    let corrupt = |what: &str| Error::corrupt(&place, what);
    if car.id().codec() != Codec::CAR || !car.id().matches(bytes) {
        return Err(corrupt("its bytes do not have the hash of its name"));
    }
    if bytes.len() as u64 != car.car.length {
        return Err(corrupt("it is not as long as its meta says"));
    }
    let mut frames: HashMap<u64, Block> = HashMap::new();
    let mut last = 0;
    for frame in Frames::new(bytes.clone())? {
        let frame = frame?;
        frame.block.check()?;
        last = frame.offset;
        frames.insert(frame.offset, frame.block);
    }
    let index = frames
        .remove(&last)
        .filter(|_| last == car.car.index_offset);
    let index = index.ok_or_else(|| corrupt("its index is not where its meta says"))?;
    let index = CarIndex::decode(&open(store, car, &index.bytes)?)?;
    let mut entries: Vec<_> = index.entries().collect();
    for page in index.pages() {
        let frame = frames.get(&u64::from(page.offset));
        let frame = frame.ok_or_else(|| corrupt("a page of its index is not there"))?;
        entries.extend(IndexPage::decode(open(store, car, &frame.bytes)?)?.entries());
    }
    if entries.len() as u64 != car.car.blocks {
        return Err(corrupt("it does not hold as many blocks as its meta says"));
    }
    for entry in entries {
        let fits = frames
            .get(&u64::from(entry.offset))
            .filter(|frame| frame.bytes.len() == entry.length as usize)
            .is_some_and(|frame| car.sealed || frame.cid == entry.cid);
        if !fits {
            return Err(corrupt("its index names a block that is not there"));
        }
    }
    Ok(())
}
