//! surrealkv 1.2: one transaction a call, keyspaces by prefix; buffered commits reach the operating system
//! (`Eventual`), durable ones the disk (`Immediate`). Commits are async, reads are not.

use std::path::Path;
use std::sync::Arc;

use surrealkv::{
    CompactRangeOptions, CompressionType, Durability, LSMIterator, Mode, Options, Tree, TreeBuilder,
};

use super::prefix::{self, stored};
use crate::engine::{Compression, Config, Drive, Engine, Entry, Family, Result};

/// An open surrealkv database.
pub(crate) struct SurrealKv {
    /// Shared, not cloned: dropping any clone of a tree closes it.
    tree: Arc<Tree>,
}

impl SurrealKv {
    async fn write(&self, durability: Durability, key: &[u8], value: &[u8]) -> Result<()> {
        let mut transaction = self
            .tree
            .begin_with_mode(Mode::WriteOnly)?
            .with_durability(durability);
        transaction.set(&*stored(key), value)?;
        Ok(transaction.commit().await?)
    }

    async fn compact_to(&self, target_level: Option<u8>) -> Result<()> {
        let options = CompactRangeOptions {
            target_level,
            ..CompactRangeOptions::default()
        };
        let tree = Arc::clone(&self.tree);
        let done = tokio::task::spawn_blocking(move || tree.compact_range(None, None, &options));
        Ok(done.await??)
    }
}

impl Engine for SurrealKv {
    const NAME: &'static str = "surrealkv";
    const FAMILY: Family = Family::Lsm;
    const WRITES: Drive = Drive::Tasks;
    const READS: Drive = Drive::Threads;

    async fn open(dir: &Path, config: &Config) -> Result<Self> {
        let compression = match config.compression {
            Compression::Lz4 => CompressionType::SnappyCompression,
            Compression::None => CompressionType::None,
        };
        let options = Options::new()
            .with_path(dir.to_path_buf())
            .with_block_cache_capacity(config.cache_bytes as u64)
            .with_max_memtable_size(config.memtable_bytes)
            .with_compression_per_level(vec![compression])
            .with_wal_preallocation(config.durable);
        Ok(Self {
            tree: Arc::new(TreeBuilder::with_options(options).build()?),
        })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(Durability::Eventual, key, value).await
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(Durability::Immediate, key, value).await
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let mut transaction = self.tree.begin_with_mode(Mode::WriteOnly)?;
        for (key, value) in entries {
            transaction.set(&*stored(key), value.as_slice())?;
        }
        Ok(transaction.commit().await?)
    }

    async fn get(&self, key: &[u8], mut see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let value = transaction.get(&*stored(key))?;
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
        let transaction = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut entries = transaction.scan(prefix::range(keyspace, from))?;
        let mut count = 0;
        let mut valid = entries.seek_first()?;
        while valid && count < limit {
            see(prefix::key(entries.key().user_key()), &entries.value()?);
            count += 1;
            valid = entries.next()?;
        }
        Ok(count)
    }

    async fn flush(&self) -> Result<()> {
        self.compact_to(Some(0)).await
    }

    async fn settle(&self) -> Result<()> {
        self.flush().await
    }

    async fn compact(&mut self) -> Result<bool> {
        self.compact_to(None).await?;
        Ok(true)
    }

    async fn close(self) -> Result<()> {
        Ok(self.tree.close().await?)
    }
}
