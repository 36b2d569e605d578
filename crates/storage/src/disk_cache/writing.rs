//! Pages on their way into the cache. Only so many may be: a disk that is slower than the bucket costs
//! pages that are not kept, never memory or time. After each batch it is looked whether the pages have
//! arrived; when they have not, the disk takes none, and no more are given to it.

use super::counters::{Counters, add};
use super::page::{Key, Page};
use super::store::Pages;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::runtime::Handle;

/// The most bytes of pages that may be on their way.
pub(super) const BACKLOG_BYTES: u64 = 8 << 20;
/// What is left free on the disk, in bytes.
const FREE_BYTES: u64 = 64 << 20;
/// The free space is looked at once for this many bytes.
const LOOK_EVERY: u64 = 4 << 20;

/// Asks how many bytes are free on the disk of a folder.
pub(super) type FreeBytes = fn(&Path) -> Option<u64>;

/// The answer of the system, where it gives one.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[derive(Debug, Default)]
struct Batch {
    pages: Vec<(Key, u64)>,
    settling: bool,
}

#[derive(Debug)]
pub(super) struct Writing {
    folder: PathBuf,
    free_bytes: FreeBytes,
    counters: Arc<Counters>,
    under_way: AtomicU64,
    batch: Mutex<Batch>,
    stopped: AtomicBool,
    since_look: AtomicU64,
    full: AtomicBool,
}

impl Writing {
    pub(super) fn new(
        folder: PathBuf,
        counters: Arc<Counters>,
        free_bytes: FreeBytes,
    ) -> Arc<Self> {
        Arc::new(Self {
            folder,
            free_bytes,
            counters,
            under_way: AtomicU64::new(0),
            batch: Mutex::default(),
            stopped: AtomicBool::new(false),
            since_look: AtomicU64::new(LOOK_EVERY),
            full: AtomicBool::new(false),
        })
    }

    /// Hands a page to the disk, if there is room on the way.
    pub(super) fn put(self: &Arc<Self>, pages: &Pages, spawner: &Handle, key: Key, page: Page) {
        let bytes = page.on_disk();
        if self.stopped.load(Ordering::Relaxed) || self.is_full(bytes) || !self.enter(bytes) {
            add(&self.counters.skipped, 1);
            return;
        }
        drop(pages.storage_writer(key).force().insert(page));
        let mut batch = self.batch.lock();
        batch.pages.push((key, bytes));
        if !std::mem::replace(&mut batch.settling, true) {
            drop(spawner.spawn(self.clone().settle(pages.clone())));
        }
    }

    fn enter(&self, bytes: u64) -> bool {
        let entered = |under_way: u64| {
            let after = under_way + bytes;
            (after <= BACKLOG_BYTES).then_some(after)
        };
        let order = Ordering::Relaxed;
        self.under_way.fetch_update(order, order, entered).is_ok()
    }

    /// True while the disk of the folder has hardly any space left.
    fn is_full(&self, bytes: u64) -> bool {
        if self.since_look.fetch_add(bytes, Ordering::Relaxed) + bytes < LOOK_EVERY {
            return self.full.load(Ordering::Relaxed);
        }
        self.since_look.store(0, Ordering::Relaxed);
        let full = (self.free_bytes)(&self.folder).is_some_and(|free| free < FREE_BYTES);
        if full && !self.full.swap(full, Ordering::Relaxed) {
            tracing::warn!(
                folder = %self.folder.display(),
                "the disk of the disk cache is nearly full: nothing more is kept until there is space"
            );
        }
        self.full.store(full, Ordering::Relaxed);
        full
    }

    async fn settle(self: Arc<Self>, pages: Pages) {
        loop {
            let batch = {
                let mut batch = self.batch.lock();
                batch.settling = !batch.pages.is_empty();
                std::mem::take(&mut batch.pages)
            };
            if batch.is_empty() {
                return;
            }
            pages.storage().wait().await;
            let arrived = batch
                .iter()
                .filter(|(key, _)| pages.storage().may_contains(key))
                .count();
            add(&self.counters.written, arrived as u64);
            let lost = batch.len() - arrived;
            if lost > 0 && !self.stopped.swap(true, Ordering::Relaxed) {
                add(&self.counters.skipped, lost as u64);
                tracing::warn!(
                    folder = %self.folder.display(),
                    lost,
                    "the disk cache cannot be written: what it has is used, nothing more is kept; look for a full or failing disk and open again"
                );
            }
            let bytes = batch.iter().map(|(_, bytes)| bytes).sum();
            self.under_way.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}
