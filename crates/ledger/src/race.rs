//! The race that this design exists for, in every interleaving: commits append and publish metas
//! while a compaction runs and replaced files are deleted. The model runs the real [`State`]; beside
//! it runs the way of the system the race was found in, which replaces the whole log by its output.
//!
//! T1 A captures the log [1..3] for its meta; T2 compaction captures; T3 B appends 4; T4 B publishes;
//! T5 A publishes; T6 compaction swaps; T7 replaced files are deleted. And every other order.

use crate::block::{Cid, Codec, sha256};
use crate::store::{CarId, CarMeta, Edit, Location, Position, State, Swap};
use siltstone_storage::Segment;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const OUTPUT: u8 = 100;

fn id(n: u8) -> CarId {
    Cid::from_digest(Codec::CAR, [n; 32])
}

fn car(n: u8) -> Segment<CarId, CarMeta> {
    Segment {
        id: id(n),
        meta: CarMeta {
            bytes: 1,
            blocks: 1,
            index_offset: 0,
            sealed: false,
            level: u8::from(n >= OUTPUT),
            run: u64::from(n),
            location: Location::File,
        },
    }
}

/// How a compaction puts its output in the place of what it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `log = [output]`, whatever came meanwhile; the files of the old log are deleted.
    Naive,
    /// Captured CARs are replaced, appended ones stay, old names are redirected.
    Ours,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Compactor {
    Idle,
    Captured(Vec<CarId>),
    Written(Vec<CarId>, u8),
    Done,
}

#[derive(Debug, Clone)]
struct World {
    way: Way,
    state: State,
    /// The log of the naive way.
    log: Vec<CarId>,
    /// Files: what records each CAR holds.
    files: BTreeMap<CarId, BTreeSet<u8>>,
    /// Old name to what it held then: what redirect files say.
    redirects: BTreeMap<CarId, Vec<CarId>>,
    /// Per writer: the steps done, and the log it captured for its meta.
    writers: Vec<(u8, Vec<CarId>)>,
    /// Published metas: the names in them and the records that they promise.
    metas: Vec<(Vec<CarId>, BTreeSet<u8>)>,
    compactors: Vec<Compactor>,
    deletable: Vec<CarId>,
    next: u8,
}

impl World {
    fn new(way: Way, writers: usize, compactors: usize) -> Self {
        let mut world = Self {
            way,
            state: State::default(),
            log: Vec::new(),
            files: BTreeMap::new(),
            redirects: BTreeMap::new(),
            writers: vec![(0, Vec::new()); writers],
            metas: Vec::new(),
            compactors: vec![Compactor::Idle; compactors],
            deletable: Vec::new(),
            next: 4,
        };
        for n in 1..=3 {
            world.append(n);
        }
        world
    }

    fn live(&self) -> Vec<CarId> {
        match self.way {
            Way::Naive => self.log.clone(),
            Way::Ours => self.state.cars.live().iter().map(|car| car.id).collect(),
        }
    }

    fn append(&mut self, n: u8) {
        self.files.insert(id(n), [n].into());
        self.log.push(id(n));
        let edit = Edit {
            appended: vec![car(n)],
            ..Edit::default()
        };
        self.state
            .apply(&edit, 1, 0, Position::default())
            .expect("the edit was checked");
    }

    fn records(&self, cars: &[CarId]) -> Option<BTreeSet<u8>> {
        let mut all = BTreeSet::new();
        for car in cars {
            all.extend(self.files.get(car)?);
        }
        Some(all)
    }

    /// Every step that somebody can take now.
    fn steps(&self) -> Vec<(char, usize)> {
        let mut steps = Vec::new();
        for (at, (done, _)) in self.writers.iter().enumerate() {
            if *done < 2 {
                steps.push(('w', at));
            }
        }
        for (at, compactor) in self.compactors.iter().enumerate() {
            if *compactor != Compactor::Done {
                steps.push(('c', at));
            }
        }
        if !self.deletable.is_empty() {
            steps.push(('d', 0));
        }
        steps
    }

    fn step(&mut self, (who, at): (char, usize)) {
        match who {
            'w' => self.write(at),
            'c' => self.compact(at),
            _ => {
                for car in std::mem::take(&mut self.deletable) {
                    self.files.remove(&car);
                }
            }
        }
    }

    /// A writer appends its CAR and remembers the log it saw; then publishes that as its meta.
    fn write(&mut self, at: usize) {
        let (done, seen) = self.writers[at].clone();
        if done == 0 {
            let n = self.next;
            self.next += 1;
            self.append(n);
            self.writers[at] = (1, self.live());
            return;
        }
        // What it acknowledged: all that the log it saw held.
        let promised: BTreeSet<u8> = seen.iter().flat_map(|car| self.held(car)).collect();
        self.metas.push((seen, promised));
        self.writers[at].0 = 2;
    }

