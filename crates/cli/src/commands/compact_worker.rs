//! `siltstone compact-worker`: compacts for the writer of a database, in a process of its own.

use crate::commands::compact;
use crate::failure::Result;
use crate::interrupt::Interrupt;
use crate::session::Session;
use crate::units::{bytes, count, duration, parse_duration, plural};
use clap::Args;
use siltstone::blocking::CompactWorker;
use siltstone::{CompactStats, Worked};
use std::time::Duration;

/// How long a wait does not look at the interrupt.
const PATIENCE: Duration = Duration::from_millis(50);
/// Failures in a row after which it is no passing trouble.
const MOST_FAILURES: u32 = 10;

const HELP: &str = "\
Runs beside the writer, on this machine or on another one that reaches the
bucket; any number may run. The writer offers what it would compact itself; the
worker claims it in the manifest, writes the new tables and puts them in place
of the old ones in one step. It may be stopped or killed at any moment: what it
had not finished, the writer takes back after 30 seconds and does itself. A
worker that comes too late, or whose writer was replaced, changes nothing.
The writer keeps what is small or has its values in blob files to itself.";

/// Arguments of `compact-worker`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CompactWorkerArgs {
    /// Without work, look again after this time
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
    /// Stop after this many compactions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Stop when there was nothing to do for this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    until_idle: Option<Duration>,
}

/// What it did in all.
#[derive(Debug, Default)]
struct Sum {
    compactions: u64,
    lost: u64,
    bytes_read: u64,
    bytes_written: u64,
}

pub(crate) fn run(args: &CompactWorkerArgs, session: &mut Session) -> Result<()> {
    if !session.exists()? {
        return Err(session.no_database());
    }
    let interrupt = Interrupt::listen()?;
    let mut worker = open(session)?;
    let clock = worker.kv().env().clock.clone();
    let mut sum = Sum::default();
    let mut failures = 0;
    let mut idle_since = clock.elapsed();
    session.out.note(format!(
        "waiting for work from the writer of {}; Ctrl-C ends",
        session.url()
    ));
    while !interrupt.is_set() && args.limit.is_none_or(|most| sum.compactions < most) {
        let worked = worker.work();
        failures = match &worked {
            Ok(_) => 0,
            Err(_) => failures + 1,
        };
        match worked {
            Ok(Worked::Nothing) => {}
            Ok(Worked::Compacted(stats)) => {
                sum.note(&stats);
                report(&stats, session)?;
                idle_since = clock.elapsed();
                continue;
            }
            Ok(Worked::Lost(_)) => {
                sum.lost += 1;
                session
                    .out
                    .note("given up: somebody else was quicker, or the writer took the job back");
            }
            Err(error) if failures >= MOST_FAILURES => return Err(error.into()),
            Err(error) => {
                session
                    .out
                    .note(format!("{error}; the job is the writer's again"));
                worker = open(session)?;
            }
        }
        let now = clock.elapsed();
        let idle = now.saturating_sub(idle_since);
        if args.until_idle.is_some_and(|most| idle >= most) {
            break;
        }
        let until = now + args.interval;
        while clock.elapsed() < until && !interrupt.is_set() {
            clock.sleep(PATIENCE.min(until.saturating_sub(clock.elapsed())));
        }
    }
    worker.leave()?;
    session.out.note(format!(
        "{}, {} read and {} written; {} given up",
        plural(sum.compactions, "compaction", "compactions"),
        bytes(sum.bytes_read),
        bytes(sum.bytes_written),
        count(sum.lost),
    ));
    Ok(())
}

impl Sum {
    fn note(&mut self, stats: &CompactStats) {
        self.compactions += 1;
        self.bytes_read += stats.bytes_read;
        self.bytes_written += stats.bytes_written;
    }
}

fn open(session: &Session) -> Result<CompactWorker> {
    Ok(CompactWorker::open_with(session.url(), session.options())?)
}

fn report(stats: &CompactStats, session: &mut Session) -> Result<()> {
    let note = format!(
        "compacted {} ({}) into {} ({}); {} kept, {} dropped, {}",
        plural(stats.inputs.len() as u64, "table", "tables"),
        bytes(stats.bytes_read),
        plural(stats.outputs.len() as u64, "table", "tables"),
        bytes(stats.bytes_written),
        plural(stats.entries, "version", "versions"),
        count(stats.dropped),
        duration(stats.latency),
    );
    session.out.done(note, || compact::object(stats))?;
    session.out.flush()
}
