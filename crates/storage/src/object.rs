//! A bucket as a store: S3 and what speaks its protocol, GCS, Azure, or any other
//! [`object_store::ObjectStore`]. A put has returned once the store has answered, so it is durable;
//! quick failures are repeated with growing pauses; every request has a time limit. Requests run on
//! a small runtime of this crate's own, so that the calls are plain blocking calls on any thread.

mod bulk;
mod conditional;
mod connect;
mod failure;
mod late;
mod runtime;
mod upload;

pub use connect::{AzureSettings, GcsSettings, S3Settings};

use crate::blobs::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, PendingList, PendingPut, PendingRead, Place,
    PutOutcome, StoreKind, Wait, check_name, short_read,
};
use crate::error::{Error, Result};
use bytes::{Bytes, BytesMut};
use failure::{Verdict, verdict};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use runtime::{run, start};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The largest blob a conditional put takes, in bytes: it is sent in one request and may be read
/// back to learn who won.
pub const MAX_CONDITIONAL_BYTES: usize = 64 << 20;
/// The most bytes asked for in one request, so that a request ends within its time limit.
const MAX_REQUEST_BYTES: u64 = 16 << 20;
/// Attempts at a request that can be repeated without harm, when its connection breaks.
const ATTEMPTS: u32 = 5;
/// The pause before the second attempt; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A bucket, or the part of one under a prefix.
///
/// [`Blobs::put_if_absent`] compares bytes to learn whose put won after a lost answer. Its contract:
/// **the bytes of every conditional put are unique to the attempt** (they carry a writer and attempt
/// id). Two callers who put equal bytes under one name are both told
/// [`PutOutcome::Created`]. An error leaves open whether the blob was or will be written.
#[derive(Clone)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    description: Arc<str>,
    /// The bucket with its scheme, where requests about one reach all of its objects.
    bucket: Option<Arc<str>>,
    /// Where many objects can be deleted by one request.
    bulk: Option<Arc<bulk::Bulk>>,
    lateness: Arc<late::Lateness>,
}

impl std::fmt::Debug for ObjectBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The store itself is left out: its Debug could show credentials.
        f.debug_tuple("ObjectBlobs")
            .field(&self.description)
            .finish()
    }
}

impl ObjectBlobs {
    /// Any object store. Names are put under `prefix` (`""` for the root of the bucket);
    /// `description` stands for the store in messages and must hold no secret.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the prefix is not a relative path with single slashes.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        description: impl Into<String>,
    ) -> Result<Self> {
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty() {
            check_name(prefix)?;
        }
        Ok(Self {
            store,
            prefix: prefix.into(),
            description: description.into().into(),
            bucket: None,
            bulk: None,
            lateness: Arc::default(),
        })
    }

    fn target(&self, name: &str) -> Result<Target> {
        check_name(name)?;
        Ok(Target {
            store: self.store.clone(),
            path: self.path(name)?,
            name: name.into(),
            description: self.description.clone(),
        })
    }

    fn path(&self, name: &str) -> Result<Path> {
        let full = match (self.prefix.as_str(), name) {
            ("", name) => name.to_string(),
            (prefix, "") => prefix.to_string(),
            (prefix, name) => format!("{prefix}/{name}"),
        };
        Path::parse(&full).map_err(|error| Error::Invalid {
            name: name.into(),
            what: error.to_string(),
        })
    }

    fn listing(
        &self,
        prefix: &str,
    ) -> Result<impl Future<Output = Result<Vec<BlobMeta>>> + Send + use<>> {
        // Stores list whole path segments; the rest of the prefix is compared here.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let (store, path) = (self.store.clone(), self.path(folder)?);
        let (description, root) = (self.description.clone(), self.prefix.clone());
        let prefix = prefix.to_string();
        Ok(async move {
            let found = retrying(|| {
                let (store, path) = (store.clone(), path.clone());
                async move { store.list(Some(&path)).try_collect::<Vec<_>>().await }
            });
            let found = found.await.map_err(|error| {
                failure::typed(&error, &format!("{prefix}*"), "list", &description)
            })?;
            let mut blobs: Vec<BlobMeta> = found
                .into_iter()
                .filter_map(|meta| {
                    let name = below(meta.location.as_ref(), &root)?;
                    name.starts_with(&prefix).then(|| BlobMeta {
                        name: name.into(),
                        size: meta.size,
                    })
                })
                .collect();
            blobs.sort();
            Ok(blobs)
        })
    }

    fn conditional(&self, name: &str, len: usize) -> Result<Target> {
        if len > MAX_CONDITIONAL_BYTES {
            return Err(Error::Invalid {
                name: name.into(),
                what: format!("a conditional put takes at most {MAX_CONDITIONAL_BYTES} bytes"),
            });
        }
        self.target(name)
    }
}

