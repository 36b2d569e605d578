//! Records as JSON lines: an object a line, its key in a field.
//!
//! With the field `_id` the key is not stored twice: it is taken out of the object when it comes in
//! and put back in front when it goes out. What is no object goes out as `_value` (text) or
//! `_value_hex` (bytes), a key that is no text as `_id_hex`. Invariant: what [`to_line`] writes,
//! [`from_line`] reads back to the same bytes.

use crate::object::{Object, hex, json, unhex};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The field that holds the key unless another is named.
pub(crate) const KEY_FIELD: &str = "_id";

/// A key and its value.
pub(crate) type Record = (Vec<u8>, Vec<u8>);

/// Reads the record of a line whose key is in the field `key_field`.
pub(crate) fn from_line(line: &str, key_field: &str) -> Result<Record, String> {
    let fields: Fields = serde_json::from_str(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "is JSON, but not an object".to_string(),
        _ => format!("is not JSON: {error}"),
    })?;
    let Fields(fields) = fields;
    let key = key_of(&fields, key_field)?;
    if key_field != KEY_FIELD {
        return Ok((key, line.trim().as_bytes().to_vec()));
    }
    let mut rest = fields
        .iter()
        .filter(|(name, _)| name != KEY_FIELD && name != "_id_hex");
    if let (Some((name, raw)), None) = (rest.clone().next(), rest.clone().nth(1)) {
        match name.as_str() {
            "_value" => {
                return Ok((
                    key,
                    text_of(raw).ok_or("`_value` is not text")?.into_bytes(),
                ));
            }
            "_value_hex" => {
                let bytes = text_of(raw).and_then(|text| unhex(&text));
                return Ok((key, bytes.ok_or("`_value_hex` is not hexadecimal")?));
            }
            _ => {}
        }
    }
    let object = rest.try_fold(Object::default(), |object, (name, raw)| {
        Ok::<_, String>(object.field(name, raw))
    })?;
    Ok((key, object.finish().into_bytes()))
}

/// Writes a record as a line, its key in `_id`.
pub(crate) fn to_line(key: &[u8], value: &[u8]) -> String {
    let with_key = Object::default().text(KEY_FIELD, key);
    if let Some(line) = spliced(key, value) {
        return line;
    }
    match std::str::from_utf8(value) {
        Ok(text) => with_key.field("_value", text).finish(),
        Err(_) => with_key.field("_value_hex", &hex(value)).finish(),
    }
}

/// An object with its key in front; `None` when that would not read back to the same bytes.
fn spliced(key: &[u8], value: &[u8]) -> Option<String> {
    let inner = std::str::from_utf8(value)
        .ok()?
        .strip_prefix('{')?
        .strip_suffix('}')?;
    let head = Object::default().text(KEY_FIELD, key).finish();
    let head = head.strip_suffix('}')?;
    let comma = if inner.is_empty() { "" } else { "," };
    let line = format!("{head}{comma}{inner}}}");
    let same = from_line(&line, KEY_FIELD).is_ok_and(|(k, v)| k == key && v == value);
    (same && !line.contains(['\n', '\r'])).then_some(line)
}

fn key_of(fields: &[(String, &RawValue)], key_field: &str) -> Result<Vec<u8>, String> {
    let mut found = fields.iter().filter(|(name, _)| name == key_field);
    match (found.next(), found.next()) {
        (Some((_, raw)), None) => match text_of(raw) {
            Some(text) => Ok(text.into_bytes()),
            None if serde_json::from_str::<serde_json::Number>(raw.get()).is_ok() => {
                Ok(raw.get().as_bytes().to_vec())
            }
            None => Err(format!(
                "its key, field {key_field:?}, is neither text nor a number"
            )),
        },
        (Some(_), Some(_)) => Err(format!("it has field {key_field:?} twice")),
        (None, _) => {
            let coded = fields
                .iter()
                .find(|(name, _)| key_field == KEY_FIELD && name == "_id_hex");
            let Some((_, raw)) = coded else {
                return Err(format!(
                    "it has no field {key_field:?} for its key; name another with --key-field"
                ));
            };
            text_of(raw)
                .and_then(|text| unhex(&text))
                .ok_or_else(|| "`_id_hex` is not hexadecimal".to_string())
        }
    }
}

