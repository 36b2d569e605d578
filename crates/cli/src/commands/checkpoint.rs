//! `siltstone checkpoint`: commits held by name.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{parse_duration, plural, time};
use clap::Subcommand;
use siltstone::Checkpoint;
use std::time::Duration;

/// What to do with checkpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Hold the newest commit, for good or for a lease
    Create {
        /// Its name
        name: String,
        /// Let go after this time, for example 1h or 30days
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        lease: Option<Duration>,
    },
    /// List what is held
    List,
    /// Let go
    Drop {
        /// Its name
        name: String,
    },
}

pub(crate) fn run(command: &CheckpointCommand, session: &mut Session) -> Result<()> {
    match command {
        CheckpointCommand::Create { name, lease } => create(name, *lease, session),
        CheckpointCommand::List => list(session),
        CheckpointCommand::Drop { name } => {
            let db = session.writer()?;
            db.kv().drop_checkpoint(name)?;
            db.close()?;
            let note = format!("checkpoint {name:?} dropped");
            session
                .out
                .done(note, || Object::default().field("dropped", name))
        }
    }
}

fn create(name: &str, lease: Option<Duration>, session: &mut Session) -> Result<()> {
    let db = session.writer()?;
    let made = db.checkpoint(name, lease)?;
    db.close()?;
    let note = format!(
        "checkpoint {name:?} holds commit {} {}",
        made.commit,
        until(&made)
    );
    session.out.done(note, || object(&made))
}

fn list(session: &mut Session) -> Result<()> {
    let checkpoints = session.reader()?.kv().checkpoints();
    for checkpoint in &checkpoints {
        if session.out.json() {
            session.out.object(object(checkpoint))?;
            continue;
        }
        let commit = checkpoint.commit.to_string();
        let (name, made) = (&checkpoint.name, time(checkpoint.created));
        session.out.line(format_args!(
            "{commit:>10}  {name}  made {made}, {}",
            until(checkpoint)
        ))?;
    }
    session.out.note(plural(
        checkpoints.len() as u64,
        "checkpoint",
        "checkpoints",
    ));
    Ok(())
}

fn until(checkpoint: &Checkpoint) -> String {
    checkpoint
        .expires
        .map_or("until it is dropped".into(), |at| {
            format!("until {}", time(at))
        })
}

fn object(checkpoint: &Checkpoint) -> Object {
    Object::default()
        .field("name", &checkpoint.name)
        .field("commit", &checkpoint.commit)
        .field("created", &time(checkpoint.created))
        .field("expires", &checkpoint.expires.map(time))
}
