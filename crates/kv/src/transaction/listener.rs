//! Whoever must know of a transaction's commit in the order of commits, whoever commits it.

use crate::batch::Batch;
use crate::error::Result;
use crate::stats::PutStats;
use crate::types::Commit;

/// A listener to the commit of a transaction. A layer above a keyspace attaches one to every
/// transaction that writes to it, so that the layer keeps its order and its news also when a commit
/// is made elsewhere.
///
/// Listeners of several keyspaces are called in the order of the keyspaces' numbers, so that locks
/// they take are always taken in the same order.
pub trait CommitListener: Send + Sync + std::fmt::Debug {
    /// Called when the transaction is to commit `writes`, before it is looked whether anybody came
    /// first. It calls `go` once and answers what that answers. `go` calls what it is given with the
    /// commit's number as soon as there is one, before anybody waits for a disk; when somebody came
    /// first it does not.
    ///
    /// # Errors
    /// Its own, before `go`: then nothing is written; or those of `go`.
    fn commit(&self, writes: &Batch, go: &mut Go<'_>) -> Result<PutStats>;
}

/// The rest of a commit; see [`CommitListener::commit`].
pub type Go<'a> = dyn FnMut(&mut dyn FnMut(Commit)) -> Result<PutStats> + 'a;
