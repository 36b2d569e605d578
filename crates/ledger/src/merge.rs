//! One head of several: key by key over the difference of their maps, and a function of what they know
//! alone.
//!
//! A value of one map that the other does not have was either overwritten there or never known there;
//! which of the two, the histories tell: it stays unless the other knows its change. No older map is
//! ever needed. This is the multi-value register with causal context (Shapiro et al., "A comprehensive
//! study of Convergent and Commutative Replicated Data Types", 2011, section 3.2.2).
//!
//! The parents of a merge are writes, never merges: of heads that are merges, the writes they merged are
//! taken, and of those the newest. So replicas that know the same writes have the same head, whoever
//! merged what first.

use std::collections::HashSet;

use crate::block::{Block, Blocks, Cid, Staged};
use crate::clock::{
    Change, Event, Sibling, Siblings, apart, newest, next_lamport, reaches, set_conflict,
};
use crate::error::{Error, Result};
use crate::prolly::{self, Diff, Edit};

/// The one head of any number of heads; None of none. Stages what is new: nothing when one head knows
/// all that the others do.
///
/// # Errors
/// Those of reading events and maps.
pub fn merge(staged: &mut Staged<'_>, heads: &[Cid]) -> Result<Option<Cid>> {
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    heads.dedup();
    if heads.len() > 1 {
        heads = without_reached_merges(staged, &heads)?;
    }
    if heads.len() < 2 {
        return Ok(heads.first().copied());
    }
    let writes = newest_writes(staged, &heads)?;
    if let [write] = &writes[..] {
        return Ok(Some(*write));
    }
    // One of the heads may be this merge already.
    for head in &heads {
        let change = staged.event(head)?.change;
        let change = staged.change(&change)?;
        if change.is_merge() && change.parents == writes {
            return Ok(Some(*head));
        }
    }

    let mut lamport = 0;
    let mut time = 0;
    for write in &writes {
        let change = staged.event(write)?.change;
        let change = staged.change(&change)?;
        lamport = lamport.max(change.lamport);
        time = time.max(change.time);
    }
    let mut known = vec![heads[0]];
    let first = staged.event(&heads[0])?;
    let mut state = (first.root, first.conflicts);
    for head in &heads[1..] {
        state = merge_maps(staged, state, &known, head)?;
        known.push(*head);
    }
    let change: Block = Change::merge(writes, next_lamport(lamport)?, time).block();
    let event = Event {
        change: staged.put(change),
        root: state.0,
        conflicts: state.1,
    };
    Ok(Some(staged.put(event.block())))
}

/// Leaves out merges that another head was built upon. What they merged would be left out all the same;
/// below the boundary of a prune it cannot be asked.
fn without_reached_merges(blocks: &dyn Blocks, heads: &[Cid]) -> Result<Vec<Cid>> {
    let mut kept = Vec::with_capacity(heads.len());
    for head in heads {
        let change = blocks.event(head)?.change;
        let mut reached = false;
        if blocks.change(&change)?.is_merge() {
            for other in heads.iter().filter(|other| *other != head) {
                reached = reached || reaches(blocks, &[*other], head)?;
            }
        }
        if !reached {
            kept.push(*head);
        }
    }
    Ok(kept)
}

/// The writes that the heads are or have merged, without those that another of them knows; sorted.
fn newest_writes(blocks: &dyn Blocks, heads: &[Cid]) -> Result<Vec<Cid>> {
    let mut writes = HashSet::new();
    let mut merges = HashSet::new();
    let mut open = heads.to_vec();
    while let Some(event) = open.pop() {
        let change = blocks.event(&event)?.change;
        let change = blocks.change(&change)?;
        if !change.is_merge() {
            writes.insert(event);
        } else if merges.insert(event) {
            open.extend_from_slice(&change.parents);
        }
    }
    let writes: Vec<_> = writes.into_iter().collect();
    newest(blocks, &writes)
}

type State = (Option<Cid>, Option<Cid>);

/// Merges the map of `head` into the one of the heads `known` together.
fn merge_maps(staged: &mut Staged<'_>, state: State, known: &[Cid], head: &Cid) -> Result<State> {
    let theirs = staged.event(head)?;
    if state == (theirs.root, theirs.conflicts) {
        return Ok(state);
    }
    let apart = apart(staged, known, &[*head])?;
    let mut edits = Vec::new();
    let mut conflicts = Vec::new();
    for difference in Diff::new(staged, state.0, theirs.root) {
        let difference = difference?;
        let left = siblings(difference.left.as_deref())?;
        let right = siblings(difference.right.as_deref())?;
        let kept = left
            .iter()
            .filter(|sibling| apart.left.contains(&sibling.change) || right.contains(sibling));
        let taken = right
            .iter()
            .filter(|sibling| apart.right.contains(&sibling.change) && !left.contains(sibling));
        let merged = Siblings::new(kept.chain(taken).copied().collect());
        let id = std::str::from_utf8(&difference.key)
            .map_err(|_| Error::corrupt("a map of documents", "one of its keys is not UTF-8"))?;
        let conflicted = merged.as_ref().is_some_and(Siblings::is_conflict);
        conflicts.push(set_conflict(id, conflicted));
        let value = merged.map(|merged| merged.encode());
        if value != difference.left {
            edits.push(Edit {
                key: difference.key,
                value,
            });
        }
    }
    Ok((
        prolly::apply(staged, state.0.as_ref(), &edits)?,
        merge_conflicts(staged, state.1, conflicts)?,
    ))
}

/// Applies what changes the tree of conflicts: most keys are in none before and after.
fn merge_conflicts(
    staged: &mut Staged<'_>,
    root: Option<Cid>,
    mut edits: Vec<Edit>,
) -> Result<Option<Cid>> {
    let keys: Vec<_> = edits.iter().map(|edit| edit.key.clone()).collect();
    let before = prolly::get_many(staged, root.as_ref(), &keys)?;
    let mut before = before.into_iter();
    edits.retain(|edit| before.next().flatten() != edit.value);
    if edits.is_empty() {
        return Ok(root);
    }
    prolly::apply(staged, root.as_ref(), &edits)
}

fn siblings(value: Option<&[u8]>) -> Result<Vec<Sibling>> {
    Ok(match value {
        Some(value) => Siblings::decode(value)?.all().to_vec(),
        None => Vec::new(),
    })
}
