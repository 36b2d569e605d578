//! JSON Schemas that govern parts of a document. A schema is checked against the nodes that a commit
//! changes at, below, or through.

use crate::error::{Error, Result};
use crate::key;
use crate::path::{Path, Pattern};
use crate::rows::Rows;
use crate::stage::Stage;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A schema and the path, or pattern, of what it governs.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    pub(crate) at: Pattern,
    /// As it was given.
    pub(crate) text: String,
    validator: Arc<jsonschema::Validator>,
}

impl Schema {
    pub(crate) fn compile(at: Pattern, text: &str) -> Result<Self> {
        let bad = |what: String| Error::BadSchema {
            path: at.to_string(),
            what,
        };
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        let validator = jsonschema::validator_for(&json).map_err(|error| bad(error.to_string()))?;
        Ok(Self {
            at,
            text: text.to_string(),
            validator: Arc::new(validator),
        })
    }

    /// Checks the node at `path`; one that is not there breaks nothing.
    pub(crate) fn check(&self, rows: &dyn Rows, path: &Path) -> Result<()> {
        let Some(value) = rows.value(&key::encode(path))? else {
            return Ok(());
        };
        let json = value.to_json();
        let first = self.validator.iter_errors(&json).next();
        match first {
            None => Ok(()),
            Some(broken) => Err(Error::Schema {
                schema: self.at.to_string(),
                at: format!("{}{}", path.to_pointer(), broken.instance_path()),
                what: broken.to_string(),
            }),
        }
    }

    /// Checks every node that it governs.
    pub(crate) fn check_all(&self, rows: &dyn Rows) -> Result<()> {
        for path in crate::view::matching(rows, &self.at)? {
            self.check(rows, &path)?;
        }
        Ok(())
    }
}

/// Checks what a stage changes against the schemas that govern it.
pub(crate) fn check_changes(schemas: &[Schema], stage: &Stage<'_>) -> Result<()> {
    for schema in schemas {
        let mut governed = BTreeSet::new();
        let changed = stage.changed().keys().chain(stage.cleared());
        for path in changed.filter_map(|key| key::decode(key)) {
            for depth in schema.at.matches_above(&path) {
                let mut node = path.clone();
                node.truncate(depth);
                governed.insert(node);
            }
        }
        for path in governed {
            schema.check(&stage.rows(), &path)?;
        }
    }
    Ok(())
}
