//! History policies and the timeline of retained commits, with the command.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::Db;

/// Writes commits `from..=to`, one record each.
fn write(db: &Db, keyspace: &str, from: u32, to: u32) {
    let lines: String = (from..=to)
        .map(|n| format!("{{\"_id\":\"k\",\"n\":{n}}}\n"))
        .collect();
    db.feed(
        &["put", "--buffered", "--keyspace", keyspace],
        lines.as_bytes(),
    )
    .ok();
}

fn retained(db: &Db) -> serde_json::Value {
    let ran = db.run(&["history", "--retained", "--json"]).ok();
    ran.objects().remove(0)
}

#[test]
fn history_kept_by_levels_is_drawn_and_read() {
    let db = Db::new();
    db.run(&["init", "--window", "10", "--divisor", "5", "--levels", "2"])
        .ok();
    write(&db, "default", 1, 403);
    db.run(&["flush"]).ok();
    db.run(&["compact"]).ok();
    db.run(&["checkpoint", "create", "here"]).ok();
    write(&db, "default", 404, 500);
    db.run(&["compact"]).ok();
    let shown = db.run(&["history", "--retained"]).ok();
    shown.notes(&["keeps newest 10 commits, then every 5th to every 25th"]);
    let shown = db.run(&["history", "--retained"]).ok().out;
    let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    assert_eq!(lines[0], "keyspace default  27 of 500 commits can be read");
    assert!(
        lines[1].starts_with("  1 ·") && lines[1].ends_with("█ 500"),
        "{shown}"
    );
    assert_eq!(lines[1].chars().count(), "  1  500".len() + 64);
    let rows: Vec<Vec<_>> = lines[2..]
        .iter()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..4], ["every", "491", "to", "500"]);
    assert_eq!(rows[0][5..], ["10", "commits"]);
    assert_eq!(rows[0][4].chars().count(), 24);
    assert_eq!(rows[1][..5], ["every", "5th", "455", "to", "490"]);
    assert_eq!(rows[2][..5], ["every", "25th", "425", "to", "450"]);
    assert_eq!(rows[3][..2], ["only", "403"], "the checkpoint");
    assert_eq!(rows[4][..5], ["every", "25th", "275", "to", "400"]);
    assert_eq!(rows.len(), 5);
    let object = retained(&db);
    assert_eq!(object["head"], 500);
    assert_eq!(object["retained"], 10 + 8 + 8 + 1);
    assert_eq!(object["ranges"][4]["step"], 1);
    assert_eq!(object["ranges"][3]["first"], 455);
    assert_eq!(object["history"]["levels"], 2);
    db.run(&["get", "k", "--at", "475"])
        .ok()
        .says("{\"n\":475}\n");
    db.run(&["get", "k", "--at", "476"])
        .fails(1, &["commit 476 is not retained", "475 and 480"]);
    db.run(&["stats"]).ok();
}

#[test]
fn a_policy_is_changed_and_what_is_gone_stays_gone() {
    let db = Db::new();
    db.run(&["put", "a", "b"]).ok();
    db.run(&["keyspace", "create", "other", "--window", "1"])
        .ok();
    write(&db, "other", 2, 40);
    db.run(&["compact", "--keyspace", "other"]).ok();
    db.run(&["keyspace", "set", "other", "--window", "all"])
        .ok()
        .notes(&["keyspace \"other\" keeps every commit"]);
    write(&db, "other", 41, 60);
    db.run(&["get", "k", "--keyspace", "other", "--at", "39"])
        .fails(1, &["not retained", "the oldest readable one is 40"]);
    db.run(&["get", "k", "--keyspace", "other", "--at", "41"])
        .ok()
        .says("{\"n\":41}\n");
    let shown = db
        .run(&["history", "--retained", "--keyspace", "other", "--json"])
        .ok();
    assert_eq!(shown.objects()[0]["ranges"][0]["first"], 40);
    db.run(&["stats", "--keyspace", "other"]).ok();
    // What is not said stays.
    let set = |args: &[&str]| {
        let args = [&["keyspace", "set", "other", "--json"], args].concat();
        db.run(&args).ok().objects().remove(0)["options"]["history"].clone()
    };
    let history = set(&[
        "--levels",
        "3",
        "--divisor",
        "2",
        "--window",
        "5",
        "--max-versions",
        "9",
    ]);
    assert_eq!(
        (history["levels"].as_u64(), history["divisor"].as_u64()),
        (Some(3), Some(2))
    );
    let history = set(&["--max-age", "1h", "--expire", "--window-age", "1day"]);
    assert_eq!(
        (history["window"].as_u64(), history["expire"].as_bool()),
        (Some(5), Some(true))
    );
    assert_eq!(
        (history["levels"].as_u64(), history["max_versions"].as_u64()),
        (Some(3), Some(9))
    );
    let listed = db.run(&["keyspace", "list"]).ok().out;
    let policies: Vec<_> = listed.lines().map(|line| &line[67..]).collect();
    assert_eq!(
        policies,
        [
            "newest 10,000 commits",
            "newest 5 commits and those of the last 1day, then every 2nd to every 8th, \
             at most 9 versions of a key, nothing for longer than 1h",
        ]
    );
    let history = set(&[
        "--max-age",
        "none",
        "--max-versions",
        "none",
        "--expire=false",
        "--window-age",
        "none",
    ]);
    for lifted in ["max_age", "max_versions", "window_age"] {
        assert!(history[lifted].is_null(), "{history}");
    }
    assert_eq!(history["expire"], false);
}

#[test]
fn policies_that_cannot_be_are_refused() {
    let db = Db::with(&["k"]);
    for (args, word) in [
        (&["--divisor", "1"][..], "history.divisor"),
        (&["--levels", "64"], "history.levels"),
        (&["--window", "0"], "history.window"),
        (&["--expire"], "--max-age"),
        (&[], "--levels 2"),
    ] {
        let args = [&["keyspace", "set", "default"], args].concat();
        db.run(&args).fails(2, &[word]);
    }
    for args in [
        &["keyspace", "set", "default", "--max-versions", "few"][..],
        &["keyspace", "create", "x", "--max-age", "long"],
        &["history"],
        &["history", "k", "--retained"],
        &["history", "--retained", "--at", "1"],
    ] {
        db.run(args).code(2);
    }
    db.run(&["keyspace", "set", "nowhere", "--levels", "1"])
        .fails(1, &["no keyspace \"nowhere\""]);
    db.run(&["history", "--retained", "--keyspace", "nowhere"])
        .fails(1, &["no keyspace \"nowhere\""]);
}

#[test]
fn an_empty_database_has_an_empty_timeline() {
    let db = Db::new();
    db.run(&["init"]).ok();
    let shown = db.run(&["history", "--retained"]).ok().out;
    assert!(
        shown.starts_with("keyspace default  0 of 0 commits can be read"),
        "{shown}"
    );
    assert_eq!(retained(&db)["retained"], 0);
}
