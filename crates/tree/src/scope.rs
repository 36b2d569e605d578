//! Scopes: named copy-on-write overlays on a tree, sandboxes for instance. What a scope wrote wins;
//! what it did not write falls through to the base, also as the base changes.
//!
//! A scope's rows lie beside the document's, under its name, each with a byte that says what it does
//! to the base and a hash of what the base held there when the scope first wrote it. A row is *plain*
//! (what is below still shows through), *whole* (nothing below does) or *gone*. Every container on the
//! way to a row of the scope is one of its rows too, so that the base cannot take it away.

use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::history;
use crate::key;
use crate::meta::{self, Meta, ScopeInfo};
use crate::path::{Path, Segment, ToPath};
use crate::row::{self, Row};
use crate::rows::{Rows, Stored, Visit};
use crate::schema::check_changes;
use crate::source::Source;
use crate::stage::{Stage, Staged};
use crate::tree::{Committed, Tree, check_name};
use crate::value::Value;
use crate::view::{self, View};
use crate::writer::{Ids, Writer, decoded};
use bytes::Bytes;
use json_patch::Patch;
use siltstone_kv::{Commit, Durability};
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

const PLAIN: u8 = 0;
const WHOLE: u8 = 1;
const GONE: u8 = 2;
/// A byte for what a row does, and a hash.
const HEAD: usize = 9;

/// A named overlay on a tree.
#[derive(Debug, Clone)]
pub struct Scope {
    tree: Tree,
    name: Arc<str>,
    prefix: Vec<u8>,
}

/// A place that both the scope and the base have changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// Where.
    pub path: Path,
    /// What the base has there now; `None`: nothing.
    pub base: Option<Value>,
    /// What the scope has there; `None`: nothing.
    pub scope: Option<Value>,
}

/// A row of a scope, read.
#[derive(Debug, Clone)]
struct ScopeRow {
    does: u8,
    hash: u64,
    row: Bytes,
}

impl ScopeRow {
    fn decode(stored: &[u8]) -> Result<Self> {
        match stored.split_at_checked(HEAD) {
            Some((head, row)) if head[0] <= GONE => Ok(Self {
                does: head[0],
                hash: u64::from_le_bytes(head[1..].try_into().expect("eight bytes")),
                row: Bytes::copy_from_slice(row),
            }),
            _ => Err(Error::corrupt("a row of a scope")),
        }
    }

    fn encode(does: u8, hash: u64, row: &[u8]) -> Bytes {
        let mut stored = Vec::with_capacity(HEAD + row.len());
        stored.push(does);
        stored.extend_from_slice(&hash.to_le_bytes());
        stored.extend_from_slice(row);
        stored.into()
    }
}

/// Where the rows of a scope lie.
fn prefix_of(name: &str) -> Vec<u8> {
    let mut prefix = vec![key::SCOPE];
    key::push_name(&mut prefix, name);
    prefix
}

/// The rows of a tree as a scope sees them.
pub(crate) struct ScopeRows<R> {
    raw: R,
    prefix: Vec<u8>,
}

impl<R: Rows> ScopeRows<R> {
    /// The key of a node's row in the scope.
    fn own_key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, &key[1..]].concat()
    }

    fn own(&self, key: &[u8]) -> Result<Option<ScopeRow>> {
        let stored = self.raw.get(&self.own_key(key))?;
        stored.map(|stored| ScopeRow::decode(&stored)).transpose()
    }

    /// The scope's rows of a node and below, by the keys of the nodes.
    fn own_rows(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, ScopeRow>> {
        let mut rows = BTreeMap::new();
        let own = self.own_key(prefix);
        self.raw.scan(&own, &own, &mut |key, stored| {
            let node = [&[key::DATA], &key[self.prefix.len()..]].concat();
            rows.insert(node, ScopeRow::decode(stored)?);
            Ok(true)
        })?;
        Ok(rows)
    }

    /// Follows `key` from the root. Answers the row, and whether the base is hidden there; `None`
    /// when something on the way does not lead there.
    fn walk(&self, key: &[u8]) -> Result<Option<(Option<Bytes>, bool)>> {
        let mut hidden = false;
        let mut end = 1;
        loop {
            let node = &key[..end];
            let own = self.own(node)?;
            let row = match &own {
                Some(own) if own.does == GONE => None,
                Some(own) => {
                    hidden |= own.does == WHOLE;
                    Some(own.row.clone())
                }
                None if hidden => None,
                None => self.raw.get(node)?,
            };
            if end == key.len() {
                return Ok(Some((row, hidden)));
            }
            let step = key::step(&key[end..]);
            let (Some(row), Some((segment, len))) = (row, step) else {
                return Ok(None);
            };
            match decoded(node, &row)? {
                Row::Container(kind) if kind.holds(&segment) => end += len,
                _ => return Ok(None),
            }
        }
    }

    /// A hash of what the base holds at a node and below.
    fn base_hash(&self, node: &[u8]) -> Result<u64> {
        let mut hash = Xxh3::new();
        self.raw.scan(node, node, &mut |key, row| {
            for part in [key, row] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            Ok(true)
        })?;
        Ok(hash.digest())
    }
}

