//! `list`: collaborative texts and lists of values, on Siltstone and on the CRDT libraries that
//! people use, side by side.
//!
//! - [`campaign`]: the parent process, which walks rounds, tasks and engines; [`job`]: what a child does
//! - [`engine`], [`engines`]: the contract and the libraries behind it
//! - [`text`], [`lists`]: the workloads; [`trace`], [`script`], [`item`], [`model`]: what they run on
//! - [`clock`], [`heap`]: processor time and memory
//! - [`row`], [`report`], [`svg`]: results

mod campaign;
mod clock;
mod engine;
mod engines;
mod heap;
mod item;
mod job;
mod lists;
mod model;
mod report;
mod row;
mod script;
mod svg;
mod text;
mod trace;

pub(crate) use campaign::{Options, run};

use crate::error::{Error, Result};

/// Runs one job in this process and prints its outcome as JSON.
pub(crate) fn run_job(job: &str) -> Result<()> {
    let job: job::Job = serde_json::from_str(job)
        .map_err(|error| Error::Usage(format!("the job is not one this program made: {error}")))?;
    let outcome = engines::run(&job)?;
    println!("{}", serde_json::to_string(&outcome).unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::engines::{self, About};
    use super::job::{Job, Task, Workload};
    use super::trace;

    /// Every task of every engine in this build, on small inputs.
    #[test]
    fn every_task_of_every_engine_gives_the_right_answer() {
        for about in engines::ALL.iter().filter(|about| about.built) {
            for workload in Workload::value_variants() {
                for task in workload.tasks().iter().filter(|task| about.can(task)) {
                    run_small(about, task);
                }
            }
        }
    }

    fn run_small(about: &About, task: &Task) {
        let trace = task.trace().map(|name| match name {
            trace::CONCURRENT => trace::tests::concurrent(),
            _ => trace::tests::sequential(),
        });
        let job = Job {
            task: task.clone(),
            engine: about.name.to_owned(),
            size: 500,
            traces: std::path::PathBuf::new(),
        };
        let outcome = engines::run_on(about, &job, trace.as_ref());
        let outcome = outcome.unwrap_or_else(|error| panic!("{} {task:?}: {error}", about.name));
        assert!(outcome.operations > 0);
        assert!(!outcome.ns_per_op.is_empty() || outcome.heap.is_some());
    }

    #[test]
    fn an_engine_that_is_not_built_in_is_named_with_its_feature() {
        let Some(missing) = engines::ALL.iter().find(|about| !about.built) else {
            return;
        };
        let error = About::built(missing.name).unwrap_err().to_string();
        assert!(error.contains("--features"), "{error}");
    }
}