pub(crate) fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The fields of an object in order, their values as they were written.
pub(crate) struct Fields<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}

/// The top-level fields of a stored object with their values as cells of a table; `None` for other
/// values.
pub(crate) fn cells(value: &[u8]) -> Option<Vec<(String, String)>> {
    let Fields(fields) = serde_json::from_slice(value).ok()?;
    let cell = |raw: &RawValue| match raw.get() {
        "null" => String::new(),
        other => text_of(raw).unwrap_or_else(|| other.to_string()),
    };
    Some(
        fields
            .into_iter()
            .map(|(name, raw)| (name, cell(raw)))
            .collect(),
    )
}

/// A cell of a table as JSON: text, or with `typed` what it looks like.
pub(crate) fn cell_json(cell: &str, typed: bool) -> String {
    let looks_like_json = |cell: &str| serde_json::from_str::<&RawValue>(cell).is_ok();
    match cell {
        "" if typed => "null".into(),
        cell if typed && !cell.starts_with('"') && cell.trim() == cell && looks_like_json(cell) => {
            cell.replace(['\n', '\r'], " ")
        }
        cell => json(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_taken_out_and_put_back() {
        let line = r#"{"_id":"NO/Oslo","n":1.50,"deep":{"a":[1, 2]}}"#;
        let (key, value) = from_line(line, KEY_FIELD).unwrap();
        assert_eq!(key, b"NO/Oslo");
        assert_eq!(value, br#"{"n":1.50,"deep":{"a":[1, 2]}}"#);
        assert_eq!(to_line(&key, &value), line);
    }

    #[test]
    fn another_key_field_stays_in_the_value() {
        let line = r#" {"sku": 17, "n": 1} "#;
        assert_eq!(
            from_line(line, "sku").unwrap(),
            (b"17".to_vec(), br#"{"sku": 17, "n": 1}"#.to_vec())
        );
    }

    #[test]
    fn any_bytes_go_out_and_come_back() {
        let keys: [&[u8]; 3] = [b"k", b"\xff\x00", "ключ\n".as_bytes()];
        let values: [&[u8]; 12] = [
            b"",
            b"plain",
            b"{}",
            b"{\"a\":1}",
            b"{ \"a\": 1 }",
            b"{\"a\":\n1}",
            b"{\"_id\":\"x\"}",
            b"{\"_value\":\"x\"}",
            b"{\"_id_hex\":\"00\"}",
            b"\xff\xfe",
            b"[1,2]",
            b"{broken}",
        ];
        for key in keys {
            for value in values {
                let line = to_line(key, value);
                assert!(!line.contains('\n'), "{line}");
                let back = from_line(&line, KEY_FIELD).unwrap();
                assert_eq!(back, (key.to_vec(), value.to_vec()), "{line}");
            }
        }
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, hint) in [
            ("{", "not JSON"),
            ("[1]", "not an object"),
            ("{\"a\":1}", "no field \"_id\""),
            ("{\"_id\":null}", "neither text nor a number"),
            ("{\"_id\":1,\"_id\":2}", "twice"),
            ("{\"_id_hex\":\"0\"}", "not hexadecimal"),
            ("{\"_id\":\"a\",\"_value\":1}", "not text"),
        ] {
            let error = from_line(line, KEY_FIELD).unwrap_err();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn cells_are_text_unless_types_are_asked_for() {
        assert_eq!(cell_json("08", true), "\"08\"");
        assert_eq!(cell_json("1.50", true), "1.50");
        assert_eq!(cell_json("1.50", false), "\"1.50\"");
        assert_eq!(cell_json("", true), "null");
        assert_eq!(cell_json("true", true), "true");
    }
}