/// A node on the way to the row that a merge of base and scope stands at.
struct Above {
    len: usize,
    row: Bytes,
    hidden: bool,
}

impl<R: Rows> Rows for ScopeRows<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if key.first() != Some(&key::DATA) {
            return self.raw.get(key);
        }
        Ok(self.walk(key)?.and_then(|(row, _)| row))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        if prefix.first() != Some(&key::DATA) {
            return self.raw.scan(prefix, from, visit);
        }
        let Some((Some(_), hidden_from_above)) = self.walk(prefix)? else {
            return Ok(());
        };
        let own = self.own_rows(prefix)?;
        let mut above: Vec<Above> = Vec::new();
        // The node itself may be what hides.
        let mut path = prefix.to_vec();
        let mut meet = |key: &[u8], base: Option<&[u8]>, own: Option<&ScopeRow>| -> Result<bool> {
            while above
                .last()
                .is_some_and(|top| key.len() <= top.len || key[..top.len] != path[..top.len])
            {
                above.pop();
            }
            let hidden = match above.last() {
                None if key.len() == prefix.len() => {
                    hidden_from_above && own.is_none_or(|own| own.does != WHOLE)
                }
                None => return Ok(true),
                Some(top) => {
                    let held = match key::step(&key[top.len..]) {
                        Some((segment, len)) if top.len + len == key.len() => {
                            matches!(decoded(&[], &top.row)?, Row::Container(kind) if kind.holds(&segment))
                        }
                        _ => false,
                    };
                    if !held {
                        return Ok(true);
                    }
                    top.hidden
                }
            };
            let row = match own {
                Some(own) if own.does == GONE => return Ok(true),
                Some(own) => own.row.clone(),
                None if hidden => return Ok(true),
                None => match base {
                    Some(row) => Bytes::copy_from_slice(row),
                    None => return Ok(true),
                },
            };
            path.clear();
            path.extend_from_slice(key);
            above.push(Above {
                len: key.len(),
                row: row.clone(),
                hidden: hidden || own.is_some_and(|own| own.does == WHOLE),
            });
            match key >= from {
                true => visit(key, &row),
                false => Ok(true),
            }
        };
        let mut own = own.iter().peekable();
        let mut more = true;
        self.raw.scan(prefix, prefix, &mut |key, row| {
            while more && let Some((here, own_row)) = own.next_if(|(here, _)| here.as_slice() < key)
            {
                more = meet(here, None, Some(own_row))?;
            }
            if more {
                let own_row = own.next_if(|(here, _)| here.as_slice() == key);
                more = meet(key, Some(row), own_row.map(|(_, row)| row))?;
            }
            Ok(more)
        })?;
        while more && let Some((here, own_row)) = own.next() {
            more = meet(here, None, Some(own_row))?;
        }
        Ok(())
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut last = None;
        self.scan(prefix, prefix, &mut |key, _| {
            last = Some(key.to_vec());
            Ok(true)
        })?;
        Ok(last)
    }

    fn changed_since(&self, prefix: &[u8], after: Commit) -> Result<Option<Commit>> {
        match self.raw.changed_since(&self.own_key(prefix), after)? {
            Some(commit) => Ok(Some(commit)),
            None => self.raw.changed_since(prefix, after),
        }
    }
}

/// The ends of the nodes on the way to `key`, itself excluded.
fn ends_above(key: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 1;
    std::iter::from_fn(move || {
        let here = (at < key.len()).then_some(at)?;
        at += key::step_len(&key[at..])?;
        Some(here)
    })
}

/// The outermost dense array that `key` leads into: a scope that writes into one has all of it, since
/// its elements move.
fn outermost_array(key: &[u8]) -> Option<Vec<u8>> {
    ends_above(key)
        .find(|end| matches!(key::step(&key[*end..]), Some((Segment::Index(_), _))))
        .map(|end| key[..end].to_vec())
}

