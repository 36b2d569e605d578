//! DAG-CBOR, item by item: what is written is canonical, and what is read must be.
//!
//! Structures whose every byte counts (nodes, changes, events, headers) are read from here without an
//! allocation an item; values of any shape go through [`Document`](crate::Document). Canonical means:
//! the shortest form of every number and length, no indefinite lengths, map keys as text, unique and in
//! length-first order, floats of 64 bits, finite and with one zero, the only tag 42 (a CID). So equal values have equal
//! bytes. The rules are those of the IPLD DAG-CBOR specification.

use crate::block::Cid;
use crate::error::Error;

/// The deepest nesting that is read or written.
pub const MAX_DEPTH: usize = 128;

/// Bytes that are not canonical DAG-CBOR, or not the structure that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Offset in bytes.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl Malformed {
    /// As an error about `place`.
    pub fn in_place(self, place: impl Into<String>) -> Error {
        Error::corrupt(place, format!("{} at byte {}", self.what, self.at))
    }
}

/// The result of reading.
pub type Read<T> = Result<T, Malformed>;

/// The kind of the next item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Null.
    Null,
    /// True or false.
    Bool,
    /// A number from -2^64 to 2^64-1.
    Integer,
    /// A float of 64 bits.
    Float,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// An array.
    Array,
    /// A map.
    Map,
    /// A CID.
    Link,
}

