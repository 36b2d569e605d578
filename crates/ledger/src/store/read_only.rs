//! A store that nothing is written to, whatever is called: what a reader beside a writer is given.

use bytes::Bytes;
use siltstone_storage::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, Caching, Error, Place, PutOutcome, Result,
    StoreKind,
};
use std::sync::Arc;

/// The blobs of `inner`, for reading.
#[derive(Debug)]
pub(crate) struct ReadOnlyBlobs {
    inner: Arc<dyn Blobs>,
}

impl ReadOnlyBlobs {
    pub(crate) fn new(inner: Arc<dyn Blobs>) -> Self {
        Self { inner }
    }
}

fn refused<T>(name: &str) -> Result<T> {
    Err(Error::Invalid {
        name: name.to_string(),
        what: "the ledger is open for reading; its writer writes".into(),
    })
}

impl Blobs for ReadOnlyBlobs {
    fn kind(&self) -> StoreKind {
        self.inner.kind()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn put(&self, name: &str, _: &[u8]) -> Result<()> {
        refused(name)
    }

    fn put_if_absent(&self, name: &str, _: &[u8]) -> Result<PutOutcome> {
        refused(name)
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.inner.get(name)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>> {
        self.inner.open(name)
    }

    fn open_sized(&self, name: &str, size: u64) -> Result<Arc<dyn BlobReader>> {
        self.inner.open_sized(name, size)
    }

    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>> {
        refused(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        self.inner.list(prefix)
    }

    fn delete(&self, name: &str) -> Result<()> {
        refused(name)
    }

    fn place(&self, name: &str) -> Option<Place> {
        self.inner.place(name)
    }

    fn caching(&self, how: Caching) -> Option<Arc<dyn Blobs>> {
        let inner = self.inner.caching(how)?;
        Some(Arc::new(Self { inner }))
    }

    fn sync(&self, name: &str) -> Result<()> {
        refused(name)
    }

    fn can_append(&self) -> bool {
        self.inner.can_append()
    }

    fn append(&self, name: &str, _: u64) -> Result<Box<dyn Appender>> {
        refused(name)
    }
}
