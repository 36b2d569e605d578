//! The one idea, as a pure value: segments are appended; a compaction captures some of them and
//! swaps exactly those for its output; whoever holds an old name is redirected; a replaced segment
//! is handed out for deletion only when no pin can still see it.
//!
//! Invariants, checked exhaustively in `tests/segment_log_model.rs`: nothing appended is lost, no
//! live name dangles, no pinned segment is handed out, no segment is replaced twice. There is no
//! I/O here; [`ManifestStore`](crate::ManifestStore) makes the value durable.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A live segment: its name and what its owner keeps about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Segment<I, M> {
    /// The name.
    pub id: I,
    /// Level, key range, counts: whatever the engine needs.
    pub meta: M,
}

/// A replaced segment that still waits for its last reader.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Retired<I> {
    id: I,
    /// The first version of the log that no longer lists it.
    since: u64,
}

/// The names a compaction read, in log order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Capture<I> {
    ids: Vec<I>,
}

impl<I> Capture<I> {
    /// The captured names, in log order.
    pub fn ids(&self) -> &[I] {
        &self.ids
    }
}

/// Why a replacement was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError<I: std::fmt::Debug> {
    /// A captured segment is no longer live: another compaction won. Delete the outputs and retry.
    #[error(
        "segment {0:?} was replaced by another compaction; delete the outputs and capture again"
    )]
    Gone(I),
    /// An output carries the name of a live segment.
    #[error("segment {0:?} is already live; outputs need fresh names")]
    Taken(I),
}

/// The live segments in order, the replaced ones that wait for readers, and where old names lead.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SegmentLog<I: Ord, M> {
    version: u64,
    live: Vec<Segment<I, M>>,
    retired: Vec<Retired<I>>,
    redirects: BTreeMap<I, Vec<I>>,
}

impl<I: Ord, M> Default for SegmentLog<I, M> {
    fn default() -> Self {
        Self {
            version: 0,
            live: Vec::new(),
            retired: Vec::new(),
            redirects: BTreeMap::new(),
        }
    }
}

impl<I: Ord + Clone + std::fmt::Debug, M> SegmentLog<I, M> {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the changes; a pin names one of these.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The live segments, oldest first; outputs stand where their first input stood.
    pub fn live(&self) -> &[Segment<I, M>] {
        &self.live
    }

    /// The live segment called `id`.
    pub fn get(&self, id: &I) -> Option<&Segment<I, M>> {
        self.live.iter().find(|segment| segment.id == *id)
    }

    /// Names that were replaced and not yet handed out for deletion.
    pub fn retired(&self) -> impl Iterator<Item = &I> {
        self.retired.iter().map(|retired| &retired.id)
    }

    /// Adds a segment at the end.
    ///
    /// # Errors
    /// [`ReplaceError::Taken`] when the name is live, retired or redirected.
    pub fn append(&mut self, segment: Segment<I, M>) -> Result<(), ReplaceError<I>> {
        self.check_fresh(&segment.id)?;
        self.version += 1;
        self.live.push(segment);
        Ok(())
    }

    /// Names every live segment that `wanted` picks, for a compaction to read.
    pub fn capture(&self, mut wanted: impl FnMut(&Segment<I, M>) -> bool) -> Capture<I> {
        let picked = self.live.iter().filter(|segment| wanted(segment));
        Capture {
            ids: picked.map(|segment| segment.id.clone()).collect(),
        }
    }

    /// Swaps exactly the captured segments for `outputs`, which take the place of the first of
    /// them; what was appended since the capture stays, in order. No outputs: the captured vanish.
    ///
    /// # Errors
    /// [`ReplaceError`]; then nothing is changed.
    pub fn replace(
        &mut self,
        capture: &Capture<I>,
        outputs: Vec<Segment<I, M>>,
    ) -> Result<(), ReplaceError<I>> {
        // Sets, so that a capture of many thousands is swapped within a moment.
        let captured: BTreeSet<&I> = capture.ids.iter().collect();
        let live: BTreeSet<&I> = self.live.iter().map(|segment| &segment.id).collect();
        if let Some(gone) = capture.ids.iter().find(|id| !live.contains(id)) {
            return Err(ReplaceError::Gone(gone.clone()));
        }
        for (at, output) in outputs.iter().enumerate() {
            self.check_fresh(&output.id)?;
            if outputs[..at].iter().any(|other| other.id == output.id) {
                return Err(ReplaceError::Taken(output.id.clone()));
            }
        }
        let first = self
            .live
            .iter()
            .position(|segment| captured.contains(&segment.id))
            .unwrap_or(self.live.len());
        self.version += 1;
        let to: Vec<I> = outputs.iter().map(|output| output.id.clone()).collect();
        self.live.retain(|segment| !captured.contains(&segment.id));
        self.live.splice(first..first, outputs);
        for id in &capture.ids {
            self.redirects.insert(id.clone(), to.clone());
            self.retired.push(Retired {
                id: id.clone(),
                since: self.version,
            });
        }
        Ok(())
    }

    /// Changes what is kept about the captured segments, not their bytes (a move between levels).
    ///
    /// # Errors
    /// [`ReplaceError::Gone`]; then nothing is changed.
    pub fn relabel(
        &mut self,
        capture: &Capture<I>,
        mut change: impl FnMut(&mut M),
    ) -> Result<(), ReplaceError<I>> {
        for id in &capture.ids {
            if self.get(id).is_none() {
                return Err(ReplaceError::Gone(id.clone()));
            }
        }
        self.version += 1;
        for segment in &mut self.live {
            if capture.ids.contains(&segment.id) {
                change(&mut segment.meta);
            }
        }
        Ok(())
    }

