//! Copies that never come back, on the command line.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::Db;

#[test]
fn a_copy_that_never_comes_back_is_shown_and_retired() {
    let (a, b) = (Db::new(), Db::new());
    let shared = a.path("shared");
    let shared = shared.to_str().unwrap();
    let sync = |db: &Db| {
        let args = ["ledger", "sync", "notes", shared, "--grace", "0s", "--json"];
        db.run(&args).ok().objects().remove(0)
    };
    let standing = |db: &Db, id: &str| {
        let found = db.run(&["ledger", "replicas", "notes", shared, "--json"]);
        let mut found = found.ok().objects().into_iter();
        found.rfind(|one| one["id"] == id).unwrap()
    };
    a.run(&["ledger", "put", "notes", "sand", "{}"]).ok();
    // A place that is not there is not made by looking at it.
    a.run(&["ledger", "replicas", "notes", shared])
        .fails(1, &["shared"]);
    sync(&a);
    b.run(&["ledger", "put", "notes", "silt", "{}"]).ok();
    sync(&b);
    let found = a.run(&["ledger", "replicas", "notes", shared]).ok().out;
    assert!(found.contains("this copy") && found.contains("not merged here yet"));
    assert!(found.lines().all(|line| line.len() <= 80), "{found}");
    let id = found
        .lines()
        .find_map(|line| line.strip_suffix("  active"))
        .unwrap();
    // What is not merged is named, and how to have it.
    a.run(&["ledger", "retire", "notes", shared, id])
        .fails(1, &[id, "2 archives", "ledger sync notes", "--force"]);
    sync(&a);
    let then = standing(&a, id);
    assert_eq!(
        (&then["standing"], &then["merged"]),
        (&"active".into(), &true.into())
    );
    a.run(&["ledger", "compact", "notes"]).ok();
    sync(&a);
    a.run(&["ledger", "retire", "notes", shared, id])
        .ok()
        .notes(&["retired", "go after the grace"]);
    assert_eq!(standing(&a, id)["standing"], "retired");
    sync(&a);
    sync(&a);
    assert_eq!(std::fs::read_dir(a.path("shared/car")).unwrap().count(), 1);
    // It comes back: without a grace it need not wait.
    b.run(&["ledger", "put", "notes", "clay", "{}"]).ok();
    sync(&b);
    sync(&a);
    assert_eq!(standing(&a, id)["standing"], "active");
    let ids = a.run(&["ledger", "all", "notes", "--ids"]).ok().out;
    assert_eq!(ids, "clay\nsand\nsilt\n");
    let own = standing(&b, id);
    assert_eq!(
        (&own["standing"], &own["missing_cars"]),
        (&"this copy".into(), &0.into())
    );
    // What it says is lost when it goes with what only it has.
    b.run(&["ledger", "put", "notes", "loam", "{}"]).ok();
    sync(&b);
    let loam = b.run(&["ledger", "clock", "notes"]).ok().out;
    a.run(&["ledger", "retire", "notes", shared, id, "--force"])
        .ok()
        .notes(&["lost:", loam.trim()]);
    a.run(&["ledger", "retire", "notes", shared, "nobody"])
        .fails(2, &["nobody"]);
}
