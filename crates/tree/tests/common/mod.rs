//! Helpers of the tree's tests: a tree in memory, and values in a few letters.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "helpers of tests")]

use siltstone_kv::{Background, Commit, History, KeyspaceOptions, Kv, Options};
use siltstone_storage::{Env, FaultPlan, FaultyBlobs, MemBlobs};
use siltstone_tree::{JsonPatch, Tree, Trees, Value, Watch, WatchEvent, parse_json_patch};
use std::sync::Arc;

/// JSON as a value.
pub fn v(json: &str) -> Value {
    json.parse()
        .unwrap_or_else(|error| panic!("{json}: {error}"))
}

pub fn patch(json: &str) -> JsonPatch {
    parse_json_patch(json).unwrap()
}

/// Small enough that every limit is met within a few operations; nothing happens by itself.
pub fn small_options() -> Options {
    Options {
        background: Background::Manual,
        memory_budget: 8 << 20,
        memtable_bytes: 16 << 10,
        wal_bytes: 64 << 10,
        table_bytes: 8192,
        level1_bytes: 32 << 10,
        ..Options::default()
    }
}

/// Real threads.
pub fn threaded_options() -> Options {
    Options {
        memory_budget: 32 << 20,
        ..Options::default()
    }
}

pub fn keyspace(history: History) -> KeyspaceOptions {
    KeyspaceOptions {
        history,
        ..KeyspaceOptions::default()
    }
}

/// A database over `blobs`.
pub fn open(blobs: &MemBlobs, options: Options) -> Kv {
    let env = match options.background {
        Background::Manual => Env::simulated(Arc::new(blobs.clone()), 1).0,
        Background::Threads => Env::system(Arc::new(blobs.clone())),
    };
    Kv::open(env, options, KeyspaceOptions::default(), None).unwrap()
}

/// A database whose store fails by plan.
pub fn open_faulty(blobs: &MemBlobs, options: Options) -> (siltstone_kv::Result<Kv>, FaultyBlobs) {
    open_planned(blobs, options, FaultPlan::default())
}

pub fn open_planned(
    blobs: &MemBlobs,
    options: Options,
    plan: FaultPlan,
) -> (siltstone_kv::Result<Kv>, FaultyBlobs) {
    let (env, clock) = Env::simulated(Arc::new(blobs.clone()), 1);
    let store = FaultyBlobs::new(env.blobs.clone(), clock, plan);
    let env = Env {
        blobs: Arc::new(store.clone()),
        ..env
    };
    (
        Kv::open(env, options, KeyspaceOptions::default(), None),
        store,
    )
}

/// A tree in memory, on one thread.
pub fn tree() -> (Kv, Tree) {
    tree_with(small_options(), History::everything())
}

/// A tree in memory, with real threads.
pub fn threaded() -> (Kv, Tree) {
    tree_with(threaded_options(), History::everything())
}

pub fn tree_with(options: Options, history: History) -> (Kv, Tree) {
    let kv = open(&MemBlobs::new(), options);
    let tree = Trees::of(&kv).create("test", keyspace(history)).unwrap();
    (kv, tree)
}

/// Everything that a watch has to deliver now.
pub fn drain(watch: &mut Watch) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    while let Some(event) = watch.try_next().unwrap() {
        events.push(event);
    }
    events
}

/// An event in a few letters: `state@3`, `caught up@4`, `5: a.b=1 a.c-`.
pub fn words(event: &WatchEvent) -> String {
    match event {
        WatchEvent::State { commit, nodes } => {
            let nodes: Vec<_> = nodes
                .iter()
                .map(|(path, value)| format!(" {path}={value}"))
                .collect();
            format!("state@{commit}{}", nodes.concat())
        }
        WatchEvent::CaughtUp { commit } => format!("caught up@{commit}"),
        WatchEvent::Changes { commit, changes } => {
            let changes: Vec<_> = changes
                .iter()
                .map(|change| match &change.value {
                    Some(value) => format!("{}={value}", change.path),
                    None => format!("{}-", change.path),
                })
                .collect();
            format!("{commit}: {}", changes.join(" "))
        }
    }
}

pub fn all_words(watch: &mut Watch) -> Vec<String> {
    drain(watch).iter().map(words).collect()
}

/// The definition of a retained commit, word for word; no pins and no age.
pub fn retained(history: &History, head: u64, n: u64) -> bool {
    let (head, window) = (i128::from(head), i128::from(history.window));
    n as i128 <= head
        && (0..=history.levels).any(|level| {
            let step = i128::from(history.divisor).pow(level);
            i128::from(n) % step == 0 && i128::from(n) > head - window * step
        })
}

pub fn commit(n: u64) -> Commit {
    Commit(n)
}
