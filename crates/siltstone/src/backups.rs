//! Backups by URL.

use crate::blocking::Database;
use crate::error::Result;
use crate::ledgers::{self, Copying};
use crate::location::Location;
use siltstone_kv::{BackupInfo, BackupStats, Commit, RestoreStats, VerifyReport};
use siltstone_ledger::CopyStats;
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

    /// Makes a backup of everything up to the newest commit, while the database is written to, and of its
    /// ledgers, each as it is at some moment meanwhile; none can be opened until it is done. `progress`
    /// is told how many of how many files of tables are done.
    ///
    /// # Errors
    /// The stores'; damage in a ledger, which is not copied. Then no backup is there but the earlier ones.
    pub fn create(
        &self,
        db: &Database,
        label: &str,
        progress: impl FnMut(usize, usize),
    ) -> Result<BackupStats> {
        let mut ledgers = CopyStats::default();
        let also = |number| -> Result<()> {
            ledgers = db.ledgers().back_up(self.0.blobs(), number)?;
            Ok(())
        };
        let mut stats = self.0.create_with(db.kv(), label, progress, also)?;
        stats.copied_files += ledgers.copied;
        stats.kept_files += ledgers.kept;
        stats.bytes += ledgers.bytes;
        Ok(stats)
    }

    /// The backups, oldest first.
    ///
    /// # Errors
    /// The store's; damage.
    pub fn list(&self) -> Result<Vec<BackupInfo>> {
        Ok(self.0.list()?)
    }

    /// Makes a database at `url`, where there is none, from backup `number`, or the newest; with the
    /// contents at `commit`, or at the commit the backup was made at. Ledgers, which have clocks of their
    /// own, are as the backup has them.
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
        let number = self.0.number(number)?;
        // Before there is a database, so that none is there without them.
        let copying = Copying::begin(&env)?;
        let copied = ledgers::restore(self.0.blobs(), number, &env)?;
        let mut stats = self.0.restore(Some(number), commit, env, progress)?;
        copying.done();
        stats.files += copied.copied;
        stats.bytes += copied.bytes;
        Ok(stats)
    }

    /// Reads every block of every file of backup `number`, or the newest, and every archive of its ledgers.
    ///
    /// # Errors
    /// Only when the check itself cannot be made; damage is in the report.
    pub fn verify(
        &self,
        number: Option<u64>,
        progress: impl FnMut(usize, usize),
    ) -> Result<VerifyReport> {
        let number = self.0.number(number)?;
        let mut report = self.0.verify(Some(number), progress)?;
        let ledgers = ledgers::verify_backup(self.0.blobs(), number)?;
        report.bytes += ledgers.bytes;
        report.problems.extend(ledgers.problems);
        Ok(report)
    }

    /// Deletes backup `number`, or what is left of an attempt at it, and the files that no other
    /// backup needs. Answers the bytes freed.
    ///
    /// # Errors
    /// There is none; another one is being made; the store's.
    pub fn remove(&self, number: u64) -> Result<u64> {
        let freed = self.0.remove(number)?;
        Ok(freed + ledgers::remove_backup(self.0.blobs(), number)?)
    }
}
