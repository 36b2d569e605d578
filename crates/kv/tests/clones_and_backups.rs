//! Clones and backups: the same contents at every commit that could be read, at any commit chosen
//! to end with, and from then on a life of their own.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, files, roomy_options, simulated};
use proptest::prelude::*;
use siltstone_kv::{
    Backups, Batch, Commit, CompactOptions, Durability, Error, History, KeyRange, Keyspace,
    KeyspaceOptions, Kv, Read, ScanOptions,
};
use siltstone_storage::{Blobs, Env, FaultPlan, FaultyBlobs, LocalBlobs, MemBlobs};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn settings() -> KeyspaceOptions {
    KeyspaceOptions {
        history: History {
            window: 40,
            ..History::default()
        },
        merge_operator: Some("append".into()),
        blob_threshold: Some(64),
        block_bytes: 512,
        ..KeyspaceOptions::default()
    }
}

fn contents(read: &impl Read) -> Contents {
    let rows = |options| -> Vec<_> {
        let scan = read.scan_prefix(b"", options).unwrap();
        scan.into_iter()
            .map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap())
            .collect()
    };
    let forward: Contents = rows(ScanOptions::default()).into_iter().collect();
    let backward: Contents = rows(ScanOptions::reverse()).into_iter().collect();
    assert_eq!(forward, backward);
    for (key, value) in &forward {
        assert_eq!(read.get(key).unwrap().as_deref(), Some(value.as_slice()));
    }
    forward
}

fn open(mem: &MemBlobs) -> Db {
    Db::on(mem.clone(), roomy_options(), KeyspaceOptions::default())
}

fn env(mem: &MemBlobs) -> Env {
    simulated(mem, 3).0
}

