//! Walks back through the events from the largest lamport time down.
//!
//! A child's lamport time is above its parents', which is checked on the way; so when an event's turn
//! comes, all that could lead to it has had its own, and a walk that compares histories ends where both
//! have become one. What is walked is the difference, not the history.

use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::block::{Blocks, Cid};
use crate::error::Result;

use super::change::out_of_order;

/// What each of two histories knows that the other does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    /// Changes that only the left knows.
    pub left: HashSet<Cid>,
    /// Changes that only the right knows.
    pub right: HashSet<Cid>,
}

const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const BOTH: u8 = LEFT | RIGHT;

/// An event on the way: its marks say from which side it was reached.
struct Seen {
    change: Cid,
    parents: Vec<Cid>,
    lamport: u64,
    marks: u8,
}

/// Events in the order of their lamport times, newest first.
struct Walk<'b> {
    blocks: &'b dyn Blocks,
    seen: HashMap<Cid, Seen>,
    waiting: BinaryHeap<(u64, Cid)>,
    /// How many that wait are not marked by both sides.
    undecided: usize,
}

impl<'b> Walk<'b> {
    fn new(blocks: &'b dyn Blocks) -> Self {
        Self {
            blocks,
            seen: HashMap::new(),
            waiting: BinaryHeap::new(),
            undecided: 0,
        }
    }

    /// Marks an event that is reached from `below` (its child's lamport time).
    fn reach(&mut self, event: Cid, marks: u8, child: Option<(Cid, u64)>) -> Result<()> {
        if !self.seen.contains_key(&event) {
            let change_cid = self.blocks.event(&event)?.change;
            let change = self.blocks.change(&change_cid)?;
            self.waiting.push((change.lamport, event));
            self.undecided += 1;
            self.seen.insert(
                event,
                Seen {
                    change: change_cid,
                    parents: change.parents.clone(),
                    lamport: change.lamport,
                    marks: 0,
                },
            );
        }
        let seen = self.seen.get_mut(&event).expect("it was just put there");
        if let Some((child, lamport)) = child
            && seen.lamport >= lamport
        {
            return Err(out_of_order(&child));
        }
        let before = seen.marks;
        seen.marks |= marks;
        if before != BOTH && seen.marks == BOTH {
            self.undecided -= 1;
        }
        Ok(())
    }

    /// The next event, whose marks are final, once its parents have been reached.
    fn step(&mut self) -> Result<Option<(Cid, u8)>> {
        let Some((lamport, event)) = self.waiting.pop() else {
            return Ok(None);
        };
        let seen = &mut self.seen.get_mut(&event).expect("what waits was seen");
        let (marks, parents) = (seen.marks, std::mem::take(&mut seen.parents));
        if marks != BOTH {
            self.undecided -= 1;
        }
        for parent in &parents {
            self.reach(*parent, marks, Some((event, lamport)))?;
        }
        Ok(Some((event, marks)))
    }

    fn change(&self, event: &Cid) -> Cid {
        self.seen[event].change
    }
}

/// What each of two sets of heads knows that the other does not. Reads the events of the difference and
/// those at its edge.
///
/// # Errors
/// Those of reading events; [`crate::Error::Corrupt`] where lamport times do not grow.
pub fn apart(blocks: &dyn Blocks, left: &[Cid], right: &[Cid]) -> Result<Apart> {
    let mut out = Apart::default();
    difference(blocks, left, right, |_, change, marks| {
        match marks {
            LEFT => out.left.insert(change),
            _ => out.right.insert(change),
        };
    })?;
    Ok(out)
}

/// Calls `one_sided` for each event known to one side alone, newest first.
fn difference(
    blocks: &dyn Blocks,
    left: &[Cid],
    right: &[Cid],
    mut one_sided: impl FnMut(Cid, Cid, u8),
) -> Result<()> {
    let mut walk = Walk::new(blocks);
    for head in left {
        walk.reach(*head, LEFT, None)?;
    }
    for head in right {
        walk.reach(*head, RIGHT, None)?;
    }
    while walk.undecided > 0
        && let Some((event, marks)) = walk.step()?
    {
        if marks != BOTH {
            one_sided(event, walk.change(&event), marks);
        }
    }
    Ok(())
}

/// The events that `heads` know and `since` does not, oldest first (by lamport time, then by address),
/// merges too.
///
/// # Errors
/// As [`apart`].
pub fn events_since(blocks: &dyn Blocks, heads: &[Cid], since: &[Cid]) -> Result<Vec<Cid>> {
    let mut events = Vec::new();
    difference(blocks, heads, since, |event, _, marks| {
        if marks == LEFT {
            events.push(event);
        }
    })?;
    events.reverse();
    Ok(events)
}

/// True when `heads` know all that the event `of` does: it is one of them or came before one; a merge is
/// known where the writes it merged are.
///
/// # Errors
/// As [`apart`].
pub fn knows(blocks: &dyn Blocks, heads: &[Cid], of: &Cid) -> Result<bool> {
    if heads.contains(of) {
        return Ok(true);
    }
    let change = blocks.event(of)?.change;
    let change = blocks.change(&change)?;
    if change.is_merge() {
        for write in &change.parents {
            if !knows(blocks, heads, write)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    reaches(blocks, heads, of)
}

/// True when the event `of` is one of `heads` or a parent leads to it. Reads nothing below it, but it
/// does not find a merge whose writes were merged by another.
pub(crate) fn reaches(blocks: &dyn Blocks, heads: &[Cid], of: &Cid) -> Result<bool> {
    if heads.contains(of) {
        return Ok(true);
    }
    let change = blocks.event(of)?.change;
    let lowest = blocks.change(&change)?.lamport;
    let mut walk = Walk::new(blocks);
    for head in heads {
        walk.reach(*head, LEFT, None)?;
    }
    while let Some((event, _)) = walk.step()? {
        if walk.seen.contains_key(of) {
            return Ok(true);
        }
        if walk.seen[&event].lamport <= lowest {
            break;
        }
    }
    Ok(false)
}

/// Those of `heads` that none of the others knows, sorted.
///
/// # Errors
/// As [`apart`].
pub fn newest(blocks: &dyn Blocks, heads: &[Cid]) -> Result<Vec<Cid>> {
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    heads.dedup();
    if heads.len() < 2 {
        return Ok(heads);
    }
    let mut walk = Walk::new(blocks);
    let mut lowest = u64::MAX;
    for head in &heads {
        walk.reach(*head, LEFT, None)?;
        lowest = lowest.min(walk.seen[head].lamport);
    }
    // Whatever is reached from a child is marked from the right.
    while let Some((lamport, event)) = walk.waiting.pop() {
        if lamport <= lowest {
            break;
        }
        let parents = std::mem::take(
            &mut walk
                .seen
                .get_mut(&event)
                .expect("what waits was seen")
                .parents,
        );
        for parent in parents {
            walk.reach(parent, RIGHT, Some((event, lamport)))?;
        }
    }
    heads.retain(|head| walk.seen[head].marks & RIGHT == 0);
    Ok(heads)
}
