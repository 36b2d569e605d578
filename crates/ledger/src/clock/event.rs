//! An event: a change, and what the map of documents is after it.
//!
//! An event is a block of its own beside its change because a value of the map names the change that
//! wrote it: the change's address must be known before the map's root is, and the event names both.

use crate::block::{Block, Cid};
use crate::cbor::{self, Read, Reader};
use crate::error::{Error, Result};

/// The format version of an event.
const VERSION: u64 = 1;

/// An event: a change and the map after it. Heads and parents are events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Event {
    /// What was written.
    pub change: Cid,
    /// Root of the map of documents after it, deleted ones included; None when nothing was ever written.
    pub root: Option<Cid>,
    /// Root of the tree of keys with a conflict after it; None when there is none.
    pub conflicts: Option<Cid>,
}

impl Event {
    /// The block: a DAG-CBOR map of `v`, `root`, `change`, `conflicts`.
    pub fn block(&self) -> Block {
        let mut out = Vec::with_capacity(160);
        cbor::put_map(4, &mut out);
        cbor::put_text("v", &mut out);
        cbor::put_uint(VERSION, &mut out);
        cbor::put_text("root", &mut out);
        cbor::put_nullable_link(self.root.as_ref(), &mut out);
        cbor::put_text("change", &mut out);
        cbor::put_link(&self.change, &mut out);
        cbor::put_text("conflicts", &mut out);
        cbor::put_nullable_link(self.conflicts.as_ref(), &mut out);
        Block::dag_cbor(out)
    }

    /// Decodes the block at `cid`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that are no event; [`Error::NewerFormat`].
    pub fn decode(cid: &Cid, bytes: &[u8]) -> Result<Self> {
        let place = || format!("event {cid}");
        let mut reader = Reader::new(bytes);
        check_version(&mut reader, 4, VERSION, &place)?;
        Self::decode_body(&mut reader).map_err(|malformed| malformed.in_place(place()))
    }

    fn decode_body(reader: &mut Reader<'_>) -> Read<Self> {
        reader.key("root")?;
        let root = reader.nullable_link()?;
        reader.key("change")?;
        let change = reader.link()?;
        reader.key("conflicts")?;
        let conflicts = reader.nullable_link()?;
        reader.finish()?;
        Ok(Self {
            change,
            root,
            conflicts,
        })
    }
}

/// Reads the start of a map whose first field is `v`: another version is told apart from damage.
pub(crate) fn check_version(
    reader: &mut Reader<'_>,
    fields: usize,
    supported: u64,
    place: &dyn Fn() -> String,
) -> Result<()> {
    let start = |reader: &mut Reader<'_>| {
        let found = reader.map()?;
        reader.key("v")?;
        Ok((found, reader.uint()?))
    };
    let (found, version) =
        start(reader).map_err(|malformed: cbor::Malformed| malformed.in_place(place()))?;
    if version > supported {
        return Err(Error::NewerFormat {
            place: place(),
            found: version,
            supported,
        });
    }
    if version != supported || found != fields {
        return Err(Error::corrupt(place(), "it has other fields than expected"));
    }
    Ok(())
}
