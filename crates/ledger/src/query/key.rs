//! Keys as bytes whose order is the order of the keys: null, false, true, numbers, strings, arrays,
//! objects. No key's bytes are the beginning of another's.
//!
//! ```text
//! null     10
//! boolean  20 | 21
//! number   30 ~exponent ~mantissa (negative) | 31 (zero) | 32 exponent mantissa (positive)
//! string   40 bytes of UTF-8 (00 as 00 ff) 00 01
//! array    50 items 00
//! object   60 fields in order of their names, each name (as a string) and value, 00
//! ```
//! A number is 2^(exponent - 2000) times its mantissa, of 64 bits with the first one set: exact for every
//! integer and float there is, so `1` and `1.0` are one key and 2^53 and 2^53 + 1 are two.

use bytes::Bytes;
use serde_json::{Number, Value};
use std::cmp::Ordering;

const NULL: u8 = 0x10;
const FALSE: u8 = 0x20;
const TRUE: u8 = 0x21;
const NEGATIVE: u8 = 0x30;
const ZERO: u8 = 0x31;
const POSITIVE: u8 = 0x32;
const STRING: u8 = 0x40;
const ARRAY: u8 = 0x50;
const OBJECT: u8 = 0x60;
const END: u8 = 0x00;

/// Added to exponents, so that none is negative.
const BIAS: i32 = 2000;

/// Encoded keys up to this length are stored whole; of longer ones this much and a hash, in bytes.
pub(super) const WHOLE_KEY_BYTES: usize = 3040;

/// A key as bytes.
pub fn encode(key: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    put(key, &mut out);
    out
}

/// The beginning that the keys have which are arrays that begin with these items.
pub(super) fn encode_prefix(items: &[Value]) -> Vec<u8> {
    let mut out = vec![ARRAY];
    for item in items {
        put(item, &mut out);
    }
    out
}

/// A key as it is stored.
pub(super) fn stored(encoded: Vec<u8>) -> Bytes {
    if encoded.len() <= WHOLE_KEY_BYTES {
        return encoded.into();
    }
    let hash = crate::block::sha256(&encoded);
    let mut short = encoded;
    short.truncate(WHOLE_KEY_BYTES);
    short.extend_from_slice(&hash);
    short.into()
}

