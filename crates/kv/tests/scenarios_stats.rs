//! Acceptance scenarios 72-74: statistics are exact.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, roomy_options};
use siltstone_kv::{
    Batch, CompactOptions, Durability, FlushStats, GetStats, KeyspaceOptions, Options, PutStats,
    Read, ScanOptions, ScanStats, Source,
};
use siltstone_storage::{CallKind, FaultPlan, Injected};
use std::time::Duration;

#[test]
fn s72_a_put_says_its_commit_destination_latency_and_retries() {
    let db = Db::new();
    let expected = |n: u64| PutStats {
        commit: siltstone_kv::Commit(n),
        destination: Source::Memtable,
        latency: Duration::ZERO,
        retries: 0,
    };
    let keyspace = db.default();
    assert_eq!(keyspace.put(b"k", b"v").unwrap(), expected(1));
    assert_eq!(keyspace.delete(b"k").unwrap(), expected(2));
    let mut batch = Batch::new();
    batch.put(&keyspace, b"a", b"").put(&keyspace, b"b", b"");
    assert_eq!(
        db.kv.write(&batch, Durability::Buffered).unwrap(),
        expected(3)
    );
    // The clock moves while the fsync takes its time.
    let mut plan = FaultPlan {
        seed: 1,
        ..FaultPlan::default()
    };
    plan.at.insert(
        db.store.calls() + 2,
        Injected::Delay(Duration::from_millis(7)),
    );
    db.store.set_plan(plan);
    let slow = keyspace.put(b"k", b"v").unwrap();
    assert_eq!(db.store.trace().last().unwrap().kind, CallKind::Sync);
    assert_eq!(slow.latency, Duration::from_millis(7));
}

#[test]
fn s72_retries_count_how_often_a_writer_waited_for_room() {
    let options = Options {
        memtable_bytes: 64 << 10,
        ..roomy_options()
    };
    let db = Db::with(options, KeyspaceOptions::default());
    let mut waited = 0;
    for n in 0..60 {
        let value = vec![0; 10_000];
        waited += db
            .default()
            .put(format!("key{n}").as_bytes(), &value)
            .unwrap()
            .retries;
    }
    assert!(waited > 0);
    assert!(db.kv.stats().totals.flushes >= u64::from(waited));
}

#[test]
fn s72_a_get_says_where_it_found_the_key_and_what_it_looked_at() {
    let db = Db::new();
    let first = db.table(&[("a", "1"), ("k", "1"), ("z", "1")]);
    db.table(&[("a", "2"), ("b", "2")]);
    db.table(&[("x", "3"), ("z", "3")]);
    let stats = |key: &str| db.get_with_stats(key).1;
    let expected = GetStats {
        source: Source::Table(first),
        commit: Some(siltstone_kv::Commit(2)),
        tables_read: 1,
        tables_skipped: 2,
        blocks_read: 1,
        records_scanned: 1,
        latency: Duration::ZERO,
    };
    assert_eq!(stats("k"), expected);
    assert_eq!(stats("k"), expected, "from the cache the same is looked at");
    db.put("k", "4");
    let memtable = GetStats {
        source: Source::Memtable,
        commit: Some(siltstone_kv::Commit(8)),
        records_scanned: 1,
        ..GetStats::default()
    };
    assert_eq!(stats("k"), memtable);
    let nowhere = GetStats {
        tables_skipped: 3,
        ..GetStats::default()
    };
    assert_eq!(stats("zz"), nowhere);
    let snapshot = db.default().at_commit(siltstone_kv::Commit(3)).unwrap();
    let (value, old) = snapshot.get_with_stats(b"z").unwrap();
    assert_eq!(&value.unwrap()[..], b"1");
    assert_eq!((old.source, old.tables_read), (Source::Table(first), 1));
}

#[test]
fn s72_flush_and_compaction_say_what_they_wrote_and_dropped() {
    let db = Db::history(siltstone_kv::History::head_only());
    db.put("a", "1");
    db.put("a", "2");
    db.put("b", "3");
    let flushed = db.kv.flush().unwrap();
    let id = flushed.tables[0];
    let size = |id: &siltstone_kv::SegmentId| {
        siltstone_storage::Blobs::get(&db.mem, &id.blob())
            .unwrap()
            .len() as u64
    };
    let expected = FlushStats {
        tables: vec![id],
        entries: 2,
        dropped: 1,
        bytes: size(&id),
        latency: Duration::ZERO,
    };
    assert_eq!(flushed, expected);
    let second = db.table(&[("a", "4")]);
    let (bytes_read, inputs) = (size(&id) + size(&second), vec![id, second]);
    let compacted = db.compact_all();
    assert_eq!(compacted.inputs, inputs);
    assert_eq!(
        (compacted.entries, compacted.dropped, compacted.level),
        (2, 1, 1)
    );
    assert_eq!(
        (compacted.bytes_read, compacted.error.as_deref()),
        (bytes_read, None)
    );
    assert_eq!(compacted.bytes_written, size(&compacted.outputs[0]));
    let totals = db.kv.stats().totals;
    assert_eq!(
        (totals.commits, totals.flushes, totals.compactions),
        (4, 2, 1)
    );
    assert_eq!((totals.dropped_versions, totals.syncs), (2, 4));
    assert_eq!(totals.user_bytes, 8);
    assert_eq!(totals.compaction_bytes, compacted.bytes_written);
}

#[test]
fn s73_the_stats_of_a_scan_are_exact_at_every_moment() {
    for options in [ScanOptions::default(), ScanOptions::reverse()] {
        let db = Db::new();
        db.table(&[("a", "1"), ("b", "1"), ("c", "1")]);
        db.table(&[("b", "2"), ("d", "2")]);
        db.delete("c");
        let mut scan = db.default().scan_with::<&[u8]>(.., options).unwrap();
        let before = ScanStats {
            commit: db.kv.head(),
            sources: 3,
            ..ScanStats::default()
        };
        assert_eq!(
            scan.stats(),
            before,
            "nothing is read before the first row is asked for"
        );
        for rows in 1..=3 {
            assert!(scan.next());
            assert_eq!(scan.stats().rows, rows);
        }
        assert!(!scan.next());
        let stats = scan.stats();
        assert_eq!(
            (stats.rows, stats.records_scanned, stats.tables_read),
            (3, 6, 2)
        );
        assert_eq!((stats.blocks_read, stats.tables_skipped), (2, 0));
        scan.close();
        assert_eq!(scan.stats(), stats);
    }
}

#[test]
fn s74_a_failed_compaction_names_its_inputs_and_its_error() {
    let db = Db::new();
    let inputs = vec![db.table(&[("a", "1")]), db.table(&[("a", "2")])];
    db.rows();
    let mut failures = 0;
    for after in 1.. {
        db.store.set_plan(FaultPlan::at(
            db.store.calls() + after,
            Injected::ErrorBefore,
        ));
        let Err(failed) = db.default().compact(&CompactOptions::default()) else {
            break;
        };
        failures += 1;
        assert_eq!(failed.stats.inputs, inputs);
        assert!(failed.stats.outputs.is_empty());
        assert_eq!(
            failed.stats.error.as_deref(),
            Some(failed.error.to_string().as_str())
        );
        assert!(failed.error.to_string().contains("planned failure"));
        assert_eq!(db.live(), inputs);
    }
    assert!(failures >= 3);
    let _: &Db = &db;
}
