//! Random operations on a bucket behind a failing network give what the store in memory gives.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::Bucket;
use siltstone_s3_test_server::{Fault, Rule};
use siltstone_storage::{Blobs, MemBlobs, Result, Wait};
use std::time::Duration;

/// One random operation and its answer in words.
fn step(store: &dyn Blobs, rng: &mut fastrand::Rng, attempt: u32) -> String {
    let name = format!("{}/{}", rng.u8(0..3), rng.u8(0..5));
    let bytes = format!("attempt {attempt} {}", "x".repeat(rng.usize(0..5000)));
    let (offset, len) = (rng.u64(0..40), rng.usize(0..40));
    match rng.u8(0..8) {
        0 => told("put", store.put(&name, bytes.as_bytes())),
        1 | 2 => told("if absent", store.put_if_absent(&name, bytes.as_bytes())),
        3 => told("get", store.get(&name)),
        4 => told("delete", store.delete(&name)),
        5 => told("list", store.list(&name[..rng.usize(0..=name.len())])),
        6 => {
            let written = store.create(&name).and_then(|mut writer| {
                writer.write(bytes.as_bytes())?;
                writer.finish()
            });
            told("write", written)
        }
        _ => {
            let read = store.open(&name).and_then(|reader| {
                let len = len.min(reader.size() as usize);
                reader.read(offset.min(reader.size() - len as u64), len, Wait::Allowed)
            });
            told("read", read)
        }
    }
}

fn told<T: std::fmt::Debug>(operation: &str, answer: Result<T>) -> String {
    match answer {
        Ok(answer) => format!("{operation}: {answer:?}"),
        Err(error) if error.is_not_found() => format!("{operation}: not found"),
        Err(error) => format!("{operation}: {error}"),
    }
}

#[test]
fn a_bucket_behind_a_failing_network_answers_as_memory_does() {
    let bucket = Bucket::new();
    let faults = bucket.server.faults();
    for fault in [
        Fault::Unavailable,
        Fault::Reset,
        Fault::ErrorAfterCommit,
        Fault::ResetAfterCommit,
        Fault::Delay(Duration::from_millis(2)),
    ] {
        faults.inject(Rule::always(fault).percent(4));
    }
    for seed in 0..4 {
        let (ours, theirs) = (bucket.store(&format!("run-{seed}")), MemBlobs::bucket());
        let mut rng = fastrand::Rng::with_seed(seed);
        for attempt in 0..300 {
            let mut same = rng.clone();
            let expected = step(&theirs, &mut same, attempt);
            let answer = step(&ours, &mut rng, attempt);
            assert_eq!(answer, expected, "seed {seed}, step {attempt}");
        }
    }
    assert!(faults.met() > 100, "{}", faults.met());
}
