//! Ranges of keys.

use crate::error::{Error, Result, show_key};
use std::ops::Bound;

/// A range of keys: from `start`, included, to `end`, excluded; `None` is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    pub(crate) start: Option<Vec<u8>>,
    pub(crate) end: Option<Vec<u8>>,
}

impl KeyRange {
    /// The keys between two bounds.
    ///
    /// # Errors
    /// [`Error::InvalidRange`] when start lies after end.
    pub fn new(start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<Self> {
        let just_after = |key: &[u8]| [key, b"\0"].concat();
        let start = match start {
            Bound::Included(key) => Some(key.to_vec()),
            Bound::Excluded(key) => Some(just_after(key)),
            Bound::Unbounded => None,
        };
        let (end, shown_end) = match end {
            Bound::Included(key) => (Some(just_after(key)), key),
            Bound::Excluded(key) => (Some(key.to_vec()), key),
            Bound::Unbounded => (None, &b""[..]),
        };
        if let (Some(start), Some(end)) = (&start, &end)
            && start > end
        {
            return Err(Error::InvalidRange {
                start: show_key(start),
                end: show_key(shown_end),
            });
        }
        Ok(Self { start, end })
    }

    /// The keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        // The first key after all of them: the last byte that can be raised, raised.
        while end.last() == Some(&0xff) {
            end.pop();
        }
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self {
            start: Some(prefix.to_vec()),
            end: (!end.is_empty()).then_some(end),
        }
    }

    /// Its start, included, and its end, excluded; `None` is open.
    pub fn bounds(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        self.borrowed()
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!((&self.start, &self.end), (Some(start), Some(end)) if start >= end)
    }

    pub(crate) fn borrowed(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        (self.start.as_deref(), self.end.as_deref())
    }
}
