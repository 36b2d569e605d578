//! What changed since a clock: oldest first, each document at its newest change, deletions marked,
//! page after page forward.

use crate::block::{Blocks, Cid};
use crate::clock::{Siblings, events_since};
use crate::core::{Core, View};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::prolly;
use std::sync::Arc;

/// A place in the history: the events that are known, sorted. Empty: nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Clock(pub Vec<Cid>);

impl Clock {
    /// Before everything.
    pub fn start() -> Self {
        Self::default()
    }
}

/// Where to read on: a clock, and how far into the event after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Since {
    /// What is known.
    pub clock: Clock,
    /// Writes of the next event that were given out already.
    pub within: u64,
}

impl From<Clock> for Since {
    fn from(clock: Clock) -> Self {
        Self { clock, within: 0 }
    }
}

impl From<&Clock> for Since {
    fn from(clock: &Clock) -> Self {
        clock.clone().into()
    }
}

/// A document that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedDoc {
    /// Its id.
    pub id: String,
    /// What it is now; `None` when it is deleted.
    pub document: Option<Document>,
    /// True when it is deleted.
    pub deleted: bool,
    /// The event that did it.
    pub event: Cid,
}

/// One page of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Oldest first.
    pub rows: Vec<ChangedDoc>,
    /// Where the next page starts. At the end its clock is the ledger's, and asking again gives what
    /// was written since.
    pub next: Since,
    /// True when there are more rows now.
    pub more: bool,
}

/// The events that a page was taken from, kept for the next page.
#[derive(Debug)]
pub(crate) struct Walk {
    heads: Vec<Cid>,
    next: Clock,
    events: Arc<[Cid]>,
    at: usize,
}

impl Core {
    /// What changed since, at most `limit` rows.
    pub(crate) fn changes(&self, view: &View, since: &Since, limit: usize) -> Result<Changes> {
        let (events, start) = self.events_after(view, &since.clock)?;
        let mut clock = since.clock.clone();
        let mut within = since.within;
        let mut rows = Vec::new();
        for (at, event_cid) in events.iter().enumerate().skip(start) {
            let event = self.store.event(event_cid)?;
            let change = self.store.change(&event.change)?;
            let mut ops = Vec::new();
            for op in change.ops(&*self.store).skip(within as usize) {
                ops.push(op?);
            }
            let fresh = self.are_current(view, &event.change, &ops)?;
            for (op, fresh) in ops.into_iter().zip(fresh) {
                if fresh {
                    if rows.len() == limit {
                        self.keep_walk(view, &clock, &events, at);
                        let next = Since { clock, within };
                        let more = true;
                        return Ok(Changes { rows, next, more });
                    }
                    rows.push(ChangedDoc {
                        document: match op.doc {
                            Some(doc) => Some(self.store.document(&doc)?),
                            None => None,
                        },
                        deleted: op.doc.is_none(),
                        id: op.key,
                        event: *event_cid,
                    });
                }
                within += 1;
            }
            within = 0;
            clock.0.retain(|known| !change.parents.contains(known));
            clock.0.push(*event_cid);
            clock.0.sort_unstable();
        }
        Ok(Changes {
            rows,
            next: Since {
                clock: Clock(view.heads.clone()),
                within: 0,
            },
            more: false,
        })
    }

    /// All that changed between older heads and now.
    pub(crate) fn changed_between(&self, before: &[Cid]) -> Result<Vec<ChangedDoc>> {
        let since = Since::from(Clock(before.to_vec()));
        Ok(self.changes(&self.view(), &since, usize::MAX)?.rows)
    }

    /// Which of a change's writes are what `get` answers now.
    fn are_current(
        &self,
        view: &View,
        change: &Cid,
        ops: &[crate::clock::Op],
    ) -> Result<Vec<bool>> {
        let root = view.event()?.and_then(|event| event.root);
        let keys: Vec<&[u8]> = ops.iter().map(|op| op.key.as_bytes()).collect();
        let values = prolly::get_many(&*self.store, root.as_ref(), &keys)?;
        let current = values.into_iter().map(|value| match value {
            Some(value) => Ok(Siblings::winner_of(&value)?.0.change == *change),
            None => Ok(false),
        });
        current.collect()
    }

    /// The events after a clock, and at which of them to start.
    fn events_after(&self, view: &View, since: &Clock) -> Result<(Arc<[Cid]>, usize)> {
        if let Some(walk) = self.walk.lock().take()
            && walk.heads == view.heads
            && walk.next == *since
        {
            return Ok((walk.events, walk.at));
        }
        let floor = self.store.log.lock().state.floor.clone();
        for event in &since.0 {
            self.check_known(event)?;
        }
        match events_since(&*self.store, &view.heads, &since.0) {
            Ok(events) => Ok((events.into(), 0)),
            Err(error) => match floor {
                Some(floor) if error.is_missing_block() => Err(Error::Pruned {
                    what: "a change after the given clock".into(),
                    floor: crate::core::clock_text(&floor.clock),
                }),
                _ => Err(error),
            },
        }
    }

    /// Refuses an event that this ledger does not have.
    pub(crate) fn check_known(&self, event: &Cid) -> Result<()> {
        match self.store.event(event) {
            Ok(_) => Ok(()),
            Err(error) if error.is_missing_block() => {
                let floor = self.store.log.lock().state.floor.clone();
                Err(match floor {
                    Some(floor) => Error::Pruned {
                        what: format!("event {event}"),
                        floor: crate::core::clock_text(&floor.clock),
                    },
                    None => Error::Stale {
                        what: format!(
                            "the clock names event {event}, which this ledger does not have"
                        ),
                    },
                })
            }
            Err(error) => Err(error),
        }
    }

    fn keep_walk(&self, view: &View, next: &Clock, events: &Arc<[Cid]>, at: usize) {
        *self.walk.lock() = Some(Walk {
            heads: view.heads.clone(),
            next: next.clone(),
            events: events.clone(),
            at,
        });
    }
}
