//! The engine behind every handle of a writer: its parts, and how memtables are sealed and views
//! replaced. Pipeline, flush, compaction and deletion are in files of their own.

use crate::changes::Feeds;
use crate::compaction::offer::Offers;
use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::open::ChargeProof;
use crate::options::Background;
use crate::permits::Permits;
use crate::pipeline::{Queue, Uploads};
use crate::retention::{Retention, Rule};
use crate::shared::Shared;
use crate::signals::Signals;
use crate::state::{CommitTimes, DbState};
use crate::stats::add;
use crate::sync_thread::SyncThread;
use crate::transaction::registry::Registry;
use crate::types::{Commit, KeyspaceId, SegmentId};
use crate::view::{KeyspaceCore, SegmentPin, Tables, View};
use crate::wal::files::LogFiles;
use crate::wal::log::Log;
use parking_lot::{Condvar, Mutex, RwLock};
use siltstone_storage::{FolderLock, ManifestStore, Numbered, Pins, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A writer delays itself once for this many bytes when memory runs short.
const DELAY_EVERY: usize = 64 * 1024;
/// Memory is looked at again once for this many bytes written.
const NOTE_EVERY: usize = 128 * 1024;
/// Log objects of a bucket that may pile up before lagging keyspaces are flushed.
const MAX_LOG_OBJECTS: u64 = 4096;
/// The longest such delay.
const LONGEST_DELAY: Duration = Duration::from_millis(4);

/// The engine of a writer.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    pub(crate) manifest: ManifestStore<DbState>,
    pub(crate) bucket: bool,
    pub(crate) charge: ChargeProof,
    /// Open left it to background work to remove what dead writers left.
    pub(crate) untidy: AtomicBool,
    pub(crate) keyspaces: RwLock<BTreeMap<KeyspaceId, Arc<KeyspaceCore>>>,
    pub(crate) tables: Mutex<Tables>,
    pub(crate) segment_pins: Arc<Mutex<Pins>>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) log: Mutex<Log>,
    pub(crate) log_files: Arc<LogFiles>,
    pub(crate) sync_thread: SyncThread,
    pub(crate) uploads: Mutex<Uploads>,
    pub(crate) uploads_changed: Condvar,
    pub(crate) times: Mutex<CommitTimes>,
    pub(crate) signals: Arc<Signals>,
    /// Held while memtables are flushed; the keyspace of the last of them.
    pub(crate) flushing: Mutex<KeyspaceId>,
    pub(crate) compactions: Permits,
    /// Tables that a compaction is reading.
    pub(crate) claimed: Mutex<BTreeSet<SegmentId>>,
    /// Compactions that are left to other processes.
    pub(crate) offers: Mutex<Offers>,
    /// Deleted tables that the manifest still lists as retired.
    pub(crate) deleted: Mutex<Vec<SegmentId>>,
    /// Tables of failed flushes and compactions that could not be deleted yet.
    pub(crate) orphans: Mutex<Vec<SegmentId>>,
    pub(crate) next_segment: AtomicU64,
    pub(crate) folder_lock: Mutex<Option<FolderLock>>,
    pub(crate) memory: Memory,
    pub(crate) transactions: Registry,
    pub(crate) feeds: Mutex<Feeds>,
}

/// What must be kept, as it stood at one moment.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Commits held by snapshots and checkpoints.
    pub(crate) held: Vec<Commit>,
    pub(crate) head: Commit,
    /// When the leases of checkpoints were looked at.
    pub(crate) now: Timestamp,
}

/// How much memory writes take, and how hard they are to be slowed.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What the cache leaves to memtables. Held while the memory is added up, so that an older sum
    /// never replaces a newer one.
    reserved: Mutex<usize>,
    /// 0: writers run free; up to 1000: they slow down; above: they wait.
    pressure: AtomicUsize,
    /// Several keyspaces are written to, and their memtables together are larger than one may be.
    crowded: AtomicBool,
    since_delay: AtomicUsize,
    since_note: AtomicUsize,
}

const WAIT: usize = 1001;

impl Core {
    pub(crate) fn threaded(&self) -> bool {
        self.shared.options.background == Background::Threads
    }

    pub(crate) fn new_segment(&self) -> SegmentId {
        let counter = self.next_segment.fetch_add(1, Ordering::Relaxed);
        SegmentId::new(self.manifest.epoch(), counter)
    }

    pub(crate) fn new_blob_file(&self) -> SegmentId {
        let counter = self.next_segment.fetch_add(1, Ordering::Relaxed);
        SegmentId::new_blob_file(self.manifest.epoch(), counter)
    }

