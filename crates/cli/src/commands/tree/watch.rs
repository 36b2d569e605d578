//! `siltstone tree watch`: every commit that changes a path, once, in order, as JSON lines, beside a
//! running writer.

use super::Name;
use crate::failure::Result;
use crate::interrupt::Interrupt;
use crate::object::Object;
use crate::session::Session;
use crate::units::plural;
use clap::Args;
use siltstone::{Commit, Path, Value, WatchEvent, WatchFrom};
use std::time::Duration;

/// How long a watch that waits does not look at the interrupt.
const PATIENCE: Duration = Duration::from_millis(100);

pub(super) const HELP: &str = "\
Starts with the state now; with --after with the changes since a commit, and a
mark when all of them were shown; with --state-at with the state at that commit
too. Only what is durable is shown. To go on later, give the last commit to
--after; when the history does not reach back so far the watch ends with exit
code 7 and names where to start. Ends on Ctrl-C.";

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The path or pattern; without one the whole document
    #[arg(default_value = "")]
    path: String,
    /// Start with the changes after this commit
    #[arg(long, value_name = "COMMIT", conflicts_with = "state_at")]
    after: Option<u64>,
    /// Start with the state at this commit
    #[arg(long, value_name = "COMMIT")]
    state_at: Option<u64>,
    /// Stop after this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Stop when everything that has happened was shown
    #[arg(long)]
    no_follow: bool,
}

/// A node as a machine reads it.
#[derive(serde::Serialize)]
struct Node<'a> {
    path: String,
    value: &'a Value,
}

pub(super) fn run(args: &WatchArgs, tree: &Name<'_>, session: &mut Session) -> Result<()> {
    let read = session.reader()?.tree(tree.0)?;
    let from = match (args.after, args.state_at) {
        (Some(commit), _) => WatchFrom::After(Commit(commit)),
        (_, Some(commit)) => WatchFrom::StateAt(Commit(commit)),
        _ => WatchFrom::Now,
    };
    let interrupt = Interrupt::listen()?;
    let mut watch = read.watch(args.path.as_str(), from)?;
    let mut shown = 0;
    while shown < args.limit.unwrap_or(u64::MAX) && !interrupt.is_set() {
        let patience = if args.no_follow {
            Duration::ZERO
        } else {
            PATIENCE
        };
        match watch.next_within(patience)? {
            Some(event) => {
                shown += 1;
                print(&event, session)?;
                session.out.flush()?;
            }
            None if args.no_follow => break,
            None => {}
        }
    }
    session.out.note(format!(
        "{}; go on with --after {}",
        plural(shown, "event", "events"),
        watch.position()
    ));
    Ok(())
}

fn print(event: &WatchEvent, session: &mut Session) -> Result<()> {
    let object = |what: &str| {
        Object::default()
            .field("event", what)
            .field("commit", &event.commit())
    };
    let object = match event {
        WatchEvent::State { nodes, .. } => {
            let node = |(path, value): &(Path, Value)| {
                serde_json::to_value(Node {
                    path: path.to_string(),
                    value,
                })
            };
            let nodes: Result<Vec<_>, _> = nodes.iter().map(node).collect();
            object("state").field("nodes", &nodes.expect("values always serialize"))
        }
        WatchEvent::Changes { changes, .. } => object("changes").field("changes", changes),
        WatchEvent::CaughtUp { .. } => object("caught_up"),
    };
    session.out.object(object)
}
