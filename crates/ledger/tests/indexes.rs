//! Scenarios 31 and 32: indexes, queries, what a put costs, reopening, merges, prunes, damage, crashes.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::*;
use serde_json::{Value, json};
use siltstone_ledger::crypto::{KeyRing, SystemEntropy};
use siltstone_ledger::{
    BulkWrite, Emitter, Error, Index, IndexRow, Keep, Ledger, Options, Query, encode_key,
};
use siltstone_storage::{Blobs, Env, FaultPlan, FaultyBlobs, ManualClock, MemBlobs};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FOLDER: &str = "LEDGER_INDEX_FOLDER";

fn rows_of(rows: &[IndexRow]) -> Vec<(Value, &str)> {
    rows.iter()
        .map(|row| (row.key.clone(), &row.id[..]))
        .collect()
}

/// An index by the field `n` that counts how often its map function ran.
fn counted(ledger: &Ledger, version: u64) -> (Index, Arc<AtomicU64>) {
    let runs = Arc::new(AtomicU64::new(0));
    let count = runs.clone();
    let map = move |_: &str, document: &siltstone_ledger::Document, out: &mut Emitter| {
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(n) = document.field(&["n"]) {
            out.emit(n, version);
        }
    };
    (ledger.index("by-n", version, map).unwrap(), runs)
}

/// The rows of `by-n` as a plain sort of all documents has them.
fn plain(ledger: &Ledger) -> Vec<(Value, String)> {
    let found = rows(ledger).into_iter();
    let keyed = found.filter_map(|row| Some((row.document?.field(&["n"])?, row.id)));
    let mut keyed: Vec<_> = keyed.collect();
    keyed.sort_by_key(|(key, id)| (encode_key(key), id.clone()));
    keyed
}

fn agrees(ledger: &Ledger, index: &Index) {
    let found = index.query(&Query::default()).unwrap();
    let found: Vec<_> = found.into_iter().map(|row| (row.key, row.id)).collect();
    assert_eq!(found, plain(ledger));
}

fn of_all_kinds(ledger: &Ledger) {
    let values = json!([
        {}, [], "", "b", "a", 10, 9, 9.5, 0, -1, true, false, null, [1, 2], [1], ["a"], {"a": 1},
        1e300, 18_446_744_073_709_551_615_u64, "\u{0}", "ä", -1e-300
    ]);
    for (at, value) in values.as_array().unwrap().iter().enumerate() {
        ledger
            .put(&key(at as u64), &doc(json!({"n": value, "at": at})))
            .unwrap();
    }
    ledger.put("without", &doc(json!({"m": 1}))).unwrap();
}

#[test]
#[ignore = "the other side of the tests here"]
fn fresh_process() {
    answer_as_fresh_process();
}

/// A process that never saw the ledger queries the index: the same rows, and the map did not run.
#[test]
#[ignore = "the other side of the tests here"]
fn fresh_query() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let ledger = in_folder(Path::new(&folder), quiet());
    let (index, runs) = counted(&ledger, 1);
    agrees(&ledger, &index);
    assert_eq!(runs.load(Ordering::Relaxed), 0);
}

fn queried_in_a_fresh_process(folder: &Path) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fresh_query", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

