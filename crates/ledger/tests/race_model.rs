//! The race T1 to T7 in every interleaving: the naive swap loses commits, ours never.

use siltstone_ledger::race::{Way, walk};

#[test]
fn the_naive_swap_loses_commits_and_leaves_metas_that_lead_nowhere() {
    let walked = walk(Way::Naive, 2, 1);
    assert!(walked.states > 50);
    for wrong in [
        "an acknowledged commit is lost",
        "a published meta leads to nothing",
    ] {
        let steps = walked.wrong.get(wrong);
        assert!(steps.is_some(), "{wrong}: {walked:?}");
    }
}

#[test]
fn ours_keeps_every_commit_and_every_meta_in_every_interleaving() {
    for (writers, compactors) in [(2, 1), (3, 1), (2, 2)] {
        let walked = walk(Way::Ours, writers, compactors);
        assert!(
            walked.wrong.is_empty(),
            "{writers}, {compactors}: {walked:?}"
        );
        assert!(walked.states > 50, "{}", walked.states);
    }
}
