//! Transactions through the front door, from many tasks and threads.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use siltstone::{
    Database, Error, Expect, Isolation, Keyspace, KeyspaceOptions, KvError, Read, ScanOptions,
    Transaction, blocking,
};
use std::sync::Arc;
use std::time::Duration;

const ACCOUNTS: u64 = 6;
const START: u64 = 100;

fn account(n: u64) -> String {
    format!("account/{n}")
}

async fn open() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().to_str().unwrap()).await.unwrap();
    (dir, db)
}

fn number(value: Option<impl AsRef<[u8]>>) -> u64 {
    let value = value.unwrap();
    std::str::from_utf8(value.as_ref())
        .unwrap()
        .parse()
        .unwrap()
}

async fn transfer(txn: &Transaction, in_: &Keyspace, from: u64, to: u64) -> siltstone::Result<()> {
    let (from, to) = (account(from), account(to));
    let left = number(txn.get(in_, &from).await?);
    let there = number(txn.get(in_, &to).await?);
    if left > 0 && from != to {
        txn.put(in_, &from, (left - 1).to_string())?;
        txn.put(in_, &to, (there + 1).to_string())?;
    }
    Ok(())
}

async fn total(db: &Database) -> u64 {
    let mut all = db.scan_prefix("account/").unwrap();
    let mut sum = 0;
    while let Some((_, value)) = all.next().await.unwrap() {
        sum += number(Some(value));
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transfers_that_race_from_many_tasks_keep_the_sum() {
    let (_dir, db) = open().await;
    for n in 0..ACCOUNTS {
        db.put(account(n), START.to_string()).await.unwrap();
    }
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                for round in 0..25 {
                    let (from, to) = ((task + round) % ACCOUNTS, (task * round + 1) % ACCOUNTS);
                    let all = db.default_keyspace();
                    db.transact(Isolation::Serializable, u32::MAX, |txn| async move {
                        transfer(&txn, all, from, to).await
                    })
                    .await
                    .unwrap();
                }
            })
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(total(&db).await, ACCOUNTS * START);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(total(&db).await, ACCOUNTS * START);
    assert_eq!(db.stats().open_transactions, 0);
    db.close().await.unwrap();
}

#[test]
fn transfers_that_race_from_many_threads_keep_the_sum() {
    let dir = tempfile::tempdir().unwrap();
    let db = blocking::Database::open(dir.path().to_str().unwrap()).unwrap();
    for n in 0..ACCOUNTS {
        db.put(account(n), START.to_string()).unwrap();
    }
    let sum = |db: &blocking::Database| {
        let mut all = db.scan_prefix(b"account/", ScanOptions::default()).unwrap();
        let mut sum = 0;
        while all.next() {
            sum += number(Some(all.value()));
        }
        sum
    };
    std::thread::scope(|scope| {
        for task in 0..4 {
            let db = &db;
            scope.spawn(move || {
                let all = db.default_keyspace();
                for round in 0..25 {
                    let (from, to) = (
                        account((task + round) % ACCOUNTS),
                        account((task * round + 1) % ACCOUNTS),
                    );
                    let work = |txn: &blocking::Transaction| -> siltstone::Result<()> {
                        let left = number(txn.on(all).get(from.as_bytes())?);
                        let there = number(txn.on(all).get(to.as_bytes())?);
                        if left > 0 && from != to {
                            txn.put(all, from.as_bytes(), (left - 1).to_string().as_bytes())?;
                            txn.put(all, to.as_bytes(), (there + 1).to_string().as_bytes())?;
                        }
                        Ok(())
                    };
                    db.transact(Isolation::Serializable, u32::MAX, work)
                        .unwrap();
                }
            });
        }
        for _ in 0..20 {
            assert_eq!(sum(&db), ACCOUNTS * START);
        }
    });
    assert_eq!(sum(&db), ACCOUNTS * START);
}

