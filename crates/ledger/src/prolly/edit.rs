//! A batch of edits: the nodes on the changed paths are written anew, and the root is the one that a
//! build of the whole content from nothing would have.
//!
//! Level by level from the leaves: the nodes that an edit falls into are cut again, and on from there
//! until a new node ends where an old one did; behind that point the old nodes are as a build from
//! nothing would cut them. What became of the nodes of a level is a batch of edits of the level above.

use bytes::Bytes;

use crate::block::{Blocks, Cid, Staged};
use crate::error::{Error, Result};

use super::chunk::{Child, Chunker, build_up};
use super::cursor::Path;
use super::node::{check_item, put_child};
use super::{MAX_KEY_BYTES, MAX_VALUE_BYTES, root_node};

/// A change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The key, of at most [`MAX_KEY_BYTES`] bytes.
    pub key: Bytes,
    /// One DAG-CBOR item of at most [`MAX_VALUE_BYTES`] bytes; None takes the key away.
    pub value: Option<Bytes>,
}

/// Applies edits, sorted by key and each key once, to the tree at `root` (None: empty). Stages the
/// new nodes and returns the new root.
///
/// # Errors
/// [`Error::Invalid`] for edits out of order or a value that is not one item, [`Error::TooLarge`] for
/// a key or value over its limit; those of reading nodes.
pub fn apply(staged: &mut Staged<'_>, root: Option<&Cid>, edits: &[Edit]) -> Result<Option<Cid>> {
    check(edits)?;
    let Some(root) = root else {
        let mut chunker = Chunker::new(0);
        for edit in edits {
            if let Some(value) = &edit.value {
                chunker.push(staged, &edit.key, value);
            }
        }
        chunker.flush(staged);
        return build_up(staged, 0, chunker.done);
    };
    let top = root_node(staged, root)?.level();
    let mut batch = edit_level(staged, root, 0, top, &Given(edits))?;
    for level in 1..=top {
        match batch {
            Outcome::Below(edits) if edits.is_empty() => return Ok(Some(*root)),
            Outcome::Below(edits) => batch = edit_level(staged, root, level, top, &edits)?,
            Outcome::Top(..) => break,
        }
    }
    match batch {
        Outcome::Below(_) => Ok(Some(*root)),
        Outcome::Top(Top::Only(child)) => collapse(staged, child).map(Some),
        Outcome::Top(Top::Nodes(nodes)) => build_up(staged, top, nodes),
    }
}

/// A branch with one child is no root: its child is.
fn collapse(staged: &Staged<'_>, mut root: Cid) -> Result<Cid> {
    loop {
        let node = staged.node(&root)?;
        if node.level() == 0 || node.len() > 1 {
            return Ok(root);
        }
        root = node.child(0);
    }
}

fn check(edits: &[Edit]) -> Result<()> {
    if edits.windows(2).any(|pair| pair[0].key >= pair[1].key) {
        return Err(Error::invalid(
            "edits of a map come sorted by key, each key once",
        ));
    }
    for edit in edits {
        let value = edit.value.as_deref().unwrap_or_default();
        for (what, size, limit) in [
            ("the bytes of a map's key", edit.key.len(), MAX_KEY_BYTES),
            ("the bytes of a map's value", value.len(), MAX_VALUE_BYTES),
        ] {
            if size > limit {
                return Err(Error::TooLarge {
                    what,
                    size: size as u64,
                    limit: limit as u64,
                });
            }
        }
        if edit.value.is_some() && check_item(value).is_err() {
            return Err(Error::invalid(
                "a value of a map is one canonical DAG-CBOR item; use `bytes_item` for plain bytes",
            ));
        }
    }
    Ok(())
}

/// Edits of one level, sorted by key.
trait Batch {
    fn len(&self) -> usize;
    fn key(&self, index: usize) -> &[u8];
    fn value(&self, index: usize) -> Option<&[u8]>;
}

/// A caller's edits.
struct Given<'e>(&'e [Edit]);

impl Batch for Given<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn key(&self, index: usize) -> &[u8] {
        &self.0[index].key
    }

    fn value(&self, index: usize) -> Option<&[u8]> {
        self.0[index].value.as_deref()
    }
}

/// What became of the nodes of a level.
#[derive(Default)]
struct NodeEdits(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl NodeEdits {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nodes `old` (last keys and addresses) became `new`.
    fn replace(&mut self, old: Vec<(Vec<u8>, Cid)>, new: Vec<Child>) {
        let mut old = old.into_iter().peekable();
        let mut new = new.into_iter().peekable();
        loop {
            let put = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => None,
                (None, Some(_)) => new.next(),
                (Some((gone, _)), Some(child)) if *gone < child.key => None,
                (Some((gone, cid)), Some(child)) if *gone == child.key => {
                    let same = *cid == child.cid;
                    old.next();
                    let child = new.next();
                    if same {
                        continue;
                    }
                    child
                }
                (Some(_), Some(_)) => new.next(),
            };
            match put {
                Some(child) => {
                    let mut value = Vec::with_capacity(48);
                    put_child(&child.cid, child.count, &mut value);
                    self.0.push((child.key, Some(value)));
                }
                None => self.0.extend(old.next().map(|(gone, _)| (gone, None))),
            }
        }
    }
}

impl Batch for NodeEdits {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn key(&self, index: usize) -> &[u8] {
        &self.0[index].0
    }

    fn value(&self, index: usize) -> Option<&[u8]> {
        self.0[index].1.as_deref()
    }
}

enum Outcome {
    /// Edits of the level above.
    Below(NodeEdits),
    /// This was the root's level.
    Top(Top),
}

enum Top {
    /// It has one entry, which names this child.
    Only(Cid),
    /// Its nodes now.
    Nodes(Vec<Child>),
}

fn edit_level(
    staged: &mut Staged<'_>,
    root: &Cid,
    level: u8,
    top: u8,
    edits: &impl Batch,
) -> Result<Outcome> {
    let mut out = NodeEdits::default();
    let mut chunker = Chunker::new(level);
    let mut at = 0;
    while at < edits.len() {
        let mut path = Path::seek(staged, root, level, edits.key(at))?;
        let mut old = Vec::new();
        loop {
            let node = path.node().clone();
            let is_last = path.is_last();
            if level < top {
                old.push((node.key(node.len() - 1), *path.cid()));
            }
            let (mut from, mut edited) = (0, at);
            while edited < edits.len() {
                let key = edits.key(edited);
                let (position, found) = node.search(key);
                if position == node.len() && !is_last {
                    break;
                }
                copy(staged, &mut chunker, &node, from..position);
                if let Some(value) = edits.value(edited) {
                    chunker.push(staged, key, value);
                }
                from = position + usize::from(found);
                edited += 1;
            }
            copy(staged, &mut chunker, &node, from..node.len());
            at = edited;
            if is_last || chunker.is_between_nodes() {
                break;
            }
            path.advance(staged)?;
        }
        if level == top {
            if let Some(child) = chunker.only_child() {
                return Ok(Outcome::Top(Top::Only(child)));
            }
            chunker.flush(staged);
            return Ok(Outcome::Top(Top::Nodes(chunker.done)));
        }
        chunker.flush(staged);
        out.replace(old, std::mem::take(&mut chunker.done));
    }
    Ok(Outcome::Below(out))
}

fn copy(
    staged: &mut Staged<'_>,
    chunker: &mut Chunker,
    node: &super::Node,
    range: std::ops::Range<usize>,
) {
    for index in range {
        chunker.push_parts(staged, node.prefix(), node.suffix(index), node.value(index));
    }
}
