//! Acceptance scenarios 57-59 (table format) and 60 (fixtures of released versions).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, roomy_options, rows, simulated};
use siltstone_kv::{
    Background, Batch, Commit, Compression, Durability, Error, History, KeyspaceOptions, Kv,
    Options, Read, inspect, verify,
};
use siltstone_storage::{Blobs, Env, LocalBlobs, MemBlobs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[test]
fn s57_bad_magic_and_a_newer_version_are_typed_errors() {
    let db = Db::new();
    let name = db.table(&[("k", "v")]).blob();
    let bytes = db.mem.get(&name).unwrap();
    let read = |bytes: &[u8]| {
        let mem = MemBlobs::new();
        mem.put(&name, bytes).unwrap();
        inspect::table(Arc::new(mem), &name, |_| Ok(())).map(|_| ())
    };
    read(&bytes).unwrap();
    let error = read(b"something else").unwrap_err();
    assert!(
        matches!(
            error,
            Error::Storage(siltstone_storage::Error::Corrupt { .. })
        ),
        "{error}"
    );
    let mut magic = bytes.to_vec();
    let end = magic.len();
    magic[end - 1] ^= 1;
    assert!(read(&magic).unwrap_err().to_string().contains(&name));
    let wrong_length = [&bytes[..], b"x"].concat();
    assert!(read(&wrong_length).is_err());
}

#[test]
fn s58_whatever_the_order_of_writes_a_table_knows_its_bounds() {
    let history = History::everything();
    let db = Db::with(
        roomy_options(),
        KeyspaceOptions {
            history,
            ..KeyspaceOptions::default()
        },
    );
    for key in ["m", "z", "a", "k", "m"] {
        db.put(key, "value");
    }
    db.delete("k");
    let id = db.flush_one();
    let manifest = db.kv.manifest();
    let meta = &manifest.state.tables.get(&id).unwrap().meta;
    assert_eq!(
        (meta.min_key.as_slice(), meta.max_key.as_slice()),
        (&b"a"[..], &b"z"[..])
    );
    assert_eq!((meta.min_commit, meta.max_commit), (Commit(1), Commit(6)));
    assert_eq!((meta.entries, meta.keys, meta.tombstones), (6, 4, 1));
    assert_eq!(meta.raw_bytes, 5 * 6 + 1);
    assert_eq!(meta.bytes, db.mem.get(&id.blob()).unwrap().len() as u64);
    let mut seen = Vec::new();
    let read = inspect::table(Arc::new(db.mem.clone()), &id.blob(), |entry| {
        seen.push((common::text(&entry.key), entry.commit.0));
        Ok(())
    });
    assert_eq!(read.unwrap(), *meta);
    let expected = [("a", 3), ("k", 6), ("k", 4), ("m", 5), ("m", 1), ("z", 2)];
    assert_eq!(
        seen,
        expected.map(|(key, commit)| (key.to_string(), commit))
    );
}

#[test]
fn s59_two_flushes_in_the_same_moment_make_two_tables() {
    let db = Db::new();
    let first = db.table(&[("k", "1")]);
    let second = db.table(&[("k", "2")]);
    assert_ne!(first, second);
    assert_eq!(db.files().len(), 2);
    // Also when a writer that died had used the same counter.
    db.store.crash();
    let db = Db::on(db.mem.clone(), roomy_options(), KeyspaceOptions::default());
    let third = db.table(&[("k", "3")]);
    assert_eq!(db.files().len(), 3);
    assert!(third.epoch() > first.epoch());
}

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(version)
}

fn fixture_value(n: u32) -> Vec<u8> {
    format!("value {n} ").repeat(n as usize % 9).into_bytes()
}

/// The versions of the tables' format that there are fixtures of, oldest first.
const FIXTURES: [&str; 2] = ["v1", "v2"];

