//! Sends what the remote does not have, and then says so by a meta. An archive of ours that another
//! replica has replaced is named by its replacement, if that replica names it now: so old ones become
//! unnamed and can go.

use super::meta::{RemoteCar, RemoteMeta};
use super::note::Note;
use super::retire::Remains;
use super::run::{Leads, Run};
use super::status::{Phase, Progress};
use crate::block::Cid;
use crate::car::Seal;
use crate::error::{Error, Result};
use crate::snapshot::Snapshot;
use crate::store::{CarId, CarMeta, RedirectFile, Segment, car_name, car_of_name};
use siltstone_storage::PutOutcome;
use std::collections::{BTreeMap, BTreeSet};

/// How often it begins anew when compactions come between.
const ATTEMPTS: u32 = 4;

/// The log at one moment.
pub(super) struct Log {
    pub(super) live: Vec<Segment<CarId, CarMeta>>,
    ids: BTreeSet<CarId>,
    heads: Vec<Cid>,
    redirects: Vec<RedirectFile>,
}

impl Run<'_> {
    /// Sends what is missing there and publishes a meta if it says anything new.
    pub(super) fn push(&mut self) -> Result<()> {
        for _ in 1..ATTEMPTS {
            match self.push_once() {
                // A compaction came between.
                Err(Error::Stale { .. }) => self.check_attached()?,
                other => return other,
            }
        }
        self.push_once()
    }

    fn push_once(&mut self) -> Result<()> {
        let now = self.core.store.env.clock.now();
        // What it pins can be read to the end, whatever is compacted meanwhile.
        let held = Snapshot::of_now(self.core.clone());
        let log = {
            let log = self.core.store.log.lock();
            let live = log.state.cars.live().to_vec();
            Log {
                ids: live.iter().map(|car| car.id).collect(),
                live,
                heads: log.state.heads.clone(),
                redirects: log.state.redirects.clone(),
            }
        };
        self.list_cars()?;
        if log.heads.is_empty() {
            return Ok(());
        }
        self.find_covers(&log);
        if self.waits_to_return(&log, now)? {
            return Ok(());
        }
        let there = |run: &Self, car: &Segment<CarId, CarMeta>| {
            run.note.covers.contains_key(&car.id)
                || run.listed.get(&car.id) == Some(&car.meta.bytes)
        };
        let missing: Vec<_> = log.live.iter().filter(|car| !there(self, car)).collect();
        {
            let missing: BTreeSet<CarId> = missing.iter().map(|car| car.id).collect();
            self.at.board.lock().there = log.ids.difference(&missing).copied().collect();
        }
        self.send(&missing)?;
        drop(held);
        self.publish(&log)
    }

    pub(super) fn list_cars(&mut self) -> Result<()> {
        let blobs = self.blobs.list("car/")?;
        let cars = blobs
            .iter()
            .filter_map(|blob| Some((car_of_name(&blob.name)?, blob.size)));
        self.listed = cars.collect();
        Ok(())
    }

    /// Finds the archives in whose place others are named.
    fn find_covers(&mut self, log: &Log) {
        let named = self.named_by_others();
        // Only those whose heads were taken in: their floor is known here then.
        let applied = &self.note.applied;
        let metas = self.known.seen.values();
        let metas = metas.filter(|meta| applied.get(&meta.replica) == Some(&meta.number));
        let mut leads: BTreeMap<CarId, &[CarId]> = BTreeMap::new();
        for meta in metas {
            for (from, to) in &meta.redirects {
                leads.insert(*from, to);
            }
        }
        let listed = &self.listed;
        let usable = |id: &CarId| -> Option<RemoteCar> {
            let car = named.get(id)?;
            (listed.get(id) == Some(&car.car.length)).then_some(*car)
        };
        let all = |ids: &[CarId]| -> Option<Vec<RemoteCar>> {
            let found: Option<Vec<RemoteCar>> = ids.iter().map(usable).collect();
            found.filter(|cars| !cars.is_empty())
        };
        let mut covers = BTreeMap::new();
        // One that is not here is named by itself: what it was replaced by may hold less.
        let here = log.live.iter();
        let here = here.filter(|car| !self.core.store.cars.is_away(&car.id));
        for car in here {
            let direct = leads.get(&car.id).and_then(|to| all(to));
            let kept = self.note.covers.get(&car.id).and_then(|cars| {
                let mut ids = BTreeSet::new();
                for car in cars {
                    match (usable(&car.id()), leads.get(&car.id())) {
                        (_, Some(to)) => ids.extend(to.iter().copied()),
                        (Some(_), None) => drop(ids.insert(car.id())),
                        (None, None) => return None,
                    }
                }
                all(&ids.into_iter().collect::<Vec<_>>())
            });
            // What it says of itself would be a circle.
            let found = direct.or(kept);
            let found = found.filter(|cars| cars.iter().all(|other| other.id() != car.id));
            covers.extend(found.map(|cars| (car.id, cars)));
        }
        self.note.covers = covers;
    }

    /// Sends archives. That they are ours is durable first, so that they are cleaned up whatever comes.
    fn send(&mut self, missing: &[&Segment<CarId, CarMeta>]) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        for car in missing {
            self.note.own.entry(car.id).or_insert(None);
        }
        self.keep()?;
        let mut progress = Progress {
            phase: Phase::Push,
            cars: 0,
            of_cars: missing.len(),
            bytes: 0,
        };
        for car in missing {
            self.check_attached()?;
            let open = self.core.store.cars.get(&car.id);
            let open = open.ok_or_else(|| Error::Stale {
                what: format!("CAR {} was replaced while it was sent", car.id),
            })?;
            let bytes = self.own_bytes(&open)?;
            let name = car_name(&car.id);
            match self.listed.get(&car.id) {
                // There under its name and of another size: damaged, and these are the right bytes.
                Some(_) => self.blobs.put(&name, &bytes)?,
                None => drop(self.blobs.put_if_absent(&name, &bytes)?),
            }
            self.listed.insert(car.id, car.meta.bytes);
            self.at.board.lock().there.insert(car.id);
            progress.cars += 1;
            progress.bytes += car.meta.bytes;
            self.report.pushed_cars += 1;
            self.report.pushed_bytes += car.meta.bytes;
            self.at.tell(&progress);
        }
        Ok(())
    }

    fn publish(&mut self, log: &Log) -> Result<()> {
        let mut cars: BTreeMap<CarId, RemoteCar> = BTreeMap::new();
        for car in &log.live {
            for named in names_of(&self.note, car) {
                cars.insert(named.id(), named);
            }
        }
        let meta = RemoteMeta {
            replica: self.replica.clone(),
            number: self.next_number(),
            time: self.core.now_ms(),
            heads: log.heads.clone(),
            redirects: self.redirects(log, &cars)?,
            cars: cars.into_values().collect(),
            floor: self.core.known_floor(),
        };
        let last = self.known.published.as_ref();
        if last.is_some_and(|last| last.says_the_same(&meta)) {
            return Ok(());
        }
        let sealer = self.core.store.sealer();
        let seal = sealer.as_ref().map(|sealer| sealer as &dyn Seal);
        let bytes = meta.encode(seal)?;
        match self.blobs.put_if_absent(&meta.name(), &bytes)? {
            PutOutcome::Created => {}
            // Ours, of a sync that was not told so, or a copy's of this ledger: the next one reads it.
            PutOutcome::Exists => {
                return Err(Error::Stale {
                    what: format!("{} is there already", meta.name()),
                });
            }
        }
        if let Some(last) = &self.known.published {
            let now = self.core.store.env.clock.now();
            self.known.old.insert(last.number, now);
        }
        self.report.published = true;
        let before = self.known.published.take();
        let before = before.map(|last| last.heads).unwrap_or_default();
        self.report.pushed_events = self.events_between(&before, &meta.heads);
        self.note.published = meta.number;
        self.known.published = Some(meta);
        Ok(())
    }

    /// Above all that we ever published, also what was retired.
    fn next_number(&self) -> u64 {
        let last = self.known.published.as_ref().map(|meta| meta.number);
        let old = self.known.old.keys().last().copied();
        let retired = self.remains.as_ref().map(Remains::number);
        let before = [last, old, retired, Some(self.note.published)];
        before.into_iter().flatten().max().unwrap_or_default() + 1
    }

    /// Where archives of the remote lead that were part of our log.
    fn redirects(
        &mut self,
        log: &Log,
        cars: &BTreeMap<CarId, RemoteCar>,
    ) -> Result<Vec<(CarId, Vec<CarId>)>> {
        let mut asked: BTreeSet<CarId> = self.listed.keys().copied().collect();
        asked.extend(self.named_by_others().into_keys());
        asked.retain(|id| !log.ids.contains(id) && !cars.contains_key(id));
        let files: Vec<u64> = log.redirects.iter().map(|file| file.number).collect();
        let leads = &self.known.leads;
        if leads.files != files || leads.live != log.ids || !asked.is_subset(&leads.asked) {
            let found = match asked.is_empty() {
                true => BTreeMap::new(),
                false => self
                    .core
                    .store
                    .resolve_all(&asked, &log.ids, &log.redirects)?,
            };
            self.known.leads = Leads {
                files,
                live: log.ids.clone(),
                asked: asked.clone(),
                found,
            };
        }
        let live: BTreeMap<CarId, &Segment<CarId, CarMeta>> =
            log.live.iter().map(|car| (car.id, car)).collect();
        let mut redirects = Vec::new();
        for from in asked {
            let Some(ends) = self.known.leads.found.get(&from) else {
                continue;
            };
            let ends = ends.iter().filter_map(|end| live.get(end));
            let to: BTreeSet<CarId> = ends
                .flat_map(|end| names_of(&self.note, end))
                .map(|named| named.id())
                .collect();
            redirects.push((from, to.into_iter().collect()));
        }
        Ok(redirects)
    }
}

/// What an archive of the log is named by: itself, or what others replaced it by.
pub(super) fn names_of(note: &Note, car: &Segment<CarId, CarMeta>) -> Vec<RemoteCar> {
    match note.covers.get(&car.id) {
        Some(others) => others.clone(),
        None => vec![RemoteCar::of(car.id, &car.meta)],
    }
}
