//! Takes in what other replicas published: the newest meta of each, and of the archives it names those
//! whose content is not here.

use super::Fetch;
use super::meta::{RemoteCar, RemoteMeta, list_metas};
use super::note::floor_note;
use super::run::Run;
use super::status::{Phase, Progress};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::store::{CarId, Floor, NewCar, car_name, tail_name};
use crate::writes::{Foreign, Request};
use std::collections::BTreeSet;
use std::sync::Arc;

/// After so many bytes of archives what came is kept, so that a pull that is cut short goes on there.
const KEEP_EVERY: u64 = 32 << 20;
/// A small archive goes into the journal, with others, by one sync; larger ones get files. In bytes.
const SMALL: usize = 256 << 10;
/// How often a listing is read again when what it named was deleted meanwhile.
const ATTEMPTS: u32 = 4;

pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Storage(error) if error.is_not_found())
}

/// Failures of one replica's data, which must not keep others' from us.
fn is_theirs(error: &Error) -> bool {
    !matches!(error, Error::Storage(error) if !error.is_not_found())
        && !matches!(error, Error::Stopped { .. } | Error::Invalid { .. })
}

impl Run<'_> {
    /// Reads what others published and takes it in.
    pub(super) fn pull(&mut self) -> Result<()> {
        self.read_newest()?;
        self.check_own_floor()?;
        let lamport = |meta: &RemoteMeta| meta.floor.as_ref().map_or(0, |floor| floor.lamport);
        let mut metas: Vec<Arc<RemoteMeta>> = self.known.seen.values().cloned().collect();
        metas.retain(|meta| {
            let refused = self.known.refused.get(&meta.replica);
            self.note.applied.get(&meta.replica) != Some(&meta.number)
                && refused.is_none_or(|(number, _)| *number != meta.number)
        });
        // Who pruned comes first: an empty ledger begins at that floor.
        metas.sort_by_key(|meta| (std::cmp::Reverse(lamport(meta)), meta.replica.clone()));
        if !metas.is_empty() && !self.core.let_go_of_replaced()? {
            // Blocks that count as here may be gone soon: next time.
            let waits = |meta: Arc<RemoteMeta>| (meta.replica.clone(), Core::held_back());
            self.report.refused.extend(metas.into_iter().map(waits));
            return Ok(());
        }
        for meta in metas {
            self.check_attached()?;
            match self.take(&meta) {
                Err(error @ Error::BehindPrune { .. }) => {
                    let refused = (meta.number, error);
                    self.known.refused.insert(meta.replica.clone(), refused);
                }
                Err(error) if is_theirs(&error) => {
                    self.report.refused.push((meta.replica.clone(), error));
                }
                other => other?,
            }
        }
        let refused = self.known.refused.iter();
        let refused = refused.map(|(replica, (_, error))| (replica.clone(), error.clone()));
        self.report.refused.extend(refused);
        Ok(())
    }

    /// Reads the newest meta of each replica, also when they change meanwhile.
    pub(super) fn read_newest(&mut self) -> Result<()> {
        let mut attempt = 1;
        while let Err(error) = self.read_metas() {
            if !is_gone(&error) || attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
        }
        Ok(())
    }

    /// Reads the newest meta of each replica, if it was not read before.
    fn read_metas(&mut self) -> Result<()> {
        let mut found = list_metas(self.blobs)?;
        let own = found.remove(&self.replica);
        if own.is_none() && (self.note.published > 0 || self.known.published.is_some()) {
            self.known.published = None;
            self.known.old.clear();
            self.remains = self.find_remains()?;
        }
        if let Some(own) = own
            && let Some(newest) = self.read_own(&own)?
        {
            // Another ledger uses our name: a copy of this one. What it says is another replica's.
            let taken = std::mem::replace(&mut self.replica, self.core.new_replica()?);
            self.known.published = None;
            self.note.published = 0;
            self.known.old.clear();
            found.insert(taken, BTreeSet::from([newest]));
        }
        self.blind = false;
        self.known.seen.retain(|name, _| found.contains_key(name));
        self.known
            .refused
            .retain(|name, _| found.contains_key(name));
        for (replica, numbers) in found {
            let Some(number) = numbers.last().copied() else {
                continue;
            };
            if self.known.seen.get(&replica).map(|meta| meta.number) == Some(number) {
                continue;
            }
            match self.read_meta(&replica, number) {
                Ok(meta) => {
                    self.known.refused.remove(&replica);
                    self.known.seen.insert(replica, Arc::new(meta));
                }
                Err(error) if is_theirs(&error) && !is_gone(&error) => {
                    self.blind = true;
                    self.known.refused.insert(replica, (number, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_meta(&self, replica: &str, number: u64) -> Result<RemoteMeta> {
        let keys = self.core.store.options.keys.as_deref();
        RemoteMeta::read(self.blobs, replica, number, keys)
    }

    /// Reads our newest meta, and its number if it cannot be ours.
    fn read_own(&mut self, numbers: &BTreeSet<u64>) -> Result<Option<u64>> {
        let Some(newest) = numbers.last().copied() else {
            return Ok(None);
        };
        let now = self.core.store.env.clock.now();
        for number in numbers.iter().filter(|number| **number != newest) {
            self.known.old.entry(*number).or_insert(now);
        }
        if self.known.published.as_ref().map(|meta| meta.number) == Some(newest) {
            return Ok(None);
        }
        match self.read_meta(&self.replica.clone(), newest) {
            Ok(meta) if newest <= self.note.published || self.core.knows_all(&meta.heads)? => {
                self.note.published = newest;
                self.known.published = Some(meta);
                Ok(None)
            }
            Err(error) if !is_theirs(&error) || is_gone(&error) => Err(error),
            _ => Ok(Some(newest)),
        }
    }

    /// Refuses to go on when others pruned what this ledger has not seen.
    fn check_own_floor(&self) -> Result<()> {
        let heads = self.core.view().heads.clone();
        if heads.is_empty() {
            return Ok(());
        }
        // The highest floor decides: whoever set it knows those below.
        let known = self.core.known_floor().map_or(0, |floor| floor.lamport);
        for meta in self.known.seen.values() {
            let done = self.note.applied.get(&meta.replica) == Some(&meta.number);
            let floor = meta.floor.as_ref();
            if let Some(floor) = floor.filter(|floor| !done && floor.lamport >= known) {
                self.core.check_know_floor(&heads, floor)?;
            }
        }
        Ok(())
    }

    /// Takes in what one replica published.
    fn take(&mut self, meta: &RemoteMeta) -> Result<()> {
        let core = self.core;
        let floor_seen = core.store.log.lock().state.floor.clone();
        let learned = self.newer_floor(meta);
        if meta.heads.is_empty() || core.knows_all(&meta.heads)? {
            if let Some(floor) = learned {
                let (key, bytes) = floor_note(&floor)?;
                core.set_note(&key, bytes)?;
            }
            self.note.applied.insert(meta.replica.clone(), meta.number);
            return Ok(());
        }
        self.take_heads(meta, floor_seen, learned)
    }

    fn take_heads(
        &mut self,
        meta: &RemoteMeta,
        floor_seen: Option<Floor>,
        learned: Option<Floor>,
    ) -> Result<()> {
        let core = self.core;
        let wanted = self.missing(&meta.cars)?;
        // Where a floor may refuse the heads, nothing is kept before they are taken.
        let floors = floor_seen.is_some() || core.learned_floor().is_some();
        let mut progress = Progress {
            phase: Phase::Pull,
            cars: 0,
            of_cars: wanted.len(),
            bytes: 0,
        };
        let (mut written, mut tails): (Vec<CarId>, Vec<CarId>) = Default::default();
        let mut cars: Vec<NewCar> = Vec::new();
        let mut waiting = 0;
        let fetched = wanted.iter().try_for_each(|car| -> Result<()> {
            self.check_attached()?;
            let (car, bytes) = self.fetch_or_replacement(car)?;
            progress.cars += 1;
            progress.bytes += bytes.len() as u64;
            waiting += bytes.len() as u64;
            let away = self.stays_away(&car);
            let journaled = !floors && !away && bytes.len() <= SMALL;
            if away {
                tails.push(car.id());
                core.store.env.blobs.put(&tail_name(&car.id()), &bytes)?;
            } else if !journaled {
                written.push(car.id());
                core.store.env.blobs.put(&car_name(&car.id()), &bytes)?;
            }
            if !cars.iter().any(|new| new.car.cid == car.id()) {
                cars.push(NewCar {
                    car: car.car,
                    bytes: journaled.then_some(bytes),
                    sealed: car.sealed,
                    away,
                });
            }
            if !floors && waiting >= KEEP_EVERY {
                waiting = 0;
                self.keep_cars(&mut cars, &floor_seen)?;
            }
            self.at.tell(&progress);
            Ok(())
        });
        let fetched = fetched.and_then(|()| match floors {
            true => Ok(()),
            false => self.keep_cars(&mut cars, &floor_seen),
        });
        let before = self.note.clone();
        self.note.pending.clear();
        self.note.applied.insert(meta.replica.clone(), meta.number);
        let taken = fetched.and_then(|()| {
            let mut notes = vec![self.note.kept(&self.at.remote.name)?];
            notes.extend(learned.as_ref().map(floor_note).transpose()?);
            core.submit(Request::Foreign(Foreign {
                cars,
                heads: meta.heads.clone(),
                floor: meta.floor.clone(),
                notes,
                floor_seen: Some(floor_seen),
            }))
        });
        if let Err(error) = taken {
            self.note = before;
            core.store.delete_unlisted(&written);
            core.store.delete_unlisted_tails(&tails);
            return Err(error);
        }
        self.kept_with_edit();
        self.report.pulled_cars += progress.cars;
        self.report.pulled_bytes += progress.bytes;
        core.upkeep();
        Ok(())
    }

    /// Makes archives part of the log, before the heads that need them.
    fn keep_cars(&mut self, cars: &mut Vec<NewCar>, floor_seen: &Option<Floor>) -> Result<()> {
        if cars.is_empty() {
            return Ok(());
        }
        self.note.pending.extend(cars.iter().map(|new| new.car.cid));
        self.core.submit(Request::Foreign(Foreign {
            cars: std::mem::take(cars),
            notes: vec![self.note.kept(&self.at.remote.name)?],
            floor_seen: Some(floor_seen.clone()),
            ..Foreign::default()
        }))?;
        Ok(())
    }

    /// The floor of a meta when it is above the one that is known, and the meta's heads are above it.
    fn newer_floor(&self, meta: &RemoteMeta) -> Option<Floor> {
        let floor = meta.floor.clone()?;
        let known = self.core.known_floor();
        match known {
            Some(known) if known.lamport >= floor.lamport => None,
            _ => Some(floor),
        }
    }

    /// The archives whose content is not here.
    fn missing(&self, cars: &[RemoteCar]) -> Result<Vec<RemoteCar>> {
        let store = &self.core.store;
        let (live, listed, pruned) = {
            let log = store.log.lock();
            let live: BTreeSet<CarId> = log.state.cars.live().iter().map(|car| car.id).collect();
            let pruned = log.state.floor.is_some();
            (live, log.state.redirects.clone(), pruned)
        };
        let mut wanted: Vec<RemoteCar> = cars.to_vec();
        wanted.retain(|car| !live.contains(&car.id()));
        if !wanted.is_empty() && !listed.is_empty() {
            // What replaced an archive holds all that it did, but for what was pruned; and that is not
            // needed by heads that know the boundary, if it was reached from heads here.
            let names = wanted.iter().map(RemoteCar::id);
            let names = names.filter(|id| !pruned || !self.note.pending.contains(id));
            let names = names.collect();
            let found = store.resolve_all(&names, &live, &listed);
            match found {
                Ok(found) => wanted.retain(|car| !found.contains_key(&car.id())),
                // What is fetched twice does no harm.
                Err(Error::Stale { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let replaced = |car: &RemoteCar| store.log.lock().state.has(&car.id());
        if wanted.iter().any(replaced) {
            // A name is free again once the log says that its file is gone.
            store.collect()?;
            let (key, bytes) = self.note.kept(&self.at.remote.name)?;
            self.core.set_note(&key, bytes)?;
        }
        let mut missing = Vec::with_capacity(wanted.len());
        for car in wanted {
            self.check_attached()?;
            let covered = match self.is_covered(&car) {
                Err(error) if is_gone(&error) => false,
                other => other?,
            };
            if !covered {
                missing.push(car);
            }
        }
        Ok(missing)
    }

    /// True when only the end of an archive is wanted for now.
    pub(super) fn stays_away(&self, car: &RemoteCar) -> bool {
        self.at.fetch() == Fetch::OnDemand && car.car.length > SMALL as u64
    }

    /// An archive, or its end, if that is all that is wanted.
    pub(super) fn fetch_wanted(&self, car: &RemoteCar) -> Result<bytes::Bytes> {
        match self.stays_away(car) {
            true => self.fetch_tail(car),
            false => self.fetch(car),
        }
    }

    /// An archive, or the one that stands in its place where it is gone.
    fn fetch_or_replacement(&self, car: &RemoteCar) -> Result<(RemoteCar, bytes::Bytes)> {
        let error = match self.fetch_wanted(car) {
            Err(error) if is_gone(&error) => error,
            other => return other.map(|bytes| (*car, bytes)),
        };
        for meta in self.known.seen.values() {
            let lead = meta.redirects.iter().find(|(from, _)| *from == car.id());
            if let Some((_, to)) = lead
                && let [one] = &to[..]
                && let Some(found) = meta.cars.iter().find(|other| other.id() == *one)
            {
                return Ok((*found, self.fetch_wanted(found)?));
            }
        }
        Err(error)
    }
}
