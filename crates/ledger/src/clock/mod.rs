//! The Merkle clock: who wrote what after what.
//!
//! An [`Event`] names a [`Change`] and the map of documents after it; a change names the events before
//! it. Heads are events nobody has built upon. The map's values are [`Siblings`]: a write replaces those
//! it knew of, and those it did not know of stay beside it, so that what a set of heads means depends on
//! the events alone.

mod ancestors;
mod append;
mod change;
mod event;
mod siblings;

pub(crate) use ancestors::reaches;
pub use ancestors::{Apart, apart, events_since, knows, newest};
pub(crate) use append::set_conflict;
pub use append::{MAX_ID_BYTES, Write, append};
pub use change::{Change, MAX_OPS, Op};
pub(crate) use change::{next_lamport, put_links, read_links, read_list};
pub use event::Event;
pub(crate) use event::check_version;
pub use siblings::{Sibling, Siblings};
