//! Is everything there, and is it what it was? Two checks.
//!
//! *Without a key*: every file is read. CARs have the hash of their name, every block in them that of
//! its address; manifests, journals and redirect files have their checksums. A flipped byte anywhere is
//! found. *With the key*, or when nothing is encrypted: from the heads to every event, change, node,
//! document and block of a linked file, each is there and opens. Nothing comes from the cache.

use crate::block::{Blocks, Cid};
use crate::car::Frames;
use crate::clock::Siblings;
use crate::core::Core;
use crate::document::Document;
use crate::error::{Error, Result};
use crate::files::{file_blocks, links};
use crate::ledger::Ledger;
use crate::prolly::{Direction, KeyRange, Scan};
use crate::store::{CarId, Floor, HashAddresses, Location, OpenCar, State, Store, load_redirects};
use bytes::Bytes;
use siltstone_storage::decode_manifest;
use std::collections::HashSet;
use std::sync::Arc;

/// How often a reader looks again for what it did not find.
const READER_ATTEMPTS: u32 = 3;

/// What a check looked at and what it found.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// CARs read.
    pub cars: u64,
    /// Their bytes.
    pub car_bytes: u64,
    /// Blocks whose hash was compared.
    pub blocks: u64,
    /// Other files read: manifests, journals, redirect files.
    pub files: u64,
    /// Events reached from the heads. Zero when there is no key for them.
    pub events: u64,
    /// Documents reached, old versions among them.
    pub documents: u64,
    /// Files that they link to and that are here, read to their ends.
    pub linked_files: u64,
    /// Blocks reached that a prune dropped, as recorded.
    pub pruned: u64,
    /// CARs that are in a remote only: of those the index was read, and nothing was fetched.
    pub away: u64,
    /// Blocks in them that were met. What they lead to was not looked at.
    pub away_blocks: u64,
    /// Everything that is wrong, each with its place. Empty: all is well.
    pub problems: Vec<Error>,
    /// The live CARs among it: what [`Ledger::repair`] fetches.
    pub damaged: Vec<CarId>,
    /// Blocks that something names and that no CAR here holds.
    pub missing: Vec<Cid>,
    /// Journal files among it.
    pub(crate) journals: Vec<u64>,
    /// True when a manifest is among it.
    pub(crate) manifest: bool,
}

impl VerifyReport {
    fn add(&mut self, error: Error) {
        match &error {
            Error::Away { .. } => {
                self.away_blocks += 1;
                return;
            }
            Error::MissingBlock { cid } => self.missing.push(*cid),
            _ => {}
        }
        self.problems.push(error);
    }

    /// The first problem, as an error.
    ///
    /// # Errors
    /// The first problem.
    pub fn into_result(self) -> Result<Self> {
        match self.problems.first() {
            Some(error) => Err(error.clone()),
            None => Ok(self),
        }
    }
}

impl Ledger {
    /// Checks every file by its hashes and checksums, without a key.
    ///
    /// # Errors
    /// Only for a store that cannot be listed; what is wrong is in the report.
    pub fn verify_files(&self) -> Result<VerifyReport> {
        let mut attempt = 1;
        loop {
            self.core().keep_up()?;
            let mut report = VerifyReport::default();
            verify_files(&self.core().store, &mut report)?;
            // What a reader does not find its writer may have replaced meanwhile.
            if !self.is_reader() || report.problems.is_empty() || attempt == READER_ATTEMPTS {
                return Ok(report);
            }
            self.refresh()?;
            attempt += 1;
        }
    }

    /// Checks every file, and that everything the heads lead to is there. In an encrypted ledger that
    /// is open without its keys, the files only.
    ///
    /// # Errors
    /// As [`Ledger::verify_files`].
    pub fn verify(&self) -> Result<VerifyReport> {
        let _held = self.snapshot();
        let mut report = self.verify_files()?;
        let core = self.core();
        let sealed = {
            let log = core.store.log.lock();
            log.state.cars.live().iter().any(|car| car.meta.sealed)
        };
        if !sealed || core.store.options.keys.is_some() {
            Walker::new(core).walk(&mut report);
        }
        Ok(report)
    }
}

/// Notes a failure; an absent file is a problem of its own.
fn note<T>(report: &mut VerifyReport, result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            report.add(error);
            None
        }
    }
}

