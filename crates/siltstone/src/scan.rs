//! A scan for asynchronous programs.

use crate::database::wait;
use crate::error::{Error, Result};
use bytes::Bytes;
use siltstone_kv::ScanStats;

/// An open scan. Rows whose blocks are in memory come without leaving the thread.
#[derive(Debug)]
pub struct Scan(Option<siltstone_kv::Scan>);

impl Scan {
    pub(crate) fn new(scan: siltstone_kv::Scan) -> Self {
        Self(Some(scan))
    }

    /// The next row, `None` at the end.
    ///
    /// # Errors
    /// The store's; the scan is over then.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        let Some(scan) = &mut self.0 else {
            return Err(Error::RuntimeGone);
        };
        match scan.try_next() {
            Err(error) if error.is_would_block() => {}
            more => return Ok(more?.then(|| row(scan))),
        }
        let Some(mut scan) = self.0.take() else {
            return Err(Error::RuntimeGone);
        };
        let (scan, more) = wait(move || {
            let more = scan.next();
            (scan, more)
        })
        .await?;
        let scan = self.0.insert(scan);
        match scan.error() {
            Some(error) => Err(error.clone().into()),
            None => Ok(more.then(|| row(scan))),
        }
    }

    /// What the scan has done so far.
    pub fn stats(&self) -> ScanStats {
        self.0
            .as_ref()
            .map(siltstone_kv::Scan::stats)
            .unwrap_or_default()
    }
}

fn row(scan: &siltstone_kv::Scan) -> (Bytes, Bytes) {
    (
        Bytes::copy_from_slice(scan.key()),
        Bytes::copy_from_slice(scan.value()),
    )
}
