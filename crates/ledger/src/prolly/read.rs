//! Reading single keys, and checking a whole tree.

use std::sync::Arc;

use bytes::Bytes;

use crate::block::{Blocks, Cid};
use crate::cbor::{self, Reader};
use crate::error::{Error, Result};

use super::Node;
use super::chunk::{MAX_ENTRIES, MAX_PAYLOAD, MIN_ENTRIES, ends_node};
use super::cursor::child_node;

/// The root of a tree.
pub(super) fn root_node(blocks: &(impl Blocks + ?Sized), root: &Cid) -> Result<Arc<Node>> {
    blocks.node(root)
}

/// The value of a key in the tree at `root` (None: empty).
///
/// # Errors
/// Those of reading nodes.
pub fn get(blocks: &dyn Blocks, root: Option<&Cid>, key: &[u8]) -> Result<Option<Bytes>> {
    let Some(root) = root else { return Ok(None) };
    let mut node = root_node(blocks, root)?;
    loop {
        let (at, found) = node.search(key);
        if node.level() == 0 {
            return Ok(found.then(|| node.value_bytes(at)));
        }
        if at == node.len() {
            return Ok(None);
        }
        node = child_node(blocks, &node, at)?;
    }
}

/// The values of many keys, which come sorted. Each node on their way is read once.
///
/// # Errors
/// [`Error::Invalid`] for keys out of order; those of reading nodes.
pub fn get_many<K: AsRef<[u8]>>(
    blocks: &dyn Blocks,
    root: Option<&Cid>,
    keys: &[K],
) -> Result<Vec<Option<Bytes>>> {
    if keys
        .windows(2)
        .any(|pair| pair[0].as_ref() > pair[1].as_ref())
    {
        return Err(Error::invalid("keys to be looked up together come sorted"));
    }
    let mut values = Vec::with_capacity(keys.len());
    if let (Some(root), false) = (root, keys.is_empty()) {
        get_below(blocks, &*root_node(blocks, root)?, keys, &mut values)?;
    }
    values.resize(keys.len(), None);
    Ok(values)
}

fn get_below<K: AsRef<[u8]>>(
    blocks: &dyn Blocks,
    node: &Node,
    mut keys: &[K],
    values: &mut Vec<Option<Bytes>>,
) -> Result<()> {
    while let Some(first) = keys.first() {
        let (at, found) = node.search(first.as_ref());
        if node.level() == 0 {
            values.push(found.then(|| node.value_bytes(at)));
            keys = &keys[1..];
        } else if at == node.len() {
            values.resize(values.len() + keys.len(), None);
            return Ok(());
        } else {
            let last = node.key(at);
            let here = keys.partition_point(|key| key.as_ref() <= &last[..]);
            get_below(
                blocks,
                &*child_node(blocks, node, at)?,
                &keys[..here],
                values,
            )?;
            keys = &keys[here..];
        }
    }
    Ok(())
}

/// How many entries the tree at `root` (None: empty) has.
///
/// # Errors
/// Those of reading the root.
pub fn len(blocks: &dyn Blocks, root: Option<&Cid>) -> Result<u64> {
    root.map_or(Ok(0), |root| Ok(root_node(blocks, root)?.count()))
}

/// Reads the whole tree at `root` and checks what a single node cannot show: levels, separators, order,
/// counts, and that every node ends where it must. Returns how many nodes it has.
///
/// # Errors
/// [`Error::Corrupt`] where something is wrong; those of reading nodes.
pub fn check(blocks: &dyn Blocks, root: Option<&Cid>) -> Result<u64> {
    let Some(root) = root else { return Ok(0) };
    let node = root_node(blocks, root)?;
    if node.level() > 0 && node.len() == 1 {
        return Err(Error::corrupt(
            format!("node {root}"),
            "a root with one child",
        ));
    }
    let mut nodes = 0;
    let mut last = None;
    check_below(blocks, root, &node, true, &mut last, &mut nodes)?;
    Ok(nodes)
}

fn check_below(
    blocks: &dyn Blocks,
    cid: &Cid,
    node: &Node,
    is_last: bool,
    last: &mut Option<Vec<u8>>,
    nodes: &mut u64,
) -> Result<()> {
    let wrong = |what: &str| Err(Error::corrupt(format!("node {cid}"), what));
    *nodes += 1;
    let mut payload = 0;
    for index in 0..node.len() {
        let key = node.key(index);
        let is_end = index + 1 == node.len();
        payload += key.len() + node.value(index).len();
        let due = index + 1 >= MAX_ENTRIES
            || payload >= MAX_PAYLOAD
            || (index + 1 >= MIN_ENTRIES && ends_node(node.level(), &key));
        if due != is_end && !(is_last && is_end) {
            return wrong("it does not end where it must");
        }
        if node.level() == 0 {
            if last.as_ref().is_some_and(|last| *last >= key) {
                return wrong("its keys are not behind those of the node before");
            }
            *last = Some(key);
            continue;
        }
        let child = child_node(blocks, node, index)?;
        let mut counted = Vec::new();
        super::node::put_child(&node.child(index), child.count(), &mut counted);
        if counted != node.value(index) {
            return wrong("it counts a child's entries wrongly");
        }
        if child.key(child.len() - 1) != key {
            return wrong("a child does not end with the key it is named by");
        }
        check_below(
            blocks,
            &node.child(index),
            &child,
            is_last && is_end,
            last,
            nodes,
        )?;
    }
    Ok(())
}

/// `value` as a DAG-CBOR byte string: the item of a map whose values are plain bytes.
pub fn bytes_item(value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(value.len() + 9);
    cbor::put_bytes(value, &mut out);
    Bytes::from(out)
}

/// The plain bytes in an item that [`bytes_item`] made; None for another item.
pub fn item_bytes(item: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(item);
    let bytes = reader.bytes().ok()?;
    reader.finish().ok()?;
    Some(bytes)
}
