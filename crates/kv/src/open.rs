//! Opens a writer: lock the folder or fence the bucket, read the manifest, sweep what dead writers
//! left, replay the log.

use crate::core::{Core, Memory};
use crate::error::{Error, Result};
use crate::memtable::{Entry, Memtable};
use crate::options::{KeyspaceOptions, Options};
use crate::permits::Permits;
use crate::pipeline::{Queue, Uploads};
use crate::shared::Shared;
use crate::signals::Signals;
use crate::state::{CommitTimes, DbState, KeyspaceState};
use crate::sync_thread::SyncThread;
use crate::transaction::registry::Registry;
use crate::types::{Commit, KeyspaceId};
use crate::view::{KeyspaceCore, SegmentPin, Tables, View};
use crate::wal::frame::Op;
use crate::wal::log::Log;
use crate::wal::recovery::{Recovered, Replay, replay};
use crate::wal::{FileHeader, blob_name};
use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, RwLock};
use siltstone_storage::{
    Env, FolderLock, ManifestStore, Numbered, Pins, PutOutcome, Role, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct OpenStats {
    /// True when there was no database before.
    pub created: bool,
    /// Commits replayed from the log.
    pub replayed_commits: u64,
    /// Bytes at the end of the log that a crash cut off.
    pub torn_bytes: u64,
    /// Tables of dead writers that were removed.
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
        let mut stats = OpenStats::default();
        let manifest = ManifestStore::open(env.clone(), Role::Writer, || {
            stats.created = true;
            DbState::first(default_keyspace)
        })?;
        let shared = Shared::new(env.clone(), options);
        let bucket = !env.blobs.can_append();
        let current = manifest.current();
        let mut replayed = Memtables::new(&shared, &current.state);
        let mut recovered = replay(
            &env,
            current.state.wal_floor,
            current.state.head,
            shared.options.wal_recovery,
            &mut replayed,
        )?;
        if bucket {
            recovered.next_file = fence(&env, &current, &recovered)?;
            // A fence that was claimed after its place had been swept keeps nobody out: whoever is
            // not in charge any more finds that out here, before the first write.
            let newest = manifest.refresh()?;
            if newest.epoch > manifest.epoch() {
                return Err(Error::Storage(siltstone_storage::Error::Fenced {
                    ours: manifest.epoch(),
                    theirs: newest.epoch,
                }));
            }
        } else {
            // What was read may be in the page cache only; what follows must not outlive it.
            for file in &recovered.files {
                env.blobs.sync(&blob_name(*file))?;
            }
        }
        let fence = recovered.next_file.wrapping_sub(1);
        for stray in recovered
            .strays
            .iter()
            .filter(|stray| !bucket || **stray != fence)
        {
            env.blobs.delete(&blob_name(*stray))?;
        }
        stats.replayed_commits = recovered.commits;
        stats.torn_bytes = recovered.torn_bytes;
        let wal_bytes = shared.options.wal_bytes as u64;
        let log = Log::start(
            env.clone(),
            manifest.epoch(),
            recovered.next_file,
            wal_bytes,
            recovered.last,
        )?;
        let signals = Arc::new(Signals::default());
        let segment_pins = Arc::new(Mutex::new(Pins::default()));
        let mut tables = Tables::new(env.blobs.clone(), shared.cache.clone());
        let times = std::mem::take(&mut replayed.times);
        let mut keyspaces = BTreeMap::new();
        for keyspace in &current.state.keyspaces {
            let (_, pin) = SegmentPin::of_current(&segment_pins, &signals, || current.clone());
            let memtables = replayed.take(keyspace.id, log.number());
            let runs = tables.runs(&current.state, keyspace.id);
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
        let core = Arc::new(Self {
            compactions: Permits::new(shared.options.max_compactions),
            shared,
            manifest,
            bucket,
            keyspaces: RwLock::new(keyspaces),
            tables: Mutex::new(tables),
            segment_pins,
            queue: Mutex::new(Queue::new(recovered.last)),
            log: Mutex::new(log),
            sync_thread: SyncThread::default(),
            uploads: Mutex::new(Uploads::default()),
            uploads_changed: Condvar::new(),
            times: Mutex::new(times),
            signals,
            flushing: Mutex::new(()),
            claimed: Mutex::default(),
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
        stats.swept_tables = core.sweep_orphans()?;
        core.delete_log_below(core.manifest.current().state.wal_floor);
        core.manifest.sweep(&[])?;
        core.collect_garbage();
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

/// Claims the next log name of a bucket, so that an earlier writer that still runs fails there.
fn fence(env: &Env, current: &Numbered<DbState>, recovered: &Recovered) -> Result<u64> {
    let number = recovered.next_file;
    let mut header = Vec::new();
    FileHeader {
        number,
        epoch: current.epoch,
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
        PutOutcome::Exists => Err(Error::Storage(siltstone_storage::Error::Io {
            name: blob_name(number),
            operation: "take over the log",
            kind: std::io::ErrorKind::WouldBlock,
            message: "another writer is still writing; open again to take over".into(),
        })),
    }
}

/// The memtables that a replay fills.
pub(crate) struct Memtables<'a> {
    shared: &'a Shared,
    flushed: BTreeMap<KeyspaceId, Commit>,
    filled: BTreeMap<KeyspaceId, Vec<Arc<Memtable>>>,
    pub(crate) times: CommitTimes,
}

impl<'a> Memtables<'a> {
    pub(crate) fn new(shared: &'a Shared, state: &DbState) -> Self {
        Self {
            shared,
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
        let limit = self.shared.options.memtable_limit();
        (Arc::new(Memtable::new(limit, wal)), filled)
    }
}

impl Memtables<'_> {
    /// Keyspaces that were dropped since, and what is in tables, are passed over.
    fn wants(&self, commit: Commit, op: &Op<'_>) -> bool {
        let unflushed = |flushed: &Commit| commit > *flushed && !op.tag.is_ingested();
        self.flushed.get(&op.keyspace).is_some_and(unflushed)
    }
}

impl Replay for Memtables<'_> {
    fn file(&mut self, file: u64, ops: &[(Commit, Op<'_>)]) {
        let mut needs: BTreeMap<KeyspaceId, usize> = BTreeMap::new();
        for (commit, op) in ops.iter() {
            if self.wants(*commit, op) {
                *needs.entry(op.keyspace).or_default() +=
                    Memtable::entry_bytes(op.key.len(), op.value.len());
            }
        }
        // A file goes into one memtable, so that memtables stay in commit order; within it the order
        // of insertion is free, and key order is quickest.
        for (keyspace, bytes) in &needs {
            let memtables = self.filled.entry(*keyspace).or_default();
            if memtables
                .last()
                .is_none_or(|memtable| !memtable.fits(*bytes))
            {
                let capacity = self.shared.options.memtable_limit().max(*bytes);
                memtables.push(Arc::new(Memtable::new(capacity, file)));
            }
        }
        // Sorted by the first bytes of the key where they differ, which is most of the time.
        let mut order: Vec<(KeyspaceId, u64, u32)> = Vec::with_capacity(ops.len());
        for (at, (commit, op)) in (0..).zip(ops.iter()) {
            if self.wants(*commit, op) {
                order.push((op.keyspace, key_start(op.key), at));
            }
        }
        order.sort_unstable_by(|a, b| {
            let whole = |at: u32| {
                let (commit, op) = &ops[at as usize];
                (op.key, std::cmp::Reverse(*commit), at)
            };
            (a.0, a.1)
                .cmp(&(b.0, b.1))
                .then_with(|| whole(a.2).cmp(&whole(b.2)))
        });
        for (_, _, at) in order {
            let (commit, op) = &ops[at as usize];
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

/// The first eight bytes of a key as a number that orders as they do.
fn key_start(key: &[u8]) -> u64 {
    let mut start = [0; 8];
    let len = key.len().min(8);
    start[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(start)
}
