//! Copies segments from one store to another.

use crate::error::Result;
use siltstone_storage::{Blobs, Caching, Wait};

/// Bytes copied in one piece.
const PIECE: usize = 1 << 20;

/// Copies a blob piece by piece. Answers its size.
pub(crate) fn copy(from: &dyn Blobs, source: &str, to: &dyn Blobs, name: &str) -> Result<u64> {
    // What is copied is not what others read next.
    let sparing = from.caching(Caching::Spare);
    let reader = sparing.as_deref().unwrap_or(from).open(source)?;
    let mut writer = to.create(name)?;
    let size = reader.size();
    let mut at = 0;
    while at < size {
        let len = PIECE.min((size - at) as usize);
        writer.write(&reader.read(at, len, Wait::Allowed)?)?;
        at += len as u64;
    }
    writer.finish()?;
    Ok(size)
}

/// As [`copy`], without reading it where the stores can do that. True when they could.
pub(crate) fn link_or_copy(
    from: &dyn Blobs,
    source: &str,
    to: &dyn Blobs,
    name: &str,
) -> Result<(bool, u64)> {
    // What an earlier attempt left is not trusted.
    to.delete(name)?;
    if let Some(place) = from.place(source)
        && to.link(name, &place)?
    {
        return Ok((true, 0));
    }
    Ok((false, copy(from, source, to, name)?))
}
