//! The ledgers of a database, below `ledger/` in its folder or bucket. A ledger keeps its own log and
//! its own clock; the database's lock or epoch keeps other writers out of it too.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use siltstone_kv::Kv;
use siltstone_ledger::{Ledger, Options};
use siltstone_storage::Env;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const FOLDER: &str = "ledger/";

/// The open ledgers by name; one for each database.
#[derive(Debug, Default)]
struct OpenLedgers(Mutex<BTreeMap<String, Ledger>>);

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
        let blobs = self.env.blobs.list(FOLDER)?;
        let names: BTreeSet<_> = blobs
            .iter()
            .filter_map(|blob| blob.name.strip_prefix(FOLDER)?.split_once('/'))
            .map(|(name, _)| name.to_string())
            .collect();
        Ok(names.into_iter().collect())
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
