//! A process that compacts for a database which another one writes to. It takes no lock and no
//! charge: it claims a job in the manifest, reads and writes tables, and puts its outputs in place with
//! one edit, which fails when the job was taken back, the writer replaced or an input is gone.

use crate::blob::live::sparse;
use crate::compaction::output::Maker;
use crate::compaction::task::{self, Made, Task};
use crate::compaction::work::{Job, Worker};
use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::operator;
use crate::options::Options;
use crate::shared::Shared;
use crate::state::DbState;
use crate::stats::CompactStats;
use crate::types::{Commit, KeyspaceId, SegmentId};
use crate::view::{SegmentPin, Tables, View};
use parking_lot::Mutex;
use siltstone_storage::{Env, ManifestStore, Numbered, Role};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Signs of life that fit into the writer's patience.
const BEATS: u32 = 3;

/// Compacts for the writer of a database. Any number may run, on any machine that reaches the store.
#[derive(Debug)]
pub struct CompactWorker {
    shared: Arc<Shared>,
    manifest: ManifestStore<DbState>,
    tables: Mutex<Tables>,
    id: u64,
    pulse: Mutex<Pulse>,
}

/// When the worker last showed that it is there.
#[derive(Debug, Default)]
struct Pulse {
    beat: u64,
    at: Option<Duration>,
    /// The version of the segment log at that time: while the writer adds no table, it offers
    /// nothing. Not the manifest's number, which other workers raise as well.
    tables: u64,
    /// The writer's epoch: a new writer does not know who is still there.
    epoch: u64,
}

/// What a [`CompactWorker`] found to do.
#[derive(Debug)]
pub enum Worked {
    /// There was no job.
    Nothing,
    /// It compacted.
    Compacted(CompactStats),
    /// It began, but somebody else was quicker, or the writer took the job back. Nothing is changed.
    Lost(Error),
}

impl CompactWorker {
    /// Opens the database in `env` for working on it. Of the options, the memory budget and the writer's
    /// patience count; of merge operators it knows the built-in ones.
    ///
    /// # Errors
    /// [`Error::Storage`]: not found when there is no database, damage, a newer format.
    pub fn open(env: Env, options: Options) -> Result<Self> {
        options.check()?;
        let manifest = ManifestStore::open(env.clone(), Role::Helper, || {
            unreachable!("helpers create nothing")
        })?;
        let shared = Shared::new(env.clone(), options);
        Ok(Self {
            tables: Mutex::new(Tables::new(env.blobs.clone(), shared.cache.clone())),
            id: env.rng.next(),
            pulse: Mutex::default(),
            shared,
            manifest,
        })
    }

    /// Looks for a job and does it. Call it again at once after one that was done, else after a while;
    /// it also shows the writer that the worker is there.
    ///
    /// # Errors
    /// The store's, and damage in an input; the job is given back to the writer.
    pub fn work(&self) -> Result<Worked> {
        let current = self.manifest.refresh()?;
        let free = |job: &&Job| job.claim.is_none() && self.can_do(&current.state, job);
        let Some(number) = current.state.work.jobs.iter().find(free).map(|j| j.number) else {
            self.show(&current)?;
            return Ok(Worked::Nothing);
        };
        let claimed = match self.claim(number) {
            Ok(claimed) => claimed,
            Err(error @ Error::CompactionLost { .. }) => return Ok(Worked::Lost(error)),
            Err(error) => return Err(error),
        };
        // The writer may have taken it back in the same moment.
        let Some(job) = claimed.state.work.job(number) else {
            return Ok(Worked::Lost(lost(number)));
        };
        let done = self.run(&claimed.state, job);
        let worked = match done {
            Ok(stats) => Ok(Worked::Compacted(stats)),
            Err(error @ Error::CompactionLost { .. }) => Ok(Worked::Lost(error)),
            // Whose inputs were replaced does not find them any more.
            Err(_) if self.is_lost(job) => Ok(Worked::Lost(lost(number))),
            Err(error) => Err(error),
        };
        if !matches!(worked, Ok(Worked::Compacted(_)))
            && let Err(error) = self.give_back(number)
        {
            tracing::debug!(%error, "the writer will take the job back by itself");
        }
        let newest = self.manifest.current();
        self.tables.lock().forget_replaced(&newest.state);
        worked
    }

