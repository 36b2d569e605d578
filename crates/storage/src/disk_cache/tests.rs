//! The cache in front of a bucket in memory whose calls are counted. What survives is tested by
//! opening again; what happens to a process, in a process of its own ([`processes`]).
#![allow(clippy::unwrap_used, reason = "tests")]

mod listening;
mod processes;

use super::counters::{Counters, now};
use super::open::open;
use super::page::{Database, PAGE_BYTES, PAGE_ON_DISK};
use super::store::{Layout, Store};
use super::{DiskCache, DiskCacheStats};
use crate::blobs::{BlobReader, Blobs, Caching, Wait};
use crate::env::Env;
use crate::faulty::{CallKind, FaultPlan, FaultyBlobs};
use crate::memory::MemBlobs;
use crate::probe::STANDING;
use crate::{Error, Probe};
use listening::{listen, warnings};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BLOB: &str = "sst/0000000100000001.sst";
const SIZE: u64 = 10 * PAGE_BYTES + 1234;

/// Bytes that differ from page to page and from blob to blob.
fn contents(seed: u64, size: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(size as usize + 8);
    while (bytes.len() as u64) < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size as usize);
    bytes
}

/// A bucket in memory, and a folder for a cache in front of it.
struct Place {
    bucket: FaultyBlobs,
    env: Env,
    folder: tempfile::TempDir,
}

impl Place {
    /// With one blob.
    fn new() -> Self {
        let (env, clock) = Env::simulated(Arc::new(MemBlobs::bucket()), 1);
        let bucket = FaultyBlobs::new(env.blobs.clone(), clock, FaultPlan::default());
        let env = Env {
            blobs: Arc::new(bucket.clone()),
            ..env
        };
        bucket.put(BLOB, &contents(1, SIZE)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self {
            bucket,
            env,
            folder,
        }
    }

    fn settings(&self) -> DiskCache {
        DiskCache {
            folder: self.folder.path().into(),
            bytes: DiskCache::MIN_BYTES,
        }
    }

    /// The bucket with the cache in front of it.
    fn open(&self) -> Arc<dyn Blobs> {
        self.settings().in_front_of(self.env.clone()).unwrap().blobs
    }

    /// Reads of blobs that reached the bucket while `work` was done.
    fn reads<T>(&self, work: impl FnOnce() -> T) -> (u64, T) {
        let before = self.bucket.calls_of(CallKind::Read);
        let done = work();
        (self.bucket.calls_of(CallKind::Read) - before, done)
    }

    /// Fills the cache with the whole blob.
    fn fill(&self) {
        let blobs = self.open();
        assert_eq!(whole(&blobs), contents(1, SIZE));
    }

    /// The files of the cache.
    fn files(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.folder.path()).unwrap();
        let folders = folders
            .map(|entry| entry.unwrap().path())
            .filter(|p| p.is_dir());
        let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }
}

fn reader(blobs: &Arc<dyn Blobs>) -> Arc<dyn BlobReader> {
    blobs.open_sized(BLOB, SIZE).unwrap()
}

fn whole(blobs: &Arc<dyn Blobs>) -> Vec<u8> {
    let all = reader(blobs).read(0, SIZE as usize, Wait::Allowed);
    all.unwrap().to_vec()
}

fn stats(blobs: &Arc<dyn Blobs>) -> DiskCacheStats {
    blobs.disk_cache().unwrap()
}

