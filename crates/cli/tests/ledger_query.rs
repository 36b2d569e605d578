//! Queries of a ledger on the command line.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::Db;

#[test]
fn documents_are_listed_in_the_order_of_a_field() {
    let db = Db::new();
    let lines = b"{\"_id\": \"silt\", \"grain\": 0.02, \"at\": [2024, 5]}\n\
        {\"_id\": \"clay\", \"grain\": 0, \"at\": [2024, 7]}\n\
        {\"_id\": \"sand\", \"grain\": 1, \"at\": [2023, 1]}\n\
        {\"_id\": \"rock\", \"kind\": \"hard\"}\n";
    db.feed(&["ledger", "put", "notes"], lines).ok();
    let ids = |more: &[&str]| {
        let mut args = vec!["ledger", "query", "notes"];
        args.extend_from_slice(more);
        args.push("--ids");
        db.run(&args).ok().out
    };
    assert_eq!(ids(&["grain"]), "clay\nsilt\nsand\n");
    assert_eq!(ids(&["grain", "--reverse", "--limit", "2"]), "sand\nsilt\n");
    assert_eq!(ids(&["grain", "--key", "0"]), "clay\n");
    assert_eq!(ids(&["grain", "--key", "1", "--key", "0"]), "clay\nsand\n");
    assert_eq!(ids(&["grain", "--from", "0.01", "--to", "1"]), "silt\n");
    assert_eq!(ids(&["at", "--prefix", "[2024]"]), "silt\nclay\n");
    assert_eq!(ids(&["kind", "--key", "hard"]), "rock\n");
    db.run(&["ledger", "put", "notes", "clay", "{\"grain\": 2}"])
        .ok();
    assert_eq!(ids(&["grain"]), "silt\nsand\nclay\n");
    let found = db
        .run(&["ledger", "query", "notes", "grain", "--key", "2"])
        .ok();
    assert_eq!(found.objects()[0]["_id"], "clay");
    db.run(&["ledger", "query", "nope", "grain"])
        .fails(3, &["nope"]);
    db.run(&["ledger", "query", "notes", "at", "--prefix", "7"])
        .fails(2, &["JSON array"]);
}
