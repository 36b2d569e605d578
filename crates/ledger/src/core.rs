//! The inside of an open ledger, shared by its handles, its snapshots and its thread.

use crate::background::Signals;
use crate::block::{Blocks, Cid};
use crate::clock::Event;
use crate::error::{Error, Result};
use crate::remote::Remotes;
use crate::store::{Floor, Store};
use crate::subscribe::Subscribers;
use crate::writes::Queue;
use parking_lot::RwLock;
use std::sync::Arc;

/// What readers see: the newest head, published once it is durable.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) heads: Vec<Cid>,
    pub(crate) event: Option<Event>,
    /// Why the head's event cannot be read, if it cannot: every read says so. Files can be verified
    /// all the same.
    pub(crate) unreadable: Option<Error>,
}

impl View {
    pub(crate) fn new(heads: Vec<Cid>, event: Option<Event>) -> Self {
        Self {
            heads,
            event,
            unreadable: None,
        }
    }

    /// What a store's state with these heads shows. A head that cannot be read is told to who reads.
    pub(crate) fn of(store: &Store, heads: Vec<Cid>) -> Self {
        match heads.first().map(|head| store.event(head)).transpose() {
            Ok(event) => Self::new(heads, event),
            Err(error) => Self {
                unreadable: Some(error),
                ..Self::new(heads, None)
            },
        }
    }

    /// The head's event; `None` before the first commit.
    pub(crate) fn event(&self) -> Result<Option<Event>> {
        match &self.unreadable {
            Some(error) => Err(error.clone()),
            None => Ok(self.event),
        }
    }

    /// The head. There is one at most: every edit that brings heads merges them.
    pub(crate) fn head(&self) -> Option<Cid> {
        self.heads.first().copied()
    }
}

/// The inside of an open ledger.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Queue,
    pub(crate) view: RwLock<Arc<View>>,
    pub(crate) subscribers: Subscribers,
    pub(crate) author: Vec<u8>,
    pub(crate) signals: Arc<Signals>,
    /// One compaction or prune at a time in this process; another process is kept out by the lock.
    pub(crate) compacting: parking_lot::Mutex<()>,
    /// Indexes that were asked for.
    pub(crate) indexes: crate::query::Indexes,
    /// Where the last page of changes ended.
    pub(crate) walk: parking_lot::Mutex<Option<crate::changes::Walk>>,
    /// The remotes that are attached.
    pub(crate) remotes: Remotes,
}

impl Core {
    /// The inside of a ledger that is open.
    pub(crate) fn new(store: Arc<Store>, author: Vec<u8>, view: View) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::default(),
            view: RwLock::new(Arc::new(view)),
            subscribers: Subscribers::default(),
            author,
            signals: Arc::default(),
            compacting: Default::default(),
            indexes: Default::default(),
            walk: Default::default(),
            remotes: Remotes::default(),
            store,
        })
    }

    /// How the thread is woken.
    pub(crate) fn signals_handle(&self) -> Arc<Signals> {
        self.signals.clone()
    }

    /// What readers see now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.read().clone()
    }

    /// Reads the head's event again, if it could not be read when the ledger was opened.
    pub(crate) fn look_again(&self) {
        if self.view().unreadable.is_none() {
            return;
        }
        // No write comes between.
        let _journal = self.store.journal.lock();
        let heads = self.view().heads.clone();
        if let Some(head) = heads.first()
            && let Ok(event) = crate::block::Blocks::event(&*self.store, head)
        {
            *self.view.write() = Arc::new(View::new(heads, Some(event)));
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.store.env.clock.now().0 / 1000
    }

    /// Refuses heads of a replica that has not seen what was pruned here: the merge would need it.
    pub(crate) fn check_not_behind(&self, heads: &[Cid]) -> Result<()> {
        match self.known_floor() {
            Some(floor) => self.check_know_floor(heads, &floor),
            None => Ok(()),
        }
    }

    /// The highest floor, ours or one that another replica published.
    pub(crate) fn known_floor(&self) -> Option<Floor> {
        let own = self.store.log.lock().state.floor.clone();
        let both = own.into_iter().chain(self.learned_floor());
        both.max_by_key(|floor| floor.lamport)
    }

    /// Refuses heads that do not know the boundary of a prune.
    pub(crate) fn check_know_floor(&self, heads: &[Cid], floor: &Floor) -> Result<()> {
        for boundary in &floor.clock {
            // What a boundary has merged may be dropped, so it is looked for itself first.
            let reached = crate::clock::reaches(&*self.store, heads, boundary);
            let knows = match reached {
                Ok(false) => crate::clock::knows(&*self.store, heads, boundary),
                other => other,
            };
            let knows = match knows {
                Ok(knows) => knows,
                // It leads to what was dropped.
                Err(error) if error.is_missing_block() => false,
                Err(error) => return Err(error),
            };
            if !knows {
                return Err(Error::BehindPrune {
                    floor: clock_text(&floor.clock),
                });
            }
        }
        Ok(())
    }
}

/// A clock in words.
pub(crate) fn clock_text(clock: &[Cid]) -> String {
    let events: Vec<String> = clock.iter().map(Cid::to_string).collect();
    events.join("+")
}
