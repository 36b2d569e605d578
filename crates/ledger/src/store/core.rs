//! The open store of one ledger: the state, the journal that makes its edits durable, the CARs that
//! blocks are read from.
//!
//! Order of locks: `journal` (held by a writer from before it builds its commit until the edit is
//! applied), then `log` (held for moments only, never over I/O).

use super::cache::{BlockCache, Slot};
use super::car_ref::{CarId, CarMeta, Location, car_name};
use super::cars::Cars;
use super::follow::Follower;
use super::journal::Journal;
use super::state::{Edit, Misfit, State};
use crate::block::{Block, Blocks, Cid};
use crate::car::{CarIndex, CarRef, Seal};
use crate::clock::{Change, Event};
use crate::crypto::{KeyRing, Sealer};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::prolly::Node;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use siltstone_storage::{Env, FolderLock, ManifestStore, Pins, Segment};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A body of CARs up to this size goes into the journal; larger ones get files first, so that one
/// large commit does not make one huge record. In bytes.
const JOURNALED: usize = 16 << 20;

/// What a block costs in a CAR beside its bytes: length, address and index entry, about. In bytes.
const FRAME: usize = 90;

/// What decides, and who holds on to what.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) state: State,
    pub(crate) pins: Pins,
    /// Replaced CARs whose blobs are deleted; the next edit says so.
    pub(crate) forgotten: BTreeSet<CarId>,
    /// Edits since the manifest was written.
    pub(crate) edits: u64,
    /// Journal files that there are.
    pub(crate) journals: BTreeSet<u64>,
}

/// A CAR that a commit or a pull brings.
#[derive(Debug, Clone)]
pub(crate) struct NewCar {
    pub(crate) car: CarRef,
    /// Its bytes; `None` when they are durable in a file of its own already.
    pub(crate) bytes: Option<Bytes>,
    pub(crate) sealed: bool,
    /// True when only its end is here.
    pub(crate) away: bool,
}

/// The open store of one ledger.
pub(crate) struct Store {
    pub(crate) env: Env,
    pub(crate) options: Options,
    pub(crate) manifest: ManifestStore<State>,
    pub(crate) log: Mutex<Log>,
    pub(crate) journal: Mutex<Journal>,
    pub(crate) cars: Cars,
    pub(crate) cache: BlockCache,
    pub(crate) stopped: Mutex<Option<String>>,
    /// One thread deletes at a time, one writes the manifest.
    pub(crate) collecting: Mutex<()>,
    pub(crate) checkpointing: Mutex<()>,
    pub(crate) folder_lock: Mutex<Option<FolderLock>>,
    /// CARs that a prune replaced and that are not deleted yet: what they hold need not be anywhere
    /// else.
    pub(crate) pruned: Mutex<BTreeSet<CarId>>,
    /// There when it is open for reading beside its writer.
    pub(crate) follower: Option<Arc<Follower>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("blobs", &self.env.blobs)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// What seals new blocks, when the ledger is encrypted.
    pub(crate) fn sealer(&self) -> Option<Sealer> {
        let keys: &Arc<KeyRing> = self.options.keys.as_ref()?;
        Some(keys.sealer(self.options.entropy.clone()))
    }

