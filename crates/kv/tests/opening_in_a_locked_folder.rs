//! A writer that holds the lock of its folder is open, and answers reads, before the manifest that
//! raises its epoch is written. Nothing else is written before that manifest, whoever asks for it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, Model, folder_lock, simulated, small_keyspace, small_options};
use parking_lot::{Condvar, Mutex};
use siltstone_kv::{
    Background, Batch, CompactOptions, Durability, Error, KeyRange, Kv, Options, Read,
};
use siltstone_storage::{Call, CallKind, FaultPlan, FaultyBlobs, MemBlobs};
use std::sync::Arc;

type Deed = fn(&Kv) -> siltstone_kv::Result<()>;

/// Everything that writes.
const DEEDS: &[(&str, Deed)] = &[
    ("a put", |kv| {
        kv.default_keyspace().put(b"new", b"1").map(drop)
    }),
    ("a durable put", |kv| {
        let mut batch = Batch::new();
        batch.put(&kv.default_keyspace(), b"new", b"1");
        kv.write(&batch, Durability::Durable).map(drop)
    }),
    ("a sync", Kv::sync),
    ("a flush", |kv| kv.flush().map(drop)),
    ("background work", |kv| kv.work().map(drop)),
    ("settling", Kv::settle),
    ("a compaction", |kv| {
        let done = kv.default_keyspace().compact(&CompactOptions::default());
        done.map(drop).map_err(|failed| failed.error)
    }),
    ("an ingest", |kv| {
        let mut ingest = kv.default_keyspace().ingest()?;
        ingest.put(b"new", b"1")?;
        ingest.finish().map(drop)
    }),
    ("a range deletion", |kv| {
        let range = KeyRange::prefix(b"key");
        kv.default_keyspace().delete_range(&range).map(drop)
    }),
    ("a transaction", |kv| {
        let transaction = kv.begin(siltstone_kv::Isolation::Serializable)?;
        transaction.put(&kv.default_keyspace(), b"new", b"1")?;
        transaction.commit().map(drop)
    }),
    ("a new keyspace", |kv| {
        kv.create_keyspace("side", small_keyspace()).map(drop)
    }),
    ("other settings", |kv| {
        kv.set_keyspace("default", small_keyspace())
    }),
    ("a checkpoint", |kv| kv.checkpoint("here", None).map(drop)),
    ("a close", Kv::close),
];

/// What a process leaves that died: two tables, and more in the log than a memtable holds.
fn left() -> (MemBlobs, Model) {
    let (db, mut model) = (
        Db::on(MemBlobs::new(), small_options(), small_keyspace()),
        Model::default(),
    );
    for table in 0..2 {
        for n in 0..8 {
            let value = format!("{table}:{n}:{}", "v".repeat(90));
            db.commit(&mut model, &[(&format!("key{n}"), Some(&value))]);
        }
        db.kv.flush().unwrap();
    }
    for n in 0..60 {
        let value = format!("in the log {n} {}", "w".repeat(90));
        db.commit(&mut model, &[(&format!("key{}", n % 10), Some(&value))]);
    }
    db.kv.sync().unwrap();
    db.store.crash();
    (db.mem.after_crash(|_| 0), model)
}

fn is_manifest(call: &Call) -> bool {
    call.kind == CallKind::PutIfAbsent && call.name.starts_with("manifest/")
}

/// Calls that change the store.
fn changes(store: &FaultyBlobs) -> Vec<Call> {
    let reads = [
        CallKind::Get,
        CallKind::Open,
        CallKind::Read,
        CallKind::List,
        CallKind::Sync,
    ];
    let mut trace = store.trace();
    trace.retain(|call| !reads.contains(&call.kind));
    trace
}