/// Writes the fixture of this version: tables of all compressions, versions, tombstones, marks,
/// checkpoints, keyspaces, and a log that was not closed. Run it when a format gets a new version.
///
/// `cargo test -p siltstone-kv --test scenarios_table_format -- --ignored write_the_fixture`
#[test]
#[ignore = "writes tests/fixtures; only for a new version of a format"]
fn write_the_fixture_of_this_version() {
    let folder = fixture(FIXTURES.last().unwrap());
    std::fs::remove_dir_all(&folder).ok();
    let blobs = Arc::new(LocalBlobs::create(&folder).unwrap());
    let (env, _) = Env::simulated(blobs, 60);
    let keyspace = KeyspaceOptions {
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let kv = Kv::open(env, fixture_options(), keyspace.clone(), None).unwrap();
    let default = kv.default_keyspace();
    for n in 0..120u32 {
        default
            .put(format!("key{n:03}").as_bytes(), &fixture_value(n))
            .unwrap();
    }
    kv.flush().unwrap();
    kv.checkpoint("fixture", None).unwrap();
    for (name, compression) in [("plain", Compression::None), ("zstd", Compression::Zstd)] {
        let history = History {
            max_versions: Some(2),
            ..History::everything()
        };
        let options = KeyspaceOptions {
            compression,
            history,
            filter_bits: 0,
            ..keyspace.clone()
        };
        let keyspace = kv.create_keyspace(name, options).unwrap();
        for n in 0..4u32 {
            keyspace.put(b"versions", n.to_string().as_bytes()).unwrap();
            kv.flush().unwrap();
        }
        keyspace.compact(&Default::default()).unwrap();
    }
    for n in (0..120u32).step_by(5) {
        default.delete(format!("key{n:03}").as_bytes()).unwrap();
    }
    kv.flush().unwrap();
    let mut batch = Batch::new();
    batch
        .put(&default, b"in the log", b"1")
        .delete(&default, b"key001");
    kv.write(&batch, Durability::Durable).unwrap();
    // Not closed: the log is part of the fixture.
    std::mem::forget(kv);
}

fn fixture_options() -> Options {
    Options {
        background: Background::Manual,
        wal_bytes: 4096,
        ..roomy_options()
    }
}

#[test]
fn s60_the_fixture_of_each_version_opens_and_reads_whole() {
    FIXTURES.into_iter().for_each(opens_and_reads_whole);
}

fn opens_and_reads_whole(version: &str) {
    let mem = MemBlobs::new();
    let from = LocalBlobs::existing(fixture(version)).unwrap();
    for blob in from.list("").unwrap() {
        mem.put(&blob.name, &from.get(&blob.name).unwrap()).unwrap();
    }
    let (env, _, _) = simulated(&mem, 61);
    let kv = Kv::open(
        env.clone(),
        fixture_options(),
        KeyspaceOptions::default(),
        None,
    )
    .unwrap();
    assert_eq!(kv.keyspaces(), ["default", "plain", "zstd"]);
    let default = kv.default_keyspace();
    let mut expected: Vec<_> = (0..120u32)
        .filter(|n| n % 5 != 0 && *n != 1)
        .map(|n| (format!("key{n:03}"), common::text(&fixture_value(n))))
        .collect();
    expected.insert(0, ("in the log".to_string(), "1".to_string()));
    assert_eq!(rows(default.scan::<&[u8]>(..).unwrap()), expected);
    let checkpoint = &kv.checkpoints()[0];
    assert_eq!(
        (checkpoint.name.as_str(), checkpoint.commit),
        ("fixture", Commit(120))
    );
    let then = default.at_commit(Commit(120)).unwrap();
    for n in 0..120u32 {
        let value = then.get(format!("key{n:03}").as_bytes()).unwrap().unwrap();
        assert_eq!(value, fixture_value(n));
    }
    for name in ["plain", "zstd"] {
        let keyspace = kv.keyspace(name).unwrap();
        assert_eq!(&keyspace.get(b"versions").unwrap().unwrap()[..], b"3");
        let versions = siltstone_kv::history(&keyspace, b"versions").unwrap();
        assert_eq!(versions.len(), 2);
        assert!(versions[1].truncated);
    }
    kv.flush().unwrap();
    let report = verify(&env, &kv.manifest().state, |_, _| ()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
