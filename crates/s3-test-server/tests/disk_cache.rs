//! A database in a bucket with a cache on a local disk: what is read again costs no request, and no
//! answer is another than the bucket's.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Bucket;
use siltstone_kv::{
    Background, Batch, CompactOptions, Compression, Durability, KeyspaceOptions, Kv, Options, Read,
    Reader,
};
use siltstone_storage::{Blobs, DiskCache, DiskCacheStats, Env};
use std::sync::Arc;

/// A bucket, and a folder for the cache of the database `db` in it.
struct Place {
    bucket: Bucket,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            bucket: Bucket::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn env(&self) -> Env {
        Env::system(Arc::new(self.bucket.store("db")))
    }

    fn options(&self) -> Options {
        Options {
            // Nobody makes requests but the test.
            background: Background::Manual,
            disk_cache: Some(DiskCache {
                folder: self.folder.path().into(),
                bytes: 64 << 20,
            }),
            ..Options::default()
        }
    }

    fn open(&self) -> Kv {
        self.open_with(self.options())
    }

    fn open_with(&self, options: Options) -> Kv {
        let keyspace = KeyspaceOptions {
            // What is stored is as large as what was written.
            compression: Compression::None,
            blob_threshold: Some(5000),
            ..KeyspaceOptions::default()
        };
        Kv::open(self.env(), options, keyspace, None).unwrap()
    }

    /// The requests that `work` makes.
    fn requests<T>(&self, work: impl FnOnce() -> T) -> (u64, T) {
        let before = self.bucket.server.faults().requests();
        let done = work();
        (self.bucket.server.faults().requests() - before, done)
    }

    /// Makes a database with one table of `rows` rows of 100 bytes from `seed`, and a large value, as
    /// on another machine: the cache knows nothing of it.
    fn make(&self, rows: u32, seed: u8) {
        let kv = self.open_with(Options {
            disk_cache: None,
            ..self.options()
        });
        table(&kv, rows, seed);
        kv.close().unwrap();
    }
}

fn table(kv: &Kv, rows: u32, seed: u8) {
    let mut batch = Batch::new();
    for n in 0..rows {
        batch.put(&kv.default_keyspace(), &key(n), &value(n, seed));
    }
    batch.put(&kv.default_keyspace(), b"large", &vec![seed; 100_000]);
    kv.write(&batch, Durability::Durable).unwrap();
    kv.flush().unwrap();
}

fn key(n: u32) -> Vec<u8> {
    format!("key {n:08}").into_bytes()
}

fn value(n: u32, seed: u8) -> Vec<u8> {
    vec![(n as u8).wrapping_mul(7) ^ seed; 100]
}

fn stats(kv: &Kv) -> DiskCacheStats {
    kv.stats().disk_cache.unwrap()
}

fn rows(read: &impl Read) -> u32 {
    let scan = read.scan::<&[u8]>(..).unwrap();
    scan.into_iter().map(Result::unwrap).count() as u32
}

#[test]
fn a_cold_get_takes_no_request_once_it_was_made_before_the_restart() {
    let place = Place::new();
    place.make(50_000, 1);
    let kv = place.open();
    let get = |kv: &Kv, n| {
        let (made, found) = place.requests(|| kv.default_keyspace().get(&key(n)).unwrap());
        assert_eq!(found.unwrap(), value(n, 1), "key {n}");
        made
    };
    assert_eq!(get(&kv, 777), 2, "index and filter, then the block");
    assert_eq!(get(&kv, 40_000), 1, "the block");
    drop(kv);
    let kv = place.open();
    assert_eq!(get(&kv, 777), 0, "all of it is on the disk");
    assert_eq!(get(&kv, 40_000), 0);
    assert_eq!(get(&kv, 778), 0, "and what is beside it");
    assert_eq!(get(&kv, 20_000), 1, "the block");
    let absent = place.requests(|| kv.default_keyspace().get(b"key 00000777x").unwrap());
    assert_eq!(absent, (0, None));
    let stats = stats(&kv);
    assert!(stats.hits > 0 && stats.dropped == 0, "{stats:?}");
    drop(kv);
    // For a reader too.
    let reader = Reader::open(place.env(), place.options()).unwrap();
    let read = || {
        reader
            .default_keyspace()
            .get(&key(20_000))
            .unwrap()
            .unwrap()
    };
    // Requests of its opening may still be under way, so they are not counted: without the table one
    // for its data fails.
    let store = place.bucket.store("db");
    let sst = store.list("sst/").unwrap().remove(0).name;
    store.delete(&sst).unwrap();
    assert_eq!(read(), value(20_000, 1), "{:?}", reader.stats().disk_cache);
    assert!(reader.default_keyspace().get(&key(30_000)).is_err());
}

#[test]
fn a_cold_read_of_a_large_value_takes_no_request_either() {
    let place = Place::new();
    place.make(10, 1);
    let get = |kv: &Kv| {
        let (made, found) = place.requests(|| kv.default_keyspace().get(b"large").unwrap());
        assert_eq!(found.unwrap(), vec![1; 100_000]);
        made
    };
    assert!(get(&place.open()) > 0);
    assert_eq!(get(&place.open()), 0);
}

#[test]
fn a_scan_of_what_was_scanned_before_the_restart_takes_no_request() {
    let place = Place::new();
    place.make(50_000, 1);
    let scan = |kv: &Kv| place.requests(|| rows(&kv.default_keyspace()));
    // As many as without the cache (`requests.rs`): a window is one, and one for the large value.
    assert_eq!(scan(&place.open()), (7, 50_001));
    assert_eq!(scan(&place.open()), (0, 50_001));
}

