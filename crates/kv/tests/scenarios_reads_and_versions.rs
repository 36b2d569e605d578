//! Acceptance scenarios 1-12: reads and versions.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, roomy_options, text};
use siltstone_kv::{
    CompactOptions, CompactOrder, Error, History, KeyspaceOptions, Read, ScanOptions, Source,
};
use siltstone_storage::Timestamp;

#[test]
fn s01_a_compaction_of_non_adjacent_tables_does_not_hide_the_newest_version() {
    // Every pair of three tables, merged past the one between, leaves the newest in front.
    for skipped in 0..3 {
        let db = Db::new();
        let sizes = [[10, 400, 20], [400, 10, 20], [10, 20, 400]][skipped];
        for (at, size) in sizes.iter().enumerate() {
            db.put("k", &format!("v{at}"));
            db.put("filler", &"x".repeat(*size));
            db.flush_one();
        }
        let stats = db.compact(&CompactOptions {
            order: CompactOrder::SmallestFirst,
            max_files: Some(2),
            ..CompactOptions::default()
        });
        assert_eq!(stats.inputs.len(), 2);
        assert_eq!(db.get("k").as_deref(), Some("v2"), "large table {skipped}");
        assert_eq!(db.rows().iter().find(|row| row.0 == "k").unwrap().1, "v2");
    }
}

#[test]
fn s02_of_three_flushed_versions_the_newest_is_read_and_its_table_named() {
    let db = Db::new();
    db.table(&[("k", "v1")]);
    db.table(&[("k", "v2")]);
    let newest = db.table(&[("k", "v3")]);
    let (value, stats) = db.get_with_stats("k");
    assert_eq!(value.as_deref(), Some("v3"));
    assert_eq!(stats.source, Source::Table(newest));
    assert_eq!((stats.tables_read, stats.tables_skipped), (1, 2));
    assert_eq!(stats.commit.unwrap().0, 3);
}

#[test]
fn s03_a_tombstone_in_a_table_hides_the_value_and_is_the_source() {
    let db = Db::new();
    db.table(&[("k", "v1")]);
    db.delete("k");
    let tombstone = db.flush_one();
    let (value, stats) = db.get_with_stats("k");
    assert_eq!(value, None);
    assert_eq!(stats.source, Source::Table(tombstone));
    assert_eq!((stats.tables_read, stats.tables_skipped), (1, 1));
}

#[test]
fn s04_of_puts_and_deletes_spread_over_memtable_flush_and_compaction_the_last_wins() {
    for spread in 0u32..3u32.pow(4) {
        let db = Db::history(History::head_only());
        for step in 0..4 {
            let put = step % 2 == 0;
            let value = format!("v{step}");
            match put {
                true => db.put("k", &value),
                false => db.delete("k"),
            };
            match spread / 3u32.pow(step) % 3 {
                0 => {}
                1 => drop(db.kv.flush().unwrap()),
                _ => {
                    db.kv.flush().unwrap();
                    db.compact_all();
                }
            }
            assert_eq!(
                db.get("k"),
                put.then_some(value),
                "spread {spread}, step {step}"
            );
            assert_eq!(db.rows().len(), usize::from(put));
        }
    }
}

#[test]
fn s05_deleting_a_key_that_was_never_written_succeeds() {
    let db = Db::new();
    assert_eq!(db.delete("never").0, 1);
    assert_eq!(db.get("never"), None);
    db.kv.flush().unwrap();
    let (value, stats) = db.get_with_stats("never");
    assert_eq!(value, None);
    // With nothing to hide, the flush left the tombstone out.
    assert_eq!(stats.source, Source::None);
}

#[test]
fn s06_an_empty_value_is_returned_by_get_and_scan() {
    let db = Db::new();
    db.put("k", "");
    for _ in 0..2 {
        assert_eq!(db.get("k").as_deref(), Some(""));
        assert_eq!(db.rows(), [("k".to_string(), String::new())]);
        db.kv.flush().unwrap();
    }
}

#[test]
fn s07_an_empty_key_is_refused_everywhere() {
    let db = Db::new();
    let keyspace = db.default();
    let refused = |error: Error| {
        assert!(matches!(
            error,
            Error::KeyLength {
                len: 0,
                max: 65_535
            }
        ))
    };
    refused(keyspace.put(b"", b"v").unwrap_err());
    refused(keyspace.delete(b"").unwrap_err());
    refused(keyspace.get(b"").unwrap_err());
    let mut batch = siltstone_kv::Batch::new();
    batch.put(&keyspace, b"good", b"").put(&keyspace, b"", b"");
    refused(db.kv.write(&batch, Default::default()).unwrap_err());
    assert_eq!(db.rows(), []);
    assert_eq!(db.kv.head().0, 0, "a refused write uses no number");
}

