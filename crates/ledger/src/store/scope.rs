//! A part of a store that looks like a store of its own: every name carries a prefix. Several ledgers
//! live so in one database folder or bucket, and none can name what belongs to another.

use bytes::Bytes;
use siltstone_storage::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, Caching, Error, PendingPut, Place,
    PutOutcome, Result, StoreKind,
};
use std::sync::Arc;

/// The blobs of `inner` whose names start with a prefix, named without it.
#[derive(Debug, Clone)]
pub struct ScopedBlobs {
    inner: Arc<dyn Blobs>,
    /// Ends with `/`.
    prefix: String,
}

impl ScopedBlobs {
    /// The part of `inner` below `folder` (relative, without a slash at its end).
    pub fn new(inner: Arc<dyn Blobs>, folder: &str) -> Self {
        Self {
            inner,
            prefix: format!("{folder}/"),
        }
    }

    /// The name in the store below. A name that is empty or climbs out is refused there.
    fn name(&self, name: &str) -> Result<String> {
        if name.is_empty() || name.starts_with('/') {
            return Err(Error::Invalid {
                name: name.to_string(),
                what: "a blob name is relative and not empty".into(),
            });
        }
        Ok(format!("{}{name}", self.prefix))
    }
}

impl Blobs for ScopedBlobs {
    fn kind(&self) -> StoreKind {
        self.inner.kind()
    }

    fn describe(&self) -> String {
        format!("{} below {}", self.inner.describe(), self.prefix)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.inner.put(&self.name(name)?, bytes)
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<PutOutcome> {
        self.inner.put_if_absent(&self.name(name)?, bytes)
    }

    fn start_put_if_absent(&self, name: &str, bytes: Bytes) -> PendingPut {
        match self.name(name) {
            Ok(name) => self.inner.start_put_if_absent(&name, bytes),
            Err(error) => PendingPut::done(Err(error)),
        }
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.inner.get(&self.name(name)?)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>> {
        self.inner.open(&self.name(name)?)
    }

    fn open_sized(&self, name: &str, size: u64) -> Result<Arc<dyn BlobReader>> {
        self.inner.open_sized(&self.name(name)?, size)
    }

    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>> {
        self.inner.create(&self.name(name)?)
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        let mut found = self.inner.list(&format!("{}{prefix}", self.prefix))?;
        for blob in &mut found {
            blob.name.drain(..self.prefix.len());
        }
        Ok(found)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(&self.name(name)?)
    }

    fn place(&self, name: &str) -> Option<Place> {
        self.inner.place(&self.name(name).ok()?)
    }

    fn link(&self, name: &str, source: &Place) -> Result<bool> {
        self.inner.link(&self.name(name)?, source)
    }

    fn caching(&self, how: Caching) -> Option<Arc<dyn Blobs>> {
        let inner = self.inner.caching(how)?;
        let prefix = self.prefix.clone();
        Some(Arc::new(Self { inner, prefix }))
    }

    fn sync(&self, name: &str) -> Result<()> {
        self.inner.sync(&self.name(name)?)
    }

    fn can_append(&self) -> bool {
        self.inner.can_append()
    }

    fn append(&self, name: &str, reserve: u64) -> Result<Box<dyn Appender>> {
        self.inner.append(&self.name(name)?, reserve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siltstone_storage::MemBlobs;

    #[test]
    fn two_scopes_of_one_store_do_not_see_each_other() {
        let all = Arc::new(MemBlobs::new());
        let one = ScopedBlobs::new(all.clone(), "ledger/one");
        let two = ScopedBlobs::new(all.clone(), "ledger/two");
        one.put("a/b", b"1").unwrap();
        two.put("a/b", b"2").unwrap();
        assert_eq!(one.get("a/b").unwrap(), &b"1"[..]);
        assert_eq!(one.list("a/").unwrap().len(), 1);
        assert_eq!(two.list("").unwrap()[0].name, "a/b");
        assert!(one.get("../two/a/b").is_err());
        assert!(one.get("/a/b").is_err());
        assert_eq!(all.list("ledger/").unwrap().len(), 2);
    }
}
