//! Filters: what a value must be like. Pure.
//!
//! As JSON a filter is an object. Each name is a path from the value, each value what must stand
//! there, or an object of comparisons; all must hold:
//!
//! ```
//! # use siltstone_tree::Filter;
//! let filter = Filter::parse(r#"{"state": "open", "age": {"$gte": 18, "$lt": 65},
//!     "name": {"$glob": "Os*"}, "$or": [{"vip": true}, {"tags[*]": "old"}]}"#);
//! assert!(filter.is_ok());
//! ```
//!
//! `$eq`, `$ne`, `$lt`, `$lte`, `$gt`, `$gte`, `$in`, `$glob` (`*` any text, `?` any character),
//! `$exists`; `$and`, `$or`, `$not`. A path with wildcards holds when one of the values there does.

use crate::error::{Error, Result};
use crate::path::{Path, Pattern, Segment};
use crate::value::{Value, compare_numbers};
use std::cmp::Ordering;

/// A condition on a value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Filter {
    /// All of these.
    And(Vec<Filter>),
    /// One of these.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
    /// Something at this path, from the value, passes this test.
    At(Pattern, Test),
}

/// A test of a single value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Test {
    /// It is this; numbers count by their value.
    Equal(Value),
    /// There is something else, or nothing.
    Unequal(Value),
    /// It is less.
    Less(Value),
    /// It is less, or the same.
    LessOrEqual(Value),
    /// It is more.
    More(Value),
    /// It is more, or the same.
    MoreOrEqual(Value),
    /// It is one of these.
    OneOf(Vec<Value>),
    /// It is text of this form: `*` is any text, `?` any character.
    Glob(String),
    /// There is something, or, when false, there is nothing.
    Exists(bool),
}

impl Filter {
    /// What every value passes.
    pub fn all() -> Self {
        Filter::And(Vec::new())
    }

    /// Reads a filter; see the module.
    ///
    /// # Errors
    /// [`Error::Filter`] saying what is wrong.
    pub fn parse(json: &str) -> Result<Self> {
        let value: Value = json
            .parse()
            .map_err(|error| bad(format!("is not JSON: {error}")))?;
        Self::from_value(&value)
    }

    /// As [`Filter::parse`], of a value.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn from_value(value: &Value) -> Result<Self> {
        let Value::Object(fields) = value else {
            return Ok(Filter::At(Path::root().into(), Test::Equal(value.clone())));
        };
        let list = |name: &str, value: &Value| match value {
            Value::Array(items) => items.iter().map(Filter::from_value).collect(),
            other => Err(bad(format!(
                "{name} takes an array of filters, not {}",
                other.kind()
            ))),
        };
        let mut all = Vec::new();
        for (name, value) in fields.iter() {
            match name {
                "$and" => all.push(Filter::And(list(name, value)?)),
                "$or" => all.push(Filter::Or(list(name, value)?)),
                "$not" => all.push(Filter::Not(Box::new(Filter::from_value(value)?))),
                name if name.starts_with('$') => {
                    all.push(Filter::At(Path::root().into(), Test::parse(name, value)?));
                }
                path => {
                    let pattern = Pattern::parse(path)?;
                    match value {
                        Value::Object(tests)
                            if !tests.is_empty()
                                && tests.iter().all(|(n, _)| n.starts_with('$')) =>
                        {
                            for (name, value) in tests.iter() {
                                all.push(match name {
                                    "$not" => Filter::Not(Box::new(nested(&pattern, value)?)),
                                    name => Filter::At(pattern.clone(), Test::parse(name, value)?),
                                });
                            }
                        }
                        value => all.push(Filter::At(pattern, Test::Equal(value.clone()))),
                    }
                }
            }
        }
        Ok(Filter::And(all))
    }

    /// True when `value` is like this.
    pub fn passes(&self, value: &Value) -> bool {
        match self {
            Filter::And(all) => all.iter().all(|filter| filter.passes(value)),
            Filter::Or(any) => any.iter().any(|filter| filter.passes(value)),
            Filter::Not(filter) => !filter.passes(value),
            Filter::At(pattern, test) => {
                let mut found = Vec::new();
                select(value, pattern, &mut Path::root(), &mut found);
                test.passes(&found)
            }
        }
    }
}

fn nested(pattern: &Pattern, value: &Value) -> Result<Filter> {
    let Value::Object(tests) = value else {
        return Ok(Filter::At(pattern.clone(), Test::Equal(value.clone())));
    };
    let tests = tests.iter();
    let all: Result<Vec<_>> = tests
        .map(|(name, value)| Ok(Filter::At(pattern.clone(), Test::parse(name, value)?)))
        .collect();
    Ok(Filter::And(all?))
}

fn bad(what: String) -> Error {
    Error::Filter { what }
}

