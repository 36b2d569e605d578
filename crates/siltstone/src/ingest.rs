//! A bulk ingest for asynchronous programs: rows are gathered on the calling thread and written, some
//! at a time, on a blocking one.

use crate::error::{Error, Result};
use siltstone_kv::IngestStats;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes of rows gathered before they are written.
const GATHER: usize = 1 << 20;

/// A sorted stream on its way into tables, to become one commit. Dropped unfinished, it never was.
///
/// ```
/// # #[tokio::main] async fn main() -> siltstone::Result<()> {
/// # let dir = tempfile::tempdir().expect("a folder");
/// # let url = dir.path().to_str().expect("a plain path");
/// let db = siltstone::Database::open(url).await?;
/// let mut ingest = db.default_keyspace().ingest()?;
/// for n in 0..1000 {
///     ingest.put(format!("{n:04}"), "row").await?;
/// }
/// let stats = ingest.finish().await?;
/// assert_eq!((stats.entries, stats.commit.0), (1000, 1));
/// # db.close().await
/// # }
/// ```
#[derive(Debug)]
pub struct Ingest {
    place: Place,
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

type Step = siltstone_kv::Result<Box<siltstone_kv::Ingest>>;

/// Where the ingest is.
#[derive(Debug)]
enum Place {
    Here(Box<siltstone_kv::Ingest>),
    /// Writing on a blocking thread.
    Away(JoinHandle<Step>),
    Failed(Error),
}

impl Ingest {
    pub(crate) fn new(ingest: siltstone_kv::Ingest) -> Self {
        Self {
            place: Place::Here(Box::new(ingest)),
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a key, which must sort after the one before. When the future is dropped before it is ready
    /// the key was not added.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::IngestOrder`], a limit's, the store's: of this key or of one before it,
    /// since rows are written some at a time. The ingest is over then.
    pub async fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        if self.bytes >= GATHER {
            self.write().await?;
        }
        let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
        self.bytes += key.len() + value.len();
        self.rows.push((key, value));
        Ok(())
    }

    /// Makes it one durable commit. Without keys nothing happens and no number is used.
    ///
    /// # Errors
    /// As [`Ingest::put`]; writes are stopped; closed. Then nothing of it is there.
    pub async fn finish(mut self) -> Result<IngestStats> {
        self.write().await?;
        self.settle().await?;
        match std::mem::replace(&mut self.place, Place::Failed(Error::RuntimeGone)) {
            Place::Here(ingest) => Ok(crate::wait::wait(move || ingest.finish()).await??),
            Place::Failed(error) => Err(error),
            Place::Away(_) => unreachable!("it has settled"),
        }
    }

    /// Waits for what is being written, and hands over what was gathered since.
    async fn write(&mut self) -> Result<()> {
        self.settle().await?;
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        self.place = match std::mem::replace(&mut self.place, Place::Failed(Error::RuntimeGone)) {
            Place::Here(mut ingest) => Place::Away(spawn_blocking(move || {
                for (key, value) in &rows {
                    ingest.put(key, value)?;
                }
                Ok(ingest)
            })),
            other => other,
        };
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        if let Place::Away(step) = &mut self.place {
            self.place = match step.await {
                Ok(Ok(ingest)) => Place::Here(ingest),
                Ok(Err(error)) => Place::Failed(error.into()),
                Err(_) => Place::Failed(Error::RuntimeGone),
            };
        }
        match &self.place {
            Place::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}
