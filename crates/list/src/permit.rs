//! Who may do what: a check the program brings, asked before an operation takes effect, wherever the
//! operation comes from. Every copy must use the same check, or copies part ways.

use std::sync::Arc;

use crate::id::Session;

/// What an operation does to elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// New elements come.
    Insert,
    /// Elements go.
    Delete,
    /// Elements get other values.
    Set,
    /// Elements get other places.
    Move,
}

/// One thing a transaction wants to do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'a> {
    /// Who wants it.
    pub by: &'a Session,
    /// When, in milliseconds since 1970, by the author's clock.
    pub time: u64,
    /// What.
    pub action: Action,
    /// Who inserted the elements concerned; of an insertion, who inserts.
    pub of: &'a Session,
    /// How many elements.
    pub count: u32,
}

/// Says yes, or why not. A transaction with one request refused is refused whole.
pub(crate) type Permit = Arc<dyn Fn(&Request<'_>) -> Result<(), String> + Send + Sync>;
