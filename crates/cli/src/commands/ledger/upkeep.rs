//! `compact`, `prune`, `verify`, `stats`, `export`, `import`.

use super::{Opening, clock_text, failed, parse_clock};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, count, parse_duration, plural};
use clap::Args;
use siltstone::ledger::{Clock, CompactionReport, Keep, Ledger};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::time::Duration;

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// The ledger
    name: String,
    /// Keep this clock and what came after it
    #[arg(long, value_name = "CLOCK", value_parser = parse_clock)]
    keep_clock: Option<Clock>,
    /// Keep what was written within this time, like 30d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "keep_clock")]
    keep_age: Option<Duration>,
    /// Keep the newest so many events
    #[arg(long, value_name = "N", conflicts_with_all = ["keep_clock", "keep_age"], required_unless_present_any = ["keep_clock", "keep_age"])]
    keep_versions: Option<u64>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The ledger
    name: String,
    /// Check the archives only, which needs no key
    #[arg(long)]
    files: bool,
}

/// Arguments of `export` and `import`.
#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// The ledger
    name: String,
    /// The CAR file; - is stdout or stdin
    file: String,
}

/// What a compaction did.
fn compacted(report: &CompactionReport) -> (String, Object) {
    let note = format!(
        "{} archives of {} became {} of {}; {} copied, {} more were there twice ({}), {} given back",
        count(report.captured_cars as u64),
        bytes(report.captured_bytes),
        count(report.output_cars as u64),
        bytes(report.output_bytes),
        plural(report.blocks, "block", "blocks"),
        count(report.deduplicated_blocks),
        bytes(report.deduplicated_bytes),
        bytes(report.deleted_bytes),
    );
    let object = Object::default()
        .field("captured_cars", &report.captured_cars)
        .field("captured_bytes", &report.captured_bytes)
        .field("output_cars", &report.output_cars)
        .field("output_bytes", &report.output_bytes)
        .field("blocks", &report.blocks)
        .field("deduplicated_blocks", &report.deduplicated_blocks)
        .field("deduplicated_bytes", &report.deduplicated_bytes)
        .field("redirects", &report.redirects)
        .field("deleted_bytes", &report.deleted_bytes);
    (note, object)
}

pub(super) fn compact(name: &str, opening: &Opening, session: &mut Session) -> Result<()> {
    let report = opening.with(name, session, |ledger| ledger.compact().map_err(failed))?;
    if report.captured_cars == 0 {
        return session
            .out
            .done("nothing to compact", || compacted(&report).1);
    }
    let (note, object) = compacted(&report);
    session.out.done(note, || object)
}

pub(super) fn prune(args: &PruneArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let keep = match (&args.keep_clock, args.keep_age, args.keep_versions) {
        (Some(clock), _, _) => Keep::Clock(clock.clone()),
        (_, Some(age), _) => Keep::Age(age),
        (_, _, versions) => Keep::Versions(versions.unwrap_or(1)),
    };
    let prune = |ledger: &Ledger| ledger.prune(&keep).map_err(failed);
    let report = opening.with(&args.name, session, prune)?;
    let note = format!("{} dropped", plural(report.events, "event", "events"));
    session.out.done(note, || {
        compacted(&report.compaction)
            .1
            .field("events", &report.events)
            .field("floor", &clock_text(&report.floor))
    })
}

