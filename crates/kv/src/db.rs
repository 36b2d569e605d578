//! The handle of a writer, its keyspaces, and the threads that work for it.

use crate::Batch;
use crate::batch::Footprint;
use crate::commit_ranges::CommitRanges;
use crate::compaction::pick::{CompactOptions, Mood};
use crate::compaction::run::CompactFailed;
use crate::core::Core;
use crate::error::{Error, Result, show_key};
use crate::memtable::Memtable;
use crate::open::OpenStats;
use crate::operator;
use crate::options::{Durability, KeyspaceOptions, Options};
use crate::pipeline::{MayLead, Submitted, Write};
use crate::read::{KeyRange, Read, ReadAt, ViewRef, check_key, operator_of};
use crate::readable::Readable;
use crate::signals::Wake;
use crate::snapshot::{HeldCommits, Scope, Snapshot};
use crate::state::DEFAULT_KEYSPACE;
use crate::stats::{CompactStats, FlushStats, GetStats, PutStats, Source, Stats};
use crate::types::{Commit, Tag};
use crate::view::{KeyspaceCore, View};
use crate::waiter::{Outcome, Waiter};
use crate::wal::frame::{self, Op};
use siltstone_storage::{Env, FolderLock, Wait};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

/// A key-value database open for writing. Clones are handles of the same database; the last one
/// closes it.
#[derive(Debug, Clone)]
pub struct Kv {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    threads: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    opened: OpenStats,
}

