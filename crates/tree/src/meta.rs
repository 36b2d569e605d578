//! What is declared about a tree: which arrays are keyed, which schemas govern, which scopes there
//! are. It lies beside the document and changes by commits of its own.

use crate::error::{Error, Result};
use crate::key;
use crate::path::{Path, Pattern};
use crate::rows::Rows;
use crate::schema::Schema;
use serde::{Deserialize, Serialize};
use siltstone_kv::Commit;
use std::collections::BTreeMap;

const KEYED: u8 = b'k';
const SCHEMA: u8 = b's';
const SCOPE: u8 = b'c';

/// Written by a commit that changes nothing, so that it has a number all the same.
pub(crate) const NOTHING: [u8; 2] = [key::META, b'n'];
/// Rewritten whenever something is declared; transactions that rely on it read it.
pub(crate) const VERSION: [u8; 2] = [key::META, b'v'];

/// The declarations.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    pub(crate) keyed: Vec<(Pattern, String)>,
    pub(crate) schemas: Vec<Schema>,
    pub(crate) scopes: BTreeMap<String, ScopeInfo>,
}

/// A scope as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeInfo {
    /// Its name.
    pub name: String,
    /// The newest commit when it was made.
    pub created: Commit,
}

impl Meta {
    pub(crate) fn read(rows: &dyn Rows) -> Result<Self> {
        let mut meta = Self::default();
        rows.scan(&[key::META], &[key::META], &mut |key, value| {
            let damaged = || Error::corrupt(format!("the declaration {key:02x?}"));
            let Some((kind, name)) = key.get(1).zip(key.get(2..)) else {
                return Err(damaged());
            };
            if matches!(*kind, KEYED | SCHEMA | SCOPE) {
                let (name, _) = key::name(name).ok_or_else(damaged)?;
                let text = std::str::from_utf8(value).map_err(|_| damaged())?;
                match *kind {
                    KEYED => meta.keyed.push((Pattern::parse(&name)?, text.to_string())),
                    SCHEMA => meta
                        .schemas
                        .push(Schema::compile(Pattern::parse(&name)?, text)?),
                    _ => {
                        let info = serde_json::from_str(text).map_err(|_| damaged())?;
                        meta.scopes.insert(name, info);
                    }
                }
            }
            Ok(true)
        })?;
        Ok(meta)
    }

    /// The field that the elements of the array at `path` are keyed by.
    pub(crate) fn key_field(&self, path: &Path) -> Option<&str> {
        let declared = self.keyed.iter().find(|(at, _)| at.matches(path));
        declared.map(|(_, field)| field.as_str())
    }
}

fn named(kind: u8, name: &str) -> Vec<u8> {
    let mut key = vec![key::META, kind];
    key::push_name(&mut key, name);
    key
}

/// The key of the declaration of a keyed array.
pub(crate) fn keyed_key(pattern: &Pattern) -> Vec<u8> {
    named(KEYED, &pattern.to_string())
}

/// The key of a schema.
pub(crate) fn schema_key(pattern: &Pattern) -> Vec<u8> {
    named(SCHEMA, &pattern.to_string())
}

/// The key of a scope's entry.
pub(crate) fn scope_key(name: &str) -> Vec<u8> {
    named(SCOPE, name)
}
