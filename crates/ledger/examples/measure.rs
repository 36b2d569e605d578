//! How fast the pure layers are: `cargo run --release -p siltstone-ledger --example measure [archives|documents|trees|histories]`.
//!
//! Archives are measured against the machine's own SHA2-256 over the same bytes: whoever writes or checks
//! an archive hashes it, and nothing else should cost much.
#![allow(clippy::unwrap_used, reason = "an example may")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use siltstone_ledger::block::{MemBlocks, sha256};
use siltstone_ledger::car::{CarWriter, Frames, Header, Seal, Sink, write_car};
use siltstone_ledger::clock::{Write, append};
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::merge::merge;
use siltstone_ledger::prolly::{
    Diff, Direction, Edit, KeyRange, Node, Scan, apply, bytes_item, get,
};
use siltstone_ledger::{Block, Blocks, Cid, Document, Result, Staged};
use siltstone_storage::{Clock, SystemClock};

/// Blocks with every decoded node kept, as a warm cache would.
struct Warm<'b>(&'b MemBlocks, Mutex<HashMap<Cid, Arc<Node>>>);

impl Blocks for Warm<'_> {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        self.0.block(cid)
    }

    fn node(&self, cid: &Cid) -> Result<Arc<Node>> {
        if let Some(node) = self.1.lock().unwrap().get(cid) {
            return Ok(node.clone());
        }
        let node = Arc::new(Node::decode(cid, self.0.block(cid)?)?);
        self.1.lock().unwrap().insert(*cid, node.clone());
        Ok(node)
    }
}

/// The best of several runs, which is the least disturbed one.
fn best<T>(runs: usize, mut work: impl FnMut() -> T) -> Duration {
    let clock = SystemClock::default();
    let run = |_| {
        let start = clock.elapsed();
        black_box(work());
        clock.elapsed() - start
    };
    (0..runs).map(run).min().unwrap()
}

fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64() / 1e6
}

/// A sink that keeps nothing.
struct Nothing;

impl Sink for Nothing {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        black_box(bytes);
        Ok(())
    }
}

fn archives() {
    let header = Header::default().block();
    for (size, count) in [(100, 20_000), (1_000, 4_000), (6_000, 600), (100_000, 40)] {
        let blocks: Vec<_> = (0..count)
            .map(|n: usize| Block::raw([&n.to_le_bytes()[..], &vec![n as u8; size]].concat()))
            .collect();
        let (car, _) = write_car(&header, &blocks, None).unwrap();
        let car = Bytes::from(car);
        let hash = best(60, || sha256(&car));
        let write = best(60, || {
            let mut writer = CarWriter::new(Nothing, &header, None).unwrap();
            blocks.iter().for_each(|block| writer.add(block).unwrap());
            writer.finish().unwrap().1
        });
        let block_hash = best(60, || {
            blocks.iter().for_each(|block| {
                black_box(sha256(&block.bytes));
            });
        });
        let read = best(60, || {
            Frames::new(car.clone())
                .unwrap()
                .for_each(|frame| frame.unwrap().block.check().unwrap());
        });
        println!(
            "archive of blocks of {size} B: sha2-256 {:.0} MB/s, write {:.0} MB/s ({:.0} %); block by block {:.0} MB/s, read with checks {:.0} MB/s ({:.0} %)",
            rate(car.len(), hash),
            rate(car.len(), write),
            100.0 * hash.as_secs_f64() / write.as_secs_f64(),
            rate(car.len(), block_hash),
            rate(car.len(), read),
            100.0 * block_hash.as_secs_f64() / read.as_secs_f64(),
        );
    }
    let ring = KeyRing::generate(&SystemEntropy);
    let sealer = ring.sealer(Arc::new(SystemEntropy));
    for size in [100, 6_000] {
        let block = Block::raw(vec![7; size]);
        let envelope = sealer.seal(&block).unwrap();
        let seal = best(50, || (0..100).for_each(|_| drop(sealer.seal(&block))));
        let open = best(50, || {
            (0..100).for_each(|_| drop(ring.open_block(&block.cid, &envelope.bytes)));
        });
        println!(
            "envelope of {size} B: seal {:?}, open {:?}",
            seal / 100,
            open / 100
        );
    }
}

fn put(key: String, value: &[u8]) -> Edit {
    Edit {
        key: Bytes::from(key),
        value: Some(bytes_item(value)),
    }
}

