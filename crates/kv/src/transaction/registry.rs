//! The open transactions of a database: found by their numbers, and ended when they stand idle for
//! too long, so that history can go on without them.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::transaction::state::TransactionState;
use crate::types::Commit;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The open transactions.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    by_id: BTreeMap<u64, Arc<TransactionState>>,
}

impl Registry {
    /// Enters a transaction made with its number.
    pub(crate) fn enter(
        &self,
        limit: usize,
        make: impl FnOnce(u64) -> Result<TransactionState>,
    ) -> Result<Arc<TransactionState>> {
        let mut open = self.0.lock();
        if open.by_id.len() >= limit {
            return Err(Error::TooManyTransactions { limit });
        }
        let id = open.last + 1;
        let state = Arc::new(make(id)?);
        open.last = id;
        open.by_id.insert(id, state.clone());
        Ok(state)
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<TransactionState>> {
        self.0.lock().by_id.get(&id).cloned()
    }

    pub(crate) fn leave(&self, id: u64) {
        self.0.lock().by_id.remove(&id);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().by_id.len()
    }

    fn all(&self) -> Vec<Arc<TransactionState>> {
        self.0.lock().by_id.values().cloned().collect()
    }
}

impl Core {
    /// Ends the transactions that have stood idle for too long. What they held may go.
    pub(crate) fn expire_transactions(&self) {
        for state in self.transactions.all() {
            // One that is in use is not idle.
            if let Some(mut inner) = state.inner.try_lock() {
                let _ = state.check_idle(self, &mut inner);
            }
        }
    }

    /// The oldest commit that an open transaction reads at. Tombstones after it must stay: they tell
    /// that a key was written since.
    pub(crate) fn oldest_transaction(&self) -> Option<Commit> {
        let open = self.transactions.0.lock();
        open.by_id.values().map(|state| state.snapshot).min()
    }
}
