//! `LoroList`.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use loro::{LoroDoc, LoroList, LoroValue, Subscription};

use super::{ROOT, document, each, load, pull, scalar, snapshot, subscribe, value};
use crate::list::engine::{ListEngine, Result};
use crate::list::item::{Item, Scalar};

/// A list.
pub(crate) struct List {
    document: LoroDoc,
    list: LoroList,
    subscription: Option<Subscription>,
}

impl List {
    fn of(document: LoroDoc) -> Self {
        let list = document.get_list(ROOT);
        Self {
            document,
            list,
            subscription: None,
        }
    }
}

impl ListEngine for List {
    type Values = LoroValue;

    fn new(writer: u64) -> Self {
        Self::of(document(writer))
    }

    fn append(&mut self, item: &Item) -> Result<()> {
        Ok(self.list.push(value(item))?)
    }

    fn insert(&mut self, at: usize, item: &Item) -> Result<()> {
        Ok(self.list.insert(at, value(item))?)
    }

    fn delete(&mut self, at: usize) -> Result<()> {
        Ok(self.list.delete(at, 1)?)
    }

    fn commit(&mut self) -> Result<()> {
        self.document.commit();
        Ok(())
    }

    fn get(&self, at: usize) -> Result<Option<u64>> {
        let found = self.list.get(at).and_then(|found| found.into_value().ok());
        found.map(|found| Ok(scalar(&found)?.digest())).transpose()
    }

    fn to_vec(&self) -> Result<LoroValue> {
        Ok(self.list.get_value())
    }

    fn each(values: &LoroValue, see: impl FnMut(Scalar<'_>)) -> Result<()> {
        each(values, see)
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        snapshot(&self.document)
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        Ok(Self::of(load(bytes)?))
    }

    fn pull(&mut self, from: &mut Self) -> Result<()> {
        pull(&self.document, &from.document)
    }

    fn subscribe(&mut self, seen: Arc<AtomicUsize>) -> Result<()> {
        self.subscription = Some(subscribe(&self.document, seen));
        Ok(())
    }
}
