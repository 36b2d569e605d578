//! `siltstone clone`: another database with the contents of this one.

use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::progress::{Unit, bar};
use crate::session::Session;
use crate::units::{bytes, duration, plural};
use clap::Args;
use siltstone::{Commit, Location};

/// Arguments of `clone`.
#[derive(Debug, Args)]
#[command(
    after_help = "In one file system, or in one bucket, a clone shares the files of its parent and nothing\nis copied; from then on each goes its own way, and either can be deleted."
)]
pub(crate) struct CloneArgs {
    /// Where to: a folder, s3://bucket/prefix, gs://... or az://...; nothing may be there yet
    to: String,
    /// With the contents at this commit
    #[arg(long, value_name = "COMMIT", conflicts_with = "checkpoint")]
    at: Option<u64>,
    /// With the contents at this checkpoint
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
}

pub(crate) fn run(args: &CloneArgs, session: &mut Session) -> Result<()> {
    refuse_itself(&args.to, session)?;
    let db = session.writer()?;
    let commit = match &args.checkpoint {
        None => args.at.map(Commit),
        Some(name) => {
            let all = db.kv().checkpoints();
            let found = all.iter().find(|checkpoint| checkpoint.name == *name);
            let known: Vec<_> = all.iter().map(|c| c.name.as_str()).collect();
            Some(
                found
                    .ok_or_else(|| {
                        let known = known.join(", ");
                        Failure::Usage(format!("no checkpoint {name:?}; there are: {known}"))
                    })?
                    .commit,
            )
        }
    };
    let progress = bar(session, "cloning", 0, Unit::Items);
    let stats = db.clone_to(&args.to, commit, |done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    db.close()?;
    let note = format!(
        "{}: a database with the contents at commit {}; {} shared, {} copied ({}), {}",
        args.to,
        stats.commit,
        plural(stats.linked, "file", "files"),
        stats.copied,
        bytes(stats.bytes),
        duration(stats.latency),
    );
    session.out.done(note, || {
        Object::default().field("to", &args.to).fields(&stats)
    })
}

/// Refuses the database itself as the place to write to.
pub(crate) fn refuse_itself(to: &str, session: &Session) -> Result<()> {
    match Location::parse(to)? == Location::parse(session.url())? {
        true => Err(Failure::Usage(format!(
            "{to}: a database cannot be copied into itself"
        ))),
        false => Ok(()),
    }
}
