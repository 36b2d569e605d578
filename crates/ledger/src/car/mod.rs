//! CAR files: archives of blocks, plain CARv1 for every IPLD tool.
//!
//! ```text
//! frame of the CAR header: { roots: [header block], version: 1 }
//! frame of the header block: heads, parents, the other archives of the group
//! frames of blocks ...
//! frames of index pages ...        (more than 1,024 blocks only)
//! frame of the index               (the file ends with it)
//! ```
//! A frame is a varint length, the binary CID and the bytes. In a sealed archive the bytes of every frame
//! are an envelope ([`crate::crypto`]) and its CID is the envelope's, so that hashes can be checked without
//! a key; the index, sealed as well, names the plain addresses.

mod header;
mod index;
mod reader;
mod writer;

pub use header::Header;
pub use index::{CarIndex, IndexPage, Location, Lookup, PAGE_ENTRIES};
pub use reader::{CarStream, Frame, Frames};
pub use writer::{CarRef, CarWriter, Seal, Sink, write_car};

/// The longest frame, in bytes: a block of the largest size in its envelope, with its address.
pub const MAX_FRAME_BYTES: usize = crate::block::MAX_BLOCK_BYTES + 256;
/// The longest CAR header, in bytes.
pub const MAX_HEADER_BYTES: usize = 64 << 10;
