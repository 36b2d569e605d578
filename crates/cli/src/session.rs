//! Opens the database for a command, as the global options ask for it.

use crate::args::{Global, Recovery};
use crate::failure::{Failure, Result};
use crate::output::Out;
use siltstone::blocking::{Database, Keyspace, Reader, Snapshot};
use siltstone::{Commit, DiskCache, KeyspaceOptions, Location, Options, Stats, WalRecovery};
use siltstone_kv::DEFAULT_KEYSPACE;
use std::io::Write;

const DEFAULT_URL: &str = "./siltstone-data";

/// One run of the command.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) out: Out,
    global: Global,
}

impl Session {
    /// A session with these global options.
    pub(crate) fn new(global: Global) -> Self {
        Self {
            out: Out::new(global.json, global.quiet),
            global,
        }
    }

    /// The database asked for, or the default one.
    pub(crate) fn url(&self) -> &str {
        self.global.db.as_deref().unwrap_or(DEFAULT_URL)
    }

    /// The database asked for, if one was.
    pub(crate) fn url_given(&self) -> Option<&str> {
        self.global.db.as_deref()
    }

    /// The keyspace asked for, or the default one.
    pub(crate) fn keyspace_name(&self) -> &str {
        self.global.keyspace.as_deref().unwrap_or(DEFAULT_KEYSPACE)
    }

    /// The keyspace asked for, if one was.
    pub(crate) fn keyspace_given(&self) -> Option<&str> {
        self.global.keyspace.as_deref()
    }

    /// How databases are opened.
    pub(crate) fn options(&self) -> Options {
        Options {
            memory_budget: usize::try_from(self.global.memory).unwrap_or(usize::MAX),
            disk_cache: self.global.disk_cache.as_ref().map(|folder| DiskCache {
                folder: folder.clone(),
                bytes: self.global.disk_cache_size,
            }),
            wal_recovery: match self.global.wal_recovery {
                Recovery::Strict => WalRecovery::Strict,
                Recovery::Truncate => WalRecovery::Truncate,
            },
            ..Options::default()
        }
    }

    /// The database, open for reading beside its writer.
    pub(crate) fn reader(&self) -> Result<Reader> {
        let opened = Reader::open_with(self.url(), self.options());
        let reader = opened.map_err(|error| self.explain(error))?;
        self.note_disk_cache(&reader.kv().stats());
        Ok(reader)
    }

    /// Says so when the disk cache that was asked for is not in use.
    fn note_disk_cache(&self, stats: &Stats) {
        let off = stats.disk_cache.as_ref().and_then(|c| c.off.as_ref());
        if let Some(why) = off
            && !self.global.quiet
        {
            // Nobody reads stderr any more: then nobody is told.
            let _ = writeln!(std::io::stderr(), "no disk cache: {why}");
        }
    }

    /// The keyspace asked for, at `commit` or the newest.
    pub(crate) fn read(&self, commit: Option<u64>) -> Result<(Reader, Snapshot)> {
        let reader = self.reader()?;
        let at = commit.map_or(reader.kv().head(), Commit);
        let snapshot = reader.keyspace(self.keyspace_name())?.at_commit(at)?;
        Ok((reader, snapshot))
    }

    /// The database, open for writing. It must be there.
    pub(crate) fn writer(&self) -> Result<Database> {
        if !self.exists()? {
            return Err(self.no_database());
        }
        self.create(KeyspaceOptions::default())
    }

    /// The database, open for writing; created with these settings when it is not there.
    pub(crate) fn create(&self, settings: KeyspaceOptions) -> Result<Database> {
        let db = Database::open_with(self.url(), self.options(), settings)?;
        self.note_disk_cache(&db.stats());
        Ok(db)
    }

    /// The keyspace asked for.
    pub(crate) fn keyspace(&self, db: &Database) -> Result<Keyspace> {
        Ok(db.keyspace(self.keyspace_name())?)
    }

    /// True when the database is in a folder, and not in a bucket.
    pub(crate) fn is_folder(&self) -> Result<bool> {
        Ok(Location::parse(self.url())?.folder().is_some())
    }

    /// True when there is a database.
    pub(crate) fn exists(&self) -> Result<bool> {
        match Location::parse(self.url())?.blobs() {
            Err(siltstone::Error::Kv(siltstone_kv::Error::Storage(e))) if e.is_not_found() => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
            Ok(blobs) => Ok(!blobs.list("manifest/")?.is_empty()),
        }
    }

    /// What to say when there is no database.
    pub(crate) fn no_database(&self) -> Failure {
        let url = self.url();
        Failure::Other(format!(
            "{url}: there is no database. Create one with `siltstone --db {url} init`, or put something into it"
        ))
    }

    fn explain(&self, error: siltstone::Error) -> Failure {
        let missing = matches!(
            &error,
            siltstone::Error::Kv(siltstone_kv::Error::Storage(e)) if e.is_not_found()
        );
        match missing && matches!(self.exists(), Ok(false)) {
            true => self.no_database(),
            false => error.into(),
        }
    }
}
