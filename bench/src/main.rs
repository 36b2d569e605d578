//! Side-by-side benchmarks: the same workloads on Siltstone and on other embedded databases.
//!
//! `kv` runs every workload on every engine, each pair in a process of its own, and prints a
//! table. See README.md for what is measured, how the engines are set up and how fair it is.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time; nothing here runs under simulation"
)]

mod campaign;
mod data;
mod driver;
mod engine;
mod engines;
mod error;
mod job;
mod latency;
mod probe;
mod report;
mod row;
mod svg;
mod workloads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};
use crate::job::Job;
use crate::workloads::Runner;

/// Compares Siltstone with other embedded databases.
#[derive(Parser)]
#[command(name = "siltstone-bench", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Key-value workloads: 16-byte keys in random order, 100-byte values, half compressible.
    ///
    /// Prints a table on standard output and progress on standard error. Other databases are
    /// left out of a plain build; add them with `--features peers`, or `--features
    /// peers-rocksdb`, which also needs libclang and a C++ compiler.
    Kv(campaign::Options),
    /// Runs one job in this process and prints its results (used by `kv`).
    #[command(hide = true)]
    RunJob {
        /// The job as JSON.
        job: String,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Cmd::Kv(options) => campaign::run(&options),
        Cmd::RunJob { job } => run_job(&job),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_job(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)
        .map_err(|error| Error::Usage(format!("the job is not one this program made: {error}")))?;
    let rows = engines::dispatch(&job.engine, Runner { job: &job })??;
    println!("{}", serde_json::to_string(&rows).unwrap_or_default());
    Ok(())
}
