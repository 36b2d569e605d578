//! Values as rows.

use super::Writer;
use crate::MAX_DEPTH;
use crate::error::{Error, Result};
use crate::key;
use crate::path::{Path, Segment};
use crate::row::{self, Kind};
use crate::value::Value;
use std::collections::BTreeSet;

impl Writer<'_> {
    /// Puts `value` in the place of whatever is there; the container around it is there.
    pub(super) fn replace(
        &mut self,
        path: &mut Path,
        key: &mut Vec<u8>,
        value: &Value,
    ) -> Result<()> {
        let old = self.stage.get(key)?;
        let old_holds = old.as_deref().is_some_and(row::is_container);
        if let Some(leaf) = row::leaf(value)
            && !old_holds
        {
            match self.stage.is_fresh(key) {
                true => self.stage.put_over(key.clone(), leaf, old.as_deref()),
                false => self.stage.put(key.clone(), leaf)?,
            }
            return Ok(());
        }
        let fresh = old.is_none() && self.stage.is_fresh(key);
        if old_holds {
            self.stage.clear(key, true)?;
        } else {
            self.stage.note_replaced(key);
        }
        self.explode(path, key, value, fresh)
    }

    /// Writes the rows of a value. Recursion ends at [`MAX_DEPTH`].
    fn explode(
        &mut self,
        path: &mut Path,
        key: &mut Vec<u8>,
        value: &Value,
        fresh: bool,
    ) -> Result<()> {
        if path.depth() > MAX_DEPTH {
            return Err(Error::TooDeep {
                path: path.clone(),
                depth: path.depth(),
            });
        }
        if key.len() > key::MAX_KEY {
            return Err(Error::PathTooLong { len: key.len() });
        }
        if let Some(leaf) = row::leaf(value) {
            return self.put(key.clone(), leaf, fresh);
        }
        let here = key.len();
        match value {
            Value::Object(fields) => {
                self.put(key.clone(), row::container(Kind::Object), fresh)?;
                for (name, value) in fields.iter() {
                    key::push_field(key, name);
                    path.push(Segment::Field(name.to_string()));
                    self.explode(path, key, value, fresh)?;
                    path.pop();
                    key.truncate(here);
                }
            }
            Value::Sparse(items) => {
                self.put(key.clone(), row::container(Kind::Sparse), fresh)?;
                for (index, value) in items {
                    let segment = Segment::Sparse(*index);
                    key::push(key, &segment);
                    path.push(segment);
                    self.explode(path, key, value, fresh)?;
                    path.pop();
                    key.truncate(here);
                }
            }
            Value::Array(items) => match self.meta.key_field(path) {
                Some(field) => self.explode_keyed(path, key, items, field, fresh)?,
                None => {
                    self.put(key.clone(), row::container(Kind::Dense), fresh)?;
                    for (index, value) in items.iter().enumerate() {
                        key::push_index(key, index as u64);
                        path.push(Segment::Index(index as u64));
                        self.explode(path, key, value, fresh)?;
                        path.pop();
                        key.truncate(here);
                    }
                }
            },
            _ => unreachable!("leaves were written above"),
        }
        Ok(())
    }

    fn explode_keyed(
        &mut self,
        path: &mut Path,
        key: &mut Vec<u8>,
        items: &[Value],
        field: &str,
        fresh: bool,
    ) -> Result<()> {
        self.put(key.clone(), row::container(Kind::Keyed(field)), fresh)?;
        let here = key.len();
        let mut seen = BTreeSet::new();
        for item in items {
            let (id, item) = self.with_id(path, field, item)?;
            let segment = Segment::Key(id);
            key::push(key, &segment);
            path.push(segment.clone());
            if !seen.insert(segment) {
                return Err(Error::Refused {
                    path: path.clone(),
                    what: format!("two elements have this {field:?}"),
                });
            }
            self.explode(path, key, &item, fresh)?;
            path.pop();
            key.truncate(here);
        }
        Ok(())
    }

    fn put(&mut self, key: Vec<u8>, row: Vec<u8>, fresh: bool) -> Result<()> {
        match fresh {
            true => self.stage.put_fresh(key, row),
            false => self.stage.put(key, row)?,
        }
        Ok(())
    }
}
