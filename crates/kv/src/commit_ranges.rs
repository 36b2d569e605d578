//! Sets of commits as few ranges, however many commits they hold. A range with a step holds the
//! multiples of its step between its ends, so that two sets are met without looking at commits.

use crate::types::Commit;

/// Commits `first`, `first + step`, ... `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitRange {
    /// The first of them.
    pub first: Commit,
    /// The last of them.
    pub last: Commit,
    /// From one to the next, in commits; 1 when they are dense. With any other step the commits are
    /// the multiples of the step.
    pub step: u64,
}

impl CommitRange {
    /// The multiples of `step` from `from` to `to`, both included.
    pub(crate) fn multiples(from: u64, to: u64, step: u64) -> Option<Self> {
        let first = from.checked_next_multiple_of(step)?;
        let last = to - to.checked_rem(step)?;
        (first <= last).then_some(Self {
            first: Commit(first),
            last: Commit(last),
            // One commit alone is dense, wherever it lies.
            step: if first == last { 1 } else { step },
        })
    }

    /// The one commit.
    fn only(commit: Commit) -> Self {
        Self {
            first: commit,
            last: commit,
            step: 1,
        }
    }

    /// How many commits it holds.
    #[expect(clippy::len_without_is_empty, reason = "it holds one at least")]
    pub fn len(&self) -> u128 {
        u128::from((self.last.0 - self.first.0) / self.step) + 1
    }

    /// True when `commit` is one of them.
    pub fn contains(&self, commit: Commit) -> bool {
        (self.first..=self.last).contains(&commit)
            && (commit.0 - self.first.0).is_multiple_of(self.step)
    }

    /// The commits, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Commit> + use<> {
        let (first, step) = (self.first.0, self.step);
        // One less than the number of commits, which may be one more than fits.
        let steps = (self.last.0 - first) / step;
        (0..=steps).map(move |n| Commit(first + n * step))
    }

    fn at_or_after(&self, from: Commit) -> Option<Commit> {
        let beyond = from.0.saturating_sub(self.first.0);
        let up = beyond.checked_next_multiple_of(self.step)?;
        let next = Commit(self.first.0.checked_add(up)?);
        (next <= self.last).then_some(next)
    }

    fn at_or_before(&self, from: Commit) -> Option<Commit> {
        let beyond = from.min(self.last).0.checked_sub(self.first.0)?;
        Some(Commit(self.first.0 + beyond - beyond % self.step))
    }

    fn meet(&self, other: &Self) -> Option<Self> {
        let from = self.first.max(other.first).0;
        let to = self.last.min(other.last).0;
        if from > to {
            return None;
        }
        Self::multiples(from, to, common_multiple(self.step, other.step))
    }
}

/// A set of commits: ranges that rise and do not touch each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitRanges(Vec<CommitRange>);

impl CommitRanges {
    /// Of ranges that rise and do not meet.
    pub(crate) fn new(ranges: Vec<CommitRange>) -> Self {
        debug_assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
        Self(ranges)
    }

    /// The ranges, oldest first.
    pub fn ranges(&self) -> &[CommitRange] {
        &self.0
    }

