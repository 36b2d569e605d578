//! loro 1.17: one document with one root container. Stored is the snapshot, which holds state and
//! whole history; what travels is updates.

mod list;
mod movable;
mod text;

pub(crate) use list::List;
pub(crate) use movable::MovableList;
pub(crate) use text::Text;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loro::event::{Diff, DiffEvent, ListDiffItem};
use loro::{ExportMode, LoroDoc, LoroValue, Subscription};

use crate::list::engine::Result;
use crate::list::item::{Item, Scalar};

/// The name of the root container.
const ROOT: &str = "root";

fn document(writer: u64) -> LoroDoc {
    let document = LoroDoc::new();
    document
        .set_peer_id(writer)
        .expect("an empty document takes any peer id");
    document
}

fn snapshot(document: &LoroDoc) -> Result<Vec<u8>> {
    Ok(document.export(ExportMode::Snapshot)?)
}

fn load(bytes: &[u8]) -> Result<LoroDoc> {
    Ok(LoroDoc::from_snapshot(bytes)?)
}

/// What `from` has and `to` lacks, sent from one to the other.
fn pull(to: &LoroDoc, from: &LoroDoc) -> Result<()> {
    let missing = from.export(ExportMode::updates(&to.oplog_vv()))?;
    to.import(&missing)?;
    Ok(())
}

fn value(item: &Item) -> LoroValue {
    match item {
        Item::Int(number) => LoroValue::from(*number),
        Item::Float(number) => LoroValue::from(*number),
        Item::Flag(flag) => LoroValue::from(*flag),
        Item::Text(text) => LoroValue::from(text.as_str()),
    }
}

fn scalar(value: &LoroValue) -> Result<Scalar<'_>> {
    match value {
        LoroValue::I64(number) => Ok(Scalar::Int(*number)),
        LoroValue::Double(number) => Ok(Scalar::Float(*number)),
        LoroValue::Bool(flag) => Ok(Scalar::Flag(*flag)),
        LoroValue::String(text) => Ok(Scalar::Text(text)),
        _ => Err("an element of a kind that was never put in".into()),
    }
}

fn each(value: &LoroValue, mut see: impl FnMut(Scalar<'_>)) -> Result<()> {
    let LoroValue::List(elements) = value else {
        return Err("the list is not one".into());
    };
    for element in elements.iter() {
        see(scalar(element)?);
    }
    Ok(())
}

/// Adds the elements inserted by each event to `seen`, as long as the subscription lives.
fn subscribe(document: &LoroDoc, seen: Arc<AtomicUsize>) -> Subscription {
    document.subscribe_root(Arc::new(move |event: DiffEvent<'_>| {
        let inserted = event.events.iter().map(|one| inserted(&one.diff)).sum();
        seen.fetch_add(inserted, Relaxed);
    }))
}

fn inserted(diff: &Diff<'_>) -> usize {
    let Diff::List(items) = diff else { return 0 };
    let count = |item: &ListDiffItem| match item {
        ListDiffItem::Insert { insert, .. } => insert.len(),
        _ => 0,
    };
    items.iter().map(count).sum()
}
