//! Damaged files: every byte flipped, every length cut, of a small table, log and manifest. Opening,
//! reading and verifying answer rightly or with a typed error; never a panic, never a wrong value
//! (scenario 57).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, Model, files, roomy_options, simulated};
use siltstone_kv::{
    Durability, Error, History, KeyspaceOptions, Kv, Options, Read, ScanOptions, WalRecovery,
    inspect, verify,
};
use siltstone_storage::{Blobs, MemBlobs};
use std::sync::Arc;

/// Bytes of a log's header.
const HEADER: usize = 40;

/// A database with a table, a log and their model; not closed.
fn small() -> (MemBlobs, Model) {
    let history = History::everything();
    let keyspace = KeyspaceOptions {
        history,
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let db = Db::with(roomy_options(), keyspace);
    let mut model = Model::default();
    let mut write = |key: &str, value: Option<&str>, durability| {
        let keyspace = db.default();
        match value {
            Some(value) => keyspace.put_with(key.as_bytes(), value.as_bytes(), durability),
            None => keyspace.delete_with(key.as_bytes(), durability),
        }
        .unwrap();
        model.put(key.as_bytes(), value.map(|value| value.as_bytes().to_vec()));
    };
    for n in 0..30 {
        write(
            &format!("key{n:02}"),
            Some(&format!("value {n}")),
            Durability::Buffered,
        );
    }
    write("key07", None, Durability::Durable);
    db.kv.flush().unwrap();
    for n in 0..6 {
        write(
            &format!("key{n:02}"),
            Some("in the log"),
            Durability::Durable,
        );
    }
    db.store.crash();
    (db.mem.after_crash(|_| 0), model)
}

fn copy(mem: &MemBlobs) -> MemBlobs {
    mem.after_crash(|_| 0)
}

fn open(mem: &MemBlobs, wal_recovery: WalRecovery) -> Result<Kv, Error> {
    let (env, _, _) = simulated(mem, 9);
    let options = Options {
        wal_recovery,
        ..roomy_options()
    };
    Kv::open(env, options, KeyspaceOptions::default(), None)
}

/// Reads everything there is; what is answered must be what the model has at that commit.
fn read_all(mem: &MemBlobs, model: &Model, recovery: WalRecovery, least: u64) -> Result<(), Error> {
    let kv = open(mem, recovery)?;
    let head = kv.head().0;
    assert!(head >= least, "head {head}");
    let expected = model.at(head);
    let keyspace = kv.default_keyspace();
    let mut failed = Ok(());
    for n in 0..31 {
        let key = format!("key{n:02}").into_bytes();
        match keyspace.get(&key) {
            Ok(value) => assert_eq!(value.as_deref(), expected.get(&key).map(Vec::as_slice)),
            Err(error) => failed = Err(error),
        }
    }
    for options in [ScanOptions::default(), ScanOptions::reverse()] {
        let mut rows = 0;
        for row in keyspace.scan_with::<&[u8]>(.., options)? {
            let (key, value) = row?;
            assert_eq!(expected.get(&key[..]), Some(&value.to_vec()));
            rows += 1;
        }
        assert_eq!(rows, expected.len());
    }
    failed
}

/// Every variant of the blob: a flipped bit in each byte, and each shorter length.
fn each_damage(mem: &MemBlobs, name: &str, mut check: impl FnMut(&MemBlobs, String)) {
    let whole = mem.get(name).unwrap();
    for at in 0..whole.len() {
        for mask in [0x01, 0x80] {
            let damaged = copy(mem);
            let mut bytes = whole.to_vec();
            bytes[at] ^= mask;
            damaged.put(name, &bytes).unwrap();
            check(
                &damaged,
                format!("{name}: byte {at} ^ {mask:#x} of {}", whole.len()),
            );
        }
        let cut = copy(mem);
        cut.put(name, &whole[..at]).unwrap();
        check(&cut, format!("{name}: cut to {at} of {}", whole.len()));
    }
}

fn newest(mem: &MemBlobs, prefix: &str) -> String {
    files(mem, prefix).pop_last().unwrap()
}

#[test]
fn a_damaged_table_is_noticed_by_every_read_and_by_verify() {
    let (mem, model) = small();
    let name = newest(&mem, "sst/");
    let mut noticed = 0;
    each_damage(&mem, &name, |damaged, what| {
        if let Err(error) = read_all(damaged, &model, WalRecovery::Strict, 37) {
            noticed += 1;
            assert!(error.to_string().contains(&name), "{what}: {error}");
        }
        let _ = inspect::table(Arc::new(damaged.clone()), &name, |_| Ok(()));
        let state = inspect::manifest(damaged, &newest(damaged, "manifest/"))
            .unwrap()
            .state;
        let (env, _, _) = simulated(damaged, 3);
        let report = verify(&env, &state, |_, _| ()).unwrap();
        assert!(!report.problems.is_empty(), "{what}: verify saw nothing");
    });
    assert!(noticed > 100, "{noticed}");
}

#[test]
fn a_damaged_log_is_refused_or_its_tail_dropped() {
    let (mem, model) = small();
    let name = newest(&mem, "wal/");
    let mut last = 0;
    inspect::wal(&mem, &name, |record| last = record.offset).unwrap();
    let at_of = |what: &str| -> u64 {
        let digits = |word: &str| word.parse().ok();
        what.split(' ').find_map(digits).unwrap()
    };
    each_damage(&mem, &name, |damaged, what| {
        // What was durable may be missing only from the end, and only by a cut or in the last record.
        let excused = what.contains("cut") || at_of(&what) >= last;
        match read_all(damaged, &model, WalRecovery::Strict, 31) {
            Ok(()) if excused => {}
            Ok(()) => panic!("{what}: nobody noticed"),
            Err(error) => assert!(error.to_string().contains(&name), "{what}: {error}"),
        }
        match read_all(damaged, &model, WalRecovery::Truncate, 31) {
            Ok(()) => {}
            Err(error) => assert!(error.to_string().contains(&name), "{what}: {error}"),
        }
        let _ = inspect::wal(damaged, &name, |_| ());
    });
}

#[test]
fn a_damaged_object_of_a_buckets_log_is_refused_also_when_it_is_the_last() {
    let db = Db::on(
        MemBlobs::bucket(),
        roomy_options(),
        KeyspaceOptions::default(),
    );
    for n in 0..3 {
        db.put(&format!("k{n}"), "v");
    }
    db.store.crash();
    let name = newest(&db.mem, "wal/");
    // An object that is a header and nothing else is a later writer's claim.
    let claim = format!("cut to {HEADER} of");
    each_damage(&db.mem, &name, |damaged, what| {
        if what.contains(&claim) {
            return;
        }
        let error = open(damaged, WalRecovery::Strict).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(&name), "{what}: {error}");
    });
}

