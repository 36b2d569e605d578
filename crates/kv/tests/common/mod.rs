//! Helpers of the engine's tests: a database on a thread of its own making, and a model of what it
//! must answer at every commit.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "helpers of tests")]

use siltstone_kv::{
    Background, Batch, Commit, CompactOptions, CompactStats, Durability, Error, GetStats, History,
    Keyspace, KeyspaceOptions, Kv, Options, Read, ScanOptions, SegmentId,
};
use siltstone_storage::{Blobs, Env, FaultPlan, FaultyBlobs, FolderLock, ManualClock, MemBlobs};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Small enough that every limit is met within a few operations.
pub fn small_options() -> Options {
    Options {
        background: Background::Manual,
        memory_budget: 8 << 20,
        memtable_bytes: 4096,
        wal_bytes: 8192,
        table_bytes: 4096,
        level1_bytes: 8192,
        ..Options::default()
    }
}

pub fn small_keyspace() -> KeyspaceOptions {
    KeyspaceOptions {
        history: History {
            window: 20,
            ..History::default()
        },
        block_bytes: 512,
        ..KeyspaceOptions::default()
    }
}

/// The lock of a folder of its own: a writer that has one is sure to be the only one.
pub fn folder_lock() -> FolderLock {
    let folder = tempfile::tempdir().unwrap();
    FolderLock::take(folder.path()).unwrap()
}

pub fn open_manual(blobs: &MemBlobs, seed: u64) -> Kv {
    let (env, _) = Env::simulated(Arc::new(blobs.clone()), seed);
    Kv::open(env, small_options(), small_keyspace(), None).unwrap()
}

/// The versions of one key: commit, and value or deletion.
type Versions = Vec<(u64, Option<Vec<u8>>)>;

/// Every version of every key.
#[derive(Debug, Default, Clone)]
pub struct Model {
    head: u64,
    versions: BTreeMap<Vec<u8>, Versions>,
}

impl Model {
    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn put(&mut self, key: &[u8], value: Option<Vec<u8>>) -> u64 {
        self.head += 1;
        self.versions
            .entry(key.to_vec())
            .or_default()
            .push((self.head, value));
        self.head
    }

    /// One commit with several writes; with none it only counts.
    pub fn commit(&mut self, rows: &[(&str, Option<&str>)]) -> u64 {
        self.head += 1;
        for (key, value) in rows {
            let value = value.map(|value| value.as_bytes().to_vec());
            self.versions
                .entry(key.as_bytes().to_vec())
                .or_default()
                .push((self.head, value));
        }
        self.head
    }

    /// The contents at `commit`.
    pub fn at(&self, commit: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let newest = |versions: &Vec<(u64, Option<Vec<u8>>)>| {
            versions
                .iter()
                .rev()
                .find(|(c, _)| *c <= commit)
                .and_then(|(_, v)| v.clone())
        };
        self.versions
            .iter()
            .filter_map(|(k, v)| Some((k.clone(), newest(v)?)))
            .collect()
    }

    /// Forgets every commit after `head`.
    pub fn cut(&mut self, head: u64) {
        self.head = head;
        for versions in self.versions.values_mut() {
            versions.retain(|(commit, _)| *commit <= head);
        }
    }

    /// Compares everything that `read` answers with the contents at `commit`.
    pub fn check(&self, read: &impl Read, commit: u64) {
        let expected = self.at(commit);
        let rows: BTreeMap<Vec<u8>, Vec<u8>> = read
            .scan_prefix(b"", ScanOptions::default())
            .unwrap()
            .into_iter()
            .map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap())
            .collect();
        assert_eq!(rows, expected, "scan at {commit}");
        for key in self.versions.keys() {
            let found = read.get(key).unwrap().map(|v| v.to_vec());
            assert_eq!(found.as_ref(), expected.get(key), "get {key:?} at {commit}");
        }
    }
}

/// The definition of a retained commit, word for word; no pins and no age.
pub fn retained(history: &History, head: u64, n: u64) -> bool {
    let (head, window) = (i128::from(head), i128::from(history.window));
    (0..=history.levels).any(|level| {
        let step = i128::from(history.divisor).pow(level);
        i128::from(n) % step == 0 && i128::from(n) > head - window * step
    })
}

