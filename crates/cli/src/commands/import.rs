//! `siltstone import`: records from a file. Records go in by the batch, one commit a batch; the
//! command ends when all of them are durable.

use crate::commands::ingest::{self, Load};
use crate::document::{self, KEY_FIELD, Record};
use crate::failure::{Failure, Result};
use crate::object::{Object, json};
use crate::progress::{Unit, bar};
use crate::session::Session;
use crate::units::{bytes, duration, plural, rate};
use clap::{Args, ValueEnum};
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use siltstone::blocking::{Database, Keyspace};
use siltstone::{Batch, Durability, KeyspaceOptions};
use siltstone_storage::{Clock, SystemClock};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// A batch is written when it holds this many bytes, whatever its records.
const BATCH_BYTES: u64 = 8 << 20;

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "What `export` writes, `import` reads back: as JSON lines to the same keys and\nvalues, as CSV to the same text."
)]
pub(crate) struct ImportArgs {
    /// The file; `-` for stdin. A name that ends in .gz is unpacked
    file: String,
    /// The format [default: by the file's name, else jsonl]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The field or column that holds the key
    #[arg(long, value_name = "NAME", default_value = KEY_FIELD)]
    key_field: String,
    /// Records a commit
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    batch: u64,
    /// Write tables directly and make everything one commit. What does not fit half the memory must come sorted by key
    #[arg(long, conflicts_with = "batch")]
    ingest: bool,
    /// CSV: cells that look like JSON numbers, booleans, arrays or objects become such, empty ones null
    #[arg(long)]
    typed: bool,
}

/// A format of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A JSON object a line
    Jsonl,
    /// A table with a line of column names
    Csv,
}

impl Format {
    /// The format that a file's name says it has.
    pub(crate) fn of(name: &str) -> Self {
        match name.trim_end_matches(".gz").ends_with(".csv") {
            true => Self::Csv,
            false => Self::Jsonl,
        }
    }
}

pub(crate) fn run(args: &ImportArgs, session: &mut Session) -> Result<()> {
    let clock = SystemClock::default();
    let (input, progress) = open(args, session)?;
    let db = session.create(KeyspaceOptions::default())?;
    let keyspace = session.keyspace(&db)?;
    let mut import = Import::new(&db, keyspace.clone(), args.batch);
    if args.ingest {
        let mut load = Load::new(keyspace, session.options().memory_budget / 2);
        let done = records(input, args, &mut load).and_then(|()| load.finish());
        progress.finish_and_clear();
        db.close()?;
        return ingest::report(&done?, clock.elapsed(), session);
    }
    let read = records(input, args, &mut import);
    let written = import.finish();
    progress.finish_and_clear();
    if let Err(failure) = read.and(written) {
        let before = plural(import.durable, "record", "records");
        session
            .out
            .note(format!("{before} of {} went in before this", args.file));
        db.close()?;
        return Err(failure);
    }
    let (records, commits, size) = (import.durable, import.commits, import.bytes);
    db.close()?;
    let took = clock.elapsed();
    let note = format!(
        "imported {} in {}, {} in {} ({})",
        plural(records, "record", "records"),
        plural(commits, "commit", "commits"),
        bytes(size),
        duration(took),
        rate(records, took),
    );
    session.out.done(note, || {
        Object::default()
            .field("records", &records)
            .field("commits", &commits)
            .field("bytes", &size)
            .field("seconds", &took.as_secs_f64())
    })
}

fn open(args: &ImportArgs, session: &Session) -> Result<(Box<dyn BufRead>, ProgressBar)> {
    let (input, size): (Box<dyn Read>, u64) = match args.file.as_str() {
        "-" => (Box::new(io::stdin().lock()), 0),
        name => {
            let file = File::open(name).map_err(|e| Failure::io(name, &e))?;
            let size = file.metadata().map_err(|e| Failure::io(name, &e))?;
            if size.is_dir() {
                return Err(Failure::Other(format!("{name}: is a folder, not a file")));
            }
            (Box::new(file), size.len())
        }
    };
    let progress = bar(session, "importing", size, Unit::Bytes);
    let input = progress.wrap_read(input);
    let input: Box<dyn BufRead> = match args.file.ends_with(".gz") {
        true => Box::new(BufReader::with_capacity(
            1 << 16,
            MultiGzDecoder::new(input),
        )),
        false => Box::new(BufReader::with_capacity(1 << 16, input)),
    };
    Ok((input, progress))
}