fn put(key: &Value, out: &mut Vec<u8>) {
    match key {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Number(number) => put_number(number, out),
        Value::String(text) => put_text(text, out),
        Value::Array(items) => {
            out.push(ARRAY);
            for item in items {
                put(item, out);
            }
            out.push(END);
        }
        Value::Object(map) => {
            out.push(OBJECT);
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in fields {
                put_text(name, out);
                put(value, out);
            }
            out.push(END);
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(STRING);
    for byte in text.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

fn put_number(number: &Number, out: &mut Vec<u8>) {
    let (sign, exponent, mantissa) = if let Some(value) = number.as_u64() {
        parts(Ordering::Greater, value, 0)
    } else if let Some(value) = number.as_i64() {
        parts(Ordering::Less, value.unsigned_abs(), 0)
    } else {
        float_parts(number.as_f64().unwrap_or(0.0))
    };
    match sign {
        Ordering::Equal => out.push(ZERO),
        Ordering::Greater => {
            out.push(POSITIVE);
            out.extend_from_slice(&exponent.to_be_bytes());
            out.extend_from_slice(&mantissa.to_be_bytes());
        }
        Ordering::Less => {
            out.push(NEGATIVE);
            out.extend_from_slice(&(!exponent).to_be_bytes());
            out.extend_from_slice(&(!mantissa).to_be_bytes());
        }
    }
}

/// Sign, biased exponent and mantissa of `mantissa * 2^exponent`.
fn parts(sign: Ordering, mantissa: u64, exponent: i32) -> (Ordering, u16, u64) {
    if mantissa == 0 {
        return (Ordering::Equal, 0, 0);
    }
    let shift = mantissa.leading_zeros();
    let exponent = exponent - shift as i32 + BIAS;
    (sign, exponent as u16, mantissa << shift)
}

fn float_parts(value: f64) -> (Ordering, u16, u64) {
    let bits = value.to_bits();
    let sign = match value.is_sign_negative() {
        true => Ordering::Less,
        false => Ordering::Greater,
    };
    let fraction = bits & ((1 << 52) - 1);
    match (bits >> 52 & 0x7ff) as i32 {
        0 => parts(sign, fraction, -1074),
        exponent => parts(sign, fraction | 1 << 52, exponent - 1075),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Numbers are compared without rounding.
    fn compare_numbers(a: &Number, b: &Number) -> Ordering {
        let int = |n: &Number| {
            let small = n.as_i64().map(i128::from);
            small.or_else(|| n.as_u64().map(i128::from))
        };
        match (int(a), int(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            (None, None) => a
                .as_f64()
                .unwrap()
                .partial_cmp(&b.as_f64().unwrap())
                .unwrap(),
            (Some(a), None) => compare_mixed(a, b.as_f64().unwrap()),
            (None, Some(b)) => compare_mixed(b, a.as_f64().unwrap()).reverse(),
        }
    }

    fn compare_mixed(int: i128, float: f64) -> Ordering {
        if float.abs() >= 1e30 {
            return 0.0.partial_cmp(&float).unwrap();
        }
        let whole = float.trunc();
        let by_whole = int.cmp(&(whole as i128));
        by_whole.then(0.0.partial_cmp(&(float - whole)).unwrap())
    }

    fn rank(value: &Value) -> u8 {
        match value {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::String(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
        }
    }

    fn compare(a: &Value, b: &Value) -> Ordering {
        match (a, b) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Array(a), Value::Array(b)) => {
                let unequal = a.iter().zip(b).map(|(a, b)| compare(a, b));
                let first = unequal.into_iter().find(|order| order.is_ne());
                first.unwrap_or(a.len().cmp(&b.len()))
            }
            (Value::Object(a), Value::Object(b)) => {
                let list = |map: &serde_json::Map<String, Value>| {
                    let mut list: Vec<_> = map.clone().into_iter().collect();
                    list.sort_by(|a, b| a.0.cmp(&b.0));
                    list
                };
                let (a, b) = (list(a), list(b));
                let each = a.iter().zip(&b);
                let mut unequal = each.map(|(a, b)| a.0.cmp(&b.0).then(compare(&a.1, &b.1)));
                let first = unequal.find(|order| order.is_ne());
                first.unwrap_or(a.len().cmp(&b.len()))
            }
            _ => rank(a).cmp(&rank(b)),
        }
    }

    fn numbers() -> impl Strategy<Value = Value> {
        let edges = [
            json!(0),
            json!(-0.0),
            json!(1),
            json!(1.0),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(i64::MAX),
            json!(9_007_199_254_740_992_u64),
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_992.0),
            json!(18_446_744_073_709_551_616.0),
            json!(f64::MAX),
            json!(f64::MIN),
            json!(5e-324),
            json!(-5e-324),
            json!(f64::MIN_POSITIVE),
            json!(0.5),
            json!(-9_223_372_036_854_775_808.0),
            json!(-1.5),
        ];
        prop_oneof![
            proptest::sample::select(edges.to_vec()),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-20i64..20).prop_map(Value::from),
            proptest::num::f64::NORMAL.prop_map(Value::from),
            proptest::num::f64::SUBNORMAL.prop_map(Value::from),
            any::<i64>().prop_map(|n| Value::from(n as f64)),
        ]
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            numbers(),
            "[\0a-c\u{1}\u{ff}\u{10000}]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[\0ab]{0,2}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn bytes_have_the_order_of_keys(a in values(), b in values()) {
            let (x, y) = (encode(&a), encode(&b));
            prop_assert_eq!(x.cmp(&y), compare(&a, &b));
            prop_assert!(x == y || !y.starts_with(&x));
        }

        #[test]
        fn numbers_are_exact(a in numbers(), b in numbers()) {
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), compare(&a, &b));
        }

        #[test]
        fn a_prefix_is_what_longer_arrays_begin_with(
            items in proptest::collection::vec(values(), 0..3), more in values(),
        ) {
            let mut longer = items.clone();
            longer.push(more);
            prop_assert!(encode(&Value::from(longer)).starts_with(&encode_prefix(&items)));
            prop_assert!(encode(&Value::from(items.clone())).starts_with(&encode_prefix(&items)));
        }
    }
}
