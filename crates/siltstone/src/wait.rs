//! What must wait goes to the runtime's blocking threads; all else is done on the calling thread.

use crate::error::{Error, Result};
use crate::scan::Scan;
use bytes::Bytes;
use siltstone_kv::{KeyRange, Read, ScanOptions};
use siltstone_storage::Wait;
use std::ops::RangeBounds;

/// Runs what must wait where waiting is allowed.
pub(crate) async fn wait<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::RuntimeGone)
}

/// Waits, elsewhere, until memory has room for a write.
pub(crate) async fn room(kv: &siltstone_kv::Kv, bytes: usize) -> Result<()> {
    if kv.is_short_of_room() {
        let kv = kv.clone();
        wait(move || kv.wait_for_room(bytes)).await??;
    }
    Ok(())
}

/// A point read: on this thread while the bytes are in memory, elsewhere otherwise.
pub(crate) async fn get<R: Read + Clone + Send + 'static>(
    read: &R,
    key: &[u8],
) -> Result<Option<Bytes>> {
    match read.try_get(key) {
        Err(error) if error.is_would_block() => {
            let (read, key) = (read.clone(), key.to_vec());
            Ok(wait(move || read.get(&key)).await??)
        }
        other => Ok(other?),
    }
}

/// Opens a scan without waiting: what it has to wait for, it waits for at its first step.
pub(crate) fn open_scan<R: Read + Clone + Send + 'static>(
    read: &R,
    range: KeyRange,
    options: ScanOptions,
) -> Result<Scan> {
    match read.open_scan(range.clone(), options.clone(), Wait::Never) {
        Err(error) if error.is_would_block() => {
            let read = read.clone();
            Ok(Scan::unopened(move || {
                read.open_scan(range, options, Wait::Allowed)
            }))
        }
        opened => Ok(Scan::opened(opened?)),
    }
}

pub(crate) fn key_range<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> Result<KeyRange> {
    let start = range.start_bound().map(AsRef::as_ref);
    Ok(KeyRange::new(start, range.end_bound().map(AsRef::as_ref))?)
}
