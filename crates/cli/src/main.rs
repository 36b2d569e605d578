//! The `siltstone` command.
//!
//! Results go to stdout, what was done to stderr. [`args`] says what may be asked, [`commands`] has a
//! file for each command, [`session`] opens the database for it, and [`failure`] turns what went
//! wrong into one line and an exit code. [`demo`] tells a whole story on real data.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod demo;
mod document;
mod failure;
mod interrupt;
mod object;
mod output;
mod progress;
mod script;
mod session;
mod units;

use clap::Parser;
use failure::Failure;
use session::Session;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Where it cannot be had, the process holds more than it must, and does all the same.
    let _ = siltstone::return_freed_memory();
    let cli = args::Cli::parse();
    let mut session = Session::new(cli.global);
    let done = commands::run(cli.command, &mut session).and_then(|()| session.out.flush());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, &mut session),
    }
}

/// One line on stderr, after whatever was already on its way to stdout.
fn report(failure: &Failure, session: &mut Session) -> ExitCode {
    if !matches!(failure, Failure::BrokenPipe) {
        let _ = session.out.flush();
        let label = session.out.err_paint().red("error:");
        let _ = writeln!(std::io::stderr(), "{label} {failure}");
    }
    ExitCode::from(failure.exit_code())
}
