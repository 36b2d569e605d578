//! Records of the log. A record holds one or more commits with consecutive numbers:
//!
//! ```text
//! magic u32 | payload length u32 | checksum u32 | first commit u64 | last commit u64
//! | durable u64 | time u64 | raw length u32 | payload
//! ```
//!
//! A raw length other than 0 says that the payload is LZ4-compressed and how long it is unpacked.
//!
//! `durable` is how many bytes of this file were durable when the record was written. It tells a
//! torn tail from damage: an unreadable stretch below some later record's `durable` was readable
//! once. The checksum covers the file's number too, so that bytes of another file never pass.

use crate::types::{Commit, KeyspaceId, Tag};
use crate::varint;
use siltstone_storage::Timestamp;
use std::borrow::Cow;
use std::ops::Range;

const MAGIC: u32 = 0x464c_5753;
/// Bytes of a record before its payload.
pub(crate) const HEADER: usize = 4 + 4 + 4 + 8 * 4 + 4;
const CHECKED_FROM: usize = 12;

/// A record's fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) first: Commit,
    pub(crate) last: Commit,
    pub(crate) durable: u64,
    pub(crate) time: Timestamp,
}

/// The most that one byte of LZ4 can expand to.
const EXPANSION: usize = 255;

/// Appends a record with `payload` to `out`, compressed when it has `compress_from` bytes or more
/// and that saves an eighth of them.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    file: u64,
    record: &Record,
    payload: &[u8],
    compress_from: usize,
) {
    let packed = (payload.len() >= compress_from)
        .then(|| lz4_flex::block::compress(payload))
        .filter(|packed| packed.len() < payload.len() - payload.len() / 8);
    let raw_len = packed.as_ref().map_or(0, |_| payload.len() as u32);
    let payload = packed.as_deref().unwrap_or(payload);
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for field in [record.first.0, record.last.0, record.durable, record.time.0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&raw_len.to_le_bytes());
    out.extend_from_slice(payload);
    let sum = checksum(file, &out[start + CHECKED_FROM..]);
    out[start + 8..start + 12].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(file: u64, bytes: &[u8]) -> u32 {
    let mix = (file ^ file >> 32) as u32;
    crc_fast::crc32_iscsi(bytes) ^ mix.wrapping_mul(0x9e37_79b1) ^ bytes.len() as u32
}

/// How many bytes the record takes whose header this is; `None` when it is none.
pub(crate) fn record_bytes(header: &[u8]) -> Option<usize> {
    let u32_at = |at: usize| {
        let bytes = header.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("four")))
    };
    (u32_at(0)? == MAGIC).then_some(HEADER + u32_at(4)? as usize)
}

/// A record whose checksum matches, its payload as it is stored.
struct Stored<'b> {
    record: Record,
    payload: &'b [u8],
    /// 0: the payload is not compressed.
    raw_len: usize,
    end: usize,
}

fn stored(bytes: &[u8], file: u64, at: usize) -> Option<Stored<'_>> {
    let header = bytes.get(at..)?.get(..HEADER)?;
    let u32_at = |i: usize| u32::from_le_bytes(header[i..i + 4].try_into().expect("four"));
    let u64_at = |i: usize| u64::from_le_bytes(header[i..i + 8].try_into().expect("eight"));
    if u32_at(0) != MAGIC {
        return None;
    }
    let end = at.checked_add(HEADER)?.checked_add(u32_at(4) as usize)?;
    let checked = bytes.get(at + CHECKED_FROM..end)?;
    if checksum(file, checked) != u32_at(8) {
        return None;
    }
    let payload = &bytes[at + HEADER..end];
    let raw_len = u32_at(44) as usize;
    let possible = raw_len <= payload.len().saturating_mul(EXPANSION) + 64;
    possible.then_some(Stored {
        record: Record {
            first: Commit(u64_at(12)),
            last: Commit(u64_at(20)),
            durable: u64_at(28),
            time: Timestamp(u64_at(36)),
        },
        payload,
        raw_len,
        end,
    })
}

/// Reads the record at `at` of file number `file`; `None` when there is no intact one.
pub(crate) fn decode(bytes: &[u8], file: u64, at: usize) -> Option<(Record, Cow<'_, [u8]>, usize)> {
    let found = stored(bytes, file, at)?;
    let payload = match found.raw_len {
        0 => Cow::Borrowed(found.payload),
        raw_len => {
            let unpacked = lz4_flex::block::decompress(found.payload, raw_len).ok()?;
            Cow::Owned(Some(unpacked).filter(|unpacked| unpacked.len() == raw_len)?)
        }
    };
    Some((found.record, payload, found.end))
}

/// Unpacked payloads, one behind the other. The memory is used again without being cleared.
#[derive(Debug, Default)]
pub(crate) struct Payloads {
    bytes: Vec<u8>,
    used: usize,
}

impl Payloads {
    /// Bytes of all of them.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    pub(crate) fn get(&self, payload: Range<usize>) -> &[u8] {
        &self.bytes[..self.used][payload]
    }

    /// Unpacks `stored` behind the others; false, and nothing is added, when it is not what it says.
    fn unpack(&mut self, stored: &Stored<'_>) -> bool {
        let len = match stored.raw_len {
            0 => stored.payload.len(),
            raw_len => raw_len,
        };
        let end = self.used + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let room = &mut self.bytes[self.used..end];
        let whole = match stored.raw_len {
            0 => {
                room.copy_from_slice(stored.payload);
                true
            }
            raw_len => lz4_flex::block::decompress_into(stored.payload, room).ok() == Some(raw_len),
        };
        if whole {
            self.used = end;
        }
        whole
    }
}

