//! A change feed for asynchronous programs.
//!
//! Looking into the log and waiting for it to grow happen on a blocking thread, for a bounded time;
//! what was read there already is handed out on the calling thread. A caller who gives up meanwhile
//! loses nothing: the next call gets what that step finds.

use crate::error::{Error, Result};
use siltstone_kv::{ChangeSet, Commit};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};

/// The longest that one step keeps a blocking thread.
const PATIENCE: Duration = Duration::from_millis(250);

/// A feed of changes: every commit with what it wrote, once, in order. While it waits it keeps one of
/// the runtime's blocking threads.
#[derive(Debug)]
pub struct Changes {
    place: Place,
    position: Commit,
}

type Step = (
    Box<siltstone_kv::Changes>,
    siltstone_kv::Result<Option<ChangeSet>>,
);

/// Where the feed is.
#[derive(Debug)]
enum Place {
    Here(Box<siltstone_kv::Changes>),
    /// Reading or waiting on a blocking thread.
    Away(JoinHandle<Step>),
    /// The runtime ended while it was away.
    Lost,
}

impl Changes {
    pub(crate) fn new(changes: siltstone_kv::Changes) -> Self {
        Self {
            position: changes.position(),
            place: Place::Here(Box::new(changes)),
        }
    }

    /// The last commit that was delivered; a later feed can start from it.
    pub fn position(&self) -> Commit {
        self.position
    }

    /// The next commit's changes, waiting for it. The future may be dropped before it is ready, in a
    /// `select!` for instance: no change is lost.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::ChangesGone`] when the feed fell too far behind;
    /// [`siltstone_kv::Error::Closed`] once the database is closed and everything was delivered; the
    /// store's. The same call may be made again; nothing is passed over.
    pub async fn next(&mut self) -> Result<ChangeSet> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Changes::next`], for futures written by hand.
    ///
    /// # Errors
    /// As [`Changes::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<ChangeSet>> {
        loop {
            if let Some(next) = ready!(self.poll_step(context, PATIENCE))? {
                return Poll::Ready(Ok(next));
            }
        }
    }

    /// The next commit's changes; `None` when there is no further durable commit at this moment. As
    /// [`Changes::next`], the future may be dropped.
    ///
    /// # Errors
    /// As [`Changes::next`].
    pub async fn try_next(&mut self) -> Result<Option<ChangeSet>> {
        poll_fn(|context| self.poll_step(context, Duration::ZERO)).await
    }

    fn poll_step(
        &mut self,
        context: &mut Context<'_>,
        patience: Duration,
    ) -> Poll<Result<Option<ChangeSet>>> {
        let at_hand = match &mut self.place {
            Place::Here(changes) => changes.next_at_hand(),
            _ => None,
        };
        let next = match at_hand {
            Some(next) => Some(next),
            None => ready!(self.poll_away(context, patience))?,
        };
        if let Some(next) = &next {
            self.position = next.commit;
        }
        Poll::Ready(Ok(next))
    }

    fn poll_away(
        &mut self,
        context: &mut Context<'_>,
        patience: Duration,
    ) -> Poll<Result<Option<ChangeSet>>> {
        self.place = match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Here(mut changes) => Place::Away(spawn_blocking(move || {
                let next = changes.next_within(patience);
                (changes, next)
            })),
            other => other,
        };
        let Place::Away(step) = &mut self.place else {
            return Poll::Ready(Err(Error::RuntimeGone));
        };
        let Ok((changes, next)) = ready!(std::pin::Pin::new(step).poll(context)) else {
            self.place = Place::Lost;
            return Poll::Ready(Err(Error::RuntimeGone));
        };
        self.place = Place::Here(changes);
        Poll::Ready(next.map_err(Error::from))
    }
}
