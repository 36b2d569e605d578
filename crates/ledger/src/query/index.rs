//! An index as its caller has it.

use super::disk::Published;
use super::forward::{Shared, State, note_name, read_rows};
use super::key::{encode, stored};
use super::wanted::{Conditions, Query};
use crate::core::Core;
use crate::document::{Document, ID_FIELD};
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::names::check_name;
use crate::prolly::{Direction, Scan};
use crate::reading::id_of;
use crate::snapshot::Snapshot;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What a map function gives the index for one document.
#[derive(Debug, Default)]
pub struct Emitter {
    pub(super) rows: Vec<(Value, Value)>,
}

impl Emitter {
    /// Lists the document under a key, with a value that comes with the row. Any number of times; with
    /// its key the value has at most 1 MiB.
    pub fn emit(&mut self, key: impl Into<Value>, value: impl Into<Value>) {
        self.rows.push((key.into(), value.into()));
    }
}

type Map = dyn Fn(&str, &Document, &mut Emitter) + Send + Sync;

/// By what is indexed.
pub(super) struct Definition {
    /// Where its files are.
    pub(super) folder: String,
    /// What it is rebuilt for when it changes.
    pub(super) print: String,
    pub(super) map: Box<Map>,
}

/// The indexes that are open, by folder.
#[derive(Default)]
pub(crate) struct Indexes(Mutex<HashMap<String, Slot>>);

impl fmt::Debug for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Indexes")
    }
}

/// One index of the ledger, shared by its handles.
#[derive(Clone)]
struct Slot(Shared);

impl Core {
    /// Makes durable what the open indexes have taken in.
    pub(crate) fn publish_indexes(&self) {
        let open: Vec<_> = {
            let open = self.indexes.0.lock();
            open.iter()
                .map(|(folder, slot)| (folder.clone(), slot.clone()))
                .collect()
        };
        for (folder, slot) in open {
            slot.0.write().publish(self, &folder);
        }
    }
}

/// An index of a ledger. It keeps the ledger open, as a clone of it does.
#[derive(Clone)]
pub struct Index {
    ledger: Ledger,
    shared: Shared,
    definition: Arc<Definition>,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("definition", &self.definition.print)
            .finish_non_exhaustive()
    }
}

/// A row of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexRow {
    /// The document's id.
    pub id: String,
    /// Its key.
    pub key: Value,
    /// What the map function gave with the key; null for an index by field.
    pub value: Value,
    /// The document, when it was asked for.
    pub document: Option<Document>,
}

impl Ledger {
    /// The index by a field: names of fields and positions of arrays with dots between, `_id` for the
    /// id. Documents without the field are not in it; those in which it is null are. Nothing is read
    /// before the first query, which builds it unless it is there from before.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty path.
    pub fn index_by_field(&self, path: &str) -> Result<Index> {
        if path.is_empty() {
            return Err(Error::invalid(
                "the path of an index names at least one field",
            ));
        }
        let hash = crate::block::sha256(path.as_bytes());
        let hash: String = hash[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let parts: Vec<String> = path.split('.').map(String::from).collect();
        let by_id = path == ID_FIELD;
        self.index_of(
            format!("field-{hash}"),
            format!("field {path}"),
            Box::new(move |id, document, emitter| {
                let key = match by_id {
                    true => Some(Value::from(id)),
                    false => document.field(&parts),
                };
                if let Some(key) = key {
                    emitter.emit(key, Value::Null);
                }
            }),
        )
    }

    /// The index of a map function, which must give the same for the same document, under a name like a
    /// ledger's. Another version of the function has another `version`: the index is built anew then.
    /// The function must not query this index.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the name.
    pub fn index(
        &self,
        name: &str,
        version: u64,
        map: impl Fn(&str, &Document, &mut Emitter) + Send + Sync + 'static,
    ) -> Result<Index> {
        check_name(name)?;
        let print = format!("map {name} {version}");
        self.index_of(format!("map-{name}"), print, Box::new(map))
    }

    fn index_of(&self, folder: String, print: String, map: Box<Map>) -> Result<Index> {
        let core = self.core();
        let mut open = core.indexes.0.lock();
        let new = || Slot(Arc::new(RwLock::new(State::new(core, &folder))));
        let slot = open.entry(folder.clone()).or_insert_with(new).clone();
        Ok(Index {
            ledger: self.clone(),
            shared: slot.0,
            definition: Arc::new(Definition { folder, print, map }),
        })
    }
}

impl Index {
    /// Takes in what changed since the last query, then lists what is wanted: by key, then by id.
    ///
    /// # Errors
    /// Those of reading the ledger; [`Error::TooLarge`] for a key with its value over 1 MiB. Damage of
    /// the index itself is no error: it is built anew.
    pub fn query(&self, wanted: &Query) -> Result<Vec<IndexRow>> {
        self.ledger.core().keep_up()?;
        let answer = self.try_query(wanted);
        if answer.is_ok() || !self.shared.read().disk.is_damaged() {
            return answer;
        }
        let folder = &self.definition.folder;
        self.shared.write().start_anew(self.ledger.core(), folder);
        self.try_query(wanted)
    }

