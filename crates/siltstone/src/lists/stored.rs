//! One stored list: what it shows in memory, what happened to it in the database.

use super::ListKind;
use super::record::{self, damaged, document_key, update_key};
use crate::blocking::Reader;
use crate::error::{Error, Result};
use parking_lot::Mutex;
use siltstone_kv::{Batch, Commit, Durability, Keyspace, Read};
use siltstone_list::{
    Applied, Chars, CompactionStats, Content, Frontier, Sequence, Session, Values,
};
use siltstone_storage::Env;
use std::sync::Arc;

/// Updates weigh less than this, or less than the document, before a new document takes their place.
const UPDATES_BYTES: usize = 64 << 10;

/// What can be stored: lists and texts.
pub trait Store: Content + Send + Sync + 'static {
    #[doc = "Which of the two it is."]
    const KIND: ListKind;
}

impl Store for Values {
    const KIND: ListKind = ListKind::List;
}

impl Store for Chars {
    const KIND: ListKind = ListKind::Text;
}

/// The list or text `name` as the newest commit a reader sees has it, for reading only: beside the
/// process that writes it.
///
/// # Errors
/// [`Error::UnknownList`], [`Error::ListKind`]; the store's; damage.
pub fn read<C: Store>(reader: &Reader, name: &str) -> Result<Sequence<C>> {
    let keyspace = match reader.keyspace(&super::keyspace_name(name)) {
        Err(Error::Kv(siltstone_kv::Error::UnknownKeyspace { .. })) => {
            return Err(Error::UnknownList {
                name: name.to_string(),
                known: super::names(reader).join(", "),
            });
        }
        other => other?,
    };
    let snapshot = keyspace.at_commit(reader.kv().head())?;
    if record::kind(name, &snapshot)? != C::KIND {
        return Err(Error::ListKind {
            name: name.to_string(),
            wanted: C::KIND,
        });
    }
    Ok(State::load(name, &snapshot)?.sequence)
}

/// What an edit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited<T> {
    /// What the edit returned.
    pub value: T,
    /// The commit it is in; nothing if it made no transaction.
    pub commit: Option<Commit>,
}

/// Figures of a stored list.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ListStats {
    /// Elements it shows.
    pub len: usize,
    /// Its runs.
    pub compaction: CompactionStats,
    /// Sessions that wrote in it.
    pub sessions: usize,
    /// Their transactions.
    pub transactions: u64,
    /// Updates stored beside the document, and their bytes.
    pub updates: usize,
    /// Bytes of those.
    pub update_bytes: usize,
    /// Bytes of the stored document.
    pub document_bytes: usize,
    /// Memory it takes, in bytes, about.
    pub memory_bytes: usize,
    /// Operations that wait for others which have not come.
    pub pending: usize,
}

pub(super) struct Inner<C: Store> {
    pub(super) name: String,
    pub(super) keyspace: Keyspace,
    pub(super) env: Env,
    pub(super) state: Arc<Mutex<State<C>>>,
}

pub(super) struct State<C: Store> {
    pub(super) sequence: Sequence<C>,
    /// The number of the newest update, of the document, and what weighs what.
    pub(super) number: u64,
    document: u64,
    document_bytes: usize,
    update_bytes: usize,
    /// Memory is ahead of the database: a write failed. It is read again before anything else.
    pub(super) stale: bool,
    /// An edit is under way. Found set later, it panicked, and left who knows what.
    editing: bool,
}

/// A list or a text of a database. Clones and other handles of the same name share what it shows.
///
/// Edits are made with [`edit`](Self::edit), durably, each call one commit. A process that dies has
/// lost nothing for which `edit` or [`apply`](Self::apply) returned.
#[derive(Clone)]
pub struct Stored<C: Store> {
    pub(super) inner: Arc<Inner<C>>,
    pub(super) session: Session,
}

/// A stored list of JSON values.
pub type StoredList = Stored<Values>;
/// A stored text.
pub type StoredText = Stored<Chars>;

impl<C: Store> Inner<C> {
    pub(super) fn load(name: &str, keyspace: Keyspace, env: Env) -> Result<Self> {
        let state = State::load(name, &keyspace)?;
        Ok(Self {
            name: name.to_string(),
            keyspace,
            env,
            state: Arc::new(Mutex::new(state)),
        })
    }
}

