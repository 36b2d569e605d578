//! Scenarios 24 to 26: scopes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{tree, v};
use proptest::prelude::*;
use siltstone_tree::{Edit, Error, Filter, Value};

#[test]
fn s24_scopes_and_base_see_their_own() {
    let (kv, tree) = tree();
    tree.set("", v(r#"{"n": 1, "o": {"a": 1, "b": 2}, "list": [1, 2]}"#))
        .unwrap();
    let one = tree.create_scope("one").unwrap();
    let two = tree.create_scope("two").unwrap();
    let before = tree.head();
    for _ in 0..3 {
        one.increment("n", 10).unwrap();
    }
    two.increment("n", 100).unwrap();
    tree.increment("n", 1).unwrap();
    assert_eq!(one.get("n").unwrap(), v("31"));
    assert_eq!(two.get("n").unwrap(), v("101"));
    assert_eq!(tree.get("n").unwrap(), v("2"));
    assert_eq!(one.get("o.a").unwrap(), v("1"), "falls through");
    tree.set("o.a", 5).unwrap();
    assert_eq!(one.get("o.a").unwrap(), v("5"), "also what comes later");
    one.set("o.c", 3).unwrap();
    one.delete("o.b").unwrap();
    one.commit(&Edit::new().append("list", 3)).unwrap();
    tree.append("list", 9).unwrap();
    assert_eq!(
        one.get("").unwrap(),
        v(r#"{"n": 31, "o": {"a": 5, "c": 3}, "list": [1, 2, 3]}"#)
    );
    assert_eq!(
        tree.get("").unwrap(),
        v(r#"{"n": 2, "o": {"a": 5, "b": 2}, "list": [1, 2, 9]}"#)
    );
    assert_eq!(
        one.at(before).unwrap().get("").unwrap(),
        v(r#"{"n": 1, "o": {"a": 1, "b": 2}, "list": [1, 2]}"#)
    );
    kv.flush().unwrap();
    let names: Vec<_> = tree.scopes().into_iter().map(|scope| scope.name).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(matches!(tree.create_scope("one"), Err(Error::Name { .. })));
    assert!(matches!(tree.create_scope(""), Err(Error::Name { .. })));
    let keys: Vec<_> = one.view().unwrap().keys("o", None, 10).unwrap().keys;
    assert_eq!(keys.len(), 2);
    assert_eq!(
        one.view()
            .unwrap()
            .matching("", &Filter::parse(r#"{"n": 31}"#).unwrap())
            .unwrap()
            .len(),
        1
    );
    assert!(one.commit(&Edit::new().set("n.x", 1)).is_err());
    assert_eq!(
        serde_json::to_string(&two.diff().unwrap()).unwrap(),
        r#"[{"op":"replace","path":"/n","value":101}]"#
    );
}

#[test]
fn s25_what_a_scope_wrote_stays_whatever_the_base_does() {
    let (_kv, tree) = tree();
    tree.set(
        "",
        v(r#"{"a": {"x": 1, "y": {"z": 1}}, "b": {"c": 1}, "d": 1}"#),
    )
    .unwrap();
    let scope = tree.create_scope("s").unwrap();
    scope.set("a.x", "mine").unwrap();
    scope.set("b", v(r#"{"own": true}"#)).unwrap();
    scope.delete("d").unwrap();
    tree.set("a.x", "theirs").unwrap();
    tree.set("b.later", 1).unwrap();
    tree.set("d", v(r#"{"new": 1}"#)).unwrap();
    let seen = v(r#"{"a": {"x": "mine", "y": {"z": 1}}, "b": {"own": true}}"#);
    assert_eq!(scope.get("").unwrap(), seen);
    assert!(matches!(scope.get("d.new"), Err(Error::NotFound { .. })));
    assert!(matches!(scope.get("b.later"), Err(Error::NotFound { .. })));
    tree.set("a", 7).unwrap();
    assert_eq!(
        scope.get("a").unwrap(),
        v(r#"{"x": "mine"}"#),
        "the way to it stays, what was the base's goes"
    );
    tree.delete("").unwrap();
    assert_eq!(
        scope.get("").unwrap(),
        v(r#"{"a": {"x": "mine"}, "b": {"own": true}}"#)
    );
    tree.delete_scope("s").unwrap();
    assert!(matches!(scope.get(""), Err(Error::UnknownScope { .. })));
    assert!(matches!(scope.set("x", 1), Err(Error::UnknownScope { .. })));
    assert!(matches!(tree.scope("s"), Err(Error::UnknownScope { .. })));
    assert!(matches!(
        tree.delete_scope("s"),
        Err(Error::UnknownScope { .. })
    ));
    assert_eq!(tree.find("").unwrap(), None, "the base is as it was");
    let again = tree.create_scope("s").unwrap();
    assert_eq!(
        again.view().unwrap().find("").unwrap(),
        None,
        "nothing of the old one"
    );
}

#[test]
fn s26_a_merge_is_one_commit_and_a_conflict_a_report() {
    let (_kv, tree) = tree();
    tree.set(
        "",
        v(r#"{"a": {"x": 1, "y": 2}, "b": 1, "list": [1, 2, 3], "gone": {"deep": 1}}"#),
    )
    .unwrap();
    let scope = tree.create_scope("s").unwrap();
    scope.set("a.x", 10).unwrap();
    scope.set("a.new.deep", 1).unwrap();
    scope.delete("gone").unwrap();
    scope.commit(&Edit::new().insert("list", 0, 0)).unwrap();
    scope.set("b", v(r#"{"now": "an object"}"#)).unwrap();
    tree.set("a.y", 20).unwrap();
    tree.set("other", true).unwrap();
    assert_eq!(scope.conflicts().unwrap(), []);
    let mut watch = tree
        .watch("", siltstone_tree::WatchFrom::After(tree.head()))
        .unwrap();
    let sees = scope.get("").unwrap();
    let head = tree.head();
    let commit = scope.merge().unwrap();
    assert_eq!(commit.0, head.0 + 1);
    assert_eq!(tree.get("").unwrap(), sees);
    assert_eq!(
        tree.get("").unwrap(),
        v(
            r#"{"a": {"x": 10, "y": 20, "new": {"deep": 1}}, "b": {"now": "an object"}, "list": [0, 1, 2, 3], "other": true}"#
        )
    );
    assert_eq!(scope.get("").unwrap(), sees);
    assert!(scope.diff().unwrap().0.is_empty());
    let told = common::all_words(&mut watch);
    assert_eq!(
        told[0],
        format!(
            r#"{commit}: a.new={{"deep":1}} a.x=10 b={{"now":"an object"}} gone- list[0]=0 list[1]=1 list[2]=2 list[3]=3"#
        )
    );
    // The scope is empty, and alive.
    tree.set("a.x", 11).unwrap();
    assert_eq!(scope.get("a.x").unwrap(), v("11"));

    scope.set("a.x", 12).unwrap();
    scope.set("list[0]", "mine").unwrap();
    scope.delete("b").unwrap();
    scope.set("clean", 1).unwrap();
    tree.set("a.x", 13).unwrap();
    tree.set("list[3]", "theirs").unwrap();
    tree.set("b.now", "changed").unwrap();
    let head = tree.head();
    let before = tree.get("").unwrap();
    let Err(Error::ScopeConflicts { conflicts, .. }) = scope.merge() else {
        panic!()
    };
    let report: Vec<_> = conflicts
        .iter()
        .map(|c| (c.path.to_string(), c.base.clone(), c.scope.clone()))
        .collect();
    assert_eq!(
        report,
        [
            ("a.x".to_string(), Some(13.into()), Some(12.into())),
            ("b".to_string(), Some(v(r#"{"now": "changed"}"#)), None),
            (
                "list".to_string(),
                Some(v(r#"[0, 1, 2, "theirs"]"#)),
                Some(v(r#"["mine", 1, 2, 3]"#))
            ),
        ]
    );
    assert_eq!((tree.head(), tree.get("").unwrap()), (head, before));
    // Both having come to the same is no conflict.
    tree.set("a.x", 12).unwrap();
    tree.set("list", v(r#"["mine", 1, 2, 3]"#)).unwrap();
    tree.delete("b").unwrap();
    scope.merge().unwrap();
    assert_eq!(tree.get("clean").unwrap(), v("1"));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![(0i64..5).prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn edits() -> impl Strategy<Value = Edit> {
    let path = prop::sample::select(vec![
        "", "a", "b", "a.a", "a.b", "b.a", "b.b.c", "a[0]", "a[1]", "b[0].a",
    ]);
    (path, 0..6, values()).prop_map(|(path, kind, value)| match kind {
        0 => Edit::new().delete(path),
        1 => Edit::new().append(path, value),
        2 => Edit::new().insert(path, 0, value),
        3 => Edit::new().patch(path, value),
        _ => Edit::new().set(path, value),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// While the base stands still a scope is a tree of its own; the base stays as it is; and a merge
    /// brings the base to what the scope saw.
    #[test]
    fn s24_over_a_base_that_stands_still_a_scope_is_a_tree_of_its_own(
        base in values(),
        edits in prop::collection::vec(edits(), 1..12),
    ) {
        let (kv, tree) = tree();
        let alone = siltstone_tree::Trees::of(&kv).create("alone", Default::default()).unwrap();
        tree.set("", base.clone()).unwrap();
        alone.set("", base.clone()).unwrap();
        let scope = tree.create_scope("s").unwrap();
        for edit in &edits {
            let (ours, theirs) = (scope.commit(edit), alone.commit(edit));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?}: {:?} and {:?}", edit, ours, theirs);
            prop_assert_eq!(scope.view().unwrap().find("").unwrap(), alone.find("").unwrap(), "after {:?}", edit);
        }
        prop_assert_eq!(tree.get("").unwrap(), base);
        prop_assert_eq!(scope.conflicts().unwrap(), []);
        scope.merge().unwrap();
        prop_assert_eq!(tree.find("").unwrap(), alone.find("").unwrap());
        prop_assert!(scope.diff().unwrap().0.is_empty());
    }

    /// Whatever the base does, a scope can be read and written, keeps what it set last, and a merge
    /// either reports a conflict and changes nothing, or keeps both sides' writes.
    #[test]
    fn s25_whatever_base_and_scope_do_the_scope_can_be_read_and_merges_or_says_why(
        steps in prop::collection::vec((any::<bool>(), edits()), 1..16),
    ) {
        let (_kv, tree) = tree();
        let scope = tree.create_scope("s").unwrap();
        for (in_scope, edit) in &steps {
            match in_scope {
                true => {
                    if scope.commit(edit).is_ok()
                        && let siltstone_tree::Op::Set(path, value) = &edit.ops()[0]
                    {
                        prop_assert_eq!(&scope.get(path).unwrap(), value);
                    }
                }
                false => drop(tree.commit(edit)),
            }
            scope.view().unwrap().find("").unwrap();
        }
        let (seen, base) = (scope.view().unwrap().find("").unwrap(), tree.find("").unwrap());
        match scope.merge() {
            Ok(_) => prop_assert_eq!(tree.find("").unwrap(), seen),
            Err(Error::ScopeConflicts { conflicts, .. }) => {
                prop_assert!(!conflicts.is_empty());
                prop_assert_eq!(tree.find("").unwrap(), base);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
