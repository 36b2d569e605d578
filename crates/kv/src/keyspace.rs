//! A keyspace of an open database: single writes and reads at the newest commit.

use crate::Batch;
use crate::batch::Footprint;
use crate::commit_ranges::CommitRanges;
use crate::compaction::pick::CompactOptions;
use crate::compaction::run::CompactFailed;
use crate::core::Core;
use crate::db::{Kv, check_value};
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::memtable::Memtable;
use crate::options::{Durability, KeyspaceOptions};
use crate::pipeline::Write;
use crate::read::{Read, ReadAt, ViewRef, check_key};
use crate::readable::Readable;
use crate::snapshot::{HeldCommits, Scope, Snapshot};
use crate::stats::{CompactStats, GetStats, PutStats, Source};
use crate::types::{Commit, Tag};
use crate::view::{KeyspaceCore, View};
use crate::wal::frame::{self, Op};
use crate::write_future::WriteFuture;
use siltstone_storage::Wait;
use std::sync::Arc;
use std::time::Duration;

/// A named ordered map of an open database. Reads are at the newest commit.
#[derive(Debug, Clone)]
pub struct Keyspace {
    kv: Kv,
    core: Arc<KeyspaceCore>,
}

impl Keyspace {
    pub(crate) fn new(kv: Kv, core: Arc<KeyspaceCore>) -> Self {
        Self { kv, core }
    }

    pub(crate) fn core(&self) -> &Arc<KeyspaceCore> {
        &self.core
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Its number.
    pub fn id(&self) -> crate::KeyspaceId {
        self.core.id
    }

    /// Its settings.
    pub fn options(&self) -> KeyspaceOptions {
        (*self.core.view.load().options).clone()
    }

    /// The database it belongs to.
    pub fn database(&self) -> &Kv {
        &self.kv
    }

    /// Sets `key` to `value`, durably.
    ///
    /// # Errors
    /// [`Error::KeyLength`](crate::Error::KeyLength), [`Error::ValueTooLarge`](crate::Error::ValueTooLarge), [`Error::Stopped`](crate::Error::Stopped), [`Error::Closed`](crate::Error::Closed).
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<PutStats> {
        self.write_one(Tag::PUT, key, value, Durability::Durable)
    }

    /// Sets `key` to `value`, as durable as asked.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn put_with(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<PutStats> {
        self.write_one(Tag::PUT, key, value, durability)
    }

