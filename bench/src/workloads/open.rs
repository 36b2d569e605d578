//! Workloads that measure the time from open to the first answer.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Meter, Run, ensure};
use crate::data::{self, entry_len};
use crate::driver::Driver;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::job::Step;
use crate::latency::Latencies;
use crate::probe::Counters;
use crate::row::Row;

/// Opens of a cleanly closed database in one run.
const CLEAN_OPENS: u64 = 21;
/// Writers killed in one run.
const KILLS: u64 = 7;
/// What an entry is taken to need of a write buffer, in bytes, however small it is: all engines keep
/// pointers and lengths beside it. With more of them some would flush, and have no log to read.
const LEAST_IN_MEMORY: u64 = 100;
/// What the writer prints when its last put is durable.
const READY: &str = "ready";

impl<E: Engine> Run<'_, E> {
    /// `open_clean`: an operation is an open and one get; closing is not timed.
    pub(super) fn open_clean(&self) -> Result<Row> {
        let mut latencies = Latencies::start();
        let meter = Meter::start();
        for number in 0..CLEAN_OPENS {
            latencies.skip();
            let driver = self.open()?;
            get(&driver, number..number + 1)?;
            latencies.lap();
            driver.close()?;
        }
        Ok(self.open_row(&meter, &latencies))
    }

    /// `open_after_kill`: all entries are in tables, about a third of a write buffer more is only
    /// in the log, again and again. Every put before the last durable one must be there.
    pub(super) fn open_after_kill(&self) -> Result<Row> {
        let mut latencies = Latencies::start();
        let meter = Meter::start();
        let mut cpu_us = 0;
        for turn in 0..KILLS {
            self.kill_a_writer(turn)?;
            let logged = self.logged(turn);
            let before = Counters::now();
            latencies.skip();
            let driver = self.open()?;
            get(&driver, logged.end - 1..logged.end)?;
            latencies.lap();
            cpu_us += Counters::now().since(before).cpu_us;
            get(&driver, logged)?;
            driver.close()?;
        }
        let mut row = self.open_row(&meter, &latencies);
        row.cpu_us_per_op = cpu_us as f64 / KILLS as f64;
        row.log_user_bytes = Some(self.log_entries() * entry_len());
        Ok(row)
    }

    /// The writer of `open_after_kill`; returns only if it fails.
    pub(super) fn leave_log(&self, turn: u64) -> Result<()> {
        let driver = self.open()?;
        if turn == 0 {
            self.load(&driver)?;
        }
        driver.settle()?;
        let logged = self.logged(turn);
        driver.one(move |engine| async move {
            let last = logged.end - 1;
            for number in logged.start..last {
                let (key, value) = data::entry(number, 0);
                engine.put(&key, &value).await?;
            }
            let (key, value) = data::entry(last, 0);
            engine.put_durable(&key, &value).await
        })?;
        println!("{READY}");
        std::io::stdout()
            .flush()
            .map_err(|source| Error::io("report the last put", source))?;
        std::thread::sleep(Duration::from_secs(3600));
        Ok(())
    }

    /// Rates of opens are per second spent opening, not per second of the phase.
    fn open_row(&self, meter: &Meter, latencies: &Latencies) -> Row {
        let mut row = self.row(meter, latencies, latencies.count(), 0);
        row.ops_per_s = 1e6 / row.p50_us;
        row
    }

    /// What is only in the log when the writer is killed in turn `turn`.
    fn logged(&self, turn: u64) -> Range<u64> {
        let start = self.job.entries + turn * self.log_entries();
        start..start + self.log_entries()
    }

    /// How many entries that is.
    fn log_entries(&self) -> u64 {
        let each = entry_len().max(LEAST_IN_MEMORY);
        (self.job.config().memtable_bytes as u64 / 3 / each).min(self.job.entries)
    }

    fn kill_a_writer(&self, turn: u64) -> Result<()> {
        let job =
            serde_json::to_string(&self.job.with_step(Step::LeaveLog(turn))).unwrap_or_default();
        let program = std::env::current_exe()
            .map_err(|source| Error::io("find the path of this program", source))?;
        let mut writer = Command::new(program)
            .arg("run-job")
            .arg(job)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| Error::io("start the writer to be killed", source))?;
        let mut line = String::new();
        if let Some(output) = writer.stdout.take() {
            let read = BufReader::new(output).read_line(&mut line);
            read.map_err(|source| Error::io("wait for the writer", source))?;
        }
        // `kill` is SIGKILL on Unix: nothing in the writer runs after it.
        let ended = writer.kill().and_then(|()| writer.wait());
        ended.map_err(|source| Error::io("kill the writer", source))?;
        if line.trim() == READY {
            Ok(())
        } else {
            let reason = "the writer ended before its last put".into();
            Err(Error::engine::<E>("write the log to be recovered", reason))
        }
    }
}

fn get<E: Engine>(driver: &Driver<E>, numbers: Range<u64>) -> Result<()> {
    let engine = driver.engine();
    driver.join(driver.start(E::READS, async move {
        for number in numbers {
            let key = data::key(number);
            let mut right = false;
            engine
                .get(&key, |value| right = data::belongs(&key, value))
                .await?;
            ensure(
                right,
                "a durable put is missing after the database was opened again",
            )?;
        }
        Ok(())
    }))
}
