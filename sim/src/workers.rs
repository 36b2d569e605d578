//! A process that compacts for the writer, over the same bytes. It dies now and then, in the middle of
//! its work; it meets no other faults of its own.

use crate::check::Checked;
use crate::life::options;
use crate::world::World;
use siltstone_kv::{CompactWorker, Worked};
use siltstone_storage::{Env, FaultPlan, FaultyBlobs};
use std::sync::Arc;

/// A worker with the store it sees.
pub(crate) struct Helper {
    worker: CompactWorker,
    store: FaultyBlobs,
}

impl World {
    /// A worker looks for something to do, and does it.
    pub(crate) fn work_elsewhere(&mut self) -> Checked {
        let helper = match self.helper.take() {
            Some(helper) => helper,
            None => self.open_helper()?,
        };
        if self.rng.u8(0..8) == 0 {
            let at = helper.store.calls() + self.rng.u64(1..40);
            helper.store.set_plan(FaultPlan::crash_at(at));
        }
        let worked = helper.worker.work();
        if helper.store.is_crashed() {
            self.note("a worker dies".into());
            return Ok(());
        }
        helper.store.set_plan(FaultPlan::default());
        match worked.map_err(|error| format!("worker: {error}"))? {
            Worked::Nothing => self.note("a worker finds nothing".into()),
            Worked::Compacted(stats) => {
                self.note(format!("a worker compacts, {} kept", stats.entries));
                self.report.elsewhere += 1;
            }
            Worked::Lost(_) => self.note("a worker comes too late".into()),
        }
        self.helper = Some(helper);
        Ok(())
    }

    fn open_helper(&mut self) -> Result<Helper, String> {
        let (env, _) = Env::simulated(Arc::new(self.mem.clone()), self.rng.u64(..));
        let store = FaultyBlobs::new(env.blobs.clone(), self.clock.clone(), FaultPlan::default());
        let env = Env {
            blobs: Arc::new(store.clone()),
            clock: self.clock.clone(),
            ..env
        };
        self.note("a worker comes".into());
        let worker =
            CompactWorker::open(env, options()).map_err(|error| format!("worker: {error}"))?;
        Ok(Helper { worker, store })
    }
}
