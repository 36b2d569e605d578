//! Workloads that write: filling, durable puts, overwriting, and a writer beside a reader.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{Meter, Run, ensure};
use crate::cores::Turns;
use crate::data::{self, entry_len};
use crate::engine::Engine;
use crate::error::Result;
use crate::job::Workload;
use crate::latency::Latencies;
use crate::row::Row;

/// Puts of the lone durable writer on one core before it goes on on the next.
const PUTS_A_TURN: u64 = 512;

impl<E: Engine> Run<'_, E> {
    /// `fill_random`: the rate counts the final flush, the latencies are of single puts.
    pub(super) fn fill_random(&self) -> Result<Row> {
        let driver = self.open()?;
        let entries = self.job.entries;
        let mut meter = Meter::start();
        let latencies = driver.one(move |engine| async move {
            let mut latencies = Latencies::start();
            for number in 0..entries {
                let (key, value) = data::entry(number, 0);
                engine.put(&key, &value).await?;
                latencies.lap();
            }
            engine.flush().await?;
            Ok(latencies)
        })?;
        meter.stop();
        let row = self.row(&meter, &latencies, entries, entries * entry_len());
        driver.close()?;
        Ok(row)
    }

    /// `durable_1` and `durable_64`: every put waits for the disk; distinct keys. The lone writer takes
    /// turns on all cores.
    pub(super) fn durable(&self, writers: usize) -> Result<Row> {
        let driver = self.open()?;
        let mut meter = Meter::start();
        let deadline = Instant::now() + self.duration(Workload::Durable1);
        let drive = if writers == 1 { E::WRITES } else { E::CROWD };
        let all = driver.run(drive, writers, move |engine, writer| async move {
            let mut latencies = Latencies::start();
            let mut number = writer as u64;
            let mut turns = None;
            loop {
                let (key, value) = data::entry(number, 0);
                if writers == 1 && number % PUTS_A_TURN == 1 {
                    turns.get_or_insert_with(Turns::new).turn();
                    latencies.skip();
                }
                match writers {
                    1 => engine.put_durable(&key, &value).await?,
                    _ => engine.put_durable_in_crowd(&key, &value).await?,
                }
                number += writers as u64;
                if latencies.lap() >= deadline {
                    return Ok(latencies);
                }
            }
        })?;
        meter.stop();
        let mut latencies = Latencies::start();
        all.iter().for_each(|one| latencies.merge(one));
        let row = self.row(
            &meter,
            &latencies,
            latencies.count(),
            latencies.count() * entry_len(),
        );
        driver.close()?;
        Ok(row)
    }

    /// `overwrite_3x`: rate and latencies of the puts alone; bytes written and bytes on disk
    /// after settling.
    pub(super) fn overwrite(&self) -> Result<Row> {
        let mut driver = self.open()?;
        self.load(&driver)?;
        driver.settle()?;
        let entries = self.job.entries;
        let writes = 3 * entries;
        let mut meter = Meter::start();
        let latencies = driver.one(move |engine| async move {
            let mut latencies = Latencies::start();
            for (number, version) in overwrites(entries) {
                let (key, value) = data::entry(number, version);
                engine.put(&key, &value).await?;
                latencies.lap();
            }
            Ok(latencies)
        })?;
        let rate = writes as f64 / meter.seconds();
        driver.settle()?;
        meter.stop();
        let mut row = self.row(&meter, &latencies, writes, writes * entry_len());
        row.ops_per_s = rate;
        if driver.compact()? {
            driver.settle()?;
            row.compacted_disk_bytes = Some(crate::probe::disk_bytes(self.job.dir()));
        }
        driver.close()?;
        // After the memory was read: the list of versions is the harness's own.
        let mut versions = vec![0; entries as usize];
        for (number, version) in overwrites(entries) {
            versions[number as usize] = version as u32;
        }
        row.live_compressed_bytes = Some(data::compressed_bytes(&versions));
        Ok(row)
    }

    /// `mixed_1w1r`: one caller overwrites, one reads, for a fixed time; a line each.
    pub(super) fn mixed(&self) -> Result<Vec<Row>> {
        let driver = self.open()?;
        self.load(&driver)?;
        driver.settle()?;
        let entries = self.job.entries;
        let mut meter = Meter::start();
        let deadline = Instant::now() + self.duration(Workload::Mixed1w1r);
        let engine = driver.engine();
        let writer = driver.start(E::WRITES, async move {
            let mut rng = Rng::with_seed(1);
            let mut latencies = Latencies::start();
            for version in 1.. {
                let (key, value) = data::entry(rng.u64(0..entries), version);
                engine.put(&key, &value).await?;
                if latencies.lap() >= deadline {
                    break;
                }
            }
            Ok(latencies)
        });
        let engine = driver.engine();
        let reader = driver.start(E::READS, async move {
            let mut rng = Rng::with_seed(2);
            let mut latencies = Latencies::start();
            loop {
                let key = data::key(rng.u64(0..entries));
                let mut right = false;
                engine
                    .get(&key, |value| {
                        right = data::touch(value) != 0 && data::belongs(&key, value)
                    })
                    .await?;
                ensure(right, "a key was missing or had another key's value")?;
                if latencies.lap() >= deadline {
                    return Ok(latencies);
                }
            }
        });
        let (writes, reads) = (driver.join(writer)?, driver.join(reader)?);
        meter.stop();
        let operations = writes.count() + reads.count();
        let mut write_row = self.row(
            &meter,
            &writes,
            writes.count(),
            writes.count() * entry_len(),
        );
        let mut read_row = self.row(&meter, &reads, reads.count(), 0);
        for (row, part) in [(&mut write_row, "write"), (&mut read_row, "read")] {
            row.workload = format!("{}_{part}", Workload::Mixed1w1r.name());
            row.cpu_us_per_op = meter.spent().cpu_us as f64 / operations as f64;
        }
        driver.close()?;
        Ok(vec![write_row, read_row])
    }

    /// How long a timed workload runs.
    pub(super) fn duration(&self, workload: Workload) -> Duration {
        Duration::from_secs(self.job.seconds.unwrap_or(workload.default_seconds()))
    }
}

/// Which entry is overwritten with which version, three times as many as there are entries.
fn overwrites(entries: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut rng = Rng::with_seed(3);
    (1..=3 * entries).map(move |version| (rng.u64(0..entries), version))
}
