//! A keyspace for asynchronous programs, and what it was at a commit.

use crate::error::Result;
use crate::ingest::Ingest;
use crate::scan::Scan;
use crate::wait::{get, key_range, open_scan, room, wait};
use bytes::Bytes;
use siltstone_kv::{Batch, Commit, CommitRanges, Durability, Expect, KeyRange, Read, ScanOptions};
use std::ops::RangeBounds;
use std::time::Duration;

/// A named ordered map of an open database.
#[derive(Debug, Clone)]
pub struct Keyspace(pub(crate) siltstone_kv::Keyspace);

impl Keyspace {
    /// The same keyspace for code that blocks, and for batches.
    pub fn blocking(&self) -> &siltstone_kv::Keyspace {
        &self.0
    }

    /// Sets `key` to `value`, durably. Answers the commit.
    ///
    /// # Errors
    /// A limit's; writes are stopped; closed.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Commit> {
        self.put_with(key, value, Durability::Durable).await
    }

    /// Sets `key` to `value`, as durable as asked.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<Commit> {
        room(self.0.database(), key.as_ref().len() + value.as_ref().len()).await?;
        let put = self.0.put_async(key.as_ref(), value.as_ref(), durability);
        Ok(put.await?)
    }

    /// Deletes `key`, durably.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Commit> {
        room(self.0.database(), key.as_ref().len()).await?;
        let delete = self.0.delete_async(key.as_ref(), Durability::Durable);
        Ok(delete.await?)
    }

    /// Sets `key` to `value` for as long as `ttl`, durably; then it is gone: for every read, at every
    /// commit.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn put_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<Commit> {
        self.write(|batch| batch.put_ttl(&self.0, key.as_ref(), value.as_ref(), ttl))
            .await
    }

    /// Changes `key` by `operand` as the keyspace's merge operator says, durably. Nothing is read:
    /// the value is worked out by whoever reads it, or by compaction.
    ///
    /// # Errors
    /// As [`Keyspace::put`]; the keyspace has no merge operator; it refuses the operand.
    pub async fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<Commit> {
        self.write(|batch| batch.merge(&self.0, key.as_ref(), operand.as_ref()))
            .await
    }

    /// Deletes every key of a range, durably, with one small record whatever it holds.
    ///
    /// # Errors
    /// As [`Keyspace::put`]; the range's start lies after its end.
    pub async fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Commit> {
        let range = key_range(&range)?;
        self.write(|batch| batch.delete_range(&self.0, &range))
            .await
    }

    /// Deletes every key that starts with `prefix`, as [`Keyspace::delete_range`] does.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Commit> {
        let range = KeyRange::prefix(prefix.as_ref());
        self.write(|batch| batch.delete_range(&self.0, &range))
            .await
    }

    async fn write(&self, fill: impl FnOnce(&mut Batch) -> &mut Batch) -> Result<Commit> {
        let mut batch = Batch::new();
        fill(&mut batch);
        let kv = self.0.database();
        room(kv, batch.bytes()).await?;
        Ok(kv.write_async(&batch, Durability::Durable).await?)
    }

    /// Sets `key` to `value` if it holds what is expected, durably.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::ConditionFailed`] with what was found; as [`Keyspace::put`].
    pub async fn put_if(
        &self,
        key: impl AsRef<[u8]>,
        expect: Expect<'_>,
        value: impl AsRef<[u8]>,
    ) -> Result<Commit> {
        let (keyspace, expected) = (self.0.clone(), Expected::of(expect));
        let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
        let put = move || keyspace.put_if(&key, expected.borrowed(), &value);
        Ok(wait(put).await??.commit)
    }

    /// Deletes `key` if it holds what is expected, durably.
    ///
    /// # Errors
    /// As [`Keyspace::put_if`].
    pub async fn delete_if(&self, key: impl AsRef<[u8]>, expect: Expect<'_>) -> Result<Commit> {
        let (keyspace, expected) = (self.0.clone(), Expected::of(expect));
        let key = key.as_ref().to_vec();
        let delete = move || keyspace.delete_if(&key, expected.borrowed());
        Ok(wait(delete).await??.commit)
    }

    /// Starts a bulk ingest: keys come in rising order, go straight into tables and become one
    /// commit. Nothing of it is seen before [`Ingest::finish`].
    ///
    /// # Errors
    /// Writes are stopped; closed.
    pub fn ingest(&self) -> Result<Ingest> {
        Ok(Ingest::new(self.0.ingest()?))
    }

    /// The newest value of `key`.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        get(&self.0, key.as_ref()).await
    }

    /// The keys of a range.
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

    /// The keys that start with `prefix`.
    ///
    /// # Errors
    /// Closed.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>, options: ScanOptions) -> Result<Scan> {
        open_scan(&self.0, KeyRange::prefix(prefix.as_ref()), options)
    }

    /// The keyspace as it is now.
    ///
    /// # Errors
    /// Closed.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot(self.0.snapshot()?))
    }

    /// The commits that can be read: by the history policy, or because something holds them.
    ///
    /// # Errors
    /// Closed.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        Ok(self.0.retained_commits()?)
    }

    /// The keyspace as it was at `commit`.
    ///
    /// # Errors
    /// The commit is not retained, or not there yet.
    pub fn at_commit(&self, commit: Commit) -> Result<Snapshot> {
        Ok(Snapshot(self.0.at_commit(commit)?))
    }
}

/// What is expected, with a copy of the value.
enum Expected {
    Absent,
    Present,
    Value(Vec<u8>),
}

impl Expected {
    fn of(expect: Expect<'_>) -> Self {
        match expect {
            Expect::Absent => Self::Absent,
            Expect::Present => Self::Present,
            Expect::Value(value) => Self::Value(value.to_vec()),
        }
    }

    fn borrowed(&self) -> Expect<'_> {
        match self {
            Self::Absent => Expect::Absent,
            Self::Present => Expect::Present,
            Self::Value(value) => Expect::Value(value),
        }
    }
}

/// A keyspace as it was at one commit, for as long as this lives.
#[derive(Debug, Clone)]
pub struct Snapshot(pub(crate) siltstone_kv::Snapshot);

impl Snapshot {
    /// The commit it reads at.
    ///
    /// # Errors
    /// Closed.
    pub fn commit(&self) -> Result<Commit> {
        Ok(self.0.commit()?)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        get(&self.0, key.as_ref()).await
    }

    /// The keys of a range.
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
}
