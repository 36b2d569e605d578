//! A crash, or an error, at every single call of the store, for every operation that changes
//! something (scenarios 13-15). After each: what was acknowledged durably is there, the contents are
//! a prefix of what was issued, no file is orphaned, and opening once more changes nothing.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Model, assert_no_orphan, folder_lock, simulated, small_keyspace, small_options};
use siltstone_kv::{
    Background, Batch, CompactOptions, CompactOrder, Durability, KeyspaceOptions, Kv, Options,
    Read, ScanOptions,
};
use siltstone_storage::{FaultPlan, FaultyBlobs, Injected, MemBlobs};
use std::collections::BTreeMap;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// What was issued, in order, and how much of it is acknowledged as durable.
#[derive(Default, Clone)]
struct Issued {
    main: Model,
    side: Model,
    durable: u64,
}

fn options() -> Options {
    Options {
        background: Background::Manual,
        ..small_options()
    }
}

fn contents(read: &impl Read) -> Contents {
    let rows = read.scan_prefix(b"", ScanOptions::default()).unwrap();
    let rows = rows
        .into_iter()
        .map(|row| row.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap());
    rows.collect()
}

struct World {
    kv: Kv,
    issued: Issued,
}

type Outcome = siltstone_kv::Result<()>;

impl World {
    fn put(&mut self, key: &str, value: &str, durability: Durability) -> Outcome {
        self.write(&[(key, Some(value))], false, durability)
    }

    /// One commit to the default keyspace, and to `side` too.
    fn write(
        &mut self,
        rows: &[(&str, Option<&str>)],
        side: bool,
        durability: Durability,
    ) -> Outcome {
        let main = self.kv.default_keyspace();
        let mut batch = Batch::new();
        let other = match side {
            true => Some(self.kv.keyspace("side")?),
            false => None,
        };
        self.issued.main.commit(rows);
        self.issued.side.commit(if side { rows } else { &[] });
        for (key, value) in rows {
            for keyspace in std::iter::once(&main).chain(&other) {
                match value {
                    Some(value) => batch.put(keyspace, key.as_bytes(), value.as_bytes()),
                    None => batch.delete(keyspace, key.as_bytes()),
                };
            }
        }
        let done = self.kv.write(&batch, durability)?;
        assert_eq!(done.commit.0, self.issued.main.head(), "commits are dense");
        if durability == Durability::Durable {
            self.issued.durable = done.commit.0;
        }
        Ok(())
    }

