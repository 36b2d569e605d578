//! A document tree of an open database: the handle through which it is read and written.

use crate::edit::{Edit, Expect};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::gate::Gate;
use crate::key;
use crate::meta::{self, Meta};
use crate::parties::Parties;
use crate::path::{Path, Pattern, Segment, ToPath, ToPattern};
use crate::rows::{Over, Rows, Stored};
use crate::schema::{Schema, check_changes};
use crate::source::Source;
use crate::stage::Staged;
use crate::value::Value;
use crate::view::{self, Keys, View};
use crate::watch::{Hub, News};
use crate::writer::{Ids, Writer};
use parking_lot::{Mutex, MutexGuard, RwLock};
use siltstone_kv::{
    Batch, Commit, CommitRanges, Durability, KeyRange, Keyspace, KeyspaceOptions, Kv,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What a tree's keyspace is called: this and the tree's name.
pub const KEYSPACE_PREFIX: &str = "tree:";
/// Longest name of a tree, in bytes.
const MAX_NAME: usize = 200;

/// The trees of an open database.
#[derive(Debug, Clone)]
pub struct Trees {
    kv: Kv,
    open: Arc<OpenTrees>,
}

/// The open trees by name; one for each database.
#[derive(Debug, Default)]
struct OpenTrees(Mutex<BTreeMap<String, Weak<Inner>>>);

/// A document tree: one JSON document of any size, with its history. Clones are handles of the same
/// tree.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(crate) inner: Arc<Inner>,
}

/// What handles of one tree share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) name: Arc<str>,
    pub(crate) kv: Kv,
    pub(crate) keyspace: Keyspace,
    pub(crate) stored: Stored<Keyspace>,
    gate: Mutex<Gate>,
    meta: RwLock<Arc<Meta>>,
    pub(crate) hub: Hub,
    pub(crate) parties: Parties,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its number.
    pub commit: Commit,
    /// The paths of what it appended, in the order of the operations.
    pub appended: Vec<Path>,
}

impl Trees {
    /// The trees of `kv`.
    pub fn of(kv: &Kv) -> Self {
        Self {
            kv: kv.clone(),
            open: kv.companion(),
        }
    }

    /// The names of all trees, in order.
    pub fn names(&self) -> Vec<String> {
        names(&self.kv.keyspaces())
    }

    /// The tree called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownTree`] naming those there are; the store's.
    pub fn open(&self, name: &str) -> Result<Tree> {
        let mut open = self.open.0.lock();
        if let Some(inner) = open.get(name).and_then(Weak::upgrade) {
            return Ok(Tree { inner });
        }
        let keyspace = match self.kv.keyspace(&keyspace_name(name)) {
            Err(siltstone_kv::Error::UnknownKeyspace { .. }) => {
                return Err(Error::UnknownTree {
                    name: name.to_string(),
                    known: self.names().join(", "),
                });
            }
            other => other?,
        };
        let tree = Tree {
            inner: Arc::new(Inner::new(name, &self.kv, keyspace)?),
        };
        open.retain(|_, inner| inner.strong_count() > 0);
        open.insert(name.to_string(), Arc::downgrade(&tree.inner));
        Ok(tree)
    }

    /// Creates a tree; its window, divisor and levels are those of `options`.
    ///
    /// # Errors
    /// [`Error::Name`]; the name is taken; a setting is out of bounds.
    pub fn create(&self, name: &str, options: KeyspaceOptions) -> Result<Tree> {
        check_name(name)?;
        self.kv.create_keyspace(&keyspace_name(name), options)?;
        self.open(name)
    }

    /// The tree called `name`; created with `options` when there is none.
    ///
    /// # Errors
    /// As [`Trees::create`].
    pub fn open_or_create(&self, name: &str, options: KeyspaceOptions) -> Result<Tree> {
        match self.open(name) {
            Err(Error::UnknownTree { .. }) => self.create(name, options),
            other => other,
        }
    }

    /// Changes the settings of a tree while it is in use.
    ///
    /// # Errors
    /// [`Error::UnknownTree`]; a setting is out of bounds.
    pub fn set(&self, name: &str, options: KeyspaceOptions) -> Result<()> {
        self.open(name)?;
        Ok(self.kv.set_keyspace(&keyspace_name(name), options)?)
    }

