//! One commit of the model: what several writes come to, as a commit holds one entry a key.

use crate::values::{Key, key_bytes, operand_bytes, value_bytes};
use siltstone_storage::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of a keyspace.
pub(crate) type Name = Arc<str>;

/// What a write does to a key or a range.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doing {
    Put(Key, u64),
    PutUntil(Key, u64, Timestamp),
    Delete(Key),
    Merge(Key, u64),
    DeleteRange(Key, Key),
}

/// One write.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) keyspace: Name,
    pub(crate) doing: Doing,
}

/// What one commit says of a key. Values and operands by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Put {
        value: u64,
        /// Appended to it in the same commit.
        appended: Vec<u64>,
        expires: Option<Timestamp>,
    },
    /// Operands onto nothing, since the key was deleted in the same commit.
    Anew(Vec<u64>),
    Delete,
    Merge(Vec<u64>),
}

/// What a commit wrote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commit {
    pub(crate) ranges: Vec<(Name, Key, Key)>,
    pub(crate) entries: BTreeMap<(Name, Key), Entry>,
    /// At most so many bytes of log.
    pub(crate) bytes: u64,
}

impl Commit {
    pub(crate) fn of(writes: &[Write]) -> Self {
        let mut commit = Self {
            bytes: 160,
            ..Self::default()
        };
        for write in writes {
            commit.add(write);
        }
        commit
    }

    fn add(&mut self, write: &Write) {
        let name = &write.keyspace;
        let put = |value, expires| Entry::Put {
            value,
            appended: Vec::new(),
            expires,
        };
        self.bytes += 64;
        let (key, entry) = match write.doing {
            Doing::Put(key, nonce) => (key, put(nonce, None)),
            Doing::PutUntil(key, nonce, expires) => (key, put(nonce, Some(expires))),
            Doing::Delete(key) => (key, Entry::Delete),
            Doing::Merge(key, nonce) => (key, self.merged(name, key, nonce)),
            Doing::DeleteRange(from, to) => {
                self.entries
                    .retain(|(of, key), _| of != name || !(from..to).contains(key));
                self.ranges.push((name.clone(), from, to));
                return;
            }
        };
        if let Entry::Put { value, .. } = &entry {
            self.bytes += value_bytes(key, *value).len() as u64;
        }
        self.entries.insert((name.clone(), key), entry);
    }

    fn merged(&mut self, name: &Name, key: Key, nonce: u64) -> Entry {
        let place = (name.clone(), key);
        match self.entries.remove(&place) {
            Some(Entry::Put {
                value,
                mut appended,
                expires,
            }) => {
                appended.push(nonce);
                Entry::Put {
                    value,
                    appended,
                    expires,
                }
            }
            Some(Entry::Anew(mut all)) => {
                all.push(nonce);
                Entry::Anew(all)
            }
            Some(Entry::Merge(mut all)) => {
                all.push(nonce);
                Entry::Merge(all)
            }
            Some(Entry::Delete) => Entry::Anew(vec![nonce]),
            None if self.deletes(name, key) => Entry::Anew(vec![nonce]),
            None => Entry::Merge(vec![nonce]),
        }
    }

    /// True when a range of the commit holds the key.
    pub(crate) fn deletes(&self, name: &Name, key: Key) -> bool {
        let holds = |(of, from, to): &(Name, Key, Key)| of == name && (*from..*to).contains(&key);
        self.ranges.iter().any(holds)
    }

    /// True when the commit wrote a key of `from..to`, or deleted a range that meets it.
    pub(crate) fn touches(&self, name: &Name, from: Key, to: Key) -> bool {
        let meets = |(of, start, end): &(Name, Key, Key)| of == name && *start < to && from < *end;
        let mut keys = self.entries.range((name.clone(), from)..(name.clone(), to));
        keys.next().is_some() || self.ranges.iter().any(meets)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.entries.is_empty()
    }
}

impl Entry {
    /// The value that a put holds.
    pub(crate) fn value(key: Key, value: u64, appended: &[u64]) -> Vec<u8> {
        let mut bytes = value_bytes(key, value);
        append(&mut bytes, appended);
        bytes
    }
}

/// Appends operands.
pub(crate) fn append(bytes: &mut Vec<u8>, operands: &[u64]) {
    for nonce in operands {
        bytes.extend_from_slice(&operand_bytes(*nonce));
    }
}

/// The first key's bytes and the one after the last's.
pub(crate) fn range_bytes(from: Key, to: Key) -> (Vec<u8>, Vec<u8>) {
    (key_bytes(from), key_bytes(to))
}
