//! A JSON value in sixteen bytes: numbers and short strings in place, all else behind one pointer.
//! A list holds as many of them as it ever had elements, and reads them in the order they are shown,
//! not in the one they came in: half the bytes of a [`Value`] are half the cache that a reading needs.

use std::borrow::Cow;

use serde_json::{Number, Value};

/// The longest string that is kept in place, in bytes.
const SHORT: usize = 14;

#[derive(Clone, Debug, Default)]
pub(crate) enum Cell {
    #[default]
    Null,
    Bool(bool),
    Integer(i64),
    /// Fits 64 bits only without a sign.
    Large(u64),
    Float(f64),
    /// A string of so many bytes.
    Short(u8, [u8; SHORT]),
    /// A longer string, an array or an object.
    Boxed(Box<Value>),
}

impl Cell {
    /// What it is, borrowed where it is kept as it is given.
    pub(crate) fn read(&self) -> Cow<'_, Value> {
        match self {
            Self::Boxed(value) => Cow::Borrowed(value),
            plain => Cow::Owned(plain.value()),
        }
    }

    /// A copy of what it is.
    #[inline]
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Integer(number) => Value::Number(Number::from(*number)),
            Self::Large(number) => Value::Number(Number::from(*number)),
            Self::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Self::Short(len, bytes) => {
                Value::String(String::from_utf8_lossy(&bytes[..usize::from(*len)]).into_owned())
            }
            Self::Boxed(value) => Value::clone(value),
        }
    }

    #[inline]
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Bytes on the heap below it, an estimate.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Boxed(value) => size_of::<Value>() + below(value),
            _ => 0,
        }
    }
}

impl From<&Value> for Cell {
    #[inline]
    fn from(value: &Value) -> Self {
        in_place(value).unwrap_or_else(|| Self::Boxed(Box::new(value.clone())))
    }
}

impl From<Value> for Cell {
    #[inline]
    fn from(value: Value) -> Self {
        in_place(&value).unwrap_or_else(|| Self::Boxed(Box::new(value)))
    }
}

impl From<Cell> for Value {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Boxed(value) => *value,
            plain => plain.value(),
        }
    }
}

/// The cell of a value that needs no box.
#[inline]
fn in_place(value: &Value) -> Option<Cell> {
    Some(match value {
        Value::Null => Cell::Null,
        Value::Bool(value) => Cell::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Cell::Integer(number),
            (None, Some(number)) => Cell::Large(number),
            (None, None) => Cell::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) if text.len() <= SHORT => {
            let mut bytes = [0; SHORT];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            Cell::Short(text.len() as u8, bytes)
        }
        _ => return None,
    })
}

/// Bytes on the heap below one value, an estimate.
fn below(value: &Value) -> usize {
    match value {
        Value::String(text) => text.capacity(),
        Value::Array(items) => {
            items.capacity() * size_of::<Value>() + items.iter().map(below).sum::<usize>()
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| key.capacity() + 2 * size_of::<Value>() + below(value))
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cell_has_sixteen_bytes() {
        assert_eq!(size_of::<Cell>(), 16);
    }

    #[test]
    fn every_kind_of_value_comes_back_as_it_was() {
        let (short, long) = ("é".repeat(7), "é".repeat(8));
        for value in [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(i64::MIN),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(-0.0),
            json!(1.0),
            json!(f64::MAX),
            json!(5e-324),
            json!(""),
            json!("exactly 14 by."),
            json!("exactly 15 byt."),
            json!(short),
            json!(long),
            json!([]),
            json!({"a": [1, {"b": null}]}),
        ] {
            let cell = Cell::from(&value);
            assert_eq!(cell.value(), value);
            assert_eq!(cell.value().to_string(), value.to_string());
            assert_eq!(*cell.read(), value);
            assert_eq!(Value::from(cell), value);
            assert_eq!(Value::from(Cell::from(value.clone())), value);
        }
        assert_eq!(Cell::from(json!("in place")).heap_bytes(), 0);
        assert!(Cell::from(json!("long enough for a box")).heap_bytes() >= size_of::<Value>() + 21);
    }
}
