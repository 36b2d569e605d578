//! Kinded paths: the name of a node and the kind of every container on the way, so that paths and
//! leaves alone rebuild a document. Pure.
//!
//! | text | is |
//! |---|---|
//! | empty | the root |
//! | `a.b` | a field of an object |
//! | `a[0]` | an element of a dense array |
//! | `a{-3}` | an element of a sparse array |
//! | `a(k)` | the element of a keyed array whose key is `k` |
//! | `'a b'.c`, `a("x)")` | quoted names; a backslash escapes |
//!
//! Paths sort as their keys are stored: a node before what is below it; fields, then dense indices,
//! then sparse ones, then keys; indices by number.

mod pattern;
mod pointer;
mod text;

pub use pattern::{Pattern, ToPattern};
pub(crate) use pointer::{index as pointer_index, tokens as pointer_tokens};

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A field of an object.
    Field(String),
    /// An element of a dense array, from 0.
    Index(u64),
    /// An element of a sparse array.
    Sparse(i64),
    /// An element of a keyed array.
    Key(String),
}

impl Segment {
    /// The kind of container that holds it, in words.
    pub(crate) fn container(&self) -> &'static str {
        match self {
            Segment::Field(_) => "an object",
            Segment::Index(_) => "a dense array",
            Segment::Sparse(_) => "a sparse array",
            Segment::Key(_) => "a keyed array",
        }
    }
}

/// The path of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Segment>);

impl Path {
    /// The path of the whole document.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path; see the module.
    ///
    /// # Errors
    /// [`Error::Path`] saying where and what; wildcards are for [`Pattern`].
    pub fn parse(text: &str) -> Result<Self> {
        let pattern = Pattern::parse(text)?;
        pattern.into_path().ok_or_else(|| Error::Path {
            text: text.to_string(),
            at: text.find('*').unwrap_or(0),
            what: "a wildcard, where one node must be named (quote a name with a star: 'a*')"
                .into(),
        })
    }

    /// Its steps, from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// True for the whole document.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// How many steps it has.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// The path of the container; `None` for the root.
    pub fn parent(&self) -> Option<Path> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    /// The last step; `None` for the root.
    pub fn last(&self) -> Option<&Segment> {
        self.0.last()
    }

    /// The first step and the rest; `None` for the root.
    pub fn split_first(&self) -> Option<(&Segment, Path)> {
        let (first, rest) = self.0.split_first()?;
        Some((first, Self(rest.to_vec())))
    }

    /// True when `other` is the same node or lies below.
    pub fn contains(&self, other: &Path) -> bool {
        other.0.starts_with(&self.0)
    }

    /// One step further down.
    pub fn child(&self, segment: Segment) -> Path {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        Self(segments)
    }

    /// A field of it.
    pub fn field(&self, name: impl Into<String>) -> Path {
        self.child(Segment::Field(name.into()))
    }

    /// An element of it, which is a dense array.
    pub fn index(&self, index: u64) -> Path {
        self.child(Segment::Index(index))
    }

    /// `other` as seen from this path; `None` when it lies elsewhere.
    pub fn relative(&self, other: &Path) -> Option<Path> {
        other
            .0
            .strip_prefix(self.0.as_slice())
            .map(|rest| Self(rest.to_vec()))
    }

    /// `below`, which is relative, as seen from the root.
    pub fn join(&self, below: &Path) -> Path {
        Self([self.0.as_slice(), below.0.as_slice()].concat())
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    pub(crate) fn truncate(&mut self, depth: usize) {
        self.0.truncate(depth);
    }
}

impl From<Vec<Segment>> for Path {
    fn from(segments: Vec<Segment>) -> Self {
        Self(segments)
    }
}

impl FromStr for Path {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            text::print(segment, at == 0, f)?;
        }
        Ok(())
    }
}

/// What names a node: a path, or its text.
pub trait ToPath {
    /// The path.
    ///
    /// # Errors
    /// [`Error::Path`] for a text that is none.
    fn to_path(&self) -> Result<Path>;
}

impl ToPath for Path {
    fn to_path(&self) -> Result<Path> {
        Ok(self.clone())
    }
}

impl ToPath for str {
    fn to_path(&self) -> Result<Path> {
        Path::parse(self)
    }
}

impl ToPath for String {
    fn to_path(&self) -> Result<Path> {
        Path::parse(self)
    }
}

impl<T: ToPath + ?Sized> ToPath for &T {
    fn to_path(&self) -> Result<Path> {
        (**self).to_path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_nodes_and_their_relations() {
        let path = Path::parse("a.b[3]{-4}(k).'x y'").unwrap();
        assert_eq!(path.depth(), 6);
        assert_eq!(path.last(), Some(&Segment::Field("x y".into())));
        let parent = path.parent().unwrap();
        assert_eq!(parent.to_string(), "a.b[3]{-4}(k)");
        assert!(parent.contains(&path) && parent.contains(&parent) && !path.contains(&parent));
        assert!(
            !Path::parse("user")
                .unwrap()
                .contains(&Path::parse("users").unwrap())
        );
        let below = parent.relative(&path).unwrap();
        assert_eq!(below.to_string(), "'x y'");
        assert_eq!(parent.join(&below), path);
        let (first, rest) = path.split_first().unwrap();
        assert_eq!(first, &Segment::Field("a".into()));
        assert_eq!(rest.to_string(), "b[3]{-4}(k).'x y'");
        assert_eq!(Path::parse("").unwrap(), Path::root());
        assert_eq!(Path::root().parent(), None);
    }

    #[test]
    fn texts_that_are_no_paths_say_where() {
        for (text, at, word) in [
            ("a..b", 2, "name"),
            ("a.", 2, "name"),
            (".a", 0, "name"),
            ("a[", 2, "index"),
            ("a[x]", 2, "index"),
            ("a[-1]", 2, "index"),
            ("a[01]", 2, "index"),
            ("a[1", 3, "]"),
            ("a{1.5}", 3, "}"),
            ("a{--1}", 2, "index"),
            ("a(", 2, "key"),
            ("a(b", 3, ")"),
            ("'a", 2, "end"),
            ("'a\\q'", 2, "escape"),
            ("a b", 1, "quote"),
            ("a'b'", 1, "quote"),
            ("a]", 1, "quote"),
            ("[0]a", 3, "expected"),
            ("a*b", 1, "quote"),
            ("[99999999999999999999]", 1, "index"),
            ("a[*]", 2, "wildcard"),
        ] {
            match Path::parse(text) {
                Err(Error::Path {
                    at: found, what, ..
                }) => {
                    assert_eq!(found, at, "{text}: {what}");
                    assert!(what.contains(word), "{text}: {what}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
