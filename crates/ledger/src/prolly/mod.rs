//! Prolly trees: sorted maps of byte keys, each to one DAG-CBOR item, as trees of blocks.
//!
//! Equal content has an equal root, whatever the order of writes; an edit writes the nodes on its path
//! anew; a difference of two trees costs what differs. A tree is named by the address of its root, `None`
//! for the empty one. The ledger's map of documents, its tree of conflicts and its indexes are such
//! trees. After the probabilistic B-trees of noms and Dolt.

mod chunk;
mod cursor;
mod diff;
mod edit;
mod node;
mod read;
mod scan;

pub use chunk::{MAX_ENTRIES, MAX_PAYLOAD, MIN_ENTRIES};
pub use diff::{Diff, Difference};
pub use edit::{Edit, apply};
pub use node::Node;
use read::root_node;
pub use read::{bytes_item, check, get, get_many, item_bytes, len};
pub use scan::{Direction, Entry, KeyRange, Scan};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 8 << 10;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
