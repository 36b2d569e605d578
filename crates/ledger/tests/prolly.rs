//! Prolly trees against a `BTreeMap`, and against a build from nothing.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use proptest::prelude::*;
use siltstone_ledger::block::MemBlocks;
use siltstone_ledger::prolly::{
    self, Diff, Direction, Edit, KeyRange, Scan, apply, bytes_item, check, get, get_many,
};
use siltstone_ledger::{Blocks, Cid, Error, Result, Staged};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Blocks that count what is read of them.
struct Counted<'b>(&'b MemBlocks, RefCell<usize>);

impl Blocks for Counted<'_> {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        *self.1.borrow_mut() += 1;
        self.0.block(cid)
    }
}

fn put(key: &[u8], value: &[u8]) -> Edit {
    Edit {
        key: Bytes::copy_from_slice(key),
        value: Some(bytes_item(value)),
    }
}

fn build(model: &Model, blocks: &mut MemBlocks) -> Option<Cid> {
    let edits: Vec<_> = model.iter().map(|(key, value)| put(key, value)).collect();
    edit(blocks, None, &edits)
}

fn edit(blocks: &mut MemBlocks, root: Option<Cid>, edits: &[Edit]) -> Option<Cid> {
    let mut staged = Staged::new(blocks);
    let root = apply(&mut staged, root.as_ref(), edits).unwrap();
    let new = staged.into_blocks();
    blocks.extend(new);
    root
}

fn rows(
    blocks: &MemBlocks,
    root: Option<Cid>,
    range: KeyRange,
    direction: Direction,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut lent = Vec::new();
    let mut scan = Scan::new(blocks, root, range.clone(), direction);
    while let Some((key, value)) = scan.advance().unwrap() {
        lent.push((key.to_vec(), prolly::item_bytes(value).unwrap().to_vec()));
    }
    let iterated: Vec<_> = Scan::new(blocks, root, range, direction)
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.key.to_vec(),
                prolly::item_bytes(&entry.value).unwrap().to_vec(),
            )
        })
        .collect();
    assert_eq!(lent, iterated);
    lent
}

