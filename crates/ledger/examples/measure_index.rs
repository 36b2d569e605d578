//! What an index costs: building it, a put and a query after it, a query alone, opening it again.
//!
//! `cargo run --release -p siltstone-ledger --example measure_index [documents]`
#![allow(clippy::disallowed_methods, reason = "it measures wall time")]
#![allow(clippy::unwrap_used, reason = "a measurement ends where it fails")]

use serde_json::json;
use siltstone_ledger::{BulkWrite, Document, Ledger, Options, Query};
use std::time::{Duration, Instant};

fn document(n: u64) -> Document {
    let place = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Document::from_json(&json!({"place": place, "text": format!("document {n}")})).unwrap()
}

fn main() {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let count: u64 = count.unwrap_or(100_000);
    let folder = std::env::temp_dir().join(format!("siltstone-index-{}", std::process::id()));
    let ledger = Ledger::open_folder(&folder, "it", Options::default()).unwrap();
    for start in (0..count).step_by(10_000) {
        let writes = (start..count.min(start + 10_000))
            .map(|n| BulkWrite::Put(format!("doc-{n:08}"), document(n)));
        ledger.bulk(writes.collect()).unwrap();
    }
    let index = ledger.index_by_field("place").unwrap();
    let first = |index: &siltstone_ledger::Index| {
        let wanted = Query {
            limit: Some(10),
            ..Query::default()
        };
        assert_eq!(index.query(&wanted).unwrap().len(), 10);
    };
    let timed = Instant::now();
    first(&index);
    println!("build of {count}: {:?}", timed.elapsed());
    let rounds = 1_000;
    let (mut put, mut query, mut worst) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for n in 0..rounds {
        let timed = Instant::now();
        let id = format!("doc-{:08}", n * 97 % count);
        ledger.put(&id, &document(count + n)).unwrap();
        put += timed.elapsed();
        let timed = Instant::now();
        let place = document(count + n).field(&["place"]).unwrap();
        assert!(!index.query(&Query::key(place)).unwrap().is_empty());
        query += timed.elapsed();
        worst = worst.max(timed.elapsed());
    }
    println!("put: {:?}", put / rounds as u32);
    println!(
        "query after a put: {:?} (worst {worst:?})",
        query / rounds as u32
    );
    let timed = Instant::now();
    for n in 0..rounds {
        let place = document(count + n).field(&["place"]).unwrap();
        index.query(&Query::key(place)).unwrap();
    }
    println!("query alone: {:?}", timed.elapsed() / rounds as u32);
    let timed = Instant::now();
    let all = Query {
        include_docs: false,
        ..Query::default()
    };
    println!(
        "all {} rows: {:?}",
        index.query(&all).unwrap().len(),
        timed.elapsed()
    );
    drop(index);
    drop(ledger);
    let ledger = Ledger::open_folder(&folder, "it", Options::default()).unwrap();
    let timed = Instant::now();
    first(&ledger.index_by_field("place").unwrap());
    println!("first query after opening: {:?}", timed.elapsed());
    drop(ledger);
    std::fs::remove_dir_all(&folder).unwrap();
}
