//! What the state keeps about a CAR: its name, its shape and where its bytes are.

use crate::block::Cid;
use serde::{Deserialize, Serialize};

/// The name of a CAR: the CID of its bytes, with the codec 0x0202.
pub type CarId = Cid;

/// The blob of a CAR that has one of its own.
pub(crate) fn car_name(id: &CarId) -> String {
    format!("car/{id}.car")
}

/// The end of a CAR that is in a remote only: its index with its pages.
pub(crate) fn tail_name(id: &CarId) -> String {
    format!("away/{id}.tail")
}

/// The CAR whose end a blob is, by its name.
pub(crate) fn car_of_tail(name: &str) -> Option<CarId> {
    let text = name.strip_prefix("away/")?.strip_suffix(".tail")?;
    text.parse().ok()
}

/// The CAR that a blob is, by its name.
pub(crate) fn car_of_name(name: &str) -> Option<CarId> {
    let text = name.strip_prefix("car/")?.strip_suffix(".car")?;
    text.parse().ok()
}

/// Where the bytes of a CAR are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Location {
    /// A blob of its own, `car/<cid>.car`.
    File,
    /// In a journal file, from an offset on.
    Journal {
        /// Number of the journal file.
        number: u64,
        /// Offset of the CAR's first byte.
        offset: u64,
    },
    /// In a remote; here is its end only, `away/<cid>.tail`. Once it was fetched it is a blob of its own
    /// beside that: what there is decides.
    Away,
}

/// What the state keeps about a CAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CarMeta {
    /// Size in bytes.
    pub bytes: u64,
    /// Number of blocks, header and index left out.
    pub blocks: u64,
    /// Where its index starts, from the CAR's first byte.
    pub index_offset: u64,
    /// True when its blocks are encrypted.
    pub sealed: bool,
    /// 0 for a commit, n + 1 for the output of a compaction of level n.
    pub level: u8,
    /// CARs written by one compaction or one commit carry one number.
    pub run: u64,
    /// Where it is.
    pub location: Location,
}
