//! `siltstone export`: all records of a keyspace at one commit, as JSON lines or CSV.

use crate::commands::import::Format;
use crate::commands::scan::RangeArgs;
use crate::document::{self, KEY_FIELD};
use crate::failure::{Failure, Result};
use crate::progress::{Unit, bar};
use crate::session::Session;
use crate::units::{bytes, duration, line_text, plural, rate};
use clap::Args;
use indicatif::ProgressBar;
use siltstone::blocking::{Reader, Snapshot};
use siltstone::{Read, ScanOptions};
use siltstone_storage::{Clock, SystemClock};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(
    after_help = "CSV has a column for each top-level field; what is not a JSON object goes into\n`_value`."
)]
pub(crate) struct ExportArgs {
    /// The file [default: stdout]
    file: Option<String>,
    /// The format [default: by the file's name, else jsonl]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    range: RangeArgs,
    /// As of this commit
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
}

pub(crate) fn run(args: &ExportArgs, session: &mut Session) -> Result<()> {
    let clock = SystemClock::default();
    let (reader, snapshot) = session.read(args.at)?;
    let name = args.file.as_deref().filter(|name| *name != "-");
    // Opened before the file is made, so that a wrong range makes none.
    drop(args.range.open(&snapshot, ScanOptions::default())?);
    let (sink, shown): (Box<dyn Write>, &str) = match name {
        None => (Box::new(io::stdout()), "stdout"),
        Some(name) => (
            Box::new(File::create(name).map_err(|e| Failure::io(name, &e))?),
            name,
        ),
    };
    let progress = match name.is_none() && io::stdout().is_terminal() {
        true => ProgressBar::hidden(),
        false => bar(
            session,
            "exporting",
            at_most(&reader, session.keyspace_name()),
            Unit::Items,
        ),
    };
    let mut export = Export {
        args,
        snapshot: &snapshot,
        sink: Counted {
            sink: BufWriter::with_capacity(1 << 16, sink),
            bytes: 0,
        },
        shown,
        progress: &progress,
        rows: 0,
    };
    match args
        .format
        .unwrap_or_else(|| name.map_or(Format::Jsonl, Format::of))
    {
        Format::Jsonl => export.lines()?,
        Format::Csv => export.table()?,
    }
    export.sink.flush().map_err(|e| Failure::io(shown, &e))?;
    progress.finish_and_clear();
    let (rows, size, took) = (export.rows, export.sink.bytes, clock.elapsed());
    session.out.note(format!(
        "exported {} at commit {}, {} in {} ({})",
        plural(rows, "record", "records"),
        snapshot.commit()?,
        bytes(size),
        duration(took),
        rate(rows, took),
    ));
    Ok(())
}

/// How many records there may be: every stored version counts.
fn at_most(reader: &Reader, keyspace: &str) -> u64 {
    let stats = reader.kv().stats();
    let entries = stats
        .keyspaces
        .iter()
        .find(|k| k.name == keyspace)
        .map(|k| k.memtable_entries + k.levels.iter().map(|level| level.entries).sum::<u64>());
    entries.unwrap_or(0)
}

struct Export<'a> {
    args: &'a ExportArgs,
    snapshot: &'a Snapshot,
    sink: Counted<BufWriter<Box<dyn Write>>>,
    shown: &'a str,
    progress: &'a ProgressBar,
    rows: u64,
}

impl Export<'_> {
    fn lines(&mut self) -> Result<()> {
        let mut scan = self
            .args
            .range
            .open(self.snapshot, ScanOptions::default())?;
        while scan.next() {
            let line = document::to_line(scan.key(), scan.value());
            writeln!(self.sink, "{line}").map_err(|e| Failure::io(self.shown, &e))?;
            self.row();
        }
        scan.error()
            .map_or(Ok(()), |error| Err(error.clone().into()))
    }

    fn table(&mut self) -> Result<()> {
        let columns = self.columns()?;
        let width = columns.len();
        let at: HashMap<&str, usize> = columns
            .iter()
            .enumerate()
            .map(|(i, c)| (c.as_str(), i))
            .collect();
        let shown = self.shown;
        let bad = |error: csv::Error| match error.into_kind() {
            csv::ErrorKind::Io(error) => Failure::io(shown, &error),
            other => Failure::Other(format!("{shown}: {other:?}")),
        };
        let mut scan = self
            .args
            .range
            .open(self.snapshot, ScanOptions::default())?;
        let mut writer = csv::Writer::from_writer(&mut self.sink);
        writer.write_record(&columns).map_err(bad)?;
        while scan.next() {
            let mut row = vec![String::new(); width];
            row[0] = line_text(scan.key());
            for (name, cell) in cells(scan.value()) {
                if let Some(column) = at.get(name.as_str()) {
                    row[*column] = cell;
                }
            }
            writer.write_record(&row).map_err(bad)?;
            self.rows += 1;
            self.progress.inc(1);
        }
        writer.flush().map_err(|e| Failure::io(shown, &e))?;
        scan.error()
            .map_or(Ok(()), |error| Err(error.clone().into()))
    }

    /// The key's column, then every field's in the order they are met.
    fn columns(&self) -> Result<Vec<String>> {
        let mut columns = vec![KEY_FIELD.to_string()];
        let mut seen: HashMap<String, ()> = HashMap::from([(KEY_FIELD.to_string(), ())]);
        let mut scan = self
            .args
            .range
            .open(self.snapshot, ScanOptions::default())?;
        while scan.next() {
            for (name, _) in cells(scan.value()) {
                if seen.insert(name.clone(), ()).is_none() {
                    columns.push(name);
                }
            }
        }
        scan.error()
            .map_or(Ok(columns), |error| Err(error.clone().into()))
    }

    fn row(&mut self) {
        self.rows += 1;
        self.progress.inc(1);
    }
}

fn cells(value: &[u8]) -> Vec<(String, String)> {
    document::cells(value).unwrap_or_else(|| {
        let text = match std::str::from_utf8(value) {
            Ok(text) => text.to_string(),
            Err(_) => line_text(value),
        };
        vec![("_value".to_string(), text)]
    })
}

/// Counts what goes through.
struct Counted<W> {
    sink: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.sink.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
