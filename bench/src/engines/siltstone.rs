//! Siltstone: keyspaces that keep no history but where that is measured; buffered puts stay in its log buffer, durable
//! puts share syncs.

use std::path::Path;

use siltstone::blocking::{Database, Keyspace};
use siltstone::{
    Batch, Commit, CompactOptions, Compression as Codec, Durability, History, KeyspaceOptions,
    Options, Read,
};

use crate::data;
use crate::engine::{Compression, Config, Drive, Engine, Entry, Family, Result};

/// An open Siltstone database.
pub(crate) struct Siltstone {
    database: Database,
    keyspaces: Vec<Keyspace>,
}

impl Siltstone {
    fn of(&self, key: &[u8]) -> &Keyspace {
        &self.keyspaces[data::keyspace_of(key)]
    }
}

impl Engine for Siltstone {
    const NAME: &'static str = "siltstone";
    const FAMILY: Family = Family::Lsm;
    const WRITES: Drive = Drive::Threads;
    const CROWD: Drive = Drive::Tasks;
    const HISTORY: bool = true;
    const READS: Drive = Drive::Threads;

    async fn open(dir: &Path, config: &Config) -> Result<Self> {
        let options = Options {
            // One budget: what the others get as cache and write buffers.
            memory_budget: config.cache_bytes + config.memtable_bytes,
            memtable_bytes: config.memtable_bytes,
            ..Options::default()
        };
        let keyspace = KeyspaceOptions {
            history: match config.history {
                true => History::levels(1_000, 4),
                false => History::head_only(),
            },
            compression: match config.compression {
                Compression::Lz4 => Codec::Lz4,
                Compression::None => Codec::None,
            },
            ..KeyspaceOptions::default()
        };
        let url = dir.to_str().ok_or("the folder's name is not text")?;
        let database = Database::open_with(url, options, keyspace.clone())?;
        let mut keyspaces = vec![database.default_keyspace().clone()];
        for number in 1..data::keyspaces() {
            let name = format!("bench{number}");
            keyspaces.push(match database.keyspace(&name) {
                Ok(there) => there,
                Err(_) => database.create_keyspace(&name, keyspace.clone())?,
            });
        }
        Ok(Self {
            database,
            keyspaces,
        })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.of(key).put_with(key, value, Durability::Buffered)?;
        Ok(())
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.of(key).put(key, value)?;
        Ok(())
    }

    async fn put_durable_in_crowd(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let put = self.of(key).put_async(key, value, Durability::Durable);
        put.await?;
        Ok(())
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut batch = Batch::new();
        for (key, value) in entries {
            batch.put(self.of(key), key, value);
        }
        self.database.write(&batch, Durability::Buffered)?;
        Ok(())
    }

    async fn get(&self, key: &[u8], see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        Ok(self.of(key).get_with(key, see)?.is_some())
    }

    fn commit(&self) -> u64 {
        self.database.kv().head().0
    }

    fn readable_from(&self, commit: u64) -> Result<u64> {
        let readable = self.database.retained_commits()?;
        let found = readable.at_or_after(Commit(commit));
        Ok(found.ok_or("no later commit is readable")?.0)
    }

    async fn get_at(
        &self,
        commit: u64,
        key: &[u8],
        mut see: impl FnMut(&[u8]) + Send,
    ) -> Result<bool> {
        let value = self.of(key).get_at(key, Commit(commit))?;
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
        let mut scan = self.keyspaces[keyspace].scan(from..)?;
        let mut count = 0;
        while count < limit && scan.next() {
            see(scan.key(), scan.value());
            count += 1;
        }
        if let Some(error) = scan.error() {
            return Err(error.clone().into());
        }
        Ok(count)
    }

    async fn flush(&self) -> Result<()> {
        self.database.flush()?;
        Ok(())
    }

    async fn settle(&self) -> Result<()> {
        self.database.flush()?;
        Ok(self.database.kv().settle()?)
    }

    async fn compact(&mut self) -> Result<bool> {
        self.database.flush()?;
        for keyspace in &self.keyspaces {
            let compacted = keyspace.compact(&CompactOptions::default());
            compacted.map_err(|failed| failed.error)?;
        }
        Ok(true)
    }

    async fn close(self) -> Result<()> {
        Ok(self.database.close()?)
    }
}
