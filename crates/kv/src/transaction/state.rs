//! One transaction, whoever holds its handle: where it stands, what it wrote and what it read.

use crate::batch::{Batch, BatchMark};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::memtable::{Entry, Memtable};
use crate::range_delete::RangeDelete;
use crate::snapshot::CommitPin;
use crate::stats::PutStats;
use crate::transaction::Isolation;
use crate::transaction::guard::Guard;
use crate::transaction::listener::CommitListener;
use crate::transaction::overlay::{Overlay, Reads, own};
use crate::types::{Commit, KeyspaceId, Tag};
use crate::wal::frame::Op;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Room for own writes to a keyspace at first, in bytes; doubled when it is used up.
const FIRST_ROOM: usize = 4096;

#[derive(Debug)]
pub(crate) struct TransactionState {
    pub(crate) id: u64,
    pub(crate) isolation: Isolation,
    pub(crate) snapshot: Commit,
    /// When it was last used, in microseconds of the monotonic clock.
    used: AtomicU64,
    pub(crate) reads: Arc<Mutex<Reads>>,
    pub(crate) inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) phase: Phase,
    pub(crate) pin: Option<Arc<CommitPin>>,
    pub(crate) batch: Batch,
    own: BTreeMap<KeyspaceId, Arc<Memtable>>,
    /// Keys that were read with the announcement that they will be written.
    for_update: Guard,
    /// Places to roll back to, oldest first, with their numbers.
    savepoints: Vec<(u64, BatchMark)>,
    last_savepoint: u64,
    listeners: BTreeMap<KeyspaceId, Arc<dyn CommitListener>>,
}

/// Where a transaction stands.
#[derive(Debug)]
pub(crate) enum Phase {
    Open,
    /// Its commit was tried; the answer does not change any more.
    Tried(Result<PutStats>),
    RolledBack,
    /// Ended since it stood idle for this long.
    Expired(Duration),
}

impl TransactionState {
    pub(crate) fn new(id: u64, isolation: Isolation, pin: CommitPin, now: Duration) -> Self {
        Self {
            id,
            isolation,
            snapshot: pin.commit,
            used: AtomicU64::new(now.as_micros() as u64),
            reads: Arc::default(),
            inner: Mutex::new(Inner {
                phase: Phase::Open,
                pin: Some(Arc::new(pin)),
                batch: Batch::new(),
                own: BTreeMap::new(),
                for_update: Guard::default(),
                savepoints: Vec::new(),
                last_savepoint: 0,
                listeners: BTreeMap::new(),
            }),
        }
    }

    /// Ends it when it has stood idle for longer than allowed.
    pub(crate) fn check_idle(&self, core: &Core, inner: &mut Inner) -> Result<()> {
        let now = core.shared.env.clock.elapsed().as_micros() as u64;
        let idle = Duration::from_micros(now.saturating_sub(self.used.load(Ordering::Relaxed)));
        if matches!(inner.phase, Phase::Open) && idle > core.shared.options.transaction_idle {
            self.end(core, inner, Phase::Expired(idle));
        }
        inner.check_open()
    }