    /// Every commit, oldest first. There may be millions: prefer [`CommitRanges::ranges`].
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Commit> + '_ {
        self.0.iter().flat_map(CommitRange::iter)
    }

    /// How many commits there are.
    pub fn len(&self) -> u128 {
        self.0.iter().map(CommitRange::len).sum()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when `commit` is one of them.
    pub fn contains(&self, commit: Commit) -> bool {
        self.at_or_after(commit) == Some(commit)
    }

    /// The first one at or after `from`.
    pub fn at_or_after(&self, from: Commit) -> Option<Commit> {
        let at = self.0.partition_point(|range| range.last < from);
        self.0.get(at)?.at_or_after(from)
    }

    /// The last one at or before `from`.
    pub fn at_or_before(&self, from: Commit) -> Option<Commit> {
        let above = self.0.partition_point(|range| range.first <= from);
        self.0[..above].last()?.at_or_before(from)
    }

    /// Those from `first` to `last`, both included.
    pub fn between(&self, first: Commit, last: Commit) -> Self {
        let range = CommitRange::multiples(first.0, last.0, 1);
        self.meet(&Self(range.into_iter().collect()))
    }

    /// Those that are in both.
    pub(crate) fn meet(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut met = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            met.extend(a.meet(b));
            match a.last < b.last {
                true => left.next(),
                false => right.next(),
            };
        }
        Self::new(met)
    }

    /// True when all of them are in `other`.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.meet(other).len() == self.len()
    }

    /// These, and `more`.
    pub(crate) fn with(mut self, more: impl IntoIterator<Item = Commit>) -> Self {
        for commit in more {
            self.insert(commit);
        }
        self
    }

    fn insert(&mut self, commit: Commit) {
        if self.contains(commit) {
            return;
        }
        let at = self.0.partition_point(|range| range.last < commit);
        let around = self.0.get(at).copied().filter(|r| r.first < commit);
        let Some(range) = around else {
            self.0.insert(at, CommitRange::only(commit));
            return;
        };
        // It lies between two of a range with a step, which falls in two.
        let below = CommitRange::multiples(range.first.0, commit.0, range.step);
        let above = CommitRange::multiples(commit.0, range.last.0, range.step);
        let parts = below.into_iter().chain([CommitRange::only(commit)]);
        self.0.splice(at..=at, parts.chain(above));
    }
}

/// The least common multiple, or the largest number when it is larger than any commit.
fn common_multiple(a: u64, b: u64) -> u64 {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const END: u64 = 60;

    fn any_set() -> impl Strategy<Value = CommitRanges> {
        prop::collection::vec((0..15u64, 0..20u64, 1..7u64), 0..5).prop_map(|parts| {
            let mut from = 0;
            let mut ranges = Vec::new();
            for (gap, length, step) in parts {
                let range = CommitRange::multiples(from + gap, from + gap + length, step);
                from += gap + length + 1;
                ranges.extend(range);
            }
            CommitRanges::new(ranges)
        })
    }

    fn plain(set: &CommitRanges) -> Vec<u64> {
        set.iter().map(|commit| commit.0).collect()
    }

    proptest! {
        #[test]
        fn a_set_answers_as_the_list_of_its_commits(set in any_set(), from in 0..END + 5) {
            let list = plain(&set);
            prop_assert!(list.is_sorted());
            prop_assert_eq!(set.len(), list.len() as u128);
            prop_assert_eq!(set.is_empty(), list.is_empty());
            prop_assert_eq!(set.contains(Commit(from)), list.contains(&from));
            let after = list.iter().find(|n| **n >= from).copied().map(Commit);
            prop_assert_eq!(set.at_or_after(Commit(from)), after);
            let before = list.iter().rev().find(|n| **n <= from).copied().map(Commit);
            prop_assert_eq!(set.at_or_before(Commit(from)), before);
            let between: Vec<_> = list.iter().copied().filter(|n| (from..from + 9).contains(n)).collect();
            prop_assert_eq!(plain(&set.between(Commit(from), Commit(from + 8))), between);
        }

        #[test]
        fn two_sets_meet_in_the_commits_of_both(a in any_set(), b in any_set()) {
            let both: Vec<_> = plain(&a).into_iter().filter(|n| plain(&b).contains(n)).collect();
            prop_assert_eq!(plain(&a.meet(&b)), both.clone());
            prop_assert_eq!(a.is_within(&b), both.len() == plain(&a).len());
        }

        #[test]
        fn single_commits_join_a_set_once(set in any_set(), more in prop::collection::vec(0..END, 0..6)) {
            let mut expected = plain(&set);
            expected.extend(&more);
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(plain(&set.with(more.into_iter().map(Commit))), expected);
        }
    }

    #[test]
    fn the_largest_sets_and_steps_do_not_overflow() {
        let all = CommitRange::multiples(0, u64::MAX, 1).unwrap();
        assert_eq!(all.len(), 1 << 64);
        assert_eq!(all.iter().next_back(), Some(Commit::MAX));
        let steps = [1 << 63, 3u64.pow(40)];
        let [a, b] = steps.map(|step| {
            let range = CommitRange::multiples(0, 1 << 63, step).unwrap();
            CommitRanges::new(vec![range])
        });
        assert_eq!(plain(&a.meet(&b)), [0]);
    }
}
