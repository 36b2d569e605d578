//! What has been dropped from a keyspace, remembered so that loosening its policy brings nothing
//! back: for each rule under which versions went, the head up to which it was applied.
//!
//! A commit is intact when every record keeps it, or when something has held it all the time. A
//! record keeps ever less below a commit as its head moves on, so one record for a rule is enough.
//! The list is bounded: a record that another one implies goes, and when there are still too many,
//! the two oldest are taken together as if nothing before them had been kept.

use crate::commit_ranges::CommitRanges;
use crate::retention::{Retention, Rule};
use crate::types::Commit;
use serde::{Deserialize, Serialize};

/// More records than this are never kept.
const MOST_RECORDS: usize = 16;

/// One rule and how far it has been applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRecord {
    rule: Rule,
    head: Commit,
    /// Nothing from here on was dropped.
    intact_from: Commit,
}

impl DropRecord {
    /// Of a flush or a compaction that dropped something of what it read, with `newest` the newest
    /// commit in that.
    pub(crate) fn new(retention: &Retention, newest: Commit) -> Self {
        Self {
            rule: retention.rule(),
            head: retention.head(),
            // A version only goes for a newer one that was read too, so reads at and after the
            // newest commit in it miss nothing.
            intact_from: retention.window_start().min(newest),
        }
    }

    fn keeps(&self, commit: Commit) -> bool {
        commit >= self.intact_from || self.rule.on_level(self.head, commit)
    }

    fn kept(&self) -> CommitRanges {
        self.rule.commits(self.head, self.intact_from, Commit::MAX)
    }

    /// True when one record can stand for both without forgetting or refusing anything more.
    fn continues(&self, other: &Self) -> bool {
        self.rule == other.rule || self.rule.levels == 0 && other.rule.levels == 0
    }

    fn absorb(&mut self, other: &Self) {
        self.head = self.head.max(other.head);
        self.intact_from = self.intact_from.max(other.intact_from);
    }
}

/// All that has been dropped from a keyspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    records: Vec<DropRecord>,
}

impl Dropped {
    /// True when every version that `commit` reads is still there, for all that was dropped.
    pub fn keeps(&self, commit: Commit) -> bool {
        self.records.iter().all(|record| record.keeps(commit))
    }

    /// The newest commit that may have lost a version; zero when nothing was dropped.
    pub fn newest(&self) -> Commit {
        let newest = |record: &DropRecord| record.intact_from.0.saturating_sub(1);
        Commit(self.records.iter().map(newest).max().unwrap_or(0))
    }

    /// Those of `commits` that are intact.
    pub(crate) fn intact(&self, commits: CommitRanges) -> CommitRanges {
        let meet = |commits: CommitRanges, record: &DropRecord| commits.meet(&record.kept());
        self.records.iter().fold(commits, meet)
    }

    /// Adds what was just dropped.
    pub(crate) fn note(&mut self, record: DropRecord) {
        self.join(record);
        while self.records.len() > MOST_RECORDS {
            self.records.sort_by_key(|record| record.head);
            let mut oldest = self.records.remove(0);
            oldest.absorb(&self.records.remove(0));
            // Without levels it keeps nothing before it: less than either did.
            oldest.rule.levels = 0;
            self.join(oldest);
        }
    }

