//! Scans that must wait: for a turn, for a deadline, for the store.

use super::*;
use crate::error::Error;
use crate::wait::{get, open_scan};
use siltstone_kv::{CancelToken, KeyRange, Read};
use siltstone_storage::{Call, CallKind};
use std::sync::Mutex;
use std::thread::ThreadId;

#[test]
fn a_scan_that_waits_for_its_turn_blocks_neither_its_task_nor_those_it_waits_for() {
    run(|| async {
        let (kv, _, _) = bucket(1);
        let mut first = scan(&kv, ScanOptions::default());
        assert!(first.next().await.unwrap().is_some());
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let mut scan = scan(&kv, ScanOptions::default());
                tokio::spawn(async move { rest(&mut scan).await.len() })
            })
            .collect();
        tokio::task::yield_now().await;
        // The one blocking thread is free for the scan that runs.
        assert_eq!(rest(&mut first).await.len(), ROWS - 1);
        drop(first);
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), ROWS);
        }
        assert_eq!(kv.stats().open_scans, 0);
    });
}

#[test]
fn a_scan_that_waits_for_its_turn_can_be_cancelled_or_dropped() {
    run(|| async {
        let (kv, _, _) = bucket(1);
        let mut first = scan(&kv, ScanOptions::default());
        assert!(first.next().await.unwrap().is_some());
        let token = CancelToken::new();
        let options = ScanOptions {
            cancel: Some(token.clone()),
            ..ScanOptions::default()
        };
        let mut second = scan(&kv, options);
        let waiting = tokio::spawn(async move { second.next().await });
        let mut third = scan(&kv, ScanOptions::default());
        assert!(once(third.next()).await.is_pending());
        tokio::task::yield_now().await;
        token.cancel();
        let refused = waiting.await.unwrap();
        assert!(matches!(
            refused,
            Err(Error::Kv(siltstone_kv::Error::Cancelled { .. }))
        ));
        drop(third);
        drop(first);
        assert_eq!(
            rest(&mut scan(&kv, ScanOptions::default())).await.len(),
            ROWS
        );
        assert_eq!(kv.stats().open_scans, 0);
    });
}

#[test]
fn a_scan_with_a_deadline_gives_up_its_wait_elsewhere() {
    run(|| async {
        let (kv, _, _) = bucket(1);
        let mut first = scan(&kv, ScanOptions::default());
        assert!(first.next().await.unwrap().is_some());
        let options = ScanOptions {
            deadline: Some(Duration::from_millis(20)),
            ..ScanOptions::default()
        };
        let mut second = scan(&kv, options);
        assert!(once(second.next()).await.is_pending());
        let refused = second.next().await;
        assert!(matches!(
            refused,
            Err(Error::Kv(siltstone_kv::Error::Cancelled { .. }))
        ));
        assert_eq!(rest(&mut first).await.len(), ROWS - 1);
    });
}

#[test]
fn a_step_given_up_before_it_is_ready_loses_no_row() {
    run(|| async {
        let (kv, store, _) = bucket(10);
        let (open_gate, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let task = std::thread::current().id();
        store.on_call(Box::new(move |call: &Call| {
            if call.kind == CallKind::Read && std::thread::current().id() != task {
                // Reads wait until they are let through, one by one, and freely in the end.
                let _ = gate.lock().unwrap().recv();
            }
        }));
        let mut scan = scan(&kv, ScanOptions::default());
        assert!(once(scan.next()).await.is_pending());
        assert!(once(scan.next()).await.is_pending());
        open_gate.send(()).unwrap();
        assert!(once(scan.next()).await.is_pending());
        drop(open_gate);
        let expected: Vec<_> = (0..ROWS).map(key).collect();
        assert_eq!(rest(&mut scan).await, expected);
        assert_eq!(scan.stats().rows, ROWS as u64);
    });
}

#[test]
fn a_reader_renews_its_pin_away_from_the_task() {
    run(|| async {
        let (kv, store, clock) = bucket(10);
        let options = kv.options().clone();
        let reader = siltstone_kv::Reader::open(kv.env().clone(), options).unwrap();
        let read = reader.default_keyspace();
        let puts: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
        let seen = puts.clone();
        store.on_call(Box::new(move |call: &Call| {
            if call.name.starts_with("pins/") {
                seen.lock().unwrap().push(std::thread::current().id());
            }
        }));
        clock.advance(Duration::from_secs(50));
        assert!(read.try_get(&key(3)).unwrap_err().is_would_block());
        assert!(get(&read, &key(3)).await.unwrap().is_some());
        clock.advance(Duration::from_secs(50));
        let mut scan = open_scan(&read, KeyRange::prefix(b""), ScanOptions::default()).unwrap();
        assert_eq!(rest(&mut scan).await.len(), ROWS);
        let puts = puts.lock().unwrap();
        assert_eq!(puts.len(), 2, "it was renewed for the get and for the scan");
        assert!(!puts.contains(&std::thread::current().id()));
        // Renewed, it answers from memory again.
        assert!(read.try_get(&key(3)).unwrap().is_some());
    });
}
