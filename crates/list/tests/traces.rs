//! Real keystrokes: each trace typed, sent, stored and looked back at. Traces are in `data/traces` of
//! the folder named by `SILTSTONE_SHARED`, or of `../shared`; without them the test says so and passes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;
use siltstone_list::{Frontier, Session, Text};

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "endContent")]
    end: String,
    txns: Vec<Tx>,
}

#[derive(Deserialize)]
struct Tx {
    patches: Vec<(usize, usize, String)>,
    #[serde(default)]
    agent: usize,
    #[serde(default)]
    parents: Vec<usize>,
}

fn trace(name: &str) -> Option<Trace> {
    let shared = std::env::var("SILTSTONE_SHARED").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let path = shared.join("data/traces").join(format!("{name}.json.gz"));
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("not tested: {} is not here", path.display());
        return None;
    };
    let mut json = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut json)
        .unwrap();
    Some(serde_json::from_str(&json).unwrap())
}

#[test]
fn s17_sequential_traces_end_as_they_ended_and_every_stage_can_be_seen_again() {
    // Ratios measured for runs that split: 0.054 to 0.076 and 0.055 to 0.08.
    for (name, highest_ratio) in [
        ("sveltecomponent", 0.08),
        ("automerge-paper", 0.08),
        ("rustcode", 0.2),
        ("seph-blog1", 0.2),
    ] {
        let Some(trace) = trace(name) else { continue };
        let mut text = Text::new(Session::new("writer", 1));
        let mut stages = Vec::new();
        for (at, tx) in trace.txns.iter().enumerate() {
            for (position, deleted, inserted) in &tx.patches {
                text.splice_chars(*position..position + deleted, inserted)
                    .unwrap();
            }
            if at % (trace.txns.len() / 12) == 0 {
                stages.push((text.frontier(), text.text()));
            }
        }
        assert!(text.text() == trace.end, "{name}");
        text.check().unwrap();
        let ratio = text.compaction_stats().compaction_ratio;
        assert!(ratio < highest_ratio, "{name}: {ratio}");
        for (frontier, stage) in &stages {
            assert!(text.at(frontier).unwrap().text() == *stage, "{name}");
        }
        let bytes = text.encode().unwrap();
        assert!(
            siltstone_list::PackedText::new(bytes.as_slice())
                .unwrap()
                .text()
                == trace.end
        );
        let loaded = Text::decode(&bytes, Session::new("reader", 1)).unwrap();
        assert!(loaded.text() == trace.end, "{name}");
        loaded.check().unwrap();
        // The same by way of single updates rather than at once.
        let mut copy = Text::new(Session::new("copy", 1));
        for (frontier, _) in &stages {
            let so_far = text.at(frontier).unwrap().text();
            let update = text
                .branch("stage", frontier)
                .unwrap()
                .missing_since(&copy.frontier())
                .unwrap();
            copy.apply(&update).unwrap();
            assert!(copy.text() == so_far);
        }
        copy.apply(&text.missing_since(&copy.frontier()).unwrap())
            .unwrap();
        assert_eq!(copy.encode().unwrap(), bytes, "{name}");
    }
}

#[test]
fn s17_a_concurrent_trace_ends_as_it_ended_on_every_copy() {
    let Some(trace) = trace("friendsforever") else {
        return;
    };
    let agents = trace.txns.iter().map(|tx| tx.agent).max().unwrap() + 1;
    let mut copies: Vec<Text> = (0..agents)
        .map(|agent| Text::new(Session::new("agent", agent as u64)))
        .collect();
    let mut messages: Vec<Vec<u8>> = Vec::new();
    // What each copy has, by message.
    let mut has = vec![vec![false; trace.txns.len()]; agents];
    for (at, tx) in trace.txns.iter().enumerate() {
        // The author has seen the parents, and what they had seen.
        let mut needed: Vec<usize> = tx.parents.clone();
        let mut order = Vec::new();
        while let Some(parent) = needed.pop() {
            if !has[tx.agent][parent] {
                has[tx.agent][parent] = true;
                order.push(parent);
                needed.extend(&trace.txns[parent].parents);
            }
        }
        order.sort_unstable();
        for parent in order {
            copies[tx.agent].apply(&messages[parent]).unwrap();
        }
        let text = &mut copies[tx.agent];
        let before = text.frontier();
        let mut transaction = text.transaction();
        for (position, deleted, inserted) in &tx.patches {
            transaction
                .delete_chars(*position..position + deleted)
                .unwrap();
            transaction.insert_at_char(*position, inserted).unwrap();
        }
        transaction.commit().unwrap();
        messages.push(text.missing_since(&before).unwrap());
        has[tx.agent][at] = true;
    }
    let mut one_by_one = Text::new(Session::new("reader", 1));
    for message in &messages {
        one_by_one.apply(message).unwrap();
    }
    assert!(one_by_one.text() == trace.end);
    one_by_one.check().unwrap();
    let ratio = one_by_one.compaction_stats().compaction_ratio;
    assert!((0.05..0.13).contains(&ratio), "{ratio}");
    let mut at_once = Text::new(Session::new("reader", 2));
    at_once
        .apply(&one_by_one.missing_since(&Frontier::new()).unwrap())
        .unwrap();
    assert!(at_once.text() == trace.end);
    at_once.check().unwrap();
    assert_eq!(at_once.encode().unwrap(), one_by_one.encode().unwrap());
}
