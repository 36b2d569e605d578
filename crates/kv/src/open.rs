//! Opens a writer: lock the folder or fence the bucket, read the manifest, sweep what dead writers
//! left, replay the log.

use crate::compaction::offer::Offers;
use crate::core::{Core, Memory};
use crate::error::{Error, Result};
use crate::memtable::{Entry, Memtable};
use crate::options::{Background, KeyspaceOptions, Options};
use crate::permits::Permits;
use crate::pipeline::{Queue, Uploads};
use crate::prefetch::prefetch;
use crate::replay_order;
use crate::shared::Shared;
use crate::signals::Signals;
use crate::state::{CommitTimes, DbState, KeyspaceState};
use crate::sync_thread::SyncThread;
use crate::transaction::registry::Registry;
use crate::types::{Commit, KeyspaceId};
use crate::view::{KeyspaceCore, SegmentPin, Tables, View};
use crate::wal::ahead::LogAhead;
use crate::wal::frame::Op;
use crate::wal::log::Log;
use crate::wal::recovery::{Recovered, Replay, replay, replay_listed};
use crate::wal::{FileHeader, PREFIX, blob_name};
use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, RwLock};
use siltstone_storage::{
    Env, FolderLock, ManifestState, ManifestStore, PendingList, Pins, Probe, PutOutcome, Role,
    Timestamp, forget_standing,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct OpenStats {
    /// True when there was no database before.
    pub created: bool,
    /// Commits replayed from the log.
    pub replayed_commits: u64,
    /// Bytes at the end of the log that a crash cut off.
    pub torn_bytes: u64,
    /// Tables of dead writers that were removed before it returned. In a folder whose lock was handed
    /// over, and with threads in a bucket, background work removes them afterwards.
    pub swept_tables: usize,
}

impl Core {
    pub(crate) fn open(
        env: Env,
        options: Options,
        default_keyspace: KeyspaceOptions,
        lock: Option<FolderLock>,
    ) -> Result<(Arc<Self>, OpenStats)> {
        options.check()?;
        default_keyspace.check()?;
        let env = options.cached(env)?;
        let mut stats = OpenStats::default();
        let shared = Shared::new(env.clone(), options);
        let bucket = !env.blobs.can_append();
        let mut first = || {
            stats.created = true;
            DbState::first(default_keyspace.clone())
        };
        let Charged {
            manifest,
            mut replayed,
            recovered,
            owed,
        } = match bucket {
            true => charge_bucket(&shared, &mut first)?,
            false => charge_folder(&shared, lock.is_some(), &mut first)?,
        };
        let current = manifest.current();
        let fence = recovered.next_file.wrapping_sub(1);
        // The newest first: what is left after a crash is found to be strays again.
        let strays = recovered.strays.iter().rev();
        for stray in strays.filter(|stray| !bucket || **stray != fence) {
            env.blobs.delete(&blob_name(*stray))?;
        }
        stats.replayed_commits = recovered.commits;
        stats.torn_bytes = recovered.torn_bytes;
        let wal_bytes = shared.options.wal_bytes as u64;
        let log = Log::new(
            env.clone(),
            manifest.epoch(),
            recovered.next_file,
            wal_bytes,
            recovered.last,
        );
        let signals = Arc::new(Signals::default());
        let segment_pins = Arc::new(Mutex::new(Pins::default()));
        let mut tables = Tables::new(env.blobs.clone(), shared.cache.clone());
        let times = std::mem::take(&mut replayed.times);
        let mut segments: BTreeMap<KeyspaceId, Vec<_>> = BTreeMap::new();
        for segment in current.state.tables() {
            let of_keyspace = segments.entry(segment.meta.keyspace).or_default();
            of_keyspace.push(segment);
        }
        let mut keyspaces = BTreeMap::new();
        for keyspace in &current.state.keyspaces {
            let (_, pin) = SegmentPin::of_current(&segment_pins, &signals, || current.clone());
            let memtables = replayed.take(keyspace.id, log.number());
            let runs = tables.runs_of(segments.remove(&keyspace.id).unwrap_or_default());
            let view = View::new(
                keyspace,
                &current.state.hidden,
                memtables,
                runs,
                Commit::ZERO,
                pin,
            );
            keyspaces.insert(keyspace.id, Arc::new(new_core(keyspace, view)));
        }
        shared.publish(recovered.last);
        // In a bucket each look is a request, which a thread can make; in a folder there are syncs.
        let lazy = match bucket {
            true => shared.options.background == Background::Threads,
            false => lock.is_some(),
        };
        let core = Arc::new(Self {
            compactions: Permits::new(shared.options.max_compactions),
            uploads: Mutex::new(Uploads::new(shared.options.log_interval)),
            charge: ChargeProof::new(owed),
            untidy: AtomicBool::new(lazy),
            shared,
            manifest,
            bucket,
            keyspaces: RwLock::new(keyspaces),
            tables: Mutex::new(tables),
            segment_pins,
            queue: Mutex::new(Queue::new(recovered.last)),
            log_files: log.files(),
            log: Mutex::new(log),
            sync_thread: SyncThread::default(),
            uploads_changed: Condvar::new(),
            times: Mutex::new(times),
            signals,
            flushing: Mutex::default(),
            claimed: Mutex::default(),
            offers: Mutex::new(Offers::new(&current.state)),
            deleted: Mutex::default(),
            orphans: Mutex::default(),
            next_segment: AtomicU64::new(1),
            folder_lock: Mutex::new(lock),
            memory: Memory::default(),
            transactions: Registry::default(),
            feeds: Mutex::default(),
        });
        if recovered.gave_up {
            core.leave_log_behind(recovered.last)?;
        }
        if !lazy {
            core.prove_charge()?;
            stats.swept_tables = core.tidy_after_dead_writers()?;
        }
        core.note_memory();
        core.signals.flush();
        Ok((core, stats))
    }
}

pub(crate) fn new_core(keyspace: &KeyspaceState, view: View) -> KeyspaceCore {
    KeyspaceCore {
        id: keyspace.id,
        name: keyspace.name.clone(),
        view: ArcSwap::from_pointee(view),
        changing: Mutex::new(()),
    }
}

/// A writer in charge, with what it found.
struct Charged {
    manifest: ManifestStore<DbState>,
    replayed: Memtables,
    recovered: Recovered,
    owed: Option<Owed>,
}

/// How often a writer of a bucket starts over because somebody edited the manifest meanwhile.
const CHARGE_ATTEMPTS: u32 = 20;
/// A replay asks so many entries ahead for the memory of their keys and values.
const AHEAD: usize = 8;
/// A memtable that is given so many bytes at once is likely to be filled at once.
const MUCH: usize = 1 << 20;
/// Of a value, so many bytes: the processor asks for what follows by itself.
const FIRST_BYTES: usize = 128;

/// Takes charge of a folder. Where its lock is held there is no other writer to be kept off, and the
/// manifest that raises the epoch is owed: it takes two syncs, which open need not wait for.
fn charge_folder(
    shared: &Arc<Shared>,
    locked: bool,
    first: &mut dyn FnMut() -> DbState,
) -> Result<Charged> {
    let env = &shared.env;
    let manifest = match locked {
        true => ManifestStore::open_alone(env.clone(), first)?,
        false => ManifestStore::open(env.clone(), Role::Writer, first)?,
    };
    let state = &manifest.current().state;
    let mut replayed = Memtables::new(shared, state);
    let recovery = shared.options.wal_recovery;
    let recovered = replay(env, state.wal_floor, state.head, recovery, &mut replayed)?;
    // What was read may be in the page cache only; what follows must not outlive it.
    for file in &recovered.files {
        env.blobs.sync(&blob_name(*file))?;
    }
    let owed = manifest.owes_charge().then_some(Owed::Manifest);
    Ok(Charged {
        manifest,
        replayed,
        recovered,
        owed,
    })
}

/// Takes charge of a bucket in three requests one after another: listings and the probe; manifest
/// and log; the manifest that puts this writer in charge and the fence. That both are created proves
/// that the log which was read is all there is: the manifest, that no flush moved its start since,
/// and the fence, that no record was added at its end.
///
/// A fence without its manifest (of a writer that lost the race, or died) has the epoch of the one
/// that won. It stands where the log ended before the winner's own fence, so never among the winner's
/// records, which have that epoch too and could not be told from it by it. Whoever finds a newer
/// epoch in the log than in the manifest has looked too late for that, and waits for its manifest.
fn charge_bucket(shared: &Arc<Shared>, first: &mut dyn FnMut() -> DbState) -> Result<Charged> {
    let env = &shared.env;
    let blobs = &*env.blobs;
    let mut probe = Some(Probe::start(blobs, &*env.rng));
    for _ in 0..CHARGE_ATTEMPTS {
        let log = blobs.start_list(PREFIX);
        let mut ahead = None;
        let mut manifest = ManifestStore::look(env.clone(), Role::Writer, &mut *first, || {
            ahead = Some(log.wait().map(|listed| LogAhead::new(env, &listed)));
        })?;
        let ahead = ahead.expect("it is listed in between")?;
        let state = &manifest.current().state;
        let mut replayed = Memtables::new(shared, state);
        let recovery = shared.options.wal_recovery;
        let (floor, head) = (state.wal_floor, state.head);
        let mut recovered = replay_listed(ahead, env, floor, head, recovery, &mut replayed)?;
        if let Some(probe) = probe.take() {
            let standing = probe.finish(blobs, &*env.rng)?;
            // Of a database that was here before: this one must not be taken for it.
            if standing == PutOutcome::Exists && manifest.current().number == 0 {
                forget_standing(blobs)?;
            }
        }
        let alone = recovered.epoch <= manifest.epoch();
        let charge = manifest.start_charge(ManifestState::taken_over);
        let epoch = charge.epoch();
        let fenced = alone.then(|| fence(env, epoch, &recovered));
        if manifest.finish_charge(charge)? {
            recovered.next_file = match fenced {
                Some(fenced) => fenced?,
                None => fence(env, epoch, &recovered)?,
            };
            let (number, listing) = (manifest.current().number, manifest.start_proof());
            return Ok(Charged {
                manifest,
                replayed,
                recovered,
                owed: Some(Owed::Proof { number, listing }),
            });
        }
    }
    Err(busy(&blob_name(0)))
}

fn busy(name: &str) -> Error {
    Error::Storage(siltstone_storage::Error::Io {
        name: name.into(),
        operation: "take over the log",
        kind: std::io::ErrorKind::WouldBlock,
        message: "another writer is still writing; open again to take over".into(),
    })
}

/// Claims the next log name of a bucket, so that an earlier writer that still runs fails there.
/// Answers the number after it.
fn fence(env: &Env, epoch: u64, recovered: &Recovered) -> Result<u64> {
    let number = recovered.next_file;
    let mut header = Vec::new();
    FileHeader {
        number,
        epoch,
        nonce: env.rng.next(),
    }
    .encode(&mut header);
    // The earlier writer's objects behind a gap must stay until the gap is this writer's: it may be
    // filled yet, and then they count.
    if recovered.strays.contains(&number) {
        env.blobs.delete(&blob_name(number))?;
    }
    match env.blobs.put_if_absent(&blob_name(number), &header)? {
        PutOutcome::Created => Ok(number + 1),
        // The earlier writer made one more record durable while this one was opening.
        PutOutcome::Exists => Err(busy(&blob_name(number))),
    }
}

/// What is missing, when a database is open, for its writer to be in charge without doubt.
#[derive(Debug)]
pub(crate) enum Owed {
    /// In a bucket: the look at a listing under way, which shows whether manifest `number` put it in
    /// charge.
    Proof { number: u64, listing: PendingList },
    /// In a folder: the manifest that raises the epoch.
    Manifest,
}

/// Whether this writer is in charge without doubt.
#[derive(Debug)]
pub(crate) struct ChargeProof {
    proved: AtomicBool,
    owed: Mutex<Option<Owed>>,
}

impl ChargeProof {
    fn new(owed: Option<Owed>) -> Self {
        Self {
            proved: AtomicBool::new(owed.is_none()),
            owed: Mutex::new(owed),
        }
    }
}

impl Core {
    /// Waits until this writer is in charge without doubt. Nothing is written before: its epoch, and
    /// so the names of its files, may be another's, or the next one's after a crash.
    ///
    /// # Errors
    /// The writer is fenced, or the store could not say; then writes are stopped.
    #[inline]
    pub(crate) fn prove_charge(&self) -> Result<()> {
        match self.charge.proved.load(Ordering::Acquire) {
            true => Ok(()),
            false => self.wait_for_proof(),
        }
    }

    #[cold]
    fn wait_for_proof(&self) -> Result<()> {
        let mut owed = self.charge.owed.lock();
        let proved = match owed.take() {
            Some(Owed::Proof { number, listing }) => self.manifest.prove(number, listing),
            Some(Owed::Manifest) => self.raise_epoch(),
            // Somebody did it while this thread waited for the lock.
            None => {
                return match self.charge.proved.load(Ordering::Acquire) {
                    true => Ok(()),
                    false => self.shared.check_writable(),
                };
            }
        };
        match proved.map_err(Error::from) {
            Ok(()) => {
                self.charge.proved.store(true, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                self.shared.stop(&error);
                Err(error)
            }
        }
    }

    /// Writes the manifest that raises the epoch. A worker of the writer before this one may have
    /// finished a job since the manifest was read: then its tables are shown.
    fn raise_epoch(&self) -> siltstone_storage::Result<()> {
        let version = |core: &Self| core.manifest.current().state.tables.version();
        let opened_with = version(self);
        self.manifest.take_charge()?;
        if version(self) != opened_with {
            let keyspaces: Vec<_> = self.keyspaces.read().values().cloned().collect();
            for keyspace in &keyspaces {
                self.install_quietly(keyspace, None);
            }
        }
        Ok(())
    }

    /// Does what open left to background work. A failure is left to the next open.
    pub(crate) fn finish_opening(&self) {
        if !self.untidy.swap(false, Ordering::Relaxed) {
            return;
        }
        let tidied = self
            .prove_charge()
            .and_then(|()| self.tidy_after_dead_writers());
        if let Err(error) = tidied {
            tracing::warn!(%error, "what writers before this one left will be removed by the next");
        }
    }

    /// Removes what writers before this one left behind. Answers how many tables that were.
    fn tidy_after_dead_writers(&self) -> Result<usize> {
        let swept = self.sweep_orphans()?;
        self.delete_log_below(self.manifest.current().state.wal_floor);
        self.manifest.sweep(&[])?;
        self.collect_garbage();
        Ok(swept)
    }
}

/// The memtables that a replay fills.
pub(crate) struct Memtables {
    shared: Arc<Shared>,
    flushed: BTreeMap<KeyspaceId, Commit>,
    filled: BTreeMap<KeyspaceId, Vec<Arc<Memtable>>>,
    pub(crate) times: CommitTimes,
}

impl Memtables {
    pub(crate) fn new(shared: &Arc<Shared>, state: &DbState) -> Self {
        Self {
            shared: shared.clone(),
            flushed: state.keyspaces.iter().map(|k| (k.id, k.flushed)).collect(),
            filled: BTreeMap::new(),
            times: state.times.clone(),
        }
    }

    /// The active and the sealed memtables of a keyspace, newest first.
    pub(crate) fn take(
        &mut self,
        keyspace: KeyspaceId,
        wal: u64,
    ) -> (Arc<Memtable>, Vec<Arc<Memtable>>) {
        let mut filled = self.filled.remove(&keyspace).unwrap_or_default();
        filled.reverse();
        for memtable in &filled {
            memtable.complete();
        }
        // Most of many keyspaces may never be written to: the first write brings the memory.
        (Arc::new(Memtable::new(0, wal)), filled)
    }
}

impl Memtables {
    /// Keyspaces that were dropped since, and what is in tables, are passed over.
    fn wants(&self, commit: Commit, op: &Op<'_>) -> bool {
        let unflushed = |flushed: &Commit| commit > *flushed && !op.tag.is_ingested();
        self.flushed.get(&op.keyspace).is_some_and(unflushed)
    }
}

impl Replay for Memtables {
    fn ops(&mut self, file: u64, ops: &[(Commit, Op<'_>)]) {
        let mut needs: BTreeMap<KeyspaceId, (usize, u64)> = BTreeMap::new();
        for (commit, op) in ops.iter() {
            if self.wants(*commit, op) {
                let (bytes, entries) = needs.entry(op.keyspace).or_default();
                *bytes += Memtable::entry_bytes(op.key.len(), op.value.len());
                *entries += 1;
            }
        }
        // All of it goes into one memtable, so that memtables stay in commit order; within it the order
        // of insertion is free, and key order is quickest.
        for (keyspace, (bytes, entries)) in &needs {
            let memtables = self.filled.entry(*keyspace).or_default();
            if memtables
                .last()
                .is_none_or(|memtable| !memtable.fits(*bytes))
            {
                let capacity = self.shared.options.memtable_limit().max(*bytes);
                let memtable = Memtable::expecting(*entries, capacity, file);
                if *bytes >= MUCH {
                    memtable.fills();
                }
                memtables.push(Arc::new(memtable));
            }
        }
        let wanted = (0..).zip(ops.iter());
        let wanted = wanted.filter(|(_, (commit, op))| self.wants(*commit, op));
        let order = replay_order::sorted(wanted.map(|(at, _)| at), ops);
        let in_order = |n: usize| order.get(n).map(|place| &ops[place.at()]);
        for n in 0..order.len() {
            // In key order each one lies elsewhere in the log.
            if let Some(later) = in_order(n + 2 * AHEAD) {
                prefetch(later);
            }
            if let Some((_, op)) = in_order(n + AHEAD) {
                prefetch(op.key);
                prefetch(op.value.get(..FIRST_BYTES).unwrap_or(op.value));
            }
            let Some((commit, op)) = in_order(n) else {
                break;
            };
            let entry = Entry {
                key: op.key,
                commit: *commit,
                tag: op.tag,
                value: op.value,
            };
            let memtable = self
                .filled
                .get(&op.keyspace)
                .and_then(|memtables| memtables.last());
            let fitted = memtable.is_some_and(|memtable| memtable.insert(entry));
            assert!(fitted, "the memtable was chosen to have room");
        }
    }

    fn time(&mut self, last: Commit, time: Timestamp) {
        self.times.note(last, time);
    }
}
