//! `siltstone backup`: copies the database to another folder or bucket.

use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::progress::{Unit, bar};
use crate::session::Session;
use crate::units::{bytes, duration, plural};
use clap::Args;
use siltstone::Location;
use siltstone_storage::{Clock, SystemClock};

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "A backup is a database. To restore it, open it where it is\n(siltstone --db TO ...), or copy it to where it should live:\nsiltstone --db TO backup NEW."
)]
pub(crate) struct BackupArgs {
    /// Where to: a folder, s3://bucket/prefix, gs://... or az://...
    to: String,
}

pub(crate) fn run(args: &BackupArgs, session: &mut Session) -> Result<()> {
    if Location::parse(&args.to)? == Location::parse(session.url())? {
        return Err(Failure::Usage(format!(
            "{}: a database cannot be backed up into itself",
            args.to
        )));
    }
    let clock = SystemClock::default();
    let db = session.writer()?;
    let progress = bar(session, "copying tables", 0, Unit::Items);
    let stats = db.backup(&args.to, |done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    db.close()?;
    let note = format!(
        "{}: holds everything up to commit {}; {} copied, {} there already, {}, {}",
        args.to,
        stats.commit,
        plural(stats.copied_tables, "table", "tables"),
        stats.kept_tables,
        bytes(stats.bytes),
        duration(clock.elapsed()),
    );
    session.out.done(note, || {
        Object::default().field("to", &args.to).fields(&stats)
    })
}
