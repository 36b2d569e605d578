//! Where the trees of an index lie: new nodes in memory, the others in CARs that the ledger's note lists.

use crate::block::{Block, Blocks, Cid};
use crate::error::{Error, Result};
use crate::prolly::Node;
use crate::store::{CarId, CarMeta, Cars, HashAddresses, ScopedBlobs, Slot, Store, car_name, pack};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use siltstone_storage::Blobs;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The version of an encoded note.
const VERSION: u8 = 1;

/// What an index is of, and where it lies: its note.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    /// By what it is indexed, and in which version.
    pub(super) definition: String,
    /// The clock it has seen.
    pub(super) clock: Vec<Cid>,
    /// The root of the map of documents it is of.
    pub(super) map: Option<Cid>,
    /// The root of the tree by key.
    pub(super) by_key: Option<Cid>,
    /// The root of the tree by id.
    pub(super) by_id: Option<Cid>,
    /// Its CARs.
    pub(super) files: Vec<(CarId, CarMeta)>,
    /// Bytes of its CARs when they held nothing but what was needed.
    pub(super) whole: u64,
}

impl Published {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(postcard::to_stdvec(self).expect("a note always serializes"));
        bytes
    }

    /// The note, if it is one of this build.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        }
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, meta)| meta.bytes).sum()
    }

    pub(super) fn roots(&self) -> [Option<Cid>; 2] {
        [self.by_key, self.by_id]
    }
}

/// The blocks of an index.
pub(super) struct Disk {
    store: Arc<Store>,
    blobs: Arc<dyn Blobs>,
    cars: Cars,
    /// Nodes that are in no file yet.
    fresh: HashMap<Cid, (Bytes, Arc<Node>), HashAddresses>,
    fresh_bytes: usize,
    damaged: AtomicBool,
}

impl Disk {
    pub(super) fn new(store: Arc<Store>, folder: &str) -> Self {
        let scope = ScopedBlobs::new(store.env.blobs.clone(), &format!("index/{folder}"));
        let blobs: Arc<dyn Blobs> = Arc::new(scope);
        Self {
            cars: Cars::new(blobs.clone(), store.options.keys.clone()),
            store,
            blobs,
            fresh: HashMap::default(),
            fresh_bytes: 0,
            damaged: AtomicBool::new(false),
        }
    }

    pub(super) fn list(&self, files: &[(CarId, CarMeta)]) {
        for (id, meta) in files {
            self.cars.add(*id, *meta);
        }
    }

    /// Whether something of the index was found to be missing or wrong.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn mark_damaged(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// True when it is a reader's, which writes no files.
    pub(super) fn is_in_memory(&self) -> bool {
        self.store.check_writer().is_err()
    }

    /// Bytes of nodes that are in no file yet.
    pub(super) fn fresh_bytes(&self) -> usize {
        self.fresh_bytes
    }

    pub(super) fn add_fresh(&mut self, blocks: Vec<Block>, nodes: Vec<(Cid, Arc<Node>)>) {
        let bytes: HashMap<Cid, Bytes> = blocks.into_iter().map(|b| (b.cid, b.bytes)).collect();
        for (cid, node) in nodes {
            if let Some(bytes) = bytes.get(&cid) {
                let size = bytes.len();
                if self.fresh.insert(cid, (bytes.clone(), node)).is_none() {
                    self.fresh_bytes += size;
                }
            }
        }
    }

    /// The new nodes that these roots lead to. A node in a file has its children in files.
    fn needed(&self, roots: [Option<Cid>; 2]) -> Vec<Block> {
        let mut open: Vec<Cid> = roots.into_iter().flatten().collect();
        let mut seen: HashSet<Cid, HashAddresses> = HashSet::default();
        let mut needed = Vec::new();
        while let Some(cid) = open.pop() {
            if let Some((bytes, node)) = self.fresh.get(&cid)
                && seen.insert(cid)
            {
                let bytes = bytes.clone();
                needed.push(Block { cid, bytes });
                open.extend(node.children());
            }
        }
        needed
    }

    /// Drops new nodes that these roots do not lead to.
    pub(super) fn forget_unneeded(&mut self, roots: [Option<Cid>; 2]) {
        let needed: HashSet<Cid> = self.needed(roots).iter().map(|block| block.cid).collect();
        self.fresh.retain(|cid, _| needed.contains(cid));
        self.fresh_bytes = self.fresh.values().map(|(bytes, _)| bytes.len()).sum();
    }