impl Kv {
    /// Opens the database in `env`, creating it when there is none.
    ///
    /// A folder should be locked first ([`FolderLock`]); the lock is held until close. A bucket is
    /// fenced: an earlier writer that still runs stops at its next write.
    ///
    /// # Errors
    /// [`Error::Setting`]; [`Error::WalDamaged`] and the like for damaged files; the store's.
    pub fn open(
        env: Env,
        options: Options,
        default_keyspace: KeyspaceOptions,
        lock: Option<FolderLock>,
    ) -> Result<Self> {
        let (core, opened) = Core::open(env, options, default_keyspace, lock)?;
        let threads = match core.threaded() {
            true => start_threads(&core)?,
            false => Vec::new(),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                core,
                threads: parking_lot::Mutex::new(threads),
                opened,
            }),
        })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// What opening found and did.
    pub fn open_stats(&self) -> &OpenStats {
        &self.inner.opened
    }

    /// The keyspace that every database has.
    pub fn default_keyspace(&self) -> Keyspace {
        self.keyspace(DEFAULT_KEYSPACE)
            .expect("the default keyspace cannot be dropped")
    }

    /// The keyspace called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownKeyspace`] naming those there are.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.core.shared.check_open()?;
        let keyspaces = self.inner.core.keyspaces.read();
        match keyspaces.values().find(|core| core.name == name) {
            Some(core) => Ok(Keyspace {
                kv: self.clone(),
                core: core.clone(),
            }),
            None => Err(Error::UnknownKeyspace {
                name: name.to_string(),
                known: keyspaces
                    .values()
                    .map(|core| core.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Writes a batch: one commit, all or none.
    ///
    /// # Errors
    /// A limit's, [`Error::Stopped`], [`Error::Closed`].
    pub fn write(&self, batch: &Batch, durability: Durability) -> Result<PutStats> {
        let core = &self.inner.core;
        let started = core.shared.env.clock.elapsed();
        if batch.is_empty() {
            return Ok(PutStats {
                commit: core.shared.visible(),
                ..PutStats::default()
            });
        }
        self.check_batch(batch)?;
        let batch = &*self.settled(batch)?;
        let retries = core.admit(batch.user_bytes)?;
        let commit = core.write(&mut Write {
            encode: &mut |out| out.extend_from_slice(&batch.ops),
            ops: batch.count,
            footprint: &batch.footprint,
            user_bytes: batch.user_bytes as u64,
            durability,
            check: None,
            listing: None,
        })?;
        Ok(PutStats {
            commit,
            destination: Source::Memtable,
            latency: core.shared.env.clock.elapsed().saturating_sub(started),
            retries,
        })
    }

    /// As [`Kv::write`], for a task: the future is ready when the write is done, and nothing blocks.
    pub fn write_async(&self, batch: &Batch, durability: Durability) -> WriteFuture {
        let checked = self
            .check_batch(batch)
            .and_then(|()| self.inner.core.shared.check_writable())
            .and_then(|()| self.settled(batch));
        let batch = match &checked {
            Ok(batch) => &**batch,
            Err(error) => return WriteFuture::failed(error.clone()),
        };
        let mut write = Write {
            encode: &mut |out| out.extend_from_slice(&batch.ops),
            ops: batch.count,
            footprint: &batch.footprint,
            user_bytes: batch.user_bytes as u64,
            durability,
            check: None,
            listing: None,
        };
        self.inner.core.submit(&mut write)
    }

    /// The batch as it is written.
    pub(crate) fn settled<'a>(&self, batch: &'a Batch) -> Result<std::borrow::Cow<'a, Batch>> {
        let core = &self.inner.core;
        batch.settled(|id| {
            let keyspace = core.keyspaces.read().get(&id).cloned();
            match &keyspace {
                Some(keyspace) => {
                    let options = &keyspace.view.load().options;
                    operator_of(options, &core.shared.options, &keyspace.name)
                }
                // Writes to a keyspace that was dropped go nowhere, whatever they say.
                None => Ok(operator::anything()),
            }
        })
    }

    pub(crate) fn check_batch(&self, batch: &Batch) -> Result<()> {
        let options = &self.inner.core.shared.options;
        if batch.shortest_key == 0 {
            check_key(b"", options)?;
        }
        if batch.longest_key > options.max_key_bytes {
            return Err(Error::KeyLength {
                len: batch.longest_key,
                max: options.max_key_bytes,
            });
        }
        check_value(&batch.longest_value.1, batch.longest_value.0, options)?;
        let len = batch.user_bytes.max(batch.count as usize * 80);
        if len > options.max_batch_bytes {
            return Err(Error::BatchTooLarge {
                len,
                max: options.max_batch_bytes,
            });
        }
        Ok(())
    }

    /// True when memory for writes has run short: a task should then call [`Kv::wait_for_room`] where
    /// it may wait, before it writes on. Calls that block do so by themselves.
    pub fn is_short_of_room(&self) -> bool {
        self.inner.core.is_short_of_room()
    }

    /// Waits until there is room for `bytes` more.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Closed`].
    pub fn wait_for_room(&self, bytes: usize) -> Result<()> {
        self.inner.core.admit(bytes).map(|_| ())
    }

    /// Makes every write so far durable.
    ///
    /// # Errors
    /// [`Error::Stopped`] and the store's.
    pub fn sync(&self) -> Result<()> {
        self.inner.core.sync()
    }

    /// Writes every memtable to tables.
    ///
    /// # Errors
    /// The store's; then nothing is lost and the next flush tries again.
    pub fn flush(&self) -> Result<FlushStats> {
        self.inner.core.flush_all()
    }

    /// The newest manifest.
    pub fn manifest(&self) -> Arc<siltstone_storage::Numbered<crate::DbState>> {
        self.inner.core.manifest.current()
    }

    /// Reads every block of every file. `progress` is told how many of how many tables are done.
    ///
    /// # Errors
    /// Only when the check itself cannot be made; damage is in the report.
    pub fn verify(&self, progress: impl FnMut(usize, usize)) -> Result<crate::VerifyReport> {
        self.flush()?;
        let (current, _pin) = self.inner.core.pin_current();
        crate::verify(self.env(), &current.state, progress)
    }

    /// The newest visible commit.
    pub fn head(&self) -> Commit {
        self.inner.core.shared.visible()
    }

    /// Does background work on this thread: flushes what is sealed, compacts, deletes. True when
    /// there was something to do. Needed with [`crate::Background::Manual`], allowed always.
    ///
    /// # Errors
    /// The store's; the work stays to be done.
    pub fn work(&self) -> Result<bool> {
        self.inner.core.work()
    }

    /// Waits until background work has nothing left to do, tidying included.
    ///
    /// # Errors
    /// The store's.
    pub fn settle(&self) -> Result<()> {
        let core = &self.inner.core;
        loop {
            let busy = core.flush_sealed()? | core.compact_next(Mood::Idle)?;
            let compacting = core.compactions.used() > 0;
            if !busy && !compacting {
                core.collect_garbage();
                return Ok(());
            }
            if compacting {
                core.shared.env.clock.sleep(Duration::from_millis(5));
            }
        }
    }

    /// Everything about the database in numbers.
    pub fn stats(&self) -> Stats {
        self.inner.core.stats()
    }

    /// Sets the totals as counters and gauges of the `metrics` facade; call it before they are read.
    pub fn report_metrics(&self) {
        self.stats().report();
    }

    /// The settings it was opened with.
    pub fn options(&self) -> &Options {
        &self.inner.core.shared.options
    }

    /// What the database takes from the world.
    pub fn env(&self) -> &Env {
        &self.inner.core.shared.env
    }

    /// Flushes, ends the threads and lets go of the folder. A second call does nothing.
    ///
    /// # Errors
    /// Those of the flush; the database is closed all the same, and what was acknowledged is safe in
    /// the log.
    pub fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

impl Inner {
    fn close(&self) -> Result<()> {
        let core = &self.core;
        if core.shared.check_open().is_err() {
            return Ok(());
        }
        let flushed = match core.shared.is_stopped() {
            true => Ok(()),
            false => core
                .sync()
                .and_then(|()| core.flush_all())
                .and_then(|_| core.retire_log()),
        };
        if !core.shared.close() {
            return Ok(());
        }
        core.signals.end();
        core.uploads_changed.notify_all();
        core.sync_thread.end();
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
        core.collect_garbage();
        core.folder_lock.lock().take();
        flushed
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "closing could not flush; the log holds what was acknowledged");
        }
    }
}

