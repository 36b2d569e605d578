//! A document as it is at one commit: reading values, names, and what matches.

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::key;
use crate::path::{Path, Pattern, Segment, ToPath, ToPattern};
use crate::rfc6902::resolve;
use crate::row::{self, Row};
use crate::rows::Rows;
use crate::value::Value;
use crate::writer::{decoded, not_found};
use bytes::Bytes;
use siltstone_kv::Commit;
use std::sync::Arc;

/// Rows of one node's subtree that are passed one by one before a scan is opened behind it.
const PASS: usize = 32;

/// A document at one commit; cheap to clone, and readable for as long as it lives.
#[derive(Clone)]
pub struct View {
    rows: Arc<dyn Rows + Send + Sync>,
    commit: Commit,
    tree: Arc<str>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("tree", &self.tree)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

/// Names in a container, a page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The names with what each is, in order.
    pub keys: Vec<(Segment, &'static str)>,
    /// Where the next page starts; `None`: there are no more.
    pub next: Option<Segment>,
}

impl View {
    pub(crate) fn new(rows: Arc<dyn Rows + Send + Sync>, commit: Commit, tree: Arc<str>) -> Self {
        Self { rows, commit, tree }
    }

    pub(crate) fn rows(&self) -> &dyn Rows {
        &*self.rows
    }

    fn of_tree<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.of_tree(&self.tree))
    }

    /// The commit it reads at.
    pub fn commit(&self) -> Commit {
        self.commit
    }

    /// The value at `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming what there is on the way; the store's.
    pub fn get(&self, path: impl ToPath) -> Result<Value> {
        self.of_tree(get(&*self.rows, &path.to_path()?))
    }

    /// The value at `path`; `None` when there is nothing.
    ///
    /// # Errors
    /// The store's.
    pub fn find(&self, path: impl ToPath) -> Result<Option<Value>> {
        self.of_tree(find(&*self.rows, &path.to_path()?))
    }

    /// Every node that `pattern` names, with its value, in order.
    ///
    /// # Errors
    /// The store's.
    pub fn nodes(&self, pattern: impl ToPattern) -> Result<Vec<(Path, Value)>> {
        self.of_tree(nodes(&*self.rows, &pattern.to_pattern()?))
    }

    /// What passes `filter`: of an array its elements, of a pattern with wildcards the nodes that it
    /// names, and else the node itself.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a path without wildcards where nothing is; the store's.
    pub fn matching(&self, pattern: impl ToPattern, filter: &Filter) -> Result<Vec<(Path, Value)>> {
        self.of_tree(filtered(&*self.rows, &pattern.to_pattern()?, filter))
    }

    /// The names in the container at `path`, from `from` on, at most `limit` of them.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::WrongKind`] for a leaf; the store's.
    pub fn keys(&self, path: impl ToPath, from: Option<&Segment>, limit: usize) -> Result<Keys> {
        self.of_tree(keys(&*self.rows, &path.to_path()?, from, limit))
    }

    /// How many elements the container at `path` has.
    ///
    /// # Errors
    /// As [`View::keys`].
    pub fn len(&self, path: impl ToPath) -> Result<u64> {
        let path = path.to_path()?;
        let mut count = 0;
        self.of_tree(container(&*self.rows, &path))?;
        self.of_tree(for_each_child(
            &*self.rows,
            &key::encode(&path),
            None,
            &mut |_, _| {
                count += 1;
                true
            },
        ))?;
        Ok(count)
    }

    /// The path that a JSON Pointer leads to in this document. Only its last step need not be there.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::NotFound`].
    pub fn resolve(&self, pointer: &str) -> Result<Path> {
        self.of_tree(resolve(&*self.rows, &Path::root(), pointer))
    }
}

pub(crate) fn get(rows: &dyn Rows, path: &Path) -> Result<Value> {
    match find(rows, path)? {
        Some(value) => Ok(value),
        None => Err(not_found(rows, path)?),
    }
}

pub(crate) fn find(rows: &dyn Rows, path: &Path) -> Result<Option<Value>> {
    let key = key::encode(path);
    if key.len() > key::MAX_KEY {
        return Ok(None);
    }
    match rows.get(&key)? {
        None => Ok(None),
        // Of one scan, so of one commit.
        Some(row) if row::is_container(&row) => rows.value(&key),
        Some(row) => match decoded(&key, &row)? {
            Row::Leaf(value) => Ok(Some(value)),
            Row::Container(_) => unreachable!("it is no container"),
        },
    }
}

