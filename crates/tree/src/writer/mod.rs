//! Operations on a document, worked out as changes of rows. Nothing is written here: whoever called
//! commits the changes, or drops them when an operation was refused.

mod dense;
mod explode;
mod ids;
mod keyed;

pub(crate) use ids::Ids;

use crate::MAX_DEPTH;
use crate::error::{Error, Result, shown};
use crate::key;
use crate::meta::Meta;
use crate::path::{Path, Segment};
use crate::row::{self, Kind, Row};
use crate::rows::Rows;
use crate::stage::{Stage, Staged};
use crate::value::{Fields, Number, Value};

/// Works operations out, one after another; each sees what those before it did.
pub(crate) struct Writer<'a> {
    pub(crate) stage: Stage<'a>,
    meta: &'a Meta,
    ids: Ids,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(base: &'a dyn Rows, meta: &'a Meta, ids: Ids) -> Self {
        Self {
            stage: Stage::new(base),
            meta,
            ids,
        }
    }

    pub(crate) fn finish(self) -> Staged {
        self.stage.finish()
    }

    /// The value at `path`.
    pub(crate) fn value(&self, path: &Path) -> Result<Option<Value>> {
        self.stage.rows().value(&key::encode(path))
    }

    /// Sets what is at `path`, whatever was there. Containers on the way are made as the path says.
    pub(crate) fn set(&mut self, path: &Path, value: &Value) -> Result<()> {
        let mut key = self.key_of(path)?;
        let filled = self.fill_key_field(path, value)?;
        self.check_is_no_key_field(path, Some(value))?;
        self.reach(path, &key)?;
        let value = filled.as_ref().unwrap_or(value);
        match value.is_container() {
            true => self.replace(&mut path.clone(), &mut key, value),
            // The path of a leaf is not needed any more.
            false => self.replace(&mut Path::root(), &mut key, value),
        }
    }

    /// RFC 7396 below `path`: objects are merged, null deletes a field, all else is set.
    pub(crate) fn patch(&mut self, path: &Path, value: &Value) -> Result<()> {
        match value {
            Value::Null => self.delete_if_there(path),
            Value::Object(fields) => match self.kind_at(path)? {
                Some(FoundKind::Object) => self.patch_fields(path, fields),
                Some(FoundKind::Sparse) => self.patch_elements(path, &sparse_of(path, fields)?),
                _ => self.set(path, &without_nulls(value)),
            },
            Value::Sparse(items) => match self.kind_at(path)? {
                Some(FoundKind::Sparse) => self.patch_elements(path, items),
                _ => self.set(path, &without_nulls(value)),
            },
            other => self.set(path, other),
        }
    }

    fn patch_fields(&mut self, path: &Path, fields: &Fields) -> Result<()> {
        let mut child = path.clone();
        for (name, value) in fields.iter() {
            child.push(Segment::Field(name.to_string()));
            self.patch(&child, value)?;
            child.pop();
        }
        Ok(())
    }

    fn patch_elements(
        &mut self,
        path: &Path,
        items: &std::collections::BTreeMap<i64, Value>,
    ) -> Result<()> {
        let mut child = path.clone();
        for (index, value) in items {
            child.push(Segment::Sparse(*index));
            self.patch(&child, value)?;
            child.pop();
        }
        Ok(())
    }

    /// Deletes what is at `path`; the elements of a dense array behind it move up.
    pub(crate) fn delete(&mut self, path: &Path) -> Result<()> {
        let key = self.key_of(path)?;
        if self.stage.get(&key)?.is_none() {
            return Err(self.not_found(path)?);
        }
        self.check_is_no_key_field(path, None)?;
        self.stage.clear(&key, false)?;
        if let (Some(Segment::Index(index)), Some(array)) = (path.last(), path.parent()) {
            self.shift(&array, index + 1, -1)?;
        }
        Ok(())
    }

    fn delete_if_there(&mut self, path: &Path) -> Result<()> {
        let key = self.key_of(path)?;
        match self.stage.get(&key)? {
            Some(_) => self.delete(path),
            None => Ok(()),
        }
    }

    /// Adds to a number; where there is none yet, it counts from 0.
    pub(crate) fn increment(&mut self, path: &Path, delta: &Number) -> Result<()> {
        let key = self.key_of(path)?;
        let found = self.stage.get(&key)?;
        let value = match found.as_deref().map(|row| decoded(&key, row)).transpose()? {
            None => return self.set(path, &Value::Number(delta.clone())),
            Some(Row::Leaf(Value::Number(number))) => number,
            Some(other) => return Err(wrong_kind(path, &other, "a number")),
        };
        let sum = add(&value, delta).ok_or_else(|| Error::Overflow {
            path: path.clone(),
            value: value.to_string(),
            delta: delta.to_string(),
        })?;
        self.set(path, &Value::Number(sum))
    }

    fn key_of(&self, path: &Path) -> Result<Vec<u8>> {
        if path.depth() > MAX_DEPTH {
            return Err(Error::TooDeep {
                path: path.clone(),
                depth: path.depth(),
            });
        }
        checked(key::encode(path))
    }

    fn kind_at(&self, path: &Path) -> Result<Option<FoundKind>> {
        let key = self.key_of(path)?;
        let row = self.stage.get(&key)?;
        Ok(
            match row.as_deref().map(|row| decoded(&key, row)).transpose()? {
                None => None,
                Some(Row::Container(Kind::Object)) => Some(FoundKind::Object),
                Some(Row::Container(Kind::Sparse)) => Some(FoundKind::Sparse),
                Some(_) => Some(FoundKind::Other),
            },
        )
    }

    /// Makes sure that the container of `path` is there and may hold it.
    fn reach(&mut self, path: &Path, key: &[u8]) -> Result<()> {
        let Some(last) = path.last() else {
            return Ok(());
        };
        let parent_key = &key[..key::last_step(key)];
        let found = self.stage.get(parent_key)?;
        if let Some(row) = &found
            && let Row::Container(kind) = decoded(parent_key, row)?
            && kind.holds(last)
        {
            return match last {
                Segment::Index(index) => self.check_index(path, parent_key, *index),
                _ => Ok(()),
            };
        }
        let parent = path.parent().unwrap_or_default();
        match found {
            Some(row) => Err(wrong_kind(
                &parent,
                &decoded(parent_key, &row)?,
                last.container(),
            )),
            None => self.make(&parent, parent_key, last),
        }
    }

    /// Makes the container at `path`, and those above it that are not there, for the element `last`.
    fn make(&mut self, path: &Path, key: &[u8], last: &Segment) -> Result<()> {
        self.reach(path, key)?;
        self.check_is_no_key_field(path, None)?;
        let made = self.container_for(path, last)?;
        if let Segment::Index(index) = last
            && *index > 0
        {
            return Err(Error::OutOfRange {
                path: path.clone(),
                index: *index,
                len: 0,
            });
        }
        self.stage.put(key.to_vec(), made)?;
        self.give_key_field(path, key)
    }

    /// The row of a container that is made on the way to an element.
    fn container_for(&self, path: &Path, element: &Segment) -> Result<Vec<u8>> {
        let declared = self.meta.key_field(path);
        let kind = match (element, declared) {
            (Segment::Field(_), _) => Kind::Object,
            (Segment::Sparse(_), _) => Kind::Sparse,
            (Segment::Key(_), Some(field)) => Kind::Keyed(field),
            (Segment::Index(_), None) => Kind::Dense,
            (Segment::Key(_), None) => {
                return Err(Error::Refused {
                    path: path.clone(),
                    what:
                        "no keyed array is there, and none is declared; declare its key field first"
                            .into(),
                });
            }
            (Segment::Index(_), Some(field)) => {
                return Err(Error::Refused {
                    path: path.clone(),
                    what: format!(
                        "this array is keyed by {field:?}; name its elements by key, as in a(key)"
                    ),
                });
            }
        };
        if let (Some(Segment::Key(_)), true) = (path.last(), kind != Kind::Object) {
            return Err(Error::Refused {
                path: path.clone(),
                what: "the elements of a keyed array are objects".into(),
            });
        }
        Ok(row::container(kind))
    }

    pub(crate) fn not_found(&self, path: &Path) -> Result<Error> {
        not_found(&self.stage.rows(), path)
    }
}

