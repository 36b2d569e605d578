//! What was read lately, decoded, weighed in bytes: nodes, changes, events, indexes, pages of them and the
//! bytes of everything else. What is in here was checked against its address once; reading it again
//! neither hashes nor decodes.

use crate::block::Cid;
use crate::car::{CarIndex, IndexPage};
use crate::clock::{Change, Event};
use crate::document::Document;
use crate::prolly::Node;
use bytes::Bytes;
use quick_cache::{OptionsBuilder, Weighter, sync::Cache};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// What a slot costs beside its value, in bytes.
const SLOT: u64 = 96;

/// What a slot holds.
#[derive(Debug, Clone)]
pub(crate) enum Slot {
    Bytes(Bytes),
    Node(Arc<Node>),
    Change(Arc<Change>),
    Event(Event),
    Document(Document),
    Page(Arc<IndexPage>),
    Index(Arc<CarIndex>),
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Cid, Slot> for Weight {
    fn weight(&self, _: &Cid, slot: &Slot) -> u64 {
        SLOT + match slot {
            Slot::Bytes(bytes) => bytes.len() as u64,
            Slot::Node(node) => node.weight() as u64,
            Slot::Change(change) => change.weight() as u64,
            Slot::Event(_) => 0,
            Slot::Document(document) => document.bytes().len() as u64,
            Slot::Page(page) => page.weight() as u64,
            Slot::Index(index) => index.weight() as u64,
        }
    }
}

/// Addresses are hashes already; a multiplication spreads them over both ends of the word.
#[derive(Debug, Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = self.0.rotate_left(23) ^ value;
    }
}

/// Hashes addresses.
pub(crate) type HashAddresses = BuildHasherDefault<AddressHasher>;

/// The cache of one ledger.
#[derive(Debug)]
pub(crate) struct BlockCache(Cache<Cid, Slot, Weight, HashAddresses>);

impl BlockCache {
    /// A cache of at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity((bytes / 512) as usize)
            .weight_capacity(bytes)
            .shards(8)
            .build()
            .expect("both capacities are set");
        Self(Cache::with_options(
            options,
            Weight,
            HashAddresses::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        ))
    }

    pub(crate) fn get(&self, cid: &Cid) -> Option<Slot> {
        self.0.get(cid)
    }

    pub(crate) fn insert(&self, cid: Cid, slot: Slot) {
        self.0.insert(cid, slot);
    }

    /// Forgets what is under an address.
    pub(crate) fn forget(&self, cid: &Cid) {
        self.0.remove(cid);
    }

    /// Forgets everything, so that what follows is read from the store.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.weight()
    }
}
