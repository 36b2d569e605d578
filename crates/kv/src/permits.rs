//! Counted permits: how many scans, flushes and compactions run at once. Threads and tasks wait in
//! one queue, first come, first served; whoever waits can be cancelled or run into a deadline.
//!
//! A permit that is given back goes straight to the first in the queue, so while anybody waits none
//! is free.

use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[derive(Debug)]
struct Inner {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    queue: VecDeque<Place>,
    /// Places that were given a permit and have not come for it yet.
    granted: BTreeSet<u64>,
    next_place: u64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    party: Party,
}

/// Who waits.
#[derive(Debug, Clone)]
enum Party {
    Thread(Arc<Condvar>),
    Task(Waker),
}

impl Party {
    /// Wakes it. Not under a lock: a waker may run what it likes.
    fn wake(self) {
        match self {
            Party::Thread(condvar) => {
                condvar.notify_one();
            }
            Party::Task(waker) => waker.wake(),
        }
    }
}

/// A number of permits.
#[derive(Debug, Clone)]
pub(crate) struct Permits(Arc<Inner>);

/// One permit; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit(Permits);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Permits {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            state: Mutex::default(),
        }))
    }

    /// Permits given out.
    pub(crate) fn used(&self) -> usize {
        self.0.state.lock().used
    }

    /// A permit, if one is free.
    pub(crate) fn try_take(&self) -> Option<Permit> {
        let mut state = self.0.state.lock();
        (state.used < self.0.limit).then(|| {
            state.used += 1;
            Permit(self.clone())
        })
    }

    /// Waits on this thread for a permit.
    pub(crate) fn take(&self, what: &'static str) -> Result<Permit> {
        Turn::new(self, what, None).wait(None)
    }

    fn give_back(&self) {
        let mut state = self.0.state.lock();
        let Some(first) = state.queue.pop_front() else {
            state.used -= 1;
            return;
        };
        state.granted.insert(first.number);
        drop(state);
        first.party.wake();
    }

    /// Has the waiter at `number` look again.
    fn wake(&self, number: u64) {
        let state = self.0.state.lock();
        let waiting = state.queue.iter().find(|place| place.number == number);
        let party = waiting.map(|place| place.party.clone());
        drop(state);
        if let Some(party) = party {
            party.wake();
        }
    }
}

/// A wait for a permit. Dropped, it leaves the queue and gives back what it was granted.
#[derive(Debug)]
pub(crate) struct Turn {
    permits: Permits,
    what: &'static str,
    cancel: Option<CancelToken>,
    place: Option<u64>,
}

impl Turn {
    /// Will wait for one of `permits` until `cancel` is cancelled; `what` is for messages.
    pub(crate) fn new(permits: &Permits, what: &'static str, cancel: Option<CancelToken>) -> Self {
        Self {
            permits: permits.clone(),
            what,
            cancel,
            place: None,
        }
    }

    /// A permit, or a place in the queue where `party` waits.
    fn look(&mut self, party: impl FnOnce() -> Party) -> Result<Option<Permit>> {
        self.check_cancelled()?;
        let mut state = self.permits.0.state.lock();
        let Some(number) = self.place else {
            if state.used < self.permits.0.limit {
                state.used += 1;
                return Ok(Some(Permit(self.permits.clone())));
            }
            let number = state.next_place;
            state.next_place += 1;
            let party = party();
            state.queue.push_back(Place { number, party });
            drop(state);
            self.place = Some(number);
            if let Some(token) = &self.cancel {
                token.listen(&self.permits, number);
            }
            // A token that was cancelled before it knew of this wait has woken nobody.
            self.check_cancelled()?;
            return Ok(None);
        };
        if state.granted.remove(&number) {
            drop(state);
            self.forget_place();
            return Ok(Some(Permit(self.permits.clone())));
        }
        if let Some(place) = state.queue.iter_mut().find(|place| place.number == number) {
            let before = std::mem::replace(&mut place.party, party());
            drop(state);
            drop(before);
        }
        Ok(None)
    }

    fn check_cancelled(&self) -> Result<()> {
        match &self.cancel {
            Some(token) if token.is_cancelled() => Err(Error::Cancelled { what: self.what }),
            _ => Ok(()),
        }
    }

    /// Waits on this thread, for `patience` when that is given.
    pub(crate) fn wait(&mut self, patience: Option<Duration>) -> Result<Permit> {
        let woken = Arc::new(Condvar::new());
        loop {
            if let Some(permit) = self.look(|| Party::Thread(woken.clone()))? {
                return Ok(permit);
            }
            let mut state = self.permits.0.state.lock();
            if self.check_cancelled().is_err()
                || self
                    .place
                    .is_some_and(|number| state.granted.contains(&number))
            {
                continue;
            }
            match patience {
                None => woken.wait(&mut state),
                Some(patience) => {
                    if woken.wait_for(&mut state, patience).timed_out() {
                        return Err(Error::Cancelled { what: self.what });
                    }
                }
            }
        }
    }

