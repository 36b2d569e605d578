//! RocksDB through the `rocksdb` crate 0.25: buffered puts stay in the log's buffer in the
//! process (`manual_wal_flush`), durable puts are written with `sync`.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Options, ReadOptions, WaitForCompactOptions,
    WriteBatch, WriteOptions,
};

use crate::engine::{Compression, Config, Drive, Engine, Entry, Family, Result};

/// An open RocksDB database.
pub(crate) struct RocksDb {
    database: DB,
    durable: WriteOptions,
}

impl Engine for RocksDb {
    const NAME: &'static str = "rocksdb";
    const FAMILY: Family = Family::Lsm;
    const WRITES: Drive = Drive::Threads;
    const READS: Drive = Drive::Threads;

    async fn open(dir: &Path, config: &Config) -> Result<Self> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(config.cache_bytes));
        table.set_bloom_filter(10.0, false);
        table.set_format_version(6);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(config.memtable_bytes);
        options.set_max_background_jobs(2);
        options.set_manual_wal_flush(true);
        options.set_compression_type(match config.compression {
            Compression::Lz4 => DBCompressionType::Lz4,
            Compression::None => DBCompressionType::None,
        });
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        Ok(Self {
            database: DB::open(&options, dir)?,
            durable,
        })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.database.put(key, value)?)
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.database.put_opt(key, value, &self.durable)?)
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put(key, value);
        }
        Ok(self.database.write(batch)?)
    }

    async fn get(&self, key: &[u8], mut see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let value = self.database.get_pinned(key)?;
        if let Some(value) = &value {
            see(value);
        }
        Ok(value.is_some())
    }

    async fn scan(
        &self,
        from: &[u8],
        limit: usize,
        mut see: impl FnMut(&[u8], &[u8]) + Send,
    ) -> Result<usize> {
        let mut entries = self.database.raw_iterator_opt(ReadOptions::default());
        entries.seek(from);
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = entries.item()
        {
            see(key, value);
            count += 1;
            entries.next();
        }
        entries.status()?;
        Ok(count)
    }

    async fn flush(&self) -> Result<()> {
        Ok(self.database.flush()?)
    }

    async fn settle(&self) -> Result<()> {
        self.flush().await?;
        Ok(self
            .database
            .wait_for_compact(&WaitForCompactOptions::default())?)
    }

    async fn compact(&mut self) -> Result<bool> {
        self.flush().await?;
        self.database.compact_range::<&[u8], &[u8]>(None, None);
        self.database
            .wait_for_compact(&WaitForCompactOptions::default())?;
        Ok(true)
    }

    async fn close(self) -> Result<()> {
        self.database.flush_wal(true)?;
        self.database.cancel_all_background_work(true);
        Ok(())
    }
}
