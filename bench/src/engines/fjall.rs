//! fjall 3: buffered puts stay in its 8 KiB journal buffer, durable puts call
//! `persist(SyncData)`.

use std::path::Path;
use std::time::Duration;

use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::data;
use crate::engine::{Compression, Config, Drive, Engine, Entry, Family, Result};

/// An open fjall database.
pub(crate) struct Fjall {
    database: Database,
    keyspaces: Vec<Keyspace>,
}

impl Fjall {
    fn of(&self, key: &[u8]) -> &Keyspace {
        &self.keyspaces[data::keyspace_of(key)]
    }
}

impl Engine for Fjall {
    const NAME: &'static str = "fjall";
    const FAMILY: Family = Family::Lsm;
    const WRITES: Drive = Drive::Threads;
    const READS: Drive = Drive::Threads;

    async fn open(dir: &Path, config: &Config) -> Result<Self> {
        let database = Database::builder(dir)
            .cache_size(config.cache_bytes as u64)
            .manual_journal_persist(true)
            .open()?;
        let compression = match config.compression {
            Compression::Lz4 => CompressionType::Lz4,
            Compression::None => CompressionType::None,
        };
        let memtable_bytes = config.memtable_bytes as u64;
        let keyspaces = (0..data::keyspaces()).map(|number| {
            database.keyspace(&format!("bench{number}"), || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(memtable_bytes)
                    .data_block_compression_policy(CompressionPolicy::all(compression))
            })
        });
        let keyspaces = keyspaces.collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            database,
            keyspaces,
        })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.of(key).insert(key, value)?)
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.of(key).insert(key, value)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, value) in entries {
            batch.insert(self.of(key), key, value.as_slice());
        }
        Ok(batch.commit()?)
    }

    async fn get(&self, key: &[u8], mut see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let value = self.of(key).get(key)?;
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
        let mut count = 0;
        for entry in self.keyspaces[keyspace].range(from..).take(limit) {
            let (key, value) = entry.into_inner()?;
            see(&key, &value);
            count += 1;
        }
        Ok(count)
    }

    async fn flush(&self) -> Result<()> {
        self.database.persist(PersistMode::SyncData)?;
        for keyspace in &self.keyspaces {
            keyspace.rotate_memtable_and_wait()?;
        }
        Ok(())
    }

    async fn settle(&self) -> Result<()> {
        self.flush().await?;
        while self.database.outstanding_flushes() > 0 || self.database.active_compactions() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    async fn compact(&mut self) -> Result<bool> {
        self.flush().await?;
        for keyspace in &self.keyspaces {
            keyspace.major_compact()?;
        }
        Ok(true)
    }

    async fn close(self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}
