//! redb 4: a table a keyspace; every call is a transaction of its own; buffered puts commit with
//! durability `None`, durable ones with `Immediate`.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition, WriteTransaction};

use crate::data;
use crate::engine::{Config, Drive, Engine, Entry, Family, Result};

/// An open redb database.
pub(crate) struct Redb {
    database: Database,
    names: Vec<String>,
}

type Table<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

impl Redb {
    fn table(&self, keyspace: usize) -> Table<'_> {
        TableDefinition::new(&self.names[keyspace])
    }

    fn of(&self, key: &[u8]) -> Table<'_> {
        self.table(data::keyspace_of(key))
    }

    fn begin(&self, durability: Durability) -> Result<WriteTransaction> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        Ok(transaction)
    }

    fn write(&self, durability: Durability, key: &[u8], value: &[u8]) -> Result<()> {
        let transaction = self.begin(durability)?;
        transaction.open_table(self.of(key))?.insert(key, value)?;
        Ok(transaction.commit()?)
    }
}

impl Engine for Redb {
    const NAME: &'static str = "redb";
    const FAMILY: Family = Family::Other;
    const WRITES: Drive = Drive::Threads;
    const READS: Drive = Drive::Threads;

    async fn open(dir: &Path, config: &Config) -> Result<Self> {
        let database = Database::builder()
            .set_cache_size(config.cache_bytes + config.memtable_bytes)
            .create(dir.join("bench.redb"))?;
        let names = (0..data::keyspaces()).map(|number| format!("bench{number}"));
        let engine = Self {
            database,
            names: names.collect(),
        };
        let transaction = engine.begin(Durability::Immediate)?;
        for keyspace in 0..data::keyspaces() {
            transaction.open_table(engine.table(keyspace))?;
        }
        transaction.commit()?;
        Ok(engine)
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(Durability::None, key, value)
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(Durability::Immediate, key, value)
    }

    async fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        let transaction = self.begin(Durability::None)?;
        let tables =
            (0..data::keyspaces()).map(|keyspace| transaction.open_table(self.table(keyspace)));
        let mut tables = tables.collect::<std::result::Result<Vec<_>, _>>()?;
        for (key, value) in entries {
            tables[data::keyspace_of(key)].insert(key.as_slice(), value.as_slice())?;
        }
        drop(tables);
        Ok(transaction.commit()?)
    }

    async fn get(&self, key: &[u8], mut see: impl FnMut(&[u8]) + Send) -> Result<bool> {
        let table = self.database.begin_read()?.open_table(self.of(key))?;
        let value = table.get(key)?;
        if let Some(value) = &value {
            see(value.value());
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
        let table = self
            .database
            .begin_read()?
            .open_table(self.table(keyspace))?;
        let mut count = 0;
        for entry in table.range(from..)?.take(limit) {
            let (key, value) = entry?;
            see(key.value(), value.value());
            count += 1;
        }
        Ok(count)
    }

    async fn flush(&self) -> Result<()> {
        Ok(self.begin(Durability::Immediate)?.commit()?)
    }

    async fn settle(&self) -> Result<()> {
        self.flush().await
    }

    async fn compact(&mut self) -> Result<bool> {
        self.database.compact()?;
        Ok(true)
    }

    async fn close(self) -> Result<()> {
        self.flush().await
    }
}
