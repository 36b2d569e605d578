//! How a task leads: only a group that holds nothing but its own buffered write, and only while the
//! log is free and goes on in the same file. Everything that may wait for a disk, a sync for others
//! or a new log file, is the commit thread's.

use super::{Group, Next};
use crate::core::Core;
use crate::error::Result;
use crate::waiter::Outcome;
use crate::wal::log::Log;
use parking_lot::MutexGuard;

impl Core {
    /// The log, when `group` can go into it at once. The caller holds the queue, so that nobody
    /// joins the group until it is taken.
    pub(super) fn log_at_once(&self, group: &Group) -> Option<MutexGuard<'_, Log>> {
        // The memtables of a crowd are sealed at the start of a new log file.
        if group.durable || self.is_crowded() {
            return None;
        }
        // Whoever holds it may be syncing.
        let log = self.log.try_lock()?;
        let keyspaces = self.keyspaces.try_read()?;
        // A full memtable is sealed at the start of a new log file.
        let fits = |(id, bytes)| match keyspaces.get(&id) {
            Some(core) => core.view.load().active.fits(bytes),
            None => true,
        };
        (!log.wants_rotation() && group.footprint.iter().all(fits)).then_some(log)
    }

    /// Leads `group`, then hands over to one of those who wait.
    pub(crate) fn lead_now(&self, group: Group, log: MutexGuard<'_, Log>) -> Result<()> {
        let done = self.process_in(log, group);
        match self.next_leader(true) {
            Next::Waiter(waiter) => waiter.tell(Outcome::Lead),
            Next::CommitThread | Next::Same => self.lead_elsewhere(),
            Next::Nobody => {}
        }
        match done {
            Some((group, result)) => {
                self.finish(group, &result);
                result
            }
            None => Ok(()),
        }
    }
}
