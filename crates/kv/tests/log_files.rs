//! A writer goes from one log file to the next and waits for no disk. What a crash then takes is always
//! the end of what was written; what was durable once and is gone is damage, and never passed over.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{simulated, small_keyspace, small_options};
use siltstone_kv::{Background, Commit, Durability, Kv, Options, Read, Reader};
use siltstone_storage::{Blobs, CallKind, FaultPlan, FaultyBlobs, MemBlobs};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a value: more than a log file holds, and than is kept back before it is handed over.
const VALUE: usize = 300_000;
/// So many full files may wait to be made durable.
const MAX_FULL: u64 = 4;

/// One memtable for everything; a log file for each write.
fn options() -> Options {
    Options {
        memory_budget: 64 << 20,
        memtable_bytes: 16 << 20,
        wal_bytes: 4096,
        max_wal_files: 1000,
        ..small_options()
    }
}

/// A file for eight writes, and the next one made ahead.
fn filling_slowly() -> Options {
    Options {
        background: Background::Threads,
        wal_bytes: 8 * VALUE,
        ..options()
    }
}

fn open_with(
    mem: &MemBlobs,
    options: Options,
    seed: u64,
) -> (siltstone_kv::Result<Kv>, FaultyBlobs) {
    let (env, _, store) = simulated(mem, seed);
    (Kv::open(env, options, small_keyspace(), None), store)
}

fn open(mem: &MemBlobs, seed: u64) -> siltstone_kv::Result<Kv> {
    open_with(mem, options(), seed).0
}

/// Bytes that do not compress.
fn value(commit: u64) -> Vec<u8> {
    let mut state = commit;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..VALUE).map(next).collect()
}

/// Buffered writes with the commits `from..=to`.
fn fill(kv: &Kv, from: u64, to: u64) {
    for commit in from..=to {
        let (key, value) = (commit.to_be_bytes(), value(commit));
        let done = kv
            .default_keyspace()
            .put_with(&key, &value, Durability::Buffered);
        assert_eq!(done.unwrap().commit, Commit(commit));
    }
}

/// The database holds the commits up to `head` and nothing else.
fn check(read: &impl Read, head: u64) {
    let rows = read
        .scan_prefix(b"", siltstone_kv::ScanOptions::default())
        .unwrap();
    let mut expected = 1..=head;
    for row in rows {
        let (key, found) = row.unwrap();
        let commit = expected.next().unwrap();
        assert_eq!(key[..], commit.to_be_bytes());
        assert!(
            found[..] == value(commit)[..],
            "the value of commit {commit}"
        );
    }
    assert_eq!(expected.next(), None);
}

fn log_files(mem: &MemBlobs) -> Vec<String> {
    let listed = mem.list("wal/").unwrap();
    listed.into_iter().map(|blob| blob.name).collect()
}

/// Dies with its files as they are.
fn die(kv: Kv, store: &FaultyBlobs) {
    store.crash();
    std::mem::forget(kv);
}

/// What a crash leaves that takes nothing.
fn all_of(mem: &MemBlobs) -> MemBlobs {
    let mut call = 0;
    mem.after_crash(|unsynced| {
        call += 1;
        unsynced * (call % 2)
    })
}

/// A database that wrote the commits up to `count`, each to a file of its own, and died.
fn written(count: u64) -> MemBlobs {
    let mem = MemBlobs::new();
    let (kv, store) = open_with(&mem, options(), 1);
    let kv = kv.unwrap();
    fill(&kv, 1, count);
    assert_eq!(log_files(&mem).len() as u64, count);
    die(kv, &store);
    mem
}

#[test]
fn buffered_writes_go_through_many_log_files_and_sync_only_their_headers() {
    let mem = MemBlobs::new();
    let (kv, store) = open_with(&mem, options(), 1);
    let kv = kv.unwrap();
    fill(&kv, 1, 1);
    let before = store.calls_of(CallKind::Sync);
    fill(&kv, 2, MAX_FULL);
    assert_eq!(store.calls_of(CallKind::Sync) - before, MAX_FULL - 1);
    assert_eq!(kv.stats().totals.syncs, 0);
    kv.sync().unwrap();
    die(kv, &store);
    let kv = open(&mem.after_crash(|_| 0), 2).unwrap();
    check(&kv.default_keyspace(), MAX_FULL);
}

