//! Siltstone: `Text` and `List` of `siltstone-list`; every edit is a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use siltstone_list::{Delta, Frontier, Session, Value};

use crate::list::engine::{Form, ListEngine, Result, TextEngine};
use crate::list::item::{Item, Scalar};
use crate::list::trace::Patch;

fn session(writer: u64) -> Session {
    Session::new("writer", writer)
}

/// A text.
pub(crate) struct Text {
    text: siltstone_list::Text,
    /// The version up to which messages were taken or received, if they are kept.
    sent: Option<Frontier>,
}

impl TextEngine for Text {
    type History = Vec<u8>;
    type Message = Vec<u8>;

    fn new(writer: u64) -> Self {
        Self {
            text: siltstone_list::Text::new(session(writer)),
            sent: None,
        }
    }

    fn keep_messages(&mut self) {
        self.sent = Some(self.text.frontier());
    }

    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()> {
        for patch in patches {
            let range = patch.at..patch.at + patch.deleted;
            match (patch.deleted, patch.inserted) {
                (0, inserted) => self.text.insert_at_char(patch.at, inserted)?,
                (_, "") => self.text.delete_chars(range)?,
                (_, inserted) => self.text.splice_chars(range, inserted)?,
            }
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(self.text.text())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(self.text.encode()?)
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self {
            text: siltstone_list::Text::decode(bytes, session(2))?,
            sent: None,
        })
    }

    fn history(&mut self) -> Result<Vec<u8>> {
        Ok(self.text.missing_since(&Frontier::new())?)
    }

    fn import(&mut self, history: &Vec<u8>) -> Result<()> {
        self.text.apply(history)?;
        Ok(())
    }

    fn take_message(&mut self, _form: Form) -> Result<Vec<u8>> {
        let sent = self.sent.as_mut().ok_or("messages were not kept")?;
        let message = self.text.missing_since(sent)?;
        *sent = self.text.frontier();
        Ok(message)
    }

    fn apply(&mut self, message: &Vec<u8>) -> Result<()> {
        self.text.apply(message)?;
        if let Some(sent) = &mut self.sent {
            *sent = self.text.frontier();
        }
        Ok(())
    }
}

/// A list.
pub(crate) struct List(siltstone_list::List);

fn value(item: &Item) -> Value {
    match item {
        Item::Int(number) => Value::from(*number),
        Item::Float(number) => Value::from(*number),
        Item::Flag(flag) => Value::from(*flag),
        Item::Text(text) => Value::from(text.as_str()),
    }
}

fn scalar(value: &Value) -> Result<Scalar<'_>> {
    let number = || value.as_i64().map(Scalar::Int);
    let float = || value.as_f64().map(Scalar::Float);
    let flag = || value.as_bool().map(Scalar::Flag);
    let text = || value.as_str().map(Scalar::Text);
    let found = number().or_else(float).or_else(flag).or_else(text);
    found.ok_or_else(|| "an element of a kind that was never put in".into())
}

impl ListEngine for List {
    type Values = Vec<Value>;

    fn new(writer: u64) -> Self {
        Self(siltstone_list::List::new(session(writer)))
    }

    fn append(&mut self, item: &Item) -> Result<()> {
        self.0.append(value(item))?;
        Ok(())
    }

    fn insert(&mut self, at: usize, item: &Item) -> Result<()> {
        self.0.insert(at, value(item))?;
        Ok(())
    }

    fn prepend(&mut self, item: &Item) -> Result<()> {
        self.0.prepend(value(item))?;
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<()> {
        self.0.delete(at..at + 1)?;
        Ok(())
    }

    fn move_to(&mut self, from: usize, to: usize) -> Result<()> {
        self.0.move_to(from, to)?;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&self, at: usize) -> Result<Option<u64>> {
        let found = self.0.get(at);
        found.map(|found| Ok(scalar(found)?.digest())).transpose()
    }

    fn to_vec(&self) -> Result<Vec<Value>> {
        Ok(self.0.to_vec())
    }

    fn each(values: &Vec<Value>, mut see: impl FnMut(Scalar<'_>)) -> Result<()> {
        for value in values {
            see(scalar(value)?);
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(self.0.encode()?)
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self(siltstone_list::List::decode(bytes, session(2))?))
    }

    fn pull(&mut self, from: &mut Self) -> Result<()> {
        let missing = from.0.missing_since(&self.0.frontier())?;
        self.0.apply(&missing)?;
        Ok(())
    }

    fn subscribe(&mut self, seen: Arc<AtomicUsize>) -> Result<()> {
        self.0.subscribe(move |event| {
            for step in &event.delta {
                if let Delta::Insert(values) = step {
                    seen.fetch_add(values.len(), Relaxed);
                }
            }
        });
        Ok(())
    }
}
