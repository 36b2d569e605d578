//! Archives that stay in a remote until they are needed. The log lists them as it lists all others, so
//! what we publish names them, and nobody deletes them; their ends are here, so that it is known what they
//! hold. One that is replaced in the remote is swapped for its replacement before it goes.

use super::Fetch;
use super::meta::RemoteCar;
use super::run::Run;
use super::status::{Phase, Progress};
use crate::error::{Error, Result};
use crate::store::{CarId, CarMeta, Edit, Location, Segment, car_name, tail_name};
use std::collections::BTreeSet;

impl Run<'_> {
    /// Follows replacements of what is not here; fetches the rest, where all is wanted.
    pub(super) fn fill_in(&mut self) -> Result<()> {
        let away = self.away();
        if !away.is_empty() {
            self.list_cars()?;
            for car in &away {
                self.check_attached()?;
                self.follow(car)?;
            }
            if self.at.fetch() == Fetch::All {
                self.fetch_rest()?;
            }
        }
        self.core.look_again();
        Ok(())
    }

    /// The live archives that are in a remote only.
    fn away(&self) -> Vec<Segment<CarId, CarMeta>> {
        let store = &self.core.store;
        let mut live = store.log.lock().state.cars.live().to_vec();
        live.retain(|car| car.meta.location == Location::Away && store.cars.is_away(&car.id));
        live
    }

    /// Swaps an archive for what replaced it in the remote, if anything did.
    fn follow(&mut self, car: &Segment<CarId, CarMeta>) -> Result<()> {
        let Some(found) = self.replacements(&car.id) else {
            return Ok(());
        };
        let store = &self.core.store;
        let (here, run) = {
            let log = store.log.lock();
            let live = log.state.cars.live().iter();
            let here: BTreeSet<CarId> = live.map(|car| car.id).collect();
            (here, log.state.counters.next_run)
        };
        let (mut outputs, mut written, mut tails) = (Vec::new(), Vec::new(), Vec::new());
        let fetched = found
            .iter()
            .filter(|to| !here.contains(&to.id()))
            .try_for_each(|to| -> Result<()> {
                let bytes = self.fetch_wanted(to)?;
                let location = if self.stays_away(to) {
                    tails.push(to.id());
                    store.env.blobs.put(&tail_name(&to.id()), &bytes)?;
                    Location::Away
                } else {
                    written.push(to.id());
                    store.env.blobs.put(&car_name(&to.id()), &bytes)?;
                    Location::File
                };
                let meta = CarMeta::of(&to.car, to.sealed, car.meta.level, run, location);
                outputs.push(Segment { id: to.id(), meta });
                self.report.pulled_cars += 1;
                self.report.pulled_bytes += bytes.len() as u64;
                Ok(())
            });
        let lead_to: Vec<CarId> = found.iter().map(RemoteCar::id).collect();
        let _one_at_a_time = self.core.compacting.lock();
        let swapped = fetched.and_then(|()| {
            let (captured, edit) = (vec![car.id], Edit::default());
            self.core
                .swap_cars(captured, outputs, &lead_to, edit, |_| Ok(()))
        });
        if let Err(error) = swapped {
            store.delete_unlisted(&written);
            store.delete_unlisted_tails(&tails);
            return match error {
                // A compaction came between: at the next sync.
                Error::CompactionLost => Ok(()),
                other => Err(other),
            };
        }
        store.collect_redirects()?;
        store.collect()?;
        Ok(())
    }

    /// The archives of the remote that together hold what one held there. Of replicas that pruned what is
    /// kept here none is taken.
    fn replacements(&self, car: &CarId) -> Option<Vec<RemoteCar>> {
        let floor = self.core.store.log.lock().state.floor.clone();
        let floor = floor.map_or(0, |floor| floor.lamport);
        let metas = self.known.seen.values();
        let applied = metas.filter(|meta| {
            let theirs = meta.floor.as_ref().map_or(0, |floor| floor.lamport);
            theirs <= floor && self.note.applied.get(&meta.replica) == Some(&meta.number)
        });
        applied
            .filter_map(|meta| {
                let (_, to) = meta.redirects.iter().find(|(from, _)| from == car)?;
                let there = |id: &CarId| {
                    let found = meta.cars.iter().find(|other| other.id() == *id)?;
                    (self.listed.get(id) == Some(&found.car.length)).then_some(*found)
                };
                to.iter().map(there).collect::<Option<Vec<RemoteCar>>>()
            })
            .find(|found| !found.is_empty() && found.iter().all(|to| to.id() != *car))
    }

    /// Fetches all that is still in the remote only.
    fn fetch_rest(&mut self) -> Result<()> {
        let mut away = self.away();
        away.retain(|car| self.listed.get(&car.id) == Some(&car.meta.bytes));
        let mut progress = Progress {
            phase: Phase::Pull,
            cars: 0,
            of_cars: away.len(),
            bytes: 0,
        };
        for car in away {
            self.check_attached()?;
            let Some(open) = self.core.store.cars.get(&car.id) else {
                continue;
            };
            self.core.store.cars.fetch(&open)?;
            progress.cars += 1;
            progress.bytes += car.meta.bytes;
            self.at.tell(&progress);
        }
        self.report.pulled_cars += progress.cars;
        self.report.pulled_bytes += progress.bytes;
        Ok(())
    }
}