    /// The records a name stood for, by the name alone.
    fn held(&self, car: &CarId) -> BTreeSet<u8> {
        let n = car.digest()[0];
        if n < OUTPUT {
            return [n].into();
        }
        let inputs = self.redirects.iter().filter(|(_, to)| to.contains(car));
        inputs.flat_map(|(from, _)| self.held(from)).collect()
    }

    fn compact(&mut self, at: usize) {
        let next = match self.compactors[at].clone() {
            Compactor::Idle => Compactor::Captured(self.live()),
            Compactor::Captured(captured) => match self.records(&captured) {
                None => Compactor::Done,
                Some(records) => {
                    let output = OUTPUT + at as u8;
                    self.files.insert(id(output), records);
                    Compactor::Written(captured, output)
                }
            },
            Compactor::Written(captured, output) => {
                self.swap(captured, output);
                Compactor::Done
            }
            Compactor::Done => Compactor::Done,
        };
        self.compactors[at] = next;
    }

    fn swap(&mut self, captured: Vec<CarId>, output: u8) {
        if self.way == Way::Naive {
            let old = std::mem::replace(&mut self.log, vec![id(output)]);
            self.deletable
                .extend(old.into_iter().filter(|car| *car != id(output)));
            return;
        }
        let edit = Edit {
            swap: Some(Swap {
                captured: captured.clone(),
                outputs: vec![car(output)],
                redirects_added: Vec::new(),
                redirects_removed: Vec::new(),
            }),
            ..Edit::default()
        };
        match self.state.check(&edit) {
            Ok(()) => {
                self.state
                    .apply(&edit, 1, 0, Position::default())
                    .expect("the edit was checked");
                // The redirect file is listed by the same edit.
                for from in &captured {
                    self.redirects.insert(*from, vec![id(output)]);
                }
                self.deletable.extend(captured);
            }
            Err(_) => {
                // Lost: its output goes; its redirects were never listed.
                self.files.remove(&id(output));
            }
        }
    }

    /// Where a name leads.
    fn resolve(&self, car: &CarId, live: &[CarId]) -> Vec<CarId> {
        if live.contains(car) || self.way == Way::Naive {
            return vec![*car];
        }
        let to = self.redirects.get(car).cloned().unwrap_or_default();
        to.iter().flat_map(|to| self.resolve(to, live)).collect()
    }

    /// What is wrong now.
    fn broken(&self) -> Option<&'static str> {
        let live = self.live();
        let appended: BTreeSet<u8> = (1..self.next).collect();
        match self.records(&live) {
            None => return Some("a live name dangles"),
            Some(found) if found != appended => return Some("an acknowledged commit is lost"),
            Some(_) => {}
        }
        for (names, promised) in &self.metas {
            let reached: Vec<CarId> = names.iter().flat_map(|n| self.resolve(n, &live)).collect();
            match self.records(&reached) {
                Some(found) if found.is_superset(promised) => {}
                _ => return Some("a published meta leads to nothing"),
            }
        }
        None
    }

    /// The next step in words, as the people who found the race tell it.
    fn tell(&self, (who, at): (char, usize)) -> String {
        let name = |at: usize| char::from(b'A' + at as u8);
        match who {
            'w' if self.writers[at].0 == 0 => {
                let car = self.next;
                format!(
                    "commit {} appends CAR{car} and notes the log it sees",
                    name(at)
                )
            }
            'w' => format!("commit {} publishes its meta", name(at)),
            'c' => match &self.compactors[at] {
                Compactor::Idle => format!("compaction {} captures the log", at + 1),
                Compactor::Captured(_) => format!("compaction {} writes its output", at + 1),
                _ => format!("compaction {} swaps", at + 1),
            },
            _ => "the replaced files are deleted".to_owned(),
        }
    }
}

/// What a walk found.
#[derive(Debug, Clone, Default)]
pub struct Walked {
    /// Different states, all of them looked at.
    pub states: usize,
    /// Each thing that went wrong, and the shortest order of steps that led to it.
    pub wrong: BTreeMap<&'static str, Vec<String>>,
}

/// Walks every order in which `writers` that each commit once, `compactors` that each run once, and the
/// deletion of replaced files can take their steps, from a log of three CARs.
pub fn walk(way: Way, writers: usize, compactors: usize) -> Walked {
    let mut seen: HashSet<u128> = HashSet::new();
    let mut walked = Walked::default();
    let start = World::new(way, writers, compactors);
    let mut now = vec![(start, Vec::new())];
    while !now.is_empty() {
        let mut next = Vec::new();
        for (world, steps) in now {
            let print = sha256(format!("{world:?}").as_bytes());
            let print = print.first_chunk::<16>().copied().unwrap_or_default();
            if !seen.insert(u128::from_le_bytes(print)) {
                continue;
            }
            if let Some(wrong) = world.broken() {
                walked.wrong.entry(wrong).or_insert_with(|| steps.clone());
            }
            for step in world.steps() {
                let mut after = world.clone();
                after.step(step);
                let mut steps: Vec<String> = steps.clone();
                steps.push(world.tell(step));
                next.push((after, steps));
            }
        }
        now = next;
    }
    walked.states = seen.len();
    walked
}
