//! Local-first ledgers of JSON documents.
//!
//! Every block is content-addressed, every commit is one atomic group of CAR files, encrypted at
//! will, and a ledger is synced through any folder or bucket without a server between.
#![forbid(unsafe_code)]

pub mod block;
pub mod car;
pub mod cbor;
pub mod clock;
pub mod crypto;
mod document;
pub mod error;
pub mod merge;
pub mod prolly;
mod varint;

pub use block::{Block, Blocks, Cid, Codec, Staged};
pub use document::{Document, ID_FIELD};
pub use error::{Error, Result};
