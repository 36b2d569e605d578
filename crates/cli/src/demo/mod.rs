//! `siltstone demo`: everything Siltstone promises, shown and proved on 34,006 cities.
//!
//! [`story`] runs the steps in order; [`cities`] is the input, [`document`] the same as a tree, [`answers`] what a reader sees in one
//! number, [`writer`] the process that gets killed, [`killing`] the one that kills it and counts, and
//! [`bill`] what it all cost. Every claim that is printed was checked first; the first one that does
//! not hold ends the demo with an error.

mod answers;
mod bill;
mod cities;
mod document;
mod killing;
mod story;
pub(crate) mod writer;

use crate::failure::{Failure, Result};
use crate::session::Session;
use clap::Args;
use siltstone::Options;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder for the demo's database; new or empty
    #[arg(long, value_name = "DIR", default_value = "./siltstone-demo")]
    dir: PathBuf,
    /// Use this many of the cities
    #[arg(long, hide = true)]
    records: Option<usize>,
    /// How often the writer is killed
    #[arg(long, hide = true, default_value_t = 3)]
    rounds: u64,
}

pub(crate) fn run(args: &DemoArgs, session: &mut Session) -> Result<()> {
    let empty = |mut entries: std::fs::ReadDir| entries.next().is_none();
    if args.dir.exists() && !std::fs::read_dir(&args.dir).is_ok_and(empty) {
        return Err(Failure::Other(format!(
            "{}: is not an empty folder, perhaps it is of an earlier demo. Remove it, or name another with --dir",
            args.dir.display()
        )));
    }
    let records = cities::records(args.records)?;
    story::tell(args, records, session)
}

/// How the demo opens its database: nothing is merged behind its back, so that each step's cost is
/// its own.
fn options(session: &Session) -> Options {
    Options {
        level0_trigger: 40,
        settle_after: Duration::from_secs(3600),
        ..session.options()
    }
}

/// Ends the demo when what it is about to claim is not so.
fn prove(holds: bool, claim: impl FnOnce() -> String) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(Failure::Other(format!(
            "PROOF FAILED: {}. Please report this",
            claim()
        ))),
    }
}
