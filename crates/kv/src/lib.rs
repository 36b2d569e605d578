//! Siltstone's key-value engine.
mod cache;
mod cursor;
mod error;
mod memtable;
mod options;
mod sst;
mod types;
mod varint;
pub use error::{Error, Result};
pub use options::*;
pub use types::*;
