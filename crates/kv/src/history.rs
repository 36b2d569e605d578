//! All versions of one key that are still there.

use crate::cursor::Cursor;
use crate::error::Result;
use crate::merge::MergeCursor;
use crate::read::Read;
use crate::sst::table::ReadState;
use crate::types::Commit;
use bytes::Bytes;
use siltstone_storage::Wait;
use std::sync::Arc;

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The commit that wrote it.
    pub commit: Commit,
    /// What it wrote; `None` for a deletion.
    pub value: Option<Bytes>,
    /// Older versions were removed by `max_versions` or `max_age`.
    pub truncated: bool,
}

/// The versions of `key` that are stored, newest first, up to the commit that `read` reads at. Old
/// ones may be there although their commits are not retained any more: compaction has not come by.
///
/// # Errors
/// The store's.
pub fn history(read: &impl Read, key: &[u8]) -> Result<Vec<Version>> {
    let at = read.at()?;
    let state = Arc::new(ReadState::new(Wait::Allowed));
    let (sources, _) = at.view.sources((Some(key), None), at.commit, &state);
    let mut merge = MergeCursor::new(sources);
    merge.seek(key, at.commit)?;
    let mut versions: Vec<Version> = Vec::new();
    while merge.valid() && merge.key() == key {
        let tag = merge.tag();
        let version = Version {
            commit: merge.commit(),
            value: tag.is_put().then(|| Bytes::copy_from_slice(merge.value())),
            truncated: tag.is_truncated(),
        };
        if versions
            .last()
            .is_none_or(|last| last.commit != version.commit)
        {
            versions.push(version);
        }
        merge.next()?;
    }
    Ok(versions)
}
