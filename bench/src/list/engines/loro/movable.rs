//! `LoroMovableList`, which has moves.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use loro::{LoroDoc, LoroMovableList, LoroValue, Subscription};

use super::{ROOT, document, each, load, pull, scalar, snapshot, subscribe, value};
use crate::list::engine::{ListEngine, Result};
use crate::list::item::{Item, Scalar};

/// A list with moves.
pub(crate) struct MovableList {
    document: LoroDoc,
    list: LoroMovableList,
    subscription: Option<Subscription>,
}

impl MovableList {
    fn of(document: LoroDoc) -> Self {
        let list = document.get_movable_list(ROOT);
        Self {
            document,
            list,
            subscription: None,
        }
    }
}

impl ListEngine for MovableList {
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

    fn move_to(&mut self, from: usize, to: usize) -> Result<()> {
        Ok(self.list.mov(from, to)?)
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
