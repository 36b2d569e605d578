//! The threads that work for an open database, and what they do.

use crate::compaction::pick::Mood;
use crate::core::Core;
use crate::error::Result;
use crate::signals::{CommitWork, Wake};
use crate::view::KeyspaceCore;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) fn start_threads(core: &Arc<Core>) -> Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    let mut start = |name: &str, life: fn(&Core)| -> Result<()> {
        let core = core.clone();
        let thread = std::thread::Builder::new()
            .name(format!("siltstone-{name}"))
            .spawn(move || life(&core))
            .map_err(|e| siltstone_storage::Error::io(name, "start thread", &e))?;
        threads.push(thread);
        Ok(())
    };
    start("commit", |core| {
        core.prepare_log(core.log_files.first());
        while let Some(work) = core.signals.wait_to_lead() {
            match work {
                CommitWork::Lead => core.lead_all(),
                CommitWork::PrepareLog(number) => core.prepare_log(number),
            }
        }
    })?;
    start("flush", |core| {
        while core.signals.wait_to_flush() {
            if let Err(error) = core.flush_sealed() {
                tracing::warn!(%error, "a flush failed and will be tried again");
                core.note_failed_work();
            }
        }
    })?;
    start("compact", compact_forever)?;
    match core.bucket {
        true => start("upload", Core::finish_uploads)?,
        false => start("sync", |core| {
            {
                // Under the lock: a sync that failed meanwhile must not be followed by one that succeeds.
                core.sync_thread.serve(|| {
                    let mut log = core.log.lock();
                    core.shared.check_writable()?;
                    log.sync()
                });
            }
        })?,
    }
    Ok(threads)
}

fn compact_forever(core: &Core) {
    core.finish_opening();
    let mut patience = None;
    let mut seen = core.shared.visible();
    loop {
        let wake = core.signals.wait_to_compact(patience);
        if wake == Wake::Ending {
            return;
        }
        let head = core.shared.visible();
        let looking = core.look_at_offers_in().is_some();
        let mood = match wake == Wake::Quiet && head == seen && !looking {
            true => Mood::Idle,
            false => Mood::Busy,
        };
        seen = head;
        match core.compact_next(mood) {
            Ok(true) => core.signals.compact(),
            Ok(false) => core.collect_garbage(),
            Err(error) => {
                tracing::warn!(%error, "a compaction failed and will be tried again");
                core.note_failed_work();
            }
        }
        // While something is unsettled, look again after a quiet while.
        let unsettled = core.is_unsettled();
        let settle = unsettled.then_some(core.shared.options.settle_after);
        patience = core.look_at_offers_in().or(settle);
    }
}

impl Core {
    /// True when idle time could be used.
    fn is_unsettled(&self) -> bool {
        let keyspaces = self.keyspaces.read();
        let level0 =
            |core: &Arc<KeyspaceCore>| core.view.load().runs.iter().any(|run| run.level == 0);
        (keyspaces.values().any(level0) || self.may_hollow()) && !self.shared.is_stopped()
    }

    /// Waits a little before failed work is tried again.
    fn note_failed_work(&self) {
        if self.shared.check_writable().is_ok() {
            self.shared.env.clock.sleep(Duration::from_millis(100));
            self.signals.flush();
            self.signals.compact();
        }
    }
}

impl Core {
    /// Flushes, compacts, deletes; true when there was something to do.
    pub(crate) fn work(&self) -> Result<bool> {
        self.shared.check_writable()?;
        self.finish_opening();
        let flushed = self.flush_sealed()?;
        let compacted = self.compact_next(Mood::Busy)?;
        self.collect_garbage();
        Ok(flushed | compacted)
    }
}
