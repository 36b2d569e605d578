//! `repair`: verifies, fetches what is missing or damaged, verifies again.

use super::sync::remote_at;
use super::{Opening, failed};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::progress::{self, Unit};
use crate::session::Session;
use crate::units::{bytes, plural};
use clap::Args;
use siltstone::Location;
use siltstone::ledger::{Ledger, Mended, Remote, RepairReport, Unmended};

/// Arguments of `repair`.
#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// The ledger
    name: String,
    /// A folder or a bucket that copies share [default: all that it was synced with]
    #[arg(long, value_name = "REMOTE")]
    from: Option<String>,
}

pub(super) fn repair(args: &RepairArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let bar = progress::bar(session, "repair", 0, Unit::Items);
    let open = |place: &str| -> Result<Remote> {
        let location = Location::parse(place)?;
        Ok(remote_at(&location, location.blobs()?, bar.clone()))
    };
    let from = args.from.as_deref().map(open).transpose()?;
    let mut away = Vec::new();
    let report = opening.with(&args.name, session, |ledger: &Ledger| {
        let attached: Vec<String> = ledger.remotes().iter().map(|at| at.name().into()).collect();
        for (name, place) in ledger.places().into_iter().filter(|_| from.is_none()) {
            match open(&place) {
                Ok(_) if attached.contains(&name) => {}
                Ok(remote) => drop(ledger.attach(remote).map_err(failed)?),
                // Another one may have what is needed.
                Err(error) => away.push(format!("{place} cannot be asked: {error}")),
            }
        }
        ledger.repair(from.as_ref()).map_err(failed)
    })?;
    bar.finish_and_clear();
    away.iter().for_each(|note| session.out.note(note));
    tell(&report, session)?;
    match report.after.problems.len() as u64 {
        0 => Ok(()),
        left => Err(Failure::Damage(format!(
            "{} left in ledger {}. Try --from another place that copies are in",
            plural(left, "problem", "problems"),
            args.name
        ))),
    }
}

fn tell(report: &RepairReport, session: &mut Session) -> Result<()> {
    let fetched: u64 = report.mended.iter().map(|mended| mended.bytes).sum();
    if session.out.json() {
        let mended: Vec<_> = report.mended.iter().map(mended).collect();
        let unmended: Vec<_> = report.unmended.iter().map(unmended).collect();
        let problems: Vec<_> = report
            .after
            .problems
            .iter()
            .map(ToString::to_string)
            .collect();
        return session.out.object(
            Object::default()
                .field("found", &report.before.problems.len())
                .field("mended", &mended)
                .field("fetched_bytes", &fetched)
                .field("unmended", &unmended)
                .field("problems", &problems),
        );
    }
    for mended in &report.mended {
        session.out.line(format_args!("mended {}", mended.car))?;
    }
    for lost in &report.unmended {
        let line = format!("no copy of {}", lost.car);
        let line = session.out.paint().red(&line);
        session.out.line(line)?;
        for (remote, error) in &lost.tried {
            session.out.line(format_args!("  {remote}: {error}"))?;
        }
    }
    if report.unmended.is_empty() {
        for problem in &report.after.problems {
            let problem = session.out.paint().red(&problem.to_string());
            session.out.line(problem)?;
        }
    }
    let what = match report.before.problems.len() as u64 {
        0 => "nothing wrong".to_string(),
        found => format!(
            "{} found, {} mended ({} fetched), {} left",
            plural(found, "problem", "problems"),
            plural(report.mended.len() as u64, "archive", "archives"),
            bytes(fetched),
            report.after.problems.len(),
        ),
    };
    session.out.note(what);
    Ok(())
}

fn mended(mended: &Mended) -> serde_json::Value {
    let by: Vec<_> = mended.by.iter().map(ToString::to_string).collect();
    serde_json::json!({
        "car": mended.car.to_string(),
        "by": by,
        "bytes": mended.bytes,
        "from": mended.from,
    })
}

fn unmended(lost: &Unmended) -> serde_json::Value {
    let tried = lost.tried.iter();
    let tried = tried.map(|(remote, error)| (remote.clone(), error.to_string().into()));
    serde_json::json!({
        "car": lost.car.to_string(),
        "tried": serde_json::Map::from_iter(tried),
    })
}