fn trees() {
    for count in [10_000u32, 1_000_000] {
        let edits: Vec<_> = (0..count)
            .map(|n| put(format!("document/{n:08}"), &[n as u8; 84]))
            .collect();
        let mut blocks = MemBlocks::new();
        let mut root = None;
        let build = best(3, || {
            let empty = MemBlocks::new();
            let mut staged = Staged::new(&empty);
            root = apply(&mut staged, None, &edits).unwrap();
            blocks.extend(staged.into_blocks());
        });
        let warm = Warm(&blocks, Mutex::default());
        let root = root.unwrap();
        let scan = || {
            let mut scan = Scan::new(&warm, Some(root), KeyRange::all(), Direction::Ascending);
            let mut seen = 0;
            while let Some(entry) = scan.advance().unwrap() {
                black_box(entry);
                seen += 1;
            }
            assert_eq!(seen, count);
        };
        let cold = best(1, scan);
        let scan = best(3, scan);
        let mut random = fastrand::Rng::with_seed(1);
        let keys: Vec<_> = (0..5_000)
            .map(|_| format!("document/{:08}", random.u32(..count)))
            .collect();
        let gets = best(20, || {
            for key in &keys {
                black_box(get(&warm, Some(&root), key.as_bytes()).unwrap().unwrap());
            }
        });
        let mut hundred: Vec<_> = (0..100)
            .map(|n| put(format!("document/{:08}", random.u32(..count)), &[n; 84]))
            .collect();
        hundred.sort_by(|a, b| a.key.cmp(&b.key));
        hundred.dedup_by(|a, b| a.key == b.key);
        let mut nodes = 0;
        let mut changed = None;
        let edit = best(40, || {
            let mut staged = Staged::new(&warm);
            changed = apply(&mut staged, Some(&root), &hundred).unwrap();
            nodes = staged.len();
        });
        let one = best(40, || {
            let mut staged = Staged::new(&warm);
            apply(&mut staged, Some(&root), &hundred[..1]).unwrap()
        });
        let mut staged = Staged::new(&warm);
        apply(&mut staged, Some(&root), &hundred).unwrap();
        let diff = best(40, || Diff::new(&staged, Some(root), changed).count());
        println!(
            "map of {count}: build {:.0} ns/entry, scan {:.1} ns/entry warm and {:.0} cold, get {:.0} ns warm, 100 edits {edit:?} ({nodes} nodes), 1 edit {one:?}, their difference {diff:?}",
            build.as_nanos() as f64 / f64::from(count),
            scan.as_nanos() as f64 / f64::from(count),
            cold.as_nanos() as f64 / f64::from(count),
            gets.as_nanos() as f64 / keys.len() as f64,
        );
    }
}

fn documents() {
    let value = serde_json::json!({"name": "Ada Lovelace", "born": 1815, "tags": ["a", "b"], "active": true, "score": 1.5});
    let document = Document::from_json(&value).unwrap();
    let bytes = document.bytes();
    let each = |work: &mut dyn FnMut()| best(50, || (0..1_000).for_each(|_| work())) / 1_000;
    println!(
        "document of {} B: from JSON {:?}, checked {:?}, to JSON {:?}, one field {:?}, as a block {:?}",
        bytes.len(),
        each(&mut || drop(black_box(Document::from_json(&value)))),
        each(&mut || drop(black_box(Document::from_bytes(bytes.clone())))),
        each(&mut || drop(black_box(document.to_json()))),
        each(&mut || drop(black_box(document.field(&["score"])))),
        each(&mut || drop(black_box(document.block()))),
    );
}

fn histories() {
    let write = |n: usize| Write {
        key: format!("document/{n:08}"),
        doc: Some(Block::raw(n.to_le_bytes().to_vec()).cid),
    };
    let mut blocks = MemBlocks::new();
    let mut base = None;
    let writes: Vec<_> = (0..100_000).map(write).collect();
    let bulk = best(3, || {
        let empty = MemBlocks::new();
        let mut staged = Staged::new(&empty);
        base = Some(append(&mut staged, None, b"author", 1, writes.clone()).unwrap());
        blocks.extend(staged.into_blocks());
    });
    let mut heads = Vec::new();
    for replica in 0..2usize {
        let mut head = base;
        for n in 0..100 {
            let mut staged = Staged::new(&blocks);
            let key = n * 997 + replica * (n % 2);
            let next = append(
                &mut staged,
                head.as_ref(),
                &[replica as u8],
                2,
                vec![write(key)],
            );
            head = Some(next.unwrap());
            let new = staged.into_blocks();
            blocks.extend(new);
        }
        heads.extend(head);
    }
    let warm = Warm(&blocks, Mutex::default());
    let put = best(40, || {
        let mut staged = Staged::new(&warm);
        append(&mut staged, base.as_ref(), b"author", 2, vec![write(5)]).unwrap()
    });
    let merged = best(40, || merge(&mut Staged::new(&warm), &heads).unwrap());
    println!(
        "events over 100,000 documents: bulk {:.0} ns/document, one put {put:?}, merge of 100 events on each side {merged:?}",
        bulk.as_nanos() as f64 / 1e5,
    );
}

fn main() {
    let asked = std::env::args().nth(1);
    let parts: [(&str, fn()); 4] = [
        ("archives", archives),
        ("documents", documents),
        ("trees", trees),
        ("histories", histories),
    ];
    for (name, part) in parts {
        if asked.as_deref().is_none_or(|asked| asked == name) {
            part();
        }
    }
}
