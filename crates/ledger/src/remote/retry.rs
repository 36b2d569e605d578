//! Syncs by themselves: after local writes, on a poll, and after a failure with a growing wait. When is
//! decided by the clock of the environment; the thread only waits for it.

use super::Inner;
use super::status::SyncReport;
use crate::error::Result;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest the thread waits without looking at the clock.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
struct Wanted {
    /// Something was written here since the last sync began.
    work: bool,
    ending: bool,
}

#[derive(Debug, Default)]
pub(super) struct Signals {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

impl Signals {
    pub(super) fn wake(&self) {
        self.wanted.lock().work = true;
        self.changed.notify_all();
    }

    pub(super) fn end(&self) {
        self.wanted.lock().ending = true;
        self.changed.notify_all();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.wanted.lock().ending
    }
}

impl Inner {
    /// How long until a sync is due.
    fn due_in(&self) -> Result<Duration> {
        let now = self.core()?.store.env.clock.now();
        let board = self.board.lock();
        let at = match board.failures {
            0 if self.signals.wanted.lock().work => return Ok(Duration::ZERO),
            _ => board.next_try,
        };
        Ok(at.map_or(Duration::ZERO, |at| at.since(now)))
    }

    pub(super) fn is_due(&self) -> Result<bool> {
        Ok(self.due_in()? == Duration::ZERO)
    }

    /// Syncs now, and notes how it went.
    pub(super) fn sync(&self) -> Result<SyncReport> {
        let mut known = self.known.lock();
        let core = self.core()?;
        self.signals.wanted.lock().work = false;
        let done = self.run(&core, &mut known);
        let env = &core.store.env;
        let now = env.clock.now();
        let mut board = self.board.lock();
        match &done {
            Ok(_) => {
                board.last_error = None;
                board.failures = 0;
                board.last_success = Some(now);
                board.next_try = Some(now.after(self.remote.poll));
            }
            Err(error) => {
                tracing::warn!(remote = self.remote.name, %error, "a sync failed and will be tried again");
                let (first, longest) = self.remote.retry;
                let doubled = first.saturating_mul(1 << board.failures.min(20));
                let wait = doubled.min(longest);
                // Replicas that failed together do not come back together.
                let jitter = wait.mul_f64((env.rng.next() % 256) as f64 / 1024.0);
                board.last_error = Some(error.clone());
                board.failures = board.failures.saturating_add(1);
                board.next_try = Some(now.after(wait + jitter));
            }
        }
        done
    }

    /// Waits until a sync is due; false when it is time to end.
    fn wait(&self) -> bool {
        loop {
            let Ok(due) = self.due_in() else {
                return false;
            };
            let failing = self.board.lock().failures > 0;
            let mut wanted = self.signals.wanted.lock();
            if wanted.ending {
                return false;
            }
            if due == Duration::ZERO {
                return true;
            }
            // What was written since it was asked makes it due, but for a wait after a failure.
            if failing || !wanted.work {
                let wait = due.min(LONGEST_WAIT);
                self.signals.changed.wait_for(&mut wanted, wait);
            }
        }
    }
}

/// Starts the thread of an attachment. It ends when told to, or when the ledger is gone.
pub(super) fn start(inner: &Arc<Inner>) -> std::io::Result<JoinHandle<()>> {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    let builder = std::thread::Builder::new().name("siltstone-sync".into());
    builder.spawn(move || {
        while let Some(inner) = weak.upgrade() {
            if !inner.wait() {
                return;
            }
            // What failed is in the status.
            let _ = inner.sync();
        }
    })
}
