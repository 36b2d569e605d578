//! A ledger held still, whoever has it open, to be copied or checked without its keys: for backups and
//! clones of whole databases. Every archive is checked by its hash on its way, so damage is never copied.
//!
//! A backup of a ledger lies below a folder of its own in a repository:
//!
//! ```text
//! car/<cid>.car               the archives of all backups, each once
//! away/<cid>.tail             the ends of archives that are in a remote only
//! backup/<number>.ledger      magic "SILTLBKP", format u32 (1), crc64 of the rest; postcard: the state as a
//!                             manifest has it, and the redirect files (number, bytes)
//! ```

use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::names::check_name;
use crate::snapshot::Snapshot;
use crate::store::{
    CarId, CarMeta, Location, RedirectFile, ScopedBlobs, State, car_name, checksum,
    decode_redirects, journal_name, read_state, tail_name,
};
use crate::verify::check_bytes;
use bytes::Bytes;
use siltstone_storage::{Blobs, Caching, Env, ManifestState, ManifestStore, Wait};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"SILTLBKP";
const FORMAT: u32 = 1;
const HEADER: usize = 20;
/// How often it begins anew when redirect files are merged meanwhile.
const ATTEMPTS: u32 = 4;

/// What a copy took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyStats {
    /// Archives copied.
    pub copied: u64,
    /// Archives that were there already.
    pub kept: u64,
    /// Bytes copied.
    pub bytes: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct HeldReport {
    /// Archives read.
    pub archives: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Error>,
}

/// A ledger held still.
#[derive(Debug)]
pub struct Held {
    blobs: Arc<dyn Blobs>,
    state: State,
    /// The redirect files, by number.
    redirects: BTreeMap<u64, Bytes>,
    /// Of the files of a ledger that somebody may be writing: to look again.
    live: Option<Env>,
    _pinned: Option<Snapshot>,
}

impl Ledger {
    /// Holds the ledger as it is now, until that is dropped. Writes go on.
    ///
    /// # Errors
    /// The store's; damage in a redirect file.
    pub fn hold(&self) -> Result<Held> {
        let store = &self.core().store;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let pinned = self.snapshot();
            let state = store.log.lock().state.clone();
            match read_redirects(&*store.env.blobs, &state) {
                Err(error) if is_gone(&error) && attempts < ATTEMPTS => {}
                redirects => {
                    return Ok(Held {
                        blobs: past_disk_cache(&store.env.blobs),
                        redirects: redirects?,
                        state,
                        live: None,
                        _pinned: Some(pinned),
                    });
                }
            }
        }
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Storage(error) if error.is_not_found())
}

fn read_redirects(blobs: &dyn Blobs, state: &State) -> Result<BTreeMap<u64, Bytes>> {
    let read = |file: &RedirectFile| {
        let bytes = blobs.get(&file.name())?;
        decode_redirects(&file.name(), &bytes)?;
        Ok((file.number, bytes))
    };
    state.redirects.iter().map(read).collect()
}

/// What is checked and copied is the store, not a copy of it on a local disk.
fn past_disk_cache(blobs: &Arc<dyn Blobs>) -> Arc<dyn Blobs> {
    let past = blobs.caching(Caching::Past);
    past.unwrap_or_else(|| blobs.clone())
}

fn scope(blobs: Arc<dyn Blobs>, name: &str) -> Result<Arc<dyn Blobs>> {
    check_name(name)?;
    Ok(Arc::new(ScopedBlobs::new(blobs, &format!("ledger/{name}"))))
}

fn record_name(number: u64) -> String {
    format!("backup/{number:020}.ledger")
}

/// The number of a backup by the name of its record.
fn record_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("backup/")?.strip_suffix(".ledger")?;
    number.parse().ok()
}

