//! The commit pipeline: writers queue, a leader takes the group.
//!
//! Every write gets its number in the queue, under one short lock, and its bytes go into the group's
//! buffer as they will stand in the log: no allocation. The first writer that finds nobody leading
//! leads: log (and sync, when any of the group asks for it), memtable, publish, wake. Meanwhile the
//! next group forms. Log order = commit order = publication order.

mod task;
mod uploads;

pub(crate) use uploads::Uploads;

use crate::batch::Footprint;
use crate::core::Core;
use crate::error::Result;
use crate::ingest::Listing;
use crate::memtable::{Entry, Memtable};
use crate::options::{Background, Durability};
use crate::stats::add;
use crate::transaction::in_flight::{Check, InFlight};
use crate::types::{Commit, KeyspaceId};
use crate::waiter::{Outcome, Waiter};
use crate::wal::frame;
use crate::wal::log::{Log, Upload};
use parking_lot::MutexGuard;
use siltstone_storage::Timestamp;
use std::sync::Arc;

/// Groups a leader serves before it hands over to one of those who wait.
const GROUPS_PER_LEADER: u32 = 1;
/// From this many writes on, a group goes into the memtable while it is synced.
const PARALLEL_FROM: u64 = 8;
/// A group takes no further writes from this size on, in bytes.
const MAX_GROUP: usize = 512 << 20;

/// Writes that go through the log together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    payload: Vec<u8>,
    first: Commit,
    commits: u64,
    durable: bool,
    /// A sync that writes nothing waits too.
    barrier: bool,
    user_bytes: u64,
    footprint: Footprint,
    waiters: Vec<Arc<Waiter>>,
    /// The memtable of each keyspace it writes to, with the room set aside there.
    targets: Vec<(KeyspaceId, Arc<Memtable>, usize)>,
    /// Tables that become part of the database with one of its commits.
    listings: Vec<(Commit, Arc<Listing>)>,
    time: Timestamp,
}

impl Group {
    fn last(&self) -> Commit {
        Commit(self.first.0 + self.commits - 1)
    }

    fn is_empty(&self) -> bool {
        self.commits == 0 && !self.barrier
    }

    fn clear(&mut self) {
        if self.payload.capacity() > 4 << 20 {
            self.payload = Vec::new();
        }
        self.payload.clear();
        self.commits = 0;
        self.durable = false;
        self.barrier = false;
        self.user_bytes = 0;
        self.footprint.clear();
        self.waiters.clear();
        self.targets.clear();
        self.listings.clear();
    }
}

/// Where writes gather.
#[derive(Debug)]
pub(crate) struct Queue {
    group: Group,
    spare: Option<Group>,
    next: Commit,
    leading: bool,
    /// What open transactions must know of.
    pub(crate) in_flight: InFlight,
}

impl Queue {
    /// The first commit will be the one after `head`.
    pub(crate) fn new(head: Commit) -> Self {
        Self {
            group: Group::default(),
            spare: Some(Group::default()),
            next: Commit(head.0 + 1),
            leading: false,
            in_flight: InFlight::default(),
        }
    }

    /// The number that the next write gets.
    pub(crate) fn next(&self) -> Commit {
        self.next
    }

    fn take(&mut self) -> Group {
        let next = self.spare.take().unwrap_or_default();
        std::mem::replace(&mut self.group, next)
    }
}

/// What one write is.
pub(crate) struct Write<'a> {
    /// The operations, encoded; their number; 0 for a barrier.
    pub(crate) encode: &'a mut dyn FnMut(&mut Vec<u8>),
    pub(crate) ops: u64,
    pub(crate) footprint: &'a Footprint,
    pub(crate) user_bytes: u64,
    pub(crate) durability: Durability,
    /// A transaction's: what must not have been written meanwhile.
    pub(crate) check: Option<Check<'a>>,
    /// An ingest's: tables to list once its record is durable.
    pub(crate) listing: Option<Arc<Listing>>,
}

/// A write that has its number and waits for its group.
#[derive(Debug)]
pub(crate) enum Submitted<'a> {
    /// This caller leads.
    Lead,
    /// This task leads a group of its own alone, in which nothing has to wait.
    LeadNow(Group, MutexGuard<'a, Log>),
    /// Somebody else does.
    Follow(Arc<Waiter>),
}