    /// Changes the manifest. A failure that leaves the outcome open, or a fence, stops writes.
    pub(crate) fn edit(
        &self,
        mut edit: impl FnMut(&mut DbState) -> Result<()>,
    ) -> Result<Arc<Numbered<DbState>>> {
        self.prove_charge()?;
        let deleted = self.deleted.lock().clone();
        let result = self.manifest.commit(|state| {
            let mut state = state.clone();
            state.tables.remove_retired(&deleted);
            edit(&mut state)?;
            Ok(state)
        });
        match &result {
            Ok(_) => self.deleted.lock().retain(|id| !deleted.contains(id)),
            Err(error) => self.stop_if_final(error),
        }
        result
    }

    /// Stops writes after an error of the manifest that leaves no way to go on.
    pub(crate) fn stop_if_final(&self, error: &Error) {
        if let Error::Storage(cause) = error
            && is_final(cause)
        {
            self.shared.stop(error);
        }
    }

    /// Puts the manifest's tables into the keyspace's view, without the memtable that was flushed.
    pub(crate) fn install(&self, core: &KeyspaceCore, flushed: Option<&Arc<Memtable>>) {
        self.install_quietly(core, flushed);
        self.note_room();
    }

    /// Tells writers that there may be room.
    pub(crate) fn note_room(&self) {
        self.note_memory();
        self.signals.room();
    }

    /// As [`Core::install`], when others follow; then [`Core::note_room`].
    pub(crate) fn install_quietly(&self, core: &KeyspaceCore, flushed: Option<&Arc<Memtable>>) {
        core.change(|view| {
            let (current, pin) = self.pin_current();
            let is_left = |memtable: &&Arc<Memtable>| {
                flushed.is_none_or(|flushed| !Arc::ptr_eq(memtable, flushed))
            };
            let sealed: Vec<_> = view.sealed.iter().filter(is_left).cloned().collect();
            let Some(keyspace) = current.state.keyspace(core.id) else {
                return view.with_memtables(view.active.clone(), sealed);
            };
            let runs = self.tables.lock().runs(&current.state, core.id);
            let memtables = (view.active.clone(), sealed);
            let mut next = View::new(
                keyspace,
                &current.state.hidden,
                memtables,
                runs,
                Commit::ZERO,
                pin,
            );
            if next.policy_changes == view.policy_changes {
                next.young_from = view.young_from.clone();
            }
            next
        });
    }

    /// The newest manifest, with its segments held. Looking and holding are one step, so that no
    /// deletion comes between.
    pub(crate) fn pin_current(&self) -> (Arc<Numbered<DbState>>, Arc<SegmentPin>) {
        SegmentPin::of_current(&self.segment_pins, &self.signals, || {
            self.manifest.current()
        })
    }

    /// Seals the active memtable and opens one that holds at least `bytes`; what is written from
    /// now on stands in log file `wal` or later. The caller holds the log.
    pub(crate) fn seal(&self, core: &KeyspaceCore, bytes: usize, wal: u64) {
        if self.replace_active(core, bytes, wal) {
            self.note_memory();
            self.signals.flush();
        }
    }

    /// As [`Core::seal`], for several keyspaces: what holds nothing stays, and they are flushed together.
    pub(crate) fn seal_all(&self, cores: &[Arc<KeyspaceCore>], wal: u64) {
        let mut any = false;
        for core in cores {
            if core.view.load().active.wal().is_some() {
                any |= self.replace_active(core, 0, wal);
            }
        }
        if any {
            self.note_memory();
            self.signals.flush();
        }
    }

    /// True when the memtable that was active held something.
    fn replace_active(&self, core: &KeyspaceCore, bytes: usize, wal: u64) -> bool {
        let capacity = bytes.max(self.shared.options.memtable_limit());
        let mut any = false;
        core.change(|view| {
            let mut sealed = view.sealed.clone();
            if view.active.wal().is_some() {
                any = true;
                sealed.insert(0, view.active.clone());
            }
            // As many as the last time.
            let next = Memtable::expecting(view.active.entries(), capacity, wal);
            view.with_memtables(Arc::new(next), sealed)
        });
        any
    }

    /// Seals memtables that keep too many log files. The caller holds the log.
    pub(crate) fn seal_lagging(&self, log: &Log) {
        let most = match self.bucket {
            // In a bucket every record is a file.
            true => MAX_LOG_OBJECTS,
            false => self.shared.options.max_wal_files as u64,
        };
        let cores: Vec<_> = self.keyspaces.read().values().cloned().collect();
        for core in cores {
            let wal = core.view.load().active.wal();
            if wal.is_some_and(|wal| wal + most <= log.number()) {
                self.seal(&core, 0, log.number());
            }
        }
    }