fn records(input: Box<dyn BufRead>, args: &ImportArgs, sink: &mut impl Sink) -> Result<()> {
    match args.format.unwrap_or_else(|| Format::of(&args.file)) {
        Format::Jsonl => lines(input, args, sink),
        Format::Csv => table(input, args, sink),
    }
}

fn lines(mut input: Box<dyn BufRead>, args: &ImportArgs, import: &mut impl Sink) -> Result<()> {
    let mut line = String::new();
    for number in 1u64.. {
        line.clear();
        let at = |failure: Failure| failure.at(format!("{}, line {number}", args.file));
        let read = input
            .read_line(&mut line)
            .map_err(|e| at(Failure::Other(e.to_string())))?;
        if read == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let record = document::from_line(&line, &args.key_field).map_err(Failure::Other);
        record.and_then(|record| import.put(record)).map_err(at)?;
    }
    Ok(())
}

fn table(input: Box<dyn BufRead>, args: &ImportArgs, import: &mut impl Sink) -> Result<()> {
    let file = &args.file;
    let bad = |error: csv::Error| Failure::Other(format!("{file}: {error}"));
    let mut reader = csv::ReaderBuilder::new().from_reader(input);
    let columns = reader.headers().map_err(bad)?.clone();
    let Some(key_at) = columns.iter().position(|name| name == args.key_field) else {
        let known: Vec<_> = columns.iter().collect();
        return Err(Failure::Other(format!(
            "{file}: no column {:?} for the key; name one of these with --key-field: {}",
            args.key_field,
            known.join(", ")
        )));
    };
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(bad)? {
        let line = row.position().map_or(0, csv::Position::line);
        let record = (
            row[key_at].as_bytes().to_vec(),
            row_value(&columns, &row, args),
        );
        import
            .put(record)
            .map_err(|failure| failure.at(format!("{file}, line {line}")))?;
    }
    Ok(())
}

/// A row as a JSON object. Like in a line, a key in `_id` is not stored twice.
fn row_value(columns: &csv::StringRecord, row: &csv::StringRecord, args: &ImportArgs) -> Vec<u8> {
    let kept =
        |(name, cell): &(&str, &str)| *name != KEY_FIELD && !(cell.is_empty() && *name == "_value");
    let cells: Vec<_> = columns.iter().zip(row).filter(kept).collect();
    if let Some((_, text)) = cells.iter().find(|(name, _)| *name == "_value") {
        return text.as_bytes().to_vec();
    }
    let fields = cells
        .iter()
        .map(|(name, cell)| format!("{}:{}", json(*name), document::cell_json(cell, args.typed)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(",")).into_bytes()
}

/// Where records go.
pub(crate) trait Sink {
    /// Takes a record. What is wrong with it is said here, not for those around it.
    fn put(&mut self, record: Record) -> Result<()>;
}

/// Records on their way in.
pub(crate) struct Import<'a> {
    db: &'a Database,
    keyspace: Keyspace,
    batch: Batch,
    batch_bytes: u64,
    batch_records: u64,
    /// Records written and, after [`Import::finish`], durable.
    pub(crate) durable: u64,
    /// Commits made.
    pub(crate) commits: u64,
    /// Bytes of keys and values written.
    pub(crate) bytes: u64,
}

impl<'a> Import<'a> {
    /// An import with `batch_records` records a commit.
    pub(crate) fn new(db: &'a Database, keyspace: Keyspace, batch_records: u64) -> Self {
        Self {
            db,
            keyspace,
            batch: Batch::new(),
            batch_bytes: 0,
            batch_records,
            durable: 0,
            commits: 0,
            bytes: 0,
        }
    }

    /// Writes what is left and makes all of it durable.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.write()?;
        Ok(self.db.sync()?)
    }

    fn write(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch = Batch::new();
        if batch.is_empty() {
            return Ok(());
        }
        self.db.write(&batch, Durability::Buffered)?;
        self.durable += batch.len() as u64;
        self.commits += 1;
        self.bytes += std::mem::take(&mut self.batch_bytes);
        Ok(())
    }
}

impl Sink for Import<'_> {
    fn put(&mut self, (key, value): Record) -> Result<()> {
        let limits = self.db.kv().options();
        if key.is_empty() || key.len() > limits.max_key_bytes {
            let (len, max) = (key.len(), limits.max_key_bytes);
            return Err(siltstone_kv::Error::KeyLength { len, max }.into());
        }
        self.batch.put(&self.keyspace, &key, &value);
        self.batch_bytes += (key.len() + value.len()) as u64;
        if self.batch.len() as u64 >= self.batch_records || self.batch_bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }
}
