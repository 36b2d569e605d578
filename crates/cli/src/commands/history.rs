//! `siltstone history`: the stored versions of a key, or which commits can be read.

use crate::commands::retained;
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{line_text, plural, time};
use clap::Args;
use siltstone::Read;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The key
    #[arg(required_unless_present = "retained")]
    key: Option<String>,
    /// Show which commits of the keyspace can be read, as a timeline
    #[arg(long, conflicts_with_all = ["key", "limit", "at"])]
    retained: bool,
    /// Show at most this many versions
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// As seen at this commit
    #[arg(long, value_name = "COMMIT")]
    at: Option<u64>,
}

pub(crate) fn run(args: &HistoryArgs, session: &mut Session) -> Result<()> {
    let Some(key) = &args.key else {
        return retained::run(session);
    };
    let key = key.as_bytes();
    let (reader, snapshot) = session.read(args.at)?;
    // An empty key is refused here as everywhere.
    snapshot.get(key)?;
    let versions = siltstone_kv::history(&snapshot, key)?;
    if versions.is_empty() {
        return Err(Failure::Absent(format!(
            "{}: no version is stored",
            line_text(key)
        )));
    }
    let times = &reader.kv().manifest().state.times;
    for version in versions.iter().take(args.limit.unwrap_or(usize::MAX)) {
        let at = times.time_of(version.commit);
        if session.out.json() {
            let object = Object::default()
                .field("commit", &version.commit)
                .field("by", &at.map(time))
                .value(version.value.as_deref())
                .field("truncated", &version.truncated);
            session.out.object(object)?;
            continue;
        }
        let what = match &version.value {
            Some(value) => line_text(value),
            None => session.out.paint().cyan("(deleted)"),
        };
        let by = at.map_or(String::new(), |at| format!("by {}", time(at)));
        let commit = version.commit.to_string();
        session
            .out
            .line(format_args!("{commit:>10}  {by:<23}  {what}"))?;
        if version.truncated {
            session
                .out
                .line("            older versions were removed by max_versions or max_age")?;
        }
    }
    session.out.note(format!(
        "{}; those before the oldest retained commit may go with the next compaction",
        plural(versions.len() as u64, "version", "versions")
    ));
    Ok(())
}
