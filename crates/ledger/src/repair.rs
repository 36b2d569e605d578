//! Puts back what a disk lost: archives that [`verify`](Ledger::verify) finds missing or damaged, from
//! remotes.
//!
//! An archive's name is the hash of its bytes, so what a remote sends under it is either what was here or
//! it is refused. It is put under its own name by one atomic put, which can only make it better. Where it
//! lay in the journal, whose bytes cannot be changed, it is compacted with all else that lies there into a
//! file, and the damaged journal file goes. An archive that the remote replaced is swapped for its
//! replacement, by one edit, as a compaction does. Whatever is cut short can be run again.

use crate::block::{Block, Cid};
use crate::compaction::{Captured, Output, Strategy};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::remote::{Phase, Progress, Remote, RemoteCar, Source};
use crate::store::{CarId, CarMeta, Edit, Location, OpenCar, Segment, car_name};
use crate::verify::VerifyReport;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An archive that was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The archive.
    pub car: Cid,
    /// What stands in its place now: itself, or what the remote had replaced it by.
    pub by: Vec<Cid>,
    /// Bytes fetched for it.
    pub bytes: u64,
    /// The remote that had it: its place, or else its name.
    pub from: String,
}

/// An archive that could not be put back: it is as it was.
#[derive(Debug, Clone)]
pub struct Unmended {
    /// The archive.
    pub car: Cid,
    /// The remotes that were asked, and what they said.
    pub tried: Vec<(String, Error)>,
}

/// What a repair found and did.
#[derive(Debug, Clone, Default)]
pub struct RepairReport {
    /// What was wrong before.
    pub before: VerifyReport,
    /// What was put back.
    pub mended: Vec<Mended>,
    /// What no remote has.
    pub unmended: Vec<Unmended>,
    /// What is wrong now.
    pub after: VerifyReport,
}

/// Copies all blocks, and one more, so that what comes out has another name than what went in.
#[derive(Debug)]
struct Rehoused(u64);

impl Strategy for Rehoused {
    fn name(&self) -> &str {
        "repair"
    }

    fn compact(&self, captured: &Captured<'_>, output: &mut Output<'_>) -> Result<()> {
        captured.for_each(|block| output.copy(&block))?;
        output.add(&Block::raw(self.0.to_be_bytes().to_vec()))
    }
}

impl Ledger {
    /// Verifies, fetches exactly the archives that are missing or damaged from `from`, or from the
    /// attached remotes, puts them back and verifies again. What is whole is not touched; it may be run
    /// again at any time. A damaged journal or manifest is written anew.
    ///
    /// # Errors
    /// The store's, [`Error::Stopped`]; [`Error::Undecryptable`] when an encrypted archive must be moved
    /// or looked into and there is no key; [`Error::CompactionLost`] when a compaction came between: run
    /// it again. What a remote does not have, or fails with, is in the report.
    pub fn repair(&self, from: Option<&Remote>) -> Result<RepairReport> {
        let core = self.core();
        core.store.check_writable()?;
        let mut report = RepairReport {
            before: self.verify()?,
            ..RepairReport::default()
        };
        if report.before.problems.is_empty() {
            report.after = report.before.clone();
            return Ok(report);
        }
        let remotes = match from {
            Some(remote) => vec![remote.clone()],
            None => core.remotes.all(),
        };
        let source = |remote| Source::new(&core.store, remote);
        let mut repair = Repair {
            core,
            sources: remotes.into_iter().map(source).collect(),
            of_cars: report.before.damaged.len(),
            mended: Vec::new(),
            unmended: Vec::new(),
        };
        repair.put_back(&report.before.damaged)?;
        repair.swap_replaced()?;
        repair.leave_journals(&report.before)?;
        core.look_again();
        (report.mended, report.unmended) = (repair.mended, repair.unmended);
        report.after = self.verify()?;
        Ok(report)
    }
}

struct Repair<'a> {
    core: &'a Arc<Core>,
    sources: Vec<Source<'a>>,
    of_cars: usize,
    mended: Vec<Mended>,
    unmended: Vec<Unmended>,
}

