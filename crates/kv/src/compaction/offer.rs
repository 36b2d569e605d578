//! Compactions that the writer leaves to other processes. It offers one when a worker is known to be
//! there, looks now and then how far it is, and takes it back when nobody begins, when nobody goes
//! on, or when writes cannot wait for it any longer. No clock but the writer's own is asked.

use crate::compaction::pick::Plan;
use crate::compaction::run::{Claim, is_plain_move};
use crate::compaction::task;
use crate::compaction::work::{Job, Names, Worker};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::operator;
use crate::state::DbState;
use crate::stats::add;
use crate::types::SegmentId;
use crate::view::{KeyspaceCore, View};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Inputs of less than one part in this many of a table are compacted sooner than offered.
const WORTH: u64 = 8;
/// Names that are set aside beside one for each input and each table's worth of bytes.
const SPARE_NAMES: u64 = 16;
/// A job that nobody claims is taken back in this part of the patience with one that is claimed.
const UNCLAIMED: u32 = 3;
/// With more held commits than this a job would make the manifest large.
const MOST_HELD: usize = 10_000;
/// How often the writer looks how far the workers are: in a folder, and in a bucket.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_IN_BUCKET: Duration = Duration::from_secs(1);

/// What the writer remembers of its offers.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    open: Vec<Offer>,
    seen: BTreeMap<u64, Seen>,
    /// Names of jobs that were taken back. Whoever had claimed one may have written under them.
    void: Vec<Names>,
}

#[derive(Debug)]
struct Offer {
    job: u64,
    core: Arc<KeyspaceCore>,
    inputs: Vec<SegmentId>,
    names: Names,
    claim: Option<Worker>,
    /// When it was offered, claimed or last seen to go on.
    since: Duration,
}

/// The last sign of life of a worker.
#[derive(Debug)]
struct Seen {
    beat: u64,
    /// `None`: it may be of long ago.
    at: Option<Duration>,
}

impl Offers {
    /// At open: whoever is listed must first show that it is still there.
    pub(crate) fn new(state: &DbState) -> Self {
        let listed = state.work.workers.iter();
        let seen = listed.map(|worker| {
            let beat = worker.beat;
            (worker.id, Seen { beat, at: None })
        });
        Self {
            seen: seen.collect(),
            ..Self::default()
        }
    }

    fn look(&mut self, workers: &[Worker], now: Duration) {
        for worker in workers {
            let seen = self.seen.entry(worker.id);
            let unknown = Seen {
                beat: worker.beat.wrapping_add(1),
                at: None,
            };
            let seen = seen.or_insert(unknown);
            if seen.beat != worker.beat {
                *seen = Seen {
                    beat: worker.beat,
                    at: Some(now),
                };
            }
        }
        self.seen
            .retain(|id, _| workers.iter().any(|worker| worker.id == *id));
    }

    fn alive(&self, now: Duration, patience: Duration) -> usize {
        let recent = |seen: &&Seen| seen.at.is_some_and(|at| now.saturating_sub(at) < patience);
        self.seen.values().filter(recent).count()
    }
}

impl Core {
    /// Offers what was picked to the workers, if there are any to spare and it is for others to do.
    /// True when it was; the tables then stay claimed until it is done or taken back.
    pub(crate) fn offer(
        &self,
        core: &Arc<KeyspaceCore>,
        plan: &Plan,
        claim: &mut Claim<'_>,
    ) -> Result<bool> {
        let current = self.manifest.current();
        if current.state.work.workers.is_empty() || self.is_short_of_tables(core) {
            return Ok(false);
        }
        let now = self.shared.env.clock.elapsed();
        let mut offers = self.offers.lock();
        offers.look(&current.state.work.workers, now);
        if offers.open.len() >= offers.alive(now, self.shared.options.worker_patience) {
            return Ok(false);
        }
        let view = core.view.load_full();
        let Some(job) = self.job(core, plan, &view)? else {
            return Ok(false);
        };
        self.edit(|state| {
            state.work.jobs.push(job.clone());
            Ok(())
        })?;
        tracing::debug!(
            keyspace = core.name,
            job = job.number,
            "offered a compaction"
        );
        claim.keep();
        offers.open.push(Offer {
            job: job.number,
            core: core.clone(),
            inputs: job.inputs,
            names: job.names,
            claim: None,
            since: now,
        });
        Ok(true)
    }

    /// `None` when it is sooner done here, or cannot be done elsewhere.
    fn job(&self, core: &KeyspaceCore, plan: &Plan, view: &View) -> Result<Option<Job>> {
        let inputs = task::inputs(view, plan)?;
        let bytes: u64 = inputs.iter().map(|table| table.meta.bytes).sum();
        let table_bytes = self.shared.options.table_bytes;
        let operator = view.options.merge_operator.as_deref();
        // Values in blob files are copied by who knows best how much of each file is in use.
        let moves_apart = view
            .options
            .blob_threshold
            .is_some_and(|least| least < u32::MAX);
        let in_blob_files = moves_apart || inputs.iter().any(|table| !table.meta.blobs.is_empty());
        // A worker knows the built-in operators, and not what a program may have called like one.
        let own = &self.shared.options.merge_operators;
        let unknown_elsewhere = |name: &str| {
            operator::built_in(name).is_none() || own.iter().any(|own| own.name() == name)
        };
        if bytes < table_bytes / WORTH || in_blob_files || operator.is_some_and(unknown_elsewhere) {
            return Ok(None);
        }
        let terms = self.terms(core, view);
        let retention = terms.retention(view);
        let newest = inputs.iter().map(|table| table.meta.max_commit).max();
        if terms.held.len() > MOST_HELD
            || newest.is_some_and(|newest| newest > terms.head)
            || is_plain_move(&inputs, plan, &retention, view, terms.now.max(view.expired))
        {
            return Ok(None);
        }
        let count = SPARE_NAMES + 2 * (inputs.len() as u64 + bytes / table_bytes.max(1));
        let first = self.next_segment.fetch_add(count, Ordering::Relaxed);
        let epoch = self.manifest.epoch();
        Ok(Some(Job {
            number: SegmentId::new(epoch, first).0,
            keyspace: core.id,
            inputs: plan.inputs.clone(),
            level: plan.level,
            terms,
            names: Names {
                epoch,
                first,
                count,
            },
            claim: None,
        }))
    }

