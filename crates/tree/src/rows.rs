//! Where rows are read from: a keyspace at some commit, with or without changes that are not in it
//! yet.

use crate::assemble::Assembler;
use crate::error::Result;
use crate::key;
use crate::value::Value;
use bytes::Bytes;
use siltstone_kv::{Commit, KeyRange, Read, ScanOptions, changed_since};
use std::collections::BTreeMap;

/// Sees a row; false ends the scan.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool> + 'a;

/// Rows that are changed and not in the keyspace yet; `None`: deleted.
pub(crate) type Changed = BTreeMap<Vec<u8>, Option<Bytes>>;

/// Something rows can be read from.
pub(crate) trait Rows {
    /// The row of a node.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// The rows whose keys start with `prefix`, from the key `from` on, in order.
    fn scan(&self, prefix: &[u8], from: &[u8], visit: &mut Visit<'_>) -> Result<()>;

    /// The last key that starts with `prefix`.
    fn last(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>>;

    /// A commit after `after` that wrote below `prefix` or there.
    fn changed_since(&self, prefix: &[u8], after: Commit) -> Result<Option<Commit>>;

    /// The value of the node with this key.
    fn value(&self, key: &[u8]) -> Result<Option<Value>> {
        let mut assembler = Assembler::new(key.len());
        self.scan(key, key, &mut |key, row| {
            assembler.feed(key, row)?;
            Ok(true)
        })?;
        Ok(assembler.finish())
    }
}

impl<T: Rows + ?Sized> Rows for &T {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        (**self).get(key)
    }

    fn scan(&self, prefix: &[u8], from: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        (**self).scan(prefix, from, visit)
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
        (**self).last(prefix)
    }

    fn changed_since(&self, prefix: &[u8], after: Commit) -> Result<Option<Commit>> {
        (**self).changed_since(prefix, after)
    }
}

/// A keyspace, or a snapshot of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<R>(pub(crate) R);

impl<R: Read> Rows for Stored<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.0.get(key)?)
    }

    fn scan(&self, prefix: &[u8], from: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        let end = key::end_of(prefix);
        let range = key::range(from, &end);
        let mut scan = self.0.scan::<&[u8]>(range)?;
        while scan.next() {
            if !visit(scan.key(), scan.value())? {
                return Ok(());
            }
        }
        match scan.error() {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        }
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut scan = self.0.scan_prefix(prefix, ScanOptions::reverse())?;
        let found = scan.next().then(|| scan.key().to_vec());
        match scan.error() {
            Some(error) => Err(error.clone().into()),
            None => Ok(found),
        }
    }

    fn changed_since(&self, prefix: &[u8], after: Commit) -> Result<Option<Commit>> {
        Ok(changed_since(&self.0, &KeyRange::prefix(prefix), after)?)
    }
}

/// Rows with changes on top.
pub(crate) struct Over<'a> {
    pub(crate) below: &'a dyn Rows,
    pub(crate) changed: &'a Changed,
    /// Everything that starts with one of these is gone below.
    pub(crate) cleared: &'a [Vec<u8>],
}

impl Over<'_> {
    fn is_cleared(&self, key: &[u8]) -> bool {
        self.cleared.iter().any(|prefix| key.starts_with(prefix))
    }
}

impl Rows for Over<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.changed.get(key) {
            Some(row) => Ok(row.clone()),
            None if self.is_cleared(key) => Ok(None),
            None => self.below.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], from: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        let end = key::end_of(prefix);
        let range = key::range(from, &end);
        let mut changed = match from < end.as_slice() {
            true => self.changed.range::<[u8], _>(range),
            false => return Ok(()),
        };
        if changed.clone().next().is_none() && self.cleared.is_empty() {
            return self.below.scan(prefix, from, visit);
        }
        let mut next = changed.next();
        let mut more = true;
        let all_cleared = self
            .cleared
            .iter()
            .any(|cleared| prefix.starts_with(cleared));
        if !all_cleared {
            self.below.scan(prefix, from, &mut |key, row| {
                while let Some((here, changed_row)) = next
                    && here.as_slice() < key
                {
                    next = changed.next();
                    if let Some(row) = changed_row {
                        more = visit(here, row)?;
                        if !more {
                            return Ok(false);
                        }
                    }
                }
                if let Some((here, changed_row)) = next
                    && here.as_slice() == key
                {
                    next = changed.next();
                    if let Some(row) = changed_row {
                        more = visit(here, row)?;
                    }
                } else if !self.is_cleared(key) {
                    more = visit(key, row)?;
                }
                Ok(more)
            })?;
        }
        while more && let Some((here, row)) = next {
            next = changed.next();
            if let Some(row) = row {
                more = visit(here, row)?;
            }
        }
        Ok(())
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
        let end = key::end_of(prefix);
        let range = key::range(prefix, &end);
        let all_cleared = self
            .cleared
            .iter()
            .any(|cleared| prefix.starts_with(cleared));
        let below = match all_cleared {
            true => None,
            false => self.below.last(prefix)?,
        };
        let hidden = |key: &Vec<u8>| match self.changed.get(key) {
            Some(row) => row.is_none(),
            None => self.is_cleared(key),
        };
        let changed = self.changed.range::<[u8], _>(range);
        if below.as_ref().is_some_and(hidden) {
            // Rare: the last one was taken away. Look at them all.
            let mut last = None;
            self.scan(prefix, prefix, &mut |key, _| {
                last = Some(key.to_vec());
                Ok(true)
            })?;
            return Ok(last);
        }
        let changed = changed.rev().find(|(_, row)| row.is_some());
        Ok(below.max(changed.map(|(key, _)| key.clone())))
    }

    fn changed_since(&self, prefix: &[u8], after: Commit) -> Result<Option<Commit>> {
        self.below.changed_since(prefix, after)
    }
}

impl std::fmt::Debug for Over<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Over").finish_non_exhaustive()
    }
}
