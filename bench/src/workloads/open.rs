//! Workloads that measure the time from open to the first answer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Meter, Run, ensure};
use crate::data::{self, entry_len};
use crate::driver::Driver;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::job::Step;
use crate::latency::Latencies;
use crate::row::Row;

/// Opens of a cleanly closed database in one run.
const CLEAN_OPENS: u64 = 21;
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
    /// in the log. Every put before the last durable one must be there.
    pub(super) fn open_after_kill(&self) -> Result<Row> {
        self.kill_a_writer()?;
        let entries = self.job.entries;
        let end = entries + self.log_entries();
        let mut latencies = Latencies::start();
        let meter = Meter::start();
        let driver = self.open()?;
        get(&driver, end - 1..end)?;
        latencies.lap();
        let mut row = self.open_row(&meter, &latencies);
        row.log_user_bytes = Some(self.log_entries() * entry_len());
        get(&driver, entries..end)?;
        driver.close()?;
        Ok(row)
    }

    /// The writer of `open_after_kill`; returns only if it fails.
    pub(super) fn leave_log(&self) -> Result<()> {
        let driver = self.open()?;
        self.load(&driver)?;
        driver.settle()?;
        let entries = self.job.entries;
        let last = entries + self.log_entries() - 1;
        driver.one(move |engine| async move {
            for number in entries..last {
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

    /// Entries that are only in the log when the writer is killed.
    fn log_entries(&self) -> u64 {
        let each = entry_len().max(LEAST_IN_MEMORY);
        (self.job.config().memtable_bytes as u64 / 3 / each).min(self.job.entries)
    }

    fn kill_a_writer(&self) -> Result<()> {
        let job = serde_json::to_string(&self.job.with_step(Step::LeaveLog)).unwrap_or_default();
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

fn get<E: Engine>(driver: &Driver<E>, numbers: std::ops::Range<u64>) -> Result<()> {
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
