//! Change feeds through the front door: none lost, none twice, nobody blocked.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use siltstone::{Change, ChangeKind, ChangeSet, Commit, Database, Error, Reader};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

async fn open() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path().to_str().unwrap()).await.unwrap();
    (dir, db)
}

fn key_of(set: &ChangeSet) -> String {
    let [Change { write, .. }] = &set.changes[..] else {
        panic!("{set:?}");
    };
    match write {
        ChangeKind::Put { key, .. } => String::from_utf8(key.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_feed_that_waits_wakes_when_a_commit_comes_and_blocks_nobody() {
    let (_dir, db) = open().await;
    let mut feed = db.changes(Commit(0)).await.unwrap();
    assert_eq!(feed.try_next().await.unwrap(), None);
    let waiting = tokio::spawn(async move { (feed.next().await, feed) });
    // The runtime has one thread: it would not come here if the feed blocked it.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!waiting.is_finished());
    db.put("k", "v").await.unwrap();
    let (set, feed) = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap();
    assert_eq!(key_of(&set.unwrap()), "k");
    assert_eq!(feed.position(), Commit(1));
    assert_eq!(db.stats().open_feeds, 1);
    drop(feed);
    assert_eq!(db.stats().open_feeds, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_next_loses_no_change() {
    const WRITES: u64 = 200;
    let (_dir, db) = open().await;
    let mut feed = db.changes(Commit(0)).await.unwrap();
    let writer = tokio::spawn({
        let db = db.clone();
        async move {
            for n in 1..=WRITES {
                db.put(format!("{n:04}"), "v").await.unwrap();
                if n % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    });
    let mut dropped = 0;
    let mut next = 1;
    while next <= WRITES {
        let position = feed.position();
        // Given up after ever other times, some of them before the step has begun.
        let patience = Duration::from_micros(next * 37 % 400);
        match tokio::time::timeout(patience, feed.next()).await {
            Err(_) => {
                dropped += 1;
                assert_eq!(feed.position(), position);
            }
            Ok(set) => {
                let set = set.unwrap();
                assert_eq!((set.commit.0, key_of(&set)), (next, format!("{next:04}")));
                next += 1;
            }
        }
        assert!(dropped < 1_000_000, "nothing comes");
    }
    writer.await.unwrap();
    assert!(dropped > 0, "some were given up");
    assert_eq!(feed.try_next().await.unwrap(), None);
}

#[tokio::test]
async fn a_feed_goes_on_from_where_another_was_and_ends_with_the_database() {
    let (dir, db) = open().await;
    db.keep_log(1 << 20).await.unwrap();
    for n in 0..5 {
        db.put(format!("{n}"), "v").await.unwrap();
    }
    let mut feed = db.changes(Commit(0)).await.unwrap();
    for n in 0..2 {
        assert_eq!(key_of(&feed.next().await.unwrap()), n.to_string());
    }
    let position = feed.position();
    drop(feed);
    db.close().await.unwrap();
    let db = Database::open(dir.path().to_str().unwrap()).await.unwrap();
    let mut feed = db.changes(position).await.unwrap();
    for n in 2..5 {
        assert_eq!(key_of(&feed.next().await.unwrap()), n.to_string());
    }
    let waiting = tokio::spawn(async move { feed.next().await });
    db.close().await.unwrap();
    let over = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap();
    let over = over.unwrap_err();
    assert!(
        matches!(over, Error::Kv(siltstone::KvError::Closed)),
        "{over}"
    );
}

#[tokio::test]
async fn a_reader_follows_its_writer() {
    let (dir, db) = open().await;
    let reader = Reader::open(dir.path().to_str().unwrap()).await.unwrap();
    let mut feed = reader.changes(Commit(0)).await.unwrap();
    let waiting = tokio::spawn(async move { feed.next().await });
    db.put("k", "v").await.unwrap();
    let set = tokio::time::timeout(LONG, waiting).await.unwrap().unwrap();
    assert_eq!(key_of(&set.unwrap()), "k");
}

#[tokio::test]
async fn a_bulk_ingest_is_one_commit_or_none() {
    let (_dir, db) = open().await;
    let mut feed = db.changes(Commit(0)).await.unwrap();
    let value = vec![b'x'; 1000];
    let mut dropped = db.default_keyspace().ingest().unwrap();
    for n in 0..3000 {
        dropped.put(format!("{n:06}"), &value).await.unwrap();
    }
    drop(dropped);
    assert_eq!(db.get("000000").await.unwrap(), None);
    let mut ingest = db.default_keyspace().ingest().unwrap();
    for n in 0..3000 {
        ingest.put(format!("{n:06}"), &value).await.unwrap();
    }
    let stats = ingest.finish().await.unwrap();
    assert_eq!((stats.entries, stats.commit), (3000, Commit(1)));
    assert_eq!(db.get("002999").await.unwrap().as_deref(), Some(&value[..]));
    let set = feed.next().await.unwrap();
    let ChangeKind::Ingested { first, last } = &set.changes[0].write else {
        panic!("{set:?}");
    };
    assert_eq!((&first[..], &last[..]), (&b"000000"[..], &b"002999"[..]));
    let mut unsorted = db.default_keyspace().ingest().unwrap();
    unsorted.put("b", "v").await.unwrap();
    unsorted.put("a", "v").await.unwrap();
    let refused = unsorted.finish().await.unwrap_err();
    assert!(matches!(
        refused,
        Error::Kv(siltstone::KvError::IngestOrder { .. })
    ));
    assert_eq!(db.get("b").await.unwrap(), None);
}