/// A database in memory over a store that fails by plan, with its clock in hand.
pub struct Db {
    pub mem: MemBlobs,
    pub store: FaultyBlobs,
    pub clock: Arc<ManualClock>,
    pub kv: Kv,
}

impl Db {
    pub fn new() -> Self {
        Self::with(roomy_options(), KeyspaceOptions::default())
    }

    pub fn with(options: Options, keyspace: KeyspaceOptions) -> Self {
        Self::on(MemBlobs::new(), options, keyspace)
    }

    pub fn history(history: History) -> Self {
        let keyspace = KeyspaceOptions {
            history,
            ..KeyspaceOptions::default()
        };
        Self::with(roomy_options(), keyspace)
    }

    pub fn on(mem: MemBlobs, options: Options, keyspace: KeyspaceOptions) -> Self {
        Self::open(mem, options, keyspace, None)
    }

    /// As [`Db::on`], by a writer that holds the lock of the folder.
    pub fn locked(mem: MemBlobs, options: Options, keyspace: KeyspaceOptions) -> Self {
        Self::open(mem, options, keyspace, Some(folder_lock()))
    }

    fn open(
        mem: MemBlobs,
        options: Options,
        keyspace: KeyspaceOptions,
        lock: Option<FolderLock>,
    ) -> Self {
        let (env, clock, store) = simulated(&mem, 1);
        let kv = Kv::open(env, options, keyspace, lock).unwrap();
        Self {
            mem,
            store,
            clock,
            kv,
        }
    }

    /// Closes and opens again, over the same bytes.
    pub fn reopen(self) -> Self {
        let options = self.kv.options().clone();
        self.kv.close().unwrap();
        Self::on(self.mem, options, KeyspaceOptions::default())
    }

    /// The machine stops without a close; unsynced bytes are lost.
    pub fn power_cut(self) -> Self {
        let options = self.kv.options().clone();
        self.store.crash();
        Self::on(
            self.mem.after_crash(|_| 0),
            options,
            KeyspaceOptions::default(),
        )
    }

    /// What the database's clock shows.
    pub fn clock_now(&self) -> siltstone_storage::Timestamp {
        self.kv.env().clock.now()
    }

    /// Changes the history policy of the default keyspace.
    pub fn set_history(&self, history: History) {
        let options = KeyspaceOptions {
            history,
            ..self.default().options()
        };
        self.kv.set_keyspace("default", options).unwrap();
    }

    /// Writes rows to the default keyspace in one commit, `None` deleting, and tells the model.
    pub fn commit(&self, model: &mut Model, rows: &[(&str, Option<&str>)]) {
        let mut batch = Batch::new();
        for (key, value) in rows {
            match value {
                Some(value) => batch.put(&self.default(), key.as_bytes(), value.as_bytes()),
                None => batch.delete(&self.default(), key.as_bytes()),
            };
        }
        let put = self.kv.write(&batch, Durability::Buffered).unwrap();
        assert_eq!(put.commit.0, model.commit(rows));
    }

    /// Checks reads at every commit: those that `readable` names are exact for every key, every
    /// other is refused with the readable neighbours on both sides, and the list of retained
    /// commits says the same.
    pub fn check_history(&self, model: &Model, readable: impl Fn(u64) -> bool) {
        let listed = self.default().retained_commits().unwrap();
        let mut before = None;
        let mut refused = Vec::new();
        for n in 0..=model.head() {
            assert_eq!(listed.contains(Commit(n)), readable(n), "commit {n}");
            match self.default().at_commit(Commit(n)) {
                Ok(snapshot) => {
                    assert!(readable(n), "commit {n} is readable");
                    model.check(&snapshot, n);
                    for before in refused.drain(..) {
                        assert_eq!(before, Some(Commit(n)), "the next after what was refused");
                    }
                    before = Some(Commit(n));
                }
                Err(error) => {
                    let Error::NotRetained {
                        asked,
                        before: named,
                        after,
                    } = error
                    else {
                        panic!("commit {n}: {error}");
                    };
                    assert!(!readable(n), "commit {n} is refused");
                    assert_eq!((asked, named), (Commit(n), before));
                    refused.push(after);
                }
            }
        }
        assert!(refused.is_empty(), "the head is readable");
    }

    pub fn default(&self) -> Keyspace {
        self.kv.default_keyspace()
    }