/// The nodes that a pattern names.
pub(crate) fn matching(rows: &dyn Rows, pattern: &Pattern) -> Result<Vec<Path>> {
    let start = pattern.literal_prefix();
    let mut found = Vec::new();
    let Some(row) = rows.get(&key::encode(&start))? else {
        return Ok(found);
    };
    let mut open = vec![(start, row::is_container(&row))];
    while let Some((path, is_container)) = open.pop() {
        if is_container && pattern.may_match_below(&path) {
            let mut children = Vec::new();
            let key = key::encode(&path);
            for_each_child(rows, &key, None, &mut |segment, row| {
                children.push((path.child(segment), row::is_container(row)));
                true
            })?;
            open.extend(children.into_iter().rev());
        }
        if pattern.matches(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

pub(crate) fn nodes(rows: &dyn Rows, pattern: &Pattern) -> Result<Vec<(Path, Value)>> {
    let paths = match pattern.clone().into_path() {
        Some(path) => vec![path],
        None => matching(rows, pattern)?,
    };
    let mut nodes = Vec::with_capacity(paths.len());
    for path in paths {
        if let Some(value) = find(rows, &path)? {
            nodes.push((path, value));
        }
    }
    Ok(nodes)
}

fn filtered(rows: &dyn Rows, pattern: &Pattern, filter: &Filter) -> Result<Vec<(Path, Value)>> {
    let Some(path) = pattern.clone().into_path() else {
        let mut found = nodes(rows, pattern)?;
        found.retain(|(_, value)| filter.passes(value));
        return Ok(found);
    };
    let key = key::encode(&path);
    let Some(row) = rows.get(&key)? else {
        return Err(not_found(rows, &path)?);
    };
    if !matches!(decoded(&key, &row)?, Row::Container(kind) if kind != row::Kind::Object) {
        let value = find(rows, &path)?.filter(|value| filter.passes(value));
        return Ok(value
            .into_iter()
            .map(|value| (path.clone(), value))
            .collect());
    }
    let mut elements = Vec::new();
    for_each_child(rows, &key, None, &mut |segment, _| {
        elements.push(path.child(segment));
        true
    })?;
    let mut found = Vec::new();
    for element in elements {
        if let Some(value) = find(rows, &element)?
            && filter.passes(&value)
        {
            found.push((element, value));
        }
    }
    Ok(found)
}

fn container(rows: &dyn Rows, path: &Path) -> Result<()> {
    let key = key::encode(path);
    match rows.get(&key)? {
        None => Err(not_found(rows, path)?),
        Some(row) => match decoded(&key, &row)? {
            Row::Container(_) => Ok(()),
            Row::Leaf(value) => Err(Error::WrongKind {
                path: path.clone(),
                found: value.kind(),
                wanted: "an object or an array",
            }),
        },
    }
}

pub(crate) fn keys(
    rows: &dyn Rows,
    path: &Path,
    from: Option<&Segment>,
    limit: usize,
) -> Result<Keys> {
    container(rows, path)?;
    let mut page = Keys {
        keys: Vec::new(),
        next: None,
    };
    let mut bad = None;
    for_each_child(rows, &key::encode(path), from, &mut |segment, row| {
        if page.keys.len() >= limit {
            page.next = Some(segment);
            return false;
        }
        match decoded(&[], row) {
            Ok(row) => page.keys.push((segment, row.kind())),
            Err(error) => bad = Some(error),
        }
        bad.is_none()
    })?;
    bad.map_or(Ok(page), Err)
}

/// Visits the children of a node in order, without reading what is below them where that is much.
pub(crate) fn for_each_child(
    rows: &dyn Rows,
    node: &[u8],
    from: Option<&Segment>,
    visit: &mut dyn FnMut(Segment, &[u8]) -> bool,
) -> Result<()> {
    let mut start = node.to_vec();
    if let Some(from) = from {
        key::push(&mut start, from);
    }
    let mut child: Vec<u8> = Vec::new();
    loop {
        let mut passed = 0;
        let mut more = false;
        rows.scan(node, &start, &mut |key, row| {
            if key.len() == node.len() {
                return Ok(true);
            }
            if !child.is_empty() && key.starts_with(&child) {
                passed += 1;
                more = passed > PASS;
                return Ok(!more);
            }
            passed = 0;
            let rest = &key[node.len()..];
            match key::step(rest) {
                Some((segment, len)) if len == rest.len() => {
                    child.clear();
                    child.extend_from_slice(key);
                    Ok(visit(segment, row))
                }
                _ => Err(crate::assemble::damaged(
                    key,
                    "a node without its container",
                )),
            }
        })?;
        if !more {
            return Ok(());
        }
        start = key::end_of(&child);
    }
}

/// A node's row and a value read from it, for those who look at single rows.
pub(crate) fn leaf_of(key: &[u8], row: &Bytes) -> Result<Option<Value>> {
    Ok(match decoded(key, row)? {
        Row::Leaf(value) => Some(value),
        Row::Container(_) => None,
    })
}