/// What a writer may do when nobody leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MayLead {
    /// It may wait for the disk, also for others.
    Thread,
    /// It must not wait: it leads where that takes no sync and no new log file.
    Task,
    No,
}

impl Core {
    /// Gives the write its commit and its place in the group.
    pub(crate) fn enqueue(
        &self,
        write: &mut Write<'_>,
        waiter: impl FnOnce() -> Arc<Waiter>,
        may_lead: MayLead,
    ) -> Result<(Commit, Submitted<'_>)> {
        self.shared.check_writable()?;
        let may_lead = match self.bucket && self.threaded() {
            true => MayLead::No,
            false => may_lead,
        };
        let mut queue = self.queue.lock();
        while queue.group.payload.len() > MAX_GROUP {
            drop(queue);
            std::thread::yield_now();
            queue = self.queue.lock();
        }
        let Queue {
            group,
            next,
            in_flight,
            ..
        } = &mut *queue;
        let commit = *next;
        // In the step that gives the number: nobody comes between check and commit.
        if let Some(check) = &write.check
            && let Err(conflict) = in_flight.check(check)
        {
            drop(queue);
            return Err(self.conflict(conflict, check.snapshot));
        }
        if write.ops > 0 {
            if group.commits == 0 {
                group.first = commit;
            }
            group.commits += 1;
            crate::varint::put(&mut group.payload, write.ops);
            let start = group.payload.len();
            (write.encode)(&mut group.payload);
            in_flight.record(commit, &group.payload[start..], self.shared.visible());
            group
                .listings
                .extend(write.listing.take().map(|listing| (commit, listing)));
            group.footprint.merge(write.footprint);
            group.user_bytes += write.user_bytes;
        } else {
            group.barrier = true;
        }
        group.durable |= write.durability == Durability::Durable;
        let lead = !queue.leading;
        let at_once = match may_lead {
            MayLead::Task if lead => self.log_at_once(&queue.group),
            _ => None,
        };
        let submitted = match at_once {
            Some(log) => Submitted::LeadNow(queue.take(), log),
            None if lead && may_lead == MayLead::Thread => Submitted::Lead,
            None => {
                let waiter = waiter();
                queue.group.waiters.push(waiter.clone());
                Submitted::Follow(waiter)
            }
        };
        if write.ops > 0 {
            queue.next = Commit(commit.0 + 1);
        }
        if lead {
            queue.leading = true;
            if matches!(submitted, Submitted::Follow(_)) {
                drop(queue);
                self.lead_elsewhere();
            }
        }
        Ok((commit, submitted))
    }

    /// Writes and waits for the asked durability.
    pub(crate) fn write(&self, write: &mut Write<'_>) -> Result<Commit> {
        self.write_numbered(write, |_| {})
    }

    /// As [`Core::write`]; `numbered` is told the number before the write goes on its way. Whoever
    /// calls under a lock of its own lets go of it there, so that its order is the commits' order.
    pub(crate) fn write_numbered(
        &self,
        write: &mut Write<'_>,
        numbered: impl FnOnce(Commit),
    ) -> Result<Commit> {
        let (commit, submitted) = self.enqueue(write, Waiter::of_thread, MayLead::Thread)?;
        numbered(commit);
        match submitted {
            Submitted::Lead => self.lead()?,
            Submitted::LeadNow(group, log) => self.lead_now(group, log)?,
            Submitted::Follow(waiter) => match waiter.wait() {
                Outcome::Done(result) => result?,
                Outcome::Lead => self.lead()?,
            },
        }
        Ok(commit)
    }

    /// Serves the group that holds the caller's write, then hands over to one of those who wait.
    pub(crate) fn lead(&self) -> Result<()> {
        let mut mine = None;
        for served in 1.. {
            let group = self.queue.lock().take();
            let done = self.process(group);
            let next = self.next_leader(served >= GROUPS_PER_LEADER);
            // First the next leader, so that its sync starts while this group is woken.
            match &next {
                Next::Waiter(waiter) => waiter.tell(Outcome::Lead),
                Next::CommitThread => self.lead_elsewhere(),
                Next::Same | Next::Nobody => {}
            }
            if let Some((group, result)) = done {
                mine.get_or_insert_with(|| result.clone());
                self.finish(group, &result);
            }
            if !matches!(next, Next::Same) {
                break;
            }
        }
        mine.unwrap_or(Ok(()))
    }