    /// Refuses what only a writer does.
    pub(crate) fn check_writer(&self) -> Result<()> {
        match &self.follower {
            Some(_) => Err(Error::ReadOnly {
                store: self.env.blobs.describe(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses writes of a reader, and once one has failed.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_writer()?;
        match &*self.stopped.lock() {
            Some(why) => Err(Error::Stopped { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Makes an edit and the CARs it brings durable, all or nothing, and applies it. `publish` runs
    /// at the same moment as the state changes. After an error nothing more is written.
    pub(crate) fn commit(
        &self,
        journal: &mut MutexGuard<'_, Journal>,
        mut edit: Edit,
        cars: &[NewCar],
        publish: impl FnOnce(&State),
    ) -> Result<()> {
        self.check_writable()?;
        let run = {
            let log = self.log.lock();
            log.state.check(&edit).map_err(|misfit| match misfit {
                Misfit::Gone => Error::CompactionLost,
                // What was replaced and is still held would come again under its name: later.
                Misfit::Taken(_) if edit.swap.is_some() => Error::CompactionLost,
                Misfit::Taken(_) => Error::invalid(misfit.to_string()),
            })?;
            if let Some(new) = cars.iter().find(|new| log.state.has(&new.car.cid)) {
                return Err(Error::invalid(Misfit::Taken(new.car.cid).to_string()));
            }
            edit.forgotten = log.forgotten.iter().copied().collect();
            log.state.counters.next_run
        };
        let done = self.write(journal, &mut edit, cars, run);
        let placed = done.inspect_err(|error| self.stop(error))?;
        let mut log = self.log.lock();
        let applied = log
            .state
            .apply(&edit, placed.number, placed.body_at, placed.end);
        if let Err(what) = applied {
            // Checked before it was written, under the lock that is still held.
            let error = Error::corrupt("the state", what);
            self.stop(&error);
            return Err(error);
        }
        for id in &edit.forgotten {
            log.forgotten.remove(id);
        }
        log.edits += 1;
        log.journals.insert(placed.number);
        let live = log.state.cars.live();
        let appended = &live[live.len() - edit.appended.len()..];
        for segment in appended {
            self.cars.add(segment.id, segment.meta);
        }
        if let Some(swap) = &edit.swap {
            for output in &swap.outputs {
                self.cars.add(output.id, output.meta);
            }
        }
        for new in cars {
            self.note_index(new);
        }
        publish(&log.state);
        Ok(())
    }

    fn write(
        &self,
        journal: &mut MutexGuard<'_, Journal>,
        edit: &mut Edit,
        cars: &[NewCar],
        run: u64,
    ) -> Result<super::journal::Placed> {
        let total: usize = cars
            .iter()
            .filter_map(|new| Some(new.bytes.as_ref()?.len()))
            .sum();
        let journaled = journal.takes_bodies() && total <= JOURNALED;
        let (mut body, mut offset) = (Vec::new(), 0);
        for new in cars {
            let location = match &new.bytes {
                Some(bytes) if journaled => {
                    body.push(&bytes[..]);
                    let at = Location::Journal { number: 0, offset };
                    offset += bytes.len() as u64;
                    at
                }
                Some(bytes) => {
                    self.env.blobs.put(&car_name(&new.car.cid), bytes)?;
                    Location::File
                }
                None => new.kept(),
            };
            edit.appended.push(Segment {
                id: new.car.cid,
                meta: CarMeta::of(&new.car, new.sealed, 0, run, location),
            });
        }
        Ok(journal.append(&edit.encode(), &body)?)
    }

    /// The index of a small CAR that was just written is at hand.
    fn note_index(&self, new: &NewCar) {
        let Some(bytes) = &new.bytes else { return };
        // A copy: a slice would keep the whole CAR in memory.
        let index = Bytes::copy_from_slice(&bytes[new.car.index_offset as usize..]);
        let index = match new.sealed {
            true => match self.cars.unseal(&"a new CAR", &index) {
                Ok(block) => block.bytes,
                Err(_) => return,
            },
            false => index,
        };
        if let Ok(index) = CarIndex::decode(&index)
            && index.pages().next().is_none()
        {
            self.cars.note_index(&new.car.cid, index, &self.cache);
        }
    }

    fn stop(&self, error: &Error) {
        let mut stopped = self.stopped.lock();
        if stopped.is_none() {
            tracing::error!(%error, "the ledger takes no more writes");
            *stopped = Some(error.to_string());
        }
    }

    /// A document.
    pub(crate) fn document(&self, cid: &Cid) -> Result<Document> {
        if let Some(Slot::Document(document)) = self.cache.get(cid) {
            return Ok(document);
        }
        let document = Document::decode(cid, self.cars.read(cid, &self.cache)?)?;
        self.cache.insert(*cid, Slot::Document(document.clone()));
        Ok(document)
    }

    /// Takes a new head into the cache.
    pub(crate) fn warm_head(&self, head: Cid, event: Event, change: Arc<Change>) {
        self.cache.insert(event.change, Slot::Change(change));
        self.cache.insert(head, Slot::Event(event));
    }

    /// Takes what a commit made into the cache: it will be read soon.
    pub(crate) fn warm(&self, nodes: Vec<(Cid, Arc<Node>)>) {
        for (cid, node) in nodes {
            self.cache.insert(cid, Slot::Node(node));
        }
    }
}

impl CarMeta {
    pub(crate) fn of(car: &CarRef, sealed: bool, level: u8, run: u64, location: Location) -> Self {
        Self {
            bytes: car.length,
            blocks: car.blocks,
            index_offset: car.index_offset,
            sealed,
            level,
            run,
            location,
        }
    }
}

impl Blocks for Store {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        match self.cache.get(cid) {
            Some(Slot::Bytes(bytes)) => return Ok(bytes),
            Some(Slot::Document(document)) => return Ok(document.bytes().clone()),
            _ => {}
        }
        let bytes = self.cars.read(cid, &self.cache)?;
        self.cache.insert(*cid, Slot::Bytes(bytes.clone()));
        Ok(bytes)
    }

    fn node(&self, cid: &Cid) -> Result<Arc<Node>> {
        if let Some(Slot::Node(node)) = self.cache.get(cid) {
            return Ok(node);
        }
        let node = Arc::new(Node::decode(cid, self.cars.read(cid, &self.cache)?)?);
        self.cache.insert(*cid, Slot::Node(node.clone()));
        Ok(node)
    }

    fn event(&self, cid: &Cid) -> Result<Event> {
        if let Some(Slot::Event(event)) = self.cache.get(cid) {
            return Ok(event);
        }
        let event = Event::decode(cid, &self.cars.read(cid, &self.cache)?)?;
        self.cache.insert(*cid, Slot::Event(event));
        Ok(event)
    }

    fn change(&self, cid: &Cid) -> Result<Arc<Change>> {
        if let Some(Slot::Change(change)) = self.cache.get(cid) {
            return Ok(change);
        }
        let change = Arc::new(Change::decode(cid, self.cars.read(cid, &self.cache)?)?);
        self.cache.insert(*cid, Slot::Change(change.clone()));
        Ok(change)
    }
}

/// The blocks that can be read without fetching an archive: [`Error::Away`] for the others.
pub(crate) struct Here<'a>(pub(crate) &'a Store);

impl Here<'_> {
    fn check(&self, cid: &Cid) -> Result<()> {
        self.0.cars.check_here(cid, &self.0.cache)
    }
}

impl Blocks for Here<'_> {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        self.check(cid)?;
        self.0.block(cid)
    }

    fn event(&self, cid: &Cid) -> Result<Event> {
        self.check(cid)?;
        self.0.event(cid)
    }

    fn change(&self, cid: &Cid) -> Result<Arc<Change>> {
        self.check(cid)?;
        self.0.change(cid)
    }
}

/// Builds the CARs of a commit: the header block first, then the blocks, as many CARs as the limit
/// asks for. Every CAR of the group carries a header that names the others before it; the first one's
/// names all that follow.
pub(crate) fn pack(
    heads: &[Cid],
    parents: &[Cid],
    blocks: &[Block],
    limit: usize,
    sealer: Option<&Sealer>,
) -> Result<Vec<NewCar>> {
    let seal = sealer.map(|sealer| sealer as &dyn Seal);
    let mut parts: Vec<&[Block]> = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, block) in blocks.iter().enumerate() {
        if bytes > 0 && bytes + block.bytes.len() > limit {
            parts.push(&blocks[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += block.bytes.len() + FRAME;
    }
    parts.push(&blocks[start..]);
    let mut cars: Vec<NewCar> = Vec::with_capacity(parts.len());
    // The first one is written last: it names the others.
    for part in parts.iter().rev() {
        let header = crate::car::Header {
            heads: heads.to_vec(),
            parents: parents.to_vec(),
            cars: cars.iter().rev().map(|new| new.car.cid).collect(),
        };
        let room = part
            .iter()
            .map(|block| block.bytes.len() + 128)
            .sum::<usize>()
            + 512;
        let mut writer =
            crate::car::CarWriter::new(Vec::with_capacity(room), &header.block(), seal)?;
        for block in *part {
            writer.add(block)?;
        }
        let (bytes, car) = writer.finish()?;
        cars.push(NewCar {
            car,
            bytes: Some(bytes.into()),
            sealed: seal.is_some(),
            away: false,
        });
    }
    cars.reverse();
    Ok(cars)
}

impl NewCar {
    /// As a CAR that is not in the journal.
    pub(crate) fn file_meta(&self) -> CarMeta {
        CarMeta::of(&self.car, self.sealed, 0, 0, self.kept())
    }

    fn kept(&self) -> Location {
        match self.away {
            true => Location::Away,
            false => Location::File,
        }
    }
}
