//! A ledger as one CAR, out and in: to keep, to mail, to hand to any IPLD tool.

use crate::block::{Block, Blocks, Cid, Codec, MemBlocks};
use crate::car::{CarIndex, CarWriter, Frames, Header, Seal, Sink};
use crate::core::{Core, clock_text};
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::store::{Edit, Floor, HashAddresses, NewCar, car_name};
use crate::writes::{Foreign, Request};
use bytes::Bytes;
use std::collections::HashSet;
use std::io::{Read, Write};

/// The largest CAR that is read in, in bytes.
const MAX_IMPORT: u64 = 4 << 30;

/// What an import brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Blocks in the CAR.
    pub blocks: u64,
    /// Heads that it names.
    pub heads: Vec<Cid>,
    /// The head after the merge with what was here.
    pub head: Option<Cid>,
}

struct To<'a>(&'a mut dyn Write);

impl Sink for To<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0
            .write_all(bytes)
            .map_err(|e| Error::io("write the export", &e))
    }
}

impl Ledger {
    /// Writes all blocks of the ledger as one CAR, each once, under a header that names the heads.
    /// Encrypted under the current key if the ledger is. Returns the CAR's address.
    ///
    /// # Errors
    /// The stream's; what is wrong with a block; [`Error::TooLarge`] beyond 4 GiB.
    pub fn export(&self, to: &mut dyn Write) -> Result<Cid> {
        self.core().keep_up()?;
        let held = self.snapshot();
        let core = self.core();
        let sealer = core.store.sealer();
        let seal = sealer.as_ref().map(|sealer| sealer as &dyn Seal);
        let heads = held.view().heads.clone();
        let header = Header {
            heads,
            // Where its history begins.
            parents: match &core.store.log.lock().state.floor {
                Some(floor) => floor.clock.clone(),
                None => Vec::new(),
            },
            cars: Vec::new(),
        };
        let mut writer = CarWriter::new(To(to), &header.block(), seal)?;
        let mut seen: HashSet<Cid, HashAddresses> = HashSet::default();
        let live = core.store.log.lock().state.cars.live().to_vec();
        for car in &live {
            let Some(car) = core.store.cars.get(&car.id) else {
                continue;
            };
            let mut places = core.store.cars.places(&car)?;
            places.sort_unstable_by_key(|place| place.offset);
            for place in places {
                if seen.insert(place.cid) {
                    let bytes = core.store.cars.read_at(&car, &place)?;
                    let cid = place.cid;
                    writer.add(&Block { cid, bytes })?;
                }
            }
        }
        let (_, car) = writer.finish()?;
        Ok(car.cid)
    }

    /// Takes in a CAR that [`Ledger::export`] wrote, here or on another replica, and merges it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that are no such CAR, [`Error::Undecryptable`],
    /// [`Error::BehindPrune`]; nothing is changed then.
    pub fn import(&self, from: &mut dyn Read) -> Result<ImportReport> {
        self.core().store.check_writer()?;
        let mut bytes = Vec::new();
        let read = from.take(MAX_IMPORT + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::io("read the import", &e))?;
        if bytes.len() as u64 > MAX_IMPORT {
            return Err(Error::TooLarge {
                what: "bytes of an import",
                size: bytes.len() as u64,
                limit: MAX_IMPORT,
            });
        }
        let (header, blocks) = self.core().open_archive(bytes.into())?;
        self.core().let_go_of_replaced()?;
        let mut report = ImportReport {
            blocks: blocks.len() as u64,
            heads: header.heads.clone(),
            head: self.core().view().head(),
        };
        if self.core().knows_all(&header.heads)? {
            return Ok(report);
        }
        let floor = self.core().floor_of(&header, &blocks)?;
        let cars = self.core().store_blocks(&header.heads, &blocks)?;
        let heads = header.heads;
        let names: Vec<Cid> = cars.iter().map(|new| new.car.cid).collect();
        let taken = self.core().submit(Request::Foreign(Foreign {
            cars,
            heads,
            floor,
            ..Foreign::default()
        }));
        if taken.is_err() {
            self.core().store.delete_unlisted(&names);
        }
        report.head = taken?;
        self.core().after_write();
        Ok(report)
    }
}

