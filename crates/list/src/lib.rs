//! Collaborative lists of JSON values, and texts, that any number of writers edit apart and that come
//! out the same everywhere.
//!
//! [`List`] and [`Text`] are plain values without I/O: edit by position, exchange bytes, and copies
//! that have seen the same transactions are equal.
//!
//! ```
//! use siltstone_list::{Session, Text};
//!
//! let mut ann = Text::new(Session::new("ann", 1));
//! ann.insert_at_char(0, "Silt settles.")?;
//! let mut ben = Text::new(Session::new("ben", 1));
//! ben.apply(&ann.missing_since(&ben.frontier())?)?;
//!
//! ann.insert_at_char(12, " and is compacted")?;
//! ben.insert_at_char(0, "How stone is made: ")?;
//! ann.apply(&ben.missing_since(&ann.frontier())?)?;
//! ben.apply(&ann.missing_since(&ben.frontier())?)?;
//! assert_eq!(ann.text(), "How stone is made: Silt settles and is compacted.");
//! assert_eq!(ben.text(), ann.text());
//! # Ok::<(), siltstone_list::Error>(())
//! ```
//!
//! A [`Session`] names a writer's copy; a [`Frontier`] names a version. Elements keep stable names
//! ([`OpId`]) for good, deleted ones too, which is what lets late operations find their place.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod apply;
mod births;
mod bits;
mod build;
mod cell;
mod codec;
mod content;
mod cursor;
mod delta;
mod doc;
mod error;
mod event;
mod history;
mod id;
mod incoming;
mod list;
mod log;
mod lone;
mod order;
mod outgoing;
mod packed;
mod pending;
mod permit;
mod read;
mod sequence;
mod stage;
mod stats;
mod text;
mod tree;
mod undo;
mod update;
mod version;

pub use apply::{Applied, Conflict};
pub use content::{Chars, Content, Values};
pub use cursor::{Bias, Cursor};
pub use delta::Delta;
pub use error::{Error, Result};
pub use event::{Event, Origin, Subscription};
pub use history::TransactionInfo;
pub use id::{Frontier, MAX_NAME_BYTES, OpId, Session};
pub use list::List;
pub use packed::{Packed, PackedList, PackedText};
pub use permit::{Action, Request};
pub use sequence::{Edit, Message, Sequence, Waiting};
pub use serde_json::Value;
pub use stage::Transaction;
pub use stats::CompactionStats;
pub use text::Text;
pub use version::View;
