//! SlateDB 0.18 on a local folder through `object_store` with fsync on; keyspaces by prefix. Buffered puts return
//! with the write handle, durable ones wait for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use slatedb::Db;
use slatedb::config::{
    CompactionWorkerOptions, CompactorOptions, CompressionCodec, FlushOptions, FlushType,
    GarbageCollectorDirectoryOptions, GarbageCollectorOptions, ScanOptions, Settings,
};
use slatedb::db_cache::SplitCache;
use slatedb::db_cache::foyer::{FoyerCache, FoyerCacheOptions};

use super::prefix::{self, stored};
use crate::engine::{Compression, Config, Drive, Engine, Entry, Family, Result};

/// Of the cache, the part for filters, indexes and statistics; the rest is for data blocks.
const META_CACHE_BYTES: usize = 16 << 20;
/// How soon the compactor looks for work. The default of 5 s is made for remote stores.
const POLL: Duration = Duration::from_millis(250);
/// How long dead objects stay. The default of minutes would hide the space they give back.
const LINGER: Duration = Duration::from_secs(2);

/// An open SlateDB database.
pub(crate) struct SlateDb {
    database: Db,
}

fn cache(bytes: usize) -> Arc<FoyerCache> {
    let options = FoyerCacheOptions {
        max_capacity: bytes as u64,
        ..FoyerCacheOptions::default()
    };
    Arc::new(FoyerCache::new_with_opts(options))
}

fn settings(config: &Config) -> Settings {
    let compression = match config.compression {
        Compression::Lz4 => Some(CompressionCodec::Lz4),
        Compression::None => None,
    };
    let directory = Some(GarbageCollectorDirectoryOptions {
        interval: Some(LINGER),
        min_age: LINGER,
        dry_run: false,
    });
    Settings {
        flush_interval: Some(if config.durable {
            Duration::from_millis(1)
        } else {
            Duration::from_millis(100)
        }),
        l0_sst_size_bytes: config.memtable_bytes,
        max_unflushed_bytes: 2 * config.memtable_bytes,
        compression_codec: compression,
        compactor_options: Some(CompactorOptions {
            poll_interval: POLL,
            commit_compacted_interval: POLL,
            checkpoint_lifetime: LINGER,
            worker: Some(CompactionWorkerOptions {
                compactions_poll_interval: POLL,
                compression_codec: compression,
                ..CompactionWorkerOptions::default()
            }),
            ..CompactorOptions::default()
        }),
        garbage_collector_options: Some(GarbageCollectorOptions {
            manifest_options: directory,
            wal_options: directory,
            compacted_options: directory,
            compactions_options: directory,
            boundary_files_enabled: false,
            ..GarbageCollectorOptions::default()
        }),
        ..Settings::default()
    }
}

impl Engine for SlateDb {
    const NAME: &'static str = "slatedb";
    const FAMILY: Family = Family::Lsm;
    const WRITES: Drive = Drive::Tasks;
    const READS: Drive = Drive::Tasks;

    async fn open(dir: &Path, config: &Config) -> Result<Self> {
        let store = LocalFileSystem::new_with_prefix(dir)?.with_fsync(true);
        let meta = META_CACHE_BYTES.min(config.cache_bytes / 4);
        let caches = SplitCache::new()
            .with_block_cache(Some(cache(config.cache_bytes - meta)))
            .with_meta_cache(Some(cache(meta)))
            .build();
        let database = Db::builder("bench", Arc::new(store))
            .with_settings(settings(config))
            .with_db_cache(Arc::new(caches), 0)
            .build()
            .await?;
        Ok(Self { database })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.database.put(stored(key), value).await?;
        Ok(())
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let put = self.database.put(stored(key), value).await?;
        Ok(put.await_durable().await?)
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = slatedb::WriteBatch::new();
        for (key, value) in entries {
            batch.put(stored(key), value);
        }
        self.database.write(batch).await?;
        Ok(())
    }

    async fn get(&self, key: &[u8], mut see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let value = self.database.get(stored(key)).await?;
        if let Some(value) = &value {
            see(value);
        }
        Ok(value.is_some())
    }

    async fn scan(
        &self,
        keyspace: usize,
        from: &[u8],
        limit: usize,
        mut see: impl FnMut(&[u8], &[u8]) + Send,
    ) -> Result<usize> {
        let options = ScanOptions {
            read_ahead_bytes: 256 << 10,
            max_fetch_tasks: 4,
            cache_blocks: true,
            ..ScanOptions::default()
        };
        let mut entries = self
            .database
            .scan_with_options(prefix::range(keyspace, from), &options)
            .await?;
        let mut count = 0;
        while count < limit
            && let Some(entry) = entries.next().await?
        {
            see(prefix::key(&entry.key), &entry.value);
            count += 1;
        }
        Ok(count)
    }

    async fn flush(&self) -> Result<()> {
        let options = FlushOptions {
            flush_type: FlushType::MemTable,
        };
        Ok(self.database.flush_with_options(options).await?)
    }

    async fn settle(&self) -> Result<()> {
        self.flush().await?;
        // Long enough for the compactor to see the last table and the collector the last garbage.
        tokio::time::sleep(3 * LINGER).await;
        Ok(())
    }

    async fn compact(&mut self) -> Result<bool> {
        // Compaction on request leaves level 0 out, so it would not merge everything.
        Ok(false)
    }

    async fn close(self) -> Result<()> {
        Ok(self.database.close().await?)
    }
}
