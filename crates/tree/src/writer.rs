//! Operations on a document, worked out as changes of rows. Nothing is written here: whoever called
//! commits the changes, or drops them when an operation was refused.

use crate::MAX_DEPTH;
use crate::error::{Error, Result, shown};
use crate::key;
use crate::meta::Meta;
use crate::path::{Path, Segment};
use crate::row::{self, Kind, Row};
use crate::rows::Rows;
use crate::stage::{Stage, Staged};
use crate::value::{Fields, Number, Value};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Works operations out, one after another; each sees what those before it did.
pub(crate) struct Writer<'a> {
    pub(crate) stage: Stage<'a>,
    meta: &'a Meta,
    ids: Ids,
}

/// Where ids for elements without one come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    /// Rises from commit to commit.
    commit: u64,
    /// The next one's place in its commit.
    place: u64,
}

impl Ids {
    pub(crate) fn new(commit: u64) -> Self {
        Self { commit, place: 0 }
    }

    /// Ids sort by commit and then by place: each number as the letter of its length in hexadecimal
    /// digits, and the digits.
    fn next(&mut self) -> String {
        let place = self.place;
        self.place += 1;
        sortable(self.commit) + &sortable(place)
    }
}

/// A number as text that sorts as numbers do.
fn sortable(number: u64) -> String {
    let digits = format!("{number:x}");
    let letter = char::from(b'a' + (digits.len() - 1) as u8);
    format!("{letter}{digits}")
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

    /// An element of a keyed array that is made on the way has its key in it.
    fn give_key_field(&mut self, path: &Path, key: &[u8]) -> Result<()> {
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

    /// An index is that of an element, or the one after the last.
    fn check_index(&self, element_path: &Path, key: &[u8], index: u64) -> Result<()> {
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
    fn shift(&mut self, array: &Path, from: u64, by: i64) -> Result<()> {
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

    /// Puts `value` in the place of whatever is there; the container around it is there.
    fn replace(&mut self, path: &mut Path, key: &mut Vec<u8>, value: &Value) -> Result<()> {
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

    /// An element of a keyed array with its key, which is given when there is none.
    fn with_id(&mut self, array: &Path, field: &str, item: &Value) -> Result<(String, Value)> {
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
    fn key_field_of(&self, path: &Path) -> Result<Option<String>> {
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
    fn fill_key_field(&self, path: &Path, value: &Value) -> Result<Option<Value>> {
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
    fn check_is_no_key_field(&self, path: &Path, value: Option<&Value>) -> Result<()> {
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
    fn s27_ids_sort_by_commit_and_then_by_place() {
        let mut ids = Ids::new(1);
        assert_eq!(ids.next(), "a1a0");
        assert_eq!(ids.next(), "a1a1");
        assert_eq!(
            Ids {
                commit: 256,
                place: 5
            }
            .next(),
            "c100a5"
        );
        let commits = [1, 2, 9, 15, 16, 17, 255, 256, 4096, 1_000_000, u64::MAX];
        let mut all = Vec::new();
        for commit in commits {
            let mut ids = Ids::new(commit);
            all.extend((0..300).map(|_| ids.next()));
        }
        assert!(all.is_sorted());
        let unique: BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
    }

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
