//! Changes to rows before they are committed, over the rows that there are. What is put as it is
//! already stored is no change, so that a commit writes only what differs.

use crate::error::Result;
use crate::key;
use crate::rows::{Changed, Over, Rows};
use bytes::Bytes;

/// A subtree with more rows than this is deleted with one record for its range.
const MANY: usize = 256;

/// The changes.
pub(crate) struct Stage<'a> {
    base: &'a dyn Rows,
    changed: Changed,
    cleared: Vec<Vec<u8>>,
    /// Nodes that were set or deleted as a whole, with everything below.
    replaced: Vec<Vec<u8>>,
}

/// The changes when they are complete.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) changed: Changed,
    /// Ranges that are deleted first: everything that starts with one of these.
    pub(crate) cleared: Vec<Vec<u8>>,
}

impl Staged {
    /// Of rows alone.
    pub(crate) fn of<const N: usize>(rows: [(Vec<u8>, Option<Bytes>); N]) -> Self {
        Self {
            changed: rows.into(),
            ..Self::default()
        }
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(base: &'a dyn Rows) -> Self {
        Self {
            base,
            changed: Changed::new(),
            cleared: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Of changes that were made elsewhere.
    pub(crate) fn of(base: &'a dyn Rows, changed: Changed, cleared: Vec<Vec<u8>>) -> Self {
        Self {
            base,
            changed,
            cleared,
            replaced: Vec::new(),
        }
    }

    /// The rows with the changes.
    pub(crate) fn rows(&self) -> Over<'_> {
        Over {
            below: self.base,
            changed: &self.changed,
            cleared: &self.cleared,
        }
    }

    pub(crate) fn changed(&self) -> &Changed {
        &self.changed
    }

    pub(crate) fn replaced(&self) -> &[Vec<u8>] {
        &self.replaced
    }

    pub(crate) fn cleared(&self) -> &[Vec<u8>] {
        &self.cleared
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if self.changed.is_empty() && self.cleared.is_empty() {
            return self.base.get(key);
        }
        self.rows().get(key)
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        self.cleared.iter().any(|prefix| key.starts_with(prefix))
    }

    /// The row that stays when `key` is not changed.
    fn kept(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.is_cleared(key) {
            true => Ok(None),
            false => self.base.get(key),
        }
    }

    /// True when nothing is stored at `key` or below it, given that the node is not there now.
    pub(crate) fn is_fresh(&self, key: &[u8]) -> bool {
        !self.changed.contains_key(key) && !self.is_cleared(key)
    }

    /// Sets a row.
    pub(crate) fn put(&mut self, key: Vec<u8>, row: Vec<u8>) -> Result<()> {
        let kept = self.kept(&key)?;
        self.put_over(key, row, kept.as_deref());
        Ok(())
    }

    /// Sets a row over what would stay there without.
    pub(crate) fn put_over(&mut self, key: Vec<u8>, row: Vec<u8>, kept: Option<&[u8]>) {
        if kept == Some(row.as_slice()) {
            self.changed.remove(&key);
        } else {
            self.changed.insert(key, Some(row.into()));
        }
    }

    /// Sets a row where the node is not there and nothing is stored.
    pub(crate) fn put_fresh(&mut self, key: Vec<u8>, row: Vec<u8>) {
        self.changed.insert(key, Some(row.into()));
    }

    /// Deletes one row.
    pub(crate) fn remove(&mut self, key: Vec<u8>) -> Result<()> {
        match self.kept(&key)? {
            Some(_) => self.changed.insert(key, None),
            None => self.changed.remove(&key),
        };
        Ok(())
    }

    /// Deletes a node and everything below it. When something is to be put there again, and most of
    /// it may be as it was, `again` lets go of fewer rows at once.
    pub(crate) fn clear(&mut self, prefix: &[u8], again: bool) -> Result<()> {
        self.replaced.push(prefix.to_vec());
        let end = key::end_of(prefix);
        let staged: Vec<_> = self
            .changed
            .range::<[u8], _>(key::range(prefix, &end))
            .map(|(key, _)| key.clone())
            .collect();
        for key in staged {
            self.changed.remove(&key);
        }
        let most = if again { MANY * 64 } else { MANY };
        let mut keys = Vec::new();
        let cleared = &self.cleared;
        self.base.scan(prefix, prefix, &mut |key, _| {
            if !cleared.iter().any(|prefix| key.starts_with(prefix)) {
                keys.push(key.to_vec());
            }
            Ok(keys.len() <= most)
        })?;
        if keys.len() > most {
            self.cleared.retain(|cleared| !cleared.starts_with(prefix));
            self.cleared.push(prefix.to_vec());
            return Ok(());
        }
        self.changed.extend(keys.into_iter().map(|key| (key, None)));
        Ok(())
    }

    /// Notes that a node is set as a whole.
    pub(crate) fn note_replaced(&mut self, key: &[u8]) {
        self.replaced.push(key.to_vec());
    }

    pub(crate) fn finish(self) -> Staged {
        Staged {
            changed: self.changed,
            cleared: self.cleared,
        }
    }
}
