//! Where a database lives: a folder or a bucket, from a URL.

use crate::error::{Error, Result};
use siltstone_storage::{Blobs, Env, FolderLock, LocalBlobs, ObjectBlobs, probe_put_if_absent};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place for a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A prefix in a bucket of an object store.
    Bucket {
        /// The kind of store: `s3`, `gs` or `az`.
        scheme: &'static str,
        /// The bucket or container.
        bucket: String,
        /// The prefix, without slashes at its ends; may be empty.
        prefix: String,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket {
                scheme,
                bucket,
                prefix,
            } => write!(f, "{scheme}://{bucket}/{prefix}"),
        }
    }
}

impl Location {
    /// The place spelled so that no other place is spelled alike on this machine.
    pub(crate) fn absolute(&self) -> String {
        match self {
            Self::Folder(path) => match std::path::absolute(path) {
                Ok(path) => path.display().to_string(),
                Err(_) => self.to_string(),
            },
            Self::Bucket { .. } => self.to_string(),
        }
    }

    /// Reads a URL: a path, `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix`.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn parse(url: &str) -> Result<Self> {
        let bad = |what: &str| {
            Err(Error::Url {
                url: url.to_string(),
                what: what.to_string(),
            })
        };
        if url.is_empty() {
            return bad("is empty; name a folder or s3://bucket/prefix");
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Ok(Self::Folder(url.into()));
        };
        let scheme = match scheme {
            "file" => return Ok(Self::Folder(rest.into())),
            "s3" => "s3",
            "gs" => "gs",
            "az" => "az",
            _ => return bad("has an unknown scheme; use a folder, s3://, gs:// or az://"),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return bad("names no bucket; write s3://bucket/prefix");
        }
        let prefix = prefix.trim_matches('/');
        if prefix.split('/').any(|part| part == ".." || part == ".") {
            return bad("has dots between slashes");
        }
        Ok(Self::Bucket {
            scheme,
            bucket: bucket.to_string(),
            prefix: prefix.to_string(),
        })
    }

    /// Opens the place for a writer: a folder is made when it is not there, and locked; a bucket is
    /// probed for conditional puts.
    pub(crate) fn for_writer(&self) -> Result<(Env, Option<FolderLock>)> {
        let (env, lock) = self.for_database()?;
        if let Self::Bucket { .. } = self {
            probe_put_if_absent(&*env.blobs, &*env.rng)?;
        }
        Ok((env, lock))
    }

    /// As [`Location::for_writer`], for opening a database, which probes by itself.
    pub(crate) fn for_database(&self) -> Result<(Env, Option<FolderLock>)> {
        match self {
            Self::Folder(path) => {
                let blobs = LocalBlobs::create(path)?;
                let lock = FolderLock::take(path)?;
                blobs.remove_leftovers()?;
                Ok((Env::system(Arc::new(blobs)), Some(lock)))
            }
            Self::Bucket { .. } => Ok((Env::system(self.bucket()?), None)),
        }
    }

    /// Opens the place for a reader.
    pub(crate) fn for_reader(&self) -> Result<Env> {
        Ok(Env::system(self.blobs()?))
    }

    /// The bytes of the place, which must be there.
    ///
    /// # Errors
    /// Not found, no permission, missing credentials.
    pub fn blobs(&self) -> Result<Arc<dyn Blobs>> {
        match self {
            Self::Folder(path) => Ok(Arc::new(LocalBlobs::existing(path)?)),
            Self::Bucket { .. } => self.bucket(),
        }
    }

    /// The bytes of the place, made when it is not there.
    ///
    /// # Errors
    /// No permission, missing credentials.
    pub fn create_blobs(&self) -> Result<Arc<dyn Blobs>> {
        match self {
            Self::Folder(path) => Ok(Arc::new(LocalBlobs::create(path)?)),
            Self::Bucket { .. } => self.bucket(),
        }
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Bucket { .. } => None,
        }
    }

    fn bucket(&self) -> Result<Arc<dyn Blobs>> {
        let Self::Bucket {
            scheme,
            bucket,
            prefix,
        } = self
        else {
            unreachable!("called for buckets only");
        };
        let blobs = match *scheme {
            "gs" => ObjectBlobs::gcs_from_env(bucket, prefix)?,
            "az" => ObjectBlobs::azure_from_env(bucket, prefix)?,
            _ => ObjectBlobs::s3_from_env(bucket, prefix)?,
        };
        Ok(Arc::new(blobs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_folders_and_buckets() {
        assert_eq!(
            Location::parse("./data").unwrap(),
            Location::Folder("./data".into())
        );
        assert_eq!(
            Location::parse("file:///var/db").unwrap(),
            Location::Folder("/var/db".into())
        );
        let bucket = Location::parse("s3://data/some/prefix/").unwrap();
        assert_eq!(bucket.to_string(), "s3://data/some/prefix");
        assert_eq!(
            Location::parse("s3://data").unwrap().to_string(),
            "s3://data/"
        );
    }

    #[test]
    fn wrong_urls_say_what_would_be_right() {
        for (url, hint) in [
            ("", "empty"),
            ("ftp://x", "unknown scheme"),
            ("s3:///x", "names no bucket"),
            ("s3://b/../x", "dots"),
        ] {
            let error = Location::parse(url).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
