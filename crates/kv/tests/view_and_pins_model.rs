//! Scenario 24 under a model checker: opening a scan against replacing the view and deleting what the
//! old view named. The model is the protocol of `view.rs` and `garbage.rs`: a view owns a pin of its
//! version; a scan owns its view; deletion looks at the pins and takes the names in one step.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use stateright::{Checker, Model, Property};

/// How deletion is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletion {
    /// As the engine does: looking at pins and taking names is one step.
    OneStep,
    /// Wrongly: it looks, and deletes later what it saw.
    LookThenDelete,
    /// Wrongly: it does not look.
    Blind,
}

struct Protocol {
    deletion: Deletion,
}

const SCANS: usize = 2;
const VERSIONS: u8 = 3;

/// A scan's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scan {
    Idle,
    /// It holds the view of this version and will read its table.
    Holds(u8),
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The version of the manifest; table `n` is live in version `n` alone.
    manifest: u8,
    /// A version that an installation has pinned and not stored yet.
    installing: Option<u8>,
    /// The version of the view that a new scan gets.
    view: u8,
    /// Pins by version, one of them the view's own.
    pins: [u8; VERSIONS as usize],
    scans: [Scan; SCANS],
    deleted: [bool; VERSIONS as usize],
    looked: Option<[bool; VERSIONS as usize]>,
    read_deleted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Replace,
    Pin,
    Install,
    Open(usize),
    Read(usize),
    Look,
    Delete,
}

impl State {
    fn free(&self) -> [bool; VERSIONS as usize] {
        let oldest = self
            .pins
            .iter()
            .position(|count| *count > 0)
            .unwrap_or(VERSIONS as usize);
        std::array::from_fn(|table| table < self.manifest as usize && oldest > table)
    }

    fn delete(&mut self, tables: [bool; VERSIONS as usize]) {
        for (table, free) in tables.into_iter().enumerate() {
            self.deleted[table] |= free;
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            manifest: 0,
            installing: None,
            view: 0,
            pins: [1, 0, 0],
            scans: [Scan::Idle; SCANS],
            deleted: [false; VERSIONS as usize],
            looked: None,
            read_deleted: false,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        actions.extend([
            Action::Replace,
            Action::Pin,
            Action::Install,
            Action::Look,
            Action::Delete,
        ]);
        actions.extend((0..SCANS).flat_map(|scan| [Action::Open(scan), Action::Read(scan)]));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Replace if last.manifest + 1 < VERSIONS => next.manifest += 1,
            // The newest manifest is looked up and pinned in one step.
            Action::Pin if last.installing.is_none() && last.view < last.manifest => {
                next.installing = Some(last.manifest);
                next.pins[last.manifest as usize] += 1;
            }
            Action::Install => {
                // The old view loses its owner; scans that hold it keep its pin.
                next.pins[last.view as usize] -= 1;
                next.view = next.installing.take()?;
            }
            Action::Open(scan) if last.scans[scan] == Scan::Idle => {
                next.scans[scan] = Scan::Holds(last.view);
                next.pins[last.view as usize] += 1;
            }
            Action::Read(scan) => match last.scans[scan] {
                Scan::Holds(version) => {
                    next.read_deleted |= last.deleted[version as usize];
                    next.pins[version as usize] -= 1;
                    next.scans[scan] = Scan::Done;
                }
                _ => return None,
            },
            Action::Look if self.deletion == Deletion::LookThenDelete => {
                next.looked = Some(last.free())
            }
            Action::Delete => match self.deletion {
                Deletion::OneStep => next.delete(last.free()),
                Deletion::LookThenDelete => {
                    let seen = next.looked.take()?;
                    next.delete(seen);
                }
                Deletion::Blind => {
                    next.delete(std::array::from_fn(|table| table < last.manifest as usize));
                }
            },
            _ => return None,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no use after drop", |_, state: &State| !state.read_deleted),
            Property::sometimes("old tables go", |_, state: &State| {
                state.deleted == [true, true, false]
            }),
        ]
    }
}

fn check(deletion: Deletion) -> (bool, bool) {
    let checker = Protocol { deletion }.checker().spawn_bfs().join();
    let safe = checker.discovery("no use after drop").is_none();
    (safe, checker.discovery("old tables go").is_some())
}

#[test]
fn s24_scan_open_against_drop_has_no_use_after_drop_in_any_interleaving() {
    assert_eq!(check(Deletion::OneStep), (true, true));
    // A check that cannot fail proves nothing: without the pins it finds the use after drop.
    assert!(!check(Deletion::Blind).0);
    // Looking first is only safe because a replaced version is never pinned anew.
    assert_eq!(check(Deletion::LookThenDelete), (true, true));
}
