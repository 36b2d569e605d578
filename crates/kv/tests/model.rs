//! Random operations on a database in memory, with a plain map beside it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Model, open_manual};
use proptest::prelude::*;
use siltstone_kv::{CompactOptions, CompactOrder, Durability, Read, ScanOptions};
use siltstone_storage::MemBlobs;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u16),
    Delete(u8),
    Flush,
    Compact(u8, u8),
    Work,
    Reopen,
    Snapshot,
    DropSnapshots,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0u8..40, any::<u16>()).prop_map(|(k, v)| Step::Put(k, v)),
        6 => (0u8..40).prop_map(Step::Delete),
        3 => Just(Step::Flush),
        2 => (0u8..4, 1u8..5).prop_map(|(o, n)| Step::Compact(o, n)),
        1 => Just(Step::Work),
        1 => Just(Step::Reopen),
        1 => Just(Step::Snapshot),
        1 => Just(Step::DropSnapshots),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn the_database_answers_as_the_model_does(steps in prop::collection::vec(step(), 1..150), bucket: bool) {
        let blobs = if bucket { MemBlobs::bucket() } else { MemBlobs::new() };
        let mut kv = open_manual(&blobs, 1);
        let mut model = Model::default();
        let mut snapshots = Vec::new();
        for step in steps {
            let keyspace = kv.default_keyspace();
            match step {
                Step::Put(key, value) => {
                    let key = format!("key{key:03}").into_bytes();
                    let value = value.to_string().into_bytes();
                    let stats = keyspace.put_with(&key, &value, Durability::Buffered).unwrap();
                    prop_assert_eq!(stats.commit.0, model.put(&key, Some(value)));
                }
                Step::Delete(key) => {
                    let key = format!("key{key:03}").into_bytes();
                    let stats = keyspace.delete_with(&key, Durability::Durable).unwrap();
                    prop_assert_eq!(stats.commit.0, model.put(&key, None));
                }
                Step::Flush => { kv.flush().unwrap(); }
                Step::Compact(order, files) => {
                    let order = [CompactOrder::OldestFirst, CompactOrder::NewestFirst, CompactOrder::SmallestFirst, CompactOrder::LargestFirst][order as usize];
                    keyspace.compact(&CompactOptions { order, max_files: Some(files.into()), ..Default::default() }).unwrap();
                }
                Step::Work => { kv.work().unwrap(); }
                Step::Reopen => {
                    snapshots.clear();
                    drop(keyspace);
                    kv.close().unwrap();
                    drop(kv);
                    kv = open_manual(&blobs, 2);
                }
                Step::Snapshot => snapshots.push((keyspace.snapshot().unwrap(), model.head())),
                Step::DropSnapshots => snapshots.clear(),
            }
        }
        let keyspace = kv.default_keyspace();
        model.check(&keyspace, model.head());
        for (snapshot, commit) in &snapshots {
            model.check(snapshot, *commit);
        }
        for commit in 0..=model.head() {
            match keyspace.at_commit(siltstone_kv::Commit(commit)) {
                Ok(snapshot) => model.check(&snapshot, commit),
                Err(siltstone_kv::Error::NotRetained { .. }) => prop_assert!(commit + 20 <= model.head()),
                Err(other) => panic!("{other}"),
            }
        }
        let reverse: Vec<_> = keyspace.scan_with::<&[u8]>(.., ScanOptions::reverse()).unwrap().into_iter().map(|r| r.unwrap().0).collect();
        let mut forward: Vec<_> = keyspace.scan::<&[u8]>(..).unwrap().into_iter().map(|r| r.unwrap().0).collect();
        forward.reverse();
        prop_assert_eq!(reverse, forward);
    }
}

#[test]
fn a_snapshot_reads_what_it_read_although_max_versions_thinned_around_it() {
    let blobs = MemBlobs::new();
    let kv = open_manual(&blobs, 1);
    let history = siltstone_kv::History {
        max_versions: Some(2),
        ..siltstone_kv::History::everything()
    };
    let options = siltstone_kv::KeyspaceOptions {
        history,
        ..siltstone_kv::KeyspaceOptions::default()
    };
    let keyspace = kv.create_keyspace("thin", options).unwrap();
    keyspace.put(b"k", b"1").unwrap();
    keyspace.put(b"k", b"2").unwrap();
    let snapshot = keyspace.snapshot().unwrap();
    for value in [b"3", b"4", b"5"] {
        keyspace.put(b"k", value).unwrap();
    }
    kv.flush().unwrap();
    keyspace.compact(&CompactOptions::default()).unwrap();
    assert_eq!(snapshot.get(b"k").unwrap().as_deref(), Some(&b"2"[..]));
    let rows: Vec<_> = snapshot
        .scan_prefix(b"", ScanOptions::reverse())
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(&rows[0].as_ref().unwrap().1[..], b"2");
    let forward: Vec<_> = snapshot
        .scan_prefix(b"", ScanOptions::default())
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(&forward[0].as_ref().unwrap().1[..], b"2");
    drop(snapshot);
    let refused = keyspace.get_at(b"k", siltstone_kv::Commit(3));
    assert!(
        matches!(refused, Err(siltstone_kv::Error::Truncated { .. })),
        "{refused:?}"
    );
}
