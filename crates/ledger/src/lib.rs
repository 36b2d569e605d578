//! Local-first ledgers of JSON documents.
//!
//! Every block is content-addressed, every commit is one atomic group of CAR files, encrypted at
//! will, and a ledger is synced through any folder or bucket without a server between.
#![forbid(unsafe_code)]

pub mod error;

pub use error::{Error, Result};