/// The error for a path where nothing is.
pub(crate) fn not_found(rows: &dyn Rows, path: &Path) -> Result<Error> {
    let mut above = path.clone();
    while let Some(parent) = above.parent() {
        above = parent;
        let key = key::encode(&above);
        if let Some(row) = rows.get(&key)? {
            let kind = decoded(&key, &row)?.kind();
            return Ok(Error::NotFound {
                path: path.clone(),
                nearest: format!("{} is {kind}", shown(&above)),
            });
        }
    }
    Ok(Error::NotFound {
        path: path.clone(),
        nearest: "the document is empty".into(),
    })
}

/// What a patch has to know of what it meets.
enum FoundKind {
    Object,
    Sparse,
    Other,
}

pub(crate) fn decoded<'r>(key: &[u8], row: &'r [u8]) -> Result<Row<'r>> {
    row::decode(row).ok_or_else(|| crate::assemble::damaged(key, "a row that is no value"))
}

fn checked(key: Vec<u8>) -> Result<Vec<u8>> {
    match key.len() > key::MAX_KEY {
        true => Err(Error::PathTooLong { len: key.len() }),
        false => Ok(key),
    }
}

pub(crate) fn wrong_kind(path: &Path, found: &Row<'_>, wanted: &'static str) -> Error {
    Error::WrongKind {
        path: path.clone(),
        found: found.kind(),
        wanted,
    }
}

