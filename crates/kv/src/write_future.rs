//! Writes of tasks: futures that are ready when the write is done, and block nobody.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::pipeline::{MayLead, Submitted, Write};
use crate::types::Commit;
use crate::waiter::{Outcome, Waiter};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A write under way, for a task.
#[derive(Debug)]
pub struct WriteFuture(Option<State>);

#[derive(Debug)]
enum State {
    Done(Result<Commit>),
    Waiting(Commit, Arc<Waiter>),
}

impl WriteFuture {
    pub(crate) fn failed(error: Error) -> Self {
        Self(Some(State::Done(Err(error))))
    }
}

impl Future for WriteFuture {
    type Output = Result<Commit>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self
            .0
            .take()
            .expect("a future is not polled after it is ready")
        {
            State::Done(result) => Poll::Ready(result),
            State::Waiting(commit, waiter) => match waiter.poll(context) {
                Poll::Ready(Outcome::Done(result)) => Poll::Ready(result.map(|()| commit)),
                Poll::Ready(Outcome::Lead) => unreachable!("a task is never told to lead"),
                Poll::Pending => {
                    self.0 = Some(State::Waiting(commit, waiter));
                    Poll::Pending
                }
            },
        }
    }
}

impl Core {
    /// Submits a write for a task.
    pub(crate) fn submit(self: &Arc<Self>, write: &mut Write<'_>) -> WriteFuture {
        let may_lead = match write.durability {
            // Without threads everything happens on the caller's.
            _ if !self.threaded() => MayLead::Thread,
            Durability::Buffered => MayLead::Task,
            Durability::Durable => MayLead::No,
        };
        match self.enqueue(write, Waiter::of_task, may_lead) {
            Err(error) => WriteFuture::failed(error),
            Ok((commit, Submitted::Lead)) => {
                WriteFuture(Some(State::Done(self.lead().map(|()| commit))))
            }
            Ok((commit, Submitted::LeadNow(group, log))) => {
                let led = self.lead_now(group, log);
                WriteFuture(Some(State::Done(led.map(|()| commit))))
            }
            Ok((commit, Submitted::Follow(waiter))) => {
                WriteFuture(Some(State::Waiting(commit, waiter)))
            }
        }
    }
}
