//! Seeded simulation of a whole database: one thread, a store in memory that crashes and fails by
//! plan, and a model beside it that every answer is compared with. The same seed gives the same run.
//!
//! [`run`] is all that is needed. `world` picks the operations and holds what is open; `life` opens,
//! crashes and plans faults; `writes`, `transactions`, `reads`, `upkeep`, `readers` and `feeds` are the
//! operations; `model`, `commit` and `records` know the right answers; `check` compares.

mod check;
mod commit;
mod feeds;
mod life;
mod model;
mod readers;
mod reads;
mod records;
mod transactions;
mod upkeep;
mod values;
mod workers;
mod world;
mod writes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use world::World;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// How many operations.
    pub ops: u64,
    /// A bucket instead of a folder.
    pub bucket: bool,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Hash over every operation and its answer.
    pub trace: u64,
    /// Commits made.
    pub commits: u64,
    /// Crashes and clean reopenings.
    pub reopens: u64,
    /// Answers that were compared with the model.
    pub checks: u64,
    /// Planned errors that were met, crashes among them.
    pub faults: u64,
    /// Transactions that committed something.
    pub transactions: u64,
    /// Transactions that met a conflict.
    pub conflicts: u64,
    /// Transactions that were ended since they stood idle.
    pub expired: u64,
    /// Commits delivered by change feeds.
    pub delivered: u64,
    /// Feeds that were told to start again since the log was gone.
    pub gone: u64,
    /// Writers that were replaced by another.
    pub takeovers: u64,
    /// Compactions that another process did.
    pub elsewhere: u64,
}

/// A difference between database and model.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The operation at which it showed.
    pub step: u64,
    /// What differed.
    pub what: String,
    /// The last operations.
    pub last: Vec<String>,
}

/// Runs a seed. `progress` is told the number of operations done, every so often.
///
/// # Errors
/// The first difference, or a panic of the engine.
pub fn run(settings: Settings, mut progress: impl FnMut(u64)) -> Result<Report, Box<Difference>> {
    let mut world = World::new(settings.seed, settings.bucket);
    for step in 0..settings.ops {
        if step % 50_000 == 0 {
            progress(step);
        }
        let done = catch_unwind(AssertUnwindSafe(|| world.step()));
        let done = done.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(format!("panic: {}", text.unwrap_or_default()))
        });
        if let Err(what) = done {
            let last = world.last_operations();
            return Err(Box::new(Difference { step, what, last }));
        }
    }
    Ok(world.report())
}