#[test]
fn nothing_is_written_before_the_manifest() {
    for (name, deed) in DEEDS {
        let (mem, model) = left();
        let (env, _, store) = simulated(&mem, 2);
        let kv = Kv::open(env, small_options(), small_keyspace(), Some(folder_lock())).unwrap();
        model.check(&kv.default_keyspace(), model.head());
        assert_eq!(changes(&store), [], "{name}: open wrote something");
        store.on_call(Box::new({
            let store = store.clone();
            // The disk is gone.
            move |call| {
                if is_manifest(call) {
                    store.crash();
                }
            }
        }));
        let refused = deed(&kv);
        assert!(refused.is_err(), "{name}");
        assert!(store.is_crashed(), "{name}");
        let changes = changes(&store);
        assert!(changes.iter().all(is_manifest), "{name}: {changes:?}");
        assert!(!changes.is_empty(), "{name}");
        drop(kv);
        // The next one finds what there was.
        let db = Db::locked(mem.after_crash(|_| 0), small_options(), small_keyspace());
        model.check(&db.default(), model.head());
    }
}

#[test]
fn when_the_manifest_cannot_be_written_reads_go_on_and_writes_say_why() {
    let (mem, model) = left();
    let (env, _, store) = simulated(&mem, 2);
    let kv = Kv::open(env, small_options(), small_keyspace(), Some(folder_lock())).unwrap();
    store.set_plan(FaultPlan {
        full: 0..u64::MAX,
        ..FaultPlan::default()
    });
    let full = kv.default_keyspace().put(b"new", b"1").unwrap_err();
    assert!(full.to_string().contains("no space left"), "{full}");
    let stopped = kv.default_keyspace().put(b"new", b"1").unwrap_err();
    assert!(matches!(stopped, Error::Stopped { .. }), "{stopped}");
    model.check(&kv.default_keyspace(), model.head());
    drop(kv);
    let db = Db::locked(mem, small_options(), small_keyspace());
    model.check(&db.default(), model.head());
    db.put("new", "1");
}

/// Holds up whoever writes a manifest.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn wait(&self) {
        let mut open = self.open.lock();
        while !*open {
            self.changed.wait(&mut open);
        }
    }

    fn open(&self) {
        *self.open.lock() = true;
        self.changed.notify_all();
    }
}

#[test]
fn open_does_not_wait_for_the_manifest_and_a_write_does() {
    let (mem, mut model) = left();
    let (env, _, store) = simulated(&mem, 2);
    let gate = Arc::new(Gate::default());
    store.on_call(Box::new({
        let gate = gate.clone();
        move |call| {
            if is_manifest(call) {
                gate.wait();
            }
        }
    }));
    let options = Options {
        background: Background::Threads,
        ..small_options()
    };
    let kv = Kv::open(env, options, small_keyspace(), Some(folder_lock())).unwrap();
    model.check(&kv.default_keyspace(), model.head());
    assert!(changes(&store).iter().all(is_manifest));
    let writer = std::thread::spawn({
        let kv = kv.clone();
        move || {
            let mut batch = Batch::new();
            batch.put(&kv.default_keyspace(), b"new", b"durable");
            kv.write(&batch, Durability::Durable).unwrap();
        }
    });
    // Reads go on while it waits.
    model.check(&kv.default_keyspace(), model.head());
    assert!(kv.default_keyspace().get(b"new").unwrap().is_none());
    gate.open();
    writer.join().unwrap();
    model.commit(&[("new", Some("durable"))]);
    store.crash();
    let db = Db::locked(mem.after_crash(|_| 0), small_options(), small_keyspace());
    model.check(&db.default(), model.head());
}

#[test]
fn every_open_has_an_epoch_of_its_own_however_short_it_is() {
    let mut mem = MemBlobs::new();
    let mut epochs = Vec::new();
    for n in 0..6 {
        let db = Db::locked(mem, small_options(), small_keyspace());
        if n % 2 == 0 {
            db.put(&format!("key{n}"), "value");
            db.kv.flush().unwrap();
        }
        epochs.extend(db.live().iter().map(|id| id.epoch()));
        db.store.crash();
        mem = db.mem.after_crash(|_| 0);
    }
    epochs.sort_unstable();
    epochs.dedup();
    // Those that wrote nothing needed none.
    assert_eq!(epochs, [1, 2, 3]);
}
