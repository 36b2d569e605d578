//! `siltstone get`: one key, now or at a commit.

use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{count, duration, line_text, plural};
use clap::Args;
use siltstone::{Commit, GetStats, Read, Source};

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The key
    key: String,
    /// Read as of this commit
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
    /// Print the value without a line break behind it
    #[arg(long)]
    raw: bool,
}

pub(crate) fn run(args: &GetArgs, session: &mut Session) -> Result<()> {
    let key = args.key.as_bytes();
    let (_reader, snapshot) = session.read(args.at)?;
    let at = snapshot.commit()?;
    let (value, stats) = snapshot.get_with_stats(key)?;
    let Some(value) = value else {
        return Err(Failure::Absent(absent(key, at, &stats)));
    };
    if session.out.json() {
        let object = Object::default()
            .text("key", key)
            .value(Some(&value))
            .field("at", &at)
            .field("written_by", &stats.commit)
            .field("source", &stats.source.to_string())
            .field("tables_read", &stats.tables_read)
            .field("tables_skipped", &stats.tables_skipped)
            .field("blocks_read", &stats.blocks_read)
            .field("micros", &(stats.latency.as_micros() as u64));
        session.out.object(object)?;
    } else {
        session.out.bytes(&value)?;
        if !args.raw {
            session.out.bytes(b"\n")?;
        }
    }
    let written = stats
        .commit
        .map(|c| format!(", written by commit {c}"))
        .unwrap_or_default();
    session.out.note(format!(
        "found in {}{written}; {}",
        stats.source,
        effort(&stats)
    ));
    Ok(())
}

fn absent(key: &[u8], at: Commit, stats: &GetStats) -> String {
    let why = match (stats.source, stats.commit) {
        (Source::None, _) | (_, None) => "not found".to_string(),
        (_, Some(commit)) => format!("deleted by commit {commit}"),
    };
    format!(
        "{}: {why} (read at commit {at}; {})",
        line_text(key),
        effort(stats)
    )
}

fn effort(stats: &GetStats) -> String {
    format!(
        "{} read, {} skipped, {}",
        plural(stats.tables_read, "table", "tables"),
        count(stats.tables_skipped),
        duration(stats.latency),
    )
}