    /// The live names that hold what `id` held: itself, or where the redirects lead, or nothing
    /// when its contents are gone or the name was never known.
    pub fn resolve(&self, id: &I) -> Vec<I> {
        let mut found = Vec::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if self.get(id).is_some() {
                if !found.contains(id) {
                    found.push(id.clone());
                }
            } else if let Some(to) = self.redirects.get(id) {
                open.extend(to.iter().rev());
            }
        }
        found
    }

    /// Takes out the replaced segments that no pin can still see; the caller deletes their blobs.
    pub fn try_retire(&mut self, pins: &Pins) -> Vec<I> {
        let oldest = pins.oldest().unwrap_or(u64::MAX);
        let mut free = Vec::new();
        self.retired.retain(|retired| {
            let seen = oldest < retired.since;
            if !seen {
                free.push(retired.id.clone());
            }
            seen
        });
        free
    }

    /// The replaced segments that no pin can still see, left in place.
    pub fn retirable(&self, pins: &Pins) -> Vec<I> {
        let oldest = pins.oldest().unwrap_or(u64::MAX);
        let free = self
            .retired
            .iter()
            .filter(|retired| oldest >= retired.since);
        free.map(|retired| retired.id.clone()).collect()
    }

    /// Takes out replaced segments whose blobs are deleted, and where their names led.
    pub fn remove_retired(&mut self, ids: &[I]) {
        let gone: BTreeSet<&I> = ids.iter().collect();
        self.retired.retain(|retired| !gone.contains(&retired.id));
        self.forget_redirects(ids);
    }

    /// Forgets where `ids` led, once nobody can hold those names: keeps the log bounded.
    pub fn forget_redirects(&mut self, ids: &[I]) {
        for id in ids {
            self.redirects.remove(id);
        }
    }

    fn check_fresh(&self, id: &I) -> Result<(), ReplaceError<I>> {
        let retired = self.retired.iter().any(|retired| retired.id == *id);
        if retired || self.get(id).is_some() || self.redirects.contains_key(id) {
            return Err(ReplaceError::Taken(id.clone()));
        }
        Ok(())
    }
}

/// Who still reads which version of a log. It must stand under the same lock as the log, so that
/// check and hand-out are one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Pins {
    counts: BTreeMap<u64, usize>,
}

impl Pins {
    /// Holds everything that is live at `version`.
    pub fn pin(&mut self, version: u64) {
        *self.counts.entry(version).or_default() += 1;
    }

    /// Lets go of `version` once.
    ///
    /// # Panics
    /// When it is not pinned: a reference count gone wrong must not be survived.
    pub fn unpin(&mut self, version: u64) {
        let count = self
            .counts
            .get_mut(&version)
            .expect("a version is unpinned only by who pinned it");
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&version);
        }
    }

    /// The oldest pinned version.
    pub fn oldest(&self) -> Option<u64> {
        self.counts.keys().next().copied()
    }

    /// How many pins there are.
    pub fn count(&self) -> usize {
        self.counts.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(ids: &[u32]) -> SegmentLog<u32, ()> {
        let mut log = SegmentLog::new();
        for id in ids {
            log.append(Segment { id: *id, meta: () }).unwrap();
        }
        log
    }

    fn ids(log: &SegmentLog<u32, ()>) -> Vec<u32> {
        log.live().iter().map(|s| s.id).collect()
    }

    #[test]
    fn a_replacement_keeps_what_was_appended_since_the_capture() {
        let mut log = log(&[1, 2, 3]);
        let capture = log.capture(|s| s.id != 2);
        log.append(Segment { id: 4, meta: () }).unwrap();
        log.replace(&capture, vec![Segment { id: 9, meta: () }])
            .unwrap();
        assert_eq!(ids(&log), [9, 2, 4]);
        assert_eq!(log.resolve(&1), [9]);
        assert_eq!(log.resolve(&3), [9]);
        assert_eq!(log.resolve(&4), [4]);
        assert!(log.resolve(&77).is_empty());
    }

    #[test]
    fn the_second_of_two_racing_replacements_is_refused_and_changes_nothing() {
        let mut log = log(&[1, 2, 3]);
        let first = log.capture(|s| s.id < 3);
        let second = log.capture(|s| s.id > 1);
        log.replace(&first, vec![Segment { id: 9, meta: () }])
            .unwrap();
        let before = log.clone();
        let refused = log.replace(&second, vec![Segment { id: 10, meta: () }]);
        assert_eq!(refused, Err(ReplaceError::Gone(2)));
        assert_eq!(log, before);
    }

    #[test]
    fn a_pinned_segment_is_not_handed_out_until_its_last_pin_goes() {
        let mut log = log(&[1, 2]);
        let mut pins = Pins::default();
        let version = log.version();
        pins.pin(version);
        pins.pin(version);
        let all = log.capture(|_| true);
        log.replace(&all, vec![]).unwrap();
        assert!(log.try_retire(&pins).is_empty());
        pins.unpin(version);
        assert!(log.try_retire(&pins).is_empty());
        pins.unpin(version);
        assert_eq!(log.try_retire(&pins), [1, 2]);
        assert!(log.try_retire(&pins).is_empty());
    }

    #[test]
    fn a_chain_of_redirects_leads_to_the_live_end() {
        let mut log = log(&[1, 2]);
        let all = log.capture(|_| true);
        log.replace(
            &all,
            vec![Segment { id: 3, meta: () }, Segment { id: 4, meta: () }],
        )
        .unwrap();
        let three = log.capture(|s| s.id == 3);
        log.replace(&three, vec![Segment { id: 5, meta: () }])
            .unwrap();
        assert_eq!(log.resolve(&1), [5, 4]);
        assert_eq!(
            log.append(Segment { id: 1, meta: () }),
            Err(ReplaceError::Taken(1))
        );
    }
}
