//! Values that expire: the time at which they do stands before them. Pure.
//!
//! An expired value is gone for every read, at every commit, whether or not compaction has come by.
//! Its key is as if it had been deleted when it was put.

use crate::types::Tag;
use siltstone_storage::Timestamp;

/// Bytes before the value of an expiring put.
pub(crate) const PREFIX: usize = 8;

/// `value` as it is stored.
pub(crate) fn encode(value: &[u8], expires: Timestamp) -> Vec<u8> {
    let mut stored = Vec::with_capacity(PREFIX + value.len());
    stored.extend_from_slice(&expires.0.to_le_bytes());
    stored.extend_from_slice(value);
    stored
}

/// How many bytes of a stored put come before its value.
#[inline]
pub(crate) fn prefix(tag: Tag, stored: &[u8]) -> usize {
    match tag.expires() {
        true => PREFIX.min(stored.len()),
        false => 0,
    }
}

/// When a stored put expires; damaged bytes expired long ago.
pub(crate) fn expires(tag: Tag, stored: &[u8]) -> Option<Timestamp> {
    let time = || match stored.first_chunk::<PREFIX>() {
        Some(bytes) => Timestamp(u64::from_le_bytes(*bytes)),
        None => Timestamp(0),
    };
    tag.expires().then(time)
}

/// True when a stored put is gone at `now`.
#[inline]
pub(crate) fn is_expired(tag: Tag, stored: &[u8], now: impl FnOnce() -> Timestamp) -> bool {
    tag.expires() && expires(tag, stored).is_some_and(|time| time <= now())
}
