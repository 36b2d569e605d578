//! Late puts are sent a second time. Log objects become visible in order, so one answer that does
//! not come holds up all behind it; stores answer most requests soon and a few very late, and the
//! same request sent again is usually answered first.
//!
//! The one that is given up may still arrive, as any request may whose answer was lost: after the
//! other it changes nothing, and after the object was deleted it makes it once more, below the start
//! of the log, from where the next deletion takes it.

use crate::error::Result;
use futures_util::future::{Either, select};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The largest put that may be sent twice, in bytes: a larger one takes its time on the way.
pub(super) const LARGEST: usize = 1 << 20;
/// A put is late after this many times the usual.
const LATE: u32 = 3;
/// The earliest that a put is called late.
const EARLIEST: Duration = Duration::from_millis(30);
/// Puts that are over for each one that may be sent twice: what that costs stays below a thirtieth,
/// also where everything is late.
const FOR_ONE: u64 = 32;
/// Of puts that are over, so many count at most.
const MOST: u64 = 8 * FOR_ONE;

/// What the puts of a store have shown.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// Microseconds that a put takes; 0 until one is over. Of two that end at once one may not count.
    usual: AtomicU64,
    /// Puts that are over and that no second one was sent for.
    saved: AtomicU64,
}

impl Lateness {
    /// What `send` makes; made twice where the first is late, and then the first of the two that
    /// succeeds. The other is dropped, and may have been carried out all the same.
    pub(super) async fn twice_if_late<T, F, Fut>(&self, send: F) -> Result<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let started = Instant::now();
        let first = pin!(send());
        let done = match self.late_after() {
            None => first.await,
            Some(late) => match select(first, pin!(sleep(late))).await {
                Either::Left((done, _)) => done,
                Either::Right(((), first)) if self.spend() => {
                    match select(first, pin!(send())).await {
                        Either::Left((Err(_), second)) => second.await,
                        Either::Right((Err(_), first)) => first.await,
                        Either::Left((done, _)) | Either::Right((done, _)) => done,
                    }
                }
                Either::Right(((), first)) => first.await,
            },
        };
        if done.is_ok() {
            self.note(started.elapsed());
        }
        done
    }

    fn late_after(&self) -> Option<Duration> {
        let usual = Duration::from_micros(self.usual.load(Ordering::Relaxed));
        (!usual.is_zero()).then(|| (usual * LATE).max(EARLIEST))
    }

    fn note(&self, took: Duration) {
        let took = (took.as_micros() as u64).max(1);
        let usual = match self.usual.load(Ordering::Relaxed) {
            0 => took,
            usual => (usual * 7 + took) / 8,
        };
        self.usual.store(usual, Ordering::Relaxed);
        self.change_saved(|saved| (saved < MOST).then_some(saved + 1));
    }

    /// True when a second put may be sent; it is then paid for.
    fn spend(&self) -> bool {
        self.change_saved(|saved| saved.checked_sub(FOR_ONE))
    }

    fn change_saved(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        let order = Ordering::Relaxed;
        self.saved.fetch_update(order, order, change).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::error::Error;
    use std::future::{pending, ready};
    use std::sync::atomic::AtomicUsize;

    /// Puts that were answered within a millisecond.
    fn after_quick_ones(count: u64) -> Lateness {
        let lateness = Lateness::default();
        for _ in 0..count {
            lateness.note(Duration::from_millis(1));
        }
        lateness
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(work)
    }

    fn refused() -> Error {
        Error::Invalid {
            name: "wal/1".into(),
            what: "refused".into(),
        }
    }

    /// What comes of a put whose first request is never answered, and the requests that were sent.
    fn with_first_lost(lateness: &Lateness, second: Result<u32>) -> (Option<Result<u32>>, usize) {
        let sent = AtomicUsize::new(0);
        let second = &std::cell::RefCell::new(Some(second));
        let put = lateness.twice_if_late(|| {
            let number = sent.fetch_add(1, Ordering::Relaxed);
            async move {
                match number {
                    0 => pending().await,
                    _ => ready(second.take().unwrap()).await,
                }
            }
        });
        // Longer than the earliest second put, which is what a lost answer is waited for here.
        let done = run(async { tokio::time::timeout(EARLIEST * 4, put).await });
        (done.ok(), sent.load(Ordering::Relaxed))
    }

    #[test]
    fn a_late_put_is_sent_again_and_the_first_answer_counts() {
        let lateness = after_quick_ones(FOR_ONE);
        let (done, sent) = with_first_lost(&lateness, Ok(7));
        assert_eq!((done.unwrap().unwrap(), sent), (7, 2));
        // Paid for: the next late one waits.
        let (done, sent) = with_first_lost(&lateness, Ok(7));
        assert!(done.is_none());
        assert_eq!(sent, 1);
    }

    #[test]
    fn a_second_put_that_fails_leaves_the_first_to_be_waited_for() {
        let lateness = after_quick_ones(FOR_ONE);
        let (done, sent) = with_first_lost(&lateness, Err(refused()));
        assert!(done.is_none());
        assert_eq!(sent, 2);
    }

    #[test]
    fn what_is_usual_is_not_known_before_a_put_is_over() {
        let lateness = Lateness::default();
        assert_eq!(lateness.late_after(), None);
        let (done, sent) = with_first_lost(&lateness, Ok(7));
        assert!(done.is_none());
        assert_eq!(sent, 1);
        lateness.note(Duration::from_millis(100));
        assert_eq!(lateness.late_after(), Some(Duration::from_millis(300)));
        for _ in 0..1000 {
            lateness.note(Duration::from_millis(1));
        }
        assert_eq!(lateness.late_after(), Some(EARLIEST));
        for _ in 0..MOST / FOR_ONE {
            assert!(lateness.spend());
        }
        assert!(!lateness.spend());
    }

    #[test]
    fn a_failure_in_time_is_the_answer() {
        let lateness = after_quick_ones(FOR_ONE);
        let failed = run(lateness.twice_if_late(|| ready(Err::<u32, _>(refused()))));
        assert!(failed.is_err());
        assert!(lateness.spend(), "nothing was paid");
    }
}
