//! `all`: every benchmark, one after the other, and the page that shows what they found.
//!
//! - [`page`]: the page; [`tables`]: its tables; [`pictures`]: those that are drawn from rows

mod page;
mod pictures;
mod tables;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::error::{Error, Result};

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// Folder of the results, a file of JSON lines for each benchmark. What is not run again stays.
    #[arg(long, default_value = "bench/results/latest", value_name = "FOLDER")]
    results: PathBuf,
    /// The page that is written; pictures go into a folder of its name beside it.
    #[arg(long, default_value = "docs/benchmarks.md", value_name = "FILE")]
    out: PathBuf,
    /// Run nothing, only write the page from the results that are there.
    #[arg(long)]
    only_page: bool,
    /// Benchmarks to run, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Rounds of those that have rounds; figures are medians over rounds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Entries of the largest database of `growth`.
    #[arg(long, default_value_t = 10_000_000)]
    largest: u64,
    /// Seconds of `soak`.
    #[arg(long, default_value_t = 3600)]
    soak_seconds: u64,
    /// Folder for the databases; must be on a disk, not in memory.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    dir: PathBuf,
    /// Folder of the editing traces of `list`.
    #[arg(long, default_value = "../shared/data/traces", value_name = "FOLDER")]
    traces: PathBuf,
}

/// One benchmark as it is run here.
struct Bench {
    /// Its file in the folder of results, and what `only` calls it.
    name: &'static str,
    command: &'static str,
    /// It keeps databases in a folder.
    on_disk: bool,
    /// It draws a picture, of more than its rows.
    draws: bool,
    /// It can be repeated.
    rounds: bool,
    more: Vec<String>,
}

fn benches(options: &Options) -> Vec<Bench> {
    let bench = |name, command, [on_disk, draws, rounds]: [bool; 3], more: &[&str]| Bench {
        name,
        command,
        on_disk,
        draws,
        rounds,
        more: more.iter().map(|word| (*word).to_owned()).collect(),
    };
    let seconds = options.soak_seconds.to_string();
    let small = [
        "--seconds",
        &seconds,
        "--budget-mib",
        "64",
        "--limit-mib",
        "256",
        "--entries",
        "1000000",
    ];
    let shapes = [true, false, true];
    // Not surrealkv: its gets stand still for minutes there.
    let cold = [
        (true, "siltstone"),
        (cfg!(feature = "rocksdb"), "rocksdb"),
        (cfg!(feature = "fjall"), "fjall"),
    ];
    let cold: Vec<&str> = cold
        .iter()
        .filter(|(built, _)| *built)
        .map(|(_, name)| *name)
        .collect();
    vec![
        bench("kv", "kv", shapes, &[]),
        bench("kv-keyspaces", "kv", shapes, &["--keyspaces", "64"]),
        bench(
            "kv-small",
            "kv",
            shapes,
            &[
                "--value-bytes",
                "16",
                "--keys",
                "prefixed",
                "--entries",
                "2000000",
            ],
        ),
        bench(
            "kv-large",
            "kv",
            shapes,
            &[
                "--value-bytes",
                "1024",
                "--entries",
                "300000",
                "--memory-mib",
                "64",
            ],
        ),
        bench(
            "kv-huge",
            "kv",
            shapes,
            &["--value-bytes", "65536", "--entries", "10000"],
        ),
        bench(
            "kv-cold",
            "kv",
            shapes,
            &[
                "--engines",
                &cold.join(","),
                "--workloads",
                "fill_random,get_1,get_2,get_missing,scan_1000",
                "--entries",
                "4000000",
                "--memory-mib",
                "96",
            ],
        ),
        bench("bucket", "bucket", [true, false, true], &[]),
        bench(
            "list",
            "list",
            [false, true, true],
            &["--traces", &options.traces.to_string_lossy()],
        ),
        bench("tree", "tree", [true, false, true], &[]),
        bench("ledger", "ledger", shapes, &[]),
        bench(
            "growth",
            "growth",
            [true, false, false],
            &["--to", &options.largest.to_string()],
        ),
        bench("many", "many", [true, false, false], &[]),
        bench(
            "soak",
            "soak",
            [true, true, false],
            &["--seconds", &seconds],
        ),
        bench("soak-small", "soak", [true, true, false], &small),
    ]
}

/// Runs what is asked for and writes the page.
pub(crate) fn run(options: &Options) -> Result<()> {
    let benches = benches(options);
    if let Some(unknown) = options
        .only
        .iter()
        .find(|name| benches.iter().all(|bench| bench.name != **name))
    {
        let names: Vec<&str> = benches.iter().map(|bench| bench.name).collect();
        return Err(Error::Usage(format!(
            "there is no benchmark {unknown}; there are {}",
            names.join(", ")
        )));
    }
    let pictures = options.out.with_extension("");
    for folder in [&options.results, &pictures] {
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::io(format!("create {}", folder.display()), source))?;
    }
    let wanted = |bench: &&Bench| {
        options.only.is_empty() || options.only.iter().any(|name| name == bench.name)
    };
    for bench in benches.iter().filter(wanted) {
        if !options.only_page {
            one(options, bench, &pictures)?;
        }
    }
    page::write(&options.results, &options.out)
}

/// Runs one benchmark in a process of its own; its tables go to where this one's go.
fn one(options: &Options, bench: &Bench, pictures: &Path) -> Result<()> {
    eprintln!("== {}", bench.name);
    let program = std::env::current_exe()
        .map_err(|source| Error::io("find the path of this program", source))?;
    let mut command = Command::new(program);
    command
        .arg(bench.command)
        .args(&bench.more)
        .arg("--json")
        .arg(options.results.join(format!("{}.jsonl", bench.name)))
        .stdin(Stdio::null());
    if bench.on_disk {
        command.arg("--dir").arg(&options.dir);
    }
    if bench.rounds {
        command.args(["--rounds", &options.rounds.to_string()]);
    }
    if bench.draws {
        command
            .arg("--svg")
            .arg(pictures.join(format!("{}.svg", bench.name)));
    }
    let status = command
        .status()
        .map_err(|source| Error::io(format!("start {}", bench.name), source))?;
    match status.success() {
        true => {
            let file = page::machine_file(&options.results, bench.name);
            std::fs::write(&file, page::machine())
                .map_err(|source| Error::io(format!("write {}", file.display()), source))
        }
        false => Err(Error::Child {
            workload: bench.name.into(),
            engine: "all".into(),
            reason: format!("the process ended with {status}"),
        }),
    }
}
