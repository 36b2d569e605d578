//! Transactions of several participants: each joins with an edit of its own part of the document, and
//! when the last has joined there is one commit for all. Their parts are apart from each other, so
//! that no order among them matters.
//!
//! A transaction is in memory only: it is gone with the process, and then nothing of it was written.

use crate::edit::Edit;
use crate::error::{Error, Result, TxEnd, shown};
use crate::path::{Path, Segment};
use crate::tree::{Inner, Tree};
use parking_lot::{Condvar, Mutex};
use siltstone_kv::Commit;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Open transactions, at most.
const MOST_OPEN: usize = 10_000;
/// The longest that somebody waits before looking at the clock again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The open transactions of a tree.
#[derive(Debug, Default)]
pub(crate) struct Parties(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    by_id: BTreeMap<u64, Arc<Party>>,
}

/// One transaction.
#[derive(Debug)]
struct Party {
    id: u64,
    participants: usize,
    timeout: Duration,
    /// By the monotonic clock.
    ends: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
enum State {
    /// The edits of those who have joined.
    Joining(Vec<Edit>),
    /// The last one has joined; it commits, and time does not count any more.
    Committing,
    Over(Result<Commit>),
}

/// A participant's place in a transaction.
#[derive(Debug, Clone)]
pub struct Joined {
    tree: Arc<Inner>,
    party: Arc<Party>,
}

impl Tree {
    /// Opens a transaction for `participants`, who have `timeout` to join. Answers its number.
    ///
    /// # Errors
    /// [`Error::TxRefused`] for no participants, or when too many transactions are open.
    pub fn new_tx(&self, participants: usize, timeout: Duration) -> Result<u64> {
        let inner = &self.inner;
        let now = inner.kv.env().clock.elapsed();
        let mut open = inner.parties.0.lock();
        let late: Vec<_> = open
            .by_id
            .values()
            .filter(|party| party.ends <= now)
            .cloned()
            .collect();
        for party in late {
            if party.end(TxEnd::TimedOut(party.timeout)) {
                open.by_id.remove(&party.id);
            }
        }
        let refuse = |what: String| {
            Err(Error::TxRefused {
                id: open.last + 1,
                what,
            })
        };
        if participants == 0 {
            return refuse("it has at least one participant".into());
        }
        if open.by_id.len() >= MOST_OPEN {
            return refuse(format!("{MOST_OPEN} are open; wait until some are over"));
        }
        open.last += 1;
        let id = open.last;
        let party = Party {
            id,
            participants,
            timeout,
            ends: now.saturating_add(timeout),
            state: Mutex::new(State::Joining(Vec::new())),
            changed: Condvar::new(),
        };
        open.by_id.insert(id, Arc::new(party));
        Ok(id)
    }

    /// Joins transaction `id` with an edit. Does not wait, but for the last to join, who commits:
    /// [`Joined::wait`] answers the outcome, so that several participants may share a thread.
    ///
    /// # Errors
    /// [`Error::UnknownTx`] for one that never was or is over, [`Error::TxFull`], [`Error::TxOver`];
    /// [`Error::TxRefused`] for an edit without operations, one of the root, and one that is not apart
    /// from what others have joined with. A refused one may join again.
    pub fn join(&self, id: u64, edit: Edit) -> Result<Joined> {
        let inner = &self.inner;
        let party = inner.parties.find(id)?;
        edit.check()?;
        let refuse = |what: String| Err(Error::TxRefused { id, what });
        if edit.ops().is_empty() {
            return refuse("a participant joins with at least one operation".into());
        }
        if edit.ops().iter().any(|op| op.path().is_root()) {
            return refuse("a participant has a part of the document, not all of it".into());
        }
        let joined = Joined {
            tree: inner.clone(),
            party: party.clone(),
        };
        if inner.kv.env().clock.elapsed() >= party.ends {
            inner.parties.end(&party, TxEnd::TimedOut(party.timeout));
        }
        let mut state = party.state.lock();
        let edits = match &mut *state {
            State::Joining(edits) => edits,
            State::Committing => {
                return Err(Error::TxFull {
                    id,
                    participants: party.participants,
                });
            }
            State::Over(Err(error)) => return Err(error.clone()),
            State::Over(Ok(_)) => return Err(Error::UnknownTx { id }),
        };
        for other in edits.iter().flat_map(Edit::ops) {
            for op in edit.ops() {
                if let Some(what) = clash(other.path(), op.path()) {
                    return refuse(what);
                }
            }
        }
        edits.push(edit);
        if edits.len() < party.participants {
            return Ok(joined);
        }
        let edits = std::mem::take(edits);
        *state = State::Committing;
        drop(state);
        let answer = self
            .commit(&together(edits))
            .map(|committed| committed.commit);
        inner.parties.forget(id);
        *party.state.lock() = State::Over(answer);
        party.changed.notify_all();
        Ok(joined)
    }

