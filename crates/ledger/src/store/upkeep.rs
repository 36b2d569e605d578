//! Work that nobody waits for: the manifest is written now and then, so that opening reads little of
//! the journal; what is replaced is deleted once nobody can read it.

use super::car_ref::{CarId, Location, car_name, tail_name};
use super::core::Store;
use super::journal::journal_name;
use super::redirects::{RedirectFile, redirect_number};
use crate::error::{Error, Result};
use siltstone_storage::Error as StoreError;
use std::collections::{BTreeMap, BTreeSet};

impl Store {
    /// Writes the manifest, when there is something to write, and deletes what is not needed since.
    pub(crate) fn checkpoint(&self) -> Result<bool> {
        let _one_at_a_time = self.checkpointing.lock();
        let (state, edits) = {
            let log = self.log.lock();
            (log.state.clone(), log.edits)
        };
        if edits == 0 {
            return Ok(false);
        }
        self.manifest
            .commit(|_| Ok::<_, StoreError>(state.clone()))?;
        self.log.lock().edits -= edits;
        self.manifest.sweep(&[])?;
        Ok(true)
    }

    /// True when the manifest should be written.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        let log = self.log.lock();
        // A long log makes a long manifest, which is written less often.
        let enough = (log.state.cars.live().len() as u64 / 4).max(self.options.checkpoint_edits);
        log.edits >= enough
    }

    /// Deletes replaced CARs that no pin can still see, and journal files that are done with.
    /// Returns how many bytes of CARs went.
    pub(crate) fn collect(&self) -> Result<u64> {
        let _one_at_a_time = self.collecting.lock();
        let replaced = {
            let log = self.log.lock();
            let ids = log.state.cars.retirable(&log.pins).into_iter();
            ids.filter(|id| !log.forgotten.contains(id))
                .collect::<BTreeSet<CarId>>()
        };
        // Readers elsewhere: after what was replaced is durable, before anything is deleted.
        let reader = match replaced.is_empty() {
            true => None,
            false => self.oldest_reader()?,
        };
        let free: Vec<(CarId, u64, Location)> = {
            let log = self.log.lock();
            let mut pins = log.pins.clone();
            reader.into_iter().for_each(|version| pins.pin(version));
            let ids = log.state.cars.retirable(&pins);
            let ids = ids.into_iter().filter(|id| replaced.contains(id));
            ids.filter_map(|id| {
                let meta = log.state.retired.get(&id)?;
                Some((id, meta.bytes, meta.location))
            })
            .collect()
        };
        let ids: Vec<CarId> = free.iter().map(|(id, ..)| *id).collect();
        let mut bytes = 0;
        if !ids.is_empty() {
            self.cars.remove(&ids);
            for (id, size, location) in &free {
                bytes += size;
                if let Location::File | Location::Away = location {
                    self.env.blobs.delete(&car_name(id))?;
                }
                if *location == Location::Away {
                    self.env.blobs.delete(&tail_name(id))?;
                }
            }
            self.log.lock().forgotten.extend(ids);
        }
        self.delete_journals()?;
        Ok(bytes)
    }

    /// True when something that a prune replaced is still there to be read: a snapshot holds it.
    pub(crate) fn holds_pruned(&self) -> bool {
        let log = self.log.lock();
        let mut pruned = self.pruned.lock();
        pruned.retain(|id| log.state.retired.contains_key(id) && !log.forgotten.contains(id));
        !pruned.is_empty()
    }

    /// True for a CAR that a prune replaced and a snapshot holds.
    pub(crate) fn is_pruned(&self, id: &CarId) -> bool {
        self.pruned.lock().contains(id)
    }

    /// Deletes journal files whose edits are in the manifest and in which no CAR lies that anyone
    /// reads.
    fn delete_journals(&self) -> Result<()> {
        let floor = self.manifest.current().state.journal.number;
        let done: Vec<u64> = {
            let log = self.log.lock();
            let in_use = log.state.journals_in_use(&log.forgotten);
            let journals = log.journals.range(..floor);
            journals.filter(|n| !in_use.contains(n)).copied().collect()
        };
        for number in done {
            self.cars.close_journal(number);
            self.env.blobs.delete(&journal_name(number))?;
            self.log.lock().journals.remove(&number);
        }
        Ok(())
    }

    /// Deletes redirect files that the state no longer lists; none is being written meanwhile.
    pub(crate) fn collect_redirects(&self) -> Result<()> {
        let listed: BTreeSet<u64> = {
            let log = self.log.lock();
            log.state.redirects.iter().map(|file| file.number).collect()
        };
        for blob in self.env.blobs.list("redirect/")? {
            if redirect_number(&blob.name).is_some_and(|number| !listed.contains(&number)) {
                self.env.blobs.delete(&blob.name)?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// The live CARs that a name leads to.
    pub(crate) fn resolve(&self, car: &CarId) -> Result<Vec<CarId>> {
        // A merge may delete a redirect file between listing and reading; what merged it is listed then.
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (live, listed) = {
                let log = self.log.lock();
                let live: BTreeSet<CarId> =
                    log.state.cars.live().iter().map(|car| car.id).collect();
                (live, log.state.redirects.clone())
            };
            let found =
                super::redirects::resolve(&*self.env.blobs, &listed, *car, |id| live.contains(id));
            match found {
                Err(error) if error.is_not_found() && attempts < 4 => {}
                other => return Ok(other?),
            }
        }
    }

    /// As [`Store::resolve`], for many names, reading each redirect file once. Names that lead nowhere
    /// are left out.
    ///
    /// # Errors
    /// [`Error::Stale`] when `listed` was overtaken by a compaction; damage.
    pub(crate) fn resolve_all(
        &self,
        names: &BTreeSet<CarId>,
        live: &BTreeSet<CarId>,
        listed: &[RedirectFile],
    ) -> Result<BTreeMap<CarId, Vec<CarId>>> {
        let mut leads = super::redirects::Leads::new();
        for file in listed {
            match super::redirects::load(&*self.env.blobs, file) {
                Ok(loaded) => leads.extend(loaded),
                Err(error) if error.is_not_found() => {
                    return Err(Error::Stale {
                        what: "redirect files were merged meanwhile".into(),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut found = BTreeMap::new();
        for name in names {
            let mut ends = BTreeSet::new();
            let mut seen = BTreeSet::new();
            let mut open = vec![*name];
            while let Some(id) = open.pop() {
                if !seen.insert(id) {
                    continue;
                }
                if live.contains(&id) {
                    ends.insert(id);
                } else if let Some(to) = leads.get(&id) {
                    open.extend(to.iter());
                }
            }
            if !ends.is_empty() {
                found.insert(*name, ends.into_iter().collect());
            }
        }
        Ok(found)
    }

    /// Deletes CARs that were written and that no edit listed. What cannot be deleted is swept at the
    /// next opening; after a failed write nobody knows what is listed, and nothing is deleted.
    pub(crate) fn delete_unlisted(&self, cars: &[CarId]) {
        if self.check_writable().is_err() {
            return;
        }
        for id in cars {
            if !self.log.lock().state.has(id) {
                let _ = self.env.blobs.delete(&car_name(id));
            }
        }
    }

    /// As [`Store::delete_unlisted`], the ends of CARs that are in a remote only.
    pub(crate) fn delete_unlisted_tails(&self, cars: &[CarId]) {
        if self.check_writable().is_err() {
            return;
        }
        for id in cars {
            if !self.log.lock().state.has(id) {
                let _ = self.env.blobs.delete(&tail_name(id));
            }
        }
    }

    /// Lets go of the folder; nothing is written any more.
    pub(crate) fn close(&self) {
        let mut stopped = self.stopped.lock();
        if stopped.is_none() {
            *stopped = Some("the ledger is closed".into());
        }
        *self.folder_lock.lock() = None;
        if let Some(follower) = &self.follower {
            follower.release();
        }
    }
}

impl Store {
    /// Checks the checksums of every record of a journal file, bodies too.
    pub(crate) fn verify_journal(&self, number: u64) -> Result<()> {
        // What a writer is adding right now is not there yet.
        let end = {
            let journal = self.journal.lock();
            let at = journal.position();
            (at.number == number).then_some(at.offset)
        };
        // Of what its writer adds a reader knows the beginning.
        let follows = self.follower.is_some() && self.env.blobs.can_append();
        let end = end.or_else(|| {
            let at = self.log.lock().state.journal;
            (follows && at.number == number).then_some(at.offset)
        });
        let end = end.or_else(|| self.log.lock().state.cuts.get(&number).copied());
        super::journal::verify(&*self.env.blobs, &journal_name(number), end)?;
        Ok(())
    }
}
