//! What a commit changed, as one watch sees it: only at and below what it watches, a new container as
//! one value, a deleted one as one deletion. Pure.

use crate::assemble::Assembler;
use crate::error::Result;
use crate::key;
use crate::path::{Path, Pattern};
use crate::row;
use crate::rows::Changed;
use crate::value::Value;
use crate::view::leaf_of;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// One change of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The node, from the root.
    pub path: Path,
    /// What it is now, with everything below it; `None`: it is gone.
    pub value: Option<Value>,
}

impl Serialize for Change {
    /// `{"path": "a.b", "value": 1}`, or `{"path": "a.b", "deleted": true}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("path", &self.path.to_string())?;
        match &self.value {
            Some(value) => map.serialize_entry("value", value)?,
            None => map.serialize_entry("deleted", &true)?,
        }
        map.end()
    }
}

/// What is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pattern: Pattern,
    /// The key of the path, or of its part without wildcards.
    key: Vec<u8>,
    literal: bool,
}

impl Watched {
    pub(crate) fn new(pattern: Pattern) -> Self {
        Self {
            key: key::encode(&pattern.literal_prefix()),
            literal: !pattern.has_wildcards(),
            pattern,
        }
    }

    pub(crate) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn is_literal(&self) -> bool {
        self.literal
    }

    /// True when the node at `key`, or one above it, is watched.
    fn covers(&self, key: &[u8]) -> bool {
        key.starts_with(&self.key)
            && (self.literal
                || key::decode(key)
                    .is_some_and(|path| self.pattern.matches_above(&path).next().is_some()))
    }

    /// What of a commit's changes it sees, in order.
    pub(crate) fn changes(&self, changed: &Changed, cleared: &[Vec<u8>]) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for prefix in cleared {
            if self.covers(prefix)
                && !matches!(changed.get(prefix), Some(Some(_)))
                && let Some(path) = key::decode(prefix)
            {
                changes.push(Change { path, value: None });
            }
        }
        let end = key::end_of(&self.key);
        let rows = changed.range::<[u8], _>(key::range(&self.key, &end));
        let mut rows = rows.filter(|(key, _)| self.covers(key)).peekable();
        let first = changes.len();
        while let Some((key, row)) = rows.next() {
            let Some(path) = key::decode(key) else {
                continue;
            };
            let value = match row {
                Some(row) if row::is_container(row) => {
                    let mut assembler = Assembler::new(key.len());
                    assembler.feed(key, row)?;
                    while let Some((below, row)) = rows.next_if(|(below, _)| below.starts_with(key))
                    {
                        if let Some(row) = row {
                            assembler.feed(below, row)?;
                        }
                    }
                    assembler.finish()
                }
                Some(row) => {
                    while rows.next_if(|(below, _)| below.starts_with(key)).is_some() {}
                    leaf_of(key, row)?
                }
                None => {
                    while rows.next_if(|(below, _)| below.starts_with(key)).is_some() {}
                    None
                }
            };
            let said = value.is_none()
                && changes[..first]
                    .iter()
                    .any(|change| change.path.contains(&path));
            if !said {
                changes.push(Change { path, value });
            }
        }
        if first > 0 {
            changes.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Ok(changes)
    }
}
