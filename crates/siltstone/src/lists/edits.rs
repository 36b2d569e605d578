//! Edits of lists that are part of a transaction. Each list edited is locked until the transaction is
//! over, so that its updates have the numbers that follow, and memory and database agree again
//! before anyone looks.

use super::record::update_key;
use super::stored::{State, Store, Stored};
use crate::error::Result;
use parking_lot::{ArcMutexGuard, RawMutex};
use siltstone_kv::{Commit, Durability, Transaction};
use siltstone_list::Sequence;
use std::any::Any;

/// The lists a transaction edits; see [`Lists::commit`](super::Lists::commit).
pub struct ListEdits<'a> {
    transaction: &'a Transaction,
    held: Vec<Box<dyn Held>>,
}

/// A list that is locked, with what the transaction did to it.
struct HeldList<C: Store> {
    list: Stored<C>,
    state: ArcMutexGuard<RawMutex, State<C>>,
    updates: u64,
    bytes: usize,
}

/// Any of them.
trait Held: Any {
    fn name(&self) -> &str;
    fn as_any(&mut self) -> &mut dyn Any;
    /// The edits are in the database.
    fn committed(&mut self) -> Result<()>;
    /// They are not, and memory has them.
    fn undone(&mut self);
}

impl<C: Store> Held for HeldList<C> {
    fn name(&self) -> &str {
        self.list.name()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn committed(&mut self) -> Result<()> {
        let number = self.state.number + self.updates;
        self.list.stored(&mut self.state, number, self.bytes)
    }

    fn undone(&mut self) {
        self.state.stale |= self.updates > 0;
    }
}

impl<'a> ListEdits<'a> {
    pub(super) fn new(transaction: &'a Transaction) -> Self {
        Self {
            transaction,
            held: Vec::new(),
        }
    }

    /// The transaction, for reads and writes that depend on what the lists are.
    pub fn transaction(&self) -> &Transaction {
        self.transaction
    }

    /// Edits `list`: with what this transaction did to it before, and with nobody else's edits from now
    /// until the commit. Under one author's name only: a list is edited through one handle.
    ///
    /// # Errors
    /// What `edit` was refused with, as [`Error::List`](crate::Error::List): give the transaction up
    /// then. The transaction stood idle for too long or is over; the store's.
    pub fn edit<C: Store, T>(
        &mut self,
        list: &Stored<C>,
        edit: impl FnOnce(&mut Sequence<C>) -> siltstone_list::Result<T>,
    ) -> Result<T> {
        let transaction = self.transaction;
        let held = self.hold(list);
        let (value, update) = list.try_edit(&mut held.state, edit)?;
        if let Some(update) = update {
            held.updates += 1;
            held.bytes += update.len();
            let key = update_key(held.state.number + held.updates);
            transaction.put(&list.inner.keyspace, &key, &update)?;
        }
        Ok(value?)
    }

    fn hold<C: Store>(&mut self, list: &Stored<C>) -> &mut HeldList<C> {
        let found = self.held.iter().position(|held| held.name() == list.name());
        let at = found.unwrap_or_else(|| {
            self.held.push(Box::new(HeldList {
                list: list.clone(),
                state: list.inner.state.lock_arc(),
                updates: 0,
                bytes: 0,
            }));
            self.held.len() - 1
        });
        let held = self.held[at].as_any().downcast_mut();
        held.expect("a name is a list's or a text's, not both")
    }

    pub(super) fn commit(mut self) -> Result<Commit> {
        match self.transaction.commit_with(Durability::Durable) {
            Ok(stats) => {
                for held in &mut self.held {
                    held.committed()?;
                }
                Ok(stats.commit)
            }
            Err(error) => {
                self.give_up();
                Err(error.into())
            }
        }
    }

    /// Rolls the transaction back and has the lists read again before anyone sees them.
    pub(super) fn give_up(mut self) {
        // It may be over already.
        let _ = self.transaction.roll_back();
        for held in &mut self.held {
            held.undone();
        }
    }
}

impl std::fmt::Debug for ListEdits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.held.iter().map(|held| held.name()).collect();
        f.debug_struct("ListEdits").field("lists", &names).finish()
    }
}
