//! What a repair asks of a remote: an archive by its name, or those that replaced it. Nothing that comes
//! is trusted, and nothing is written there.

use super::fetch::check;
use super::meta::{RemoteCar, RemoteMeta, list_metas};
use super::pull::is_gone;
use super::{Progress, Remote};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::store::{CarId, CarMeta, Origin, Store, car_name};
use bytes::Bytes;
use siltstone_storage::Wait;
use std::sync::Weak;

/// The attached remotes, for a read that needs an archive that is not here.
pub(crate) struct RemoteOrigin(pub(crate) Weak<Core>);

impl Origin for RemoteOrigin {
    fn archive(&self, id: &CarId, meta: &CarMeta) -> Result<Bytes> {
        let wanted = RemoteCar::of(*id, meta);
        let mut why = "no remote is attached; attach one that has it".to_string();
        let Some(core) = self.0.upgrade() else {
            return Err(Error::Away { car: *id, why });
        };
        for remote in core.remotes.all() {
            let source = Source::new(&core.store, remote);
            match source.foreign(&wanted) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    let name = source.name();
                    why = format!("{name}: {error}. Sync, or try again when it can be reached");
                }
            }
        }
        Err(Error::Away { car: *id, why })
    }
}

/// A remote that archives may be had from.
pub(crate) struct Source<'a> {
    store: &'a Store,
    remote: Remote,
    /// The newest meta of each replica that could be read, once they were asked for.
    metas: Option<Vec<RemoteMeta>>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(store: &'a Store, remote: Remote) -> Self {
        Self {
            store,
            remote,
            metas: None,
        }
    }

    /// Its place, or else its name.
    pub(crate) fn name(&self) -> &str {
        self.remote.place.as_deref().unwrap_or(&self.remote.name)
    }

    pub(crate) fn tell(&self, progress: &Progress) {
        if let Some(told) = &self.remote.progress {
            told(progress);
        }
    }

    /// The bytes of an archive of the log: those that its name is the hash of.
    ///
    /// # Errors
    /// The remote's, also when it has none; [`Error::Corrupt`] when it has other bytes.
    pub(crate) fn archive(&self, car: &RemoteCar) -> Result<Bytes> {
        let name = car_name(&car.id());
        let file = self.remote.blobs.open(&name)?;
        let corrupt = |what: &str| Error::corrupt(format!("{name} of {}", self.name()), what);
        // Before anything of it is in memory.
        if file.size() != car.car.length {
            return Err(corrupt("it is not as long as it was here"));
        }
        let bytes = file.read(0, car.car.length as usize, Wait::Allowed)?;
        match car.id().matches(&bytes) {
            true => Ok(bytes),
            false => Err(corrupt("its bytes do not have the hash of its name")),
        }
    }

    /// An archive that was not part of the log: what its index says is checked too.
    ///
    /// # Errors
    /// As [`Source::archive`].
    pub(crate) fn foreign(&self, car: &RemoteCar) -> Result<Bytes> {
        let bytes = self.archive(car)?;
        check(self.store, car, &bytes)?;
        Ok(bytes)
    }

    /// The archives that together hold what a replaced one held; none when nobody knows of any.
    /// Replicas that pruned what is kept here are not asked.
    ///
    /// # Errors
    /// The remote's.
    pub(crate) fn replacements(&mut self, replaced: &CarId) -> Result<Vec<RemoteCar>> {
        let floor = self.store.log.lock().state.floor.clone();
        let floor = floor.map_or(0, |floor| floor.lamport);
        for meta in self.metas()? {
            if meta
                .floor
                .as_ref()
                .is_some_and(|theirs| theirs.lamport > floor)
            {
                continue;
            }
            let Some((_, to)) = meta.redirects.iter().find(|(from, _)| from == replaced) else {
                continue;
            };
            let named = |id: &CarId| meta.cars.iter().find(|car| car.id() == *id).copied();
            let found: Option<Vec<RemoteCar>> = to.iter().map(named).collect();
            if let Some(found) = found.filter(|found| !found.is_empty()) {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    fn metas(&mut self) -> Result<&[RemoteMeta]> {
        let blobs = &*self.remote.blobs;
        let keys = self.store.options.keys.as_deref();
        if self.metas.is_none() {
            let mut metas = Vec::new();
            for (replica, numbers) in list_metas(blobs)? {
                let Some(newest) = numbers.last() else {
                    continue;
                };
                match RemoteMeta::read(blobs, &replica, *newest, keys) {
                    Ok(meta) => metas.push(meta),
                    // Overtaken meanwhile, or of no use: others may know.
                    Err(error) if is_gone(&error) || !matches!(error, Error::Storage(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            self.metas = Some(metas);
        }
        Ok(self.metas.as_deref().unwrap_or_default())
    }
}
