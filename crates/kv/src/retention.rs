//! Which commits stay readable: a pure function of commit numbers, policy and pins. It never looks
//! at keys, files or timing, so all keys agree on it and compactions may run in any order.
//!
//! With head commit H, window W, divisor d and K levels, commit N is retained when N > H - W, or
//! when for some level L of 1..=K both N % d^L == 0 and N > H - W * d^L, or when it is pinned. The
//! set only shrinks below a commit as the head moves on.

use crate::commit_ranges::{CommitRange, CommitRanges};
use crate::options::History;
use crate::types::Commit;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The part of a history policy that says which commits are retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub(crate) window: u64,
    pub(crate) window_age: Option<Duration>,
    pub(crate) divisor: u64,
    pub(crate) levels: u32,
}

impl Rule {
    pub(crate) fn of(history: &History) -> Self {
        Self {
            window: history.window,
            window_age: history.window_age,
            divisor: history.divisor,
            levels: history.levels,
        }
    }

    /// Where the window starts; every commit from there on is retained. `young` is the first commit
    /// that is younger than the window's age, [`Commit::MAX`] when the window has none.
    pub(crate) fn window_start(&self, head: Commit, young: Commit) -> Commit {
        young.min(reach(head, self.window))
    }

    /// Steps of the levels, finest first, each with the first commit that the level reaches.
    fn levels(&self, head: Commit) -> impl Iterator<Item = (u64, Commit)> + use<> {
        let (window, divisor) = (self.window, self.divisor.max(2));
        let steps = std::iter::successors(Some(divisor), move |step| step.checked_mul(divisor));
        steps
            .take(self.levels as usize)
            .map(move |step| (step, reach(head, window.saturating_mul(step))))
    }

    /// True when a level retains `commit`.
    pub(crate) fn on_level(&self, head: Commit, commit: Commit) -> bool {
        self.levels(head)
            .any(|(step, start)| commit >= start && commit.0.is_multiple_of(step))
    }

    /// The retained commits up to `last`, with `start` the start of the window.
    pub(crate) fn commits(&self, head: Commit, start: Commit, last: Commit) -> CommitRanges {
        let mut ranges: Vec<_> = CommitRange::multiples(start.0, last.0, 1)
            .into_iter()
            .collect();
        // Multiples of a coarser step are multiples of the finer ones, so each level only adds
        // what lies below the reach of those before it.
        let mut end = start;
        for (step, start) in self.levels(head) {
            if start < end {
                ranges.extend(CommitRange::multiples(start.0, end.0 - 1, step));
                end = start;
            }
        }
        ranges.reverse();
        CommitRanges::new(ranges)
    }
}

/// The first of the newest `count` commits.
fn reach(head: Commit, count: u64) -> Commit {
    Commit(head.0.saturating_add(1).saturating_sub(count))
}

/// The retained commits as they stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retention {
    rule: Rule,
    head: Commit,
    window_start: Commit,
    commits: CommitRanges,
    /// Sorted, without repeats.
    pins: Vec<Commit>,
}

impl Retention {
    /// With `head` the newest commit and `young` as for [`Rule::window_start`]; `pins` need not be
    /// sorted.
    pub(crate) fn new(
        head: Commit,
        rule: Rule,
        young: Commit,
        pins: impl IntoIterator<Item = Commit>,
    ) -> Self {
        let mut pins: Vec<_> = pins.into_iter().filter(|pin| *pin <= head).collect();
        pins.sort_unstable();
        pins.dedup();
        let window_start = rule.window_start(head, young);
        Self {
            rule,
            head,
            window_start,
            commits: rule.commits(head, window_start, head),
            pins,
        }
    }

    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    pub(crate) fn head(&self) -> Commit {
        self.head
    }

    /// Everything before this is readable only on a level or where it is pinned.
    pub(crate) fn window_start(&self) -> Commit {
        self.window_start
    }

    /// The first retained commit at or after `from`.
    pub(crate) fn next_retained(&self, from: Commit) -> Option<Commit> {
        if from >= self.window_start {
            return (from <= self.head).then_some(from);
        }
        let next = self.commits.at_or_after(from);
        match (next, self.next_pin(from)) {
            (Some(next), Some(pin)) => Some(next.min(pin)),
            (next, pin) => next.or(pin),
        }
    }

    /// True when everything that a read at `commit` finds is kept under these terms.
    pub(crate) fn keeps(&self, commit: Commit) -> bool {
        commit >= self.head || self.next_retained(commit) == Some(commit)
    }

    /// The first pinned commit at or after `from`.
    pub(crate) fn next_pin(&self, from: Commit) -> Option<Commit> {
        let at = self.pins.partition_point(|pin| *pin < from);
        self.pins.get(at).copied()
    }

