//! Keyspaces for databases that have none: a byte in front of each key. With one keyspace keys stay as
//! they are.

use std::borrow::Cow;
use std::ops::Range;

use crate::data;

/// The key under which an entry is stored.
pub(crate) fn stored(key: &[u8]) -> Cow<'_, [u8]> {
    from(data::keyspace_of(key), key)
}

/// The stored keys of a keyspace from `key` on.
pub(crate) fn range(keyspace: usize, key: &[u8]) -> Range<Vec<u8>> {
    let end = match data::keyspaces() {
        // Longer than any key of the highest bytes, so behind it.
        1 => vec![u8::MAX; data::KEY_LEN + 1],
        _ => vec![keyspace as u8 + 1],
    };
    from(keyspace, key).into_owned()..end
}

/// The key of an entry that is stored under `stored`.
pub(crate) fn key(stored: &[u8]) -> &[u8] {
    match data::keyspaces() {
        1 => stored,
        _ => &stored[1..],
    }
}

fn from(keyspace: usize, key: &[u8]) -> Cow<'_, [u8]> {
    match data::keyspaces() {
        1 => Cow::Borrowed(key),
        _ => Cow::Owned([&[keyspace as u8], key].concat()),
    }
}