/// One blob of one store, with all that a request about it needs.
#[derive(Clone)]
struct Target {
    store: Arc<dyn ObjectStore>,
    path: Path,
    name: String,
    description: Arc<str>,
}

impl Target {
    fn typed(&self, error: &object_store::Error, operation: &'static str) -> Error {
        failure::typed(error, &self.name, operation, &self.description)
    }

    /// One put of a blob of at most [`upload::PART_BYTES`].
    fn put_whole(&self, bytes: Bytes) -> Result<()> {
        let target = self.clone();
        run(async move {
            let put = retrying(|| {
                let (target, bytes) = (target.clone(), bytes.clone());
                async move { target.store.put(&target.path, bytes.into()).await }
            });
            put.await
                .map(|_| ())
                .map_err(|error| target.typed(&error, "put"))
        })
    }

    async fn delete(self) -> Result<()> {
        let delete = retrying(|| {
            let target = self.clone();
            async move { target.store.delete(&target.path).await }
        });
        match delete.await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.typed(&error, "delete")),
        }
    }

    /// Deletes many objects, this one among them.
    async fn delete_all(self, paths: Vec<Path>) -> Result<()> {
        let deletion = retrying(|| {
            let (target, paths) = (self.clone(), paths.clone());
            async move { bulk::delete_all(&*target.store, &paths).await }
        });
        deletion.await.map_err(|error| self.typed(&error, "delete"))
    }

    async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let part = retrying(|| {
            let (target, range) = (self.clone(), range.clone());
            async move { target.store.get_range(&target.path, range).await }
        });
        let bytes = part.await.map_err(|error| self.typed(&error, "read"))?;
        let wanted = range.end - range.start;
        if bytes.len() as u64 != wanted {
            let end = range.start + bytes.len() as u64;
            return Err(short_read(&self.name, end, range.start, wanted as usize));
        }
        Ok(bytes)
    }

    /// Reads a range in requests of bounded size.
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end - range.start <= MAX_REQUEST_BYTES {
            return self.range(range).await;
        }
        let mut whole = BytesMut::with_capacity((range.end - range.start) as usize);
        let mut at = range.start;
        while at < range.end {
            let next = range.end.min(at + MAX_REQUEST_BYTES);
            whole.extend_from_slice(&self.range(at..next).await?);
            at = next;
        }
        Ok(whole.freeze())
    }

    async fn get(&self) -> Result<Bytes> {
        let (first, meta) = retrying(|| {
            let target = self.clone();
            async move {
                let result = target.store.get(&target.path).await?;
                let meta = result.meta.clone();
                let small = meta.size <= MAX_REQUEST_BYTES;
                let bytes = if small {
                    Some(result.bytes().await?)
                } else {
                    None
                };
                Ok((bytes, meta))
            }
        })
        .await
        .map_err(|error| self.typed(&error, "get"))?;
        if let Some(bytes) = first {
            return Ok(bytes);
        }
        // A large blob comes in several requests; the last answer proves it is still the same one.
        let head = self.read(0..meta.size - 1).await?;
        let options = GetOptions {
            range: Some(GetRange::Bounded(meta.size - 1..meta.size)),
            ..GetOptions::default()
        };
        let last = self.store.get_opts(&self.path, options).await;
        let last = last.map_err(|error| self.typed(&error, "get"))?;
        if last.meta.e_tag != meta.e_tag || last.meta.size != meta.size {
            return Err(Error::Io {
                name: self.name.clone(),
                operation: "get",
                kind: io::ErrorKind::Interrupted,
                message: "the blob was replaced while it was read; read it again".into(),
            });
        }
        let last = last
            .bytes()
            .await
            .map_err(|error| self.typed(&error, "get"))?;
        let mut whole = BytesMut::from(head);
        whole.extend_from_slice(&last);
        Ok(whole.freeze())
    }
}

