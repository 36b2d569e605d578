//! `siltstone-sim --seed N --ops M [--seeds A..B] [--bucket]`: runs seeds and stops at the first
//! difference between the database and the model.

use clap::Parser;
use siltstone_sim::{Settings, run};
use std::process::ExitCode;

/// Runs whole databases under seeded faults, beside a model.
#[derive(Debug, Parser)]
#[command(name = "siltstone-sim")]
struct Arguments {
    /// The seed to run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds to run one after another, as `A..B`.
    #[arg(long, value_parser = seeds)]
    seeds: Option<std::ops::Range<u64>>,
    /// Operations of each seed.
    #[arg(long, default_value_t = 100_000)]
    ops: u64,
    /// A bucket instead of a folder.
    #[arg(long)]
    bucket: bool,
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write seeds as 1..100")?;
    let number = |part: &str| part.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(from)?..number(to)?)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments
        .seeds
        .unwrap_or(arguments.seed..arguments.seed + 1);
    for seed in seeds {
        let settings = Settings {
            seed,
            ops: arguments.ops,
            bucket: arguments.bucket,
        };
        let done = run(settings, |step| {
            if step > 0 {
                eprintln!("seed {seed}: {step} operations");
            }
        });
        match done {
            Ok(report) => println!(
                "seed {seed}: {} operations, {} commits, {} transactions ({} conflicts, {} expired), {} delivered ({} gone), {} reopenings, {} takeovers, {} compactions elsewhere, {} faults, {} answers compared, 0 differences, trace {:016x}",
                arguments.ops,
                report.commits,
                report.transactions,
                report.conflicts,
                report.expired,
                report.delivered,
                report.gone,
                report.reopens,
                report.takeovers,
                report.elsewhere,
                report.faults,
                report.checks,
                report.trace,
            ),
            Err(difference) => {
                for operation in &difference.last {
                    println!("{operation}");
                }
                println!("seed {seed}, step {}: {}", difference.step, difference.what);
                let bucket = if arguments.bucket { " --bucket" } else { "" };
                println!(
                    "again: cargo run --release -p siltstone-sim -- --seed {seed} --ops {}{bucket}",
                    difference.step + 1
                );
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