#[test]
fn what_was_read_once_is_read_again_without_the_bucket_also_after_a_restart() {
    let place = Place::new();
    let blobs = place.open();
    let (reads, bytes) = place.reads(|| whole(&blobs));
    assert_eq!((reads, bytes), (1, contents(1, SIZE)));
    drop(blobs);
    let blobs = place.open();
    for (offset, len) in [(0, SIZE as usize), (PAGE_BYTES - 1, 2), (SIZE - 1, 1)] {
        let read = || reader(&blobs).read(offset, len, Wait::Allowed).unwrap();
        let (reads, bytes) = place.reads(read);
        assert_eq!(reads, 0, "{len} bytes at {offset}");
        assert_eq!(bytes, contents(1, SIZE)[offset as usize..][..len]);
    }
    let stats = stats(&blobs);
    assert_eq!((stats.misses, stats.dropped, stats.skipped), (0, 0, 0));
    assert_eq!((stats.hits, &stats.off), (14, &None));
    assert!(stats.disk_bytes >= 10 * PAGE_ON_DISK, "{stats:?}");
    assert!(stats.disk_bytes <= stats.capacity_bytes, "{stats:?}");
}

#[test]
fn a_read_takes_one_request_at_most_and_leaves_whole_pages() {
    let place = Place::new();
    let blobs = place.open();
    let read = |offset, len| {
        let read = || reader(&blobs).read(offset, len, Wait::Allowed).unwrap();
        let (reads, bytes) = place.reads(read);
        assert_eq!(bytes, contents(1, SIZE)[offset as usize..][..len]);
        reads
    };
    assert_eq!(read(3 * PAGE_BYTES + 5, 10), 1);
    assert_eq!(
        read(4 * PAGE_BYTES - 1, 1),
        0,
        "the rest of the page came along"
    );
    assert_eq!(read(7 * PAGE_BYTES, 10), 1);
    assert_eq!(read(0, SIZE as usize), 1, "what is missing, in one");
    assert_eq!(read(0, SIZE as usize), 0);
    let outside = reader(&blobs).read(SIZE - 1, 2, Wait::Allowed);
    assert!(matches!(outside, Err(Error::Corrupt { .. })), "{outside:?}");
}

#[test]
fn a_read_that_must_not_wait_does_not() {
    let place = Place::new();
    place.fill();
    let blobs = place.open();
    let (reads, answer) = place.reads(|| reader(&blobs).read(0, 10, Wait::Never));
    assert!(answer.unwrap_err().is_would_block());
    assert_eq!(reads, 1, "the bucket says so");
}

#[test]
fn manifests_logs_and_whole_reads_pass_by() {
    let place = Place::new();
    let blobs = place.open();
    for name in [
        "manifest/00000000000000000001.manifest",
        "wal/00000000000000000001.wal",
        "pins/0000000000000001.pin",
        "ledger/notes/manifest/00000000000000000001.manifest",
        "sst/notes.txt",
    ] {
        for version in [1, 2] {
            blobs.put(name, &contents(version, 5000)).unwrap();
            let reader = blobs.open(name).unwrap();
            let bytes = reader.read(0, 5000, Wait::Allowed).unwrap();
            assert_eq!(bytes, contents(version, 5000), "{name}");
            assert_eq!(blobs.get(name).unwrap(), bytes);
        }
    }
    assert_eq!(stats(&blobs).misses, 0);
    for name in ["blob/8000000100000001.blob", "ledger/notes/car/bafy.car"] {
        blobs.put(name, &contents(3, 5000)).unwrap();
        let read = || blobs.open(name).unwrap().read(0, 5000, Wait::Allowed);
        assert_eq!(place.reads(read).0, 1);
        assert_eq!(place.reads(read).0, 0, "{name}");
    }
}

#[test]
fn reads_that_spare_the_cache_leave_nothing_and_take_what_is_there() {
    let place = Place::new();
    let blobs = place.open();
    let sparing = blobs.caching(Caching::Spare).unwrap();
    let (reads, bytes) = place.reads(|| whole(&sparing));
    assert_eq!((reads, bytes), (1, contents(1, SIZE)));
    assert_eq!(place.reads(|| whole(&sparing)).0, 1);
    assert_eq!(place.reads(|| whole(&blobs)).0, 1);
    assert_eq!(place.reads(|| whole(&sparing)).0, 0);
}