impl Held {
    /// Ledger `name` of a database by its files, without opening it; `None` when there is none. To copy it
    /// the caller sees to it that nobody opens it meanwhile; a check takes note of what is replaced.
    ///
    /// # Errors
    /// The store's, damage in manifest, journal or redirect files.
    pub fn of_files(mut env: Env, name: &str) -> Result<Option<Self>> {
        env.blobs = scope(env.blobs, name)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Some(state) = read_state(&env)? else {
                return Ok(None);
            };
            match read_redirects(&*env.blobs, &state) {
                Err(error) if is_gone(&error) && attempts < ATTEMPTS => {}
                redirects => {
                    return Ok(Some(Self {
                        blobs: past_disk_cache(&env.blobs),
                        redirects: redirects?,
                        state,
                        live: Some(env),
                        _pinned: None,
                    }));
                }
            }
        }
    }

    /// Ledger `name` as backup `number` of a repository has it; `None` when it has none.
    ///
    /// # Errors
    /// The store's; damage in the backup's record.
    pub fn of_backup(repository: Arc<dyn Blobs>, name: &str, number: u64) -> Result<Option<Self>> {
        let blobs = scope(repository, name)?;
        let record = record_name(number);
        let bytes = match blobs.get(&record) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let (state, redirects) = decode(&record, &bytes)?;
        Ok(Some(Self {
            blobs,
            redirects,
            state,
            live: None,
            _pinned: None,
        }))
    }

    /// The numbers of the backups of ledger `name` in a repository.
    ///
    /// # Errors
    /// The store's.
    pub fn backups(repository: Arc<dyn Blobs>, name: &str) -> Result<BTreeSet<u64>> {
        let listed = scope(repository, name)?.list("backup/")?;
        Ok(listed
            .iter()
            .filter_map(|b| record_number(&b.name))
            .collect())
    }

    /// Copies it into a repository as backup `number`: what is not there, and the record last.
    ///
    /// # Errors
    /// The stores'; [`Error::Corrupt`] for damage, which is not copied.
    pub fn back_up(
        &self,
        repository: Arc<dyn Blobs>,
        name: &str,
        number: u64,
    ) -> Result<CopyStats> {
        let to = scope(repository, name)?;
        let stats = self.copy_archives(&*to)?;
        let state = ManifestState::encode(&self.state.clone().in_files());
        let body = postcard::to_stdvec(&(state, &self.redirects_in_order()));
        let body = body.map_err(|e| Error::invalid(format!("a backup cannot be written: {e}")))?;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&checksum(&[&body]).to_le_bytes());
        out.extend_from_slice(&body);
        to.put(&record_name(number), &out)?;
        Ok(stats)
    }

    /// Deletes backup `number` of ledger `name`, and the archives that no other backup of it needs. Bytes
    /// freed. No backup of it may be being made.
    ///
    /// # Errors
    /// The store's; damage in the record of another backup: then nothing is deleted.
    pub fn remove_backup(repository: Arc<dyn Blobs>, name: &str, number: u64) -> Result<u64> {
        let mut needed = BTreeSet::new();
        for other in Self::backups(repository.clone(), name)? {
            if other != number
                && let Some(held) = Self::of_backup(repository.clone(), name, other)?
            {
                let live = held.state.cars.live().iter();
                needed.extend(live.flat_map(|car| [car_name(&car.id), tail_name(&car.id)]));
            }
        }
        let blobs = scope(repository, name)?;
        // First the record, so that none ever names what is gone.
        blobs.delete(&record_name(number))?;
        let mut freed = 0;
        for blob in blobs.list("car/")?.into_iter().chain(blobs.list("away/")?) {
            if !needed.contains(&blob.name) {
                blobs.delete(&blob.name)?;
                freed += blob.size;
            }
        }
        Ok(freed)
    }

    /// Makes ledger `name` of it in the store of `to`, which has none of that name. Indexes are not copied:
    /// they are built anew.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is one; the stores'; [`Error::Corrupt`] for damage. After an error
    /// there is none.
    pub fn copy_to(&self, mut to: Env, name: &str) -> Result<CopyStats> {
        to.blobs = scope(to.blobs, name)?;
        if !to.blobs.list("manifest/")?.is_empty() {
            return Err(Error::invalid(format!(
                "there is a ledger {name:?} in {} already",
                to.blobs.describe()
            )));
        }
        let stats = self.copy_archives(&*to.blobs)?;
        for (number, bytes) in &self.redirects {
            let file = self
                .state
                .redirects
                .iter()
                .find(|file| file.number == *number);
            if let Some(file) = file {
                to.blobs.put(&file.name(), bytes)?;
            }
        }
        ManifestStore::publish(to, 0, self.state.clone().in_files())?;
        Ok(stats)
    }

    /// Reads every archive and checks it by its hashes.
    ///
    /// # Errors
    /// Only when the check itself cannot be made; damage is in the report.
    pub fn verify(&self) -> Result<HeldReport> {
        let mut report = HeldReport::default();
        for car in self.state.cars.live() {
            let checked = match self.read(&car.id, &car.meta) {
                Ok(None) => self
                    .blobs
                    .open(&tail_name(&car.id))
                    .map(drop)
                    .map_err(Error::from),
                Ok(Some(bytes)) => {
                    report.archives += 1;
                    report.bytes += bytes.len() as u64;
                    check_bytes(&car.id, bytes).map(drop)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = checked
                && !self.was_replaced(&car.id)?
            {
                report.problems.push(error);
            }
        }
        Ok(report)
    }

    /// True when a writer replaced an archive since it was held.
    fn was_replaced(&self, id: &CarId) -> Result<bool> {
        let Some(env) = &self.live else {
            return Ok(false);
        };
        let now = read_state(env)?;
        Ok(now.is_none_or(|state| state.cars.get(id).is_none()))
    }

    /// Copies the archives that are not there. One of the right size is: its name is its hash.
    fn copy_archives(&self, to: &dyn Blobs) -> Result<CopyStats> {
        let there = to.list("car/")?.into_iter();
        let there: BTreeMap<String, u64> = there.map(|blob| (blob.name, blob.size)).collect();
        let mut stats = CopyStats::default();
        for car in self.state.cars.live() {
            let name = car_name(&car.id);
            if there.get(&name) == Some(&car.meta.bytes) {
                stats.kept += 1;
                continue;
            }
            let tail = match car.meta.location {
                Location::Away => self.blobs.get(&tail_name(&car.id)),
                _ => Ok(Bytes::new()),
            };
            let whole = self.read(&car.id, &car.meta)?;
            // Of one that was fetched the end is not needed, and may be gone.
            if car.meta.location == Location::Away && (whole.is_none() || tail.is_ok()) {
                let tail = tail?;
                to.put(&tail_name(&car.id), &tail)?;
                stats.bytes += tail.len() as u64;
            }
            if let Some(bytes) = whole {
                check_bytes(&car.id, bytes.clone())?;
                to.put(&name, &bytes)?;
                stats.bytes += bytes.len() as u64;
            }
            stats.copied += 1;
        }
        Ok(stats)
    }

    /// The bytes of an archive, unchecked; `None` when it is in a remote only.
    fn read(&self, id: &CarId, meta: &CarMeta) -> Result<Option<Bytes>> {
        let len = meta.bytes as usize;
        match meta.location {
            Location::Journal { number, offset } => {
                let file = self.blobs.open(&journal_name(number))?;
                Ok(Some(file.read(offset, len, Wait::Allowed)?))
            }
            Location::File => {
                let file = self.blobs.open(&car_name(id))?;
                match file.size() == meta.bytes {
                    true => Ok(Some(file.read(0, len, Wait::Allowed)?)),
                    false => Err(Error::corrupt(
                        format!("CAR {id}"),
                        format!(
                            "it has {} bytes and should have {}",
                            file.size(),
                            meta.bytes
                        ),
                    )),
                }
            }
            Location::Away => match self.blobs.open(&car_name(id)) {
                Ok(file) if file.size() == meta.bytes => {
                    Ok(Some(file.read(0, len, Wait::Allowed)?))
                }
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(None),
            },
        }
    }

    fn redirects_in_order(&self) -> Vec<(u64, &[u8])> {
        let files = self.redirects.iter();
        files.map(|(number, bytes)| (*number, &bytes[..])).collect()
    }
}

/// What the record of a backup says.
fn decode(name: &str, bytes: &[u8]) -> Result<(State, BTreeMap<u64, Bytes>)> {
    let corrupt = |what: &str| Error::corrupt(name, what);
    if bytes.len() < HEADER || &bytes[..8] != MAGIC {
        return Err(corrupt("it is not a backup of a ledger"));
    }
    let body = &bytes[HEADER..];
    if checksum(&[body]).to_le_bytes() != bytes[12..HEADER] {
        return Err(corrupt("its checksum does not match"));
    }
    let found = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if found == 0 {
        return Err(corrupt("it has no format version"));
    }
    if found > FORMAT {
        return Err(Error::NewerFormat {
            place: name.into(),
            found: u64::from(found),
            supported: u64::from(FORMAT),
        });
    }
    let decoded = postcard::from_bytes::<(Vec<u8>, Vec<(u64, Vec<u8>)>)>(body);
    let (state, redirects) = decoded.map_err(|error| corrupt(&error.to_string()))?;
    let state = State::decode(&state).map_err(|what| corrupt(&what))?;
    let redirects = redirects.into_iter();
    let redirects = redirects.map(|(number, bytes)| (number, Bytes::from(bytes)));
    Ok((state, redirects.collect()))
}
