//! `siltstone stats`: the shape of a database as bars and numbers.
//!
//! Without `--deep` everything comes from the manifest and the log. With it the whole keyspace is
//! read and absent keys are looked for, so that space amplification and filters are measured, not
//! estimated.

use crate::commands::stats_follow::{self, Pace};
use crate::failure::Result;
use crate::object::Object;
use crate::progress::{Unit, bar};
use crate::session::Session;
use crate::units::{bytes, count, parse_duration, plural};
use clap::Args;
use siltstone::blocking::{Reader, Snapshot};
use siltstone::{DiskCacheStats, KeyspaceStats, LevelStats, Read, Stats};
use siltstone_kv::{DbState, Work};
use siltstone_storage::{Blobs, ReaderPins};
use std::time::Duration;

/// Longest bar, in columns.
const BAR: u64 = 24;
/// Too few bytes to speak of compression.
const SMALL: u64 = 64 << 10;
/// Absent keys looked for.
const PROBES: u64 = 1000;

const HELP: &str = "\
With --follow the database is looked at again and again beside its writer: a
table that is drawn anew on a terminal, a line for each look elsewhere, and with
--json an object. Nothing shown is older than the interval and the time that a
look takes. Each look reads the newest manifest and the log behind it: in a
bucket that is a handful of requests and one for each object of the log.";

/// Arguments of `stats`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StatsArgs {
    /// Read everything, to measure live data, cache and filters
    #[arg(long)]
    deep: bool,
    /// Look again and again, until Ctrl-C
    #[arg(long, short, conflicts_with = "deep")]
    follow: bool,
    /// With --follow: from one look to the next
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration, requires = "follow")]
    interval: Duration,
    /// With --follow: stop after this many looks
    #[arg(long, value_name = "N", requires = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// What reading everything found.
#[derive(Debug, serde::Serialize)]
struct Deep {
    live_rows: u64,
    live_bytes: u64,
    /// Bytes of tables for a byte of live keys and values; `None` when there is neither.
    space_amplification: Option<f64>,
    /// Tables that a filter did not rule out, of those asked for absent keys; `None` without tables.
    filter_false_positive_rate: Option<f64>,
    block_reads: u64,
    cache_misses: u64,
}

pub(crate) fn run(args: &StatsArgs, session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    if !args.follow {
        return show(args, &reader, session);
    }
    reader.keyspace(session.keyspace_name())?;
    let pace = Pace {
        interval: args.interval,
        looks: args.limit,
    };
    stats_follow::run(args, pace, &reader, session)
}

/// What the reader sees now.
pub(crate) fn show(args: &StatsArgs, reader: &Reader, session: &mut Session) -> Result<()> {
    let manifest = reader.kv().manifest();
    let files = Files::of(&*reader.kv().env().blobs)?;
    let feeds = feeds(reader)?;
    let mut shown = Vec::new();
    for keyspace in reader.kv().stats().keyspaces {
        if session
            .keyspace_given()
            .is_some_and(|name| name != keyspace.name)
        {
            continue;
        }
        let deep = match args.deep {
            true => Some(read_all(reader, &keyspace, session)?),
            false => None,
        };
        shown.push((keyspace, deep));
    }
    if shown.is_empty() {
        reader.keyspace(session.keyspace_name())?;
    }
    let stats = reader.kv().stats();
    if session.out.json() {
        return objects(&stats, &files, feeds, &manifest.state, &shown, session);
    }
    header(&stats, &files, feeds, &manifest.state, session)?;
    for (keyspace, deep) in &shown {
        levels(keyspace, session)?;
        amplification(keyspace, deep.as_ref(), session)?;
    }
    Ok(())
}

/// How much is stored, by kind of file.
#[derive(Debug, Default, serde::Serialize)]
struct Files {
    manifests: u64,
    manifest_bytes: u64,
    wal_files: u64,
    wal_bytes: u64,
    sst_files: u64,
    sst_bytes: u64,
    blob_files: u64,
    blob_bytes: u64,
}

