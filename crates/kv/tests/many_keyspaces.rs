//! Many keyspaces in one database: their memtables share the room that one may have, are flushed
//! together, and their compactions take turns.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{simulated, small_keyspace, small_options};
use siltstone_kv::{Commit, Durability, History, Keyspace, KeyspaceOptions, Kv, Options, Read};
use siltstone_storage::{Blobs, CallKind, FaultyBlobs, MemBlobs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

struct Db {
    kv: Arc<Kv>,
    keyspaces: Vec<Keyspace>,
    mem: MemBlobs,
    store: FaultyBlobs,
}

impl Db {
    fn open(count: usize, options: Options) -> Self {
        let mem = MemBlobs::new();
        let (env, _, store) = simulated(&mem, 1);
        let kv = Kv::open(env, options, small_keyspace(), None).unwrap();
        let keyspaces = (0..count)
            .map(|n| kv.create_keyspace(&format!("k{n}"), small_keyspace()))
            .collect::<Result<_, _>>()
            .unwrap();
        Self {
            kv: Arc::new(kv),
            keyspaces,
            mem,
            store,
        }
    }

    fn level0(&self, name: &str) -> u64 {
        let stats = self.kv.stats();
        let found = stats.keyspaces.iter().find(|k| k.name == name).unwrap();
        let level0 = found.levels.iter().find(|level| level.level == 0);
        level0.map_or(0, |level| level.tables)
    }

    fn sealed(&self) -> u64 {
        let stats = self.kv.stats();
        stats.keyspaces.iter().map(|k| k.sealed_memtables).sum()
    }
}

#[test]
fn memtables_of_many_keyspaces_are_flushed_by_one_edit_of_the_manifest() {
    let db = Db::open(16, small_options());
    for (n, keyspace) in db.keyspaces.iter().enumerate() {
        keyspace.put(b"key", n.to_string().as_bytes()).unwrap();
    }
    let before = db.kv.stats().manifest;
    let flushed = db.kv.flush().unwrap();
    assert_eq!(flushed.tables.len(), 16);
    assert_eq!(db.kv.stats().manifest, before + 1);
    assert_eq!(db.kv.stats().totals.flushes, 16);
    // A crash afterwards: everything comes from the tables.
    db.store.crash();
    let (env, _, _) = simulated(&db.mem.after_crash(|_| 0), 2);
    let kv = Kv::open(env, small_options(), small_keyspace(), None).unwrap();
    assert_eq!(kv.open_stats().replayed_commits, 0);
    for n in 0..16 {
        let keyspace = kv.keyspace(&format!("k{n}")).unwrap();
        let value = keyspace.get(b"key").unwrap().unwrap();
        assert_eq!(value, n.to_string().as_bytes());
    }
}

#[test]
fn a_group_holds_no_more_than_one_memtable_may() {
    let db = Db::open(3, small_options());
    for keyspace in &db.keyspaces {
        keyspace.put(b"key", &[7; 2_500]).unwrap();
    }
    // 4,096 bytes a memtable: no two of them go together.
    let before = db.kv.stats().manifest;
    assert_eq!(db.kv.flush().unwrap().tables.len(), 3);
    assert_eq!(db.kv.stats().manifest, before + 3);
}

#[test]
fn keyspaces_take_turns_and_a_flush_ends_while_writes_go_on() {
    let db = Db::open(2, small_options());
    for keyspace in &db.keyspaces {
        keyspace.put(b"key", &[7; 2_250]).unwrap();
    }
    let (kv, hot) = (db.kv.clone(), db.keyspaces[0].clone());
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let order = seen.clone();
    db.store.on_call(Box::new(move |call| {
        if call.kind != CallKind::Finish {
            return;
        }
        let stats = kv.stats();
        let tables = |name: &str| -> u64 {
            let found = stats.keyspaces.iter().find(|k| k.name == name).unwrap();
            found.levels.iter().map(|level| level.tables).sum()
        };
        order.lock().push(["k0", "k1"].map(tables));
        // When its memtable is flushed, the first has a full one again.
        for _ in 0..2 * usize::from(order.lock().len() == 1) {
            hot.put_with(b"key", &[8; 2_250], Durability::Buffered)
                .unwrap();
        }
    }));
    let flushed = db.kv.flush().unwrap();
    db.store.clear_hook();
    assert_eq!(flushed.tables.len(), 2);
    assert_eq!(*seen.lock(), [[0, 0], [1, 0]]);
    assert_eq!((db.level0("k0"), db.level0("k1")), (1, 1));
    assert_eq!(db.sealed(), 1, "what came meanwhile may wait");
}

#[test]
fn when_none_is_full_and_all_are_too_much_the_larger_half_is_sealed() {
    let options = Options {
        memory_budget: 64 << 20,
        memtable_bytes: 4 << 20,
        wal_bytes: 64 << 20,
        ..small_options()
    };
    let db = Db::open(8, options);
    let put = |keyspace: &Keyspace, n: u32| {
        let key = n.to_be_bytes();
        keyspace.put_with(&key, &[3; 1000], Durability::Buffered)
    };
    // Two of them get four times what the others do.
    let shares = [4, 1, 1, 4, 1, 1, 1, 1];
    let mut written = 0;
    for n in 0.. {
        for (keyspace, share) in db.keyspaces.iter().zip(shares) {
            for part in 0..share {
                put(keyspace, n * 4 + part).unwrap();
                written += 1000;
            }
        }
        if db.sealed() > 0 {
            break;
        }
        assert!(written < 8 << 20, "nobody sealed anything");
    }
    // Far from any single one being full.
    assert!(written > 4 << 20, "{written}");
    assert_eq!(db.sealed(), 2, "the two large ones have half of it");
    db.kv.work().unwrap();
    assert_eq!(db.sealed(), 0);
    assert_eq!((db.level0("k0"), db.level0("k3")), (1, 1));
    assert_eq!(db.level0("k1"), 0);
}

#[test]
fn one_keyspace_alone_fills_its_memtable() {
    let options = Options {
        memory_budget: 64 << 20,
        memtable_bytes: 1 << 20,
        wal_bytes: 64 << 20,
        ..small_options()
    };
    let db = Db::open(2, options);
    db.keyspaces[1].put(b"a little", b"").unwrap();
    for n in 0..900u32 {
        let key = n.to_be_bytes();
        let put = db.keyspaces[0].put_with(&key, &[3; 1000], Durability::Buffered);
        put.unwrap();
    }
    assert_eq!(db.sealed(), 0);
    assert!(
        db.kv
            .stats()
            .keyspaces
            .iter()
            .any(|k| k.memtable_bytes > 900_000)
    );
}

#[test]
fn the_keyspace_with_the_most_tables_in_level_0_is_compacted_first() {
    let options = Options {
        level0_trigger: 4,
        ..small_options()
    };
    let db = Db::open(3, options);
    // k0 is full enough, k2 is fuller.
    for (keyspace, tables) in db.keyspaces.iter().zip([4, 1, 7]) {
        for _ in 0..tables {
            keyspace.put(b"key", b"").unwrap();
            db.kv.flush().unwrap();
        }
    }
    assert!(db.kv.work().unwrap());
    assert_eq!((db.level0("k0"), db.level0("k2")), (4, 0));
    assert!(db.kv.work().unwrap());
    assert_eq!(db.level0("k0"), 0);
    assert!(!db.kv.work().unwrap(), "one table needs nothing");
}

/// Flushes six keyspaces that keep their newest versions only, and does `deed` while the `nth` table is
/// being finished.
fn flush_while(nth: u64, deed: impl Fn(&Kv) + Send + Sync + 'static) -> Db {
    let db = Db::open(6, small_options());
    for n in 0..6 {
        let options = KeyspaceOptions {
            history: History::head_only(),
            ..small_keyspace()
        };
        db.kv.set_keyspace(&format!("k{n}"), options).unwrap();
    }
    for (n, keyspace) in db.keyspaces.iter().enumerate() {
        for version in 0..3u8 {
            keyspace.put(b"key", &[n as u8, version]).unwrap();
        }
    }
    let (kv, once) = (db.kv.clone(), AtomicBool::new(true));
    let finished = AtomicU64::new(0);
    db.store.on_call(Box::new(move |call| {
        let here = call.kind == CallKind::Finish
            && finished.fetch_add(1, Ordering::SeqCst) == nth
            && once.swap(false, Ordering::SeqCst);
        if here {
            deed(&kv);
        }
    }));
    db.kv.flush().unwrap();
    db.store.clear_hook();
    db
}

#[test]
fn a_keyspace_that_is_dropped_while_its_group_is_flushed_goes_alone() {
    for nth in 0..6 {
        let db = flush_while(nth, |kv| kv.drop_keyspace("k2").unwrap());
        for n in [0, 1, 3, 4, 5] {
            let value = db.keyspaces[n].get(b"key").unwrap().unwrap();
            assert_eq!(value, [n as u8, 2].as_slice(), "table {nth}");
            assert_eq!(db.level0(&format!("k{n}")), 1, "table {nth}");
        }
        assert!(db.kv.keyspace("k2").is_err());
        assert_eq!(db.kv.manifest().state.tables.live().len(), 5);
        db.kv.work().unwrap();
        common::assert_no_orphan(&db.mem, &db.kv);
    }
}

#[test]
fn a_policy_that_changes_while_its_group_is_flushed_is_kept() {
    for nth in 0..6 {
        let promised = Arc::new(parking_lot::Mutex::new(None));
        let answer = promised.clone();
        let db = flush_while(nth, move |kv| {
            let set = |history| {
                let options = KeyspaceOptions {
                    history,
                    ..KeyspaceOptions::default()
                };
                kv.set_keyspace("k2", options).unwrap();
            };
            set(History::everything());
            // k2's first version: commits 7, 8 and 9 are its own.
            let held = kv.keyspace("k2").unwrap().at_commit(Commit(7)).unwrap();
            *answer.lock() = Some(held);
            set(History::head_only());
        });
        let held = promised.lock().take().unwrap();
        assert_eq!(held.get(b"key").unwrap().unwrap(), [2, 0].as_slice());
        for n in 0..6 {
            let value = db.keyspaces[n].get(b"key").unwrap().unwrap();
            assert_eq!(value, [n as u8, 2].as_slice(), "table {nth}");
        }
        db.kv.work().unwrap();
        common::assert_no_orphan(&db.mem, &db.kv);
    }
}

#[test]
fn a_keyspace_in_which_nothing_happens_does_not_hold_what_others_replaced() {
    let db = Db::open(2, small_options());
    let [idle, busy] = &db.keyspaces[..] else {
        unreachable!("two keyspaces")
    };
    idle.put(b"key", b"there").unwrap();
    busy.put(b"key", b"0").unwrap();
    db.kv.flush().unwrap();
    let mut held = busy.scan::<&[u8]>(..).unwrap();
    for n in 1..40 {
        busy.put(b"key", n.to_string().as_bytes()).unwrap();
        db.kv.flush().unwrap();
        db.kv.work().unwrap();
    }
    db.kv.settle().unwrap();
    let manifest = db.kv.manifest();
    let files = || common::files(&db.mem, "sst/").len();
    let live = manifest.state.tables.live().len();
    assert!(files() > live, "a scan holds what it reads");
    assert!(held.next());
    assert_eq!(held.value(), b"0");
    drop(held);
    db.kv.work().unwrap();
    assert_eq!(files(), live);
    // Who looks for garbage and finds none does not ask for another look: threads would never rest.
    for _ in 0..5 {
        db.kv.take_compact_signal();
        db.kv.work().unwrap();
    }
    assert!(!db.kv.take_compact_signal());
    assert_eq!(idle.get(b"key").unwrap().unwrap(), b"there".as_slice());
    assert_eq!(busy.get(b"key").unwrap().unwrap(), b"39".as_slice());
}

/// Memory for writes comes with the first one: a keyspace that is only read has none. That costs no
/// new log file.
#[test]
fn the_first_writes_to_many_keyspaces_stand_in_one_log_file() {
    let db = Db::open(16, small_options());
    let logs = || db.mem.list("wal/").unwrap().len();
    for (n, keyspace) in db.keyspaces.iter().enumerate() {
        assert_eq!(keyspace.get(b"key").unwrap(), None);
        keyspace.put(b"key", n.to_string().as_bytes()).unwrap();
        assert_eq!(logs(), 1, "after keyspace {n}");
        assert_eq!(db.sealed(), 0);
    }
    // Larger than all that memory for writes may take at a time.
    let huge = vec![7; 1 << 20];
    let fresh = db.kv.create_keyspace("huge", small_keyspace()).unwrap();
    fresh.put(b"key", &huge).unwrap();
    assert_eq!(logs(), 1);
    for (n, keyspace) in db.keyspaces.iter().enumerate() {
        let found = keyspace.get(b"key").unwrap().unwrap();
        assert_eq!(&found[..], n.to_string().as_bytes());
    }
    assert_eq!(&fresh.get(b"key").unwrap().unwrap()[..], &huge[..]);
}
