//! Deletion: replaced tables go when no view, no reader process and no pinned manifest can still
//! name them; tables of dead writers go at open.

use crate::core::Core;
use crate::error::Result;
use crate::state::DbState;
use crate::types::SegmentId;
use siltstone_storage::ReaderPins;
use std::collections::BTreeSet;

impl Core {
    /// Deletes what can be deleted now. Failures are left for the next time.
    pub(crate) fn collect_garbage(&self) {
        self.discard([]);
        if let Err(error) = self.try_collect_garbage() {
            tracing::debug!(%error, "some replaced tables could not be deleted yet");
        }
    }

    fn try_collect_garbage(&self) -> Result<()> {
        let state = &self.manifest.current().state;
        if state.tables.retired().next().is_none() {
            return Ok(());
        }
        self.move_pins();
        let env = &self.shared.env;
        // Old manifests first: a reader that pins one of them afterwards finds it gone and takes a
        // newer one; a pin that is there by then is seen by the second look.
        let pinned: Vec<u64> = ReaderPins::list(env)?
            .iter()
            .map(|pin| pin.manifest)
            .collect();
        let remaining = self.manifest.sweep(&pinned)?;
        let oldest_pinned = ReaderPins::list(env)?
            .iter()
            .map(|pin| pin.manifest)
            .filter(|manifest| *manifest < self.manifest.current().number)
            .min();
        // One look and one decision, under the lock that views take to pin.
        let pins = self.segment_pins.lock();
        let mut held = pins.clone();
        if let Some(manifest) = oldest_pinned {
            let version = match remaining.contains(&manifest) {
                true => self.manifest.load(manifest)?.state.tables.version(),
                // Swept in the same moment as it was pinned: hold everything this once.
                false => 0,
            };
            held.pin(version);
        }
        let deleted: BTreeSet<SegmentId> = self.deleted.lock().iter().copied().collect();
        let free: Vec<_> = state
            .tables
            .retirable(&held)
            .into_iter()
            .filter(|id| !deleted.contains(id))
            .collect();
        drop(pins);
        for id in &free {
            self.tables.lock().forget(*id);
            self.shared.blob_files.forget(*id);
        }
        let names: Vec<String> = free.iter().map(|id| id.blob()).collect();
        env.blobs.delete_all(&names)?;
        self.deleted.lock().extend(free);
        Ok(())
    }

    /// Lets the views of keyspaces in which nothing happens hold the newest version of the log. The one
    /// of their last flush or compaction holds what other keyspaces have replaced since.
    fn move_pins(&self) {
        let live_of = |state: &DbState| -> BTreeSet<SegmentId> {
            let live = state.tables.live().iter();
            live.map(|segment| segment.id).collect()
        };
        let current = self.manifest.current();
        let version = current.state.tables.version();
        let mut behind: Vec<_> = self.keyspaces.read().values().cloned().collect();
        behind.retain(|core| core.view.load().pin.version() < version);
        if behind.is_empty() {
            return;
        }
        let live = live_of(&current.state);
        behind.retain(|core| core.view.load().is_among(&live));
        // A pin that goes has everybody look for garbage again: none is taken for nothing.
        if behind.is_empty() {
            return;
        }
        let (current, pin) = self.pin_current();
        let live = live_of(&current.state);
        for core in behind {
            core.move_pin(&pin, &live);
        }
    }

    /// Deletes the tables that no manifest lists: leftovers of writers that are fenced by now. A
    /// writer's tables carry its epoch, so a younger writer's are never touched and no clock is
    /// asked.
    pub(crate) fn sweep_orphans(&self) -> Result<usize> {
        let state = &self.manifest.current().state;
        let live = state.tables.live().iter().map(|segment| segment.id);
        let known: BTreeSet<SegmentId> = live.chain(state.tables.retired().copied()).collect();
        let epoch = self.manifest.epoch();
        let mut swept = 0;
        let blobs = &self.shared.env.blobs;
        for name in blobs.names("sst/")?.iter().chain(&blobs.names("blob/")?) {
            let Some(id) = SegmentId::of_blob(name) else {
                continue;
            };
            if id.epoch() < epoch && !known.contains(&id) {
                blobs.delete(name)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}
