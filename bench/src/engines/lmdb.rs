//! LMDB by `heed` 0.22: a table a keyspace; every call is a transaction of its own; buffered puts commit
//! without a sync (`NOSYNC`), durable ones with one. It has no cache and no compression: it reads
//! from a map of its file, which is the page cache's.
#![allow(
    unsafe_code,
    reason = "opening a map is unsafe: nobody else may change the file"
)]

use std::path::Path;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

use crate::data;
use crate::engine::{Config, Drive, Engine, Entry, Family, Result};

/// Bytes of address space for the map; the file takes what it needs.
const MAP: usize = 64 << 30;

/// An open LMDB environment.
pub(crate) struct Lmdb {
    env: Env,
    tables: Vec<Database<Bytes, Bytes>>,
    durable: bool,
}

impl Lmdb {
    fn of(&self, key: &[u8]) -> Database<Bytes, Bytes> {
        self.tables[data::keyspace_of(key)]
    }

    fn write(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.of(key).put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }
}

impl Engine for Lmdb {
    const NAME: &'static str = "lmdb";
    const FAMILY: Family = Family::Other;
    const WRITES: Drive = Drive::Threads;
    const READS: Drive = Drive::Threads;

    async fn open(dir: &Path, config: &Config) -> Result<Self> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP);
        options.max_dbs(data::keyspaces() as u32);
        // SAFETY: the folder is this run's own, and one process has it open at a time. Without
        // syncs a crash of the machine may damage the file, which is then measured again.
        let env = unsafe {
            if !config.durable {
                options.flags(EnvFlags::NO_SYNC);
            }
            options.open(dir)?
        };
        let mut transaction = env.write_txn()?;
        let mut tables = Vec::new();
        for number in 0..data::keyspaces() {
            // One alone needs no name.
            let name = (data::keyspaces() > 1).then(|| format!("bench{number}"));
            tables.push(env.create_database(&mut transaction, name.as_deref())?);
        }
        transaction.commit()?;
        Ok(Self {
            env,
            tables,
            durable: config.durable,
        })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(key, value)
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(key, value)?;
        match self.durable {
            true => Ok(()),
            false => Ok(self.env.force_sync()?),
        }
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in entries {
            self.of(key).put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    async fn get(&self, key: &[u8], mut see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let transaction = self.env.read_txn()?;
        let value = self.of(key).get(&transaction, key)?;
        if let Some(value) = value {
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
        let transaction = self.env.read_txn()?;
        let mut count = 0;
        let range = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        for entry in self.tables[keyspace]
            .range(&transaction, &range)?
            .take(limit)
        {
            let (key, value) = entry?;
            see(key, value);
            count += 1;
        }
        Ok(count)
    }

    async fn flush(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    async fn settle(&self) -> Result<()> {
        self.flush().await
    }

    async fn compact(&mut self) -> Result<bool> {
        Ok(false)
    }

    async fn close(self) -> Result<()> {
        self.flush().await
    }
}
