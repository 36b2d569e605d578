//! The CARs that a compaction writes: each block once, each CAR built in memory up to the limit and
//! durable under its own name before the next is begun.

use super::strategy::CapturedBlock;
use crate::block::{Block, Cid};
use crate::car::{CarWriter, Header, Seal};
use crate::crypto::Sealer;
use crate::error::Result;
use crate::store::{CarId, CarMeta, HashAddresses, Location, Segment, Store, car_name};
use std::collections::HashSet;
use std::fmt;

/// What went into an output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) blocks: u64,
    /// Blocks that were given again.
    pub(crate) again: u64,
    pub(crate) again_bytes: u64,
}

/// Where a strategy puts blocks.
pub struct Output<'a> {
    store: &'a Store,
    seal: Option<&'a dyn Seal>,
    heads: Vec<Cid>,
    level: u8,
    run: u64,
    /// Bytes set aside for a CAR.
    room: usize,
    writer: Option<CarWriter<'a, Vec<u8>>>,
    seen: HashSet<Cid, HashAddresses>,
    finished: Vec<Segment<CarId, CarMeta>>,
    totals: Totals,
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("blocks", &self.totals.blocks)
            .field("cars", &self.finished.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Output<'a> {
    pub(crate) fn new(
        store: &'a Store,
        sealer: Option<&'a Sealer>,
        heads: Vec<Cid>,
        level: u8,
        run: u64,
        captured_bytes: u64,
    ) -> Self {
        let limit = store.options.compacted_car_bytes;
        let room = usize::try_from(captured_bytes).unwrap_or(limit).min(limit) + (64 << 10);
        Self {
            store,
            seal: sealer.map(|sealer| sealer as &dyn Seal),
            heads,
            level,
            run,
            room,
            writer: None,
            seen: HashSet::default(),
            finished: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Puts a block as it lies in its CAR, unless its form is not today's: under an older key, or
    /// plain in an encrypted ledger.
    ///
    /// # Errors
    /// The store's.
    pub fn copy(&mut self, block: &CapturedBlock<'_>) -> Result<()> {
        let current = self.store.options.keys.as_ref().map(|keys| keys.current());
        if block.key != current {
            return self.add(&block.open()?);
        }
        if !self.is_fresh(&block.cid, block.stored.bytes.len()) {
            return Ok(());
        }
        let writer = self.writer()?;
        match block.key {
            Some(_) => writer.add_sealed(&block.cid, &block.stored)?,
            None => writer.add(&block.stored)?,
        }
        self.finish_full()
    }

    /// Puts a plain block, sealing it when the ledger is encrypted.
    ///
    /// # Errors
    /// The store's.
    pub fn add(&mut self, block: &Block) -> Result<()> {
        if !self.is_fresh(&block.cid, block.bytes.len()) {
            return Ok(());
        }
        self.writer()?.add(block)?;
        self.finish_full()
    }

    /// Whether a block was put.
    pub(crate) fn has(&self, cid: &Cid) -> bool {
        self.seen.contains(cid)
    }

    fn is_fresh(&mut self, cid: &Cid, bytes: usize) -> bool {
        let fresh = self.seen.insert(*cid);
        match fresh {
            true => self.totals.blocks += 1,
            false => {
                self.totals.again += 1;
                self.totals.again_bytes += bytes as u64;
            }
        }
        fresh
    }

    fn writer(&mut self) -> Result<&mut CarWriter<'a, Vec<u8>>> {
        if self.writer.is_none() {
            let header = Header {
                heads: self.heads.clone(),
                parents: self.heads.clone(),
                cars: self.finished.iter().map(|car| car.id).collect(),
            };
            self.writer = Some(CarWriter::new(
                Vec::with_capacity(self.room),
                &header.block(),
                self.seal,
            )?);
        }
        Ok(self.writer.as_mut().expect("it was just begun"))
    }

    fn finish_full(&mut self) -> Result<()> {
        let limit = self.store.options.compacted_car_bytes as u64;
        match &self.writer {
            Some(writer) if writer.length() >= limit => self.finish(),
            _ => Ok(()),
        }
    }

    /// Makes the CAR at hand durable.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let (bytes, car) = writer.finish()?;
        let meta = CarMeta::of(
            &car,
            self.seal.is_some(),
            self.level,
            self.run,
            Location::File,
        );
        // Listed first: should the put fail after it happened, the blob is deleted all the same.
        self.finished.push(Segment { id: car.cid, meta });
        self.store.env.blobs.put(&car_name(&car.cid), &bytes)?;
        Ok(())
    }

    pub(crate) fn into_parts(self) -> (Vec<Segment<CarId, CarMeta>>, Totals) {
        (self.finished, self.totals)
    }
}
