//! Brings an index forward: what differs between the map of documents it is of and the one of now is
//! mapped again and edited into its trees.

use super::disk::{Disk, Published};
use super::index::{Definition, Emitter};
use super::key::stored;
use crate::block::{Cid, Staged};
use crate::cbor::{self, Reader};
use crate::clock::Siblings;
use crate::core::{Core, View};
use crate::document;
use crate::error::{Error, Result};
use crate::prolly::{self, Diff};
use crate::reading::id_of;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Documents that are mapped before the trees are edited.
const BATCH: usize = 50_000;
/// Bytes of keys and values that are gathered before the trees are edited.
const BATCH_BYTES: usize = 8 << 20;
/// New nodes are written to a file from this many bytes on.
const FRESH_BYTES: usize = 8 << 20;
/// The index is made durable when it is this many documents ahead of what is.
const AHEAD: u64 = 256;
/// Files may hold this much that is not needed any more, beside as much as is, in bytes.
const SPARE_BYTES: u64 = 4 << 20;
/// The most files.
const FILES: usize = 256;

/// An index in memory.
pub(super) struct State {
    pub(super) disk: Disk,
    pub(super) at: Published,
    /// Whether the note was read.
    loaded: bool,
    /// Documents taken in since the index was made durable.
    ahead: u64,
    dirty: bool,
}

impl State {
    pub(super) fn new(core: &Core, folder: &str) -> Self {
        Self {
            disk: Disk::new(core.store.clone(), folder),
            at: Published::default(),
            loaded: false,
            ahead: 0,
            dirty: false,
        }
    }

    /// Forgets everything; the next query builds the index from the documents.
    pub(super) fn start_anew(&mut self, core: &Core, folder: &str) {
        *self = Self::new(core, folder);
        self.loaded = true;
    }

    pub(super) fn is_of(&self, view: &View, definition: &Definition) -> Result<bool> {
        let root = view.event()?.and_then(|event| event.root);
        let same = self.at.definition == definition.print && self.at.map == root;
        Ok(self.loaded && same)
    }

    fn load(&mut self, core: &Core, folder: &str) -> Result<()> {
        let note = core
            .store
            .log
            .lock()
            .state
            .notes
            .get(&note_name(folder))
            .cloned();
        *self = Self::new(core, folder);
        if let Some(at) = note.and_then(|note| Published::decode(&note)) {
            self.disk.list(&at.files);
            self.at = at;
        }
        if core.store.check_writable().is_ok() {
            self.disk.sweep(&self.at.files)?;
        }
        self.loaded = true;
        Ok(())
    }

    /// Takes in what changed up to `view`.
    pub(super) fn bring_forward(
        &mut self,
        core: &Core,
        view: &View,
        definition: &Definition,
    ) -> Result<()> {
        let folder = &definition.folder;
        if !self.loaded {
            self.load(core, folder)?;
        }
        if self.is_of(view, definition)? {
            return Ok(());
        }
        if self.at.definition != definition.print {
            // The old files stay until the new index is published.
            self.start_anew(core, folder);
        }
        let first = self.at.map.is_none();
        let done = match self.take_in(core, view, definition) {
            // The map it was of is pruned.
            Err(error) if error.is_missing_block() && !self.disk.is_damaged() => {
                self.start_anew(core, folder);
                self.take_in(core, view, definition)
            }
            other => other,
        };
        if let Err(error) = done {
            // Nodes that the index needs may be in files that are not listed.
            self.loaded = false;
            self.start_over_if_damaged(core, folder);
            return Err(error);
        }
        if first || self.ahead >= AHEAD || self.disk.fresh_bytes() >= FRESH_BYTES / 2 {
            self.publish(core, folder);
        }
        Ok(())
    }

    fn start_over_if_damaged(&mut self, core: &Core, folder: &str) {
        if self.disk.is_damaged() {
            self.start_anew(core, folder);
            self.disk.mark_damaged();
        }
    }