fn verify_files(store: &Store, report: &mut VerifyReport) -> Result<()> {
    let blobs = &*store.env.blobs;
    for blob in blobs.list("manifest/")? {
        let bytes = match blobs.get(&blob.name) {
            // Swept meanwhile.
            Err(error) if error.is_not_found() => continue,
            other => other?,
        };
        if let Err(error) = decode_manifest::<State>(&blob.name, &bytes) {
            report.problems.push(error.into());
            report.manifest = true;
        }
        report.files += 1;
    }
    let (live, redirects, journals) = {
        let log = store.log.lock();
        let live: Vec<CarId> = log.state.cars.live().iter().map(|car| car.id).collect();
        let journals: Vec<u64> = log.journals.iter().copied().collect();
        (live, log.state.redirects.clone(), journals)
    };
    for file in &redirects {
        let listed = |error: &siltstone_storage::Error| {
            let log = store.log.lock();
            !error.is_not_found() || log.state.redirects.iter().any(|f| f.number == file.number)
        };
        match load_redirects(blobs, file) {
            Err(error) if listed(&error) => report.problems.push(error.into()),
            _ => report.files += 1,
        }
    }
    for number in journals {
        // One that was deleted meanwhile is no problem.
        match store.verify_journal(number) {
            Err(error) if store.log.lock().journals.contains(&number) => {
                report.problems.push(error);
                report.journals.push(number);
            }
            _ => report.files += 1,
        }
    }
    for id in live {
        let Some(car) = store.cars.get(&id) else {
            continue;
        };
        let checked = match car.meta.location {
            Location::Away => verify_tail(store, &car, report),
            _ => verify_car(store, &car, report),
        };
        match checked {
            // Replaced and deleted meanwhile.
            Err(_) if store.cars.get(&id).is_none() => {}
            Err(error) => {
                report.problems.push(error);
                report.damaged.push(id);
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The index of a CAR that is in a remote only.
fn verify_tail(store: &Store, car: &Arc<OpenCar>, report: &mut VerifyReport) -> Result<()> {
    store.cars.check_tail(car)?;
    report.away += 1;
    report.files += 1;
    Ok(())
}

/// A CAR's hash and those of its blocks.
fn verify_car(store: &Store, car: &Arc<OpenCar>, report: &mut VerifyReport) -> Result<()> {
    let bytes = store.cars.read_anew(car)?;
    report.cars += 1;
    report.car_bytes += bytes.len() as u64;
    report.blocks += check_bytes(&car.id, bytes)?;
    Ok(())
}

/// Checks the bytes of a CAR, whole and block by block; how many blocks there are.
pub(crate) fn check_bytes(id: &CarId, bytes: Bytes) -> Result<u64> {
    if !id.matches(&bytes) {
        let which = broken_block(&bytes);
        return Err(Error::corrupt(
            format!("CAR {id}"),
            format!("its bytes do not have the hash of its name{which}"),
        ));
    }
    let mut blocks = 0;
    for frame in Frames::new(bytes)? {
        let frame = frame?;
        frame.block.cid.check(&frame.block.bytes)?;
        blocks += 1;
    }
    Ok(blocks)
}

/// Which block of a damaged CAR it is, as far as it can be said.
fn broken_block(bytes: &Bytes) -> String {
    let Ok(frames) = Frames::new(bytes.clone()) else {
        return "; the damage is in its header".into();
    };
    for frame in frames {
        match frame {
            Ok(frame) if frame.block.cid.matches(&frame.block.bytes) => {}
            Ok(frame) => return format!("; block {} at byte {}", frame.block.cid, frame.offset),
            Err(error) => return format!("; {error}"),
        }
    }
    String::new()
}

/// Reads past the cache.
struct Fresh<'a>(&'a Store);

impl Blocks for Fresh<'_> {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        self.0.cars.read_here(cid, &self.0.cache)
    }
}

/// Walks from the heads to every block.
struct Walker<'a> {
    core: &'a Core,
    blocks: Fresh<'a>,
    floor: Option<Floor>,
    seen: HashSet<Cid, HashAddresses>,
    /// What documents link to.
    linked: HashSet<Cid, HashAddresses>,
    /// Blocks of the files among it.
    file_blocks: HashSet<Cid, HashAddresses>,
}

