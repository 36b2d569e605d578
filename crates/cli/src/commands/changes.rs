//! `siltstone changes`: every commit with what it wrote, once, in order, beside a running writer.

use crate::failure::Result;
use crate::interrupt::Interrupt;
use crate::object::Object;
use crate::output::Out;
use crate::session::Session;
use crate::units::{line_text, plural, time};
use clap::Args;
use serde_json::value::RawValue;
use siltstone::blocking::{Changes, Reader};
use siltstone::{Change, ChangeKind, ChangeSet, Commit, KvError};
use std::time::Duration;

/// How long a feed that waits does not look at the interrupt.
const PATIENCE: Duration = Duration::from_millis(100);

const HELP: &str = "\
Only what is durable is shown, and each commit once. To go on later, remember
the last commit and give it to --after; how long the log is kept for that is
said with keep-log. Without --after the feed begins where the log begins. A feed
that fell behind ends with exit code 7 and names the commit to read the database
at and to go on from.";

/// Arguments of `changes`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ChangesArgs {
    /// Only commits after this one
    #[arg(long, value_name = "COMMIT")]
    after: Option<u64>,
    /// Wait for more, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Stop after this many commits
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

pub(crate) fn run(args: &ChangesArgs, session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    if let Some(name) = session.keyspace_given() {
        reader.keyspace(name)?;
    }
    let interrupt = match args.follow {
        true => Some(Interrupt::listen()?),
        false => None,
    };
    let mut feed = open(args, &reader, session)?;
    let mut shown = 0;
    while shown < args.limit.unwrap_or(u64::MAX) {
        let at_hand = feed.next_at_hand();
        let next = match (at_hand, &interrupt) {
            (Some(set), _) => Some(set),
            (None, None) => match feed.try_next()? {
                Some(set) => Some(set),
                None => break,
            },
            (None, Some(interrupt)) => {
                session.out.flush()?;
                if interrupt.is_set() {
                    break;
                }
                feed.next_within(PATIENCE)?
            }
        };
        let Some(mut set) = next else {
            continue;
        };
        if let Some(name) = session.keyspace_given() {
            let of = |change: &Change| change.keyspace_name.as_deref() == Some(name);
            set.changes.retain(of);
        }
        if !set.changes.is_empty() {
            shown += 1;
            print(&set, &mut session.out)?;
        }
    }
    session.out.note(format!(
        "{}; go on with --after {}",
        plural(shown, "commit", "commits"),
        feed.position()
    ));
    Ok(())
}

fn open(args: &ChangesArgs, reader: &Reader, session: &mut Session) -> Result<Changes> {
    if let Some(after) = args.after {
        return Ok(reader.changes(Commit(after))?);
    }
    match reader.changes(Commit(0)) {
        Err(siltstone::Error::Kv(KvError::ChangesGone { oldest, .. })) => {
            session
                .out
                .note(format!("the log begins after commit {oldest}"));
            Ok(reader.changes(oldest)?)
        }
        opened => Ok(opened?),
    }
}

fn print(set: &ChangeSet, out: &mut Out) -> Result<()> {
    if out.json() {
        let changes = set.changes.iter().map(object).collect::<Vec<_>>();
        let changes = RawValue::from_string(format!("[{}]", changes.join(",")))
            .expect("objects between commas are JSON");
        return out.object(
            Object::default()
                .field("commit", &set.commit)
                .field("time", &time(set.time))
                .field("changes", &changes),
        );
    }
    for change in &set.changes {
        let commit = set.commit.to_string();
        let keyspace = change.keyspace_name.as_deref().unwrap_or("(dropped)");
        let kind = out.paint().cyan(&format!("{:<12}", kind(&change.write)));
        let what = words(&change.write);
        out.line(format_args!("{commit:>10}  {keyspace}  {kind}  {what}"))?;
    }
    Ok(())
}

fn kind(write: &ChangeKind) -> &'static str {
    match write {
        ChangeKind::Put { .. } => "put",
        ChangeKind::Delete { .. } => "delete",
        ChangeKind::Merge { .. } => "merge",
        ChangeKind::DeleteRange { .. } => "delete_range",
        ChangeKind::Ingested { .. } => "ingested",
        _ => "unknown",
    }
}

fn words(write: &ChangeKind) -> String {
    match write {
        ChangeKind::Put {
            key,
            value,
            expires,
        } => {
            let until = expires.map_or(String::new(), |at| format!("\tuntil {}", time(at)));
            format!("{}\t{}{until}", line_text(key), line_text(value))
        }
        ChangeKind::Delete { key } => line_text(key),
        ChangeKind::Merge { key, operands } => {
            let operands = operands.iter().map(|operand| line_text(operand));
            let operands: Vec<_> = operands.collect();
            format!("{}\t{}", line_text(key), operands.join("\t"))
        }
        ChangeKind::DeleteRange { start, end } => {
            let end = end.as_deref().unwrap_or_default();
            format!("{}\t{}", line_text(start), line_text(end))
        }
        ChangeKind::Ingested { first, last } => {
            format!("{}\t{}", line_text(first), line_text(last))
        }
        other => format!("{other:?}"),
    }
}

fn object(change: &Change) -> String {
    let object = Object::default()
        .field("keyspace", &change.keyspace_name.as_deref())
        .field("kind", kind(&change.write));
    let object = match &change.write {
        ChangeKind::Put {
            key,
            value,
            expires,
        } => {
            let object = object.text("key", key).value(Some(value));
            match expires {
                Some(at) => object.field("expires", &time(*at)),
                None => object,
            }
        }
        ChangeKind::Delete { key } => object.text("key", key),
        ChangeKind::Merge { key, operands } => {
            let operands = operands.iter().map(|operand| {
                let object = Object::default().value(Some(operand)).finish();
                RawValue::from_string(object).expect("an object is JSON")
            });
            object
                .text("key", key)
                .field("operands", &operands.collect::<Vec<_>>())
        }
        ChangeKind::DeleteRange { start, end } => {
            let object = object.text("from", start);
            match end {
                Some(end) => object.text("to", end),
                None => object.field("to", &()),
            }
        }
        ChangeKind::Ingested { first, last } => object.text("first", first).text("last", last),
        _ => object,
    };
    object.finish()
}
