//! Names that are the same on every replica: sessions, operations, versions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One author's stay with one copy of a list. Two copies that are edited must never share a
/// session: the nonce tells an author's copies apart.
///
/// A branch is a session too: the author's, with the branch's name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session {
    author: Arc<str>,
    nonce: u64,
    branch: Option<Arc<str>>,
}

/// The most bytes an author's or a branch's name may have.
pub const MAX_NAME_BYTES: usize = 256;

impl Session {
    /// The session of `author` with this `nonce`. Choose the nonce at random, or count it up where
    /// the author's copies are known. A name longer than [`MAX_NAME_BYTES`] is cut at a character.
    pub fn new(author: &str, nonce: u64) -> Self {
        Self {
            author: short(author),
            nonce,
            branch: None,
        }
    }

    /// The same author and nonce in the branch `name`.
    pub fn in_branch(&self, name: &str) -> Self {
        Self {
            author: self.author.clone(),
            nonce: self.nonce,
            branch: Some(short(name)),
        }
    }

    /// Equality that looks first where sessions differ most often.
    #[inline]
    pub(crate) fn is(&self, author: &str, nonce: u64, branch: Option<&str>) -> bool {
        self.nonce == nonce && *self.author == *author && self.branch.as_deref() == branch
    }

    /// Who writes.
    pub fn author(&self) -> &str {
        &self.author
    }

    /// Which of the author's copies.
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The branch the session writes in, if it is one.
    pub fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }
}

fn short(name: &str) -> Arc<str> {
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    Arc::from(&name[..end])
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:x}", self.author, self.nonce)?;
        match &self.branch {
            Some(branch) => write!(f, "/{branch}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The stable name of one change: an inserted, deleted, set or moved element of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId {
    /// Who made it, and in which branch.
    pub session: Session,
    /// Which of the session's transactions, from 0.
    pub tx: u32,
    /// Which of the transaction's changes, from 0. An operation on many elements takes one each.
    pub change: u32,
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.session, self.tx, self.change)
    }
}

/// A version: of each session, how many of its transactions are in it. A session it does not name
/// is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    counts: BTreeMap<Session, u32>,
}

impl Frontier {
    /// The version before anything was written.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many transactions of `session` are in this version.
    pub fn count(&self, session: &Session) -> u32 {
        self.counts.get(session).copied().unwrap_or(0)
    }

    /// The same version with `count` transactions of `session`.
    pub fn set(&mut self, session: Session, count: u32) {
        if count == 0 {
            self.counts.remove(&session);
        } else {
            self.counts.insert(session, count);
        }
    }

    /// The sessions in this version, in order, each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&Session, u32)> {
        self.counts.iter().map(|(session, count)| (session, *count))
    }

    /// Whether nothing is in this version.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Whether every transaction of `other` is in this version.
    pub fn includes(&self, other: &Self) -> bool {
        other
            .iter()
            .all(|(session, count)| self.count(session) >= count)
    }
}

impl FromIterator<(Session, u32)> for Frontier {
    fn from_iter<I: IntoIterator<Item = (Session, u32)>>(counts: I) -> Self {
        let mut frontier = Self::new();
        for (session, count) in counts {
            frontier.set(session, count);
        }
        frontier
    }
}

impl fmt::Display for Frontier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (session, count)) in self.iter().enumerate() {
            let gap = if at == 0 { "" } else { "," };
            write!(f, "{gap}{session}={count}")?;
        }
        Ok(())
    }
}
