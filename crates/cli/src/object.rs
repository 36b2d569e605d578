//! One JSON object on one line, field by field, in the order they are added. JSON that is stored in
//! the database goes in as it is, so that no number loses a digit.

use serde::Serialize;
use serde_json::value::RawValue;

/// An object being built.
#[derive(Debug, Default)]
pub(crate) struct Object(String);

impl Object {
    /// Adds a field.
    pub(crate) fn field(mut self, name: &str, value: &(impl Serialize + ?Sized)) -> Self {
        self.name(name);
        self.0.push_str(&json(value));
        self
    }

    /// Adds every field of `more`, which serializes as an object.
    pub(crate) fn fields(mut self, more: &impl Serialize) -> Self {
        let more = json(more);
        if let Some(inner) = more
            .strip_prefix('{')
            .and_then(|more| more.strip_suffix('}'))
            && !inner.is_empty()
        {
            self.separate();
            self.0.push_str(inner);
        }
        self
    }

    /// Adds bytes that are usually text: as `name`, or in hexadecimal as `name_hex`.
    pub(crate) fn text(self, name: &str, bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.field(name, text),
            Err(_) => self.field(&format!("{name}_hex"), &hex(bytes)),
        }
    }

    /// Adds a stored value: JSON as `value`, other text as `value_text`, the rest as `value_hex`;
    /// a deletion as `"value": null, "deleted": true`.
    pub(crate) fn value(mut self, value: Option<&[u8]>) -> Self {
        let Some(bytes) = value else {
            return self.field("value", &()).field("deleted", &true);
        };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return self.field("value_hex", &hex(bytes));
        };
        if serde_json::from_str::<&RawValue>(text).is_err() {
            return self.field("value_text", text);
        }
        self.name("value");
        // A line break in valid JSON is white space.
        self.0.push_str(&text.trim().replace(['\n', '\r'], " "));
        self
    }

    /// The object as text.
    pub(crate) fn finish(self) -> String {
        format!("{{{}}}", self.0)
    }

    fn name(&mut self, name: &str) {
        self.separate();
        self.0.push_str(&json(name));
        self.0.push(':');
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
    }
}

/// A value as JSON.
pub(crate) fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("plain data with text for field names always serializes")
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_json_keeps_every_digit_and_stays_on_one_line() {
        let made = Object::default()
            .value(Some(b"{\"n\": 1.00000000000000000001,\n \"t\": \"a\\nb\"}"))
            .finish();
        assert_eq!(
            made,
            r#"{"value":{"n": 1.00000000000000000001,  "t": "a\nb"}}"#
        );
    }

    #[test]
    fn text_and_bytes_have_their_own_names() {
        assert_eq!(
            Object::default().value(Some(b"hello")).finish(),
            r#"{"value_text":"hello"}"#
        );
        assert_eq!(
            Object::default().value(Some(b"\xff\x00")).finish(),
            r#"{"value_hex":"ff00"}"#
        );
        assert_eq!(
            Object::default().value(None).finish(),
            r#"{"value":null,"deleted":true}"#
        );
        assert_eq!(
            Object::default().text("key", b"\xfe").finish(),
            r#"{"key_hex":"fe"}"#
        );
    }

    #[test]
    fn hexadecimal_reads_back() {
        assert_eq!(unhex(&hex(b"\x00\xab")), Some(b"\x00\xab".to_vec()));
        for wrong in ["0", "zz", "ä0"] {
            assert_eq!(unhex(wrong), None);
        }
    }
}
