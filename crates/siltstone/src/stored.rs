//! Stored lists for asynchronous programs: every call goes to the runtime's blocking threads, since an
//! edit waits for its commit and a read may wait for an edit.

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::lists::{self, Edited, ListEdits, ListKind, ListStats, Store};
use crate::transaction::Transaction;
use crate::wait::wait;
use siltstone_kv::Commit;
use siltstone_list::{Applied, Chars, Frontier, Sequence, Session, Values};

/// The stored lists and texts of a database: to list, open, create and drop them.
///
/// ```
/// # #[tokio::main] async fn main() -> siltstone::Result<()> {
/// # let dir = tempfile::tempdir().expect("a folder");
/// # let db = siltstone::Database::open(dir.path().to_str().expect("a plain path")).await?;
/// let todo = db.lists().open_or_create_list("todo", "ann").await?;
/// todo.edit(|list| list.append("write it down".into())).await?;
/// assert_eq!(todo.read(|list| list.to_vec()).await?, ["write it down"]);
/// # db.close().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Lists(pub(crate) lists::Lists);

/// A list or a text of a database.
#[derive(Debug, Clone)]
pub struct Stored<C: Store>(lists::Stored<C>);

/// A stored list of JSON values.
pub type StoredList = Stored<Values>;
/// A stored text.
pub type StoredText = Stored<Chars>;

impl Lists {
    /// The same lists for code that blocks.
    pub fn blocking(&self) -> &lists::Lists {
        &self.0
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&lists::Lists) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let lists = self.0.clone();
        wait(move || work(&lists)).await?
    }

    /// The names of all lists and texts, in order, and which each is.
    ///
    /// # Errors
    /// The store's; damage.
    pub async fn names(&self) -> Result<Vec<(String, ListKind)>> {
        self.with(lists::Lists::names).await
    }

    /// The list `name`; its edits from here are `author`'s.
    ///
    /// # Errors
    /// [`Error::UnknownList`], [`Error::ListKind`]; the store's; damage.
    pub async fn list(&self, name: &str, author: &str) -> Result<StoredList> {
        let (name, author) = (name.to_string(), author.to_string());
        let list = self.with(move |lists| lists.list(&name, &author)).await;
        list.map(Stored)
    }

    /// The list `name`, created when there is none.
    ///
    /// # Errors
    /// As [`Lists::list`]; [`Error::ListName`].
    pub async fn open_or_create_list(&self, name: &str, author: &str) -> Result<StoredList> {
        let (name, author) = (name.to_string(), author.to_string());
        let open = move |lists: &lists::Lists| lists.open_or_create_list(&name, &author);
        self.with(open).await.map(Stored)
    }

    /// The text `name`; its edits from here are `author`'s.
    ///
    /// # Errors
    /// As [`Lists::list`].
    pub async fn text(&self, name: &str, author: &str) -> Result<StoredText> {
        let (name, author) = (name.to_string(), author.to_string());
        let text = self.with(move |lists| lists.text(&name, &author)).await;
        text.map(Stored)
    }

    /// The text `name`, created when there is none.
    ///
    /// # Errors
    /// As [`Lists::open_or_create_list`].
    pub async fn open_or_create_text(&self, name: &str, author: &str) -> Result<StoredText> {
        let (name, author) = (name.to_string(), author.to_string());
        let open = move |lists: &lists::Lists| lists.open_or_create_text(&name, &author);
        self.with(open).await.map(Stored)
    }

    /// Drops a list or a text with its history.
    ///
    /// # Errors
    /// [`Error::UnknownList`]; the store's.
    pub async fn drop(&self, name: &str) -> Result<()> {
        let name = name.to_string();
        self.with(move |lists| lists.drop(&name)).await
    }

    /// Makes edits of lists part of `transaction` and commits it: its writes and the edits are one
    /// commit, or nothing is; see [`lists::Lists::commit`].
    ///
    /// # Errors
    /// As there.
    pub async fn commit<T: Send + 'static>(
        &self,
        transaction: Transaction,
        edit: impl FnOnce(&mut ListEdits<'_>) -> Result<T> + Send + 'static,
    ) -> Result<(T, Commit)> {
        let transaction = transaction.hand_over();
        self.with(move |lists| lists.commit(&transaction, edit))
            .await
    }
}

impl<C: Store> Stored<C> {
    /// The same list for code that blocks.
    pub fn blocking(&self) -> &lists::Stored<C> {
        &self.0
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Who edits through this handle.
    pub fn session(&self) -> &Session {
        self.0.session()
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&lists::Stored<C>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let list = self.0.clone();
        wait(move || work(&list)).await?
    }

    /// Reads the list as it is now. Keep it short: edits wait meanwhile.
    ///
    /// # Errors
    /// The store's and damage, if it has to be read again after a write that failed.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Sequence<C>) -> T + Send + 'static,
    ) -> Result<T> {
        self.with(move |list| list.read(read)).await
    }

    /// Makes edits, all in one durable commit; see [`lists::Stored::edit`].
    ///
    /// # Errors
    /// What `edit` was refused with, as [`Error::List`]; those of a write.
    pub async fn edit<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&mut Sequence<C>) -> siltstone_list::Result<T> + Send + 'static,
    ) -> Result<Edited<T>> {
        self.with(move |list| list.edit(edit)).await
    }

    /// Takes in what another copy sent, durably, in one commit; see [`Sequence::apply`].
    ///
    /// # Errors
    /// As [`Sequence::apply`], as [`Error::List`]; those of a write.
    pub async fn apply(&self, bytes: Vec<u8>) -> Result<Edited<Applied>> {
        self.with(move |list| list.apply(&bytes)).await
    }

    /// Its version.
    ///
    /// # Errors
    /// As [`Stored::read`].
    pub async fn frontier(&self) -> Result<Frontier> {
        self.with(lists::Stored::frontier).await
    }

    /// What a copy of version `frontier` has not; to be applied there.
    ///
    /// # Errors
    /// As [`Sequence::missing_since`]; as [`Stored::read`].
    pub async fn missing_since(&self, frontier: Frontier) -> Result<Vec<u8>> {
        self.with(move |list| list.missing_since(&frontier)).await
    }

    /// Stores a new document in the place of all updates, in one commit.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn compact(&self) -> Result<()> {
        self.with(lists::Stored::compact).await
    }

    /// Figures of the list and of how it is stored.
    ///
    /// # Errors
    /// As [`Stored::read`].
    pub async fn stats(&self) -> Result<ListStats> {
        self.with(lists::Stored::stats).await
    }
}
