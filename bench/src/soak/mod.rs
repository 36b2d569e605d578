//! `soak`: hours of mixed load on one database while memory is watched and limited. The process
//! limits its own memory, so that one allocation too much ends the run as it would end a service.
//!
//! - [`load`]: what the threads do

mod load;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use siltstone::blocking::Database;
use siltstone::{KeyspaceOptions, Options as Limits};

use crate::error::{Error, Result};
use crate::plot::{self, Line, Panel, Scale};
use crate::{probe, report};
use load::{Kind, Load};

/// Samples of a whole run.
const SAMPLES: u64 = 360;

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// How long, in seconds.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Memory budget of the database, in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..))]
    budget_mib: u64,
    /// Memory the process may have, in MiB: `RLIMIT_DATA`, which counts all memory that is its own,
    /// touched or not. An allocation beyond it ends the process.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(32..))]
    limit_mib: u64,
    /// Keys, 116 bytes each with their values.
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    entries: u64,
    /// Operations a second of each thread, where the machine has other work; none: as many as go.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..))]
    rate: Option<u64>,
    /// Folder for the database; must be on a disk, not in memory.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    dir: PathBuf,
    /// Also write a line for each sample as JSON, while it runs.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw memory, throughput and p99 over time.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What was seen in one stretch of time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sample {
    seconds: f64,
    rss_bytes: u64,
    anonymous_bytes: u64,
    disk_bytes: u64,
    writes_per_s: f64,
    reads_per_s: f64,
    scans_per_s: f64,
    write_p99_us: f64,
    read_p99_us: f64,
    scan_p99_us: f64,
    longest_write_ms: f64,
}

/// Runs the load and reports it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = options.dir.join(format!("soak-{}", std::process::id()));
    std::fs::create_dir_all(&dir)
        .map_err(|source| Error::io(format!("create {}", dir.display()), source))?;
    if !siltstone::return_freed_memory() {
        eprintln!("the allocator keeps freed memory as it likes: it is not glibc's");
    }
    limit_memory(options.limit_mib << 20)?;
    let result = soak(options, &dir);
    let removed = std::fs::remove_dir_all(&dir);
    let samples = result?;
    removed.map_err(|source| Error::io(format!("remove {}", dir.display()), source))?;
    if let Some(path) = &options.svg {
        std::fs::write(path, draw(options, &samples)?)
            .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    }
    print!("{}", summary(options, &samples));
    Ok(())
}

/// The most memory of its own that this process may have from now on.
fn limit_memory(bytes: u64) -> Result<()> {
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::Data, limit)
        .map_err(|source| Error::io("limit the memory of this process", source.into()))
}

fn soak(options: &Options, dir: &Path) -> Result<Vec<Sample>> {
    let url = dir
        .to_str()
        .ok_or_else(|| Error::Usage(format!("the folder's name is no text: {}", dir.display())))?;
    let limits = Limits {
        memory_budget: (options.budget_mib << 20) as usize,
        ..Limits::default()
    };
    let database =
        Database::open_with(url, limits, KeyspaceOptions::default()).map_err(Error::soak)?;
    let load = Load::new(&database, options.entries, options.rate);
    eprintln!("loading {} entries", report::count(options.entries as f64));
    load.fill()?;
    let samples = std::thread::scope(|scope| {
        let threads = [
            scope.spawn(|| load.write()),
            scope.spawn(|| load.read()),
            scope.spawn(|| load.scan()),
        ];
        let samples = watch(options, dir, &load);
        load.stop();
        for thread in threads {
            thread
                .join()
                .map_err(|_| Error::Usage("a thread of the load panicked".into()))??;
        }
        samples
    })?;
    eprintln!("verifying");
    database.flush().map_err(Error::soak)?;
    let found = database.verify(|_, _| ()).map_err(Error::soak)?;
    if !found.problems.is_empty() {
        return Err(Error::soak(format!("verify found {:?}", found.problems)));
    }
    database.close().map_err(Error::soak)?;
    Ok(samples)
}

