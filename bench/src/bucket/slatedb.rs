//! SlateDB 0.18 in a bucket. See README.md for why these settings.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use slatedb::Db;
use slatedb::config::{
    CompressionCodec, FlushOptions, FlushType, GarbageCollectorOptions, ScanOptions, Settings,
};
use slatedb::db_cache::SplitCache;
use slatedb::db_cache::foyer::{FoyerCache, FoyerCacheOptions};

use crate::bucket::engine::BucketEngine;
use crate::bucket::server::Place;
use crate::data;
use crate::engine::Result;

/// Memory for data blocks.
const BLOCK_CACHE_BYTES: u64 = 176 << 20;
/// Memory for filters and indexes.
const META_CACHE_BYTES: u64 = 16 << 20;

/// An open SlateDB database whose log objects leave every `FLUSH_MS` milliseconds.
pub(crate) struct SlateDb<const FLUSH_MS: u64>(Db);

fn cache(max_capacity: u64) -> Arc<FoyerCache> {
    Arc::new(FoyerCache::new_with_opts(FoyerCacheOptions {
        max_capacity,
        ..FoyerCacheOptions::default()
    }))
}

impl<const FLUSH_MS: u64> BucketEngine for SlateDb<FLUSH_MS> {
    async fn open(place: &Place, prefix: &str) -> Result<Self> {
        let store = AmazonS3Builder::new()
            .with_bucket_name(&place.bucket)
            .with_region("us-east-1")
            .with_endpoint(&place.endpoint)
            .with_allow_http(true)
            .with_access_key_id(&place.access_key)
            .with_secret_access_key(&place.secret_key)
            .build()?;
        let settings = Settings {
            flush_interval: Some(Duration::from_millis(FLUSH_MS)),
            compression_codec: Some(CompressionCodec::Lz4),
            garbage_collector_options: Some(GarbageCollectorOptions {
                boundary_files_enabled: false,
                ..GarbageCollectorOptions::default()
            }),
            ..Settings::default()
        };
        let caches = SplitCache::new()
            .with_block_cache(Some(cache(BLOCK_CACHE_BYTES)))
            .with_meta_cache(Some(cache(META_CACHE_BYTES)))
            .build();
        let opened = Db::builder(prefix, Arc::new(store))
            .with_settings(settings)
            .with_db_cache(Arc::new(caches), 0)
            .build();
        Ok(Self(opened.await?))
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.0.put(key, value).await?.await_durable().await?)
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.put(key, value).await?;
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        let options = FlushOptions {
            flush_type: FlushType::Wal,
        };
        Ok(self.0.flush_with_options(options).await?)
    }

    async fn flush(&self) -> Result<()> {
        let options = FlushOptions {
            flush_type: FlushType::MemTable,
        };
        Ok(self.0.flush_with_options(options).await?)
    }

    async fn settle(&self) -> Result<()> {
        self.flush().await?;
        // Long enough for the compactor, which looks every 5 s, to see the last table and to be done.
        tokio::time::sleep(Duration::from_secs(12)).await;
        Ok(())
    }

    async fn get(&self, key: &[u8]) -> Result<bool> {
        let found = self.0.get(key).await?;
        Ok(found.is_some_and(|value| data::belongs(key, &value)))
    }

    async fn scan(&self, from: &[u8], limit: usize) -> Result<usize> {
        let options = ScanOptions {
            read_ahead_bytes: 256 << 10,
            max_fetch_tasks: 4,
            cache_blocks: true,
            ..ScanOptions::default()
        };
        let mut entries = self.0.scan_with_options(from.to_vec().., &options).await?;
        let mut count = 0;
        while count < limit
            && let Some(entry) = entries.next().await?
        {
            std::hint::black_box(data::touch(&entry.key).wrapping_add(data::touch(&entry.value)));
            count += 1;
        }
        Ok(count)
    }

    async fn close(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}