    /// It is used now; fails when it is over.
    pub(crate) fn use_now(&self, core: &Core, inner: &mut Inner) -> Result<()> {
        core.shared.check_open()?;
        self.check_idle(core, inner)?;
        let now = core.shared.env.clock.elapsed().as_micros() as u64;
        self.used.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Lets go of everything it holds.
    pub(crate) fn end(&self, core: &Core, inner: &mut Inner, phase: Phase) {
        inner.phase = phase;
        inner.pin = None;
        inner.own.clear();
        inner.batch = Batch::new();
        inner.listeners.clear();
        *self.reads.lock() = Reads::default();
        core.transactions.leave(self.id);
        core.queue.lock().in_flight.close();
    }

    /// What it adds to a read of a keyspace now.
    pub(crate) fn overlay(&self, inner: &Inner, keyspace: KeyspaceId) -> Overlay {
        Overlay {
            keyspace,
            memtable: inner.own.get(&keyspace).cloned(),
            upto: own(inner.batch.count),
            reads: match self.isolation {
                Isolation::Serializable => Some(self.reads.clone()),
                Isolation::Snapshot => None,
            },
        }
    }

    /// Everything that must not have changed when it commits.
    pub(crate) fn guard(&self, inner: &Inner) -> Guard {
        let mut guard = self.reads.lock().guard();
        guard.merge(&inner.for_update);
        inner.batch.for_each(|op| match op.tag.is_range_delete() {
            true => {
                let deleted = RangeDelete::of_op(op.key, op.value, Commit::ZERO);
                guard.add_range(op.keyspace, deleted.range());
            }
            false => guard.add_key(op.keyspace, op.key),
        });
        guard
    }
}

impl Inner {
    pub(crate) fn check_open(&self) -> Result<()> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Tried(Ok(_)) => Err(Error::TransactionOver {
                how: "was committed",
            }),
            Phase::Tried(Err(_)) => Err(Error::TransactionOver {
                how: "failed to commit",
            }),
            Phase::RolledBack => Err(Error::TransactionOver {
                how: "was rolled back",
            }),
            Phase::Expired(idle) => Err(Error::TransactionExpired { idle: *idle }),
        }
    }

    pub(crate) fn listen(&mut self, keyspace: KeyspaceId, listener: Arc<dyn CommitListener>) {
        self.listeners.entry(keyspace).or_insert(listener);
    }

    /// The listeners, in the order of their keyspaces.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &Arc<dyn CommitListener>> {
        self.listeners.values()
    }

    /// Shows what was added to the batch since `before` to the transaction's own reads.
    pub(crate) fn show_since(&mut self, before: &BatchMark) {
        let Self {
            batch, own: shown, ..
        } = self;
        let mut n = before.count();
        batch.for_each_since(before, |op| {
            n += 1;
            show(shown, op, own(n));
        });
    }

    pub(crate) fn read_for_update(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        self.for_update.add_key(keyspace, key);
    }

    /// Marks a place and answers its number.
    pub(crate) fn savepoint(&mut self) -> u64 {
        self.last_savepoint += 1;
        let mark = self.batch.mark();
        self.savepoints.push((self.last_savepoint, mark));
        self.last_savepoint
    }

    /// Forgets the writes after a savepoint; false when it was undone itself.
    pub(crate) fn roll_back_to(&mut self, savepoint: u64) -> bool {
        let at = self.savepoints.iter().position(|(n, _)| *n == savepoint);
        let Some(at) = at else {
            return false;
        };
        self.savepoints.truncate(at + 1);
        self.batch.truncate(&self.savepoints[at].1);
        self.own.clear();
        let mut n = 0;
        let Self {
            batch, own: shown, ..
        } = self;
        batch.for_each(|op| {
            n += 1;
            show(shown, op, own(n));
        });
        true
    }
}

fn show(shown: &mut BTreeMap<KeyspaceId, Arc<Memtable>>, op: &Op<'_>, commit: Commit) {
    let entry = Entry {
        key: op.key,
        commit,
        tag: op.tag,
        value: op.value,
    };
    let needed = Memtable::entry_bytes(op.key.len(), op.value.len());
    let memtable = shown.entry(op.keyspace).or_insert_with(|| {
        let room = FIRST_ROOM.max(needed * 2);
        Arc::new(Memtable::new(room, 0))
    });
    if !memtable.insert(entry) {
        *memtable = Arc::new(larger(memtable, needed));
        assert!(memtable.insert(entry), "it was made large enough");
    }
}

/// A copy of `memtable` with room for twice as much and `needed` more bytes.
fn larger(memtable: &Arc<Memtable>, needed: usize) -> Memtable {
    let larger = Memtable::new(memtable.bytes() * 2 + needed * 2, 0);
    memtable.for_each(|entry| {
        assert!(larger.insert(entry), "it has more room");
    });
    for range in memtable.ranges().all() {
        let entry = Entry {
            key: &range.start,
            commit: range.commit,
            tag: Tag::RANGE_DELETE,
            value: range.end.as_deref().unwrap_or_default(),
        };
        assert!(larger.insert(entry), "ranges take no room");
    }
    larger
}