/// Reads the record that `bytes` starts with, of file number `file`, and puts its payload behind
/// `payloads`. Answers where in there it is; `None` when there is no intact one.
pub(crate) fn decode_into(
    bytes: &[u8],
    file: u64,
    payloads: &mut Payloads,
) -> Option<(Record, Range<usize>)> {
    let found = stored(bytes, file, 0)?;
    let start = payloads.len();
    payloads
        .unpack(&found)
        .then(|| (found.record, start..payloads.len()))
}

/// The first intact record after `at`, however far.
pub(crate) fn find_after(bytes: &[u8], file: u64, at: usize) -> Option<(usize, Record)> {
    let magic = MAGIC.to_le_bytes();
    let mut from = at;
    loop {
        let rest = bytes.get(from..)?;
        let hit = rest.iter().position(|byte| *byte == magic[0])?;
        let candidate = from + hit;
        if let Some((record, _, _)) = decode(bytes, file, candidate) {
            return Some((candidate, record));
        }
        from = candidate + 1;
    }
}

/// One write inside a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Op<'a> {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) tag: Tag,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

pub(crate) fn put_op(out: &mut Vec<u8>, op: &Op<'_>) {
    out.push(op.tag.byte());
    varint::put(out, u64::from(op.keyspace.0));
    varint::put(out, op.key.len() as u64);
    if !op.tag.is_delete() {
        varint::put(out, op.value.len() as u64);
    }
    out.extend_from_slice(op.key);
    out.extend_from_slice(op.value);
}

pub(crate) fn get_op<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Op<'a>> {
    let tag = Tag::from_byte(*bytes.get(*at)?)?;
    *at += 1;
    let keyspace = KeyspaceId(u32::try_from(varint::get(bytes, at)?).ok()?);
    // No key is longer; a memtable has no room for its length.
    let key_len = varint::get_len(bytes, at).filter(|len| *len <= usize::from(u16::MAX))?;
    let value_len = match tag.is_delete() {
        true => 0,
        false => varint::get_len(bytes, at)?,
    };
    let rest = bytes.get(*at..)?;
    let key = rest.get(..key_len)?;
    let value = rest.get(key_len..)?.get(..value_len)?;
    *at += key_len + value_len;
    Some(Op {
        keyspace,
        tag,
        key,
        value,
    })
}

/// Visits every operation of a payload with its commit. False when the payload is malformed.
pub(crate) fn for_each_op<'a>(
    payload: &'a [u8],
    first: Commit,
    last: Commit,
    mut visit: impl FnMut(Commit, Op<'a>),
) -> bool {
    let mut at = 0;
    let mut commit = first;
    while at < payload.len() {
        let Some(ops) = varint::get(payload, &mut at) else {
            return false;
        };
        for _ in 0..ops {
            let Some(op) = get_op(payload, &mut at) else {
                return false;
            };
            visit(commit, op);
        }
        commit.0 = commit.0.wrapping_add(1);
    }
    last.0.checked_add(1) == Some(commit.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(first: u64, last: u64) -> Record {
        Record {
            first: Commit(first),
            last: Commit(last),
            durable: 7,
            time: Timestamp(9),
        }
    }

    #[test]
    fn a_record_reads_back_and_every_flip_and_cut_is_noticed() {
        let mut payload = Vec::new();
        varint::put(&mut payload, 1);
        let op = Op {
            keyspace: KeyspaceId(3),
            tag: Tag::PUT,
            key: b"key",
            value: b"value",
        };
        put_op(&mut payload, &op);
        let mut bytes = Vec::new();
        encode(&mut bytes, 5, &record(4, 4), &payload, usize::MAX);
        let (read, body, end) = decode(&bytes, 5, 0).unwrap();
        assert_eq!(
            (read, &body[..], end),
            (record(4, 4), &payload[..], bytes.len())
        );
        assert!(for_each_op(
            &body,
            read.first,
            read.last,
            |c, o| assert_eq!((c, o), (Commit(4), op))
        ));
        assert!(decode(&bytes, 6, 0).is_none(), "a record of another file");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert!(decode(&bad, 5, 0).is_none(), "flip at {at}");
            assert!(decode(&bytes[..at], 5, 0).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn a_large_record_is_compressed_and_reads_back() {
        let payload = b"some words that come again, ".repeat(100);
        let mut bytes = Vec::new();
        encode(&mut bytes, 5, &record(4, 4), &payload, 1000);
        assert!(bytes.len() < payload.len() / 4);
        assert_eq!(&decode(&bytes, 5, 0).unwrap().1[..], &payload[..]);
    }

    #[test]
    fn an_intact_record_is_found_behind_damage() {
        let mut bytes = vec![0x53; 77];
        encode(&mut bytes, 1, &record(9, 9), b"\0", usize::MAX);
        assert_eq!(find_after(&bytes, 1, 3), Some((77, record(9, 9))));
        assert_eq!(find_after(&bytes, 2, 3), None);
    }

    proptest! {
        #[test]
        fn any_payload_is_visited_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for_each_op(&bytes, Commit(1), Commit(3), |_, _| {});
        }
    }
}
