//! Transactions: optimistic, with read-your-writes, across keyspaces; the first to commit wins.
//!
//! A transaction reads at the commit it began at and keeps its writes to itself. To commit, it
//! looks whether anything it guards was written since: first at what is visible, while others go
//! on; then, in the step that gives it its number, at the writes that are not visible yet. So
//! transactions that do not conflict share a group and its sync with everybody else.

pub(crate) mod guard;
pub(crate) mod in_flight;
pub(crate) mod listener;
pub(crate) mod overlay;
pub(crate) mod registry;
pub(crate) mod state;
pub(crate) mod validate;

use crate::batch::Batch;
use crate::db::Kv;
use crate::error::{Error, Result};
use crate::key_range::KeyRange;
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::read::{Read, ReadAt, ViewRef};
use crate::snapshot::{HeldCommits, Scope};
use crate::stats::PutStats;
use crate::types::Commit;
use bytes::Bytes;
use listener::CommitListener;
use state::{Phase, TransactionState};
use std::sync::Arc;
use std::time::Duration;

/// What a transaction is protected from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// As if transactions ran one after another: a commit fails when anything it read or wrote,
    /// single keys and scanned ranges alike, was written since it began.
    #[default]
    Serializable,
    /// Reads at one commit; a commit fails only when a key it wrote was written since it began. Two
    /// transactions that read what the other writes may both commit (write skew).
    Snapshot,
}

/// A transaction. Dropped without a commit, it is rolled back.
///
/// It holds its commit for as long as it is used; after [`crate::Options::transaction_idle`]
/// without a call it is ended, so that a forgotten one does not keep history for ever.
#[derive(Debug)]
pub struct Transaction {
    kv: Kv,
    state: Arc<TransactionState>,
    /// Rolled back when this handle goes.
    owned: bool,
}

/// A place in a transaction to roll back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

impl Kv {
    /// Begins a transaction at the newest commit.
    ///
    /// # Errors
    /// [`Error::TooManyTransactions`], [`Error::Closed`], [`Error::Stopped`].
    pub fn begin(&self, isolation: Isolation) -> Result<Transaction> {
        let core = self.core();
        let shared = &core.shared;
        shared.check_writable()?;
        let limit = shared.options.max_transactions;
        if core.transactions.count() >= limit {
            core.expire_transactions();
        }
        let state = core.transactions.enter(limit, |id| {
            // From now on writes are recorded; those before are visible or soon will be.
            let mut queue = core.queue.lock();
            let next = queue.next();
            queue.in_flight.open(next);
            drop(queue);
            let pin = HeldCommits::hold(shared, Scope::All, || Ok(shared.visible()))?;
            let now = shared.env.clock.elapsed();
            Ok(TransactionState::new(id, isolation, pin, now))
        })?;
        Ok(Transaction {
            kv: self.clone(),
            state,
            owned: true,
        })
    }

    /// Goes on with a transaction that was put aside with [`Transaction::suspend`].
    ///
    /// # Errors
    /// [`Error::UnknownTransaction`]: it was never there, or it is over.
    pub fn resume(&self, id: u64) -> Result<Transaction> {
        let state = self.core().transactions.find(id);
        Ok(Transaction {
            kv: self.clone(),
            state: state.ok_or(Error::UnknownTransaction { id })?,
            owned: true,
        })
    }
}

impl Transaction {
    /// Its number, unique while the database is open.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// The commit that it reads at.
    pub fn snapshot_commit(&self) -> Commit {
        self.state.snapshot
    }

    /// Puts it aside; [`Kv::resume`] goes on with it by number. Idle time counts.
    pub fn suspend(mut self) -> u64 {
        self.owned = false;
        self.state.id
    }

    /// Reads of `keyspace` inside the transaction: as of its commit, with its own writes.
    pub fn on<'a>(&'a self, keyspace: &'a Keyspace) -> TransactionKeyspace<'a> {
        TransactionKeyspace {
            transaction: self,
            keyspace,
        }
    }

    /// Reads `key` of `keyspace` and guards it as if it were written, also under
    /// [`Isolation::Snapshot`].
    ///
    /// # Errors
    /// As [`Read::get`], and when the transaction is over.
    pub fn get_for_update(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.guard_key(keyspace, key)?;
        self.on(keyspace).get(key)
    }

    /// As [`Transaction::get_for_update`], without waiting for a disk or a network; the key is
    /// guarded also when it fails because it would have to wait.
    ///
    /// # Errors
    /// As [`Transaction::get_for_update`] and [`Read::try_get`].
    pub fn try_get_for_update(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        self.guard_key(keyspace, key)?;
        self.on(keyspace).try_get(key)
    }

    fn guard_key(&self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        let mut inner = self.state.inner.lock();
        self.state.use_now(self.kv.core(), &mut inner)?;
        inner.read_for_update(keyspace.core().id, key);
        Ok(())
    }

    /// Sets `key` of `keyspace` to `value`, for this transaction until it commits.
    ///
    /// # Errors
    /// A limit's; [`Error::TransactionOver`], [`Error::TransactionExpired`].
    pub fn put(&self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(|batch| batch.put(keyspace, key, value))
    }

