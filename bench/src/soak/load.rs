//! What goes on during a soak: overwrites, deletions, batches and durable puts; reads of the newest
//! state and of a snapshot that is held; short scans. Every read is checked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use siltstone::blocking::{Database, Snapshot};
use siltstone::{Batch, Durability, Read};

use crate::data;
use crate::error::{Error, Result};
use crate::latency::Latencies;

/// Operations between two looks at the clock of a thread that is held to a rate.
const STRETCH: u64 = 50;
/// How long a snapshot is held.
const HELD: Duration = Duration::from_secs(10);

/// Kinds of operations, timed apart.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Write,
    Read,
    Scan,
}

/// The load on one database.
pub(super) struct Load<'a> {
    database: &'a Database,
    entries: u64,
    rate: Option<u64>,
    stop: AtomicBool,
    failed: AtomicBool,
    version: AtomicU64,
    latencies: [Mutex<Latencies>; 3],
}

impl<'a> Load<'a> {
    pub(super) fn new(database: &'a Database, entries: u64, rate: Option<u64>) -> Self {
        Self {
            database,
            entries,
            rate,
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            version: AtomicU64::new(1),
            latencies: std::array::from_fn(|_| Mutex::new(Latencies::start())),
        }
    }

    /// Puts every entry once.
    pub(super) fn fill(&self) -> Result<()> {
        let keyspace = self.database.default_keyspace();
        for number in 0..self.entries {
            let (key, value) = data::entry(number, 0);
            keyspace
                .put_with(&key, &value, Durability::Buffered)
                .map_err(Error::soak)?;
        }
        self.database.flush().map_err(Error::soak)?;
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// A thread has ended with an error.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The latencies of a kind since the last call.
    pub(super) fn take(&self, kind: Kind) -> Latencies {
        let mut latencies = self.latencies[kind as usize]
            .lock()
            .expect("no holder panics");
        std::mem::replace(&mut *latencies, Latencies::start())
    }

    /// Of 100 writes: 90 puts, 5 deletions, 4 batches of ten, one durable put.
    pub(super) fn write(&self) -> Result<()> {
        let mut rng = Rng::with_seed(1);
        let keyspace = self.database.default_keyspace();
        self.repeat(Kind::Write, self.rate, || {
            let version = self.version.fetch_add(1, Ordering::Relaxed);
            let (key, value) = data::entry(rng.u64(0..self.entries), version);
            match rng.u8(0..100) {
                0..90 => keyspace.put_with(&key, &value, Durability::Buffered),
                90..95 => keyspace.delete_with(&key, Durability::Buffered),
                95..99 => {
                    let mut batch = Batch::new();
                    for _ in 0..10 {
                        let (key, value) = data::entry(rng.u64(0..self.entries), version);
                        batch.put(keyspace, &key, &value);
                    }
                    self.database.kv().write(&batch, Durability::Buffered)
                }
                _ => keyspace.put_with(&key, &value, Durability::Durable),
            }
            .map(drop)
            .map_err(Error::soak)
        })
    }

    /// Of 100 gets, 95 of the newest state and 5 of a snapshot that is held for ten seconds.
    pub(super) fn read(&self) -> Result<()> {
        let mut rng = Rng::with_seed(2);
        let mut held: Option<(Snapshot, Instant)> = None;
        self.repeat(Kind::Read, self.rate, || {
            let key = data::key(rng.u64(0..self.entries));
            let value = match rng.u8(0..100) {
                0..95 => self.database.get(key).map_err(Error::soak)?,
                _ => {
                    held = held.take().filter(|(_, since)| since.elapsed() < HELD);
                    let snapshot = match &held {
                        Some((snapshot, _)) => snapshot,
                        None => {
                            let snapshot = self.database.snapshot().map_err(Error::soak)?;
                            &held.insert((snapshot, Instant::now())).0
                        }
                    };
                    snapshot.get(&key).map_err(Error::soak)?
                }
            };
            match value {
                Some(value) if data::touch(&value) == 0 || !data::belongs(&key, &value) => {
                    Err(Error::soak("a key had another key's value"))
                }
                _ => Ok(()),
            }
        })
    }

    /// Scans of 100 entries from anywhere, a hundredth as often as the others work.
    pub(super) fn scan(&self) -> Result<()> {
        let mut rng = Rng::with_seed(3);
        let rate = self.rate.map_or(1_000, |rate| rate / 100).max(10);
        self.repeat(Kind::Scan, Some(rate), || {
            let from = data::key(rng.u64(0..self.entries));
            let scan = self.database.default_keyspace().scan(from..);
            let mut before = from;
            for entry in scan.map_err(Error::soak)?.into_iter().take(100) {
                let (key, value) = entry.map_err(Error::soak)?;
                if key[..] < before[..] || !data::belongs(&key, &value) {
                    return Err(Error::soak("a scan met a wrong entry"));
                }
                before.copy_from_slice(&key);
            }
            Ok(())
        })
    }

    /// Does `work` again and again, timed, at most `rate` times a second, until it is told to stop.
    fn repeat(
        &self,
        kind: Kind,
        rate: Option<u64>,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let stretch = rate.map_or(STRETCH, |rate| STRETCH.min(rate / 10).max(1));
        let mut due = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            for _ in 0..stretch {
                let start = Instant::now();
                if let Err(error) = work() {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                let took = start.elapsed();
                let mut latencies = self.latencies[kind as usize]
                    .lock()
                    .expect("no holder panics");
                latencies.add(took);
            }
            if let Some(rate) = rate {
                due += Duration::from_secs_f64(stretch as f64 / rate as f64);
                // What was missed in a slow moment is not made up for.
                due = due.max(Instant::now() - Duration::from_millis(200));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        Ok(())
    }
}