    /// Seals the largest memtables, half of what is in all of them, when those of several keyspaces
    /// together have more than one may have. The caller holds the log.
    pub(crate) fn seal_crowd(&self, log: &mut Log) -> Result<()> {
        if !self.memory.crowded.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        self.shared.check_writable()?;
        self.prove_charge()?;
        self.seal_half(log)
    }

    /// True when [`Core::seal_crowd`] has something to do.
    pub(crate) fn is_crowded(&self) -> bool {
        self.memory.crowded.load(Ordering::Relaxed)
    }

    /// When memtables of many keyspaces, or one huge record, take all the room and none of them is
    /// full, the largest are sealed: else nobody would flush and writers would wait for ever.
    fn seal_largest(&self) -> Result<()> {
        let mut log = self.log.lock();
        let keyspaces = self.keyspaces.read();
        let any_sealed = keyspaces
            .values()
            .any(|core| !core.view.load().sealed.is_empty());
        let active = keyspaces
            .values()
            .map(|core| core.view.load().active.memory());
        let limit = self.shared.options.memtable_limit();
        if any_sealed || active.sum::<usize>() < most_in_memtables(limit) {
            return Ok(());
        }
        drop(keyspaces);
        self.seal_half(&mut log)
    }

    /// Seals the largest memtables that together have half of what is in all of them.
    fn seal_half(&self, log: &mut Log) -> Result<()> {
        let keyspaces = self.keyspaces.read();
        let sized = |core: &Arc<KeyspaceCore>| (core.view.load().active.memory(), core.clone());
        let mut largest: Vec<_> = keyspaces.values().map(sized).collect();
        drop(keyspaces);
        // Ties stand in the order of the keyspaces.
        largest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let total: usize = largest.iter().map(|(bytes, _)| bytes).sum();
        let mut chosen = Vec::new();
        let mut sum = 0;
        for (bytes, core) in largest {
            if sum * 2 >= total {
                break;
            }
            sum += bytes;
            chosen.push(core);
        }
        if !chosen.is_empty() {
            self.rotate_log(log, self.shared.env.clock.now())?;
            self.seal_all(&chosen, log.number());
        }
        Ok(())
    }

    /// Memtables grew by about `bytes`.
    #[inline]
    pub(crate) fn note_written(&self, bytes: usize) {
        let since = self.memory.since_note.fetch_add(bytes, Ordering::Relaxed);
        if since + bytes >= NOTE_EVERY {
            self.memory.since_note.store(0, Ordering::Relaxed);
            self.note_memory();
        }
    }

    /// Works out how hard writers are to be slowed, and what the cache may have.
    pub(crate) fn note_memory(&self) {
        let options = &self.shared.options;
        let limit = options.memtable_limit();
        let mut reserved = self.memory.reserved.lock();
        let keyspaces = self.keyspaces.read();
        let mut sealed = 0;
        let mut active = 0;
        let mut lasting = 0;
        let mut level0 = 0;
        let mut at_rest = true;
        let mut written_to = 0;
        for core in keyspaces.values() {
            let view = core.view.load();
            at_rest &= view.active.wal().is_none() && view.sealed.is_empty();
            written_to += u32::from(view.active.wal().is_some());
            active += view.active.memory();
            lasting += view.active.lasting_memory();
            sealed += view
                .sealed
                .iter()
                .map(|memtable| memtable.memory())
                .sum::<usize>();
            let runs = view.runs.iter().filter(|run| run.level == 0).count();
            level0 = level0.max(runs);
        }
        drop(keyspaces);
        // One alone is sealed when it is full, which is below this.
        let crowded = written_to > 1 && sealed == 0 && lasting >= limit + limit / 4;
        self.memory.crowded.store(crowded, Ordering::Relaxed);
        // One sealed memtable is the normal case. From there on writers slow down.
        let by_memory = match sealed + active {
            used if used >= most_in_memtables(limit) => WAIT,
            used if sealed > 0 => used.saturating_sub(limit * 3 / 2) * 1000 / limit,
            _ => 0,
        };
        let slow_from = options.level0_stop * 3 / 4;
        let by_level0 = match level0 {
            tables if tables >= options.level0_stop => WAIT,
            tables if tables > slow_from => {
                (tables - slow_from) * 1000 / (options.level0_stop - slow_from)
            }
            _ => 0,
        };
        self.memory
            .pressure
            .store(by_memory.max(by_level0), Ordering::Relaxed);
        // While there are writes, room is kept for a memtable that fills beside one that is flushed. A
        // cache that had this room in between would leave it in pieces that no memtable fits into.
        let wanted = match sealed {
            0 => limit + (4 * active).min(limit),
            _ => limit * 2,
        };
        *reserved = match at_rest {
            true => limit,
            false => wanted.max(sealed + active).max(*reserved),
        };
        self.shared.cache.set_memtables(*reserved as u64);
    }

