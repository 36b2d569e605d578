//! Counted permits: how many scans, flushes and compactions run at once. A waiting caller can be
//! cancelled or run into a deadline.

use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: Mutex<usize>,
    changed: Condvar,
}

/// A number of permits.
#[derive(Debug, Clone)]
pub(crate) struct Permits(Arc<Inner>);

/// One permit; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit(Permits);

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.0.used.lock() -= 1;
        self.0.0.changed.notify_one();
    }
}

impl Permits {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            used: Mutex::new(0),
            changed: Condvar::new(),
        }))
    }

    /// Permits given out.
    pub(crate) fn used(&self) -> usize {
        *self.0.used.lock()
    }

    /// A permit, if one is free.
    pub(crate) fn try_take(&self) -> Option<Permit> {
        let mut used = self.0.used.lock();
        (*used < self.0.limit).then(|| {
            *used += 1;
            Permit(self.clone())
        })
    }

    /// Waits for a permit until cancelled, or for `patience`.
    pub(crate) fn take(
        &self,
        what: &'static str,
        cancel: Option<&CancelToken>,
        patience: Option<Duration>,
    ) -> Result<Permit> {
        let _listening = cancel.map(|token| token.listen(self));
        let mut used = self.0.used.lock();
        loop {
            if cancel.is_some_and(CancelToken::is_cancelled) {
                // Whoever is next must not sleep through the permit this waiter was woken for.
                self.0.changed.notify_one();
                return Err(Error::Cancelled { what });
            }
            if *used < self.0.limit {
                *used += 1;
                return Ok(Permit(self.clone()));
            }
            match patience {
                None => self.0.changed.wait(&mut used),
                Some(patience) => {
                    if self.0.changed.wait_for(&mut used, patience).timed_out() {
                        return Err(Error::Cancelled { what });
                    }
                }
            }
        }
    }
}

/// Cancels a scan, also one that still waits for its turn. Clones are the same token.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<Token>);

#[derive(Debug, Default)]
struct Token {
    cancelled: AtomicBool,
    waiting: Mutex<Vec<Permits>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels whatever carries this token.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        for permits in self.0.waiting.lock().iter() {
            let _in_step = permits.0.used.lock();
            permits.0.changed.notify_all();
        }
    }

    /// True after [`CancelToken::cancel`].
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    fn listen(&self, permits: &Permits) -> Listening<'_> {
        self.0.waiting.lock().push(permits.clone());
        Listening(self)
    }
}

struct Listening<'a>(&'a CancelToken);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.0.waiting.lock().pop();
    }
}
