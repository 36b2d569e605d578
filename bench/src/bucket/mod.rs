//! `bucket`: databases in an object store some milliseconds away. The peer is SlateDB, twice: with its
//! log leaving every millisecond, which is its quickest, and with its default interval.
//!
//! - [`server`]: the bucket, in a process of its own, which counts its requests
//! - [`engine`]: what the workloads need of a database; [`siltstone`], `slatedb`: who has it
//! - [`work`]: the workloads

mod engine;
mod server;
mod siltstone;
#[cfg(feature = "slatedb")]
mod slatedb;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::child;
use crate::error::{Error, Result};
use crate::figure::{self, Row};
use crate::report::json_lines;
use server::{Place, Server};

/// A child that takes longer is stuck.
const CHILD_LIMIT: Duration = Duration::from_secs(1800);

/// Every database, ours first, then the one that the goals are about.
const ENGINES: &[&str] = &[
    "siltstone",
    "siltstone-25ms",
    #[cfg(feature = "disk-cache")]
    "siltstone-disk-cache",
    #[cfg(feature = "slatedb")]
    "slatedb",
    #[cfg(feature = "slatedb")]
    "slatedb-100ms",
];

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// Databases to run, separated by commas [default: all in this build].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    engines: Vec<String>,
    /// How much later every request is answered, in milliseconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    away: u64,
    /// Entries of the database that is read cold.
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(200_000..))]
    entries: u64,
    /// Seconds of the timed workloads.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seconds over which the traffic of an idle database is counted.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    idle_seconds: u64,
    /// Rounds; figures are medians over rounds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Folder for the bucket; must be on a disk, not in memory.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    dir: PathBuf,
    /// Also write the results as JSON lines.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One measurement in a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    engine: String,
    place: Place,
    away_ms: u64,
    entries: u64,
    seconds: u64,
    idle_seconds: u64,
}

/// Runs everything that `options` ask for and reports it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let engines = chosen(&options.engines)?;
    let mut rounds: Vec<Vec<Row>> = Vec::new();
    for round in 1..=options.rounds {
        let mut rows = Vec::new();
        for engine in &engines {
            eprintln!("round {round}/{}  {engine}", options.rounds);
            let measured = one(options, engine)?;
            measured
                .iter()
                .for_each(|row| eprintln!("  {}: {}", row.workload, row.line()));
            rows.extend(measured);
        }
        rounds.push(rows);
    }
    let mut rows = figure::medians(&rounds);
    figure::compare(&mut rows);
    // Of one workload and figure side by side.
    let order: Vec<_> = rows
        .iter()
        .map(|row| (row.workload.clone(), row.figure.clone()))
        .collect();
    rows.sort_by_key(|row| {
        order
            .iter()
            .position(|(workload, figure)| (workload, figure) == (&row.workload, &row.figure))
    });
    print!("{}", figure::table(&rows));
    if let Some(path) = &options.json {
        std::fs::write(path, json_lines(&rows))
            .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<&'static str>> {
    let known = |name: &String| {
        let found = ENGINES.iter().find(|engine| *engine == name);
        found.copied().ok_or_else(|| {
            Error::Usage(format!(
                "there is no database called {name} in this build (there are: {})",
                ENGINES.join(", ")
            ))
        })
    };
    match names {
        [] => Ok(ENGINES.to_vec()),
        some => some.iter().map(known).collect(),
    }
}

/// Runs all workloads on one database in a bucket of its own.
fn one(options: &Options, engine: &str) -> Result<Vec<Row>> {
    let dir = options
        .dir
        .join(format!("bucket-bench-{}", std::process::id()));
    let rows = in_bucket(options, engine, &dir.join("bucket"), &dir.join("cache"));
    std::fs::remove_dir_all(&dir)
        .map_err(|source| Error::io(format!("remove {}", dir.display()), source))?;
    rows
}

fn in_bucket(options: &Options, engine: &str, dir: &Path, cache: &Path) -> Result<Vec<Row>> {
    std::fs::create_dir_all(dir)
        .map_err(|source| Error::io(format!("create {}", dir.display()), source))?;
    let server = Server::start(dir)?;
    let job = Job {
        engine: engine.to_owned(),
        place: server.place.clone(),
        away_ms: options.away,
        entries: options.entries,
        seconds: options.seconds,
        idle_seconds: options.idle_seconds,
    };
    let cache = cache.display().to_string();
    let environment = [
        (siltstone::CACHE, cache.as_str()),
        ("AWS_ENDPOINT_URL", job.place.endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", job.place.access_key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", job.place.secret_key.as_str()),
    ];
    let text = serde_json::to_string(&job).unwrap_or_default();
    child::run_with("run-bucket-job", &text, CHILD_LIMIT, &environment).map_err(|reason| {
        Error::Child {
            workload: "bucket".to_owned(),
            engine: engine.to_owned(),
            reason,
        }
    })
}

/// Serves a bucket in this process until it is ended.
pub(crate) fn serve(dir: &Path) -> Result<()> {
    server::serve(dir)
}

/// Runs one job in this process and prints its rows as JSON.
pub(crate) fn run_job(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)
        .map_err(|error| Error::Usage(format!("the job is not one this program made: {error}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::io("start the runtime", source))?;
    let (name, rows) = match job.engine.as_str() {
        #[cfg(feature = "slatedb")]
        "slatedb" => {
            let rows = runtime.block_on(work::run::<slatedb::SlateDb<1>>(&job));
            ("slatedb", rows)
        }
        #[cfg(feature = "slatedb")]
        "slatedb-100ms" => {
            let rows = runtime.block_on(work::run::<slatedb::SlateDb<100>>(&job));
            ("slatedb-100ms", rows)
        }
        #[cfg(feature = "disk-cache")]
        "siltstone-disk-cache" => {
            let rows = runtime.block_on(work::run::<siltstone::Siltstone<true, 0>>(&job));
            ("siltstone-disk-cache", rows)
        }
        "siltstone-25ms" => {
            let rows = runtime.block_on(work::run::<siltstone::Siltstone<false, 25>>(&job));
            ("siltstone-25ms", rows)
        }
        _ => {
            let rows = runtime.block_on(work::run::<siltstone::Siltstone<false, 0>>(&job));
            ("siltstone", rows)
        }
    };
    let rows = rows.map_err(|source| Error::Library {
        engine: name,
        workload: "bucket",
        source,
    })?;
    println!("{}", serde_json::to_string(&rows).unwrap_or_default());
    Ok(())
}
