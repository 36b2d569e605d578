//! The segments of one backup under the names that they have in a database: read-only, for
//! verification.

use bytes::Bytes;
use siltstone_storage::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, Error, PutOutcome, Result, StoreKind,
};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Renamed {
    pub(crate) repository: Arc<dyn Blobs>,
    /// Names in a database, with those in the repository.
    pub(crate) names: BTreeMap<String, String>,
}

impl Renamed {
    fn there(&self, name: &str) -> Result<&str> {
        let known = self.names.get(name).map(String::as_str);
        known.ok_or_else(|| Error::NotFound {
            name: name.to_string(),
            store: self.describe(),
        })
    }

    fn read_only<T>(&self, name: &str) -> Result<T> {
        Err(Error::Invalid {
            name: name.to_string(),
            what: "a backup is not written to".into(),
        })
    }
}

impl Blobs for Renamed {
    fn kind(&self) -> StoreKind {
        self.repository.kind()
    }

    fn describe(&self) -> String {
        self.repository.describe()
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.repository.get(self.there(name)?)
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>> {
        self.repository.open(self.there(name)?)
    }

    fn list(&self, _: &str) -> Result<Vec<BlobMeta>> {
        Ok(Vec::new())
    }

    fn can_append(&self) -> bool {
        false
    }

    fn put(&self, name: &str, _: &[u8]) -> Result<()> {
        self.read_only(name)
    }

    fn put_if_absent(&self, name: &str, _: &[u8]) -> Result<PutOutcome> {
        self.read_only(name)
    }

    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>> {
        self.read_only(name)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.read_only(name)
    }

    fn sync(&self, name: &str) -> Result<()> {
        self.read_only(name)
    }

    fn append(&self, name: &str, _: u64) -> Result<Box<dyn Appender>> {
        self.read_only(name)
    }
}
