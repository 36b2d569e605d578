//! RocksDB through the `rocksdb` crate 0.25, a column family a keyspace: buffered puts stay in the log's buffer in the
//! process (`manual_wal_flush`), durable puts are written with `sync`.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, DB, DBCompressionType, Options, ReadOptions,
    WaitForCompactOptions, WriteBatch, WriteOptions,
};

use crate::data;
use crate::engine::{Compression, Config, Drive, Engine, Entry, Family, Result};

/// An open RocksDB database.
pub(crate) struct RocksDb {
    database: DB,
    durable: WriteOptions,
    names: Vec<String>,
}

impl RocksDb {
    fn family(&self, keyspace: usize) -> Result<&ColumnFamily> {
        let family = self.database.cf_handle(&self.names[keyspace]);
        Ok(family.ok_or("a column family is missing")?)
    }

    fn of(&self, key: &[u8]) -> Result<&ColumnFamily> {
        self.family(data::keyspace_of(key))
    }

    fn families(&self) -> Result<Vec<&ColumnFamily>> {
        (0..self.names.len()).map(|at| self.family(at)).collect()
    }
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
        options.create_missing_column_families(true);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(config.memtable_bytes);
        if data::keyspaces() > 1 {
            // As much as one family has: a buffer that fills and one that is written out.
            options.set_db_write_buffer_size(2 * config.memtable_bytes);
            let arena = config.memtable_bytes / 8 / data::keyspaces();
            options.set_arena_block_size(arena.max(64 << 10));
        }
        options.set_max_background_jobs(2);
        options.set_manual_wal_flush(true);
        options.set_compression_type(match config.compression {
            Compression::Lz4 => DBCompressionType::Lz4,
            Compression::None => DBCompressionType::None,
        });
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let names: Vec<String> = (0..data::keyspaces())
            .map(|number| match number {
                0 => "default".to_owned(),
                _ => format!("bench{number}"),
            })
            .collect();
        let families = names.iter().map(|name| (name.as_str(), options.clone()));
        Ok(Self {
            database: DB::open_cf_with_opts(&options, dir, families)?,
            durable,
            names,
        })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.database.put_cf(self.of(key)?, key, value)?)
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let family = self.of(key)?;
        Ok(self
            .database
            .put_cf_opt(family, key, value, &self.durable)?)
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put_cf(self.of(key)?, key, value);
        }
        Ok(self.database.write(batch)?)
    }

    async fn get(&self, key: &[u8], mut see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let value = self.database.get_pinned_cf(self.of(key)?, key)?;
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
        let family = self.family(keyspace)?;
        let mut entries = self
            .database
            .raw_iterator_cf_opt(family, ReadOptions::default());
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
        let options = rocksdb::FlushOptions::default();
        Ok(self.database.flush_cfs_opt(&self.families()?, &options)?)
    }

    async fn settle(&self) -> Result<()> {
        self.flush().await?;
        Ok(self
            .database
            .wait_for_compact(&WaitForCompactOptions::default())?)
    }

    async fn compact(&mut self) -> Result<bool> {
        self.flush().await?;
        for family in self.families()? {
            self.database
                .compact_range_cf::<&[u8], &[u8]>(family, None, None);
        }
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
