//! Lists and texts that live in the database. Each has a keyspace of its own with what it is, a
//! document as of some update, and the updates since; an edit is one commit that adds its update.
//! Opening loads the document and applies what came after, which is kept short: once the updates
//! outweigh the document, a new document takes their place in one commit.

mod edits;
mod record;
mod stored;

pub use edits::ListEdits;
pub use stored::{Edited, ListStats, Store, Stored, StoredList, StoredText, read};

use crate::blocking::Reader;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use record::Kind;
use siltstone_kv::{Commit, Keyspace, KeyspaceOptions, Kv, Transaction};
use siltstone_list::{Chars, Values};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use stored::Inner;

/// What a list's keyspace is called: this and the list's name.
pub const KEYSPACE_PREFIX: &str = "list:";
/// Longest name of a list, in bytes.
const MAX_NAME: usize = 200;

/// The open lists by name; one for each database.
#[derive(Default)]
struct OpenLists {
    by_name: Mutex<BTreeMap<String, Weak<dyn Any + Send + Sync>>>,
    /// Held while a transaction with lists commits: two that hold lists in another order must not wait
    /// for each other.
    transactions: Mutex<()>,
}

/// The stored lists and texts of an open database.
#[derive(Clone)]
pub struct Lists {
    kv: Kv,
    /// Where the database lives.
    place: String,
    open: Arc<OpenLists>,
}

/// What a stored list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// A list of JSON values.
    List,
    /// A text.
    Text,
}

impl Lists {
    /// The lists of `kv`, which lives at `place`.
    pub(crate) fn of(kv: &Kv, place: String) -> Self {
        Self {
            kv: kv.clone(),
            place,
            open: kv.companion(),
        }
    }