    pub fn put(&self, key: &str, value: &str) -> Commit {
        self.default()
            .put(key.as_bytes(), value.as_bytes())
            .unwrap()
            .commit
    }

    pub fn delete(&self, key: &str) -> Commit {
        self.default().delete(key.as_bytes()).unwrap().commit
    }

    pub fn get(&self, key: &str) -> Option<String> {
        let value = self.default().get(key.as_bytes()).unwrap();
        value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    pub fn get_with_stats(&self, key: &str) -> (Option<String>, GetStats) {
        let (value, stats) = self.default().get_with_stats(key.as_bytes()).unwrap();
        (
            value.map(|value| String::from_utf8(value.to_vec()).unwrap()),
            stats,
        )
    }

    /// Writes and flushes: one table.
    pub fn table(&self, rows: &[(&str, &str)]) -> SegmentId {
        for (key, value) in rows {
            self.put(key, value);
        }
        self.flush_one()
    }

    pub fn flush_one(&self) -> SegmentId {
        let tables = self.kv.flush().unwrap().tables;
        assert_eq!(tables.len(), 1);
        tables[0]
    }

    pub fn compact(&self, options: &CompactOptions) -> CompactStats {
        self.default()
            .compact(options)
            .map_err(|failed| failed.error)
            .unwrap()
    }

    pub fn compact_all(&self) -> CompactStats {
        self.compact(&CompactOptions::default())
    }

    pub fn live(&self) -> Vec<SegmentId> {
        self.kv
            .manifest()
            .state
            .tables
            .live()
            .iter()
            .map(|segment| segment.id)
            .collect()
    }

    /// The tables that are files.
    pub fn files(&self) -> BTreeSet<String> {
        files(&self.mem, "sst/")
    }

    /// Checks that table files are exactly the live tables and those that wait for a reader.
    pub fn assert_no_orphan(&self) {
        assert_no_orphan(&self.mem, &self.kv);
    }

    pub fn rows(&self) -> Vec<(String, String)> {
        rows(self.default().scan::<&[u8]>(..).unwrap())
    }
}

pub fn assert_no_orphan(mem: &MemBlobs, kv: &Kv) {
    let manifest = kv.manifest();
    let tables = &manifest.state.tables;
    let live: BTreeSet<String> = tables.live().iter().map(|s| s.id.blob()).collect();
    let listed: BTreeSet<String> = live
        .iter()
        .cloned()
        .chain(tables.retired().map(|id| id.blob()))
        .collect();
    let files = files(mem, "sst/");
    assert!(
        files.is_subset(&listed),
        "orphans: {:?}",
        files.difference(&listed)
    );
    assert!(
        live.is_subset(&files),
        "missing: {:?}",
        live.difference(&files)
    );
}

pub fn files(blobs: &MemBlobs, prefix: &str) -> BTreeSet<String> {
    blobs
        .list(prefix)
        .unwrap()
        .into_iter()
        .map(|blob| blob.name)
        .collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn rows(scan: siltstone_kv::Scan) -> Vec<(String, String)> {
    scan.into_iter()
        .map(|row| row.map(|(k, v)| (text(&k), text(&v))).unwrap())
        .collect()
}

pub fn keys(scan: siltstone_kv::Scan) -> Vec<String> {
    rows(scan).into_iter().map(|(key, _)| key).collect()
}

/// Seeded world over `mem` with planned faults (none yet).
pub fn simulated(mem: &MemBlobs, seed: u64) -> (Env, Arc<ManualClock>, FaultyBlobs) {
    let (env, clock) = Env::simulated(Arc::new(mem.clone()), seed);
    let store = FaultyBlobs::new(env.blobs.clone(), clock.clone(), FaultPlan::default());
    let env = Env {
        blobs: Arc::new(store.clone()),
        ..env
    };
    (env, clock, store)
}

/// Nothing happens but by hand.
pub fn roomy_options() -> Options {
    Options {
        background: Background::Manual,
        memory_budget: 8 << 20,
        level0_stop: 10_000,
        ..Options::default()
    }
}

/// Real threads and little memory.
pub fn threaded_options() -> Options {
    Options {
        background: Background::Threads,
        settle_after: std::time::Duration::from_millis(20),
        ..small_options()
    }
}
