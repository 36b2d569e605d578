//! Helpers of the engine's tests: a database on a thread of its own making, and a model of what it
//! must answer at every commit.
#![allow(dead_code, reason = "each test uses a part")]

use siltstone_kv::{Background, History, KeyspaceOptions, Kv, Options, Read, ScanOptions};
use siltstone_storage::{Env, MemBlobs};
use std::collections::BTreeMap;
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

pub fn open_manual(blobs: &MemBlobs, seed: u64) -> Kv {
    let (env, _) = Env::simulated(Arc::new(blobs.clone()), seed);
    Kv::open(env, small_options(), small_keyspace(), None).unwrap()
}

/// Every version of every key.
#[derive(Debug, Default, Clone)]
pub struct Model {
    head: u64,
    versions: BTreeMap<Vec<u8>, Vec<(u64, Option<Vec<u8>>)>>,
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
