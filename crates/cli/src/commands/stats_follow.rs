//! `siltstone stats --follow`: a look at a database every so often, beside its writer.
//!
//! A look shows what was in the bucket or the folder when it began: it reads the newest manifest and
//! the log behind it. Looks begin an interval apart, so nothing shown is older than one interval and
//! the time of a look; one that takes longer than that is followed by the next at once.

use crate::commands::stats::{StatsArgs, show};
use crate::failure::Result;
use crate::interrupt::Interrupt;
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, count, duration, plural, rate, time};
use siltstone::blocking::Reader;
use siltstone::{Commit, KeyspaceStats};
use std::io::IsTerminal;
use std::time::Duration;

/// How long a wait does not look at the interrupt.
const PATIENCE: Duration = Duration::from_millis(50);
/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// How often to look, and until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// From the beginning of a look to the beginning of the next.
    pub(crate) interval: Duration,
    /// Stop after this many looks.
    pub(crate) looks: Option<u64>,
}

/// One look.
#[derive(Debug)]
struct Look {
    /// When it began, since some fixed moment.
    began: Duration,
    /// How long it took.
    took: Duration,
    commit: Commit,
    /// Commits since the look before, and how long ago that was.
    since: Option<(u64, Duration)>,
    sums: Sums,
}

/// All keyspaces together.
#[derive(Debug, Default, serde::Serialize)]
struct Sums {
    tables: u64,
    table_bytes: u64,
    level0_tables: u64,
    memtable_bytes: u64,
    sealed_memtables: u64,
    blob_bytes: u64,
}

impl Sums {
    fn of<'a>(keyspaces: impl Iterator<Item = &'a KeyspaceStats>) -> Self {
        let mut sums = Self::default();
        for keyspace in keyspaces {
            for level in &keyspace.levels {
                sums.tables += level.tables;
                sums.table_bytes += level.bytes;
                if level.level == 0 {
                    sums.level0_tables += level.tables;
                }
            }
            sums.memtable_bytes += keyspace.memtable_bytes;
            sums.sealed_memtables += keyspace.sealed_memtables;
            sums.blob_bytes += keyspace.blob_bytes;
        }
        sums
    }
}

/// Looks until interrupted, or as often as asked.
pub(crate) fn run(
    args: &StatsArgs,
    pace: Pace,
    reader: &Reader,
    session: &mut Session,
) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    let drawn = std::io::stdout().is_terminal() && !session.out.json();
    let clock = reader.kv().env().clock.clone();
    let mut before: Option<Look> = None;
    let mut looks = 0;
    loop {
        let began = clock.elapsed();
        // Opening the reader was the first one's.
        if looks > 0 {
            reader.refresh()?;
        }
        let stats = reader.kv().stats();
        let wanted = |keyspace: &&KeyspaceStats| {
            let given = session.keyspace_given();
            given.is_none_or(|name| name == keyspace.name)
        };
        let look = Look {
            began,
            took: clock.elapsed().saturating_sub(began),
            commit: stats.commit,
            since: before.as_ref().map(|before| {
                let commits = stats.commit.0.saturating_sub(before.commit.0);
                (commits, began.saturating_sub(before.began))
            }),
            sums: Sums::of(stats.keyspaces.iter().filter(wanted)),
        };
        looks += 1;
        if session.out.json() {
            object(&look, reader, session)?;
        } else if drawn {
            session.out.bytes(CLEAR.as_bytes())?;
            show(args, reader, session)?;
            session.out.line("")?;
            session.out.line(footer(&look, pace))?;
        } else {
            session.out.line(line(&look, reader))?;
        }
        session.out.flush()?;
        before = Some(look);
        if pace.looks.is_some_and(|most| looks >= most) {
            return Ok(());
        }
        loop {
            if interrupt.is_set() {
                return Ok(());
            }
            let left = (began + pace.interval).saturating_sub(clock.elapsed());
            if left.is_zero() {
                break;
            }
            clock.sleep(left.min(PATIENCE));
        }
    }
}

/// The hour of the reader's clock.
fn hour(reader: &Reader) -> String {
    let now = time(reader.kv().env().clock.now());
    now.get(11..19).unwrap_or(&now).to_string()
}

fn pace_of_commits(look: &Look) -> String {
    match look.since {
        None => String::new(),
        Some((commits, time)) => format!(" +{}", rate(commits, time)),
    }
}

/// Everything on one line, which only a huge database makes longer than 80 columns.
fn line(look: &Look, reader: &Reader) -> String {
    let sums = &look.sums;
    format!(
        "{} commit {}{}, mem {}, {} ({} in L0), {}",
        hour(reader),
        count(look.commit.0),
        pace_of_commits(look),
        bytes(sums.memtable_bytes),
        plural(sums.tables, "table", "tables"),
        count(sums.level0_tables),
        bytes(sums.table_bytes + sums.blob_bytes),
    )
}

fn footer(look: &Look, pace: Pace) -> String {
    format!(
        "every {}; a look takes {}{}; Ctrl-C ends",
        duration(pace.interval),
        duration(look.took),
        match look.since {
            None => String::new(),
            Some((commits, time)) => format!("; {} commits", rate(commits, time)),
        },
    )
}

fn object(look: &Look, reader: &Reader, session: &mut Session) -> Result<()> {
    let manifest = reader.kv().manifest();
    let per_second = look.since.map(|(commits, time)| {
        let seconds = time.as_secs_f64();
        commits as f64 / seconds.max(f64::MIN_POSITIVE)
    });
    session.out.object(
        Object::default()
            .field("kind", "look")
            .field("time", &time(reader.kv().env().clock.now()))
            .field("look_seconds", &look.took.as_secs_f64())
            .field("commit", &look.commit)
            .field("commits_per_second", &per_second)
            .field("manifest", &manifest.number)
            .field("epoch", &manifest.epoch)
            .fields(&look.sums),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_over_levels_and_keyspaces() {
        let level = |level, tables| siltstone::LevelStats {
            level,
            tables,
            bytes: tables * 10,
            ..siltstone::LevelStats::default()
        };
        let keyspace = |levels| KeyspaceStats {
            levels,
            memtable_bytes: 7,
            ..KeyspaceStats::default()
        };
        let keyspaces = [
            keyspace(vec![level(0, 2), level(1, 3)]),
            keyspace(vec![level(0, 1)]),
        ];
        let sums = Sums::of(keyspaces.iter());
        assert_eq!((sums.tables, sums.level0_tables), (6, 3));
        assert_eq!((sums.table_bytes, sums.memtable_bytes), (60, 14));
    }
}