/// Takes samples until the time is over or a thread has stopped early.
fn watch(options: &Options, dir: &Path, load: &Load<'_>) -> Result<Vec<Sample>> {
    let mut file = match &options.json {
        Some(path) => Some(
            std::fs::File::create(path)
                .map_err(|source| Error::io(format!("create {}", path.display()), source))?,
        ),
        None => None,
    };
    let every = Duration::from_secs(options.seconds) / SAMPLES as u32;
    let every = every.max(Duration::from_secs(1));
    let start = Instant::now();
    let mut samples: Vec<Sample> = Vec::new();
    let mut last = start;
    while start.elapsed().as_secs() < options.seconds && !load.has_failed() {
        std::thread::sleep(every);
        let now = Instant::now();
        let took = (now - last).as_secs_f64();
        last = now;
        let [write, read, scan] = [Kind::Write, Kind::Read, Kind::Scan].map(|kind| load.take(kind));
        let sample = Sample {
            seconds: (now - start).as_secs_f64(),
            rss_bytes: probe::resident_bytes(),
            anonymous_bytes: probe::anonymous_bytes(),
            disk_bytes: probe::disk_bytes(dir),
            writes_per_s: write.count() as f64 / took,
            reads_per_s: read.count() as f64 / took,
            scans_per_s: scan.count() as f64 / took,
            write_p99_us: write.quantile_us(0.99),
            read_p99_us: read.quantile_us(0.99),
            scan_p99_us: scan.quantile_us(0.99),
            longest_write_ms: write.max_us() / 1e3,
        };
        eprintln!("{}", sample.line());
        if let Some(file) = &mut file {
            file.write_all(report::json_lines(std::slice::from_ref(&sample)).as_bytes())
                .map_err(|source| Error::io("write a sample", source))?;
        }
        samples.push(sample);
    }
    Ok(samples)
}

impl Sample {
    fn line(&self) -> String {
        format!(
            "{:>6.0} s  {:>4} MiB resident ({:>4} its own)  {:>5} MiB on disk  {} writes/s p99 {:.0} us  {} reads/s p99 {:.0} us  {} scans/s p99 {:.0} us",
            self.seconds,
            self.rss_bytes >> 20,
            self.anonymous_bytes >> 20,
            self.disk_bytes >> 20,
            report::count(self.writes_per_s),
            self.write_p99_us,
            report::count(self.reads_per_s),
            self.read_p99_us,
            report::count(self.scans_per_s),
            self.scan_p99_us,
        )
    }
}

fn summary(options: &Options, samples: &[Sample]) -> String {
    let most = |of: fn(&Sample) -> f64| samples.iter().map(of).fold(0.0, f64::max);
    let mean =
        |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / samples.len().max(1) as f64;
    format!(
        "{} s within {} MiB, budget {} MiB: no failure, verified\n\
         memory: at most {:.0} MiB resident, {:.0} MiB its own\n\
         writes: {}/s, p99 at most {:.0} us in any sample, longest {:.0} ms\n\
         reads: {}/s, p99 at most {:.0} us\n\
         scans of 100: {}/s, p99 at most {:.0} us\n\
         disk: at most {:.0} MiB\n",
        samples.last().map_or(0, |sample| sample.seconds as u64),
        options.limit_mib,
        options.budget_mib,
        most(|sample| (sample.rss_bytes >> 20) as f64),
        most(|sample| (sample.anonymous_bytes >> 20) as f64),
        report::count(mean(|sample| sample.writes_per_s)),
        most(|sample| sample.write_p99_us),
        most(|sample| sample.longest_write_ms),
        report::count(mean(|sample| sample.reads_per_s)),
        most(|sample| sample.read_p99_us),
        report::count(mean(|sample| sample.scans_per_s)),
        most(|sample| sample.scan_p99_us),
        most(|sample| (sample.disk_bytes >> 20) as f64),
    )
}

fn draw(options: &Options, samples: &[Sample]) -> Result<String> {
    let line = |name: &str, of: fn(&Sample) -> f64| Line {
        name: name.to_owned(),
        points: samples
            .iter()
            .map(|sample| (sample.seconds / 60.0, of(sample)))
            .collect(),
    };
    let panel = |title: String, lines| Panel {
        title,
        across: "minutes".into(),
        lines,
    };
    let title = format!(
        "Memory, MiB (limit {}, budget {})",
        options.limit_mib, options.budget_mib
    );
    let panels = [
        panel(
            title,
            vec![
                line("resident", |sample| sample.rss_bytes as f64 / 1048576.0),
                line("its own", |sample| {
                    sample.anonymous_bytes as f64 / 1048576.0
                }),
            ],
        ),
        panel(
            "Operations a second".into(),
            vec![
                line("writes", |sample| sample.writes_per_s),
                line("reads", |sample| sample.reads_per_s),
            ],
        ),
        panel(
            "p99, microseconds".into(),
            vec![
                line("writes", |sample| sample.write_p99_us),
                line("reads", |sample| sample.read_p99_us),
                line("scans of 100", |sample| sample.scan_p99_us),
            ],
        ),
    ];
    plot::draw(&panels, Scale::Even)
}
