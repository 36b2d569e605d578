#![allow(clippy::unwrap_used, reason = "tests")]

//! Tables whose index and filter do not fit the memory there is for them.

use crate::cache::BlockCache;
use crate::error::Result;
use crate::options::KeyspaceOptions;
use crate::sst::filter;
use crate::sst::format::{FOOTER, Footer};
use crate::sst::table::{Lookup, Table};
use crate::sst::writer::{TableSpec, TableWriter};
use crate::types::{Commit, KeyspaceId, SegmentId, Tag};
use siltstone_storage::{Blobs, MemBlobs, Timestamp, Wait};
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
    let mut writer = TableWriter::create(blobs, &spec(), &KeyspaceOptions::default()).unwrap();
    for n in 0..KEYS {
        let key = (n * 2).to_be_bytes();
        writer.add(&key, Commit(1), Tag::PUT, b"value").unwrap();
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