#[tokio::test]
async fn a_conflict_is_tried_again_as_often_as_asked_and_then_named() {
    let (_dir, db) = open().await;
    db.put("k", "0").await.unwrap();
    let tries = std::cell::Cell::new(0);
    let all = db.default_keyspace();
    let always_late = |txn: Arc<Transaction>| {
        tries.set(tries.get() + 1);
        let value = tries.get().to_string();
        async move {
            txn.get(all, "k").await?;
            all.put("k", value).await?;
            txn.put(all, "mine", "v")
        }
    };
    let refused = db.transact(Isolation::Serializable, 3, always_late).await;
    let Err(Error::Kv(KvError::Conflict { touched, .. })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(touched.to_string(), "key \"k\"");
    assert_eq!(tries.get(), 4);
    assert_eq!(db.get("mine").await.unwrap(), None);
}

#[tokio::test]
async fn work_that_fails_writes_nothing_and_is_not_tried_again() {
    #[derive(Debug)]
    enum Refused {
        Poor,
        Database,
    }
    impl From<Error> for Refused {
        fn from(_: Error) -> Self {
            Self::Database
        }
    }
    let (_dir, db) = open().await;
    let all = db.default_keyspace();
    let tries = std::cell::Cell::new(0);
    let poor = |txn: Arc<Transaction>| {
        tries.set(tries.get() + 1);
        async move {
            txn.put(all, "k", "v")?;
            Err::<(), _>(Refused::Poor)
        }
    };
    let refused = db.transact(Isolation::Serializable, 5, poor).await;
    assert!(matches!(refused, Err(Refused::Poor)), "{refused:?}");
    assert_eq!((tries.get(), db.get("k").await.unwrap()), (1, None));
    let empty_key = |txn: Arc<Transaction>| async move { Ok::<_, Refused>(txn.put(all, "", "v")?) };
    let refused = db.transact(Isolation::Serializable, 5, empty_key).await;
    assert!(matches!(refused, Err(Refused::Database)), "{refused:?}");
}

#[tokio::test]
async fn every_kind_of_write_is_in_a_transaction_and_nothing_of_a_dropped_one() {
    let (_dir, db) = open().await;
    let counting = KeyspaceOptions {
        merge_operator: Some("counter".into()),
        ..KeyspaceOptions::default()
    };
    let counters = db.create_keyspace("counters", counting).await.unwrap();
    let all = db.default_keyspace();
    for key in ["a1", "a2", "b1"] {
        db.put(key, "v").await.unwrap();
    }
    let fill = |txn: &Transaction| {
        txn.delete_range(all, "a".."b").unwrap();
        txn.merge(&counters, "n", "5").unwrap();
        let here = txn.savepoint().unwrap();
        txn.delete(all, "b1").unwrap();
        txn.roll_back_to(&here).unwrap();
        txn.put_ttl(all, "short", "v", Duration::from_secs(3600))
            .unwrap();
    };
    let txn = db.begin(Isolation::Serializable).unwrap();
    fill(&txn);
    assert_eq!(txn.get(all, "a1").await.unwrap(), None);
    txn.roll_back();
    assert_eq!(db.get("a1").await.unwrap().as_deref(), Some(&b"v"[..]));
    let txn = db.begin(Isolation::Snapshot).unwrap();
    fill(&txn);
    let never_polled = txn.commit();
    drop(never_polled);
    assert_eq!(counters.get("n").await.unwrap(), None);
    let txn = db.begin(Isolation::Snapshot).unwrap();
    fill(&txn);
    let commit = txn.commit().await.unwrap();
    assert_eq!(commit.0, 4, "the transaction is one commit");
    let mut keys = Vec::new();
    let mut rows = db.scan::<&str>(..).unwrap();
    while let Some((key, _)) = rows.next().await.unwrap() {
        keys.push(key);
    }
    assert_eq!(keys, ["b1", "short"]);
    assert_eq!(number(counters.get("n").await.unwrap()), 5);
}

#[tokio::test]
async fn conditions_are_checked_and_changed_in_one_step() {
    let (_dir, db) = open().await;
    db.put_if("lock", Expect::Absent, "me").await.unwrap();
    let refused = db.put_if("lock", Expect::Absent, "you").await.unwrap_err();
    assert!(matches!(
        refused,
        Error::Kv(KvError::ConditionFailed { .. })
    ));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { db.delete_if("lock", Expect::Value(b"me")).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += u32::from(task.await.unwrap());
    }
    assert_eq!((won, db.get("lock").await.unwrap()), (1, None));
}
