//! How captured blocks become new CARs. A strategy decides their order and form; whether all of them
//! arrived is not left to it.

use super::output::Output;
use crate::block::{Block, Cid, Codec};
use crate::crypto::{KeyId, key_of};
use crate::error::{Error, Result};
use crate::options::Background;
use crate::store::{CarId, CarMeta, OpenCar, Segment, Store};
use bytes::Bytes;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// A way to compact.
pub trait Strategy: Send + Sync + Debug {
    /// Its name, for messages.
    fn name(&self) -> &str;

    /// Puts every captured block into `output`.
    ///
    /// # Errors
    /// Why it cannot. The log of CARs stays as it is then.
    fn compact(&self, captured: &Captured<'_>, output: &mut Output<'_>) -> Result<()>;
}

/// Copies blocks as they lie in their CARs. Encrypted ones under the current key are not opened;
/// those under an older key, and plain ones in a ledger that has keys, are sealed under the current
/// one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content;

impl Strategy for Content {
    fn name(&self) -> &str {
        "content"
    }

    fn compact(&self, captured: &Captured<'_>, output: &mut Output<'_>) -> Result<()> {
        captured.for_each(|block| output.copy(&block))
    }
}

/// Opens every block and writes it anew: slower; every encrypted block gets a fresh nonce.
#[derive(Debug, Clone, Copy, Default)]
pub struct Full;

impl Strategy for Full {
    fn name(&self) -> &str {
        "full"
    }

    fn compact(&self, captured: &Captured<'_>, output: &mut Output<'_>) -> Result<()> {
        captured.for_each(|block| output.add(&block.open()?))
    }
}

/// The CARs that a compaction captured.
#[derive(Debug)]
pub struct Captured<'a> {
    store: &'a Store,
    cars: Vec<Arc<OpenCar>>,
}

/// A captured block, its bytes checked by their hash.
#[derive(Debug)]
pub struct CapturedBlock<'a> {
    store: &'a Store,
    /// Its address, of the plain bytes.
    pub cid: Cid,
    /// As it lies in its CAR: an envelope when it is encrypted.
    pub(crate) stored: Block,
    /// The key of the envelope.
    pub(crate) key: Option<KeyId>,
}

impl CapturedBlock<'_> {
    /// The plain block.
    ///
    /// # Errors
    /// [`Error::Undecryptable`] when no key at hand fits.
    pub fn open(&self) -> Result<Block> {
        if self.key.is_none() {
            return Ok(self.stored.clone());
        }
        let place = format!("block {}", self.cid);
        let block = self.store.cars.unseal(&place, &self.stored.bytes)?;
        match block.cid == self.cid {
            true => Ok(block),
            false => Err(Error::corrupt(place, "its envelope holds another block")),
        }
    }

    /// Bytes as it lies in its CAR.
    pub fn stored_bytes(&self) -> &Bytes {
        &self.stored.bytes
    }
}

impl<'a> Captured<'a> {
    pub(crate) fn new(store: &'a Store, captured: &[Segment<CarId, CarMeta>]) -> Result<Self> {
        let cars = captured
            .iter()
            .map(|car| store.cars.get(&car.id).ok_or(Error::CompactionLost));
        Ok(Self {
            store,
            cars: cars.collect::<Result<_>>()?,
        })
    }

    /// The names of the captured CARs, in the order of the log.
    pub fn cars(&self) -> impl Iterator<Item = CarId> + '_ {
        self.cars.iter().map(|car| car.id)
    }

    /// Gives every block of every captured CAR to `take`, CAR after CAR, in the order in which they
    /// lie there. A block that is in two CARs is given twice.
    ///
    /// # Errors
    /// The first of `take`; [`Error::Corrupt`] for a block whose bytes do not have its hash.
    pub fn for_each(&self, mut take: impl FnMut(CapturedBlock<'_>) -> Result<()>) -> Result<()> {
        if self.store.options.background != Background::Thread {
            // One thread: under simulation the same calls come in the same order.
            return self
                .cars
                .iter()
                .try_for_each(|car| self.checked(car)?.into_iter().try_for_each(&mut take));
        }
        // The next CARs are read and checked while this one's blocks are being written.
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel(1);
            scope.spawn(move || {
                for car in &self.cars {
                    let checked = self.checked(car);
                    let failed = checked.is_err();
                    if send.send(checked).is_err() || failed {
                        return;
                    }
                }
            });
            for checked in receive {
                checked?.into_iter().try_for_each(&mut take)?;
            }
            Ok(())
        })
    }

    /// The blocks of a CAR, checked, in the order in which they lie there.
    fn checked(&self, car: &OpenCar) -> Result<Vec<CapturedBlock<'a>>> {
        let mut places = self.store.cars.places(car)?;
        places.sort_unstable_by_key(|place| place.offset);
        let bytes = self.store.cars.read_whole(car)?;
        let mut blocks = Vec::with_capacity(places.len());
        for place in places {
            let damaged = |what: &str| {
                let place = format!("byte {} of CAR {}", place.offset, car.id);
                Error::corrupt(place, what)
            };
            let (start, len) = (place.offset as usize, place.length as usize);
            let end = start.checked_add(len).filter(|end| *end <= bytes.len());
            let end = end.ok_or_else(|| damaged("its index names bytes past its end"))?;
            let stored = bytes.slice(start..end);
            let (cid, key) = match car.meta.sealed {
                false => (place.cid, None),
                true => {
                    let cid = Cid::of(Codec::RAW, &stored);
                    // The address stands in front of the bytes.
                    if !bytes[..start].ends_with(&cid.to_bytes()) {
                        return Err(damaged("a block does not have the hash of its address"));
                    }
                    let place = format!("a block of CAR {}", car.id);
                    (cid, Some(key_of(&place, &stored)?))
                }
            };
            if key.is_none() && !cid.matches(&stored) {
                return Err(damaged("a block does not have the hash of its address"));
            }
            blocks.push(CapturedBlock {
                store: self.store,
                cid: place.cid,
                stored: Block { cid, bytes: stored },
                key,
            });
        }
        Ok(blocks)
    }

    /// How many captured blocks that are kept are not in the output, and one of them.
    pub(crate) fn missing_from(
        &self,
        output: &Output<'_>,
        kept: &dyn Fn(&Cid) -> bool,
    ) -> Result<Option<(u64, Cid)>> {
        let mut missing = None;
        for car in &self.cars {
            for place in self.store.cars.places(car)? {
                if kept(&place.cid) && !output.has(&place.cid) {
                    let (count, first) = missing.unwrap_or((0, place.cid));
                    missing = Some((count + 1, first));
                }
            }
        }
        Ok(missing)
    }
}