impl Core {
    /// Lets go of what compactions and prunes have replaced, before anything of others is taken in:
    /// what comes again must not be taken for what is about to be deleted. False while a snapshot holds
    /// what a prune dropped.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn let_go_of_replaced(&self) -> Result<bool> {
        self.store.collect()?;
        if !self.store.log.lock().forgotten.is_empty() {
            // An edit without changes says that they are deleted.
            self.submit(Request::Edit(Box::new(|_| {
                Ok((Edit::default(), Vec::new()))
            })))?;
        }
        Ok(!self.store.holds_pruned())
    }

    /// Why something of others has to wait.
    pub(crate) fn held_back() -> Error {
        Error::Stale {
            what: "a snapshot holds what a prune dropped; let go of it first".into(),
        }
    }

    /// True when these events are part of the history here.
    pub(crate) fn knows_all(&self, events: &[Cid]) -> Result<bool> {
        let view = self.view();
        for event in events {
            match self.store.event(event) {
                Err(error) if error.is_missing_block() => return Ok(false),
                other => drop(other?),
            }
            // What a merge has merged may be pruned, so it is looked for itself first.
            if crate::clock::reaches(&*self.store, &view.heads, event)? {
                continue;
            }
            match crate::clock::knows(&*self.store, &view.heads, event) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if error.is_missing_block() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Where the history in an archive begins, when it was exported after a prune: an empty ledger
    /// begins there too, any other must have seen it.
    fn floor_of(&self, header: &Header, blocks: &[Block]) -> Result<Option<Floor>> {
        let clock = &header.parents;
        let [boundary, ..] = &clock[..] else {
            return Ok(None);
        };
        if !self.view().heads.is_empty() {
            return match self.knows_all(clock)? {
                true => Ok(None),
                false => Err(Error::BehindPrune {
                    floor: clock_text(clock),
                }),
            };
        }
        let mut here = MemBlocks::new();
        here.extend(blocks.iter().cloned());
        let change = here.event(boundary)?.change;
        let lamport = here.change(&change)?.lamport;
        Ok(Some(Floor {
            clock: clock.clone(),
            lamport: lamport.saturating_sub(1),
        }))
    }

    /// The header and the plain blocks of an archive, all checked; index and pages left out.
    fn open_archive(&self, bytes: Bytes) -> Result<(Header, Vec<Block>)> {
        let frames = Frames::new(bytes)?;
        let root = match frames.roots() {
            [one] => *one,
            _ => return Err(Error::corrupt("the CAR", "it has no single root")),
        };
        // An envelope is plain bytes to whoever has no key; a header is not.
        let sealed = root.codec() == Codec::RAW;
        let mut header = None;
        let mut blocks: Vec<(u64, Block)> = Vec::new();
        for frame in frames {
            let frame = frame?;
            frame.block.cid.check(&frame.block.bytes)?;
            let stored = Block {
                cid: frame.block.cid,
                bytes: frame.block.bytes,
            };
            let is_root = stored.cid == root;
            let block = match sealed {
                true => {
                    let place = format!("block {}", stored.cid);
                    self.store.cars.unseal(&place, &stored.bytes)?
                }
                false => stored,
            };
            match (is_root, &header) {
                (true, None) => header = Some(Header::decode(&block.cid, &block.bytes)?),
                _ => blocks.push((frame.offset, block)),
            }
        }
        // The index belongs to the file, not to the ledger.
        if let Some((_, last)) = blocks.last()
            && let Ok(index) = CarIndex::decode(&last.bytes)
        {
            let pages = index.pages().map(|page| u64::from(page.offset));
            let pages: HashSet<u64> = pages.collect();
            blocks.pop();
            blocks.retain(|(offset, _)| !pages.contains(offset));
        }
        let blocks = blocks.into_iter().map(|(_, block)| block).collect();
        let header = header.ok_or_else(|| Error::corrupt("the CAR", "its root is not in it"))?;
        Ok((header, blocks))
    }

    /// Makes blocks durable as CARs of their own, which nobody names yet.
    fn store_blocks(&self, heads: &[Cid], blocks: &[Block]) -> Result<Vec<NewCar>> {
        let limit = self.store.options.compacted_car_bytes;
        let sealer = self.store.sealer();
        let mut cars = crate::store::pack(heads, heads, blocks, limit, sealer.as_ref())?;
        for new in &mut cars {
            if let Some(bytes) = new.bytes.take() {
                self.store.env.blobs.put(&car_name(&new.car.cid), &bytes)?;
            }
        }
        Ok(cars)
    }
}
