//! Scenarios 27 and 28: keyed arrays with ids of their own, and schemas.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{keyspace, open, patch, small_options, threaded, tree, v};
use siltstone_kv::{History, Isolation};
use siltstone_storage::MemBlobs;
use siltstone_tree::{Edit, Error, Trees, Value};
use std::collections::BTreeSet;

fn ids(value: &Value) -> Vec<String> {
    let Value::Array(items) = value else {
        panic!("{value}")
    };
    let id = |item: &Value| match item {
        Value::Object(fields) => fields.get("id").unwrap().as_str().unwrap().to_string(),
        other => panic!("{other}"),
    };
    items.iter().map(id).collect()
}

#[test]
fn s27_elements_without_an_id_get_one_that_sorts_by_commit_and_place() {
    let (_kv, tree) = tree();
    tree.declare_keyed("orders", "id").unwrap();
    tree.declare_keyed("orders(*).lines", "id").unwrap();
    let mut made = Vec::new();
    for n in 0..20 {
        let edit = Edit::new()
            .append(
                "orders",
                v(&format!(
                    r#"{{"n": {n}, "lines": [{{"x": 1}}, {{"x": 2}}]}}"#
                )),
            )
            .append(
                "orders",
                v(&format!(r#"{{"n": {n}, "second": true, "id": null}}"#)),
            );
        let done = tree.commit(&edit).unwrap();
        made.extend(done.appended.iter().map(ToString::to_string));
        tree.set("unrelated", n).unwrap();
    }
    let orders = tree.get("orders").unwrap();
    let found = ids(&orders);
    assert_eq!(found.len(), 40);
    assert!(found.is_sorted());
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 40);
    let named: Vec<_> = found.iter().map(|id| format!("orders({id})")).collect();
    assert_eq!(named, made, "in the order of commits and places");
    let lines = tree.get(format!("orders({}).lines", found[0])).unwrap();
    assert_eq!(ids(&lines).len(), 2);
    assert!(ids(&lines).is_sorted());
    // Existing ids stay.
    tree.append("orders", v(r#"{"id": "zz", "n": 99}"#))
        .unwrap();
    assert_eq!(tree.get("orders(zz).n").unwrap(), v("99"));
    tree.set("orders", v(r#"[{"id": "b"}, {"x": 1}, {"id": "aa"}]"#))
        .unwrap();
    let set = ids(&tree.get("orders").unwrap());
    assert!(set.contains(&"b".to_string()) && set.contains(&"aa".to_string()) && set.len() == 3);
    for (edit, word) in [
        (
            Edit::new().append("orders", v(r#"{"id": "b"}"#)),
            "there already",
        ),
        (Edit::new().append("orders", v(r#"{"id": 5}"#)), "is text"),
        (Edit::new().append("orders", 5), "are objects"),
        (
            Edit::new().set("orders", v(r#"[{"id": "x"}, {"id": "x"}]"#)),
            "two elements",
        ),
        (Edit::new().set("orders(b).id", "c"), "cannot change"),
        (Edit::new().delete("orders(b).id"), "cannot change"),
        (
            Edit::new().patch("orders(b)", v(r#"{"id": null}"#)),
            "cannot change",
        ),
        (
            Edit::new().set("orders(b)", v(r#"{"id": "c"}"#)),
            "not \"b\"",
        ),
        (Edit::new().set("orders(b)", 1), "are objects"),
        (Edit::new().set("orders[0]", v("{}")), "keyed array"),
    ] {
        let error = tree.commit(&edit).unwrap_err().to_string();
        assert!(error.contains(word), "{word:?} is not said in {error}");
    }
    tree.json_patch("", patch(r#"[{"op": "add", "path": "/orders/-", "value": {"y": 1}}, {"op": "replace", "path": "/orders/b", "value": {"z": 1}}]"#)).unwrap();
    assert_eq!(tree.get("orders(b)").unwrap(), v(r#"{"id": "b", "z": 1}"#));
    assert_eq!(ids(&tree.get("orders").unwrap()).len(), 4);
}

#[test]
fn s27_ids_of_many_writers_and_of_transactions_never_meet() {
    let (kv, tree) = threaded();
    tree.declare_keyed("all", "id").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (kv, tree) = (&kv, &tree);
            scope.spawn(move || {
                for n in 0..50 {
                    if (writer + n) % 2 == 0 {
                        tree.append("all", v("{}")).unwrap();
                    } else {
                        loop {
                            let txn = kv.begin(Isolation::Serializable).unwrap();
                            tree.on(&txn)
                                .apply(&Edit::new().append("all", v("{}")))
                                .unwrap();
                            match txn.commit() {
                                Ok(_) => break,
                                Err(error) => assert!(Error::from(error).is_conflict()),
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!(ids(&tree.get("all").unwrap()).len(), 200);
}

#[test]
fn s27_a_declaration_comes_before_the_elements() {
    let (_kv, tree) = tree();
    tree.set("list", v("[1]")).unwrap();
    assert!(matches!(
        tree.declare_keyed("list", "id"),
        Err(Error::Refused { .. })
    ));
    tree.set("empty", v("[]")).unwrap();
    tree.declare_keyed("empty", "id").unwrap();
    assert_eq!(tree.keyed().len(), 1);
    tree.set("empty", v(r#"[{"a": 1}]"#)).unwrap();
    tree.undeclare_keyed("empty").unwrap();
    assert_eq!(tree.keyed(), []);
    tree.append("empty", v("{}")).unwrap();
    assert_eq!(
        ids(&tree.get("empty").unwrap()).len(),
        2,
        "what is there stays keyed"
    );
}

const PERSON: &str = r#"{"type": "object", "required": ["name"], "properties": {
    "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}}}"#;

#[test]
fn s28_a_commit_that_breaks_a_schema_is_refused_with_a_pointer() {
    let mem = MemBlobs::new();
    let kv = open(&mem, small_options());
    let tree = Trees::of(&kv)
        .create("t", keyspace(History::everything()))
        .unwrap();
    tree.set("people", v(r#"{"ada": {"name": "Ada", "age": 36}}"#))
        .unwrap();
    tree.set_schema("people.*", PERSON).unwrap();
    let head = tree.head();
    let check = |tree: &siltstone_tree::Tree| {
        let head = tree.head();
        for (edit, pointer) in [
            (Edit::new().set("people.ada.age", -1), "/people/ada/age"),
            (Edit::new().set("people.ada.age", "old"), "/people/ada/age"),
            (Edit::new().delete("people.ada.name"), "/people/ada"),
            (Edit::new().set("people.bob", v("{}")), "/people/bob"),
            (Edit::new().set("people.bob", 1), "/people/bob"),
            (
                Edit::new().patch("", v(r#"{"people": {"bob": {"age": 1}}}"#)),
                "/people/bob",
            ),
            (Edit::new().set("people.bob.age", 1), "/people/bob"),
        ] {
            match tree.commit(&edit) {
                Err(Error::Schema { at, schema, .. }) => {
                    assert_eq!((at.as_str(), schema.as_str()), (pointer, "people.*"));
                }
                other => panic!("{edit:?}: {other:?}"),
            }
        }
        assert_eq!(tree.head(), head);
    };
    check(&tree);
    let txn = kv.begin(Isolation::Serializable).unwrap();
    tree.on(&txn).set("people.bob.age", 1).unwrap();
    let error = txn.commit().unwrap_err();
    assert!(error.to_string().contains("/people/bob"), "{error}");
    let txn = kv.begin(Isolation::Serializable).unwrap();
    tree.on(&txn).set("people.bob.age", 1).unwrap();
    tree.on(&txn).set("people.bob.name", "Bob").unwrap();
    txn.commit().unwrap();
    tree.delete("people.bob").unwrap();
    assert!(matches!(
        tree.create_scope("s").unwrap().set("people.x", 1),
        Err(Error::Schema { .. })
    ));

    // Another schema must hold for what is there.
    let stricter = PERSON.replace("\"name\"]", "\"name\", \"email\"]");
    let Err(Error::Schema { at, .. }) = tree.set_schema("people.*", &stricter) else {
        panic!()
    };
    assert_eq!(at, "/people/ada");
    assert!(matches!(
        tree.set_schema("x", "{"),
        Err(Error::BadSchema { .. })
    ));
    assert!(matches!(
        tree.set_schema("x", r#"{"type": "nonsense"}"#),
        Err(Error::BadSchema { .. })
    ));
    check(&tree);
    kv.close().unwrap();

    let kv = open(&mem, small_options());
    let tree = Trees::of(&kv).open("t").unwrap();
    assert!(tree.head() > head);
    check(&tree);
    tree.set("people.ada.email", "a@x").unwrap();
    tree.set_schema("people.*", &stricter).unwrap();
    assert!(matches!(
        tree.delete("people.ada.email"),
        Err(Error::Schema { .. })
    ));
    assert_eq!(tree.schemas().len(), 1);
    tree.remove_schema("people.*").unwrap();
    tree.set("people.ada", 1).unwrap();
    assert!(matches!(
        tree.remove_schema("people.*"),
        Err(Error::BadSchema { .. })
    ));
}

#[test]
fn s28_a_transaction_that_began_before_a_schema_does_not_pass_it_by() {
    let (kv, tree) = tree();
    let txn = kv.begin(Isolation::Serializable).unwrap();
    tree.on(&txn).set("people.ada", 1).unwrap();
    tree.set_schema("people.*", PERSON).unwrap();
    assert!(txn.commit().is_err());
    assert_eq!(tree.find("people").unwrap(), None);
}
