//! The operators that every database has.

use super::MergeOperator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The names of the built-in operators.
pub const BUILT_IN: [&str; 5] = ["counter", "append", "max", "set-union", "json-merge-patch"];

/// One that takes every operand, for writes that go nowhere.
pub(crate) fn anything() -> Arc<dyn MergeOperator> {
    Arc::new(Append)
}

pub(super) fn find(name: &str) -> Option<Arc<dyn MergeOperator>> {
    Some(match name {
        "counter" => Arc::new(Counter),
        "append" => Arc::new(Append),
        "max" => Arc::new(Max),
        "set-union" => Arc::new(SetUnion),
        "json-merge-patch" => Arc::new(JsonMergePatch),
        _ => return None,
    })
}

/// Adds whole numbers, written in decimal, each a signed 64-bit number. The sum stops at the largest
/// and the smallest of those.
#[derive(Debug)]
struct Counter;

impl MergeOperator for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, String> {
        // In 128 bits, and cut off once at the end, so that grouping makes no difference below
        // the limits.
        let mut sum = base.map_or(Ok(0), number)?;
        for operand in operands {
            sum = sum.saturating_add(number(operand)?);
        }
        let sum = sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Ok(sum.to_string().into_bytes())
    }
}

fn number(bytes: &[u8]) -> Result<i128, String> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
        .map(i128::from)
        .ok_or_else(|| {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
            format!("{shown:?} is not a whole number of 64 bits in decimal")
        })
}

/// Puts operands one behind the other.
#[derive(Debug)]
struct Append;

impl MergeOperator for Append {
    fn name(&self) -> &str {
        "append"
    }

    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut value = base.unwrap_or_default().to_vec();
        for operand in operands {
            value.extend_from_slice(operand);
        }
        Ok(value)
    }
}

/// Keeps the largest in byte order; numbers should have a fixed width, most significant byte first.
#[derive(Debug)]
struct Max;

impl MergeOperator for Max {
    fn name(&self) -> &str {
        "max"
    }

    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, String> {
        let largest = operands.iter().copied().chain(base).max();
        Ok(largest.unwrap_or_default().to_vec())
    }
}

/// The union of JSON arrays: each member once, in the order of their texts.
#[derive(Debug)]
struct SetUnion;

impl MergeOperator for SetUnion {
    fn name(&self) -> &str {
        "set-union"
    }

    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut members = BTreeMap::new();
        for set in base.iter().chain(operands) {
            let Value::Array(set) = json(set)? else {
                return Err("a set is a JSON array".into());
            };
            members.extend(set.into_iter().map(|member| (member.to_string(), member)));
        }
        let members: Vec<_> = members.into_values().collect();
        Ok(Value::Array(members).to_string().into_bytes())
    }
}

/// Applies JSON merge patches (RFC 7396).
#[derive(Debug)]
struct JsonMergePatch;

impl MergeOperator for JsonMergePatch {
    fn name(&self) -> &str {
        "json-merge-patch"
    }

    fn merge(&self, _: &[u8], base: Option<&[u8]>, operands: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut value = base.map_or(Ok(Value::Null), json)?;
        for operand in operands {
            json_patch::merge(&mut value, &json(operand)?);
        }
        Ok(value.to_string().into_bytes())
    }
}

fn json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merge(name: &str, base: Option<&str>, operands: &[&str]) -> Result<String, String> {
        let operands: Vec<_> = operands.iter().map(|operand| operand.as_bytes()).collect();
        let merged = find(name)
            .unwrap()
            .merge(b"k", base.map(str::as_bytes), &operands)?;
        Ok(String::from_utf8(merged).unwrap())
    }

    #[test]
    fn each_does_what_its_name_says() {
        assert_eq!(merge("counter", None, &["5", "-7"]).unwrap(), "-2");
        assert_eq!(merge("counter", Some("40"), &["2"]).unwrap(), "42");
        let most = i64::MAX.to_string();
        assert_eq!(merge("counter", Some(&most), &["9"]).unwrap(), most);
        assert_eq!(merge("append", Some("a"), &["b", "", "c"]).unwrap(), "abc");
        assert_eq!(merge("max", Some("b"), &["a", "c"]).unwrap(), "c");
        assert_eq!(merge("max", None, &["a"]).unwrap(), "a");
        assert_eq!(
            merge("set-union", Some("[2,\"b\"]"), &["[1,2]", "[\"a\"]"]).unwrap(),
            "[\"a\",\"b\",1,2]"
        );
        assert_eq!(
            merge(
                "json-merge-patch",
                Some(r#"{"a":{"b":1,"c":2}}"#),
                &[r#"{"a":{"b":null}}"#, r#"{"d":[1]}"#]
            )
            .unwrap(),
            r#"{"a":{"c":2},"d":[1]}"#
        );
    }

    #[test]
    fn malformed_input_is_refused_with_a_reason() {
        for (name, operand) in [
            ("counter", "1.5"),
            ("counter", "99999999999999999999"),
            ("set-union", "{}"),
            ("json-merge-patch", "{"),
        ] {
            let operator = find(name).unwrap();
            assert!(
                operator.check(operand.as_bytes()).is_err(),
                "{name} {operand}"
            );
        }
        assert!(
            merge("counter", Some("x"), &["1"])
                .unwrap_err()
                .contains("\"x\"")
        );
    }

    proptest! {
        #[test]
        fn grouping_makes_no_difference(
            base in prop::option::of(-50i64..50), operands in prop::collection::vec(-50i64..50, 1..8), cut in 0usize..8,
        ) {
            let cut = cut.min(operands.len());
            let as_name = |name: &str, n: &i64| match name {
                "set-union" => format!("[{n}]"),
                "json-merge-patch" => format!("{{\"k{}\":{n}}}", n % 5),
                _ => n.to_string(),
            };
            for name in BUILT_IN {
                let base = base.as_ref().map(|n| as_name(name, n));
                let operands: Vec<_> = operands.iter().map(|n| as_name(name, n)).collect();
                let all: Vec<_> = operands.iter().map(String::as_str).collect();
                let whole = merge(name, base.as_deref(), &all).unwrap();
                let (first, second) = all.split_at(cut);
                let parts = match first {
                    [] => base,
                    first => Some(merge(name, base.as_deref(), first).unwrap()),
                };
                let parts = match second {
                    [] => parts.unwrap(),
                    second => merge(name, parts.as_deref(), second).unwrap(),
                };
                prop_assert_eq!(whole, parts, "{}", name);
            }
        }
    }
}
