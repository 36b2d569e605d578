//! A list object; edits are one transaction unless each is followed by a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjId, ObjType, PatchAction, ReadDoc, ScalarValue, Value};

use super::{document, load};
use crate::list::engine::{ListEngine, Result};
use crate::list::item::{Item, Scalar};

/// A list.
pub(crate) struct List {
    document: AutoCommit,
    list: ObjId,
    /// Elements in it; automerge would count them.
    len: usize,
    /// Counts inserted elements, if there is a subscriber.
    subscriber: Option<Arc<AtomicUsize>>,
}

fn value(item: &Item) -> ScalarValue {
    match item {
        Item::Int(number) => ScalarValue::Int(*number),
        Item::Float(number) => ScalarValue::F64(*number),
        Item::Flag(flag) => ScalarValue::Boolean(*flag),
        Item::Text(text) => ScalarValue::Str(text.as_str().into()),
    }
}

fn scalar<'a>(value: &'a Value<'_>) -> Result<Scalar<'a>> {
    let Value::Scalar(value) = value else {
        return Err("an object where there was none".into());
    };
    match value.as_ref() {
        ScalarValue::Int(number) => Ok(Scalar::Int(*number)),
        ScalarValue::F64(number) => Ok(Scalar::Float(*number)),
        ScalarValue::Boolean(flag) => Ok(Scalar::Flag(*flag)),
        ScalarValue::Str(text) => Ok(Scalar::Text(text)),
        _ => Err("an element of a kind that was never put in".into()),
    }
}

impl ListEngine for List {
    type Values = Vec<Value<'static>>;

    fn new(writer: u64) -> Self {
        let (document, list) = document(writer, ObjType::List).expect("an empty document is ours");
        Self {
            document,
            list,
            len: 0,
            subscriber: None,
        }
    }

    fn append(&mut self, item: &Item) -> Result<()> {
        self.insert(self.len, item)
    }

    fn insert(&mut self, at: usize, item: &Item) -> Result<()> {
        self.document.insert(&self.list, at, value(item))?;
        self.len += 1;
        Ok(())
    }

    fn delete(&mut self, at: usize) -> Result<()> {
        self.document.delete(&self.list, at)?;
        self.len -= 1;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.document.commit();
        if let Some(seen) = &self.subscriber {
            for patch in self.document.diff_incremental() {
                if let PatchAction::Insert { values, .. } = patch.action {
                    seen.fetch_add(values.len(), Relaxed);
                }
            }
        }
        Ok(())
    }

    fn get(&self, at: usize) -> Result<Option<u64>> {
        let found = self.document.get(&self.list, at)?;
        found
            .map(|(found, _)| Ok(scalar(&found)?.digest()))
            .transpose()
    }

    fn to_vec(&self) -> Result<Vec<Value<'static>>> {
        let all = self.document.list_range(&self.list, ..);
        Ok(all.map(|item| item.value.into_value().to_owned()).collect())
    }

    fn each(values: &Vec<Value<'static>>, mut see: impl FnMut(Scalar<'_>)) -> Result<()> {
        for value in values {
            see(scalar(value)?);
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<Vec<u8>> {
        Ok(self.document.save())
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let (document, list) = load(bytes)?;
        let len = document.length(&list);
        Ok(Self {
            document,
            list,
            len,
            subscriber: None,
        })
    }

    fn pull(&mut self, from: &mut Self) -> Result<()> {
        self.document.merge(&mut from.document)?;
        self.len = self.document.length(&self.list);
        Ok(())
    }

    fn subscribe(&mut self, seen: Arc<AtomicUsize>) -> Result<()> {
        self.document.update_diff_cursor();
        self.subscriber = Some(seen);
        Ok(())
    }
}
