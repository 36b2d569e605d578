//! How well the list is compacted, and the walk that proves it sound.

use crate::births::Side;
use crate::content::Content;
use crate::doc::Doc;
use crate::tree::{Elem, Entry, NONE};

/// A chain counts from this length.
const SHORTEST_CHAIN: usize = 3;

/// How linear the list's tree is. A chain is elements of one session that stand next to each other,
/// deleted or not, each put in after the one to its left or, all of them, before the one to its right.
/// A run is a chain whose elements also have consecutive names.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct CompactionStats {
    /// Elements, deleted ones included.
    pub total_nodes: usize,
    /// Chains of at least three elements.
    pub linear_chains: usize,
    /// Elements in such chains.
    pub compactable_nodes: usize,
    /// Their mean length; 0 without any.
    pub avg_chain_length: f64,
    /// The longest one's.
    pub max_chain_length: usize,
    /// `(total - compactable + chains) / total`: 1 if nothing is compacted, close to 0 if almost all is.
    pub compaction_ratio: f64,
}

/// Whether a run's names go up or down from left to right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Forward,
    Backward,
}

/// A run as it is gathered from left to right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) len: u32,
    session: u32,
    way: Way,
    last_elem: Elem,
    last_number: u32,
}

impl<C: Content> Doc<C> {
    /// The runs from left to right. They are the same on every copy: numbers here do not matter.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.gather(|left, right| match right {
            right if right == left + 1 => Some(Way::Forward),
            right if left == right + 1 => Some(Way::Backward),
            _ => None,
        })
    }

    /// The chains from left to right: runs whose elements' names need not be consecutive.
    fn chains(&self) -> Vec<Run> {
        self.gather(|left, right| {
            Some(if right > left {
                Way::Forward
            } else {
                Way::Backward
            })
        })
    }

    /// Gathers elements that are next to each other and parent and child; `way` says which way it goes
    /// from one number to the next, if they may be together.
    fn gather(&self, way: impl Fn(u32, u32) -> Option<Way>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for entry in self.tree.entries() {
            let mut rest = entry;
            while rest.len() > 0 {
                let len = self.unbroken(rest);
                self.add_to_runs(&mut runs, rest.part(0, len), &way);
                rest = rest.part(len, rest.len());
            }
        }
        runs
    }

    /// How many elements of `entry`, from the left, came by one chain and of one session.
    fn unbroken(&self, entry: Entry) -> u32 {
        let first = entry.first();
        let chain = self.births.chain(self.births.row_of(first));
        if entry.len() == 1 || chain.backward != entry.is_reversed() {
            return 1;
        }
        let arrival = self.arrivals.partition_point(|row| row.elem <= first) - 1;
        if entry.is_reversed() {
            return first - chain.first.max(self.arrivals[arrival].elem).max(entry.lo) + 1;
        }
        let next = self
            .arrivals
            .get(arrival + 1)
            .map_or(NONE, |next| next.elem);
        chain.end.min(next).min(entry.end()) - first
    }

    fn add_to_runs(
        &self,
        runs: &mut Vec<Run>,
        piece: Entry,
        way: &impl Fn(u32, u32) -> Option<Way>,
    ) {
        let first = piece.first();
        let (session, number) = self.origin(first);
        let piece_way = if piece.is_reversed() {
            Way::Backward
        } else {
            Way::Forward
        };
        let mut left = piece.len();
        if let Some(run) = runs.last_mut()
            && run.session == session
            && let Some(way) = way(run.last_number, number)
            && self.is_link(run.last_elem, first, way)
            && (run.len == 1 || run.way == way)
        {
            // The first element goes on with the run, and the others if they go the same way.
            let joined = if left == 1 || piece_way == way {
                left
            } else {
                1
            };
            let last = piece.at(joined - 1);
            let number = self.origin(last).1;
            *run = Run {
                len: run.len + joined,
                way,
                last_elem: last,
                last_number: number,
                ..*run
            };
            left -= joined;
        }
        if left > 0 {
            let from = piece.part(piece.len() - left, piece.len());
            let number = self.origin(from.last()).1;
            runs.push(Run {
                session,
                len: left,
                way: piece_way,
                last_elem: from.last(),
                last_number: number,
            });
        }
    }

    /// Whether `right`, which is next to `left`, is its child or, backward, its parent.
    fn is_link(&self, left: Elem, right: Elem, way: Way) -> bool {
        match way {
            Way::Forward => self.births.parent(right) == (left, Side::Right),
            Way::Backward => self.births.parent(left) == (right, Side::Left),
        }
    }

    pub(crate) fn stats(&self) -> CompactionStats {
        let chains = self.chains();
        let total = self.births.elems() as usize;
        let chains: Vec<usize> = chains
            .iter()
            .map(|run| run.len as usize)
            .filter(|&len| len >= SHORTEST_CHAIN)
            .collect();
        let compactable: usize = chains.iter().sum();
        CompactionStats {
            total_nodes: total,
            linear_chains: chains.len(),
            compactable_nodes: compactable,
            avg_chain_length: if chains.is_empty() {
                0.0
            } else {
                compactable as f64 / chains.len() as f64
            },
            max_chain_length: chains.iter().copied().max().unwrap_or(0),
            compaction_ratio: if total == 0 {
                1.0
            } else {
                (total - compactable + chains.len()) as f64 / total as f64
            },
        }
    }

    /// Walks everything: the tree, the runs, parents and children, moves.
    pub(crate) fn check(&self) -> Result<(), String> {
        let elems = self.births.elems();
        self.tree.check(elems)?;
        let covered: usize = self.runs().iter().map(|run| run.len as usize).sum();
        if covered != elems as usize {
            return Err(format!("runs hold {covered} of {elems} elements"));
        }
        let mut numbered = 0;
        for log in &self.logs {
            numbered += log.numbers;
            if log.items != log.item_at(log.txs) {
                return Err(format!(
                    "{}: {} items, {} in transactions",
                    log.id,
                    log.items,
                    log.item_at(log.txs)
                ));
            }
            for run in &log.inserts {
                for number in [run.number, run.number + run.len - 1] {
                    let elem = log
                        .elem(number)
                        .ok_or_else(|| format!("{}: no element {number}", log.id))?;
                    let (session, back) = self.origin(elem);
                    if self.logs[session as usize].id != log.id || back != number {
                        return Err(format!(
                            "{}: element {number} is {elem}, which is another's",
                            log.id
                        ));
                    }
                }
            }
        }
        if numbered != elems {
            return Err(format!("{numbered} of {elems} elements have a number"));
        }
        self.check_order()?;
        for (&elem, moved) in &self.moves.of {
            let shown = |elem| {
                let at = self.tree.place_of(elem);
                at.is_some_and(|at| !self.tree.entry(at).is_hidden())
            };
            if shown(elem) || shown(moved.slot) == moved.deleted {
                return Err(format!("moved element {elem} is shown twice or not at all"));
            }
        }
        Ok(())
    }

    /// The order is the walk of the tree of parents and children.
    fn check_order(&self) -> Result<(), String> {
        let elems = self.births.elems();
        let mut children: Vec<Vec<(Elem, Side)>> = vec![Vec::new(); elems as usize + 1];
        for elem in 0..elems {
            let (parent, side) = self.births.parent(elem);
            let at = if parent == NONE { elems } else { parent };
            children[at as usize].push((elem, side));
            let bit = if side == Side::Right {
                self.has_right(parent)
            } else {
                self.has_left(parent)
            };
            if parent != NONE && !bit {
                return Err(format!("element {parent} does not know its child {elem}"));
            }
        }
        for children in &mut children {
            children.sort_by(|a, b| self.compare(self.rank(a.0), self.rank(b.0)));
        }
        let mut order = Vec::with_capacity(elems as usize);
        // An element whose children are still to come, or which is to come itself.
        let mut left: Vec<(Elem, bool)> = vec![(elems, true)];
        while let Some((elem, whole)) = left.pop() {
            if !whole {
                order.push(elem);
                continue;
            }
            let of = |on: Side| {
                children[elem as usize]
                    .iter()
                    .rev()
                    .filter(move |child| child.1 == on)
            };
            left.extend(of(Side::Right).map(|child| (child.0, true)));
            if elem < elems {
                left.push((elem, false));
            }
            left.extend(of(Side::Left).map(|child| (child.0, true)));
        }
        let stands = self
            .tree
            .entries()
            .flat_map(|entry| (0..entry.len()).map(move |offset| entry.at(offset)));
        if !order.iter().copied().eq(stands) {
            return Err("the order is not the walk of parents and children".into());
        }
        Ok(())
    }
}
