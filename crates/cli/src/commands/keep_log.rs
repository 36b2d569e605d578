//! `siltstone keep-log`: how much of the log stays for change feeds that come back later.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, parse_size};
use clap::Args;

/// Arguments of `keep-log`.
#[derive(Debug, Args)]
#[command(
    after_help = "Whole log files are kept until they hold at least SIZE; the file of a writer that\nwas killed counts with the space set aside for it, up to 1 MiB more than it holds.\nThe setting stays with the database. Feeds that are open hold what they have still to read in any case."
)]
pub(crate) struct KeepLogArgs {
    /// How much, for example 64MiB; 0 for no more than recovery needs
    #[arg(value_parser = parse_size)]
    size: u64,
}

pub(crate) fn run(args: &KeepLogArgs, session: &mut Session) -> Result<()> {
    let db = session.writer()?;
    db.keep_log(args.size)?;
    db.close()?;
    let note = match args.size {
        0 => "keeps no more log than recovery needs".to_string(),
        size => format!("keeps {} of log for change feeds", bytes(size)),
    };
    session
        .out
        .done(note, || Object::default().field("keep_log", &args.size))
}