#[test]
fn compactions_leave_what_readers_read() {
    let place = Place::new();
    let kv = place.open();
    for seed in 0..3 {
        table(&kv, 20_000, seed);
    }
    let keyspace = kv.default_keyspace();
    keyspace.get(&key(777)).unwrap().unwrap();
    let before = stats(&kv);
    let (made, compacted) = place.requests(|| keyspace.compact(&CompactOptions::default()));
    assert_eq!(compacted.unwrap().inputs.len(), 3);
    assert!(made > 3, "it read the bucket");
    let after = stats(&kv);
    assert_eq!(after.skipped, 0);
    // Three tails, 60 KiB each with their filters, and no block.
    assert!(after.misses > before.misses);
    drop(keyspace);
    drop(kv);
    let kv = place.open();
    let on_disk = stats(&kv).disk_bytes;
    assert!(on_disk < 2 << 20, "{on_disk} bytes of 7 MB that were read");
}

#[test]
fn a_check_reads_the_bucket() {
    let place = Place::new();
    place.make(50_000, 1);
    let kv = place.open();
    assert_eq!(rows(&kv.default_keyspace()), 50_001);
    assert!(kv.verify(|_, _| {}).unwrap().problems.is_empty());
    let (sst, bytes) = damage(&place);
    drop(kv);
    let kv = place.open();
    let read = || kv.default_keyspace().get(&key(777)).unwrap().unwrap();
    assert_eq!(place.requests(read), (0, value(777, 1).into()));
    let problems = kv.verify(|_, _| {}).unwrap().problems;
    assert!(problems[0].contains(&sst), "{problems:?}");
    place.bucket.store("db").put(&sst, &bytes).unwrap();
    assert!(kv.verify(|_, _| {}).unwrap().problems.is_empty());
}

/// Damages every block of the one table of a database, and answers what it was.
fn damage(place: &Place) -> (String, Vec<u8>) {
    let store = place.bucket.store("db");
    let sst = store.list("sst/").unwrap().remove(0).name;
    let bytes = store.get(&sst).unwrap().to_vec();
    let mut damaged = bytes.clone();
    damaged.iter_mut().step_by(500).for_each(|byte| *byte ^= 1);
    store.put(&sst, &damaged).unwrap();
    (sst, bytes)
}

#[test]
fn damage_that_came_from_the_bucket_does_not_outlive_it_in_the_cache() {
    let place = Place::new();
    place.make(50_000, 1);
    let (sst, bytes) = damage(&place);
    let kv = place.open();
    let keyspace = kv.default_keyspace();
    assert!(keyspace.get(&key(777)).is_err());
    // The index alone comes right, then its blocks.
    place.bucket.store("db").put(&sst, &bytes).unwrap();
    assert_eq!(keyspace.get(&key(777)).unwrap().unwrap(), value(777, 1));
    damage(&place);
    assert!(keyspace.get(&key(40_000)).is_err(), "a block");
    assert!(keyspace.get(b"large").is_ok(), "in a file of its own");
    place.bucket.store("db").put(&sst, &bytes).unwrap();
    assert_eq!(
        keyspace.get(&key(40_000)).unwrap().unwrap(),
        value(40_000, 1)
    );
    assert_eq!(rows(&keyspace), 50_001);
    drop(keyspace);
    drop(kv);
    let kv = place.open();
    let scan = place.requests(|| rows(&kv.default_keyspace()));
    assert_eq!(scan, (0, 50_001), "what the cache has is whole now");
}

#[test]
fn a_database_made_anew_at_the_same_place_answers_for_itself() {
    let place = Place::new();
    // Also when what tells the two apart was not deleted with the rest.
    for (seed, left) in [(1, ""), (2, "probe/"), (3, "probe/"), (4, "")] {
        place.make(1000, seed);
        let kv = place.open();
        for n in [0, 777, 999] {
            let found = kv.default_keyspace().get(&key(n)).unwrap();
            assert_eq!(found.unwrap(), value(n, seed), "key {n} of database {seed}");
        }
        let large = kv.default_keyspace().get(b"large").unwrap().unwrap();
        assert_eq!(large, vec![seed; 100_000]);
        drop(kv);
        let store = place.bucket.store("db");
        for blob in store.list("").unwrap() {
            if left.is_empty() || !blob.name.starts_with(left) {
                store.delete(&blob.name).unwrap();
            }
        }
    }
}

#[test]
fn opening_takes_one_request_more_at_the_same_time_as_others() {
    let place = Place::new();
    place.make(10, 1);
    let without = Options {
        disk_cache: None,
        ..place.options()
    };
    let open = |options: Options| {
        place.requests(|| {
            drop(Kv::open(
                place.env(),
                options,
                KeyspaceOptions::default(),
                None,
            ))
        })
    };
    // The first of each leaves what the next one finds.
    open(without.clone());
    let (plain, ()) = open(without);
    open(place.options());
    let (cached, ()) = open(place.options());
    assert!(cached <= plain + 1, "{cached}, {plain} without");
}

#[test]
fn a_folder_needs_none_and_a_wrong_size_is_refused() {
    let place = Place::new();
    let dir = tempfile::tempdir().unwrap();
    let blobs = siltstone_storage::LocalBlobs::create(dir.path()).unwrap();
    let env = Env::system(Arc::new(blobs));
    let kv = Kv::open(env, place.options(), KeyspaceOptions::default(), None).unwrap();
    assert_eq!(kv.stats().disk_cache, None);
    let mut options = place.options();
    options.disk_cache.as_mut().unwrap().bytes = 1;
    let refused = Kv::open(place.env(), options, KeyspaceOptions::default(), None);
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("disk_cache") && refused.contains("too few"),
        "{refused}"
    );
}
