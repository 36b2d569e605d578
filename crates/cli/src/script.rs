//! Scripts of operations, one a line: as words, quoted as in a shell, or as JSON objects.
//!
//! Parsing is pure, and done for the whole script before anything is opened: a mistake in the last
//! line is found before the first is done.

use crate::document::{self, Fields};
use crate::failure::{Failure, Result};
use crate::object::unhex;
use crate::units::parse_duration;
use serde_json::value::RawValue;
use std::time::Duration;

/// An operation and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its line, from 1.
    pub(crate) line: u64,
    /// What to do.
    pub(crate) op: Op,
}

/// What to do. Keys, values and operands are bytes; an empty bound of a range is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Put(Vec<u8>, Vec<u8>, Option<Duration>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Merge(Vec<u8>, Vec<u8>),
    Get(Vec<u8>),
    Scan(Vec<u8>, Vec<u8>),
    Expect(Vec<u8>, Expected),
    In(String),
    Savepoint(String),
    Rollback(String),
}

/// What a key must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    Absent,
    Present,
    Value(Vec<u8>),
}

/// Reads a whole script.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (line, text) in (1u64..).zip(text.lines()) {
        let op = match text.trim_start() {
            object if object.starts_with('{') => object_op(object).map(Some),
            words => words_op(words),
        };
        let op = op.map_err(|what| Failure::Usage(what).at(format!("line {line}")))?;
        steps.extend(op.map(|op| Step { line, op }));
    }
    check_savepoints(&steps)?;
    Ok(steps)
}

/// A rollback names a savepoint that was set before and is still there.
fn check_savepoints(steps: &[Step]) -> Result<()> {
    let mut set: Vec<&str> = Vec::new();
    for Step { line, op } in steps {
        match op {
            Op::Savepoint(name) => set.push(name),
            Op::Rollback(name) => match set.iter().rposition(|known| known == name) {
                Some(at) => set.truncate(at + 1),
                None => {
                    let what = format!("no savepoint {name:?} is set before");
                    return Err(Failure::Usage(what).at(format!("line {line}")));
                }
            },
            _ => {}
        }
    }
    Ok(())
}

