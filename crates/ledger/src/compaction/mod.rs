//! Content compaction: every block of exactly the captured CARs, once, in few CARs instead of many.
//!
//! 1. *Capture*: the names of live CARs. Nothing is locked; commits go on.
//! 2. *Copy*: a [`Strategy`] puts their blocks into new CARs, each block checked by its hash. What it
//!    put is compared with what was captured: one block short, and all of it is refused.
//! 3. *Swap*: redirects from the old names are made durable, then one edit of the state replaces
//!    exactly the captured CARs and keeps what was appended since. It goes through the write queue as
//!    a commit does, so no writer waits longer than for one.
//! 4. *Delete*: replaced CARs go when no snapshot can read them.
//!
//! Nothing here asks which blocks are still needed. Dropping history is `prune`'s.

mod output;
mod pick;
mod strategy;

pub use output::Output;
pub(crate) use pick::pick;
pub use strategy::{Captured, CapturedBlock, Content, Full, Strategy};

use crate::block::{Blocks, Cid};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::store::{
    CarId, CarMeta, Edit, Floor, Location, RedirectFile, Segment, State, Swap, add_redirects,
};
use crate::writes::Request;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// CARs that were captured and replaced. Zero: there was nothing to do, and nothing was done.
    pub captured_cars: usize,
    /// Their bytes.
    pub captured_bytes: u64,
    /// CARs that stand in their place.
    pub output_cars: usize,
    /// Their bytes.
    pub output_bytes: u64,
    /// Blocks copied.
    pub blocks: u64,
    /// Blocks that were in more than one captured CAR, copied once.
    pub deduplicated_blocks: u64,
    /// Bytes that were saved so.
    pub deduplicated_bytes: u64,
    /// Old names that lead to the outputs now.
    pub redirects: usize,
    /// Bytes of replaced CARs that were deleted by the end of it; snapshots hold others.
    pub deleted_bytes: u64,
}

/// A compaction between its capture and its swap. [`Ledger::compact`](crate::Ledger::compact) does all
/// of it; this is for who must put something between.
#[derive(Debug)]
pub struct Compaction {
    core: Arc<Core>,
    captured: Vec<Segment<CarId, CarMeta>>,
    level: u8,
    outputs: Vec<Segment<CarId, CarMeta>>,
    report: CompactionReport,
}

impl Compaction {
    pub(crate) fn new(core: Arc<Core>, captured: Vec<Segment<CarId, CarMeta>>, level: u8) -> Self {
        let report = CompactionReport {
            captured_cars: captured.len(),
            captured_bytes: captured.iter().map(|car| car.meta.bytes).sum(),
            ..CompactionReport::default()
        };
        Self {
            core,
            captured,
            level,
            outputs: Vec::new(),
            report,
        }
    }

    /// The names that were captured, in the order of the log.
    pub fn captured(&self) -> Vec<CarId> {
        self.captured.iter().map(|car| car.id).collect()
    }

    /// Copies the captured blocks and checks that none is missing.
    ///
    /// # Errors
    /// [`Error::StrategyRefused`]; what the strategy failed with; damage found in a captured CAR. The
    /// log is unchanged, and the outputs are deleted.
    pub fn copy(&mut self, strategy: &dyn Strategy) -> Result<()> {
        self.copy_kept(strategy, |_| true)
    }

    /// As [`Compaction::copy`], where only the blocks that `kept` names must arrive.
    pub(crate) fn copy_kept(
        &mut self,
        strategy: &dyn Strategy,
        kept: impl Fn(&Cid) -> bool,
    ) -> Result<()> {
        let run = self.core.store.log.lock().state.counters.next_run;
        let heads = self.core.view().heads.clone();
        let sealer = self.core.store.sealer();
        let mut output = Output::new(
            &self.core.store,
            sealer.as_ref(),
            heads,
            self.level,
            run,
            self.report.captured_bytes,
        );
        let copied = self.copy_into(strategy, &kept, &mut output);
        let (outputs, totals) = output.into_parts();
        self.outputs = outputs;
        if let Err(error) = copied {
            self.abandon();
            return Err(error);
        }
        self.report.output_cars = self.outputs.len();
        self.report.output_bytes = self.outputs.iter().map(|car| car.meta.bytes).sum();
        self.report.blocks = totals.blocks;
        self.report.deduplicated_blocks = totals.again;
        self.report.deduplicated_bytes = totals.again_bytes;
        Ok(())
    }

    fn copy_into(
        &self,
        strategy: &dyn Strategy,
        kept: &dyn Fn(&Cid) -> bool,
        output: &mut Output<'_>,
    ) -> Result<()> {
        let captured = Captured::new(&self.core.store, &self.captured)?;
        strategy.compact(&captured, output)?;
        output.finish()?;
        let missing = captured.missing_from(output, kept)?;
        if let Some((count, first)) = missing {
            return Err(Error::StrategyRefused {
                strategy: strategy.name().into(),
                what: format!("{count} captured blocks are not in its output, {first} among them"),
            });
        }
        Ok(())
    }

    /// Swaps the captured CARs for the outputs, by one edit.
    ///
    /// # Errors
    /// [`Error::CompactionLost`] when another compaction replaced one of them first: nothing is
    /// changed, and the outputs are deleted.
    pub fn swap(self) -> Result<CompactionReport> {
        self.swap_by(Edit::default(), None)
    }

    /// As [`Compaction::swap`], with a floor, if the events since `head` all descend from it.
    pub(crate) fn swap_with_floor(self, floor: Floor, head: Cid) -> Result<CompactionReport> {
        let edit = Edit {
            floor: Some(floor),
            ..Edit::default()
        };
        self.swap_by(edit, Some(head))
    }

