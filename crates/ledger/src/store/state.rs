//! The state of a ledger, and the edits that change it: pure values. The manifest holds a state, the
//! journal the edits since; applying them in order gives the state of now. A commit's head, its CARs
//! and the log change in one edit, so no head is ever published whose CARs are not in the log, and no
//! CAR is in the log whose head is not published.

use super::car_ref::{CarId, CarMeta, Location};
use super::journal::Position;
use super::redirects::RedirectFile;
use crate::block::Cid;
use serde::{Deserialize, Serialize};
use siltstone_storage::{Capture, ManifestState, Segment, SegmentLog};
use std::collections::{BTreeMap, BTreeSet};

/// The version of encoded states and edits.
const VERSION: u8 = 1;
/// The same with CARs that are in a remote only. Written only for those, so that builds which know of none
/// read all others.
const VERSION_AWAY: u8 = 2;

/// What is below a prune: reads there are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The events that were the heads at the boundary; their maps are kept.
    pub clock: Vec<Cid>,
    /// The highest lamport number among what was dropped.
    pub lamport: u64,
}

/// Totals over the ledger's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Events written or received.
    pub commits: u64,
    /// Compactions that were swapped in.
    pub compactions: u64,
    /// Number of the next run of CARs.
    pub next_run: u64,
    /// Number of the next redirect file.
    pub next_redirect: u64,
}

/// All that a ledger decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The log of CARs: live, and replaced but not yet deleted.
    pub cars: SegmentLog<CarId, CarMeta>,
    /// Where the replaced CARs that are not yet deleted are.
    pub retired: BTreeMap<CarId, CarMeta>,
    /// The clock: the head events, sorted. Empty before the first commit.
    pub heads: Vec<Cid>,
    /// Records from here on are to be applied.
    pub journal: Position,
    /// Journal files whose last record was torn by a crash and cut off, and where.
    pub cuts: BTreeMap<u64, u64>,
    /// Where the names of replaced CARs lead.
    pub redirects: Vec<RedirectFile>,
    /// Set by a prune.
    pub floor: Option<Floor>,
    /// What other parts keep with the state: the push state of remotes, roots of indexes. Keys start
    /// with `remote/` or `index/`.
    pub notes: BTreeMap<String, Vec<u8>>,
    /// Totals.
    pub counters: Counters,
}

/// The swap of a compaction or a prune.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// What was captured.
    pub captured: Vec<CarId>,
    /// What stands in its place.
    pub outputs: Vec<Segment<CarId, CarMeta>>,
    /// Redirect files that the swap adds.
    pub redirects_added: Vec<RedirectFile>,
    /// Numbers of those that they replace.
    pub redirects_removed: Vec<u64>,
}

/// One change of the state, all or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The clock after it, if it moves.
    pub heads: Option<Vec<Cid>>,
    /// Events in it.
    pub commits: u64,
    /// CARs at the end of the log. A location in journal 0 is an offset in this record's body.
    pub appended: Vec<Segment<CarId, CarMeta>>,
    /// A compaction's or a prune's swap.
    pub swap: Option<Swap>,
    /// Replaced CARs whose blobs are deleted.
    pub forgotten: Vec<CarId>,
    /// The floor after it, if it moves.
    pub floor: Option<Floor>,
    /// Notes to set, or to remove.
    pub notes: Vec<(String, Option<Vec<u8>>)>,
}

impl Edit {
    /// The edit as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let outputs = self.swap.iter().flat_map(|swap| &swap.outputs);
        let cars = self.appended.iter().chain(outputs);
        encode(self, cars.map(|car| &car.meta))
    }

    /// The edit from bytes, or what is wrong with them.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }

    /// True when it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an edit does not fit a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A captured CAR is no longer live: another compaction was swapped in.
    #[error("a captured CAR was replaced by another compaction")]
    Gone,
    /// A CAR of this name is there already.
    #[error("CAR {0} is in the log already")]
    Taken(CarId),
}

