//! Documents: maps of the IPLD data model as canonical DAG-CBOR, from and to JSON.
//!
//! A document is kept as the bytes that are stored; it is decoded when it is asked for, a field alone
//! without the rest. What can be stored: null, booleans, numbers from -2^63 to 2^64-1, finite floats of 64
//! bits, text, bytes, links, arrays and maps, nested at most [`cbor::MAX_DEPTH`] deep. In JSON, bytes and
//! links are written as DAG-JSON has them: `{"/": {"bytes": "<base64>"}}` and `{"/": "<cid>"}`; a map whose
//! only key is `/` is therefore not stored otherwise.

use bytes::Bytes;
use cid::multibase::Base;
use serde_json::{Map, Value};

use crate::block::{Block, Cid, MAX_BLOCK_BYTES};
use crate::cbor::{self, Kind, MAX_DEPTH, Read, Reader};
use crate::error::{Error, Result};

/// The field that holds a document's id in JSON; it is not part of what is stored.
pub const ID_FIELD: &str = "_id";

/// A document, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    bytes: Bytes,
}

impl Document {
    /// Takes stored bytes: canonical DAG-CBOR of a map.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when they are not, [`Error::TooLarge`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        check_size(bytes.len())?;
        check(&bytes).map_err(|malformed| malformed.in_place("a document"))?;
        Ok(Self { bytes })
    }

    /// Decodes the block at `cid`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is no document.
    pub fn decode(cid: &Cid, bytes: Bytes) -> Result<Self> {
        check_size(bytes.len())?;
        check(&bytes).map_err(|malformed| malformed.in_place(format!("document {cid}")))?;
        Ok(Self { bytes })
    }

    /// From a JSON object. Its `_id` is left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything but an object, for nesting too deep and for a map whose only key is
    /// `/` and that is neither bytes nor a link; [`Error::TooLarge`].
    pub fn from_json(value: &Value) -> Result<Self> {
        let Value::Object(map) = value else {
            return Err(Error::invalid("a document is a JSON object"));
        };
        let mut out = Vec::with_capacity(128);
        let fields: Vec<_> = map.iter().filter(|(key, _)| *key != ID_FIELD).collect();
        if let [(key, _)] = &fields[..]
            && *key == "/"
        {
            return Err(reserved());
        }
        put_fields(fields, MAX_DEPTH - 1, &mut out)?;
        check_size(out.len())?;
        Ok(Self { bytes: out.into() })
    }

    /// The id in a JSON object: None when there is none or it is empty, and one is to be made.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not text.
    pub fn id_of(value: &Value) -> Result<Option<&str>> {
        match value.get(ID_FIELD) {
            None => Ok(None),
            Some(Value::String(id)) => Ok(Some(id.as_str()).filter(|id| !id.is_empty())),
            Some(_) => Err(Error::invalid("a document's _id is text")),
        }
    }

    /// From any value that serializes as a map, [`ipld_core::ipld::Ipld`] among them. A field `_id` at the
    /// top is left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot be stored: floats that are not finite, integers out of range,
    /// keys that are not text; [`Error::TooLarge`].
    pub fn from_serde<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self> {
        let bytes = serde_ipld_dagcbor::to_vec(value)
            .map_err(|error| Error::invalid(format!("this cannot be stored: {error}")))?;
        check_size(bytes.len())?;
        let bytes = without_id(bytes).and_then(|bytes| {
            check(&bytes)?;
            Ok(bytes)
        });
        match bytes {
            Ok(bytes) => Ok(Self {
                bytes: bytes.into(),
            }),
            Err(malformed) => Err(Error::invalid(format!(
                "this cannot be stored as a document: {}",
                malformed.what
            ))),
        }
    }

    /// To any value that deserializes from a map, [`ipld_core::ipld::Ipld`] among them.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the document has another shape.
    pub fn to_serde<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T> {
        serde_ipld_dagcbor::from_slice(&self.bytes)
            .map_err(|error| Error::invalid(format!("the document has another shape: {error}")))
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        get_value(&mut Reader::new(&self.bytes)).expect("a document is checked when it is made")
    }

    /// As JSON with the id in `_id`.
    pub fn to_json_with_id(&self, id: &str) -> Value {
        let mut value = self.to_json();
        if let Value::Object(map) = &mut value {
            map.insert(ID_FIELD.to_string(), Value::String(id.to_string()));
        }
        value
    }

    /// What is at a path of field names and array positions, as JSON. Nothing else is decoded.
    pub fn field<S: AsRef<str>>(&self, path: &[S]) -> Option<Value> {
        let mut reader = Reader::new(&self.bytes);
        for part in path {
            let part = part.as_ref();
            match reader.kind().ok()? {
                Kind::Map => {
                    let mut left = reader.map().ok()?;
                    loop {
                        left = left.checked_sub(1)?;
                        if reader.text().ok()? == part {
                            break;
                        }
                        reader.skip().ok()?;
                    }
                }
                Kind::Array => {
                    let position: usize = part.parse().ok()?;
                    if position >= reader.array().ok()? {
                        return None;
                    }
                    for _ in 0..position {
                        reader.skip().ok()?;
                    }
                }
                _ => return None,
            }
        }
        get_value(&mut reader).ok()
    }

    /// The bytes that are stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The block that stores it.
    pub fn block(&self) -> Block {
        Block::dag_cbor(self.bytes.clone())
    }
}

