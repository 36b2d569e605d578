//! How it goes with a remote: figures for people and programs.

use super::Inner;
use crate::error::Error;
use crate::store::CarId;
use siltstone_storage::Timestamp;
use std::collections::BTreeSet;

/// What a sync did.
#[derive(Debug, Clone, Default)]
pub struct SyncReport {
    /// Archives taken in.
    pub pulled_cars: usize,
    /// Their bytes.
    pub pulled_bytes: u64,
    /// Events that are known now and were not before, merges too.
    pub pulled_events: u64,
    /// Archives sent.
    pub pushed_cars: usize,
    /// Their bytes.
    pub pushed_bytes: u64,
    /// Events that are published now and were not before, merges too.
    pub pushed_events: u64,
    /// True when a new meta was published.
    pub published: bool,
    /// Archives of ours that were deleted in the remote: nobody could name them any more.
    pub deleted_cars: usize,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Replicas whose meta or archives were not taken in, and why. They are looked at again.
    pub refused: Vec<(String, Error)>,
    /// This replica was retired and publishes again from then on; until then it only pulls.
    pub publishes_from: Option<Timestamp>,
}

/// What is pending and how it goes.
#[derive(Debug, Clone, Default)]
pub struct RemoteStatus {
    /// Archives of the log that the remote is not known to have.
    pub pending_cars: usize,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Why the last sync failed; `None` when it succeeded.
    pub last_error: Option<Error>,
    /// Failures since the last success.
    pub failures: u32,
    /// When the next sync is due by itself.
    pub next_try: Option<Timestamp>,
    /// When the last sync succeeded.
    pub last_success: Option<Timestamp>,
}

/// What a sync is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Archives are fetched.
    Pull,
    /// Archives are sent.
    Push,
    /// Archives are fetched that are damaged or missing here.
    Repair,
}

/// How far a sync is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What it is at.
    pub phase: Phase,
    /// Archives that are done.
    pub cars: usize,
    /// Archives of this phase, as far as is known.
    pub of_cars: usize,
    /// Bytes that are done.
    pub bytes: u64,
}

/// What the status is made of.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Archives of our log that the remote has, or for which it has others.
    pub(super) there: BTreeSet<CarId>,
    pub(super) last_error: Option<Error>,
    pub(super) failures: u32,
    pub(super) next_try: Option<Timestamp>,
    pub(super) last_success: Option<Timestamp>,
}

impl Inner {
    pub(super) fn status(&self) -> RemoteStatus {
        let live = match self.core() {
            Ok(core) => core.store.log.lock().state.cars.live().to_vec(),
            Err(_) => Vec::new(),
        };
        let board = self.board.lock();
        let pending = live.iter().filter(|car| !board.there.contains(&car.id));
        RemoteStatus {
            pending_cars: pending.clone().count(),
            pending_bytes: pending.map(|car| car.meta.bytes).sum(),
            last_error: board.last_error.clone(),
            failures: board.failures,
            next_try: board.next_try,
            last_success: board.last_success,
        }
    }

    pub(super) fn tell(&self, progress: &Progress) {
        if let Some(told) = &self.remote.progress {
            told(progress);
        }
    }
}
