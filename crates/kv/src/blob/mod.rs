//! Values apart from keys: a value over its keyspace's threshold goes into a blob file, and its
//! entry holds a pointer. Compactions then move pointers, not values.
//!
//! A blob file is a segment like a table, listed in the manifest; tables say how many of its bytes
//! they point to. When none does it is retired like a replaced table. When few do, the next
//! compaction of such a table copies those values to a new file.

pub(crate) mod file;
pub(crate) mod live;

use crate::types::SegmentId;
use crate::varint;

/// Values of this size and more are large, in bytes: a block of the usual size holds one of them, so that
/// nothing is gained by keeping them in tables.
pub(crate) const LARGE_VALUE: usize = 16 * 1024;

/// Where a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) file: SegmentId,
    pub(crate) at: u64,
    /// Bytes of the frame that holds it.
    pub(crate) len: usize,
}

impl Pointer {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.file.0.to_le_bytes());
        varint::put(out, self.at);
        varint::put(out, self.len as u64);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let file = SegmentId(u64::from_le_bytes(*bytes.first_chunk()?));
        let mut at = 8;
        let pointer = Self {
            file,
            at: varint::get(bytes, &mut at)?,
            len: varint::get_len(bytes, &mut at)?,
        };
        (at == bytes.len() && file.is_blob_file()).then_some(pointer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pointer_reads_back_and_hostile_bytes_are_refused_or_read(
            counter in 0u64..1 << 35, at: u64, len in 0usize..1 << 30,
            hostile in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            let pointer = Pointer { file: SegmentId::new_blob_file(3, counter), at, len };
            let mut bytes = Vec::new();
            pointer.encode(&mut bytes);
            prop_assert_eq!(Pointer::decode(&bytes), Some(pointer));
            let _ = Pointer::decode(&hostile);
        }
    }
}