/// Reads items one after another.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// At an offset.
    pub fn starting_at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The offset of the next item.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The error `what` at the next item.
    pub fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }

    /// Checks that all was read.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(&self) -> Read<()> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.malformed("there are bytes behind the end"))
        }
    }

    /// The kind of the next item.
    ///
    /// # Errors
    /// When there is none, or it is of no kind of the data model.
    pub fn kind(&self) -> Read<Kind> {
        let Some(first) = self.bytes.get(self.at) else {
            return Err(self.malformed("it ends too early"));
        };
        Ok(match first >> 5 {
            0 | 1 => Kind::Integer,
            2 => Kind::Bytes,
            3 => Kind::Text,
            4 => Kind::Array,
            5 => Kind::Map,
            6 => Kind::Link,
            _ => match first {
                0xf4 | 0xf5 => Kind::Bool,
                0xf6 => Kind::Null,
                0xfb => Kind::Float,
                _ => return Err(self.malformed("a value that DAG-CBOR does not have")),
            },
        })
    }

    /// The head of the next item: major type and argument.
    #[inline]
    fn head(&mut self) -> Read<(u8, u64)> {
        let Some(first) = self.bytes.get(self.at) else {
            return Err(self.malformed("it ends too early"));
        };
        let (major, info) = (first >> 5, first & 0x1f);
        if info < 24 {
            self.at += 1;
            return Ok((major, u64::from(info)));
        }
        self.long_head(major, info)
    }

    fn long_head(&mut self, major: u8, info: u8) -> Read<(u8, u64)> {
        let width = match info {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(self.malformed("a length without an end")),
        };
        let Some(argument) = self.bytes.get(self.at + 1..self.at + 1 + width) else {
            return Err(self.malformed("it ends too early"));
        };
        let value = argument
            .iter()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let least = [24, 0x100, 0x1_0000, 0x1_0000_0000][width.trailing_zeros() as usize];
        if value < least && major != 7 {
            return Err(self.malformed("a number is not in its shortest form"));
        }
        self.at += 1 + width;
        Ok((major, value))
    }

    #[inline]
    fn expect(&mut self, major: u8, what: &'static str) -> Read<u64> {
        let at = self.at;
        match self.head()? {
            (found, value) if found == major => Ok(value),
            _ => {
                self.at = at;
                Err(self.malformed(what))
            }
        }
    }

    #[inline]
    fn take(&mut self, len: u64) -> Read<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(len) {
            Ok(len) if len <= rest.len() => {
                self.at += len;
                Ok(&rest[..len])
            }
            _ => Err(self.malformed("a length goes beyond the end")),
        }
    }

    /// A number from 0.
    ///
    /// # Errors
    /// When the next item is none.
    pub fn uint(&mut self) -> Read<u64> {
        self.expect(0, "a number was expected")
    }

    /// A number.
    ///
    /// # Errors
    /// When the next item is none.
    pub fn int(&mut self) -> Read<i128> {
        let at = self.at;
        match self.head()? {
            (0, value) => Ok(i128::from(value)),
            (1, value) => Ok(-1 - i128::from(value)),
            _ => {
                self.at = at;
                Err(self.malformed("a number was expected"))
            }
        }
    }

    /// A finite float.
    ///
    /// # Errors
    /// When the next item is none.
    pub fn float(&mut self) -> Read<f64> {
        if self.bytes.get(self.at) != Some(&0xfb) {
            return Err(self.malformed("a float of 64 bits was expected"));
        }
        let (_, bits) = self.head()?;
        let value = f64::from_bits(bits);
        if !value.is_finite() {
            return Err(self.malformed("a float is not finite"));
        }
        if value == 0.0 && value.is_sign_negative() {
            return Err(self.malformed("a negative zero"));
        }
        Ok(value)
    }

    /// True or false.
    ///
    /// # Errors
    /// When the next item is neither.
    pub fn bool(&mut self) -> Read<bool> {
        let value = match self.bytes.get(self.at) {
            Some(0xf4) => false,
            Some(0xf5) => true,
            _ => return Err(self.malformed("true or false was expected")),
        };
        self.at += 1;
        Ok(value)
    }

    /// Takes a null if one is next: true when it was.
    pub fn null(&mut self) -> bool {
        let found = self.bytes.get(self.at) == Some(&0xf6);
        self.at += usize::from(found);
        found
    }

    /// Bytes.
    ///
    /// # Errors
    /// When the next item is none.
    pub fn bytes(&mut self) -> Read<&'a [u8]> {
        let len = self.expect(2, "bytes were expected")?;
        self.take(len)
    }

    /// Text.
    ///
    /// # Errors
    /// When the next item is none, or not UTF-8.
    pub fn text(&mut self) -> Read<&'a str> {
        let len = self.expect(3, "text was expected")?;
        let at = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed {
            at,
            what: "text is not UTF-8",
        })
    }

    /// The text `key`, of a structure whose keys are known.
    ///
    /// # Errors
    /// When the next item is another.
    pub fn key(&mut self, key: &str) -> Read<()> {
        let at = self.at;
        match self.text()? {
            found if found == key => Ok(()),
            _ => Err(Malformed {
                at,
                what: "another field was expected",
            }),
        }
    }

    /// The start of an array: how many items follow. Never more than there are bytes.
    ///
    /// # Errors
    /// When the next item is none.
    pub fn array(&mut self) -> Read<usize> {
        let count = self.expect(4, "an array was expected")?;
        self.count(count, 1)
    }

    /// The start of a map: how many pairs follow. Never more than there are bytes.
    ///
    /// # Errors
    /// When the next item is none.
    pub fn map(&mut self) -> Read<usize> {
        let count = self.expect(5, "a map was expected")?;
        self.count(count, 2)
    }

    /// The start of a map or an array of exactly `count`.
    ///
    /// # Errors
    /// When the next item is another.
    pub fn map_of(&mut self, count: usize) -> Read<()> {
        match self.map()? {
            found if found == count => Ok(()),
            _ => Err(self.malformed("another number of fields was expected")),
        }
    }

    /// The start of an array of exactly `count`.
    ///
    /// # Errors
    /// When the next item is another.
    pub fn array_of(&mut self, count: usize) -> Read<()> {
        match self.array()? {
            found if found == count => Ok(()),
            _ => Err(self.malformed("another number of items was expected")),
        }
    }

    #[inline]
    fn count(&self, count: u64, each: u64) -> Read<usize> {
        let left = (self.bytes.len() - self.at) as u64;
        match count.checked_mul(each) {
            Some(least) if least <= left => Ok(count as usize),
            _ => Err(self.malformed("a count goes beyond the end")),
        }
    }

    /// A CID.
    ///
    /// # Errors
    /// When the next item is none, or one that [`Cid::from_bytes`] refuses.
    pub fn link(&mut self) -> Read<Cid> {
        let at = self.at;
        let bytes = self.link_bytes()?;
        Cid::from_bytes(bytes).map_err(|_| Malformed {
            at,
            what: "a link that is not a CIDv1 with SHA2-256",
        })
    }

    /// A CID or null.
    ///
    /// # Errors
    /// When the next item is neither.
    pub fn nullable_link(&mut self) -> Read<Option<Cid>> {
        if self.null() {
            return Ok(None);
        }
        self.link().map(Some)
    }

    /// The binary form of a CID of any kind.
    pub(crate) fn link_bytes(&mut self) -> Read<&'a [u8]> {
        let at = self.at;
        if self.expect(6, "a link was expected")? != 42 {
            self.at = at;
            return Err(self.malformed("a tag other than 42"));
        }
        match self.bytes()? {
            [0, cid @ ..] if !cid.is_empty() => Ok(cid),
            _ => Err(Malformed {
                at,
                what: "a link without its leading zero",
            }),
        }
    }

    /// Skips one item of any shape, and checks that it is canonical.
    ///
    /// # Errors
    /// When it is not, or nested deeper than [`MAX_DEPTH`].
    pub fn skip(&mut self) -> Read<()> {
        self.skip_within(MAX_DEPTH)
    }

    fn skip_within(&mut self, depth: usize) -> Read<()> {
        match self.kind()? {
            Kind::Null | Kind::Bool => self.at += 1,
            Kind::Integer => {
                self.head()?;
            }
            Kind::Float => {
                self.float()?;
            }
            Kind::Bytes => {
                self.bytes()?;
            }
            Kind::Text => {
                self.text()?;
            }
            Kind::Link => self.skip_link()?,
            Kind::Array => {
                let depth = self.deeper(depth)?;
                for _ in 0..self.array()? {
                    self.skip_within(depth)?;
                }
            }
            Kind::Map => {
                let depth = self.deeper(depth)?;
                let mut last: Option<&str> = None;
                for _ in 0..self.map()? {
                    let at = self.at;
                    let key = self.text()?;
                    if last.is_some_and(|last| !precedes(last, key)) {
                        return Err(Malformed {
                            at,
                            what: "a map's keys are not unique and in order",
                        });
                    }
                    last = Some(key);
                    self.skip_within(depth)?;
                }
            }
        }
        Ok(())
    }

    fn skip_link(&mut self) -> Read<()> {
        let at = self.at;
        let bytes = self.link_bytes()?;
        // The usual one is known by its first bytes.
        if bytes.len() == 36 && matches!(bytes, [1, 0x71 | 0x55, 0x12, 0x20, ..]) {
            return Ok(());
        }
        match cid::Cid::try_from(bytes) {
            // The library lets bytes lie behind it, and varints be padded.
            Ok(cid) if cid.to_bytes() == bytes => Ok(()),
            _ => Err(Malformed {
                at,
                what: "a link that is not a CID",
            }),
        }
    }

    fn deeper(&self, depth: usize) -> Read<usize> {
        depth
            .checked_sub(1)
            .ok_or_else(|| self.malformed("it is nested too deep"))
    }
}

