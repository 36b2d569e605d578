//! Replicas that never come back. What a replica published last pins what it names for as long as it is
//! there, so somebody has to say that it is over: its metas go, and who says it takes its archives over,
//! to be deleted like its own once nobody names them.
//!
//! ```text
//! retired/<replica>/<number>    the meta that was its newest: written before its metas go
//! returning/<replica>           it came back and will publish again: until then nobody deletes an archive
//! ```
//! The order of retiring: our meta covers what it knew; its newest meta is copied; that its archives are
//! ours is durable; its metas go, the newest last. After a crash between any two it is there as before, or
//! is retired by the next attempt.
//!
//! A retired replica that comes back finds its metas gone and publishes a whole one. Where that would name
//! archives that were taken over and that nobody else names, it says so first and waits for a grace: who
//! did not see that is done deleting by then, and who sees it deletes nothing.

use super::meta::{RemoteMeta, list_metas};
use super::push::{Log, names_of};
use super::run::Run;
use super::{Attachment, Inner};
use crate::block::Cid;
use crate::core::clock_text;
use crate::error::{Error, Result};
use crate::store::CarId;
use siltstone_storage::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const RETIRED: &str = "retired/";
const RETURNING: &str = "returning/";

/// How a replica stands in a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is this one.
    Own,
    /// It has published.
    Active,
    /// It was retired and came back, and is about to publish.
    Returning,
    /// It was retired and nothing of it is pinned.
    Retired,
}

/// A replica as a remote knows it.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// How it stands.
    pub standing: Standing,
    /// The number of its newest meta, or of the one that was its newest.
    pub number: u64,
    /// When it published that: milliseconds since 1970 by its own clock.
    pub time: u64,
    /// Its clock then.
    pub heads: Vec<Cid>,
    /// True when all of that is part of the history here.
    pub merged: bool,
    /// Archives that it names, and so keeps.
    pub cars: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Archives that nobody else names.
    pub only_cars: usize,
    /// Their bytes.
    pub only_bytes: u64,
    /// Archives that it names and that are not in the remote.
    pub missing_cars: usize,
    /// Why its meta cannot be read; then nothing is known of it but the number.
    pub unreadable: Option<Error>,
}

/// What retiring a replica did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetireReport {
    /// Metas of it that were deleted.
    pub metas: usize,
    /// Archives that it named and nobody else: they go after the grace, once this replica does not need
    /// them either.
    pub cars: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is lost with it, in words; `None` when all of it is part of the history here.
    pub lost: Option<String>,
}

/// What happens to what a replica published and nobody merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unmerged {
    Keep,
    Lose,
}

impl Attachment {
    /// The replicas that have published in the remote, this one among them, by id. Reads only.
    ///
    /// # Errors
    /// The remote's.
    pub fn replicas(&self) -> Result<Vec<Replica>> {
        self.0.on_remote(|run| run.replicas())
    }

    /// Retires a replica that never comes back: what it published pins nothing any more. Publishes what
    /// is known here first. Should it come back all the same, its next sync publishes anew.
    ///
    /// # Errors
    /// [`Error::Unmerged`] when it published what is not part of the history here; [`Error::Invalid`] for
    /// this replica's own id and for one that the remote does not have; [`Error::Stale`] when it published
    /// meanwhile, and is not gone; the remote's.
    pub fn retire(&self, replica: &str) -> Result<RetireReport> {
        self.0.on_remote(|run| run.retire(replica, Unmerged::Keep))
    }

    /// As [`Attachment::retire`], also when that loses what nobody merged. The report says what.
    ///
    /// # Errors
    /// As [`Attachment::retire`], but for [`Error::Unmerged`].
    pub fn retire_losing(&self, replica: &str) -> Result<RetireReport> {
        self.0.on_remote(|run| run.retire(replica, Unmerged::Lose))
    }
}