    fn take_in(&mut self, core: &Core, view: &View, definition: &Definition) -> Result<()> {
        let root = view.event()?.and_then(|event| event.root);
        let mut next = Published {
            definition: definition.print.clone(),
            clock: view.heads.clone(),
            map: root,
            ..self.at.clone()
        };
        let mut batch = Batch::default();
        let mut taken = 0;
        for difference in Diff::new(&*core.store, self.at.map, root) {
            let difference = difference?;
            let left = winner(difference.left.as_ref())?;
            let right = winner(difference.right.as_ref())?;
            if left == right {
                continue;
            }
            taken += 1;
            let id = id_of(&difference.key)?;
            let rows = match right {
                Some(doc) => {
                    let mut emitter = Emitter::default();
                    (definition.map)(&id, &core.store.document(&doc)?, &mut emitter);
                    emitter.rows
                }
                None => Vec::new(),
            };
            batch.add(difference.key, rows)?;
            if batch.is_full() {
                self.edit(&mut next, std::mem::take(&mut batch))?;
            }
        }
        self.edit(&mut next, batch)?;
        self.at = next;
        self.ahead += taken;
        self.dirty = true;
        Ok(())
    }

    /// Edits a batch into the trees.
    fn edit(&mut self, next: &mut Published, batch: Batch) -> Result<()> {
        if batch.ids.is_empty() {
            return Ok(());
        }
        let mut by_key: BTreeMap<Vec<u8>, Option<Bytes>> = BTreeMap::new();
        let ids: Vec<&Bytes> = batch.ids.iter().map(|(id, _)| id).collect();
        let before = prolly::get_many(&self.disk, next.by_id.as_ref(), &ids)?;
        for (id, keys) in ids.iter().zip(&before) {
            let Some(keys) = keys else { continue };
            let keys = read_keys(keys).inspect_err(|error| self.disk.note_damage(error))?;
            by_key.extend(keys.into_iter().map(|key| (of_id(key, id), None)));
        }
        let mut by_id = Vec::with_capacity(batch.ids.len());
        for ((id, rows), before) in batch.ids.into_iter().zip(before) {
            let keys: Vec<&Bytes> = rows.keys().collect();
            let value = (!keys.is_empty()).then(|| write_keys(&keys));
            if value != before {
                let key = id.clone();
                by_id.push(prolly::Edit { key, value });
            }
            let rows = rows.into_iter();
            by_key.extend(rows.map(|(key, item)| (of_id(&key, &id), Some(item))));
        }
        let by_key = by_key.into_iter().map(|(key, value)| prolly::Edit {
            key: key.into(),
            value,
        });
        let by_key: Vec<prolly::Edit> = by_key.collect();
        let mut staged = Staged::new(&self.disk);
        next.by_key = prolly::apply(&mut staged, next.by_key.as_ref(), &by_key)?;
        next.by_id = prolly::apply(&mut staged, next.by_id.as_ref(), &by_id)?;
        let (blocks, nodes) = staged.into_parts();
        self.disk.add_fresh(blocks, nodes);
        if self.disk.fresh_bytes() >= FRESH_BYTES {
            self.disk.forget_unneeded(next.roots());
        }
        if self.disk.fresh_bytes() >= FRESH_BYTES && !self.disk.is_in_memory() {
            self.disk.write_fresh(next.roots(), &mut next.files)?;
        }
        Ok(())
    }

    /// Makes the index durable, if it can be. If not, the answers are right all the same, and the one
    /// that is durable is brought forward later.
    pub(super) fn publish(&mut self, core: &Core, folder: &str) {
        if !self.dirty || !self.loaded || core.store.check_writable().is_err() {
            return;
        }
        if let Err(error) = self.try_publish(core, folder) {
            tracing::warn!(%error, index = folder, "an index could not be made durable");
        }
    }

