//! What is stored of a document, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeMap;

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use proptest::prelude::*;
use serde_json::{Value, json};
use siltstone_ledger::{Block, Document, Error};

fn stored(value: &Value) -> Document {
    let document = Document::from_json(value).unwrap();
    // The library that others use reads the same bytes, and writes them.
    let ipld: Ipld = serde_ipld_dagcbor::from_slice(document.bytes()).unwrap();
    assert_eq!(
        &serde_ipld_dagcbor::to_vec(&ipld).unwrap(),
        document.bytes()
    );
    assert_eq!(Document::from_serde(&ipld).unwrap(), document);
    assert_eq!(document.to_serde::<Ipld>().unwrap(), ipld);
    assert_eq!(
        Document::from_bytes(document.bytes().clone()).unwrap(),
        document
    );
    document
}

#[test]
fn s27_a_table_of_what_is_stored() {
    for value in [
        json!({}),
        json!({"null": null, "yes": true, "no": false}),
        json!({"zero": 0, "small": -1, "i64": i64::MIN, "max": i64::MAX, "u64": u64::MAX}),
        json!({"float": 1.5, "whole": 1.0, "tiny": 5e-324, "huge": f64::MAX}),
        json!({"text": "", "unicode": "čau 🎈\u{0}\u{10ffff}", "kilobytes": "x".repeat(70_000)}),
        json!({"array": [], "nested": [[], [1, [2, {"three": [null]}]]], "map": {"": {"a": {}}}}),
        json!({"bytes": {"/": {"bytes": "AAEC/w"}}, "empty": {"/": {"bytes": ""}}}),
        json!({"link": {"/": "bafyreieb4uzcyvmvpksi7ajbmwoxagtkolrwo7vd4kutuknfpj2lzjo3aa"}}),
        json!({"link": {"/": "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"}}),
        json!({"not special": {"/": 1, "other": 2}, "a/b": 1, "_rev": 3, "deep": {"_id": "kept"}}),
        json!({"aa": 1, "b": 2, "a": 3, "ab": 4, "é": 5, "": 6}),
    ] {
        assert_eq!(stored(&value).to_json(), value);
    }
    assert_eq!(stored(&json!({"a": -0.0})), stored(&json!({"a": 0.0})));
    // Numbers that JSON does not hold exactly are floats before they come here.
    let big: Value = serde_json::from_str(r#"{"n": 18446744073709551616}"#).unwrap();
    assert_eq!(stored(&big).to_json(), json!({"n": 18446744073709551616.0}));
}

#[test]
fn the_id_is_not_part_of_what_is_stored() {
    let with = json!({"_id": "one", "a": 1});
    let document = stored(&with);
    assert_eq!(document, stored(&json!({"a": 1})));
    assert_eq!(
        document.to_json_with_id("two"),
        json!({"_id": "two", "a": 1})
    );
    assert_eq!(Document::id_of(&with).unwrap(), Some("one"));
    assert_eq!(Document::id_of(&json!({"_id": ""})).unwrap(), None);
    assert_eq!(Document::id_of(&json!({})).unwrap(), None);
    assert!(matches!(
        Document::id_of(&json!({"_id": 1})),
        Err(Error::Invalid { .. })
    ));

    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Row {
        #[serde(default)]
        _id: String,
        name: String,
    }
    let row = Row {
        _id: "one".into(),
        name: "n".into(),
    };
    let document = Document::from_serde(&row).unwrap();
    assert_eq!(document, stored(&json!({"name": "n"})));
    assert_eq!(document.to_serde::<Row>().unwrap().name, "n");
    assert!(matches!(
        document.to_serde::<Vec<u8>>(),
        Err(Error::Invalid { .. })
    ));
}

#[test]
fn s27_what_cannot_be_stored_is_refused() {
    let invalid = |result: Result<Document, Error>| {
        assert!(matches!(result, Err(Error::Invalid { .. })), "{result:?}");
    };
    for value in [
        json!(null),
        json!([1]),
        json!("text"),
        json!({"/": "not a cid"}),
        json!({"/": {"bytes": "AA"}}),
        json!({"_id": "x", "/": 1}),
        json!({"a": {"/": "not a cid"}}),
        json!({"a": {"/": {"bytes": "not base64!"}}}),
        json!({"a": {"/": {"bytes": 1}}}),
        json!({"a": {"/": {"bytes": "AA", "more": 1}}}),
        json!({"a": {"/": null}}),
    ] {
        invalid(Document::from_json(&value));
    }
    let mut deep = json!({});
    for _ in 0..130 {
        deep = json!({ "a": [deep] });
    }
    invalid(Document::from_json(&deep));
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        invalid(Document::from_serde(&BTreeMap::from([("a", float)])));
        invalid(Document::from_serde(&BTreeMap::from([("a", vec![float])])));
    }
    invalid(Document::from_serde(&BTreeMap::from([(
        "a",
        i128::from(i64::MIN) - 1,
    )])));
    invalid(Document::from_serde(&BTreeMap::from([("a", i128::MAX)])));
    invalid(Document::from_serde(&BTreeMap::from([("/", 1)])));
    invalid(Document::from_serde(&BTreeMap::from([(1, 1)])));
    invalid(Document::from_serde(&1));
    let large = json!({"a": "x".repeat(5 << 20)});
    assert!(matches!(
        Document::from_json(&large),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn only_canonical_bytes_are_taken() {
    for (bytes, what) in [
        (&b""[..], "nothing"),
        (b"\x80", "an array"),
        (b"\xa0\x00", "bytes behind"),
        (b"\xa1\x61a", "cut short"),
        (b"\xa2\x61b\x01\x61a\x02", "keys out of order"),
        (b"\xa2\x62aa\x01\x61b\x02", "a longer key first"),
        (b"\xa2\x61a\x01\x61a\x02", "a key twice"),
        (b"\xa1\x61a\x18\x01", "a long number"),
        (b"\xa1\x78\x01a\x01", "a long length"),
        (b"\xa1\x61a\xf9\x3c\x00", "a half float"),
        (b"\xa1\x61a\xfa\x3f\x80\x00\x00", "a float of 32 bits"),
        (
            b"\xa1\x61a\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
            "not a number",
        ),
        (
            b"\xa1\x61a\xfb\x80\x00\x00\x00\x00\x00\x00\x00",
            "a second zero",
        ),
        (b"\xa1\x61a\xf7", "undefined"),
        (b"\xa1\x61a\x9f\xff", "no end"),
        (b"\xbf\xff", "no end"),
        (b"\xa1\x61a\xc1\x01", "another tag"),
        (b"\xa1\x61a\xd8\x2a\x41\x00", "an empty link"),
        (
            b"\xa1\x61a\xd8\x2a\x46\x00\x01\x71\x12\x00\x07",
            "bytes behind a CID",
        ),
        (b"\xa1\x01\x01", "a key that is a number"),
        (b"\xa1\x61\xff\x01", "text that is not UTF-8"),
        (
            b"\xa1\x61a\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
            "below -2^63",
        ),
        (b"\xa1\x61/\x01", "a reserved key"),
        (b"\xa1\x63_id\x01", "an id"),
        (
            b"\xa1\x61a\x9b\x00\x00\x00\xff\xff\xff\xff\xff",
            "a count beyond the end",
        ),
        (
            b"\xa1\x61a\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            "a length beyond the end",
        ),
    ] {
        let error = Document::from_bytes(Bytes::from_static(bytes)).expect_err(what);
        assert!(error.is_corrupt(), "{what}: {error}");
    }
    let deep: Vec<u8> = b"\xa1\x61a"
        .iter()
        .copied()
        .chain([0x81; 100_000])
        .collect();
    assert!(Document::from_bytes(deep.into()).unwrap_err().is_corrupt());
}

#[test]
fn fields_are_read_alone() {
    let document = stored(&json!({"a": {"b": [10, {"c": "deep"}]}, "bb": null, "n": 0}));
    assert_eq!(document.field(&["a", "b", "1", "c"]), Some(json!("deep")));
    assert_eq!(document.field(&["a", "b", "0"]), Some(json!(10)));
    assert_eq!(document.field(&["bb"]), Some(json!(null)));
    assert_eq!(document.field::<&str>(&[]), Some(document.to_json()));
    for path in [
        &["x"][..],
        &["a", "b", "2"],
        &["a", "b", "x"],
        &["n", "x"],
        &["a", "c"],
    ] {
        assert_eq!(document.field(path), None);
    }
}

#[test]
fn a_document_has_its_golden_address() {
    let value = json!({"name": "Ada", "born": 1815, "tags": ["a", "b"], "x": {"y": 1.5}});
    let block: Block = stored(&value).block();
    assert_eq!(
        block.cid.to_string(),
        "bafyreie22ayt4e2tgmhqr6umaztbouqzxso7ezsn3ffpeg7dvcfhv26k5e"
    );
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-zé]{0,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn documents_come_back(map in prop::collection::btree_map("[a-zé]{0,30}", json_value(), 0..8)) {
        let value = Value::Object(map.into_iter().collect());
        prop_assert_eq!(stored(&value).to_json(), value);
    }

    #[test]
    fn hostile_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut map = vec![0xa1, 0x61, b'a'];
        map.extend(&bytes);
        for bytes in [bytes, map] {
            if let Ok(document) = Document::from_bytes(bytes.clone().into()) {
                let ipld: Ipld = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
                prop_assert_eq!(serde_ipld_dagcbor::to_vec(&ipld).unwrap(), bytes);
                prop_assert_eq!(Document::from_json(&document.to_json()).unwrap(), document);
            }
        }
    }

    #[test]
    fn flipped_and_cut_documents_are_refused_or_canonical(value in json_value(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let document = stored(&json!({ "a": value }));
        let mut flipped = document.bytes().to_vec();
        let at = at.index(flipped.len());
        prop_assert!(Document::from_bytes(document.bytes().slice(..at)).unwrap_err().is_corrupt());
        flipped[at] ^= 1 << bit;
        if let Ok(document) = Document::from_bytes(flipped.into()) {
            let again = Document::from_json(&document.to_json()).unwrap();
            prop_assert_eq!(again, document);
        }
    }
}
