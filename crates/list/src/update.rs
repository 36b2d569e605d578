//! Transactions on their way: decoded, and named as all copies name them.

use crate::births::Side;
use crate::content::Content;
use crate::id::Session;
use std::sync::Arc;

/// An element by its session (an index into [`Update::sessions`]) and the session's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) session: u32,
    pub(crate) number: u32,
}

/// Stands for the newest element of the transactions' own session.
pub(crate) const LAST: Name = Name {
    session: u32::MAX,
    number: u32::MAX,
};

/// One operation, or a run of them over many transactions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op<V> {
    /// New elements: the first a child of `parent` or of the root, each next one of the one before.
    Insert {
        count: u32,
        parent: Option<Name>,
        side: Side,
        backward: bool,
    },
    /// Elements go, from `target` upwards or downwards.
    Delete {
        count: u32,
        target: Name,
        backward: bool,
    },
    /// An element gets another value.
    Set { target: Name, value: V },
    /// An element moves to a new place.
    Move {
        target: Name,
        parent: Option<Name>,
        side: Side,
    },
}

impl<V> Op<V> {
    pub(crate) fn items(&self) -> u32 {
        match self {
            Self::Insert { count, .. } | Self::Delete { count, .. } => *count,
            Self::Set { .. } | Self::Move { .. } => 1,
        }
    }

    /// The parent of what it brings, if that is not the root.
    pub(crate) fn parent(&self) -> Option<Name> {
        match self {
            Self::Insert { parent, .. } | Self::Move { parent, .. } => *parent,
            Self::Delete { .. } | Self::Set { .. } => None,
        }
    }

    /// How many of the session's numbers it takes.
    pub(crate) fn numbers(&self) -> u32 {
        match self {
            Self::Insert { count, .. } => *count,
            Self::Move { .. } => 1,
            Self::Delete { .. } | Self::Set { .. } => 0,
        }
    }
}

/// Consecutive transactions of one session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part<C: Content> {
    /// An index into [`Update::sessions`].
    pub(crate) session: u32,
    pub(crate) first_tx: u32,
    /// The number of the first element it inserts.
    pub(crate) first_number: u32,
    pub(crate) txs: u32,
    /// Stretches of transactions with as many items each: how many, and of what size.
    pub(crate) sizes: Vec<(u32, u32)>,
    /// Stretches of transactions made at one time: how many, and when.
    pub(crate) times: Vec<(u32, u64)>,
    /// What a transaction (by its number) knew: of a session, how many transactions. Ascending.
    pub(crate) dependencies: Vec<(u32, u32, u32)>,
    pub(crate) ops: Vec<Op<C::Item>>,
    /// What the insertions insert, in their order.
    pub(crate) content: C::Owned,
}

/// A message: transactions of some sessions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Update<C: Content> {
    pub(crate) sessions: Arc<[Session]>,
    pub(crate) parts: Vec<Part<C>>,
}

impl<C: Content> Default for Update<C> {
    fn default() -> Self {
        Self {
            sessions: Arc::default(),
            parts: Vec::new(),
        }
    }
}
