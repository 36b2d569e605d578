//! Siltstone's document tree: one versioned JSON document of any size, addressed by path, shared by
//! many writers and watchers, with its exact past.
//!
//! - [`Trees`], [`Tree`]: open and create trees; read, patch, set, append, count, declare
//! - [`Path`], [`Pattern`], [`Value`]: kinded paths, wildcards, values
//! - [`Edit`], [`Expect`]: several operations and preconditions for one commit
//! - [`Tree::on`]: a tree inside a transaction of the engine, with keyspaces and other trees
//! - [`Tree::watch`], [`Watch`]: every commit that changes a path, once, in order
//! - [`View`], [`Tree::history`], [`Tree::diff`]: the document at any retained commit, and between
//! - [`Tree::create_scope`], [`Scope`]: copy-on-write overlays
//! - [`Tree::new_tx`], [`Joined`]: one commit of several participants
//! - [`Filter`]: what a value must be like
//! - [`ReadTree`]: a tree beside its writer, in another process
//! - [`Error`]: what, where, and what to do
//!
//! A document is stored exploded: a row for each leaf and each container, under a key that sorts as
//! paths do. So a subtree is a range of keys, a read of the past is a scan at a commit, and history is
//! the engine's own.
#![forbid(unsafe_code)]

mod assemble;
mod edit;
mod error;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod history;

mod key;
mod meta;
mod parties;
mod path;
mod reader;
mod rfc6902;
mod row;
mod rows;
mod schema;
mod scope;
mod source;
mod stage;
mod transaction;
mod tree;
mod value;
mod view;
mod watch;
mod writer;

/// Levels that a document has at most, and so the steps of a path: as many as JSON readers commonly
/// take.
pub const MAX_DEPTH: usize = 127;

pub use ::json_patch::{Patch as JsonPatch, PatchOperation};
pub use edit::{Edit, Expect, Op, parse_json_patch};
pub use error::{Error, Result, TxEnd};
pub use filter::{Filter, Test};
pub use history::{HistoryEntry, NodeHistory};
pub use meta::ScopeInfo;
pub use parties::Joined;
pub use path::{Path, Pattern, Segment, ToPath, ToPattern};
pub use reader::{ReadTree, ReadWatch};
pub use scope::{Conflict, Scope};
pub use transaction::TransactionTree;
pub use tree::{Committed, KEYSPACE_PREFIX, Tree, Trees};
pub use value::{Fields, Number, Value};
pub use view::{Keys, View};
pub use watch::{Change, Watch, WatchEvent, WatchFrom};
