//! The segment log, checked exhaustively: every interleaving of two writers, two compactors, a
//! reader with a pin, a deleter and a sweep of orphans, with crashes of each, within the bounds
//! below. The model runs the real [`SegmentLog`] and [`Pins`]; around them stands only what their
//! callers do with blobs. Planted mistakes of callers show that the properties can fail.

#[path = "segment_log_model/agents.rs"]
mod agents;

use agents::{
    Action, Bounds, Compactor, Deletion, FIRST_OUTPUT, Mistake, Reader, Records, State, Which,
    Writer,
};
use stateright::{Checker, HasDiscoveries, Model, Property};

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let may_crash = state.crashes < self.crashes;
        for (at, writer) in state.writers.iter().enumerate() {
            match writer {
                Writer::Idle if state.appends < self.appends => {
                    actions.push(Action::WriteBlob(at));
                }
                Writer::Idle => {}
                Writer::Written(_) => {
                    actions.push(Action::Append(at));
                    actions.extend(may_crash.then_some(Action::CrashWriter(at)));
                }
            }
        }
        for (at, compactor) in state.compactors.iter().enumerate() {
            match compactor {
                Compactor::Idle => {
                    if state.compactions < self.compactions && !state.log.live().is_empty() {
                        actions.push(Action::Capture(at, Which::All));
                        if state.log.live().len() > 1 {
                            actions.push(Action::Capture(at, Which::Odd));
                        }
                    }
                    continue;
                }
                Compactor::Captured(_) => actions.push(Action::WriteOutput(at)),
                Compactor::Written(..) => actions.push(Action::Replace(at)),
                Compactor::Owes(..) => actions.push(Action::PayOutput(at)),
            }
            actions.extend(may_crash.then_some(Action::CrashCompactor(at)));
        }
        match &state.reader {
            Reader::Idle if state.reads < self.reads => actions.push(Action::Look),
            Reader::Idle => {}
            Reader::Looked(..) => actions.push(Action::Pin),
            Reader::Pinned(..) => {
                actions.push(Action::Unpin);
                actions.extend(may_crash.then_some(Action::CrashReader));
            }
            Reader::Dead(_) => actions.push(Action::LeaseEnds),
        }
        if !state.deleting.is_empty() {
            actions.push(Action::Delete);
        } else if !state.deleted.is_empty() {
            actions.push(Action::RemoveRetired);
        } else {
            actions.push(match self.deletion {
                Deletion::RetireFirst => Action::TryRetire,
                Deletion::DeleteFirst => Action::FindRetirable,
            });
        }
        if may_crash && !(state.deleting.is_empty() && state.deleted.is_empty()) {
            actions.push(Action::CrashDeleter);
        }
        if !state.orphans().is_empty() {
            actions.push(Action::Sweep);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.crashes += u8::from(State::is_crash(&action));
        next.step(self, action)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NO_LOST_APPEND, |_, state: &State| {
                let live: Vec<u8> = state.log.live().iter().map(|s| s.id).collect();
                state
                    .read(&live)
                    .is_some_and(|records| records.is_superset(&state.acknowledged))
            }),
            Property::always(OLD_NAMES_LEAD, |_, state: &State| {
                let mut known = state.acknowledged.difference(&state.forgotten);
                known.all(|record| {
                    let holders = state.log.resolve(record);
                    state
                        .read(&holders)
                        .is_some_and(|records| records.contains(record))
                })
            }),
            Property::always(NO_DANGLING, |_, state: &State| {
                state
                    .log
                    .live()
                    .iter()
                    .all(|segment| state.blobs.contains_key(&segment.id))
            }),
            Property::always(READER_FINDS_ALL, |_, state: &State| {
                state.pinned().iter().all(|id| state.blobs.contains_key(id))
            }),
            Property::always(NO_PINNED_HANDED_OUT, |_, state: &State| {
                state.deleting.iter().all(|id| !state.pinned().contains(id))
            }),
            Property::always(NO_DOUBLE_REPLACEMENT, |_, state: &State| {
                !state.replaced_twice
            }),
            Property::always("no record is live twice", |_, state: &State| {
                let live = state
                    .log
                    .live()
                    .iter()
                    .filter_map(|s| state.blobs.get(&s.id));
                let mut all = Records::new();
                live.flatten().all(|record| all.insert(*record))
            }),
            Property::sometimes("a compaction happens", |_, state: &State| {
                !state.replaced.is_empty()
            }),
            Property::sometimes("a compaction of an output happens", |_, state: &State| {
                state.replaced.iter().any(|id| *id >= FIRST_OUTPUT)
            }),
            Property::sometimes("a compaction loses the race", |_, state: &State| {
                state.seen.lost_race
            }),
            Property::sometimes("an append survives a swap", |_, s: &State| {
                s.seen.kept_an_append
            }),
            Property::sometimes("a deletion happens", |_, state: &State| state.seen.deleted),
            Property::sometimes("a sweep happens", |_, state: &State| state.seen.swept),
            Property::sometimes("a pin holds a replaced segment", |_, state: &State| {
                state
                    .pinned()
                    .iter()
                    .any(|id| state.log.retired().any(|retired| retired == id))
            }),
            Property::sometimes("a dead reader's pin holds", |_, state: &State| {
                matches!(state.reader, Reader::Dead(_)) && state.log.retired().next().is_some()
            }),
        ]
    }
}