#[test]
fn s31_rows_come_in_order_by_key_range_prefix_and_limit() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    of_all_kinds(&ledger);
    let index = ledger.index_by_field("n").unwrap();
    let all = index.query(&Query::default()).unwrap();
    let keys: Vec<_> = all.iter().map(|row| row.key.clone()).collect();
    let expected = json!([
        null, false, true, -1, -1e-300, 0, 9, 9.5, 10, 18_446_744_073_709_551_615_u64, 1e300, "",
        "\u{0}", "a", "b", "ä", [], [1], [1, 2], ["a"], {}, {"a": 1}
    ]);
    assert_eq!(keys, *expected.as_array().unwrap());
    assert!(
        all.iter()
            .all(|row| row.document == Some(ledger.get(&row.id).unwrap()))
    );

    // A key that is falsy elsewhere is a key here.
    for key in [
        json!(0),
        json!(""),
        json!(false),
        json!(null),
        json!(0.0),
        json!([]),
    ] {
        let found = index.query(&Query::key(key.clone())).unwrap();
        assert_eq!(found.len(), 1, "{key}");
        assert_eq!(encode_key(&found[0].key), encode_key(&key));
    }
    assert!(index.query(&Query::key(7)).unwrap().is_empty());

    let several = Query {
        limit: Some(2),
        descending: true,
        include_docs: false,
        ..Query::keys([json!(0), json!("b"), json!(10), json!(11), json!(0)])
    };
    let found = index.query(&several).unwrap();
    let found: Vec<_> = found.iter().map(|row| (&row.key, &row.document)).collect();
    assert_eq!(found, [(&json!("b"), &None), (&json!(10), &None)]);
    assert!(index.query(&Query::keys([])).unwrap().is_empty());

    let ranges = [
        (Included(json!(0)), Excluded(json!(10)), 3),
        (Excluded(json!(0)), Included(json!(10)), 3),
        (Unbounded, Excluded(json!(false)), 1),
        (Included(json!([])), Unbounded, 6),
        (Included(json!(10)), Included(json!(0)), 0),
        (Excluded(json!(0)), Excluded(json!(0)), 0),
        (Included(json!(9.5)), Included(json!(9.5)), 1),
    ];
    for (from, to, count) in ranges {
        let found = index
            .query(&Query::range(from.clone(), to.clone()))
            .unwrap();
        assert_eq!(found.len(), count, "{from:?} {to:?}");
    }
    let prefix = index.query(&Query::prefix([json!(1)])).unwrap();
    assert_eq!(rows_of(&prefix).len(), 2);
    assert_eq!(index.query(&Query::prefix([])).unwrap().len(), 4);
    let within = Query {
        key: Some(json!([1, 2])),
        ..Query::prefix([json!(1)])
    };
    assert_eq!(index.query(&within).unwrap().len(), 1);

    // Nested fields, places in arrays, the id.
    ledger
        .put("deep", &doc(json!({"a": {"b": [7, 8]}})))
        .unwrap();
    let deep = ledger.index_by_field("a.b.1").unwrap();
    assert_eq!(
        rows_of(&deep.query(&Query::key(8)).unwrap()),
        [(json!(8), "deep")]
    );
    let ids = ledger.index_by_field("_id").unwrap();
    assert_eq!(ids.query(&Query::key("deep")).unwrap().len(), 1);

    // Several rows of a document, with values; the same key twice.
    let tags = |id: &str, document: &siltstone_ledger::Document, out: &mut Emitter| {
        for tag in document
            .field(&["tags"])
            .iter()
            .flat_map(|tags| tags.as_array())
            .flatten()
        {
            out.emit(tag.clone(), id);
        }
    };
    ledger
        .put("x", &doc(json!({"tags": ["red", "blue", "red"]})))
        .unwrap();
    ledger.put("y", &doc(json!({"tags": ["red"]}))).unwrap();
    let tags = ledger.index("tags", 1, tags).unwrap();
    let found = tags.query(&Query::key("red")).unwrap();
    assert_eq!(rows_of(&found).len(), 3);
    assert_eq!(found[0].value, "x");
    let limited = Query {
        limit: Some(1),
        ..Query::key("red")
    };
    assert_eq!(tags.query(&limited).unwrap().len(), 1);
    ledger.put("x", &doc(json!({"tags": ["blue"]}))).unwrap();
    assert_eq!(
        rows_of(&tags.query(&Query::key("red")).unwrap()),
        [(json!("red"), "y")]
    );
    assert!(ledger.index("bad/name", 1, |_, _, _| {}).is_err());
    assert!(ledger.index_by_field("").is_err());
    drop((index, tags, ids, deep));
    let (index, _) = counted(&ledger, 1);
    agrees(&ledger, &index);
    drop(index);
    drop_and_compare(ledger, folder.path());
    queried_in_a_fresh_process(folder.path());
}

