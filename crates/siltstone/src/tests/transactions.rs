//! Transactions whose reads and commits must wait.

use super::*;
use crate::transaction::Transaction;
use siltstone_kv::Isolation;
use siltstone_storage::{Call, CallKind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_read_of_a_transaction_that_must_wait_does_so_away_from_the_task() {
    run(|| async {
        let (kv, store, _) = bucket(10);
        let keyspace = Keyspace(kv.default_keyspace());
        let (open_gate, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let task = std::thread::current().id();
        let waited = Arc::new(AtomicU64::new(0));
        let waits = waited.clone();
        store.on_call(Box::new(move |call: &Call| {
            // The task's own tries answer at once that they would have to wait.
            if call.kind == CallKind::Read && std::thread::current().id() != task {
                waits.fetch_add(1, Ordering::Relaxed);
                let _ = gate.lock().unwrap().recv();
            }
        }));
        let txn = Transaction::new(kv.begin(Isolation::Serializable).unwrap());
        txn.put(&keyspace, key(3), "own").unwrap();
        let own = txn.get(&keyspace, key(3)).await.unwrap();
        assert_eq!(own.as_deref(), Some(&b"own"[..]));
        assert_eq!(waited.load(Ordering::Relaxed), 0, "own writes are at hand");
        let mut reading = std::pin::pin!(txn.get(&keyspace, key(50)));
        assert!(once(reading.as_mut()).await.is_pending());
        // The task goes on meanwhile; only now may the store answer.
        txn.put(&keyspace, key(4), "own").unwrap();
        drop(open_gate);
        let read = reading.await.unwrap();
        assert_eq!(read.as_deref(), Some(&[50; 100][..]));
        let read = txn.get_for_update(&keyspace, key(90)).await.unwrap();
        assert_eq!(read.as_deref(), Some(&[90; 100][..]));
        let mut scan = txn
            .scan(&keyspace, key(10)..key(20), ScanOptions::default())
            .unwrap();
        assert_eq!(rest(&mut scan).await.len(), 10);
        assert!(waited.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn a_key_read_for_update_from_the_store_is_guarded() {
    run(|| async {
        let (kv, _, _) = bucket(10);
        let keyspace = Keyspace(kv.default_keyspace());
        let txn = Transaction::new(kv.begin(Isolation::Snapshot).unwrap());
        let read = txn.get_for_update(&keyspace, key(7)).await.unwrap();
        assert!(read.is_some());
        txn.put(&keyspace, "other", "v").unwrap();
        keyspace.put(key(7), "newer").await.unwrap();
        assert!(txn.commit().await.unwrap_err().is_conflict());
    });
}

#[test]
fn a_transaction_whose_read_was_given_up_is_rolled_back_when_it_is_dropped() {
    run(|| async {
        let (kv, store, _) = bucket(10);
        let keyspace = Keyspace(kv.default_keyspace());
        let (open_gate, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let task = std::thread::current().id();
        store.on_call(Box::new(move |call: &Call| {
            if call.kind == CallKind::Read && std::thread::current().id() != task {
                let _ = gate.lock().unwrap().recv();
            }
        }));
        let txn = Transaction::new(kv.begin(Isolation::Serializable).unwrap());
        assert!(once(txn.get(&keyspace, key(1))).await.is_pending());
        assert_eq!(kv.stats().open_transactions, 1);
        drop(txn);
        assert_eq!(kv.stats().open_transactions, 0);
        drop(open_gate);
    });
}
