//! The header block: root and first block of an archive.

use crate::block::{Block, Cid};
use crate::cbor::{self, Read, Reader};
use crate::clock::{check_version, put_links, read_links, read_list};
use crate::error::Result;

/// The format version of a header block.
const VERSION: u64 = 1;

/// What an archive was written for. All but the first of a group have the default one, of empty lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The other archives of the group, in order.
    pub cars: Vec<Cid>,
    /// The heads after the commit (events), sorted.
    pub heads: Vec<Cid>,
    /// The heads before it, sorted.
    pub parents: Vec<Cid>,
}

impl Header {
    /// The block: a DAG-CBOR map of `v`, `cars`, `heads`, `parents`.
    pub fn block(&self) -> Block {
        let mut out = Vec::with_capacity(64 + 48 * (self.heads.len() + self.cars.len()));
        cbor::put_map(4, &mut out);
        cbor::put_text("v", &mut out);
        cbor::put_uint(VERSION, &mut out);
        cbor::put_text("cars", &mut out);
        put_links(&self.cars, &mut out);
        cbor::put_text("heads", &mut out);
        put_links(&self.heads, &mut out);
        cbor::put_text("parents", &mut out);
        put_links(&self.parents, &mut out);
        Block::dag_cbor(out)
    }

    /// Decodes the block at `cid`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] for bytes that are no header, [`crate::Error::NewerFormat`].
    pub fn decode(cid: &Cid, bytes: &[u8]) -> Result<Self> {
        let place = || format!("archive header {cid}");
        let mut reader = Reader::new(bytes);
        check_version(&mut reader, 4, VERSION, &place)?;
        Self::decode_body(&mut reader).map_err(|malformed| malformed.in_place(place()))
    }

    fn decode_body(reader: &mut Reader<'_>) -> Read<Self> {
        reader.key("cars")?;
        let cars = read_list(reader)?;
        reader.key("heads")?;
        let heads = read_links(reader)?;
        reader.key("parents")?;
        let parents = read_links(reader)?;
        reader.finish()?;
        Ok(Self {
            cars,
            heads,
            parents,
        })
    }
}