    /// Deletes `key`, durably; one that is not there is already deleted.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete(&self, key: &[u8]) -> Result<PutStats> {
        self.write_one(Tag::DELETE, key, b"", Durability::Durable)
    }

    /// Deletes `key`, as durable as asked.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete_with(&self, key: &[u8], durability: Durability) -> Result<PutStats> {
        self.write_one(Tag::DELETE, key, b"", durability)
    }

    /// Sets `key` to `value` for as long as `ttl`, durably; then it is gone: for every read, at
    /// every commit.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn put_ttl(&self, key: &[u8], value: &[u8], ttl: Duration) -> Result<PutStats> {
        let mut batch = Batch::new();
        batch.put_ttl(self, key, value, ttl);
        self.kv.write(&batch, Durability::Durable)
    }

    /// Changes `key` by `operand` as the keyspace's merge operator says, durably. Nothing is read:
    /// the value is worked out by whoever reads it, or by compaction.
    ///
    /// # Errors
    /// As [`Keyspace::put`]; [`Error::NoMergeOperator`](crate::Error::NoMergeOperator); [`Error::Merge`](crate::Error::Merge) for a malformed operand.
    pub fn merge(&self, key: &[u8], operand: &[u8]) -> Result<PutStats> {
        self.merge_with(key, operand, Durability::Durable)
    }

    /// As [`Keyspace::merge`], as durable as asked.
    ///
    /// # Errors
    /// As [`Keyspace::merge`].
    pub fn merge_with(
        &self,
        key: &[u8],
        operand: &[u8],
        durability: Durability,
    ) -> Result<PutStats> {
        let mut batch = Batch::new();
        batch.merge(self, key, operand);
        self.kv.write(&batch, durability)
    }

    /// Deletes every key of `range`, durably, with one small record whatever it holds.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete_range(&self, range: &KeyRange) -> Result<PutStats> {
        let mut batch = Batch::new();
        batch.delete_range(self, range);
        self.kv.write(&batch, Durability::Durable)
    }

    /// As [`Keyspace::put_with`], for a task: nothing blocks.
    pub fn put_async(&self, key: &[u8], value: &[u8], durability: Durability) -> WriteFuture {
        self.write_one_async(Tag::PUT, key, value, durability)
    }

    /// As [`Keyspace::delete_with`], for a task: nothing blocks.
    pub fn delete_async(&self, key: &[u8], durability: Durability) -> WriteFuture {
        self.write_one_async(Tag::DELETE, key, b"", durability)
    }

    fn write_one_async(
        &self,
        tag: Tag,
        key: &[u8],
        value: &[u8],
        durability: Durability,
    ) -> WriteFuture {
        let engine = self.kv.core();
        let options = &engine.shared.options;
        if let Err(error) =
            check_key(key, options).and_then(|()| check_value(key, value.len(), options))
        {
            return WriteFuture::failed(error);
        }
        let op = Op {
            keyspace: self.core.id,
            tag,
            key,
            value,
        };
        let mut footprint = Footprint::default();
        footprint.add(op.keyspace, Memtable::entry_bytes(key.len(), value.len()));
        engine.submit(&mut Write {
            encode: &mut |out| frame::put_op(out, &op),
            ops: 1,
            footprint: &footprint,
            user_bytes: (key.len() + value.len()) as u64,
            durability,
            check: None,
            listing: None,
        })
    }

    fn write_one(
        &self,
        tag: Tag,
        key: &[u8],
        value: &[u8],
        durability: Durability,
    ) -> Result<PutStats> {
        let engine = self.kv.core();
        let options = &engine.shared.options;
        check_key(key, options)?;
        check_value(key, value.len(), options)?;
        let started = engine.shared.env.clock.elapsed();
        let retries = engine.admit(key.len() + value.len())?;
        let op = Op {
            keyspace: self.core.id,
            tag,
            key,
            value,
        };
        let commit = engine.write_single(&op, durability)?;
        Ok(PutStats {
            commit,
            destination: Source::Memtable,
            latency: engine.shared.env.clock.elapsed().saturating_sub(started),
            retries,
        })
    }

    /// The keyspace as it is now, for as long as the snapshot lives.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn snapshot(&self) -> Result<Snapshot> {
        let shared = &self.kv.core().shared;
        shared.check_open()?;
        let pin = HeldCommits::hold(shared, Scope::All, || Ok(shared.visible()))?;
        Ok(Snapshot {
            core: self.core.clone(),
            pin: Arc::new(pin),
            view: None,
        })
    }

    /// The keyspace as it was at `commit`, for as long as the snapshot lives.
    ///
    /// # Errors
    /// [`Error::NotRetained`](crate::Error::NotRetained) naming the nearest readable commits, [`Error::FutureCommit`](crate::Error::FutureCommit).
    pub fn at_commit(&self, commit: Commit) -> Result<Snapshot> {
        let shared = &self.kv.core().shared;
        shared.check_open()?;
        // Held first and checked then, so that no compaction comes between.
        let pin = HeldCommits::hold(shared, Scope::Unchecked, || Ok(commit))?;
        let view = self.core.view.load();
        let head = shared.visible();
        self.readable(&view, head).check(commit, || self.pins())?;
        Ok(Snapshot {
            core: self.core.clone(),
            pin: Arc::new(pin.confirm(self.core.id)?),
            view: None,
        })
    }

    /// The value of `key` at `commit`.
    ///
    /// # Errors
    /// As [`Keyspace::at_commit`], and [`Error::Truncated`](crate::Error::Truncated).
    pub fn get_at(&self, key: &[u8], commit: Commit) -> Result<Option<bytes::Bytes>> {
        let newest = self.at()?;
        if !self.readable(&newest.view, newest.commit).unheld(commit) {
            return self.at_commit(commit)?.get(key);
        }
        // The view holds its tables and says what is gone from them: the commit needs no hold.
        let at = ReadAt { commit, ..newest };
        at.get(key, Wait::Allowed, &mut GetStats::default())
    }

    /// The commits that can be read now: by the history policy, or because a snapshot or a
    /// checkpoint holds them.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        self.kv.core().shared.check_open()?;
        let view = self.core.view.load();
        let head = self.kv.head();
        Ok(self.readable(&view, head).commits(self.pins()))
    }

    fn readable<'a>(&self, view: &'a View, head: Commit) -> Readable<'a> {
        Readable::new(view, head, self.kv.core().young_from(view))
    }

    /// The commits that something holds and that are intact.
    fn pins(&self) -> Vec<Commit> {
        let engine = self.kv.core();
        let mut pins = engine.shared.held.intact(self.core.id);
        let now = engine.shared.env.clock.now();
        pins.extend(engine.manifest.current().state.checkpoint_pins(now));
        pins
    }

    /// Compacts tables chosen by hand.
    ///
    /// # Errors
    /// [`CompactFailed`]: the error, and the stats, which name the inputs also then.
    pub fn compact(&self, options: &CompactOptions) -> Result<CompactStats, Box<CompactFailed>> {
        self.kv.core().compact_by_hand(&self.core, options)
    }
}

impl Read for Keyspace {
    #[inline]
    fn at(&self) -> Result<ReadAt> {
        let shared = &self.kv.core().shared;
        shared.check_open()?;
        loop {
            // The view first, then the commit: everything the commit needs is then in the view, or
            // the view was replaced meanwhile and both are taken again.
            let view = self.core.view.load();
            let commit = shared.visible();
            if std::ptr::eq(&**view, &**self.core.view.load()) {
                return Ok(ReadAt {
                    view: ViewRef::Guard(view),
                    commit,
                    shared: shared.clone(),
                    hold: None,
                    overlay: None,
                });
            }
        }
    }
}

impl Core {
    /// One put or delete, without an allocation.
    fn write_single(&self, op: &Op<'_>, durability: Durability) -> Result<Commit> {
        let mut footprint = Footprint::default();
        footprint.add(
            op.keyspace,
            Memtable::entry_bytes(op.key.len(), op.value.len()),
        );
        self.write(&mut Write {
            encode: &mut |out| frame::put_op(out, op),
            ops: 1,
            footprint: &footprint,
            user_bytes: (op.key.len() + op.value.len()) as u64,
            durability,
            check: None,
            listing: None,
        })
    }
}