/// What a stage over a scope's view comes to as rows of the scope.
fn lower<R: Rows>(rows: &ScopeRows<R>, stage: &Stage<'_>, replaced: &[Vec<u8>]) -> Result<Staged> {
    let mut whole: Vec<Vec<u8>> = replaced.to_vec();
    whole.extend(
        stage
            .changed()
            .keys()
            .filter_map(|key| outermost_array(key)),
    );
    let into_arrays: Vec<_> = whole
        .iter()
        .filter_map(|key| outermost_array(key))
        .collect();
    whole.extend(into_arrays);
    whole.sort();
    whole.dedup_by(|later, earlier| later.starts_with(earlier));
    let mut staged = Staged::default();
    let mut touched: Vec<Vec<u8>> = Vec::new();
    for node in &whole {
        let own = rows.own_rows(node)?;
        let now = rows.base_hash(node)?;
        // What the base held when the scope first wrote here; when something in here has changed in
        // the base since, this has too.
        let mut hash = own
            .get(node)
            .filter(|own| own.does != PLAIN)
            .map_or(now, |own| own.hash);
        let mut under: Option<&[u8]> = None;
        for (below, row) in &own {
            staged.changed.insert(rows.own_key(below), None);
            if under.is_some_and(|above| below.starts_with(above)) {
                continue;
            }
            if row.does != PLAIN {
                under = Some(below);
            }
            let passes = row.does == PLAIN && row::is_container(&row.row);
            if below != node && !passes && row.hash != rows.base_hash(below)? {
                hash = now ^ 1;
            }
        }
        let mut any = false;
        stage.rows().scan(node, node, &mut |key, row| {
            any = true;
            let (does, hash) = if key == node.as_slice() {
                (WHOLE, hash)
            } else {
                (PLAIN, 0)
            };
            let stored = ScopeRow::encode(does, hash, row);
            staged.changed.insert(rows.own_key(key), Some(stored));
            Ok(true)
        })?;
        let shows = rows.raw.get(node)?.is_some();
        if !any && (shows || own.contains_key(node)) {
            let stored = ScopeRow::encode(GONE, hash, b"");
            staged.changed.insert(rows.own_key(node), Some(stored));
        }
        touched.push(node.clone());
    }
    for (key, row) in stage.changed() {
        if whole.iter().any(|node| key.starts_with(node)) || key.first() != Some(&key::DATA) {
            continue;
        }
        let own = rows.own(key)?;
        let hash = match &own {
            Some(own) => own.hash,
            None => rows.base_hash(key)?,
        };
        let stored = match row {
            Some(row) => {
                // What comes back where something was gone is all there is.
                let does = own.map_or(PLAIN, |own| if own.does == PLAIN { PLAIN } else { WHOLE });
                ScopeRow::encode(does, hash, row)
            }
            None => ScopeRow::encode(GONE, hash, b""),
        };
        staged.changed.insert(rows.own_key(key), Some(stored));
        touched.push(key.clone());
    }
    for key in touched {
        for end in ends_above(&key) {
            let own_key = rows.own_key(&key[..end]);
            if staged.changed.contains_key(&own_key) || rows.own(&key[..end])?.is_some() {
                continue;
            }
            if let Some(row) = stage.get(&key[..end])? {
                staged
                    .changed
                    .insert(own_key, Some(ScopeRow::encode(PLAIN, 0, &row)));
            }
        }
    }
    Ok(staged)
}

/// What a scope wrote, outermost first: nothing below something whole or gone.
fn written<R: Rows>(rows: &ScopeRows<R>) -> Result<Vec<(Vec<u8>, ScopeRow)>> {
    let mut found: Vec<(Vec<u8>, ScopeRow)> = Vec::new();
    let mut under: Option<Vec<u8>> = None;
    for (key, row) in rows.own_rows(&[key::DATA])? {
        if under.as_ref().is_some_and(|above| key.starts_with(above)) {
            continue;
        }
        if row.does != PLAIN {
            under = Some(key.clone());
        }
        found.push((key, row));
    }
    Ok(found)
}

fn conflicts<R: Rows>(rows: &ScopeRows<R>) -> Result<Vec<Conflict>> {
    let mut found = Vec::new();
    for (key, own) in written(rows)? {
        let passes = own.does == PLAIN && row::is_container(&own.row);
        let clean = match passes {
            // A container on the way: the base has the same kind, or nothing.
            true => rows.raw.get(&key)?.is_none_or(|row| row == own.row),
            false => own.hash == rows.base_hash(&key)?,
        };
        if clean {
            continue;
        }
        let (base, scope) = (rows.raw.value(&key)?, rows.value(&key)?);
        if base != scope
            && let Some(path) = key::decode(&key)
        {
            found.push(Conflict { path, base, scope });
        }
    }
    Ok(found)
}

