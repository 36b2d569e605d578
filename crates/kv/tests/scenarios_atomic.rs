//! Acceptance scenarios 16-22: compaction is complete or absent, acknowledged writes survive.
//! Scenarios 13-15 walk every call of the store: `crash_walk.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, files, roomy_options, rows, simulated};
use parking_lot::Mutex;
use siltstone_kv::{
    Batch, CompactOptions, Durability, Error, History, KeyspaceOptions, Kv, Options, Read,
    WalRecovery,
};
use siltstone_storage::{CallKind, Env, FaultPlan, FolderLock, Injected, LocalBlobs, MemBlobs};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

#[test]
fn s16_a_read_that_started_before_a_compaction_finishes_on_its_inputs() {
    let db = Db::history(History::head_only());
    for round in 0..3 {
        for n in 0..50 {
            db.put(&format!("key{n:02}"), &format!("{round}"));
        }
        db.kv.flush().unwrap();
    }
    let mut scan = db.default().scan::<&[u8]>(..).unwrap();
    assert!(scan.next());
    let inputs = db.files();
    for n in 0..50 {
        db.put(&format!("key{n:02}"), "new");
    }
    db.kv.flush().unwrap();
    let stats = db.compact_all();
    assert_eq!(stats.dropped, 150);
    assert!(inputs.is_subset(&db.files()), "the scan holds its tables");
    let mut seen = 1;
    while scan.next() {
        assert_eq!(scan.value(), b"2");
        seen += 1;
    }
    assert_eq!((seen, scan.error().is_none()), (50, true));
    drop(scan);
    db.kv.work().unwrap();
    assert!(inputs.is_disjoint(&db.files()), "its last reader left");
    db.assert_no_orphan();
}

#[test]
fn s17_of_two_compactions_racing_for_an_input_one_wins_and_the_other_leaves_nothing() {
    let options = Options {
        max_compactions: 2,
        ..roomy_options()
    };
    let db = Db::with(options, KeyspaceOptions::default());
    db.table(&[("a", "1"), ("k", "1")]);
    db.table(&[("b", "2"), ("k", "2")]);
    let before = db.rows();
    let rival = Arc::new(Mutex::new(Some(db.default())));
    let won = Arc::new(Mutex::new(None));
    let answer = won.clone();
    db.store.on_call(Box::new(move |call| {
        // When the first compaction finishes its table, the second runs from start to end.
        let rival = match call.kind {
            CallKind::Finish => rival.lock().take(),
            _ => None,
        };
        if let Some(keyspace) = rival {
            let stats = keyspace
                .compact(&CompactOptions::default())
                .map_err(|failed| failed.error);
            *answer.lock() = Some(stats.unwrap());
        }
    }));
    let failed = db
        .default()
        .compact(&CompactOptions::default())
        .unwrap_err();
    let (error, stats) = (failed.error, failed.stats);
    db.store.clear_hook();
    assert!(matches!(error, Error::CompactionLost { .. }), "{error}");
    assert_eq!((stats.inputs.len(), stats.outputs.len()), (2, 0));
    let winner = won.lock().take().unwrap();
    assert_eq!(db.live(), winner.outputs);
    db.kv.work().unwrap();
    assert_eq!(
        db.files(),
        winner.outputs.iter().map(|id| id.blob()).collect()
    );
    assert_eq!(db.rows(), before);
}

#[test]
fn s18_a_compaction_that_keeps_nothing_makes_no_table() {
    let db = Db::history(History::head_only());
    db.table(&[("a", "1"), ("b", "2")]);
    db.delete("a");
    db.delete("b");
    db.kv.flush().unwrap();
    let stats = db.compact_all();
    assert_eq!(
        (stats.inputs.len(), stats.outputs.len(), stats.dropped),
        (2, 0, 4)
    );
    assert_eq!(
        (stats.entries, stats.bytes_written, stats.error),
        (0, 0, None)
    );
    db.kv.work().unwrap();
    assert!(db.live().is_empty() && db.files().is_empty());
    assert_eq!(db.rows(), []);
}

#[test]
fn s19_after_a_hundred_compactions_files_and_indexes_equal_the_live_tables() {
    let db = Db::history(History::head_only());
    for round in 0..100 {
        for n in 0..10 {
            db.put(&format!("key{n}"), &format!("{round}"));
        }
        db.kv.flush().unwrap();
        assert_eq!(db.rows().len(), 10);
        db.compact_all();
    }
    db.kv.work().unwrap();
    let live = db.live();
    assert_eq!(db.files(), live.iter().map(|id| id.blob()).collect());
    assert_eq!(db.rows()[0].1, "99");
    let index_and_filter: u64 = db
        .kv
        .manifest()
        .state
        .tables
        .live()
        .iter()
        .map(|segment| segment.meta.bytes - segment.meta.index_at)
        .sum();
    // The short cut through the index of a table of one block: a number, a slot, and the slots' list.
    let short_cuts = (8 + 16 + 16) * live.len() as u64;
    assert_eq!(
        db.kv.stats().pinned_bytes,
        index_and_filter + short_cuts,
        "of live tables only"
    );
    assert_eq!(db.kv.cached_tables(), live.into_iter().collect());
    assert_eq!(db.kv.stats().retired_tables, 0);
}