    fn try_publish(&mut self, core: &Core, folder: &str) -> Result<()> {
        let before = self.at.files.clone();
        let roots = self.at.roots();
        self.disk.write_fresh(roots, &mut self.at.files)?;
        let spare = self.at.whole.saturating_mul(2).saturating_add(SPARE_BYTES);
        if self.at.files.len() > FILES || self.at.bytes() > spare {
            self.at.files = self.disk.rewrite(roots)?;
            self.at.whole = self.at.bytes();
        }
        core.set_note(&note_name(folder), Some(self.at.encode()))?;
        self.dirty = false;
        self.ahead = 0;
        self.disk.unlist(&before, &self.at.files);
        self.disk.sweep(&self.at.files)
    }
}

/// The note of an index.
pub(super) fn note_name(folder: &str) -> String {
    format!("index/{folder}")
}

/// The document that is read, of a value of the map.
fn winner(value: Option<&Bytes>) -> Result<Option<Cid>> {
    match value {
        Some(value) => Ok(Siblings::winner_of(value)?.0.doc),
        None => Ok(None),
    }
}

/// Ids, each with the rows it has now: item by stored key.
#[derive(Default)]
struct Batch {
    ids: Vec<(Bytes, BTreeMap<Bytes, Bytes>)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, id: Bytes, rows: Vec<(Value, Value)>) -> Result<()> {
        let mut by_key: BTreeMap<Bytes, Vec<(Value, Value)>> = BTreeMap::new();
        for (key, value) in rows {
            let stored = stored(super::key::encode(&key));
            by_key.entry(stored).or_default().push((key, value));
        }
        let mut items = BTreeMap::new();
        for (key, rows) in by_key {
            let item = write_rows(&rows)?;
            self.bytes += key.len() + 2 * id.len() + item.len();
            items.insert(key, item);
        }
        self.bytes += id.len();
        self.ids.push((id, items));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.ids.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
}

/// The key of the tree by key.
fn of_id(key: &[u8], id: &[u8]) -> Vec<u8> {
    [key, id].concat()
}

fn write_keys(keys: &[&Bytes]) -> Bytes {
    let mut out = Vec::with_capacity(64);
    cbor::put_array(keys.len(), &mut out);
    for key in keys {
        cbor::put_bytes(key, &mut out);
    }
    out.into()
}

fn read_keys(item: &[u8]) -> Result<Vec<&[u8]>> {
    let mut reader = Reader::new(item);
    let read = (|| -> cbor::Read<Vec<&[u8]>> {
        let count = reader.array()?;
        (0..count).map(|_| reader.bytes()).collect()
    })();
    read.map_err(|malformed| malformed.in_place("the keys of a document in an index"))
}

fn write_rows(rows: &[(Value, Value)]) -> Result<Bytes> {
    let mut out = Vec::with_capacity(32);
    cbor::put_array(2 * rows.len(), &mut out);
    for (key, value) in rows {
        document::put_json(key, &mut out)?;
        document::put_json(value, &mut out)?;
    }
    if out.len() > prolly::MAX_VALUE_BYTES {
        return Err(Error::TooLarge {
            what: "bytes of a document's key and value in an index",
            size: out.len() as u64,
            limit: prolly::MAX_VALUE_BYTES as u64,
        });
    }
    Ok(out.into())
}

/// The rows of one entry of the tree by key.
pub(super) fn read_rows(item: &[u8]) -> Result<Vec<(Value, Value)>> {
    let mut reader = Reader::new(item);
    let read = (|| -> cbor::Read<Vec<(Value, Value)>> {
        let count = reader.array()? / 2;
        (0..count)
            .map(|_| {
                Ok((
                    document::get_json(&mut reader)?,
                    document::get_json(&mut reader)?,
                ))
            })
            .collect()
    })();
    read.map_err(|malformed| malformed.in_place("a row of an index"))
}

/// Shared by the handles of one index.
pub(super) type Shared = Arc<parking_lot::RwLock<State>>;
