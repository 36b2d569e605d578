//! The process that gets killed: writes one record after another, each durable before it is
//! reported on stdout.

use crate::failure::{Failure, Result};
use crate::session::Session;
use clap::Args;
use siltstone::KeyspaceOptions;
use siltstone::blocking::Database;
use std::io::Write;

/// The keyspace it writes to.
pub(crate) const JOURNAL: &str = "journal";

/// Arguments of the writer.
#[derive(Debug, Args)]
pub(crate) struct WriterArgs {
    /// The first record's number
    #[arg(long)]
    from: u64,
}

pub(crate) fn run(args: &WriterArgs, session: &mut Session) -> Result<()> {
    let url = session.url().to_string();
    let db = Database::open_with(&url, super::options(session), KeyspaceOptions::default())?;
    let journal = db.keyspace(JOURNAL)?;
    let mut stdout = std::io::stdout().lock();
    for n in args.from.. {
        journal.put(&key(n), &value(n))?;
        writeln!(stdout, "{n}")
            .and_then(|()| stdout.flush())
            .map_err(|e| Failure::io("stdout", &e))?;
    }
    Ok(())
}

/// The key of record `n`; keys sort as they are written.
pub(crate) fn key(n: u64) -> Vec<u8> {
    format!("entry/{n:08}").into_bytes()
}

/// The value of record `n`: 100 to 4,000 bytes that can be told again.
pub(crate) fn value(n: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(n);
    let len = rng.usize(100..4000);
    (0..len).map(|_| rng.alphanumeric() as u8).collect()
}