const FOLDER: &str = "SILTSTONE_TEST_FOLDER";

fn open_folder(path: &Path) -> Kv {
    let blobs = LocalBlobs::create(path).unwrap();
    let lock = FolderLock::take(path).unwrap();
    blobs.remove_leftovers().unwrap();
    let options = Options {
        background: siltstone_kv::Background::Threads,
        ..common::small_options()
    };
    let keyspace = KeyspaceOptions {
        history: History::head_only(),
        ..KeyspaceOptions::default()
    };
    Kv::open(Env::system(Arc::new(blobs)), options, keyspace, Some(lock)).unwrap()
}

/// The process that is killed: writes `n -> n` in order, every fourth durably, and says which of
/// them are acknowledged.
#[test]
#[ignore = "run by s20, which kills it"]
fn s20_writer() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let kv = open_folder(Path::new(&folder));
    let keyspace = kv.default_keyspace();
    let mut out = std::io::stdout();
    for n in kv.head().0 + 1.. {
        let durability = match n % 4 {
            0 => Durability::Durable,
            _ => Durability::Buffered,
        };
        let key = format!("key{:04}", n % 500);
        let done = keyspace
            .put_with(key.as_bytes(), n.to_string().as_bytes(), durability)
            .unwrap();
        assert_eq!(done.commit.0, n);
        if durability == Durability::Durable {
            writeln!(out, "\nack {n}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn s20_after_kill_9_the_recovered_writes_are_a_prefix_that_covers_all_acknowledged_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut before = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "s20_writer", "--ignored", "--nocapture"])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acknowledged = 0;
        let wanted = before + 100 + round * 37;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while acknowledged < wanted {
            let line = lines.next().expect("the writer ended early").unwrap();
            if let Some(n) = line.strip_prefix("ack ") {
                acknowledged = n.parse().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too.
        for line in lines.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("ack ").and_then(|n| n.parse().ok()) {
                acknowledged = n;
            }
        }
        let kv = open_folder(&path);
        let head = kv.head().0;
        assert!(
            head >= acknowledged,
            "round {round}: {head} < {acknowledged}"
        );
        let expected: std::collections::BTreeMap<_, _> = (1..=head)
            .map(|n| (format!("key{:04}", n % 500), n.to_string()))
            .collect();
        let found = rows(kv.default_keyspace().scan::<&[u8]>(..).unwrap());
        assert_eq!(
            found,
            expected.into_iter().collect::<Vec<_>>(),
            "round {round}"
        );
        kv.close().unwrap();
        before = head;
    }
}

fn three_durable_puts() -> (MemBlobs, String) {
    let db = Db::new();
    for n in 1..=3 {
        db.put(&format!("k{n}"), &"v".repeat(20));
    }
    db.store.crash();
    let log = files(&db.mem, "wal/").pop_last().unwrap();
    (db.mem.after_crash(|_| 0), log)
}

fn reopen(mem: &MemBlobs, wal_recovery: WalRecovery) -> siltstone_kv::Result<Kv> {
    let (env, _, _) = simulated(mem, 2);
    let options = Options {
        wal_recovery,
        ..roomy_options()
    };
    Kv::open(env, options, KeyspaceOptions::default(), None)
}

#[test]
fn s21_a_torn_last_record_is_dropped_and_damage_before_intact_ones_is_refused() {
    let (mem, log) = three_durable_puts();
    let mut offsets = Vec::new();
    siltstone_kv::inspect::wal(&mem, &log, |record| offsets.push(record.offset as usize)).unwrap();
    assert_eq!(offsets.len(), 3);
    let whole = siltstone_storage::Blobs::get(&mem, &log).unwrap().len();
    for cut in offsets[2]..whole {
        let (mem, log) = three_durable_puts();
        mem.truncate(&log, cut);
        let kv = reopen(&mem, WalRecovery::Strict).unwrap();
        assert_eq!(kv.head().0, 2, "cut at {cut}");
        assert_eq!(kv.open_stats().torn_bytes, (cut - offsets[2]) as u64);
        assert_eq!(
            rows(kv.default_keyspace().scan::<&[u8]>(..).unwrap()).len(),
            2
        );
        // What is written after a torn tail is found behind it.
        let next = kv.default_keyspace().put(b"k4", b"").unwrap();
        assert_eq!(next.commit.0, 3);
        drop(kv);
        let kv = reopen(&mem.after_crash(|_| 0), WalRecovery::Strict).unwrap();
        assert_eq!(kv.head().0, 3);
    }
    for at in offsets[1]..offsets[2] {
        let (mem, log) = three_durable_puts();
        mem.flip_byte(&log, at);
        match reopen(&mem, WalRecovery::Strict).unwrap_err() {
            Error::WalDamaged {
                name,
                offset,
                good_until,
                ..
            } => {
                assert_eq!((name, offset, good_until.0), (log, offsets[1] as u64, 1));
            }
            other => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn s21_what_is_written_after_a_recovery_that_gave_up_damage_is_never_given_up() {
    let (mem, log) = three_durable_puts();
    let mut offsets = Vec::new();
    siltstone_kv::inspect::wal(&mem, &log, |record| offsets.push(record.offset as usize)).unwrap();
    mem.flip_byte(&log, offsets[1] + 50);
    let kv = reopen(&mem, WalRecovery::Truncate).unwrap();
    assert_eq!(kv.head().0, 1);
    assert_eq!(
        kv.default_keyspace().put(b"after", b"").unwrap().commit.0,
        2
    );
    for recovery in [WalRecovery::Strict, WalRecovery::Truncate] {
        // No close: the machine stops.
        let mem = mem.after_crash(|_| 0);
        let kv = reopen(&mem, recovery).unwrap();
        let found = common::keys(kv.default_keyspace().scan::<&[u8]>(..).unwrap());
        assert_eq!(found, ["after", "k1"], "{recovery:?}");
    }
}

#[test]
fn s22_a_failed_fsync_stops_writes_until_the_database_is_reopened() {
    let db = Db::new();
    db.put("before", "1");
    let next_sync = db.store.calls() + 2;
    db.store
        .set_plan(FaultPlan::at(next_sync, Injected::ErrorBefore));
    let error = db.default().put(b"k", b"2").unwrap_err();
    assert_eq!(db.store.trace().last().unwrap().kind, CallKind::Sync);
    assert!(error.to_string().contains("sync"), "{error}");
    for _ in 0..2 {
        let refused = db
            .default()
            .put_with(b"k", b"3", Durability::Buffered)
            .unwrap_err();
        assert!(matches!(refused, Error::Stopped { .. }), "{refused}");
    }
    let mut batch = Batch::new();
    batch.put(&db.default(), b"k", b"3");
    assert!(matches!(
        db.kv.write(&batch, Durability::Durable),
        Err(Error::Stopped { .. })
    ));
    assert!(matches!(db.kv.sync(), Err(Error::Stopped { .. })));
    assert!(matches!(db.kv.flush(), Err(Error::Stopped { .. })));
    assert_eq!(db.get("before").as_deref(), Some("1"), "reads go on");
    assert_eq!(db.get("k"), None, "what was not acknowledged is not shown");
    let db = db.power_cut();
    assert_eq!(db.get("before").as_deref(), Some("1"));
    db.put("k", "4");
    assert_eq!(db.get("k").as_deref(), Some("4"));
}

#[test]
fn s22_a_failed_fsync_or_write_while_the_log_moves_to_its_next_file_stops_writes_too() {
    // What is left of the old file; the new one with its header; the old one, which is durable last.
    for (after, kind, fault) in [
        (1, CallKind::Append, Injected::HalfWrite { bytes: 30 }),
        (1, CallKind::Append, Injected::ErrorAfter),
        (2, CallKind::OpenAppend, Injected::ErrorAfter),
        (3, CallKind::Append, Injected::HalfWrite { bytes: 30 }),
        (4, CallKind::Sync, Injected::ErrorAfter),
        (5, CallKind::Sync, Injected::ErrorBefore),
    ] {
        let db = Db::new();
        db.put("acknowledged", "1");
        db.default()
            .put_with(b"buffered", b"2", Durability::Buffered)
            .unwrap();
        let at = db.store.calls() + after;
        db.store.set_plan(FaultPlan::at(at, fault));
        db.kv.flush().unwrap_err();
        assert_eq!(db.store.trace()[at as usize - 1].kind, kind);
        let later = db.default().put(b"later", b"3").unwrap_err();
        assert!(matches!(later, Error::Stopped { .. }), "{later}");
        let db = db.power_cut();
        assert_eq!(db.get("acknowledged").as_deref(), Some("1"));
    }
}