/// The names of an object as indices, for a patch of a sparse array.
fn sparse_of(path: &Path, fields: &Fields) -> Result<std::collections::BTreeMap<i64, Value>> {
    let index = |name: &str| match name.parse::<i64>() {
        Ok(index) if index.to_string() == name => Ok(index),
        _ => Err(Error::Refused {
            path: path.clone(),
            what: format!(
                "this is a sparse array, and {name:?} is not an index; set it to replace it by an object"
            ),
        }),
    };
    fields
        .iter()
        .map(|(name, value)| Ok((index(name)?, value.clone())))
        .collect()
}

/// What a merge patch comes to where there was nothing: fields that are null are left out.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(_, value)| **value != Value::Null)
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Sparse(items) => Value::Sparse(
            items
                .iter()
                .filter(|(_, value)| **value != Value::Null)
                .map(|(index, value)| (*index, without_nulls(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The sum, as an integer while both are.
fn add(a: &Number, b: &Number) -> Option<Number> {
    let whole = |n: &Number| {
        let signed = n.as_i64().map(i128::from);
        signed.or_else(|| n.as_u64().map(i128::from))
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => {
            let sum = a + b;
            let positive = u64::try_from(sum).ok().map(Number::from);
            positive.or_else(|| i64::try_from(sum).ok().map(Number::from))
        }
        _ => Number::from_f64(a.as_f64()? + b.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stay_whole_and_do_not_wrap() {
        let of = |json: &str| json.parse::<Number>().unwrap();
        for (a, b, sum) in [
            ("1", "2", Some("3")),
            ("1", "-2", Some("-1")),
            ("18446744073709551615", "-1", Some("18446744073709551614")),
            ("18446744073709551615", "1", None),
            ("-9223372036854775808", "-1", None),
            ("1", "0.5", Some("1.5")),
            ("1e308", "1e308", None),
        ] {
            assert_eq!(add(&of(a), &of(b)), sum.map(of), "{a} + {b}");
        }
    }
}
