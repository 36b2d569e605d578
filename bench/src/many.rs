//! `many`: a thousand databases open in one process, and what each of them costs while it does
//! nothing: memory, threads, processor time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use siltstone::blocking::Database;
use siltstone::{Durability, KeyspaceOptions, Options as Limits};

use crate::error::{Error, Result};
use crate::probe::{self, Counters};
use crate::{data, report};

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// Databases.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    databases: u64,
    /// Entries of each, 116 bytes.
    #[arg(long, default_value_t = 1_000)]
    entries: u64,
    /// Memory budget of each, in MiB.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(8..))]
    budget_mib: u64,
    /// Seconds in which nothing is done.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// Folder for the databases; must be on a disk, not in memory.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    dir: PathBuf,
    /// Also write the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was seen; everything is for one database.
#[derive(Serialize)]
struct Figures {
    databases: u64,
    entries: u64,
    create_ms: f64,
    open_ms: f64,
    /// After a first open and one get.
    memory_bytes: u64,
    /// After a put as well.
    written_memory_bytes: u64,
    threads: f64,
    files: f64,
    idle_cpu_us_per_s: f64,
}

/// Opens all of them and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = options.dir.join(format!("many-{}", std::process::id()));
    let result = measure(options, &dir);
    let removed = std::fs::remove_dir_all(&dir);
    let figures = result?;
    removed.map_err(|source| Error::io(format!("remove {}", dir.display()), source))?;
    println!(
        "{} databases of {} entries in one process; each:\n\
         created and filled in {:.2} ms, opened in {:.2} ms\n\
         {:.1} KiB of memory open, {:.1} KiB after a write; {:.2} threads, {:.2} open files\n\
         idle: {:.2} us of processor time a second",
        figures.databases,
        figures.entries,
        figures.create_ms,
        figures.open_ms,
        figures.memory_bytes as f64 / 1024.0,
        figures.written_memory_bytes as f64 / 1024.0,
        figures.threads,
        figures.files,
        figures.idle_cpu_us_per_s,
    );
    if let Some(path) = &options.json {
        std::fs::write(path, report::json_lines(&[figures]))
            .map_err(|source| Error::io(format!("write {}", path.display()), source))?;
    }
    Ok(())
}

fn measure(options: &Options, dir: &std::path::Path) -> Result<Figures> {
    let open = |number: u64| -> Result<Database> {
        let path = dir.join(format!("{number:06}"));
        let url = path.to_str().ok_or_else(|| {
            Error::Usage(format!("the folder's name is no text: {}", path.display()))
        })?;
        let limits = Limits {
            memory_budget: (options.budget_mib << 20) as usize,
            ..Limits::default()
        };
        Database::open_with(url, limits, KeyspaceOptions::default()).map_err(Error::soak)
    };
    let each = |value: f64| value / options.databases as f64;
    let ms = |start: Instant| each(start.elapsed().as_secs_f64() * 1e3);

    let start = Instant::now();
    for number in 0..options.databases {
        let database = open(number)?;
        for entry in 0..options.entries {
            let (key, value) = data::entry(entry, 0);
            database
                .default_keyspace()
                .put_with(&key, &value, Durability::Buffered)
                .map_err(Error::soak)?;
        }
        database.flush().map_err(Error::soak)?;
        database.close().map_err(Error::soak)?;
    }
    let create_ms = ms(start);

    let before = (
        probe::anonymous_bytes(),
        probe::threads(),
        probe::open_files(),
    );
    let start = Instant::now();
    let mut databases = Vec::new();
    for number in 0..options.databases {
        let database = open(number)?;
        get(&database)?;
        databases.push(database);
    }
    let open_ms = ms(start);
    let memory_bytes = probe::anonymous_bytes().saturating_sub(before.0) / options.databases;
    for database in &databases {
        let (key, value) = data::entry(0, 1);
        database
            .default_keyspace()
            .put_with(&key, &value, Durability::Buffered)
            .map_err(Error::soak)?;
    }
    let written = probe::anonymous_bytes().saturating_sub(before.0) / options.databases;
    eprintln!(
        "{} databases are open; idle for {} s",
        options.databases, options.idle
    );
    let counters = Counters::now();
    std::thread::sleep(Duration::from_secs(options.idle));
    let spent = Counters::now().since(counters);
    let figures = Figures {
        databases: options.databases,
        entries: options.entries,
        create_ms,
        open_ms,
        memory_bytes,
        written_memory_bytes: written,
        threads: each(probe::threads().saturating_sub(before.1) as f64),
        files: each(probe::open_files().saturating_sub(before.2) as f64),
        idle_cpu_us_per_s: each(spent.cpu_us as f64 / options.idle as f64),
    };
    for database in &databases {
        get(database)?;
        database.close().map_err(Error::soak)?;
    }
    Ok(figures)
}

fn get(database: &Database) -> Result<()> {
    match database.get(data::key(0)).map_err(Error::soak)? {
        Some(value) if data::belongs(&data::key(0), &value) => Ok(()),
        _ => Err(Error::soak("an entry was missing")),
    }
}