pub(crate) fn check_value(key: &[u8], len: usize, options: &Options) -> Result<()> {
    if len > options.max_value_bytes {
        return Err(Error::ValueTooLarge {
            key: show_key(key),
            len,
            max: options.max_value_bytes,
        });
    }
    Ok(())
}

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
    /// [`Error::KeyLength`], [`Error::ValueTooLarge`], [`Error::Stopped`], [`Error::Closed`].
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
    /// As [`Keyspace::put`]; [`Error::NoMergeOperator`]; [`Error::Merge`] for a malformed operand.
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
        let engine = &self.kv.inner.core;
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
        let engine = &self.kv.inner.core;
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
    /// [`Error::Closed`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let shared = &self.kv.inner.core.shared;
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
    /// [`Error::NotRetained`] naming the nearest readable commits, [`Error::FutureCommit`].
    pub fn at_commit(&self, commit: Commit) -> Result<Snapshot> {
        let shared = &self.kv.inner.core.shared;
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
    /// As [`Keyspace::at_commit`], and [`Error::Truncated`].
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
    /// [`Error::Closed`].
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        self.kv.inner.core.shared.check_open()?;
        let view = self.core.view.load();
        let head = self.kv.head();
        Ok(self.readable(&view, head).commits(self.pins()))
    }

    fn readable<'a>(&self, view: &'a View, head: Commit) -> Readable<'a> {
        Readable::new(view, head, self.kv.inner.core.young_from(view))
    }

    /// The commits that something holds and that are intact.
    fn pins(&self) -> Vec<Commit> {
        let engine = &self.kv.inner.core;
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
        self.kv.inner.core.compact_by_hand(&self.core, options)
    }
}

