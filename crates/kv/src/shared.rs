//! What every handle of an open database shares: settings, cache, counters, the visible commit, and
//! whether writes are still taken.

use crate::blob::file::BlobFiles;
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::permits::Permits;
use crate::snapshot::HeldCommits;
use crate::stats::Counters;
use crate::types::Commit;
use siltstone_storage::Env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

#[derive(Debug)]
#[doc(hidden)]
pub struct Shared {
    pub(crate) env: Env,
    pub(crate) options: Options,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) blob_files: BlobFiles,
    pub(crate) counters: Counters,
    pub(crate) held: HeldCommits,
    pub(crate) scans: Permits,
    visible: AtomicU64,
    closed: AtomicBool,
    closing: AtomicBool,
    stopped: OnceLock<Arc<Error>>,
}

impl Shared {
    pub(crate) fn new(env: Env, options: Options) -> Arc<Self> {
        Arc::new(Self {
            cache: Arc::new(BlockCache::new(options.memory_budget as u64)),
            blob_files: BlobFiles::default(),
            scans: Permits::new(options.max_scans),
            env,
            options,
            counters: Counters::default(),
            held: HeldCommits::default(),
            visible: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            stopped: OnceLock::new(),
        })
    }

    /// The newest commit that readers may see.
    #[inline]
    pub(crate) fn visible(&self) -> Commit {
        Commit(self.visible.load(Ordering::Acquire))
    }

    /// Published last, after log and memtable.
    pub(crate) fn publish(&self, commit: Commit) {
        self.visible.store(commit.0, Ordering::Release);
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Marks the handle closed; true for the first caller.
    pub(crate) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::SeqCst)
    }

    /// Refuses writes after one that could not be made durable.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.closing.load(Ordering::Relaxed) {
            return Err(Error::Closed);
        }
        match self.stopped.get() {
            Some(cause) => Err(Error::Stopped {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The last step of closing: no write gets in any more.
    pub(crate) fn refuse_writes(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Stops writes until the database is reopened.
    pub(crate) fn stop(&self, cause: &Error) {
        if let Error::Stopped { .. } = cause {
            return;
        }
        if self.stopped.set(Arc::new(cause.clone())).is_ok() {
            tracing::error!(%cause, "writes are stopped until the database is reopened");
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get().is_some()
    }
}