impl Test {
    fn parse(name: &str, value: &Value) -> Result<Self> {
        let value = value.clone();
        Ok(match (name, value) {
            ("$eq", value) => Test::Equal(value),
            ("$ne", value) => Test::Unequal(value),
            ("$lt", value) => Test::Less(value),
            ("$lte", value) => Test::LessOrEqual(value),
            ("$gt", value) => Test::More(value),
            ("$gte", value) => Test::MoreOrEqual(value),
            ("$in", Value::Array(items)) => Test::OneOf(items),
            ("$in", other) => {
                return Err(bad(format!("$in takes an array, not {}", other.kind())));
            }
            ("$glob", Value::String(glob)) => Test::Glob(glob),
            ("$glob", other) => {
                return Err(bad(format!("$glob takes text, not {}", other.kind())));
            }
            ("$exists", Value::Bool(there)) => Test::Exists(there),
            ("$exists", other) => {
                return Err(bad(format!(
                    "$exists takes true or false, not {}",
                    other.kind()
                )));
            }
            (name, _) => {
                return Err(bad(format!(
                    "{name:?} is unknown; there are $eq $ne $lt $lte $gt $gte $in $glob $exists $and $or $not"
                )));
            }
        })
    }

    fn passes(&self, found: &[&Value]) -> bool {
        let any = |test: &dyn Fn(&Value) -> bool| found.iter().any(|value| test(value));
        let compared = |to: &Value, holds: fn(Ordering) -> bool| {
            any(&|value| compare(value, to).is_some_and(holds))
        };
        match self {
            Test::Equal(to) => any(&|value| value.same(to)),
            Test::Unequal(to) => !any(&|value| value.same(to)),
            Test::Less(to) => compared(to, Ordering::is_lt),
            Test::LessOrEqual(to) => compared(to, Ordering::is_le),
            Test::More(to) => compared(to, Ordering::is_gt),
            Test::MoreOrEqual(to) => compared(to, Ordering::is_ge),
            Test::OneOf(items) => any(&|value| items.iter().any(|item| value.same(item))),
            Test::Glob(glob) => any(&|value| value.as_str().is_some_and(|text| globs(glob, text))),
            Test::Exists(there) => found.is_empty() != *there,
        }
    }
}

/// Numbers by value, text by its characters; all else cannot be compared.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// What of `value` a pattern names. Recursion ends at the depth of a document.
fn select<'v>(value: &'v Value, pattern: &Pattern, at: &mut Path, found: &mut Vec<&'v Value>) {
    if pattern.matches(at) {
        found.push(value);
    }
    if !pattern.may_match_below(at) {
        return;
    }
    let mut into = |segment: Segment, value: &'v Value| {
        at.push(segment);
        select(value, pattern, at, found);
        at.pop();
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter() {
                into(Segment::Field(name.to_string()), value);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                into(Segment::Index(index as u64), value);
            }
        }
        Value::Sparse(items) => {
            for (index, value) in items {
                into(Segment::Sparse(*index), value);
            }
        }
        _ => {}
    }
}

/// True when `text` has the form of `glob`.
fn globs(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    let mut back = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                g += 1;
                back = Some((g, t));
            }
            Some(c) if *c == '?' || *c == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (g, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_pass_what_they_say() {
        let value: Value =
            r#"{"n": 5, "f": 5.0, "name": "Oslo", "tags": ["old", "big"], "deep": {"a": null}}"#
                .parse()
                .unwrap();
        for (filter, passes) in [
            (r#"{}"#, true),
            (r#"{"n": 5}"#, true),
            (r#"{"n": 5.0}"#, true),
            (r#"{"n": "5"}"#, false),
            (r#"{"n": {"$gt": 4, "$lte": 5}}"#, true),
            (r#"{"n": {"$gt": 5}}"#, false),
            (r#"{"n": {"$gt": "4"}}"#, false),
            (r#"{"name": {"$glob": "O*o"}}"#, true),
            (r#"{"name": {"$glob": "?slo"}}"#, true),
            (r#"{"name": {"$glob": "slo"}}"#, false),
            (r#"{"name": {"$gte": "Os"}}"#, true),
            (r#"{"tags[*]": "old"}"#, true),
            (r#"{"tags[1]": "old"}"#, false),
            (r#"{"tags": ["old", "big"]}"#, true),
            (r#"{"deep.a": null}"#, true),
            (r#"{"deep.b": null}"#, false),
            (r#"{"deep.b": {"$exists": false}}"#, true),
            (r#"{"deep.b": {"$ne": 1}}"#, true),
            (r#"{"n": {"$ne": 5}}"#, false),
            (r#"{"n": {"$in": [1, 5]}}"#, true),
            (r#"{"n": {"$not": {"$lt": 3}}}"#, true),
            (r#"{"$not": {"n": 5}}"#, false),
            (r#"{"$or": [{"n": 1}, {"name": "Oslo"}]}"#, true),
            (r#"{"$and": [{"n": 5}, {"name": "Bergen"}]}"#, false),
            (r#"{"**": "big"}"#, true),
        ] {
            assert_eq!(
                Filter::parse(filter).unwrap().passes(&value),
                passes,
                "{filter}"
            );
        }
        assert!(Filter::parse(r#"{"$gt": 3}"#).unwrap().passes(&4.into()));
        for wrong in [
            r#"{"a": {"$like": 1}}"#,
            r#"{"$or": {}}"#,
            "{",
            r#"{"a": {"$in": 1}}"#,
            r#"{"a": {"$glob": 1}}"#,
        ] {
            assert!(
                matches!(Filter::parse(wrong), Err(Error::Filter { .. })),
                "{wrong}"
            );
        }
    }
}