fn check_size(size: usize) -> Result<()> {
    if size > MAX_BLOCK_BYTES {
        return Err(Error::TooLarge {
            what: "the bytes of a document",
            size: size as u64,
            limit: MAX_BLOCK_BYTES as u64,
        });
    }
    Ok(())
}

fn reserved() -> Error {
    Error::invalid(
        "a map whose only key is \"/\" means bytes or a link, as in DAG-JSON: {\"/\": {\"bytes\": \"<base64>\"}} or {\"/\": \"<cid>\"}; add or rename a key",
    )
}

/// Checks that `bytes` are one document.
fn check(bytes: &[u8]) -> Read<()> {
    let mut reader = Reader::new(bytes);
    check_map(&mut reader, MAX_DEPTH - 1, &[ID_FIELD])?;
    reader.finish()
}

/// Checks what every reader does, and what documents refuse beyond it.
fn check_value(reader: &mut Reader<'_>, depth: usize) -> Read<()> {
    let deeper = |reader: &Reader<'_>| {
        depth
            .checked_sub(1)
            .ok_or_else(|| reader.malformed("it is nested too deep"))
    };
    match reader.kind()? {
        Kind::Integer => {
            let at = reader.clone();
            if reader.int()? < i128::from(i64::MIN) {
                return Err(at.malformed("a number below -2^63"));
            }
        }
        Kind::Array => {
            let depth = deeper(reader)?;
            for _ in 0..reader.array()? {
                check_value(reader, depth)?;
            }
        }
        Kind::Map => {
            let depth = deeper(reader)?;
            check_map(reader, depth, &[])?;
        }
        _ => reader.skip()?,
    }
    Ok(())
}

fn check_map(reader: &mut Reader<'_>, depth: usize, refused: &[&str]) -> Read<()> {
    let count = reader.map()?;
    let mut last: Option<&str> = None;
    for _ in 0..count {
        let at = reader.clone();
        let key = reader.text()?;
        if last.is_some_and(|last| !cbor::precedes(last, key)) {
            return Err(at.malformed("a map's keys are not unique and in order"));
        }
        if count == 1 && key == "/" {
            return Err(at.malformed("a map whose only key is \"/\""));
        }
        if refused.contains(&key) {
            return Err(at.malformed("a stored document has no _id"));
        }
        last = Some(key);
        check_value(reader, depth)?;
    }
    Ok(())
}

/// Takes the field `_id` out of a map, if it is there.
fn without_id(bytes: Vec<u8>) -> Read<Vec<u8>> {
    let mut reader = Reader::new(&bytes);
    let count = reader.map()?;
    let start = reader.position();
    for _ in 0..count {
        let from = reader.position();
        let found = reader.text()? == ID_FIELD;
        reader.skip()?;
        if found {
            let mut out = Vec::with_capacity(bytes.len());
            cbor::put_map(count - 1, &mut out);
            out.extend_from_slice(&bytes[start..from]);
            out.extend_from_slice(&bytes[reader.position()..]);
            return Ok(out);
        }
    }
    Ok(bytes)
}

