//! The entries: which bytes key and value number `i` have, and how a reader checks them.
//!
//! Keys are 16 bytes that look random, or eight that are the same in thousands of keys and eight that
//! look random; either way writing them by number is writing in random order. A value is random bytes
//! twice over (half compressible); its first eight bytes depend on the number alone, so a reader can
//! tell that a value belongs to its key at any version. Of 16 bytes there is no second half. Which
//! keyspace an entry is in follows from its key.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::engine::Entry;

/// Bytes of a key.
pub(crate) const KEY_LEN: usize = 16;

/// What all entries of a process are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Bytes of a value.
    pub(crate) value_len: usize,
    /// How keys look.
    pub(crate) keys: Keys,
    /// Keyspaces that the entries are spread over.
    #[serde(default = "one")]
    pub(crate) keyspaces: usize,
}

fn one() -> usize {
    1
}

/// How keys look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keys {
    /// Sixteen random bytes, which do not compress.
    Random,
    /// One of 64 prefixes of eight bytes, then eight random bytes.
    Prefixed,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            value_len: 100,
            keys: Keys::Random,
            keyspaces: 1,
        }
    }
}

static SHAPE: OnceLock<Shape> = OnceLock::new();

/// Sets what entries are like; once a process, before the first of them.
pub(crate) fn set_shape(shape: Shape) {
    let set = *SHAPE.get_or_init(|| shape);
    assert_eq!(set, shape, "a process has entries of one shape");
}

fn shape() -> Shape {
    *SHAPE.get_or_init(Shape::default)
}

/// Bytes of a value.
pub(crate) fn value_len() -> usize {
    shape().value_len
}

/// Keyspaces that the entries are spread over.
pub(crate) fn keyspaces() -> usize {
    shape().keyspaces
}

/// The keyspace of the entry with `key`.
pub(crate) fn keyspace_of(key: &[u8]) -> usize {
    // From bytes that are random in all keys, and so that it says nothing of their order.
    (mix(u64::from_le_bytes(word(key, KEY_LEN - 8))) % keyspaces() as u64) as usize
}

/// Bytes of user data in one entry.
pub(crate) fn entry_len() -> u64 {
    (KEY_LEN + value_len()) as u64
}

/// SplitMix64's finaliser: a bijection on 64-bit integers (Steele, Lea, Flood 2014).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of entry `number`. Distinct numbers have distinct keys.
pub(crate) fn key(number: u64) -> [u8; KEY_LEN] {
    let head = mix(number);
    let mut key = [0; KEY_LEN];
    match shape().keys {
        Keys::Random => {
            key[..8].copy_from_slice(&head.to_be_bytes());
            key[8..].copy_from_slice(&mix(head ^ 0x5151).to_be_bytes());
        }
        Keys::Prefixed => {
            // The prefix follows from the rest, so that keys are spread evenly over all of them.
            key[..8].copy_from_slice(format!("user/{:02}/", head >> 58).as_bytes());
            key[8..].copy_from_slice(&head.to_be_bytes());
        }
    }
    key
}

/// Where a key stands among all that there may be, of 2^64.
pub(crate) fn place(key: &[u8; KEY_LEN]) -> u64 {
    let at = match shape().keys {
        Keys::Random => 0,
        Keys::Prefixed => 8,
    };
    u64::from_be_bytes(word(key, at))
}

/// The first eight bytes that every version of the value of `key` has.
fn mark(key: &[u8]) -> u64 {
    mix(u64::from_le_bytes(word(key, 8)))
}

/// The value of the entry with `key` in `version`.
pub(crate) fn value(key: &[u8; KEY_LEN], version: u64) -> Vec<u8> {
    let len = value_len();
    let half = (len / 2).max(16);
    let mut value = vec![0; len];
    let mut state = mark(key);
    value[..8].copy_from_slice(&state.to_le_bytes());
    for chunk in value[8..half].chunks_mut(8) {
        state = mix(state ^ version);
        let bytes = state.to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
    value.copy_within(..len - half, half);
    value
}

/// Entry `number` in `version`.
pub(crate) fn entry(number: u64, version: u64) -> Entry {
    let key = key(number);
    (key, value(&key, version))
}

/// Whether `value` is some version of the value of `key`.
pub(crate) fn belongs(key: &[u8], value: &[u8]) -> bool {
    value.len() == value_len() && u64::from_le_bytes(word(value, 0)) == mark(key)
}

fn word(bytes: &[u8], at: usize) -> [u8; 8] {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    word
}

/// Reads every byte and folds it into a number, so that no engine can hand out lazily.
pub(crate) fn touch(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0u64, |sum, word| {
        sum.rotate_left(1).wrapping_add(u64::from_le_bytes(*word))
    });
    rest.iter().fold(sum, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    })
}

/// The wrapping sum of [`touch`] over all entries of a database that holds `entries` entries in
/// version 0, in any order.
pub(crate) fn checksum(entries: u64) -> u64 {
    (0..entries).fold(0, |sum, number| {
        let (key, value) = entry(number, 0);
        sum.wrapping_add(touch(&key)).wrapping_add(touch(&value))
    })
}

/// Bytes of the live entries, sorted by key, as LZ4 blocks of 16 KiB: the yardstick for bytes on
/// disk. `versions` gives the version each entry is in.
pub(crate) fn compressed_bytes(versions: &[u32]) -> u64 {
    const CHUNK: usize = 16 * 1024;
    let mut numbers: Vec<u64> = (0..versions.len() as u64).collect();
    numbers.sort_unstable_by_key(|number| key(*number));
    let mut chunk = Vec::with_capacity(CHUNK + entry_len() as usize);
    let mut total = 0;
    for number in numbers {
        let (key, value) = entry(number, u64::from(versions[number as usize]));
        chunk.extend_from_slice(&key);
        chunk.extend_from_slice(&value);
        if chunk.len() >= CHUNK {
            total += lz4_flex::block::compress(&chunk).len() as u64;
            chunk.clear();
        }
    }
    total + lz4_flex::block::compress(&chunk).len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_belong_to_their_key_in_every_version() {
        for number in 0..100 {
            let (own, value) = entry(number, number * 7);
            assert!(belongs(&own, &value));
            assert!(!belongs(&key(number + 1), &value));
        }
    }

    #[test]
    fn values_differ_between_versions_and_compress_by_half() {
        let (key, first) = entry(1, 0);
        assert_ne!(first, value(&key, 1));
        let live = compressed_bytes(&[0; 2000]);
        let raw = 2000 * entry_len();
        assert!(
            live < raw * 7 / 10 && live > raw * 5 / 10,
            "{live} of {raw}"
        );
    }

    #[test]
    fn keys_are_spread_evenly() {
        let below = (0..10_000).filter(|n| place(&key(*n)) < u64::MAX / 4);
        assert!((2_300..2_700).contains(&below.count()));
    }

    #[test]
    fn touch_depends_on_every_byte() {
        let bytes = [7u8; 21];
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 1;
            assert_ne!(touch(&bytes), touch(&other));
        }
    }
}