impl<C: Store> State<C> {
    pub(super) fn load(name: &str, keyspace: &impl Read) -> Result<Self> {
        let rows = record::read(name, keyspace)?;
        let reader = Session::new("", 0);
        let (document, document_bytes, mut sequence) = match rows.document {
            Some((number, bytes)) => {
                let sequence = Sequence::decode(&bytes, reader)
                    .map_err(|error| damaged(name, format!("document {number}: {error}")))?;
                (number, bytes.len(), sequence)
            }
            None => (0, 0, Sequence::new(reader)),
        };
        let (mut number, mut update_bytes) = (document, 0);
        for (at, bytes) in rows.updates {
            sequence
                .apply(&bytes)
                .map_err(|error| damaged(name, format!("update {at}: {error}")))?;
            (number, update_bytes) = (at, update_bytes + bytes.len());
        }
        Ok(Self {
            sequence,
            number,
            document,
            document_bytes,
            update_bytes,
            stale: false,
            editing: false,
        })
    }
}

impl<C: Store> Stored<C> {
    pub(super) fn new(inner: Arc<Inner<C>>, author: &str, place: &str) -> Result<Self> {
        let nonce = record::nonce(&inner.keyspace, author, place, || inner.env.rng.next())?;
        Ok(Self {
            session: Session::new(author, nonce),
            inner,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Who edits through this handle.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Reads the list as it is now. Keep it short: edits wait meanwhile.
    ///
    /// # Errors
    /// The store's and damage, if it has to be read again after a write that failed.
    pub fn read<T>(&self, read: impl FnOnce(&Sequence<C>) -> T) -> Result<T> {
        let mut state = self.inner.state.lock();
        self.refresh(&mut state)?;
        Ok(read(&state.sequence))
    }

    /// Makes edits: all transactions that `edit` makes are in one durable commit, also those before one
    /// that was refused. When the commit fails, none of them is there.
    ///
    /// ```
    /// # fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let db = siltstone::blocking::Database::open(dir.path().to_str().expect("a plain path"))?;
    /// let todo = db.lists().open_or_create_list("todo", "ann")?;
    /// todo.edit(|list| list.append("write it down".into()))?;
    /// todo.edit(|list| list.move_to(0, 0))?;
    /// assert_eq!(todo.read(|list| list.to_vec())?, ["write it down"]);
    /// # db.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `edit` was refused with, as [`Error::List`]; those of a write.
    pub fn edit<T>(
        &self,
        edit: impl FnOnce(&mut Sequence<C>) -> siltstone_list::Result<T>,
    ) -> Result<Edited<T>> {
        let mut state = self.inner.state.lock();
        let (value, update) = self.try_edit(&mut state, edit)?;
        let commit = update.map(|update| self.store(&mut state, &update));
        Ok(Edited {
            commit: commit.transpose()?,
            value: value?,
        })
    }

    /// Edits memory alone. What the edit answered, and what it changed, which is still to be stored.
    pub(super) fn try_edit<T>(
        &self,
        state: &mut State<C>,
        edit: impl FnOnce(&mut Sequence<C>) -> siltstone_list::Result<T>,
    ) -> Result<(siltstone_list::Result<T>, Option<Vec<u8>>)> {
        self.refresh(state)?;
        let before = state.sequence.frontier();
        state.sequence.set_session(self.session.clone());
        state.sequence.set_time(self.inner.env.clock.now().0 / 1000);
        state.editing = true;
        let value = edit(&mut state.sequence);
        state.editing = false;
        let changed = state.sequence.frontier() != before;
        let update = changed.then(|| state.sequence.updates_since(&before));
        Ok((value, update.transpose()?))
    }

    /// Takes in what another copy sent, durably, in one commit; see [`Sequence::apply`].
    ///
    /// # Errors
    /// As [`Sequence::apply`], as [`Error::List`]; those of a write.
    pub fn apply(&self, bytes: &[u8]) -> Result<Edited<Applied>> {
        let mut state = self.inner.state.lock();
        self.refresh(&mut state)?;
        let waited = state.sequence.pending();
        let before = state.sequence.frontier();
        // Bytes that are refused halfway must leave nothing behind that is not stored.
        let applied = match state.sequence.apply(bytes) {
            Ok(applied) => applied,
            Err(error) => {
                state.stale = true;
                return Err(error.into());
            }
        };
        let changed = state.sequence.frontier() != before || state.sequence.pending() != waited;
        let commit = if changed {
            Some(self.store(&mut state, bytes)?)
        } else {
            None
        };
        Ok(Edited {
            value: applied,
            commit,
        })
    }

    /// Its version.
    ///
    /// # Errors
    /// As [`Stored::read`].
    pub fn frontier(&self) -> Result<Frontier> {
        self.read(Sequence::frontier)
    }

    /// What a copy of version `frontier` has not; to be applied there.
    ///
    /// # Errors
    /// As [`Sequence::missing_since`]; as [`Stored::read`].
    pub fn missing_since(&self, frontier: &Frontier) -> Result<Vec<u8>> {
        Ok(self.read(|sequence| sequence.missing_since(frontier))??)
    }

    /// Exchanges with another copy what either has not, and says what came of it: here, and there.
    ///
    /// # Errors
    /// As [`Stored::apply`], of either.
    pub fn sync_with(&self, other: &Self) -> Result<(Applied, Applied)> {
        let theirs = other.missing_since(&self.frontier()?)?;
        let here = self.apply(&theirs)?.value;
        let ours = self.missing_since(&other.frontier()?)?;
        let there = other.apply(&ours)?.value;
        Ok((here, there))
    }

    /// Stores a new document in the place of all updates, in one commit. Done as needed; a call
    /// before a backup makes that smaller.
    ///
    /// # Errors
    /// Those of a write.
    pub fn compact(&self) -> Result<()> {
        let mut state = self.inner.state.lock();
        self.refresh(&mut state)?;
        self.compact_now(&mut state)
    }

    /// Figures of the list and of how it is stored.
    ///
    /// # Errors
    /// As [`Stored::read`].
    pub fn stats(&self) -> Result<ListStats> {
        let mut state = self.inner.state.lock();
        self.refresh(&mut state)?;
        let frontier = state.sequence.frontier();
        Ok(ListStats {
            len: state.sequence.len(),
            compaction: state.sequence.compaction_stats(),
            sessions: frontier.iter().count(),
            transactions: frontier.iter().map(|(_, count)| u64::from(count)).sum(),
            updates: usize::try_from(state.number - state.document).unwrap_or(usize::MAX),
            update_bytes: state.update_bytes,
            document_bytes: state.document_bytes,
            memory_bytes: state.sequence.heap_bytes(),
            pending: state
                .sequence
                .pending()
                .iter()
                .map(|waiting| waiting.txs as usize)
                .sum(),
        })
    }

    /// Commits `update`; memory has it already.
    fn store(&self, state: &mut State<C>, update: &[u8]) -> Result<Commit> {
        let (number, keyspace) = (state.number + 1, &self.inner.keyspace);
        match keyspace.put_with(&update_key(number), update, Durability::Durable) {
            Ok(put) => {
                self.stored(state, number, update.len())?;
                Ok(put.commit)
            }
            Err(error) => {
                state.stale = true;
                Err(error.into())
            }
        }
    }

    /// Counts updates up to `number`, of so many bytes together, as stored.
    pub(super) fn stored(&self, state: &mut State<C>, number: u64, bytes: usize) -> Result<()> {
        state.number = number;
        state.update_bytes += bytes;
        if state.update_bytes > UPDATES_BYTES.max(state.document_bytes) {
            self.compact_now(state)?;
        }
        Ok(())
    }

    fn compact_now(&self, state: &mut State<C>) -> Result<()> {
        if state.number == state.document {
            return Ok(());
        }
        let bytes = state.sequence.encode()?;
        let keyspace = &self.inner.keyspace;
        let mut batch = Batch::new();
        batch.put(keyspace, &document_key(state.number), &bytes);
        batch.delete(keyspace, &document_key(state.document));
        for number in state.document + 1..=state.number {
            batch.delete(keyspace, &update_key(number));
        }
        keyspace.database().write(&batch, Durability::Durable)?;
        (state.document, state.document_bytes, state.update_bytes) = (state.number, bytes.len(), 0);
        Ok(())
    }

    /// Reads the list again if memory is, or may be, ahead of the database.
    fn refresh(&self, state: &mut State<C>) -> Result<()> {
        if state.stale || state.editing {
            *state = State::load(&self.inner.name, &self.inner.keyspace)?;
        }
        Ok(())
    }
}

impl<C: Store> std::fmt::Debug for Stored<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored")
            .field("name", &self.inner.name)
            .field("session", &self.session)
            .finish()
    }
}

impl From<siltstone_list::Error> for Error {
    fn from(error: siltstone_list::Error) -> Self {
        Self::List(error)
    }
}