impl Files {
    fn of(blobs: &dyn Blobs) -> Result<Self> {
        let mut files = Self::default();
        for blob in blobs.list("")? {
            let (number, size) = match blob.name.split('/').next() {
                Some("manifest") => (&mut files.manifests, &mut files.manifest_bytes),
                Some("wal") => (&mut files.wal_files, &mut files.wal_bytes),
                Some("sst") => (&mut files.sst_files, &mut files.sst_bytes),
                Some("blob") => (&mut files.blob_files, &mut files.blob_bytes),
                _ => continue,
            };
            *number += 1;
            *size += blob.size;
        }
        Ok(files)
    }

    fn bytes(&self) -> u64 {
        self.manifest_bytes + self.wal_bytes + self.sst_bytes + self.blob_bytes
    }
}

fn header(
    stats: &Stats,
    files: &Files,
    feeds: u64,
    state: &DbState,
    session: &mut Session,
) -> Result<()> {
    let paint = session.out.paint();
    let url = session.url().to_string();
    session.out.line(format_args!(
        "{}  commit {}, manifest {}, epoch {}",
        paint.bold(&url),
        count(stats.commit.0),
        stats.manifest,
        stats.epoch
    ))?;
    let blobs = match files.blob_files {
        0 => String::new(),
        n => format!(
            ", {} in {}",
            bytes(files.blob_bytes),
            plural(n, "blob file", "blob files")
        ),
    };
    session.out.line(format_args!(
        "  files      {} in {}{blobs}, {} in {}, {} in {}",
        bytes(files.sst_bytes),
        plural(files.sst_files, "table", "tables"),
        bytes(files.wal_bytes),
        plural(files.wal_files, "log file", "log files"),
        bytes(files.manifest_bytes),
        plural(files.manifests, "manifest", "manifests"),
    ))?;
    session.out.line(format_args!(
        "  cache      {} of {} used, {} of indexes and filters",
        bytes(stats.cache_bytes),
        bytes(stats.cache_capacity),
        bytes(stats.pinned_bytes),
    ))?;
    if let Some(cache) = &stats.disk_cache {
        session
            .out
            .line(format_args!("  disk cache {}", disk_cache(cache)))?;
    }
    let now = stats.retired_tables;
    session.out.line(format_args!(
        "  held       {}, {} waiting for readers",
        plural(state.checkpoints.len() as u64, "checkpoint", "checkpoints"),
        plural(now, "replaced table", "replaced tables"),
    ))?;
    if feeds > 0 || state.keep_log > 0 {
        session.out.line(format_args!(
            "  log        {} following, {} kept for feeds",
            plural(feeds, "reader", "readers"),
            bytes(state.keep_log),
        ))?;
    }
    if let Some(workers) = workers(&state.work) {
        session.out.line(format_args!("  compaction {workers}"))?;
    }
    Ok(())
}

/// The workers, and what they are offered; nothing when there is neither.
fn workers(work: &Work) -> Option<String> {
    let (workers, jobs) = (work.workers.len() as u64, work.jobs.len() as u64);
    (workers > 0 || jobs > 0).then(|| {
        format!(
            "{} known, {} offered, {} begun",
            plural(workers, "worker", "workers"),
            plural(jobs, "compaction", "compactions"),
            begun(work),
        )
    })
}

/// Compactions that a worker has claimed.
fn begun(work: &Work) -> usize {
    let claimed = work.jobs.iter().filter(|job| job.claim.is_some());
    claimed.count()
}

/// What the disk cache holds, and what it did since this command began.
fn disk_cache(cache: &DiskCacheStats) -> String {
    if let Some(why) = &cache.off {
        return format!("off: {why}");
    }
    let rare = |n, what| match n {
        0 => String::new(),
        n => format!(", {} {what}", count(n)),
    };
    format!(
        "{} of {}; pages: {} found, {} not{}{}",
        bytes(cache.disk_bytes),
        bytes(cache.capacity_bytes),
        count(cache.hits),
        count(cache.misses),
        rare(cache.skipped, "not kept"),
        rare(cache.dropped, "dropped"),
    )
}

/// Processes that follow the changes beside the writer: their pins hold log.
fn feeds(reader: &Reader) -> Result<u64> {
    let pins = ReaderPins::list(reader.kv().env())?;
    Ok(pins.iter().filter(|pin| pin.log != u64::MAX).count() as u64)
}

