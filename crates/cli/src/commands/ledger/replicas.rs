//! `replicas` and `retire`: the copies that use a remote, and those that never come back.

use super::sync::remote_at;
use super::{Opening, failed};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, count, plural, time};
use clap::Args;
use indicatif::ProgressBar;
use siltstone::ledger::{Attachment, Error, Ledger, Replica, Standing};
use siltstone::{Location, Timestamp};
use siltstone_storage::Blobs;
use std::sync::Arc;

/// Arguments of `replicas`.
#[derive(Debug, Args)]
pub(super) struct ReplicasArgs {
    /// The ledger
    name: String,
    /// The folder or bucket that the copies share
    remote: String,
}

/// Arguments of `retire`.
#[derive(Debug, Args)]
pub(super) struct RetireArgs {
    /// The ledger
    name: String,
    /// The folder or bucket that the copies share
    remote: String,
    /// The copy to give up: its id, as `replicas` shows it
    replica: String,
    /// Also when it published what is not merged here, which is lost then
    #[arg(long)]
    force: bool,
}

/// Does something with a remote that must be there.
fn at_remote<T>(
    name: &str,
    remote: &str,
    opening: &Opening,
    session: &Session,
    work: impl FnOnce(&Attachment) -> Result<T>,
) -> Result<T> {
    let location = Location::parse(remote)?;
    let blobs: Arc<dyn Blobs> = location.blobs()?;
    opening.with(name, session, |ledger: &Ledger| {
        let remote = remote_at(&location, blobs, ProgressBar::hidden());
        work(&ledger.attach(remote).map_err(failed)?)
    })
}

pub(super) fn replicas(
    args: &ReplicasArgs,
    opening: &Opening,
    session: &mut Session,
) -> Result<()> {
    let found = at_remote(&args.name, &args.remote, opening, session, |attached| {
        attached.replicas().map_err(failed)
    })?;
    for replica in &found {
        match session.out.json() {
            true => session.out.object(object(replica))?,
            false => lines(replica, session)?,
        }
    }
    if found.is_empty() {
        session.out.note("nobody has published there yet");
    }
    Ok(())
}

fn standing(replica: &Replica) -> &'static str {
    match replica.standing {
        Standing::Own => "this copy",
        Standing::Active => "active",
        Standing::Returning => "coming back",
        Standing::Retired => "retired",
    }
}

fn object(replica: &Replica) -> Object {
    let heads: Vec<_> = replica.heads.iter().map(ToString::to_string).collect();
    let unreadable = replica.unreadable.as_ref().map(ToString::to_string);
    Object::default()
        .field("id", &replica.id)
        .field("standing", standing(replica))
        .field("number", &replica.number)
        .field("time_ms", &replica.time)
        .field("heads", &heads)
        .field("merged", &replica.merged)
        .field("cars", &replica.cars)
        .field("bytes", &replica.bytes)
        .field("only_cars", &replica.only_cars)
        .field("only_bytes", &replica.only_bytes)
        .field("missing_cars", &replica.missing_cars)
        .field("unreadable", &unreadable)
}

fn lines(replica: &Replica, session: &mut Session) -> Result<()> {
    session
        .out
        .line(format_args!("{}  {}", replica.id, standing(replica)))?;
    match (&replica.unreadable, replica.standing) {
        (Some(error), _) => {
            let said = session.out.paint().red(&format!("  {error}"));
            session.out.line(said)
        }
        (None, Standing::Own | Standing::Active) => {
            let merged = match replica.merged {
                true => "all of it is merged here",
                false => "not merged here yet",
            };
            session.out.line(format_args!(
                "  published {}; {merged}",
                time(Timestamp(replica.time.saturating_mul(1000)))
            ))?;
            session.out.line(format_args!(
                "  names {} of {}, {} of {} nobody else does",
                plural(replica.cars as u64, "archive", "archives"),
                bytes(replica.bytes),
                count(replica.only_cars as u64),
                bytes(replica.only_bytes),
            ))?;
            match replica.missing_cars {
                0 => Ok(()),
                missing => {
                    let said = format!("  {missing} of them are not there");
                    let said = session.out.paint().red(&said);
                    session.out.line(said)
                }
            }
        }
        _ => Ok(()),
    }
}

pub(super) fn retire(args: &RetireArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let report = at_remote(&args.name, &args.remote, opening, session, |attached| {
        let done = match args.force {
            true => attached.retire_losing(&args.replica),
            false => attached.retire(&args.replica),
        };
        done.map_err(|error| match error {
            Error::Unmerged { .. } => Failure::Other(format!(
                "{error} (`siltstone ledger sync {} {}`, or --force)",
                args.name, args.remote
            )),
            error => failed(error),
        })
    })?;
    if let Some(lost) = &report.lost {
        session.out.note(format_args!("lost: {lost}"));
    }
    let note = format!(
        "retired {}: {} of {} that only it named go after the grace",
        args.replica,
        plural(report.cars as u64, "archive", "archives"),
        bytes(report.bytes),
    );
    session.out.done(note, || {
        Object::default()
            .field("retired", &args.replica)
            .field("metas", &report.metas)
            .field("cars", &report.cars)
            .field("bytes", &report.bytes)
            .field("lost", &report.lost)
    })
}