    /// Waits as a task.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Permit>> {
        match self.look(|| Party::Task(context.waker().clone())) {
            Ok(Some(permit)) => Poll::Ready(Ok(permit)),
            Ok(None) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn forget_place(&mut self) {
        if let (Some(number), Some(token)) = (self.place.take(), &self.cancel) {
            token.forget(&self.permits, number);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(number) = self.place else {
            return;
        };
        self.forget_place();
        let mut state = self.permits.0.state.lock();
        let granted = state.granted.remove(&number);
        let at = state.queue.iter().position(|place| place.number == number);
        let left = at.and_then(|at| state.queue.remove(at));
        drop(state);
        drop(left);
        if granted {
            self.permits.give_back();
        }
    }
}

/// Cancels a scan, also one that still waits for its turn. Clones are the same token.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<Token>);

#[derive(Debug, Default)]
struct Token {
    cancelled: AtomicBool,
    waiting: Mutex<Vec<(Permits, u64)>>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels whatever carries this token.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.0.waiting.lock());
        for (permits, number) in waiting {
            permits.wake(number);
        }
    }

    /// True after [`CancelToken::cancel`].
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    fn listen(&self, permits: &Permits, number: u64) {
        self.0.waiting.lock().push((permits.clone(), number));
    }

    fn forget(&self, permits: &Permits, number: u64) {
        let is_it =
            |(other, at): &(Permits, u64)| *at == number && Arc::ptr_eq(&other.0, &permits.0);
        self.0.waiting.lock().retain(|waiting| !is_it(waiting));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Debug, Default)]
    struct Wakes(AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn task() -> (Arc<Wakes>, Waker) {
        let wakes = Arc::new(Wakes::default());
        (wakes.clone(), Waker::from(wakes))
    }

    #[test]
    fn a_permit_goes_to_the_first_in_the_queue_and_on_when_that_one_has_left() {
        let permits = Permits::new(1);
        let held = permits.try_take().unwrap();
        let (first_wakes, first_waker) = task();
        let (second_wakes, second_waker) = task();
        let mut first = Turn::new(&permits, "a test", None);
        let mut second = Turn::new(&permits, "a test", None);
        assert!(
            first
                .poll(&mut Context::from_waker(&first_waker))
                .is_pending()
        );
        assert!(
            second
                .poll(&mut Context::from_waker(&second_waker))
                .is_pending()
        );
        drop(held);
        assert_eq!(first_wakes.0.load(Ordering::SeqCst), 1);
        assert_eq!(second_wakes.0.load(Ordering::SeqCst), 0);
        assert!(permits.try_take().is_none(), "it is the first one's");
        drop(first);
        assert_eq!(second_wakes.0.load(Ordering::SeqCst), 1);
        let got = second.poll(&mut Context::from_waker(&second_waker));
        assert!(matches!(got, Poll::Ready(Ok(_))));
        drop(got);
        assert_eq!(permits.used(), 0);
    }

    #[test]
    fn a_cancelled_task_is_woken_and_leaves_the_queue() {
        let permits = Permits::new(1);
        let held = permits.try_take().unwrap();
        let token = CancelToken::new();
        let (wakes, waker) = task();
        let mut turn = Turn::new(&permits, "a test", Some(token.clone()));
        assert!(turn.poll(&mut Context::from_waker(&waker)).is_pending());
        token.cancel();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        let refused = turn.poll(&mut Context::from_waker(&waker));
        assert!(matches!(refused, Poll::Ready(Err(Error::Cancelled { .. }))));
        drop(turn);
        drop(held);
        assert_eq!(permits.used(), 0);
        assert!(permits.0.state.lock().queue.is_empty());
    }

    #[test]
    fn threads_and_tasks_share_one_queue_without_losing_a_permit() {
        let permits = Permits::new(2);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let permits = permits.clone();
                scope.spawn(move || {
                    for round in 0..500 {
                        let token = CancelToken::new();
                        let mut turn = Turn::new(&permits, "a test", Some(token));
                        // Every third leaves before its turn, granted or not.
                        if round % 3 == thread % 3 {
                            let (_, waker) = task();
                            let _ = turn.poll(&mut Context::from_waker(&waker));
                        } else {
                            let _permit = turn.wait(None).unwrap();
                            assert!(permits.used() <= 2);
                        }
                    }
                });
            }
        });
        assert_eq!(permits.used(), 0);
    }
}
