//! `growth`: what a put, a get, a scan, an opening and a compaction cost as a database grows, each
//! size tenfold the one before, each in a process of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use siltstone::blocking::Database;
use siltstone::{CompactOptions, Durability, KeyspaceOptions, Options as Limits, Read};

use crate::error::{Error, Result};
use crate::plot::{self, Line, Panel, Scale};
use crate::probe::{self, MemoryWatch};
use crate::{child, data, report};

/// A child that takes longer is stuck.
const CHILD_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// Bytes of a value.
const VALUE: usize = 16;
/// Gets, and entries scanned, that are timed.
const READS: u64 = 300_000;
/// Entries of one scan.
const SCAN: usize = 1_000;

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// Entries of the smallest database.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    from: u64,
    /// Entries of the largest, 32 bytes each.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    to: u64,
    /// Memory budget of each database, in MiB.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(8..))]
    budget_mib: u64,
    /// Folder for the databases; must be on a disk, not in memory.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    dir: PathBuf,
    /// Also write the results as JSON lines.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the curves.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// One size.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    entries: u64,
    budget: u64,
    dir: PathBuf,
}

/// What a size costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) entries: u64,
    /// A buffered put in random order, the last flush included.
    pub(crate) put_ns: f64,
    /// Compaction of everything after a tenth was put once more, for each entry.
    pub(crate) compact_ns: f64,
    /// From open to the first value.
    pub(crate) open_ms: f64,
    /// A get in random order.
    pub(crate) get_ns: f64,
    /// An entry of a scan of 1,000 from anywhere.
    pub(crate) scan_ns: f64,
    pub(crate) disk_bytes: u64,
    /// Peak of the memory that was the process's own.
    pub(crate) memory_bytes: u64,
}

/// Measures every size and reports it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let sizes: Vec<u64> = std::iter::successors(Some(options.from), |size| size.checked_mul(10))
        .take_while(|size| *size <= options.to)
        .collect();
    let mut rows = Vec::new();
    for entries in sizes {
        let dir = options.dir.join(format!("growth-{}", std::process::id()));
        std::fs::create_dir_all(&dir)
            .map_err(|source| Error::io(format!("create {}", dir.display()), source))?;
        let job = Job {
            entries,
            budget: options.budget_mib << 20,
            dir: dir.clone(),
        };
        let job = serde_json::to_string(&job).unwrap_or_default();
        eprintln!("{} entries", report::count(entries as f64));
        let row: std::result::Result<Row, String> = child::run("run-growth-job", &job, CHILD_LIMIT);
        let removed = std::fs::remove_dir_all(&dir);
        let row = row.map_err(|reason| Error::Child {
            workload: format!("growth to {entries}"),
            engine: "siltstone".into(),
            reason,
        })?;
        removed.map_err(|source| Error::io(format!("remove {}", dir.display()), source))?;
        eprintln!("  {}", row.line());
        rows.push(row);
        if let Some(path) = &options.json {
            std::fs::write(path, report::json_lines(&rows))
                .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
        }
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, draw(&rows)?)
            .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    }
    for row in &rows {
        println!("{}", row.line());
    }
    Ok(())
}

/// Runs one size in this process and prints its row as JSON.
pub(crate) fn run_job(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job)
        .map_err(|error| Error::Usage(format!("the job is not one this program made: {error}")))?;
    println!(
        "{}",
        serde_json::to_string(&measure(&job)?).unwrap_or_default()
    );
    Ok(())
}