/// A few kinds of writes, with tables in between.
fn write(keyspace: &Keyspace, n: u32) {
    let key = |n: u32| format!("k{}", n % 7).into_bytes();
    let mut batch = Batch::new();
    match n % 6 {
        0 => batch.delete(keyspace, &key(n / 6)),
        1 => batch.merge(keyspace, &key(n / 5), format!("+{n}").as_bytes()),
        2 => batch.put(keyspace, &key(n / 3), &[n as u8; 100]),
        3 if n.is_multiple_of(9) => {
            let (start, end) = (key(2), key(5));
            let range = KeyRange::new(Bound::Included(&start), Bound::Excluded(&end));
            batch.delete_range(keyspace, &range.unwrap())
        }
        _ => batch.put(keyspace, &key(n), format!("v{n}").as_bytes()),
    };
    keyspace
        .database()
        .write(&batch, Durability::Buffered)
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a_clone_at_any_commit_reads_and_goes_on_as_if_nothing_had_come_after(
        writes in 1u32..60, flush_every in 1u32..20, compact_every in 5u32..40, at in 0u32..60, more in 0u32..20,
    ) {
        let db = Db::with(roomy_options(), settings());
        let keyspace = db.default();
        let mut model: Vec<Contents> = vec![Contents::new()];
        let step = |db: &Db, n: u32| {
            write(&db.default(), n);
            if n.is_multiple_of(flush_every) {
                db.kv.flush().unwrap();
            }
            if n.is_multiple_of(compact_every) {
                db.compact(&CompactOptions { max_files: Some(2), ..CompactOptions::default() });
            }
        };
        for n in 1..=writes {
            step(&db, n);
            model.push(contents(&keyspace));
        }
        let oldest = writes.saturating_sub(39);
        let at = oldest + at % (writes - oldest + 1);
        let target = MemBlobs::new();
        let stats = db.kv.clone_at(Some(Commit(at.into())), Arc::new(target.clone()), |_, _| ()).unwrap();
        prop_assert_eq!(stats.commit, Commit(at.into()));
        let check = |clone: &Db| {
            assert_eq!(contents(&clone.default()), model[at as usize]);
            let report = clone.kv.verify(|_, _| {}).unwrap();
            assert!(report.problems.is_empty(), "{:?}", report.problems);
        };
        let clone = open(&target);
        check(&clone);
        // Every commit before that the clone still reads, it reads alike.
        let head = clone.kv.head().0;
        for n in 0..=u64::from(at) {
            if let Ok(snapshot) = clone.default().at_commit(Commit(n)) {
                prop_assert_eq!(contents(&snapshot), model[n as usize].clone(), "{} of {}", n, at);
            } else {
                prop_assert!(n + 40 <= head);
            }
        }
        // They go on apart.
        let before = contents(&keyspace);
        for n in 0..more {
            step(&clone, writes + 100 + n);
        }
        let after = contents(&clone.default());
        clone.kv.flush().unwrap();
        clone.compact_all();
        clone.kv.settle().unwrap();
        prop_assert_eq!(&contents(&clone.default()), &after);
        clone.compact_all();
        let manifest = clone.kv.manifest();
        prop_assert_eq!(&manifest.state.hidden, &siltstone_kv::Hidden::default(), "nothing is left to hide");
        let clone = clone.reopen();
        prop_assert_eq!(&contents(&clone.default()), &after);
        prop_assert_eq!(contents(&db.default()), before);
        // A clone of the clone.
        let again = MemBlobs::new();
        clone.kv.clone_at(None, Arc::new(again.clone()), |_, _| ()).unwrap();
        prop_assert_eq!(contents(&open(&again).default()), after);
    }

    #[test]
    fn a_backup_restores_to_any_commit_it_can_read(
        writes in prop::collection::vec(1u32..25, 1..4), flush_every in 1u32..20, at in 0u32..60,
    ) {
        let db = Db::with(roomy_options(), settings());
        let repository = MemBlobs::new();
        let backups = Backups::new(env(&repository));
        let mut model: Vec<Contents> = vec![Contents::new()];
        let mut ends = Vec::new();
        for (round, writes) in writes.iter().enumerate() {
            for _ in 0..*writes {
                let n = model.len() as u32;
                write(&db.default(), n);
                if n.is_multiple_of(flush_every) {
                    db.kv.flush().unwrap();
                }
                model.push(contents(&db.default()));
            }
            let stats = backups.create(&db.kv, "round", |_, _| ()).unwrap();
            prop_assert_eq!((stats.number, stats.commit.0), (round as u64 + 1, model.len() as u64 - 1));
            ends.push(stats.commit.0);
            db.compact_all();
        }
        for (round, end) in ends.iter().enumerate() {
            let number = round as u64 + 1;
            let report = backups.verify(Some(number), |_, _| ()).unwrap();
            prop_assert!(report.problems.is_empty());
            let at = u64::from(at) % (end + 1);
            let target = MemBlobs::new();
            match backups.restore(Some(number), Some(Commit(at)), env(&target), |_, _| ()) {
                Ok(_) => {
                    let restored = open(&target);
                    prop_assert_eq!(contents(&restored.default()), model[at as usize].clone(), "{} of {}", at, end);
                    write(&restored.default(), 2);
                    prop_assert!(restored.kv.head().0 > at);
                }
                Err(Error::NotRetained { .. }) => prop_assert!(at + 40 <= *end + 1),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_clone_of_a_folder_shares_its_files_and_outlives_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = |name: &str| Arc::new(LocalBlobs::create(folder.path().join(name)).unwrap());
    let open = |name: &str| {
        let env = Env::system(blobs(name));
        Kv::open(env, roomy_options(), settings(), None).unwrap()
    };
    let kv = open("parent");
    for n in 0..200u32 {
        let keyspace = kv.default_keyspace();
        keyspace
            .put(format!("key{n}").as_bytes(), &[n as u8; 200])
            .unwrap();
    }
    kv.checkpoint("then", None).unwrap();
    kv.default_keyspace().put(b"later", b"1").unwrap();
    let then = kv.checkpoints()[0].commit;
    let stats = kv.clone_at(Some(then), blobs("clone"), |_, _| ()).unwrap();
    assert_eq!((stats.copied, stats.bytes), (0, 0), "not a byte was copied");
    assert_eq!(stats.linked, 2, "a table and a blob file");
    kv.default_keyspace().delete(b"key7").unwrap();
    kv.flush().unwrap();
    kv.settle().unwrap();
    kv.close().unwrap();
    drop(kv);
    std::fs::remove_dir_all(folder.path().join("parent")).unwrap();
    let clone = open("clone");
    assert_eq!(contents(&clone.default_keyspace()).len(), 200);
    assert_eq!(clone.default_keyspace().get(b"later").unwrap(), None);
    assert!(clone.verify(|_, _| {}).unwrap().problems.is_empty());
    // A place that holds something is refused.
    let error = clone.clone_at(None, blobs("clone"), |_, _| ()).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
}

#[test]
fn a_backup_copies_only_what_is_new_and_removing_one_keeps_what_others_need() {
    let db = Db::with(roomy_options(), KeyspaceOptions::default());
    let repository = MemBlobs::new();
    let backups = Backups::new(env(&repository));
    let error = backups.restore(None, None, env(&MemBlobs::new()), |_, _| ());
    assert!(matches!(error, Err(Error::Backup { .. })));
    let make = |label: &str| backups.create(&db.kv, label, |_, _| ()).unwrap();
    db.table(&[("a", "1"), ("b", "1")]);
    let first = make("first");
    assert_eq!((first.copied_files, first.kept_files), (1, 0));
    let nothing = make("nothing new");
    assert_eq!(
        (nothing.copied_files, nothing.kept_files, nothing.bytes),
        (0, 1, 0)
    );
    db.put("c", "2");
    let third = make("third");
    assert_eq!((third.copied_files, third.kept_files), (1, 1));
    let listed = backups.list().unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|b| (b.number, b.label.as_str(), b.files))
        .collect();
    assert_eq!(
        shown,
        [(1, "first", 1), (2, "nothing new", 1), (3, "third", 2)]
    );
    assert_eq!(backups.remove(1).unwrap(), 0, "the others need its file");
    db.compact_all();
    make("compacted");
    assert!(backups.remove(3).unwrap() > 0);
    let data = files(&repository, "data/").len();
    assert_eq!(data, 2, "of 2 and of 4");
    for (number, keys) in [(2, 2), (4, 3)] {
        let target = MemBlobs::new();
        let stats = backups
            .restore(Some(number), None, env(&target), |_, _| ())
            .unwrap();
        assert_eq!(stats.files, 1);
        assert_eq!(open(&target).rows().len(), keys);
    }
    let error = backups.remove(9).unwrap_err();
    assert!(error.to_string().contains("there are: 2, 4"), "{error}");
    let used = env(&db.mem);
    let error = backups.restore(None, None, used, |_, _| ()).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    let error = backups.restore(Some(2), Some(Commit(99)), env(&MemBlobs::new()), |_, _| ());
    assert!(matches!(error, Err(Error::FutureCommit { .. })));
}

#[test]
fn databases_that_parted_do_not_mix_in_one_repository() {
    let db = Db::with(roomy_options(), KeyspaceOptions::default());
    let repository = MemBlobs::new();
    let backups = Backups::new(env(&repository));
    db.table(&[("k", "common")]);
    backups.create(&db.kv, "", |_, _| ()).unwrap();
    let target = MemBlobs::new();
    backups
        .restore(None, None, env(&target), |_, _| ())
        .unwrap();
    // Both go on with the same epoch and give the same name to different tables.
    let (one, other) = (db.reopen(), open(&target));
    let (a, b) = (one.table(&[("k", "one")]), other.table(&[("k", "other")]));
    assert_eq!(a, b);
    backups.create(&one.kv, "one", |_, _| ()).unwrap();
    backups.create(&other.kv, "other", |_, _| ()).unwrap();
    for (number, value) in [(2, "one"), (3, "other")] {
        let target = MemBlobs::new();
        backups
            .restore(Some(number), None, env(&target), |_, _| ())
            .unwrap();
        assert_eq!(open(&target).get("k").as_deref(), Some(value));
    }
}

#[test]
fn damage_in_a_repository_is_found_and_named() {
    let db = Db::with(roomy_options(), KeyspaceOptions::default());
    let repository = MemBlobs::new();
    let backups = Backups::new(env(&repository));
    db.table(&[("k", "v")]);
    backups.create(&db.kv, "", |_, _| ()).unwrap();
    let data = files(&repository, "data/").pop_first().unwrap();
    let bytes = repository.get(&data).unwrap();
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 2;
        repository.put(&data, &bad).unwrap();
        let problems = backups.verify(None, |_, _| {}).unwrap().problems;
        assert_eq!(problems.len(), 1, "flip at {at}");
    }
    repository.delete(&data).unwrap();
    assert_eq!(backups.verify(None, |_, _| {}).unwrap().problems.len(), 1);
    let error = backups
        .restore(None, None, env(&MemBlobs::new()), |_, _| ())
        .unwrap_err();
    assert!(error.to_string().contains(&data), "{error}");
    let name = files(&repository, "backup/").pop_first().unwrap();
    let whole = repository.get(&name).unwrap();
    for at in 0..whole.len() {
        let mut bad = whole.to_vec();
        bad[at] ^= 2;
        repository.put(&name, &bad).unwrap();
        assert!(backups.list().is_err(), "flip at {at}");
        repository.put(&name, &whole[..at]).unwrap();
        assert!(backups.list().is_err(), "cut at {at}");
    }
}

#[test]
fn a_crash_at_any_call_leaves_the_earlier_backups_and_no_half_database() {
    let mut at = 1;
    loop {
        let db = Db::with(roomy_options(), settings());
        db.table(&[("a", "1")]);
        let mem = MemBlobs::new();
        Backups::new(env(&mem))
            .create(&db.kv, "first", |_, _| ())
            .unwrap();
        db.put("b", &"2".repeat(100));
        let faulty = |mem: &MemBlobs| {
            let (env, clock, _) = simulated(mem, 4);
            let store = FaultyBlobs::new(Arc::new(mem.clone()), clock, FaultPlan::crash_at(at));
            let env = Env {
                blobs: Arc::new(store.clone()),
                ..env
            };
            (env, store)
        };
        let (making, store) = faulty(&mem);
        let made = Backups::new(making).create(&db.kv, "second", |_, _| ());
        let done = !store.is_crashed();
        let after = mem.after_crash(|_| 0);
        let backups = Backups::new(env(&after));
        let listed = backups.list().unwrap();
        assert!(
            listed.len() == 2 || (listed.len() == 1 && made.is_err()),
            "call {at}"
        );
        for backup in &listed {
            assert!(
                backups
                    .verify(Some(backup.number), |_, _| {})
                    .unwrap()
                    .problems
                    .is_empty()
            );
        }
        // The next attempt works, and an abandoned one can be removed.
        let next = backups.create(&db.kv, "third", |_, _| ()).unwrap();
        if listed.len() == 1 && next.number == 3 {
            backups.remove(2).unwrap();
        }
        backups.remove(1).unwrap();
        assert!(backups.verify(None, |_, _| {}).unwrap().problems.is_empty());

        let target = MemBlobs::new();
        let (restoring, store) = faulty(&target);
        let restored = backups.restore(None, None, restoring, |_, _| ());
        let restored_all = !store.is_crashed();
        let after = target.after_crash(|_| 0);
        match restored.is_ok() {
            true => assert_eq!(open(&after).rows().len(), 2),
            false if after.list("manifest/").unwrap().is_empty() => {
                let again = backups.restore(None, None, env(&after), |_, _| ());
                assert_eq!(again.unwrap().commit, Commit(2));
                assert_eq!(open(&after).rows().len(), 2);
            }
            false => assert_eq!(open(&after).rows().len(), 2, "it was published whole"),
        }
        if done && restored_all {
            assert!(at > 4);
            break;
        }
        at += 1;
    }
}
