#![allow(clippy::unwrap_used, reason = "tests")]

//! Tables whose index and filter do not fit the memory there is for them.

use crate::cache::BlockCache;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::options::KeyspaceOptions;
use crate::sst::ahead::Direction;
use crate::sst::filter;
use crate::sst::format::{FOOTER, Footer};
use crate::sst::table::{Lookup, ReadState, Table};
use crate::sst::table_cursor::TableCursor;
use crate::sst::writer::{Handle, TableSpec, TableWriter};
use crate::types::{Commit, KeyspaceId, SegmentId, Tag};
use proptest::prelude::*;
use siltstone_storage::{Blobs, MemBlobs, Timestamp, Wait};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

const ID: SegmentId = SegmentId(7);
const KEYS: u64 = 20_000;
/// Nothing can be pinned.
const LITTLE: u64 = 64 << 10;
/// Everything is.
const PLENTY: u64 = 8 << 20;

fn spec() -> TableSpec {
    TableSpec {
        segment: ID,
        keyspace: KeyspaceId(0),
        level: 1,
        base: Commit::ZERO,
        times: (Timestamp(0), Timestamp(0)),
        created: Timestamp(0),
        cleared: Commit::ZERO,
        ingested: false,
    }
}

/// Every other number as a key.
fn written(blobs: &MemBlobs) {
    written_with(blobs, |_| b"value".to_vec());
}

fn written_with(blobs: &MemBlobs, value: impl Fn(u64) -> Vec<u8>) {
    let mut writer = TableWriter::create(blobs, &spec(), &KeyspaceOptions::default()).unwrap();
    for n in 0..KEYS {
        let key = (n * 2).to_be_bytes();
        writer.add(&key, Commit(1), Tag::PUT, &value(n)).unwrap();
    }
    writer.finish().unwrap();
}

fn opened(blobs: &MemBlobs, memory: u64) -> (Table, Arc<BlockCache>) {
    let cache = Arc::new(BlockCache::new(memory));
    let blobs = Arc::new(blobs.clone());
    let table = Table::open_file(ID, &ID.blob(), blobs, cache.clone()).unwrap();
    (table, cache)
}

fn get(table: &Table, n: u64) -> Result<Lookup> {
    let key = n.to_be_bytes();
    table.get(&key, filter::hash(&key), Commit::MAX, Wait::Allowed, &mut 0)
}

#[test]
fn a_filter_that_is_not_in_memory_answers_as_one_that_is() {
    for blobs in [MemBlobs::new(), MemBlobs::bucket()] {
        written(&blobs);
        let (little, cache) = opened(&blobs, LITTLE);
        let (plenty, pinning) = opened(&blobs, PLENTY);
        let mut skipped = 0;
        for n in 0..KEYS * 2 {
            match (get(&little, n).unwrap(), get(&plenty, n).unwrap()) {
                (Lookup::Hit(_), Lookup::Hit(_)) => assert_eq!(n % 2, 0),
                (Lookup::Skipped, Lookup::Skipped) => skipped += 1,
                (Lookup::Absent, Lookup::Absent) => assert_eq!(n % 2, 1),
                _ => panic!("they answer otherwise for {n}"),
            }
        }
        assert!(skipped > KEYS * 98 / 100, "{skipped}");
        assert_eq!(cache.pinned(), 0);
        assert!(pinning.pinned() > KEYS * 12 / 8);
    }
}

#[test]
fn a_folders_filter_that_is_not_in_memory_is_read_by_sections() {
    let blobs = MemBlobs::new();
    written(&blobs);
    let (table, cache) = opened(&blobs, LITTLE);
    assert!(matches!(get(&table, 1).unwrap(), Lookup::Skipped));
    // The top of the index and a section, of a filter of 30 kB.
    assert!(cache.weight() < 8 << 10, "{}", cache.weight());
}

/// Where the file's filter is.
fn filter_of(file: &[u8]) -> Range<usize> {
    let footer = Footer::decode("table", file.len() as u64, &file[file.len() - FOOTER..]);
    let footer = footer.unwrap();
    footer.filter_at as usize..footer.top_at as usize
}

#[test]
fn damage_in_any_section_is_told_and_loses_no_key() {
    let whole = MemBlobs::new();
    written(&whole);
    let bytes = whole.get(&ID.blob()).unwrap();
    for at in filter_of(&bytes).step_by(997) {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 0x10;
        let blobs = MemBlobs::new();
        blobs.put(&ID.blob(), &damaged).unwrap();
        let (table, _) = opened(&blobs, LITTLE);
        let mut told = 0;
        for n in 0..KEYS {
            match get(&table, n * 2) {
                Ok(Lookup::Hit(_)) => {}
                Ok(_) => panic!("key {} is lost, byte {at} is damaged", n * 2),
                Err(error) => {
                    assert!(error.to_string().contains(&ID.blob()), "{error}");
                    told += 1;
                }
            }
        }
        assert!(told > 0, "byte {at} was not read");
    }
}