/// A bar for each level, and one for what is in memory.
fn levels(keyspace: &KeyspaceStats, session: &mut Session) -> Result<()> {
    let paint = session.out.paint();
    session.out.line("")?;
    session
        .out
        .line(format_args!("keyspace {}", paint.bold(&keyspace.name)))?;
    let sizes = keyspace.levels.iter().map(|level| level.bytes);
    let most = sizes
        .chain([keyspace.memtable_bytes])
        .max()
        .unwrap_or(0)
        .max(1);
    let memory = LevelStats {
        tables: keyspace.sealed_memtables + 1,
        // An empty memtable has a few bytes of its own, which nobody wants to see drawn.
        bytes: match keyspace.memtable_entries {
            0 => 0,
            _ => keyspace.memtable_bytes,
        },
        entries: keyspace.memtable_entries,
        ..LevelStats::default()
    };
    let mut line = |name: &str, level: &LevelStats, files: String| {
        let width = match level.bytes {
            0 => 0,
            n => (n * BAR).div_ceil(most) as usize,
        };
        let drawn = paint.cyan(&format!("{:<24}", "█".repeat(width)));
        session.out.line(format_args!(
            "  {name:<4} {drawn} {:>9}  {files:<12} {}",
            bytes(level.bytes),
            plural(level.entries, "version", "versions"),
        ))
    };
    line(
        "mem",
        &memory,
        plural(memory.tables, "memtable", "memtables"),
    )?;
    for level in &keyspace.levels {
        line(
            &format!("L{}", level.level),
            level,
            plural(level.tables, "table", "tables"),
        )?;
    }
    Ok(())
}

/// Sorted runs that a lookup may have to ask, memory not counted.
fn runs(keyspace: &KeyspaceStats) -> u64 {
    let of = |level: &LevelStats| match level.level {
        0 => level.tables,
        _ => 1,
    };
    keyspace.levels.iter().map(of).sum()
}

fn amplification(
    keyspace: &KeyspaceStats,
    deep: Option<&Deep>,
    session: &mut Session,
) -> Result<()> {
    let sum = |of: fn(&LevelStats) -> u64| keyspace.levels.iter().map(of).sum::<u64>();
    let (stored, raw, tombstones) = (
        sum(|l| l.bytes),
        sum(|l| l.raw_bytes),
        sum(|l| l.tombstones),
    );
    if stored > 0 {
        // Of little data most bytes are the files' own; a ratio would say nothing.
        let compressed = match raw {
            ..=SMALL => String::new(),
            raw => format!(
                "; compressed to {:.0} %",
                stored as f64 * 100.0 / raw as f64
            ),
        };
        session.out.line(format_args!(
            "  tables     {} to ask at most for a key{compressed}; {}",
            plural(runs(keyspace), "run", "runs"),
            plural(tombstones, "tombstone", "tombstones"),
        ))?;
    }
    if keyspace.blob_files > 0 {
        session.out.line(format_args!(
            "  blobs      {} in {}, {:.0} % of it live",
            bytes(keyspace.blob_bytes),
            plural(keyspace.blob_files, "file", "files"),
            keyspace.blob_live_bytes as f64 * 100.0 / keyspace.blob_bytes.max(1) as f64,
        ))?;
    }
    if keyspace.dropped.0 > 0 {
        session.out.line(format_args!(
            "  history    some commits up to {} cannot be read any more; see history --retained",
            count(keyspace.dropped.0)
        ))?;
    }
    let Some(deep) = deep else {
        return Ok(());
    };
    let stored = deep.space_amplification.map_or(String::new(), |factor| {
        format!("; tables hold {factor:.2} bytes for each byte")
    });
    session.out.line(format_args!(
        "  live       {}, {}{stored}",
        plural(deep.live_rows, "row", "rows"),
        bytes(deep.live_bytes),
    ))?;
    let Some(passed) = deep.filter_false_positive_rate else {
        return Ok(());
    };
    session.out.line(format_args!(
        "  filters    let {:.2} % of lookups of absent keys through ({} tried)",
        passed * 100.0,
        count(PROBES),
    ))?;
    session.out.line(format_args!(
        "  cache      reading all of it took {}, {} of them from storage",
        plural(deep.block_reads, "block", "blocks"),
        count(deep.cache_misses),
    ))
}

