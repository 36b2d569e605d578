//! Subscribers: each changed document once, in the order of the commits, after it is durable; those
//! that another replica wrote too. A queue is bounded: who falls behind is told so, by an error that
//! says where to read on, and never slows a writer down.

use crate::block::Cid;
use crate::changes::ChangedDoc;
use crate::clock::Write;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::store::Store;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

#[derive(Debug)]
struct Mailbox {
    state: Mutex<MailState>,
    filled: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct MailState {
    waiting: VecDeque<ChangedDoc>,
    lagged: bool,
    closed: bool,
}

/// A subscription. Dropped, it ends.
#[derive(Debug)]
pub struct Subscription(Arc<Mailbox>);

impl Subscription {
    /// The next changed document, waiting for it. `None` once the ledger is closed.
    ///
    /// # Errors
    /// [`Error::Lagged`] when more changed than the queue holds; the subscription has ended then.
    pub fn recv(&self) -> Result<Option<ChangedDoc>> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(changed) = state.waiting.pop_front() {
                return Ok(Some(changed));
            }
            if state.lagged {
                return Err(Error::Lagged {
                    limit: self.0.limit,
                });
            }
            if state.closed {
                return Ok(None);
            }
            self.0.filled.wait(&mut state);
        }
    }

    /// The next changed document if there is one.
    ///
    /// # Errors
    /// As [`Subscription::recv`].
    pub fn try_recv(&self) -> Result<Option<ChangedDoc>> {
        let mut state = self.0.state.lock();
        match state.waiting.pop_front() {
            Some(changed) => Ok(Some(changed)),
            None if state.lagged => Err(Error::Lagged {
                limit: self.0.limit,
            }),
            None => Ok(None),
        }
    }
}

/// All subscriptions of a ledger.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    boxes: Mutex<Vec<Weak<Mailbox>>>,
    wanted: AtomicBool,
}

impl Subscribers {
    /// A subscription to everything that is published from now on.
    pub(crate) fn add(&self, limit: usize) -> Subscription {
        let mailbox = Arc::new(Mailbox {
            state: Mutex::default(),
            filled: Condvar::new(),
            limit,
        });
        let mut boxes = self.boxes.lock();
        boxes.push(Arc::downgrade(&mailbox));
        self.wanted.store(true, Ordering::Release);
        Subscription(mailbox)
    }

    /// True when somebody listens.
    pub(crate) fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Tells of events that were just written here.
    pub(crate) fn tell_writes(&self, store: &Store, written: &[(Cid, Vec<Write>)]) {
        for (event, writes) in written {
            let last = |at: usize| !writes[at + 1..].iter().any(|w| w.key == writes[at].key);
            let kept = writes.iter().enumerate().filter(|(at, _)| last(*at));
            let changed = kept.map(|(_, write)| ChangedDoc {
                id: write.key.clone(),
                document: write.doc.and_then(|doc| store.document(&doc).ok()),
                deleted: write.doc.is_none(),
                event: *event,
            });
            self.deliver(changed.collect());
        }
    }

    /// Tells of what another replica's events changed.
    pub(crate) fn tell_foreign(
        &self,
        core: &Core,
        before: &[Cid],
        head: Option<Cid>,
    ) -> Result<()> {
        if !self.wanted() || head.is_none() || before.first() == head.as_ref() {
            return Ok(());
        }
        match core.changed_between(before) {
            Ok(changed) => self.deliver(changed),
            // It began here at the floor of another replica: what led there is not to be had.
            Err(Error::Pruned { .. }) => self.lose(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Tells all that they missed something.
    fn lose(&self) {
        for mailbox in self.boxes.lock().drain(..).filter_map(|one| one.upgrade()) {
            mailbox.state.lock().lagged = true;
            mailbox.filled.notify_all();
        }
    }

    fn deliver(&self, changed: Vec<ChangedDoc>) {
        let mut boxes = self.boxes.lock();
        boxes.retain(|mailbox| {
            let Some(mailbox) = mailbox.upgrade() else {
                return false;
            };
            let mut state = mailbox.state.lock();
            if state.waiting.len() + changed.len() > mailbox.limit {
                state.lagged = true;
            }
            if !state.lagged {
                state.waiting.extend(changed.iter().cloned());
            }
            mailbox.filled.notify_all();
            !state.lagged
        });
        self.wanted.store(!boxes.is_empty(), Ordering::Release);
    }

    /// Tells all that nothing more comes.
    pub(crate) fn close(&self) {
        for mailbox in self.boxes.lock().drain(..).filter_map(|one| one.upgrade()) {
            mailbox.state.lock().closed = true;
            mailbox.filled.notify_all();
        }
    }
}
