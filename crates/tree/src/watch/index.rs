//! Which watches a commit concerns, found by the paths they watch: a commit costs a lookup for each
//! step of what it changed, however many watches there are. Pure.

use crate::key;
use crate::rows::Changed;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Watched nodes, by key, with the numbers of the watches.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_key: HashMap<Vec<u8>, BTreeSet<u64>>,
    /// The same keys, in order.
    keys: BTreeMap<Vec<u8>, ()>,
}

impl Index {
    pub(crate) fn add(&mut self, key: &[u8], id: u64) {
        self.by_key.entry(key.to_vec()).or_default().insert(id);
        self.keys.insert(key.to_vec(), ());
    }

    pub(crate) fn remove(&mut self, key: &[u8], id: u64) {
        if let Some(ids) = self.by_key.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_key.remove(key);
                self.keys.remove(key);
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_key.values().map(BTreeSet::len).sum()
    }

    /// The watched keys strictly below `prefix`.
    pub(crate) fn below(&self, prefix: &[u8]) -> impl Iterator<Item = &Vec<u8>> {
        let end = key::end_of(prefix);
        let range = self.keys.range::<[u8], _>(key::range(prefix, &end));
        range
            .map(|(key, ())| key)
            .filter(move |key| key.len() > prefix.len())
    }

    /// The watches of the nodes that `key` is, or lies below.
    fn above<'a>(&'a self, key: &'a [u8], from: usize) -> impl Iterator<Item = u64> + 'a {
        let mut at = 0;
        let ends = std::iter::from_fn(move || {
            let len = match at {
                0 => 1,
                at if at >= key.len() => return None,
                at => key::step_len(&key[at..])?,
            };
            at += len;
            Some(at)
        });
        ends.filter(move |end| *end > from)
            .filter_map(|end| self.by_key.get(&key[..end]))
            .flatten()
            .copied()
    }

    /// The watches that changes at these keys may concern.
    pub(crate) fn concerned(&self, changed: &Changed, cleared: &[Vec<u8>]) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        let mut last: &[u8] = &[];
        for key in changed.keys().filter(|key| key.first() == Some(&key::DATA)) {
            let shared = key.iter().zip(last).take_while(|(a, b)| a == b).count();
            // What ends within the shared part was looked up before; a step that ends right behind
            // it was not.
            found.extend(self.above(key, shared));
            last = key;
        }
        for prefix in cleared {
            found.extend(self.above(prefix, 0));
            for key in self.below(prefix) {
                found.extend(self.by_key.get(key).into_iter().flatten());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;
    use proptest::prelude::*;

    fn paths() -> impl Strategy<Value = Path> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "", "\0"]), 0..4).prop_map(
            |names| {
                names
                    .into_iter()
                    .fold(Path::root(), |path, name| path.field(name))
            },
        )
    }

    proptest! {
        #[test]
        fn the_index_finds_what_looking_at_every_watch_finds(
            watched in prop::collection::vec(paths(), 0..8),
            removed in prop::collection::vec(any::<bool>(), 8),
            changed in prop::collection::btree_set(paths(), 0..6),
            cleared in prop::collection::vec(paths(), 0..2),
        ) {
            let mut index = Index::default();
            for (id, path) in watched.iter().enumerate() {
                index.add(&key::encode(path), id as u64);
            }
            let mut left = BTreeMap::new();
            for (id, path) in watched.iter().enumerate() {
                match removed[id] {
                    true => index.remove(&key::encode(path), id as u64),
                    false => { left.insert(id as u64, path); }
                }
            }
            prop_assert_eq!(index.len(), left.len());
            let rows = changed.iter().map(|path| (key::encode(path), None)).collect();
            let prefixes: Vec<_> = cleared.iter().map(key::encode).collect();
            let expected: BTreeSet<u64> = left
                .iter()
                .filter(|(_, watched)| {
                    changed.iter().any(|path| watched.contains(path))
                        || cleared.iter().any(|path| watched.contains(path) || path.contains(watched))
                })
                .map(|(id, _)| *id)
                .collect();
            prop_assert_eq!(index.concerned(&rows, &prefixes), expected);
        }
    }
}
