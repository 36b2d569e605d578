//! The parent process: walks rounds, tasks and engines, starts a child for each, and hands the
//! least and the median of all samples to the report.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::engines::{self, About, FLOOR};
use super::job::{Job, ListFigure, Outcome, Task, Workload};
use super::report;
use super::row::{self, Row};
use super::script::Shape;
use super::svg;
use crate::child;
use crate::error::{Error, Result};

/// A child that takes longer is stuck.
const CHILD_LIMIT: Duration = Duration::from_secs(600);
/// A child of a growth curve that takes longer ends the curve.
const GROWTH_LIMIT: Duration = Duration::from_secs(90);
/// Sizes of growth curves.
const SIZES: [usize; 7] = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
/// Sizes that follow in a full growth curve.
const LARGE_SIZES: [usize; 2] = [3_000_000, 10_000_000];

/// What to run and where to put the results.
#[derive(Args)]
pub(crate) struct Options {
    /// Engines to run, by name, separated by commas [default: all in this build but
    /// `floor`, a bare string and vector].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    engines: Vec<String>,
    /// Workloads to run, separated by commas [default: all].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    workloads: Vec<Workload>,
    /// Folder of the recorded editing traces.
    #[arg(long, default_value = "data/traces", value_name = "FOLDER")]
    traces: PathBuf,
    /// Edits of the lists, and moves.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    edits: u64,
    /// Rounds; engines take turns within a round, figures are over the samples of all rounds.
    /// Growth curves are measured in the first one only.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Growth curves up to 10,000,000 elements instead of 1,000,000.
    #[arg(long)]
    full_growth: bool,
    /// Also write the results as JSON lines, one per task and engine.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the results.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs everything that `options` ask for and reports it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let engines = chosen_engines(&options.engines)?;
    let workloads = match &options.workloads[..] {
        [] => Workload::value_variants().to_vec(),
        some => some.to_vec(),
    };
    let mut campaign = Campaign {
        options,
        measured: Vec::new(),
        failures: Vec::new(),
    };
    for round in 1..=options.rounds {
        for task in workloads.iter().flat_map(|workload| workload.tasks()) {
            for about in engines.iter().filter(|about| about.can(&task)) {
                campaign.measure(about, &task, round);
            }
        }
    }
    if workloads.contains(&Workload::Growth) {
        for about in &engines {
            campaign.grow(about);
        }
    }
    let rows = campaign.rows();
    print!("{}", report::table(&rows));
    if let Some(path) = &options.json {
        write(path, &crate::report::json_lines(&rows))?;
    }
    if let Some(path) = &options.svg {
        write(path, &svg::draw(&rows))?;
    }
    if campaign.failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Usage(campaign.failures.join("\nerror: ")))
    }
}

fn chosen_engines(names: &[String]) -> Result<Vec<&'static About>> {
    let chosen: Vec<_> = if names.is_empty() {
        let all = engines::ALL.iter();
        all.filter(|about| about.built && about.name != FLOOR)
            .collect()
    } else {
        let named = names.iter().map(|name| About::built(name));
        named.collect::<Result<_>>()?
    };
    if chosen.is_empty() {
        return Err(Error::Usage(
            "this build has no list to measure; add --features peers".to_owned(),
        ));
    }
    Ok(chosen)
}

fn is_bar(row: &Row) -> bool {
    let mut all = engines::ALL.iter();
    all.any(|about| about.name == row.engine && about.is_bar(&row.workload))
}

/// What has been measured so far.
struct Campaign<'a> {
    options: &'a Options,
    measured: Vec<Measured>,
    failures: Vec<String>,
}

/// All outcomes of one task on one engine.
struct Measured {
    about: &'static About,
    workload: &'static str,
    task: Task,
    /// Edits that were asked for.
    edits: usize,
    outcomes: Vec<Outcome>,
}

