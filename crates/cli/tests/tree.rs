//! `siltstone tree`: documents on the command line.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, Ran};
use serde_json::json;
use std::io::{BufRead, BufReader};

fn tree(db: &Db, args: &[&str]) -> Ran {
    db.run(&[&["tree"], args].concat())
}

fn get(db: &Db, args: &[&str]) -> serde_json::Value {
    let ran = tree(db, &[&["get"], args].concat()).ok();
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn a_document_is_written_and_read_by_path() {
    let db = Db::new();
    tree(&db, &["set", "limits.cpu", "2"])
        .ok()
        .notes(&["commit 1"]);
    tree(
        &db,
        &[
            "patch",
            "",
            r#"{"limits": {"memory": "1GiB"}, "hosts": ["a"]}"#,
        ],
    )
    .ok();
    tree(&db, &["append", "hosts", "b", "--text"])
        .ok()
        .notes(&["hosts[1]"]);
    tree(&db, &["insert", "hosts", "0", r#""first""#]).ok();
    tree(&db, &["increment", "limits.cpu", "-1"]).ok();
    tree(&db, &["set", "sparse{-4}", "true"]).ok();
    assert_eq!(
        get(&db, &[]),
        json!({"limits": {"cpu": 1, "memory": "1GiB"}, "hosts": ["first", "a", "b"], "sparse": {"-4": true}})
    );
    tree(&db, &["get", "hosts[1]"]).ok().says("\"a\"\n");
    tree(&db, &["get", "/hosts/2"]).ok().says("\"b\"\n");
    tree(&db, &["get", "/limits/cpu", "--at", "3"])
        .ok()
        .says("2\n");
    tree(&db, &["get", "limits.*"])
        .ok()
        .says("limits.cpu\t1\nlimits.memory\t\"1GiB\"\n");
    let object = tree(&db, &["get", "limits.cpu", "--json"]).ok().objects();
    assert_eq!(
        object,
        [json!({"path": "limits.cpu", "commit": 6, "value": 1})]
    );
    tree(&db, &["keys"])
        .ok()
        .says("hosts\ta dense array\nlimits\tan object\nsparse\ta sparse array\n");
    tree(&db, &["keys", "hosts", "--limit", "2"])
        .ok()
        .says("[0]\ttext\n[1]\ttext\n")
        .notes(&["--from \"[2]\""]);
    tree(&db, &["keys", "hosts", "--from", "[2]"])
        .ok()
        .says("[2]\ttext\n");
    tree(&db, &["delete", "sparse"]).ok();
    tree(&db, &["get", "sparse"]).fails(3, &["sparse", "nothing"]);
    tree(&db, &["get", "limits.cpu.x.y"]).fails(3, &["limits.cpu is a number"]);
    tree(&db, &["delete", "none"]).fails(3, &["none"]);
    tree(&db, &["set", "a..b", "1"]).fails(2, &["path \"a..b\""]);
    tree(&db, &["set", "a", "text"]).fails(2, &["--text"]);
    tree(&db, &["set", "hosts[9]", "1"]).fails(1, &["out of range", "3 elements"]);
    tree(&db, &["get", "-t", "other"]).fails(1, &["no tree \"other\"", "main"]);
    tree(&db, &["list"]).ok().notes(&[]);
}

#[test]
fn conditions_patches_and_schemas_say_what_does_not_hold() {
    let db = Db::new();
    tree(&db, &["set", "", r#"{"n": 1, "list": [1, 2]}"#]).ok();
    tree(&db, &["set", "n", "2", "--if", "1"]).ok();
    tree(&db, &["set", "n", "3", "--if", "1"]).fails(6, &["expected 1", "it is 2"]);
    tree(&db, &["set", "n", "3", "--if-absent"]).fails(6, &["nothing there"]);
    tree(&db, &["set", "n", "3", "--if-unchanged-since", "1"]).fails(6, &["commit 2 changed it"]);
    tree(&db, &["set", "n", "3", "--if-unchanged-since", "2"]).ok();
    let patch = r#"[{"op": "test", "path": "/n", "value": 3}, {"op": "move", "from": "/list/0", "path": "/first"}]"#;
    db.feed(&["tree", "json-patch", "-"], patch.as_bytes())
        .ok()
        .notes(&["commit 4"]);
    db.feed(
        &["tree", "json-patch", "-"],
        patch.replace('3', "4").as_bytes(),
    )
    .fails(6, &["expected 4"]);
    db.feed(&["tree", "json-patch", "-"], b"[{}]")
        .fails(2, &["JSON Patch"]);
    assert_eq!(get(&db, &[]), json!({"n": 3, "list": [2], "first": 1}));
    let schema = br#"{"type": "integer", "maximum": 9}"#;
    db.feed(&["tree", "schema", "set", "n", "-"], schema)
        .ok()
        .notes(&["governs"]);
    tree(&db, &["set", "n", "10"]).fails(6, &["/n", "schema"]);
    tree(&db, &["schema", "list"])
        .ok()
        .says("n\t{\"type\": \"integer\", \"maximum\": 9}\n");
    tree(&db, &["schema", "remove", "n"]).ok();
    tree(&db, &["set", "n", "10"]).ok();
    tree(&db, &["keyed", "orders"]).ok();
    tree(&db, &["append", "orders", "{}"])
        .ok()
        .notes(&["orders(a"]);
    tree(&db, &["keyed"]).ok().says("orders\tid\n");
}

#[test]
fn the_past_is_read_compared_and_listed() {
    let db = Db::new();
    tree(
        &db,
        &["create", "--window", "5", "--levels", "1", "--divisor", "4"],
    )
    .ok();
    for n in 1..=21 {
        tree(&db, &["set", "n", &n.to_string()]).ok();
    }
    tree(&db, &["get", "n", "--at", "18"]).ok().says("18\n");
    tree(&db, &["get", "n", "--at", "8"]).ok().says("8\n");
    tree(&db, &["get", "n", "--at", "9"]).fails(1, &["not retained", "8 and 12"]);
    tree(&db, &["diff", "8", "20"])
        .ok()
        .says("[{\"op\":\"replace\",\"path\":\"/n\",\"value\":20}]\n");
    let history = tree(&db, &["history", "n", "--from", "8", "--json"])
        .ok()
        .objects();
    assert_eq!(history.last().unwrap()["new"], 21);
    assert_eq!(history.last().unwrap()["old"], 20);
    tree(&db, &["history", "n", "--from", "20"])
        .ok()
        .notes(&["2 changes"]);
    let shown = tree(&db, &["retained"]).ok();
    assert!(
        shown.out.contains("tree main  ") && shown.out.contains("of 21 commits can be read"),
        "{shown:?}"
    );
    tree(&db, &["configure", "--window", "all"])
        .ok()
        .notes(&["every commit"]);
    tree(&db, &["configure"]).fails(2, &["what to change"]);
    tree(&db, &["match", "", r#"{"n": {"$gt": 20}}"#])
        .ok()
        .notes(&["1 match"]);
    tree(&db, &["match", "", r#"{"n": {"$like": 20}}"#]).fails(2, &["$like"]);
    tree(&db, &["drop"]).ok();
    tree(&db, &["get"]).fails(1, &["no tree"]);
}

#[test]
fn files_go_in_and_come_out_the_same() {
    let db = Db::new();
    let file = db.path("in.json");
    let text = r#"{"deep": {"list": [1, 2.5, "x", null, true, {}, []]}, "": "empty"}"#;
    std::fs::write(&file, text).unwrap();
    tree(&db, &["import", file.to_str().unwrap()])
        .ok()
        .notes(&["commit 1"]);
    tree(&db, &["set", "deep.list[0]", "2"]).ok();
    let whole = |ran: Ran| -> serde_json::Value { serde_json::from_str(&ran.out).unwrap() };
    assert_eq!(
        whole(tree(&db, &["export", "--at", "1"]).ok()),
        serde_json::from_str::<serde_json::Value>(text).unwrap()
    );
    let out = db.path("out.json");
    tree(
        &db,
        &["export", out.to_str().unwrap(), "--path", "deep.list"],
    )
    .ok();
    let exported: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(exported, json!([2, 2.5, "x", null, true, {}, []]));
    std::fs::write(&file, "{").unwrap();
    tree(&db, &["import", file.to_str().unwrap()]).fails(1, &["in.json", "not JSON"]);
    tree(&db, &["import", "/nowhere/x.json"]).fails(1, &["/nowhere/x.json"]);
}

#[test]
fn scopes_branch_off_and_come_back() {
    let db = Db::new();
    tree(&db, &["set", "", r#"{"a": 1, "b": 2}"#]).ok();
    tree(&db, &["scope", "create", "try"]).ok();
    tree(&db, &["set", "a", "10", "--scope", "try"]).ok();
    assert_eq!(get(&db, &["--scope", "try"]), json!({"a": 10, "b": 2}));
    assert_eq!(get(&db, &[]), json!({"a": 1, "b": 2}));
    tree(&db, &["scope", "diff", "try"])
        .ok()
        .says("[{\"op\":\"replace\",\"path\":\"/a\",\"value\":10}]\n");
    tree(&db, &["scope", "list"])
        .ok()
        .says("try                   made at commit 1\n");
    tree(&db, &["set", "a", "5"]).ok();
    tree(&db, &["scope", "merge", "try"]).fails(5, &["the base has changed at a"]);
    tree(&db, &["set", "a", "1"]).ok();
    tree(&db, &["scope", "merge", "try"]).ok();
    assert_eq!(get(&db, &[]), json!({"a": 10, "b": 2}));
    tree(&db, &["scope", "delete", "try"]).ok();
    tree(&db, &["get", "--scope", "try"]).fails(1, &["no scope \"try\""]);
}

#[test]
fn a_watch_beside_a_writer_shows_json_lines_and_goes_on_later() {
    let db = Db::new();
    tree(&db, &["set", "a", "0"]).ok();
    tree(&db, &["set", "b", "0"]).ok();
    let mut child = db.spawn(&["tree", "watch", "a", "--after", "0", "--limit", "5"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(
        next(),
        json!({"event": "changes", "commit": 1, "changes": [{"path": "a", "value": 0}]})
    );
    assert_eq!(next(), json!({"event": "caught_up", "commit": 2}));
    for n in 1..=3 {
        tree(&db, &["set", "b", &n.to_string()]).ok();
        tree(&db, &["set", "a", &n.to_string()]).ok();
        assert_eq!(
            next(),
            json!({"event": "changes", "commit": 2 + 2 * n, "changes": [{"path": "a", "value": n}]})
        );
    }
    assert!(child.wait().unwrap().success());
    let rest = tree(&db, &["watch", "a", "--after", "4", "--no-follow"])
        .ok()
        .notes(&["--after 8"]);
    let commits: Vec<_> = rest
        .objects()
        .iter()
        .map(|object| object["commit"].as_u64().unwrap())
        .collect();
    assert_eq!(commits, [6, 8, 8]);
    let state = tree(&db, &["watch", "*", "--state-at", "7", "--no-follow"])
        .ok()
        .objects();
    assert_eq!(
        state[0],
        json!({"event": "state", "commit": 7, "nodes": [{"path": "a", "value": 2}, {"path": "b", "value": 3}]})
    );
    tree(&db, &["watch", "a", "--after", "99", "--no-follow"]).fails(1, &["does not exist yet"]);
}
