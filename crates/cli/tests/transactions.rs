//! Scripts that become one commit or nothing, conditions, merges and ranges.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, Ran};
use std::time::Duration;

fn counting() -> Db {
    let db = Db::new();
    db.run(&["init", "--merge-operator", "counter"]).ok();
    db
}

#[test]
fn a_script_is_one_commit_and_prints_what_it_read() {
    let db = counting();
    db.run(&["keyspace", "create", "side"]).ok();
    let script = b"# moves a city\n\
        put city/oslo 'Norway, still'\n\
        put short v ttl=1h\n\
        merge visits 5\n\
        get city/oslo\n\
        savepoint before\n\
        delete-range city/ city0\n\
        get city/oslo\n\
        rollback before\n\
        expect city/oslo present\n\
        in side\n\
        put k v\n\
        scan\n";
    db.feed(&["txn"], script)
        .ok()
        .says("Norway, still\n(absent)\nk\tv\n")
        .notes(&["commit 1, durable; 12 operations in 1 try"]);
    db.run(&["scan"])
        .ok()
        .says("city/oslo\tNorway, still\nshort\tv\nvisits\t5\n");
    db.run(&["get", "k", "--keyspace", "side"]).ok().says("v\n");
    let file = db.path("script");
    std::fs::write(&file, "get visits\nscan v\n").unwrap();
    let read = [
        "txn",
        "--isolation",
        "snapshot",
        "--json",
        file.to_str().unwrap(),
    ];
    let objects = db.run(&read).ok().objects();
    assert_eq!(objects[0]["value"], 5);
    assert_eq!(objects[1]["key"], "visits");
    assert_eq!(
        (&objects[2]["commit"], &objects[2]["wrote"]),
        (&1.into(), &false.into())
    );
}

#[test]
fn json_lines_are_operations_too() {
    let db = counting();
    let script = br#"{"op":"expect","key":"k","is":"absent"}
{"op":"put","key":"k","value":{"n": 1}}
{"op":"put","key_hex":"ff00","value_hex":"00"}
{"op":"merge","key":"n","operand":-3}
{"op":"get","key":"k"}
get n
"#;
    let ran = db.feed(&["txn", "--json"], script).ok().objects();
    assert_eq!(ran[0]["value"]["n"], 1);
    assert_eq!(ran[1]["value"], -3);
    assert_eq!(
        (&ran[2]["commit"], &ran[2]["operations"]),
        (&1.into(), &6.into())
    );
    db.run(&["scan"])
        .ok()
        .says("k\t{\"n\": 1}\nn\t-3\n\\xff\\x00\t\\x00\n");
}

#[test]
fn a_script_that_is_wrong_or_refused_writes_nothing_and_says_where() {
    let db = Db::with(&["k"]);
    let cases: [(&[u8], i32, &[&str]); 8] = [
        (
            b"put a 1\nputt b 2\n",
            2,
            &["line 2", "no operation \"putt\"", "put, delete"],
        ),
        (
            b"put a 1\nput 'b 2\n",
            2,
            &["line 2", "quote is not closed"],
        ),
        (b"put a 1\nput \xff 2\n", 2, &["line 2", "not UTF-8"]),
        (
            b"put a 1\nexpect k w\n",
            6,
            &[
                "line 2",
                "key \"k\"",
                "value is \"v\"",
                "nothing was written",
            ],
        ),
        (
            b"put a 1\nexpect z present\n",
            6,
            &["line 2", "there is no value"],
        ),
        (
            b"put a 1\nmerge a 1\n",
            1,
            &["line 2", "has no merge operator"],
        ),
        (
            b"put a 1\nin nowhere\n",
            1,
            &["line 2", "no keyspace \"nowhere\""],
        ),
        (b"put a 1\nput '' 1\n", 1, &["line 2", "key of 0 bytes"]),
    ];
    for (script, code, words) in cases {
        db.feed(&["txn"], script).fails(code, words).says("");
    }
    db.run(&["scan"]).ok().says("k\tv\n").notes(&["commit 1;"]);
    db.run(&["txn", "nowhere.txt"]).fails(1, &["nowhere.txt"]);
    let none = Db::new();
    none.feed(&["txn"], b"putt\n").fails(2, &["line 1"]);
    assert!(!none.path("db").exists(), "nothing was made");
}