#[test]
fn a_damaged_manifest_is_refused() {
    let (mem, model) = small();
    let name = newest(&mem, "manifest/");
    each_damage(&mem, &name, |damaged, what| {
        let error = read_all(damaged, &model, WalRecovery::Strict, 0).unwrap_err();
        assert!(error.to_string().contains(&name), "{what}: {error}");
        assert!(inspect::manifest(damaged, &name).is_err(), "{what}");
        assert_eq!(
            files(damaged, "sst/"),
            files(&mem, "sst/"),
            "{what}: nothing was deleted"
        );
    });
}

#[test]
fn a_damaged_readers_pin_holds_nothing_and_disturbs_nobody() {
    let (mem, model) = small();
    mem.put("pins/nonsense", b"\xff\xff\xff\xff\xff").unwrap();
    mem.put("pins/empty", b"").unwrap();
    read_all(&mem, &model, WalRecovery::Strict, 37).unwrap();
}

#[test]
fn foreign_files_among_ours_are_left_alone() {
    let (mem, model) = small();
    let foreign = [
        "sst/notes.txt",
        "wal/old.wal.bak",
        "manifest/readme",
        "other/file",
    ];
    for name in foreign {
        mem.put(name, b"mine").unwrap();
    }
    read_all(&mem, &model, WalRecovery::Strict, 37).unwrap();
    for name in foreign {
        assert_eq!(&mem.get(name).unwrap()[..], b"mine");
    }
}
