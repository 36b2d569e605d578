//! A write: change, map, conflicts and event, one after another.

use bytes::Bytes;

use crate::block::{Blocks, Cid, Staged};
use crate::error::{Error, Result};
use crate::prolly::{self, Edit};

use super::change::next_lamport;
use super::{Change, Event, Op, Sibling, Siblings};

/// The longest document id, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 4096;

/// The value of a key in the tree of conflicts: null.
const CONFLICTED: Bytes = Bytes::from_static(&[0xf6]);

/// A write to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The document's id, of 1 to [`MAX_ID_BYTES`] bytes.
    pub key: String,
    /// Its document; None deletes it.
    pub doc: Option<Cid>,
}

/// Appends an event of `writes` after `head` (None: the first event of a ledger): stages its change, its
/// map's nodes and itself, and returns its address. Of several writes to one key the last one counts. The
/// documents' own blocks are staged by the caller. The write resolves the conflicts of its keys.
///
/// # Errors
/// [`Error::Invalid`] for no writes or an empty id, [`Error::TooLarge`] for an id over its limit; those of
/// reading the head and its map.
pub fn append(
    staged: &mut Staged<'_>,
    head: Option<&Cid>,
    author: &[u8],
    time: u64,
    mut writes: Vec<Write>,
) -> Result<Cid> {
    check(&writes)?;
    let before = head.map(|head| staged.event(head)).transpose()?;
    let lamport = match &before {
        Some(event) => next_lamport(staged.change(&event.change)?.lamport)?,
        None => 1,
    };
    let (root, conflicts) = before.map_or((None, None), |event| (event.root, event.conflicts));

    // A stable sort keeps the order of writes to one key; the last of them stays.
    writes.sort_by(|a, b| a.key.cmp(&b.key));
    writes.reverse();
    writes.dedup_by(|later, kept| later.key == kept.key);
    writes.reverse();

    let keys: Vec<&[u8]> = writes.iter().map(|write| write.key.as_bytes()).collect();
    let replaced = prolly::get_many(staged, root.as_ref(), &keys)?;
    let mut resolved = Vec::new();
    let mut ops = Vec::with_capacity(writes.len());
    for (write, old) in writes.into_iter().zip(replaced) {
        let mut overwrote = Vec::new();
        if let Some(old) = old {
            let (winner, count) = Siblings::winner_of(&old)?;
            overwrote.push(winner.change);
            if count > 1 {
                let old = Siblings::decode(&old)?;
                if old.is_conflict() {
                    resolved.push(set_conflict(&write.key, false));
                }
                overwrote = old.all().iter().map(|sibling| sibling.change).collect();
                overwrote.sort_unstable();
            }
        }
        ops.push(Op {
            key: write.key,
            doc: write.doc,
            overwrote,
        });
    }

    let parents = head.into_iter().copied().collect();
    let change = Change::new(staged, parents, lamport, author, time, &ops);
    let change = staged.put(change.block());
    let edits: Vec<_> = ops
        .into_iter()
        .map(|op| {
            let sibling = Sibling {
                lamport,
                change,
                doc: op.doc,
            };
            Edit {
                key: Bytes::from(op.key),
                value: Siblings::new(vec![sibling]).map(|siblings| siblings.encode()),
            }
        })
        .collect();
    let event = Event {
        change,
        root: prolly::apply(staged, root.as_ref(), &edits)?,
        conflicts: match resolved.is_empty() {
            true => conflicts,
            false => prolly::apply(staged, conflicts.as_ref(), &resolved)?,
        },
    };
    Ok(staged.put(event.block()))
}

/// The edit of the tree of conflicts that puts a key in or takes it out.
pub(crate) fn set_conflict(key: &str, conflicted: bool) -> Edit {
    Edit {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: conflicted.then_some(CONFLICTED),
    }
}

fn check(writes: &[Write]) -> Result<()> {
    if writes.is_empty() {
        return Err(Error::invalid("a write of nothing is no event"));
    }
    for write in writes {
        if write.key.is_empty() {
            return Err(Error::invalid("a document's id has at least one character"));
        }
        if write.key.len() > MAX_ID_BYTES {
            return Err(Error::TooLarge {
                what: "the bytes of a document's id",
                size: write.key.len() as u64,
                limit: MAX_ID_BYTES as u64,
            });
        }
    }
    Ok(())
}
