//! Processor time of this process, and the loop that takes samples of it.
//!
//! Processor time is what a busy machine disturbs least. A job is alone in its process, so all of it
//! is the engine's and the few instructions that feed it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::engine::Result;
use super::job::Outcome;

/// Most samples one job takes.
const MOST_SAMPLES: usize = 10;
/// Measured time after which a job takes no further sample.
const BUDGET: Duration = Duration::from_secs(2);

/// Processor time of all threads of this process since it began, user and system.
pub(crate) fn cpu_now() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Takes samples of `work`, which is of `operations` operations, one an edit unless the caller says
/// otherwise; each result goes to `check` with
/// the clock stopped.
pub(crate) fn sample<T>(
    operations: u64,
    mut work: impl FnMut() -> Result<T>,
    mut check: impl FnMut(T) -> Result<()>,
) -> Result<Outcome> {
    let mut outcome = Outcome {
        size: operations,
        operations,
        ..Outcome::default()
    };
    let mut spent = Duration::ZERO;
    while outcome.ns_per_op.len() < MOST_SAMPLES && spent < BUDGET {
        let before = cpu_now();
        let result = work()?;
        let took = cpu_now() - before;
        check(result)?;
        spent += took;
        outcome
            .ns_per_op
            .push(took.as_secs_f64() * 1e9 / operations.max(1) as f64);
    }
    Ok(outcome)
}

/// As [`sample`], for many short operations of which an engine may be too slow to do all: `work`
/// does one chunk of `chunk` operations by its number. A sample ends with its last chunk or with
/// the first one after a second.
pub(crate) fn sample_chunks(
    chunks: usize,
    chunk: u64,
    mut work: impl FnMut(usize) -> Result<()>,
) -> Result<Outcome> {
    const LONGEST: Duration = Duration::from_secs(1);
    let mut outcome = Outcome::default();
    let mut spent = Duration::ZERO;
    while outcome.ns_per_op.len() < MOST_SAMPLES && spent < BUDGET {
        let before = cpu_now();
        let mut took = Duration::ZERO;
        let mut done = 0;
        while done < chunks && took < LONGEST {
            work(done)?;
            done += 1;
            took = cpu_now() - before;
        }
        spent += took;
        outcome.operations = done as u64 * chunk;
        outcome
            .ns_per_op
            .push(took.as_secs_f64() * 1e9 / outcome.operations.max(1) as f64);
    }
    Ok(outcome)
}