#[test]
fn two_writers_at_once_are_refused_by_the_lock() {
    let db = Db::with(&["k"]);
    let mut first = db.spawn(&["put", "--ack"]);
    let mut stdin = first.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"{\"_id\":\"a\"}\n").unwrap();
    let mut out = std::io::BufReader::new(first.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut String::new()).unwrap();
    db.feed(&["txn"], b"put b 1\n")
        .fails(1, &["open for writing in another process"]);
    drop(stdin);
    assert!(first.wait().unwrap().success());
    // Of scripts that race, each is done or refused in the same words.
    let racing: Vec<_> = std::thread::scope(|scope| {
        let start = |n| {
            let db = &db;
            scope.spawn(move || db.feed(&["txn"], format!("put race/{n} v\n").as_bytes()))
        };
        let started: Vec<_> = (0..4).map(start).collect();
        started.into_iter().map(|ran| ran.join()).collect()
    });
    let mut done = 0;
    for ran in racing {
        let ran = ran.unwrap();
        if ran.code == Some(0) {
            done += 1;
        } else {
            ran.fails(1, &["open for writing in another process"]);
        }
    }
    let keys = db.run(&["scan", "--prefix", "race/"]).ok().out;
    assert_eq!(keys.lines().count(), done);
}

#[test]
fn conditions_expiry_merges_and_ranges_have_their_commands() {
    let db = counting();
    db.run(&["put", "lock", "me", "--if-absent"]).ok();
    db.run(&["put", "lock", "you", "--if-absent"])
        .fails(6, &["key \"lock\"", "the value is \"me\""]);
    db.run(&["put", "lock", "you", "--if-value", "me"]).ok();
    db.run(&["put", "lock", "me", "--if-value", "me"])
        .fails(6, &["you"]);
    db.run(&["put", "lock", "x", "--if-absent", "--if-value", "y"])
        .code(2);
    db.run(&["put", "brief", "v", "--ttl", "150ms"]).ok();
    db.feed(&["put", "--ttl", "1h"], b"{\"_id\":\"long\"}\n")
        .ok();
    std::thread::sleep(Duration::from_millis(200));
    db.run(&["get", "brief"]).fails(3, &["brief"]);
    db.run(&["get", "long"]).ok();
    db.run(&["merge", "n", "5"]).ok().notes(&["durable"]);
    db.run(&["merge", "n", "-7"]).ok();
    db.run(&["get", "n"]).ok().says("-2\n");
    db.run(&["merge", "n", "x"])
        .fails(1, &["key \"n\"", "counter"]);
    for key in ["a1", "a2", "b1", "c1"] {
        db.run(&["put", key, "v"]).ok();
    }
    db.run(&["delete", "b1", "--prefix", "a", "--range", "c", "d"])
        .ok()
        .notes(&["deleted 2 ranges and 1 key"]);
    db.run(&["delete", "--range", "z", "a"])
        .fails(2, &["invalid range"]);
    db.run(&["delete"]).code(2);
    db.run(&["scan", "--keys-only"])
        .ok()
        .says("lock\nlong\nn\n");
    let history = db.run(&["history", "n", "--json"]).ok().objects();
    let values: Vec<_> = history.iter().map(|version| &version["value"]).collect();
    assert_eq!(values, [-2, 5]);
    let history = db.run(&["history", "a1", "--json"]).ok().objects();
    assert_eq!(history[0]["deleted"], true);
    assert_eq!(history[1]["value_text"], "v");
}

#[test]
fn a_killed_script_leaves_all_of_it_or_nothing() {
    let db = Db::new();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut killed = 0;
    for n in 0..40u64 {
        let filler: String = (0..50).map(|k| format!("put filler/{k} {n}\n")).collect();
        let script = format!("put left {n}\n{filler}put right {n}\n");
        let mut child = db.spawn(&["txn"]);
        let mut stdin = child.stdin.take().unwrap();
        let _ = std::io::Write::write_all(&mut stdin, script.as_bytes());
        drop(stdin);
        std::thread::sleep(Duration::from_micros(rng.u64(0..12_000)));
        child.kill().unwrap();
        let ended = Ran::of(child.wait_with_output().unwrap());
        killed += u64::from(ended.code.is_none());
        if n == 0 && !db.path("db").exists() {
            continue;
        }
        let seen = db
            .feed(&["txn"], b"get left\nget filler/49\nget right\n")
            .ok()
            .out;
        let values: Vec<_> = seen.lines().collect();
        assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
        if ended.code == Some(0) {
            assert_eq!(values[0], n.to_string(), "it was acknowledged");
        }
    }
    assert!(killed > 0, "some were killed before their end");
    db.run(&["verify"]).ok();
}
