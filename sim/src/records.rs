//! What the newest commits wrote, for change feeds and conflicts.

use crate::commit::Commit;
use std::collections::VecDeque;

/// How many commits are remembered.
const REMEMBERED: usize = 60_000;

/// The newest commits, without a gap.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// The number of the first.
    first: u64,
    commits: VecDeque<Commit>,
}

impl Records {
    pub(crate) fn new() -> Self {
        Self {
            first: 1,
            commits: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, commit: Commit) {
        self.commits.push_back(commit);
        if self.commits.len() > REMEMBERED {
            self.commits.pop_front();
            self.first += 1;
        }
    }

    pub(crate) fn cut(&mut self, head: u64) {
        let kept = (head + 1).saturating_sub(self.first);
        self.commits.truncate(kept as usize);
    }

    pub(crate) fn get(&self, commit: u64) -> Option<&Commit> {
        self.commits.get(commit.checked_sub(self.first)? as usize)
    }

    /// At most so many bytes of log were written for the commits after `after`; `None`: it was too
    /// long ago.
    pub(crate) fn bytes_after(&self, after: u64) -> Option<u64> {
        let from = (after + 1).checked_sub(self.first)? as usize;
        Some(self.commits.iter().skip(from).map(|c| c.bytes).sum())
    }
}
