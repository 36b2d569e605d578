//! Clock, random numbers and blobs: all that a database takes from the world comes in here.

use crate::blobs::Blobs;
use parking_lot::Mutex;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Wall-clock time in microseconds since 1970-01-01 UTC. It may step back; nothing that decides
/// order depends on it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time since `earlier`, zero when the clock stepped back.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This time plus `duration`.
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)),
        )
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + Debug {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment; never steps back. For latencies.
    fn elapsed(&self) -> Duration;

    /// Lets time pass on this thread.
    fn sleep(&self, duration: Duration);
}

/// Where random numbers come from.
pub trait Rng: Send + Sync + Debug {
    /// The next 64 random bits.
    fn next(&self) -> u64;
}

/// What a database takes from the world.
#[derive(Debug, Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub rng: Arc<dyn Rng>,
    /// Bytes.
    pub blobs: Arc<dyn Blobs>,
}

impl Env {
    /// The system's clock and random numbers over `blobs`.
    pub fn system(blobs: Arc<dyn Blobs>) -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            rng: Arc::new(SystemRng),
            blobs,
        }
    }

    /// A clock that moves when told, and seeded random numbers, over `blobs`.
    pub fn simulated(blobs: Arc<dyn Blobs>, seed: u64) -> (Self, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let env = Self {
            clock: clock.clone(),
            rng: Arc::new(SeededRng::new(seed)),
            blobs,
        };
        (env, clock)
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the system"
    )]
    fn default() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the system"
    )]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that moves when told.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicU64,
    elapsed: AtomicU64,
}

impl Default for ManualClock {
    fn default() -> Self {
        Self {
            wall: AtomicU64::new(1_700_000_000_000_000),
            elapsed: AtomicU64::new(0),
        }
    }
}

impl ManualClock {
    /// Moves both times forward.
    pub fn advance(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.wall.fetch_add(micros, Ordering::Relaxed);
        self.elapsed.fetch_add(micros, Ordering::Relaxed);
    }

    /// Sets the wall clock, back or forward, as an operator or a time server might.
    pub fn set_wall(&self, to: Timestamp) {
        self.wall.store(to.0, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

/// The system's random numbers.
#[derive(Debug)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn next(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// Random numbers from a seed.
#[derive(Debug)]
pub struct SeededRng(Mutex<fastrand::Rng>);

impl SeededRng {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Rng for SeededRng {
    fn next(&self) -> u64 {
        self.0.lock().u64(..)
    }
}
