//! JSON values as columns: what each is, then all integers, all floats, all strings.

use serde_json::Value;

use super::bytes::{Reader, Writer};
use crate::error::Result;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
/// Fits 64 bits with a sign; written as the distance from the integer before.
const INTEGER: u8 = 3;
/// Fits 64 bits only without one.
const LARGE: u8 = 4;
const FLOAT: u8 = 5;
const STRING: u8 = 6;
/// An array or an object, as JSON text.
const NESTED: u8 = 7;

pub(crate) fn write(values: &[Value], out: &mut Writer) {
    let (mut tags, mut integers, mut lengths, mut text) = (
        Writer::default(),
        Writer::default(),
        Writer::default(),
        Vec::new(),
    );
    let mut floats: Vec<[u8; 8]> = Vec::new();
    let mut before = 0_i64;
    for value in values {
        tags.byte(match value {
            Value::Null => NULL,
            Value::Bool(false) => FALSE,
            Value::Bool(true) => TRUE,
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => {
                    integers.signed(number.wrapping_sub(before));
                    before = number;
                    INTEGER
                }
                (None, Some(number)) => {
                    integers.number(number);
                    LARGE
                }
                (None, None) => {
                    floats.push(number.as_f64().unwrap_or_default().to_le_bytes());
                    FLOAT
                }
            },
            Value::String(string) => {
                lengths.number(string.len() as u64);
                text.extend_from_slice(string.as_bytes());
                STRING
            }
            nested => {
                let start = text.len();
                // A value that is already in memory always prints.
                let _ = serde_json::to_writer(&mut text, nested);
                lengths.number((text.len() - start) as u64);
                NESTED
            }
        });
    }
    for column in [&tags.bytes, &integers.bytes, &lengths.bytes, &text] {
        out.slice(column);
    }
    // Bytes of equal weight side by side: those of like floats are alike.
    for byte in 0..8 {
        out.bytes.extend(floats.iter().map(|float| float[byte]));
    }
}

pub(crate) fn read(bytes: &[u8], count: Option<usize>) -> Result<Vec<Value>> {
    let mut reader = Reader::new("values", bytes);
    let tags = reader.slice()?;
    let mut integers = Reader::new("integers", reader.slice()?);
    let mut lengths = Reader::new("lengths", reader.slice()?);
    let mut text = Reader::new("strings", reader.slice()?);
    if count.is_some_and(|count| tags.len() != count) {
        return Err(reader.damaged("there are more or fewer than the history says"));
    }
    let floats = tags.iter().filter(|&&tag| tag == FLOAT).count();
    let planes = reader.take(floats * 8)?;
    reader.end()?;
    let mut values = Vec::with_capacity(tags.len());
    let (mut before, mut float) = (0_i64, 0);
    for &tag in tags {
        values.push(match tag {
            NULL => Value::Null,
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            INTEGER => {
                before = before.wrapping_add(integers.signed()?);
                Value::from(before)
            }
            LARGE => Value::from(integers.number()?),
            FLOAT => {
                let bits = std::array::from_fn(|byte| planes[byte * floats + float]);
                float += 1;
                let number = serde_json::Number::from_f64(f64::from_le_bytes(bits));
                Value::Number(number.ok_or_else(|| reader.damaged("a float is not a number"))?)
            }
            STRING => {
                let len = lengths.number()? as usize;
                let string = std::str::from_utf8(text.take(len)?);
                Value::String(
                    string
                        .map_err(|_| text.damaged("a string is not UTF-8"))?
                        .to_owned(),
                )
            }
            NESTED => {
                let len = lengths.number()? as usize;
                let nested = serde_json::from_slice(text.take(len)?);
                nested.map_err(|_| text.damaged("an array or object is not JSON"))?
            }
            _ => return Err(reader.damaged("a kind of value is unknown")),
        });
    }
    integers.end()?;
    lengths.end()?;
    text.end()?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_every_kind_come_back() {
        let values = vec![
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(-7),
            json!(i64::MIN),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(0.1),
            json!(-0.0),
            json!(1e300),
            json!(""),
            json!("añ🦀"),
            json!([1, {"a": [null]}]),
            json!({}),
            json!(12),
            json!("x"),
        ];
        let mut out = Writer::default();
        write(&values, &mut out);
        assert_eq!(read(&out.bytes, Some(values.len())), Ok(values.clone()));
        for cut in 0..out.bytes.len() {
            assert!(read(&out.bytes[..cut], Some(values.len())).is_err());
        }
        assert!(read(&out.bytes, Some(values.len() + 1)).is_err());
    }
}
