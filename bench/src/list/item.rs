//! The elements of the lists: JSON scalars by number, an integer, a string of 11 characters, a float
//! and a boolean in turn.

use serde::{Deserialize, Serialize};

/// One element, as the harness holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Item {
    /// A whole number.
    Int(i64),
    /// A number that is not whole.
    Float(f64),
    /// True or false.
    Flag(bool),
    /// Text.
    Text(String),
}

/// One element, as an engine hands it out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// A whole number.
    Int(i64),
    /// A number that is not whole.
    Float(f64),
    /// True or false.
    Flag(bool),
    /// Text.
    Text(&'a str),
}

impl Item {
    /// Element `number`.
    pub(crate) fn numbered(number: u32) -> Self {
        match number % 4 {
            0 => Self::Int(i64::from(number)),
            1 => Self::Text(format!("item{:07}", number % 10_000_000)),
            2 => Self::Float(f64::from(number) * 0.5 + 0.25),
            _ => Self::Flag(number % 8 == 3),
        }
    }

    /// The same without its allocation.
    pub(crate) fn as_scalar(&self) -> Scalar<'_> {
        match self {
            Self::Int(number) => Scalar::Int(*number),
            Self::Float(number) => Scalar::Float(*number),
            Self::Flag(flag) => Scalar::Flag(*flag),
            Self::Text(text) => Scalar::Text(text),
        }
    }
}

impl Scalar<'_> {
    /// A number that depends on kind and content, so that a reader has looked at all of it.
    pub(crate) fn digest(self) -> u64 {
        let (kind, bits) = match self {
            Self::Int(number) => (1, number as u64),
            Self::Float(number) => (2, number.to_bits()),
            Self::Flag(flag) => (3, u64::from(flag)),
            Self::Text(text) => (4, crate::data::touch(text.as_bytes())),
        };
        (bits ^ (kind << 60)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_kinds_come_in_turn_and_strings_have_11_characters() {
        let items: Vec<_> = (0..8).map(Item::numbered).collect();
        assert_eq!(items[4], Item::Int(4));
        assert_eq!(items[5], Item::Text("item0000005".to_owned()));
        assert_eq!(items[6], Item::Float(3.25));
        assert_eq!(
            (&items[3], &items[7]),
            (&Item::Flag(true), &Item::Flag(false))
        );
    }

    #[test]
    fn digests_tell_elements_apart() {
        let digest = |number| Item::numbered(number).as_scalar().digest();
        let mut all: Vec<_> = (0..10_000).filter(|n| n % 4 != 3).map(digest).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 7_500);
    }
}