impl Measured {
    /// Whether the engine is too slow for all edits that were asked for.
    fn is_cut(&self) -> bool {
        let mut outcomes = self.outcomes.iter();
        outcomes.any(|outcome| outcome.size < self.edits as u64)
    }

    fn row(&self) -> Row {
        let place = (self.workload, self.task.input(), self.about.name);
        Row {
            note: self.about.note(self.workload).map(str::to_owned),
            ..Row::new(place, &self.outcomes)
        }
    }
}

impl Campaign<'_> {
    fn measure(&mut self, about: &'static About, task: &Task, round: u64) {
        let rounds = self.options.rounds;
        eprint!("round {round}/{rounds}  ");
        let edits = self.options.edits as usize;
        if let Err(error) = self.run(about, task.workload(), task, edits, CHILD_LIMIT) {
            self.failures.push(error.to_string());
        }
    }

    /// Walks the sizes of each growth curve of an engine, as far as time allows.
    fn grow(&mut self, about: &'static About) {
        let full = self.options.full_growth;
        let large = LARGE_SIZES.iter().filter(|_| full);
        let sizes: Vec<usize> = SIZES.iter().chain(large).copied().collect();
        for shape in [Shape::Append, Shape::Random] {
            for figure in [
                ListFigure::Edit,
                ListFigure::Get,
                ListFigure::ToVec,
                ListFigure::Load,
            ] {
                let task = Task::List(figure, shape);
                if about.can(&task) {
                    self.grow_curve(about, figure, &task, &sizes);
                }
            }
        }
    }

    fn grow_curve(
        &mut self,
        about: &'static About,
        figure: ListFigure,
        task: &Task,
        sizes: &[usize],
    ) {
        let mut earlier = Duration::ZERO;
        for size in sizes {
            eprint!("size {:<5} ", report::short(*size as u64));
            let start = Instant::now();
            let ran = self.run(about, figure.growth(), task, *size, GROWTH_LIMIT);
            let took = start.elapsed();
            // The next size takes longer by at least the factor by which this one did.
            let factor = took.as_secs_f64() / earlier.as_secs_f64().max(0.5);
            let is_cut = ran.is_ok() && self.measured.last().is_some_and(Measured::is_cut);
            if is_cut {
                self.measured.pop();
            }
            if is_cut || ran.is_err() || took.mul_f64(factor.max(3.0)) > GROWTH_LIMIT {
                return;
            }
            earlier = took;
        }
    }

    /// Runs one child and keeps its outcome.
    fn run(
        &mut self,
        about: &'static About,
        workload: &'static str,
        task: &Task,
        edits: usize,
        limit: Duration,
    ) -> Result<()> {
        eprint!("{workload:<16}{:<16}{:<14}", task.input(), about.name);
        let job = Job {
            task: task.clone(),
            engine: about.name.to_owned(),
            size: edits,
            traces: self.options.traces.clone(),
        };
        let job = serde_json::to_string(&job).unwrap_or_default();
        let outcome: Outcome = child::run("run-list-job", &job, limit).map_err(|reason| {
            eprintln!("{reason}");
            Error::Child {
                workload: format!("{workload} of {}", task.input()),
                engine: about.name.to_owned(),
                reason,
            }
        })?;
        let same = |measured: &&mut Measured| {
            measured.about.name == about.name
                && (measured.workload, &measured.task) == (workload, task)
                && measured.edits == edits
        };
        let new = Measured {
            about,
            workload,
            task: task.clone(),
            edits,
            outcomes: vec![outcome],
        };
        eprintln!("{}", report::brief(&new.row()));
        match self.measured.iter_mut().find(same) {
            Some(measured) => measured.outcomes.extend(new.outcomes),
            None => self.measured.push(new),
        }
        Ok(())
    }

    /// The rows, in the order in which the first round produced them, with their ratios.
    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.measured.iter().map(Measured::row).collect();
        row::fill_ratios(&mut rows, is_bar);
        rows
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|source| Error::io(format!("write {}", path.display()), source))
}