    /// True when the job is not this worker's any more, or there is nothing left to do.
    fn is_lost(&self, job: &Job) -> bool {
        let Ok(newest) = self.manifest.refresh() else {
            return false;
        };
        let mine = |job: &Job| job.claim.as_ref().is_some_and(|claim| claim.id == self.id);
        let tables = &newest.state.tables;
        !newest.state.work.job(job.number).is_some_and(mine)
            || job.inputs.iter().any(|id| tables.get(id).is_none())
    }

    /// Says goodbye, so that the writer offers nothing more.
    ///
    /// # Errors
    /// The store's; the writer then notices by itself after a while.
    pub fn leave(&self) -> Result<()> {
        self.edit(|state| {
            state.work.workers.retain(|worker| worker.id != self.id);
            Ok(())
        })?;
        Ok(())
    }

    /// What the worker takes from the world.
    pub fn env(&self) -> &Env {
        &self.shared.env
    }

    /// The manifest it looked at last.
    pub fn manifest(&self) -> Arc<Numbered<DbState>> {
        self.manifest.current()
    }

    fn can_do(&self, state: &DbState, job: &Job) -> bool {
        let operator = state
            .keyspace(job.keyspace)
            .map(|keyspace| keyspace.options.merge_operator.as_deref());
        match operator {
            None => false,
            Some(None) => true,
            Some(Some(name)) => operator::built_in(name).is_some(),
        }
    }

    fn claim(&self, number: u64) -> Result<Arc<Numbered<DbState>>> {
        let me = self.next_beat();
        let claimed = self.edit(|state| {
            let job = state.work.jobs.iter_mut().find(|job| job.number == number);
            let job = job.ok_or_else(|| lost(number))?;
            if job.claim.is_some() {
                return Err(lost(number));
            }
            job.claim = Some(me.clone());
            state.work.note(&me);
            Ok(())
        })?;
        self.has_shown(&me, &claimed, claimed.epoch);
        Ok(claimed)
    }

    fn run(&self, state: &DbState, job: &Job) -> Result<CompactStats> {
        let clock = &self.shared.env.clock;
        let started = clock.elapsed();
        let plan = job.plan();
        let view = self
            .view(state, job.keyspace)
            .ok_or_else(|| lost(job.number))?;
        if view.policy_changes != job.terms.policy_changes {
            return Err(lost(job.number));
        }
        let inputs = task::inputs(&view, &plan)?;
        let mut stats = CompactStats {
            inputs: plan.inputs.clone(),
            level: plan.level,
            bytes_read: inputs.iter().map(|table| table.meta.bytes).sum(),
            ..CompactStats::default()
        };
        let operator = view.options.merge_operator.as_deref();
        let operator = operator.and_then(operator::built_in);
        let bench = Bench {
            worker: self,
            job,
            used: AtomicU64::new(0),
        };
        let task = Task {
            maker: &bench,
            keyspace: job.keyspace,
            plan: &plan,
            view: &view,
            terms: &job.terms,
            retention: &job.terms.retention(&view),
            operator: operator.as_deref(),
            sparse: sparse(state, job.keyspace),
        };
        let made = task.run(&inputs, Vec::new())?;
        made.note(&mut stats);
        if let Err(error) = self.publish(job, &made) {
            if !is_unknown(&error) {
                bench.discard(made.names());
            }
            return Err(error);
        }
        stats.latency = clock.elapsed().saturating_sub(started);
        Ok(stats)
    }

    fn publish(&self, job: &Job, made: &Made) -> Result<()> {
        let plan = job.plan();
        self.edit(|state| {
            let taken = state.work.take(job.number);
            match taken.and_then(|job| job.claim) {
                Some(claim) if claim.id == self.id => made.publish(state, job.keyspace, &plan),
                _ => Err(lost(job.number)),
            }
        })?;
        Ok(())
    }

    /// The job is the writer's again.
    fn give_back(&self, number: u64) -> Result<()> {
        self.edit(|state| {
            let mine = |job: &Job| job.claim.as_ref().is_some_and(|claim| claim.id == self.id);
            let jobs = &mut state.work.jobs;
            jobs.retain(|job| job.number != number || !mine(job));
            Ok(())
        })?;
        Ok(())
    }

