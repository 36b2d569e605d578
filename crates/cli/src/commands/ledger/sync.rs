//! `sync`: exchanges with a folder or a bucket, once or for as long as it runs.

use super::{Opening, failed};
use crate::failure::Result;
use crate::interrupt::Interrupt;
use crate::object::{Object, hex};
use crate::progress::{self, Unit};
use crate::session::Session;
use crate::units::{bytes, plural, time};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use siltstone::Location;
use siltstone::ledger::block::sha256;
use siltstone::ledger::{Fetch, Ledger, Phase, Progress, Remote, SyncReport};
use siltstone_storage::{Blobs, SystemRng, probe_put_if_absent};
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// The ledger; created when there is none
    name: String,
    /// A folder or a bucket that the copies share: a path, s3://bucket/prefix, gs://…, az://…
    remote: String,
    /// Go on: exchange again every so often, until interrupted
    #[arg(long, value_name = "TIME", value_parser = crate::units::parse_duration, num_args = 0..=1, default_missing_value = "5s")]
    follow: Option<Duration>,
    /// How much comes here: all, or on-demand: heads first, large archives when a read needs them. Kept for
    /// the next time [default: as before; the first time all]
    #[arg(long, value_name = "WHAT")]
    fetch: Option<Wanted>,
    /// Archives that nobody names any more stay this long
    #[arg(long, value_name = "TIME", value_parser = crate::units::parse_duration, default_value = "1h")]
    grace: Duration,
}

/// How much of a remote comes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// Everything
    All,
    /// Large archives when a read needs them
    OnDemand,
}

impl From<Wanted> for Fetch {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::All => Self::All,
            Wanted::OnDemand => Self::OnDemand,
        }
    }
}

pub(super) fn sync(args: &SyncArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let location = Location::parse(&args.remote)?;
    let bar = progress::bar(session, "sync", 0, Unit::Items);
    let shown = bar.clone();
    let blobs = location.create_blobs()?;
    if location.folder().is_none() {
        probe_put_if_absent(&*blobs, &SystemRng)?;
    }
    let mut remote = remote_at(&location, blobs, shown).grace(args.grace);
    if let Some(wanted) = args.fetch {
        remote = remote.fetch(wanted.into());
    }
    let db = session.create(siltstone::KeyspaceOptions::default())?;
    let ledger: Ledger = db
        .ledgers()
        .open_or_create(&args.name, opening.options()?)?;
    let attachment = ledger.attach(remote).map_err(failed)?;
    let mut outcome = attachment.sync().map_err(failed);
    bar.finish_and_clear();
    if let Ok(report) = &outcome {
        tell(report, session)?;
    }
    if let Some(every) = args.follow {
        let interrupt = Interrupt::listen()?;
        let clock = db.kv().env().clock.clone();
        loop {
            let until = clock.elapsed() + every;
            while clock.elapsed() < until && !interrupt.is_set() {
                clock.sleep(Duration::from_millis(50).min(every));
            }
            if interrupt.is_set() {
                break;
            }
            outcome = attachment.sync().map_err(failed);
            match &outcome {
                Ok(report) if is_news(report) => tell(report, session)?,
                Ok(_) => {}
                // A store that is away comes back.
                Err(error) => session.out.note(format_args!("{error}; trying again")),
            }
            session.out.flush()?;
        }
    }
    drop(ledger);
    db.close()?;
    outcome.map(drop)
}

/// The remote at a place, under the name by which the ledger remembers it.
pub(super) fn remote_at(location: &Location, blobs: Arc<dyn Blobs>, bar: ProgressBar) -> Remote {
    let place = match location.folder() {
        Some(folder) => std::path::absolute(folder)
            .unwrap_or_else(|_| folder.to_path_buf())
            .display()
            .to_string(),
        None => location.to_string(),
    };
    let name = format!("at-{}", hex(&sha256(place.as_bytes())[..12]));
    Remote::new(name, blobs)
        .place(place)
        .background(false)
        .progress(move |progress: &Progress| {
            bar.set_message(match progress.phase {
                Phase::Pull => "pull",
                Phase::Push => "push",
                Phase::Repair => "repair",
            });
            bar.set_length(progress.of_cars as u64);
            bar.set_position(progress.cars as u64);
        })
}

/// Attaches the places that it was synced with and that can be reached, when archives are only there.
pub(super) fn attach_places(ledger: &Ledger) -> Result<()> {
    if ledger.stats().away_cars == 0 {
        return Ok(());
    }
    for (_, place) in ledger.places() {
        let location = Location::parse(&place)?;
        // What is read from one that is away says so.
        if let Ok(blobs) = location.blobs() {
            let remote = remote_at(&location, blobs, ProgressBar::hidden());
            ledger.attach(remote).map_err(failed)?;
        }
    }
    Ok(())
}

fn is_news(report: &SyncReport) -> bool {
    report.pulled_events + report.pushed_events > 0 || !report.refused.is_empty()
}

fn tell(report: &SyncReport, session: &mut Session) -> Result<()> {
    for (replica, error) in &report.refused {
        session
            .out
            .note(format_args!("replica {replica} was refused: {error}"));
    }
    if let Some(from) = report.publishes_from {
        session.out.note(format_args!(
            "this copy was retired there: it pulls only, and sends what it has from {}",
            time(from)
        ));
    }
    let refused: Vec<_> = report.refused.iter().map(|(replica, _)| replica).collect();
    let note = format!(
        "{} came in {} of {}, {} went in {} of {}",
        plural(report.pulled_events, "event", "events"),
        plural(report.pulled_cars as u64, "archive", "archives"),
        bytes(report.pulled_bytes),
        plural(report.pushed_events, "event", "events"),
        plural(report.pushed_cars as u64, "archive", "archives"),
        bytes(report.pushed_bytes),
    );
    session.out.done(note, || {
        Object::default()
            .field("pulled_events", &report.pulled_events)
            .field("pulled_cars", &report.pulled_cars)
            .field("pulled_bytes", &report.pulled_bytes)
            .field("pushed_events", &report.pushed_events)
            .field("pushed_cars", &report.pushed_cars)
            .field("pushed_bytes", &report.pushed_bytes)
            .field("deleted_cars", &report.deleted_cars)
            .field("deleted_bytes", &report.deleted_bytes)
            .field("refused", &refused)
            .field("publishes_from", &report.publishes_from.map(|at| at.0))
    })
}