    /// Ends a transaction: nothing of it is written, and all who joined are told.
    ///
    /// # Errors
    /// [`Error::UnknownTx`]; [`Error::TxFull`] when the last one has joined already.
    pub fn abort_tx(&self, id: u64) -> Result<()> {
        let party = self.inner.parties.find(id)?;
        match self.inner.parties.end(&party, TxEnd::Aborted) {
            true => Ok(()),
            false => Err(Error::TxFull {
                id,
                participants: party.participants,
            }),
        }
    }

    /// The numbers of open transactions, each with how many have joined of how many.
    pub fn open_txs(&self) -> Vec<(u64, usize, usize)> {
        let open = self.inner.parties.0.lock();
        let parties = open.by_id.values();
        parties
            .map(|party| (party.id, party.joined(), party.participants))
            .collect()
    }
}

/// All edits as one: preconditions first, then the operations in the order of their paths.
fn together(edits: Vec<Edit>) -> Edit {
    let mut all = Edit::new();
    for edit in &edits {
        for (path, expect) in edit.expects() {
            all = all.expect(path, expect.clone());
        }
    }
    let mut ops: Vec<_> = edits.iter().flat_map(Edit::ops).cloned().collect();
    // Stable: those of one participant for one path stay in order.
    ops.sort_by(|a, b| a.path().cmp(b.path()));
    ops.into_iter().fold(all, Edit::op)
}

/// Why two paths cannot be of two participants.
fn clash(a: &Path, b: &Path) -> Option<String> {
    if a.contains(b) || b.contains(a) {
        let (a, b) = (shown(a), shown(b));
        return Some(match a == b {
            true => format!("{a} is another participant's"),
            false => format!("{b} and another participant's {a} lie one below the other"),
        });
    }
    let apart = a.segments().iter().zip(b.segments()).find(|(a, b)| a != b);
    let mixed = apart.is_some_and(|(a, b)| {
        !matches!(
            (a, b),
            (Segment::Field(_), Segment::Field(_))
                | (Segment::Index(_), Segment::Index(_))
                | (Segment::Sparse(_), Segment::Sparse(_))
                | (Segment::Key(_), Segment::Key(_))
        )
    });
    mixed.then(|| {
        let (a, b) = (shown(a), shown(b));
        format!("{b} and another participant's {a} need containers of different kinds")
    })
}

impl Parties {
    fn find(&self, id: u64) -> Result<Arc<Party>> {
        let open = self.0.lock();
        open.by_id.get(&id).cloned().ok_or(Error::UnknownTx { id })
    }

    fn forget(&self, id: u64) {
        self.0.lock().by_id.remove(&id);
    }

    /// Ends a transaction unless it commits or is over; true when it did.
    fn end(&self, party: &Party, how: TxEnd) -> bool {
        let ended = party.end(how);
        if ended {
            self.forget(party.id);
        }
        ended
    }
}

impl Party {
    fn joined(&self) -> usize {
        match &*self.state.lock() {
            State::Joining(edits) => edits.len(),
            State::Committing | State::Over(_) => self.participants,
        }
    }

    fn end(&self, how: TxEnd) -> bool {
        let mut state = self.state.lock();
        let State::Joining(edits) = &*state else {
            return false;
        };
        *state = State::Over(Err(Error::TxOver {
            id: self.id,
            how,
            joined: edits.len(),
            participants: self.participants,
        }));
        drop(state);
        self.changed.notify_all();
        true
    }
}

impl Joined {
    /// The number of the transaction.
    pub fn id(&self) -> u64 {
        self.party.id
    }

    /// The outcome, if there is one: the commit, the same for all.
    ///
    /// # Errors
    /// [`Error::TxOver`] when time ran out or somebody aborted; what the commit was refused with. Then
    /// nothing is written, now or later.
    pub fn outcome(&self) -> Result<Option<Commit>> {
        let clock = &self.tree.kv.env().clock;
        if clock.elapsed() >= self.party.ends {
            let how = TxEnd::TimedOut(self.party.timeout);
            self.tree.parties.end(&self.party, how);
        }
        match &*self.party.state.lock() {
            State::Over(answer) => answer.clone().map(Some),
            State::Joining(_) | State::Committing => Ok(None),
        }
    }

    /// Waits for the outcome, for as long as the transaction has.
    ///
    /// # Errors
    /// As [`Joined::outcome`].
    pub fn wait(&self) -> Result<Commit> {
        loop {
            if let Some(commit) = self.outcome()? {
                return Ok(commit);
            }
            let now = self.tree.kv.env().clock.elapsed();
            let left = self.party.ends.saturating_sub(now).min(LOOK_AGAIN);
            let mut state = self.party.state.lock();
            if !matches!(*state, State::Over(_)) {
                self.party
                    .changed
                    .wait_for(&mut state, left.max(Duration::from_millis(1)));
            }
        }
    }
}