    /// The names of all lists and texts, in order, and which each is.
    ///
    /// # Errors
    /// The store's; damage.
    pub fn names(&self) -> Result<Vec<(String, ListKind)>> {
        let mut names = Vec::new();
        for keyspace in self.kv.keyspaces() {
            if let Some(name) = keyspace.strip_prefix(KEYSPACE_PREFIX) {
                let kind = record::kind(name, &self.kv.keyspace(&keyspace)?)?;
                names.push((name.to_string(), kind));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// The list `name`; its edits from here are `author`'s.
    ///
    /// # Errors
    /// [`Error::UnknownList`] naming those there are; [`Error::ListKind`] of a text; the store's; damage.
    pub fn list(&self, name: &str, author: &str) -> Result<StoredList> {
        self.open::<Values>(name, author, false)
    }

    /// The list `name`, created when there is none.
    ///
    /// # Errors
    /// As [`Lists::list`]; [`Error::ListName`].
    pub fn open_or_create_list(&self, name: &str, author: &str) -> Result<StoredList> {
        self.open::<Values>(name, author, true)
    }

    /// The text `name`; its edits from here are `author`'s.
    ///
    /// # Errors
    /// As [`Lists::list`].
    pub fn text(&self, name: &str, author: &str) -> Result<StoredText> {
        self.open::<Chars>(name, author, false)
    }

    /// The text `name`, created when there is none.
    ///
    /// # Errors
    /// As [`Lists::open_or_create_list`].
    pub fn open_or_create_text(&self, name: &str, author: &str) -> Result<StoredText> {
        self.open::<Chars>(name, author, true)
    }

    /// Drops a list or a text with its history.
    ///
    /// # Errors
    /// [`Error::UnknownList`]; the store's.
    pub fn drop(&self, name: &str) -> Result<()> {
        let mut open = self.open.by_name.lock();
        self.keyspace(name)?;
        open.remove(name);
        Ok(self.kv.drop_keyspace(&keyspace_name(name))?)
    }

    /// Makes edits of lists part of `transaction` and commits it, durably: its writes and the edits are
    /// one commit, or nothing is. `edit` sees the lists as they are now, not as they were when the
    /// transaction began; nobody else edits them meanwhile, so keep it short.
    ///
    /// ```
    /// # fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let db = siltstone::blocking::Database::open(dir.path().to_str().expect("a plain path"))?;
    /// use siltstone::Isolation;
    /// let todo = db.lists().open_or_create_list("todo", "ann")?;
    /// let transaction = db.begin(Isolation::Serializable)?;
    /// transaction.put(db.default_keyspace(), b"todo/count", b"1")?;
    /// let ((), commit) = db.lists().commit(&transaction, |lists| {
    ///     lists.edit(&todo, |todo| todo.append("sweep".into()))
    /// })?;
    /// assert_eq!(todo.read(|list| list.len())?, 1);
    /// assert_eq!(db.get_at("todo/count", commit)?.as_deref(), Some(&b"1"[..]));
    /// # db.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `edit` answers, and what an edit was refused with, as [`Error::List`]; those of a
    /// transaction's commit. The lists are then as they were, and the transaction is over.
    pub fn commit<T>(
        &self,
        transaction: &Transaction,
        edit: impl FnOnce(&mut ListEdits<'_>) -> Result<T>,
    ) -> Result<(T, Commit)> {
        let _alone = self.open.transactions.lock();
        let mut edits = ListEdits::new(transaction);
        match edit(&mut edits) {
            Ok(value) => Ok((value, edits.commit()?)),
            Err(error) => {
                edits.give_up();
                Err(error)
            }
        }
    }

    fn open<C: Store>(&self, name: &str, author: &str, create: bool) -> Result<Stored<C>> {
        let mut open = self.open.by_name.lock();
        if let Some(inner) = open.get(name).and_then(Weak::upgrade) {
            let wrong = |_| Error::ListKind {
                name: name.to_string(),
                wanted: C::KIND,
            };
            let inner: Arc<Inner<C>> = inner.downcast().map_err(wrong)?;
            return Stored::new(inner, author, &self.place);
        }
        let keyspace = match self.keyspace(name) {
            Err(Error::UnknownList { .. }) if create => self.create(name, C::KIND)?,
            other => other?,
        };
        if record::kind(name, &keyspace)? != C::KIND {
            return Err(Error::ListKind {
                name: name.to_string(),
                wanted: C::KIND,
            });
        }
        let inner = Arc::new(Inner::<C>::load(name, keyspace, self.kv.env().clone())?);
        let any: Arc<dyn Any + Send + Sync> = inner.clone();
        open.retain(|_, inner| inner.strong_count() > 0);
        open.insert(name.to_string(), Arc::downgrade(&any));
        Stored::new(inner, author, &self.place)
    }

    fn create(&self, name: &str, kind: ListKind) -> Result<Keyspace> {
        let fits =
            !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
        if !fits {
            return Err(Error::ListName {
                name: name.to_string(),
                limit: MAX_NAME,
            });
        }
        let keyspace = self
            .kv
            .create_keyspace(&keyspace_name(name), KeyspaceOptions::default())?;
        Kind::write(&keyspace, kind)?;
        Ok(keyspace)
    }

    fn keyspace(&self, name: &str) -> Result<Keyspace> {
        match self.kv.keyspace(&keyspace_name(name)) {
            Err(siltstone_kv::Error::UnknownKeyspace { .. }) => {
                let known = self
                    .names()?
                    .into_iter()
                    .map(|(name, _)| name)
                    .collect::<Vec<_>>();
                Err(Error::UnknownList {
                    name: name.to_string(),
                    known: known.join(", "),
                })
            }
            other => Ok(other?),
        }
    }
}

impl std::fmt::Debug for Lists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lists").finish_non_exhaustive()
    }
}

fn keyspace_name(name: &str) -> String {
    format!("{KEYSPACE_PREFIX}{name}")
}

/// The names of the lists and texts a reader sees, in order.
pub fn names(reader: &Reader) -> Vec<String> {
    let keyspaces = reader.kv().keyspaces();
    let mut names: Vec<String> = keyspaces
        .iter()
        .filter_map(|name| Some(name.strip_prefix(KEYSPACE_PREFIX)?.to_string()))
        .collect();
    names.sort();
    names
}

/// What the list or text `name` is that a reader sees.
///
/// # Errors
/// [`Error::UnknownList`]; the store's; damage.
pub fn kind(reader: &Reader, name: &str) -> Result<ListKind> {
    match reader.keyspace(&keyspace_name(name)) {
        Err(Error::Kv(siltstone_kv::Error::UnknownKeyspace { .. })) => Err(Error::UnknownList {
            name: name.to_string(),
            known: names(reader).join(", "),
        }),
        other => record::kind(name, &other?.at_commit(reader.kv().head())?),
    }
}
