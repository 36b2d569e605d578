//! What happened in a range of keys, commit by commit, from the versions that are stored.
//!
//! Exact where every commit of the span is retained, as in a history policy's window: versions that
//! only commits in between would read are gone elsewhere. Only tables and memtables with commits of
//! the span are looked at, unless a range was deleted in it.

use crate::cursor::Cursor;
use crate::error::Result;
use crate::key_range::KeyRange;
use crate::merge::{MergeCursor, Source};
use crate::operator;
use crate::range_delete::RangeDelete;
use crate::read::{Keep, Read, ReadAt, ViewRef};
use crate::sst::table::ReadState;
use crate::stats::GetStats;
use crate::transaction::validate::newest_in;
use crate::types::{Commit, Tag};
use bytes::Bytes;
use siltstone_storage::Wait;
use std::sync::Arc;

/// A change of one key by one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The commit.
    pub commit: Commit,
    /// The key.
    pub key: Bytes,
    /// Its value before; `None`: there was none.
    pub old: Option<Bytes>,
    /// Its value since; `None`: it was deleted.
    pub new: Option<Bytes>,
}

/// The changes of keys of `range` by the commits after `after` up to `upto`, by key and then oldest
/// first. A write that changed nothing is left out. `read` reads at `upto` or later, and not in a
/// transaction.
///
/// # Errors
/// [`crate::Error::Truncated`] when `max_versions` or `max_age` removed versions of the span; the
/// store's.
pub fn range_history(
    read: &impl Read,
    range: &KeyRange,
    after: Commit,
    upto: Commit,
) -> Result<Vec<KeyChange>> {
    let at = read.at()?;
    let upto = upto.min(at.commit);
    if range.is_empty() || after >= upto {
        return Ok(Vec::new());
    }
    // Both ends are read from one view, so that no compaction comes between.
    let (shared, hold) = (at.shared.clone(), at.hold.clone());
    let view = at.view.into_arc();
    let reading_at = |commit| ReadAt {
        view: ViewRef::Held(view.clone()),
        commit,
        shared: shared.clone(),
        hold: hold.clone(),
        overlay: None,
    };
    let at = reading_at(at.commit);
    let deleted: Vec<RangeDelete> = at
        .view
        .range_deletes()
        .into_iter()
        .filter(|d| d.commit > after && d.commit <= upto && d.range().meets(range))
        .collect();
    let state = Arc::new(ReadState::new(Wait::Allowed));
    let sources: Vec<Source> = match deleted.is_empty() {
        true => at.view.sources_after(range.borrowed(), after, &state),
        false => at.sources(range.borrowed(), &state).0,
    };
    let mut merge = MergeCursor::new(sources);
    match &range.start {
        Some(start) => merge.seek(start, Commit::MAX)?,
        None => merge.seek_first()?,
    }
    let span = Span {
        at: &at,
        before: reading_at(after),
        after,
        upto,
        deleted,
    };
    let mut changes = Vec::new();
    let mut stored = Vec::new();
    while merge.valid() && range.contains(merge.key()) {
        let key = merge.key().to_vec();
        stored.clear();
        while merge.valid() && merge.key() == key {
            span.take(&merge, &mut stored)?;
            merge.next()?;
        }
        span.changes_of(&key, &stored, &mut changes)?;
    }
    Ok(changes)
}

/// A commit after `after` that wrote or deleted in `range`, when there is one that `read` sees. Exact
/// while `after` is retained.
///
/// # Errors
/// The store's.
pub fn changed_since(read: &impl Read, range: &KeyRange, after: Commit) -> Result<Option<Commit>> {
    let at = read.at()?;
    let deleted = at.view.range_deletes().into_iter();
    let mut deleted = deleted.filter(|d| d.commit <= at.commit && d.range().meets(range));
    if let Some(found) = deleted.find(|d| d.commit > after) {
        return Ok(Some(found.commit));
    }
    Ok(newest_in(&at.view, range, after)?.map(|(_, commit)| commit))
}

/// What is looked at, and from when to when.
struct Span<'a> {
    at: &'a ReadAt,
    /// Reads at the commit before the span.
    before: ReadAt,
    after: Commit,
    upto: Commit,
    /// Deletions of ranges in the span.
    deleted: Vec<RangeDelete>,
}

impl Span<'_> {
    /// Notes the version that the merge stands on, when it is of the span; newest first.
    fn take(&self, merge: &MergeCursor, stored: &mut Vec<(Commit, Tag, Bytes)>) -> Result<()> {
        let commit = merge.commit();
        if commit <= self.after || !self.at.sees(commit) {
            return Ok(());
        }
        if merge.tag().is_truncated() {
            return Err(self.before.truncated(merge.key(), commit));
        }
        let twin = stored.last().is_some_and(|(last, _, _)| *last == commit);
        if commit <= self.upto && !twin {
            stored.push((commit, merge.tag(), Bytes::copy_from_slice(merge.value())));
        }
        Ok(())
    }

    fn changes_of(
        &self,
        key: &[u8],
        stored: &[(Commit, Tag, Bytes)],
        changes: &mut Vec<KeyChange>,
    ) -> Result<()> {
        let mut deleted: Vec<Commit> = self
            .deleted
            .iter()
            .filter(|deleted| deleted.covers(key))
            .map(|deleted| deleted.commit)
            .collect();
        if stored.is_empty() && deleted.is_empty() {
            return Ok(());
        }
        deleted.sort_unstable();
        let key = Bytes::copy_from_slice(key);
        let mut value = self
            .before
            .get(&key, Wait::Allowed, &mut GetStats::default())?;
        let mut step = |commit, new: Option<Bytes>, value: &mut Option<Bytes>| {
            if *value != new {
                let old = std::mem::replace(value, new.clone());
                let key = key.clone();
                changes.push(KeyChange {
                    commit,
                    key,
                    old,
                    new,
                });
            }
        };
        let mut deleted = deleted.into_iter().peekable();
        for (commit, tag, bytes) in stored.iter().rev() {
            while let Some(at) = deleted.next_if(|at| at < commit) {
                step(at, None, &mut value);
            }
            // In one commit the deletion of a range comes before what is put.
            let cleared = deleted.next_if(|at| at == commit).is_some();
            let base = if cleared { None } else { value.clone() };
            let new = match tag.is_merge() {
                true => {
                    let operator = self.at.operator()?;
                    let merged = operator::apply(&*operator, &key, base.as_deref(), bytes)?;
                    Some(Bytes::from(merged))
                }
                false => {
                    let found = self
                        .at
                        .live_value(*tag, bytes, Wait::Allowed, Keep::Nowhere)?;
                    found.map(|found| Bytes::from(found.into_owned()))
                }
            };
            step(*commit, new, &mut value);
        }
        for at in deleted {
            step(at, None, &mut value);
        }
        Ok(())
    }
}