    /// Has the commit thread lead; after close there is none, and those who wait are told here.
    fn lead_elsewhere(&self) {
        if !self.signals.lead() {
            self.lead_all();
        }
    }

    /// Serves groups until nobody waits; the life of the commit thread.
    pub(crate) fn lead_all(&self) {
        loop {
            if self.bucket {
                self.spread_uploads();
            }
            let group = self.queue.lock().take();
            if let Some((group, result)) = self.process(group) {
                self.finish(group, &result);
            }
            let mut queue = self.queue.lock();
            if queue.group.is_empty() {
                queue.leading = false;
                return;
            }
        }
    }

    fn next_leader(&self, hand_over: bool) -> Next {
        let mut queue = self.queue.lock();
        if queue.group.is_empty() {
            queue.leading = false;
            return Next::Nobody;
        }
        if !hand_over {
            return Next::Same;
        }
        let waiters = &mut queue.group.waiters;
        match waiters.iter().position(|waiter| waiter.can_lead()) {
            Some(at) => Next::Waiter(waiters.swap_remove(at)),
            None if self.shared.options.background == Background::Threads => Next::CommitThread,
            None => Next::Same,
        }
    }

    /// Log, memtable, publish. `None`: the group waits for its upload.
    fn process(&self, group: Group) -> Option<(Group, Result<()>)> {
        let mut log = self.log.lock();
        if let Err(error) = self.seal_crowd(&mut log) {
            // Writes are stopped, or the group meets the same.
            tracing::debug!(%error, "memtables of many keyspaces were not sealed");
        }
        self.process_in(log, group)
    }

    fn process_in(
        &self,
        log: MutexGuard<'_, Log>,
        mut group: Group,
    ) -> Option<(Group, Result<()>)> {
        match self.log_group(log, &mut group) {
            Ok(Logged::Done) => {
                self.insert(&group);
                self.publish(&group);
                Some((group, Ok(())))
            }
            Ok(Logged::Prepared) => {
                // The disk and the memtable at the same time; visible when both are done.
                self.sync_thread.request();
                self.insert(&group);
                let synced = self.sync_thread.wait();
                match &synced {
                    Ok(()) => self.publish(&group),
                    Err(error) => self.shared.stop(error),
                }
                Some((group, synced))
            }
            Ok(Logged::Uploading(upload)) => self.finish_or_queue(upload, group),
            Err(error) => {
                self.shared.stop(&error);
                Some((group, Err(error)))
            }
        }
    }

    fn log_group(&self, mut log: MutexGuard<'_, Log>, group: &mut Group) -> Result<Logged> {
        group.time = self.shared.env.clock.now();
        // Closed or stopped while this waited for the log.
        self.shared.check_writable()?;
        self.prove_charge()?;
        let rotated = log.wants_rotation();
        if rotated {
            self.rotate_log(&mut log, group.time)?;
        }
        let file = log.number();
        if group.commits > 0 {
            self.set_room_aside(&mut log, group)?;
            log.add(&group.payload, group.first, group.last());
        }
        let mut upload = None;
        if group.durable || log.is_full() {
            let before = log.written();
            upload = match group.durable {
                true => log.prepare_durable(group.time)?,
                false => log.write(group.time)?,
            };
            add(&self.shared.counters.wal_bytes, log.written() - before);
            if let Some(next) = log.asks_for().filter(|_| self.threaded()) {
                self.signals.prepare_log(next);
            }
        }
        if log.number() != file || rotated {
            self.seal_lagging(&log);
        }
        if group.durable {
            add(&self.shared.counters.syncs, 1);
            if group.commits >= PARALLEL_FROM && self.threaded() && !self.bucket {
                return Ok(Logged::Prepared);
            }
            log.sync()?;
        }
        let behind_uploads = self.bucket && self.uploads.lock().busy;
        Ok(match upload.is_some() || behind_uploads {
            true => Logged::Uploading(upload),
            false => Logged::Done,
        })
    }

