//! Keyed arrays: every element has its key in it, and keeps it.

use super::{Writer, decoded};
use crate::error::{Error, Result};
use crate::key;
use crate::path::{Path, Segment};
use crate::row::{self, Kind, Row};
use crate::value::Value;

impl Writer<'_> {
    /// An element of a keyed array that is made on the way has its key in it.
    pub(super) fn give_key_field(&mut self, path: &Path, key: &[u8]) -> Result<()> {
        if let (Some(Segment::Key(id)), Some(array)) = (path.last(), path.parent())
            && let Some(field) = self.key_field_of(&array)?
        {
            let mut field_key = key.to_vec();
            key::push_field(&mut field_key, &field);
            if let Some(row) = row::leaf(&Value::String(id.clone())) {
                self.stage.put(field_key, row)?;
            }
        }
        Ok(())
    }

    /// An element of a keyed array with its key, which is given when there is none.
    pub(super) fn with_id(
        &mut self,
        array: &Path,
        field: &str,
        item: &Value,
    ) -> Result<(String, Value)> {
        let refuse = |what: String| Error::Refused {
            path: array.clone(),
            what,
        };
        let Value::Object(fields) = item else {
            return Err(refuse(format!(
                "the elements of an array keyed by {field:?} are objects, this is {}",
                item.kind()
            )));
        };
        match fields.get(field) {
            Some(Value::String(id)) => Ok((id.clone(), item.clone())),
            None | Some(Value::Null) => {
                let id = self.ids.next();
                let mut fields = fields.clone();
                fields.insert(field, Value::String(id.clone()));
                Ok((id, Value::Object(fields)))
            }
            Some(other) => Err(refuse(format!(
                "the key {field:?} of an element is text, this is {}",
                other.kind()
            ))),
        }
    }

    /// The key field of the array at `path`, as it is stored.
    pub(super) fn key_field_of(&self, path: &Path) -> Result<Option<String>> {
        let key = self.key_of(path)?;
        let row = self.stage.get(&key)?;
        Ok(
            match row.as_deref().map(|row| decoded(&key, row)).transpose()? {
                Some(Row::Container(Kind::Keyed(field))) => Some(field.to_string()),
                Some(_) => None,
                None => self.meta.key_field(path).map(str::to_string),
            },
        )
    }

    /// An element that is set by its key has it, or gets it.
    pub(super) fn fill_key_field(&self, path: &Path, value: &Value) -> Result<Option<Value>> {
        let (Some(Segment::Key(id)), Some(array)) = (path.last(), path.parent()) else {
            return Ok(None);
        };
        let Some(field) = self.key_field_of(&array)? else {
            return Ok(None);
        };
        let refuse = |what: String| {
            Err(Error::Refused {
                path: path.clone(),
                what,
            })
        };
        let Value::Object(fields) = value else {
            return refuse(format!(
                "the elements of a keyed array are objects, this is {}",
                value.kind()
            ));
        };
        match fields.get(&field) {
            Some(Value::String(have)) if have == id => Ok(None),
            Some(Value::Null) | None => {
                let mut fields = fields.clone();
                fields.insert(field, Value::String(id.clone()));
                Ok(Some(Value::Object(fields)))
            }
            Some(other) => refuse(format!("its {field:?} is {other}, not {id:?}")),
        }
    }

    /// The key of an element stays what its place says.
    pub(super) fn check_is_no_key_field(&self, path: &Path, value: Option<&Value>) -> Result<()> {
        let [above @ .., Segment::Key(id), Segment::Field(name)] = path.segments() else {
            return Ok(());
        };
        let array = Path::from(above.to_vec());
        match self.key_field_of(&array)? {
            Some(field) if field == *name && value.and_then(Value::as_str) != Some(id) => {
                Err(Error::Refused {
                    path: path.clone(),
                    what: "this field is the key of the element; it cannot change. Delete the element and add another".into(),
                })
            }
            _ => Ok(()),
        }
    }
}
