//! Several writes that become one commit: all or none.

use crate::types::{KeyspaceId, Tag};
use crate::wal::frame::{self, Op};
use crate::{Keyspace, memtable::Memtable};

/// Writes to any keyspaces of one database, in order; of two writes to one key the later counts.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub(crate) ops: Vec<u8>,
    pub(crate) count: u64,
    pub(crate) user_bytes: usize,
    pub(crate) footprint: Footprint,
    /// Longest key and value, checked against the limits when it is written.
    pub(crate) longest_key: usize,
    pub(crate) shortest_key: usize,
    pub(crate) longest_value: (usize, Vec<u8>),
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self {
            shortest_key: usize::MAX,
            ..Self::default()
        }
    }

    /// Sets `key` of `keyspace` to `value`.
    pub fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> &mut Self {
        self.add(&Op {
            keyspace: keyspace.core().id,
            tag: Tag::PUT,
            key,
            value,
        })
    }

    /// Deletes `key` of `keyspace`; one that is not there is already deleted.
    pub fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> &mut Self {
        self.add(&Op {
            keyspace: keyspace.core().id,
            tag: Tag::DELETE,
            key,
            value: b"",
        })
    }

    pub(crate) fn add(&mut self, op: &Op<'_>) -> &mut Self {
        let Op {
            keyspace,
            key,
            value,
            ..
        } = *op;
        frame::put_op(&mut self.ops, op);
        self.count += 1;
        self.user_bytes += key.len() + value.len();
        self.longest_key = self.longest_key.max(key.len());
        self.shortest_key = self.shortest_key.min(key.len());
        if value.len() > self.longest_value.0 {
            self.longest_value = (value.len(), key[..key.len().min(64)].to_vec());
        }
        self.footprint
            .add(keyspace, Memtable::entry_bytes(key.len(), value.len()));
        self
    }

    /// Visits every write in order.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Op<'_>)) {
        let mut at = 0;
        while at < self.ops.len() {
            let op = frame::get_op(&self.ops, &mut at).expect("the batch encoded it");
            visit(&op);
        }
    }

    /// Where the batch stands now, to come back to.
    pub(crate) fn mark(&self) -> BatchMark {
        BatchMark {
            ops: self.ops.len(),
            kept: self.clone_without_ops(),
        }
    }

    /// Undoes what was added since `mark`, which is one of its own.
    pub(crate) fn truncate(&mut self, mark: &BatchMark) {
        let mut ops = std::mem::take(&mut self.ops);
        ops.truncate(mark.ops);
        *self = Self {
            ops,
            ..mark.kept.clone()
        };
    }

    fn clone_without_ops(&self) -> Self {
        Self {
            ops: Vec::new(),
            count: self.count,
            user_bytes: self.user_bytes,
            footprint: self.footprint.clone(),
            longest_key: self.longest_key,
            shortest_key: self.shortest_key,
            longest_value: self.longest_value.clone(),
        }
    }

    /// Number of writes.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.user_bytes
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Where a batch stood.
#[derive(Debug, Clone)]
pub(crate) struct BatchMark {
    ops: usize,
    /// Everything but the operations.
    kept: Batch,
}

/// How many bytes of memtable each keyspace needs for some writes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Footprint(Vec<(KeyspaceId, usize)>);

impl Footprint {
    #[inline]
    pub(crate) fn add(&mut self, keyspace: KeyspaceId, bytes: usize) {
        match self.0.iter_mut().find(|(id, _)| *id == keyspace) {
            Some((_, sum)) => *sum += bytes,
            None => self.0.push((keyspace, bytes)),
        }
    }

    pub(crate) fn merge(&mut self, other: &Footprint) {
        for (keyspace, bytes) in &other.0 {
            self.add(*keyspace, *bytes);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyspaceId, usize)> {
        self.0.iter().copied()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
