//! The floor: a plain string and a plain vector. No identity, no history and no merging, so it says
//! only what the edits themselves cost.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::list::engine::{Form, ListEngine, Result, TextEngine};
use crate::list::item::{Item, Scalar};
use crate::list::trace::Patch;

/// A string.
pub(crate) struct Text(String);

/// A vector.
pub(crate) struct List(Vec<Item>);

fn cannot<T>(what: &str) -> Result<T> {
    Err(format!("floor cannot {what}").into())
}

impl TextEngine for Text {
    type History = String;
    type Message = ();

    fn new(_writer: u64) -> Self {
        Self(String::new())
    }

    fn edit<'a>(&mut self, patches: impl Iterator<Item = Patch<'a>>) -> Result<()> {
        for patch in patches {
            let range = patch.at..patch.at + patch.deleted;
            self.0.replace_range(range, patch.inserted);
        }
        Ok(())
    }

    fn text(&self) -> Result<String> {
        Ok(self.0.clone())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self(String::from_utf8(bytes.to_vec())?))
    }

    fn history(&mut self) -> Result<String> {
        Ok(self.0.clone())
    }

    fn import(&mut self, history: &String) -> Result<()> {
        self.0.clone_from(history);
        Ok(())
    }

    fn take_message(&mut self, _form: Form) -> Result<()> {
        cannot("send messages")
    }

    fn apply(&mut self, _message: &()) -> Result<()> {
        cannot("receive messages")
    }
}

impl ListEngine for List {
    type Values = Vec<Item>;

    fn new(_writer: u64) -> Self {
        Self(Vec::new())
    }

    fn append(&mut self, item: &Item) -> Result<()> {
        self.0.push(item.clone());
        Ok(())
    }

    fn insert(&mut self, at: usize, item: &Item) -> Result<()> {
        self.0.insert(at, item.clone());
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<()> {
        self.0.remove(at);
        Ok(())
    }

    fn move_to(&mut self, from: usize, to: usize) -> Result<()> {
        let item = self.0.remove(from);
        self.0.insert(to, item);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&self, at: usize) -> Result<Option<u64>> {
        Ok(self.0.get(at).map(|item| item.as_scalar().digest()))
    }

    fn to_vec(&self) -> Result<Vec<Item>> {
        Ok(self.0.clone())
    }

    fn each(values: &Vec<Item>, see: impl FnMut(Scalar<'_>)) -> Result<()> {
        values.iter().map(Item::as_scalar).for_each(see);
        Ok(())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.0)?)
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self(serde_json::from_slice(bytes)?))
    }

    fn pull(&mut self, _from: &mut Self) -> Result<()> {
        cannot("merge")
    }

    fn subscribe(&mut self, _seen: Arc<AtomicUsize>) -> Result<()> {
        cannot("tell subscribers")
    }
}