    /// Drops a tree with its history.
    ///
    /// # Errors
    /// [`Error::UnknownTree`].
    pub fn drop_tree(&self, name: &str) -> Result<()> {
        self.open(name)?;
        self.kv.drop_keyspace(&keyspace_name(name))?;
        self.open.0.lock().remove(name);
        Ok(())
    }
}

/// The keyspace of the tree called `name`.
pub(crate) fn keyspace_name(name: &str) -> String {
    format!("{KEYSPACE_PREFIX}{name}")
}

/// The names of the trees among keyspaces.
pub(crate) fn names(keyspaces: &[String]) -> Vec<String> {
    let names = keyspaces
        .iter()
        .filter_map(|name| name.strip_prefix(KEYSPACE_PREFIX));
    let mut names: Vec<_> = names.map(str::to_string).collect();
    names.sort();
    names
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    let what = match name {
        "" => "a name has at least one byte",
        name if name.len() > MAX_NAME => "a name has at most 200 bytes",
        name if name.chars().any(char::is_control) => "a name has no control characters",
        _ => return Ok(()),
    };
    Err(Error::Name {
        name: name.to_string(),
        what,
    })
}

impl Inner {
    fn new(name: &str, kv: &Kv, keyspace: Keyspace) -> Result<Self> {
        let stored = Stored(keyspace.clone());
        let meta = Meta::read(&stored).map_err(|error| error.of_tree(name))?;
        Ok(Self {
            name: name.into(),
            kv: kv.clone(),
            stored,
            gate: Mutex::default(),
            meta: RwLock::new(Arc::new(meta)),
            hub: Hub::default(),
            parties: Parties::default(),
            keyspace,
        })
    }

    pub(crate) fn meta(&self) -> Arc<Meta> {
        self.meta.read().clone()
    }

    pub(crate) fn source(&self) -> Source {
        Source::Writer(self.keyspace.clone())
    }

    /// Steps into the gate.
    pub(crate) fn enter(&self) -> Result<MutexGuard<'_, Gate>> {
        let mut gate = self.gate.lock();
        gate.enter(&self.kv)?;
        Ok(gate)
    }

    /// The rows as the next commit finds them.
    pub(crate) fn current<'a>(&'a self, gate: &'a Gate) -> Over<'a> {
        Over {
            below: &self.stored,
            changed: gate.pending(),
            cleared: &[],
        }
    }

    /// Commits an edit of the document.
    fn commit(&self, edit: &Edit, durability: Durability) -> Result<Committed> {
        if self.kv.is_short_of_room() {
            self.kv.wait_for_room(edit.bytes())?;
        }
        let mut gate = self.enter()?;
        let meta = self.meta();
        let ids = Ids::new(gate.next_id(self.kv.head()));
        let current = self.current(&gate);
        let mut writer = Writer::new(&current, &meta, ids);
        let appended = writer.run(edit)?;
        if !meta.schemas.is_empty() {
            check_changes(&meta.schemas, &writer.stage)?;
        }
        let staged = writer.finish();
        let news = self
            .hub
            .prepare(&current, &staged.changed, &staged.cleared)?;
        let commit = self.write(gate, staged, news, durability)?;
        Ok(Committed { commit, appended })
    }

    /// Writes what was worked out in the gate, and leaves the gate with the number.
    pub(crate) fn write(
        &self,
        mut gate: MutexGuard<'_, Gate>,
        staged: Staged,
        news: Option<News>,
        durability: Durability,
    ) -> Result<Commit> {
        let mut batch = Batch::new();
        for prefix in &staged.cleared {
            batch.delete_range(&self.keyspace, &KeyRange::prefix(prefix));
        }
        for (key, row) in &staged.changed {
            match row {
                Some(row) => batch.put(&self.keyspace, key, row),
                None => batch.delete(&self.keyspace, key),
            };
        }
        if batch.is_empty() {
            batch.put(&self.keyspace, &meta::NOTHING, b"");
        }
        let known = staged.cleared.is_empty();
        let written = self.kv.write_numbered(&batch, durability, |commit| {
            if let Some(news) = &news {
                news.number(commit);
            }
            gate.numbered(commit, known.then_some(staged.changed));
            drop(gate);
        });
        if let Some(news) = news {
            news.deliver(&written);
        }
        Ok(written?)
    }

    /// Changes a declaration.
    fn declare(
        &self,
        change: impl FnOnce(&Over<'_>, &Meta) -> Result<Staged>,
        durability: Durability,
    ) -> Result<Commit> {
        let mut gate = self.enter()?;
        let meta = self.meta();
        let current = self.current(&gate);
        let mut staged = change(&current, &meta)?;
        let version = gate.next_id(self.kv.head()).to_be_bytes();
        let changed = &mut staged.changed;
        changed.insert(meta::VERSION.to_vec(), Some(version.to_vec().into()));
        let next = Meta::read(&Over {
            below: &self.current(&gate),
            changed: &staged.changed,
            cleared: &[],
        })?;
        // Known to whoever comes into the gate next; when the write fails nothing can be written any
        // more.
        *self.meta.write() = Arc::new(next);
        let written = self.write(gate, staged, None, durability);
        if written.is_err() {
            *self.meta.write() = meta;
        }
        written
    }

    /// As [`Inner::declare`], for scopes.
    pub(crate) fn declare_durably(
        &self,
        change: impl FnOnce(&Over<'_>, &Meta) -> Result<Staged>,
    ) -> Result<Commit> {
        self.declare(change, Durability::Durable)
    }

    fn of_tree<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.of_tree(&self.name))
    }
}