impl State {
    /// Whether [`State::apply`] will take an edit.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, edit: &Edit) -> Result<(), Misfit> {
        let outputs = edit.swap.iter().flat_map(|swap| &swap.outputs);
        for car in edit.appended.iter().chain(outputs) {
            if self.has(&car.id) {
                return Err(Misfit::Taken(car.id));
            }
        }
        let Some(swap) = &edit.swap else {
            return Ok(());
        };
        let live = self.cars.live().iter().map(|segment| segment.id);
        let live: BTreeSet<CarId> = live.collect();
        match swap.captured.iter().all(|id| live.contains(id)) {
            true => Ok(()),
            false => Err(Misfit::Gone),
        }
    }

    /// True when a CAR is live, or replaced and not yet deleted.
    pub fn has(&self, id: &CarId) -> bool {
        self.retired.contains_key(id) || self.cars.get(id).is_some()
    }

    /// Applies an edit whose record's body is in journal `number` from `body_at` on; `end` is where
    /// the next record goes.
    ///
    /// # Errors
    /// Why the edit does not fit the state; then nothing is changed.
    pub fn apply(
        &mut self,
        edit: &Edit,
        number: u64,
        body_at: u64,
        end: Position,
    ) -> Result<(), String> {
        if let Some(swap) = &edit.swap {
            self.swap(swap)?;
        }
        for car in &edit.appended {
            let mut car = car.clone();
            car.meta.location = car.meta.location.placed(number, body_at);
            self.counters.next_run = self.counters.next_run.max(car.meta.run + 1);
            self.cars.append(car).map_err(|e| e.to_string())?;
        }
        self.cars.remove_retired(&edit.forgotten);
        for id in &edit.forgotten {
            self.retired.remove(id);
        }
        if let Some(heads) = &edit.heads {
            self.heads.clone_from(heads);
        }
        if let Some(floor) = &edit.floor {
            self.floor = Some(floor.clone());
        }
        for (key, value) in &edit.notes {
            match value {
                Some(value) => self.notes.insert(key.clone(), value.clone()),
                None => self.notes.remove(key),
            };
        }
        self.counters.commits += edit.commits;
        self.journal = end;
        Ok(())
    }

    /// Swaps the captured CARs for the outputs. The log's own redirects are dropped: the redirect
    /// files, which are durable by now, have them.
    fn swap(&mut self, swap: &Swap) -> Result<(), String> {
        let captured: BTreeSet<CarId> = swap.captured.iter().copied().collect();
        let capture: Capture<CarId> = self.cars.capture(|segment| captured.contains(&segment.id));
        if capture.ids().len() != captured.len() {
            return Err("a captured CAR was replaced by another compaction".into());
        }
        let metas: Vec<_> = self
            .cars
            .live()
            .iter()
            .filter(|segment| captured.contains(&segment.id))
            .map(|segment| (segment.id, segment.meta))
            .collect();
        self.cars
            .replace(&capture, swap.outputs.clone())
            .map_err(|e| e.to_string())?;
        self.cars.forget_redirects(capture.ids());
        self.retired.extend(metas);
        for output in &swap.outputs {
            self.counters.next_run = self.counters.next_run.max(output.meta.run + 1);
        }
        self.redirects
            .retain(|file| !swap.redirects_removed.contains(&file.number));
        self.redirects.extend(swap.redirects_added.iter().cloned());
        for file in &swap.redirects_added {
            self.counters.next_redirect = self.counters.next_redirect.max(file.number + 1);
        }
        self.counters.compactions += 1;
        Ok(())
    }

    /// The state as it is where every CAR is a file of its own: nothing is replaced, no journal is there,
    /// and no index, which each store builds for itself.
    pub(crate) fn in_files(mut self) -> Self {
        let retired: Vec<CarId> = self.cars.retired().copied().collect();
        self.cars.remove_retired(&retired);
        let moved = self
            .cars
            .capture(|car| matches!(car.meta.location, Location::Journal { .. }));
        let moved = self
            .cars
            .relabel(&moved, |meta| meta.location = Location::File);
        moved.expect("what was captured just now is live");
        self.retired.clear();
        self.cuts.clear();
        self.notes.retain(|key, _| !key.starts_with("index/"));
        self.journal = Position {
            number: 1,
            offset: 0,
        };
        self
    }

    /// The journal files in which CARs lie that are live, or replaced and not among `deleted`.
    pub fn journals_in_use(&self, deleted: &BTreeSet<CarId>) -> BTreeSet<u64> {
        let live = self.cars.live().iter().map(|segment| &segment.meta);
        let retired = self.retired.iter();
        let retired = retired.filter(|(id, _)| !deleted.contains(id));
        live.chain(retired.map(|(_, meta)| meta))
            .filter_map(|meta| match meta.location {
                Location::Journal { number, .. } => Some(number),
                Location::File | Location::Away => None,
            })
            .collect()
    }
}

impl Location {
    /// The location once the record that brings the CAR has its place.
    fn placed(self, in_journal: u64, body_at: u64) -> Self {
        match self {
            Self::Journal { number: 0, offset } => Self::Journal {
                number: in_journal,
                offset: body_at.saturating_add(offset),
            },
            other => other,
        }
    }
}