    fn fill(&mut self, rounds: u32) -> Outcome {
        for round in 0..rounds {
            for n in 0..6 {
                let durability = match n % 3 {
                    0 => Durability::Durable,
                    _ => Durability::Buffered,
                };
                let value = format!("{round}:{}", "v".repeat(n * 40));
                self.put(&format!("key{}", n * 3 % 7), &value, durability)?;
            }
            self.write(
                &[("key1", None), ("batch", Some("b"))],
                false,
                Durability::Buffered,
            )?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        self.kv.flush()?;
        self.issued.durable = self.issued.main.head();
        Ok(())
    }
}

/// An operation to walk through, with what comes before and after it in the same run.
struct Walk {
    name: &'static str,
    before: fn(&mut World) -> Outcome,
    run: fn(&mut World) -> Outcome,
}

const WALKS: &[Walk] = &[
    Walk {
        name: "write",
        before: |_| Ok(()),
        run: |world| world.fill(2),
    },
    Walk {
        name: "flush",
        before: |world| world.fill(1),
        run: World::flush,
    },
    Walk {
        name: "sealed memtables are flushed as they fill",
        before: |_| Ok(()),
        run: |world| {
            for n in 0..6 {
                world.put(&format!("key{n}"), &"x".repeat(1_500), Durability::Buffered)?;
                world.kv.work()?;
            }
            world.put("last", "", Durability::Durable)
        },
    },
    Walk {
        name: "a batch over two keyspaces, one flushed before the other",
        before: |world| {
            world
                .kv
                .create_keyspace("side", small_keyspace())
                .map(|_| ())
        },
        run: |world| {
            world.write(
                &[("a", Some("1")), ("b", Some("2"))],
                true,
                Durability::Durable,
            )?;
            world.put("big", &"x".repeat(3_900), Durability::Durable)?;
            world.put("big", &"y".repeat(3_900), Durability::Buffered)?;
            world.write(&[("c", Some("3"))], true, Durability::Buffered)?;
            world.kv.work()?;
            world.put("d", "4", Durability::Durable)
        },
    },
    Walk {
        name: "memtables of two keyspaces, flushed together",
        before: |world| {
            world
                .kv
                .create_keyspace("side", small_keyspace())
                .map(|_| ())
        },
        run: |world| {
            for n in 0..3 {
                let value = n.to_string();
                world.write(&[("a", Some(&value))], true, Durability::Buffered)?;
                world.put("b", &value, Durability::Durable)?;
                world.flush()?;
            }
            Ok(())
        },
    },
    Walk {
        name: "compaction",
        before: |world| {
            for _ in 0..3 {
                world.fill(1)?;
                world.flush()?;
            }
            Ok(())
        },
        run: |world| {
            let options = CompactOptions {
                order: CompactOrder::NewestFirst,
                max_files: Some(2),
                ..CompactOptions::default()
            };
            let keyspace = world.kv.default_keyspace();
            keyspace.compact(&options).map_err(|failed| failed.error)?;
            world.put("between", "", Durability::Buffered)?;
            keyspace
                .compact(&CompactOptions::default())
                .map_err(|failed| failed.error)?;
            Ok(())
        },
    },
    Walk {
        name: "close",
        before: |world| world.fill(1),
        run: |world| {
            world.kv.close()?;
            world.issued.durable = world.issued.main.head();
            Ok(())
        },
    },
    Walk {
        name: "checkpoint",
        before: |world| world.fill(1),
        run: |world| {
            let commit = world.kv.checkpoint("c", None)?.commit;
            assert_eq!(commit.0, world.issued.main.head());
            world.issued.durable = commit.0;
            world.kv.drop_checkpoint("c")
        },
    },
    Walk {
        name: "keyspaces come and go",
        before: |world| world.fill(1),
        run: |world| {
            world.kv.create_keyspace("side", small_keyspace())?;
            world.write(&[("a", Some("1")), ("b", None)], true, Durability::Durable)?;
            world.flush()?;
            world.write(&[("c", Some("2"))], true, Durability::Buffered)?;
            world.kv.drop_keyspace("side")?;
            world.put("after", "", Durability::Durable)
        },
    },
    Walk {
        name: "log rotation",
        before: |_| Ok(()),
        run: |world| {
            for n in 0..8 {
                // Durable writes that fill log files faster than memtables.
                let rows = [("key", None), (["a", "b"][n % 2], Some("v"))];
                world.write(&rows, false, Durability::Durable)?;
                world.put("big", &"z".repeat(2_000), Durability::Buffered)?;
            }
            world.put("end", "", Durability::Durable)
        },
    },
    Walk {
        name: "log files fill and nobody waits for the disk",
        before: |_| Ok(()),
        run: |world| {
            for n in 0..9 {
                let value = n.to_string().repeat(2_500);
                world.put(&format!("key{}", n % 4), &value, Durability::Buffered)?;
            }
            world.put("durable", "", Durability::Durable)?;
            for n in 0..5 {
                let value = n.to_string().repeat(2_500);
                world.put(&format!("key{}", n % 3), &value, Durability::Buffered)?;
            }
            world.flush()?;
            world.put("end", &"e".repeat(5_000), Durability::Buffered)?;
            world.put("end", &"f".repeat(5_000), Durability::Buffered)
        },
    },
];

/// Where the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Folder,
    /// The writer holds its lock, and raises the epoch with its first edit or write only.
    LockedFolder,
    Bucket,
}

const PLACES: [Place; 3] = [Place::Folder, Place::LockedFolder, Place::Bucket];