impl Read for Keyspace {
    #[inline]
    fn at(&self) -> Result<ReadAt> {
        let shared = &self.kv.inner.core.shared;
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

    /// Submits a write for a task.
    fn submit(self: &Arc<Self>, write: &mut Write<'_>) -> WriteFuture {
        let may_lead = match write.durability {
            // Without threads everything happens on the caller's.
            _ if !self.threaded() => MayLead::Thread,
            Durability::Buffered => MayLead::Task,
            Durability::Durable => MayLead::No,
        };
        match self.enqueue(write, Waiter::of_task, may_lead) {
            Err(error) => WriteFuture::failed(error),
            Ok((commit, Submitted::Lead)) => {
                WriteFuture(Some(State::Done(self.lead().map(|()| commit))))
            }
            Ok((commit, Submitted::LeadNow(group, log))) => {
                let led = self.lead_now(group, log);
                WriteFuture(Some(State::Done(led.map(|()| commit))))
            }
            Ok((commit, Submitted::Follow(waiter))) => {
                WriteFuture(Some(State::Waiting(commit, waiter)))
            }
        }
    }

    /// Flushes, compacts, deletes; true when there was something to do.
    pub(crate) fn work(&self) -> Result<bool> {
        self.shared.check_writable()?;
        let flushed = self.flush_sealed()?;
        let compacted = self.compact_next(Mood::Busy)?;
        self.collect_garbage();
        Ok(flushed | compacted)
    }
}

/// A write under way, for a task.
#[derive(Debug)]
pub struct WriteFuture(Option<State>);

#[derive(Debug)]
enum State {
    Done(Result<Commit>),
    Waiting(Commit, Arc<Waiter>),
}

impl WriteFuture {
    fn failed(error: Error) -> Self {
        Self(Some(State::Done(Err(error))))
    }
}

impl Future for WriteFuture {
    type Output = Result<Commit>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self
            .0
            .take()
            .expect("a future is not polled after it is ready")
        {
            State::Done(result) => Poll::Ready(result),
            State::Waiting(commit, waiter) => match waiter.poll(context) {
                Poll::Ready(Outcome::Done(result)) => Poll::Ready(result.map(|()| commit)),
                Poll::Ready(Outcome::Lead) => unreachable!("a task is never told to lead"),
                Poll::Pending => {
                    self.0 = Some(State::Waiting(commit, waiter));
                    Poll::Pending
                }
            },
        }
    }
}

fn start_threads(core: &Arc<Core>) -> Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    let mut start = |name: &str, life: fn(&Core)| -> Result<()> {
        let core = core.clone();
        let thread = std::thread::Builder::new()
            .name(format!("siltstone-{name}"))
            .spawn(move || life(&core))
            .map_err(|e| siltstone_storage::Error::io(name, "start thread", &e))?;
        threads.push(thread);
        Ok(())
    };
    start("commit", |core| {
        while core.signals.wait_to_lead() {
            core.lead_all();
        }
    })?;
    start("flush", |core| {
        while core.signals.wait_to_flush() {
            if let Err(error) = core.flush_sealed() {
                tracing::warn!(%error, "a flush failed and will be tried again");
                core.note_failed_work();
            }
        }
    })?;
    start("compact", compact_forever)?;
    match core.bucket {
        true => start("upload", Core::finish_uploads)?,
        false => start("sync", |core| {
            {
                // Under the lock: a sync that failed meanwhile must not be followed by one that succeeds.
                core.sync_thread.serve(|| {
                    let mut log = core.log.lock();
                    core.shared.check_writable()?;
                    log.sync()
                });
            }
        })?,
    }
    Ok(threads)
}

fn compact_forever(core: &Core) {
    let mut patience = None;
    let mut seen = core.shared.visible();
    loop {
        let wake = core.signals.wait_to_compact(patience);
        if wake == Wake::Ending {
            return;
        }
        let head = core.shared.visible();
        let mood = match wake == Wake::Quiet && head == seen {
            true => Mood::Idle,
            false => Mood::Busy,
        };
        seen = head;
        match core.compact_next(mood) {
            Ok(true) => core.signals.compact(),
            Ok(false) => core.collect_garbage(),
            Err(error) => {
                tracing::warn!(%error, "a compaction failed and will be tried again");
                core.note_failed_work();
            }
        }
        // While something is unsettled, look again after a quiet while.
        patience = core
            .is_unsettled()
            .then_some(core.shared.options.settle_after);
    }
}

impl Core {
    /// True when idle time could be used.
    fn is_unsettled(&self) -> bool {
        let keyspaces = self.keyspaces.read();
        let level0 =
            |core: &Arc<KeyspaceCore>| core.view.load().runs.iter().any(|run| run.level == 0);
        (keyspaces.values().any(level0) || self.may_hollow()) && !self.shared.is_stopped()
    }

    /// Waits a little before failed work is tried again.
    fn note_failed_work(&self) {
        if self.shared.check_writable().is_ok() {
            self.shared.env.clock.sleep(Duration::from_millis(100));
            self.signals.flush();
            self.signals.compact();
        }
    }
}
