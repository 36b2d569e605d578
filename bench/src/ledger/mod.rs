//! `ledger`: local-first ledgers of documents. The peer is Fireproof, npm's `@fireproof/core`, on the
//! same documents of about 100 bytes.
//!
//! - [`work`]: the workloads; [`fireproof`]: the peer, installed and driven; [`curves`]: growth drawn

mod curves;
mod fireproof;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

pub(crate) use curves::draw;

use crate::child;
use crate::error::{Error, Result};
use crate::figure::{self, Row};
use crate::report::json_lines;

/// A child that takes longer is stuck.
const CHILD_LIMIT: Duration = Duration::from_secs(1800);

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// Workloads to run, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<Workload>,
    /// Leave Fireproof out. Otherwise it is installed by npm in a folder below --dir.
    #[arg(long)]
    no_fireproof: bool,
    /// Documents of the compared workloads.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    documents: u64,
    /// Documents that the peer puts one by one; it becomes slower with each.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..))]
    peer_puts: u64,
    /// Documents of the largest ledger that growth is shown for.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    most: u64,
    /// Rounds; figures are medians over rounds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Folder for the ledgers; must be on a disk, not in memory.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    dir: PathBuf,
    /// Also write the results as JSON lines.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw growth as SVG, a panel a figure.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Puts, gets, listing, compaction, memory.
    Documents,
    /// Archives written and read, as a part of this machine's own hashing.
    Archives,
    /// Puts, opening, memory and bytes on disk while a ledger grows.
    Growth,
}

/// One measurement in a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    workload: Workload,
    documents: u64,
    most: u64,
    dir: PathBuf,
}

/// Runs everything that `options` ask for and reports it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workloads = match &options.workloads[..] {
        [] => Workload::value_variants().to_vec(),
        some => some.to_vec(),
    };
    let dir = options
        .dir
        .join(format!("ledger-bench-{}", std::process::id()));
    create(&dir)?;
    let peer = if options.no_fireproof || !workloads.contains(&Workload::Documents) {
        None
    } else {
        match fireproof::install(&options.dir) {
            Ok(peer) => Some(peer),
            Err(reason) => {
                eprintln!("Fireproof is left out: {reason}");
                None
            }
        }
    };
    let mut rounds: Vec<Vec<Row>> = Vec::new();
    for round in 1..=options.rounds {
        let mut rows = Vec::new();
        for workload in &workloads {
            eprintln!(
                "round {round}/{}  {workload:?} on siltstone",
                options.rounds
            );
            rows.extend(one(options, *workload, &dir)?);
            if let Some(peer) = peer.as_ref().filter(|_| *workload == Workload::Documents) {
                eprintln!(
                    "round {round}/{}  {workload:?} on fireproof",
                    options.rounds
                );
                let data = dir.join("fireproof");
                let measured = peer.run(&data, options.peer_puts, options.documents);
                rows.extend(measured.map_err(|source| failed("fireproof", source))?);
            }
        }
        rows.iter().for_each(|row| eprintln!("  {}", row.line()));
        rounds.push(rows);
    }
    let removed = std::fs::remove_dir_all(&dir);
    removed.map_err(|source| Error::io(format!("remove {}", dir.display()), source))?;
    let mut rows = figure::medians(&rounds);
    figure::compare(&mut rows);
    print!("{}", figure::table(&rows));
    if let Some(path) = &options.json {
        std::fs::write(path, json_lines(&rows))
            .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, draw(&rows)?)
            .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    }
    Ok(())
}

fn one(options: &Options, workload: Workload, dir: &Path) -> Result<Vec<Row>> {
    let dir = dir.join("siltstone");
    create(&dir)?;
    let job = Job {
        workload,
        documents: options.documents,
        most: options.most,
        dir: dir.clone(),
    };
    let job = serde_json::to_string(&job).unwrap_or_default();
    let rows = child::run("run-ledger-job", &job, CHILD_LIMIT).map_err(|reason| Error::Child {
        workload: format!("{workload:?}"),
        engine: "siltstone".to_owned(),
        reason,
    })?;
    std::fs::remove_dir_all(&dir)
        .map_err(|source| Error::io(format!("remove {}", dir.display()), source))?;
    Ok(rows)
}

fn create(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)
        .map_err(|source| Error::io(format!("create {}", dir.display()), source))
}

fn failed(engine: &'static str, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Library {
        engine,
        workload: "ledger",
        source,
    }
}

/// Runs one job in this process and prints its rows as JSON.
pub(crate) fn run_job(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)
        .map_err(|error| Error::Usage(format!("the job is not one this program made: {error}")))?;
    let rows = work::run(&job).map_err(|source| failed("siltstone", source))?;
    println!("{}", serde_json::to_string(&rows).unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_runs_on_a_few_documents_and_gives_figures() {
        for workload in Workload::value_variants() {
            let dir = tempfile::tempdir().expect("a folder");
            let job = Job {
                workload: *workload,
                documents: 1_000,
                most: 1_000,
                dir: dir.path().to_owned(),
            };
            let rows = work::run(&job).unwrap_or_else(|error| panic!("{workload:?}: {error}"));
            assert!(rows.len() > 1);
            assert!(rows.iter().all(|row| row.value > 0.0), "{workload:?}");
        }
    }
}
