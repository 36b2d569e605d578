//! How a writer waits for its group: a thread parks, a task leaves its waker.

use crate::error::Result;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::Thread;

/// What a waiter is told.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Its group is done.
    Done(Result<()>),
    /// It is to lead the next group, which holds its write.
    Lead,
}

#[derive(Debug)]
enum Party {
    Thread(Thread),
    Task(Option<Waker>),
}

#[derive(Debug)]
struct State {
    outcome: Option<Outcome>,
    party: Party,
}

/// One waiting writer.
#[derive(Debug)]
pub(crate) struct Waiter(Mutex<State>);

thread_local! {
    static MINE: RefCell<Option<Arc<Waiter>>> = const { RefCell::new(None) };
}

impl Waiter {
    /// This thread's waiter, used again from write to write.
    pub(crate) fn of_thread() -> Arc<Waiter> {
        MINE.with_borrow_mut(|mine| {
            if let Some(waiter) = mine
                && Arc::strong_count(waiter) == 1
            {
                waiter.0.lock().outcome = None;
                return waiter.clone();
            }
            let waiter = Arc::new(Waiter(Mutex::new(State {
                outcome: None,
                party: Party::Thread(std::thread::current()),
            })));
            *mine = Some(waiter.clone());
            waiter
        })
    }

    /// A waiter for a task.
    pub(crate) fn of_task() -> Arc<Waiter> {
        Arc::new(Waiter(Mutex::new(State {
            outcome: None,
            party: Party::Task(None),
        })))
    }

    /// True when it may be told to lead.
    pub(crate) fn can_lead(&self) -> bool {
        matches!(self.0.lock().party, Party::Thread(_))
    }

    /// Tells it, and wakes it.
    pub(crate) fn tell(&self, outcome: Outcome) {
        let mut state = self.0.lock();
        state.outcome = Some(outcome);
        match &mut state.party {
            Party::Thread(thread) => {
                let thread = thread.clone();
                drop(state);
                thread.unpark();
            }
            Party::Task(waker) => {
                let waker = waker.take();
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }

    /// Parks this thread until it is told something.
    pub(crate) fn wait(&self) -> Outcome {
        loop {
            if let Some(outcome) = self.0.lock().outcome.take() {
                return outcome;
            }
            std::thread::park();
        }
    }

    /// What it was told, or leaves the waker.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.lock();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        if let Party::Task(waker) = &mut state.party {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}
