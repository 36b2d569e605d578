//! Documents.
use crate::block::Block;
use crate::error::Result;
use bytes::Bytes;

/// A document: a map of the IPLD data model, kept as canonical DAG-CBOR, without its `_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    bytes: Bytes,
}

impl Document {
    /// Takes bytes that are canonical DAG-CBOR of a map.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] when they are not.
    pub fn from_bytes(_bytes: Bytes) -> Result<Self> {
        todo!()
    }
    /// From JSON; `_id` at the top is left out.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for what cannot be stored.
    pub fn from_json(_value: &serde_json::Value) -> Result<Self> {
        todo!()
    }
    /// As JSON, bytes and links as DAG-JSON writes them.
    pub fn to_json(&self) -> serde_json::Value {
        todo!()
    }
    /// As JSON with `_id` first.
    pub fn to_json_with_id(&self, _id: &str) -> serde_json::Value {
        todo!()
    }
    /// From any serializable value.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for what cannot be stored.
    pub fn from_serde<T: serde::Serialize + ?Sized>(_value: &T) -> Result<Self> {
        todo!()
    }
    /// To any deserializable value, `ipld_core::ipld::Ipld` among them.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when it has another shape.
    pub fn to_serde<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T> {
        todo!()
    }
    /// The JSON at a path of field names and array positions.
    pub fn field(&self, _path: &[&str]) -> Option<serde_json::Value> {
        todo!()
    }
    /// The canonical bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// The block that stores it.
    pub fn block(&self) -> Block {
        Block::dag_cbor(self.bytes.clone())
    }
}
