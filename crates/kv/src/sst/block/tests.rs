//! Blocks beside a map of versions, and any bytes for a block.

use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), Option<Vec<u8>>>;

fn build(model: &Model) -> Arc<Block> {
    let base = model.keys().map(|(_, c)| c.0).min().unwrap_or(0);
    let mut builder = BlockBuilder::new(Commit(base));
    for ((key, commit), value) in model {
        let tag = if value.is_some() {
            Tag::PUT
        } else {
            Tag::DELETE
        };
        builder.add(key, Commit(commit.0), tag, value.as_deref().unwrap_or(b""));
    }
    let mut out = Vec::new();
    builder.finish(&mut out);
    Arc::new(Block::parse(Bytes::from(out)).unwrap())
}

fn at(cursor: &BlockCursor) -> Option<Row> {
    cursor.valid().then(|| {
        (
            cursor.key().to_vec(),
            cursor.commit().0,
            cursor.value().to_vec(),
        )
    })
}

type Row = (Vec<u8>, u64, Vec<u8>);
type Entry<'a> = (&'a (Vec<u8>, Reverse<u64>), &'a Option<Vec<u8>>);

fn row(entry: Entry<'_>) -> Row {
    (
        entry.0.0.clone(),
        entry.0.1.0,
        entry.1.clone().unwrap_or_default(),
    )
}

proptest! {
    #[test]
    fn a_block_is_an_ordered_map_of_versions(
        model in prop::collection::btree_map(
            (prop::collection::vec(0u8..3, 1..6), (1u64..300).prop_map(Reverse)),
            prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..80),
        probes in prop::collection::vec((prop::collection::vec(0u8..3, 1..6), 0u64..310), 30),
        prefix in prop::collection::vec(1u8..3, 0..12), wide in 1usize..6,
    ) {
        // Long keys, whose first bytes are the same in many or all of them.
        let stretch = |key: &[u8]| -> Vec<u8> {
            let wide = key.iter().flat_map(|byte| std::iter::repeat_n(*byte, wide));
            prefix.iter().copied().chain(wide).collect()
        };
        let model: Model = model
            .into_iter()
            .map(|((key, commit), value)| ((stretch(&key), commit), value))
            .collect();
        let stretched = probes.iter().map(|(key, commit)| (stretch(key), *commit));
        let probes: Vec<_> = stretched.chain(probes.clone()).collect();
        let block = build(&model);
        let mut cursor = BlockCursor::new(block.clone());
        cursor.seek_first().unwrap();
        for entry in &model {
            prop_assert_eq!(at(&cursor), Some(row(entry)));
            cursor.next().unwrap();
        }
        prop_assert!(!cursor.valid());
        cursor.seek_last().unwrap();
        for entry in model.iter().rev() {
            prop_assert_eq!(at(&cursor), Some(row(entry)));
            cursor.prev().unwrap();
        }
        prop_assert!(!cursor.valid());
        for (key, commit) in probes {
            let from = (key.clone(), Reverse(commit));
            let first = model.range(from.clone()..).next();
            cursor.seek(&key, Commit(commit)).unwrap();
            prop_assert_eq!(at(&cursor), first.map(row));
            cursor.seek_before(&key, Commit(commit)).unwrap();
            prop_assert_eq!(at(&cursor), model.range(..from.clone()).next_back().map(row));
            let bound = block.lower_bound(&key, Commit(commit)).unwrap();
            prop_assert_eq!(bound.map(|(n, found)| (n, block.value(&found).to_vec())),
                first.map(|e| (model.range(..from.clone()).count(), row(e).2)));
            let found = block.get(&key, Commit(commit)).unwrap();
            let expected = first.filter(|((k, _), _)| *k == key);
            prop_assert_eq!(found.map(|f| (f.commit.0, f.tag.is_put(), block.value(&f).to_vec())),
                expected.map(|((_, c), v)| (c.0, v.is_some(), v.clone().unwrap_or_default())));
        }
    }

    #[test]
    fn any_bytes_are_a_block_or_refused_and_never_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300), entries in 0u32..40, keys in 0u32..200,
    ) {
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        bytes.extend(entries.div_ceil(RESTART).to_le_bytes());
        bytes.extend(entries.to_le_bytes());
        if let Ok(block) = Block::parse(Bytes::from(bytes)) {
            let _ = block.get(b"key", Commit(9));
            let mut cursor = BlockCursor::new(Arc::new(block));
            if cursor.seek_first().is_some() {
                while cursor.valid() && cursor.next().is_some() {}
            }
            let _ = cursor.seek(b"key", Commit(9));
            let _ = cursor.seek_last();
        }
    }
}
