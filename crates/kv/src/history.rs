//! All versions of one key that are still there.

use crate::cursor::Cursor;
use crate::error::Result;
use crate::merge::MergeCursor;
use crate::operator;
use crate::range_delete::RangeDelete;
use crate::read::{Keep, Read};
use crate::sst::table::ReadState;
use crate::types::{Commit, Tag};
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
/// The deletion of a range counts where it took a value away.
///
/// # Errors
/// The store's; [`crate::Error::Merge`] where operands cannot be merged.
pub fn history(read: &impl Read, key: &[u8]) -> Result<Vec<Version>> {
    let at = read.at()?;
    if let Some(overlay) = &at.overlay {
        overlay.note_key(key);
    }
    let state = Arc::new(ReadState::new(Wait::Allowed));
    let after = [key, b"\0"].concat();
    let (sources, _) = at.sources((Some(key), Some(&after)), &state);
    let mut merge = MergeCursor::new(sources);
    merge.seek(key, Commit::MAX)?;
    let mut stored: Vec<(Commit, Tag, Bytes)> = Vec::new();
    while merge.valid() && merge.key() == key {
        let commit = merge.commit();
        if at.sees(commit) && stored.last().is_none_or(|(last, _, _)| *last != commit) {
            stored.push((commit, merge.tag(), Bytes::copy_from_slice(merge.value())));
        }
        merge.next()?;
    }
    let covers = |range: &RangeDelete| range.commit <= at.commit && range.covers(key);
    let mut deleted: Vec<_> = at.view.range_deletes().into_iter().filter(covers).collect();
    deleted.sort_by_key(|range| range.commit);
    let mut deleted = deleted.into_iter().map(|range| range.commit).peekable();
    let mut versions: Vec<Version> = Vec::new();
    let mut delete = |versions: &mut Vec<Version>, until: Option<Commit>| {
        while let Some(commit) = deleted.next_if(|at| until.is_none_or(|until| *at <= until)) {
            if versions.last().is_some_and(|last| last.value.is_some()) {
                versions.push(Version {
                    commit,
                    value: None,
                    truncated: false,
                });
            }
        }
    };
    // From the oldest up, since a merge builds on what is below it.
    for (commit, tag, value) in stored.iter().rev() {
        delete(&mut versions, Some(*commit));
        let below = versions.last().and_then(|below| below.value.clone());
        let value = match tag.is_merge() {
            true => {
                let merged = operator::apply(&*at.operator()?, key, below.as_deref(), value)?;
                Some(Bytes::from(merged))
            }
            false => {
                let found = at.live_value(*tag, value, Wait::Allowed, Keep::Nowhere)?;
                found.map(|value| Bytes::from(value.into_owned()))
            }
        };
        versions.push(Version {
            commit: *commit,
            value,
            truncated: tag.is_truncated(),
        });
    }
    delete(&mut versions, None);
    versions.reverse();
    Ok(versions)
}