impl Repair<'_> {
    /// Puts archives back that a remote has under their names.
    fn put_back(&mut self, damaged: &[CarId]) -> Result<()> {
        for id in damaged {
            // Gone by now: replaced.
            let Some(car) = self.core.store.cars.get(id) else {
                continue;
            };
            if let Some(mended) = self.put_back_one(&car)? {
                self.add(mended);
            }
        }
        Ok(())
    }

    fn put_back_one(&mut self, car: &OpenCar) -> Result<Option<Mended>> {
        let store = &self.core.store;
        let wanted = RemoteCar::of(car.id, &car.meta);
        let mut tried = Vec::new();
        for source in &self.sources {
            let bytes = match source.archive(&wanted) {
                Ok(bytes) => bytes,
                Err(error) => {
                    tried.push((source.name().to_string(), error));
                    continue;
                }
            };
            store.env.blobs.put(&car_name(&car.id), &bytes)?;
            let meta = CarMeta {
                location: Location::File,
                ..car.meta
            };
            store.cars.renew(car.id, meta);
            // Its index may be of damaged bytes.
            store.cache.forget(&car.id);
            // A compaction may have replaced it meanwhile.
            store.delete_unlisted(&[car.id]);
            return Ok(Some(Mended {
                car: car.id,
                by: vec![car.id],
                bytes: bytes.len() as u64,
                from: source.name().to_string(),
            }));
        }
        self.unmended.push(Unmended { car: car.id, tried });
        Ok(None)
    }

    fn add(&mut self, mended: Mended) {
        self.mended.push(mended);
        let progress = Progress {
            phase: Phase::Repair,
            cars: self.mended.len(),
            of_cars: self.of_cars,
            bytes: self.mended.iter().map(|mended| mended.bytes).sum(),
        };
        self.sources
            .iter()
            .for_each(|source| source.tell(&progress));
    }

    /// Swaps archives that no remote has any more for those that replaced them there.
    fn swap_replaced(&mut self) -> Result<()> {
        let damaged: BTreeSet<CarId> = self.unmended.iter().map(|lost| lost.car).collect();
        for mut lost in std::mem::take(&mut self.unmended) {
            match self.swap_one(&mut lost, &damaged)? {
                Some(mended) => self.add(mended),
                None => self.unmended.push(lost),
            }
        }
        Ok(())
    }

    fn swap_one(
        &mut self,
        lost: &mut Unmended,
        damaged: &BTreeSet<CarId>,
    ) -> Result<Option<Mended>> {
        for at in 0..self.sources.len() {
            let source = &mut self.sources[at];
            let found = match source.replacements(&lost.car) {
                Ok(found) => found,
                Err(error) => {
                    lost.tried.push((source.name().to_string(), error));
                    continue;
                }
            };
            if found.is_empty() || found.iter().any(|car| damaged.contains(&car.id())) {
                continue;
            }
            let from = source.name().to_string();
            match self.swap_by(at, &lost.car, &found) {
                Ok(bytes) => {
                    return Ok(Some(Mended {
                        car: lost.car,
                        by: found.iter().map(RemoteCar::id).collect(),
                        bytes,
                        from,
                    }));
                }
                Err(error @ (Error::Stopped { .. } | Error::CompactionLost)) => return Err(error),
                Err(error) => lost.tried.push((from, error)),
            }
        }
        Ok(None)
    }

    /// Fetches what replaced an archive, as far as it is not here, and swaps it in. Bytes fetched.
    fn swap_by(&self, source: usize, lost: &CarId, found: &[RemoteCar]) -> Result<u64> {
        let store = &self.core.store;
        let (here, level, run) = {
            let log = store.log.lock();
            let live = log.state.cars.live();
            let here: BTreeSet<CarId> = live.iter().map(|car| car.id).collect();
            let level = log
                .state
                .cars
                .get(lost)
                .map_or(1, |car| car.meta.level.max(1));
            (here, level, log.state.counters.next_run)
        };
        let (mut outputs, mut bytes) = (Vec::new(), 0);
        let fetched = found
            .iter()
            .filter(|car| !here.contains(&car.id()))
            .try_for_each(|car| -> Result<()> {
                let archive = self.sources[source].foreign(car)?;
                bytes += archive.len() as u64;
                let meta = CarMeta::of(&car.car, car.sealed, level, run, Location::File);
                outputs.push(Segment { id: car.id(), meta });
                Ok(store.env.blobs.put(&car_name(&car.id()), &archive)?)
            });
        let written: Vec<CarId> = outputs.iter().map(|car| car.id).collect();
        let lead_to: Vec<CarId> = found.iter().map(RemoteCar::id).collect();
        let _one_at_a_time = self.core.compacting.lock();
        let swapped = fetched.and_then(|()| {
            let (captured, edit) = (vec![*lost], Edit::default());
            self.core
                .swap_cars(captured, outputs, &lead_to, edit, |_| Ok(()))
        });
        match swapped {
            Ok(()) => {
                store.collect_redirects()?;
                store.collect()?;
                Ok(bytes)
            }
            Err(error) => {
                store.delete_unlisted(&written);
                Err(error)
            }
        }
    }

    /// Moves everything out of damaged journal files, and writes the manifest anew, so that neither they
    /// nor a damaged manifest are needed any more.
    fn leave_journals(&self, before: &VerifyReport) -> Result<()> {
        let store = &self.core.store;
        let unmended: BTreeSet<CarId> = self.unmended.iter().map(|lost| lost.car).collect();
        let mut journals: BTreeSet<u64> = before.journals.iter().copied().collect();
        let rehoused: Vec<CarId> = {
            let log = store.log.lock();
            let live = log.state.cars.live();
            journals.extend(live.iter().filter_map(|car| match car.meta.location {
                Location::Journal { number, .. } if before.damaged.contains(&car.id) => {
                    Some(number)
                }
                _ => None,
            }));
            let lies_there = |car: &&Segment<CarId, CarMeta>| match car.meta.location {
                Location::Journal { number, .. } => journals.contains(&number),
                Location::File | Location::Away => false,
            };
            let wanted = live.iter().filter(lies_there).map(|car| car.id);
            wanted.filter(|id| !unmended.contains(id)).collect()
        };
        if journals.is_empty() && !before.manifest {
            return Ok(());
        }
        store.journal.lock().leave_file();
        if rehoused.is_empty() {
            // Takes away what is not there: an edit, so that the state's place in the journal moves on.
            self.core.set_note("repair", None)?;
        } else {
            let compaction = self.core.capture_these(&rehoused);
            let mut compaction = compaction.ok_or(Error::CompactionLost)?;
            compaction.copy(&Rehoused(store.env.rng.next()))?;
            compaction.swap()?;
        }
        store.checkpoint()?;
        store.collect()?;
        // What was put beside the journal served until now; a snapshot may still read it, and then it
        // is swept at the next opening.
        for id in rehoused {
            if store.cars.get(&id).is_none() {
                store.env.blobs.delete(&car_name(&id))?;
            }
        }
        Ok(())
    }
}
