//! The ledgers of a database, below `ledger/` in its folder or bucket. A ledger keeps its own log and
//! its own clock; the database's lock or epoch keeps other writers out of it too.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use siltstone_kv::Kv;
use siltstone_ledger::{CopyStats, Held, Ledger, Options};
use siltstone_storage::{Blobs, Env};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const FOLDER: &str = "ledger/";

/// The open ledgers by name; one for each database.
#[derive(Debug, Default)]
struct OpenLedgers(Mutex<BTreeMap<String, Ledger>>);

/// What a check of the ledgers of a database found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgersReport {
    /// Ledgers checked.
    pub ledgers: u64,
    /// Archives read.
    pub archives: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, each with the ledger's name. Empty: all is well.
    pub problems: Vec<String>,
}

impl LedgersReport {
    fn add(&mut self, name: &str, held: siltstone_ledger::Result<Held>) {
        self.ledgers += 1;
        let checked = held.and_then(|held| held.verify());
        let problems = match checked {
            Ok(report) => {
                self.archives += report.archives;
                self.bytes += report.bytes;
                report.problems
            }
            Err(error) => vec![error],
        };
        let problems = problems
            .iter()
            .map(|error| format!("ledger {name}: {error}"));
        self.problems.extend(problems);
    }
}

/// Checks the ledgers of a database that another process may be writing: every archive by its hashes,
/// without keys. What the documents in them lead to is
/// [`Ledger::verify`](siltstone_ledger::Ledger::verify)'s.
///
/// # Errors
/// The store cannot be listed; damage is in the report.
pub fn verify_ledgers(env: &Env) -> Result<LedgersReport> {
    let mut report = LedgersReport::default();
    for name in names(&*env.blobs)? {
        match Held::of_files(env.clone(), &name) {
            // What is left of one that was dropped.
            Ok(None) => {}
            Ok(Some(held)) => report.add(&name, Ok(held)),
            Err(error) => report.add(&name, Err(error)),
        }
    }
    Ok(report)
}

/// Checks the ledgers of backup `number` of a repository.
pub(crate) fn verify_backup(repository: &Arc<dyn Blobs>, number: u64) -> Result<LedgersReport> {
    let mut report = LedgersReport::default();
    for name in names(&**repository)? {
        match Held::of_backup(repository.clone(), &name, number) {
            Ok(None) => {}
            Ok(Some(held)) => report.add(&name, Ok(held)),
            Err(error) => report.add(&name, Err(error)),
        }
    }
    Ok(report)
}

/// Makes the ledgers of backup `number` in the store of `to`.
pub(crate) fn restore(repository: &Arc<dyn Blobs>, number: u64, to: &Env) -> Result<CopyStats> {
    let mut all = CopyStats::default();
    for name in names(&**repository)? {
        if let Some(held) = Held::of_backup(repository.clone(), &name, number)? {
            add(&mut all, held.copy_to(to.clone(), &name)?);
        }
    }
    Ok(all)
}

/// Ledgers are being copied to a place where no database is yet. Unless it is done in the end, they are
/// deleted again.
#[derive(Debug)]
pub(crate) struct Copying {
    to: Option<Env>,
}

impl Copying {
    /// Refuses a place with a database or ledgers in it.
    pub(crate) fn begin(to: &Env) -> Result<Self> {
        let mut there = to.blobs.list("manifest/")?;
        there.extend(to.blobs.list(FOLDER)?);
        match there.into_iter().next() {
            None => Ok(Self {
                to: Some(to.clone()),
            }),
            Some(found) => Err(siltstone_kv::Error::NotEmpty {
                store: to.blobs.describe(),
                found: found.name,
            }
            .into()),
        }
    }

    /// There is a database that they belong to.
    pub(crate) fn done(mut self) {
        self.to = None;
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        let Some(to) = &self.to else {
            return;
        };
        let Ok(mut blobs) = to.blobs.list(FOLDER) else {
            return;
        };
        // Manifests first: without them the rest is nobody's.
        blobs.sort_by_key(|blob| !blob.name.contains("/manifest/"));
        for blob in blobs {
            // What cannot be deleted is named when the place is used again.
            let _ = to.blobs.delete(&blob.name);
        }
    }
}

/// Deletes backup `number` of all ledgers of a repository. Bytes freed.
pub(crate) fn remove_backup(repository: &Arc<dyn Blobs>, number: u64) -> Result<u64> {
    let mut freed = 0;
    for name in names(&**repository)? {
        if Held::backups(repository.clone(), &name)?.contains(&number) {
            freed += Held::remove_backup(repository.clone(), &name, number)?;
        }
    }
    Ok(freed)
}

fn add(all: &mut CopyStats, one: CopyStats) {
    all.copied += one.copied;
    all.kept += one.kept;
    all.bytes += one.bytes;
}

/// The names of the ledgers in a store.
pub(crate) fn names(blobs: &dyn Blobs) -> Result<Vec<String>> {
    let blobs = blobs.list(FOLDER)?;
    let names: BTreeSet<_> = blobs
        .iter()
        .filter_map(|blob| blob.name.strip_prefix(FOLDER)?.split_once('/'))
        .map(|(name, _)| name.to_string())
        .collect();
    Ok(names.into_iter().collect())
}

/// Ledger `name` of a store, open for reading.
pub(crate) fn open_reader(env: &Env, name: &str, options: Options) -> Result<Ledger> {
    match Ledger::open_reader(env.clone(), name, options) {
        Err(siltstone_ledger::Error::Storage(error)) if error.is_not_found() => {
            let known = names(&*env.blobs)?;
            if known.iter().any(|known| known == name) {
                return Err(siltstone_ledger::Error::Storage(error).into());
            }
            Err(Error::UnknownLedger {
                name: name.to_string(),
                known: known.join(", "),
            })
        }
        other => Ok(other?),
    }
}

