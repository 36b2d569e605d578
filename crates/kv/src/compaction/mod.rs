//! Compaction: which tables (`pick`), which versions (`versions`), the writing (`output`, `task`), and
//! the append-aware replacement (`run`). Other processes may do it: `work` is what they are told,
//! `offer` the writer's side and `worker` theirs.

pub(crate) mod offer;
pub(crate) mod output;
pub(crate) mod outside;
pub(crate) mod pick;
pub(crate) mod run;
pub(crate) mod task;
pub(crate) mod versions;
pub(crate) mod work;
pub(crate) mod worker;

use crate::error::Error;
use crate::types::SegmentId;
use siltstone_storage::ReplaceError;

/// A replacement that came too late.
pub(crate) fn lost(error: ReplaceError<SegmentId>) -> Error {
    let (ReplaceError::Gone(id) | ReplaceError::Taken(id)) = error;
    Error::CompactionLost { segment: id.blob() }
}
