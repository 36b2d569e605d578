//! Dropping history: a command of its own, with its own proof.
//!
//! The boundary is an event that every event kept descends from, and that descends from every event
//! dropped; so nothing kept ever needs what is dropped to be merged with a replica that knows the
//! boundary. Its map is kept whole. New CARs are written with the blocks that the kept events lead to,
//! checked against that set, and swapped in as a compaction is, with the floor in the same edit. Reads
//! below the floor are refused by name from then on, and so is a replica that has not seen the boundary.

use crate::block::{Blocks, Cid};
use crate::changes::Clock;
use crate::clock::{Siblings, events_since};
use crate::compaction::{Captured, CompactionReport, Output, Strategy};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::prolly::{Direction, KeyRange, Scan};
use crate::store::{Floor, HashAddresses};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What a prune keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// The events of this clock and everything after them.
    Clock(Clock),
    /// What was written within this time before now, by the authors' clocks.
    Age(Duration),
    /// The newest so many versions of the ledger: events.
    Versions(u64),
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The boundary: everything at or after it is kept. Empty: there was nothing to drop.
    pub floor: Clock,
    /// Events dropped.
    pub events: u64,
    /// What the rewriting of CARs did.
    pub compaction: CompactionReport,
}

/// The blocks that stay.
#[derive(Debug)]
struct Kept(HashSet<Cid, HashAddresses>);

impl Strategy for Kept {
    fn name(&self) -> &str {
        "prune"
    }

    fn compact(&self, captured: &Captured<'_>, output: &mut Output<'_>) -> Result<()> {
        captured.for_each(|block| match self.0.contains(&block.cid) {
            true => output.copy(&block),
            false => Ok(()),
        })
    }
}

impl Ledger {
    /// Drops history that `keep` does not ask for. The current state is unchanged. The boundary is the
    /// newest event at or before what was asked for through which all of the history passes.
    ///
    /// # Errors
    /// [`Error::Stale`] or [`Error::Pruned`] for a clock that is not here; [`Error::CompactionLost`]
    /// when a merge or a compaction came between: nothing is changed, prune again; [`Error::Away`] while
    /// an archive is in a remote only.
    pub fn prune(&self, keep: &Keep) -> Result<PruneReport> {
        let core = self.core();
        core.store.check_writer()?;
        core.check_all_here()?;
        let held = self.snapshot();
        let events = core.history_in_order(&held.view().heads)?;
        let Some(at) = core.boundary(&events, keep)? else {
            return Ok(PruneReport::default());
        };
        let boundary = events[at];
        let decoded = core.store.event(&boundary)?;
        let floor = Floor {
            clock: vec![boundary],
            lamport: core.store.change(&decoded.change)?.lamport - 1,
        };
        let Some(mut compaction) = core.capture_for_prune() else {
            return Ok(PruneReport::default());
        };
        let kept = Kept(core.reachable(&events[at..])?);
        compaction.copy_kept(&kept, |cid| kept.0.contains(cid))?;
        drop(held);
        let captured = compaction.captured();
        core.store.pruned.lock().extend(captured);
        let compaction = compaction.swap_with_floor(floor, events[events.len() - 1])?;
        // Nodes and documents that are gone must not be answered from memory.
        self.drop_caches();
        Ok(PruneReport {
            floor: Clock(vec![boundary]),
            events: at as u64,
            compaction,
        })
    }
}

impl Core {
    /// Refuses to judge what is still needed while a part of it is in a remote only.
    fn check_all_here(&self) -> Result<()> {
        let live = self.store.log.lock().state.cars.live().to_vec();
        match live.iter().find(|car| self.store.cars.is_away(&car.id)) {
            Some(car) => Err(Error::Away {
                car: car.id,
                why: "a prune needs every archive here; sync with everything first".into(),
            }),
            None => Ok(()),
        }
    }

    /// All events that are here, oldest first.
    fn history_in_order(&self, heads: &[Cid]) -> Result<Vec<Cid>> {
        let floor = self.store.log.lock().state.floor.clone();
        match floor {
            None => events_since(&*self.store, heads, &[]),
            Some(floor) => {
                let mut events = floor.clock.clone();
                events.extend(events_since(&*self.store, heads, &floor.clock)?);
                Ok(events)
            }
        }
    }

