//! Which commits stay readable: a pure function of commit numbers, policy and pins. It never looks
//! at keys, files or timing, so all keys agree on it and compactions may run in any order.

use crate::options::History;
use crate::types::Commit;

/// The retained commits as they stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retention {
    head: Commit,
    window_start: Commit,
    /// Sorted, without repeats.
    pins: Vec<Commit>,
}

impl Retention {
    /// With `head` the newest commit; `pins` need not be sorted.
    pub(crate) fn new(
        head: Commit,
        history: &History,
        pins: impl IntoIterator<Item = Commit>,
    ) -> Self {
        let mut pins: Vec<_> = pins.into_iter().filter(|pin| *pin <= head).collect();
        pins.sort_unstable();
        pins.dedup();
        Self {
            head,
            window_start: Commit((head.0 + 1).saturating_sub(history.window)),
            pins,
        }
    }

    /// Everything before this is readable only where it is pinned.
    pub(crate) fn window_start(&self) -> Commit {
        self.window_start
    }

    /// The first retained commit at or after `from`.
    pub(crate) fn next_retained(&self, from: Commit) -> Option<Commit> {
        if from > self.head {
            return None;
        }
        if from >= self.window_start {
            return Some(from);
        }
        Some(
            self.next_pin(from)
                .map_or(self.window_start, |pin| pin.min(self.window_start)),
        )
    }

    /// The last retained commit at or before `from`.
    pub(crate) fn last_retained(&self, from: Commit) -> Option<Commit> {
        let from = from.min(self.head);
        if from >= self.window_start {
            return Some(from);
        }
        self.last_pin(from)
    }

    /// The last pinned commit at or before `from`.
    pub(crate) fn last_pin(&self, from: Commit) -> Option<Commit> {
        let before = self.pins.partition_point(|pin| *pin <= from);
        before.checked_sub(1).map(|at| self.pins[at])
    }

    /// The first pinned commit at or after `from`.
    pub(crate) fn next_pin(&self, from: Commit) -> Option<Commit> {
        let at = self.pins.partition_point(|pin| *pin < from);
        self.pins.get(at).copied()
    }

    /// True when a version written at `commit` and superseded at `newer` is what some retained
    /// commit reads.
    pub(crate) fn needs(&self, commit: Commit, newer: Option<Commit>) -> bool {
        match newer {
            None => true,
            Some(newer) => self.next_retained(commit).is_some_and(|next| next < newer),
        }
    }

    /// As [`Retention::needs`], for pins alone.
    pub(crate) fn pinned(&self, commit: Commit, newer: Option<Commit>) -> bool {
        self.next_pin(commit)
            .is_some_and(|pin| newer.is_none_or(|newer| pin < newer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(window: u64) -> History {
        History {
            window,
            ..History::default()
        }
    }

    #[test]
    fn next_and_last_retained_agree_with_the_definition_everywhere() {
        for head in 0..14u64 {
            for window in 1..16u64 {
                for pins in 0u32..1 << 5 {
                    let pins: Vec<_> = (0..5)
                        .filter(|p| pins >> p & 1 == 1)
                        .map(|p| Commit(p * 3))
                        .collect();
                    let retention = Retention::new(Commit(head), &history(window), pins.clone());
                    let retained =
                        |n: u64| n <= head && (n + window > head || pins.contains(&Commit(n)));
                    for from in 0..16 {
                        let next = (from..=head).find(|n| retained(*n)).map(Commit);
                        assert_eq!(
                            retention.next_retained(Commit(from)),
                            next,
                            "{head} {window} {pins:?} {from}"
                        );
                        let last = (0..=from.min(head))
                            .rev()
                            .find(|n| retained(*n))
                            .map(Commit);
                        assert_eq!(
                            retention.last_retained(Commit(from)),
                            last,
                            "{head} {window} {pins:?} {from}"
                        );
                        for newer in from + 1..16 {
                            let needs = (from..newer).any(retained);
                            assert_eq!(retention.needs(Commit(from), Some(Commit(newer))), needs);
                        }
                    }
                }
            }
        }
    }
}
