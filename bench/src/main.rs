//! Side-by-side benchmarks: the same workloads on Siltstone and on others of its kind.
//!
//! `kv` compares embedded databases, `list` libraries of collaborative texts and lists; `tree`
//! measures document trees, etcd beside them, `ledger` ledgers beside Fireproof, and `bucket`
//! databases in an object store. Each of these runs every workload on every engine, each pair in a process
//! of its own, and prints a table. See README.md for what is measured, how the engines are set up
//! and how fair it is.
#![deny(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time; nothing here runs under simulation"
)]

mod all;
mod bucket;
mod campaign;
mod child;
mod cores;
mod data;
mod driver;
mod engine;
mod engines;
mod error;
mod figure;
mod growth;
mod job;
mod latency;
mod ledger;
mod list;
mod many;
mod plot;
mod probe;
mod report;
mod row;
mod soak;
mod svg;
mod tree;
mod workloads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};
use crate::job::Job;
use crate::workloads::Runner;

/// Compares Siltstone with other embedded databases and CRDT libraries.
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
    /// Collaborative texts and lists: recorded editing traces and lists of JSON scalars.
    ///
    /// Prints tables on standard output and progress on standard error. Other libraries are left
    /// out of a plain build; add them with `--features peers`, or one by one.
    List(list::Options),
    /// Document trees: durable and buffered patches, subtrees now and in the past, watches, history
    /// thinned by compaction; etcd beside it where it can be.
    Tree(tree::Options),
    /// Ledgers: documents put, read, listed, compacted and grown; @fireproof/core on Node beside it.
    Ledger(ledger::Options),
    /// Databases in an object store: durable puts, opening, cold reads, idle traffic, counted in
    /// requests and milliseconds, against an S3 server of its own; SlateDB beside it.
    Bucket(bucket::Options),
    /// An hour of mixed load on one database under a memory limit, memory and latencies over time.
    Soak(soak::Options),
    /// What puts, gets, scans, opening and compaction cost as a database grows, size by size.
    Growth(growth::Options),
    /// A thousand databases open in one process: memory, threads and idle time of each.
    Many(many::Options),
    /// Every benchmark, one after the other, and the page docs/benchmarks.md of what they found.
    All(all::Options),
    /// Runs one size in this process and prints its results (used by `growth`).
    #[command(hide = true)]
    RunGrowthJob {
        /// The job as JSON.
        job: String,
    },
    /// Serves a folder as a bucket until ended (used by `bucket`).
    #[command(hide = true)]
    RunBucket {
        /// The folder.
        dir: std::path::PathBuf,
    },
    /// Runs one job in this process and prints its results (used by `bucket`).
    #[command(hide = true)]
    RunBucketJob {
        /// The job as JSON.
        job: String,
    },
    /// Runs one job in this process and prints its results (used by `kv`).
    #[command(hide = true)]
    RunJob {
        /// The job as JSON.
        job: String,
    },
    /// Runs one job in this process and prints its results (used by `list`).
    #[command(hide = true)]
    RunListJob {
        /// The job as JSON.
        job: String,
    },
    /// Runs one job in this process and prints its results (used by `ledger`).
    #[command(hide = true)]
    RunLedgerJob {
        /// The job as JSON.
        job: String,
    },
    /// Runs one job in this process and prints its results (used by `tree`).
    #[command(hide = true)]
    RunTreeJob {
        /// The job as JSON.
        job: String,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Cmd::Kv(options) => campaign::run(&options),
        Cmd::List(options) => list::run(&options),
        Cmd::Soak(options) => soak::run(&options),
        Cmd::Growth(options) => growth::run(&options),
        Cmd::RunGrowthJob { job } => growth::run_job(&job),
        Cmd::Many(options) => many::run(&options),
        Cmd::All(options) => all::run(&options),
        Cmd::RunJob { job } => run_job(&job),
        Cmd::RunListJob { job } => list::run_job(&job),
        Cmd::Ledger(options) => ledger::run(&options),
        Cmd::RunLedgerJob { job } => ledger::run_job(&job),
        Cmd::Tree(options) => tree::run(&options),
        Cmd::RunTreeJob { job } => tree::run_job(&job),
        Cmd::Bucket(options) => bucket::run(&options),
        Cmd::RunBucket { dir } => bucket::serve(&dir),
        Cmd::RunBucketJob { job } => bucket::run_job(&job),
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
    data::set_shape(job.shape);
    let rows = engines::dispatch(&job.engine, Runner { job: &job })??;
    println!("{}", serde_json::to_string(&rows).unwrap_or_default());
    Ok(())
}
