//! A reader for asynchronous programs.

use crate::blocking;
use crate::changes::Changes;
use crate::error::Result;
use crate::scan::Scan;
use crate::wait::{get, key_range, open_scan, wait};
use bytes::Bytes;
use siltstone_kv::{Commit, CommitRanges, ScanOptions};
use std::ops::RangeBounds;

/// A database open for reading beside its writer.
#[derive(Debug, Clone)]
pub struct Reader(blocking::Reader);

impl Reader {
    /// Opens the database at `url` for reading.
    ///
    /// # Errors
    /// There is no database; damage; the store's.
    pub async fn open(url: &str) -> Result<Self> {
        let url = url.to_string();
        Ok(Self(wait(move || blocking::Reader::open(&url)).await??))
    }

    /// Moves to the newest state. Answers its newest commit.
    ///
    /// # Errors
    /// The store's.
    pub async fn refresh(&self) -> Result<Commit> {
        let reader = self.0.clone();
        wait(move || reader.refresh()).await?
    }

    /// The newest value of `key` in the default keyspace.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        get(&self.0, key.as_ref()).await
    }

    /// The keys of a range of the default keyspace.
    ///
    /// # Errors
    /// The range's start lies after its end.
    pub fn scan<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        options: ScanOptions,
    ) -> Result<Scan> {
        open_scan(&self.0, key_range(&range)?, options)
    }

    /// The commits of the default keyspace that can be read.
    ///
    /// # Errors
    /// The store's.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        self.0.retained_commits()
    }

    /// Every commit after `after`, in order, with what it wrote, as it becomes durable.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::ChangesGone`] naming where to start instead; the commit is not there
    /// yet; the store's.
    pub async fn changes(&self, after: Commit) -> Result<Changes> {
        let reader = self.0.clone();
        Ok(Changes::new(wait(move || reader.changes(after)).await??))
    }

    /// The same reader for code that blocks.
    pub fn blocking(&self) -> &blocking::Reader {
        &self.0
    }
}
