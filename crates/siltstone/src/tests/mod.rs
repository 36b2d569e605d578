//! What the asynchronous front does with calls that have to wait. The runtime has one thread for
//! tasks and one for what waits, so that whoever waits in the wrong place is found out.

mod scans;
mod transactions;

use crate::keyspace::Keyspace;
use crate::scan::Scan;
use siltstone_kv::{Background, Batch, Durability, KeyspaceOptions, Kv, Options, ScanOptions};
use siltstone_storage::{Env, FaultPlan, FaultyBlobs, ManualClock, MemBlobs};
use std::future::poll_fn;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

pub(crate) const ROWS: usize = 100;

/// Runs `work` on a small runtime. A call that waits where it must not would hang it for good, so it
/// is given up after a long while.
pub(crate) fn run<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(work());
        done.send(()).unwrap();
    });
    match wait.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the runtime hangs"),
        _ => thread.join().unwrap(),
    }
}

/// A bucket in memory with `ROWS` rows in small blocks, opened again so that nothing is cached.
pub(crate) fn bucket(max_scans: usize) -> (Kv, FaultyBlobs, Arc<ManualClock>) {
    let options = Options {
        background: Background::Manual,
        max_scans,
        ..Options::default()
    };
    let keyspace = KeyspaceOptions {
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let (mut env, clock) = Env::simulated(Arc::new(MemBlobs::bucket()), 1);
    let store = FaultyBlobs::new(env.blobs.clone(), clock.clone(), FaultPlan::default());
    env.blobs = Arc::new(store.clone());
    let kv = Kv::open(env.clone(), options.clone(), keyspace.clone(), None).unwrap();
    let mut batch = Batch::new();
    for row in 0..ROWS {
        let value = [row as u8; 100];
        batch.put(&kv.default_keyspace(), &key(row), &value);
    }
    kv.write(&batch, Durability::Durable).unwrap();
    kv.close().unwrap();
    let kv = Kv::open(env, options, keyspace, None).unwrap();
    (kv, store, clock)
}

pub(crate) fn key(row: usize) -> Vec<u8> {
    format!("{row:04}").into_bytes()
}

pub(crate) fn scan(kv: &Kv, options: ScanOptions) -> Scan {
    Keyspace(kv.default_keyspace())
        .scan_prefix("", options)
        .unwrap()
}

pub(crate) async fn rest(scan: &mut Scan) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    while let Some((key, _)) = scan.next().await.unwrap() {
        keys.push(key.to_vec());
    }
    keys
}

/// Polls `future` once.
pub(crate) async fn once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = std::pin::pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}
