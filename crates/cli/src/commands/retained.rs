//! `siltstone history --retained` and `siltstone tree retained`: which commits of a keyspace can be read,
//! as a timeline.

use crate::commands::settings::policy;
use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{count, nth, plural};
use siltstone::blocking::Reader;
use siltstone::{Commit, CommitRange, CommitRanges};

/// Columns of the timeline.
const COLUMNS: u64 = 64;
/// Longest bar of a range, in columns.
const BAR: u64 = 24;

/// A range as a machine reads it.
#[derive(serde::Serialize)]
struct Range {
    first: Commit,
    last: Commit,
    step: u64,
    commits: u64,
}

pub(crate) fn run(session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    let name = session.keyspace_name().to_string();
    show(session, &reader, &name, ("keyspace", &name))
}

/// Draws the timeline of `keyspace`, as that of a `what` of some name.
pub(crate) fn show(
    session: &mut Session,
    reader: &Reader,
    keyspace: &str,
    (what, name): (&str, &str),
) -> Result<()> {
    let keyspace = reader.keyspace(keyspace)?;
    let head = reader.kv().head();
    // Commit 0 is the empty database: readable perhaps, and nothing to look at.
    let retained = keyspace.retained_commits()?.between(Commit(1), head);
    let history = keyspace.options().history;
    if session.out.json() {
        let ranges: Vec<_> = retained.ranges().iter().map(as_range).collect();
        let object = Object::default()
            .field(what, name)
            .field("head", &head)
            .field("retained", &small(retained.len()))
            .field("ranges", &ranges)
            .field("history", &history);
        return session.out.object(object);
    }
    let paint = session.out.paint();
    session.out.line(format_args!(
        "{what} {}  {} of {} can be read",
        paint.bold(name),
        count(small(retained.len())),
        plural(head.0, "commit", "commits"),
    ))?;
    session.out.line(format_args!(
        "  1 {} {}",
        paint.cyan(&timeline(&retained, head)),
        count(head.0)
    ))?;
    let most = retained.ranges().iter().map(CommitRange::len).max();
    for range in retained.ranges().iter().rev() {
        let which = match range.step {
            1 if range.first == range.last => "only".to_string(),
            1 => "every".to_string(),
            step => format!("every {}", nth(step)),
        };
        let commits = small(range.len());
        let width = (commits * BAR).div_ceil(small(most.unwrap_or(1)));
        session.out.line(format_args!(
            "  {which:<16} {:>26}  {} {}",
            ends(range),
            paint.cyan(&format!("{:<24}", "█".repeat(width as usize))),
            plural(commits, "commit", "commits"),
        ))?;
    }
    session.out.note(format!("keeps {}", policy(&history)));
    Ok(())
}

fn as_range(range: &CommitRange) -> Range {
    Range {
        first: range.first,
        last: range.last,
        step: range.step,
        commits: small(range.len()),
    }
}

fn ends(range: &CommitRange) -> String {
    match range.first == range.last {
        true => count(range.first.0),
        false => format!("{} to {}", count(range.first.0), count(range.last.0)),
    }
}

/// There are no more commits than fit.
fn small(commits: u128) -> u64 {
    u64::try_from(commits).unwrap_or(u64::MAX)
}

/// The commits from 1 to `head` in columns, each as dark as its commits are dense.
fn timeline(retained: &CommitRanges, head: Commit) -> String {
    let commits = u128::from(head.0);
    let columns = commits.min(COLUMNS.into());
    // Rounded so that the columns cover every commit and none twice.
    let start = |column: u128| 1 + (column * commits).div_ceil(columns);
    (0..columns)
        .map(|column| {
            let (first, end) = (start(column), start(column + 1));
            let inside = retained.between(Commit(small(first)), Commit(small(end - 1)));
            shade(inside.len(), end - first)
        })
        .collect()
}

fn shade(some: u128, of: u128) -> char {
    match some {
        0 => '·',
        all if all == of => '█',
        many if many * 4 >= of => '▓',
        few if few * 20 >= of => '▒',
        _ => '░',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_grow_darker_with_density() {
        let shades: String = [0, 1, 49, 50, 249, 250, 999, 1_000]
            .map(|some| shade(some, 1_000))
            .into_iter()
            .collect();
        assert_eq!(shades, "·░░▒▒▓▓█");
    }

    #[test]
    fn a_timeline_of_nothing_or_one_commit_is_drawn() {
        let none = CommitRanges::default();
        assert_eq!(timeline(&none, Commit(0)), "");
        assert_eq!(timeline(&none, Commit(1)), "·");
        assert_eq!(timeline(&none, Commit(9)).chars().count(), 9);
        assert_eq!(timeline(&none, Commit(u64::MAX)).chars().count(), 64);
    }
}
