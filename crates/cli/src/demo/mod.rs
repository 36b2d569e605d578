//! `siltstone demo`: everything Siltstone promises, shown and proved on 34,006 cities.
//!
//! [`story`] runs the steps in order; [`cities`] is the input, [`document`] the same as a tree, [`answers`] what a reader sees in one
//! number, [`writer`] the process that gets killed, [`killing`] the one that kills it and counts, and
//! [`bill`] what it all cost; [`ledger`] is a demo of its own. Every claim that is printed was checked first; the first one that does
//! not hold ends the demo with an error.

mod answers;
mod bill;
mod cities;
mod document;
mod killing;
mod ledger;
mod story;
pub(crate) mod writer;

use crate::failure::{Failure, Result};
use crate::session::Session;
use clap::{Args, Subcommand};
use siltstone::Options;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    chapter: Option<Chapter>,
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

/// A demo of its own.
#[derive(Debug, Subcommand)]
enum Chapter {
    /// Show the race between commits and a compaction, in every order, lost and won
    Ledger(ledger::LedgerDemoArgs),
}

pub(crate) fn run(args: &DemoArgs, session: &mut Session) -> Result<()> {
    if let Some(Chapter::Ledger(args)) = &args.chapter {
        return ledger::run(args, session);
    }
    must_be_new(&args.dir)?;
    let records = cities::records(args.records)?;
    story::tell(args, records, session)
}

fn must_be_new(dir: &Path) -> Result<()> {
    let empty = |mut entries: std::fs::ReadDir| entries.next().is_none();
    if dir.exists() && !std::fs::read_dir(dir).is_ok_and(empty) {
        return Err(Failure::Other(format!(
            "{}: is not an empty folder, perhaps it is of an earlier demo. Remove it, or name another with --dir",
            dir.display()
        )));
    }
    Ok(())
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