    /// Sets `key` of `keyspace` to `value` for as long as `ttl`, counted from now.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn put_ttl(
        &self,
        keyspace: &Keyspace,
        key: &[u8],
        value: &[u8],
        ttl: Duration,
    ) -> Result<()> {
        self.write(|batch| batch.put_ttl(keyspace, key, value, ttl))
    }

    /// Changes `key` of `keyspace` by `operand`, as the keyspace's merge operator says. Nothing is
    /// read, but the key counts as written.
    ///
    /// # Errors
    /// As [`Transaction::put`]; [`Error::NoMergeOperator`]; [`Error::Merge`] for a malformed operand.
    pub fn merge(&self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> Result<()> {
        let mut alone = Batch::new();
        alone.merge(keyspace, key, operand);
        self.kv.settled(&alone)?;
        self.write(|batch| batch.merge(keyspace, key, operand))
    }

    /// Deletes every key of `range`. The whole range counts as written.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete_range(&self, keyspace: &Keyspace, range: &KeyRange) -> Result<()> {
        self.write(|batch| batch.delete_range(keyspace, range))
    }

    /// Deletes `key` of `keyspace`, for this transaction until it commits.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.write(|batch| batch.delete(keyspace, key))
    }

    fn write(&self, add: impl FnOnce(&mut Batch) -> &mut Batch) -> Result<()> {
        let mut inner = self.state.inner.lock();
        self.state.use_now(self.kv.core(), &mut inner)?;
        let before = inner.batch.mark();
        add(&mut inner.batch);
        if let Err(error) = self.kv.check_batch(&inner.batch) {
            inner.batch.truncate(&before);
            return Err(error);
        }
        inner.show_since(&before);
        Ok(())
    }

    /// Attaches a listener for what it writes to `keyspace`; the first one of a keyspace stays.
    ///
    /// # Errors
    /// When the transaction is over.
    pub fn listen(&self, keyspace: &Keyspace, listener: Arc<dyn CommitListener>) -> Result<()> {
        let mut inner = self.state.inner.lock();
        self.state.use_now(self.kv.core(), &mut inner)?;
        inner.listen(keyspace.core().id, listener);
        Ok(())
    }

    /// Marks a place to roll back to.
    ///
    /// # Errors
    /// When the transaction is over.
    pub fn savepoint(&self) -> Result<Savepoint> {
        let mut inner = self.state.inner.lock();
        self.state.use_now(self.kv.core(), &mut inner)?;
        Ok(Savepoint {
            transaction: self.state.id,
            number: inner.savepoint(),
        })
    }

    /// Undoes the writes since `savepoint`. What was read stays guarded.
    ///
    /// # Errors
    /// [`Error::Savepoint`] for one of another transaction, or one that was rolled back over; and
    /// when the transaction is over.
    pub fn roll_back_to(&self, savepoint: &Savepoint) -> Result<()> {
        let mut inner = self.state.inner.lock();
        self.state.use_now(self.kv.core(), &mut inner)?;
        if savepoint.transaction != self.state.id {
            return Err(Error::Savepoint {
                what: "belongs to another transaction",
            });
        }
        match inner.roll_back_to(savepoint.number) {
            true => Ok(()),
            false => Err(Error::Savepoint {
                what: "was undone by an earlier rollback",
            }),
        }
    }

    /// Commits, durably: one commit, all or none. A second call has the same answer.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the key or range that was written since the transaction began;
    /// [`Error::TransactionExpired`], [`Error::TransactionOver`], and those of a write. After an
    /// error nothing of it is written, unless the error says that writes were stopped while this
    /// one was under way.
    pub fn commit(&self) -> Result<PutStats> {
        self.commit_with(Durability::Durable)
    }

    /// Commits, as durable as asked.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn commit_with(&self, durability: Durability) -> Result<PutStats> {
        let core = self.kv.core();
        let mut inner = self.state.inner.lock();
        if let Phase::Tried(answer) = &inner.phase {
            return answer.clone();
        }
        self.state.use_now(core, &mut inner)?;
        let answer = self.commit_heard(&inner, durability);
        self.state
            .end(core, &mut inner, Phase::Tried(answer.clone()));
        answer
    }

    /// Gives it up. A second call does nothing.
    ///
    /// # Errors
    /// [`Error::TransactionOver`] when it was committed.
    pub fn roll_back(&self) -> Result<()> {
        let mut inner = self.state.inner.lock();
        match &inner.phase {
            Phase::Open => {
                self.state
                    .end(self.kv.core(), &mut inner, Phase::RolledBack);
                Ok(())
            }
            Phase::RolledBack | Phase::Expired(_) => Ok(()),
            Phase::Tried(_) => inner.check_open(),
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.owned {
            // Over already is as good.
            let _ = self.roll_back();
        }
    }
}

/// A keyspace as a transaction sees it.
#[derive(Debug, Clone, Copy)]
pub struct TransactionKeyspace<'a> {
    transaction: &'a Transaction,
    keyspace: &'a Keyspace,
}

impl Read for TransactionKeyspace<'_> {
    fn at(&self) -> Result<ReadAt> {
        let Transaction { kv, state, .. } = self.transaction;
        let mut inner = state.inner.lock();
        state.use_now(kv.core(), &mut inner)?;
        let core = self.keyspace.core();
        Ok(ReadAt {
            view: ViewRef::Guard(core.view.load()),
            commit: state.snapshot,
            shared: kv.core().shared.clone(),
            hold: inner.pin.clone(),
            overlay: Some(state.overlay(&inner, core.id)),
        })
    }
}
