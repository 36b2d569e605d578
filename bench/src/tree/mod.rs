//! `tree`: versioned JSON documents by path. The peer is etcd, for the one thing both do: durable
//! writes of single keys by many clients. All else is measured against the goals of the tree itself.
//!
//! - [`work`]: the workloads; [`etcd`]: the peer, started and driven

mod etcd;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::child;
use crate::error::{Error, Result};
use crate::figure::{self, Row};
use crate::report::json_lines;

/// A child that takes longer is stuck.
const CHILD_LIMIT: Duration = Duration::from_secs(1800);

/// Commits a second while delivery is timed.
const DELIVERY_RATE: u64 = 10_000;

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// Workloads to run, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<Workload>,
    /// Leave etcd out. Otherwise it is run when this build has the feature `etcd` and the program
    /// is on the path.
    #[arg(long)]
    no_etcd: bool,
    /// Commits of the workloads that are about history.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    commits: u64,
    /// Seconds of the timed workloads.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Rounds; figures are medians over rounds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Folder for the databases; must be on a disk, not in memory.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    dir: PathBuf,
    /// Also write the results as JSON lines.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// 64 clients, each commit durable before the client's next.
    PatchDurable,
    /// One thread, buffered patches of 1,000 paths in turn.
    PatchBuffered,
    /// A subtree of 1,000 leaves at the head and as many commits ago as `--commits` says.
    Subtree,
    /// A document of 1,000,000 leaves, read whole.
    Document,
    /// Memory of the process while commits go on.
    Memory,
    /// Commits that touch one of 10,000 watched paths, and how late a watch hears of them.
    Watch,
    /// History thinned by compaction, beside history kept whole.
    Thinning,
}

/// One measurement in a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    workload: Workload,
    engine: String,
    commits: u64,
    seconds: u64,
    /// Commits a second while delivery is timed.
    rate: u64,
    dir: PathBuf,
}

/// Runs everything that `options` ask for and reports it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workloads = match &options.workloads[..] {
        [] => Workload::value_variants().to_vec(),
        some => some.to_vec(),
    };
    let etcd = !options.no_etcd && etcd::is_there();
    if !etcd && !options.no_etcd && workloads.contains(&Workload::PatchDurable) {
        eprintln!(
            "etcd is left out: {}",
            if etcd::BUILT {
                "there is no etcd on the path (Debian: apt-get install etcd-server)"
            } else {
                "this build has it not; add --features etcd"
            }
        );
    }
    let mut rounds: Vec<Vec<Row>> = Vec::new();
    for round in 1..=options.rounds {
        let mut rows = Vec::new();
        for workload in &workloads {
            for engine in engines(*workload, etcd) {
                eprintln!("round {round}/{}  {workload:?} on {engine}", options.rounds);
                let measured = one(options, *workload, engine)?;
                measured
                    .iter()
                    .for_each(|row| eprintln!("  {}", row.line()));
                rows.extend(measured);
            }
        }
        rounds.push(rows);
    }
    let mut rows = figure::medians(&rounds);
    figure::compare(&mut rows);
    print!("{}", figure::table(&rows));
    if let Some(path) = &options.json {
        std::fs::write(path, json_lines(&rows))
            .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    }
    Ok(())
}

fn engines(workload: Workload, etcd: bool) -> &'static [&'static str] {
    match workload {
        Workload::PatchDurable if etcd => &["siltstone", "etcd"],
        _ => &["siltstone"],
    }
}

fn one(options: &Options, workload: Workload, engine: &str) -> Result<Vec<Row>> {
    let dir = options
        .dir
        .join(format!("tree-bench-{}", std::process::id()));
    clear(&dir)?;
    let job = Job {
        workload,
        engine: engine.to_owned(),
        commits: options.commits,
        seconds: options.seconds,
        rate: DELIVERY_RATE,
        dir: dir.clone(),
    };
    let job = serde_json::to_string(&job).unwrap_or_default();
    let rows = child::run("run-tree-job", &job, CHILD_LIMIT).map_err(|reason| Error::Child {
        workload: format!("{workload:?}"),
        engine: engine.to_owned(),
        reason,
    });
    let removed = std::fs::remove_dir_all(&dir);
    let rows = rows?;
    removed.map_err(|source| Error::io(format!("remove {}", dir.display()), source))?;
    Ok(rows)
}

fn clear(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(format!("remove {}", dir.display()), error));
        }
        _ => {}
    }
    std::fs::create_dir_all(dir)
        .map_err(|source| Error::io(format!("create {}", dir.display()), source))
}

/// Runs one job in this process and prints its rows as JSON.
pub(crate) fn run_job(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)
        .map_err(|error| Error::Usage(format!("the job is not one this program made: {error}")))?;
    let rows = if job.engine == "etcd" {
        etcd::patch_durable(&job)
    } else {
        work::run(&job)
    };
    let rows = rows.map_err(|source| Error::Library {
        engine: if job.engine == "etcd" {
            "etcd"
        } else {
            "siltstone"
        },
        workload: "tree",
        source,
    })?;
    println!("{}", serde_json::to_string(&rows).unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_runs_on_a_small_history_and_gives_figures() {
        for workload in Workload::value_variants() {
            let dir = tempfile::tempdir().expect("a folder");
            let job = Job {
                workload: *workload,
                engine: "siltstone".to_owned(),
                commits: 2_000,
                seconds: 1,
                rate: 200,
                dir: dir.path().to_owned(),
            };
            let rows = work::run(&job).unwrap_or_else(|error| panic!("{workload:?}: {error}"));
            assert!(!rows.is_empty());
            assert!(rows.iter().all(|row| row.value > 0.0), "{workload:?}");
        }
    }
}
