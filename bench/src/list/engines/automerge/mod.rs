//! automerge 0.12: one `AutoCommit` document with one object at a fixed id. Stored is `save`, which
//! compresses; what travels is changes.

mod list;
mod text;

pub(crate) use list::List;
pub(crate) use text::Text;

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ObjId, ObjType, ROOT, ReadDoc};

use crate::list::engine::Result;

/// The key of the one object.
const KEY: &str = "root";

/// The writer of the change that makes the object; the same bytes on every replica.
const MAKER: u64 = 0;

fn actor(writer: u64) -> ActorId {
    ActorId::from(writer.to_be_bytes())
}

/// A document that holds an empty object of `kind`, made by the same change on every replica, so
/// that all replicas edit one object.
fn document(writer: u64, kind: ObjType) -> Result<(AutoCommit, ObjId)> {
    let mut document = AutoCommit::new().with_actor(actor(MAKER));
    let object = document.put_object(ROOT, KEY, kind)?;
    document.commit_with(automerge::transaction::CommitOptions::default().with_time(0));
    Ok((document.with_actor(actor(writer)), object))
}

fn load(bytes: &[u8]) -> Result<(AutoCommit, ObjId)> {
    let document = AutoCommit::load(bytes)?;
    let (_, object) = document
        .get(ROOT, KEY)?
        .ok_or("the document holds no object")?;
    Ok((document, object))
}
