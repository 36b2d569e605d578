//! Scenario 12: random operations against a document in memory, which the standard crates patch.
//! Equal after each commit, and at every retained commit after flushes and compactions.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{keyspace, open, retained, small_options};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use siltstone_kv::{Commit, CompactOptions, Durability, Error as KvError, History, Kv};
use siltstone_storage::MemBlobs;
use siltstone_tree::{Edit, Error, JsonPatch, Path, Segment, Tree, Trees, Value};

/// One step of a run. Places are lists of names in a small world.
#[derive(Debug, Clone)]
enum Step {
    Patch(Vec<String>, Json),
    Set(Vec<String>, Json),
    Delete(Vec<String>),
    Insert(Vec<String>, usize, Json),
    Append(Vec<String>, Json),
    Increment(Vec<String>, i64),
    JsonPatch(Json),
    Flush,
    Compact,
    Reopen,
}

fn names() -> impl Strategy<Value = Vec<String>> {
    let name = prop::sample::select(vec!["a", "b", "c", "", "0", "1", "2", "x y"]);
    prop::collection::vec(name.prop_map(String::from), 0..4)
}

fn leaves() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-3i64..300).prop_map(Json::from),
        prop::sample::select(vec![0.5, -1.5, 1e20]).prop_map(Json::from),
        "[a-c\\x00\\x01]{0,3}".prop_map(Json::from),
    ]
}

