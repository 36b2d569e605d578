//! The values of one key: usually one; more where writes did not know of each other.

use bytes::Bytes;

use crate::block::Cid;
use crate::cbor::{self, Malformed, Read, Reader};
use crate::error::{Error, Result};

/// One of the values a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sibling {
    /// Lamport time of the change.
    pub lamport: u64,
    /// The change that wrote it.
    pub change: Cid,
    /// The document; None: deleted.
    pub doc: Option<Cid>,
}

impl Sibling {
    /// What decides: the larger wins.
    fn rank(&self) -> (u64, Cid) {
        (self.lamport, self.change)
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        cbor::put_array(3, out);
        cbor::put_uint(self.lamport, out);
        cbor::put_link(&self.change, out);
        cbor::put_nullable_link(self.doc.as_ref(), out);
    }

    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.array_of(3)?;
        Ok(Self {
            lamport: reader.uint()?,
            change: reader.link()?,
            doc: reader.nullable_link()?,
        })
    }
}

/// The values of a key, winner first: the largest lamport time, then the largest address of a change.
/// A value of the map of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siblings(Vec<Sibling>);

impl Siblings {
    /// Puts them in order; None for none.
    pub(crate) fn new(mut siblings: Vec<Sibling>) -> Option<Self> {
        siblings.sort_unstable_by_key(|sibling| std::cmp::Reverse(sibling.rank()));
        siblings.dedup_by_key(|sibling| sibling.change);
        (!siblings.is_empty()).then_some(Self(siblings))
    }

    /// Decodes a value of the map.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another value.
    pub fn decode(value: &[u8]) -> Result<Self> {
        let decode = || {
            let mut reader = Reader::new(value);
            let siblings = (0..reader.array()?)
                .map(|_| Sibling::read(&mut reader))
                .collect::<Read<Vec<_>>>()?;
            reader.finish()?;
            if siblings.is_empty()
                || siblings
                    .windows(2)
                    .any(|pair| pair[0].rank() <= pair[1].rank())
            {
                return Err(reader.malformed("values of a key are not in order"));
            }
            Ok(Self(siblings))
        };
        decode().map_err(no_siblings)
    }

    /// The winner of an encoded value, and how many values there are.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another value.
    pub fn winner_of(value: &[u8]) -> Result<(Sibling, usize)> {
        let mut reader = Reader::new(value);
        let mut read = || {
            let count = reader.array()?;
            Ok((Sibling::read(&mut reader)?, count))
        };
        read().map_err(no_siblings)
    }

    /// The winner.
    pub fn winner(&self) -> &Sibling {
        &self.0[0]
    }

    /// All, winner first.
    pub fn all(&self) -> &[Sibling] {
        &self.0
    }

    /// True when they are not all the same document: the writes did not know of each other, and do not
    /// agree.
    pub fn is_conflict(&self) -> bool {
        self.0.iter().any(|sibling| sibling.doc != self.0[0].doc)
    }

    /// The value of the map: an array of arrays of lamport time, change and document or null.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(96 * self.0.len());
        cbor::put_array(self.0.len(), &mut out);
        for sibling in &self.0 {
            sibling.write_to(&mut out);
        }
        Bytes::from(out)
    }
}

fn no_siblings(malformed: Malformed) -> Error {
    malformed.in_place("a value of the map of documents")
}
