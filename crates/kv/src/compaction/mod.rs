//! Compaction: which tables (`pick`), which versions (`versions`), the writing (`output`), and the
//! append-aware replacement (`run`).

pub(crate) mod output;
pub(crate) mod outside;
pub(crate) mod pick;
pub(crate) mod run;
pub(crate) mod versions;

use crate::error::Error;
use crate::types::SegmentId;
use siltstone_storage::ReplaceError;

/// A replacement that came too late.
pub(crate) fn lost(error: ReplaceError<SegmentId>) -> Error {
    let (ReplaceError::Gone(id) | ReplaceError::Taken(id)) = error;
    Error::CompactionLost { segment: id.blob() }
}