impl Place {
    fn store(self) -> MemBlobs {
        match self {
            Self::Folder | Self::LockedFolder => MemBlobs::new(),
            Self::Bucket => MemBlobs::bucket(),
        }
    }

    fn open(
        self,
        mem: &MemBlobs,
        plan: FaultPlan,
        seed: u64,
    ) -> (siltstone_kv::Result<Kv>, FaultyBlobs) {
        let (env, _, store) = simulated(mem, seed);
        store.set_plan(plan);
        let lock = (self == Self::LockedFolder).then(folder_lock);
        (Kv::open(env, options(), small_keyspace(), lock), store)
    }
}

/// The world before the operation, in which nothing goes wrong.
fn prepare(walk: &Walk, place: Place) -> (World, MemBlobs, FaultyBlobs) {
    let mem = place.store();
    let (kv, store) = place.open(&mem, FaultPlan::default(), 1);
    let mut world = World {
        kv: kv.unwrap(),
        issued: Issued::default(),
    };
    (walk.before)(&mut world).unwrap();
    if place != Place::LockedFolder {
        return (world, mem, store);
    }
    // The process dies, and the next one has not raised the epoch yet when the operation begins.
    world.kv.sync().unwrap();
    world.issued.durable = world.issued.main.head();
    store.crash();
    let mem = mem.after_crash(|_| 0);
    let (kv, store) = place.open(&mem, FaultPlan::default(), 8);
    std::mem::forget(std::mem::replace(&mut world.kv, kv.unwrap()));
    (world, mem, store)
}

/// Opens what a crash left, compares it with what was issued, and opens once more.
fn check_recovery(context: &str, place: Place, mem: &MemBlobs, issued: &Issued) {
    let mut seen = None;
    for seed in [2, 3] {
        let (kv, _) = place.open(mem, FaultPlan::default(), seed);
        let kv = kv.unwrap_or_else(|error| panic!("{context}, open {seed}: {error}"));
        let head = kv.head().0;
        assert!(
            head >= issued.durable,
            "{context}: head {head} < {}",
            issued.durable
        );
        assert!(
            head <= issued.main.head(),
            "{context}: head {head} > {}",
            issued.main.head()
        );
        let main = contents(&kv.default_keyspace());
        assert_eq!(main, issued.main.at(head), "{context}: at {head}");
        let side = kv.keyspace("side").ok().map(|side| contents(&side));
        if let Some(side) = &side {
            assert_eq!(*side, issued.side.at(head), "{context}: side at {head}");
        }
        let now = (head, main, side);
        if let Some(before) = seen.replace(now.clone()) {
            assert_eq!(before, now, "{context}: opening again changed something");
        }
        kv.work().unwrap();
        assert_no_orphan(mem, &kv);
        if seed == 3 {
            go_on(context, place, mem, &kv, issued, head);
        }
        // No close: the next open finds what this one left.
        std::mem::forget(kv);
    }
}

/// Life goes on after a recovery: new writes, another crash, another recovery.
fn go_on(context: &str, place: Place, mem: &MemBlobs, kv: &Kv, issued: &Issued, head: u64) {
    let mut main = issued.main.clone();
    main.cut(head);
    let keyspace = kv.default_keyspace();
    for n in 0..3u64 {
        let done = keyspace.put(b"afterwards", &[n as u8]).unwrap();
        assert_eq!(
            done.commit.0,
            main.put(b"afterwards", Some(vec![n as u8])),
            "{context}"
        );
    }
    for close in [false, true] {
        let mem = mem.after_crash(|_| 0);
        let (kv, _) = place.open(&mem, FaultPlan::default(), 4);
        let kv = kv.unwrap_or_else(|error| panic!("{context}, afterwards: {error}"));
        assert_eq!(
            contents(&kv.default_keyspace()),
            main.at(head + 3),
            "{context}"
        );
        if close {
            kv.close().unwrap();
            let (kv, _) = place.open(&mem, FaultPlan::default(), 5);
            assert_eq!(
                contents(&kv.unwrap().default_keyspace()),
                main.at(head + 3),
                "{context}"
            );
        }
    }
}