impl Tree {
    /// Creates a scope: an overlay that is empty, so that everything falls through to the base.
    ///
    /// # Errors
    /// [`Error::Name`] for one that exists or is malformed.
    pub fn create_scope(&self, name: &str) -> Result<Scope> {
        check_name(name)?;
        let info = ScopeInfo {
            name: name.to_string(),
            created: self.head(),
        };
        let row = serde_json::to_vec(&info).map_err(|error| Error::corrupt(error.to_string()))?;
        self.inner.declare_durably(|_, meta: &Meta| {
            if meta.scopes.contains_key(name) {
                return Err(Error::Name {
                    name: name.to_string(),
                    what: "a scope of this name exists already",
                });
            }
            Ok(Staged::of([(meta::scope_key(name), Some(row.into()))]))
        })?;
        self.scope(name)
    }

    /// The scope called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownScope`] naming those there are.
    pub fn scope(&self, name: &str) -> Result<Scope> {
        known(&self.inner.meta(), name)?;
        Ok(Scope {
            tree: self.clone(),
            name: name.into(),
            prefix: prefix_of(name),
        })
    }

    /// All scopes, by name.
    pub fn scopes(&self) -> Vec<ScopeInfo> {
        self.inner.meta().scopes.values().cloned().collect()
    }

    /// Deletes a scope with all that was written in it. The base stays as it is.
    ///
    /// # Errors
    /// [`Error::UnknownScope`].
    pub fn delete_scope(&self, name: &str) -> Result<Commit> {
        self.inner.declare_durably(|_, meta| {
            known(meta, name)?;
            Ok(Staged {
                changed: [(meta::scope_key(name), None)].into(),
                cleared: vec![prefix_of(name)],
            })
        })
    }
}

fn known(meta: &Meta, name: &str) -> Result<()> {
    match meta.scopes.contains_key(name) {
        true => Ok(()),
        false => Err(Error::UnknownScope {
            name: name.to_string(),
            known: meta.scopes.keys().cloned().collect::<Vec<_>>().join(", "),
        }),
    }
}

/// A tree at a commit, as a scope sees it.
pub(crate) fn scoped_view(
    source: &Source,
    tree: &Arc<str>,
    scope: &str,
    at: Option<Commit>,
) -> Result<View> {
    use siltstone_kv::Read;
    let snapshot = match at {
        Some(commit) => source.at_commit(commit)?,
        None => source.snapshot()?,
    };
    let commit = snapshot.commit()?;
    let rows = ScopeRows {
        raw: Stored(snapshot),
        prefix: prefix_of(scope),
    };
    Ok(View::new(Arc::new(rows), commit, tree.clone()))
}

impl Scope {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tree that it lies over.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    fn rows<R: Rows>(&self, raw: R) -> ScopeRows<R> {
        ScopeRows {
            raw,
            prefix: self.prefix.clone(),
        }
    }

    /// Commits an edit in the scope: the base is not changed.
    ///
    /// # Errors
    /// As [`Tree::commit`]; [`Error::UnknownScope`] when it was deleted.
    pub fn commit(&self, edit: &Edit) -> Result<Committed> {
        self.commit_with(edit, Durability::Durable)
    }

    /// As [`Scope::commit`], as durable as asked.
    ///
    /// # Errors
    /// As [`Scope::commit`].
    pub fn commit_with(&self, edit: &Edit, durability: Durability) -> Result<Committed> {
        let inner = &self.tree.inner;
        if inner.kv.is_short_of_room() {
            inner.kv.wait_for_room(edit.bytes())?;
        }
        let mut gate = inner.enter()?;
        let meta = inner.meta();
        known(&meta, &self.name)?;
        let ids = Ids::new(gate.next_id(inner.kv.head()));
        let current = inner.current(&gate);
        let rows = self.rows(&current);
        let mut writer = Writer::new(&rows, &meta, ids);
        let appended = writer
            .run(edit)
            .map_err(|error| error.of_tree(&inner.name))?;
        check_changes(&meta.schemas, &writer.stage)?;
        let replaced = writer.stage.replaced().to_vec();
        let staged = lower(&rows, &writer.stage, &replaced)?;
        let commit = inner.write(gate, staged, None, durability)?;
        Ok(Committed { commit, appended })
    }

    /// As [`Tree::set`], in the scope.
    ///
    /// # Errors
    /// As [`Scope::commit`].
    pub fn set(&self, path: impl ToPath, value: impl Into<Value>) -> Result<Commit> {
        Ok(self.commit(&Edit::new().set(path, value))?.commit)
    }

