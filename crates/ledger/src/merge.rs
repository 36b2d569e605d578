//! Merging heads.
use crate::block::{Cid, Staged};
use crate::error::Result;

/// The one head of any number of heads: a function of what they know alone, so that two replicas that
/// know the same make the same event. Stages nothing when one head knows all the others do.
/// None for no heads.
///
/// # Errors
/// Blocks'.
pub fn merge(_staged: &mut Staged<'_>, _heads: &[Cid]) -> Result<Option<Cid>> {
    todo!()
}
