//! Sorted string tables: immutable segments of versions ordered by key, newest first.
//!
//! - `block`: a few kilobytes of entries, the unit of reading, checksums and compression
//! - `frame`: how a block stands in the file: compressed, with length and checksum
//! - `filter`: says of most absent keys that they are absent, whole in memory or section by section
//! - `format`: footer and properties
//! - `pinned`: an index in memory, and a short cut through it
//! - `slots`: which blocks of a table are in the cache, by their number
//! - `ahead`: how a bucket's blocks are fetched before they are wanted
//! - `nearby`: how a folder's blocks are read several at a time
//! - `tail`: a table's index and filter
//! - `writer`, `table`, `run`: writing one, reading one, walking over several
//!
//! The format is described field by field in `docs/file-formats.md`.

pub(crate) mod ahead;
pub(crate) mod block;
pub(crate) mod filter;
pub(crate) mod format;
pub(crate) mod frame;
mod nearby;
mod pinned;
pub(crate) mod run;
pub(crate) mod slots;
pub(crate) mod table;
pub(crate) mod table_cursor;
pub(crate) mod tail;
mod upcoming;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
