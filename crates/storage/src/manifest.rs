//! The numbered file that makes a decision durable.
//!
//! Every version of the state is one whole blob, `manifest/<20 digits>.manifest`, created
//! put-if-absent; the newest number wins. An edit that lost the race for a number is applied again
//! to what won. A writer raises the **epoch** when it opens, and stops when it meets a higher one.
//! Each manifest lists the attempts that made the ones before it, so that a writer that was overtaken
//! right after it won knows that it won, and one that won a number which had been swept long before
//! knows that it did not (`docs/file-formats.md`).

pub(crate) mod charge;

use crate::blobs::{PutOutcome, StoreKind};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::probe::forget_standing;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;

const PREFIX: &str = "manifest/";
const SUFFIX: &str = ".manifest";
const MAGIC: &[u8; 8] = b"SILTMANI";
const FORMAT: u32 = 1;
const HEADER: usize = 8 + 4 + 8 * 4 + 4;
/// How many predecessors' attempts a manifest lists.
const ANCESTORS: usize = 32;
const CHECKSUM: usize = 8;
const PUT_ATTEMPTS: u32 = 3;
const KEEP_OLD: u64 = 1;

/// A state that a manifest can hold.
pub trait ManifestState: Clone + Send + Sync + 'static {
    /// The state as bytes.
    fn encode(&self) -> Vec<u8>;

    /// The state from bytes, or what is wrong with them.
    ///
    /// # Errors
    /// A sentence for the user; never a panic, whatever the bytes.
    fn decode(bytes: &[u8]) -> Result<Self, String>;

    /// The state that a writer which takes charge goes on with: without what its predecessor left
    /// under way.
    #[must_use]
    fn taken_over(&self) -> Self {
        self.clone()
    }
}

/// A state with the number and the epoch it was written under.
#[derive(Debug, Clone)]
pub struct Numbered<S> {
    /// The manifest's number; 0 before the first one.
    pub number: u64,
    /// The epoch of the writer in charge.
    pub epoch: u64,
    /// The state.
    pub state: S,
    /// The attempt that wrote it, then those that wrote its predecessors, newest first.
    attempts: Vec<u64>,
}

impl<S> Numbered<S> {
    /// The attempt that wrote the predecessor `number` of this manifest, if it is still listed.
    fn attempt_of(&self, number: u64) -> Option<u64> {
        let back = usize::try_from(self.number.checked_sub(number)?).ok()?;
        self.attempts.get(back).copied()
    }
}

/// What a process may do with the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one writer in charge: raises the epoch at open, is fenced by a higher one.
    Writer,
    /// Another process that makes edits (a checkpoint, a compaction) without taking charge.
    Helper,
    /// Reads only.
    Reader,
}

/// The manifests of one database.
#[derive(Debug)]
pub struct ManifestStore<S> {
    env: Env,
    role: Role,
    epoch: u64,
    writer: u64,
    committing: Mutex<()>,
    current: RwLock<Arc<Numbered<S>>>,
}