    /// True when a version written at `commit` and superseded at `newer` is what some retained
    /// commit reads, now or, after the head, later.
    pub(crate) fn needs(&self, commit: Commit, newer: Option<Commit>) -> bool {
        match newer {
            None => true,
            Some(newer) => match self.next_retained(commit) {
                Some(next) => next < newer,
                None => commit > self.head && commit < newer,
            },
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

    fn rule(window: u64, divisor: u64, levels: u32) -> Rule {
        Rule {
            window,
            window_age: None,
            divisor,
            levels,
        }
    }

    /// The definition, word for word.
    fn retained(rule: Rule, head: u64, young: u64, pins: &[Commit], n: u64) -> bool {
        let (n, head) = (n as i128, head as i128);
        let level = |level: u32| {
            let step = i128::from(rule.divisor).pow(level);
            n % step == 0 && n > head - i128::from(rule.window) * step
        };
        n <= head
            && ((0..=rule.levels).any(level)
                || n >= i128::from(young)
                || pins.contains(&Commit(n as u64)))
    }

    fn agrees(rule: Rule, head: u64, young: u64, pins: &[Commit]) {
        let retention = Retention::new(Commit(head), rule, Commit(young), pins.iter().copied());
        let retained = |n: u64| retained(rule, head, young, pins, n);
        let what = || format!("{rule:?} head {head} young {young} pins {pins:?}");
        let mut next = None;
        let mut nexts = vec![None; head as usize + 3];
        for n in (0..=head + 2).rev() {
            if retained(n) {
                next = Some(Commit(n));
            }
            nexts[n as usize] = next;
            assert_eq!(retention.next_retained(Commit(n)), next, "{} {n}", what());
        }
        for from in 0..=head {
            for newer in from + 1..head + 3 {
                let needed = nexts[from as usize].is_some_and(|next| next < Commit(newer));
                let answer = retention.needs(Commit(from), Some(Commit(newer)));
                assert_eq!(answer, needed, "{} {from} {newer}", what());
            }
            assert!(retention.needs(Commit(from), None));
        }
        let listed = rule.commits(Commit(head), retention.window_start(), Commit(head));
        for n in 0..=head + 2 {
            let unpinned = self::retained(rule, head, young, &[], n);
            assert_eq!(listed.contains(Commit(n)), unpinned, "{} {n}", what());
            let by_parts =
                Commit(n) >= retention.window_start() || rule.on_level(Commit(head), Commit(n));
            assert_eq!(by_parts && n <= head, unpinned, "{} {n}", what());
        }
    }

    #[test]
    fn windows_and_pins_agree_with_the_definition_everywhere() {
        for head in 0..14u64 {
            for window in 1..16u64 {
                for pins in 0u32..1 << 5 {
                    let pins: Vec<_> = (0..5)
                        .filter(|p| pins >> p & 1 == 1)
                        .map(|p| Commit(p * 3))
                        .collect();
                    agrees(rule(window, 2, 0), head, u64::MAX, &pins);
                }
            }
        }
    }

    #[test]
    fn levels_agree_with_the_definition_everywhere() {
        for head in (0..20u64).chain([27, 32, 63, 64, 65]) {
            for window in [1, 2, 3, 5, 9, u64::MAX] {
                for divisor in 2..5 {
                    for levels in 0..5 {
                        for pins in [&[][..], &[Commit(7)], &[Commit(1), Commit(18)]] {
                            agrees(rule(window, divisor, levels), head, u64::MAX, pins);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_age_widens_the_window_and_nothing_else() {
        for head in [0, 1, 12, 30] {
            for young in 0..head + 3 {
                for levels in 0..4 {
                    agrees(rule(3, 2, levels), head, young, &[Commit(5)]);
                }
            }
        }
    }

    #[test]
    fn the_retained_commits_below_a_commit_only_get_fewer() {
        for divisor in 2..4 {
            for levels in 0..4 {
                for head in 0..90 {
                    for n in 0..=head {
                        let rule = rule(4, divisor, levels);
                        let now = retained(rule, head, u64::MAX, &[], n);
                        let later = retained(rule, head + 1, u64::MAX, &[], n);
                        assert!(now || !later);
                    }
                }
            }
        }
    }

    #[test]
    fn versions_after_the_head_are_always_needed() {
        let retention = Retention::new(Commit(5), rule(1, 2, 0), Commit::MAX, []);
        assert!(retention.needs(Commit(6), Some(Commit(7))));
        assert!(!retention.needs(Commit(3), Some(Commit(5))));
        assert!(retention.needs(Commit(3), Some(Commit(6))));
    }

    #[test]
    fn the_largest_parameters_do_not_overflow() {
        let steep = rule(u64::MAX / 2, u64::MAX, 1);
        let head = Commit(1 << 60);
        assert_eq!(steep.window_start(head, Commit::MAX), Commit::ZERO);
        let deep = rule(1, 2, 63);
        let commits = deep.commits(head, deep.window_start(head, Commit::MAX), head);
        assert_eq!(commits.at_or_after(Commit::ZERO), Some(Commit::ZERO));
        assert_eq!(
            commits.at_or_before(Commit((1 << 60) - 1)),
            Some(Commit::ZERO)
        );
        assert!(commits.ranges().len() <= 64);
    }
}
