//! The thread that syncs the log while the leader of a group fills the memtable.

use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    result: Option<Result<()>>,
    ending: bool,
}

/// One request at a time, from the one leader.
#[derive(Debug, Default)]
pub(crate) struct SyncThread {
    state: Mutex<State>,
    asked: Condvar,
    answered: Condvar,
}

impl SyncThread {
    /// Asks for a sync.
    pub(crate) fn request(&self) {
        self.state.lock().wanted = true;
        self.asked.notify_one();
    }

    /// Waits for the answer.
    pub(crate) fn wait(&self) -> Result<()> {
        let mut state = self.state.lock();
        loop {
            if let Some(result) = state.result.take() {
                return result;
            }
            if state.ending {
                return Err(Error::Closed);
            }
            self.answered.wait(&mut state);
        }
    }

    /// Ends the thread.
    pub(crate) fn end(&self) {
        self.state.lock().ending = true;
        self.asked.notify_all();
        self.answered.notify_all();
    }

    /// The life of the thread.
    pub(crate) fn serve(&self, mut sync: impl FnMut() -> Result<()>) {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.wanted) {
                drop(state);
                let result = sync();
                state = self.state.lock();
                state.result = Some(result);
                self.answered.notify_one();
            } else if state.ending {
                return;
            } else {
                self.asked.wait(&mut state);
            }
        }
    }
}
