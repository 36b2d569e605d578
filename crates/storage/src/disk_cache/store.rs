//! The pages of a folder, over the crate `foyer`: its engine for disks alone, without its cache in
//! memory, since the engines above have one.

use super::counters::Counters;
use super::page::{Key, PAGE_ON_DISK, Page};
use super::writing::{BACKLOG_BYTES, FreeBytes, Writing};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, Load, PsyncIoEngineConfig, RecoverMode,
};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tokio::runtime::Handle;

/// The pages as `foyer` keeps them.
pub(super) type Pages = HybridCache<Key, Page>;

/// A disk that has not answered after this long is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The folder is evicted from in this many parts, or up to twice as many.
const PARTS: u64 = 128;
/// The smallest and the largest part, in bytes. Each is a file that is kept open.
const SMALLEST_PART: u64 = 1 << 20;
const LARGEST_PART: u64 = 2 << 30;

/// How a cache of so many bytes is cut up: files of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) file_bytes: u64,
    pub(super) files: u64,
}

impl Layout {
    pub(super) fn of(bytes: u64) -> Self {
        let part = (bytes / PARTS / 2 + 1).next_power_of_two();
        let file_bytes = part.clamp(SMALLEST_PART, LARGEST_PART);
        Self {
            file_bytes,
            files: bytes / file_bytes,
        }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    pages: Pages,
    spawner: Handle,
    writing: Arc<Writing>,
}

impl Store {
    /// Opens the files in `folder`, with what is in them.
    pub(super) async fn open(
        folder: PathBuf,
        layout: Layout,
        counters: Arc<Counters>,
        free_bytes: FreeBytes,
    ) -> foyer::Result<Self> {
        let device = FsDeviceBuilder::new(&folder)
            .with_capacity((layout.file_bytes * layout.files) as usize)
            .build()?;
        let engine = BlockEngineConfig::new(device)
            .with_block_size(layout.file_bytes as usize)
            .with_buffer_pool_size((BACKLOG_BYTES + PAGE_ON_DISK) as usize)
            .with_submit_queue_size_threshold((2 * BACKLOG_BYTES) as usize)
            .with_recover_concurrency(4)
            .with_indexer_shards(16);
        let pages = HybridCacheBuilder::new()
            .with_name("siltstone")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .memory(1)
            .with_shards(1)
            .with_filter(|_, _| false)
            .storage()
            .with_io_engine_config(PsyncIoEngineConfig::new())
            .with_engine_config(engine)
            .with_recover_mode(RecoverMode::Quiet)
            .build()
            .await?;
        Ok(Self {
            pages,
            spawner: Handle::current(),
            writing: Writing::new(folder, counters, free_bytes),
        })
    }

    /// True when the page is there, as far as memory knows.
    pub(super) fn may_have(&self, key: Key) -> bool {
        self.pages.storage().may_contains(&key)
    }

    /// Puts a page there, if the disk keeps up.
    pub(super) fn put(&self, key: Key, page: Page) {
        self.writing.put(&self.pages, &self.spawner, key, page);
    }

    /// Starts to read pages.
    pub(super) fn start_load(&self, keys: Vec<Key>) -> Loads {
        let (sender, receiver) = sync_channel(1);
        let loads: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let pages = self.pages.clone();
                self.spawner.spawn(async move {
                    match pages.storage().load(&key).await {
                        Ok(Load::Entry { value, .. }) => Some(value),
                        Ok(Load::Piece { piece, .. }) => Some(piece.value().clone()),
                        Ok(Load::Miss | Load::Throttled) | Err(_) => None,
                    }
                })
            })
            .collect();
        drop(self.spawner.spawn(async move {
            let mut loaded = Vec::with_capacity(loads.len());
            for load in loads {
                // A load that panicked found nothing.
                loaded.push(load.await.ok().flatten());
            }
            // Who does not wait any more needs no answer.
            let _ = sender.send(loaded);
        }));
        Loads(Mutex::new(receiver))
    }

    /// Waits until what is on its way is on the disk, or the disk takes too long.
    pub(super) fn finish(&self) {
        let (sender, receiver) = sync_channel(1);
        let pages = self.pages.clone();
        drop(self.spawner.spawn(async move {
            let closed = pages.close().await;
            let _ = sender.send(closed);
        }));
        if !matches!(receiver.recv_timeout(PATIENCE), Ok(Ok(()))) {
            tracing::warn!(
                "the disk cache could not be closed: what was read last may be missing in it"
            );
        }
    }
}

/// Pages being read.
#[derive(Debug)]
pub(super) struct Loads(Mutex<Receiver<Vec<Option<Page>>>>);

impl Loads {
    /// Waits for them; `None` in place of each when the disk takes too long.
    pub(super) fn wait(self, count: usize) -> Vec<Option<Page>> {
        let loaded = self.0.into_inner().recv_timeout(PATIENCE);
        loaded.unwrap_or_else(|_| vec![None; count])
    }
}

/// The name that `foyer` gives to its files, before their number.
const FILE_PREFIX: &str = "foyer-storage-direct-fs-";

/// Deletes files that a larger cache left in `folder`.
pub(super) fn remove_surplus(folder: &Path, layout: Layout) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(FILE_PREFIX));
        let number = number.and_then(|number| number.parse::<u64>().ok());
        if number.is_some_and(|number| number >= layout.files) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_of_any_size_has_parts_enough_and_few_files() {
        for mib in [16, 17, 64, 100, 1000, 10 << 10, 100 << 10, 1 << 20] {
            let bytes = mib << 20;
            let Layout { file_bytes, files } = Layout::of(bytes);
            assert!(file_bytes * files <= bytes, "{mib}");
            assert!(
                file_bytes * files > bytes - bytes / 8,
                "{mib}: most of it is used"
            );
            assert!((16..=512).contains(&files), "{mib}: {files}");
        }
    }
}
