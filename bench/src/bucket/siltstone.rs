//! Siltstone in a bucket: its default settings, through the asynchronous front door; with a cache on a
//! local disk, or without; with an interval between log objects, or without.

use std::time::Duration;

use siltstone::{Database, DiskCache, Durability, KeyspaceOptions, Options};

use crate::bucket::engine::BucketEngine;
use crate::bucket::server::Place;
use crate::data;
use crate::engine::Result;

/// The variable with the folder for the disk cache.
pub(super) const CACHE: &str = "SILTSTONE_BENCH_DISK_CACHE";
/// Larger than any database here, in bytes.
const CACHE_BYTES: u64 = 4 << 30;

/// An open Siltstone database whose log objects leave at least `INTERVAL_MS` milliseconds apart.
pub(crate) struct Siltstone<const CACHED: bool, const INTERVAL_MS: u64>(Database);

impl<const CACHED: bool, const INTERVAL_MS: u64> BucketEngine for Siltstone<CACHED, INTERVAL_MS> {
    async fn open(place: &Place, prefix: &str) -> Result<Self> {
        // Endpoint and credentials are in the environment of this process.
        let url = format!("s3://{}/{prefix}", place.bucket);
        let folder = std::env::var_os(CACHE).filter(|_| CACHED);
        let options = Options {
            disk_cache: folder.map(|folder| DiskCache {
                folder: folder.into(),
                bytes: CACHE_BYTES,
            }),
            log_interval: Duration::from_millis(INTERVAL_MS),
            ..Options::default()
        };
        let opened = Database::open_with(&url, options, KeyspaceOptions::default());
        Ok(Self(opened.await?))
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.put(key, value).await?;
        Ok(())
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let keyspace = self.0.default_keyspace();
        keyspace.put_with(key, value, Durability::Buffered).await?;
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        Ok(self.0.sync().await?)
    }

    async fn flush(&self) -> Result<()> {
        self.0.flush().await?;
        Ok(())
    }

    async fn settle(&self) -> Result<()> {
        self.0.flush().await?;
        let database = self.0.blocking().clone();
        let settled = tokio::task::spawn_blocking(move || database.kv().settle());
        Ok(settled.await??)
    }

    async fn get(&self, key: &[u8]) -> Result<bool> {
        let found = self.0.get(key).await?;
        Ok(found.is_some_and(|value| data::belongs(key, &value)))
    }

    async fn scan(&self, from: &[u8], limit: usize) -> Result<usize> {
        let mut scan = self.0.scan(from..)?;
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = scan.next().await?
        {
            std::hint::black_box(data::touch(&key).wrapping_add(data::touch(&value)));
            count += 1;
        }
        Ok(count)
    }

    async fn close(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}