#[test]
fn s08_versions_of_equal_time_are_ordered_by_commit_everywhere() {
    let db = Db::history(History::everything());
    // The clock does not move between these.
    for n in 1..=4 {
        db.put("k", &format!("v{n}"));
        if n % 2 == 0 {
            db.kv.flush().unwrap();
        }
    }
    for _ in 0..2 {
        assert_eq!(db.get("k").as_deref(), Some("v4"));
        assert_eq!(db.rows()[0].1, "v4");
        let reverse = db
            .default()
            .scan_with::<&[u8]>(.., ScanOptions::reverse())
            .unwrap();
        assert_eq!(common::rows(reverse)[0].1, "v4");
        let versions = siltstone_kv::history(&db.default(), b"k").unwrap();
        let values: Vec<_> = versions
            .iter()
            .map(|v| text(v.value.as_ref().unwrap()))
            .collect();
        assert_eq!(values, ["v4", "v3", "v2", "v1"]);
        db.compact_all();
    }
}

#[test]
fn s09_the_later_put_wins_when_the_clock_steps_back() {
    let db = Db::new();
    db.put("k", "earlier");
    db.kv.flush().unwrap();
    db.clock.set_wall(Timestamp(1_000_000));
    db.put("k", "later");
    assert_eq!(db.get("k").as_deref(), Some("later"));
    db.kv.flush().unwrap();
    assert_eq!(db.get("k").as_deref(), Some("later"));
    db.compact_all();
    assert_eq!(db.get("k").as_deref(), Some("later"));
    let db = db.reopen();
    assert_eq!(db.get("k").as_deref(), Some("later"));
}

#[test]
fn s10_of_a_hundred_tables_over_the_key_at_most_two_are_searched() {
    let db = Db::new();
    for n in 0..100 {
        match n == 37 {
            true => db.table(&[("a", ""), ("k", "here"), ("z", "")]),
            false => db.table(&[("a", ""), (&format!("k{n}"), ""), ("z", "")]),
        };
    }
    let (value, stats) = db.get_with_stats("k");
    assert_eq!(value.as_deref(), Some("here"));
    assert!(stats.tables_read <= 2, "{stats:?}");
    assert_eq!(stats.tables_read + stats.tables_skipped, 100);
}

#[test]
fn s11_the_newest_version_is_found_when_one_key_fills_several_index_entries() {
    let history = History::everything();
    let keyspace = KeyspaceOptions {
        history,
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let db = Db::with(roomy_options(), keyspace);
    db.put("a", "");
    for n in 0..2_000 {
        db.put("k", &format!("version {n}"));
    }
    db.put("z", "");
    db.kv.flush().unwrap();
    let meta = db.kv.manifest().state.tables.live()[0].meta.clone();
    assert!(meta.blocks > 50, "{meta:?}");
    assert_eq!(db.get("k").as_deref(), Some("version 1999"));
    for n in [0u64, 1, 77, 1_000, 1_998] {
        let read = db
            .default()
            .get_at(b"k", siltstone_kv::Commit(n + 2))
            .unwrap()
            .unwrap();
        assert_eq!(text(&read), format!("version {n}"));
    }
    let (_, stats) = db.get_with_stats("k");
    assert_eq!(stats.records_scanned, 1);
}

#[test]
fn s12_a_damaged_filter_or_index_gives_the_right_answer_or_an_error_that_names_the_file() {
    let keyspace = KeyspaceOptions {
        block_bytes: 512,
        ..KeyspaceOptions::default()
    };
    let build = || {
        let db = Db::with(roomy_options(), keyspace.clone());
        for n in 0..200 {
            db.put(&format!("key{n:03}"), &format!("value {n}"));
        }
        let id = db.flush_one();
        (db, id)
    };
    let (db, _) = build();
    let meta = db.kv.manifest().state.tables.live()[0].meta.clone();
    let mut errors = 0;
    for at in (meta.index_at..meta.bytes).step_by(7) {
        let (db, id) = build();
        db.mem.flip_byte(&id.blob(), at as usize);
        for n in [0, 99, 199] {
            match db.default().get(format!("key{n:03}").as_bytes()) {
                Ok(value) => assert_eq!(text(&value.unwrap()), format!("value {n}"), "byte {at}"),
                Err(error) => {
                    errors += 1;
                    assert!(error.to_string().contains(&id.blob()), "{error}");
                }
            }
        }
    }
    assert!(errors > 0);
    let (db, id) = build();
    siltstone_storage::Blobs::delete(&db.mem, &id.blob()).unwrap();
    let error = db.default().get(b"key000").unwrap_err().to_string();
    assert!(error.contains(&id.blob()), "{error}");
}
