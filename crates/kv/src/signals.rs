//! How the threads of a database are woken and ended.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest that a writer waits for room before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    lead: bool,
    prepare_log: Option<u64>,
    flush: bool,
    compact: bool,
    ending: bool,
    commit_thread_gone: bool,
    /// Counts every change that may have made room.
    room: u64,
    /// Counts publications while somebody watches.
    published: u64,
}

/// What the commit thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitWork {
    /// Lead the groups that wait.
    Lead,
    /// Make the log file with this number.
    PrepareLog(u64),
}

/// Why a wait for something to compact is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Something has changed.
    Signalled,
    /// Nothing has changed for as long as the wait was to be.
    Quiet,
    /// The database is closing.
    Ending,
}

/// The signals.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    state: Mutex<State>,
    commit_thread: Condvar,
    flush_thread: Condvar,
    compact_thread: Condvar,
    room: Condvar,
    watchers: Condvar,
    /// Somebody has asked for publications; looked at without the lock.
    any_watcher: AtomicBool,
}

impl Signals {
    /// The commit thread is to lead; false when it has gone home and the caller must.
    #[must_use]
    pub(crate) fn lead(&self) -> bool {
        let mut state = self.state.lock();
        state.lead = true;
        self.commit_thread.notify_one();
        !state.commit_thread_gone
    }

    /// The commit thread is to make log file `number`.
    pub(crate) fn prepare_log(&self, number: u64) {
        self.state.lock().prepare_log = Some(number);
        self.commit_thread.notify_one();
    }

    /// There is something to flush.
    pub(crate) fn flush(&self) {
        self.state.lock().flush = true;
        self.flush_thread.notify_one();
    }

    /// There may be something to compact or to delete.
    pub(crate) fn compact(&self) {
        self.state.lock().compact = true;
        self.compact_thread.notify_one();
    }

    /// For tests: whether [`Signals::compact`] was called since this was last asked.
    pub(crate) fn take_compact(&self) -> bool {
        std::mem::take(&mut self.state.lock().compact)
    }

    /// A flush or a compaction ended: writers may find room.
    pub(crate) fn room(&self) {
        self.state.lock().room += 1;
        self.room.notify_all();
    }

    /// Commits became visible or durable.
    #[inline]
    pub(crate) fn publication(&self) {
        if self.any_watcher.load(Ordering::SeqCst) {
            self.tell_watchers();
        }
    }

    #[cold]
    fn tell_watchers(&self) {
        self.state.lock().published += 1;
        self.watchers.notify_all();
    }

    /// Where the count of publications stands; from now on they are counted.
    pub(crate) fn published(&self) -> u64 {
        let state = self.state.lock();
        self.any_watcher.store(true, Ordering::SeqCst);
        state.published
    }

    /// Waits until something was published since `seen`, for `most` at longest.
    pub(crate) fn wait_for_publication(&self, seen: u64, most: Duration) {
        let mut state = self.state.lock();
        if state.published == seen && !state.ending {
            self.watchers.wait_for(&mut state, most);
        }
    }

    /// Everybody goes home.
    pub(crate) fn end(&self) {
        self.state.lock().ending = true;
        for condvar in [
            &self.commit_thread,
            &self.flush_thread,
            &self.compact_thread,
            &self.room,
            &self.watchers,
        ] {
            condvar.notify_all();
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state.lock().ending
    }

    /// Waits for something to do for the commit thread; `None` at the end.
    pub(crate) fn wait_to_lead(&self) -> Option<CommitWork> {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.lead) {
                return Some(CommitWork::Lead);
            }
            if state.ending {
                state.commit_thread_gone = true;
                return None;
            }
            if let Some(number) = state.prepare_log.take() {
                return Some(CommitWork::PrepareLog(number));
            }
            self.commit_thread.wait(&mut state);
        }
    }

    /// Waits for something to flush; false at the end.
    pub(crate) fn wait_to_flush(&self) -> bool {
        let mut state = self.state.lock();
        while !state.flush && !state.ending {
            self.flush_thread.wait(&mut state);
        }
        state.flush = false;
        !state.ending
    }

    /// Waits for something to compact, for `patience` when that is given.
    pub(crate) fn wait_to_compact(&self, patience: Option<Duration>) -> Wake {
        let mut state = self.state.lock();
        let mut wake = Wake::Signalled;
        while !state.compact && !state.ending {
            match patience {
                None => self.compact_thread.wait(&mut state),
                Some(patience) => {
                    if self
                        .compact_thread
                        .wait_for(&mut state, patience)
                        .timed_out()
                    {
                        wake = Wake::Quiet;
                        break;
                    }
                }
            }
        }
        state.compact = false;
        match state.ending {
            true => Wake::Ending,
            false => wake,
        }
    }

    /// Where the count of room stands, to be given to [`Signals::wait_for_room`].
    pub(crate) fn room_count(&self) -> u64 {
        self.state.lock().room
    }

    /// Waits until room was made since `seen`.
    pub(crate) fn wait_for_room(&self, seen: u64) {
        let mut state = self.state.lock();
        if state.room == seen && !state.ending {
            // The caller looks again by itself too, should writes have been stopped meanwhile.
            self.room.wait_for(&mut state, LOOK_AGAIN);
        }
    }
}
