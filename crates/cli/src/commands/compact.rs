//! `siltstone compact`: merges tables chosen by order and limits.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, count, duration, names, parse_size, parse_time, plural};
use clap::{Args, ValueEnum};
use siltstone::{CompactOptions, CompactOrder, CompactStats, Timestamp};

/// Arguments of `compact`.
#[derive(Debug, Args)]
#[command(
    after_help = "Tables are taken in the given order until a limit is met. If fewer than\n--min-files or fewer bytes than --min-size come together, nothing happens.\nAnswers never change: what a retained commit, a checkpoint or a reader needs\nis kept."
)]
pub(crate) struct CompactArgs {
    /// Which tables are taken first
    #[arg(long, value_enum, default_value = "oldest-first")]
    order: Order,
    /// Do nothing with fewer tables than this
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_files: usize,
    /// Take at most this many tables
    #[arg(long, value_name = "N")]
    max_files: Option<usize>,
    /// Do nothing with fewer bytes than this
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    min_size: u64,
    /// Take at most this many bytes; a table that is too large is passed over
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Only tables written entirely at or after this time (RFC 3339, UTC)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    min_time: Option<Timestamp>,
    /// Only tables written entirely at or before this time (RFC 3339, UTC)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    max_time: Option<Timestamp>,
}

/// An order in which tables are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    #[value(name = "smallest-first")]
    Smallest,
    #[value(name = "largest-first")]
    Largest,
    #[value(name = "oldest-first")]
    Oldest,
    #[value(name = "newest-first")]
    Newest,
}

impl From<Order> for CompactOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Smallest => Self::SmallestFirst,
            Order::Largest => Self::LargestFirst,
            Order::Oldest => Self::OldestFirst,
            Order::Newest => Self::NewestFirst,
        }
    }
}

pub(crate) fn run(args: &CompactArgs, session: &mut Session) -> Result<()> {
    let options = CompactOptions {
        order: args.order.into(),
        min_files: args.min_files,
        max_files: args.max_files,
        min_size: args.min_size,
        max_size: args.max_size,
        min_time: args.min_time,
        max_time: args.max_time,
    };
    let db = session.writer()?;
    let keyspace = session.keyspace(&db)?;
    let stats = keyspace.compact(&options).map_err(|failed| failed.error)?;
    db.close()?;
    let note = match stats.inputs.is_empty() {
        true => "nothing to compact: no tables meet these conditions".to_string(),
        false => format!(
            "compacted {} ({}) into {} ({}) on level {}; {} kept, {} dropped, {}",
            plural(stats.inputs.len() as u64, "table", "tables"),
            bytes(stats.bytes_read),
            plural(stats.outputs.len() as u64, "table", "tables"),
            bytes(stats.bytes_written),
            stats.level,
            plural(stats.entries, "version", "versions"),
            count(stats.dropped),
            duration(stats.latency),
        ),
    };
    session.out.done(note, || object(&stats))
}

/// What a compaction did, for machines.
pub(crate) fn object(stats: &CompactStats) -> Object {
    Object::default()
        .field("inputs", &names(&stats.inputs))
        .field("outputs", &names(&stats.outputs))
        .field("level", &stats.level)
        .field("bytes_read", &stats.bytes_read)
        .field("bytes_written", &stats.bytes_written)
        .field("entries", &stats.entries)
        .field("dropped", &stats.dropped)
        .field("seconds", &stats.latency.as_secs_f64())
}