/// The name of manifest `number`.
pub fn manifest_name(number: u64) -> String {
    format!("{PREFIX}{number:020}{SUFFIX}")
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

impl<S: ManifestState> ManifestStore<S> {
    /// Opens the newest manifest. A writer raises the epoch, which fences every earlier writer;
    /// where there is no manifest yet it creates one from `first`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no database and this is not a writer; [`Error::Corrupt`]
    /// and [`Error::NewerFormat`] for the newest manifest (an older one is never used instead).
    pub fn open(env: Env, role: Role, first: impl FnOnce() -> S) -> Result<Self> {
        let mut store = Self::look(env, role, first, || {})?;
        if role == Role::Writer {
            while !store.try_take_charge()? {}
        }
        Ok(store)
    }

    /// As [`ManifestStore::open`] for the one writer that there can be, as whoever holds the lock of a
    /// folder is: it has its epoch at once, and where there is a manifest already, the one that says
    /// so is left to [`ManifestStore::take_charge`]. Nothing may be written or named before.
    ///
    /// # Errors
    /// As [`ManifestStore::open`].
    pub fn open_alone(env: Env, first: impl FnOnce() -> S) -> Result<Self> {
        let mut store = Self::look(env, Role::Writer, first, || {})?;
        let found = store.current();
        if found.number == 0 {
            while !store.try_take_charge()? {}
            return Ok(store);
        }
        store.epoch = found.epoch + 1;
        *store.current.write() = Arc::new(Numbered {
            number: found.number,
            epoch: found.epoch,
            state: found.state.taken_over(),
            attempts: found.attempts.clone(),
        });
        Ok(store)
    }

    /// True until the epoch of a writer that was [opened alone](ManifestStore::open_alone) is in a
    /// manifest.
    pub fn owes_charge(&self) -> bool {
        self.role == Role::Writer && self.current().epoch < self.epoch
    }

    /// Writes the manifest that [`ManifestStore::open_alone`] owes. What helpers edited since it was
    /// opened is then in the current state.
    ///
    /// # Errors
    /// [`Error::Fenced`] when there was another writer after all; those of [`ManifestStore::commit`].
    pub fn take_charge(&self) -> Result<()> {
        let _one_at_a_time = self.committing.lock();
        loop {
            let base = self.current();
            if base.epoch >= self.epoch {
                return Err(Error::Fenced {
                    ours: self.epoch,
                    theirs: base.epoch,
                });
            }
            let state = base.state.taken_over();
            if self.try_put(&base, self.epoch, state)?.is_some() {
                return Ok(());
            }
        }
    }

    /// As [`ManifestStore::open`], but a writer is not in charge yet: see [`Charge`](charge::Charge).
    /// `meanwhile` runs when the manifests are listed and before the newest is read, so that other
    /// requests can be under way with it.
    ///
    /// # Errors
    /// As [`ManifestStore::open`].
    pub fn look(
        env: Env,
        role: Role,
        first: impl FnOnce() -> S,
        meanwhile: impl FnOnce(),
    ) -> Result<Self> {
        let found = load_latest(&env, meanwhile)?;
        if found.is_none() && role != Role::Writer {
            return Err(Error::NotFound {
                name: PREFIX.into(),
                store: env.blobs.describe(),
            });
        }
        let found = found.unwrap_or_else(|| Numbered {
            number: 0,
            epoch: 0,
            state: first(),
            attempts: Vec::new(),
        });
        let writer = env.rng.next();
        Ok(Self {
            epoch: found.epoch,
            env,
            role,
            writer,
            committing: Mutex::new(()),
            current: RwLock::new(Arc::new(found)),
        })
    }

    /// Makes `state` the newest one of a store that nobody writes to, a backup, with an epoch that is
    /// not below `epoch`: names that carry epochs then stay unique when it is opened as a database.
    ///
    /// # Errors
    /// The store's, and what is wrong with a manifest that is there.
    pub fn publish(env: Env, epoch: u64, state: S) -> Result<()> {
        // What is made here must not be taken for what was here before.
        forget_standing(&*env.blobs)?;
        let store = Self::open(env, Role::Writer, || state.clone())?;
        loop {
            let base = store.current();
            let epoch = base.epoch.max(epoch);
            if store.try_put(&base, epoch, state.clone())?.is_some() {
                store.sweep(&[])?;
                return Ok(());
            }
        }
    }

    /// The epoch this handle works under.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest state this handle knows.
    pub fn current(&self) -> Arc<Numbered<S>> {
        self.current.read().clone()
    }

    /// Reads the newest manifest from the store.
    ///
    /// # Errors
    /// As [`ManifestStore::open`]; [`Error::Fenced`] for a writer that was replaced.
    pub fn refresh(&self) -> Result<Arc<Numbered<S>>> {
        let known = self.current();
        let Some(number) = latest_number(&self.env)? else {
            return Err(Error::NotFound {
                name: PREFIX.into(),
                store: self.env.blobs.describe(),
            });
        };
        if number <= known.number {
            return Ok(known);
        }
        match load_latest(&self.env, || {})? {
            Some(newer) => {
                self.check_fence(newer.epoch)?;
                Ok(self.move_to(Arc::new(newer)))
            }
            None => Ok(known),
        }
    }

    /// Makes `newer` the current one, unless one that is newer yet was found meanwhile. Answers the
    /// current one.
    fn move_to(&self, newer: Arc<Numbered<S>>) -> Arc<Numbered<S>> {
        let mut current = self.current.write();
        if current.number < newer.number {
            *current = newer;
        }
        current.clone()
    }

    /// Applies `edit` to the newest state and makes the result durable. `edit` runs again on what
    /// won whenever another process was quicker, so it must only depend on its argument.
    ///
    /// # Errors
    /// What `edit` refuses with; [`Error::Fenced`]; an I/O error, after which the edit has not
    /// happened; [`Error::Io`] with the operation `commit manifest (outcome unknown)` when the store
    /// could not say, after which this handle must be given up and the database reopened.
    pub fn commit<E: From<Error>>(
        &self,
        mut edit: impl FnMut(&S) -> Result<S, E>,
    ) -> Result<Arc<Numbered<S>>, E> {
        let _one_at_a_time = self.committing.lock();
        loop {
            let base = self.current();
            self.check_fence(base.epoch)?;
            let epoch = base.epoch.max(self.epoch);
            let state = edit(&base.state)?;
            if let Some(won) = self.try_put(&base, epoch, state)? {
                return Ok(won);
            }
        }
    }

    /// Deletes manifests older than the current one, except the `pinned` numbers and one
    /// predecessor. Returns the numbers that remain.
    ///
    /// # Errors
    /// The store's.
    pub fn sweep(&self, pinned: &[u64]) -> Result<Vec<u64>> {
        let current = self.current().number;
        let mut remaining = Vec::new();
        for name in self.env.blobs.names(PREFIX)? {
            let Some(number) = number_of(&name) else {
                continue;
            };
            if number + KEEP_OLD >= current || pinned.contains(&number) {
                remaining.push(number);
            } else {
                self.env.blobs.delete(&name)?;
            }
        }
        Ok(remaining)
    }

    /// Reads manifest `number`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it was swept.
    pub fn load(&self, number: u64) -> Result<Numbered<S>> {
        load(&self.env, number)
    }

    /// Raises the epoch. False when somebody else made the next manifest; it is then the current one.
    fn try_take_charge(&mut self) -> Result<bool> {
        let base = self.current();
        let epoch = base.epoch + 1;
        let won = self.try_put(&base, epoch, base.state.taken_over())?;
        if won.is_some() {
            self.epoch = epoch;
        }
        Ok(won.is_some())
    }

    fn check_fence(&self, found: u64) -> Result<()> {
        if self.role == Role::Writer && found > self.epoch {
            return Err(Error::Fenced {
                ours: self.epoch,
                theirs: found,
            });
        }
        Ok(())
    }

    /// Tries for the next number; `None` when it was taken, with `current` moved to what won.
    fn try_put(
        &self,
        base: &Numbered<S>,
        epoch: u64,
        state: S,
    ) -> Result<Option<Arc<Numbered<S>>>> {
        let number = base.number + 1;
        let name = manifest_name(number);
        let mut attempts = vec![self.env.rng.next()];
        attempts.extend(base.attempts.iter().take(ANCESTORS));
        let bytes = encode(number, epoch, self.writer, &attempts, &state.encode());
        let first = self.env.blobs.put_if_absent(&name, &bytes);
        let created = self.settle_put(&name, &bytes, first)?;
        let newest = match latest_number(&self.env) {
            Ok(newest) => newest.unwrap_or(0),
            Err(error) if created => self.newest_after(&name, &error)?,
            Err(error) => return Err(error),
        };
        if created && newest <= number {
            let won = Arc::new(Numbered {
                number,
                epoch,
                state,
                attempts,
            });
            self.move_to(won.clone());
            return Ok(Some(won));
        }
        let newer = load_latest(&self.env, || {}).and_then(|newer| {
            newer.ok_or_else(|| Error::NotFound {
                name: name.clone(),
                store: self.env.blobs.describe(),
            })
        });
        let newer = Arc::new(newer.map_err(|error| match created {
            true => unknown_outcome(&name, &error.to_string()),
            false => error,
        })?);
        self.move_to(newer.clone());
        if !created {
            return Ok(None);
        }
        // Somebody was here since. Either it built on this manifest, or the number had been swept
        // and this manifest was never anybody's predecessor.
        match newer.attempt_of(number) {
            Some(theirs) if theirs == attempts[0] => Ok(Some(newer)),
            Some(_) => {
                self.env.blobs.delete(&name)?;
                Ok(None)
            }
            None => Err(unknown_outcome(
                &name,
                "more manifests followed than are remembered",
            )),
        }
    }

    /// The newest number once `name` is written: while nobody can say it, nobody can say that the
    /// edit has not happened either.
    fn newest_after(&self, name: &str, first: &Error) -> Result<u64> {
        for _ in 1..PUT_ATTEMPTS {
            if let Ok(newest) = latest_number(&self.env) {
                return Ok(newest.unwrap_or(0));
            }
        }
        Err(unknown_outcome(name, &first.to_string()))
    }

    /// Finds out what became of a conditional put of `bytes` that was answered with `outcome`, also
    /// when the store answered with an error after having done it, and repeats it if need be.
    fn settle_put(
        &self,
        name: &str,
        bytes: &[u8],
        mut outcome: Result<PutOutcome>,
    ) -> Result<bool> {
        let mut attempt = 1;
        loop {
            let error = match outcome {
                Ok(PutOutcome::Created) => return Ok(true),
                Ok(PutOutcome::Exists) if attempt == 1 => return Ok(false),
                Ok(PutOutcome::Exists) => {
                    let found = self.env.blobs.get(name);
                    return match found {
                        Ok(found) => Ok(found == bytes),
                        Err(error) => Err(unknown_outcome(name, &error.to_string())),
                    };
                }
                Err(error) => error,
            };
            match self.env.blobs.get(name) {
                Ok(found) if found == bytes => {
                    // It is there; writing the same bytes again makes sure that it is durable.
                    let again = self.env.blobs.put(name, bytes);
                    again.map_err(|error| unknown_outcome(name, &error.to_string()))?;
                    return Ok(true);
                }
                Ok(_) => return Ok(false),
                Err(missing) if missing.is_not_found() => {}
                Err(_) => return Err(unknown_outcome(name, &error.to_string())),
            }
            if attempt == PUT_ATTEMPTS {
                let may_still_land = self.env.blobs.kind() == StoreKind::Bucket;
                return Err(if may_still_land {
                    unknown_outcome(name, &error.to_string())
                } else {
                    error
                });
            }
            attempt += 1;
            outcome = self.env.blobs.put_if_absent(name, bytes);
        }
    }
}

fn unknown_outcome(name: &str, why: &str) -> Error {
    Error::Io {
        name: name.to_string(),
        operation: "commit manifest (outcome unknown)",
        kind: std::io::ErrorKind::Other,
        message: why.to_string(),
    }
}

fn latest_number(env: &Env) -> Result<Option<u64>> {
    let names = env.blobs.names(PREFIX)?;
    Ok(names.iter().filter_map(|name| number_of(name)).max())
}

fn load_latest<S: ManifestState>(
    env: &Env,
    meanwhile: impl FnOnce(),
) -> Result<Option<Numbered<S>>> {
    let mut meanwhile = Some(meanwhile);
    loop {
        let newest = latest_number(env)?;
        if let Some(meanwhile) = meanwhile.take() {
            meanwhile();
        }
        let Some(number) = newest else {
            return Ok(None);
        };
        match load(env, number) {
            // Swept between the listing and the read: a newer one exists.
            Err(error) if error.is_not_found() => {}
            other => return other.map(Some),
        }
    }
}

fn load<S: ManifestState>(env: &Env, number: u64) -> Result<Numbered<S>> {
    let name = manifest_name(number);
    let bytes = env.blobs.get(&name)?;
    let manifest = decode_manifest(&name, &bytes)?;
    if manifest.number != number {
        let what = format!("it says it is manifest {}", manifest.number);
        return Err(Error::corrupt(name, 12, what));
    }
    Ok(manifest)
}

fn encode(number: u64, epoch: u64, writer: u64, attempts: &[u64], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + attempts.len() * 8 + body.len() + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    for field in [number, epoch, writer, attempts.len() as u64] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    let len = u32::try_from(body.len()).expect("a manifest is far below 4 GiB");
    bytes.extend_from_slice(&len.to_le_bytes());
    for attempt in attempts {
        bytes.extend_from_slice(&attempt.to_le_bytes());
    }
    bytes.extend_from_slice(body);
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Decodes the bytes of a manifest called `name`.
///
/// # Errors
/// [`Error::Corrupt`] with the offset, [`Error::NewerFormat`].
pub fn decode_manifest<S: ManifestState>(name: &str, bytes: &[u8]) -> Result<Numbered<S>> {
    let short = || Error::corrupt(name, bytes.len() as u64, "it is cut short");
    if bytes.len() >= 8 && &bytes[..8] != MAGIC {
        return Err(Error::corrupt(name, 0, "it is not a Siltstone manifest"));
    }
    if bytes.len() < HEADER + CHECKSUM {
        return Err(short());
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let format = u32_at(8);
    if format > FORMAT {
        return Err(Error::NewerFormat {
            name: name.to_string(),
            found: format,
            supported: FORMAT,
        });
    }
    let body_len = u32_at(44) as usize;
    let attempts = u64_at(36);
    if attempts > ANCESTORS as u64 + 1 {
        return Err(Error::corrupt(name, 36, "it lists too many attempts"));
    }
    let body_at = HEADER + attempts as usize * 8;
    let end = bytes.len() - CHECKSUM;
    if body_at > end || end - body_at != body_len {
        return Err(short());
    }
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes[..end]);
    if sum != u64_at(end) {
        return Err(Error::corrupt(
            name,
            end as u64,
            "its checksum does not match",
        ));
    }
    let state = S::decode(&bytes[body_at..end])
        .map_err(|what| Error::corrupt(name, body_at as u64, what))?;
    Ok(Numbered {
        number: u64_at(12),
        epoch: u64_at(20),
        state,
        attempts: (HEADER..body_at).step_by(8).map(u64_at).collect(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests;
