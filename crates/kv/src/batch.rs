//! Several writes that become one commit: all or none.

use crate::error::{Error, Result, show_key};
use crate::key_range::KeyRange;
use crate::memtable::Memtable;
use crate::operator::{self, MergeOperator};
use crate::range_delete::RangeDelete;
use crate::types::{Commit, KeyspaceId, Kind, Tag};
use crate::wal::frame::{self, Op};
use crate::{Keyspace, ttl};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
    /// It has merges or deletions of ranges.
    special: bool,
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

    /// Sets `key` of `keyspace` to `value` for as long as `ttl`; then it is gone.
    pub fn put_ttl(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        value: &[u8],
        ttl: Duration,
    ) -> &mut Self {
        let expires = keyspace.database().env().clock.now().after(ttl);
        self.add(&Op {
            keyspace: keyspace.core().id,
            tag: Tag::PUT_EXPIRING,
            key,
            value: &ttl::encode(value, expires),
        })
    }

    /// Changes `key` of `keyspace` by `operand`, as the keyspace's merge operator says.
    pub fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> &mut Self {
        let mut list = Vec::with_capacity(operand.len() + 2);
        operator::put_operand(&mut list, operand);
        self.add(&Op {
            keyspace: keyspace.core().id,
            tag: Tag::MERGE,
            key,
            value: &list,
        })
    }

    /// Deletes every key of `range`, with one small record. What is put later in this batch stays.
    pub fn delete_range(&mut self, keyspace: &Keyspace, range: &KeyRange) -> &mut Self {
        if range.is_empty() || range.end.as_deref() == Some(b"") {
            return self;
        }
        self.add(&Op {
            keyspace: keyspace.core().id,
            tag: Tag::RANGE_DELETE,
            key: range.start.as_deref().unwrap_or_default(),
            value: range.end.as_deref().unwrap_or_default(),
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
        self.special |= !matches!(op.tag.kind(), Kind::Put | Kind::Delete);
        self.longest_key = self.longest_key.max(key.len());
        if op.tag.is_range_delete() {
            // The start may be empty, and the end is a key.
            self.longest_key = self.longest_key.max(value.len());
        } else {
            self.shortest_key = self.shortest_key.min(key.len());
        }
        if value.len() > self.longest_value.0 {
            self.longest_value = (value.len(), key[..key.len().min(64)].to_vec());
        }
        self.footprint
            .add(keyspace, Memtable::entry_bytes(key.len(), value.len()));
        self
    }

    /// Visits the writes to `keyspace` in order. Merges come as their operands' bytes are stored, and
    /// are not for callers: a keyspace without a merge operator has none.
    pub fn for_each_in(&self, keyspace: KeyspaceId, mut visit: impl FnMut(Written<'_>)) {
        self.for_each(|op| {
            if op.keyspace != keyspace {
                return;
            }
            match op.tag.kind() {
                Kind::Put => visit(Written::Put {
                    key: op.key,
                    value: &op.value[ttl::prefix(op.tag, op.value)..],
                }),
                Kind::Delete => visit(Written::Delete { key: op.key }),
                Kind::RangeDelete => visit(Written::DeleteRange(
                    &RangeDelete::of_op(op.key, op.value, Commit::ZERO).range(),
                )),
                Kind::Merge | Kind::Ingested => {}
            }
        });
    }

    /// Visits every write in order.
    pub(crate) fn for_each(&self, visit: impl FnMut(&Op<'_>)) {
        self.for_each_from(0, visit);
    }

    /// Visits every write since `mark` in order.
    pub(crate) fn for_each_since(&self, mark: &BatchMark, visit: impl FnMut(&Op<'_>)) {
        self.for_each_from(mark.ops, visit);
    }

    fn for_each_from(&self, mut at: usize, mut visit: impl FnMut(&Op<'_>)) {
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
            special: self.special,
        }
    }

    /// The batch as it is written: of several writes to one key, one is left, since a commit holds
    /// one version of a key; deletions of ranges come first.
    ///
    /// # Errors
    /// [`Error::Merge`] for an operand that the operator refuses; what `operator_of` answers.
    pub(crate) fn settled(
        &self,
        mut operator_of: impl FnMut(KeyspaceId) -> Result<Arc<dyn MergeOperator>>,
    ) -> Result<Cow<'_, Batch>> {
        if !self.special {
            return Ok(Cow::Borrowed(self));
        }
        let mut settled = Settled::default();
        let mut failed = None;
        self.for_each(|op| {
            if failed.is_none() {
                failed = settled.add(op, &mut operator_of).err();
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Cow::Owned(settled.into_batch())),
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

/// One write of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written<'a> {
    /// A key is set.
    Put {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// A key is deleted.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// All keys of a range are deleted.
    DeleteRange(&'a KeyRange),
}

/// One commit being put together: at most one write a key.
#[derive(Default)]
struct Settled {
    ranges: Vec<(KeyspaceId, KeyRange)>,
    writes: BTreeMap<(KeyspaceId, Vec<u8>), (Tag, Vec<u8>)>,
}

impl Settled {
    fn add(
        &mut self,
        op: &Op<'_>,
        operator_of: &mut impl FnMut(KeyspaceId) -> Result<Arc<dyn MergeOperator>>,
    ) -> Result<()> {
        let place = (op.keyspace, op.key.to_vec());
        match op.tag.kind() {
            Kind::Put | Kind::Delete => {
                self.writes.insert(place, (op.tag, op.value.to_vec()));
            }
            Kind::RangeDelete => {
                let range = RangeDelete::of_op(op.key, op.value, Commit::ZERO).range();
                let covered = |(keyspace, key): &(KeyspaceId, Vec<u8>)| {
                    *keyspace == op.keyspace && range.contains(key)
                };
                self.writes.retain(|place, _| !covered(place));
                self.ranges.push((op.keyspace, range));
            }
            Kind::Ingested => unreachable!("only an ingest writes it, without a batch"),
            Kind::Merge => {
                let operator = operator_of(op.keyspace)?;
                let merged = self.merged(op, &*operator)?;
                self.writes.insert(place, merged);
            }
        }
        Ok(())
    }

    fn merged(&self, op: &Op<'_>, operator: &dyn MergeOperator) -> Result<(Tag, Vec<u8>)> {
        let put = |base: Option<&[u8]>| {
            let value = operator::apply(operator, op.key, base, op.value)?;
            Ok((Tag::PUT, value))
        };
        let deleted = |(keyspace, range): &(KeyspaceId, KeyRange)| {
            *keyspace == op.keyspace && range.contains(op.key)
        };
        match self.writes.get(&(op.keyspace, op.key.to_vec())) {
            Some((tag, list)) if tag.is_merge() => {
                Ok((Tag::MERGE, [list.as_slice(), op.value].concat()))
            }
            Some((tag, stored)) if tag.is_put() => {
                let prefix = ttl::prefix(*tag, stored);
                let (_, value) = put(Some(&stored[prefix..]))?;
                Ok((*tag, [&stored[..prefix], &value].concat()))
            }
            Some(_) => put(None),
            None if self.ranges.iter().any(deleted) => put(None),
            None => {
                let all = operator::operands(op.value).unwrap_or_default();
                let refused = all.into_iter().find_map(|one| operator.check(one).err());
                match refused {
                    None => Ok((Tag::MERGE, op.value.to_vec())),
                    Some(what) => Err(Error::Merge {
                        key: show_key(op.key),
                        operator: operator.name().to_string(),
                        what,
                    }),
                }
            }
        }
    }

    fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        for (keyspace, range) in &self.ranges {
            batch.add(&Op {
                keyspace: *keyspace,
                tag: Tag::RANGE_DELETE,
                key: range.start.as_deref().unwrap_or_default(),
                value: range.end.as_deref().unwrap_or_default(),
            });
        }
        for ((keyspace, key), (tag, value)) in &self.writes {
            batch.add(&Op {
                keyspace: *keyspace,
                tag: *tag,
                key,
                value,
            });
        }
        batch
    }
}

/// Where a batch stood.
#[derive(Debug, Clone)]
pub(crate) struct BatchMark {
    ops: usize,
    /// Everything but the operations.
    kept: Batch,
}

impl BatchMark {
    /// The number of writes before it.
    pub(crate) fn count(&self) -> u64 {
        self.kept.count
    }
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
