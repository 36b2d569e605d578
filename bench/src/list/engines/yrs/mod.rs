//! yrs 0.28, the Rust edition of Yjs: one document with one root type. It stores state: deleted
//! content and history are dropped. Stored and sent is the v1 format, its fastest.

mod list;
mod text;

pub(crate) use list::List;
pub(crate) use text::Text;

use yrs::updates::decoder::Decode;
use yrs::{Doc, ReadTxn, StateVector, Transact, Update};

use crate::list::engine::Result;

/// The name of the root type.
const ROOT: &str = "root";

fn whole(document: &Doc) -> Vec<u8> {
    document
        .transact()
        .encode_state_as_update_v1(&StateVector::default())
}

fn apply(document: &Doc, update: &[u8]) -> Result<()> {
    let update = Update::decode_v1(update)?;
    document.transact_mut().apply_update(update)?;
    Ok(())
}

fn document(writer: u64) -> Doc {
    Doc::with_client_id(writer)
}
