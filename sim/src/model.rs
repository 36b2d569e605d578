//! What the database must answer: every version of every key of a keyspace, so its contents at
//! every commit.

use crate::commit::{Entry, append};
use crate::values::Key;
use siltstone_storage::Timestamp;
use std::collections::BTreeMap;

/// The time that reads are made at. A value that expires after `now` and up to `latest` may be gone
/// already: the clock was further once, or will be before the read is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) now: Timestamp,
    pub(crate) latest: Timestamp,
}

/// What a key must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) value: Option<Vec<u8>>,
    /// Right as well, when a value is about to expire.
    pub(crate) or: Option<Option<Vec<u8>>>,
}

impl Answer {
    pub(crate) fn is(&self, found: Option<&[u8]>) -> bool {
        self.value.as_deref() == found || self.or.as_ref().is_some_and(|or| or.as_deref() == found)
    }

    pub(crate) fn is_certain(&self) -> bool {
        self.or.is_none()
    }

    /// Certainly nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.value.is_none() && self.or.is_none()
    }
}

/// One keyspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map {
    /// Commits in the newest so many are always readable: the smallest window it ever had.
    pub(crate) window: u64,
    /// Versions inside the window may be thinned: the policy has, or had, such limits.
    pub(crate) limited: bool,
    /// It has the operator that appends.
    pub(crate) merges: bool,
    /// The versions of each key, oldest first.
    versions: BTreeMap<Key, Vec<(u64, Entry)>>,
}

impl Map {
    pub(crate) fn new(window: u64, limited: bool, merges: bool) -> Self {
        Self {
            window,
            limited,
            merges,
            versions: BTreeMap::new(),
        }
    }

    pub(crate) fn write(&mut self, key: Key, commit: u64, entry: Entry) {
        let versions = self.versions.entry(key).or_default();
        match versions.last_mut() {
            Some(last) if last.0 == commit => last.1 = entry,
            _ => versions.push((commit, entry)),
        }
    }

    pub(crate) fn delete_range(&mut self, from: Key, to: Key, commit: u64) {
        for versions in self.versions.range_mut(from..to).map(|(_, v)| v) {
            versions.push((commit, Entry::Delete));
        }
    }

    /// The commit that wrote `key` last.
    pub(crate) fn newest(&self, key: Key) -> u64 {
        let versions = self.versions.get(&key);
        versions.and_then(|all| all.last()).map_or(0, |last| last.0)
    }

    /// The commit that wrote a key of `from..to` last.
    pub(crate) fn newest_in(&self, from: Key, to: Key) -> u64 {
        let keys = self.versions.range(from..to);
        keys.filter_map(|(_, all)| Some(all.last()?.0))
            .max()
            .unwrap_or(0)
    }

    /// What `key` holds at `commit`.
    pub(crate) fn get(&self, key: Key, commit: u64, times: Times) -> Answer {
        self.get_with(key, commit, times, None)
    }

    /// As [`Map::get`], with an entry that stands above all versions.
    pub(crate) fn get_with(
        &self,
        key: Key,
        commit: u64,
        times: Times,
        above: Option<&Entry>,
    ) -> Answer {
        let all = self.versions.get(&key).map_or(&[][..], |all| all);
        let upto = all.partition_point(|(c, _)| *c <= commit);
        let below = all[..upto].iter().rev().map(|(_, entry)| entry);
        let mut operands: Vec<&[u64]> = Vec::new();
        let mut base = None;
        for entry in above.into_iter().chain(below) {
            match entry {
                Entry::Merge(more) => operands.push(more),
                other => {
                    base = Some(other);
                    break;
                }
            }
        }
        let finish = |base: Option<Vec<u8>>| {
            if operands.is_empty() {
                return base;
            }
            let mut value = base.unwrap_or_default();
            for more in operands.iter().rev() {
                append(&mut value, more);
            }
            Some(value)
        };
        let (value, may_be_gone) = match base {
            None | Some(Entry::Delete | Entry::Merge(_)) => (None, false),
            Some(Entry::Anew(all)) => {
                let mut value = Vec::new();
                append(&mut value, all);
                (Some(value), false)
            }
            Some(Entry::Put {
                value,
                appended,
                expires,
            }) => {
                let gone = |at: Timestamp| expires.is_some_and(|expires| expires <= at);
                match gone(times.now) {
                    true => (None, false),
                    false => {
                        let bytes = Entry::value(key, *value, appended);
                        (Some(bytes), gone(times.latest))
                    }
                }
            }
        };
        Answer {
            value: finish(value),
            or: may_be_gone.then(|| finish(None)),
        }
    }

    /// Forgets what was written after `head`.
    pub(crate) fn cut(&mut self, head: u64) {
        for versions in self.versions.values_mut() {
            while versions.last().is_some_and(|(commit, _)| *commit > head) {
                versions.pop();
            }
        }
    }
}
