//! The rows of a list's keyspace.
//!
//! | key | value |
//! |---|---|
//! | `k` | `list` or `text` |
//! | `d` and the number of an update, 8 bytes, highest first | the document as of that update |
//! | `s` and an author's name | the nonce of the author's session here, 8 bytes, and where the database lived when it was chosen |
//! | `u` and the number of an update, 8 bytes, highest first | an update, as it is sent to others |

use super::ListKind;
use crate::error::{Error, Result};
use siltstone_kv::{Durability, Keyspace, Read, ScanOptions};

const KIND: &[u8] = b"k";
const DOCUMENT: u8 = b'd';
const UPDATE: u8 = b'u';
const SESSION: u8 = b's';

pub(super) struct Kind;

impl Kind {
    pub(super) fn write(keyspace: &Keyspace, kind: ListKind) -> Result<()> {
        let name: &[u8] = match kind {
            ListKind::List => b"list",
            ListKind::Text => b"text",
        };
        keyspace.put_with(KIND, name, Durability::Durable)?;
        Ok(())
    }
}

/// What the list in `keyspace` is.
pub(super) fn kind(name: &str, keyspace: &impl Read) -> Result<ListKind> {
    match keyspace.get(KIND)?.as_deref() {
        Some(b"list") => Ok(ListKind::List),
        Some(b"text") => Ok(ListKind::Text),
        // A crash between the keyspace's creation and this row leaves an empty list.
        None => Err(Error::UnknownList {
            name: name.to_string(),
            known: String::new(),
        }),
        Some(_) => Err(damaged(name, "it is neither a list nor a text".into())),
    }
}

pub(super) fn damaged(name: &str, what: String) -> Error {
    Error::ListDamaged {
        name: name.to_string(),
        what,
    }
}

pub(super) fn document_key(number: u64) -> Vec<u8> {
    key(DOCUMENT, number)
}

pub(super) fn update_key(number: u64) -> Vec<u8> {
    key(UPDATE, number)
}

fn key(kind: u8, number: u64) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// What is stored: the newest document with its number, and the updates after it.
pub(super) struct Rows {
    pub(super) document: Option<(u64, Vec<u8>)>,
    pub(super) updates: Vec<(u64, Vec<u8>)>,
}

pub(super) fn read(name: &str, keyspace: &impl Read) -> Result<Rows> {
    let document = rows(name, keyspace, DOCUMENT)?.pop();
    let after = document.as_ref().map_or(0, |(number, _)| *number);
    let mut updates = rows(name, keyspace, UPDATE)?;
    updates.retain(|(number, _)| *number > after);
    Ok(Rows { document, updates })
}

fn rows(name: &str, keyspace: &impl Read, kind: u8) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut rows = Vec::new();
    for row in keyspace.scan_prefix(&[kind], ScanOptions::default())? {
        let (key, value) = row?;
        let number = key[1..].try_into().map(u64::from_be_bytes);
        let number = number.map_err(|_| damaged(name, format!("a row has the key {key:?}")))?;
        rows.push((number, value.to_vec()));
    }
    Ok(rows)
}

/// The nonce of `author`'s session in the database at `place`. It is kept, so that runs go on from one
/// process to the next. A copy of the database that lives elsewhere chooses its own: two copies never
/// write under one name.
pub(super) fn nonce(
    keyspace: &Keyspace,
    author: &str,
    place: &str,
    fresh: impl FnOnce() -> u64,
) -> Result<u64> {
    let mut key = vec![SESSION];
    key.extend_from_slice(author.as_bytes());
    if let Some(row) = keyspace.get(&key)?
        && let Some((nonce, chosen_at)) = row.split_first_chunk::<8>()
        && chosen_at == place.as_bytes()
    {
        return Ok(u64::from_le_bytes(*nonce));
    }
    let nonce = fresh();
    let row = [&nonce.to_le_bytes()[..], place.as_bytes()].concat();
    keyspace.put_with(&key, &row, Durability::Durable)?;
    Ok(nonce)
}