/// 400 bytes that nothing compresses and that say which key's they are.
fn large(n: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(n);
    (0..400).map(|_| rng.u8(..)).collect()
}

/// A table of 8 MiB, its index and filter in memory, and a cache of less than half of it.
fn larger_than_its_cache() -> (Table, Arc<BlockCache>) {
    let blobs = MemBlobs::new();
    written_with(&blobs, large);
    let (table, cache) = opened(&blobs, 3 << 20);
    for _ in 0..16 {
        get(&table, 0).unwrap();
    }
    assert!(cache.pinned() > 0);
    (table, cache)
}

#[test]
fn slots_hold_what_the_cache_holds_while_readers_race_for_its_room() {
    let (table, cache) = larger_than_its_cache();
    let table = Arc::new(table);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let table = &table;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(reader);
                for _ in 0..20_000 {
                    // Half of the reads meet in few blocks.
                    let n = match rng.bool() {
                        true => rng.u64(..KEYS),
                        false => rng.u64(..KEYS / 50),
                    };
                    let Lookup::Hit(hit) = get(table, n * 2).unwrap() else {
                        panic!("key {n} is lost");
                    };
                    assert!(hit.block.value(&hit.found) == large(n));
                }
            });
        }
        scope.spawn(|| {
            let state = Arc::new(ReadState::new(Wait::Allowed));
            let mut cursor = TableCursor::new(table.clone(), state);
            for _ in 0..4 {
                cursor.seek_first().unwrap();
                while cursor.valid() {
                    cursor.next().unwrap();
                }
            }
        });
    });
    let (filled, known) = table.filled_slots();
    assert!(filled > 100, "{filled}");
    assert_eq!(filled, known, "a slot holds a block that the cache gave up");
    assert!(cache.weight() <= cache.capacity());
    cache.forget(ID);
    assert_eq!(cache.weight(), 0);
    assert_eq!(table.filled_slots(), (0, 0));
}

#[test]
fn a_block_that_is_read_through_its_slot_stays_in_the_cache() {
    let (table, cache) = larger_than_its_cache();
    // One comes in while there is room, one when the cache is full.
    for hot in [KEYS, KEYS / 2] {
        let mut missed = 0;
        for _ in 0..5 {
            for n in 0..KEYS {
                get(&table, n * 2).unwrap();
                let before = cache.hits_and_misses().1;
                get(&table, hot).unwrap();
                missed += cache.hits_and_misses().1 - before;
            }
        }
        assert!(missed <= 2, "a hot block was read {missed} times");
    }
}

/// A table of these keys, in blocks of few of them, its index in memory.
fn table_of(keys: &BTreeSet<Vec<u8>>) -> Table {
    let blobs = MemBlobs::new();
    let options = KeyspaceOptions {
        block_bytes: 1024,
        ..KeyspaceOptions::default()
    };
    let mut writer = TableWriter::create(&blobs, &spec(), &options).unwrap();
    for key in keys {
        writer.add(key, Commit(1), Tag::PUT, &[7; 300]).unwrap();
    }
    writer.finish().unwrap();
    let (table, _) = opened(&blobs, PLENTY);
    let any = keys.first().unwrap();
    for _ in 0..16 {
        let hash = filter::hash(any);
        table
            .get(any, hash, Commit::MAX, Wait::Allowed, &mut 0)
            .unwrap();
    }
    table
}

/// Keys whose first bytes are alike in every way: a shared start, ends of few different bytes, and
/// none at all.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        &b""[..],
        b"a",
        b"tenants/",
        b"tenants/acme-corporation/",
    ]);
    let end = prop_oneof![
        prop::collection::vec(0u8..3, 1..14),
        prop::collection::vec(any::<u8>(), 1..14),
        any::<u16>().prop_map(|n| n.to_be_bytes().to_vec()),
    ];
    (start, end).prop_map(|(start, end)| [start, &end].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_short_cut_through_an_index_leads_where_the_index_does(
        keys in prop::collection::btree_set(any_key(), 1..200),
        absent in prop::collection::vec(any_key(), 0..200),
    ) {
        let table = table_of(&keys);
        for key in keys.iter().chain(&absent) {
            prop_assert!(table.short_cut_agrees(key), "{:?}", key);
            let hash = filter::hash(key);
            let found = table.get(key, hash, Commit::MAX, Wait::Allowed, &mut 0).unwrap();
            prop_assert_eq!(matches!(found, Lookup::Hit(_)), keys.contains(key));
        }
    }
}

#[test]
fn the_short_cut_answers_for_most_keys() {
    let (table, _) = larger_than_its_cache();
    let answered = (0..KEYS).filter(|n| table.has_short_cut(&(n * 2).to_be_bytes()));
    assert!(answered.count() as u64 > KEYS * 9 / 10);
}