    /// Makes the new nodes that these roots lead to durable; the files, which nobody lists yet.
    pub(super) fn write_fresh(
        &mut self,
        roots: [Option<Cid>; 2],
        files: &mut Vec<(CarId, CarMeta)>,
    ) -> Result<()> {
        let needed = self.needed(roots);
        self.write(&needed, files)?;
        for block in &needed {
            if let Some((_, node)) = self.fresh.get(&block.cid) {
                self.store.cache.insert(block.cid, Slot::Node(node.clone()));
            }
        }
        self.fresh.clear();
        self.fresh_bytes = 0;
        Ok(())
    }

    fn write(&self, blocks: &[Block], files: &mut Vec<(CarId, CarMeta)>) -> Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let sealer = self.store.sealer();
        let limit = self.store.options.compacted_car_bytes;
        for mut new in pack(&[], &[], blocks, limit, sealer.as_ref())? {
            if files.iter().any(|(id, _)| *id == new.car.cid) {
                continue;
            }
            if let Some(bytes) = new.bytes.take() {
                self.blobs.put(&car_name(&new.car.cid), &bytes)?;
            }
            let meta = new.file_meta();
            self.cars.add(new.car.cid, meta);
            files.push((new.car.cid, meta));
        }
        Ok(())
    }

    /// Copies what the roots lead to into new files.
    pub(super) fn rewrite(&self, roots: [Option<Cid>; 2]) -> Result<Vec<(CarId, CarMeta)>> {
        let limit = self.store.options.compacted_car_bytes;
        let mut files = Vec::new();
        let mut open: Vec<Cid> = roots.into_iter().flatten().collect();
        let mut seen: HashSet<Cid, HashAddresses> = HashSet::default();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(cid) = open.pop() {
            if !seen.insert(cid) {
                continue;
            }
            let node = self.node(&cid)?;
            open.extend(node.children());
            bytes += node.bytes().len();
            batch.push(Block {
                cid,
                bytes: node.bytes().clone(),
            });
            if bytes >= limit {
                self.write(&std::mem::take(&mut batch), &mut files)?;
                bytes = 0;
            }
        }
        self.write(&batch, &mut files)?;
        Ok(files)
    }

    /// Deletes the files that are not among these.
    pub(super) fn sweep(&self, files: &[(CarId, CarMeta)]) -> Result<()> {
        let listed: HashSet<String> = files.iter().map(|(id, _)| car_name(id)).collect();
        for blob in self.blobs.list("")? {
            if !listed.contains(&blob.name) {
                self.blobs.delete(&blob.name)?;
            }
        }
        Ok(())
    }

    /// Nothing is read any more from files that are not among `now`.
    pub(super) fn unlist(&self, before: &[(CarId, CarMeta)], now: &[(CarId, CarMeta)]) {
        let gone = before.iter().map(|(id, _)| *id);
        let gone: Vec<CarId> = gone
            .filter(|id| now.iter().all(|(kept, _)| kept != id))
            .collect();
        self.cars.remove(&gone);
    }

    fn read(&self, cid: &Cid) -> Result<Bytes> {
        let read = self.cars.read(cid, &self.store.cache);
        read.inspect_err(|error| self.note_damage(error))
    }

    /// An index that cannot be read is built anew; a disk that fails for a moment is no reason to.
    pub(super) fn note_damage(&self, error: &Error) {
        let damaged = match error {
            Error::Storage(error) => {
                error.is_not_found() || matches!(error, siltstone_storage::Error::Corrupt { .. })
            }
            Error::Io { .. } | Error::Stopped { .. } => false,
            _ => true,
        };
        if damaged {
            tracing::warn!(%error, "an index is damaged and will be built anew");
            self.damaged.store(true, Ordering::Relaxed);
        }
    }
}

impl Blocks for Disk {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        match self.fresh.get(cid) {
            Some((bytes, _)) => Ok(bytes.clone()),
            None => self.read(cid),
        }
    }

    fn node(&self, cid: &Cid) -> Result<Arc<Node>> {
        if let Some((_, node)) = self.fresh.get(cid) {
            return Ok(node.clone());
        }
        if let Some(Slot::Node(node)) = self.store.cache.get(cid) {
            return Ok(node);
        }
        let node = Node::decode(cid, self.read(cid)?);
        let node = Arc::new(node.inspect_err(|error| self.note_damage(error))?);
        self.store.cache.insert(*cid, Slot::Node(node.clone()));
        Ok(node)
    }
}
