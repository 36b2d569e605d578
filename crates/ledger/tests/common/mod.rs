//! What the scenario tests share: ledgers in folders and in memory, a model, and a look at a ledger
//! from a fresh process.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test")]

use serde_json::{Value, json};
use siltstone_ledger::{AllDocs, Background, Clock, Document, Error, Ledger, Options, Result, Row};
use siltstone_storage::{Blobs, Env, LocalBlobs, MemBlobs};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

pub const NAME: &str = "it";
const FOLDER: &str = "LEDGER_TEST_FOLDER";

/// No background work, so that a test decides what happens when.
pub fn quiet() -> Options {
    Options {
        background: Background::Off,
        ..Options::default()
    }
}

/// A ledger in memory, under a simulated clock.
pub fn in_memory(blobs: &MemBlobs, options: Options) -> Ledger {
    try_in_memory(blobs, options).unwrap()
}

pub fn try_in_memory(blobs: &MemBlobs, options: Options) -> Result<Ledger> {
    let (env, _) = Env::simulated(Arc::new(blobs.clone()), 7);
    Ledger::open(env, NAME, options)
}

pub fn in_folder(folder: &Path, options: Options) -> Ledger {
    Ledger::open_folder(folder, NAME, options).unwrap()
}

pub fn doc(value: Value) -> Document {
    Document::from_json(&value).unwrap()
}

pub fn numbered(n: u64) -> Document {
    doc(json!({"n": n, "text": format!("the document with the number {n}, and some words more")}))
}

pub fn key(n: u64) -> String {
    format!("doc-{n:06}")
}

pub fn put(ledger: &Ledger, n: u64) {
    ledger.put(&key(n), &numbered(n)).unwrap();
}

pub fn rows(ledger: &Ledger) -> Vec<Row> {
    ledger.all_docs(&AllDocs::default()).unwrap().rows
}

pub fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

/// What a ledger should hold.
pub type Model = BTreeMap<String, Document>;

pub fn model(numbers: impl IntoIterator<Item = u64>) -> Model {
    numbers.into_iter().map(|n| (key(n), numbered(n))).collect()
}

/// All of it is there: listed, got one by one, and among the changes; and the store is sound.
pub fn check(ledger: &Ledger, model: &Model) {
    let listed: Model = rows(ledger)
        .into_iter()
        .map(|row| (row.id, row.document.unwrap()))
        .collect();
    assert!(
        listed == *model,
        "{} listed, {} expected",
        listed.len(),
        model.len()
    );
    for (id, document) in model {
        assert_eq!(ledger.get(id).unwrap(), *document, "{id}");
    }
    let changes = ledger.changes(Clock::start(), usize::MAX).unwrap();
    let changed: Model = changes
        .rows
        .iter()
        .filter_map(|row| Some((row.id.clone(), row.document.clone()?)))
        .collect();
    assert!(
        changed == *model,
        "{} changed, {} expected",
        changed.len(),
        model.len()
    );
    assert_eq!(changes.next.clock, ledger.clock());
    let report = ledger.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

/// Everything that can be asked of a ledger, in one text.
pub fn answers(ledger: &Ledger) -> String {
    let mut out = String::new();
    let all = AllDocs {
        include_deleted: true,
        ..AllDocs::default()
    };
    for row in ledger.all_docs(&all).unwrap().rows {
        let shown = row.document.map(|document| document.to_json().to_string());
        writeln!(out, "{} {shown:?}", row.id).unwrap();
    }
    match ledger.changes(Clock::start(), usize::MAX) {
        Ok(changes) => {
            for row in changes.rows {
                writeln!(out, "{} {} {}", row.event, row.id, row.deleted).unwrap();
            }
        }
        Err(error @ Error::Pruned { .. }) => writeln!(out, "{error}").unwrap(),
        Err(error) => panic!("{error}"),
    }
    writeln!(out, "{:?}", ledger.clock()).unwrap();
    out
}

/// What a process that never saw the ledger reads from its folder must be `expected`, and sound.
pub fn same_in_a_fresh_process(folder: &Path, expected: &str) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fresh_process", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let found = std::fs::read_to_string(folder.join("answers")).unwrap();
    assert!(
        found == expected,
        "a fresh process finds something else:\n{found}\nexpected:\n{expected}"
    );
}

/// The other side of [`same_in_a_fresh_process`]: the test `fresh_process` of each file calls it.
pub fn answer_as_fresh_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let ledger = in_folder(folder, quiet());
    let report = ledger.verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    std::fs::write(folder.join("answers"), answers(&ledger)).unwrap();
}

/// A folder's ledger drops, and a fresh process agrees on what it held.
pub fn drop_and_compare(ledger: Ledger, folder: &Path) {
    let expected = answers(&ledger);
    drop(ledger);
    same_in_a_fresh_process(folder, &expected);
}

pub fn names(blobs: &dyn Blobs, kind: &str) -> Vec<String> {
    let listed = blobs.list(&format!("ledger/{NAME}/{kind}/")).unwrap();
    listed.into_iter().map(|blob| blob.name).collect()
}

/// Every CAR file of a folder's ledger is live: nothing is left over.
pub fn no_orphans(blobs: &dyn Blobs, ledger: &Ledger) {
    let live = ledger.meta().cars;
    for name in names(blobs, "car") {
        let id = name.rsplit('/').next().unwrap().trim_end_matches(".car");
        assert!(
            live.iter().any(|car| car.to_string() == id),
            "{name} is an orphan"
        );
    }
}

pub fn folder_blobs(folder: &Path) -> LocalBlobs {
    LocalBlobs::existing(folder).unwrap()
}

pub fn is_not_found(result: &Result<Document>) -> bool {
    matches!(result, Err(Error::NotFound { .. }))
}