impl Inner {
    fn on_remote<T>(&self, work: impl FnOnce(&mut Run<'_>) -> Result<T>) -> Result<T> {
        let mut known = self.known.lock();
        let core = self.core()?;
        let mut run = self.begin(&core, &mut known)?;
        let done = work(&mut run);
        let kept = run.keep();
        let done = done?;
        kept?;
        Ok(done)
    }
}

/// What was left of this replica when it was retired.
#[derive(Debug)]
pub(super) enum Remains {
    /// The meta that was its newest.
    Meta(Box<RemoteMeta>),
    /// It cannot be read; it had this number.
    Unreadable(u64),
}

impl Remains {
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Meta(meta) => meta.number,
            Self::Unreadable(number) => *number,
        }
    }

    /// Whether an archive was taken over by who retired it.
    fn took(&self, id: &CarId) -> bool {
        match self {
            Self::Meta(meta) => archives_of(meta).any(|car| car == *id),
            Self::Unreadable(_) => true,
        }
    }
}

/// The archives that a meta speaks of: those that it names, and those that these replaced.
fn archives_of(meta: &RemoteMeta) -> impl Iterator<Item = CarId> + '_ {
    let named = meta.cars.iter().map(|car| car.id());
    named.chain(meta.redirects.iter().map(|(from, _)| *from))
}

fn retired_name(replica: &str, number: u64) -> String {
    format!("{RETIRED}{replica}/{number:020}")
}

fn returning_name(replica: &str) -> String {
    format!("{RETURNING}{replica}")
}

/// The replicas that were retired, each with the number that was its newest.
fn list_retired(run: &Run<'_>, prefix: &str) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for blob in run.blobs.list(prefix)? {
        let named = blob.name.strip_prefix(RETIRED);
        let named = named.and_then(|name| name.split_once('/'));
        if let Some((replica, number)) = named
            && let Ok(number) = number.parse::<u64>()
        {
            let newest = found.entry(replica.to_string()).or_insert(number);
            *newest = number.max(*newest);
        }
    }
    Ok(found)
}

