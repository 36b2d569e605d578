//! `Array`, with a transaction for each edit. Finding a place walks the array, so edits and reads at
//! random places are quadratic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use yrs::types::Change;
use yrs::{Any, Array, ArrayRef, Doc, Number, Observable, Out, ReadTxn, Transact};

use super::{ROOT, apply, document, whole};
use crate::list::engine::{ListEngine, Result};
use crate::list::item::{Item, Scalar};

/// A list.
pub(crate) struct List {
    document: Doc,
    list: ArrayRef,
}

fn value(item: &Item) -> Any {
    match item {
        Item::Int(number) => Any::Number(Number::Int(*number)),
        Item::Float(number) => Any::Number(Number::Float(*number)),
        Item::Flag(flag) => Any::Bool(*flag),
        Item::Text(text) => Any::from(text.as_str()),
    }
}

fn scalar(value: &Out) -> Result<Scalar<'_>> {
    match value {
        Out::Any(Any::Number(Number::Int(number))) => Ok(Scalar::Int(*number)),
        Out::Any(Any::Number(Number::Float(number))) => Ok(Scalar::Float(*number)),
        Out::Any(Any::Bool(flag)) => Ok(Scalar::Flag(*flag)),
        Out::Any(Any::String(text)) => Ok(Scalar::Text(text)),
        _ => Err("an element of a kind that was never put in".into()),
    }
}

impl ListEngine for List {
    const MOST_RANDOM: usize = 20_000;
    type Values = Vec<Out>;

    fn new(writer: u64) -> Self {
        let document = document(writer);
        let list = document.get_or_insert_array(ROOT);
        Self { document, list }
    }

    fn append(&mut self, item: &Item) -> Result<()> {
        self.list
            .push_back(&mut self.document.transact_mut(), value(item));
        Ok(())
    }

    fn insert(&mut self, at: usize, item: &Item) -> Result<()> {
        let at = u32::try_from(at)?;
        self.list
            .insert(&mut self.document.transact_mut(), at, value(item));
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<()> {
        let at = u32::try_from(at)?;
        self.list.remove(&mut self.document.transact_mut(), at);
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&self, at: usize) -> Result<Option<u64>> {
        let at = u32::try_from(at)?;
        let found = self.list.get(&self.document.transact(), at);
        found.map(|found| Ok(scalar(&found)?.digest())).transpose()
    }

    fn to_vec(&self) -> Result<Vec<Out>> {
        Ok(self.list.iter(&self.document.transact()).collect())
    }

    fn each(values: &Vec<Out>, mut see: impl FnMut(Scalar<'_>)) -> Result<()> {
        for value in values {
            see(scalar(value)?);
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(whole(&self.document))
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let loaded = Self::new(2);
        apply(&loaded.document, bytes)?;
        Ok(loaded)
    }

    fn pull(&mut self, from: &mut Self) -> Result<()> {
        let known = self.document.transact().state_vector();
        let missing = from.document.transact().encode_diff_v1(&known);
        apply(&self.document, &missing)
    }

    fn subscribe(&mut self, seen: Arc<AtomicUsize>) -> Result<()> {
        self.list.observe("bench", move |transaction, event| {
            for change in event.delta(transaction) {
                if let Change::Added(values) = change {
                    seen.fetch_add(values.len(), Relaxed);
                }
            }
        });
        Ok(())
    }
}