    /// The newest event at or before what is asked for that all of the history passes through; `None`
    /// when nothing lies below it.
    fn boundary(&self, events: &[Cid], keep: &Keep) -> Result<Option<usize>> {
        let places: HashMap<Cid, usize, HashAddresses> = events
            .iter()
            .enumerate()
            .map(|(at, cid)| (*cid, at))
            .collect();
        let mut parents: Vec<Vec<usize>> = Vec::with_capacity(events.len());
        let mut times = Vec::with_capacity(events.len());
        for cid in events {
            let change = self.store.change(&self.store.event(cid)?.change)?;
            let known = change
                .parents
                .iter()
                .filter_map(|parent| places.get(parent));
            parents.push(known.copied().collect());
            times.push(change.time);
        }
        let wanted = match keep {
            Keep::Clock(clock) => {
                let mut lowest = events.len();
                for event in &clock.0 {
                    self.check_known(event)?;
                    let place = places.get(event).ok_or_else(|| Error::Stale {
                        what: format!("event {event} is not part of the ledger's history"),
                    })?;
                    lowest = lowest.min(*place);
                }
                lowest
            }
            Keep::Age(age) => {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                let since = self.now_ms().saturating_sub(age);
                // The newest state from before is still wanted: it is what was current then.
                let first = times.iter().position(|time| *time >= since);
                first.unwrap_or(events.len()).saturating_sub(1)
            }
            Keep::Versions(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX).max(1);
                events.len().saturating_sub(count)
            }
        };
        // From each place on: the oldest parent that anything after it names.
        let mut oldest_parent = vec![usize::MAX; events.len() + 1];
        for at in (0..events.len()).rev() {
            let own = parents[at].iter().copied().min().unwrap_or(0);
            oldest_parent[at] = oldest_parent[at + 1].min(own);
        }
        let mut open: HashSet<usize> = HashSet::new();
        let mut best = None;
        for at in 0..events.len() {
            for parent in &parents[at] {
                open.remove(parent);
            }
            open.insert(at);
            if at <= wanted && open.len() == 1 && oldest_parent[at + 1] >= at {
                best = Some(at);
            }
        }
        Ok(best.filter(|at| *at > 0))
    }

    /// Every block that these events lead to, their parents left out.
    fn reachable(&self, events: &[Cid]) -> Result<HashSet<Cid, HashAddresses>> {
        let store = &*self.store;
        let mut kept: HashSet<Cid, HashAddresses> = HashSet::default();
        let mut documents: HashSet<Cid, HashAddresses> = HashSet::default();
        for cid in events {
            kept.insert(*cid);
            let event = store.event(cid)?;
            kept.insert(event.change);
            let change = store.change(&event.change)?;
            kept.extend(change.chunks());
            for op in change.ops(store) {
                documents.extend(op?.doc);
            }
            let mut open: Vec<(Cid, bool)> = Vec::new();
            open.extend(event.root.map(|root| (root, true)));
            open.extend(event.conflicts.map(|root| (root, false)));
            while let Some((node, is_map)) = open.pop() {
                if !kept.insert(node) {
                    continue;
                }
                let decoded = store.node(&node)?;
                if decoded.level() > 0 {
                    open.extend(decoded.children().map(|child| (child, is_map)));
                    continue;
                }
                if !is_map {
                    continue;
                }
                let mut scan = Scan::new(store, Some(node), KeyRange::all(), Direction::Ascending);
                while let Some((_, value)) = scan.advance()? {
                    let siblings = Siblings::decode(value)?;
                    documents.extend(siblings.all().iter().filter_map(|sibling| sibling.doc));
                }
            }
        }
        let mut linked = Vec::new();
        for document in &documents {
            match self.store.cars.read(document, &self.store.cache) {
                Ok(bytes) => self.linked(&bytes, &mut linked)?,
                // What the boundary's own event wrote may be gone since an earlier prune.
                Err(error) if error.is_missing_block() => {}
                Err(error) => return Err(error),
            }
        }
        kept.extend(documents);
        kept.extend(linked);
        Ok(kept)
    }

    fn capture_for_prune(self: &Arc<Self>) -> Option<crate::compaction::Compaction> {
        let live = self.store.log.lock().state.cars.live().to_vec();
        let level = live.iter().map(|car| car.meta.level).max()?;
        Some(crate::compaction::Compaction::new(
            self.clone(),
            live,
            level.max(1),
        ))
    }
}
