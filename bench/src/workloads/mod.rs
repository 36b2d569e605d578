//! The workloads, each written once for every database. They run in a process of their own, so
//! that memory and bytes written are theirs alone.

mod history;
mod open;
mod read;
mod write;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use crate::data;
use crate::driver::{Driver, Host};
use crate::engine::{Engine, Entry};
use crate::engines::Visit;
use crate::error::Result;
use crate::job::{Job, Step, Workload};
use crate::latency::Latencies;
use crate::probe::{Counters, MemoryWatch, disk_bytes};
use crate::row::Row;

/// Entries in one batch while loading.
const LOAD_BATCH: u64 = 1000;

/// Runs a job in this process, for whichever engine it names.
pub(crate) struct Runner<'a> {
    /// What to do.
    pub(crate) job: &'a Job,
}

impl Visit for Runner<'_> {
    type Output = Result<Vec<Row>>;

    fn visit<E: Engine>(self) -> Self::Output {
        let run = Run::<E> {
            job: self.job,
            host: Host::new::<E>()?,
            memory: MemoryWatch::start(),
            engine: PhantomData,
        };
        match self.job.step {
            Step::Load => run.load_and_close().map(|()| Vec::new()),
            Step::LeaveLog(turn) => run.leave_log(turn).map(|()| Vec::new()),
            Step::Measure(workload) => run.measure(workload),
        }
    }
}

/// One run of one engine.
struct Run<'a, E> {
    job: &'a Job,
    host: Arc<Host>,
    memory: MemoryWatch,
    engine: PhantomData<E>,
}

impl<E: Engine> Run<'_, E> {
    fn measure(&self, workload: Workload) -> Result<Vec<Row>> {
        let row = match workload {
            Workload::FillRandom => self.fill_random(),
            Workload::Durable1 => self.durable(1),
            Workload::Durable64 => self.durable(64),
            Workload::Get1 => self.get(1),
            Workload::Get2 => self.get(2),
            Workload::GetMissing => self.get_missing(),
            Workload::GetAtOld => return self.get_at_old(),
            Workload::Scan1000 => self.scan_short(),
            Workload::ScanFull => self.scan_full(),
            Workload::Overwrite3x => self.overwrite(),
            Workload::Mixed1w1r => return self.mixed(),
            Workload::OpenClean => self.open_clean(),
            Workload::OpenAfterKill => self.open_after_kill(),
        };
        row.map(|row| vec![row])
    }

    fn open(&self) -> Result<Driver<E>> {
        Driver::open(&self.host, self.job.dir(), &self.job.config())
    }

    /// Writes all entries in version 0, in random order and in batches.
    fn load(&self, driver: &Driver<E>) -> Result<()> {
        let entries = self.job.entries;
        driver.one(move |engine| async move {
            let mut batch: Vec<Entry> = Vec::with_capacity(LOAD_BATCH as usize);
            for first in (0..entries).step_by(LOAD_BATCH as usize) {
                batch.clear();
                let end = entries.min(first + LOAD_BATCH);
                batch.extend((first..end).map(|number| data::entry(number, 0)));
                engine.put_batch(&batch).await?;
            }
            Ok(())
        })
    }

    fn load_and_close(&self) -> Result<()> {
        let driver = self.open()?;
        self.load(&driver)?;
        driver.settle()?;
        driver.close()
    }

    /// The figures of a phase that began with `meter`; `user_bytes` is what callers wrote.
    fn row(&self, meter: &Meter, latencies: &Latencies, operations: u64, user_bytes: u64) -> Row {
        let seconds = meter.seconds();
        let spent = meter.spent();
        let per_user_byte = |bytes: u64| (user_bytes > 0).then(|| bytes as f64 / user_bytes as f64);
        Row {
            workload: match self.job.step {
                Step::Measure(workload) => workload.name().to_owned(),
                Step::Load | Step::LeaveLog(_) => String::new(),
            },
            engine: E::NAME.to_owned(),
            ops_per_s: operations as f64 / seconds,
            p50_us: latencies.quantile_us(0.5),
            p99_us: latencies.quantile_us(0.99),
            p999_us: latencies.quantile_us(0.999),
            max_us: latencies.max_us(),
            cpu_us_per_op: spent.cpu_us as f64 / operations.max(1) as f64,
            disk_bytes: disk_bytes(self.job.dir()),
            write_amp: per_user_byte(spent.written_bytes),
            write_call_amp: per_user_byte(spent.called_bytes),
            rss_bytes: self.memory.peak_bytes(),
            rss_anon_bytes: self.memory.peak_anon_bytes(),
            entries: self.job.entries,
            shape: self.job.shape,
            memory_mib: self.job.memory_mib,
            rounds: 1,
            ..Row::default()
        }
    }
}

/// The start, and later the end, of a measured phase.
struct Meter {
    start: Instant,
    counters: Counters,
    end: Option<(f64, Counters)>,
}

impl Meter {
    fn start() -> Self {
        Self {
            counters: Counters::now(),
            start: Instant::now(),
            end: None,
        }
    }

    /// Ends the phase; without this it ends when it is read.
    fn stop(&mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.end = Some((seconds, Counters::now().since(self.counters)));
    }

    fn seconds(&self) -> f64 {
        self.end.map_or_else(
            || self.start.elapsed().as_secs_f64(),
            |(seconds, _)| seconds,
        )
    }

    fn spent(&self) -> Counters {
        self.end
            .map_or_else(|| Counters::now().since(self.counters), |(_, spent)| spent)
    }
}

/// An error if a workload met a wrong answer.
fn ensure(right: bool, what: &str) -> crate::engine::Result<()> {
    if right { Ok(()) } else { Err(what.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(step: Step, dir: &std::path::Path) -> Job {
        let history = matches!(step, Step::Measure(workload) if workload.wants_history());
        let engine = if history { "siltstone" } else { "floor" };
        Job {
            step,
            engine: engine.to_owned(),
            dir: dir.to_path_buf(),
            entries: 10_000,
            shape: Default::default(),
            seconds: Some(1),
            memory_mib: 64,
            memtable_mib: 16,
            compress: true,
        }
    }

    fn run(step: Step, dir: &std::path::Path) -> Vec<Row> {
        let job = job(step, dir);
        crate::engines::dispatch(&job.engine, Runner { job: &job })
            .unwrap()
            .unwrap()
    }

    #[test]
    fn every_workload_in_one_process_gives_figures() {
        let loaded = tempfile::tempdir().unwrap();
        assert!(run(Step::Load, loaded.path()).is_empty());
        for workload in <Workload as clap::ValueEnum>::value_variants() {
            if *workload == Workload::OpenAfterKill {
                continue; // Needs the program itself as a child.
            }
            let fresh = tempfile::tempdir().unwrap();
            let dir = if workload.wants_loaded() {
                loaded.path()
            } else {
                fresh.path()
            };
            let rows = run(Step::Measure(*workload), dir);
            assert!(!rows.is_empty());
            for row in rows {
                assert!(row.workload.starts_with(workload.name()), "{row:?}");
                assert!(
                    row.ops_per_s > 0.0 && row.p50_us > 0.0 && row.disk_bytes > 0,
                    "{row:?}"
                );
            }
        }
    }
}
