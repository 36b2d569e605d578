//! What the database must answer: every version of every key of every keyspace.

use std::collections::BTreeMap;

/// A key, by number.
pub(crate) type Key = u16;

/// The versions of one key: commit, and whether it wrote a value.
type Versions = Vec<(u64, bool)>;

/// One keyspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map {
    /// Commits in the newest so many are always readable: the smallest window it ever had.
    pub(crate) window: u64,
    /// Versions inside the window may be thinned: the policy has, or had, such limits.
    pub(crate) limited: bool,
    versions: BTreeMap<Key, Versions>,
}

impl Map {
    pub(crate) fn new(window: u64, limited: bool) -> Self {
        Self {
            window,
            limited,
            versions: BTreeMap::new(),
        }
    }

    pub(crate) fn write(&mut self, key: Key, commit: u64, put: bool) {
        let versions = self.versions.entry(key).or_default();
        match versions.last_mut() {
            Some(last) if last.0 == commit => last.1 = put,
            _ => versions.push((commit, put)),
        }
    }

    /// The commit whose value `key` has at `commit`.
    pub(crate) fn get(&self, key: Key, commit: u64) -> Option<u64> {
        let versions = self.versions.get(&key)?;
        let after = versions.partition_point(|(c, _)| *c <= commit);
        let (written, put) = versions[after.checked_sub(1)?];
        put.then_some(written)
    }

    /// All keys that have a value at `commit`, with the commit that wrote it.
    pub(crate) fn rows(&self, commit: u64) -> impl DoubleEndedIterator<Item = (Key, u64)> {
        self.versions
            .keys()
            .filter_map(move |key| Some((*key, self.get(*key, commit)?)))
    }

    /// Forgets what was written after `head`.
    pub(crate) fn cut(&mut self, head: u64) {
        for versions in self.versions.values_mut() {
            while versions.last().is_some_and(|(commit, _)| *commit > head) {
                versions.pop();
            }
        }
    }
}

/// The bytes of a key: of different lengths, with bytes that are awkward to order.
pub(crate) fn key_bytes(key: Key) -> Vec<u8> {
    let mut bytes = vec![b'k'];
    bytes.extend_from_slice(&(key / 3).to_be_bytes());
    bytes.extend(std::iter::repeat_n(
        [0x00, 0x61, 0xff][usize::from(key % 3)],
        usize::from(key % 3),
    ));
    bytes
}

/// The value that `commit` writes to `key`.
pub(crate) fn value_bytes(key: Key, commit: u64) -> Vec<u8> {
    let mixed = (commit ^ u64::from(key) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let len = match mixed >> 60 {
        0 => 0,
        1..=13 => mixed >> 32 & 0x3f,
        _ => mixed >> 32 & 0x3ff,
    };
    let mut bytes = commit.to_be_bytes().to_vec();
    bytes.resize(8 + len as usize, (mixed >> 16) as u8);
    if mixed >> 60 == 0 && commit.is_multiple_of(7) {
        bytes.clear();
    }
    bytes
}
