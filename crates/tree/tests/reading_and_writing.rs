//! Scenarios 2 to 12: writing and reading.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{patch, threaded, tree, v};
use siltstone_kv::{Commit, Durability};
use siltstone_tree::{Edit, Error, Expect, Filter, Path, Segment, Value};
use std::collections::BTreeSet;

#[test]
fn s02_children_are_listed_by_kind_and_number() {
    let (_kv, tree) = tree();
    tree.set("o", v(r#"{"b": 1, "a": {"x": 1}, "": 0}"#))
        .unwrap();
    for n in 0..12 {
        tree.append("d", n).unwrap();
    }
    for n in [10, 7, -3, 2, -300] {
        tree.set(Path::root().field("s").child(Segment::Sparse(n)), n)
            .unwrap();
    }
    let names = |path: &str| {
        let keys = tree.keys(path, None, 100).unwrap();
        assert_eq!(keys.next, None);
        keys.keys
            .into_iter()
            .map(|(segment, _)| Path::from(vec![segment]).to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["d", "o", "s"]);
    assert_eq!(names("o"), ["''", "a", "b"]);
    assert_eq!(names("d")[..3], ["[0]", "[1]", "[2]"]);
    assert_eq!(names("d")[9..], ["[9]", "[10]", "[11]"]);
    assert_eq!(names("s"), ["{-300}", "{-3}", "{2}", "{7}", "{10}"]);
    // Page by page it is the same.
    let mut from = None;
    let mut paged = Vec::new();
    loop {
        let page = tree.keys("d", from.as_ref(), 5).unwrap();
        paged.extend(
            page.keys
                .into_iter()
                .map(|(segment, _)| Path::from(vec![segment]).to_string()),
        );
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(paged, names("d"));
    assert!(matches!(
        tree.keys("o.b", None, 9),
        Err(Error::WrongKind { .. })
    ));
    assert!(matches!(
        tree.keys("none", None, 9),
        Err(Error::NotFound { .. })
    ));
}

#[test]
fn s02_children_with_much_below_them_are_listed_without_reading_it() {
    let (_kv, tree) = tree();
    let mut edit = Edit::new();
    for child in 0..5 {
        for n in 0..200 {
            edit = edit.set(format!("c{child}.n{n}"), n);
        }
    }
    tree.commit(&edit).unwrap();
    let keys = tree.keys("", None, 100).unwrap().keys;
    let expected: Vec<_> = (0..5)
        .map(|n| (Segment::Field(format!("c{n}")), "an object"))
        .collect();
    assert_eq!(keys, expected);
    assert_eq!(tree.view().unwrap().len("c3").unwrap(), 200);
}

#[test]
fn s03_a_write_is_read_at_its_commit_and_now() {
    let (kv, tree) = threaded();
    let commits: Vec<Commit> = (0..20)
        .map(|n| tree.patch(format!("p{n}"), n).unwrap())
        .collect();
    tree.patch("p3", "later").unwrap();
    kv.flush().unwrap();
    std::thread::scope(|scope| {
        for (n, commit) in commits.iter().enumerate() {
            let tree = &tree;
            scope.spawn(move || {
                let path = format!("p{n}");
                assert_eq!(tree.get_at(&path, *commit).unwrap(), Value::from(n as u64));
                let before = Commit(commit.0 - 1);
                assert!(matches!(
                    tree.get_at(&path, before),
                    Err(Error::NotFound { .. })
                ));
            });
        }
    });
    assert_eq!(tree.get("p3").unwrap(), v("\"later\""));
    assert_eq!(tree.get("p4").unwrap(), v("4"));
}

#[test]
fn s04_many_writers_of_one_path_all_commit_and_each_commit_is_its_writers() {
    let (_kv, tree) = threaded();
    let written: Vec<(Commit, String)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let tree = &tree;
                scope.spawn(move || {
                    let durability = [Durability::Buffered, Durability::Durable];
                    (0..100)
                        .map(|n| {
                            let value = format!("{writer}:{n}");
                            let edit = Edit::new().set("hot.spot", value.as_str());
                            let done = tree.commit_with(&edit, durability[n % 2]).unwrap();
                            (done.commit, value)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let numbers: BTreeSet<u64> = written.iter().map(|(commit, _)| commit.0).collect();
    assert_eq!(numbers.len(), 800);
    assert_eq!(
        numbers.last().unwrap() - numbers.first().unwrap(),
        799,
        "contiguous"
    );
    for (commit, value) in written {
        assert_eq!(tree.get_at("hot.spot", commit).unwrap(), Value::from(value));
    }
}

#[test]
fn s05_a_read_below_is_the_read_above_projected() {
    let (_kv, tree) = tree();
    tree.set("", v(r#"{"a": {"list": [1, {"x": 2}], "n": 1}, "b": "t"}"#))
        .unwrap();
    let edits = [
        Edit::new().increment("a.n", 1),
        Edit::new().append("a.list", v(r#"{"y": [3]}"#)),
        Edit::new().insert("a.list", 0, "first"),
        Edit::new().json_patch(
            "a",
            patch(r#"[{"op": "add", "path": "/list/1", "value": 0}]"#),
        ),
        Edit::new().delete("a.list[0]"),
        Edit::new().patch("a", v(r#"{"list": null, "n": 5}"#)),
        Edit::new().append("a.list", 1).append("a.list", 2),
    ];
    for edit in edits {
        let commit = tree.commit(&edit).unwrap().commit;
        let root = tree.get_at("", commit).unwrap();
        let mut open = vec![(Path::root(), &root)];
        let mut seen = 0;
        while let Some((path, value)) = open.pop() {
            assert_eq!(&tree.get(&path).unwrap(), value, "{path}");
            assert_eq!(&tree.get_at(&path, commit).unwrap(), value, "{path}");
            seen += 1;
            match value {
                Value::Object(fields) => {
                    open.extend(fields.iter().map(|(name, value)| (path.field(name), value)))
                }
                Value::Array(items) => open.extend(
                    items
                        .iter()
                        .enumerate()
                        .map(|(at, value)| (path.index(at as u64), value)),
                ),
                _ => {}
            }
        }
        assert!(seen > 3);
    }
}

#[test]
fn s06_every_kind_of_path_is_read_and_patched() {
    let (_kv, tree) = tree();
    tree.declare_keyed("people", "id").unwrap();
    tree.set("dense[0]", "a").unwrap();
    tree.set("dense[1].deep", 1).unwrap();
    tree.set("sparse{42}.x", 1).unwrap();
    tree.set("sparse{-7}", "neg").unwrap();
    tree.set("people(ada).age", 36).unwrap();
    tree.patch("people(bob)", v(r#"{"age": 5}"#)).unwrap();
    tree.patch("people(ada)", v(r#"{"age": null, "born": 1815}"#))
        .unwrap();
    tree.set("'a b'.'c.d'", true).unwrap();
    tree.patch("sparse", v(r#"{"42": {"y": 2}, "-7": null, "8": 8}"#))
        .unwrap();
    assert_eq!(
        tree.get("").unwrap().to_string(),
        r#"{"a b":{"c.d":true},"dense":["a",{"deep":1}],"people":[{"born":1815,"id":"ada"},{"age":5,"id":"bob"}],"sparse":{"8":8,"42":{"x":1,"y":2}}}"#
    );
    assert_eq!(tree.get("people(bob).id").unwrap(), v("\"bob\""));
    assert_eq!(tree.get("sparse{42}").unwrap(), v(r#"{"x":1,"y":2}"#));
    assert_eq!(tree.get("dense[1].deep").unwrap(), v("1"));
    let view = tree.view().unwrap();
    for (pointer, path) in [
        ("/dense/1/deep", "dense[1].deep"),
        ("/people/ada/born", "people(ada).born"),
        ("/sparse/42/x", "sparse{42}.x"),
        ("/a b/c.d", "'a b'.'c.d'"),
    ] {
        assert_eq!(view.resolve(pointer).unwrap().to_string(), path);
    }
    let found: Vec<_> = view
        .nodes("**.x")
        .unwrap()
        .into_iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(found, ["sparse{42}.x"]);
    let filter = Filter::parse(r#"{"born": {"$lt": 1900}}"#).unwrap();
    let found = tree.matching("people", &filter).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.to_string(), "people(ada)");
    assert_eq!(
        tree.matching("*", &Filter::parse(r#"{"[0]": "a"}"#).unwrap())
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn s07_below_a_scalar_nothing_is_written_unless_it_is_replaced() {
    let (_kv, tree) = tree();
    tree.set("a.q", 1).unwrap();
    let head = tree.head();
    for edit in [
        Edit::new().patch("a.q.r", 1),
        Edit::new().set("a.q.r.s", 1),
        Edit::new().set("a.q[0]", 1),
        Edit::new().append("a.q", 1),
        Edit::new().set("a[0]", 1),
    ] {
        let error = tree.commit(&edit).unwrap_err();
        assert!(matches!(&error, Error::WrongKind { .. }), "{error}");
    }
    assert_eq!(tree.head(), head);
    let object = tree
        .patch("a", v(r#"{"q": {"r": {"s": 1}, "t": 2}}"#))
        .unwrap();
    let array = tree.patch("a.q", v("[1, [2]]")).unwrap();
    let back = tree.set("a.q", v(r#"{"u": 3}"#)).unwrap();
    assert_eq!(tree.get("").unwrap(), v(r#"{"a": {"q": {"u": 3}}}"#));
    assert!(matches!(tree.get("a.q.t"), Err(Error::NotFound { .. })));
    assert_eq!(
        tree.get_at("a.q", object).unwrap(),
        v(r#"{"r": {"s": 1}, "t": 2}"#)
    );
    assert_eq!(tree.get_at("a.q", array).unwrap(), v("[1, [2]]"));
    assert_eq!(tree.get_at("a.q[1][0]", array).unwrap(), v("2"));
    assert!(tree.get_at("a.q[1]", back).is_err());
}

#[test]
fn s08_empty_things_nulls_and_numbers_survive() {
    let (kv, tree) = tree();
    let odd = v(
        r#"{"": {"": []}, "o": {}, "a": [], "n": null, "nested": [[], {}, [[null]], {"x": {}}],
        "i": [0, -1, 18446744073709551615, -9223372036854775808], "f": [0.0, 1.0, -2.5e-300, 1e300], "t": ["", "\u0000\u0001", "ü"], "b": [true, false]}"#,
    );
    tree.set("", odd.clone()).unwrap();
    assert_eq!(tree.get("").unwrap(), odd);
    assert_eq!(tree.get("''.''").unwrap(), v("[]"));
    kv.flush().unwrap();
    assert_eq!(tree.get("").unwrap().to_string(), odd.to_string());
    for scalar in ["null", "1", "1.0", "\"x\"", "[]", "{}"] {
        tree.set("", v(scalar)).unwrap();
        assert_eq!(tree.get("").unwrap().to_string(), scalar);
    }
    tree.delete("").unwrap();
    assert!(matches!(tree.get(""), Err(Error::NotFound { .. })));
    assert_eq!(tree.find("").unwrap(), None);
}

#[test]
fn s09_what_cannot_be_done_changes_nothing_and_uses_no_number() {
    let (_kv, tree) = tree();
    let before =
        v(r#"{"list": [1, 2, 3], "n": 5, "t": "x", "o": {"k": 1}, "max": 18446744073709551615}"#);
    tree.set("", before.clone()).unwrap();
    let head = tree.head();
    let deep = "[0]".repeat(128);
    let long = format!("'{}'", "x".repeat(70_000));
    let refused = [
        (Edit::new().set("list[4]", 0), "out of range"),
        (Edit::new().insert("list", 4, 0), "out of range"),
        (Edit::new().set("new[1]", 0), "out of range"),
        (Edit::new().delete("o.none"), "there is nothing"),
        (Edit::new().delete("list[3]"), "there is nothing"),
        (Edit::new().increment("t", 1), "not a number"),
        (Edit::new().increment("max", 1), "64 bits"),
        (Edit::new().increment("n", "x"), "cannot be counted"),
        (Edit::new().append("o", 1), "appended"),
        (Edit::new().insert("o", 0, 1), "dense array"),
        (Edit::new().set("o..k", 1), "path"),
        (Edit::new().set("keyed(k)", v("{}")), "declare"),
        (Edit::new().set(deep.as_str(), 1), "levels"),
        (Edit::new().set(long.as_str(), 1), "bytes"),
        (Edit::new().expect("n", Expect::Value(6.into())).set("n", 7), "expected 6"),
        (Edit::new().expect("n", Expect::Absent).set("n", 7), "nothing there"),
        (Edit::new().expect("m", Expect::Present).set("n", 7), "something there"),
        (Edit::new().expect("o", Expect::UnchangedSince(Commit(0))).set("n", 7), "no change since"),
        (Edit::new().set("n", 6).set("list[9]", 1), "out of range"),
        (Edit::new().json_patch("", patch(r#"[{"op": "replace", "path": "/n", "value": 9}, {"op": "test", "path": "/t", "value": "y"}]"#)), "expected \"y\""),
        (Edit::new().json_patch("", patch(r#"[{"op": "remove", "path": "/none"}]"#)), "there is nothing"),
        (Edit::new().json_patch("", patch(r#"[{"op": "add", "path": "/list/x", "value": 1}]"#)), "no index"),
        (Edit::new().json_patch("", patch(r#"[{"op": "move", "from": "/o", "path": "/o/k"}]"#)), "into itself"),
        (Edit::new().json_patch("", patch(r#"[{"op": "add", "path": "/none/x", "value": 1}]"#)), "there is nothing"),
    ];
    for (edit, word) in refused {
        let error = tree.commit(&edit).unwrap_err().to_string();
        assert!(error.contains(word), "{word:?} is not said in {error}");
        assert_eq!(tree.head(), head, "{error}");
    }
    assert_eq!(tree.get("").unwrap(), before);
    let holds = Edit::new()
        .expect("o", Expect::UnchangedSince(head))
        .expect("n", Expect::Value(5.0.into()))
        .expect("none", Expect::Absent)
        .set("n", 6);
    let done = tree.commit(&holds).unwrap();
    assert_eq!(done.commit.0, head.0 + 1);
    // A commit that changes nothing has a number too, and is no change.
    let same = tree.set("n", 6).unwrap();
    assert_eq!(same.0, head.0 + 2);
    let since = Edit::new()
        .expect("", Expect::UnchangedSince(done.commit))
        .set("n", 7);
    tree.commit(&since).unwrap();
}

#[test]
fn s10_compare_and_set_never_loses_an_increment() {
    let (_kv, tree) = threaded();
    tree.set("n", 0).unwrap();
    let successes: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let tree = &tree;
                scope.spawn(move || {
                    let mut successes = 0;
                    for _ in 0..100 {
                        let now = tree.get("n").unwrap();
                        let next = now.as_i64().unwrap() + 1;
                        match tree.set_if("n", Expect::Value(now), next) {
                            Ok(_) => successes += 1,
                            Err(Error::Unexpected { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    successes
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    assert!(successes >= 100);
    assert_eq!(tree.get("n").unwrap(), Value::from(successes));
}

#[test]
fn s10_increments_and_appends_of_many_writers_all_count() {
    let (_kv, tree) = threaded();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let tree = &tree;
            scope.spawn(move || {
                for n in 0..50 {
                    let edit = Edit::new()
                        .increment("n", 1)
                        .append("log", format!("{writer}:{n}"));
                    let durability = if n % 3 == 0 {
                        Durability::Durable
                    } else {
                        Durability::Buffered
                    };
                    tree.commit_with(&edit, durability).unwrap();
                }
            });
        }
    });
    assert_eq!(tree.get("n").unwrap(), v("400"));
    let Value::Array(log) = tree.get("log").unwrap() else {
        panic!()
    };
    assert_eq!(log.len(), 400);
    for writer in 0..8 {
        let own: Vec<_> = log
            .iter()
            .filter_map(Value::as_str)
            .filter(|entry| entry.starts_with(&format!("{writer}:")))
            .collect();
        let expected: Vec<_> = (0..50).map(|n| format!("{writer}:{n}")).collect();
        assert_eq!(own, expected, "each writer's in its order");
    }
}

#[test]
fn s11_a_large_subtree_goes_in_one_commit_while_others_read() {
    let (_kv, tree) = threaded();
    let mut edit = Edit::new().set("keep", 1);
    let big: Value = Value::Object(
        (0..1000)
            .map(|n| {
                (
                    format!("g{n:04}"),
                    Value::Array((0..100).map(Value::from).collect()),
                )
            })
            .collect(),
    );
    edit = edit.set("big", big);
    let full = tree.commit(&edit).unwrap().commit;
    let reading = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut counts = BTreeSet::new();
                    while reading.load(std::sync::atomic::Ordering::Relaxed) {
                        let view = tree.view().unwrap();
                        let leaves = match view.find("big").unwrap() {
                            None => 0,
                            Some(Value::Object(groups)) => groups
                                .iter()
                                .map(|(_, items)| match items {
                                    Value::Array(items) => items.len(),
                                    _ => panic!(),
                                })
                                .sum(),
                            Some(_) => panic!(),
                        };
                        assert_eq!(view.get("keep").unwrap(), v("1"));
                        counts.insert(leaves);
                    }
                    counts
                })
            })
            .collect();
        let gone = tree.delete("big").unwrap();
        assert_eq!(gone.0, full.0 + 1);
        assert_eq!(tree.find("big").unwrap(), None);
        reading.store(false, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            let counts = reader.join().unwrap();
            assert!(
                counts.is_subset(&BTreeSet::from([0, 100_000])),
                "{counts:?}"
            );
        }
    });
    assert_eq!(tree.get_at("big.g0999[99]", full).unwrap(), v("99"));
    assert_eq!(tree.get("").unwrap(), v(r#"{"keep": 1}"#));
    tree.set("big", v(r#"{"again": 1}"#)).unwrap();
    assert_eq!(tree.get("big").unwrap(), v(r#"{"again": 1}"#));
}