#[test]
fn a_handle_that_points_behind_the_blocks_takes_no_memory() {
    for blobs in [MemBlobs::new(), MemBlobs::bucket()] {
        written(&blobs);
        let (table, _) = opened(&blobs, PLENTY);
        let end = table.meta.index_at;
        let mut cursor = TableCursor::new(Arc::new(table), Arc::new(ReadState::new(Wait::Allowed)));
        for (at, len) in [
            (0, usize::MAX),
            (u64::MAX, 1),
            (end, 1),
            (0, end as usize + 1),
            (end - 1, 1 << 45),
        ] {
            for direction in [Direction::Forward, Direction::Backward] {
                let read = cursor.fetch(Handle { at, len }, direction, Wait::Allowed);
                let message = read.unwrap_err().to_string();
                assert!(message.contains("points behind the blocks"), "{message}");
            }
        }
        cursor.seek_first().unwrap();
        assert!(cursor.valid());
    }
}

/// A block that is stored as it is lies within what was read with it; were it kept as a part of that,
/// one block in the cache would hold megabytes that nobody counts.
#[test]
fn a_block_that_a_walk_leaves_in_the_cache_holds_no_other_bytes() {
    for blobs in [MemBlobs::new(), MemBlobs::bucket()] {
        let noise = |n: u64| {
            let next = |x: &u64| Some(x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ x >> 29);
            let numbers = std::iter::successors(Some(n + 1), next).skip(3).take(12);
            numbers.flat_map(u64::to_le_bytes).collect()
        };
        written_with(&blobs, noise);
        let (table, cache) = opened(&blobs, PLENTY);
        assert!(
            table.meta.bytes > KEYS * 96,
            "its blocks are not compressed"
        );
        let state = Arc::new(ReadState::new(Wait::Allowed));
        let mut cursor = TableCursor::new(Arc::new(table), state);
        cursor.seek_first().unwrap();
        while cursor.valid() {
            cursor.next().unwrap();
        }
        drop(cursor);
        assert!(cache.blocks().len() > 200);
        assert!(
            cache
                .blocks()
                .iter()
                .all(|block| block.holds_its_bytes_alone())
        );
    }
}

/// A move of a cursor.
#[derive(Debug, Clone)]
enum Move {
    Seek(u64),
    SeekBefore(u64),
    First,
    Last,
    Next(u64),
    Prev(u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        (0..KEYS * 2).prop_map(Move::Seek),
        (0..KEYS * 2).prop_map(Move::SeekBefore),
        Just(Move::First),
        Just(Move::Last),
        (1..1_000u64).prop_map(Move::Next),
        (1..1_000u64).prop_map(Move::Prev),
    ]
}

impl Move {
    /// Where it leads from entry `from`; `None` past either end.
    fn leads(&self, from: Option<u64>) -> Option<u64> {
        let to = match self {
            Move::Seek(key) => Some(key.div_ceil(2)),
            Move::SeekBefore(key) => key.div_ceil(2).checked_sub(1),
            Move::First => Some(0),
            Move::Last => Some(KEYS - 1),
            Move::Next(steps) => Some(from? + steps),
            Move::Prev(steps) => from?.checked_sub(*steps),
        };
        to.filter(|to| *to < KEYS)
    }

    fn make(&self, cursor: &mut TableCursor) -> Result<()> {
        match self {
            Move::Seek(key) => cursor.seek(&key.to_be_bytes(), Commit::MAX),
            Move::SeekBefore(key) => cursor.seek_before(&key.to_be_bytes(), Commit::MAX),
            Move::First => cursor.seek_first(),
            Move::Last => cursor.seek_last(),
            Move::Next(steps) => (0..*steps).try_for_each(|_| match cursor.valid() {
                true => cursor.next(),
                false => Ok(()),
            }),
            Move::Prev(steps) => (0..*steps).try_for_each(|_| match cursor.valid() {
                true => cursor.prev(),
                false => Ok(()),
            }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Also where it knows the block that it would enter next, and is sent elsewhere.
    #[test]
    fn a_cursor_goes_where_it_is_sent(
        moves in prop::collection::vec(any_move(), 1..30),
        memory in prop_oneof![Just(LITTLE), Just(PLENTY)],
    ) {
        let blobs = MemBlobs::new();
        written(&blobs);
        let (table, _) = opened(&blobs, memory);
        let state = Arc::new(ReadState::new(Wait::Allowed));
        let mut cursor = TableCursor::new(Arc::new(table), state);
        cursor.seek_first().unwrap();
        Move::Next(KEYS).make(&mut cursor).unwrap();
        let mut at = None;
        for step in moves {
            step.make(&mut cursor).unwrap();
            at = step.leads(at);
            let key = cursor.valid().then(|| cursor.key().to_vec());
            prop_assert_eq!(key, at.map(|n| (n * 2).to_be_bytes().to_vec()), "{:?}", step);
        }
    }
}
