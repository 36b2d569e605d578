//! `siltstone import --ingest`: records go straight into tables and become one commit, or nothing.
//!
//! Tables take keys in rising order. What fits memory is sorted there; what does not must come sorted.

use crate::commands::import::Sink;
use crate::document::Record;
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, duration, plural, rate};
use siltstone::IngestStats;
use siltstone::blocking::{Ingest, Keyspace};
use std::time::Duration;

/// What a record takes in memory beside its bytes.
const BOOKKEEPING: usize = 48;

/// Records on their way into tables.
pub(crate) struct Load {
    keyspace: Keyspace,
    /// Records that may still have to be sorted.
    gathered: Vec<Record>,
    bytes: usize,
    most: usize,
    sorted: bool,
    /// Once there is too much to sort.
    streaming: Option<Ingest>,
}

impl Load {
    /// A load that sorts up to `most` bytes in memory.
    pub(crate) fn new(keyspace: Keyspace, most: usize) -> Self {
        Self {
            keyspace,
            gathered: Vec::new(),
            bytes: 0,
            most,
            sorted: true,
            streaming: None,
        }
    }

    /// Makes everything one durable commit. Of records with one key the last counts.
    pub(crate) fn finish(mut self) -> Result<IngestStats> {
        let ingest = match self.streaming.take() {
            Some(ingest) => ingest,
            None => {
                if !self.sorted {
                    self.gathered.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.start()?
            }
        };
        Ok(ingest.finish()?)
    }

    /// Puts what was gathered, which is sorted, into tables.
    fn start(&mut self) -> Result<Ingest> {
        let mut ingest = self.keyspace.ingest()?;
        let mut gathered = std::mem::take(&mut self.gathered).into_iter().peekable();
        while let Some((key, value)) = gathered.next() {
            if gathered.peek().is_none_or(|(next, _)| *next != key) {
                ingest.put(&key, &value)?;
            }
        }
        Ok(ingest)
    }

    fn check(&self, (key, value): &Record) -> Result<()> {
        let limits = self.keyspace.database().options();
        if key.is_empty() || key.len() > limits.max_key_bytes {
            let (len, max) = (key.len(), limits.max_key_bytes);
            return Err(siltstone_kv::Error::KeyLength { len, max }.into());
        }
        if value.len() > limits.max_value_bytes {
            let (len, max) = (value.len(), limits.max_value_bytes);
            let key = crate::units::line_text(&key[..key.len().min(40)]);
            return Err(siltstone_kv::Error::ValueTooLarge { key, len, max }.into());
        }
        Ok(())
    }
}

impl Sink for Load {
    fn put(&mut self, record: Record) -> Result<()> {
        if let Some(ingest) = &mut self.streaming {
            return Ok(ingest.put(&record.0, &record.1)?);
        }
        self.check(&record)?;
        let rises = |last: &Record| last.0 < record.0;
        self.sorted &= self.gathered.last().is_none_or(rises);
        self.bytes += record.0.len() + record.1.len() + BOOKKEEPING;
        self.gathered.push(record);
        if self.bytes <= self.most {
            return Ok(());
        }
        if !self.sorted {
            return Err(Failure::Other(format!(
                "there is more than {} and it is not sorted by key; sort it, give more --memory, or import without --ingest",
                bytes(self.most as u64)
            )));
        }
        self.streaming = Some(self.start()?);
        Ok(())
    }
}

/// Says what was done.
pub(crate) fn report(stats: &IngestStats, took: Duration, session: &mut Session) -> Result<()> {
    let tables = stats.tables.len() as u64;
    let note = format!(
        "ingested {} as commit {} into {} ({}) on level {}, in {} ({})",
        plural(stats.entries, "record", "records"),
        stats.commit,
        plural(tables, "table", "tables"),
        bytes(stats.bytes),
        stats.level,
        duration(took),
        rate(stats.entries, took),
    );
    session.out.done(note, || {
        Object::default()
            .field("records", &stats.entries)
            .field("commits", &u64::from(stats.entries > 0))
            .field("commit", &stats.commit)
            .field("tables", &tables)
            .field("bytes", &stats.bytes)
            .field("level", &stats.level)
            .field("seconds", &took.as_secs_f64())
    })
}
