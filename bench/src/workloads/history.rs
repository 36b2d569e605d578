//! Reads far back: how much slower is a get at an old commit than one at the newest?

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{Meter, Run, ensure};
use crate::data;
use crate::engine::Engine;
use crate::error::Result;
use crate::job::Workload;
use crate::latency::Latencies;
use crate::row::Row;

/// Versions of a key.
const VERSIONS: u64 = 10;
/// Turns that newest and old commit take.
const TURNS: u64 = 20;

/// What gets of one kind took.
struct Part {
    commit: Option<u64>,
    took: Duration,
    latencies: Latencies,
}

impl<E: Engine> Run<'_, E> {
    /// `get_at_old`: a tenth as many keys as entries, each put ten times at random, one commit a
    /// put. Then as many gets as entries at the newest commit and as many at the first commit that
    /// can be read of those since the load; each kind has a line.
    pub(super) fn get_at_old(&self) -> Result<Vec<Row>> {
        let mut driver = self.open()?;
        let entries = self.job.entries;
        let keys = (entries / VERSIONS).max(1);
        let (loaded, head) = driver.one(move |engine| async move {
            for number in 0..keys {
                let (key, value) = data::entry(number, 0);
                engine.put(&key, &value).await?;
            }
            let loaded = engine.commit();
            for (number, version) in overwrites(keys).zip(1..=entries) {
                let (key, value) = data::entry(number, version);
                engine.put(&key, &value).await?;
            }
            Ok((loaded, engine.commit()))
        })?;
        driver.settle()?;
        driver.compact()?;
        let meter = Meter::start();
        let engine = driver.engine();
        let reader = driver.start(E::READS, async move {
            let old = engine.readable_from(loaded)?;
            // One commit a put, so the puts up to the old commit are known.
            let mut versions: HashMap<u64, u64> = HashMap::new();
            versions.extend(overwrites(keys).zip(1..=old - loaded));
            for number in 0..keys {
                let version = versions.get(&number).copied().unwrap_or(0);
                let (key, expected) = data::entry(number, version);
                let mut right = false;
                let found = engine
                    .get_at(old, &key, |value| right = value == expected)
                    .await?;
                ensure(found && right, "an old commit answered another version")?;
                get_present(&*engine, None, number).await?;
            }
            let mut parts = [None, Some(old)].map(|commit| Part {
                commit,
                took: Duration::ZERO,
                latencies: Latencies::start(),
            });
            let mut rng = Rng::with_seed(6);
            for _ in 0..TURNS {
                for part in &mut parts {
                    let started = Instant::now();
                    let mut latencies = Latencies::start();
                    for _ in 0..entries / TURNS {
                        get_present(&*engine, part.commit, rng.u64(0..keys)).await?;
                        latencies.lap();
                    }
                    part.took += started.elapsed();
                    part.latencies.merge(&latencies);
                }
            }
            Ok(parts)
        });
        let parts = driver.join(reader)?;
        let rows = parts.iter().map(|part| {
            let gets = part.latencies.count();
            let mut row = self.row(&meter, &part.latencies, gets, 0);
            let which = match part.commit {
                None => "newest".to_owned(),
                Some(commit) => format!("{}_behind", head - commit),
            };
            row.workload = format!("{}_{which}", Workload::GetAtOld.name());
            row.ops_per_s = gets as f64 / part.took.as_secs_f64();
            row.cpu_us_per_op /= 2.0;
            row
        });
        let rows = rows.collect();
        driver.close()?;
        Ok(rows)
    }
}

/// Which keys are put one after the other.
fn overwrites(keys: u64) -> impl Iterator<Item = u64> {
    let mut rng = Rng::with_seed(3);
    std::iter::repeat_with(move || rng.u64(0..keys))
}

async fn get_present<E: Engine>(
    engine: &E,
    commit: Option<u64>,
    number: u64,
) -> crate::engine::Result<()> {
    let key = data::key(number);
    let mut right = false;
    let see = |value: &[u8]| right = data::touch(value) != 0 && data::belongs(&key, value);
    match commit {
        None => engine.get(&key, see).await?,
        Some(commit) => engine.get_at(commit, &key, see).await?,
    };
    ensure(right, "a key was missing or had another key's value")
}
