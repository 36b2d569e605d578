//! What goes around all encoded data: what it is, its sections, compressed where that helps, and a
//! checksum over everything.

use super::bytes::{Reader, Writer};
use crate::error::{Error, Result};
use std::borrow::Cow;

const MAGIC: [u8; 3] = *b"SLT";
/// The version of the format and, with it, of the order's rule (1: Fugue, siblings by Lamport counter
/// and session).
pub(crate) const VERSION: u8 = 1;
const CHECKSUM: usize = 4;
/// Nothing was set or moved.
const PLAIN: u8 = 1 << 3;
/// Shorter sections are stored as they are.
const WORTH_COMPRESSING: usize = 96;
/// The most bytes a section may have once unpacked.
const MAX_SECTION: usize = 1 << 30;
/// How much longer than its stored form a section may be: more is a trap, not a list.
const MAX_RATIO: usize = 30_000;

/// So many of the last bytes of a model are looked at.
const MAX_MODEL: usize = 1 << 20;

/// What the bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Update = 1,
    Document = 2,
}

pub(crate) struct Frame {
    writer: Writer,
    level: i32,
}

impl Frame {
    /// `content` tells texts from lists; `level` is zstd's. In a document that is `plain` nothing was
    /// set or moved, so its shown contents are what it shows.
    pub(crate) fn new(shape: Shape, content: u8, plain: bool, level: i32) -> Self {
        let mut writer = Writer::default();
        writer.bytes.extend_from_slice(&MAGIC);
        writer.byte(VERSION);
        writer.byte(shape as u8 | if plain { PLAIN } else { 0 } | content << 4);
        Self { writer, level }
    }

    pub(crate) fn section(&mut self, bytes: &[u8]) -> Result<()> {
        self.section_like(bytes, &[])
    }

    /// A section that resembles `model`, another one's unpacked bytes, which must be at hand when this
    /// one is unpacked.
    pub(crate) fn section_like(&mut self, bytes: &[u8], model: &[u8]) -> Result<()> {
        self.writer.number(bytes.len() as u64);
        if bytes.len() >= WORTH_COMPRESSING {
            // Compressing into memory does not fail; if it should, the bytes go as they are.
            let packed = zstd::bulk::Compressor::with_dictionary(self.level, end_of(model))
                .and_then(|mut packer| packer.compress(bytes))
                .unwrap_or_default();
            if !packed.is_empty() && packed.len() < bytes.len() {
                self.writer.slice(&packed);
                return Ok(());
            }
        }
        self.writer.number(0);
        self.writer.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let sum = checksum(&self.writer.bytes);
        self.writer.bytes.extend_from_slice(&sum);
        self.writer.bytes
    }
}

/// As much of a model as is looked at.
fn end_of(model: &[u8]) -> &[u8] {
    &model[model.len().saturating_sub(MAX_MODEL)..]
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    (xxhash_rust::xxh3::xxh3_64(bytes) as u32).to_le_bytes()
}

/// A section as it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Section<'a> {
    what: &'static str,
    stored: &'a [u8],
    len: usize,
    packed: bool,
}

impl<'a> Section<'a> {
    pub(crate) fn unpack(&self) -> Result<Cow<'a, [u8]>> {
        self.unpack_like(&[])
    }

    /// Unpacks what was packed like `model`.
    pub(crate) fn unpack_like(&self, model: &[u8]) -> Result<Cow<'a, [u8]>> {
        if !self.packed {
            return Ok(Cow::Borrowed(self.stored));
        }
        let damaged = |problem| Error::Damaged {
            what: self.what,
            offset: 0,
            problem,
        };
        let bytes = zstd::bulk::Decompressor::with_dictionary(end_of(model))
            .and_then(|mut unpacker| unpacker.decompress(self.stored, self.len))
            .map_err(|_| damaged("it does not unpack"))?;
        if bytes.len() != self.len {
            return Err(damaged("it is not as long as announced"));
        }
        Ok(Cow::Owned(bytes))
    }
}

/// Opens a frame: checks what it is and its checksum.
pub(crate) struct Opened<'a> {
    pub(crate) shape: Shape,
    pub(crate) plain: bool,
    reader: Reader<'a>,
}

impl<'a> Opened<'a> {
    pub(crate) fn new(bytes: &'a [u8], content: u8) -> Result<Self> {
        let damaged = |offset, problem| Error::Damaged {
            what: "header",
            offset,
            problem,
        };
        let body_len = bytes
            .len()
            .checked_sub(CHECKSUM)
            .ok_or_else(|| damaged(0, "it is too short"))?;
        let (body, sum) = bytes.split_at(body_len);
        let mut reader = Reader::new("header", body);
        if reader.take(MAGIC.len()).ok() != Some(&MAGIC[..]) {
            return Err(damaged(0, "this is not an encoded list"));
        }
        let version = reader.byte()?;
        if version > VERSION {
            return Err(Error::NewerFormat {
                found: version,
                known: VERSION,
            });
        }
        if version == 0 {
            return Err(damaged(3, "there is no format version 0"));
        }
        if checksum(body) != sum {
            return Err(damaged(0, "the checksum does not match"));
        }
        let kind = reader.byte()?;
        let shape = match kind & 7 {
            1 => Shape::Update,
            2 => Shape::Document,
            _ => return Err(damaged(4, "this shape is unknown")),
        };
        if kind >> 4 != content {
            return Err(damaged(
                4,
                "a text was expected and this is a list, or the other way round",
            ));
        }
        Ok(Self {
            shape,
            plain: kind & PLAIN != 0,
            reader,
        })
    }

    pub(crate) fn section(&mut self, what: &'static str) -> Result<Section<'a>> {
        let len = self.reader.number()? as usize;
        let packed_len = self.reader.count()?;
        let packed = packed_len > 0;
        let stored = self.reader.take(if packed { packed_len } else { len })?;
        if packed && (len > MAX_SECTION || len / MAX_RATIO > stored.len()) {
            return Err(self
                .reader
                .damaged("a section announces more than it can hold"));
        }
        Ok(Section {
            what,
            stored,
            len,
            packed,
        })
    }

    pub(crate) fn end(&self) -> Result<()> {
        self.reader.end()
    }
}