/// The operation of a line of words; `None` for an empty line and a comment.
fn words_op(line: &str) -> Result<Option<Op>, String> {
    let words = shlex::split(line).ok_or("a quote is not closed, or a backslash ends the line")?;
    let Some((name, args)) = words.split_first() else {
        return Ok(None);
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let bytes = |text: &str| text.as_bytes().to_vec();
    Ok(Some(match (name.as_str(), args.as_slice()) {
        ("put", [key, value]) => Op::Put(bytes(key), bytes(value), None),
        ("put", [key, value, ttl]) => Op::Put(bytes(key), bytes(value), Some(ttl_word(ttl)?)),
        ("delete", [key]) => Op::Delete(bytes(key)),
        ("delete-range", [from, to]) => Op::DeleteRange(bytes(from), bytes(to)),
        ("merge", [key, operand]) => Op::Merge(bytes(key), bytes(operand)),
        ("get", [key]) => Op::Get(bytes(key)),
        ("scan", []) => Op::Scan(Vec::new(), Vec::new()),
        ("scan", [from]) => Op::Scan(bytes(from), Vec::new()),
        ("scan", [from, to]) => Op::Scan(bytes(from), bytes(to)),
        ("expect", [key, "absent"]) => Op::Expect(bytes(key), Expected::Absent),
        ("expect", [key, "present"]) => Op::Expect(bytes(key), Expected::Present),
        ("expect", [key, value]) => Op::Expect(bytes(key), Expected::Value(bytes(value))),
        ("in", [keyspace]) => Op::In((*keyspace).into()),
        ("savepoint", [name]) => Op::Savepoint((*name).into()),
        ("rollback", [name]) => Op::Rollback((*name).into()),
        (name, _) => return Err(misshapen(name)),
    }))
}

fn ttl_word(word: &str) -> Result<Duration, String> {
    let time = word.strip_prefix("ttl=");
    let time = time.ok_or_else(|| format!("{word:?} is not understood; write ttl=30s"))?;
    parse_duration(time).map_err(|what| format!("ttl: {what}"))
}

/// How an operation is written.
fn misshapen(name: &str) -> String {
    const SHAPES: [(&str, &str); 10] = [
        ("put", "put KEY VALUE [ttl=30s]"),
        ("delete", "delete KEY"),
        ("delete-range", "delete-range FROM TO"),
        ("merge", "merge KEY OPERAND"),
        ("get", "get KEY"),
        ("scan", "scan [FROM [TO]]"),
        ("expect", "expect KEY VALUE|absent|present"),
        ("in", "in KEYSPACE"),
        ("savepoint", "savepoint NAME"),
        ("rollback", "rollback NAME"),
    ];
    match SHAPES.iter().find(|(known, _)| *known == name) {
        Some((_, shape)) => format!("write {shape}; quote what has spaces in it"),
        None => {
            let known: Vec<_> = SHAPES.iter().map(|(known, _)| *known).collect();
            format!("no operation {name:?}; there are: {}", known.join(", "))
        }
    }
}

/// The operation of a JSON object.
fn object_op(line: &str) -> Result<Op, String> {
    let mut object = Fields::parse(line)?;
    let name = object.text("op")?.ok_or("it has no field \"op\"")?;
    let op = match name.as_str() {
        "put" => Op::Put(
            object.needed("key")?,
            object.stored("value")?.ok_or("it has no field \"value\"")?,
            object.ttl()?,
        ),
        "delete" => Op::Delete(object.needed("key")?),
        "delete-range" => Op::DeleteRange(object.bound("from")?, object.bound("to")?),
        "merge" => Op::Merge(
            object.needed("key")?,
            object
                .stored("operand")?
                .ok_or("it has no field \"operand\"")?,
        ),
        "get" => Op::Get(object.needed("key")?),
        "scan" => Op::Scan(object.bound("from")?, object.bound("to")?),
        "expect" => Op::Expect(object.needed("key")?, object.expected()?),
        "in" => Op::In(object.word("keyspace")?),
        "savepoint" => Op::Savepoint(object.word("name")?),
        "rollback" => Op::Rollback(object.word("name")?),
        name => return Err(misshapen(name)),
    };
    match object.0.first() {
        None => Ok(op),
        Some((field, _)) => Err(format!("{name} has no use for field {field:?}")),
    }
}

impl<'a> Fields<'a> {
    fn parse(line: &'a str) -> Result<Self, String> {
        serde_json::from_str(line).map_err(|error| format!("is not a JSON object: {error}"))
    }

    /// Takes a field out.
    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(field, _)| field == name)?;
        Some(self.0.remove(at).1)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let not_text = || format!("field {name:?} is not text");
        self.take(name)
            .map(|raw| document::text_of(raw).ok_or_else(not_text))
            .transpose()
    }

    fn word(&mut self, name: &str) -> Result<String, String> {
        let text = self.text(name)?;
        text.ok_or_else(|| format!("it has no field {name:?}"))
    }

    /// Text in `name`, or bytes in `name_hex`.
    fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        if let Some(text) = self.text(name)? {
            return Ok(Some(text.into_bytes()));
        }
        self.hex(name)
    }

    fn hex(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let name = format!("{name}_hex");
        let text = self.text(&name)?;
        let bytes =
            text.map(|text| unhex(&text).ok_or(format!("field {name:?} is not hexadecimal")));
        bytes.transpose()
    }

    fn needed(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let bytes = self.bytes(name)?;
        bytes.ok_or_else(|| format!("it has no field {name:?}"))
    }

    /// A bound of a range; an empty one is open.
    fn bound(&mut self, name: &str) -> Result<Vec<u8>, String> {
        Ok(self.bytes(name)?.unwrap_or_default())
    }

    /// A value as results show it: JSON in `name`, text in `name_text`, bytes in `name_hex`.
    fn stored(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        if let Some(raw) = self.take(name) {
            return Ok(Some(raw.get().as_bytes().to_vec()));
        }
        if let Some(text) = self.text(&format!("{name}_text"))? {
            return Ok(Some(text.into_bytes()));
        }
        self.hex(name)
    }

    fn ttl(&mut self) -> Result<Option<Duration>, String> {
        let text = self.text("ttl")?;
        let time = |text: String| parse_duration(&text).map_err(|what| format!("ttl: {what}"));
        text.map(time).transpose()
    }

    fn expected(&mut self) -> Result<Expected, String> {
        match (self.stored("value")?, self.text("is")?.as_deref()) {
            (Some(value), None) => Ok(Expected::Value(value)),
            (None, Some("absent")) => Ok(Expected::Absent),
            (None, Some("present")) => Ok(Expected::Present),
            _ => Err(
                "write what is expected as \"is\": \"absent\" or \"present\", or as a value".into(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(text: &str) -> Vec<Op> {
        let steps = parse(text).unwrap();
        steps.into_iter().map(|step| step.op).collect()
    }

    #[test]
    fn words_and_objects_say_the_same() {
        let words = ops(
            "put k v ttl=30s\ndelete 'a b'\ndelete-range a b\nmerge n 5\nget k\nscan\n\
                         scan a b\nexpect k absent\nexpect k v\nin side\nsavepoint s\nrollback s\n",
        );
        let objects = ops(r#"{"op":"put","key":"k","value_text":"v","ttl":"30s"}
            {"op":"delete","key_hex":"612062"}
            {"op":"delete-range","from":"a","to":"b"}
            {"op":"merge","key":"n","operand":5}
            {"op":"get","key":"k"}
            {"op":"scan"}
            {"op":"scan","from":"a","to":"b"}
            {"op":"expect","key":"k","is":"absent"}
            {"op":"expect","key":"k","value_hex":"76"}
            {"op":"in","keyspace":"side"}
            {"op":"savepoint","name":"s"}
            {"op":"rollback","name":"s"}"#);
        assert_eq!(words, objects);
    }

    #[test]
    fn lines_are_numbered_past_comments_and_empty_ones() {
        let steps = parse("# first\n\n  get k # and why\n").unwrap();
        let op = Op::Get(b"k".to_vec());
        assert_eq!(steps, [Step { line: 3, op }]);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn json_values_are_stored_as_they_are_written() {
        let stored = |line| match ops(line).remove(0) {
            Op::Put(_, value, _) => String::from_utf8(value).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            stored(r#"{"op":"put","key":"k","value":{"n": 1.50}}"#),
            r#"{"n": 1.50}"#
        );
        assert_eq!(stored(r#"{"op":"put","key":"k","value":"v"}"#), "\"v\"");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (script, words) in [
            ("get a\nput k", "line 2: write put KEY VALUE [ttl=30s]"),
            (
                "putt k v",
                "line 1: no operation \"putt\"; there are: put, ",
            ),
            ("put 'k v", "line 1: a quote is not closed"),
            ("put k v 30s", "line 1: \"30s\" is not understood"),
            ("put k v ttl=soon", "line 1: ttl: write for example"),
            ("rollback s", "line 1: no savepoint \"s\""),
            (
                "savepoint a\nsavepoint b\nrollback a\nrollback b",
                "line 4: no savepoint \"b\"",
            ),
            ("{\"op\":\"get\"}", "line 1: it has no field \"key\""),
            ("{\"op\":\"get\",\"key\":1}", "field \"key\" is not text"),
            (
                "{\"op\":\"get\",\"key\":\"k\",\"at\":1}",
                "no use for field \"at\"",
            ),
            (
                "{\"op\":\"put\",\"key\":\"k\",\"value_hex\":\"0\"}",
                "not hexadecimal",
            ),
            (
                "{\"op\":\"expect\",\"key\":\"k\"}",
                "write what is expected",
            ),
            ("{\"key\":\"k\"}", "no field \"op\""),
            ("{broken", "line 1: is not a JSON object"),
        ] {
            let failure = parse(script).unwrap_err();
            let said = failure.to_string();
            assert!(said.contains(words), "{script}: {said}");
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
