//! Which commits of a keyspace can be read: retained by its policy and not dropped under an earlier
//! one, or held. Everything else is refused with the nearest commits that can.

use crate::commit_ranges::CommitRanges;
use crate::error::{Error, Result};
use crate::retention::Rule;
use crate::state::CommitTimes;
use crate::types::Commit;
use crate::view::View;
use siltstone_storage::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};

/// What can be read of a view.
#[derive(Debug)]
pub(crate) struct Readable<'a> {
    view: &'a View,
    rule: Rule,
    head: Commit,
    window_start: Commit,
}

impl<'a> Readable<'a> {
    /// With `young` as for [`Rule::window_start`].
    pub(crate) fn new(view: &'a View, head: Commit, young: Commit) -> Self {
        let rule = Rule::of(&view.options.history);
        Self {
            view,
            rule,
            head,
            window_start: rule.window_start(head, young),
        }
    }

    /// True when nobody has to hold `commit` for it to be readable.
    pub(crate) fn unheld(&self, commit: Commit) -> bool {
        commit <= self.head
            && (commit >= self.window_start || self.rule.on_level(self.head, commit))
            && self.view.dropped.keeps(commit)
    }

    /// All that can be read, with `pins` the commits that are held and intact.
    pub(crate) fn commits(&self, pins: impl IntoIterator<Item = Commit>) -> CommitRanges {
        let retained = self.rule.commits(self.head, self.window_start, self.head);
        let pins = pins.into_iter().filter(|pin| *pin <= self.head);
        self.view.dropped.intact(retained).with(pins)
    }

    /// Refuses a commit that is not readable any more, or not yet.
    pub(crate) fn check<P: IntoIterator<Item = Commit>>(
        &self,
        asked: Commit,
        pins: impl FnOnce() -> P,
    ) -> Result<()> {
        if self.unheld(asked) {
            return Ok(());
        }
        if asked > self.head {
            return Err(Error::FutureCommit {
                asked,
                newest: self.head,
            });
        }
        let readable = self.commits(pins());
        if readable.contains(asked) {
            return Ok(());
        }
        Err(Error::NotRetained {
            asked,
            before: readable.at_or_before(asked),
            after: readable.at_or_after(asked),
        })
    }
}

/// Where the young commits of a keyspace start, which never moves back while its policy stands: a
/// clock that steps back must not promise what a compaction is about to drop.
#[derive(Debug, Default)]
pub(crate) struct YoungFrom(AtomicU64);

impl YoungFrom {
    /// The first commit younger than the window's age; [`Commit::MAX`] when the window has none.
    pub(crate) fn resolve(
        &self,
        view: &View,
        now: impl FnOnce() -> Timestamp,
        times: impl FnOnce(Timestamp) -> Commit,
    ) -> Commit {
        let Some(age) = view.options.history.window_age else {
            return Commit::MAX;
        };
        let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        let first = times(Timestamp(now().0.saturating_sub(micros))).0 + 1;
        Commit(self.0.fetch_max(first, Ordering::SeqCst).max(first))
    }
}

impl CommitTimes {
    /// As [`YoungFrom::resolve`], once.
    pub(crate) fn young_from(&self, view: &View, now: Timestamp) -> Commit {
        YoungFrom::default().resolve(view, || now, |time| self.commit_at(time))
    }
}