#[test]
fn s31_keys_longer_than_what_is_stored_are_told_apart() {
    let ledger = in_memory(&MemBlobs::new(), quiet());
    let long = |end: &str| format!("{}{end}", "x".repeat(5000));
    for end in ["a", "b", "c"] {
        ledger.put(end, &doc(json!({"n": long(end)}))).unwrap();
    }
    ledger.put("short", &doc(json!({"n": "x"}))).unwrap();
    let index = ledger.index_by_field("n").unwrap();
    let found = index.query(&Query::key(long("b"))).unwrap();
    assert_eq!(rows_of(&found), [(json!(long("b")), "b")]);
    let from = |bound| index.query(&Query::range(bound, Unbounded)).unwrap().len();
    assert_eq!(from(Included(json!(long("b")))), 2);
    assert_eq!(from(Excluded(json!(long("b")))), 1);
    assert_eq!(from(Unbounded), 4);
    let to = |bound| index.query(&Query::range(Unbounded, bound)).unwrap().len();
    assert_eq!(to(Excluded(json!(long("b")))), 2);
    assert_eq!(to(Included(json!(long("b")))), 3);
}

#[test]
fn s32_a_put_runs_the_map_once_and_reopening_never() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = in_folder(folder.path(), quiet());
    (0..500).for_each(|n| put(&ledger, n));
    let (index, runs) = counted(&ledger, 1);
    agrees(&ledger, &index);
    assert_eq!(runs.swap(0, Ordering::Relaxed), 500);
    put(&ledger, 1000);
    agrees(&ledger, &index);
    agrees(&ledger, &index);
    assert_eq!(runs.swap(0, Ordering::Relaxed), 1);
    ledger.delete(&key(3)).unwrap();
    ledger.compact().unwrap();
    agrees(&ledger, &index);
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    drop(index);
    drop_and_compare(ledger, folder.path());
    queried_in_a_fresh_process(folder.path());
    // A process that is killed after a flush leaves nothing to be done either.
    let ledger = in_folder(folder.path(), quiet());
    let (index, runs) = counted(&ledger, 1);
    put(&ledger, 1001);
    agrees(&ledger, &index);
    assert_eq!(runs.swap(0, Ordering::Relaxed), 1);
    index.flush();
    // Another version is another function.
    let (newer, runs) = counted(&ledger, 2);
    agrees(&ledger, &newer);
    assert_eq!(runs.load(Ordering::Relaxed), 501);
    assert_eq!(newer.query(&Query::key(7)).unwrap()[0].value, 2);
    let files = names(&folder_blobs(folder.path()), "index");
    assert_eq!(files.len(), 1, "{files:?}");
    newer.forget().unwrap();
    assert!(names(&folder_blobs(folder.path()), "index").is_empty());
    agrees(&ledger, &newer);
}