/// The ledgers of an open database: to list, open, create and drop them.
///
/// ```
/// # fn main() -> siltstone::Result<()> {
/// # let dir = tempfile::tempdir().expect("a folder");
/// # let db = siltstone::blocking::Database::open(dir.path().to_str().expect("a plain path"))?;
/// let notes = db.ledgers().open_or_create("notes", Default::default())?;
/// let document = siltstone::ledger::Document::from_json(&"{\"text\": \"silt\"}".parse().expect("JSON"))?;
/// notes.put("first", &document)?;
/// assert_eq!(notes.get("first")?, document);
/// # db.close()
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Ledgers {
    env: Env,
    open: Arc<OpenLedgers>,
}

impl Ledgers {
    pub(crate) fn of(kv: &Kv) -> Self {
        Self {
            env: kv.env().clone(),
            open: kv.companion(),
        }
    }

    /// The names of all ledgers, in order.
    ///
    /// # Errors
    /// The store's.
    pub fn names(&self) -> Result<Vec<String>> {
        names(&*self.env.blobs)
    }

    /// Copies all ledgers as backup `number` of a repository, each as it is at some moment meanwhile.
    pub(crate) fn back_up(&self, repository: &Arc<dyn Blobs>, number: u64) -> Result<CopyStats> {
        self.each(|name, held| held.back_up(repository.clone(), name, number))
    }

    /// Copies all ledgers into the store of `to`, each as it is at some moment meanwhile.
    pub(crate) fn copy_to(&self, to: &Env) -> Result<CopyStats> {
        self.each(|name, held| held.copy_to(to.clone(), name))
    }

    /// Does something with each ledger, held still. None is opened or dropped meanwhile.
    fn each(
        &self,
        mut work: impl FnMut(&str, &Held) -> siltstone_ledger::Result<CopyStats>,
    ) -> Result<CopyStats> {
        let open = self.open.0.lock();
        let mut all = CopyStats::default();
        for name in self.names()? {
            let held = match open.get(&name) {
                Some(ledger) => Some(ledger.hold()?),
                None => Held::of_files(self.env.clone(), &name)?,
            };
            if let Some(held) = held {
                add(&mut all, work(&name, &held)?);
            }
        }
        Ok(all)
    }

    /// Checks all of them, as [`verify_ledgers`] does, with what was written until now.
    ///
    /// # Errors
    /// The store cannot be listed; damage is in the report.
    pub fn verify(&self) -> Result<LedgersReport> {
        let open = self.open.0.lock();
        let mut report = LedgersReport::default();
        for name in self.names()? {
            let held = match open.get(&name) {
                Some(ledger) => ledger.hold().map(Some),
                None => Held::of_files(self.env.clone(), &name),
            };
            if let Some(held) = held.transpose() {
                report.add(&name, held);
            }
        }
        Ok(report)
    }

    /// The ledger `name`. One that is open already keeps the settings it was opened with.
    ///
    /// # Errors
    /// [`Error::UnknownLedger`] naming those there are; the ledger's.
    pub fn open(&self, name: &str, options: Options) -> Result<Ledger> {
        let mut open = self.open.0.lock();
        if let Some(ledger) = open.get(name) {
            return Ok(ledger.clone());
        }
        let known = self.names()?;
        if !known.iter().any(|known| known == name) {
            return Err(Error::UnknownLedger {
                name: name.to_string(),
                known: known.join(", "),
            });
        }
        self.start(&mut open, name, options)
    }

    /// The ledger `name`, created when there is none.
    ///
    /// # Errors
    /// The ledger's, for the name among others.
    pub fn open_or_create(&self, name: &str, options: Options) -> Result<Ledger> {
        let mut open = self.open.0.lock();
        if let Some(ledger) = open.get(name) {
            return Ok(ledger.clone());
        }
        self.start(&mut open, name, options)
    }

    fn start(
        &self,
        open: &mut BTreeMap<String, Ledger>,
        name: &str,
        options: Options,
    ) -> Result<Ledger> {
        let ledger = Ledger::open(self.env.clone(), name, options)?;
        open.insert(name.to_string(), ledger.clone());
        Ok(ledger)
    }

    /// Drops a ledger with its history. Handles of it that are still around fail from then on.
    ///
    /// # Errors
    /// [`Error::UnknownLedger`]; the store's.
    pub fn drop(&self, name: &str) -> Result<()> {
        let mut open = self.open.0.lock();
        let known = self.names()?;
        if !known.iter().any(|known| known == name) {
            return Err(Error::UnknownLedger {
                name: name.to_string(),
                known: known.join(", "),
            });
        }
        if let Some(ledger) = open.remove(name) {
            ledger.close()?;
        }
        // Manifests first: without them the rest is nobody's.
        let mut blobs = self.env.blobs.list(&format!("{FOLDER}{name}/"))?;
        blobs.sort_by_key(|blob| !blob.name.contains("/manifest/"));
        for blob in blobs {
            self.env.blobs.delete(&blob.name)?;
        }
        Ok(())
    }

    /// Closes those that are open.
    pub(crate) fn close(&self) -> Result<()> {
        let open = std::mem::take(&mut *self.open.0.lock());
        for ledger in open.into_values() {
            ledger.close()?;
        }
        Ok(())
    }
}
