//! A block as each kind of structure: refused, or it is encoded again to the same bytes.
#![no_main]

use bytes::Bytes;
use siltstone_ledger::block::MemBlocks;
use siltstone_ledger::car::Header;
use siltstone_ledger::clock::{Change, Event, Siblings};
use siltstone_ledger::prolly::{self, Direction, KeyRange, Node, Scan};
use siltstone_ledger::{Block, Document};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let block = Block::dag_cbor(Bytes::copy_from_slice(data));
    let (cid, bytes) = (block.cid, block.bytes.clone());
    if let Ok(document) = Document::decode(&cid, bytes.clone()) {
        let again =
            Document::from_json(&document.to_json()).expect("what was stored can be stored");
        assert_eq!(again.bytes(), &bytes);
    }
    if let Ok(event) = Event::decode(&cid, &bytes) {
        assert_eq!(event.block(), block);
    }
    if let Ok(header) = Header::decode(&cid, &bytes) {
        assert_eq!(header.block(), block);
    }
    if let Ok(siblings) = Siblings::decode(&bytes) {
        assert_eq!(siblings.encode(), bytes);
    }
    let mut blocks = MemBlocks::new();
    blocks.insert(block.clone());
    if let Ok(change) = Change::decode(&cid, bytes.clone()) {
        assert_eq!(change.block(), block);
        for op in change.ops(&blocks) {
            let Ok(op) = op else { break };
            assert_eq!(change.op(&blocks, &op.key).expect("it is here"), Some(op));
        }
    }
    if let Ok(node) = Node::decode(&cid, bytes)
        && node.level() == 0
    {
        for entry in Scan::new(&blocks, Some(cid), KeyRange::all(), Direction::Ascending) {
            let entry = entry.expect("a leaf is all there");
            let found = prolly::get(&blocks, Some(&cid), &entry.key).expect("a leaf is all there");
            assert_eq!(found, Some(entry.value));
        }
        let _ = prolly::check(&blocks, Some(&cid));
    }
});
