//! Backups by URL.

use crate::blocking::Database;
use crate::error::Result;
use crate::location::Location;
use siltstone_kv::{BackupInfo, BackupStats, Commit, RestoreStats, VerifyReport};
use siltstone_storage::Env;

/// A repository of backups, in a folder or in a bucket. Each backup copies only what no earlier one
/// has; each can be restored by itself, at the commit it was made at or at an earlier one that it can
/// still read.
///
/// ```
/// # fn main() -> siltstone::Result<()> {
/// # let dir = tempfile::tempdir().expect("a folder");
/// # let path = |name: &str| dir.path().join(name).to_str().expect("a plain path").to_string();
/// use siltstone::blocking::{Backups, Database};
/// let db = Database::open(&path("data"))?;
/// db.put("k", "v")?;
/// let backups = Backups::create_at(&path("backups"))?;
/// backups.create(&db, "first", |_, _| {})?;
/// backups.restore(None, None, &path("restored"), |_, _| {})?;
/// assert_eq!(Database::open(&path("restored"))?.get("k")?.as_deref(), Some(&b"v"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Backups(siltstone_kv::Backups);

impl Backups {
    /// The repository at `url`, which must be there.
    ///
    /// # Errors
    /// The URL is malformed; not found; the store's.
    pub fn open(url: &str) -> Result<Self> {
        let blobs = Location::parse(url)?.blobs()?;
        Ok(Self(siltstone_kv::Backups::new(Env::system(blobs))))
    }

    /// The repository at `url`, made when it is not there.
    ///
    /// # Errors
    /// The URL is malformed; no permission; the store's.
    pub fn create_at(url: &str) -> Result<Self> {
        let blobs = Location::parse(url)?.create_blobs()?;
        Ok(Self(siltstone_kv::Backups::new(Env::system(blobs))))
    }

    /// Makes a backup of everything up to the newest commit, while the database is written to.
    /// `progress` is told how many of how many files are done.
    ///
    /// # Errors
    /// The stores'; then no backup is there but the earlier ones.
    pub fn create(
        &self,
        db: &Database,
        label: &str,
        progress: impl FnMut(usize, usize),
    ) -> Result<BackupStats> {
        Ok(self.0.create(db.kv(), label, progress)?)
    }

    /// The backups, oldest first.
    ///
    /// # Errors
    /// The store's; damage.
    pub fn list(&self) -> Result<Vec<BackupInfo>> {
        Ok(self.0.list()?)
    }

    /// Makes a database at `url`, where there is none, from backup `number`, or the newest; with the
    /// contents at `commit`, or at the commit the backup was made at.
    ///
    /// # Errors
    /// No such backup; a commit that it cannot read; `url` is not empty; the stores'. Then there is
    /// no database at `url`.
    pub fn restore(
        &self,
        number: Option<u64>,
        commit: Option<Commit>,
        url: &str,
        progress: impl FnMut(usize, usize),
    ) -> Result<RestoreStats> {
        let (env, _lock) = Location::parse(url)?.for_writer()?;
        Ok(self.0.restore(number, commit, env, progress)?)
    }

    /// Reads every block of every file of backup `number`, or the newest.
    ///
    /// # Errors
    /// Only when the check itself cannot be made; damage is in the report.
    pub fn verify(
        &self,
        number: Option<u64>,
        progress: impl FnMut(usize, usize),
    ) -> Result<VerifyReport> {
        Ok(self.0.verify(number, progress)?)
    }

    /// Deletes backup `number`, or what is left of an attempt at it, and the files that no other
    /// backup needs. Answers the bytes freed.
    ///
    /// # Errors
    /// There is none; another one is being made; the store's.
    pub fn remove(&self, number: u64) -> Result<u64> {
        Ok(self.0.remove(number)?)
    }
}
