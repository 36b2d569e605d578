//! A ledger at one moment: now, an old clock, an old meta. What it reads is pinned.

use crate::block::{Blocks, Cid, MemBlocks, Staged};
use crate::changes::Clock;
use crate::clock::{Change, Event};
use crate::core::{Core, View, clock_text};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::merge;
use crate::prolly::Node;
use crate::reading::{AllDocs, Conflict, History, Page, Reading};
use crate::store::lapsed;
use bytes::Bytes;
use std::sync::Arc;

/// A ledger at one moment. It stays readable until it is dropped.
#[derive(Debug)]
pub struct Snapshot {
    core: Arc<Core>,
    view: Arc<View>,
    /// Blocks of a merge that was made for this clock only.
    scratch: Option<MemBlocks>,
    /// The version of the log that is pinned.
    version: u64,
    /// How often the pin of a reader had lapsed when it was made.
    lapses: u64,
}

impl Snapshot {
    pub(crate) fn of_now(core: Arc<Core>) -> Self {
        let lapses = core.lapses();
        let (view, version) = {
            let mut log = core.store.log.lock();
            let version = log.state.cars.version();
            log.pins.pin(version);
            // The view changes under this lock.
            (core.view(), version)
        };
        Self {
            core,
            view,
            scratch: None,
            version,
            lapses,
        }
    }

    pub(crate) fn of_clock(core: Arc<Core>, clock: &Clock) -> Result<Self> {
        let mut snapshot = Self::of_now(core);
        if *clock == Clock(snapshot.view.heads.clone()) {
            return Ok(snapshot);
        }
        let core = snapshot.core.clone();
        if clock.0.is_empty() {
            core.check_nothing_pruned()?;
        }
        for event in &clock.0 {
            core.check_known(event)?;
            core.check_not_below_floor(event)?;
        }
        let (head, blocks) = match &clock.0[..] {
            [] => (None, Vec::new()),
            [one] => (Some(*one), Vec::new()),
            several => {
                let mut staged = Staged::new(&*core.store);
                let head = merge::merge(&mut staged, several)?;
                (head, staged.into_blocks())
            }
        };
        if !blocks.is_empty() {
            let mut scratch = MemBlocks::new();
            scratch.extend(blocks);
            snapshot.scratch = Some(scratch);
        }
        let event = head.map(|head| snapshot.event(&head)).transpose()?;
        snapshot.view = Arc::new(View::new(clock.0.clone(), event));
        Ok(snapshot)
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    fn reading(&self) -> Result<Reading<'_>> {
        if self.core.lapses() != self.lapses {
            return Err(lapsed(self.core.store.options.reader_lease));
        }
        Ok(Reading {
            store: &self.core.store,
            blocks: self,
            event: self.view.event()?,
        })
    }

    /// Its clock.
    pub fn clock(&self) -> Clock {
        Clock(self.view.heads.clone())
    }

    /// A document, as [`Ledger::get`](crate::Ledger::get).
    ///
    /// # Errors
    /// The same.
    pub fn get(&self, id: &str) -> Result<Document> {
        self.reading()?.get(id)
    }

    /// A page of documents, as [`Ledger::all_docs`](crate::Ledger::all_docs).
    ///
    /// # Errors
    /// The same.
    pub fn all_docs(&self, wanted: &AllDocs) -> Result<Page> {
        self.reading()?.all_docs(wanted)
    }

    /// The versions of a document, as [`Ledger::history`](crate::Ledger::history).
    ///
    /// # Errors
    /// The same.
    pub fn history(&self, id: &str, limit: usize) -> Result<History> {
        let pruned = self.core.store.log.lock().state.floor.is_some();
        self.reading()?.history(id, limit, pruned)
    }

    /// The documents in conflict, as [`Ledger::conflicts`](crate::Ledger::conflicts).
    ///
    /// # Errors
    /// The same.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.reading()?.conflicts()
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.core.store.log.lock().pins.unpin(self.version);
    }
}

impl Core {
    pub(crate) fn reading<'a>(&'a self, view: &View) -> Result<Reading<'a>> {
        Ok(Reading {
            store: &self.store,
            blocks: &*self.store,
            event: view.event()?,
        })
    }

    /// Refuses to read before the first event when that is gone.
    fn check_nothing_pruned(&self) -> Result<()> {
        match &self.store.log.lock().state.floor {
            None => Ok(()),
            Some(floor) => Err(Error::Pruned {
                what: "the state before the first event".into(),
                floor: clock_text(&floor.clock),
            }),
        }
    }

    /// Refuses to read at an event from before a prune's boundary. What lies there may be gone in
    /// part; half an answer is none.
    fn check_not_below_floor(&self, event: &Cid) -> Result<()> {
        let Some(floor) = self.store.log.lock().state.floor.clone() else {
            return Ok(());
        };
        let decoded = self.store.event(event)?;
        let change = self.store.change(&decoded.change);
        match change {
            Ok(change) if change.lamport > floor.lamport => Ok(()),
            Ok(_) => Err(Error::Pruned {
                what: format!("event {event}"),
                floor: clock_text(&floor.clock),
            }),
            Err(error) if error.is_missing_block() => Err(Error::Pruned {
                what: format!("event {event}"),
                floor: clock_text(&floor.clock),
            }),
            Err(error) => Err(error),
        }
    }
}

impl Blocks for Snapshot {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        match &self.scratch {
            Some(scratch) if scratch.contains(cid) => scratch.block(cid),
            _ => self.core.store.block(cid),
        }
    }

    fn node(&self, cid: &Cid) -> Result<Arc<Node>> {
        match &self.scratch {
            Some(scratch) if scratch.contains(cid) => scratch.node(cid),
            _ => self.core.store.node(cid),
        }
    }

    fn event(&self, cid: &Cid) -> Result<Event> {
        match &self.scratch {
            Some(scratch) if scratch.contains(cid) => scratch.event(cid),
            _ => self.core.store.event(cid),
        }
    }

    fn change(&self, cid: &Cid) -> Result<Arc<Change>> {
        match &self.scratch {
            Some(scratch) if scratch.contains(cid) => scratch.change(cid),
            _ => self.core.store.change(cid),
        }
    }
}