fn encode<'a>(value: &impl Serialize, mut cars: impl Iterator<Item = &'a CarMeta>) -> Vec<u8> {
    let mut bytes = match cars.any(|car| car.location == Location::Away) {
        true => vec![VERSION_AWAY],
        false => vec![VERSION],
    };
    bytes.extend(postcard::to_stdvec(value).expect("a state always serializes"));
    bytes
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&(VERSION | VERSION_AWAY), rest)) => {
            postcard::from_bytes(rest).map_err(|e| e.to_string())
        }
        Some((found, _)) => Err(format!(
            "version {found}; this build reads up to {VERSION_AWAY}. Upgrade siltstone"
        )),
        None => Err("it is empty".into()),
    }
}

impl ManifestState for State {
    fn encode(&self) -> Vec<u8> {
        let live = self.cars.live().iter().map(|car| &car.meta);
        encode(self, live.chain(self.retired.values()))
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Cid {
        Cid::from_digest(crate::block::Codec::CAR, [n; 32])
    }

    fn car(n: u8, location: Location) -> Segment<CarId, CarMeta> {
        Segment {
            id: id(n),
            meta: CarMeta {
                bytes: 100,
                blocks: 3,
                index_offset: 80,
                sealed: false,
                level: 0,
                run: u64::from(n),
                location,
            },
        }
    }

    fn append(n: u8) -> Edit {
        Edit {
            heads: Some(vec![id(n)]),
            commits: 1,
            appended: vec![car(
                n,
                Location::Journal {
                    number: 0,
                    offset: 5,
                },
            )],
            ..Edit::default()
        }
    }

    #[test]
    fn a_swap_keeps_what_came_since_the_capture_and_an_edit_survives_its_bytes() {
        let mut state = State::default();
        let end = Position {
            number: 4,
            offset: 9,
        };
        for n in 1..=3 {
            let edit = append(n);
            assert_eq!(Edit::decode(&edit.encode()).unwrap(), edit);
            state.apply(&edit, 4, 1000, end).unwrap();
        }
        let swap = Edit {
            swap: Some(Swap {
                captured: vec![id(1), id(2)],
                outputs: vec![car(9, Location::File)],
                redirects_added: Vec::new(),
                redirects_removed: Vec::new(),
            }),
            ..Edit::default()
        };
        state.apply(&swap, 4, 0, end).unwrap();
        let live: Vec<_> = state.cars.live().iter().map(|s| s.id.digest()[0]).collect();
        assert_eq!(live, [9, 3]);
        assert_eq!(state.heads, [id(3)]);
        assert_eq!(state.retired.len(), 2);
        let at = state.cars.get(&id(3)).unwrap().meta.location;
        assert_eq!(
            at,
            Location::Journal {
                number: 4,
                offset: 1005
            }
        );
        let before = state.clone();
        assert!(state.apply(&swap, 4, 0, end).is_err());
        assert_eq!(state, before);
        let bytes = ManifestState::encode(&state);
        assert_eq!(State::decode(&bytes).unwrap(), state);
        for cut in 0..bytes.len() {
            assert!(State::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn only_what_names_a_car_in_a_remote_is_of_the_second_version() {
        let end = Position {
            number: 4,
            offset: 9,
        };
        let mut state = State::default();
        for (location, version) in [(Location::File, VERSION), (Location::Away, VERSION_AWAY)] {
            let edit = Edit {
                appended: vec![car(version, location)],
                ..Edit::default()
            };
            assert_eq!(edit.encode()[0], version);
            assert_eq!(Edit::decode(&edit.encode()).unwrap(), edit);
            state.apply(&edit, 4, 0, end).unwrap();
            let bytes = ManifestState::encode(&state);
            assert_eq!(bytes[0], version);
            assert_eq!(State::decode(&bytes).unwrap(), state);
        }
        let swap = Edit {
            swap: Some(Swap {
                captured: vec![id(VERSION_AWAY)],
                outputs: vec![car(9, Location::File)],
                redirects_added: Vec::new(),
                redirects_removed: Vec::new(),
            }),
            ..Edit::default()
        };
        state.apply(&swap, 4, 0, end).unwrap();
        // Until it is deleted.
        assert_eq!(ManifestState::encode(&state)[0], VERSION_AWAY);
        let deleted = Edit {
            forgotten: vec![id(VERSION_AWAY)],
            ..Edit::default()
        };
        state.apply(&deleted, 4, 0, end).unwrap();
        assert_eq!(ManifestState::encode(&state)[0], VERSION);
    }
}