    fn join(&mut self, mut record: DropRecord) {
        if let Some(at) = self.records.iter().position(|r| r.continues(&record)) {
            record.absorb(&self.records.swap_remove(at));
        }
        let kept = record.kept();
        self.records.retain(|other| !kept.is_within(&other.kept()));
        if !self
            .records
            .iter()
            .any(|other| other.kept().is_within(&kept))
        {
            self.records.push(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a run of a history does.
    #[derive(Debug, Clone)]
    enum Step {
        Commits(u64),
        Rule(Rule),
        /// Drops from what was written up to so many commits before the head.
        Collect(u64),
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        (1..12u64, 2..5u64, 0..4u32).prop_map(|(window, divisor, levels)| Rule {
            window,
            window_age: None,
            divisor,
            levels,
        })
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..20u64).prop_map(Step::Commits),
            2 => any_rule().prop_map(Step::Rule),
            4 => prop_oneof![Just(0), 0..15u64].prop_map(Step::Collect),
        ]
    }

    /// Runs the steps. `look` is shown the memory and, for each commit up to the head, whether a
    /// version that it reads can have gone, and whether some rule as applied did not retain it.
    fn run(steps: &[Step], mut look: impl FnMut(&Dropped, &[bool], &[bool])) -> usize {
        let mut rule = Rule {
            window: 5,
            window_age: None,
            divisor: 3,
            levels: 2,
        };
        let (mut head, mut dropped) = (0, Dropped::default());
        let (mut gone, mut refused) = (vec![false], vec![false]);
        let mut rules = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Commits(count) => head += count,
                Step::Rule(next) => rule = *next,
                Step::Collect(behind) => {
                    let retention = Retention::new(Commit(head), rule, Commit::MAX, []);
                    let newest = Commit(head.saturating_sub(*behind));
                    for n in 0..=head {
                        let retained = retention.next_retained(Commit(n)) == Some(Commit(n));
                        gone[n as usize] |= !retained && n < newest.0;
                        refused[n as usize] |= !retained;
                    }
                    rules.insert((rule.window, rule.divisor, rule.levels));
                    dropped.note(DropRecord::new(&retention, newest));
                }
            }
            gone.resize(head as usize + 1, false);
            refused.resize(head as usize + 1, false);
            look(&dropped, &gone, &refused);
        }
        rules.len()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn what_is_gone_is_never_called_intact_and_what_all_rules_keep_never_gone(
            steps in prop::collection::vec(any_step(), 1..40),
        ) {
            let mut answers = Vec::new();
            let rules = run(&steps, |dropped, gone, refused| {
                assert!(dropped.records.len() <= MOST_RECORDS);
                let all = Rule { window: u64::MAX, window_age: None, divisor: 2, levels: 0 };
                let end = Commit(gone.len() as u64 - 1);
                let listed = dropped.intact(all.commits(end, Commit::ZERO, end));
                for n in 0..gone.len() {
                    let keeps = dropped.keeps(Commit(n as u64));
                    assert!(!keeps || !gone[n], "{n} is gone: {dropped:?}");
                    assert_eq!(keeps, listed.contains(Commit(n as u64)));
                    answers.push(keeps || refused[n]);
                }
            });
            if rules <= MOST_RECORDS {
                prop_assert!(answers.iter().all(|fine| *fine), "refused what all rules keep");
            }
        }

        #[test]
        fn however_many_rules_there_were_what_is_gone_is_never_called_intact(
            rules in prop::collection::vec((any_rule(), 1..9u64), 60..90),
        ) {
            let mut steps = Vec::new();
            for (rule, commits) in rules {
                steps.extend([Step::Commits(commits), Step::Rule(rule), Step::Collect(0)]);
            }
            run(&steps, |dropped, gone, _| {
                assert!(dropped.records.len() <= MOST_RECORDS);
                for (n, gone) in gone.iter().enumerate() {
                    assert!(!gone || !dropped.keeps(Commit(n as u64)));
                }
            });
        }
    }

    #[test]
    fn too_many_rules_at_once_are_taken_together_from_the_oldest() {
        let mut dropped = Dropped::default();
        let mut applied = Vec::new();
        for n in 0..40 {
            let rule = Rule {
                window: 20 + n,
                window_age: None,
                divisor: 50 + n,
                levels: 2,
            };
            let head = Commit(100_000 + n);
            let retention = Retention::new(head, rule, Commit::MAX, []);
            dropped.note(DropRecord::new(&retention, head));
            applied.push(retention);
            assert!(dropped.records.len() <= MOST_RECORDS);
            for commit in (95_000..head.0).map(Commit).filter(|c| dropped.keeps(*c)) {
                let retains = |r: &Retention| r.next_retained(commit).is_none_or(|n| n == commit);
                assert!(applied.iter().all(retains), "{commit}");
            }
            assert!(dropped.keeps(head));
        }
        let prefixes = |r: &&DropRecord| r.rule.levels == 0;
        assert_eq!(dropped.records.iter().filter(prefixes).count(), 1);
    }

    #[test]
    fn records_that_others_imply_are_forgotten() {
        let mut dropped = Dropped::default();
        for n in 1..200u64 {
            let rule = Rule {
                window: 10,
                window_age: None,
                divisor: 2 + n % 7,
                levels: 2,
            };
            let retention = Retention::new(Commit(n * 1_000), rule, Commit::MAX, []);
            dropped.note(DropRecord::new(&retention, Commit(n * 1_000)));
        }
        let last = Rule {
            window: 1,
            window_age: None,
            divisor: 2,
            levels: 0,
        };
        let head = Commit(1_000_000);
        dropped.note(DropRecord::new(
            &Retention::new(head, last, Commit::MAX, []),
            head,
        ));
        assert_eq!(dropped.records.len(), 1);
        assert_eq!(dropped.newest(), Commit(999_999));
    }
}
