//! One sync: pull, push, clean, and what is known of the remote from one to the next.

use super::Inner;
use super::meta::{RemoteCar, RemoteMeta};
use super::note::Note;
use super::retire::Remains;
use super::status::SyncReport;
use crate::block::Cid;
use crate::clock::events_since;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::store::{CarId, Here};
use siltstone_storage::{Blobs, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of a remote. All but the note can be found out again.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// As it is kept; `None` before the first sync.
    pub(super) note: Option<Note>,
    /// The newest meta of each other replica that could be read.
    pub(super) seen: BTreeMap<String, Arc<RemoteMeta>>,
    /// Replicas that are behind, or whose meta cannot be read, with its number.
    pub(super) refused: BTreeMap<String, (u64, Error)>,
    /// The newest meta of ours.
    pub(super) published: Option<RemoteMeta>,
    /// Older ones of ours that are still there, and since when they are old.
    pub(super) old: BTreeMap<u64, Timestamp>,
    /// Where replaced archives lead, as of these redirect files and live archives.
    pub(super) leads: Leads,
}

/// What was looked up in redirect files, and by which state.
#[derive(Debug, Default)]
pub(super) struct Leads {
    pub(super) files: Vec<u64>,
    pub(super) live: BTreeSet<CarId>,
    pub(super) asked: BTreeSet<CarId>,
    pub(super) found: BTreeMap<CarId, Vec<CarId>>,
}

/// One sync.
pub(super) struct Run<'a> {
    pub(super) at: &'a Inner,
    pub(super) core: &'a Arc<Core>,
    pub(super) blobs: &'a dyn Blobs,
    pub(super) known: &'a mut Known,
    /// As it was kept, to see whether it changed.
    kept: Note,
    pub(super) note: Note,
    pub(super) replica: String,
    pub(super) report: SyncReport,
    /// Archives of the remote and their sizes, once they were listed.
    pub(super) listed: BTreeMap<CarId, u64>,
    /// Some replica's meta cannot be read, so nobody knows what it names.
    pub(super) blind: bool,
    /// We were retired, and have not published since.
    pub(super) remains: Option<Remains>,
}

impl Inner {
    /// With what is known of the remote at hand.
    pub(super) fn begin<'a>(
        &'a self,
        core: &'a Arc<Core>,
        known: &'a mut Known,
    ) -> Result<Run<'a>> {
        core.store.check_writable()?;
        let kept = match known.note.take() {
            Some(note) => note,
            None => Note::load(core, &self.remote.name)?,
        };
        Ok(Run {
            at: self,
            core,
            blobs: &*self.remote.blobs,
            known,
            note: kept.clone(),
            kept,
            replica: core.replica()?,
            report: SyncReport::default(),
            listed: BTreeMap::new(),
            blind: false,
            remains: None,
        })
    }

    /// Pulls, pushes and cleans.
    pub(super) fn run(&self, core: &Arc<Core>, known: &mut Known) -> Result<SyncReport> {
        let mut run = self.begin(core, known)?;
        let before = core.view().heads.clone();
        let done = run.pull().and_then(|()| {
            let after = run.core.view().heads.clone();
            run.report.pulled_events = run.events_between(&before, &after);
            run.fill_in()?;
            run.push()?;
            run.end_return()?;
            run.clean()
        });
        // What was found out is worth keeping, however it ended.
        let kept = run.keep();
        done?;
        kept?;
        Ok(run.report)
    }
}

impl Run<'_> {
    /// Makes the note durable, if it changed.
    pub(super) fn keep(&mut self) -> Result<()> {
        if self.note != self.kept {
            let (key, bytes) = self.note.kept(&self.at.remote.name)?;
            self.core.set_note(&key, bytes)?;
            self.kept = self.note.clone();
        }
        self.known.note = Some(self.kept.clone());
        Ok(())
    }

    /// The note was made durable with another edit.
    pub(super) fn kept_with_edit(&mut self) {
        self.kept = self.note.clone();
    }

    /// Ends the sync between two archives when the remote was detached.
    pub(super) fn check_attached(&self) -> Result<()> {
        self.at.core().map(drop)
    }

    /// Archives that others' newest metas name.
    pub(super) fn named_by_others(&self) -> BTreeMap<CarId, RemoteCar> {
        let metas = self.known.seen.values();
        let cars = metas.flat_map(|meta| meta.cars.iter());
        cars.map(|car| (car.id(), *car)).collect()
    }

    /// How many events came between: at least one, where some are in a remote only, for which nothing is
    /// fetched here. A figure for people.
    pub(super) fn events_between(&self, before: &[Cid], after: &[Cid]) -> u64 {
        if before == after {
            return 0;
        }
        let store = &*self.core.store;
        let here = Here(store);
        let floor = store.log.lock().state.floor.clone();
        let (since, beside) = match floor {
            Some(floor) if before.is_empty() => (floor.clock, 1),
            _ => (before.to_vec(), 0),
        };
        let events = events_since(&here, after, &since);
        events.map_or(1, |events| events.len() as u64 + beside)
    }
}
