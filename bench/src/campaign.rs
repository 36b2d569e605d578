//! The parent process: walks rounds, workloads and engines, starts a child for each, and hands
//! the medians to the report.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::child;
use crate::data::{Keys, Shape};
use crate::engine::{Compression, Family};
use crate::engines::{self, About};
use crate::error::{Error, Result};
use crate::job::{Job, Step, Workload};
use crate::report;
use crate::row::{self, Row};
use crate::svg;

/// The engine that is compared; all other log-structured ones set the bar.
const OWN: &str = "siltstone";
/// The engine that only runs if it is named.
const FLOOR: &str = "floor";
/// A child that takes longer is stuck.
const CHILD_LIMIT: Duration = Duration::from_secs(900);

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// Engines to run, by name, separated by commas [default: all in this build but
    /// `floor`, a bare log and map].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    engines: Vec<String>,
    /// Workloads to run, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<Workload>,
    /// Entries in the database.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    entries: u64,
    /// Rounds; engines take turns within a round, figures are medians over rounds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Seconds for timed workloads [default: 30 for mixed_1w1r, 5 for durable_* and scan_1000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Memory of each engine in MiB: block cache and write buffer together.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(32..))]
    memory_mib: u64,
    /// Of the memory, the write buffer, in MiB [default: a quarter].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    memtable_mib: Option<u64>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    value_bytes: u32,
    /// Keys of 16 bytes: all random, or half of each one of 64 prefixes.
    #[arg(long, value_enum, default_value = "random")]
    keys: Keys,
    /// Keyspaces that the entries are spread over.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=255))]
    keyspaces: u16,
    /// Compression of table blocks.
    #[arg(long, value_enum, default_value = "lz4")]
    compression: Compression,
    /// Folder for the databases; must be on a disk, not in memory. A folder of its own is made
    /// inside and removed at the end.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    dir: PathBuf,
    /// Also write the results as JSON lines, one per workload and engine.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw operations per second as bars.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Options {
    /// The write buffer of each engine in MiB.
    fn memtable_mib(&self) -> u64 {
        self.memtable_mib.unwrap_or(self.memory_mib / 4)
    }

    fn shape(&self) -> Shape {
        Shape {
            value_len: self.value_bytes as usize,
            keys: self.keys,
            keyspaces: self.keyspaces.into(),
        }
    }
}

/// Runs everything that `options` ask for and reports it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let engines = chosen_engines(&options.engines)?;
    let workloads = match &options.workloads[..] {
        [] => Workload::value_variants().to_vec(),
        some => some.to_vec(),
    };
    if options.memtable_mib() >= options.memory_mib {
        return Err(Error::Usage(
            "--memtable-mib must be below --memory-mib".to_owned(),
        ));
    }
    let folder = Folder::create(&options.dir)?;
    let mut rounds: Vec<Row> = Vec::new();
    let mut failures = Vec::new();
    for round in 1..=options.rounds {
        for workload in &workloads {
            let able = |engine: &&&str| !workload.wants_history() || has_history(engine);
            for engine in engines.iter().filter(able) {
                eprint!(
                    "round {round}/{}  {:<16}{:<10}",
                    options.rounds,
                    workload.name(),
                    engine
                );
                match run_one(options, &folder.path, *workload, engine) {
                    Ok(rows) => {
                        eprintln!("{}", report::brief(&rows));
                        rounds.extend(rows);
                    }
                    Err(error) => {
                        eprintln!("failed");
                        failures.push(error.to_string());
                    }
                }
            }
        }
        folder.clear()?;
    }
    let mut rows = medians(&rounds);
    row::fill_ratios(&mut rows, is_bar);
    print!("{}", report::table(&rows));
    if let Some(path) = &options.json {
        write(path, &report::json_lines(&rows))?;
    }
    if let Some(path) = &options.svg {
        write(path, &svg::bars(&rows))?;
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Usage(failures.join("\nerror: ")))
    }
}

