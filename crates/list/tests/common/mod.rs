//! Lists and texts of one author each, and how two copies meet.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::json;
use siltstone_list::{List, Session, Text, Value};

pub(crate) fn list(author: &str) -> List {
    List::new(Session::new(author, 1))
}

pub(crate) fn text(author: &str) -> Text {
    Text::new(Session::new(author, 1))
}

pub(crate) fn values(letters: &str) -> Vec<Value> {
    letters
        .chars()
        .map(|letter| json!(letter.to_string()))
        .collect()
}

pub(crate) fn shown(list: &List) -> String {
    list.to_vec().iter().filter_map(Value::as_str).collect()
}

pub(crate) fn exchange(a: &mut List, b: &mut List) {
    let (to_b, to_a) = (
        a.missing_since(&b.frontier()).unwrap(),
        b.missing_since(&a.frontier()).unwrap(),
    );
    a.apply(&to_a).unwrap();
    b.apply(&to_b).unwrap();
    a.check().unwrap();
    b.check().unwrap();
}

pub(crate) fn exchange_texts(a: &mut Text, b: &mut Text) {
    let (to_b, to_a) = (
        a.missing_since(&b.frontier()).unwrap(),
        b.missing_since(&a.frontier()).unwrap(),
    );
    a.apply(&to_a).unwrap();
    b.apply(&to_b).unwrap();
    a.check().unwrap();
    assert_eq!(a.text(), b.text());
}