#[test]
fn a_crash_takes_the_end_of_any_file_and_all_that_follows() {
    let count = MAX_FULL + 1;
    let mem = written(count);
    for lost in 1..=count {
        for kept in [0, 1, VALUE / 2] {
            // Two calls for each file.
            let mut call = 0;
            let mem = mem.after_crash(|unsynced| {
                call += 1;
                match (call - 1) / 2 + 1 {
                    _ if call % 2 == 0 => 0,
                    file if file == lost => kept.min(unsynced),
                    _ => unsynced,
                }
            });
            let reader = Reader::open(simulated(&mem, 5).0, options()).unwrap();
            check(&reader.default_keyspace(), lost - 1);
            // It dies at once, or goes on: then commits and names are used anew.
            for goes_on in [kept > 0, true] {
                let (kv, store) = open_with(&mem, options(), 2);
                let kv = kv.unwrap();
                assert_eq!(kv.head(), Commit(lost - 1));
                assert_eq!(log_files(&mem).len() as u64, lost, "what follows is gone");
                let first_open = goes_on == (kept > 0);
                if first_open && lost < count {
                    assert!(kv.open_stats().torn_bytes > (count - lost) * VALUE as u64 / 2);
                }
                check(&kv.default_keyspace(), lost - 1);
                if goes_on {
                    fill(&kv, lost, lost + 2);
                }
                die(kv, &store);
                if goes_on {
                    break;
                }
            }
            assert_eq!(log_files(&mem).len() as u64, lost + 3);
            let mem = mem.after_crash(|unsynced| unsynced * usize::from(lost % 2 == 0));
            let kv = open(&mem, 5).unwrap();
            check(&kv.default_keyspace(), kv.head().0);
            assert!(kv.head().0 >= lost - 1);
            kv.close().unwrap();
            assert_eq!(log_files(&mem), [] as [String; 0]);
            let kv = open(&mem, 6).unwrap();
            check(&kv.default_keyspace(), kv.head().0);
        }
    }
}

#[test]
fn a_crash_at_any_call_of_the_open_that_removes_them_is_overcome() {
    let mem = written(MAX_FULL + 1);
    for after in 1.. {
        let mut call = 0;
        // Of the second file nothing, of the others all.
        let mem = mem.after_crash(|unsynced| {
            call += 1;
            unsynced * usize::from(call % 2 == 1 && call != 3)
        });
        let (env, _, store) = simulated(&mem, 2);
        store.set_plan(FaultPlan::crash_at(after));
        let opened = Kv::open(env, options(), small_keyspace(), None);
        let crashed = store.is_crashed();
        store.crash();
        drop(opened);
        let (kv, store) = open_with(&mem, options(), 3);
        let kv = kv.unwrap();
        check(&kv.default_keyspace(), 1);
        fill(&kv, 2, 4);
        die(kv, &store);
        check(&open(&all_of(&mem), 4).unwrap().default_keyspace(), 4);
        if !crashed {
            assert!(
                after > MAX_FULL,
                "it removes a file with each of its last calls"
            );
            break;
        }
    }
}

#[test]
fn what_was_durable_once_and_is_gone_is_damage() {
    // The sync after commit 3 is known by what came later only: the record of commit 4.
    let mem = MemBlobs::new();
    let (kv, store) = open_with(&mem, options(), 1);
    let kv = kv.unwrap();
    fill(&kv, 1, 3);
    kv.sync().unwrap();
    fill(&kv, 4, 5);
    die(kv, &store);
    let files = log_files(&mem);
    // Of the files that are damaged, the first and the one before what is known by.
    for damaged in [0, 2] {
        let mem = all_of(&mem);
        mem.truncate(&files[damaged], VALUE / 2);
        let refused = open(&mem, 2).map(drop).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains("should follow"), "{refused}");
        assert_eq!(log_files(&mem), files, "nothing was removed");
    }
    check(&open(&mem, 2).unwrap().default_keyspace(), 5);
}

