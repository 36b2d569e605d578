//! Dense arrays: elements come in between, behind and out, and those behind them move.

use super::{Writer, checked, decoded, wrong_kind};
use crate::error::{Error, Result};
use crate::key;
use crate::path::{Path, Segment};
use crate::row::{Kind, Row};
use crate::rows::Rows;
use crate::value::Value;
use bytes::Bytes;

impl Writer<'_> {
    /// Puts a value before the element `index` of the dense array at `array`.
    pub(crate) fn insert(&mut self, array: &Path, index: u64, value: &Value) -> Result<()> {
        let key = self.key_of(array)?;
        match self.stage.get(&key)? {
            None if index == 0 => return self.append(array, value).map(drop),
            None => return Err(self.not_found(array)?),
            Some(found) => self.expect_kind(array, &found, Kind::Dense)?,
        }
        let len = self.len(&key)?;
        if index > len {
            return Err(Error::OutOfRange {
                path: array.clone(),
                index,
                len,
            });
        }
        self.shift(array, index, 1)?;
        let mut element = array.index(index);
        let mut key = self.key_of(&element)?;
        self.replace(&mut element, &mut key, value)
    }

    /// Puts a value behind the last element of an array, which is made when there is none. In a keyed
    /// array it goes where its key says; without one it gets one that sorts behind the others.
    /// Answers its path.
    pub(crate) fn append(&mut self, array: &Path, value: &Value) -> Result<Path> {
        let key = self.key_of(array)?;
        let found = self.stage.get(&key)?;
        let field = match found.as_deref().map(|row| decoded(&key, row)).transpose()? {
            None => {
                self.set(array, &Value::Array(Vec::new()))?;
                self.meta.key_field(array).map(str::to_string)
            }
            Some(Row::Container(Kind::Dense)) => None,
            Some(Row::Container(Kind::Keyed(field))) => Some(field.to_string()),
            Some(other) => {
                return Err(wrong_kind(
                    array,
                    &other,
                    "an array that can be appended to",
                ));
            }
        };
        let mut element = match field {
            None => array.index(self.len(&key)?),
            Some(field) => {
                let (id, value) = self.with_id(array, &field, value)?;
                let element = array.child(Segment::Key(id));
                if self.stage.get(&self.key_of(&element)?)?.is_some() {
                    return Err(Error::Refused {
                        path: element,
                        what: "an element with this key is there already; patch or set it".into(),
                    });
                }
                self.set(&element, &value)?;
                return Ok(element);
            }
        };
        let mut key = self.key_of(&element)?;
        self.replace(&mut element, &mut key, value)?;
        Ok(element)
    }

    /// An index is that of an element, or the one after the last.
    pub(super) fn check_index(&self, element_path: &Path, key: &[u8], index: u64) -> Result<()> {
        let mut element = key.to_vec();
        key::push_index(&mut element, index);
        if self.stage.get(&element)?.is_some() || index == 0 {
            return Ok(());
        }
        element.truncate(key.len());
        key::push_index(&mut element, index - 1);
        match self.stage.get(&element)? {
            Some(_) => Ok(()),
            None => Err(Error::OutOfRange {
                path: element_path.parent().unwrap_or_default(),
                index,
                len: self.len(key)?,
            }),
        }
    }

    /// How many elements a dense array has.
    pub(crate) fn len(&self, key: &[u8]) -> Result<u64> {
        let last = self.stage.rows().last(key)?;
        match last.as_deref().map(|last| &last[key.len()..]) {
            None | Some([]) => Ok(0),
            Some(rest) => match key::step(rest) {
                Some((Segment::Index(index), _)) => Ok(index + 1),
                _ => Err(crate::assemble::damaged(
                    key,
                    "an array that holds something else",
                )),
            },
        }
    }

    fn expect_kind(&self, path: &Path, row: &[u8], kind: Kind<'_>) -> Result<()> {
        match decoded(&[], row)? {
            Row::Container(found) if found == kind => Ok(()),
            other => Err(wrong_kind(path, &other, Row::Container(kind).kind())),
        }
    }

    /// Moves the elements of a dense array from `from` on by one place.
    pub(super) fn shift(&mut self, array: &Path, from: u64, by: i64) -> Result<()> {
        let array_key = self.key_of(array)?;
        let mut start = array_key.clone();
        key::push_index(&mut start, from);
        let mut rows: Vec<(Vec<u8>, Bytes)> = Vec::new();
        self.stage
            .rows()
            .scan(&array_key, &start, &mut |key, row| {
                rows.push((key.to_vec(), Bytes::copy_from_slice(row)));
                Ok(true)
            })?;
        if rows.is_empty() {
            return Ok(());
        }
        // As a whole: a scope that writes into an array has all of it.
        self.stage.note_replaced(&array_key);
        for (key, _) in &rows {
            self.stage.remove(key.clone())?;
        }
        for (key, row) in &rows {
            let rest = &key[array_key.len()..];
            let Some((Segment::Index(index), len)) = key::step(rest) else {
                return Err(crate::assemble::damaged(key, "no element of a dense array"));
            };
            let mut moved = array_key.clone();
            key::push_index(&mut moved, index.wrapping_add_signed(by));
            moved.extend_from_slice(&rest[len..]);
            self.stage.put(checked(moved)?, row.to_vec())?;
        }
        Ok(())
    }
}