/// Short keys over few bytes, with shared prefixes; some long.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0u32..3000).prop_map(|n| format!("document/{n:05}").into_bytes()),
        2 => prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', 0xff]), 0..6),
        1 => (any::<u8>(), 200usize..3000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn edits() -> impl Strategy<Value = BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
    let value = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 0usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop_oneof![
        prop::collection::btree_map(key(), prop::option::weighted(0.7, value.clone()), 0..400),
        prop::collection::btree_map(key(), prop::option::weighted(0.7, value.clone()), 0..10),
        prop::collection::btree_map(key(), prop::option::weighted(0.05, value), 0..400),
        // A whole range goes.
        (0u32..3000, 0u32..3000).prop_map(|(from, len)| {
            (from..from + len)
                .map(|n| (format!("document/{n:05}").into_bytes(), None))
                .collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_writes_gives_the_root_of_a_build_from_nothing(
        base in 0u32..3000,
        batches in prop::collection::vec(edits(), 1..8),
        ask in prop::collection::btree_set(key(), 0..50),
        ends in (key(), key()),
    ) {
        let mut blocks = MemBlocks::new();
        let mut model: Model = (0..base)
            .map(|n| (format!("document/{n:05}").into_bytes(), n.to_le_bytes().to_vec()))
            .collect();
        let mut root = build(&model, &mut blocks);
        for batch in batches {
            let (before, before_root) = (model.clone(), root);
            for (key, value) in &batch {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            let given: Vec<_> = batch
                .iter()
                .map(|(key, value)| Edit {
                    key: Bytes::copy_from_slice(key),
                    value: value.as_deref().map(bytes_item),
                })
                .collect();
            root = edit(&mut blocks, root, &given);
            let mut fresh = MemBlocks::new();
            prop_assert_eq!(root, build(&model, &mut fresh));
            check(&blocks, root.as_ref()).unwrap();

            let different: Vec<_> = Diff::new(&blocks, before_root, root)
                .map(|difference| difference.unwrap())
                .collect();
            let mut expected = Vec::new();
            let all: std::collections::BTreeSet<_> = before.keys().chain(model.keys()).collect();
            for key in all {
                let (left, right) = (before.get(key), model.get(key));
                if left != right {
                    expected.push((key.clone(), left.map(|v| bytes_item(v)), right.map(|v| bytes_item(v))));
                }
            }
            let found: Vec<_> = different
                .into_iter()
                .map(|difference| (difference.key.to_vec(), difference.left, difference.right))
                .collect();
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(prolly::len(&blocks, root.as_ref()).unwrap(), model.len() as u64);

        let ask: Vec<_> = ask.into_iter().collect();
        let many = get_many(&blocks, root.as_ref(), &ask).unwrap();
        for (key, found) in ask.iter().zip(many) {
            let expected = model.get(key).map(|value| bytes_item(value));
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(get(&blocks, root.as_ref(), key).unwrap(), expected);
        }

        let (low, high) = if ends.0 <= ends.1 { (ends.0, ends.1) } else { (ends.1, ends.0) };
        let bounds = |key: &Vec<u8>| {
            [Bound::Unbounded, Bound::Included(key.clone()), Bound::Excluded(key.clone())]
        };
        for start in bounds(&low) {
            for end in bounds(&high) {
                if low == high && matches!((&start, &end), (Bound::Excluded(_), Bound::Excluded(_))) {
                    continue;
                }
                let range = KeyRange {
                    start: start.clone().map(Bytes::from),
                    end: end.clone().map(Bytes::from),
                };
                let mut expected: Vec<_> = model
                    .range((start.clone(), end.clone()))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                prop_assert_eq!(&rows(&blocks, root, range.clone(), Direction::Ascending), &expected);
                expected.reverse();
                prop_assert_eq!(&rows(&blocks, root, range, Direction::Descending), &expected);
            }
        }
        let prefix = &low[..low.len().min(3)];
        let expected: Vec<_> = model
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        prop_assert_eq!(rows(&blocks, root, KeyRange::prefix(prefix), Direction::Ascending), expected);
    }
}

fn documents(count: u32) -> Model {
    (0..count)
        .map(|n| {
            (
                format!("document/{n:08}").into_bytes(),
                n.to_le_bytes().to_vec(),
            )
        })
        .collect()
}

#[test]
fn a_difference_reads_what_differs() {
    let mut blocks = MemBlocks::new();
    let model = documents(100_000);
    let root = build(&model, &mut blocks);
    for changed in [1u32, 10] {
        let edits: Vec<_> = (0..changed)
            .map(|n| put(format!("document/{:08}", n * 9_973).as_bytes(), b"other"))
            .collect();
        let other = edit(&mut blocks, root, &edits);
        let counted = Counted(&blocks, RefCell::new(0));
        assert_eq!(Diff::new(&counted, root, other).count(), changed as usize);
        let read = counted.1.take();
        assert!(
            read <= 6 * changed as usize,
            "{changed} changes, {read} nodes"
        );
    }
}

#[test]
fn one_put_writes_one_path() {
    let mut blocks = MemBlocks::new();
    let root = build(&documents(100_000), &mut blocks);
    let mut new = 0;
    for n in 0..200u32 {
        let mut staged = Staged::new(&blocks);
        let key = format!("document/{:08}x", n * 491);
        apply(&mut staged, root.as_ref(), &[put(key.as_bytes(), b"value")]).unwrap();
        new += staged.len();
    }
    assert!(new <= 200 * 4, "{new} nodes for 200 puts");
}

#[test]
fn nodes_have_about_64_entries() {
    let mut blocks = MemBlocks::new();
    let root = build(&documents(100_000), &mut blocks);
    let nodes = check(&blocks, root.as_ref()).unwrap();
    let mean = 100_000 / nodes;
    assert!((56..72).contains(&mean), "{mean}");
}

#[test]
fn a_map_of_documents_has_its_golden_root() {
    let mut blocks = MemBlocks::new();
    assert_eq!(
        build(&documents(1), &mut blocks).unwrap().to_string(),
        "bafyreietinodvjxws2v66yx3qjefk43jwd4mv6dqjrumelgihcwxtliomy"
    );
    assert_eq!(
        build(&documents(10_000), &mut blocks).unwrap().to_string(),
        "bafyreifsagtqoxc4fihfk5j7bg6sb3yhddo2gadgletpr46jpqa63fvrii"
    );
    assert_eq!(build(&documents(0), &mut blocks), None);
}

#[test]
fn edits_out_of_order_and_values_that_are_no_item_are_refused() {
    let blocks = MemBlocks::new();
    let mut staged = Staged::new(&blocks);
    let unsorted = [put(b"b", b""), put(b"a", b"")];
    assert!(matches!(
        apply(&mut staged, None, &unsorted),
        Err(Error::Invalid { .. })
    ));
    let twice = [put(b"a", b""), put(b"a", b"")];
    assert!(matches!(
        apply(&mut staged, None, &twice),
        Err(Error::Invalid { .. })
    ));
    for value in [&b""[..], b"\x01\x01", b"\x18\x01", b"\xa1\x01\x01"] {
        let edit = Edit {
            key: Bytes::from_static(b"a"),
            value: Some(Bytes::copy_from_slice(value)),
        };
        assert!(matches!(
            apply(&mut staged, None, &[edit]),
            Err(Error::Invalid { .. })
        ));
    }
    let long = put(&vec![0; prolly::MAX_KEY_BYTES + 1], b"");
    assert!(matches!(
        apply(&mut staged, None, &[long]),
        Err(Error::TooLarge { .. })
    ));
    let large = put(b"a", &vec![0; prolly::MAX_VALUE_BYTES]);
    assert!(matches!(
        apply(&mut staged, None, &[large]),
        Err(Error::TooLarge { .. })
    ));
    assert!(staged.is_empty());
}

#[test]
fn a_missing_node_is_a_missing_block() {
    let mut blocks = MemBlocks::new();
    let root = build(&documents(10_000), &mut blocks).unwrap();
    let child = blocks.node(&root).unwrap().children().next().unwrap();
    blocks.remove(&child);
    let error = get(&blocks, Some(&root), b"document/00000000").unwrap_err();
    assert!(
        matches!(error, Error::MissingBlock { cid } if cid == child),
        "{error}"
    );
    let mut scan = Scan::new(&blocks, Some(root), KeyRange::all(), Direction::Ascending);
    assert!(scan.next().unwrap().unwrap_err().is_missing_block());
    assert!(scan.next().is_none());
}