#[test]
fn a_durable_write_is_never_dropped_because_a_file_before_it_is_damaged() {
    // Nothing comes after it that could say that it was durable.
    let mem = MemBlobs::new();
    let (kv, store) = open_with(&mem, options(), 1);
    let kv = kv.unwrap();
    fill(&kv, 1, 3);
    let durable = kv.default_keyspace().put(&4u64.to_be_bytes(), &value(4));
    assert_eq!(durable.unwrap().commit, Commit(4));
    die(kv, &store);
    let whole = open(&mem.after_crash(|_| 0), 2).unwrap();
    check(&whole.default_keyspace(), 4);
    let files = log_files(&mem);
    for damaged in &files[..3] {
        let mem = mem.after_crash(|_| 0);
        mem.flip_byte(damaged, VALUE / 2);
        let refused = open(&mem, 2).map(drop).unwrap_err().to_string();
        assert!(refused.contains("should follow"), "{refused}");
    }
}

#[test]
fn another_writers_file_is_not_removed_when_the_next_cannot_be_made() {
    let mem = MemBlobs::new();
    let (kv, _) = open_with(&mem, filling_slowly(), 1);
    let kv = kv.unwrap();
    fill(&kv, 1, 1);
    let [first] = &log_files(&mem)[..] else {
        panic!("one file");
    };
    let theirs = first.replace("1.wal", "2.wal");
    mem.put(&theirs, b"another writer's").unwrap();
    // It asks for the next file from the fourth write on, and needs it at the ninth.
    let refused = (2..=12).find_map(|commit| {
        let (key, value) = (u64::to_be_bytes(commit), value(commit));
        let put = kv
            .default_keyspace()
            .put_with(&key, &value, Durability::Buffered);
        put.err()
    });
    assert!(refused.is_some(), "the name is taken");
    assert_eq!(mem.get(&theirs).unwrap(), &b"another writer's"[..]);
}

/// Waits until there is a log file that nothing was written to; answers the names of the one that fills
/// and of that one.
fn await_file_ahead(mem: &MemBlobs) -> [String; 2] {
    loop {
        if let [.., filling, ahead] = &log_files(mem)[..]
            && mem.get(ahead).unwrap().len() < VALUE
        {
            return [filling.clone(), ahead.clone()];
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_reader_beside_a_writer_that_changes_files_sees_a_prefix() {
    let mem = MemBlobs::new();
    let (kv, _) = open_with(&mem, filling_slowly(), 1);
    let kv = kv.unwrap();
    fill(&kv, 1, 5);
    let mut next = 6;
    // Five writes are in the file that fills, and always will be. Before the reader reads one of the two files, or before it does so having read the other, the
    // writer fills the one and goes on in the other.
    for (file, having_read_the_other) in [(0, false), (1, false), (0, true), (1, true)] {
        let files = await_file_ahead(&mem);
        let (env, _, store) = simulated(&mem, next);
        let (writer, to) = (kv.clone(), next + 7);
        let read_the_other = AtomicBool::new(!having_read_the_other);
        let once = Once::new();
        store.on_call(Box::new(move |call| {
            let looks = matches!(call.kind, CallKind::Open | CallKind::Read);
            if looks && call.name == files[1 - file] {
                read_the_other.store(true, Ordering::Relaxed);
            }
            let reads = looks && call.name == files[file];
            if reads && read_the_other.load(Ordering::Relaxed) {
                once.call_once(|| {
                    fill(&writer, next, to - 1);
                    writer.sync().unwrap();
                    // This one says that something before it is durable.
                    fill(&writer, to, to);
                });
            }
        }));
        let reader = Reader::open(env, options()).unwrap();
        store.clear_hook();
        check(&reader.default_keyspace(), reader.head().0);
        assert!(reader.head().0 >= next - 1);
        if kv.head().0 < to {
            fill(&kv, next, to);
        }
        reader.refresh().unwrap();
        check(&reader.default_keyspace(), to);
        next = to + 1;
    }
}

#[test]
fn a_feed_does_not_leave_a_file_before_it_is_full() {
    let mem = MemBlobs::new();
    let (kv, _) = open_with(&mem, filling_slowly(), 1);
    let kv = kv.unwrap();
    fill(&kv, 1, 5);
    await_file_ahead(&mem);
    let reader = Reader::open(simulated(&mem, 2).0, options()).unwrap();
    let mut feeds = [
        kv.changes(Commit::ZERO).unwrap(),
        reader.changes(Commit::ZERO).unwrap(),
    ];
    let mut next = 6;
    for to in [5, 6, 20, 21] {
        fill(&kv, next, to);
        next = to + 1;
        kv.sync().unwrap();
        for feed in &mut feeds {
            while feed.try_next().unwrap().is_some() {}
            assert_eq!(feed.position(), Commit(to));
        }
    }
}