#[test]
fn a_read_past_the_cache_reads_the_bucket_and_puts_the_cache_right() {
    let place = Place::new();
    let right = contents(1, SIZE);
    let mut wrong = right.clone();
    wrong[100] ^= 1;
    // The bucket answers with damage, once.
    place.bucket.put(BLOB, &wrong).unwrap();
    let blobs = place.open();
    assert_eq!(whole(&blobs), wrong);
    place.bucket.put(BLOB, &right).unwrap();
    assert_eq!(whole(&blobs), wrong, "it is immutable");
    let past = blobs.caching(Caching::Past).unwrap();
    let (reads, bytes) = place.reads(|| reader(&past).read(90, 20, Wait::Allowed));
    assert_eq!((reads, &bytes.unwrap()[..]), (1, &right[90..110]));
    drop((blobs, past));
    let blobs = place.open();
    assert_eq!(place.reads(|| whole(&blobs)), (0, right));
}

#[test]
fn a_page_of_another_is_dropped_counted_and_read_again() {
    let place = Place::new();
    let ours = Database::new(&place.bucket.describe(), &[9; 16]);
    place.bucket.put(STANDING, &[9; 16]).unwrap();
    let other = Database::new("s3://other/db", &[9; 16]);
    let cache = open(&place.settings());
    let store = cache.store().unwrap();
    let bytes = vec![0; PAGE_BYTES as usize];
    store.put(ours.key(BLOB, 0), other.seal(BLOB, 0, &bytes));
    store.put(ours.key(BLOB, 5), ours.seal(BLOB, 4, &bytes));
    store.put(ours.key(BLOB, 7), ours.seal("sst/other.sst", 7, &bytes));
    store.put(ours.key(BLOB, 9), ours.seal(BLOB, 9, &bytes[..10]));
    let blobs = place.open();
    let part = reader(&blobs).read(0, 10, Wait::Allowed).unwrap();
    assert_eq!(part, contents(1, 10));
    assert_eq!(whole(&blobs), contents(1, SIZE));
    drop((cache, blobs));
    let blobs = place.open();
    assert_eq!(place.reads(|| whole(&blobs)), (0, contents(1, SIZE)));
    assert_eq!(stats(&blobs).dropped, 0, "they were replaced");
}

#[test]
fn dropped_pages_are_counted() {
    let place = Place::new();
    let ours = Database::new(&place.bucket.describe(), &[9; 16]);
    place.bucket.put(STANDING, &[9; 16]).unwrap();
    let blobs = place.open();
    let cache = open(&place.settings());
    let foreign = ours.seal(BLOB, 1, &[0; 100]);
    cache.store().unwrap().put(ours.key(BLOB, 0), foreign);
    let read = || reader(&blobs).read(0, 10, Wait::Allowed).unwrap();
    assert_eq!(place.reads(read), (1, contents(1, 10).into()));
    assert_eq!((stats(&blobs).dropped, stats(&blobs).hits), (1, 0));
}

#[test]
fn damaged_and_truncated_files_change_no_answer() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("bits", |path| {
            let mut bytes = fs::read(path).unwrap();
            // Every page, and what foyer notes of them.
            bytes
                .iter_mut()
                .step_by(4096 + 61)
                .for_each(|byte| *byte ^= 0x10);
            fs::write(path, bytes).unwrap();
        }),
        ("zeros", |path| {
            let len = fs::metadata(path).unwrap().len();
            fs::write(path, vec![0; len as usize]).unwrap();
        }),
        ("noise", |path| {
            let len = fs::metadata(path).unwrap().len();
            fs::write(path, contents(99, len)).unwrap();
        }),
        ("cut in the middle", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(5 * 4096 + 7).unwrap();
        }),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
    ];
    for (name, damage) in damages {
        let place = Place::new();
        place.fill();
        place.files().iter().for_each(|path| damage(path));
        let blobs = place.open();
        assert_eq!(
            place.reads(|| whole(&blobs)),
            (1, contents(1, SIZE)),
            "{name}"
        );
        assert_eq!(stats(&blobs).off, None, "{name}");
        drop(blobs);
        let blobs = place.open();
        assert_eq!(
            place.reads(|| whole(&blobs)),
            (0, contents(1, SIZE)),
            "{name}: it is whole again"
        );
    }
}

