//! What each step cost: time, bytes given, bytes written for them.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, duration};
use siltstone::Totals;
use std::time::Duration;

/// One step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    /// Bytes of keys and values written by the step.
    pub(crate) given: u64,
    /// Bytes written to the log.
    pub(crate) log: u64,
    /// Bytes written to tables by flushes and compactions.
    pub(crate) tables: u64,
}

impl Step {
    /// A step of this process, from the totals before and after it.
    pub(crate) fn between(
        name: &'static str,
        took: Duration,
        before: &Totals,
        after: &Totals,
    ) -> Self {
        let tables = |t: &Totals| t.flush_bytes + t.compaction_bytes;
        Self {
            name,
            took,
            given: after.user_bytes - before.user_bytes,
            log: after.wal_bytes - before.wal_bytes,
            tables: tables(after) - tables(before),
        }
    }

    fn written(&self) -> u64 {
        self.log + self.tables
    }
}

/// Prints the steps and their sum.
pub(crate) fn print(steps: &[Step], session: &mut Session) -> Result<()> {
    let sum = |of: fn(&Step) -> u64| steps.iter().map(of).sum::<u64>();
    let total = Step {
        name: "together",
        took: steps.iter().map(|step| step.took).sum(),
        given: sum(|s| s.given),
        log: sum(|s| s.log),
        tables: sum(|s| s.tables),
    };
    let out = &mut session.out;
    out.line(format_args!(
        "   {:<24}{:>9}{:>11}{:>11}{:>11}{:>9}",
        "step", "time", "given", "to log", "to tables", "factor"
    ))?;
    for step in steps.iter().chain([&total]) {
        let amplification = match step.given {
            0 => "-".to_string(),
            given => format!("{:.2} x", step.written() as f64 / given as f64),
        };
        out.line(format_args!(
            "   {:<24}{:>9}{:>11}{:>11}{:>11}{:>9}",
            step.name,
            duration(step.took),
            bytes(step.given),
            bytes(step.log),
            bytes(step.tables),
            amplification,
        ))?;
    }
    Ok(())
}

/// The steps for a machine.
pub(crate) fn objects(steps: &[Step], session: &mut Session) -> Result<()> {
    for step in steps {
        let object = Object::default()
            .field("step", step.name)
            .field("seconds", &step.took.as_secs_f64())
            .field("given_bytes", &step.given)
            .field("log_bytes", &step.log)
            .field("table_bytes", &step.tables);
        session.out.object(object)?;
    }
    Ok(())
}
