//! The handle of a writer.

use crate::Batch;
use crate::compaction::pick::Mood;
use crate::core::Core;
use crate::error::{Error, Result, show_key};
use crate::keyspace::Keyspace;
use crate::open::OpenStats;
use crate::operator;
use crate::options::{Durability, KeyspaceOptions, Options};
use crate::pipeline::Write;
use crate::read::{check_key, operator_of};
use crate::state::DEFAULT_KEYSPACE;
use crate::stats::{FlushStats, PutStats, Source, Stats};
use crate::threads::start_threads;
use crate::types::Commit;
use crate::write_future::WriteFuture;
use siltstone_storage::{Env, FolderLock};
use std::any::Any;
use std::sync::Arc;
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
    companions: parking_lot::Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl Kv {
    /// Opens the database in `env`, creating it when there is none.
    ///
    /// A folder should be locked first ([`FolderLock`]); the lock is held until close, and open waits
    /// for no sync: the manifest that raises the epoch is written after it, and before anything else.
    /// A bucket is fenced: an earlier writer that still runs stops at its next write.
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
                companions: parking_lot::Mutex::default(),
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

    /// What a layer above keeps once for each open database, made when it is first asked for. It must
    /// not hold a handle of the database, which would then never close by itself.
    pub fn companion<T: Any + Default + Send + Sync>(&self) -> Arc<T> {
        let mut companions = self.inner.companions.lock();
        let found = companions
            .iter()
            .find_map(|any| any.clone().downcast::<T>().ok());
        found.unwrap_or_else(|| {
            let made = Arc::<T>::default();
            companions.push(made.clone());
            made
        })
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
            Some(core) => Ok(Keyspace::new(self.clone(), core.clone())),
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
        let commit = as_write(batch, durability, |write| core.write(write))?;
        Ok(PutStats {
            commit,
            destination: Source::Memtable,
            latency: core.shared.env.clock.elapsed().saturating_sub(started),
            retries,
        })
    }

    /// As [`Kv::write`]; `numbered` is told the commit's number as soon as it is given, before anybody
    /// waits for a disk. A caller that works out what to write under a lock of its own lets go of the
    /// lock there: then its locks and the commits have one order, and writers share their syncs. Does
    /// not wait for room: call [`Kv::wait_for_room`] first, outside of the lock. An empty batch gets no
    /// number.
    ///
    /// # Errors
    /// As [`Kv::write`]. An error after `numbered` was called means that writes are stopped.
    pub fn write_numbered(
        &self,
        batch: &Batch,
        durability: Durability,
        numbered: impl FnOnce(Commit),
    ) -> Result<Commit> {
        let core = &self.inner.core;
        if batch.is_empty() {
            return Ok(core.shared.visible());
        }
        self.check_batch(batch)?;
        let batch = &*self.settled(batch)?;
        as_write(batch, durability, |write| {
            core.write_numbered(write, numbered)
        })
    }

    /// Waits until every write that has its number is visible.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Closed`].
    pub fn wait_visible(&self) -> Result<()> {
        self.inner.core.pass_through()
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
        as_write(batch, durability, |write| self.inner.core.submit(write))
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
            let offered = core.look_at_offers_in().is_some();
            let compacting = core.compactions.used() > 0 || offered;
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
                .and_then(|()| core.withdraw_offers())
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

/// Does something with `batch` as it goes into the pipeline.
fn as_write<T>(batch: &Batch, durability: Durability, then: impl FnOnce(&mut Write<'_>) -> T) -> T {
    then(&mut Write {
        encode: &mut |out| out.extend_from_slice(&batch.ops),
        ops: batch.count,
        footprint: &batch.footprint,
        user_bytes: batch.user_bytes as u64,
        durability,
        check: None,
        listing: None,
    })
}
