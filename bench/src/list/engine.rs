//! The contracts between the workloads and the libraries they measure: one for texts, one for lists
//! of values. A library takes part through one file in `engines/`.
//!
//! Each adapter uses the library's own types and its fastest public way; the harness only holds
//! the clock. What a method may leave out of its work is said here, so that all do the same.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use serde::{Deserialize, Serialize};

use super::item::{Item, Scalar};
use super::trace::Patch;

/// What an engine call may return; the harness adds which engine and task it was.
pub(crate) type Result<T> = crate::engine::Result<T>;

/// What one transaction travels as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Form {
    /// Bytes, which the receiver decodes.
    Bytes,
    /// The library's own objects; nothing is decoded.
    Objects,
}

impl Form {
    /// The name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Objects => "objects",
        }
    }
}

/// A text that is edited by position. Positions are in ASCII characters.
pub(crate) trait TextEngine: Sized {
    /// The form it travels in where either would do.
    const FORM: Form = Form::Bytes;
    /// Everything a fresh replica needs to have the whole history.
    type History;
    /// One transaction, ready to be sent.
    type Message;

    /// An empty text, written by `writer`.
    fn new(writer: u64) -> Self;

    /// Asks it to keep edits for [`Self::take_message`] and [`Self::history`], if it would not.
    fn keep_messages(&mut self) {}

    /// Makes the edits of one transaction of a trace, one by one: each deletes characters and then
    /// inserts some at the same place.
    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()>;

    /// Makes all edits so far part of the history, for an engine that is faster if this comes late.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// The text.
    fn text(&self) -> Result<String>;

    /// The stored form that [`Self::load`] reads.
    fn encode(&mut self) -> Result<Vec<u8>>;

    /// The smallest stored form, where that is another.
    fn encode_small(&mut self) -> Result<Vec<u8>> {
        self.encode()
    }

    /// Reads what [`Self::encode`] made.
    fn load(bytes: &[u8]) -> Result<Self>;

    /// The whole history, as it would be sent to a replica that has nothing.
    fn history(&mut self) -> Result<Self::History>;

    /// Takes in a whole history.
    fn import(&mut self, history: &Self::History) -> Result<()>;

    /// The edits since the last call, or since the last [`Self::apply`].
    fn take_message(&mut self, form: Form) -> Result<Self::Message>;

    /// Takes in one message; the text is up to date afterwards.
    fn apply(&mut self, message: &Self::Message) -> Result<()>;

    /// Takes in many messages, if that is faster than one by one.
    fn apply_all<'a>(&mut self, messages: impl Iterator<Item = &'a Self::Message>) -> Result<()>
    where
        Self::Message: 'a,
    {
        for message in messages {
            self.apply(message)?;
        }
        Ok(())
    }
}

/// A list of JSON scalars that is edited by position.
pub(crate) trait ListEngine: Sized {
    /// Most edits at random places that end in bounded time.
    const MOST_RANDOM: usize = usize::MAX;
    /// The library's own form of the whole list in memory.
    type Values;

    /// An empty list, written by `writer`.
    fn new(writer: u64) -> Self;

    /// Puts `item` at the end.
    fn append(&mut self, item: &Item) -> Result<()>;

    /// Puts `item` before the element at `at`.
    fn insert(&mut self, at: usize, item: &Item) -> Result<()>;

    /// Puts `item` at the beginning.
    fn prepend(&mut self, item: &Item) -> Result<()> {
        self.insert(0, item)
    }

    /// Deletes the element at `at`.
    fn delete(&mut self, at: usize) -> Result<()>;

    /// Moves the element at `from`, so that it then is at `to`.
    fn move_to(&mut self, from: usize, to: usize) -> Result<()> {
        Err(format!("this list cannot move {from} to {to}").into())
    }

    /// Ends a transaction. Edits are followed by one at least at the end; an engine for which each
    /// edit is a transaction does nothing.
    fn commit(&mut self) -> Result<()>;

    /// Reads one element and digests it.
    fn get(&self, at: usize) -> Result<Option<u64>>;

    /// The whole list, as the library gives it.
    fn to_vec(&self) -> Result<Self::Values>;

    /// Shows each element of what [`Self::to_vec`] gave.
    fn each(values: &Self::Values, see: impl FnMut(Scalar<'_>)) -> Result<()>;

    /// The stored form that [`Self::load`] reads, whole history included where the library has one.
    fn encode(&mut self) -> Result<Vec<u8>>;

    /// Reads what [`Self::encode`] made.
    fn load(bytes: &[u8]) -> Result<Self>;

    /// Takes in everything that `from` has and this replica lacks.
    fn pull(&mut self, from: &mut Self) -> Result<()>;

    /// Attaches a subscriber that adds the elements inserted by each event to `seen`. Events may
    /// come with [`Self::commit`].
    fn subscribe(&mut self, seen: Arc<AtomicUsize>) -> Result<()>;
}

/// An error if an engine gave a wrong answer.
pub(crate) fn ensure(right: bool, what: &str) -> Result<()> {
    if right { Ok(()) } else { Err(what.into()) }
}
