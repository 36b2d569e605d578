//! The agents of the model and what each of their steps does to the log, the pins and the blobs.

use siltstone_storage::{Capture, Pins, Segment, SegmentLog};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) type Id = u8;
/// The records a blob holds; the name of an appended segment is also its one record.
pub(crate) type Records = BTreeSet<Id>;

/// Names are fresh for ever: outputs count on from here.
pub(crate) const FIRST_OUTPUT: Id = 100;

/// A mistake that a caller could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// The deleter asks with no pins in hand.
    IgnorePins,
    /// The compactor swaps all that is live when it is done, not what it captured.
    CaptureAgain,
    /// The compactor swaps before its output is written.
    SwapBeforeWrite,
    /// The compactor that lost the race deletes its inputs instead of its output.
    DeleteInputs,
    /// The reader looks at the log first and pins later, in two steps.
    PinLate,
}

/// The model: what may happen, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) appends: u8,
    pub(crate) compactions: u8,
    pub(crate) reads: u8,
    pub(crate) crashes: u8,
    pub(crate) deletion: Deletion,
    pub(crate) mistake: Mistake,
}

/// The two ways to delete replaced segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// Take the names out of the log, then delete the blobs; redirects stay.
    RetireFirst,
    /// Delete the blobs, then take the names and their redirects out of the log.
    DeleteFirst,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Writer {
    Idle,
    /// The blob is there, the log does not list it yet.
    Written(Id),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Compactor {
    Idle,
    Captured(Capture<Id>),
    /// The output is written (or, by mistake, not yet).
    Written(Capture<Id>, Id, Records),
    /// The swap was done by mistake before the write.
    Owes(Id, Records),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reader {
    Idle,
    /// By mistake: has looked and not pinned.
    Looked(u64, Vec<Id>),
    Pinned(u64, Vec<Id>),
    /// Dead; its pin stays until the lease ends.
    Dead(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) log: SegmentLog<Id, ()>,
    pub(crate) pins: Pins,
    pub(crate) blobs: BTreeMap<Id, Records>,
    pub(crate) acknowledged: Records,
    pub(crate) replaced: BTreeSet<Id>,
    pub(crate) replaced_twice: bool,
    pub(crate) writers: [Writer; 2],
    pub(crate) compactors: [Compactor; 2],
    pub(crate) reader: Reader,
    /// What the deleter was handed and has not deleted yet.
    pub(crate) deleting: Vec<Id>,
    /// What the deleter has deleted and the log still lists as replaced.
    pub(crate) deleted: Vec<Id>,
    /// Names whose redirects the log has forgotten.
    pub(crate) forgotten: BTreeSet<Id>,
    pub(crate) outputs: u8,
    pub(crate) appends: u8,
    pub(crate) compactions: u8,
    pub(crate) reads: u8,
    pub(crate) crashes: u8,
    pub(crate) seen: Seen,
}

/// What has happened at least once: shows that the model is not vacuous.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) lost_race: bool,
    pub(crate) kept_an_append: bool,
    pub(crate) deleted: bool,
    pub(crate) swept: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    WriteBlob(usize),
    Append(usize),
    Capture(usize, Which),
    WriteOutput(usize),
    Replace(usize),
    PayOutput(usize),
    Look,
    Pin,
    Unpin,
    LeaseEnds,
    TryRetire,
    FindRetirable,
    Delete,
    RemoveRetired,
    Sweep,
    CrashWriter(usize),
    CrashCompactor(usize),
    CrashReader,
    CrashDeleter,
}

/// What a compactor picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Every other segment: a capture with gaps.
    Odd,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            log: SegmentLog::new(),
            pins: Pins::default(),
            blobs: BTreeMap::new(),
            acknowledged: Records::new(),
            replaced: BTreeSet::new(),
            replaced_twice: false,
            writers: [Writer::Idle, Writer::Idle],
            compactors: [Compactor::Idle, Compactor::Idle],
            reader: Reader::Idle,
            deleting: Vec::new(),
            deleted: Vec::new(),
            forgotten: BTreeSet::new(),
            outputs: 0,
            appends: 0,
            compactions: 0,
            reads: 0,
            crashes: 0,
            seen: Seen::default(),
        }
    }

    pub(crate) fn read(&self, ids: &[Id]) -> Option<Records> {
        ids.iter().try_fold(Records::new(), |mut all, id| {
            all.extend(self.blobs.get(id)?);
            Some(all)
        })
    }

    /// Blobs that nothing lists and no living agent is about to list.
    pub(crate) fn orphans(&self) -> Vec<Id> {
        let written = |id: Id| {
            self.writers.contains(&Writer::Written(id))
                || self.compactors.iter().any(|compactor| {
                    matches!(compactor, Compactor::Written(_, output, _) if *output == id)
                })
        };
        let listed = |id: &Id| self.log.get(id).is_some() || self.log.retired().any(|r| r == id);
        self.blobs
            .keys()
            .copied()
            .filter(|id| !listed(id) && !written(*id) && !self.deleting.contains(id))
            .collect()
    }

    pub(crate) fn pinned(&self) -> &[Id] {
        match &self.reader {
            Reader::Pinned(_, ids) => ids,
            _ => &[],
        }
    }

    fn replace(&mut self, model: &Bounds, which: usize) -> Option<()> {
        let busy = std::mem::replace(&mut self.compactors[which], Compactor::Idle);
        let Compactor::Written(mut capture, output, records) = busy else {
            return None;
        };
        let appended_since = self.log.live().len() > capture.ids().len();
        if model.mistake == Mistake::CaptureAgain {
            capture = self.log.capture(|_| true);
        }
        let segment = Segment {
            id: output,
            meta: (),
        };
        if self.log.replace(&capture, vec![segment]).is_err() {
            self.seen.lost_race = true;
            match model.mistake {
                Mistake::DeleteInputs => capture.ids().iter().for_each(|id| {
                    self.blobs.remove(id);
                }),
                _ => {
                    self.blobs.remove(&output);
                }
            }
            return Some(());
        }
        self.seen.kept_an_append |= appended_since;
        for id in capture.ids() {
            self.replaced_twice |= !self.replaced.insert(*id);
        }
        if model.mistake == Mistake::SwapBeforeWrite {
            self.compactors[which] = Compactor::Owes(output, records);
        }
        Some(())
    }

    pub(crate) fn step(&mut self, model: &Bounds, action: Action) -> Option<()> {
        match action {
            Action::WriteBlob(writer) => {
                self.appends += 1;
                let id = self.appends;
                self.blobs.insert(id, Records::from([id]));
                self.writers[writer] = Writer::Written(id);
            }
            Action::Append(writer) => {
                let Writer::Written(id) = self.writers[writer] else {
                    return None;
                };
                self.log.append(Segment { id, meta: () }).ok()?;
                self.acknowledged.insert(id);
                self.writers[writer] = Writer::Idle;
            }
            Action::Capture(compactor, which) => {
                self.compactions += 1;
                let mut place = 0;
                let capture = self.log.capture(|_| {
                    place += 1;
                    which == Which::All || place % 2 == 1
                });
                self.compactors[compactor] = Compactor::Captured(capture);
            }
            Action::WriteOutput(compactor) => {
                let Compactor::Captured(capture) = self.compactors[compactor].clone() else {
                    return None;
                };
                // An input that is gone was replaced by the other compactor: give up.
                self.compactors[compactor] = match self.read(capture.ids()) {
                    None => Compactor::Idle,
                    Some(records) => {
                        let output = FIRST_OUTPUT + self.outputs;
                        self.outputs += 1;
                        if model.mistake != Mistake::SwapBeforeWrite {
                            self.blobs.insert(output, records.clone());
                        }
                        Compactor::Written(capture, output, records)
                    }
                };
            }
            Action::Replace(compactor) => self.replace(model, compactor)?,
            Action::PayOutput(compactor) => {
                let owed = std::mem::replace(&mut self.compactors[compactor], Compactor::Idle);
                let Compactor::Owes(output, records) = owed else {
                    return None;
                };
                self.blobs.insert(output, records);
            }
            Action::Look => {
                self.reads += 1;
                let live: Vec<Id> = self.log.live().iter().map(|segment| segment.id).collect();
                let version = self.log.version();
                self.reader = match model.mistake {
                    Mistake::PinLate => Reader::Looked(version, live),
                    _ => {
                        self.pins.pin(version);
                        Reader::Pinned(version, live)
                    }
                };
            }
            Action::Pin => {
                let Reader::Looked(version, live) = self.reader.clone() else {
                    return None;
                };
                self.pins.pin(version);
                self.reader = Reader::Pinned(version, live);
            }
            Action::Unpin | Action::LeaseEnds => {
                let (Reader::Pinned(version, _) | Reader::Dead(version)) = self.reader else {
                    return None;
                };
                self.pins.unpin(version);
                self.reader = Reader::Idle;
            }
            Action::TryRetire => {
                let nobody = Pins::default();
                let pins = match model.mistake {
                    Mistake::IgnorePins => &nobody,
                    _ => &self.pins,
                };
                self.deleting = self.log.try_retire(pins);
                if self.deleting.is_empty() {
                    return None;
                }
            }
            Action::FindRetirable => {
                let nobody = Pins::default();
                let pins = match model.mistake {
                    Mistake::IgnorePins => &nobody,
                    _ => &self.pins,
                };
                self.deleting = self.log.retirable(pins);
                if self.deleting.is_empty() {
                    return None;
                }
            }
            Action::Delete => {
                let id = self.deleting.pop()?;
                self.blobs.remove(&id);
                self.seen.deleted = true;
                if self.log.retired().any(|retired| *retired == id) {
                    self.deleted.push(id);
                }
            }
            Action::RemoveRetired => {
                let deleted = std::mem::take(&mut self.deleted);
                self.log.remove_retired(&deleted);
                self.forgotten.extend(deleted);
            }
            Action::Sweep => {
                for id in self.orphans() {
                    self.blobs.remove(&id);
                }
                self.seen.swept = true;
            }
            Action::CrashWriter(writer) => self.writers[writer] = Writer::Idle,
            Action::CrashCompactor(compactor) => self.compactors[compactor] = Compactor::Idle,
            Action::CrashReader => {
                let Reader::Pinned(version, _) = self.reader else {
                    return None;
                };
                self.reader = Reader::Dead(version);
            }
            Action::CrashDeleter => {
                self.deleting.clear();
                self.deleted.clear();
            }
        }
        Some(())
    }

    pub(crate) fn is_crash(action: &Action) -> bool {
        matches!(
            action,
            Action::CrashWriter(_)
                | Action::CrashCompactor(_)
                | Action::CrashReader
                | Action::CrashDeleter
        )
    }
}
