//! Everything once over a bucket. The place comes from the environment, as it does for any program,
//! so the work is done by a second process.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use siltstone::{
    ChangeKind, Commit, Database, Expect, Isolation, KeyspaceOptions, Options, Reader, Transaction,
};
use siltstone_s3_test_server::TestServer;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const URL: &str = "SILTSTONE_TEST_URL";

#[test]
fn every_call_works_over_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(folder.path()).unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "every_call_at_the_url", "--ignored"])
        .env(URL, format!("s3://{}/db", server.bucket()))
        .env("AWS_ENDPOINT_URL", server.endpoint())
        .env("AWS_ACCESS_KEY_ID", server.access_key())
        .env("AWS_SECRET_ACCESS_KEY", server.secret_key())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let failed = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{failed}");
    assert!(said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn every_call_at_the_url() {
    let url = std::env::var(URL).unwrap();
    let counting = KeyspaceOptions {
        merge_operator: Some("counter".into()),
        ..KeyspaceOptions::default()
    };
    let db = Database::open_with(&url, Options::default(), counting)
        .await
        .unwrap();
    let all = db.default_keyspace();
    let mut feed = db.changes(Commit(0)).await.unwrap();
    let reader = Reader::open(&url).await.unwrap();
    let mut followed = reader.changes(Commit(0)).await.unwrap();

    db.merge("n", "2").await.unwrap();
    db.put_ttl("short", "v", Duration::from_secs(3600))
        .await
        .unwrap();
    db.put_if("once", Expect::Absent, "v").await.unwrap();
    db.put_if("once", Expect::Absent, "v").await.unwrap_err();
    db.delete_range("s".."t").await.unwrap();
    db.delete_if("once", Expect::Present).await.unwrap();
    let add = |txn: Arc<Transaction>| async move {
        assert!(txn.get(all, "n").await?.is_some());
        txn.merge(all, "n", "40")?;
        txn.put(all, "k", "v")
    };
    db.transact(Isolation::Serializable, 3, add).await.unwrap();
    let mut ingest = all.ingest().unwrap();
    for n in 0..100 {
        ingest.put(format!("row/{n:03}"), "v").await.unwrap();
    }
    assert_eq!(ingest.finish().await.unwrap().commit, Commit(7));
    assert_eq!(db.get("n").await.unwrap().as_deref(), Some(&b"42"[..]));
    assert_eq!(db.get("short").await.unwrap(), None);

    for feed in [&mut feed, &mut followed] {
        for commit in 1..=7 {
            let set = tokio::time::timeout(Duration::from_secs(60), feed.next()).await;
            let set = set.unwrap().unwrap();
            assert_eq!(set.commit, Commit(commit));
            match (commit, &set.changes[0].write) {
                (1, ChangeKind::Merge { operands, .. }) => assert_eq!(operands[0], "2"),
                (2, ChangeKind::Put { expires, .. }) => assert!(expires.is_some()),
                (3, ChangeKind::Put { key, .. }) => assert_eq!(key, "once"),
                (4, ChangeKind::DeleteRange { start, .. }) => assert_eq!(start, "s"),
                (5, ChangeKind::Delete { key }) => assert_eq!(key, "once"),
                (6, _) => assert_eq!(set.changes.len(), 2),
                (7, ChangeKind::Ingested { first, .. }) => assert_eq!(first, "row/000"),
                other => panic!("{other:?}"),
            }
        }
    }
    db.keep_log(1 << 20).await.unwrap();
    db.close().await.unwrap();

    // Nothing is cached now.
    let db = Database::open(&url).await.unwrap();
    let all = db.default_keyspace();
    let txn = db.begin(Isolation::Serializable).unwrap();
    let read = txn.get_for_update(all, "n").await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"42"[..]));
    let mut rows = txn
        .scan_prefix(all, "row/", siltstone::ScanOptions::default())
        .unwrap();
    let mut count = 0;
    while rows.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 100);
    drop(rows);
    txn.delete(all, "k").unwrap();
    assert_eq!(txn.commit().await.unwrap(), Commit(8));
    let mut feed = db.changes(Commit(6)).await.unwrap();
    assert_eq!(feed.next().await.unwrap().commit, Commit(7));
    assert_eq!(feed.next().await.unwrap().commit, Commit(8));
    db.close().await.unwrap();
}
