//! How a block stands in a file: its bytes, compressed or not, then one byte for the codec, its raw
//! length and a checksum over all of it. Memory for decompression is bounded by what the compressed
//! bytes can possibly hold.

use crate::options::Compression;
use bytes::Bytes;
use siltstone_storage::Buffer;
use std::cell::RefCell;

/// Codec, raw length, checksum.
pub(crate) const TRAILER: usize = 1 + 4 + 4;
const RAW: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;
const ZSTD_LEVEL: i32 = 1;
/// The most that one compressed byte can expand to.
const LZ4_EXPANSION: usize = 255;
const ZSTD_MAX_RAW: usize = 1 << 31;

/// Compresses blocks, keeping its buffers and contexts.
pub(crate) struct Sealer {
    compression: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("compression", &self.compression)
            .finish()
    }
}

impl Sealer {
    pub(crate) fn new(compression: Compression) -> Self {
        let zstd = match compression {
            Compression::Zstd => zstd::bulk::Compressor::new(ZSTD_LEVEL).ok(),
            _ => None,
        };
        Self {
            compression,
            zstd,
            buffer: Vec::new(),
        }
    }

    /// Appends `raw` to `out` as a frame; stored as it is where compressing would not help.
    pub(crate) fn seal(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let codec = match self.compress(raw) {
            Some(codec) => {
                out.extend_from_slice(&self.buffer);
                codec
            }
            None => {
                out.extend_from_slice(raw);
                RAW
            }
        };
        out.push(codec);
        out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        let sum = crc_fast::crc32_iscsi(&out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
    }

    /// Compresses into `self.buffer`; `None` when it saves less than an eighth.
    fn compress(&mut self, raw: &[u8]) -> Option<u8> {
        let codec = match self.compression {
            Compression::None => return None,
            Compression::Lz4 => {
                self.buffer
                    .resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
                let len = lz4_flex::block::compress_into(raw, &mut self.buffer).ok()?;
                self.buffer.truncate(len);
                LZ4
            }
            Compression::Zstd => {
                self.buffer.clear();
                self.buffer
                    .reserve(zstd::zstd_safe::compress_bound(raw.len()));
                self.zstd
                    .as_mut()?
                    .compress_to_buffer(raw, &mut self.buffer)
                    .ok()?;
                ZSTD
            }
        };
        (self.buffer.len() < raw.len() - raw.len() / 8).then_some(codec)
    }
}

thread_local! {
    static UNZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What a frame holds.
enum Held {
    /// So many bytes as they are, from its start.
    Stored(usize),
    Unpacked(Bytes),
}

/// Checks a frame and gives the block's raw bytes.
pub(crate) fn open(frame: Bytes) -> Result<Bytes, &'static str> {
    Ok(match unpack(&frame)? {
        Held::Stored(len) => frame.slice(..len),
        Held::Unpacked(raw) => raw,
    })
}

/// [`open`] for a frame that is a part of more bytes: what it gives does not keep those in memory.
pub(crate) fn open_part(frame: &[u8]) -> Result<Bytes, &'static str> {
    Ok(match unpack(frame)? {
        Held::Stored(len) => Bytes::copy_from_slice(&frame[..len]),
        Held::Unpacked(raw) => raw,
    })
}

fn unpack(frame: &[u8]) -> Result<Held, &'static str> {
    let end = frame
        .len()
        .checked_sub(TRAILER)
        .ok_or("a block shorter than its trailer")?;
    let sum = u32::from_le_bytes(frame[end + 5..].try_into().expect("four bytes"));
    if crc_fast::crc32_iscsi(&frame[..end + 5]) != sum {
        return Err("a block's checksum does not match");
    }
    let raw_len = u32::from_le_bytes(frame[end + 1..end + 5].try_into().expect("four bytes"));
    let raw_len = raw_len as usize;
    let packed = &frame[..end];
    match frame[end] {
        RAW if raw_len == end => Ok(Held::Stored(end)),
        RAW => Err("a stored block whose length does not match"),
        LZ4 => {
            if raw_len > end.saturating_mul(LZ4_EXPANSION).saturating_add(64) {
                return Err("a block that claims more bytes than LZ4 can pack");
            }
            let mut raw = Buffer::of(raw_len);
            match lz4_flex::block::decompress_into(packed, &mut raw) {
                Ok(len) if len == raw_len => Ok(Held::Unpacked(raw.freeze())),
                _ => Err("a block that LZ4 cannot unpack"),
            }
        }
        ZSTD => {
            if raw_len > ZSTD_MAX_RAW || zstd_content_size(packed) != Some(raw_len as u64) {
                return Err("a block whose length does not match");
            }
            let raw = unzstd(packed, raw_len).ok_or("a block that zstd cannot unpack")?;
            Ok(Held::Unpacked(raw))
        }
        _ => Err("a block with an unknown codec"),
    }
}

fn zstd_content_size(packed: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(packed)
        .ok()
        .flatten()
}

fn unzstd(packed: &[u8], raw_len: usize) -> Option<Bytes> {
    UNZSTD.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Decompressor::new().ok();
        }
        let mut raw = Buffer::of(raw_len);
        let unpacked = slot.as_mut()?.decompress_to_buffer(packed, &mut raw[..]);
        (unpacked.ok()? == raw_len).then(|| raw.freeze())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_codec_gives_back_what_it_took(raw in prop::collection::vec(0u8..4, 0..3000)) {
            for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
                let mut out = Vec::new();
                Sealer::new(compression).seal(&raw, &mut out);
                prop_assert_eq!(&open_part(&out).unwrap()[..], &raw[..]);
                prop_assert_eq!(&open(Bytes::from(out)).unwrap()[..], &raw[..]);
            }
        }

        #[test]
        fn any_bytes_with_a_right_checksum_are_unpacked_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), codec in 0u8..4, raw_len in 0u32..100_000,
        ) {
            bytes.push(codec);
            bytes.extend(raw_len.to_le_bytes());
            let sum = crc_fast::crc32_iscsi(&bytes);
            bytes.extend(sum.to_le_bytes());
            let _ = open(Bytes::from(bytes));
        }
    }

    #[test]
    fn a_flipped_byte_or_a_cut_is_refused() {
        let mut out = Vec::new();
        Sealer::new(Compression::Lz4).seal(&[7; 500], &mut out);
        for at in 0..out.len() {
            let mut bad = out.clone();
            bad[at] ^= 1;
            assert!(open(Bytes::from(bad)).is_err());
            assert!(open(Bytes::copy_from_slice(&out[..at])).is_err());
        }
    }
}
