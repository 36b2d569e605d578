//! The commit of a transaction: is anything it guards newer than its snapshot?

use crate::core::Core;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::key_range::KeyRange;
use crate::merge::MergeCursor;
use crate::options::Durability;
use crate::pipeline::Write;
use crate::sst::filter;
use crate::sst::table::{Lookup, ReadState};
use crate::stats::{PutStats, Source};
use crate::transaction::Transaction;
use crate::transaction::guard::{Guard, Touched};
use crate::transaction::in_flight::{Check, Conflict};
use crate::transaction::listener::CommitListener;
use crate::transaction::state::Inner;
use crate::types::{Commit, KeyspaceId};
use crate::view::View;
use siltstone_storage::Wait;
use std::sync::Arc;

impl Transaction {
    /// Commits, with every listener around it.
    pub(super) fn commit_heard(&self, inner: &Inner, durability: Durability) -> Result<PutStats> {
        let listeners: Vec<_> = inner.listeners().cloned().collect();
        if !listeners.is_empty() {
            // Where listeners hold locks of theirs nobody waits for room.
            self.kv.core().admit(inner.batch.user_bytes)?;
        }
        self.commit_around(&listeners, inner, durability, &mut |_| {})
    }

    fn commit_around(
        &self,
        listeners: &[Arc<dyn CommitListener>],
        inner: &Inner,
        durability: Durability,
        numbered: &mut dyn FnMut(Commit),
    ) -> Result<PutStats> {
        let Some((first, rest)) = listeners.split_first() else {
            return self.validate_and_write(inner, durability, numbered);
        };
        let mut go = |told: &mut dyn FnMut(Commit)| {
            let mut both = |commit| {
                told(commit);
                numbered(commit);
            };
            self.commit_around(rest, inner, durability, &mut both)
        };
        first.commit(&inner.batch, &mut go)
    }

    fn validate_and_write(
        &self,
        inner: &Inner,
        durability: Durability,
        numbered: &mut dyn FnMut(Commit),
    ) -> Result<PutStats> {
        let core = self.kv.core();
        let clock = &core.shared.env.clock;
        let started = clock.elapsed();
        let mut stats = PutStats {
            commit: self.state.snapshot,
            ..PutStats::default()
        };
        // One that only read saw one commit, and that is as good as having run then.
        if !inner.batch.is_empty() {
            core.shared.check_writable()?;
            if inner.listeners().next().is_none() {
                stats.retries = core.admit(inner.batch.user_bytes)?;
            }
            let batch = self.kv.settled(&inner.batch)?;
            let guard = self.state.guard(inner);
            let checking = core.begin_check()?;
            core.check_visible(&guard, self.state.snapshot)?;
            let mut write = Write {
                encode: &mut |out| out.extend_from_slice(&batch.ops),
                ops: batch.count,
                footprint: &batch.footprint,
                user_bytes: batch.user_bytes as u64,
                durability,
                check: Some(Check {
                    guard: &guard,
                    snapshot: self.state.snapshot,
                    seen: checking.began,
                }),
                listing: None,
            };
            stats.commit = core.write_numbered(&mut write, numbered)?;
            stats.destination = Source::Memtable;
        }
        stats.latency = clock.elapsed().saturating_sub(started);
        Ok(stats)
    }
}

/// A check under way: what becomes visible meanwhile stays recorded.
struct Checking<'a> {
    core: &'a Core,
    began: Commit,
}

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        self.core.queue.lock().in_flight.end_check(self.began);
    }
}

impl Core {
    fn begin_check(&self) -> Result<Checking<'_>> {
        loop {
            let mut queue = self.queue.lock();
            let began = self.shared.visible();
            if queue.in_flight.begin_check(began) {
                return Ok(Checking { core: self, began });
            }
            drop(queue);
            // Writes from before anybody recorded them are on their way.
            self.pass_through()?;
        }
    }

    /// Fails when what everybody can see touches the guard after `snapshot`.
    fn check_visible(&self, guard: &Guard, snapshot: Commit) -> Result<()> {
        for (keyspace, guarded) in guard.iter() {
            let Some(core) = self.keyspaces.read().get(&keyspace).cloned() else {
                continue;
            };
            let view = core.view.load();
            let conflict = |touched, commit| {
                let conflict = Conflict {
                    keyspace,
                    touched,
                    commit,
                };
                Err(conflict.into_error(&core.name, snapshot))
            };
            for deleted in view.range_deletes() {
                if deleted.commit > snapshot
                    && let Some(touched) = guard.touched_by_range(keyspace, &deleted.range())
                {
                    return conflict(touched, deleted.commit);
                }
            }
            for key in &guarded.keys {
                if let Some(commit) = newest(&view, key, snapshot)? {
                    return conflict(Touched::Key(key.clone()), commit);
                }
            }
            for range in &guarded.ranges {
                if let Some((key, commit)) = newest_in(&view, range, snapshot)? {
                    return conflict(range.touched(&key), commit);
                }
            }
        }
        Ok(())
    }

    /// The error of a conflict with a write that is not visible yet.
    pub(crate) fn conflict(&self, conflict: Conflict, snapshot: Commit) -> Error {
        let name = |id: KeyspaceId| self.keyspaces.read().get(&id).map(|core| core.name.clone());
        let name = name(conflict.keyspace).unwrap_or_default();
        conflict.into_error(&name, snapshot)
    }
}

/// The newest commit after `snapshot` that wrote `key`.
fn newest(view: &View, key: &[u8], snapshot: Commit) -> Result<Option<Commit>> {
    let mut newest = snapshot;
    let hash = filter::hash(key);
    for memtable in view.memtables() {
        if let Some(entry) = memtable.get(key, hash, Commit::MAX) {
            newest = newest.max(entry.commit);
        }
    }
    for run in view.runs.iter() {
        if run.max_commit <= newest {
            break;
        }
        let Some(table) = run.table_for(key) else {
            continue;
        };
        let mut blocks = 0;
        if let Lookup::Hit(hit) = table.get(key, hash, Commit::MAX, Wait::Allowed, &mut blocks)? {
            newest = newest.max(hit.found.commit);
        }
    }
    Ok((newest > snapshot).then_some(newest))
}

/// Some key of `range` that a commit after `snapshot` wrote.
pub(crate) fn newest_in(
    view: &View,
    range: &KeyRange,
    snapshot: Commit,
) -> Result<Option<(Vec<u8>, Commit)>> {
    let state = Arc::new(ReadState::new(Wait::Allowed));
    let mut merge = MergeCursor::new(view.sources_after(range.borrowed(), snapshot, &state));
    match &range.start {
        Some(start) => merge.seek(start, Commit::MAX)?,
        None => merge.seek_first()?,
    }
    while merge.valid() && range.contains(merge.key()) {
        if merge.commit() > snapshot {
            return Ok(Some((merge.key().to_vec(), merge.commit())));
        }
        merge.next()?;
    }
    Ok(None)
}