    fn try_query(&self, wanted: &Query) -> Result<Vec<IndexRow>> {
        let core = self.ledger.core();
        {
            let state = self.shared.read();
            let now = self.ledger.snapshot();
            if state.is_of(now.view(), &self.definition)? {
                return list(&state, &now, wanted);
            }
        }
        let mut state = self.shared.write();
        let now = self.ledger.snapshot();
        state.bring_forward(core, now.view(), &self.definition)?;
        // Others may read; nobody brings it on before this is done.
        let state = RwLockWriteGuard::downgrade(state);
        list(&state, &now, wanted)
    }

    /// Makes durable what queries have taken in since it last was, so that a process that is killed
    /// leaves nothing to be done again. Closing the ledger does the same.
    pub fn flush(&self) {
        let folder = &self.definition.folder;
        self.shared.write().publish(self.ledger.core(), folder);
    }

    /// Deletes what is kept of the index. A query builds it again.
    ///
    /// # Errors
    /// The store's.
    pub fn forget(&self) -> Result<()> {
        let core = self.ledger.core();
        core.store.check_writer()?;
        let mut state = self.shared.write();
        core.set_note(&note_name(&self.definition.folder), None)?;
        state.start_anew(core, &self.definition.folder);
        state.disk.sweep(&Published::default().files)
    }
}

/// The rows that fit.
fn list(state: &State, now: &Snapshot, wanted: &Query) -> Result<Vec<IndexRow>> {
    let conditions = Conditions::of(wanted);
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let rough = conditions.is_rough();
    let mut ranges = conditions.ranges();
    let direction = match wanted.descending {
        false => Direction::Ascending,
        true => Direction::Descending,
    };
    if wanted.descending {
        ranges.reverse();
    }
    let mut rows = Vec::new();
    for range in ranges {
        let mut scan = Scan::new(&state.disk, state.at.by_key, range, direction);
        while rows.len() < limit
            && let Some((tree_key, item)) = scan.advance()?
        {
            let mut found = read_rows(item).inspect_err(|error| state.disk.note_damage(error))?;
            let Some((key, _)) = found.first() else {
                continue;
            };
            let encoded = encode(key);
            if rough && !conditions.fits(&encoded) {
                continue;
            }
            let id = tree_key.strip_prefix(&stored(encoded)[..]).ok_or_else(|| {
                let error = Error::corrupt("a row of an index", "it is not under its key");
                state.disk.note_damage(&error);
                error
            })?;
            let id = id_of(id)?;
            if wanted.descending {
                found.reverse();
            }
            let document = match wanted.include_docs {
                true => Some(now.get(&id)?),
                false => None,
            };
            for (key, value) in found.into_iter().take(limit - rows.len()) {
                rows.push(IndexRow {
                    id: id.clone(),
                    key,
                    value,
                    document: document.clone(),
                });
            }
        }
    }
    Ok(rows)
}
