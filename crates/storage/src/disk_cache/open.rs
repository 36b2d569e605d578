//! The cache of a folder: opened once in a process, locked against others, off when it cannot be.

use super::counters::{Counters, now};
use super::store::{Layout, Store, remove_surplus};
use super::writing::free_bytes;
use super::{DiskCache, DiskCacheStats};
use crate::error::{Error, Result};
use crate::lock::{FolderLock, LockHolder};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// What is read of the files at open takes no longer; reads go to the bucket then.
const OPENING: Duration = Duration::from_secs(10);
/// How often, and how far apart, a folder is tried that this process is still closing.
const TRIES: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// Threads that read and write the folder.
const IO_THREADS: usize = 4;
/// Names of folders with pages: this, the format, the size of files in MiB.
const PAGES: &str = "pages-";
const FORMAT: u32 = 1;

static OPEN: Mutex<BTreeMap<PathBuf, Weak<Cache>>> = Mutex::new(BTreeMap::new());

/// The cache of `settings`; another handle of it when this process has it open.
pub(super) fn open(settings: &DiskCache) -> Arc<Cache> {
    let path = std::path::absolute(&settings.folder).unwrap_or_else(|_| settings.folder.clone());
    let mut open = OPEN.lock();
    if let Some(cache) = open.get(&path).and_then(Weak::upgrade) {
        if cache.settings.bytes != settings.bytes {
            tracing::warn!(
                folder = %path.display(),
                bytes = cache.settings.bytes,
                "the disk cache is open in this process already and keeps the size it was opened with"
            );
        }
        return cache;
    }
    open.retain(|_, cache| cache.strong_count() > 0);
    let cache = Arc::new(Cache::open(DiskCache {
        folder: path.clone(),
        bytes: settings.bytes,
    }));
    open.insert(path, Arc::downgrade(&cache));
    cache
}

type Opened = Result<Store, String>;

#[derive(Debug)]
pub(super) struct Cache {
    settings: DiskCache,
    pub(super) counters: Arc<Counters>,
    opening: Mutex<Option<Receiver<Opened>>>,
    opened: OnceLock<Opened>,
    pages: PathBuf,
    runtime: Option<Runtime>,
    _lock: Option<FolderLock>,
}

impl Cache {
    fn open(settings: DiskCache) -> Self {
        let layout = Layout::of(settings.bytes);
        let name = format!("{PAGES}{FORMAT}-{}", layout.file_bytes >> 20);
        let mut cache = Self {
            pages: settings.folder.join(name),
            settings,
            counters: Arc::default(),
            opening: Mutex::default(),
            opened: OnceLock::new(),
            runtime: None,
            _lock: None,
        };
        if let Err(error) = cache.start(layout) {
            cache.turn_off(error.to_string());
        }
        cache
    }

    fn turn_off(&self, why: String) {
        let folder = self.settings.folder.display();
        tracing::warn!(%folder, why, "no disk cache: every read goes to the bucket");
        // Whoever was first has said why.
        let _ = self.opened.set(Err(why));
    }

    /// Takes the folder, and starts to read what is in it.
    fn start(&mut self, layout: Layout) -> Result<()> {
        let folder = &self.settings.folder;
        let failed = |operation, path: &Path, error: &std::io::Error| {
            Error::io(path.display().to_string(), operation, error)
        };
        fs::create_dir_all(folder).map_err(|e| failed("make the folder", folder, &e))?;
        self._lock = Some(take(folder)?);
        remove_other_formats(folder, &self.pages).map_err(|e| failed("tidy", folder, &e))?;
        fs::create_dir_all(&self.pages).map_err(|e| failed("make the folder", &self.pages, &e))?;
        remove_surplus(&self.pages, layout).map_err(|e| failed("tidy", &self.pages, &e))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(IO_THREADS)
            .thread_name("siltstone-cache")
            .enable_time()
            .build()
            .map_err(|e| failed("start the threads", folder, &e))?;
        let (sender, receiver) = sync_channel(1);
        let (pages, counters) = (self.pages.clone(), self.counters.clone());
        drop(runtime.spawn(async move {
            let opened = Store::open(pages, layout, counters, free_bytes).await;
            // A cache that is gone already needs no answer.
            let _ = sender.send(opened.map_err(|error| error.to_string()));
        }));
        self.runtime = Some(runtime);
        *self.opening.lock() = Some(receiver);
        Ok(())
    }

    /// The pages, unless the cache is off. Waits until it is open.
    pub(super) fn store(&self) -> Option<&Store> {
        if let Some(opened) = self.opened.get() {
            return opened.as_ref().ok();
        }
        let mut opening = self.opening.lock();
        if let Some(receiver) = opening.take() {
            match receiver.recv_timeout(OPENING) {
                Ok(Ok(store)) => drop(self.opened.set(Ok(store))),
                Ok(Err(why)) => self.turn_off(why),
                Err(_) => self.turn_off("its files could not be read".into()),
            }
        }
        self.opened.get()?.as_ref().ok()
    }

    pub(super) fn stats(&self) -> DiskCacheStats {
        // So that it is known whether it is off.
        self.store();
        let counters = &self.counters;
        DiskCacheStats {
            folder: self.settings.folder.clone(),
            off: self
                .opened
                .get()
                .and_then(|opened| opened.as_ref().err().cloned()),
            capacity_bytes: self.settings.bytes,
            disk_bytes: disk_bytes(&self.pages),
            hits: now(&counters.hits),
            misses: now(&counters.misses),
            hit_bytes: now(&counters.hit_bytes),
            written: now(&counters.written),
            skipped: now(&counters.skipped),
            dropped: now(&counters.dropped),
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(store) = self.store() {
            store.finish();
        }
        // The pages first: their last step needs the threads.
        self.opened = OnceLock::new();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Locks the folder. One that this process is about to let go of is waited for.
fn take(folder: &Path) -> Result<FolderLock> {
    let ours = LockHolder::this_process().to_string();
    let mut tries = 0;
    loop {
        match FolderLock::take(folder) {
            Err(Error::Locked { holder, .. }) if holder == ours && tries < TRIES => {
                tries += 1;
                std::thread::sleep(BETWEEN_TRIES);
            }
            Err(Error::Locked { holder, .. }) => {
                return Err(Error::Invalid {
                    name: folder.display().to_string(),
                    what: format!("another process uses it ({holder}); give each its own folder"),
                });
            }
            taken => return taken,
        }
    }
}

/// Deletes pages of other formats and sizes of files.
fn remove_other_formats(folder: &Path, keep: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(PAGES)) && path != keep {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

fn disk_bytes(pages: &Path) -> u64 {
    let Ok(files) = fs::read_dir(pages) else {
        return 0;
    };
    let sizes = files.filter_map(|file| file.ok()?.metadata().ok());
    sizes.map(|file| file.blocks() * 512).sum()
}
