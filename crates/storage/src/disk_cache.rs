//! A cache on a local disk in front of a bucket, for what never changes once it is written: tables,
//! blob files and archives.
//!
//! It stands below the engines, as a [`Blobs`] over another one, so that all of them have it and none
//! knows of it. Ranges are kept in pages of [`PAGE_BYTES`], each sealed with a digest that binds it to
//! its database, blob and place; whatever does not match is dropped and the bucket is read. No trouble
//! with the folder ever fails a read: it is warned of, and the reads go to the bucket
//! (`docs/decisions/0014-disk-cache.md`).

#[cfg(feature = "disk-cache")]
mod counters;
#[cfg(feature = "disk-cache")]
mod identity;
#[cfg(feature = "disk-cache")]
mod open;
#[cfg(feature = "disk-cache")]
mod page;
#[cfg(feature = "disk-cache")]
mod reader;
#[cfg(feature = "disk-cache")]
mod store;
#[cfg(all(test, feature = "disk-cache"))]
mod tests;
#[cfg(feature = "disk-cache")]
mod writing;

use crate::env::Env;
use crate::error::{Error, Result};
use serde::Serialize;
use std::path::PathBuf;

/// A folder on a local disk that keeps what was read from a bucket, over restarts.
///
/// Databases of one process may share a folder; a second process goes without, and warns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskCache {
    /// The folder. It is made when it is not there; nothing else should be in it.
    pub folder: PathBuf,
    /// The most it may take on the disk, in bytes; at least [`DiskCache::MIN_BYTES`].
    pub bytes: u64,
}

impl DiskCache {
    /// The least a cache may be given, in bytes: 16 MiB.
    pub const MIN_BYTES: u64 = 16 << 20;

    /// Says whether this build has it, and whether the size will do.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self) -> Result<()> {
        let refuse = |what: String| {
            Err(Error::Invalid {
                name: format!("disk cache {}", self.folder.display()),
                what,
            })
        };
        if !cfg!(feature = "disk-cache") {
            return refuse(
                "this build has no disk cache; build it with `--features disk-cache`".into(),
            );
        }
        if self.bytes < Self::MIN_BYTES {
            return refuse(format!(
                "{} bytes are too few; give it {} or more",
                self.bytes,
                Self::MIN_BYTES
            ));
        }
        Ok(())
    }

    /// Puts the cache in front of the store of `env`, where that is a bucket; a folder needs none.
    ///
    /// # Errors
    /// As [`DiskCache::check`]. A folder that cannot be used is no error: it is warned of, and every
    /// read goes to the bucket.
    pub fn in_front_of(&self, env: Env) -> Result<Env> {
        self.check()?;
        Ok(match env.blobs.can_append() {
            true => env,
            false => self.wrap(env),
        })
    }

    #[cfg(feature = "disk-cache")]
    fn wrap(&self, env: Env) -> Env {
        let cached = reader::CachedBlobs::new(&env, open::open(self));
        Env {
            blobs: std::sync::Arc::new(cached),
            ..env
        }
    }

    #[cfg(not(feature = "disk-cache"))]
    fn wrap(&self, env: Env) -> Env {
        env
    }
}

/// What a disk cache holds, and what it has done since this process opened it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DiskCacheStats {
    /// Its folder.
    pub folder: PathBuf,
    /// Why it is not in use; `None` when it is.
    pub off: Option<String>,
    /// The most it may take, in bytes.
    pub capacity_bytes: u64,
    /// What its files take on the disk, in bytes.
    pub disk_bytes: u64,
    /// Pages that were found in it.
    pub hits: u64,
    /// Pages that the bucket was asked for.
    pub misses: u64,
    /// Bytes of the pages found.
    pub hit_bytes: u64,
    /// Pages put into it.
    pub written: u64,
    /// Pages that were not put into it: its disk was slower than the bucket, full or failing.
    pub skipped: u64,
    /// Pages that it had and that were dropped: damaged, cut off, or another one's.
    pub dropped: u64,
}
