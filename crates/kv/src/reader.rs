//! A reader: another process (or another handle) that follows a database without disturbing its
//! writer. Any number may be open.
//!
//! It pins the manifest it reads from, so that the writer keeps those tables, and replays the log
//! into memory of its own. The pin has a lease, renewed by reads and by [`Reader::refresh`]; a reader
//! that stands still for longer than the lease must refresh before it reads on.

use crate::commit_ranges::CommitRanges;
use crate::error::{Error, Result};
use crate::open::{Memtables, new_core};
use crate::options::{KeyspaceOptions, Options};
use crate::read::{Read, ReadAt, ViewRef};
use crate::readable::Readable;
use crate::shared::Shared;
use crate::signals::Signals;
use crate::snapshot::{HeldCommits, Scope, Snapshot};
use crate::state::{Checkpoint, DEFAULT_KEYSPACE, DbState};
use crate::stats::Stats;
use crate::types::{Commit, KeyspaceId};
use crate::view::{KeyspaceCore, SegmentPin, Tables, View};
use crate::wal::PREFIX;
use crate::wal::ahead::LogAhead;
use crate::wal::recovery::replay_listed;
use parking_lot::{Mutex, RwLock};
use siltstone_storage::{Env, ManifestStore, Numbered, PendingList, Pins, ReaderPins, Role};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a refresh starts over because the writer moved on meanwhile.
const REFRESH_ATTEMPTS: u32 = 10;

/// A database open for reading.
#[derive(Debug, Clone)]
pub struct Reader {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    manifest: ManifestStore<DbState>,
    pins: Mutex<Vec<ManifestPin>>,
    refreshing: Mutex<()>,
    renew_at: Mutex<Duration>,
    segment_pins: Arc<Mutex<Pins>>,
    signals: Arc<Signals>,
    tables: Mutex<Tables>,
    keyspaces: RwLock<BTreeMap<KeyspaceId, Arc<KeyspaceCore>>>,
}

/// A manifest that this reader holds, while any of its views names that manifest's tables.
#[derive(Debug)]
struct ManifestPin {
    manifest: u64,
    /// The version of the segment log in it.
    version: u64,
    pin: ReaderPins,
}

impl Drop for ManifestPin {
    fn drop(&mut self) {
        if let Err(error) = self.pin.release() {
            tracing::debug!(%error, "a reader's pin will lapse with its lease");
        }
    }
}

impl Reader {
    /// Opens the database in `env` for reading.
    ///
    /// # Errors
    /// The store's: not found when there is no database, damage, permission to write a pin.
    pub fn open(env: Env, options: Options) -> Result<Self> {
        options.check()?;
        let env = options.cached(env)?;
        let manifest = ManifestStore::open(env.clone(), Role::Reader, || {
            unreachable!("readers create nothing")
        })?;
        let shared = Shared::new(env.clone(), options);
        let reader = Self {
            inner: Arc::new(Inner {
                pins: Mutex::default(),
                refreshing: Mutex::default(),
                renew_at: Mutex::new(Duration::ZERO),
                segment_pins: Arc::default(),
                signals: Arc::default(),
                tables: Mutex::new(Tables::new(env.blobs.clone(), shared.cache.clone())),
                keyspaces: RwLock::default(),
                shared,
                manifest,
            }),
        };
        reader.inner.move_to(reader.inner.manifest.current())?;
        Ok(reader)
    }

    /// Moves to the newest state of the database. Answers its newest commit.
    ///
    /// # Errors
    /// The store's.
    pub fn refresh(&self) -> Result<Commit> {
        let inner = &self.inner;
        let _one_at_a_time = inner.refreshing.lock();
        inner.move_to(inner.manifest.refresh()?)
    }

