//! A process that commits to a tree is killed, again and again: whoever opens the folder next finds
//! every acknowledged commit, whole, under its number, and a watch goes on where it was.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use siltstone_kv::{Commit, Durability, History, KeyspaceOptions, Kv, Options};
use siltstone_storage::{Env, LocalBlobs};
use siltstone_tree::{Edit, Tree, Trees, Value, Watch, WatchEvent, WatchFrom};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const FOLDER: &str = "SILTSTONE_TREE_KILL_FOLDER";
/// Fields of which each commit sets some.
const FIELDS: u64 = 7;

fn open(folder: &Path) -> (Kv, Tree) {
    let env = Env::system(Arc::new(LocalBlobs::create(folder).unwrap()));
    let options = Options {
        memtable_bytes: 64 << 10,
        ..Options::default()
    };
    let kv = Kv::open(env, options, KeyspaceOptions::default(), None).unwrap();
    let trees = Trees::of(&kv);
    let tree = trees.open("t").unwrap_or_else(|_| {
        let options = KeyspaceOptions {
            history: History::everything(),
            ..KeyspaceOptions::default()
        };
        trees.create("t", options).unwrap()
    });
    (kv, tree)
}

/// Commit `number`: a counter, three fields that say which commit set them, and one that goes.
fn edit(number: u64) -> Edit {
    let mut edit = Edit::new().set("count", number);
    for step in 0..3 {
        let field = format!("fields.f{}", (number + step * 2) % FIELDS);
        edit = edit.set(field, number);
    }
    if number.is_multiple_of(5) && number > 5 {
        edit = edit.delete(format!("fields.f{}", (number + 1) % FIELDS));
    }
    edit
}

/// The document after `number` commits.
fn document(number: u64) -> Value {
    let mut fields = BTreeMap::new();
    for number in 1..=number {
        for step in 0..3 {
            fields.insert(format!("f{}", (number + step * 2) % FIELDS), number);
        }
        if number.is_multiple_of(5) && number > 5 {
            fields.remove(&format!("f{}", (number + 1) % FIELDS));
        }
    }
    let fields = Value::Object(fields.into_iter().collect());
    let count = [("count", Value::from(number)), ("fields", fields)];
    Value::Object(count.into_iter().collect())
}

#[test]
#[ignore = "the process that the test below kills"]
fn writer() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let (kv, tree) = open(Path::new(&folder));
    let mut out = std::io::stdout().lock();
    for number in kv.head().0 + 1.. {
        // Buffered commits between durable ones: they may go, from the end.
        let durable = number.is_multiple_of(3);
        let durability = if durable {
            Durability::Durable
        } else {
            Durability::Buffered
        };
        let done = tree.commit_with(&edit(number), durability).unwrap();
        assert_eq!(done.commit, Commit(number));
        if durable {
            writeln!(out, "\nack {number}").unwrap();
            out.flush().unwrap();
        }
    }
}

/// Everything a watch has, as the commits it told and the last value of `count`.
fn drain(watch: &mut Watch) -> Vec<u64> {
    let mut commits = Vec::new();
    while let Some(event) = watch.try_next().unwrap() {
        if let WatchEvent::Changes { commit, changes } = event {
            assert_eq!(changes.len(), 1);
            assert_eq!(changes[0].value, Some(Value::from(commit.0)));
            commits.push(commit.0);
        }
    }
    commits
}

#[test]
fn s32_a_killed_process_loses_nothing_acknowledged_and_numbers_and_watches_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut told = 0;
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--ignored", "--nocapture"])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wanted = told + 60 + round * 41;
        let mut acknowledged = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while acknowledged < wanted {
            let line = lines.next().expect("the writer ended early").unwrap();
            if let Some(number) = line.strip_prefix("ack ") {
                acknowledged = number.parse().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too.
        for line in lines.map_while(Result::ok) {
            if let Some(number) = line.strip_prefix("ack ").and_then(|n| n.parse().ok()) {
                acknowledged = number;
            }
        }
        let (kv, tree) = open(&path);
        let head = kv.head().0;
        assert!(head >= acknowledged, "{head} of {acknowledged} are there");
        assert_eq!(tree.get("").unwrap(), document(head));
        for commit in [told + 1, acknowledged, head] {
            assert_eq!(tree.get_at("", Commit(commit)).unwrap(), document(commit));
        }
        // A watch that had heard of all up to `told` hears of every commit since, once, in order.
        let mut watch = tree.watch("count", WatchFrom::After(Commit(told))).unwrap();
        assert_eq!(drain(&mut watch), (told + 1..=head).collect::<Vec<_>>());
        // Numbers go on after the last that is there; none is used twice.
        let done = tree.commit(&edit(head + 1)).unwrap();
        assert_eq!(done.commit, Commit(head + 1));
        assert_eq!(drain(&mut watch), [head + 1]);
        told = head + 1;
    }
}
