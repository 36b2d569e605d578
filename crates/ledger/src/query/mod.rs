//! Indexes: the documents of a ledger in the order of a key that each of them has.
//!
//! An index is two prolly trees, *by key* (encoded key and id, to key and value) and *by id* (id, to its
//! encoded keys), in CARs below `index/<folder>/`, which are local and never synced. A note of the
//! ledger's state names the roots, the files and the map of documents that they are of. A query first
//! takes in what differs between that map and the one of now, so a put costs one run of the map function,
//! whether it was written here or merged. What is damaged, or behind a prune, is built anew.

mod disk;
mod forward;
mod index;
mod key;
mod wanted;

pub(crate) use index::Indexes;
pub use index::{Emitter, Index, IndexRow};
pub use wanted::Query;

/// The order of keys in an index, as bytes: `encode_key(a) < encode_key(b)` when `a` comes before `b`.
pub use key::encode as encode_key;