    /// As [`Tree::patch`], in the scope.
    ///
    /// # Errors
    /// As [`Scope::commit`].
    pub fn patch(&self, path: impl ToPath, value: impl Into<Value>) -> Result<Commit> {
        Ok(self.commit(&Edit::new().patch(path, value))?.commit)
    }

    /// As [`Tree::delete`], in the scope.
    ///
    /// # Errors
    /// As [`Scope::commit`].
    pub fn delete(&self, path: impl ToPath) -> Result<Commit> {
        Ok(self.commit(&Edit::new().delete(path))?.commit)
    }

    /// As [`Tree::increment`], in the scope.
    ///
    /// # Errors
    /// As [`Scope::commit`].
    pub fn increment(&self, path: impl ToPath, delta: impl Into<Value>) -> Result<Commit> {
        Ok(self.commit(&Edit::new().increment(path, delta))?.commit)
    }

    /// The document now, as the scope sees it.
    ///
    /// # Errors
    /// [`Error::UnknownScope`] when it was deleted; closed.
    pub fn view(&self) -> Result<View> {
        let inner = &self.tree.inner;
        known(&inner.meta(), &self.name)?;
        scoped_view(&inner.source(), &inner.name, &self.name, None)
    }

    /// The document as the scope saw it at `commit`.
    ///
    /// # Errors
    /// As [`Tree::at`].
    pub fn at(&self, commit: Commit) -> Result<View> {
        let inner = &self.tree.inner;
        known(&inner.meta(), &self.name)?;
        scoped_view(&inner.source(), &inner.name, &self.name, Some(commit))
    }

    /// The value at `path` now, as the scope sees it.
    ///
    /// # Errors
    /// As [`Tree::get`].
    pub fn get(&self, path: impl ToPath) -> Result<Value> {
        self.view()?.get(path)
    }

    /// How the scope differs from the base now, as an RFC 6902 patch of the base.
    ///
    /// # Errors
    /// The store's.
    pub fn diff(&self) -> Result<Patch> {
        let inner = &self.tree.inner;
        let base = Stored(inner.keyspace.snapshot()?);
        history::diff(&base, &self.rows(&base), &Path::root())
    }

    /// Where the base has changed since the scope wrote there, to something else than the scope has.
    ///
    /// # Errors
    /// The store's.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        let base = Stored(self.tree.inner.keyspace.snapshot()?);
        conflicts(&self.rows(&base))
    }

    /// Brings everything the scope wrote into the base, in one commit. The scope is empty afterwards.
    ///
    /// # Errors
    /// [`Error::ScopeConflicts`] when the base has changed where the scope wrote: then nothing is
    /// written. [`Error::Schema`].
    pub fn merge(&self) -> Result<Commit> {
        let inner = &self.tree.inner;
        let mut gate = inner.enter()?;
        let meta = inner.meta();
        known(&meta, &self.name)?;
        let ids = Ids::new(gate.next_id(inner.kv.head()));
        let current = inner.current(&gate);
        let rows = self.rows(&current);
        let found = conflicts(&rows)?;
        if !found.is_empty() {
            return Err(Error::ScopeConflicts {
                name: self.name.to_string(),
                conflicts: found,
            });
        }
        let mut writer = Writer::new(&current, &meta, ids);
        for (key, own) in written(&rows)? {
            let Some(path) = key::decode(&key) else {
                continue;
            };
            let passes = own.does == PLAIN && row::is_container(&own.row);
            let there = writer.stage.get(&key)?.is_some();
            match (own.does, passes) {
                (GONE, _) if there => writer.delete(&path)?,
                (GONE, _) => {}
                (_, true) if there => {}
                (_, true) => {
                    let empty = match decoded(&key, &own.row)? {
                        Row::Container(row::Kind::Object) => Value::Object(Default::default()),
                        Row::Container(row::Kind::Sparse) => Value::Sparse(Default::default()),
                        _ => Value::Array(Vec::new()),
                    };
                    writer.set(&path, &empty)?;
                }
                _ => {
                    if let Some(value) = view::find(&rows, &path)? {
                        writer.set(&path, &value)?;
                    }
                }
            }
        }
        check_changes(&meta.schemas, &writer.stage)?;
        let mut staged = writer.finish();
        let news = inner
            .hub
            .prepare(&current, &staged.changed, &staged.cleared)?;
        for key in rows.own_rows(&[key::DATA])?.keys() {
            staged.changed.insert(rows.own_key(key), None);
        }
        inner.write(gate, staged, news, Durability::Durable)
    }
}