    fn swap_by(mut self, edit: Edit, head: Option<Cid>) -> Result<CompactionReport> {
        let core = self.core.clone();
        let _one_at_a_time = core.compacting.lock();
        let swapped = self.swap_in(edit, head);
        if let Err(error) = swapped {
            self.abandon();
            return Err(error);
        }
        self.outputs.clear();
        core.store.collect_redirects()?;
        self.report.deleted_bytes = core.store.collect()?;
        self.report.redirects = self.captured.len();
        Ok(self.report.clone())
    }

    fn swap_in(&self, edit: Edit, head: Option<Cid>) -> Result<()> {
        let core = self.core.clone();
        let lead_to: Vec<CarId> = self.outputs.iter().map(|car| car.id).collect();
        let outputs = self.outputs.clone();
        self.core.swap_cars(
            self.captured(),
            outputs,
            &lead_to,
            edit,
            move |state| match head {
                Some(head) => core.check_no_merge_since(&head, &state.heads),
                None => Ok(()),
            },
        )
    }

    /// Deletes outputs that nobody will name.
    fn abandon(&mut self) {
        let outputs: Vec<CarId> = self.outputs.drain(..).map(|car| car.id).collect();
        self.core.store.delete_unlisted(&outputs);
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Core {
    /// Replaces live CARs by one edit, if `check` agrees at that moment; their names lead to `lead_to`
    /// from then on. Holds all that they held there, or nothing may be swapped.
    ///
    /// # Errors
    /// [`Error::CompactionLost`] when one of them is not live any more; nothing is changed then.
    pub(crate) fn swap_cars(
        &self,
        captured: Vec<CarId>,
        outputs: Vec<Segment<CarId, CarMeta>>,
        lead_to: &[CarId],
        edit: Edit,
        check: impl FnOnce(&State) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (listed, next) = {
            let log = self.store.log.lock();
            let live: BTreeSet<&CarId> = log.state.cars.live().iter().map(|car| &car.id).collect();
            if !captured.iter().all(|id| live.contains(id)) {
                return Err(Error::CompactionLost);
            }
            (
                log.state.redirects.clone(),
                log.state.counters.next_redirect,
            )
        };
        let blobs = &*self.store.env.blobs;
        let added = add_redirects(blobs, &listed, next, &captured, lead_to)?;
        let redirect: RedirectFile = added.file;
        let swap = Swap {
            captured,
            outputs,
            redirects_added: vec![redirect],
            redirects_removed: added.removed,
        };
        let edit = Edit {
            swap: Some(swap),
            ..edit
        };
        self.submit(Request::Edit(Box::new(move |state| {
            check(state)?;
            Ok((edit, Vec::new()))
        })))?;
        Ok(())
    }

    /// Refuses when anything but local writes came since `head`: they form a chain that ends there.
    fn check_no_merge_since(&self, head: &Cid, heads: &[Cid]) -> Result<()> {
        let mut at = heads.first().copied();
        while let Some(event) = at
            && event != *head
        {
            let change = self.store.change(&self.store.event(&event)?.change)?;
            // What another replica wrote may count on blocks that the prune found to be of no use.
            let ours = change.author.as_deref() == Some(&self.author[..]);
            match &change.parents[..] {
                [one] if ours => at = Some(*one),
                _ => return Err(Error::CompactionLost),
            }
        }
        match at {
            Some(_) => Ok(()),
            None => Err(Error::CompactionLost),
        }
    }

    /// The live CARs whose bytes are here.
    fn live_here(&self) -> Vec<Segment<CarId, CarMeta>> {
        let mut live = self.store.log.lock().state.cars.live().to_vec();
        // What was fetched is here, whatever the state says.
        live.retain(|car| car.meta.location != Location::Away || !self.store.cars.is_away(&car.id));
        live
    }

    /// Captures all live CARs that are here, when there is something to gain.
    pub(crate) fn capture_all(self: &Arc<Self>) -> Option<Compaction> {
        let live = self.live_here();
        let first = live.first()?;
        let one_run = live.iter().all(|car| car.meta.run == first.meta.run);
        let compacted = one_run && first.meta.level > 0;
        let wrong_seal =
            |car: &Segment<CarId, CarMeta>| self.store.options.keys.is_some() && !car.meta.sealed;
        if (live.len() < 2 || compacted) && !live.iter().any(wrong_seal) {
            return None;
        }
        let level = live.iter().map(|car| car.meta.level).max().unwrap_or(0);
        Some(Compaction::new(self.clone(), live, level.max(1)))
    }

    /// Captures these live CARs, if all of them are here.
    pub(crate) fn capture_these(self: &Arc<Self>, cars: &[CarId]) -> Option<Compaction> {
        let live = self.store.log.lock().state.cars.live().to_vec();
        let wanted: BTreeSet<&CarId> = cars.iter().collect();
        let captured: Vec<_> = live
            .into_iter()
            .filter(|car| wanted.contains(&car.id))
            .collect();
        let level = captured.iter().map(|car| car.meta.level).max()?;
        let all = captured.len() == wanted.len();
        let here = !captured.iter().any(|car| self.store.cars.is_away(&car.id));
        (all && here).then(|| Compaction::new(self.clone(), captured, level.max(1)))
    }

    /// Does what compaction the tiers ask for; true when there was some.
    pub(crate) fn compact_tiers(self: &Arc<Self>) -> Result<bool> {
        let mut any = false;
        loop {
            let picked = pick(&self.live_here(), &self.store.options);
            let Some((captured, level)) = picked else {
                return Ok(any);
            };
            let mut compaction = Compaction::new(self.clone(), captured, level);
            compaction.copy(&*self.store.options.strategy)?;
            compaction.swap()?;
            any = true;
        }
    }
}