/// Reads a keyspace from end to end.
fn read_all(reader: &Reader, keyspace: &KeyspaceStats, session: &Session) -> Result<Deep> {
    let snapshot = reader
        .keyspace(&keyspace.name)?
        .at_commit(reader.kv().head())?;
    let stored = keyspace
        .levels
        .iter()
        .map(|level| level.entries)
        .sum::<u64>();
    let progress = bar(
        session,
        "reading",
        stored + keyspace.memtable_entries,
        Unit::Items,
    );
    let before = reader.kv().stats();
    let mut scan = snapshot.scan::<&str>(..)?;
    let (mut rows, mut live) = (0, 0);
    while scan.next() {
        rows += 1;
        live += (scan.key().len() + scan.value().len()) as u64;
        progress.inc(1);
    }
    if let Some(error) = scan.error() {
        return Err(error.clone().into());
    }
    progress.finish_and_clear();
    let block_reads = scan.stats().blocks_read;
    let rate = false_positives(&snapshot, reader)?;
    let bytes: u64 = keyspace.levels.iter().map(|level| level.bytes).sum();
    Ok(Deep {
        live_rows: rows,
        live_bytes: live,
        space_amplification: (live > 0 && bytes > 0).then(|| bytes as f64 / live as f64),
        filter_false_positive_rate: rate,
        block_reads,
        cache_misses: reader.kv().stats().cache_misses - before.cache_misses,
    })
}

/// Looks for keys that are not there, spread over those that are.
fn false_positives(snapshot: &Snapshot, reader: &Reader) -> Result<Option<f64>> {
    let mut keys = Vec::new();
    let mut scan = snapshot.scan::<&str>(..)?;
    while (keys.len() as u64) < PROBES && scan.next() {
        keys.push([scan.key(), b"\0absent"].concat());
    }
    let before = reader.kv().stats().totals;
    for key in &keys {
        snapshot.get(key)?;
    }
    let after = reader.kv().stats().totals;
    let passed = after.filter_misses - before.filter_misses;
    let stopped = after.filter_skips - before.filter_skips;
    let asked = passed + stopped;
    Ok((asked > 0).then(|| passed as f64 / asked as f64))
}

fn objects(
    stats: &Stats,
    files: &Files,
    feeds: u64,
    state: &DbState,
    shown: &[(KeyspaceStats, Option<Deep>)],
    session: &mut Session,
) -> Result<()> {
    let database = Object::default()
        .field("kind", "database")
        .field("commit", &stats.commit)
        .field("manifest", &stats.manifest)
        .field("epoch", &stats.epoch)
        .field("total_bytes", &files.bytes())
        .fields(files)
        .field("cache_bytes", &stats.cache_bytes)
        .field("cache_capacity", &stats.cache_capacity)
        .field("pinned_bytes", &stats.pinned_bytes)
        .field("disk_cache", &stats.disk_cache)
        .field("retired_tables", &stats.retired_tables)
        .field("feeds", &feeds)
        .field("keep_log", &state.keep_log)
        .field("workers", &state.work.workers.len())
        .field("offered_compactions", &state.work.jobs.len())
        .field("begun_compactions", &begun(&state.work));
    session.out.object(database)?;
    for (keyspace, deep) in shown {
        let mut object = Object::default()
            .field("kind", "keyspace")
            .fields(keyspace)
            .field("runs", &runs(keyspace));
        if let Some(deep) = deep {
            object = object.fields(deep);
        }
        session.out.object(object)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use siltstone_kv::Worker;

    #[test]
    fn workers_are_shown_when_there_are_some() {
        let mut work = Work::default();
        assert_eq!(workers(&work), None);
        work.workers.push(Worker { id: 7, beat: 1 });
        let line = "1 worker known, 0 compactions offered, 0 begun";
        assert_eq!(workers(&work).as_deref(), Some(line));
    }
}
