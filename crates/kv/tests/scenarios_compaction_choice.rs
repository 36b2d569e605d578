//! Acceptance scenarios 53-56: which tables a compaction by hand takes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, roomy_options};
use siltstone_kv::{CompactOptions, CompactOrder, KeyspaceOptions, SegmentId};
use siltstone_storage::Timestamp;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// Four tables an hour apart: small, large, smallest, largest. With their sizes and the hours.
fn four() -> (Db, Vec<SegmentId>, Vec<u64>, Vec<Timestamp>) {
    let keyspace = KeyspaceOptions {
        // Tables are as large as what was written.
        blob_threshold: Some(u32::MAX),
        ..KeyspaceOptions::default()
    };
    let db = Db::with(roomy_options(), keyspace);
    let mut rng = fastrand::Rng::with_seed(53);
    let (mut ids, mut hours) = (Vec::new(), Vec::new());
    for (at, size) in [2_000, 20_000, 200, 90_000].into_iter().enumerate() {
        hours.push(siltstone_storage::Clock::now(&*db.clock));
        // Random text, so that sizes survive compression.
        let value: String = std::iter::repeat_with(|| rng.alphanumeric())
            .take(size)
            .collect();
        ids.push(db.table(&[(&format!("key{at}"), &value)]));
        db.clock.advance(HOUR);
    }
    let bytes = |id: &SegmentId| db.kv.manifest().state.tables.get(id).unwrap().meta.bytes;
    let sizes = ids.iter().map(bytes).collect();
    (db, ids, sizes, hours)
}

fn picks(tables: &[SegmentId], at: &[usize]) -> Vec<SegmentId> {
    at.iter().map(|at| tables[*at]).collect()
}

#[test]
fn s53_each_order_takes_exactly_the_expected_two() {
    let cases = [
        (CompactOrder::OldestFirst, [0, 1]),
        (CompactOrder::NewestFirst, [3, 2]),
        (CompactOrder::SmallestFirst, [2, 0]),
        (CompactOrder::LargestFirst, [3, 1]),
    ];
    for (order, expected) in cases {
        let (db, tables, sizes, _) = four();
        let stats = db.compact(&CompactOptions {
            order,
            max_files: Some(2),
            ..Default::default()
        });
        assert_eq!(stats.inputs, picks(&tables, &expected), "{order:?}");
        assert_eq!(
            stats.bytes_read,
            expected.iter().map(|at| sizes[*at]).sum::<u64>()
        );
        assert_eq!(db.live().len(), 3);
        assert_eq!(db.rows().len(), 4);
    }
}

#[test]
fn s54_a_table_over_the_size_limit_is_passed_over_and_later_ones_are_taken() {
    let (db, tables, sizes, _) = four();
    let stats = db.compact(&CompactOptions {
        max_size: Some(sizes[0] + sizes[2]),
        ..Default::default()
    });
    assert_eq!(stats.inputs, picks(&tables, &[0, 2]));
}

#[test]
fn s55_nothing_happens_below_the_least_number_or_size() {
    let (db, tables, sizes, _) = four();
    let all: u64 = sizes.iter().sum();
    for options in [
        CompactOptions {
            min_files: 5,
            ..Default::default()
        },
        CompactOptions {
            min_files: 3,
            max_files: Some(2),
            ..Default::default()
        },
        CompactOptions {
            min_size: all + 1,
            ..Default::default()
        },
    ] {
        let stats = db.compact(&options);
        assert!(
            stats.inputs.is_empty() && stats.outputs.is_empty(),
            "{options:?}"
        );
        assert_eq!(db.live(), tables);
    }
    let stats = db.compact(&CompactOptions {
        min_files: 4,
        min_size: all,
        ..Default::default()
    });
    assert_eq!(stats.inputs.len(), 4);
}

#[test]
fn s56_tables_not_wholly_inside_the_times_are_untouched_and_still_read() {
    let (db, tables, _, hours) = four();
    let stats = db.compact(&CompactOptions {
        min_time: Some(hours[0]),
        max_time: Some(hours[2]),
        ..Default::default()
    });
    // A table's oldest write is only known to come after the commit before it, so the first table,
    // whose begin is unknown, is outside.
    assert_eq!(stats.inputs, picks(&tables, &[1, 2]));
    assert!(db.live().contains(&tables[0]) && db.live().contains(&tables[3]));
    assert_eq!(db.rows().len(), 4);
    let (db, tables, ..) = four();
    let later = CompactOptions {
        min_time: Some(hours[2]),
        ..Default::default()
    };
    assert_eq!(db.compact(&later).inputs, [tables[3]]);
}