    /// Makes log file `number` while writers go on.
    pub(crate) fn prepare_log(&self, number: u64) {
        // A bucket's records are objects of their own.
        if !self.bucket && self.prove_charge().is_ok() && self.shared.check_writable().is_ok() {
            self.log_files.prepare(number);
        }
    }

    /// Goes on in the next log file. A failure stops writes: what was half written must not be followed
    /// by anything.
    pub(crate) fn rotate_log(&self, log: &mut Log, time: Timestamp) -> Result<()> {
        let before = log.written();
        log.rotate(time)
            .inspect_err(|error| self.shared.stop(error))?;
        add(&self.shared.counters.wal_bytes, log.written() - before);
        Ok(())
    }

    /// Finds the memtable that each keyspace's writes will go to, sealing full ones.
    fn set_room_aside(&self, log: &mut Log, group: &mut Group) -> Result<()> {
        let Group {
            footprint,
            targets,
            time,
            ..
        } = group;
        let mut sealed = false;
        for (id, bytes) in footprint.iter() {
            // Writes to a keyspace that was dropped meanwhile go nowhere.
            let Some(core) = self.keyspaces.read().get(&id).cloned() else {
                continue;
            };
            let mut memtable = core.view.load().active.clone();
            if !memtable.fits(bytes) {
                // One that holds nothing is replaced, and needs no new log file.
                if !sealed && memtable.wal().is_some() {
                    self.rotate_log(log, *time)?;
                    sealed = true;
                }
                self.seal(&core, bytes, log.number());
                memtable = core.view.load().active.clone();
            }
            memtable.reserve(bytes, log.number());
            targets.push((id, memtable, bytes));
        }
        Ok(())
    }

    /// Puts a group's writes into their memtables, where nobody sees them yet.
    fn insert(&self, group: &Group) {
        if group.commits == 0 {
            return;
        }
        let mut at = 0;
        let whole = frame::for_each_op(&group.payload, group.first, group.last(), |commit, op| {
            if group
                .targets
                .get(at)
                .is_none_or(|(id, _, _)| *id != op.keyspace)
            {
                let found = group
                    .targets
                    .iter()
                    .position(|(id, _, _)| *id == op.keyspace);
                let Some(found) = found else {
                    return;
                };
                at = found;
            }
            let fitted = group.targets[at].1.insert(Entry {
                key: op.key,
                commit,
                tag: op.tag,
                value: op.value,
            });
            assert!(fitted, "room was set aside for every write of the group");
        });
        assert!(whole, "the group was encoded by this process");
        for (_, memtable, bytes) in &group.targets {
            memtable.release(*bytes);
        }
    }

    /// Lets readers see a group's writes.
    fn publish(&self, group: &Group) {
        if group.commits == 0 {
            return;
        }
        for (commit, listing) in &group.listings {
            self.list_ingested(listing, *commit);
        }
        add(&self.shared.counters.commits, group.commits);
        add(&self.shared.counters.user_bytes, group.user_bytes);
        self.times.lock().note(group.last(), group.time);
        self.shared.publish(group.last());
        self.signals.publication();
        self.note_written(group.payload.len());
    }

    /// Tells everybody who waits, and keeps the buffers for the next group.
    fn finish(&self, mut group: Group, result: &Result<()>) {
        for waiter in group.waiters.drain(..) {
            waiter.tell(Outcome::Done(result.clone()));
        }
        group.clear();
        self.queue.lock().spare.get_or_insert(group);
    }

    /// Makes every write so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.barrier(Durability::Durable)
    }

    /// Waits until every write so far is visible.
    pub(crate) fn pass_through(&self) -> Result<()> {
        self.barrier(Durability::Buffered)
    }

    fn barrier(&self, durability: Durability) -> Result<()> {
        let mut barrier = Write {
            encode: &mut |_| {},
            ops: 0,
            footprint: &Footprint::default(),
            user_bytes: 0,
            durability,
            check: None,
            listing: None,
        };
        self.write(&mut barrier).map(|_| ())
    }
}

enum Next {
    Nobody,
    Same,
    Waiter(Arc<Waiter>),
    CommitThread,
}

enum Logged {
    /// As durable as the group asked.
    Done,
    /// Prepared; a sync must follow, which writes it.
    Prepared,
    /// On its way to the bucket, or behind records that are.
    Uploading(Option<Upload>),
}