pub(super) fn verify(args: &VerifyArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let report = opening.read(&args.name, session, |ledger| {
        match args.files {
            true => ledger.verify_files(),
            false => ledger.verify(),
        }
        .map_err(failed)
    })?;
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    if session.out.json() {
        let object = Object::default()
            .field("cars", &report.cars)
            .field("car_bytes", &report.car_bytes)
            .field("blocks", &report.blocks)
            .field("events", &report.events)
            .field("documents", &report.documents)
            .field("linked_files", &report.linked_files)
            .field("pruned", &report.pruned)
            .field("away", &report.away)
            .field("away_blocks", &report.away_blocks)
            .field("problems", &problems);
        session.out.object(object)?;
    } else {
        session.out.line(format_args!(
            "{}, {}, {}, {}",
            plural(report.cars, "archive", "archives"),
            bytes(report.car_bytes),
            plural(report.blocks, "block", "blocks"),
            plural(report.events, "event", "events"),
        ))?;
        if report.away > 0 {
            session.out.note(format_args!(
                "{} in a remote only: not looked into",
                plural(report.away, "archive", "archives"),
            ));
        }
        for problem in &problems {
            let problem = session.out.paint().red(problem);
            session.out.line(problem)?;
        }
    }
    match problems.len() as u64 {
        0 => {
            session.out.note("nothing wrong");
            Ok(())
        }
        found => Err(Failure::Damage(format!(
            "{} in ledger {}",
            plural(found, "problem", "problems"),
            args.name
        ))),
    }
}

pub(super) fn stats(name: &str, opening: &Opening, session: &mut Session) -> Result<()> {
    let (stats, clock) =
        opening.read(name, session, |ledger| Ok((ledger.stats(), ledger.clock())))?;
    if session.out.json() {
        let object = Object::default()
            .field("cars", &stats.cars)
            .field("car_bytes", &stats.car_bytes)
            .field("away_cars", &stats.away_cars)
            .field("away_bytes", &stats.away_bytes)
            .field("replaced_cars", &stats.replaced_cars)
            .field("redirects", &stats.redirects)
            .field("journal_edits", &stats.journal_edits)
            .field("journal_files", &stats.journal_files)
            .field("clock", &clock_text(&clock));
        return session.out.object(object);
    }
    let rows = [
        (
            "archives",
            format!("{} of {}", count(stats.cars as u64), bytes(stats.car_bytes)),
        ),
        (
            "of them in a remote only",
            format!(
                "{} of {}",
                count(stats.away_cars as u64),
                bytes(stats.away_bytes)
            ),
        ),
        (
            "replaced, not deleted yet",
            count(stats.replaced_cars as u64),
        ),
        ("redirects", count(stats.redirects)),
        ("edits in the journal", count(stats.journal_edits)),
        ("clock", clock_text(&clock)),
    ];
    for (what, figure) in rows {
        session.out.line(format_args!("{what:<26}  {figure}"))?;
    }
    Ok(())
}

pub(super) fn export(args: &FileArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let cid = opening.read(&args.name, session, |ledger| match args.file.as_str() {
        "-" => write_to(ledger, &mut std::io::stdout().lock(), "stdout"),
        path => {
            let file = File::create(path).map_err(|error| Failure::io(path, &error))?;
            write_to(ledger, &mut BufWriter::new(file), path)
        }
    })?;
    session.out.note(format_args!("exported {cid}"));
    Ok(())
}

fn write_to(ledger: &Ledger, to: &mut dyn Write, place: &str) -> Result<String> {
    let cid = ledger.export(to).map_err(failed)?;
    to.flush().map_err(|error| Failure::io(place, &error))?;
    Ok(cid.to_string())
}

pub(super) fn import(args: &FileArgs, opening: &Opening, session: &mut Session) -> Result<()> {
    let report = opening.make(&args.name, session, |ledger| {
        let mut from: Box<dyn Read> = match args.file.as_str() {
            "-" => Box::new(std::io::stdin().lock()),
            path => {
                let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
                Box::new(BufReader::new(file))
            }
        };
        ledger
            .import(&mut from)
            .map_err(|error| failed(error).at(&args.file))
    })?;
    let head = report.head.map(|head| head.to_string());
    let note = format!("{} taken in", plural(report.blocks, "block", "blocks"));
    session.out.done(note, || {
        Object::default()
            .field("blocks", &report.blocks)
            .field("clock", &head)
    })
}