/// True when `a` comes before `b` in a map: the shorter first, then by bytes.
pub fn precedes(a: &str, b: &str) -> bool {
    (a.len(), a) < (b.len(), b)
}

#[inline]
fn put_head(major: u8, value: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match value {
        0..24 => out.push(major | value as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, value as u8]),
        0x100..0x1_0000 => {
            let [a, b] = (value as u16).to_be_bytes();
            out.extend_from_slice(&[major | 25, a, b]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Appends a number from 0.
#[inline]
pub fn put_uint(value: u64, out: &mut Vec<u8>) {
    put_head(0, value, out);
}

/// Appends a number. False, with nothing appended, when it is outside -2^64..2^64.
pub fn put_int(value: i128, out: &mut Vec<u8>) -> bool {
    if let Ok(value) = u64::try_from(value) {
        put_head(0, value, out);
    } else if let Ok(value) = u64::try_from(-1 - value) {
        put_head(1, value, out);
    } else {
        return false;
    }
    true
}

/// Appends a negative or other number of 64 bits.
pub(crate) fn put_i64(value: i64, out: &mut Vec<u8>) {
    if value >= 0 {
        put_head(0, value.unsigned_abs(), out);
    } else {
        put_head(1, !(value as u64), out);
    }
}

/// Appends a float. False, with nothing appended, when it is not finite.
pub fn put_float(value: f64, out: &mut Vec<u8>) -> bool {
    if !value.is_finite() {
        return false;
    }
    // DAG-CBOR has one zero.
    let value = if value == 0.0 { 0.0f64 } else { value };
    out.push(0xfb);
    out.extend_from_slice(&value.to_bits().to_be_bytes());
    true
}

/// Appends true or false.
pub fn put_bool(value: bool, out: &mut Vec<u8>) {
    out.push(0xf4 | u8::from(value));
}

/// Appends null.
pub fn put_null(out: &mut Vec<u8>) {
    out.push(0xf6);
}

/// Appends bytes.
#[inline]
pub fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
    put_head(2, value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Appends the start of bytes of which `len` follow.
pub(crate) fn put_bytes_head(len: usize, out: &mut Vec<u8>) {
    put_head(2, len as u64, out);
}

/// Appends text.
#[inline]
pub fn put_text(value: &str, out: &mut Vec<u8>) {
    put_head(3, value.len() as u64, out);
    out.extend_from_slice(value.as_bytes());
}

/// Appends the start of an array: `count` items follow.
#[inline]
pub fn put_array(count: usize, out: &mut Vec<u8>) {
    put_head(4, count as u64, out);
}

/// Appends the start of a map: `count` pairs follow, keys as [`precedes`] orders them.
pub fn put_map(count: usize, out: &mut Vec<u8>) {
    put_head(5, count as u64, out);
}

/// Appends a link.
#[inline]
pub fn put_link(cid: &Cid, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd8, 42]);
    put_head(2, 1 + cid.encoded_len() as u64, out);
    out.push(0);
    cid.write_to(out);
}

/// Appends a link or null.
pub fn put_nullable_link(cid: Option<&Cid>, out: &mut Vec<u8>) {
    match cid {
        Some(cid) => put_link(cid, out),
        None => put_null(out),
    }
}
