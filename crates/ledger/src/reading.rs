//! Reads at one clock: what the ledger, a snapshot and an old clock have in common.

use crate::block::{Blocks, Cid};
use crate::clock::{Event, Sibling, Siblings};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::prolly::{self, Direction, KeyRange, Scan};
use crate::store::Store;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

pub use crate::clock::MAX_ID_BYTES;

/// What [`all_docs`](crate::Ledger::all_docs) shall list. All of them, ascending, by default.
#[derive(Debug, Clone)]
pub struct AllDocs {
    /// Ids that start with this.
    pub prefix: Option<String>,
    /// Ids from here on.
    pub start: Bound<String>,
    /// Ids up to here.
    pub end: Bound<String>,
    /// At most this many rows; `None`: all.
    pub limit: Option<usize>,
    /// Go on after the row with this id: a page's `next`.
    pub after: Option<String>,
    /// Largest id first.
    pub descending: bool,
    /// Deleted documents too, marked.
    pub include_deleted: bool,
    /// The documents with the ids.
    pub include_docs: bool,
}

impl Default for AllDocs {
    fn default() -> Self {
        Self {
            prefix: None,
            start: Bound::Unbounded,
            end: Bound::Unbounded,
            limit: None,
            after: None,
            descending: false,
            include_deleted: false,
            include_docs: true,
        }
    }
}

impl AllDocs {
    /// Documents whose ids start with `prefix`.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self {
            prefix: Some(prefix.into()),
            ..Self::default()
        }
    }

    fn key_range(&self) -> KeyRange {
        let bytes = |id: &String| Bytes::copy_from_slice(id.as_bytes());
        let mut range = KeyRange {
            start: self.start.as_ref().map(bytes),
            end: self.end.as_ref().map(bytes),
        };
        if let Some(prefix) = &self.prefix {
            let prefixed = KeyRange::prefix(prefix.as_bytes());
            range.start = later(range.start, prefixed.start);
            range.end = earlier(range.end, prefixed.end);
        }
        if let Some(after) = &self.after {
            let after = Bound::Excluded(bytes(after));
            match self.descending {
                false => range.start = later(range.start, after),
                true => range.end = earlier(range.end, after),
            }
        }
        range
    }
}

/// The start that leaves less.
fn later(one: Bound<Bytes>, two: Bound<Bytes>) -> Bound<Bytes> {
    let rank = |bound: &Bound<Bytes>| match bound {
        Bound::Unbounded => None,
        Bound::Included(key) => Some((key.clone(), 0)),
        Bound::Excluded(key) => Some((key.clone(), 1)),
    };
    if rank(&one) >= rank(&two) { one } else { two }
}

/// The end that leaves less.
fn earlier(one: Bound<Bytes>, two: Bound<Bytes>) -> Bound<Bytes> {
    let rank = |bound: &Bound<Bytes>| match bound {
        Bound::Unbounded => (1, Bytes::new(), 0),
        Bound::Included(key) => (0, key.clone(), 1),
        Bound::Excluded(key) => (0, key.clone(), 0),
    };
    if rank(&one) <= rank(&two) { one } else { two }
}

/// One document of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: String,
    /// The document; `None` when it is deleted or was not asked for.
    pub document: Option<Document>,
    /// True when it is deleted.
    pub deleted: bool,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// To be given as `after` for the next page; `None` at the end.
    pub next: Option<String>,
}

/// One version of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The change that wrote it.
    pub change: Cid,
    /// Its lamport time.
    pub lamport: u64,
    /// When, by the author's clock: milliseconds since 1970.
    pub time: u64,
    /// Who.
    pub author: Option<Bytes>,
    /// What; `None` for a deletion.
    pub document: Option<Document>,
    /// True when no later version replaced it: the winner, or a loser of a conflict.
    pub current: bool,
}

/// The versions of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Newest first. The first is what `get` answers.
    pub versions: Vec<Version>,
    /// True when older ones were pruned, or the limit was reached.
    pub truncated: bool,
}

/// A document with more than one current version: replicas wrote it without knowing of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its id.
    pub id: String,
    /// What `get` answers.
    pub winner: Version,
    /// The others. The next put replaces all of them.
    pub losers: Vec<Version>,
}

/// Blocks of a store, with those of a merge that was only computed for a read.
pub(crate) struct Reading<'a> {
    pub(crate) store: &'a Store,
    pub(crate) blocks: &'a dyn Blocks,
    pub(crate) event: Option<Event>,
}

impl<'a> Reading<'a> {
    fn root(&self) -> Option<Cid> {
        self.event.and_then(|event| event.root)
    }

    /// A document.
    pub(crate) fn get(&self, id: &str) -> Result<Document> {
        let not_found = || Error::NotFound { id: id.to_string() };
        let root = self.root();
        let value = prolly::get(self.blocks, root.as_ref(), id.as_bytes())?;
        let (winner, _) = Siblings::winner_of(&value.ok_or_else(not_found)?)?;
        self.store.document(&winner.doc.ok_or_else(not_found)?)
    }

    /// The versions of a key that nothing replaced.
    pub(crate) fn siblings(&self, id: &str) -> Result<Option<Siblings>> {
        let root = self.root();
        let value = prolly::get(self.blocks, root.as_ref(), id.as_bytes())?;
        value.map(|value| Siblings::decode(&value)).transpose()
    }