/// Repeats a request that does no harm when carried out twice, when its connection breaks. Refusals
/// for the moment (429, 5xx) the client has repeated already.
async fn retrying<T, F, Fut>(mut request: F) -> object_store::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = object_store::Result<T>>,
{
    let mut pause = FIRST_PAUSE;
    let mut attempts = 1;
    loop {
        match request().await {
            Err(error) if attempts < ATTEMPTS && verdict(&error) == Verdict::Uncertain => {}
            result => return result,
        }
        tokio::time::sleep(pause).await;
        attempts += 1;
        pause *= 2;
    }
}

impl Blobs for ObjectBlobs {
    fn kind(&self) -> StoreKind {
        StoreKind::Bucket
    }

    fn describe(&self) -> String {
        self.description.to_string()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > upload::PART_BYTES {
            let mut writer = self.create(name)?;
            writer.write(bytes)?;
            return writer.finish();
        }
        self.target(name)?.put_whole(Bytes::copy_from_slice(bytes))
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<PutOutcome> {
        let target = self.conditional(name, bytes.len())?;
        run(conditional::put_if_absent(
            target,
            Bytes::copy_from_slice(bytes),
        ))
    }

    fn start_put_if_absent(&self, name: &str, bytes: Bytes) -> PendingPut {
        let lateness = self.lateness.clone();
        let started = self.conditional(name, bytes.len()).and_then(|target| {
            start(async move {
                let put = || conditional::put_if_absent(target.clone(), bytes.clone());
                match bytes.len() <= late::LARGEST {
                    true => lateness.twice_if_late(put).await,
                    false => put().await,
                }
            })
        });
        match started {
            Ok(pending) => PendingPut::new(move || pending.wait()?),
            Err(error) => PendingPut::done(Err(error)),
        }
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        let target = self.target(name)?;
        run(async move { target.get().await })
    }

    fn start_get(&self, name: &str) -> PendingRead {
        let started = self
            .target(name)
            .and_then(|target| start(async move { target.get().await }));
        match started {
            Ok(pending) => PendingRead::new(move || pending.wait()?),
            Err(error) => PendingRead::done(Err(error)),
        }
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>> {
        let target = self.target(name)?;
        let opened = run(async move {
            let meta = retrying(|| {
                let target = target.clone();
                async move { target.store.head(&target.path).await }
            });
            let meta = meta.await.map_err(|error| target.typed(&error, "open"))?;
            Ok(ObjectReader {
                target,
                size: meta.size,
            })
        })?;
        Ok(Arc::new(opened))
    }

    fn open_sized(&self, name: &str, size: u64) -> Result<Arc<dyn BlobReader>> {
        let target = self.target(name)?;
        Ok(Arc::new(ObjectReader { target, size }))
    }

    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>> {
        Ok(Box::new(upload::ObjectWriter::new(self.target(name)?)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        run(self.listing(prefix)?)
    }

    fn start_list(&self, prefix: &str) -> PendingList {
        match self.listing(prefix).and_then(start) {
            Ok(pending) => PendingList::new(move || pending.wait()?),
            Err(error) => PendingList::done(Err(error)),
        }
    }

    fn place(&self, name: &str) -> Option<Place> {
        Some(Place::Object {
            bucket: self.bucket.as_deref()?.to_string(),
            key: self.path(name).ok()?.to_string(),
        })
    }

    fn link(&self, name: &str, source: &Place) -> Result<bool> {
        let Place::Object { bucket, key } = source else {
            return Ok(false);
        };
        if self.bucket.as_deref() != Some(bucket) {
            return Ok(false);
        }
        let target = self.target(name)?;
        let from = Path::parse(key).map_err(|error| Error::Invalid {
            name: key.clone(),
            what: error.to_string(),
        })?;
        run(async move {
            let copy = retrying(|| {
                let (target, from) = (target.clone(), from.clone());
                async move { target.store.copy(&from, &target.path).await }
            });
            match copy.await {
                Ok(()) => Ok(true),
                Err(object_store::Error::NotSupported { .. }) => Ok(false),
                Err(error) => Err(target.typed(&error, "copy")),
            }
        })
    }

    fn delete(&self, name: &str) -> Result<()> {
        run(self.target(name)?.delete())
    }

    fn delete_all(&self, names: &[String]) -> Result<()> {
        let paths = names.iter().map(|name| {
            check_name(name)?;
            self.path(name)
        });
        let paths: Vec<Path> = paths.collect::<Result<_>>()?;
        let Some(first) = names.first() else {
            return Ok(());
        };
        let (target, bulk) = (self.target(first)?, self.bulk.clone());
        run(async move {
            match bulk {
                Some(bulk) if bulk.delete(&paths).await => Ok(()),
                _ => target.delete_all(paths).await,
            }
        })
    }

    fn sync(&self, name: &str) -> Result<()> {
        // An object that can be seen is durable.
        self.open(name).map(|_| ())
    }

    fn can_append(&self) -> bool {
        false
    }

    fn append(&self, _name: &str, _reserve: u64) -> Result<Box<dyn Appender>> {
        Err(Error::Unsupported {
            store: self.describe(),
            operation: "append",
        })
    }
}

/// The name of an object below the root of the database.
fn below<'a>(location: &'a str, root: &str) -> Option<&'a str> {
    match root {
        "" => Some(location),
        root => location.strip_prefix(root)?.strip_prefix('/'),
    }
}

/// Reads of one object by range.
struct ObjectReader {
    target: Target,
    size: u64,
}

impl std::fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectReader")
            .field("name", &self.target.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl ObjectReader {
    /// Where a read of `len` bytes at `offset` ends, inside the object.
    fn end_of(&self, offset: u64, len: usize) -> Result<u64> {
        offset
            .checked_add(len as u64)
            .filter(|end| *end <= self.size)
            .ok_or_else(|| short_read(&self.target.name, self.size, offset, len))
    }
}

impl BlobReader for ObjectReader {
    fn read(&self, offset: u64, len: usize, wait: Wait) -> Result<Bytes> {
        let end = self.end_of(offset, len)?;
        if len == 0 {
            return Ok(Bytes::new());
        }
        if wait == Wait::Never {
            return Err(Error::WouldBlock {
                name: self.target.name.clone(),
            });
        }
        let target = self.target.clone();
        run(async move { target.read(offset..end).await })
    }

    fn start_read(&self, offset: u64, len: usize) -> PendingRead {
        let target = self.target.clone();
        let started = match self.end_of(offset, len) {
            Ok(_) if len == 0 => return PendingRead::done(Ok(Bytes::new())),
            Ok(end) => start(async move { target.read(offset..end).await }),
            Err(error) => Err(error),
        };
        match started {
            Ok(pending) => PendingRead::new(move || pending.wait()?),
            Err(error) => PendingRead::done(Err(error)),
        }
    }

    fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[test]
    fn any_object_store_can_stand_below() {
        let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = ObjectBlobs::new(memory.clone(), "/db/", "memory").unwrap();
        assert_eq!(
            store.put_if_absent("a/1", b"one").unwrap(),
            PutOutcome::Created
        );
        assert_eq!(
            store.put_if_absent("a/1", b"two").unwrap(),
            PutOutcome::Exists
        );
        assert_eq!(store.get("a/1").unwrap(), &b"one"[..]);
        assert_eq!(store.list("a/").unwrap()[0].name, "a/1");
        let root = ObjectBlobs::new(memory.clone(), "", "memory").unwrap();
        assert_eq!(root.list("").unwrap()[0].name, "db/a/1");
        store.delete("a/1").unwrap();
        store.delete("a/1").unwrap();
        assert!(root.list("").unwrap().is_empty());
        let names: Vec<String> = (0..2500).map(|n| format!("b/{n}")).collect();
        for name in &names[..2400] {
            store.put(name, b"x").unwrap();
        }
        store.put("c", b"stays").unwrap();
        store.delete_all(&names).unwrap();
        store.delete_all(&[]).unwrap();
        assert_eq!(root.list("").unwrap().len(), 1, "also where some are gone");
        for wrong in ["../up", ""] {
            assert!(store.delete_all(&["c".into(), wrong.into()]).is_err());
            assert_eq!(store.get("c").unwrap(), &b"stays"[..]);
        }
        assert!(ObjectBlobs::new(memory, "../up", "memory").is_err());
    }

    #[test]
    fn a_conditional_put_has_a_size_limit() {
        let store = ObjectBlobs::new(Arc::new(InMemory::new()), "", "memory").unwrap();
        let large = Bytes::from(vec![0; MAX_CONDITIONAL_BYTES + 1]);
        let refused = store.start_put_if_absent("a", large).wait();
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
}