#[test]
fn files_damaged_while_it_is_open_change_no_answer() {
    let place = Place::new();
    place.fill();
    let blobs = place.open();
    assert_eq!(place.reads(|| whole(&blobs)).0, 0);
    for path in place.files() {
        let bytes = contents(7, fs::metadata(&path).unwrap().len());
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(place.reads(|| whole(&blobs)), (1, contents(1, SIZE)));
    assert_eq!(stats(&blobs).dropped, 11);
}

#[test]
fn a_folder_that_cannot_be_used_is_warned_of_and_the_bucket_read() {
    listen();
    let place = Place::new();
    let file = place.folder.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    for folder in [file.clone(), file.join("below"), "/proc/siltstone".into()] {
        let settings = DiskCache {
            folder: folder.clone(),
            ..place.settings()
        };
        let blobs = settings.in_front_of(place.env.clone()).unwrap().blobs;
        assert_eq!(whole(&blobs), contents(1, SIZE));
        let off = stats(&blobs).off.unwrap();
        assert!(off.contains(&*folder.to_string_lossy()), "{off}");
        let warned = warnings(&folder);
        assert!(
            warned[0].contains("every read goes to the bucket"),
            "{warned:?}"
        );
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_warned_of_and_the_bucket_read() {
    listen();
    let place = Place::new();
    place.fill();
    // What root may do regardless: then its pages are used, and nothing else is different.
    let files = place.files();
    let folder = files[0].parent().unwrap();
    let mode = |mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        for path in files
            .iter()
            .map(PathBuf::as_path)
            .chain([folder, place.folder.path()])
        {
            let mode = mode & if path.is_dir() { 0o777 } else { 0o666 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    mode(0o555);
    let writable = fs::File::options().write(true).open(&files[0]).is_ok();
    let blobs = place.open();
    assert_eq!(whole(&blobs), contents(1, SIZE));
    assert_eq!(stats(&blobs).off.is_none(), writable);
    assert_eq!(warnings(place.folder.path()).is_empty(), writable);
    mode(0o755);
}

#[test]
fn a_folder_that_another_process_uses_is_left_alone() {
    listen();
    let place = Place::new();
    let lock = crate::FolderLock::take(place.folder.path()).unwrap();
    fs::write(lock.path(), "process 1, somebody").unwrap();
    let blobs = place.open();
    assert_eq!(whole(&blobs), contents(1, SIZE));
    let off = stats(&blobs).off.unwrap();
    assert!(
        off.contains("another process uses it (process 1, somebody)"),
        "{off}"
    );
    assert_eq!(warnings(place.folder.path()).len(), 1);
}

#[test]
fn databases_of_a_process_share_a_folder_and_nothing_else() {
    let place = Place::new();
    let blobs = place.open();
    assert_eq!(whole(&blobs), contents(1, SIZE));
    // At the same place in the same store, but made anew.
    let (env, _) = Env::simulated(Arc::new(MemBlobs::bucket()), 2);
    env.blobs.put(BLOB, &contents(2, SIZE)).unwrap();
    let other = place.settings().in_front_of(env).unwrap().blobs;
    assert_eq!(whole(&other), contents(2, SIZE));
    assert_eq!(whole(&blobs), contents(1, SIZE));
    assert_eq!(whole(&other), contents(2, SIZE));
    assert_eq!(stats(&other), stats(&blobs), "it is one cache");
    assert_eq!(stats(&blobs).hits, 22);
}

#[test]
fn a_database_made_anew_at_the_same_place_finds_nothing_of_the_one_before() {
    let place = Place::new();
    place.fill();
    for blob in place.bucket.list("").unwrap() {
        place.bucket.delete(&blob.name).unwrap();
    }
    place.bucket.put(BLOB, &contents(5, SIZE)).unwrap();
    let blobs = place.open();
    // As a writer does while it opens.
    let probe = Probe::start(&*blobs, &*place.env.rng);
    probe.finish(&*blobs, &*place.env.rng).unwrap();
    assert_eq!(whole(&blobs), contents(5, SIZE));
    drop(blobs);
    let blobs = place.open();
    assert_eq!(place.reads(|| whole(&blobs)), (0, contents(5, SIZE)));
    // While it is open, another one takes its place.
    blobs.delete(STANDING).unwrap();
    place.bucket.put(BLOB, &contents(6, SIZE)).unwrap();
    assert_eq!(whole(&blobs), contents(6, SIZE));
}

#[test]
fn a_name_that_is_written_again_is_read_again_also_after_a_restart() {
    let place = Place::new();
    let car = "ledger/notes/car/bafy.car";
    let read = |blobs: &Arc<dyn Blobs>| {
        let reader = blobs.open_sized(car, SIZE).unwrap();
        reader.read(0, SIZE as usize, Wait::Allowed).unwrap()
    };
    place.bucket.put(car, &contents(7, SIZE)).unwrap();
    let blobs = place.open();
    assert_eq!(read(&blobs), contents(7, SIZE));
    blobs.put(car, &contents(8, SIZE)).unwrap();
    assert_eq!(read(&blobs), contents(8, SIZE));
    drop(blobs);
    assert_eq!(read(&place.open()), contents(8, SIZE));
}

#[test]
fn a_blob_that_is_known_longer_later_is_read_on() {
    let place = Place::new();
    let blobs = place.open();
    let short = blobs.open_sized(BLOB, 100).unwrap();
    assert_eq!(short.read(0, 100, Wait::Allowed).unwrap(), contents(1, 100));
    assert_eq!(whole(&blobs), contents(1, SIZE));
    assert_eq!(place.reads(|| whole(&blobs)).0, 0);
    assert_eq!(stats(&blobs).dropped, 0);
}

#[test]
fn a_failing_bucket_fails_only_what_is_not_cached() {
    let place = Place::new();
    let blobs = place.open();
    let reader = reader(&blobs);
    let read = |page: u64| reader.read(page * PAGE_BYTES, 10, Wait::Allowed);
    read(2).unwrap();
    place.bucket.crash();
    assert!(read(2).is_ok());
    assert!(matches!(read(3), Err(Error::Crashed)));
}

#[test]
fn a_cache_stays_within_its_size_and_gives_back_what_a_larger_one_took() {
    let place = Place::new();
    let open = |bytes| {
        let settings = DiskCache {
            bytes,
            ..place.settings()
        };
        settings.in_front_of(place.env.clone()).unwrap().blobs
    };
    for (n, bytes) in [
        (1, 40 << 20),
        (2, 20 << 20),
        (3, 16 << 20),
        (4, 300 << 20),
        (5, 16 << 20),
    ] {
        let blobs = open(bytes);
        for round in 0..24 {
            let name = format!("sst/{n:08}{round:08}.sst");
            place.bucket.put(&name, &contents(round, 2 << 20)).unwrap();
            let reader = blobs.open_sized(&name, 2 << 20).unwrap();
            let read = reader.read(0, 2 << 20, Wait::Allowed).unwrap();
            assert_eq!(read, contents(round, 2 << 20));
            place.bucket.delete(&name).unwrap();
        }
        let stats = stats(&blobs);
        assert!(stats.disk_bytes <= bytes, "{stats:?}");
        assert_eq!(stats.off, None);
    }
}

#[test]
fn a_disk_that_is_nearly_full_gets_nothing_more_until_there_is_space() {
    static FREE: AtomicU64 = AtomicU64::new(63 << 20);
    listen();
    let folder = tempfile::tempdir().unwrap();
    let counters = Arc::new(Counters::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let opening = Store::open(
        folder.path().into(),
        Layout::of(DiskCache::MIN_BYTES),
        counters.clone(),
        |_| Some(FREE.load(Ordering::Relaxed)),
    );
    let store = runtime.block_on(runtime.spawn(opening)).unwrap().unwrap();
    let database = Database::new("here", &[]);
    let put = |number| {
        let page = database.seal(BLOB, number, &[0; PAGE_BYTES as usize]);
        store.put(database.key(BLOB, number), page);
        store.may_have(database.key(BLOB, number))
    };
    assert!((0..300).all(|number| !put(number)));
    assert_eq!(now(&counters.skipped), 300);
    let warned = warnings(folder.path());
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("nearly full"), "{warned:?}");
    FREE.store(64 << 20, Ordering::Relaxed);
    // It looks again within the next 4 MiB.
    assert!((300..430).any(put));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let place = Place::new();
    let settings = DiskCache {
        bytes: DiskCache::MIN_BYTES - 1,
        ..place.settings()
    };
    let refused = settings
        .in_front_of(place.env.clone())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("give it 16777216 or more"), "{refused}");
    // A folder needs no cache.
    let (env, _) = Env::simulated(Arc::new(MemBlobs::new()), 1);
    let env = place.settings().in_front_of(env).unwrap();
    assert_eq!(env.blobs.disk_cache(), None);
}

#[derive(Debug, Clone)]
enum Step {
    Read {
        blob: u64,
        at: u64,
        len: u64,
        how: Caching,
    },
    Reopen,
    Damage {
        file: prop::sample::Index,
        at: prop::sample::Index,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        Just(Caching::Use),
        Just(Caching::Spare),
        Just(Caching::Past)
    ];
    let len = prop_oneof![0u64..200, 0u64..SIZE, Just(PAGE_BYTES)];
    prop_oneof![
        20 => (0u64..4, 0u64..SIZE, len, how)
            .prop_map(|(blob, at, len, how)| Step::Read { blob, at, len, how }),
        2 => Just(Step::Reopen),
        2 => (any::<prop::sample::Index>(), any::<prop::sample::Index>())
            .prop_map(|(file, at)| Step::Damage { file, at }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn any_reads_answer_as_the_bucket_does(steps in prop::collection::vec(step(), 1..60)) {
        let place = Place::new();
        for n in 0..4 {
            place.bucket.put(&format!("sst/{n}.sst"), &contents(n, SIZE)).unwrap();
        }
        let mut blobs = place.open();
        // Its files are there once it is open.
        prop_assert_eq!(stats(&blobs).off, None);
        for step in steps {
            match step {
                Step::Read { blob, at, len, how } => {
                    let len = len.min(SIZE - at);
                    let blobs = blobs.caching(how).unwrap();
                    let reader = blobs.open_sized(&format!("sst/{blob}.sst"), SIZE).unwrap();
                    let bytes = reader.read(at, len as usize, Wait::Allowed).unwrap();
                    let right = contents(blob, SIZE);
                    prop_assert_eq!(&bytes[..], &right[at as usize..(at + len) as usize]);
                }
                Step::Reopen => {
                    drop(blobs);
                    blobs = place.open();
                    prop_assert_eq!(stats(&blobs).off, None);
                }
                Step::Damage { file, at } => {
                    let file = file.get(&place.files()).clone();
                    let mut bytes = fs::read(&file).unwrap();
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len().min(512 << 10));
                        let end = bytes.len().min(at + 64);
                        bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x55);
                        fs::write(&file, bytes).unwrap();
                    }
                }
            }
        }
    }
}
