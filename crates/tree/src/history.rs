//! What a node was, commit by commit, and how two commits differ.

use crate::error::{Error, Result};
use crate::key;
use crate::path::{Path, Segment, ToPath};
use crate::row::{self, Row};
use crate::rows::{Changed, Over, Rows, Stored};
use crate::source::Source;
use crate::tree::Tree;
use crate::value::Value;
use crate::view::View;
use crate::watch::{Change, Watched};
use crate::writer::decoded;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use siltstone_kv::{Commit, Error as KvError, KeyRange, Read, range_history};
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

/// The history of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeHistory {
    /// The commits that changed it, oldest first.
    pub entries: Vec<HistoryEntry>,
    /// From this commit on every change is there by itself. Before it history is thinner: an entry
    /// then stands for all changes between two retained commits.
    pub complete_since: Commit,
}

/// A change of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// The commit that made it; where history is thinner, the retained commit at which it is seen.
    pub commit: Commit,
    /// The retained commit before: the change came after it.
    pub after: Commit,
    /// What was there before; `None`: nothing.
    pub old: Option<Value>,
    /// What is there since; `None`: nothing.
    pub new: Option<Value>,
    /// What changed, at the node and below.
    pub changes: Vec<Change>,
}

/// The first and the last commit of a range.
fn ends(commits: &impl RangeBounds<Commit>, head: Commit) -> (Commit, Commit) {
    let first = match commits.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => Commit(before.0.saturating_add(1)),
        Bound::Unbounded => Commit::ZERO,
    };
    let last = match commits.end_bound() {
        Bound::Included(last) => *last,
        Bound::Excluded(after) => Commit(after.0.saturating_sub(1)),
        Bound::Unbounded => head,
    };
    (first, last.min(head))
}

/// The history of the node at `path` by the commits from `first` to `last`.
pub(crate) fn history(
    source: &Source,
    path: &Path,
    commits: &impl RangeBounds<Commit>,
    limit: usize,
) -> Result<NodeHistory> {
    let head = source.commit()?;
    let (first, last) = ends(commits, head);
    let retained = source.retained()?;
    let before = Commit(first.0.saturating_sub(1));
    // The state before the first commit, or the oldest after it that can be read.
    let Some(start) = retained.at_or_after(before).filter(|start| *start <= last) else {
        return Err(KvError::NotRetained {
            asked: before,
            before: retained.at_or_before(before),
            after: retained.at_or_after(before),
        }
        .into());
    };
    let held = source.at_commit(start)?;
    let node = key::encode(path);
    let range = KeyRange::prefix(&node);
    let rows = range_history(source, &range, start, last)?;
    // Afterwards: everything that is retained now was retained while the versions were read.
    let retained = source.retained()?;
    let complete_since = source.window_start()?.max(start);
    let mut seen: BTreeMap<Commit, Changed> = BTreeMap::new();
    for row in rows {
        // Versions behind the last retained commit of the range are another's.
        if let Some(at) = retained.at_or_after(row.commit).filter(|at| *at <= last) {
            seen.entry(at)
                .or_default()
                .insert(row.key.to_vec(), row.new);
        }
    }
    let watched = Watched::new(path.clone().into());
    let start_rows = Stored(held);
    let mut now = Changed::new();
    let value = |now: &Changed| {
        let over = Over {
            below: &start_rows,
            changed: now,
            cleared: &[],
        };
        over.value(&node)
    };
    let mut entries = Vec::new();
    let mut old = value(&now)?;
    for (commit, changed) in seen {
        if entries.len() >= limit {
            break;
        }
        let changes = watched.changes(&changed, &[])?;
        now.extend(changed);
        let new = value(&now)?;
        if new != old {
            let after = retained.at_or_before(Commit(commit.0 - 1));
            entries.push(HistoryEntry {
                commit,
                after: after.unwrap_or(start),
                old: std::mem::replace(&mut old, new.clone()),
                new,
                changes,
            });
        }
    }
    Ok(NodeHistory {
        entries,
        complete_since,
    })
}