fn measure(job: &Job) -> Result<Row> {
    let memory = MemoryWatch::start();
    let open = || -> Result<Database> {
        let url = job.dir.to_str().ok_or_else(|| {
            Error::Usage(format!(
                "the folder's name is no text: {}",
                job.dir.display()
            ))
        })?;
        let limits = Limits {
            memory_budget: job.budget as usize,
            ..Limits::default()
        };
        Database::open_with(url, limits, KeyspaceOptions::default()).map_err(Error::soak)
    };
    let each = |took: Duration, count: u64| took.as_nanos() as f64 / count as f64;

    let put = |database: &Database, number: u64| -> Result<()> {
        let (key, value) = data::entry(number, 0);
        let keyspace = database.default_keyspace();
        keyspace
            .put_with(&key, &value[..VALUE], Durability::Buffered)
            .map_err(Error::soak)?;
        Ok(())
    };

    let database = open()?;
    let start = Instant::now();
    for number in 0..job.entries {
        put(&database, number)?;
    }
    database.flush().map_err(Error::soak)?;
    let put_ns = each(start.elapsed(), job.entries);

    // A tenth once more, so that there is something to bring together.
    for number in (0..job.entries).step_by(10) {
        put(&database, number)?;
    }
    database.flush().map_err(Error::soak)?;
    let start = Instant::now();
    database
        .compact(&CompactOptions::default())
        .map_err(Error::soak)?;
    let compact_ns = each(start.elapsed(), job.entries);
    let disk_bytes = probe::disk_bytes(&job.dir);
    database.close().map_err(Error::soak)?;
    drop(database);

    let get = |database: &Database, number: u64| -> Result<()> {
        let key = data::key(number);
        match database.get(key).map_err(Error::soak)? {
            Some(value) if value[..] == data::value(&key, 0)[..VALUE] => Ok(()),
            _ => Err(Error::soak("a key was missing or had another value")),
        }
    };
    let start = Instant::now();
    let database = open()?;
    get(&database, 0)?;
    let open_ms = start.elapsed().as_secs_f64() * 1e3;

    let mut rng = Rng::with_seed(1);
    for _ in 0..READS.min(job.entries) {
        get(&database, rng.u64(0..job.entries))?;
    }
    let start = Instant::now();
    for _ in 0..READS {
        get(&database, rng.u64(0..job.entries))?;
    }
    let get_ns = each(start.elapsed(), READS);

    let (start, mut scanned) = (Instant::now(), 0);
    while scanned < READS {
        let from = data::key(rng.u64(0..job.entries));
        let scan = database.default_keyspace().scan(from..);
        for entry in scan.map_err(Error::soak)?.into_iter().take(SCAN) {
            let (key, value) = entry.map_err(Error::soak)?;
            if key[..] < from[..] || value.len() != VALUE {
                return Err(Error::soak("a scan met a wrong entry"));
            }
            scanned += 1;
        }
    }
    let scan_ns = each(start.elapsed(), scanned);
    database.close().map_err(Error::soak)?;
    Ok(Row {
        entries: job.entries,
        put_ns,
        compact_ns,
        open_ms,
        get_ns,
        scan_ns,
        disk_bytes,
        memory_bytes: memory.peak_anon_bytes(),
    })
}

impl Row {
    fn line(&self) -> String {
        format!(
            "{:>6} entries: put {:.0} ns, compact {:.0} ns, open {:.1} ms, get {:.0} ns, scan {:.0} ns an entry, {:.1} bytes an entry on disk, {} MiB of memory",
            report::count(self.entries as f64),
            self.put_ns,
            self.compact_ns,
            self.open_ms,
            self.get_ns,
            self.scan_ns,
            self.disk_bytes as f64 / self.entries as f64,
            self.memory_bytes >> 20,
        )
    }
}

/// The costs over the entries, as a picture.
pub(crate) fn draw(rows: &[Row]) -> Result<String> {
    let line = |name: &str, of: fn(&Row) -> f64| Line {
        name: name.to_owned(),
        points: rows
            .iter()
            .map(|row| (row.entries as f64, of(row)))
            .collect(),
    };
    let panel = |title: &str, lines| Panel {
        title: title.to_owned(),
        across: "entries".into(),
        lines,
    };
    let panels = [
        panel(
            "Nanoseconds an entry",
            vec![
                line("put", |row| row.put_ns),
                line("get", |row| row.get_ns),
                line("scan", |row| row.scan_ns),
                line("compact", |row| row.compact_ns),
            ],
        ),
        panel(
            "Opening, milliseconds",
            vec![line("open", |row| row.open_ms)],
        ),
        panel(
            "Bytes",
            vec![
                line("on disk", |row| row.disk_bytes as f64),
                line("of memory", |row| row.memory_bytes as f64),
            ],
        ),
    ];
    plot::draw(&panels, Scale::Decades)
}
