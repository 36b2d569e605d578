//! What a commit is to do: preconditions and operations, gathered first and worked out when it is
//! committed.

use crate::error::{Error, Result};
use crate::path::{Path, ToPath};
use crate::rows::Rows;
use crate::value::{Number, Value};
use crate::writer::Writer;
use crate::{key, path};
use siltstone_kv::Commit;

/// What must hold for an edit to be committed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Expect {
    /// There is this value; numbers count by their value.
    Value(Value),
    /// There is nothing.
    Absent,
    /// There is something.
    Present,
    /// Nothing there or below was written after this commit, which must still be retained.
    UnchangedSince(Commit),
}

/// One operation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Op {
    /// Merges a value into what is there, as RFC 7396 has it: objects field by field, null deletes.
    Patch(Path, Value),
    /// Sets a value in the place of whatever was there.
    Set(Path, Value),
    /// Deletes what is there.
    Delete(Path),
    /// Puts a value before an element of a dense array.
    Insert(Path, u64, Value),
    /// Puts a value behind the last element of an array.
    Append(Path, Value),
    /// Adds to a number.
    Increment(Path, Number),
    /// Applies an RFC 6902 patch whose pointers start at this path.
    JsonPatch(Path, json_patch::Patch),
}

impl Op {
    /// The node it is about.
    pub fn path(&self) -> &Path {
        match self {
            Op::Patch(path, _)
            | Op::Set(path, _)
            | Op::Delete(path)
            | Op::Insert(path, _, _)
            | Op::Append(path, _)
            | Op::Increment(path, _)
            | Op::JsonPatch(path, _) => path,
        }
    }
}

/// Preconditions and operations for one commit. All preconditions are looked at first; then each
/// operation sees what those before it did.
///
/// A text that is no path, and a number that is none, is told when the edit is committed.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    expects: Vec<(Path, Expect)>,
    ops: Vec<Op>,
    wrong: Option<Error>,
}

impl Edit {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, path: impl ToPath, op: impl FnOnce(Path) -> Op) -> Self {
        match path.to_path() {
            Ok(path) => self.ops.push(op(path)),
            Err(error) => self.wrong = self.wrong.or(Some(error)),
        }
        self
    }

    /// Adds a precondition.
    #[must_use]
    pub fn expect(mut self, path: impl ToPath, expect: Expect) -> Self {
        match path.to_path() {
            Ok(path) => self.expects.push((path, expect)),
            Err(error) => self.wrong = self.wrong.or(Some(error)),
        }
        self
    }

    /// Adds [`Op::Patch`].
    #[must_use]
    pub fn patch(self, path: impl ToPath, value: impl Into<Value>) -> Self {
        self.with(path, |path| Op::Patch(path, value.into()))
    }

    /// Adds [`Op::Set`].
    #[must_use]
    pub fn set(self, path: impl ToPath, value: impl Into<Value>) -> Self {
        self.with(path, |path| Op::Set(path, value.into()))
    }

    /// Adds [`Op::Delete`].
    #[must_use]
    pub fn delete(self, path: impl ToPath) -> Self {
        self.with(path, Op::Delete)
    }

    /// Adds [`Op::Insert`].
    #[must_use]
    pub fn insert(self, array: impl ToPath, index: u64, value: impl Into<Value>) -> Self {
        self.with(array, |path| Op::Insert(path, index, value.into()))
    }

    /// Adds [`Op::Append`].
    #[must_use]
    pub fn append(self, array: impl ToPath, value: impl Into<Value>) -> Self {
        self.with(array, |path| Op::Append(path, value.into()))
    }

    /// Adds [`Op::Increment`].
    #[must_use]
    pub fn increment(mut self, path: impl ToPath, delta: impl Into<Value>) -> Self {
        match delta.into() {
            Value::Number(delta) => self.with(path, |path| Op::Increment(path, delta)),
            other => {
                let refused = |path| Error::Refused {
                    path,
                    what: format!("cannot be counted up by {}", other.kind()),
                };
                let wrong = path.to_path().map_or_else(|error| error, refused);
                self.wrong = self.wrong.or(Some(wrong));
                self
            }
        }
    }

    /// Adds [`Op::JsonPatch`].
    #[must_use]
    pub fn json_patch(self, path: impl ToPath, patch: json_patch::Patch) -> Self {
        self.with(path, |path| Op::JsonPatch(path, patch))
    }

    /// Adds an operation.
    #[must_use]
    pub fn op(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Its operations.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Its preconditions.
    pub fn expects(&self) -> &[(Path, Expect)] {
        &self.expects
    }

    /// True when it has neither.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.expects.is_empty() && self.wrong.is_none()
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// A rough size in bytes, for waiting until there is room.
    pub(crate) fn bytes(&self) -> usize {
        self.ops.len() * 128
    }
}

/// Reads an RFC 6902 patch.
///
/// # Errors
/// [`Error::JsonPatch`].
pub fn parse_json_patch(json: &str) -> Result<json_patch::Patch> {
    serde_json::from_str(json).map_err(|error| Error::JsonPatch {
        what: error.to_string(),
    })
}

impl Writer<'_> {
    /// Does an edit. Answers the paths of what it appended.
    pub(crate) fn run(&mut self, edit: &Edit) -> Result<Vec<Path>> {
        edit.check()?;
        for (path, expect) in &edit.expects {
            self.expect(path, expect)?;
        }
        let mut appended = Vec::new();
        for op in &edit.ops {
            match op {
                Op::Patch(path, value) => self.patch(path, value)?,
                Op::Set(path, value) => self.set(path, value)?,
                Op::Delete(path) => self.delete(path)?,
                Op::Insert(path, index, value) => self.insert(path, *index, value)?,
                Op::Append(path, value) => appended.push(self.append(path, value)?),
                Op::Increment(path, delta) => self.increment(path, delta)?,
                Op::JsonPatch(path, patch) => self.json_patch(path, patch)?,
            }
        }
        Ok(appended)
    }

    fn expect(&self, path: &path::Path, expect: &Expect) -> Result<()> {
        let fail = |expected: String, found: String| {
            Err(Error::Unexpected {
                path: path.clone(),
                expected,
                found,
            })
        };
        match expect {
            Expect::Absent | Expect::Present => {
                let row = self.stage.get(&key::encode(path))?;
                match (expect, row) {
                    (Expect::Absent, Some(_)) => {
                        fail("nothing there".into(), "something is".into())
                    }
                    (Expect::Present, None) => fail("something there".into(), "nothing is".into()),
                    _ => Ok(()),
                }
            }
            Expect::Value(expected) => match self.value(path)? {
                Some(found) if found.same(expected) => Ok(()),
                Some(found) => fail(short(expected), format!("it is {}", short(&found))),
                None => fail(short(expected), "there is nothing".into()),
            },
            Expect::UnchangedSince(commit) => {
                match self
                    .stage
                    .rows()
                    .changed_since(&key::encode(path), *commit)?
                {
                    None => Ok(()),
                    Some(by) => fail(
                        format!("no change since commit {commit}"),
                        format!("commit {by} changed it"),
                    ),
                }
            }
        }
    }
}

/// The start of a value, for messages.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
