//! `siltstone delete`: keys and ranges, all in one commit.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{duration, plural};
use clap::Args;
use siltstone::{Batch, Durability, KeyRange};
use std::ops::Bound;

/// Arguments of `delete`.
#[derive(Debug, Args)]
#[command(
    after_help = "A range is deleted with one small record, whatever it holds; the space comes back\nwhen compaction comes by."
)]
pub(crate) struct DeleteArgs {
    /// The keys; one that is not there is already deleted
    #[arg(required_unless_present_any = ["range", "prefix"])]
    keys: Vec<String>,
    /// Every key from FROM on and before TO; an empty one is open
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    range: Vec<String>,
    /// Every key that starts with this
    #[arg(long)]
    prefix: Option<String>,
}

pub(crate) fn run(args: &DeleteArgs, session: &mut Session) -> Result<()> {
    let ranges = ranges(args)?;
    let db = session.writer()?;
    let keyspace = session.keyspace(&db)?;
    let mut batch = Batch::new();
    for range in &ranges {
        batch.delete_range(&keyspace, range);
    }
    for key in &args.keys {
        batch.delete(&keyspace, key.as_bytes());
    }
    let stats = db.write(&batch, Durability::Durable)?;
    db.close()?;
    let (keys, ranges) = (args.keys.len() as u64, ranges.len() as u64);
    let what = match (keys, ranges) {
        (keys, 0) => plural(keys, "key", "keys"),
        (0, ranges) => plural(ranges, "range", "ranges"),
        (keys, ranges) => format!(
            "{} and {}",
            plural(ranges, "range", "ranges"),
            plural(keys, "key", "keys")
        ),
    };
    let note = format!(
        "deleted {what} in commit {}, durable, {}",
        stats.commit,
        duration(stats.latency)
    );
    session.out.done(note, || {
        Object::default()
            .field("deleted", &keys)
            .field("ranges", &ranges)
            .field("commit", &stats.commit)
    })
}

fn ranges(args: &DeleteArgs) -> Result<Vec<KeyRange>> {
    let mut ranges = Vec::new();
    if let [from, to] = args.range.as_slice() {
        let from = match from.as_bytes() {
            b"" => Bound::Unbounded,
            from => Bound::Included(from),
        };
        let to = match to.as_bytes() {
            b"" => Bound::Unbounded,
            to => Bound::Excluded(to),
        };
        ranges.push(KeyRange::new(from, to)?);
    }
    let prefix = args.prefix.as_deref();
    ranges.extend(prefix.map(|prefix| KeyRange::prefix(prefix.as_bytes())));
    Ok(ranges)
}
