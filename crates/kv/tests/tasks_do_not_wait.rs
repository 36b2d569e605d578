//! A task that writes never waits for a disk: neither for itself nor for those it would lead.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use siltstone_kv::{Durability, KeyspaceOptions, Kv, Options};
use siltstone_storage::{Call, CallKind, Env, FaultPlan, FaultyBlobs, MemBlobs, SystemClock};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;

const TASK: &str = "the thread of the task";

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A folder in memory with small log files and memtables, and the calls that waited on the thread
/// that asked.
fn open() -> (Kv, Arc<Mutex<Vec<Call>>>) {
    open_with(64 * 1024)
}

fn open_with(wal_bytes: usize) -> (Kv, Arc<Mutex<Vec<Call>>>) {
    let task: ThreadId = std::thread::current().id();
    let clock = Arc::new(SystemClock::default());
    let store = FaultyBlobs::new(Arc::new(MemBlobs::new()), clock, FaultPlan::default());
    let options = Options {
        wal_bytes,
        memtable_bytes: 128 * 1024,
        ..Options::default()
    };
    let env = Env::system(Arc::new(store.clone()));
    let kv = Kv::open(env, options, KeyspaceOptions::default(), None).unwrap();
    let waited: Arc<Mutex<Vec<Call>>> = Arc::default();
    let seen = waited.clone();
    store.on_call(Box::new(move |call| {
        let waits = matches!(call.kind, CallKind::Sync | CallKind::OpenAppend);
        if waits && std::thread::current().id() == task {
            seen.lock().unwrap().push(call.clone());
        }
    }));
    (kv, waited)
}

/// As a task does it: what waits for room may seal memtables itself, with a new log file.
fn wait_for_room_elsewhere(kv: &Kv) {
    if kv.is_short_of_room() {
        std::thread::scope(|scope| {
            scope.spawn(|| kv.wait_for_room(200).unwrap());
        });
    }
}

#[test]
fn a_task_leaves_new_log_files_and_full_memtables_to_others() {
    let (kv, waited) = open();
    let keyspace = kv.default_keyspace();
    for n in 0..4000_u32 {
        wait_for_room_elsewhere(&kv);
        let put = keyspace.put_async(&n.to_be_bytes(), &[7; 200], Durability::Buffered);
        assert_eq!(block_on(put).unwrap().0, u64::from(n) + 1);
    }
    assert!(kv.manifest().state.wal_floor > 1, "the log went on");
    assert!(waited.lock().unwrap().is_empty(), "{TASK}: {waited:?}");
    kv.close().unwrap();
}

#[test]
fn a_task_leaves_the_memtables_of_many_keyspaces_to_others() {
    // The log has room: only the crowd of memtables asks for a new file.
    let (kv, waited) = open_with(64 << 20);
    let keyspaces: Vec<_> = (0..6)
        .map(|n| kv.create_keyspace(&format!("k{n}"), KeyspaceOptions::default()))
        .collect::<Result<_, _>>()
        .unwrap();
    for n in 0..6000_u32 {
        wait_for_room_elsewhere(&kv);
        let keyspace = &keyspaces[n as usize % 6];
        let put = keyspace.put_async(&n.to_be_bytes(), &[7; 200], Durability::Buffered);
        block_on(put).unwrap();
    }
    assert!(kv.manifest().state.wal_floor > 1, "the log went on");
    assert!(waited.lock().unwrap().is_empty(), "{TASK}: {waited:?}");
    kv.close().unwrap();
}

#[test]
fn a_task_never_syncs_for_those_who_join_its_group() {
    let (kv, waited) = open();
    let keyspace = kv.default_keyspace();
    let done = AtomicBool::new(false);
    let durable = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..3_u8 {
            let (keyspace, done, durable) = (&keyspace, &done, &durable);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    keyspace.put(&[writer], b"durable").unwrap();
                    durable.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut written = 0;
        while written < 20_000 || durable.load(Ordering::Relaxed) < 2000 {
            let put = keyspace.put_async(b"buffered", b"value", Durability::Buffered);
            block_on(put).unwrap();
            written += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(waited.lock().unwrap().is_empty(), "{TASK}: {waited:?}");
    let commits = kv.head().0;
    kv.close().unwrap();
    assert!(commits >= 22_000);
}