/// How much of what was not synced got through, by name.
type Tear = (&'static str, fn(usize) -> usize);

fn tears() -> [Tear; 5] {
    [
        ("nothing", |_| 0),
        ("everything, damaged at its end", |n| n),
        ("half", |n| n / 2),
        ("all", {
            fn all(n: usize) -> usize {
                use std::cell::Cell;
                thread_local!(static DAMAGE: Cell<bool> = const { Cell::new(false) });
                // The calls come in pairs: how much gets through, and which byte of it is damaged.
                match DAMAGE.replace(!DAMAGE.get()) {
                    false => n,
                    true => 0,
                }
            }
            all
        }),
        ("nothing of one log file and all of the next", {
            fn every_other(n: usize) -> usize {
                use std::cell::Cell;
                thread_local!(static CALL: Cell<u32> = const { Cell::new(0) });
                match CALL.replace(CALL.get() + 1) % 4 {
                    2 => n,
                    _ => 0,
                }
            }
            every_other
        }),
    ]
}

fn crash_everywhere(walk: &Walk, place: Place) {
    let mut crashes = 0;
    for after in 1.. {
        let (mut world, mem, store) = prepare(walk, place);
        store.set_plan(FaultPlan::crash_at(store.calls() + after));
        let done = (walk.run)(&mut world);
        let crashed = store.is_crashed();
        store.crash();
        for (tear, choose) in tears() {
            let context = format!("{}, {place:?}, call {after}, tear: {tear}", walk.name);
            check_recovery(&context, place, &mem.after_crash(choose), &world.issued);
        }
        if !crashed {
            done.unwrap();
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 2, "{}: the walk met {crashes} calls", walk.name);
}

#[test]
fn s13_s14_a_crash_at_any_call_loses_nothing_acknowledged_and_leaves_no_orphan() {
    for walk in WALKS {
        crash_everywhere(walk, Place::Folder);
    }
}

#[test]
fn s13_s14_the_same_in_a_folder_that_is_locked() {
    for walk in WALKS {
        crash_everywhere(walk, Place::LockedFolder);
    }
}

#[test]
fn s13_s14_the_same_in_a_bucket() {
    for walk in WALKS {
        crash_everywhere(walk, Place::Bucket);
    }
}

#[test]
fn s13_a_crash_at_any_call_of_open_changes_nothing() {
    for place in PLACES {
        for after in 1.. {
            let walk = &WALKS[4];
            let (mut world, mem, store) = prepare(walk, place);
            (walk.run)(&mut world).unwrap();
            world.fill(1).unwrap();
            store.crash();
            let mem = mem.after_crash(|n| n / 2);
            let (opened, store) = place.open(&mem, FaultPlan::crash_at(after), 9);
            let crashed = store.is_crashed();
            store.crash();
            drop(opened);
            let context = format!("open, {place:?}, call {after}");
            check_recovery(&context, place, &mem.after_crash(|n| n), &world.issued);
            if !crashed {
                assert!(after > 5);
                break;
            }
        }
    }
}

#[test]
fn s15_an_error_at_any_call_is_reported_or_overcome_and_a_retry_succeeds() {
    for walk in WALKS.iter().filter(|walk| walk.name != "close") {
        for place in PLACES {
            for fault in [
                Injected::ErrorBefore,
                Injected::ErrorAfter,
                Injected::HalfWrite { bytes: 7 },
            ] {
                error_everywhere(walk, place, fault);
            }
        }
    }
}

fn error_everywhere(walk: &Walk, place: Place, fault: Injected) {
    for after in 1.. {
        let (mut world, mem, store) = prepare(walk, place);
        let at = store.calls() + after;
        store.set_plan(FaultPlan::at(at, fault));
        let done = (walk.run)(&mut world);
        let met = store.trace().get(at as usize - 1).cloned();
        let Some(met) = met else {
            done.unwrap();
            break;
        };
        let context = format!("{}, {place:?}, {met}", walk.name);
        let kv = &world.kv;
        let issued = &world.issued;
        let head = kv.head().0;
        assert_eq!(
            contents(&kv.default_keyspace()),
            issued.main.at(head),
            "{context}: reads"
        );
        let stopped = kv.sync().is_err();
        if !stopped {
            // A flush or a compaction that failed is done again; writes were never refused.
            kv.flush()
                .unwrap_or_else(|error| panic!("{context}: retry: {error}"));
            let compacted = kv.default_keyspace().compact(&CompactOptions::default());
            compacted.unwrap_or_else(|error| panic!("{context}: retry: {error}"));
            kv.work().unwrap();
            assert_no_orphan(&mem, kv);
            assert_eq!(kv.permits_in_use(), (0, 0), "{context}");
            let done = kv.default_keyspace().put(b"retry", b"").unwrap();
            assert_eq!(done.commit.0, head + 1, "{context}");
            kv.default_keyspace().delete(b"retry").unwrap();
            assert_eq!(
                contents(&kv.default_keyspace()),
                issued.main.at(head),
                "{context}: after"
            );
            store.crash();
            continue;
        }
        assert!(done.is_err(), "{context}: stopped without a word");
        store.crash();
        check_recovery(&context, place, &mem.after_crash(|_| 0), issued);
    }
}

#[test]
fn s26_a_crash_between_rotation_and_flush_leaves_the_sealed_memtable_to_be_flushed() {
    for place in [Place::Folder, Place::LockedFolder] {
        let mem = MemBlobs::new();
        let (kv, store) = place.open(&mem, FaultPlan::default(), 1);
        let kv = kv.unwrap();
        let keyspace = kv.default_keyspace();
        keyspace.put(b"a", &[1; 3_000]).unwrap();
        keyspace.put(b"b", &[2; 3_000]).unwrap();
        assert_eq!(kv.stats().keyspaces[0].sealed_memtables, 1);
        store.crash();
        let mem = mem.after_crash(|_| 0);
        let (kv, _) = place.open(&mem, FaultPlan::default(), 2);
        let kv = kv.unwrap();
        assert_eq!(kv.open_stats().replayed_commits, 2);
        assert!(kv.work().unwrap(), "there is something to flush");
        assert_eq!(kv.stats().keyspaces[0].sealed_memtables, 0);
        assert_eq!(kv.manifest().state.tables.live().len(), 2);
        assert_eq!(
            kv.default_keyspace().get(b"a").unwrap().unwrap(),
            &[1; 3_000][..]
        );
        assert_eq!(
            kv.default_keyspace().get(b"b").unwrap().unwrap(),
            &[2; 3_000][..]
        );
    }
}

#[test]
fn a_commit_of_many_keys_is_whole_after_a_partial_flush_and_a_crash() {
    for place in [Place::Folder, Place::LockedFolder] {
        let mem = MemBlobs::new();
        let (env, _, store) = simulated(&mem, 1);
        // Written with room for all of it, recovered with room for a part.
        let roomy = Options {
            memtable_bytes: 1 << 20,
            ..options()
        };
        let kv = Kv::open(env, roomy, KeyspaceOptions::default(), None).unwrap();
        let mut batch = Batch::new();
        for n in 0..300 {
            batch.put(
                &kv.default_keyspace(),
                format!("key{n:03}").as_bytes(),
                &[7; 60],
            );
        }
        kv.write(&batch, Durability::Durable).unwrap();
        store.crash();
        for after in 1.. {
            let mem = mem.after_crash(|_| 0);
            let (kv, store) = place.open(&mem, FaultPlan::default(), 2);
            let kv = kv.unwrap();
            store.set_plan(FaultPlan::crash_at(store.calls() + after));
            let done = kv.work();
            let crashed = store.is_crashed();
            store.crash();
            let (kv, _) = place.open(&mem.after_crash(|_| 0), FaultPlan::default(), 3);
            assert_eq!(
                contents(&kv.unwrap().default_keyspace()).len(),
                300,
                "call {after}"
            );
            if !crashed {
                done.unwrap();
                break;
            }
        }
    }
}