fn put_fields(mut fields: Vec<(&String, &Value)>, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    fields.sort_unstable_by_key(|(key, _)| (key.len(), *key));
    cbor::put_map(fields.len(), out);
    for (key, value) in fields {
        cbor::put_text(key, out);
        put_value(value, depth, out)?;
    }
    Ok(())
}

/// Any JSON value as DAG-CBOR.
pub(crate) fn put_json(value: &Value, out: &mut Vec<u8>) -> Result<()> {
    put_value(value, MAX_DEPTH - 1, out)
}

/// The next item as JSON.
pub(crate) fn get_json(reader: &mut Reader<'_>) -> Read<Value> {
    get_value(reader)
}

fn put_value(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    let deeper = || {
        depth
            .checked_sub(1)
            .ok_or_else(|| Error::invalid("the document is nested too deep"))
    };
    match value {
        Value::Null => cbor::put_null(out),
        Value::Bool(value) => cbor::put_bool(*value, out),
        Value::Number(number) => {
            if let Some(value) = number.as_u64() {
                cbor::put_uint(value, out);
            } else if let Some(value) = number.as_i64() {
                cbor::put_i64(value, out);
            } else if !number
                .as_f64()
                .is_some_and(|value| cbor::put_float(value, out))
            {
                return Err(Error::invalid(format!(
                    "the number {number} cannot be stored"
                )));
            }
        }
        Value::String(text) => cbor::put_text(text, out),
        Value::Array(items) => {
            let depth = deeper()?;
            cbor::put_array(items.len(), out);
            for item in items {
                put_value(item, depth, out)?;
            }
        }
        Value::Object(map) if map.len() == 1 && map.contains_key("/") => {
            put_special(&map["/"], out)?;
        }
        Value::Object(map) => put_fields(map.iter().collect(), deeper()?, out)?,
    }
    Ok(())
}

/// Bytes or a link in DAG-JSON.
fn put_special(value: &Value, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::String(text) => {
            let cid = cid::Cid::try_from(text.as_str()).map_err(|_| reserved())?;
            let cid = cid.to_bytes();
            out.extend_from_slice(&[0xd8, 42]);
            cbor::put_bytes_head(1 + cid.len(), out);
            out.push(0);
            out.extend_from_slice(&cid);
        }
        Value::Object(map) if map.len() == 1 => {
            let text = map.get("bytes").and_then(Value::as_str);
            let bytes = text.and_then(|text| Base::Base64.decode(text).ok());
            cbor::put_bytes(&bytes.ok_or_else(reserved)?, out);
        }
        _ => return Err(reserved()),
    }
    Ok(())
}

fn get_value(reader: &mut Reader<'_>) -> Read<Value> {
    Ok(match reader.kind()? {
        Kind::Null => {
            reader.null();
            Value::Null
        }
        Kind::Bool => Value::Bool(reader.bool()?),
        Kind::Integer => match reader.int()? {
            value if value >= 0 => Value::from(value as u64),
            value => Value::from(value as i64),
        },
        Kind::Float => Value::from(reader.float()?),
        Kind::Text => Value::String(reader.text()?.to_string()),
        Kind::Bytes => {
            let text = Base::Base64.encode(reader.bytes()?);
            special(special_of("bytes", Value::String(text)))
        }
        Kind::Link => {
            let text = cid::Cid::try_from(reader.link_bytes()?)
                .map_err(|_| reader.malformed("a link that is not a CID"))?
                .to_string();
            special(Value::String(text))
        }
        Kind::Array => {
            let count = reader.array()?;
            (0..count).map(|_| get_value(reader)).collect::<Read<_>>()?
        }
        Kind::Map => {
            let mut map = Map::new();
            for _ in 0..reader.map()? {
                let key = reader.text()?.to_string();
                map.insert(key, get_value(reader)?);
            }
            Value::Object(map)
        }
    })
}

fn special(value: Value) -> Value {
    special_of("/", value)
}

fn special_of(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_string(), value)]))
}
