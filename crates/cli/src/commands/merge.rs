//! `siltstone merge`: changes a key as its keyspace's merge operator says.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::duration;
use clap::Args;

/// Arguments of `merge`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is read: the value is worked out by whoever reads it, or by compaction.\nA keyspace gets its operator with init, keyspace create or keyspace set,\nfor example --merge-operator counter."
)]
pub(crate) struct MergeArgs {
    /// The key
    key: String,
    /// What to change it by, for example 5 for a counter
    #[arg(allow_hyphen_values = true)]
    operand: String,
}

pub(crate) fn run(args: &MergeArgs, session: &mut Session) -> Result<()> {
    let db = session.writer()?;
    let keyspace = session.keyspace(&db)?;
    let stats = keyspace.merge(args.key.as_bytes(), args.operand.as_bytes())?;
    db.close()?;
    let note = format!(
        "commit {}, durable, {}",
        stats.commit,
        duration(stats.latency)
    );
    session.out.done(note, || {
        Object::default()
            .text("key", args.key.as_bytes())
            .field("commit", &stats.commit)
    })
}
