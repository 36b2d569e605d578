//! The gate of a tree: whoever works out a commit stands in it, and leaves it with the commit's
//! number. So commits are worked out in the order of their numbers, each on what those before it
//! did; waiting for a disk happens outside, together.

use crate::error::Result;
use crate::rows::Changed;
use siltstone_kv::{Commit, Kv};

/// Rows of commits under way that are kept; beyond, the gate waits until they are visible.
const MOST_PENDING: usize = 20_000;

/// What stands in the gate.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// What commits under way have written: numbered, and perhaps not visible yet.
    pending: Changed,
    /// A commit under way wrote what `pending` cannot say.
    opaque: bool,
    /// The newest numbered commit of this tree.
    pub(crate) last: Commit,
    /// The last number for ids.
    ids: u64,
}

impl Gate {
    /// Makes sure that what commits under way have written is known.
    pub(crate) fn enter(&mut self, kv: &Kv) -> Result<()> {
        if self.last > kv.head() {
            if !self.opaque && self.pending.len() <= MOST_PENDING {
                return Ok(());
            }
            kv.wait_visible()?;
        }
        self.pending.clear();
        self.opaque = false;
        Ok(())
    }

    /// What is written and perhaps not visible.
    pub(crate) fn pending(&self) -> &Changed {
        &self.pending
    }

    /// A commit has its number. `changed` is all that it wrote, or `None` when that cannot be said.
    pub(crate) fn numbered(&mut self, commit: Commit, changed: Option<Changed>) {
        self.last = commit;
        match changed {
            Some(changed) if self.pending.is_empty() => self.pending = changed,
            Some(changed) => self.pending.extend(changed),
            None => self.opaque = true,
        }
    }

    /// A number for ids: above those before it, and at most the number of the commit that comes.
    pub(crate) fn next_id(&mut self, head: Commit) -> u64 {
        self.ids = (self.ids + 1).max(head.0 + 1).max(self.last.0 + 1);
        self.ids
    }
}
