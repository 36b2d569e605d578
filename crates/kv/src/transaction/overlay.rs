//! What a transaction adds to a read: its own writes in front, and a note of what was read.
//!
//! Own writes stand in memtables of the transaction's, with numbers above every real commit, so
//! that lookups, merges and scans treat them as the newest versions there are.

use crate::key_range::KeyRange;
use crate::memtable::Memtable;
use crate::transaction::guard::Guard;
use crate::types::{Commit, KeyspaceId};
use parking_lot::Mutex;
use std::sync::Arc;

/// Numbers from here on belong to a transaction's own writes.
const OWN: u64 = 1 << 63;

/// Keys noted one by one in a keyspace; beyond, a range stands for them all.
const MAX_KEYS: usize = 100_000;

/// The number of a transaction's `n`-th write, from 1.
pub(crate) fn own(n: u64) -> Commit {
    Commit(OWN + n)
}

/// What has been read so far.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    guard: Guard,
    /// Each grows while its scan goes on.
    scanned: Vec<(KeyspaceId, KeyRange)>,
}

impl Reads {
    pub(crate) fn add_key(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        self.guard.add_key(keyspace, key);
        self.guard.coarsen(keyspace, MAX_KEYS);
    }

    /// Everything that was read, as a guard.
    pub(crate) fn guard(&self) -> Guard {
        let mut guard = self.guard.clone();
        for (keyspace, range) in &self.scanned {
            guard.add_range(*keyspace, range.clone());
        }
        guard
    }
}

/// A transaction's part in a read of one keyspace.
#[derive(Debug, Clone)]
pub(crate) struct Overlay {
    pub(crate) keyspace: KeyspaceId,
    /// Its own writes to the keyspace; `None`: there are none.
    pub(crate) memtable: Option<Arc<Memtable>>,
    /// Its own writes up to this number count.
    pub(crate) upto: Commit,
    /// Where reads are noted; `None`: they need not be.
    pub(crate) reads: Option<Arc<Mutex<Reads>>>,
}

impl Overlay {
    /// True when `commit` is one of its own writes that counts.
    #[inline]
    pub(crate) fn sees(&self, commit: Commit) -> bool {
        commit.0 > OWN && commit <= self.upto
    }

    pub(crate) fn note_key(&self, key: &[u8]) {
        if let Some(reads) = &self.reads {
            reads.lock().add_key(self.keyspace, key);
        }
    }

    /// Starts to note a scan, which has read nothing yet.
    pub(crate) fn note_scan(&self) -> Option<ScanNote> {
        let reads = self.reads.clone()?;
        let mut locked = reads.lock();
        let nothing = KeyRange {
            start: Some(Vec::new()),
            end: Some(Vec::new()),
        };
        locked.scanned.push((self.keyspace, nothing));
        let at = locked.scanned.len() - 1;
        drop(locked);
        Some(ScanNote { reads, at })
    }
}

/// Where a scan notes how far it has read.
#[derive(Debug)]
pub(crate) struct ScanNote {
    reads: Arc<Mutex<Reads>>,
    at: usize,
}

impl ScanNote {
    /// Everything in `range` has been read.
    pub(crate) fn read(&self, range: KeyRange) {
        self.reads.lock().scanned[self.at].1 = range;
    }

    /// The range has been read up to `key`, which is included.
    pub(crate) fn read_to(&self, start: Option<&[u8]>, key: &[u8]) {
        let range = &mut self.reads.lock().scanned[self.at].1;
        range.start = start.map(<[u8]>::to_vec);
        let end = range.end.get_or_insert_default();
        end.clear();
        end.extend_from_slice(key);
        end.push(0);
    }

    /// The range has been read down to `key`, which is included.
    pub(crate) fn read_down_to(&self, key: &[u8], end: Option<&[u8]>) {
        let range = &mut self.reads.lock().scanned[self.at].1;
        range.end = end.map(<[u8]>::to_vec);
        let start = range.start.get_or_insert_default();
        start.clear();
        start.extend_from_slice(key);
    }
}
