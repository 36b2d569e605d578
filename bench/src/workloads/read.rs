//! Workloads that read a database loaded, settled and closed by another process, after a
//! warm-up pass. Every answer is checked and every byte of it touched.

use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use super::{Meter, Run, ensure};
use crate::data;
use crate::driver::Driver;
use crate::engine::Engine;
use crate::error::Result;
use crate::job::Workload;
use crate::latency::Latencies;
use crate::row::Row;

/// Measured passes of `scan_full`.
const FULL_SCANS: u64 = 5;
/// Entries of one short scan.
const SHORT_SCAN: usize = 1000;

impl<E: Engine> Run<'_, E> {
    /// `get_1`, `get_2`: as many gets as there are entries, shared out between the callers.
    pub(super) fn get(&self, readers: usize) -> Result<Row> {
        let driver = self.open()?;
        self.warm_up(&driver)?;
        let entries = self.job.entries;
        let share = entries / readers as u64;
        let mut meter = Meter::start();
        let all = driver.run(E::READS, readers, |engine, reader| async move {
            let mut rng = Rng::with_seed(reader as u64);
            let mut latencies = Latencies::start();
            for _ in 0..share {
                get_present(&*engine, rng.u64(0..entries)).await?;
                latencies.lap();
            }
            Ok(latencies)
        })?;
        meter.stop();
        let mut latencies = Latencies::start();
        all.iter().for_each(|one| latencies.merge(one));
        let row = self.row(&meter, &latencies, latencies.count(), 0);
        driver.close()?;
        Ok(row)
    }

    /// `get_missing`: keys that lie between existing ones.
    pub(super) fn get_missing(&self) -> Result<Row> {
        let driver = self.open()?;
        self.warm_up(&driver)?;
        let entries = self.job.entries;
        let mut meter = Meter::start();
        let all = driver.run(E::READS, 1, |engine, _| async move {
            let mut rng = Rng::with_seed(4);
            let mut latencies = Latencies::start();
            for _ in 0..entries {
                let key = data::key(rng.u64(entries..2 * entries));
                ensure(
                    !engine.get(&key, |_| {}).await?,
                    "a key was found that was never put",
                )?;
                latencies.lap();
            }
            Ok(latencies)
        })?;
        meter.stop();
        let row = self.row(&meter, &all[0], entries, 0);
        driver.close()?;
        Ok(row)
    }

    /// `scan_1000`: timed; an operation is a scan.
    pub(super) fn scan_short(&self) -> Result<Row> {
        let driver = self.open()?;
        self.warm_up(&driver)?;
        let entries = self.job.entries;
        let limit = SHORT_SCAN.min(entries as usize / data::keyspaces() / 8);
        let duration = self.duration(Workload::Scan1000);
        let (meter, latencies) = self.reader(&driver, |engine| async move {
            let mut rng = Rng::with_seed(5);
            for _ in 0..entries / SHORT_SCAN as u64 {
                scan_from(&*engine, start_key(&mut rng, entries, limit), limit).await?;
            }
            let meter = Meter::start();
            let deadline = Instant::now() + duration;
            let mut latencies = Latencies::start();
            loop {
                scan_from(&*engine, start_key(&mut rng, entries, limit), limit).await?;
                if latencies.lap() >= deadline {
                    return Ok((stopped(meter), latencies));
                }
            }
        })?;
        let row = self.row(&meter, &latencies, latencies.count(), 0);
        driver.close()?;
        Ok(row)
    }

    /// `scan_full`: an operation is an entry, a latency is that of a whole scan.
    pub(super) fn scan_full(&self) -> Result<Row> {
        let driver = self.open()?;
        let entries = self.job.entries;
        let expected = data::checksum(entries);
        let (meter, latencies) = self.reader(&driver, |engine| async move {
            scan_all(&*engine, entries, expected).await?;
            let meter = Meter::start();
            let mut latencies = Latencies::start();
            for _ in 0..FULL_SCANS {
                scan_all(&*engine, entries, expected).await?;
                latencies.lap();
            }
            Ok((stopped(meter), latencies))
        })?;
        let row = self.row(&meter, &latencies, entries * FULL_SCANS, 0);
        driver.close()?;
        Ok(row)
    }

    /// Reads every entry once, in random order.
    fn warm_up(&self, driver: &Driver<E>) -> Result<()> {
        let entries = self.job.entries;
        self.reader(driver, |engine| async move {
            for number in 0..entries {
                get_present(&*engine, number).await?;
            }
            Ok(())
        })
    }

    /// Runs one reader, the way the engine drives readers.
    fn reader<T, F>(&self, driver: &Driver<E>, work: impl FnOnce(Arc<E>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = crate::engine::Result<T>> + Send + 'static,
    {
        driver.join(driver.start(E::READS, work(driver.engine())))
    }
}

fn stopped(mut meter: Meter) -> Meter {
    meter.stop();
    meter
}

async fn get_present<E: Engine>(engine: &E, number: u64) -> crate::engine::Result<()> {
    let key = data::key(number);
    let mut right = false;
    engine
        .get(&key, |value| {
            right = data::touch(value) != 0 && data::belongs(&key, value)
        })
        .await?;
    ensure(right, "a key was missing or had another key's value")
}

/// A key of an entry that has `limit` entries after it. Keys are spread evenly, so those in the
/// part of the key space that holds four times as many are far enough from the end.
fn start_key(rng: &mut Rng, entries: u64, limit: usize) -> [u8; data::KEY_LEN] {
    let part = 4 * limit as u64 * (u64::MAX / entries * data::keyspaces() as u64);
    loop {
        let key = data::key(rng.u64(0..entries));
        if data::place(&key) < u64::MAX - part {
            return key;
        }
    }
}

async fn scan_from<E: Engine>(
    engine: &E,
    from: [u8; data::KEY_LEN],
    limit: usize,
) -> crate::engine::Result<()> {
    let mut previous = [0; data::KEY_LEN];
    let mut first = true;
    let mut right = true;
    let mut sum = 0u64;
    let count = engine
        .scan(data::keyspace_of(&from), &from, limit, |key, value| {
            right &= if first {
                key == from
            } else {
                key > &previous[..]
            };
            right &= data::belongs(key, value);
            right &= data::keyspace_of(key) == data::keyspace_of(&from);
            sum = sum
                .wrapping_add(data::touch(key))
                .wrapping_add(data::touch(value));
            first = false;
            previous.copy_from_slice(key);
        })
        .await?;
    std::hint::black_box(sum);
    ensure(
        right && count == limit,
        "a scan missed entries or returned them out of order",
    )
}

async fn scan_all<E: Engine>(engine: &E, entries: u64, expected: u64) -> crate::engine::Result<()> {
    let mut sum = 0u64;
    let mut count = 0;
    for keyspace in 0..data::keyspaces() {
        let see = |key: &[u8], value: &[u8]| {
            sum = sum
                .wrapping_add(data::touch(key))
                .wrapping_add(data::touch(value));
        };
        count += engine.scan(keyspace, &[0], usize::MAX, see).await?;
    }
    let right = count as u64 == entries && sum == expected;
    ensure(
        right,
        "a full scan did not return exactly the entries that were loaded",
    )
}
