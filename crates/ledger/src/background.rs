//! The work that nobody waits for: compaction by tiers, the manifest, deletions. A thread does it, or
//! the writer that made it necessary.

use crate::core::Core;
use crate::options::Background;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

#[derive(Debug, Default)]
struct Wanted {
    work: bool,
    ending: bool,
}

/// How the thread is woken.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    wanted: Mutex<Wanted>,
    changed: Condvar,
    /// What the last work failed with.
    last_error: Mutex<Option<String>>,
}

impl Signals {
    fn wake(&self) {
        self.wanted.lock().work = true;
        self.changed.notify_all();
    }

    /// Lets the thread end after what it is doing.
    pub(crate) fn end(&self) {
        self.wanted.lock().ending = true;
        self.changed.notify_all();
    }

    /// Waits for work; false when it is time to end.
    fn wait(&self) -> bool {
        let mut wanted = self.wanted.lock();
        while !wanted.work && !wanted.ending {
            self.changed.wait(&mut wanted);
        }
        wanted.work = false;
        !wanted.ending
    }

    /// What the last work failed with; `None` when it succeeded.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }
}

impl Core {
    /// After a write was acknowledged: sees to it that what it made necessary is done.
    pub(crate) fn after_write(self: &Arc<Self>) {
        self.remotes.wake();
        self.upkeep();
    }

    /// Does what the newest edit made necessary, or has it done.
    pub(crate) fn upkeep(self: &Arc<Self>) {
        match self.store.options.background {
            Background::Off => {}
            Background::Inline => {
                if self.has_work() {
                    self.work();
                }
            }
            Background::Thread => {
                if self.has_work() {
                    self.signals.wake();
                }
            }
        }
    }

    fn has_work(&self) -> bool {
        if self.store.wants_checkpoint() {
            return true;
        }
        let Some(from) = self.store.options.compact_from else {
            return false;
        };
        let log = self.store.log.lock();
        let live = log.state.cars.live();
        live.len() >= from && live.iter().filter(|car| car.meta.level == 0).count() >= from
    }

    /// Does what there is to do. A failure is kept for the statistics; the next write tries again.
    pub(crate) fn work(self: &Arc<Self>) {
        let done = self.compact_tiers().and_then(|_| {
            if self.store.wants_checkpoint() {
                self.store.checkpoint()?;
                self.store.collect()?;
            }
            Ok(())
        });
        if let Err(error) = &done {
            tracing::warn!(%error, "background work on a ledger failed and will be tried again");
        }
        *self.signals.last_error.lock() = done.err().map(|error| error.to_string());
    }
}

/// Starts the thread of a ledger. It ends when told to, or when the ledger is gone.
pub(crate) fn start(core: &Arc<Core>) -> std::io::Result<JoinHandle<()>> {
    let weak: Weak<Core> = Arc::downgrade(core);
    let builder = std::thread::Builder::new().name("siltstone-ledger".into());
    let signals = core.signals_handle();
    builder.spawn(move || {
        while signals.wait() {
            let Some(core) = weak.upgrade() else { return };
            core.work();
        }
    })
}
