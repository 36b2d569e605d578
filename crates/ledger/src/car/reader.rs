//! Reads archives frame by frame, of any tool: CARv1 in memory, without a copy, or from a stream. What
//! a length in the file says is never reserved before the bytes are there.

use std::io::Read;

use bytes::Bytes;

use crate::block::{Block, Cid};
use crate::cbor::{self, Reader};
use crate::error::{Error, Result};

use super::{MAX_FRAME_BYTES, MAX_HEADER_BYTES};

/// One block of an archive, as it lies there. Its hash is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The block: of the envelope where the archive is sealed.
    pub block: Block,
    /// Where its bytes begin in the archive.
    pub offset: u64,
}

fn damaged(offset: u64, what: &str) -> Error {
    Error::corrupt(format!("an archive at byte {offset}"), what)
}

/// The roots that a CAR header names.
fn decode_header(bytes: &[u8]) -> Result<Vec<Cid>> {
    let place = "the header of an archive";
    let mut reader = Reader::new(bytes);
    let mut roots = Vec::new();
    let mut version = None;
    let mut read = || -> cbor::Read<()> {
        for _ in 0..reader.map()? {
            match reader.text()? {
                "roots" => {
                    for _ in 0..reader.array()? {
                        roots.push(reader.link()?);
                    }
                }
                "version" => version = Some(reader.uint()?),
                _ => return Err(reader.malformed("a field that CARv1 does not have")),
            }
        }
        reader.finish()
    };
    let read = read();
    match version {
        Some(version) if version > 1 => Err(Error::NewerFormat {
            place: place.to_string(),
            found: version,
            supported: 1,
        }),
        _ => {
            read.map_err(|malformed| malformed.in_place(place))?;
            match version {
                Some(1) => Ok(roots),
                _ => Err(Error::corrupt(place, "it has no version 1")),
            }
        }
    }
}

/// The frames of an archive in memory. After an error it is over.
#[derive(Debug, Clone)]
pub struct Frames {
    bytes: Bytes,
    at: usize,
    roots: Vec<Cid>,
}

impl Frames {
    /// Reads the header and stands before the first frame.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that are no CAR, [`Error::NewerFormat`] for a CARv2,
    /// [`Error::UnsupportedCid`].
    pub fn new(bytes: Bytes) -> Result<Self> {
        let (len, used) =
            crate::varint::read(&bytes).ok_or_else(|| damaged(0, "its header has no length"))?;
        let end = usize::try_from(len)
            .ok()
            .filter(|len| *len <= MAX_HEADER_BYTES)
            .and_then(|len| len.checked_add(used))
            .filter(|end| *end <= bytes.len())
            .ok_or_else(|| damaged(0, "its header is longer than it or than the limit"))?;
        let roots = decode_header(&bytes[used..end])?;
        Ok(Self {
            bytes,
            at: end,
            roots,
        })
    }

    /// The roots: one, the header block, in an archive of a ledger.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    #[inline]
    fn frame(&mut self) -> Result<Frame> {
        let at = self.at as u64;
        let rest = &self.bytes[self.at..];
        let (len, used) =
            crate::varint::read(rest).ok_or_else(|| damaged(at, "a frame has no length"))?;
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| len.checked_add(used))
            .filter(|end| *end <= rest.len())
            .ok_or_else(|| damaged(at, "a frame goes beyond the end"))?;
        check_len(len, at)?;
        let (cid, cid_len) = Cid::read_from(&rest[used..end])?;
        let start = self.at + used + cid_len;
        let bytes = self.bytes.slice(start..self.at + end);
        self.at += end;
        Ok(Frame {
            block: Block { cid, bytes },
            offset: start as u64,
        })
    }
}

fn check_len(len: u64, at: u64) -> Result<()> {
    match len {
        0 => Err(damaged(at, "a frame is empty")),
        len if len > MAX_FRAME_BYTES as u64 => Err(Error::TooLarge {
            what: "the bytes of a frame of an archive",
            size: len,
            limit: MAX_FRAME_BYTES as u64,
        }),
        _ => Ok(()),
    }
}

impl Iterator for Frames {
    type Item = Result<Frame>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let frame = self.frame();
        if frame.is_err() {
            self.at = self.bytes.len();
        }
        Some(frame)
    }
}

/// The frames of an archive from a stream, one in memory at a time. After an error it is over. Reads in
/// small pieces: give it a buffered stream.
#[derive(Debug)]
pub struct CarStream<R> {
    stream: R,
    at: u64,
    roots: Vec<Cid>,
    over: bool,
}

impl<R: Read> CarStream<R> {
    /// Reads the header and stands before the first frame.
    ///
    /// # Errors
    /// As [`Frames::new`]; [`Error::Io`].
    pub fn new(stream: R) -> Result<Self> {
        let mut out = Self {
            stream,
            at: 0,
            roots: Vec::new(),
            over: false,
        };
        let len = out.varint()?.ok_or_else(|| damaged(0, "it is empty"))?;
        if len > MAX_HEADER_BYTES as u64 {
            return Err(damaged(0, "its header is longer than the limit"));
        }
        let header = out.exactly(len)?;
        out.roots = decode_header(&header)?;
        Ok(out)
    }

    /// The roots.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// A length; None at the end of the stream.
    fn varint(&mut self) -> Result<Option<u64>> {
        let mut bytes = Vec::with_capacity(9);
        loop {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(0) if bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(damaged(self.at, "it ends within a length")),
                Ok(_) => bytes.push(byte[0]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("reading an archive", &error)),
            }
            if byte[0] & 0x80 == 0 || bytes.len() == 9 {
                let (value, used) = crate::varint::read(&bytes)
                    .ok_or_else(|| damaged(self.at, "a frame has no length"))?;
                self.at += used as u64;
                return Ok(Some(value));
            }
        }
    }

    fn exactly(&mut self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.stream)
            .take(len)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("reading an archive", &error))?;
        if bytes.len() as u64 != len {
            return Err(damaged(self.at, "it ends within a frame"));
        }
        self.at += len;
        Ok(bytes)
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        let at = self.at;
        let Some(len) = self.varint()? else {
            return Ok(None);
        };
        check_len(len, at)?;
        let bytes = Bytes::from(self.exactly(len)?);
        let (cid, cid_len) = Cid::read_from(&bytes)?;
        let bytes = bytes.slice(cid_len..);
        let offset = self.at - bytes.len() as u64;
        Ok(Some(Frame {
            block: Block { cid, bytes },
            offset,
        }))
    }
}

impl<R: Read> Iterator for CarStream<R> {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let frame = self.frame().transpose();
        self.over = !matches!(frame, Some(Ok(_)));
        frame
    }
}