    /// When to look again how far the workers are; `None` when nothing is offered.
    pub(crate) fn look_at_offers_in(&self) -> Option<Duration> {
        let any = !self.offers.lock().open.is_empty();
        any.then_some(match self.bucket {
            true => LOOK_IN_BUCKET,
            false => LOOK,
        })
    }

    /// Looks how far the workers are. True when something was done, or came back.
    pub(crate) fn tend_offers(&self) -> Result<bool> {
        let mut offers = self.offers.lock();
        if offers.open.is_empty() {
            return Ok(false);
        }
        let refreshed = self.manifest.refresh().map_err(Error::from);
        let current = refreshed.inspect_err(|error| self.stop_if_final(error))?;
        let now = self.shared.env.clock.elapsed();
        let patience = self.shared.options.worker_patience;
        offers.look(&current.state.work.workers, now);
        let mut late = Vec::new();
        let mut gone = Vec::new();
        for offer in &mut offers.open {
            let Some(job) = current.state.work.job(offer.job) else {
                gone.push(offer.job);
                continue;
            };
            if job.claim != offer.claim {
                offer.claim = job.claim.clone();
                offer.since = now;
            }
            let most = match offer.claim {
                Some(_) => patience,
                None => patience / UNCLAIMED,
            };
            if now.saturating_sub(offer.since) >= most || self.is_short_of_tables(&offer.core) {
                late.push(offer.job);
            }
        }
        if !late.is_empty() {
            self.edit(|state| {
                state.work.jobs.retain(|job| !late.contains(&job.number));
                Ok(())
            })?;
            gone.extend(&late);
        }
        let is_gone = |offer: &mut Offer| gone.contains(&offer.job);
        let over: Vec<_> = offers.open.extract_if(.., is_gone).collect();
        for offer in &over {
            self.end_offer(&mut offers, offer, late.contains(&offer.job));
        }
        drop(offers);
        self.after_offers(&over);
        Ok(!over.is_empty())
    }

    /// Takes back what is offered: to do it now, or to close.
    pub(crate) fn withdraw_offers(&self) -> Result<()> {
        let mut offers = self.offers.lock();
        if offers.open.is_empty() {
            return Ok(());
        }
        self.edit(|state| {
            state.work.jobs.clear();
            Ok(())
        })?;
        let over = std::mem::take(&mut offers.open);
        for offer in &over {
            self.end_offer(&mut offers, offer, false);
        }
        drop(offers);
        self.after_offers(&over);
        Ok(())
    }

    /// Shows what workers did, and removes what they left.
    fn after_offers(&self, over: &[Offer]) {
        for offer in over {
            self.install(&offer.core, None);
        }
        if !over.is_empty() {
            self.sweep_void_names();
            self.collect_garbage();
        }
    }

    fn end_offer(&self, offers: &mut Offers, offer: &Offer, late: bool) {
        let state = &self.manifest.current().state;
        let published = offer.inputs.iter().all(|id| state.tables.get(id).is_none());
        if published {
            add(&self.shared.counters.worker_compactions, 1);
            metrics::counter!("siltstone_worker_compactions_total").increment(1);
        } else {
            offers.void.push(offer.names.clone());
        }
        if late {
            // Whoever stood still, or did not begin, must show again that it is there.
            let claim = offer.claim.as_ref();
            let idle = |id: &u64| claim.is_none_or(|worker| worker.id == *id);
            for (_, seen) in offers.seen.iter_mut().filter(|(id, _)| idle(id)) {
                seen.at = None;
            }
        }
        tracing::debug!(
            job = offer.job,
            published,
            late,
            "an offered compaction is over"
        );
        let mut claimed = self.claimed.lock();
        for id in &offer.inputs {
            claimed.remove(id);
        }
    }

    /// True when level 0 fills up so that writers would soon be slowed.
    fn is_short_of_tables(&self, core: &KeyspaceCore) -> bool {
        let view = core.view.load();
        let level0 = view.runs.iter().filter(|run| run.level == 0).count();
        level0 * 4 > self.shared.options.level0_stop * 3
    }

    /// Deletes what workers wrote for jobs that were taken back. One that has not noticed yet may
    /// write more: it deletes that itself, and if it dies, the next look or the next open does.
    fn sweep_void_names(&self) {
        let void = self.offers.lock().void.clone();
        if void.is_empty() || self.shared.is_stopped() {
            return;
        }
        let state = &self.manifest.current().state;
        let known = |id: &SegmentId| {
            state.tables.get(id).is_some() || state.tables.retired().any(|retired| retired == id)
        };
        let Ok(listed) = self.shared.env.blobs.list("sst/") else {
            return;
        };
        let found = listed
            .iter()
            .filter_map(|blob| SegmentId::of_blob(&blob.name));
        let stray = |id: &SegmentId| void.iter().any(|names| names.contains(*id)) && !known(id);
        self.discard(found.filter(stray).collect::<Vec<_>>());
    }
}
