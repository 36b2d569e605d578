//! A checker of linearizability for one key, after Wing and Gong, with the memory of places already
//! seen that Lowe adds: an order is sought in which every operation takes effect between its call
//! and its return and every answer is right.

use std::collections::HashSet;

/// What was asked of a key, with what came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Put(u32),
    Delete,
    Get(Option<u32>),
    /// Puts `new` if the key holds `expected`; whether it did.
    PutIf {
        expected: Option<u32>,
        new: u32,
        done: bool,
    },
    DeleteIf {
        expected: u32,
        done: bool,
    },
}

/// An operation with the moments of its call and its return; one that never returned has
/// `u64::MAX` and may or may not have happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) asked: Asked,
    pub(crate) called: u64,
    pub(crate) returned: u64,
}

/// The state after `asked`, if its answer is right in `state`.
fn apply(state: Option<u32>, asked: Asked) -> Option<Option<u32>> {
    let holds = |right: bool, next| right.then_some(next);
    match asked {
        Asked::Put(value) => Some(Some(value)),
        Asked::Delete => Some(None),
        Asked::Get(found) => holds(found == state, state),
        Asked::PutIf {
            expected,
            new,
            done,
        } => match expected == state {
            true => holds(done, Some(new)),
            false => holds(!done, state),
        },
        Asked::DeleteIf { expected, done } => match state == Some(expected) {
            true => holds(done, None),
            false => holds(!done, state),
        },
    }
}

/// True when some order explains every answer; at most 128 operations.
pub(crate) fn is_linearizable(operations: &[Operation]) -> bool {
    assert!(operations.len() <= 128, "one bit each");
    let mut seen = HashSet::new();
    search(operations, 0, None, &mut seen)
}

fn search(
    operations: &[Operation],
    taken: u128,
    state: Option<u32>,
    seen: &mut HashSet<(u128, Option<u32>)>,
) -> bool {
    let left = || {
        let left = |(at, _): &(usize, &Operation)| taken >> at & 1 == 0;
        operations.iter().enumerate().filter(left)
    };
    // Whoever returned must have taken effect; those that never did need not.
    let Some(first_return) = left().map(|(_, one)| one.returned).min() else {
        return true;
    };
    if first_return == u64::MAX {
        return true;
    }
    if !seen.insert((taken, state)) {
        return false;
    }
    left().any(|(at, one)| {
        one.called <= first_return
            && apply(state, one.asked)
                .is_some_and(|next| search(operations, taken | 1 << at, next, seen))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Asked::{Delete, DeleteIf, Get, Put, PutIf};

    fn history(operations: &[(Asked, u64, u64)]) -> bool {
        let of = |(asked, called, returned): &(Asked, u64, u64)| Operation {
            asked: *asked,
            called: *called,
            returned: *returned,
        };
        is_linearizable(&operations.iter().map(of).collect::<Vec<_>>())
    }

    #[test]
    fn good_histories_pass() {
        assert!(history(&[]));
        assert!(history(&[(Put(1), 1, 2), (Get(Some(1)), 3, 4)]));
        // Two that overlap may take effect either way.
        for found in [Some(1), Some(2)] {
            assert!(history(&[
                (Put(1), 1, 4),
                (Put(2), 2, 3),
                (Get(found), 5, 6)
            ]));
        }
        assert!(history(&[
            (Put(1), 1, u64::MAX),
            (Get(None), 2, 3),
            (Get(Some(1)), 4, 5)
        ]));
    }

    #[test]
    fn bad_histories_are_found() {
        let bad =
            |operations: &[(Asked, u64, u64)]| assert!(!history(operations), "{operations:?}");
        // A value that nobody wrote.
        bad(&[(Put(1), 1, 2), (Get(Some(2)), 3, 4)]);
        // A stale read.
        bad(&[(Put(1), 1, 2), (Put(2), 3, 4), (Get(Some(1)), 5, 6)]);
        // A lost write.
        bad(&[(Put(1), 1, 2), (Get(None), 3, 4)]);
        // A deleted value that comes back.
        bad(&[
            (Put(1), 1, 2),
            (Delete, 3, 4),
            (Get(None), 5, 6),
            (Get(Some(1)), 7, 8),
        ]);
        // New, then old, while the write is under way.
        bad(&[(Put(1), 1, 9), (Get(Some(1)), 2, 3), (Get(None), 4, 5)]);
        // Two conditional writes that both win.
        let put_if = |new| PutIf {
            expected: None,
            new,
            done: true,
        };
        bad(&[(put_if(1), 1, 4), (put_if(2), 2, 3)]);
        // One that lost although nothing stood against it.
        bad(&[(
            PutIf {
                expected: None,
                new: 1,
                done: false,
            },
            1,
            2,
        )]);
        bad(&[
            (Put(1), 1, 2),
            (
                DeleteIf {
                    expected: 1,
                    done: false,
                },
                3,
                4,
            ),
        ]);
        // One that never returned takes effect once, not twice.
        bad(&[
            (Put(1), 1, u64::MAX),
            (Get(Some(1)), 2, 3),
            (Delete, 4, 5),
            (Get(Some(1)), 6, 7),
        ]);
    }
}