    pub(crate) fn is_short_of_room(&self) -> bool {
        self.memory.pressure.load(Ordering::Relaxed) > 0
    }

    /// Lets a writer in, slowed or after a wait when memory runs short. Answers how often it waited.
    #[inline]
    pub(crate) fn admit(&self, bytes: usize) -> Result<u32> {
        if self.memory.pressure.load(Ordering::Relaxed) == 0 {
            return Ok(0);
        }
        self.admit_slowly(bytes)
    }

    #[cold]
    fn admit_slowly(&self, bytes: usize) -> Result<u32> {
        let clock = &self.shared.env.clock;
        let started = clock.elapsed();
        let mut waits = 0;
        loop {
            let seen = self.signals.room_count();
            self.shared.check_writable()?;
            self.note_memory();
            if self.memory.pressure.load(Ordering::Relaxed) < WAIT {
                break;
            }
            waits += 1;
            self.seal_largest()?;
            if !self.threaded() {
                self.work()?;
                continue;
            }
            self.signals.flush();
            self.signals.compact();
            self.signals.wait_for_room(seen);
        }
        let since = self.memory.since_delay.fetch_add(bytes, Ordering::Relaxed);
        if since + bytes >= DELAY_EVERY && self.threaded() {
            self.memory.since_delay.store(0, Ordering::Relaxed);
            let pressure = self.memory.pressure.load(Ordering::Relaxed).min(1000) as u32;
            clock.sleep(LONGEST_DELAY * pressure / 1000);
        }
        let waited = clock.elapsed().saturating_sub(started);
        add(
            &self.shared.counters.stall_micros,
            waited.as_micros() as u64,
        );
        Ok(waits)
    }

    /// The first commit younger than the window's age. A compaction asks before it looks at what is
    /// held, a reader after it has begun to hold: one of them sees the other.
    pub(crate) fn young_from(&self, view: &View) -> Commit {
        let now = || self.shared.env.clock.now();
        view.young_from
            .resolve(view, now, |time| self.times.lock().commit_at(time))
    }

    /// The retained commits of a keyspace, for what is about to drop versions.
    pub(crate) fn retention(&self, view: &View) -> (Retention, Timestamp) {
        let young = self.young_from(view);
        let Kept { held, head, now } = self.held_and_head();
        let rule = Rule::of(&view.options.history);
        (Retention::new(head, rule, young, held), now)
    }

    /// What compaction must keep, and the newest durable commit, seen in one moment. A newer one may
    /// be lost in a crash; what it pushes out of the window would be missed then.
    ///
    /// Whoever asks for a commit holds it first and looks then, at the clock and at the checkpoints;
    /// here it is the other way round, so that one of the two sees the other. The checkpoints are
    /// looked at again afterwards for one that was made from a snapshot that was let go of since.
    pub(crate) fn held_and_head(&self) -> Kept {
        self.expire_transactions();
        let durable = self.log.lock().durable();
        let now = self.shared.env.clock.now();
        let before = self.manifest.current();
        let (mut held, head) = self.shared.held.with(|| self.shared.visible().min(durable));
        held.extend(before.state.checkpoint_pins(now));
        held.extend(self.manifest.current().state.checkpoint_pins(now));
        Kept { held, head, now }
    }

    /// Deletes the blobs of tables that never became live; those that cannot be deleted now are
    /// tried again later.
    pub(crate) fn discard(&self, segments: impl IntoIterator<Item = SegmentId>) {
        let mut orphans = self.orphans.lock();
        orphans.extend(segments);
        orphans.retain(|id| {
            self.tables.lock().forget(*id);
            self.shared.env.blobs.delete(&id.blob()).is_err()
        });
    }
}

/// Bytes in memtables at which writers wait.
fn most_in_memtables(limit: usize) -> usize {
    limit * 5 / 2
}

/// Errors after which this handle cannot know or change the manifest any more.
fn is_final(error: &siltstone_storage::Error) -> bool {
    match error {
        siltstone_storage::Error::Fenced { .. } => true,
        siltstone_storage::Error::Io { operation, .. } => operation.contains("outcome unknown"),
        _ => false,
    }
}
