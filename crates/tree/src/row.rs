//! What is stored at a node's key: a leaf's value, or of what kind a container is. Pure; decoding
//! never panics.
//!
//! One byte for the kind, then: an integer's bytes, most significant first and as few as can be; a
//! double's eight, least significant first; a text's; the key field of a keyed array.

use crate::path::Segment;
use crate::value::{Number, Value};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
/// An integer from 0 on.
const POSITIVE: u8 = 3;
/// A negative integer, as its complement.
const NEGATIVE: u8 = 4;
const DOUBLE: u8 = 5;
const TEXT: u8 = 6;
const OBJECT: u8 = 0x10;
const DENSE: u8 = 0x11;
const SPARSE: u8 = 0x12;
const KEYED: u8 = 0x13;

/// Kinds of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    Object,
    Dense,
    Sparse,
    /// With the field that holds the key.
    Keyed(&'a str),
}

impl Kind<'_> {
    /// True when a step like this leads into it.
    pub(crate) fn holds(self, segment: &Segment) -> bool {
        matches!(
            (self, segment),
            (Kind::Object, Segment::Field(_))
                | (Kind::Dense, Segment::Index(_))
                | (Kind::Sparse, Segment::Sparse(_))
                | (Kind::Keyed(_), Segment::Key(_))
        )
    }
}

/// A row, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Row<'a> {
    Leaf(Value),
    Container(Kind<'a>),
}

impl Row<'_> {
    /// What it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Row::Leaf(value) => value.kind(),
            Row::Container(Kind::Object) => "an object",
            Row::Container(Kind::Dense) => "a dense array",
            Row::Container(Kind::Sparse) => "a sparse array",
            Row::Container(Kind::Keyed(_)) => "a keyed array",
        }
    }
}

/// The row of a container.
pub(crate) fn container(kind: Kind<'_>) -> Vec<u8> {
    match kind {
        Kind::Object => vec![OBJECT],
        Kind::Dense => vec![DENSE],
        Kind::Sparse => vec![SPARSE],
        Kind::Keyed(field) => [&[KEYED], field.as_bytes()].concat(),
    }
}

/// True for the row of a container.
pub(crate) fn is_container(row: &[u8]) -> bool {
    row.first().is_some_and(|first| *first >= OBJECT)
}

/// The row of a leaf; `None` for a container.
pub(crate) fn leaf(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        Value::Null => vec![NULL],
        Value::Bool(false) => vec![FALSE],
        Value::Bool(true) => vec![TRUE],
        Value::Number(number) => number_row(number),
        Value::String(text) => [&[TEXT], text.as_bytes()].concat(),
        Value::Array(_) | Value::Object(_) | Value::Sparse(_) => return None,
    })
}

fn number_row(number: &Number) -> Vec<u8> {
    let integer = |kind: u8, number: u64| {
        let bytes = number.to_be_bytes();
        let zeros = number.leading_zeros() as usize / 8;
        let mut row = Vec::with_capacity(9);
        row.push(kind);
        row.extend_from_slice(&bytes[zeros..]);
        row
    };
    if let Some(positive) = number.as_u64() {
        return integer(POSITIVE, positive);
    }
    if let Some(negative) = number.as_i64() {
        return integer(NEGATIVE, !negative as u64);
    }
    let double = number.as_f64().unwrap_or_default();
    [&[DOUBLE][..], &double.to_le_bytes()].concat()
}

/// Reads a row; `None` when the bytes are none.
pub(crate) fn decode(row: &[u8]) -> Option<Row<'_>> {
    let (kind, rest) = row.split_first()?;
    let leaf = |value, rest: &[u8]| rest.is_empty().then_some(Row::Leaf(value));
    match *kind {
        NULL => leaf(Value::Null, rest),
        FALSE => leaf(Value::Bool(false), rest),
        TRUE => leaf(Value::Bool(true), rest),
        POSITIVE => Some(Row::Leaf(integer(rest)?.into())),
        NEGATIVE => {
            let negative = !i64::try_from(integer(rest)?).ok()?;
            Some(Row::Leaf(negative.into()))
        }
        DOUBLE => {
            let double = f64::from_le_bytes(rest.try_into().ok()?);
            Some(Row::Leaf(Value::Number(Number::from_f64(double)?)))
        }
        TEXT => Some(Row::Leaf(std::str::from_utf8(rest).ok()?.into())),
        OBJECT if rest.is_empty() => Some(Row::Container(Kind::Object)),
        DENSE if rest.is_empty() => Some(Row::Container(Kind::Dense)),
        SPARSE if rest.is_empty() => Some(Row::Container(Kind::Sparse)),
        KEYED => Some(Row::Container(Kind::Keyed(std::str::from_utf8(rest).ok()?))),
        _ => None,
    }
}

fn integer(bytes: &[u8]) -> Option<u64> {
    if bytes.len() > 8 || bytes.first() == Some(&0) {
        return None;
    }
    Some(bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ]
    }

    proptest! {
        #[test]
        fn a_leaf_is_read_as_it_was_written(value in leaves()) {
            let row = leaf(&value).unwrap();
            prop_assert_eq!(decode(&row), Some(Row::Leaf(value)));
            prop_assert!(!is_container(&row));
        }

        #[test]
        fn any_bytes_are_read_or_refused_and_have_one_form(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            match decode(&bytes) {
                Some(Row::Leaf(value)) => prop_assert_eq!(leaf(&value).unwrap(), bytes),
                Some(Row::Container(kind)) => prop_assert_eq!(container(kind), bytes),
                None => {}
            }
        }
    }

    #[test]
    fn containers_are_told_from_leaves() {
        for kind in [Kind::Object, Kind::Dense, Kind::Sparse, Kind::Keyed("id")] {
            let row = container(kind);
            assert!(is_container(&row));
            assert_eq!(decode(&row), Some(Row::Container(kind)));
        }
        assert_eq!(decode(b""), None);
    }
}
