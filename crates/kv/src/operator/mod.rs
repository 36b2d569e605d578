//! Merge operators: a write that says how a value changes, resolved when it is read or compacted.
//!
//! An entry of kind *merge* holds a list of operands, oldest first. Its value at a commit is the
//! operator's answer to the newest value below it and all operands above that one.

mod builtin;

use crate::error::{Error, Result, show_key};
use crate::options::Options;
use crate::varint;
use std::fmt;
use std::sync::Arc;

pub use builtin::BUILT_IN;
pub(crate) use builtin::anything;

/// How operands change a value. Pure: the same input has the same answer, in every process.
///
/// Merging must not depend on how operands were grouped: merging `a` and then `b` is the same as
/// merging `[a, b]`.
pub trait MergeOperator: Send + Sync + fmt::Debug {
    /// The name that a keyspace's settings call it by.
    fn name(&self) -> &str;

    /// The value after `operands`, oldest first, were applied to `base`; `None`: there was no value.
    ///
    /// # Errors
    /// What is wrong with base or operands. The key then cannot be read until it is put or deleted.
    fn merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, String>;

    /// Refuses a malformed operand when it is written, before it can spoil a key.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, operand: &[u8]) -> std::result::Result<(), String> {
        self.merge(b"", None, &[operand]).map(|_| ())
    }
}

impl Options {
    /// The operator called `name`: one of [`Options::merge_operators`], or built in.
    pub(crate) fn operator(&self, name: &str) -> Option<Arc<dyn MergeOperator>> {
        let own = self.merge_operators.iter().find(|own| own.name() == name);
        own.cloned().or_else(|| builtin::find(name))
    }
}

/// The built-in operator called `name`, whatever a program calls its own.
pub(crate) fn built_in(name: &str) -> Option<Arc<dyn MergeOperator>> {
    builtin::find(name)
}

/// The names of the built-in operators.
pub(crate) fn known(options: &Options) -> String {
    let own = options.merge_operators.iter().map(|own| own.name());
    own.chain(BUILT_IN).collect::<Vec<_>>().join(", ")
}

/// Appends an operand to a list.
pub(crate) fn put_operand(list: &mut Vec<u8>, operand: &[u8]) {
    varint::put(list, operand.len() as u64);
    list.extend_from_slice(operand);
}

/// The operands of a list, oldest first; `None`: damaged bytes.
pub(crate) fn operands(list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < list.len() {
        let len = varint::get_len(list, &mut at)?;
        found.push(list.get(at..)?.get(..len)?);
        at += len;
    }
    Some(found)
}

/// Applies a list of operands to `base`.
pub(crate) fn apply(
    operator: &dyn MergeOperator,
    key: &[u8],
    base: Option<&[u8]>,
    list: &[u8],
) -> Result<Vec<u8>> {
    let refused = |what: String| Error::Merge {
        key: show_key(key),
        operator: operator.name().to_string(),
        what,
    };
    let operands =
        operands(list).ok_or_else(|| refused("the stored operands are damaged".into()))?;
    operator.merge(key, base, &operands).map_err(refused)
}

/// Operand lists met from the newest entry of a key down to its value, gathered for one merge.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// Oldest last.
    lists: Vec<Vec<u8>>,
}

impl Fold {
    /// The next older list.
    pub(crate) fn add(&mut self, list: &[u8]) {
        self.lists.push(list.to_vec());
    }

    /// The value, with `base` below all of them.
    pub(crate) fn finish(
        self,
        operator: &dyn MergeOperator,
        key: &[u8],
        base: Option<&[u8]>,
    ) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for list in self.lists.iter().rev() {
            all.extend_from_slice(list);
        }
        apply(operator, key, base, &all)
    }
}

#[cfg(test)]
mod tests {
    use super::{operands, put_operand};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn operands_read_back_and_hostile_lists_are_refused_or_read(
            all in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9),
            hostile in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut list = Vec::new();
            for operand in &all {
                put_operand(&mut list, operand);
            }
            let read: Vec<_> = operands(&list).unwrap().into_iter().map(<[u8]>::to_vec).collect();
            prop_assert_eq!(read, all);
            let _ = operands(&hostile);
        }
    }
}
