//! A tree beside its writer: reads, history, and watches by the change feed tell what the writer's own
//! do.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{all_words, keyspace, open, threaded_options, v, words};
use siltstone_kv::{Commit, History, Reader};
use siltstone_storage::{Env, MemBlobs};
use siltstone_tree::{Edit, Error, ReadTree, ReadWatch, Trees, Value, WatchFrom};
use std::sync::Arc;
use std::time::Duration;

fn read_all(watch: &mut ReadWatch) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = watch.next_within(Duration::from_millis(50)).unwrap() {
        seen.push(words(&event));
    }
    seen
}

fn changes(words: Vec<String>) -> Vec<String> {
    let mark = |word: &String| !word.starts_with("state") && !word.starts_with("caught up");
    words.into_iter().filter(mark).collect()
}

#[test]
fn a_reader_sees_and_watches_what_the_writer_does() {
    let mem = MemBlobs::new();
    let kv = open(&mem, threaded_options());
    let tree = Trees::of(&kv)
        .create("t", keyspace(History::everything()))
        .unwrap();
    let big: Value = Value::Object(
        (0..600)
            .map(|n| (format!("k{n:03}"), v("{\"x\": 1}")))
            .collect(),
    );
    tree.set("a", v(r#"{"n": 1, "list": [1, 2]}"#)).unwrap();
    let reader = Reader::open(Env::system(Arc::new(mem.clone())), threaded_options()).unwrap();
    let read = ReadTree::open(&reader, "t").unwrap();
    assert_eq!(ReadTree::names(&reader), ["t"]);
    assert!(matches!(
        ReadTree::open(&reader, "none"),
        Err(Error::UnknownTree { .. })
    ));
    let patterns = [
        "", "a", "a.n", "a.list", "big", "big.k007", "big.*.x", "none",
    ];
    let mut live: Vec<_> = patterns
        .iter()
        .map(|p| tree.watch(*p, WatchFrom::Now).unwrap())
        .collect();
    let mut beside: Vec<_> = patterns
        .iter()
        .map(|p| read.watch(*p, WatchFrom::Now).unwrap())
        .collect();
    for edit in [
        Edit::new().increment("a.n", 1),
        Edit::new().insert("a.list", 0, 0),
        Edit::new().set("big", big),
        Edit::new().set("b", 1).delete("a.list[1]"),
        Edit::new().delete("big"),
        Edit::new().patch("", v(r#"{"a": null, "b": 2}"#)),
    ] {
        tree.commit(&edit).unwrap();
    }
    for (at, pattern) in patterns.iter().enumerate() {
        let (here, there) = (all_words(&mut live[at]), read_all(&mut beside[at]));
        assert_eq!(changes(here.clone()), changes(there.clone()), "{pattern:?}");
        assert_eq!(here[0], there[0], "the state at the start");
        assert_eq!(beside[at].position(), tree.head());
    }
    reader.refresh().unwrap();
    assert_eq!(
        read.view().unwrap().find("").unwrap(),
        tree.find("").unwrap()
    );
    let (ours, theirs) = (
        tree.history("a", .., 100).unwrap(),
        read.history("a", .., 100).unwrap(),
    );
    assert_eq!(ours, theirs);
    assert_eq!(ours.entries.len(), 5);
    let diff = |a, b| {
        (
            tree.diff("", Commit(a), Commit(b)).unwrap(),
            read.diff("", Commit(a), Commit(b)).unwrap(),
        )
    };
    let (ours, theirs) = diff(1, 4);
    assert_eq!(ours, theirs);
    drop(beside);

    // Long after, when the log is gone, the history tells it.
    kv.flush().unwrap();
    for n in 0..300 {
        tree.set("a.n", n).unwrap();
    }
    kv.flush().unwrap();
    kv.settle().unwrap();
    let mut late = read.watch("a.n", WatchFrom::After(Commit(1))).unwrap();
    let mut live = tree.watch("a.n", WatchFrom::After(Commit(1))).unwrap();
    assert_eq!(read_all(&mut late), all_words(&mut live));
    let scope = tree.create_scope("s").unwrap();
    scope.set("a.n", "mine").unwrap();
    reader.refresh().unwrap();
    assert_eq!(
        read.scope("s", None).unwrap().get("a.n").unwrap(),
        v("\"mine\"")
    );
    assert!(matches!(
        read.scope("x", None),
        Err(Error::UnknownScope { .. })
    ));
    assert_eq!(
        read.retained_commits().unwrap(),
        tree.retained_commits().unwrap()
    );
}
