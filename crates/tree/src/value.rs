//! Values of a document: JSON's, and arrays with gaps.
//!
//! Integers and floating-point numbers stay apart: `1` and `1.0` are stored as they came. As JSON a
//! sparse array is an object whose names are its indices.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
pub use serde_json::Number;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Null.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number: an integer of 64 bits or a double.
    Number(Number),
    /// Text.
    String(String),
    /// An array without gaps; also a keyed array, which comes in the order of its keys.
    Array(Vec<Value>),
    /// An object.
    Object(Fields),
    /// An array with gaps: values by integers.
    Sparse(BTreeMap<i64, Value>),
}

/// The fields of an object, in the order of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields(Vec<(String, Value)>);

impl Fields {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of fields that come in order, each name once.
    pub(crate) fn push(&mut self, name: String, value: Value) {
        debug_assert!(self.0.last().is_none_or(|(last, _)| *last < name));
        self.0.push((name, value));
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(have, _)| have.as_str().cmp(name))
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.find(name).ok().map(|at| &self.0[at].1)
    }

    /// The value of a field, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.find(name).ok().map(|at| &mut self.0[at].1)
    }

    /// Sets a field. Answers what it was.
    pub fn insert(&mut self, name: impl Into<String>, value: Value) -> Option<Value> {
        let name = name.into();
        match self.find(&name) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (name, value));
                None
            }
        }
    }

    /// Takes a field away. Answers what it was.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.find(name).ok().map(|at| self.0.remove(at).1)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Fields {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Fields {
    /// Of two fields with one name the later counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        let sorted: BTreeMap<String, Value> = fields
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self(sorted.into_iter().collect())
    }
}

impl Value {
    /// What it is, in a word for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
            Value::Sparse(_) => "a sparse array",
        }
    }

    /// True for objects and arrays.
    pub fn is_container(&self) -> bool {
        matches!(self, Value::Array(_) | Value::Object(_) | Value::Sparse(_))
    }

    /// The same value as JSON; a sparse array becomes an object.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => serde_json::Value::Bool(*value),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::String(text) => serde_json::Value::String(text.clone()),
            Value::Array(items) => items.iter().map(Value::to_json).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_json()))
                .collect(),
            Value::Sparse(items) => items
                .iter()
                .map(|(index, value)| (index.to_string(), value.to_json()))
                .collect(),
        }
    }

    /// Text, when it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// An integer, when it is one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// The field of an object or the element of an array.
    pub fn pointer(&self, pointer: &[crate::Segment]) -> Option<&Value> {
        use crate::Segment;
        pointer
            .iter()
            .try_fold(self, |value, segment| match (value, segment) {
                (Value::Object(fields), Segment::Field(name)) => fields.get(name),
                (Value::Array(items), Segment::Index(at)) => items.get(usize::try_from(*at).ok()?),
                (Value::Sparse(items), Segment::Sparse(at)) => items.get(at),
                _ => None,
            })
    }

    /// True when both say the same, as RFC 6902 `test` has it: numbers by their value, so that `1`
    /// is `1.0`.
    pub fn same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Number(a), Value::Number(b)) => {
                compare_numbers(a, b).is_some_and(|o| o.is_eq())
            }
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
            }
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b.iter())
                        .all(|((a, x), (b, y))| a == b && x.same(y))
            }
            (Value::Sparse(a), Value::Sparse(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((a, x), (b, y))| a == b && x.same(y))
            }
            // JSON cannot say that an array is sparse.
            (Value::Sparse(items), Value::Object(fields))
            | (Value::Object(fields), Value::Sparse(items)) => {
                items.len() == fields.len()
                    && items.iter().all(|(at, value)| {
                        fields
                            .get(&at.to_string())
                            .is_some_and(|other| other.same(value))
                    })
            }
            _ => self == other,
        }
    }
}

/// Which number is larger; `None` when one of them is no number.
pub(crate) fn compare_numbers(a: &Number, b: &Number) -> Option<std::cmp::Ordering> {
    let whole = |n: &Number| {
        let signed = n.as_i64().map(i128::from);
        signed.or_else(|| n.as_u64().map(i128::from))
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => Value::Number(number),
            serde_json::Value::String(text) => Value::String(text),
            serde_json::Value::Array(items) => {
                Value::Array(items.into_iter().map(Value::from).collect())
            }
            serde_json::Value::Object(fields) => Value::Object(fields.into_iter().collect()),
        }
    }
}

macro_rules! from_number {
    ($($type:ty),*) => {$(
        impl From<$type> for Value {
            fn from(number: $type) -> Self {
                Value::Number(number.into())
            }
        }
    )*};
}
from_number!(u8, u16, u32, u64, i8, i16, i32, i64);

impl From<f64> for Value {
    /// What is no number becomes null, as in JSON.
    fn from(number: f64) -> Self {
        Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl FromStr for Value {
    type Err = serde_json::Error;

    /// Reads JSON.
    fn from_str(json: &str) -> Result<Self, Self::Err> {
        serde_json::from_str::<serde_json::Value>(json).map(Value::from)
    }
}

impl fmt::Display for Value {
    /// JSON on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(number) => number.serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields.iter() {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Value::Sparse(items) => {
                let mut map = serializer.serialize_map(Some(items.len()))?;
                for (index, value) in items {
                    map.serialize_entry(&index.to_string(), value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_kinds_and_compare_by_value() {
        let of = |json: &str| json.parse::<Value>().unwrap();
        assert_ne!(of("1"), of("1.0"));
        assert!(of("1").same(&of("1.0")));
        assert!(!of("18446744073709551615").same(&of("18446744073709551614")));
        assert_eq!(
            of("18446744073709551615").to_string(),
            "18446744073709551615"
        );
        assert_eq!(
            of("-9223372036854775808").to_string(),
            "-9223372036854775808"
        );
        assert_eq!(of("1.0").to_string(), "1.0");
    }

    #[test]
    fn fields_stay_in_order() {
        let mut fields = Fields::new();
        for name in ["b", "a", "c", "a"] {
            fields.insert(name, name.into());
        }
        let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(fields.remove("b"), Some("b".into()));
        assert_eq!(fields.get("b"), None);
    }

    #[test]
    fn a_sparse_array_reads_as_an_object() {
        let sparse = Value::Sparse([(-3, 1.into()), (7, "x".into())].into());
        assert_eq!(sparse.to_string(), r#"{"-3":1,"7":"x"}"#);
        assert!(sparse.same(&r#"{"7":"x","-3":1}"#.parse().unwrap()));
    }
}
