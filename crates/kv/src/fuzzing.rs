//! What the fuzz targets in `fuzz/` call: each takes any bytes and must come back, with an answer or
//! with a typed error. Not part of the crate's interface, and not in a build without the feature
//! `fuzzing`.
//!
//! A checksum stops a fuzzer at the door, so each decoder is also given bytes whose checksums are
//! right: the first byte of the input chooses.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a panic is what a fuzzer looks for"
)]

use crate::cache::BlockCache;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::options::{Background, History, KeyspaceOptions, Options, WalRecovery};
use crate::scan::ScanOptions;
use crate::sst::block::{Block, BlockCursor};
use crate::sst::filter::{self, Filter, Sections};
use crate::sst::format::{FOOTER, Footer};
use crate::sst::frame;
use crate::sst::table::{ReadState, Table};
use crate::sst::table_cursor::TableCursor;
use crate::sst::writer::{Handle, TableSpec, TableWriter};
use crate::state::DbState;
use crate::types::{Commit, KeyspaceId, SegmentId, Tag};
use crate::wal::frame::{self as record, Op, Record};
use crate::wal::recovery::{Replay, replay};
use crate::wal::{FileHeader, blob_name};
use crate::{Durability, Kv, Read};
use bytes::Bytes;
use siltstone_storage::{
    Blobs, Env, ManifestState, MemBlobs, ReaderPins, Timestamp, Wait, decode_manifest,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a fuzzer, taken from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// As many bytes as there are, `len` at most.
    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A manifest.
pub fn manifest(data: &[u8]) {
    let mut input = Input(data);
    let right_sum = input.byte() & 1 == 1;
    let mut bytes = input.0.to_vec();
    if right_sum && bytes.len() > 8 {
        let end = bytes.len() - 8;
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
    }
    if let Ok(found) = decode_manifest::<DbState>("manifest", &bytes) {
        let again = DbState::decode(&found.state.encode()).unwrap();
        assert!(again == found.state, "it reads back as it was");
    }
    if let Ok(state) = DbState::decode(input.0) {
        assert!(DbState::decode(&state.encode()).unwrap() == state);
    }
}

/// A framed block.
pub fn framed(data: &[u8]) {
    let mut input = Input(data);
    let right_sum = input.byte() & 1 == 1;
    let mut bytes = input.0.to_vec();
    if right_sum {
        let sum = crc_fast::crc32_iscsi(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
    }
    let _ = frame::open(Bytes::from(bytes));
}

/// A block.
pub fn block(data: &[u8]) {
    let mut input = Input(data);
    let len = usize::from(input.byte() % 16);
    let key = input.take(len);
    let commit = Commit(u64::from(input.short()));
    let Ok(block) = Block::parse(Bytes::copy_from_slice(input.0)) else {
        return;
    };
    if let Some(Some(found)) = block.get(key, commit) {
        assert_eq!(block.value(&found), &block.value_bytes(&found)[..]);
    }
    let _ = block.lower_bound(key, commit);
    let mut cursor = BlockCursor::new(Arc::new(block));
    walk_block(&mut cursor, BlockCursor::seek_first, BlockCursor::next);
    walk_block(&mut cursor, BlockCursor::seek_last, BlockCursor::prev);
    walk_block(&mut cursor, |c| c.seek(key, commit), BlockCursor::next);
    walk_block(
        &mut cursor,
        |c| c.seek_before(key, commit),
        BlockCursor::prev,
    );
}

fn walk_block(
    cursor: &mut BlockCursor,
    place: impl FnOnce(&mut BlockCursor) -> Option<()>,
    step: impl Fn(&mut BlockCursor) -> Option<()>,
) {
    let mut placed = place(cursor);
    while placed.is_some() && cursor.valid() {
        let _ = (cursor.key(), cursor.commit(), cursor.tag(), cursor.value());
        placed = step(cursor);
    }
}

/// A filter in one piece, and one in sections.
pub fn filter(data: &[u8]) {
    let mut input = Input(data);
    let hashes = [filter::hash(input.take(8)), 0, u64::MAX];
    if let Ok(filter) = Filter::parse(Bytes::copy_from_slice(input.0)) {
        for hash in hashes {
            filter.may_contain(hash);
        }
    }
    let head = input.take(13).to_vec();
    let rest = Bytes::copy_from_slice(input.0);
    if let Ok(sections) = Sections::parse(&head, 0, rest.len() as u64) {
        let whole = sections.all(&rest);
        for hash in hashes {
            let _ = sections.may_contain(&rest, hash);
            if let Ok(filter) = &whole {
                filter.may_contain(hash);
            }
        }
    }
}

/// A reader's pin.
pub fn pin(data: &[u8]) {
    let (env, _) = Env::simulated(Arc::new(MemBlobs::new()), 1);
    env.blobs.put("pins/0000000000000001.pin", data).unwrap();
    let pins = ReaderPins::list(&env).unwrap();
    assert!(pins.len() <= 1);
}

/// What a replay finds, to see that it visits nothing outside the input.
#[derive(Default)]
struct Visited(u64);

impl Replay for Visited {
    fn ops(&mut self, _: u64, ops: &[(Commit, Op<'_>)]) {
        self.0 += ops.len() as u64;
    }

    fn time(&mut self, _: Commit, _: Timestamp) {}
}

/// Log files.
pub fn wal(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.byte();
    let blobs = match flags & 1 {
        0 => MemBlobs::new(),
        _ => MemBlobs::bucket(),
    };
    let raw = flags & 2 == 0;
    let files = 1 + u64::from(flags >> 2 & 3);
    let mut commit = 1;
    for number in 1..=files {
        let mut bytes = Vec::new();
        if raw {
            let len = usize::from(input.short());
            bytes.extend_from_slice(input.take(len));
        } else {
            let epoch = u64::from(input.byte() % 4);
            FileHeader {
                number,
                epoch,
                nonce: number,
            }
            .encode(&mut bytes);
            for _ in 0..input.byte() % 8 {
                wal_record(&mut input, number, &mut commit, &mut bytes);
            }
        }
        blobs.put(&blob_name(number), &bytes).unwrap();
    }
    for recovery in [WalRecovery::Strict, WalRecovery::Truncate] {
        let (env, _) = Env::simulated(Arc::new(blobs.clone()), 1);
        let mut visited = Visited::default();
        if let Ok(found) = replay(&env, 1, Commit::ZERO, recovery, &mut visited) {
            assert!(found.next_file >= 1);
        }
    }
    for number in 1..=files {
        let _ = crate::inspect::wal(&blobs, &blob_name(number), |_| {});
    }
}

/// A record with a right checksum over any payload, or noise between records.
fn wal_record(input: &mut Input<'_>, number: u64, commit: &mut u64, out: &mut Vec<u8>) {
    let kind = input.byte();
    let len = usize::from(input.short() % 512);
    let payload = input.take(len);
    if kind & 3 == 3 {
        out.extend_from_slice(payload);
        return;
    }
    let step = u64::from(kind >> 2 & 3);
    let fixed = Record {
        first: Commit(commit.wrapping_add(u64::from(kind & 3 == 2) << 60)),
        last: Commit(commit.wrapping_add(step)),
        durable: u64::from(kind >> 4) * 64,
        time: Timestamp(0),
    };
    *commit += step + 1;
    record::encode(
        out,
        number,
        &fixed,
        payload,
        usize::from(kind & 3 == 1) * 16,
    );
}

/// A whole table: opened, searched, walked both ways.
pub fn table(data: &[u8]) {
    let mut input = Input(data);
    let id = SegmentId::new(1, 1);
    let flags = input.byte();
    // A bucket's tables are read another way.
    let blobs = Arc::new(match flags & 2 {
        0 => MemBlobs::new(),
        _ => MemBlobs::bucket(),
    });
    let bytes = match flags & 1 {
        0 => input.0.to_vec(),
        _ => spoiled_table(&mut input, &blobs, id),
    };
    blobs.put(&id.blob(), &bytes).unwrap();
    let probe = [b'k', input.byte()];
    let _ = read_table(&blobs, id, &probe);
    let _ = crate::inspect::table(blobs, &id.blob(), |_| Ok(()));
}

fn read_table(blobs: &Arc<MemBlobs>, id: SegmentId, probe: &[u8]) -> Result<()> {
    let cache = Arc::new(BlockCache::new(8 << 20));
    let table = Arc::new(Table::open_file(id, &id.blob(), blobs.clone(), cache)?);
    let hash = filter::hash(probe);
    let _ = table.get(probe, hash, Commit::MAX, Wait::Allowed, &mut 0);
    let _ = table.get(probe, hash, Commit(2), Wait::Allowed, &mut 0);
    let _ = table.data_handles();
    let state = Arc::new(ReadState::new(Wait::Allowed));
    // Index entries may name one block again and again: as many steps as an honest table of this
    // size could have, and an end.
    let most = blobs.total_bytes();
    for forward in [true, false] {
        let mut cursor = TableCursor::new(table.clone(), state.clone());
        let mut step = match forward {
            true => cursor.seek_first(),
            false => cursor.seek_last(),
        };
        let mut steps = 0;
        while step.is_ok() && cursor.valid() && steps < most {
            let _ = (cursor.key(), cursor.commit(), cursor.tag(), cursor.value());
            step = match forward {
                true => cursor.next(),
                false => cursor.prev(),
            };
            steps += 1;
        }
        let _ = cursor.seek(probe, Commit::MAX);
        let _ = cursor.seek_before(probe, Commit::MAX);
    }
    Ok(())
}

/// A table as the writer makes it, then bytes changed inside its frames and footer, and their
/// checksums made right again.
fn spoiled_table(input: &mut Input<'_>, blobs: &MemBlobs, id: SegmentId) -> Vec<u8> {
    let options = KeyspaceOptions {
        block_bytes: 512,
        filter_bits: input.byte() % 17,
        compression: match input.byte() % 3 {
            0 => crate::Compression::None,
            1 => crate::Compression::Lz4,
            _ => crate::Compression::Zstd,
        },
        ..KeyspaceOptions::default()
    };
    let spec = TableSpec {
        segment: id,
        keyspace: KeyspaceId(0),
        level: 0,
        base: Commit::ZERO,
        times: (Timestamp(0), Timestamp(0)),
        created: Timestamp(0),
        cleared: Commit::ZERO,
        ingested: false,
    };
    let mut writer = TableWriter::create(blobs, &spec, &options).unwrap();
    let (keys, len) = (1 + u16::from(input.byte()), usize::from(input.byte()));
    for key in 0..keys {
        let key = [b'k', (key >> 8) as u8, key as u8];
        writer
            .add(&key, Commit(2), Tag::PUT, &vec![7; len])
            .unwrap();
        if key[2].is_multiple_of(4) {
            writer.add(&key, Commit(1), Tag::DELETE, b"").unwrap();
        }
    }
    let meta = writer.finish().unwrap();
    let mut bytes = blobs.get(&id.blob()).unwrap().to_vec();
    let frames = frames_of(blobs, id, meta.bytes);
    while !input.is_empty() {
        let chosen = usize::from(input.short());
        let (at, xor) = (usize::from(input.short()), input.byte() | 1);
        if chosen >= frames.len() {
            let footer = bytes.len() - FOOTER;
            bytes[footer + at % 36] ^= xor;
            let sum = crc_fast::crc32_iscsi(&bytes[footer..footer + 36]);
            bytes[footer + 36..footer + 40].copy_from_slice(&sum.to_le_bytes());
            continue;
        }
        let (start, end) = frames[chosen];
        bytes[start + at % (end - 4 - start)] ^= xor;
        let sum = crc_fast::crc32_iscsi(&bytes[start..end - 4]);
        bytes[end - 4..end].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

/// Where the frames of an intact table start and end.
fn frames_of(blobs: &MemBlobs, id: SegmentId, size: u64) -> Vec<(usize, usize)> {
    let cache = Arc::new(BlockCache::new(8 << 20));
    let store = Arc::new(blobs.clone());
    let table = Table::open_file(id, &id.blob(), store, cache).unwrap();
    let span = |handle: &Handle| (handle.at as usize, handle.at as usize + handle.len);
    let mut frames: Vec<_> = table.data_handles().unwrap().iter().map(span).collect();
    let bytes = blobs.get(&id.blob()).unwrap();
    let footer = Footer::decode("table", size, &bytes[bytes.len() - FOOTER..]).unwrap();
    let parts = [
        footer.index_at,
        footer.filter_at,
        footer.top_at,
        footer.properties_at,
        size - FOOTER as u64,
    ];
    let spans = parts
        .windows(2)
        .map(|pair| (pair[0] as usize, pair[1] as usize));
    frames.extend(spans.filter(|(start, end)| start < end));
    frames
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Operations on a database in memory, beside a map; the map as it was at some commits too.
pub fn operations(data: &[u8]) {
    let mut input = Input(data);
    let blobs = match input.byte() & 1 {
        0 => MemBlobs::new(),
        _ => MemBlobs::bucket(),
    };
    let mut model = Model::new();
    let mut kv = open(&blobs, 1);
    let mut snapshots: Vec<(crate::Snapshot, Model)> = Vec::new();
    let mut opened = 1;
    while !input.is_empty() {
        let keyspace = kv.default_keyspace();
        let step = input.byte();
        let key = vec![b'k', input.byte() % 32];
        match step % 16 {
            0..=5 => {
                let value = vec![step; usize::from(input.short() % 700)];
                keyspace
                    .put_with(&key, &value, Durability::Buffered)
                    .unwrap();
                model.insert(key, value);
            }
            6 | 7 => {
                keyspace.delete(&key).unwrap();
                model.remove(&key);
            }
            8 => {
                kv.flush().unwrap();
            }
            9 => {
                keyspace
                    .compact(&crate::CompactOptions::default())
                    .map_err(|failed| failed.error)
                    .unwrap();
            }
            10 => {
                kv.work().unwrap();
            }
            11 => snapshots.push((keyspace.snapshot().unwrap(), model.clone())),
            12 => {
                snapshots.pop();
            }
            13 => {
                snapshots.clear();
                drop(keyspace);
                kv.close().unwrap();
                opened += 1;
                kv = open(&blobs, opened);
            }
            14 => {
                let found = keyspace.get(&key).unwrap();
                assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice));
            }
            _ => check(&keyspace, &model, &key),
        }
    }
    check(&kv.default_keyspace(), &model, b"k");
    for (snapshot, model) in &snapshots {
        check(snapshot, model, b"k\x10");
    }
    drop(snapshots);
    let report = kv.verify(|_, _| {}).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

fn open(blobs: &MemBlobs, seed: u64) -> Kv {
    let (env, _) = Env::simulated(Arc::new(blobs.clone()), seed);
    let options = Options {
        background: Background::Manual,
        memory_budget: 8 << 20,
        memtable_bytes: 4096,
        wal_bytes: 8192,
        table_bytes: 4096,
        level1_bytes: 8192,
        ..Options::default()
    };
    let keyspace = KeyspaceOptions {
        history: History {
            window: 20,
            ..History::default()
        },
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    Kv::open(env, options, keyspace, None).unwrap()
}

fn check(read: &impl Read, model: &Model, from: &[u8]) {
    let rows = |options| -> Vec<(Vec<u8>, Vec<u8>)> {
        let scan = read.scan_with(from.., options).unwrap();
        let row = |row: Result<(Bytes, Bytes)>| row.map(|(k, v)| (k.to_vec(), v.to_vec()));
        scan.into_iter().map(|r| row(r).unwrap()).collect()
    };
    let expected: Vec<_> = model
        .range(from.to_vec()..)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert_eq!(rows(ScanOptions::default()), expected);
    let mut backward = rows(ScanOptions::reverse());
    backward.reverse();
    assert_eq!(backward, expected);
}