impl<'a> Walker<'a> {
    fn new(core: &'a Core) -> Self {
        Self {
            core,
            blocks: Fresh(&core.store),
            floor: core.store.log.lock().state.floor.clone(),
            seen: HashSet::default(),
            linked: HashSet::default(),
            file_blocks: HashSet::default(),
        }
    }

    fn walk(&mut self, report: &mut VerifyReport) {
        let mut open = self.core.view().heads.clone();
        while let Some(cid) = open.pop() {
            if !self.seen.insert(cid) {
                continue;
            }
            match self.event(&cid, report) {
                Ok(parents) => open.extend(parents),
                Err(error) => report.add(error),
            }
        }
    }

    /// One event with its change and its map; its parents.
    fn event(&mut self, cid: &Cid, report: &mut VerifyReport) -> Result<Vec<Cid>> {
        let event = self.blocks.event(cid)?;
        report.events += 1;
        let change = self.blocks.change(&event.change)?;
        let docs: Result<Vec<_>> = change
            .ops(&self.blocks)
            .filter_map(|op| op.map(|op| op.doc).transpose())
            .collect();
        for doc in docs? {
            let checked = self.document(&doc, report);
            note(report, checked);
        }
        if let Some(root) = event.root {
            self.map(root, report);
        }
        if let Some(root) = event.conflicts {
            self.plain_tree(root, report);
        }
        let at_floor = self
            .floor
            .as_ref()
            .is_some_and(|floor| floor.clock.contains(cid));
        if at_floor {
            report.pruned += change.parents.len() as u64;
            return Ok(Vec::new());
        }
        Ok(change.parents.clone())
    }

    fn map(&mut self, root: Cid, report: &mut VerifyReport) {
        let mut open = vec![root];
        while let Some(cid) = open.pop() {
            if !self.seen.insert(cid) {
                continue;
            }
            let node = note(report, self.blocks.node(&cid));
            let Some(node) = node else { continue };
            if node.level() > 0 {
                open.extend(node.children());
                continue;
            }
            let leaf = self.leaf(cid, report);
            note(report, leaf);
        }
    }

    fn leaf(&mut self, cid: Cid, report: &mut VerifyReport) -> Result<()> {
        let fresh = Fresh(&self.core.store);
        let mut scan = Scan::new(&fresh, Some(cid), KeyRange::all(), Direction::Ascending);
        while let Some((_, value)) = scan.advance()? {
            for sibling in Siblings::decode(value)?.all() {
                if let Some(doc) = sibling.doc {
                    let checked = self.document(&doc, report);
                    note(report, checked);
                }
            }
        }
        Ok(())
    }

    /// A tree whose values name nothing.
    fn plain_tree(&mut self, root: Cid, report: &mut VerifyReport) {
        let mut open = vec![root];
        while let Some(cid) = open.pop() {
            if self.seen.insert(cid)
                && let Some(node) = note(report, self.blocks.node(&cid))
            {
                open.extend(node.children());
            }
        }
    }

    /// A document that a change wrote or a map names.
    fn document(&mut self, cid: &Cid, report: &mut VerifyReport) -> Result<()> {
        if !self.seen.insert(*cid) {
            return Ok(());
        }
        let bytes = self.blocks.block(cid)?;
        report.documents += 1;
        for link in links(Document::from_bytes(bytes)?.bytes())? {
            let checked = self.link(link, report);
            note(report, checked);
        }
        Ok(())
    }

    /// What a document links to. A file that is here is here whole.
    fn link(&mut self, link: Cid, report: &mut VerifyReport) -> Result<()> {
        if !self.linked.insert(link) {
            return Ok(());
        }
        let bytes = match self.blocks.block(&link) {
            // A link may name what was never here.
            Err(error) if error.is_missing_block() => return Ok(()),
            other => other?,
        };
        let Some(blocks) = file_blocks(&link, &bytes) else {
            return Ok(());
        };
        report.linked_files += 1;
        for block in blocks {
            if self.file_blocks.insert(block) {
                let checked = self.blocks.block(&block);
                note(report, checked);
            }
        }
        Ok(())
    }
}
