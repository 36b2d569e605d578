//! Rows into a value, in one pass and without recursion: rows come in the order of their keys, so a
//! container comes before what it holds.

use crate::error::{Error, Result};
use crate::key;
use crate::path::Segment;
use crate::row::{self, Kind, Row};
use crate::value::{Fields, Value};
use std::collections::BTreeMap;

/// A value being put together from the rows of a node and everything below it.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// Length of the node's key.
    base: usize,
    open: Vec<Open>,
    /// The key of the innermost open container.
    key: Vec<u8>,
    done: Option<Value>,
}

/// A container whose rows are still coming.
#[derive(Debug)]
struct Open {
    /// Length of its key.
    len: usize,
    /// Its name in the container around it.
    name: Option<Segment>,
    value: Partial,
}

#[derive(Debug)]
enum Partial {
    Object(Fields),
    Dense(Vec<Value>),
    Sparse(BTreeMap<i64, Value>),
    Keyed(Vec<Value>),
}

impl Partial {
    fn of(kind: Kind<'_>) -> Self {
        match kind {
            Kind::Object => Partial::Object(Fields::new()),
            Kind::Dense => Partial::Dense(Vec::new()),
            Kind::Sparse => Partial::Sparse(BTreeMap::new()),
            Kind::Keyed(_) => Partial::Keyed(Vec::new()),
        }
    }

    /// True when an element of this name may come next.
    fn takes(&self, name: &Segment) -> bool {
        match (self, name) {
            (Partial::Object(_), Segment::Field(_))
            | (Partial::Sparse(_), Segment::Sparse(_))
            | (Partial::Keyed(_), Segment::Key(_)) => true,
            (Partial::Dense(items), Segment::Index(index)) => *index == items.len() as u64,
            _ => false,
        }
    }

    fn add(&mut self, name: Segment, value: Value) {
        match (self, name) {
            (Partial::Object(fields), Segment::Field(name)) => fields.push(name, value),
            (Partial::Sparse(items), Segment::Sparse(index)) => {
                items.insert(index, value);
            }
            (Partial::Dense(items) | Partial::Keyed(items), _) => items.push(value),
            _ => unreachable!("it was asked whether it takes it"),
        }
    }

    fn finish(self) -> Value {
        match self {
            Partial::Object(fields) => Value::Object(fields),
            Partial::Dense(items) | Partial::Keyed(items) => Value::Array(items),
            Partial::Sparse(items) => Value::Sparse(items),
        }
    }
}

impl Assembler {
    /// For the node with a key of `base` bytes.
    pub(crate) fn new(base: usize) -> Self {
        Self {
            base,
            open: Vec::new(),
            key: Vec::new(),
            done: None,
        }
    }

    /// Takes the next row.
    pub(crate) fn feed(&mut self, key: &[u8], bytes: &[u8]) -> Result<()> {
        let row = row::decode(bytes).ok_or_else(|| damaged(key, "a row that is no value"))?;
        while let Some(top) = self.open.last() {
            if key.len() > top.len && key[..top.len] == self.key[..top.len] {
                break;
            }
            self.close();
        }
        let name = match self.open.last() {
            None if key.len() == self.base && self.done.is_none() => None,
            None => return Err(damaged(key, "a node outside of every container")),
            Some(top) => {
                let step = &key[top.len..];
                match key::step(step) {
                    Some((name, len)) if len == step.len() && top.value.takes(&name) => Some(name),
                    _ => return Err(damaged(key, "a node that its container does not hold")),
                }
            }
        };
        match (row, name) {
            (Row::Container(kind), name) => {
                self.key.clear();
                self.key.extend_from_slice(key);
                self.open.push(Open {
                    len: key.len(),
                    name,
                    value: Partial::of(kind),
                });
            }
            (Row::Leaf(value), None) => self.done = Some(value),
            (Row::Leaf(value), Some(name)) => self.add(name, value),
        }
        Ok(())
    }

    fn add(&mut self, name: Segment, value: Value) {
        if let Some(top) = self.open.last_mut() {
            top.value.add(name, value);
        }
    }

    fn close(&mut self) {
        if let Some(Open { name, value, .. }) = self.open.pop() {
            match name {
                Some(name) => self.add(name, value.finish()),
                None => self.done = Some(value.finish()),
            }
        }
    }

    /// The value; `None` when there were no rows.
    pub(crate) fn finish(mut self) -> Option<Value> {
        while !self.open.is_empty() {
            self.close();
        }
        self.done
    }
}

pub(crate) fn damaged(key: &[u8], what: &str) -> Error {
    let place = match key::decode(key) {
        Some(path) => crate::error::shown(&path),
        None => format!("key {:02x?}", &key[..key.len().min(40)]),
    };
    Error::corrupt(format!("{place}: {what}"))
}