impl Tree {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its settings, those of its keyspace.
    pub fn options(&self) -> KeyspaceOptions {
        self.inner.keyspace.options()
    }

    /// The keyspace that it is stored in. Writing to it past the tree damages the document.
    pub fn keyspace(&self) -> &Keyspace {
        &self.inner.keyspace
    }

    /// Commits an edit, durably: all of it, or, when something of it is refused, nothing. An edit that
    /// changes nothing has a number all the same.
    ///
    /// ```
    /// # use siltstone_kv::{Kv, KeyspaceOptions, Options};
    /// # use siltstone_storage::{Env, MemBlobs};
    /// # let env = Env::system(std::sync::Arc::new(MemBlobs::new()));
    /// # let kv = Kv::open(env, Options::default(), KeyspaceOptions::default(), None).unwrap();
    /// use siltstone_tree::{Edit, Expect, Trees};
    /// let tree = Trees::of(&kv).create("shop", KeyspaceOptions::default())?;
    /// tree.set("stock.apples", 5)?;
    /// let sale = Edit::new()
    ///     .expect("stock.apples", Expect::Value(5.into()))
    ///     .increment("stock.apples", -1)
    ///     .append("sold", "apple");
    /// let sold = tree.commit(&sale)?;
    /// assert_eq!(tree.get("")?.to_string(), r#"{"sold":["apple"],"stock":{"apples":4}}"#);
    /// assert_eq!(sold.appended[0].to_string(), "sold[0]");
    /// assert!(tree.commit(&sale).is_err(), "there are only four left");
    /// # Ok::<(), siltstone_tree::Error>(())
    /// ```
    ///
    /// # Errors
    /// What an operation or a precondition is refused with: then nothing is written and no number is
    /// used. Those of a write.
    pub fn commit(&self, edit: &Edit) -> Result<Committed> {
        self.commit_with(edit, Durability::Durable)
    }

