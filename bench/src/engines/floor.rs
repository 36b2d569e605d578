//! The floor: a sorted map in memory and an append-only log with group commit, nothing else.
//!
//! Not a database to compare with (no tables, no bound on memory), but the cost of the least a
//! durable store must do, and an engine that is always built, which the harness is tested on.
//! Run it by name: `--engines floor`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};

use crate::data::{self, KEY_LEN, entry_len};
use crate::engine::{Config, Drive, Engine, Entry, Family, Result};

/// Keyspace and key.
type Place = (usize, [u8; KEY_LEN]);
type Map = BTreeMap<Place, Vec<u8>>;

fn place(key: &[u8]) -> Result<Place> {
    Ok((data::keyspace_of(key), key.try_into()?))
}

/// A map and its log.
pub(crate) struct Floor {
    map: RwLock<Map>,
    log: Mutex<Log>,
    file: File,
    /// How many appends are known to be on disk. The holder of this lock syncs for all who wait.
    synced: Mutex<u64>,
}

struct Log {
    buffer: BufWriter<File>,
    appends: u64,
}

/// A lock is only poisoned by a panic, which fails the run anyway.
fn held<T>(guard: std::result::Result<T, PoisonError<T>>) -> T {
    guard.unwrap_or_else(PoisonError::into_inner)
}

impl Floor {
    /// Appends to the log's buffer and inserts; returns the number of the append.
    fn write(&self, key: &[u8], value: &[u8]) -> Result<u64> {
        let entry: Entry = (key.try_into()?, value.to_vec());
        let mut log = held(self.log.lock());
        log.buffer.write_all(&entry.0)?;
        log.buffer.write_all(&entry.1)?;
        log.appends += 1;
        let append = log.appends;
        drop(log);
        held(self.map.write()).insert(place(key)?, entry.1);
        Ok(append)
    }

    /// Returns once append number `append` is on disk.
    fn sync_up_to(&self, append: u64) -> Result<()> {
        let mut synced = held(self.synced.lock());
        if *synced < append {
            let mut log = held(self.log.lock());
            log.buffer.flush()?;
            let appends = log.appends;
            drop(log);
            self.file.sync_data()?;
            *synced = appends;
        }
        Ok(())
    }
}

impl Engine for Floor {
    const NAME: &'static str = "floor";
    const FAMILY: Family = Family::Other;
    const WRITES: Drive = Drive::Threads;
    const READS: Drive = Drive::Threads;

    async fn open(dir: &Path, _config: &Config) -> Result<Self> {
        let path = dir.join("log");
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut map = Map::new();
        for record in bytes.chunks_exact(entry_len() as usize) {
            let (key, value) = record.split_at(KEY_LEN);
            map.insert(place(key)?, value.to_vec());
        }
        let log = Log {
            buffer: BufWriter::with_capacity(1 << 20, file.try_clone()?),
            appends: 0,
        };
        Ok(Self {
            map: RwLock::new(map),
            log: Mutex::new(log),
            file,
            synced: Mutex::new(0),
        })
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(key, value).map(|_| ())
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let append = self.write(key, value)?;
        self.sync_up_to(append)
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        entries
            .iter()
            .try_for_each(|(key, value)| self.write(key, value).map(|_| ()))
    }

    async fn get(&self, key: &[u8], mut see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let map = held(self.map.read());
        let value = map.get(&place(key)?);
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
        let mut first = [0; KEY_LEN];
        first[..from.len()].copy_from_slice(from);
        let map = held(self.map.read());
        let mut count = 0;
        let range = (keyspace, first)..(keyspace + 1, [0; KEY_LEN]);
        for ((_, key), value) in map.range(range).take(limit) {
            see(key, value);
            count += 1;
        }
        Ok(count)
    }

    async fn flush(&self) -> Result<()> {
        self.sync_up_to(u64::MAX)
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