/// How the node at `path` became at `b` what it is there from what it was at `a`, as RFC 6902 with
/// pointers from the node.
pub(crate) fn diff(a: &dyn Rows, b: &dyn Rows, path: &Path) -> Result<Patch> {
    let node = key::encode(path);
    let collect = |rows: &dyn Rows| {
        let mut all: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        rows.scan(&node, &node, &mut |key, row| {
            all.insert(key.to_vec(), row.to_vec());
            Ok(true)
        })?;
        Ok::<_, Error>(all)
    };
    let (old, new) = (collect(a)?, collect(b)?);
    let mut changed = Changed::new();
    for (key, row) in &new {
        if old.get(key) != Some(row) {
            changed.insert(key.clone(), Some(row.clone().into()));
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        changed.insert(key.clone(), None);
    }
    let keyed = keyed_arrays(&new, &changed)?;
    let watched = Watched::new(path.clone().into());
    let (mut sets, mut removals) = (Vec::new(), Vec::new());
    let mut said: Option<Path> = None;
    for change in watched.changes(&changed, &[])? {
        // In JSON the elements of a keyed array have no names: it is set as a whole.
        if let Some(array) = keyed.iter().find(|array| array.contains(&change.path)) {
            if said.as_ref() != Some(array) {
                let value = b.value(&key::encode(array))?;
                let change = Change {
                    path: array.clone(),
                    value,
                };
                sets.push(operation(path, &change, &old)?);
                said = Some(array.clone());
            }
            continue;
        }
        match change.value {
            Some(_) => sets.push(operation(path, &change, &old)?),
            None => removals.push(operation(path, &change, &old)?),
        }
    }
    // The last element of an array first.
    sets.extend(removals.into_iter().rev());
    Ok(Patch(sets))
}

/// The keyed arrays, outermost ones, in which something changed and that are there on both sides.
fn keyed_arrays(new: &BTreeMap<Vec<u8>, Vec<u8>>, changed: &Changed) -> Result<Vec<Path>> {
    let mut found: Vec<Path> = Vec::new();
    for path in changed.keys().filter_map(|key| key::decode(key)) {
        let steps = path.segments().iter();
        let Some(at) = steps
            .clone()
            .position(|step| matches!(step, Segment::Key(_)))
        else {
            continue;
        };
        let mut array = path.clone();
        array.truncate(at);
        let key = key::encode(&array);
        let there = match new.get(&key) {
            Some(row) => matches!(decoded(&key, row)?, Row::Container(row::Kind::Keyed(_))),
            None => false,
        };
        if there && !changed.contains_key(&key) && found.last() != Some(&array) {
            found.push(array);
        }
    }
    Ok(found)
}

fn operation(
    base: &Path,
    change: &Change,
    old: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<PatchOperation> {
    let relative = base.relative(&change.path).unwrap_or_default();
    let pointer = relative.to_pointer();
    let path =
        json_patch::jsonptr::PointerBuf::parse(&pointer).map_err(|error| Error::JsonPatch {
            what: error.to_string(),
        })?;
    let existed = old.contains_key(&key::encode(&change.path));
    Ok(match &change.value {
        None => PatchOperation::Remove(RemoveOperation { path }),
        Some(value) if existed => PatchOperation::Replace(ReplaceOperation {
            path,
            value: value.to_json(),
        }),
        Some(value) => PatchOperation::Add(AddOperation {
            path,
            value: value.to_json(),
        }),
    })
}

impl Tree {
    /// The commits of a range that changed the node at `path`, oldest first, at most `limit`. Where
    /// history is thinner than commit by commit, an entry stands for what happened between two
    /// retained commits; see [`NodeHistory::complete_since`].
    ///
    /// # Errors
    /// [`KvError::NotRetained`] when nothing of the range can be read; the store's.
    pub fn history(
        &self,
        path: impl ToPath,
        commits: impl RangeBounds<Commit>,
        limit: usize,
    ) -> Result<NodeHistory> {
        let path = path.to_path()?;
        history(&self.inner.source(), &path, &commits, limit)
            .map_err(|error| error.of_tree(&self.inner.name))
    }

    /// How the node at `path` became at commit `b` what it is there from what it was at `a`, as an RFC
    /// 6902 patch with pointers from the node. Sparse arrays are objects in it; a keyed array that
    /// differs is set as a whole.
    ///
    /// # Errors
    /// [`KvError::NotRetained`] naming the nearest readable commits; the store's.
    pub fn diff(&self, path: impl ToPath, a: Commit, b: Commit) -> Result<Patch> {
        let path = path.to_path()?;
        self.at(a)?.diff(&self.at(b)?, &path)
    }
}

impl View {
    /// How the node at `path` is in `later` other than in this one; see [`Tree::diff`].
    ///
    /// # Errors
    /// The store's.
    pub fn diff(&self, later: &View, path: impl ToPath) -> Result<Patch> {
        diff(self.rows(), later.rows(), &path.to_path()?)
    }
}