#[test]
fn s32_an_index_agrees_with_a_plain_sort_whatever_happens() {
    let mut rng = fastrand::Rng::with_seed(11);
    for round in 0..6 {
        let keys = (round % 2 == 1).then(|| Arc::new(KeyRing::generate(&SystemEntropy)));
        let options = || Options {
            keys: keys.clone(),
            ..quiet()
        };
        let blobs = MemBlobs::new();
        let other = in_memory(
            &MemBlobs::new(),
            Options {
                keys: keys.clone(),
                ..quiet()
            },
        );
        let mut ledger = in_memory(&blobs, options());
        let (mut index, _) = counted(&ledger, 1);
        for _ in 0..60 {
            let write = |rng: &mut fastrand::Rng, to: &Ledger| {
                let many = if rng.u8(..10) == 0 { 700 } else { 5 };
                let writes = (0..rng.u64(1..many)).map(|_| match rng.u8(..4) {
                    0 => BulkWrite::Delete(key(rng.u64(..900))),
                    _ => BulkWrite::Put(key(rng.u64(..900)), doc(json!({"n": rng.i64(-9..9)}))),
                });
                to.bulk(writes.collect()).unwrap();
            };
            match rng.u8(..12) {
                0 => drop(ledger.compact().unwrap()),
                1 if round >= 3 => drop(ledger.prune(&Keep::Versions(rng.u64(1..5))).unwrap()),
                2 => {
                    drop((index, ledger));
                    ledger = in_memory(&blobs, options());
                    index = counted(&ledger, 1).0;
                }
                // Half of the rounds merge, the others prune.
                3 if round < 3 => {
                    let mut car = Vec::new();
                    other.export(&mut car).unwrap();
                    match ledger.import(&mut &car[..]) {
                        Ok(_) | Err(Error::BehindPrune { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                4 => write(&mut rng, &other),
                5 => index.flush(),
                _ => write(&mut rng, &ledger),
            }
            if rng.bool() {
                agrees(&ledger, &index);
            }
        }
        agrees(&ledger, &index);
        // Ranges against the plain sort.
        let sorted = plain(&ledger);
        for _ in 0..20 {
            let (from, to) = (rng.i64(-10..10), rng.i64(-10..10));
            let query = Query {
                descending: rng.bool(),
                limit: Some(rng.usize(..300)),
                include_docs: false,
                ..Query::range(Included(from.into()), Excluded(to.into()))
            };
            let fits = |n: &Value| (from..to).contains(&n.as_i64().unwrap());
            let mut expected: Vec<_> = sorted.iter().filter(|row| fits(&row.0)).collect();
            if query.descending {
                expected.reverse();
            }
            expected.truncate(query.limit.unwrap());
            let found = index.query(&query).unwrap();
            let found: Vec<_> = found.into_iter().map(|row| (row.key, row.id)).collect();
            assert!(found.iter().eq(expected.into_iter()));
        }
    }
}

#[test]
fn s32_damage_anywhere_in_an_index_never_changes_an_answer() {
    let blobs = MemBlobs::new();
    let ledger = in_memory(&blobs, quiet());
    (0..400).for_each(|n| put(&ledger, n));
    let (index, _) = counted(&ledger, 1);
    agrees(&ledger, &index);
    drop((index, ledger));
    let name = names(&blobs, "index").pop().unwrap();
    let good = blobs.get(&name).unwrap();
    let places = (0..good.len()).step_by(good.len() / 60);
    for at in places.chain(good.len() - 8..good.len()) {
        let mut bad = good.to_vec();
        bad[at] ^= 1 << (at % 8);
        blobs.put(&name, &bad).unwrap();
        let ledger = in_memory(&blobs, quiet());
        let (index, _) = counted(&ledger, 1);
        agrees(&ledger, &index);
        put(&ledger, at as u64 % 400);
        agrees(&ledger, &index);
    }
    for bytes in [&b""[..], &good[..good.len() / 2]] {
        let name = names(&blobs, "index").pop().unwrap();
        blobs.put(&name, bytes).unwrap();
        let ledger = in_memory(&blobs, quiet());
        let (index, _) = counted(&ledger, 1);
        agrees(&ledger, &index);
    }
    for name in names(&blobs, "index") {
        blobs.delete(&name).unwrap();
    }
    let ledger = in_memory(&blobs, quiet());
    let (index, runs) = counted(&ledger, 1);
    agrees(&ledger, &index);
    assert_eq!(runs.load(Ordering::Relaxed), 400);
}

/// Queries between writes, everything made durable, everything published, a rewrite of a changed index.
fn script(ledger: &Ledger) -> siltstone_ledger::Result<()> {
    let (index, _) = counted(ledger, 1);
    for round in 0..3 {
        let write = |n| BulkWrite::Put(key(n), doc(json!({"n": (n * 7 + round) % 11})));
        ledger.bulk((round * 3..20).map(write).collect())?;
        index.query(&Query::default())?;
        index.flush();
        ledger.delete(&key(round))?;
        index.query(&Query::default())?;
    }
    ledger.prune(&Keep::Versions(2))?;
    let (index, _) = counted(ledger, 2);
    index.query(&Query::default())?;
    index.flush();
    ledger.compact()?;
    Ok(())
}

#[test]
fn s32_a_crash_at_any_call_leaves_an_index_that_is_brought_forward() {
    let mut number = 0;
    loop {
        number += 1;
        let mem = MemBlobs::new();
        let clock = Arc::new(ManualClock::default());
        let plan = FaultPlan::crash_at(number);
        let blobs = FaultyBlobs::new(Arc::new(mem.clone()), clock, plan);
        let (env, _) = Env::simulated(Arc::new(blobs.clone()), 7);
        if let Ok(ledger) = Ledger::open(env, NAME, quiet()) {
            let _ = script(&ledger);
        }
        for part in [0, 1, 2] {
            let disk = mem.after_crash(|most| most * part / 2);
            let ledger = in_memory(&disk, quiet());
            let (index, _) = counted(&ledger, 1 + number % 2);
            agrees(&ledger, &index);
            put(&ledger, 5);
            agrees(&ledger, &index);
            index.flush();
            let listed = names(&disk, "index").len();
            assert!(listed <= 8, "{listed} files at call {number}");
        }
        if !blobs.is_crashed() {
            break;
        }
    }
    assert!(number > 60, "{number}");
}