    /// A keyspace as the manifest shows it, with nothing in memory.
    fn view(&self, state: &DbState, keyspace: KeyspaceId) -> Option<View> {
        let runs = self.tables.lock().runs(state, keyspace);
        let memtables = (Arc::new(Memtable::new(0, 0)), Vec::new());
        Some(View::new(
            state.keyspace(keyspace)?,
            &state.hidden,
            memtables,
            runs,
            Commit::ZERO,
            SegmentPin::of_nothing(),
        ))
    }

    fn edit(
        &self,
        mut edit: impl FnMut(&mut DbState) -> Result<()>,
    ) -> Result<Arc<Numbered<DbState>>> {
        self.manifest.commit(|state| {
            let mut state = state.clone();
            edit(&mut state)?;
            Ok(state)
        })
    }

    fn next_beat(&self) -> Worker {
        let mut pulse = self.pulse.lock();
        pulse.beat += 1;
        Worker {
            id: self.id,
            beat: pulse.beat,
        }
    }

    fn has_shown(&self, me: &Worker, shown: &Numbered<DbState>, epoch: u64) {
        let mut pulse = self.pulse.lock();
        pulse.beat = pulse.beat.max(me.beat);
        pulse.at = Some(self.shared.env.clock.elapsed());
        pulse.tables = shown.state.tables.version();
        pulse.epoch = epoch;
    }

    fn is_due(&self) -> bool {
        let every = self.shared.options.worker_patience / BEATS;
        let now = self.shared.env.clock.elapsed();
        let at = self.pulse.lock().at;
        at.is_none_or(|at| now.saturating_sub(at) >= every)
    }

    /// Shows the writer that the worker is there, when there is a writer that may look.
    fn show(&self, current: &Numbered<DbState>) -> Result<()> {
        let known = |worker: &Worker| worker.id == self.id;
        let listed = current.state.work.workers.iter().any(known);
        let pulse = self.pulse.lock();
        let (news, new_writer) = (
            pulse.tables != current.state.tables.version(),
            pulse.epoch != current.epoch,
        );
        drop(pulse);
        if !new_writer && !((news || !listed) && self.is_due()) {
            return Ok(());
        }
        let me = self.next_beat();
        let shown = self.edit(|state| {
            state.work.note(&me);
            Ok(())
        })?;
        // A writer that took charge in the same moment may have looked before: show it once more.
        self.has_shown(&me, &shown, current.epoch);
        Ok(())
    }
}

/// What one job is done with: the worker, and the names the job came with.
struct Bench<'a> {
    worker: &'a CompactWorker,
    job: &'a Job,
    used: AtomicU64,
}

impl Maker for Bench<'_> {
    fn shared(&self) -> &Shared {
        &self.worker.shared
    }

    fn new_name(&self, blob_file: bool) -> Result<SegmentId> {
        let at = self.used.fetch_add(1, Ordering::Relaxed);
        let name = self.job.names.get(at, blob_file);
        name.ok_or_else(|| lost(self.job.number))
    }

    fn discard(&self, segments: Vec<SegmentId>) {
        for id in segments {
            self.worker.tables.lock().forget(id);
            if let Err(error) = self.worker.shared.env.blobs.delete(&id.blob()) {
                tracing::debug!(%error, "left for the writer to sweep");
            }
        }
    }

    /// Shows the writer that the job goes on, and learns whether it still is one.
    fn go_on(&self) -> Result<()> {
        let worker = self.worker;
        if !worker.is_due() {
            return Ok(());
        }
        let me = worker.next_beat();
        let shown = worker.edit(|state| {
            let number = self.job.number;
            let job = state.work.jobs.iter_mut().find(|job| job.number == number);
            let claim = job.and_then(|job| job.claim.as_mut());
            match claim {
                Some(claim) if claim.id == me.id => *claim = me.clone(),
                _ => return Err(lost(number)),
            }
            state.work.note(&me);
            Ok(())
        })?;
        worker.has_shown(&me, &shown, shown.epoch);
        Ok(())
    }
}

fn lost(job: u64) -> Error {
    Error::CompactionLost {
        segment: format!("of job {job:x}"),
    }
}

/// True when nobody can say whether the outputs are live.
fn is_unknown(error: &Error) -> bool {
    matches!(
        error,
        Error::Storage(siltstone_storage::Error::Io { operation, .. })
            if operation.contains("outcome unknown")
    )
}