impl Run<'_> {
    /// True when all that a meta names as its clock is part of the history here.
    fn is_merged(&self, meta: &RemoteMeta) -> Result<bool> {
        if self.note.applied.get(&meta.replica) == Some(&meta.number) {
            return Ok(true);
        }
        self.core.knows_all(&meta.heads)
    }

    fn replicas(&mut self) -> Result<Vec<Replica>> {
        self.read_newest()?;
        self.list_cars()?;
        let mut metas: Vec<Arc<RemoteMeta>> = self.known.seen.values().cloned().collect();
        metas.extend(self.known.published.clone().map(Arc::new));
        let mut named: BTreeMap<CarId, usize> = BTreeMap::new();
        for car in metas.iter().flat_map(|meta| &meta.cars) {
            *named.entry(car.id()).or_default() += 1;
        }
        let mut found = BTreeMap::new();
        for meta in &metas {
            let only = meta.cars.iter().filter(|car| named[&car.id()] == 1);
            let missing = |id: &CarId| !self.listed.contains_key(id);
            let replica = Replica {
                id: meta.replica.clone(),
                standing: match meta.replica == self.replica {
                    true => Standing::Own,
                    false => Standing::Active,
                },
                number: meta.number,
                time: meta.time,
                heads: meta.heads.clone(),
                merged: self.is_merged(meta)?,
                cars: meta.cars.len(),
                bytes: meta.cars.iter().map(|car| car.car.length).sum(),
                only_cars: only.clone().count(),
                only_bytes: only.map(|car| car.car.length).sum(),
                missing_cars: meta.cars.iter().filter(|car| missing(&car.id())).count(),
                unreadable: None,
            };
            found.insert(replica.id.clone(), replica);
        }
        let bare = |id: &str, standing, number| Replica {
            id: id.to_string(),
            standing,
            number,
            time: 0,
            heads: Vec::new(),
            merged: false,
            cars: 0,
            bytes: 0,
            only_cars: 0,
            only_bytes: 0,
            missing_cars: 0,
            unreadable: None,
        };
        // Of one whose newest meta could not be read an older one may be known.
        for (id, (number, error)) in &self.known.refused {
            if found.get(id).is_none_or(|known| known.number != *number) {
                let mut replica = bare(id, Standing::Active, *number);
                replica.unreadable = Some(error.clone());
                found.insert(id.clone(), replica);
            }
        }
        let returning = self.returning()?;
        for (id, number) in list_retired(self, RETIRED)? {
            let standing = match returning.contains(&id) {
                true => Standing::Returning,
                false => Standing::Retired,
            };
            found
                .entry(id.clone())
                .or_insert_with(|| bare(&id, standing, number));
        }
        Ok(found.into_values().collect())
    }

    fn retire(&mut self, replica: &str, unmerged: Unmerged) -> Result<RetireReport> {
        self.read_newest()?;
        if replica == self.replica {
            return Err(Error::invalid(
                "this replica cannot retire itself; it may be retired from another one",
            ));
        }
        let listed = list_metas(self.blobs)?;
        let numbers = listed.get(replica).cloned().unwrap_or_default();
        let Some(newest) = numbers.last().copied() else {
            return self.retire_without_meta(replica, &listed.into_keys().collect());
        };
        let meta = self.known.seen.get(replica).cloned();
        let meta = meta.filter(|meta| meta.number == newest);
        let lost = self.lost(replica, newest, meta.as_deref())?;
        match (&lost, unmerged) {
            (Some(what), Unmerged::Keep) => {
                return Err(Error::Unmerged {
                    replica: replica.to_string(),
                    what: what.clone(),
                });
            }
            // Who joins later has it from us.
            (None, _) => self.push_all()?,
            (Some(_), Unmerged::Lose) => {}
        }
        let mut report = RetireReport {
            metas: numbers.len(),
            lost,
            ..RetireReport::default()
        };
        let name = super::meta::meta_name(replica, newest);
        let bytes = match self.blobs.get(&name) {
            Err(error) if error.is_not_found() => return Err(changed(replica)),
            other => other?,
        };
        self.blobs.put(&retired_name(replica, newest), &bytes)?;
        if let Some(meta) = &meta {
            (report.cars, report.bytes) = self.only_of(meta);
            for car in archives_of(meta) {
                self.note.own.insert(car, None);
            }
            self.keep()?;
        }
        for number in &numbers {
            let name = super::meta::meta_name(replica, *number);
            self.blobs.delete(&name)?;
        }
        self.known.seen.remove(replica);
        self.known.refused.remove(replica);
        if list_metas(self.blobs)?.contains_key(replica) {
            return Err(changed(replica));
        }
        self.blobs.delete(&returning_name(replica))?;
        Ok(report)
    }

    /// One that came back and went again before it published: nothing keeps archives for it any more.
    fn retire_without_meta(
        &mut self,
        replica: &str,
        known: &BTreeSet<String>,
    ) -> Result<RetireReport> {
        if !self.returning()?.contains(replica)
            && !list_retired(self, RETIRED)?.contains_key(replica)
        {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            return Err(Error::invalid(format!(
                "the remote has no replica {replica:?}; it has {}",
                known.join(", ")
            )));
        }
        self.blobs.delete(&returning_name(replica))?;
        Ok(RetireReport::default())
    }

    /// What goes with a replica, in words.
    fn lost(
        &self,
        replica: &str,
        newest: u64,
        meta: Option<&RemoteMeta>,
    ) -> Result<Option<String>> {
        let Some(meta) = meta else {
            let why = self.known.refused.get(replica);
            let why = why.map_or_else(String::new, |(_, error)| format!(": {error}"));
            return Ok(Some(format!(
                "whatever its meta {newest} names, which cannot be read{why}"
            )));
        };
        if self.is_merged(meta)? {
            return Ok(None);
        }
        let (cars, bytes) = self.only_of(meta);
        let heads = clock_text(&meta.heads);
        Ok(Some(format!(
            "what leads to {heads}, with {cars} archives ({bytes} bytes) that no other replica names"
        )))
    }

    /// Archives that no other replica names, and their bytes.
    fn only_of(&self, meta: &RemoteMeta) -> (usize, u64) {
        let others = self.known.seen.values().map(|meta| &**meta);
        let others = others.chain(self.known.published.as_ref());
        let others = others.filter(|other| other.replica != meta.replica);
        let named: BTreeSet<CarId> = others
            .flat_map(|other| other.cars.iter().map(|car| car.id()))
            .collect();
        let only = meta.cars.iter().filter(|car| !named.contains(&car.id()));
        only.fold((0, 0), |(cars, bytes), car| {
            (cars + 1, bytes + car.car.length)
        })
    }

    /// Publishes all that is known here.
    fn push_all(&mut self) -> Result<()> {
        self.push()?;
        let heads = self.core.view().heads.clone();
        let covered = self.known.published.as_ref();
        match covered.is_some_and(|meta| meta.heads == heads) {
            true => Ok(()),
            false => Err(Error::Stale {
                what: "what is known here was not published yet; sync first".into(),
            }),
        }
    }

    /// The replicas that came back and did not publish yet.
    fn returning(&self) -> Result<BTreeSet<String>> {
        let blobs = self.blobs.list(RETURNING)?.into_iter();
        let names = blobs.filter_map(|blob| Some(blob.name.strip_prefix(RETURNING)?.to_string()));
        Ok(names.collect())
    }

    /// True when somebody is about to name archives that nobody names now.
    pub(super) fn somebody_returns(&self) -> Result<bool> {
        Ok(self.returning()?.iter().any(|id| *id != self.replica))
    }

    /// Our metas are gone that we published: what was left when we were retired, if we were.
    pub(super) fn find_remains(&self) -> Result<Option<Remains>> {
        let prefix = format!("{RETIRED}{}/", self.replica);
        let Some(number) = list_retired(self, &prefix)?.remove(&self.replica) else {
            return Ok(None);
        };
        let bytes = self.blobs.get(&retired_name(&self.replica, number))?;
        let keys = self.core.store.options.keys.as_deref();
        Ok(Some(
            match RemoteMeta::decode(&self.replica, number, &bytes, keys) {
                Ok(meta) => Remains::Meta(Box::new(meta)),
                Err(_) => Remains::Unreadable(number),
            },
        ))
    }

    /// True when we were retired and cannot publish yet. Says that we are about to, the first time.
    pub(super) fn waits_to_return(&mut self, log: &Log, now: Timestamp) -> Result<bool> {
        let Some(remains) = &self.remains else {
            return Ok(false);
        };
        let named = self.named_by_others();
        let at_risk = log
            .live
            .iter()
            .flat_map(|car| names_of(&self.note, car))
            .any(|car| remains.took(&car.id()) && !named.contains_key(&car.id()));
        if !at_risk {
            return Ok(false);
        }
        let grace = self.at.remote.grace;
        let since = match self.core.returning_since(&self.at.remote.name)? {
            Some(since) => since,
            None => {
                let name = returning_name(&self.replica);
                self.blobs.put(&name, self.replica.as_bytes())?;
                // Durable in the remote before the wait begins.
                let since = self.core.store.env.clock.now();
                self.core
                    .keep_returning(&self.at.remote.name, Some(since))?;
                since
            }
        };
        if now.since(since) >= grace {
            return Ok(false);
        }
        self.report.publishes_from = Some(since.after(grace));
        Ok(true)
    }

    /// We have published again: nobody has to wait for it.
    pub(super) fn end_return(&mut self) -> Result<()> {
        let remote = &self.at.remote.name;
        if self.known.published.is_some() && self.core.returning_since(remote)?.is_some() {
            self.blobs.delete(&returning_name(&self.replica))?;
            self.core.keep_returning(remote, None)?;
        }
        Ok(())
    }
}

fn changed(replica: &str) -> Error {
    Error::Stale {
        what: format!("replica {replica} published while it was being retired: it is not gone"),
    }
}