    /// A page of documents.
    pub(crate) fn all_docs(&self, wanted: &AllDocs) -> Result<Page> {
        let direction = match wanted.descending {
            false => Direction::Ascending,
            true => Direction::Descending,
        };
        let mut scan = Scan::new(self.blocks, self.root(), wanted.key_range(), direction);
        let limit = wanted.limit.unwrap_or(usize::MAX);
        let mut rows: Vec<Row> = Vec::new();
        while let Some((key, value)) = scan.advance()? {
            let (winner, _) = Siblings::winner_of(value)?;
            if winner.doc.is_none() && !wanted.include_deleted {
                continue;
            }
            if rows.len() == limit {
                let next = rows.last().map(|row| row.id.clone());
                return Ok(Page { rows, next });
            }
            let document = match winner.doc {
                Some(doc) if wanted.include_docs => Some(self.store.document(&doc)?),
                _ => None,
            };
            rows.push(Row {
                id: id_of(key)?,
                document,
                deleted: winner.doc.is_none(),
            });
        }
        Ok(Page { rows, next: None })
    }

    /// The versions of a document, newest first, `limit` of them at most.
    pub(crate) fn history(&self, id: &str, limit: usize, pruned: bool) -> Result<History> {
        let Some(siblings) = self.siblings(id)? else {
            return Err(Error::NotFound { id: id.to_string() });
        };
        let winner = *siblings.winner();
        let mut history = History {
            versions: vec![self.version(&winner, true)?],
            truncated: false,
        };
        // By lamport time and address: the newest that is left is the last.
        let mut open: BTreeMap<(u64, Cid), Option<bool>> = BTreeMap::new();
        let mut seen: BTreeSet<Cid> = [winner.change].into();
        for sibling in siblings.all() {
            if seen.insert(sibling.change) {
                open.insert((sibling.lamport, sibling.change), Some(true));
            }
        }
        self.open_older(
            id,
            &winner.change,
            &mut open,
            &mut seen,
            &mut history,
            pruned,
        )?;
        while let Some(((lamport, change), current)) = open.pop_last() {
            if history.versions.len() >= limit {
                history.truncated = true;
                break;
            }
            let decoded = self.blocks.change(&change)?;
            let op = decoded.op(self.blocks, id)?;
            let sibling = Sibling {
                lamport,
                change,
                doc: op.and_then(|op| op.doc),
            };
            match self.version(&sibling, current.is_some()) {
                Ok(version) => history.versions.push(version),
                // The change is at the boundary of a prune; its document went.
                Err(error) if pruned && error.is_missing_block() => {
                    history.truncated = true;
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.open_older(id, &change, &mut open, &mut seen, &mut history, pruned)?;
        }
        Ok(history)
    }

    /// Adds what a change overwrote to what is still to be visited.
    fn open_older(
        &self,
        id: &str,
        change: &Cid,
        open: &mut BTreeMap<(u64, Cid), Option<bool>>,
        seen: &mut BTreeSet<Cid>,
        history: &mut History,
        pruned: bool,
    ) -> Result<()> {
        let decoded = match self.blocks.change(change) {
            Err(error) if pruned && error.is_missing_block() => {
                history.truncated = true;
                return Ok(());
            }
            other => other?,
        };
        let op = match decoded.op(self.blocks, id) {
            Err(error) if pruned && error.is_missing_block() => {
                history.truncated = true;
                return Ok(());
            }
            other => other?,
        };
        for older in op.into_iter().flat_map(|op| op.overwrote) {
            if !seen.insert(older) {
                continue;
            }
            match self.blocks.change(&older) {
                Ok(found) => {
                    open.insert((found.lamport, older), None);
                }
                Err(error) if pruned && error.is_missing_block() => history.truncated = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn version(&self, sibling: &Sibling, current: bool) -> Result<Version> {
        let change = match self.blocks.change(&sibling.change) {
            Ok(change) => Some(change),
            // Pruned; what it wrote is still the current version.
            Err(error) if current && error.is_missing_block() => None,
            Err(error) => return Err(error),
        };
        let document = match sibling.doc {
            Some(doc) => Some(self.store.document(&doc)?),
            None => None,
        };
        Ok(Version {
            change: sibling.change,
            lamport: sibling.lamport,
            time: change.as_ref().map_or(0, |change| change.time),
            author: change.and_then(|change| change.author.clone()),
            document,
            current,
        })
    }

    /// The documents in conflict, by id.
    pub(crate) fn conflicts(&self) -> Result<Vec<Conflict>> {
        let root = self.event.and_then(|event| event.conflicts);
        let mut found = Vec::new();
        for entry in Scan::new(self.blocks, root, KeyRange::all(), Direction::Ascending) {
            let id = id_of(&entry?.key)?;
            let Some(siblings) = self.siblings(&id)? else {
                continue;
            };
            let mut versions = Vec::new();
            for sibling in siblings.all() {
                versions.push(self.version(sibling, true)?);
            }
            let winner = versions.remove(0);
            found.push(Conflict {
                id,
                winner,
                losers: versions,
            });
        }
        Ok(found)
    }
}

/// The id that a key of the map is.
pub(crate) fn id_of(key: &[u8]) -> Result<String> {
    match std::str::from_utf8(key) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(Error::corrupt("the map of documents", "a key is not UTF-8")),
    }
}
