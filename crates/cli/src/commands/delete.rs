//! `siltstone delete`: keys, all in one commit.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{duration, plural};
use clap::Args;
use siltstone::{Batch, Durability};

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The keys; one that is not there is already deleted
    #[arg(required = true)]
    keys: Vec<String>,
}

pub(crate) fn run(args: &DeleteArgs, session: &mut Session) -> Result<()> {
    let db = session.writer()?;
    let keyspace = session.keyspace(&db)?;
    let mut batch = Batch::new();
    for key in &args.keys {
        batch.delete(&keyspace, key.as_bytes());
    }
    let stats = db.write(&batch, Durability::Durable)?;
    db.close()?;
    let keys = args.keys.len() as u64;
    let note = format!(
        "deleted {} in commit {}, durable, {}",
        plural(keys, "key", "keys"),
        stats.commit,
        duration(stats.latency)
    );
    session.out.done(note, || {
        Object::default()
            .field("deleted", &keys)
            .field("commit", &stats.commit)
    })
}
