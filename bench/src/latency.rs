//! Latencies of single operations, in nanoseconds, in a histogram of three significant digits.
//!
//! One clock reading an operation: the end of one is the start of the next, so the cost of making
//! the next key (some ten nanoseconds) is counted, equally for every engine.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

const LONGEST_NS: u64 = 600_000_000_000;

/// Latencies of one caller, or of several merged.
pub(crate) struct Latencies {
    histogram: Histogram<u32>,
    last: Instant,
}

impl Latencies {
    /// Starts the clock of the first operation.
    pub(crate) fn start() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3)
            .expect("the bounds are constants in range");
        Self {
            histogram,
            last: Instant::now(),
        }
    }

    /// Counts the time since the last call as one operation and returns its end.
    pub(crate) fn lap(&mut self) -> Instant {
        let now = Instant::now();
        self.add(now - self.last);
        self.last = now;
        now
    }

    /// Restarts the clock without counting an operation.
    pub(crate) fn skip(&mut self) {
        self.last = Instant::now();
    }

    /// Counts one operation that took `time`.
    pub(crate) fn add(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NS);
        self.histogram.saturating_record(ns.max(1));
    }

    /// Operations counted.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Takes in the operations of another caller.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all histograms have the same bounds");
    }

    /// The latency, in microseconds, that the fraction `quantile` of all operations stays below.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// The longest operation in microseconds.
    pub(crate) fn max_us(&self) -> f64 {
        self.histogram.max() as f64 / 1000.0
    }
}
