//! Siltstone: `Text` and `List` of `siltstone-list`; every edit is a transaction.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use siltstone_list::{Chars, Content, Delta, Frontier, Packed, Sequence, Session, Value, Values};

use crate::list::engine::{Form, ListEngine, Result, TextEngine};
use crate::list::item::{Item, Scalar};
use crate::list::trace::Patch;

fn session(writer: u64) -> Session {
    Session::new("writer", writer)
}

/// A text. A stored one stays packed until it is edited.
pub(crate) struct Text {
    text: Opened<Chars>,
    /// The version up to which messages were taken or received, if they are kept.
    sent: Option<Frontier>,
}

enum Opened<C: Content> {
    Packed(Packed<C>),
    Open(Box<Sequence<C>>),
}

impl<C: Content> Opened<C> {
    fn open(&mut self) -> Result<&mut Sequence<C>> {
        if let Self::Packed(packed) = self {
            *self = Self::Open(Box::new(packed.open(session(2))?));
        }
        match self {
            Self::Open(sequence) => Ok(sequence),
            Self::Packed(_) => Err("it was just opened".into()),
        }
    }

    fn opened(&self) -> Result<&Sequence<C>> {
        match self {
            Self::Open(sequence) => Ok(sequence),
            Self::Packed(_) => Err("it was not edited yet".into()),
        }
    }
}

/// A message as it is sent, or read already.
pub(crate) enum Message {
    Bytes(Vec<u8>),
    Read(siltstone_list::Message<Chars>),
}

impl TextEngine for Text {
    type History = Vec<u8>;
    type Message = Message;

    fn new(writer: u64) -> Self {
        Self {
            text: Opened::Open(Box::new(Sequence::new(session(writer)))),
            sent: None,
        }
    }

    fn keep_messages(&mut self) {
        self.sent = self.text.open().ok().map(|text| text.frontier());
    }

    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()> {
        let text = self.text.open()?;
        for patch in patches {
            let range = patch.at..patch.at + patch.deleted;
            match (patch.deleted, patch.inserted) {
                (0, inserted) => text.insert_at_char(patch.at, inserted)?,
                (_, "") => text.delete_chars(range)?,
                (_, inserted) => text.splice_chars(range, inserted)?,
            }
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(match &self.text {
            Opened::Packed(packed) => packed.text().to_owned(),
            Opened::Open(text) => text.text(),
        })
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(self.text.open()?.encode()?)
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self {
            text: Opened::Packed(Packed::new(bytes)?),
            sent: None,
        })
    }

    fn history(&mut self) -> Result<Vec<u8>> {
        Ok(self.text.open()?.missing_since(&Frontier::new())?)
    }

    fn import(&mut self, history: &Vec<u8>) -> Result<()> {
        self.text.open()?.apply(history)?;
        Ok(())
    }

    fn take_message(&mut self, form: Form) -> Result<Message> {
        let sent = self.sent.take().ok_or("messages were not kept")?;
        let text = self.text.open()?;
        let (bytes, now) = (text.missing_since(&sent)?, text.frontier());
        self.sent = Some(now);
        Ok(match form {
            Form::Bytes => Message::Bytes(bytes),
            Form::Objects => Message::Read(siltstone_list::Text::read_message(&bytes)?),
        })
    }

    fn apply(&mut self, message: &Message) -> Result<()> {
        let text = self.text.open()?;
        match message {
            Message::Bytes(bytes) => text.apply(bytes)?,
            Message::Read(message) => text.apply_message(message)?,
        };
        if self.sent.is_some() {
            self.sent = Some(self.text.open()?.frontier());
        }
        Ok(())
    }
}

/// A list.
pub(crate) struct List(Opened<Values>);

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
        Self(Opened::Open(Box::new(Sequence::new(session(writer)))))
    }

    fn append(&mut self, item: &Item) -> Result<()> {
        self.0.open()?.append(value(item))?;
        Ok(())
    }

    fn insert(&mut self, at: usize, item: &Item) -> Result<()> {
        self.0.open()?.insert(at, value(item))?;
        Ok(())
    }

    fn prepend(&mut self, item: &Item) -> Result<()> {
        self.0.open()?.prepend(value(item))?;
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<()> {
        self.0.open()?.delete(at..at + 1)?;
        Ok(())
    }

    fn move_to(&mut self, from: usize, to: usize) -> Result<()> {
        self.0.open()?.move_to(from, to)?;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&self, at: usize) -> Result<Option<u64>> {
        let found = match &self.0 {
            Opened::Packed(packed) => packed.values().get(at).map(Cow::Borrowed),
            Opened::Open(list) => list.get(at),
        };
        found.map(|found| Ok(scalar(&found)?.digest())).transpose()
    }

    fn to_vec(&self) -> Result<Vec<Value>> {
        Ok(match &self.0 {
            Opened::Packed(packed) => packed.values().to_vec(),
            Opened::Open(list) => list.to_vec(),
        })
    }

    fn each(values: &Vec<Value>, mut see: impl FnMut(Scalar<'_>)) -> Result<()> {
        for value in values {
            see(scalar(value)?);
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(self.0.open()?.encode()?)
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self(Opened::Packed(Packed::new(bytes)?)))
    }

    fn pull(&mut self, from: &mut Self) -> Result<()> {
        let missing = from.0.opened()?.missing_since(&self.0.open()?.frontier())?;
        self.0.open()?.apply(&missing)?;
        Ok(())
    }

    fn subscribe(&mut self, seen: Arc<AtomicUsize>) -> Result<()> {
        self.0.open()?.subscribe(move |event| {
            for step in &event.delta {
                if let Delta::Insert(values) = step {
                    seen.fetch_add(values.len(), Relaxed);
                }
            }
        });
        Ok(())
    }
}
