//! `siltstone scan`: keys in order, forward or backward, now or at a commit.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{count, duration, line_text, plural};
use clap::Args;
use siltstone::blocking::{Scan, Snapshot};
use siltstone::{Read, ScanOptions, ScanStats};
use siltstone_storage::{Clock, SystemClock};
use std::ops::Bound;

/// Arguments of `scan`.
#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// From the largest key down
    #[arg(long)]
    reverse: bool,
    /// Stop after this many rows
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Read as of this commit
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
    /// Print keys without values
    #[arg(long)]
    keys_only: bool,
}

/// A range of keys, for commands that read several.
#[derive(Debug, Default, Args)]
pub(crate) struct RangeArgs {
    /// Only keys that start with this
    #[arg(long, conflicts_with_all = ["from", "to"])]
    prefix: Option<String>,
    /// Only keys from this one on
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
}

impl RangeArgs {
    /// Opens the scan of this range.
    pub(crate) fn open(&self, snapshot: &Snapshot, options: ScanOptions) -> Result<Scan> {
        if let Some(prefix) = &self.prefix {
            return Ok(snapshot.scan_prefix(prefix.as_bytes(), options)?);
        }
        let from = self
            .from
            .as_deref()
            .map_or(Bound::Unbounded, Bound::Included);
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        Ok(snapshot.scan_with::<&str>((from, to), options)?)
    }
}

pub(crate) fn run(args: &ScanArgs, session: &mut Session) -> Result<()> {
    let clock = SystemClock::default();
    let (_reader, snapshot) = session.read(args.at)?;
    let started = clock.elapsed();
    let options = match args.reverse {
        true => ScanOptions::reverse(),
        false => ScanOptions::default(),
    };
    let mut scan = args.range.open(&snapshot, options)?;
    let limit = args.limit.unwrap_or(u64::MAX);
    let mut rows = 0;
    while rows < limit && scan.next() {
        rows += 1;
        print(args, scan.key(), scan.value(), session)?;
    }
    if let Some(error) = scan.error() {
        return Err(error.clone().into());
    }
    session
        .out
        .note(account(&scan.stats(), rows, clock.elapsed() - started));
    Ok(())
}

fn print(args: &ScanArgs, key: &[u8], value: &[u8], session: &mut Session) -> Result<()> {
    match (session.out.json(), args.keys_only) {
        (true, true) => session.out.object(Object::default().text("key", key)),
        (true, false) => session
            .out
            .object(Object::default().text("key", key).value(Some(value))),
        (false, true) => session.out.line(line_text(key)),
        (false, false) => {
            session
                .out
                .line(format_args!("{}\t{}", line_text(key), line_text(value)))
        }
    }
}

fn account(stats: &ScanStats, rows: u64, took: std::time::Duration) -> String {
    format!(
        "{} at commit {}; {} read, {} skipped, {} passed, {}",
        plural(rows, "row", "rows"),
        stats.commit,
        plural(stats.tables_read, "table", "tables"),
        count(stats.tables_skipped),
        plural(stats.records_scanned, "entry", "entries"),
        duration(took),
    )
}