const NO_LOST_APPEND: &str = "no append is lost";
const OLD_NAMES_LEAD: &str = "an old name leads to what it held";
const NO_DANGLING: &str = "no live name dangles";
const READER_FINDS_ALL: &str = "a pinned reader finds all it pinned";
const NO_PINNED_HANDED_OUT: &str = "no pinned segment is handed out";
const NO_DOUBLE_REPLACEMENT: &str = "no segment is replaced twice";

/// Small enough for every run of the tests: seconds.
fn bounds(mistake: Mistake) -> Bounds {
    Bounds {
        appends: 3,
        compactions: 2,
        reads: 2,
        crashes: 1,
        deletion: Deletion::RetireFirst,
        mistake,
    }
}

fn check(bounds: Bounds) {
    let checker = bounds.checker().threads(2).spawn_bfs().join();
    println!(
        "{} states, depth {}",
        checker.unique_state_count(),
        checker.max_depth()
    );
    assert!(checker.is_done());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 100_000);
}

#[test]
fn the_segment_log_keeps_its_promises_in_every_interleaving() {
    check(bounds(Mistake::None));
}

#[test]
fn it_keeps_them_when_blobs_are_deleted_before_their_names() {
    check(Bounds {
        deletion: Deletion::DeleteFirst,
        ..bounds(Mistake::None)
    });
}

/// More of everything: about two million states.
#[test]
#[ignore = "takes a minute; run with -- --ignored"]
fn the_segment_log_keeps_its_promises_within_wider_bounds() {
    check(Bounds {
        compactions: 3,
        reads: 1,
        ..bounds(Mistake::None)
    });
    check(Bounds {
        appends: 4,
        reads: 1,
        ..bounds(Mistake::None)
    });
}

#[test]
fn every_planted_mistake_is_found() {
    for (mistake, property) in [
        (Mistake::IgnorePins, NO_PINNED_HANDED_OUT),
        (Mistake::IgnorePins, READER_FINDS_ALL),
        (Mistake::CaptureAgain, NO_LOST_APPEND),
        (Mistake::SwapBeforeWrite, NO_DANGLING),
        (Mistake::DeleteInputs, NO_LOST_APPEND),
        (Mistake::PinLate, READER_FINDS_ALL),
    ] {
        let wanted = HasDiscoveries::AllOf([property].into());
        let checker = bounds(mistake)
            .checker()
            .threads(2)
            .finish_when(wanted)
            .spawn_bfs()
            .join();
        let found = checker.discovery(property);
        assert!(found.is_some(), "{mistake:?} does not break: {property}");
        checker.assert_any_discovery(property);
    }
}