fn chosen_engines(names: &[String]) -> Result<Vec<&'static str>> {
    let built = || engines::ALL.iter().filter(|about| about.family.is_some());
    let chosen: Result<Vec<_>> = names
        .iter()
        .map(|name| {
            let found = built().find(|about| about.name == name);
            found
                .map(|about| about.name)
                .ok_or_else(|| engines::unknown(name))
        })
        .collect();
    let chosen = chosen?;
    let all: Vec<_> = built()
        .map(|about| about.name)
        .filter(|name| *name != FLOOR)
        .collect();
    match (chosen.is_empty(), all.is_empty()) {
        (false, _) => Ok(chosen),
        (true, false) => Ok(all),
        (true, true) => Err(Error::Usage(
            "this build has no database to measure; add --features peers (or peers-rocksdb)"
                .to_owned(),
        )),
    }
}

fn has_history(engine: &str) -> bool {
    engines::ALL
        .iter()
        .any(|about| about.name == engine && about.history)
}

fn is_bar(engine: &str) -> bool {
    let lsm = |about: &About| about.name == engine && about.family == Some(Family::Lsm);
    engine != OWN && engines::ALL.iter().any(lsm)
}

/// Runs one workload on one engine, loading a database for it first if it wants one.
fn run_one(options: &Options, folder: &Path, workload: Workload, engine: &str) -> Result<Vec<Row>> {
    let kept = folder.join(format!("{engine}-loaded"));
    let own = folder.join(format!("{engine}-run"));
    let job = Job {
        step: Step::Measure(workload),
        engine: engine.to_owned(),
        dir: if workload.wants_loaded() {
            kept.clone()
        } else {
            own.clone()
        },
        entries: options.entries,
        seconds: options.seconds,
        memory_mib: options.memory_mib as usize,
        memtable_mib: options.memtable_mib() as usize,
        compress: options.compression == Compression::Lz4,
        shape: options.shape(),
    };
    if workload.wants_loaded() && !kept.exists() {
        make_dir(&kept)?;
        let loaded = run_child(&job.with_step(Step::Load), workload);
        if loaded.is_err() {
            remove_dir(&kept)?;
        }
        loaded?;
    }
    if !workload.wants_loaded() {
        remove_dir(&own)?;
        make_dir(&own)?;
    }
    let rows = run_child(&job, workload);
    remove_dir(&own)?;
    rows
}

fn run_child(job: &Job, workload: Workload) -> Result<Vec<Row>> {
    let failed = |reason: String| Error::Child {
        workload: workload.name().to_owned(),
        engine: job.engine.clone(),
        reason,
    };
    let job = serde_json::to_string(job).unwrap_or_default();
    child::run("run-job", &job, CHILD_LIMIT).map_err(failed)
}

/// The median rows, in the order in which the first round produced them.
fn medians(rounds: &[Row]) -> Vec<Row> {
    let same = |a: &Row, b: &Row| a.workload == b.workload && a.engine == b.engine;
    let firsts = rounds
        .iter()
        .enumerate()
        .filter(|(at, row)| !rounds[..*at].iter().any(|earlier| same(earlier, row)));
    firsts
        .filter_map(|(_, first)| {
            let group: Vec<Row> = rounds
                .iter()
                .filter(|row| same(first, row))
                .cloned()
                .collect();
            row::median(&group)
        })
        .collect()
}

/// The folder the databases live in; removed when dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn create(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("siltstone-bench-{}", std::process::id()));
        make_dir(&path)?;
        Ok(Self { path })
    }

    fn clear(&self) -> Result<()> {
        remove_dir(&self.path)?;
        make_dir(&self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = remove_dir(&self.path) {
            eprintln!("{error}");
        }
    }
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path)
        .map_err(|source| Error::io(format!("create the folder {}", path.display()), source))
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io(
            format!("remove the folder {}", path.display()),
            source,
        )),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|source| Error::io(format!("write {}", path.display()), source))
}
