//! `siltstone verify`: reads and checks everything. Damage makes exit code 4.

use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::progress::{Unit, bar};
use crate::session::Session;
use crate::units::{bytes, duration, plural};
use siltstone::ledgers::verify_ledgers;
use siltstone_storage::{Clock, SystemClock};

pub(crate) fn run(session: &mut Session) -> Result<()> {
    let clock = SystemClock::default();
    let reader = session.reader()?;
    let manifest = reader.kv().manifest();
    let tables = manifest.state.tables.live().len() as u64;
    let progress = bar(session, "verifying", tables, Unit::Items);
    let mut report = siltstone_kv::verify(reader.kv().env(), &manifest.state, |done, _| {
        progress.set_position(done as u64);
    })?;
    let ledgers = verify_ledgers(reader.kv().env())?;
    progress.finish_and_clear();
    report.problems.extend(ledgers.problems.iter().cloned());
    let took = clock.elapsed();
    if session.out.json() {
        session.out.object(
            Object::default()
                .field("ok", &report.problems.is_empty())
                .fields(&report)
                .field("ledgers", &ledgers.ledgers)
                .field("archives", &ledgers.archives)
                .field("archive_bytes", &ledgers.bytes),
        )?;
    } else {
        for problem in &report.problems {
            session.out.line(problem)?;
        }
    }
    session.out.note(format!(
        "read manifest {}, {} with {} in {}{} ({}), {}and {} in the log, in {} ({} a second)",
        manifest.number,
        plural(report.tables, "table", "tables"),
        plural(report.entries, "entry", "entries"),
        plural(report.blocks, "block", "blocks"),
        match report.blob_files {
            0 => String::new(),
            files => format!(", {}", plural(files, "blob file", "blob files")),
        },
        bytes(report.bytes),
        match ledgers.ledgers {
            0 => String::new(),
            some => format!(
                "{} with {} ({}), ",
                plural(some, "ledger", "ledgers"),
                plural(ledgers.archives, "archive", "archives"),
                bytes(ledgers.bytes)
            ),
        },
        plural(report.wal_commits, "commit", "commits"),
        duration(took),
        bytes(((report.bytes + ledgers.bytes) as f64 / took.as_secs_f64().max(1e-9)) as u64),
    ));
    match report.problems.len() as u64 {
        0 => {
            session.out.note("all is well");
            Ok(())
        }
        n => Err(Failure::Damage(format!(
            "{}: {} found, listed on stdout. Restore the files named there from a backup; nothing was changed",
            session.url(),
            plural(n, "problem", "problems")
        ))),
    }
}