fn values() -> impl Strategy<Value = Json> {
    leaves().prop_recursive(3, 24, 4, |inner| {
        let name = prop::sample::select(vec!["a", "b", "c", "", "0", "x y"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(name.prop_map(String::from), inner, 0..4)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

fn operations() -> impl Strategy<Value = Json> {
    let place = || names().prop_map(|names| pointer(&names));
    let end = |p: String, at_end: bool| if at_end { format!("{p}/-") } else { p };
    let one = prop_oneof![
        3 => (place(), any::<bool>(), values()).prop_map(move |(p, e, v)| json!({"op": "add", "path": end(p, e), "value": v})),
        1 => (place(), values()).prop_map(|(p, v)| json!({"op": "replace", "path": p, "value": v})),
        1 => place().prop_map(|p| json!({"op": "remove", "path": p})),
        1 => (place(), place()).prop_map(|(f, p)| json!({"op": "move", "from": f, "path": p})),
        1 => (place(), place()).prop_map(|(f, p)| json!({"op": "copy", "from": f, "path": p})),
        1 => (place(), leaves()).prop_map(|(p, v)| json!({"op": "test", "path": p, "value": v})),
    ];
    prop::collection::vec(one, 1..4).prop_map(Json::from)
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (names(), values()).prop_map(|(p, v)| Step::Patch(p, v)),
        6 => (names(), values()).prop_map(|(p, v)| Step::Set(p, v)),
        2 => names().prop_map(Step::Delete),
        3 => (names(), 0usize..5, values()).prop_map(|(p, i, v)| Step::Insert(p, i, v)),
        4 => (names(), values()).prop_map(|(p, v)| Step::Append(p, v)),
        2 => (names(), -5i64..5).prop_map(|(p, d)| Step::Increment(p, d)),
        6 => operations().prop_map(Step::JsonPatch),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn pointer(names: &[String]) -> String {
    names.iter().map(|name| format!("/{name}")).collect()
}

/// The path that names are in `doc`: an index where an array is, and else a field.
fn path_in(doc: &Option<Json>, names: &[String]) -> Path {
    let mut path = Path::root();
    let mut here = doc.as_ref();
    for name in names {
        let segment = match (here, name.parse::<u64>()) {
            (Some(Json::Array(_)), Ok(index)) => Segment::Index(index),
            _ => Segment::Field(name.clone()),
        };
        here = here.and_then(|here| match (&segment, here) {
            (Segment::Index(index), Json::Array(items)) => items.get(*index as usize),
            (Segment::Field(name), Json::Object(fields)) => fields.get(name),
            _ => None,
        });
        path = path.child(segment);
    }
    path
}

/// The model: the document, or nothing. `change` sees what is at the path and answers what is to be
/// there; `None` when it is refused.
fn at(
    doc: Option<Json>,
    path: &[Segment],
    change: &mut dyn FnMut(Option<Json>) -> Option<Option<Json>>,
) -> Option<Option<Json>> {
    let Some((first, rest)) = path.split_first() else {
        return change(doc);
    };
    match first {
        Segment::Field(name) => {
            let mut fields = match doc {
                None => serde_json::Map::new(),
                Some(Json::Object(fields)) => fields,
                Some(_) => return None,
            };
            if let Some(value) = at(fields.remove(name), rest, change)? {
                fields.insert(name.clone(), value);
            }
            Some(Some(Json::Object(fields)))
        }
        Segment::Index(index) => {
            let Some(Json::Array(mut items)) = doc else {
                return None;
            };
            let index = usize::try_from(*index).ok()?;
            let old = items.get(index).cloned();
            if index > items.len() {
                return None;
            }
            match (at(old.clone(), rest, change)?, old) {
                (Some(value), Some(_)) => items[index] = value,
                (Some(value), None) => items.push(value),
                (None, Some(_)) => drop(items.remove(index)),
                (None, None) => {}
            }
            Some(Some(Json::Array(items)))
        }
        _ => None,
    }
}

fn apply(doc: &Option<Json>, step: &Step) -> Option<Option<Json>> {
    let doc = doc.clone();
    let on = |names: &Vec<String>, change: &mut dyn FnMut(Option<Json>) -> Option<Option<Json>>| {
        at(doc.clone(), path_in(&doc, names).segments(), change)
    };
    match step {
        // Deletes what is there, and is content with nothing.
        Step::Patch(names, Json::Null) => {
            let mut there = false;
            let done = on(names, &mut |old| {
                there = old.is_some();
                Some(None)
            });
            Some(match there {
                true => done?,
                false => doc.clone(),
            })
        }
        Step::Patch(names, value) => on(names, &mut |old| {
            let mut target = old.unwrap_or(Json::Null);
            json_patch::merge(&mut target, value);
            Some(Some(target))
        }),
        Step::Set(names, value) => on(names, &mut |_| Some(Some(value.clone()))),
        Step::Delete(names) => {
            let mut there = false;
            let done = on(names, &mut |old| {
                there = old.is_some();
                Some(None)
            });
            done.filter(|_| there)
        }
        Step::Insert(names, index, value) => on(names, &mut |old| match old {
            None if *index == 0 => Some(Some(json!([value]))),
            Some(Json::Array(mut items)) if *index <= items.len() => {
                items.insert(*index, value.clone());
                Some(Some(Json::Array(items)))
            }
            _ => None,
        }),
        Step::Append(names, value) => on(names, &mut |old| match old {
            None => Some(Some(json!([value]))),
            Some(Json::Array(mut items)) => {
                items.push(value.clone());
                Some(Some(Json::Array(items)))
            }
            _ => None,
        }),
        Step::Increment(names, delta) => on(names, &mut |old| match old {
            None => Some(Some(json!(delta))),
            Some(Json::Number(n)) => match n.as_i64() {
                Some(n) => Some(Some(json!(n + delta))),
                None => Some(Some(json!(n.as_f64().unwrap() + *delta as f64))),
            },
            _ => None,
        }),
        Step::JsonPatch(operations) => {
            let patch: JsonPatch = serde_json::from_value(operations.clone()).unwrap();
            let mut doc = doc?;
            json_patch::patch_unsafe(&mut doc, &patch).ok()?;
            Some(Some(doc))
        }
        Step::Flush | Step::Compact | Step::Reopen => unreachable!("no operations"),
    }
}

fn edit(doc: &Option<Json>, step: &Step) -> Edit {
    let path = |names: &Vec<String>| path_in(doc, names);
    match step {
        Step::Patch(names, value) => Edit::new().patch(path(names), value.clone()),
        Step::Set(names, value) => Edit::new().set(path(names), value.clone()),
        Step::Delete(names) => Edit::new().delete(path(names)),
        Step::Insert(names, index, value) => {
            Edit::new().insert(path(names), *index as u64, value.clone())
        }
        Step::Append(names, value) => Edit::new().append(path(names), value.clone()),
        Step::Increment(names, delta) => Edit::new().increment(path(names), *delta),
        Step::JsonPatch(operations) => {
            Edit::new().json_patch("", serde_json::from_value(operations.clone()).unwrap())
        }
        Step::Flush | Step::Compact | Step::Reopen => unreachable!("no operations"),
    }
}

/// Operations whose meaning the crate and this one's model do not share: removing or moving the root,
/// and copying or moving onto itself.
fn is_common_ground(step: &Step) -> bool {
    let Step::JsonPatch(Json::Array(operations)) = step else {
        return true;
    };
    operations.iter().all(|operation| {
        let text = |name: &str| operation[name].as_str().unwrap_or("?").to_string();
        match text("op").as_str() {
            "remove" => !text("path").is_empty(),
            "move" => {
                let (from, to) = (text("from"), text("path"));
                !from.is_empty() && from != to && !to.starts_with(&format!("{from}/"))
            }
            _ => true,
        }
    })
}

struct World {
    mem: MemBlobs,
    kv: Kv,
    tree: Tree,
    history: History,
    /// The document after each commit, from commit 0.
    docs: Vec<Option<Json>>,
}

impl World {
    fn new(history: History) -> Self {
        let mem = MemBlobs::new();
        let kv = open(&mem, small_options());
        let tree = Trees::of(&kv)
            .create("test", keyspace(history.clone()))
            .unwrap();
        Self {
            mem,
            kv,
            tree,
            history,
            docs: vec![None],
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Flush => drop(self.kv.flush().unwrap()),
            Step::Compact => {
                self.kv.flush().unwrap();
                self.tree
                    .keyspace()
                    .compact(&CompactOptions::default())
                    .map_err(|e| e.error)
                    .unwrap();
            }
            Step::Reopen => {
                self.kv.close().unwrap();
                self.kv = open(&self.mem, small_options());
                self.tree = Trees::of(&self.kv).open("test").unwrap();
            }
            step => self.write(step),
        }
    }

    fn write(&mut self, step: &Step) {
        let doc = self.docs.last().unwrap().clone();
        // The crate patches documents, not their absence.
        if doc.is_none() && matches!(step, Step::JsonPatch(_)) {
            return;
        }
        let expected = apply(&doc, step);
        let done = self
            .tree
            .commit_with(&edit(&doc, step), Durability::Buffered);
        match (done, expected) {
            (Ok(done), Some(next)) => {
                assert_eq!(done.commit.0, self.docs.len() as u64, "numbers are dense");
                self.docs.push(next);
            }
            (Err(Error::Kv(error)), _) => panic!("{error}"),
            (Err(_), None) => assert_eq!(self.tree.head().0 + 1, self.docs.len() as u64),
            (done, expected) => panic!("{step:?} on {doc:?}: {done:?}, expected {expected:?}"),
        }
        self.check(self.tree.head());
    }

    fn check(&self, commit: Commit) {
        let expected = self.docs[commit.0 as usize].clone().map(Value::from);
        let found = match commit == self.tree.head() {
            true => self.tree.find("").unwrap(),
            false => self.tree.at(commit).unwrap().find("").unwrap(),
        };
        assert_eq!(found, expected, "commit {commit}");
    }

    fn check_all(&self) {
        let head = self.tree.head().0;
        for n in 0..=head {
            if retained(&self.history, head, n) {
                self.check(Commit(n));
            } else {
                match self.tree.at(Commit(n)) {
                    Err(Error::Kv(KvError::NotRetained { before, after, .. })) => {
                        let is = |n: &u64| retained(&self.history, head, *n);
                        assert_eq!(before.map(|c| c.0), (0..n).rev().find(is));
                        assert_eq!(after.map(|c| c.0), (n + 1..=head).find(is));
                    }
                    other => panic!("commit {n} is not retained: {other:?}"),
                }
            }
        }
    }

    /// A diff of two commits makes one of the other; the history says the same as the model.
    fn check_between(&self) {
        let head = self.tree.head().0;
        let readable: Vec<u64> = (0..=head)
            .filter(|n| retained(&self.history, head, *n))
            .collect();
        for pair in readable.windows(2) {
            for (a, b) in [
                (pair[0], pair[1]),
                (pair[1], pair[0]),
                (readable[0], pair[1]),
            ] {
                if let (Some(old), Some(new)) = (&self.docs[a as usize], &self.docs[b as usize]) {
                    let diff = self.tree.diff("", Commit(a), Commit(b)).unwrap();
                    let mut patched = old.clone();
                    json_patch::patch_unsafe(&mut patched, &diff).unwrap();
                    assert_eq!(&patched, new, "{a} to {b} by {diff:?}");
                    assert_eq!(diff.0.is_empty(), old == new);
                }
            }
        }
        for names in [
            vec![],
            vec!["a".to_string()],
            vec!["a".to_string(), "b".to_string()],
        ] {
            let path = names
                .iter()
                .fold(Path::root(), |path, name| path.field(name));
            let value = |n: u64| {
                let mut here = self.docs[n as usize].as_ref();
                for name in &names {
                    here = here
                        .and_then(|here| here.as_object())
                        .and_then(|fields| fields.get(name));
                }
                here.cloned().map(Value::from)
            };
            let history = self.tree.history(&path, .., usize::MAX).unwrap();
            let mut expected = Vec::new();
            for pair in readable.windows(2) {
                if value(pair[0]) != value(pair[1]) {
                    expected.push((
                        Commit(pair[0]),
                        Commit(pair[1]),
                        value(pair[0]),
                        value(pair[1]),
                    ));
                }
            }
            let found: Vec<_> = history
                .entries
                .into_iter()
                .map(|entry| (entry.after, entry.commit, entry.old, entry.new))
                .collect();
            assert_eq!(found, expected, "history of {path:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn s12_random_operations_do_to_the_tree_what_they_do_to_a_document(
        steps in prop::collection::vec(steps().prop_filter("common ground", is_common_ground), 1..60),
        window in prop::sample::select(vec![u64::MAX, 6]),
        levels in 0u32..3,
    ) {
        let history = History { window, divisor: 3, levels, ..History::default() };
        let mut world = World::new(history);
        for step in &steps {
            world.step(step);
        }
        world.check_all();
        world.check_between();
        world.step(&Step::Compact);
        world.check_all();
        world.check_between();
        world.step(&Step::Reopen);
        world.check_all();
    }
}