    /// The keyspace called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownKeyspace`] naming those there are.
    pub fn keyspace(&self, name: &str) -> Result<ReaderKeyspace> {
        let keyspaces = self.inner.keyspaces.read();
        match keyspaces.values().find(|core| core.name == name) {
            Some(core) => Ok(ReaderKeyspace {
                reader: self.clone(),
                core: core.clone(),
            }),
            None => Err(Error::UnknownKeyspace {
                name: name.to_string(),
                known: keyspaces
                    .values()
                    .map(|core| core.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// The keyspace that every database has.
    pub fn default_keyspace(&self) -> ReaderKeyspace {
        self.keyspace(DEFAULT_KEYSPACE)
            .expect("every database has it")
    }

    /// The names of all keyspaces.
    pub fn keyspaces(&self) -> Vec<String> {
        self.inner
            .keyspaces
            .read()
            .values()
            .map(|core| core.name.clone())
            .collect()
    }

    /// The checkpoints whose lease has not ended.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let now = self.inner.shared.env.clock.now();
        let current = self.inner.manifest.current();
        let live = |c: &&Checkpoint| c.expires.is_none_or(|expires| expires > now);
        current
            .state
            .checkpoints
            .iter()
            .filter(live)
            .cloned()
            .collect()
    }

    /// The newest commit this reader sees.
    pub fn head(&self) -> Commit {
        self.inner.shared.visible()
    }

    /// The manifest this reader reads from.
    pub fn manifest(&self) -> Arc<Numbered<DbState>> {
        self.inner.manifest.current()
    }

    /// Everything about the database in numbers.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let current = inner.manifest.current();
        let keyspaces = inner.keyspaces.read();
        let stats = |core: &Arc<KeyspaceCore>| crate::admin::keyspace_stats(core, &current.state);
        Stats {
            commit: inner.shared.visible(),
            manifest: current.number,
            epoch: current.epoch,
            keyspaces: keyspaces.values().map(stats).collect(),
            cache_bytes: inner.shared.cache.weight(),
            cache_capacity: inner.shared.cache.capacity(),
            pinned_bytes: inner.shared.cache.pinned(),
            cache_misses: inner.shared.cache.hits_and_misses().1,
            totals: inner.shared.counters.totals(),
            retired_tables: current.state.tables.retired().count() as u64,
            open_scans: inner.shared.scans.used() as u64,
            open_snapshots: inner.shared.held.count() as u64,
            open_transactions: 0,
            open_feeds: 0,
            disk_cache: inner.shared.env.blobs.disk_cache(),
        }
    }

    /// How long its pins hold without being renewed.
    pub(crate) fn lease(&self) -> Duration {
        self.inner.shared.options.reader_lease
    }

    /// The newest manifest there is, which the reader may not read from yet.
    pub(crate) fn newest_manifest(&self) -> Result<Arc<Numbered<DbState>>> {
        Ok(self.inner.manifest.refresh()?)
    }

    /// What the reader takes from the world.
    pub fn env(&self) -> &Env {
        &self.inner.shared.env
    }
}

impl Inner {
    /// Shows `current`, or what is newer by then. Answers its newest commit. One at a time.
    fn move_to(&self, mut current: Arc<Numbered<DbState>>) -> Result<Commit> {
        for _ in 0..REFRESH_ATTEMPTS {
            self.hold(&current)?;
            let log = self.shared.env.blobs.start_list(PREFIX);
            // The pin counts only if the manifest was still the newest after it was written: then
            // whoever replaces it lists the pins afterwards.
            let newest = self.manifest.refresh()?;
            if newest.number != current.number {
                current = newest;
                continue;
            }
            let failed = match self.load(&current, log) {
                Ok(Some(head)) => return Ok(head),
                failed => failed,
            };
            // Files of the log were deleted while they were listed and read: they are in tables of a
            // newer manifest.
            let newest = self.manifest.refresh()?;
            if newest.number > current.number {
                current = newest;
                continue;
            }
            failed?;
            return self.load_without_log_start(&current);
        }
        Err(Error::Cancelled {
            what: "a reader that could not keep up with its writer",
        })
    }

    /// Pins a manifest for the lease, beside those that older views still name.
    fn hold(&self, current: &Numbered<DbState>) -> Result<()> {
        let mut pins = self.pins.lock();
        if pins
            .last()
            .is_none_or(|last| last.manifest != current.number)
        {
            let lease = self.shared.options.reader_lease;
            pins.push(ManifestPin {
                manifest: current.number,
                version: current.state.tables.version(),
                pin: ReaderPins::new(self.shared.env.clone(), lease),
            });
        }
        self.renew_all(&pins)
    }

    fn renew_all(&self, pins: &[ManifestPin]) -> Result<()> {
        for held in pins {
            held.pin.hold(held.manifest)?;
        }
        let third = self.shared.options.reader_lease / 3;
        *self.renew_at.lock() = self.shared.env.clock.elapsed() + third;
        Ok(())
    }

    /// Lets go of manifests that no view names any more.
    fn release_old(&self) {
        let oldest = self.segment_pins.lock().oldest().unwrap_or(u64::MAX);
        let mut pins = self.pins.lock();
        if let Some(newest) = pins.pop() {
            pins.retain(|held| held.version >= oldest);
            pins.push(newest);
        }
    }

    fn is_renewal_due(&self) -> bool {
        self.shared.env.clock.elapsed() >= *self.renew_at.lock()
    }

    fn renew(&self) -> Result<()> {
        if self.is_renewal_due() {
            self.release_old();
            self.renew_all(&self.pins.lock())?;
        }
        Ok(())
    }

    /// `None`: the first file of the log is not there.
    fn load(&self, current: &Arc<Numbered<DbState>>, log: PendingList) -> Result<Option<Commit>> {
        self.replay_and_show(current, log, true)
    }

    /// As [`Inner::load`], when it is known that nothing was deleted: there is no log yet.
    fn load_without_log_start(&self, current: &Arc<Numbered<DbState>>) -> Result<Commit> {
        let log = self.shared.env.blobs.start_list(PREFIX);
        let shown = self.replay_and_show(current, log, false)?;
        Ok(shown.unwrap_or_else(|| self.shared.visible()))
    }

    fn replay_and_show(
        &self,
        current: &Arc<Numbered<DbState>>,
        log: PendingList,
        from_start: bool,
    ) -> Result<Option<Commit>> {
        let state = &current.state;
        let mut replayed = Memtables::new(&self.shared, state);
        let env = &self.shared.env;
        let found = replay_listed(
            LogAhead::new(env, &log.wait()?),
            env,
            state.wal_floor,
            state.head,
            self.shared.options.wal_recovery,
            &mut replayed,
        )?;
        if from_start && !found.from_floor {
            return Ok(None);
        }
        let mut next = BTreeMap::new();
        let known = self.keyspaces.read().clone();
        for keyspace in &state.keyspaces {
            let (_, pin) =
                SegmentPin::of_current(&self.segment_pins, &self.signals, || current.clone());
            let memtables = replayed.take(keyspace.id, 0);
            let runs = self.tables.lock().runs(state, keyspace.id);
            let view = View::new(keyspace, &state.hidden, memtables, runs, found.last, pin);
            let core = match known.get(&keyspace.id) {
                Some(core) => {
                    core.change(|_| view);
                    core.clone()
                }
                None => Arc::new(new_core(keyspace, view)),
            };
            next.insert(keyspace.id, core);
        }
        *self.keyspaces.write() = next;
        self.tables.lock().forget_replaced(state);
        self.shared.publish(found.last);
        self.release_old();
        Ok(Some(found.last))
    }
}

/// A keyspace as a reader sees it.
#[derive(Debug, Clone)]
pub struct ReaderKeyspace {
    reader: Reader,
    core: Arc<KeyspaceCore>,
}

impl ReaderKeyspace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Its settings.
    pub fn options(&self) -> KeyspaceOptions {
        (*self.core.view.load().options).clone()
    }

    /// The commits that can be read: by its policy, or because a checkpoint holds them.
    ///
    /// # Errors
    /// The store's, when the reader's pin has to be renewed.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        let inner = &self.reader.inner;
        inner.renew()?;
        let now = inner.shared.env.clock.now();
        let view = self.core.view.load();
        let state = &inner.manifest.current().state;
        let young = state.times.young_from(&view, now);
        Ok(Readable::new(&view, view.seen, young).commits(state.checkpoint_pins(now)))
    }

    /// The keyspace as it was at `commit`.
    ///
    /// # Errors
    /// [`Error::NotRetained`], [`Error::FutureCommit`].
    pub fn at_commit(&self, commit: Commit) -> Result<Snapshot> {
        let inner = &self.reader.inner;
        inner.renew()?;
        let now = inner.shared.env.clock.now();
        let view = self.core.view.load_full();
        let state = &inner.manifest.current().state;
        let young = state.times.young_from(&view, now);
        Readable::new(&view, view.seen, young).check(commit, || state.checkpoint_pins(now))?;
        let scope = Scope::Keyspace(self.core.id);
        let pin = HeldCommits::hold(&inner.shared, scope, || Ok(commit))?;
        Ok(Snapshot {
            core: self.core.clone(),
            pin: Arc::new(pin),
            view: Some(view),
        })
    }
}

impl Read for ReaderKeyspace {
    fn at(&self) -> Result<ReadAt> {
        self.reader.inner.renew()?;
        Ok(self.now())
    }

    /// A renewal writes to the store, and waits for it.
    fn try_at(&self) -> Result<ReadAt> {
        if self.reader.inner.is_renewal_due() {
            let name = "the pin of a reader".into();
            return Err(siltstone_storage::Error::WouldBlock { name }.into());
        }
        Ok(self.now())
    }
}

impl ReaderKeyspace {
    fn now(&self) -> ReadAt {
        let view = self.core.view.load();
        ReadAt {
            // View and commit come together: a newer view may lack what an older commit reads.
            commit: view.seen,
            view: ViewRef::Guard(view),
            shared: self.reader.inner.shared.clone(),
            hold: None,
            overlay: None,
        }
    }
}