    /// As [`Tree::commit`], as durable as asked.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub fn commit_with(&self, edit: &Edit, durability: Durability) -> Result<Committed> {
        self.inner.of_tree(self.inner.commit(edit, durability))
    }

    fn one(&self, edit: Edit) -> Result<Commit> {
        Ok(self.commit(&edit)?.commit)
    }

    /// Merges `value` into what is at `path`, as RFC 7396 has it: objects field by field, null
    /// deletes.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub fn patch(&self, path: impl ToPath, value: impl Into<Value>) -> Result<Commit> {
        self.one(Edit::new().patch(path, value))
    }

    /// Sets what is at `path`.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub fn set(&self, path: impl ToPath, value: impl Into<Value>) -> Result<Commit> {
        self.one(Edit::new().set(path, value))
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// As [`Tree::commit`]; [`Error::NotFound`].
    pub fn delete(&self, path: impl ToPath) -> Result<Commit> {
        self.one(Edit::new().delete(path))
    }

    /// Puts a value before element `index` of a dense array.
    ///
    /// # Errors
    /// As [`Tree::commit`]; [`Error::OutOfRange`].
    pub fn insert(
        &self,
        array: impl ToPath,
        index: u64,
        value: impl Into<Value>,
    ) -> Result<Commit> {
        self.one(Edit::new().insert(array, index, value))
    }

    /// Puts a value behind the last element of an array. Answers its path too.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub fn append(&self, array: impl ToPath, value: impl Into<Value>) -> Result<Committed> {
        self.commit(&Edit::new().append(array, value))
    }

    /// Adds to a number; where there is none yet, it counts from 0.
    ///
    /// # Errors
    /// As [`Tree::commit`]; [`Error::Overflow`].
    pub fn increment(&self, path: impl ToPath, delta: impl Into<Value>) -> Result<Commit> {
        self.one(Edit::new().increment(path, delta))
    }

    /// Applies an RFC 6902 patch whose pointers start at `path`.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub fn json_patch(&self, path: impl ToPath, patch: json_patch::Patch) -> Result<Commit> {
        self.one(Edit::new().json_patch(path, patch))
    }

    /// Sets what is at `path` if it is what is expected.
    ///
    /// # Errors
    /// [`Error::Unexpected`] saying what was found; as [`Tree::commit`].
    pub fn set_if(
        &self,
        path: impl ToPath,
        expect: Expect,
        value: impl Into<Value>,
    ) -> Result<Commit> {
        let path = path.to_path()?;
        self.one(Edit::new().expect(&path, expect).set(&path, value))
    }

    /// The value at `path` now.
    ///
    /// # Errors
    /// [`Error::NotFound`] naming what there is on the way; the store's.
    pub fn get(&self, path: impl ToPath) -> Result<Value> {
        self.inner
            .of_tree(view::get(&self.inner.stored, &path.to_path()?))
    }

    /// The value at `path` as it was at `commit`.
    ///
    /// # Errors
    /// As [`Tree::get`]; [`siltstone_kv::Error::NotRetained`] naming the nearest readable commits.
    pub fn get_at(&self, path: impl ToPath, commit: Commit) -> Result<Value> {
        let snapshot = Stored(self.inner.keyspace.at_commit(commit)?);
        self.inner.of_tree(view::get(&snapshot, &path.to_path()?))
    }

    /// The value at `path` now; `None` when there is nothing.
    ///
    /// # Errors
    /// The store's.
    pub fn find(&self, path: impl ToPath) -> Result<Option<Value>> {
        self.inner
            .of_tree(view::find(&self.inner.stored, &path.to_path()?))
    }

    /// The document as it is now, held readable.
    ///
    /// # Errors
    /// Closed.
    pub fn view(&self) -> Result<View> {
        self.inner.source().view(&self.inner.name, None)
    }

    /// The document as it was at `commit`, held readable.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::NotRetained`] naming the nearest readable commits.
    pub fn at(&self, commit: Commit) -> Result<View> {
        self.inner.source().view(&self.inner.name, Some(commit))
    }

    /// What passes `filter` now; see [`View::matching`].
    ///
    /// # Errors
    /// As there.
    pub fn matching(&self, pattern: impl ToPattern, filter: &Filter) -> Result<Vec<(Path, Value)>> {
        self.view()?.matching(pattern, filter)
    }

    /// The names in a container now; see [`View::keys`].
    ///
    /// # Errors
    /// As there.
    pub fn keys(&self, path: impl ToPath, from: Option<&Segment>, limit: usize) -> Result<Keys> {
        self.view()?.keys(path, from, limit)
    }

    /// The newest visible commit of the database.
    pub fn head(&self) -> Commit {
        self.inner.kv.head()
    }

    /// The commits at which the document can be read.
    ///
    /// # Errors
    /// Closed.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        self.inner.source().retained()
    }

    /// Declares the arrays that `pattern` names as keyed by the field `field` of their elements: an
    /// element is then named by its key, as in `a(key)`, and gets one when it comes without.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is a dense array with elements already.
    pub fn declare_keyed(&self, pattern: impl ToPattern, field: &str) -> Result<Commit> {
        let pattern = pattern.to_pattern()?;
        let declare = |rows: &Over<'_>, _: &Meta| {
            for path in view::matching(rows, &pattern)? {
                if let Some(Value::Array(items)) = view::find(rows, &path)?
                    && !items.is_empty()
                    && matches!(&rows.get(&key::encode(&path))?, Some(row) if row[..] == crate::row::container(crate::row::Kind::Dense))
                {
                    return Err(Error::Refused {
                        path,
                        what: "a dense array with elements is there; delete it, declare, and set it again".into(),
                    });
                }
            }
            let row = Some(field.as_bytes().to_vec().into());
            Ok(Staged::of([(meta::keyed_key(&pattern), row)]))
        };
        self.inner.of_tree(self.inner.declare_durably(declare))
    }

    /// Takes back [`Tree::declare_keyed`]; keyed arrays that are there stay.
    ///
    /// # Errors
    /// Those of a write.
    pub fn undeclare_keyed(&self, pattern: impl ToPattern) -> Result<Commit> {
        let pattern = pattern.to_pattern()?;
        self.inner
            .declare_durably(|_, _| Ok(Staged::of([(meta::keyed_key(&pattern), None)])))
    }

    /// The declared keyed arrays with their key fields.
    pub fn keyed(&self) -> Vec<(Pattern, String)> {
        self.inner.meta().keyed.clone()
    }

    /// Attaches a JSON Schema to the nodes that `pattern` names: a commit that breaks it is refused.
    /// The schema must hold for what is there. Another one at the same pattern is replaced, in one
    /// commit.
    ///
    /// # Errors
    /// [`Error::BadSchema`]; [`Error::Schema`] naming what of the document breaks it.
    pub fn set_schema(&self, pattern: impl ToPattern, schema: &str) -> Result<Commit> {
        let pattern = pattern.to_pattern()?;
        let compiled = Schema::compile(pattern.clone(), schema)?;
        let declare = |rows: &Over<'_>, _: &Meta| {
            compiled.check_all(rows)?;
            let row = Some(schema.as_bytes().to_vec().into());
            Ok(Staged::of([(meta::schema_key(&pattern), row)]))
        };
        self.inner.of_tree(self.inner.declare_durably(declare))
    }

    /// Takes a schema away.
    ///
    /// # Errors
    /// [`Error::BadSchema`] when there is none at this pattern.
    pub fn remove_schema(&self, pattern: impl ToPattern) -> Result<Commit> {
        let pattern = pattern.to_pattern()?;
        self.inner.declare_durably(|_, meta| {
            if !meta.schemas.iter().any(|schema| schema.at == pattern) {
                return Err(Error::BadSchema {
                    path: pattern.to_string(),
                    what: "there is none".into(),
                });
            }
            Ok(Staged::of([(meta::schema_key(&pattern), None)]))
        })
    }

    /// The schemas with the patterns that they are attached to.
    pub fn schemas(&self) -> Vec<(Pattern, String)> {
        let meta = self.inner.meta();
        let schemas = meta.schemas.iter();
        schemas
            .map(|schema| (schema.at.clone(), schema.text.clone()))
            .collect()
    }
}

impl Source {
    /// The document at `commit`, or now.
    pub(crate) fn view(&self, name: &Arc<str>, commit: Option<Commit>) -> Result<View> {
        use siltstone_kv::Read;
        let snapshot = match commit {
            Some(commit) => self.at_commit(commit)?,
            None => self.snapshot()?,
        };
        let commit = snapshot.commit()?;
        Ok(View::new(Arc::new(Stored(snapshot)), commit, name.clone()))
    }
}
