//! Recorded editing traces: gzip-compressed JSON, read into a flat form that costs little to replay.
//!
//! A trace is a list of transactions of patches (position, characters deleted, text inserted). In a
//! concurrent one each transaction also names its author and parents, and its positions are in the
//! document as that author saw it. Texts are ASCII, so positions are bytes and characters alike.

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;

use flate2::bufread::GzDecoder;
use serde::Deserialize;

use crate::error::{Error, Result};

/// The traces of one author.
pub(crate) const SEQUENTIAL: [&str; 4] = [
    "sveltecomponent",
    "rustcode",
    "seph-blog1",
    "automerge-paper",
];
/// The trace of authors that write at the same time.
pub(crate) const CONCURRENT: &str = "friendsforever";

/// One edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patch<'a> {
    /// Where.
    pub(crate) at: usize,
    /// Characters deleted there.
    pub(crate) deleted: usize,
    /// What is then inserted.
    pub(crate) inserted: &'a str,
}

/// A patch whose text is a range of [`Trace::inserted`].
#[derive(Debug)]
struct Span {
    at: usize,
    deleted: usize,
    inserted: Range<usize>,
}

/// Patches that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// The number of its author.
    pub(crate) agent: usize,
    /// By author, how many transactions of each the author of this one had seen, their own
    /// earlier ones included. Empty in a sequential trace.
    pub(crate) seen: Vec<usize>,
    patches: Range<usize>,
}

/// A trace in memory.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The text it ends with.
    pub(crate) end_content: String,
    /// In an order in which parents come first.
    pub(crate) transactions: Vec<Transaction>,
    /// Authors; 1 if it is sequential.
    pub(crate) agents: usize,
    patches: Vec<Span>,
    inserted: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recorded {
    #[serde(default)]
    start_content: String,
    end_content: String,
    txns: Vec<RecordedTransaction>,
}

#[derive(Deserialize)]
struct RecordedTransaction {
    #[serde(default)]
    agent: usize,
    #[serde(default)]
    parents: Vec<usize>,
    patches: Vec<(usize, usize, String)>,
}

impl Trace {
    /// Reads the trace called `name` from `folder`.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.json.gz"));
        let file = File::open(&path).map_err(|source| {
            let hint = "the traces are the sequential ASCII and the concurrent files of github.com/josephg/editing-traces; say where they are with --traces";
            Error::io(format!("open {} ({hint})", path.display()), source)
        })?;
        let wrong = |what: String| Error::Usage(format!("{}: {what}", path.display()));
        let reader = GzDecoder::new(BufReader::new(file));
        let recorded: Recorded =
            serde_json::from_reader(BufReader::new(reader)).map_err(|e| wrong(e.to_string()))?;
        Self::new(recorded).map_err(|what| wrong(what.to_owned()))
    }

    fn new(recorded: Recorded) -> std::result::Result<Self, &'static str> {
        if !recorded.start_content.is_empty() {
            return Err("the trace does not begin with an empty text");
        }
        let agents = 1 + recorded.txns.iter().map(|txn| txn.agent).max().unwrap_or(0);
        let mut trace = Self {
            end_content: recorded.end_content,
            transactions: Vec::with_capacity(recorded.txns.len()),
            agents,
            patches: Vec::new(),
            inserted: String::new(),
        };
        let mut written = vec![0; agents];
        for txn in recorded.txns {
            let seen = if agents == 1 {
                Vec::new()
            } else {
                trace.seen_by(&txn.parents)?
            };
            if agents > 1 && seen[txn.agent] != written[txn.agent] {
                return Err("an author does not know all of their own earlier transactions");
            }
            written[txn.agent] += 1;
            let first = trace.patches.len();
            for (at, deleted, inserted) in txn.patches {
                if !inserted.is_ascii() {
                    return Err("the trace has characters that are not ASCII");
                }
                let start = trace.inserted.len();
                trace.inserted.push_str(&inserted);
                trace.patches.push(Span {
                    at,
                    deleted,
                    inserted: start..trace.inserted.len(),
                });
            }
            trace.transactions.push(Transaction {
                agent: txn.agent,
                seen,
                patches: first..trace.patches.len(),
            });
        }
        Ok(trace)
    }

    /// How many transactions of each author come before one with these parents.
    fn seen_by(&self, parents: &[usize]) -> std::result::Result<Vec<usize>, &'static str> {
        let mut seen = vec![0; self.agents];
        for parent in parents {
            let parent = self
                .transactions
                .get(*parent)
                .ok_or("a transaction comes before its parent")?;
            for (agent, count) in parent.seen.iter().enumerate() {
                seen[agent] = seen[agent].max(count + usize::from(agent == parent.agent));
            }
        }
        Ok(seen)
    }

    /// The patches of `transaction`.
    pub(crate) fn patches(&self, transaction: &Transaction) -> impl Iterator<Item = Patch<'_>> {
        self.patches[transaction.patches.clone()]
            .iter()
            .map(|span| Patch {
                at: span.at,
                deleted: span.deleted,
                inserted: &self.inserted[span.inserted.clone()],
            })
    }

    /// Patches in all.
    pub(crate) fn patch_count(&self) -> usize {
        self.patches.len()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two authors who write at the same time, far from each other, and then meet.
    pub(crate) fn concurrent() -> Trace {
        let json = r#"{"endContent": "oh hello, ther", "txns": [
            {"agent": 0, "parents": [], "patches": [[0, 0, "hello world"]]},
            {"agent": 1, "parents": [0], "patches": [[5, 0, ","]]},
            {"agent": 0, "parents": [0], "patches": [[6, 5, ""]]},
            {"agent": 0, "parents": [2], "patches": [[6, 0, "there"]]},
            {"agent": 1, "parents": [1], "patches": [[0, 0, "oh "]]},
            {"agent": 1, "parents": [3, 4], "patches": [[14, 1, ""]]}
        ]}"#;
        Trace::new(serde_json::from_str(json).unwrap()).unwrap()
    }

    /// One author.
    pub(crate) fn sequential() -> Trace {
        let json = r#"{"startContent": "", "endContent": "stone", "txns": [
            {"patches": [[0, 0, "silt"], [1, 3, ""]]},
            {"patches": [[1, 0, "tone"]]}
        ]}"#;
        Trace::new(serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn parents_become_counts_of_known_transactions() {
        let trace = concurrent();
        let seen: Vec<_> = trace.transactions.iter().map(|txn| &txn.seen[..]).collect();
        assert_eq!(seen, [[0, 0], [1, 0], [1, 0], [2, 0], [1, 1], [3, 2]]);
    }

    #[test]
    fn a_transaction_before_its_parent_is_refused() {
        let json = r#"{"endContent": "", "txns": [
            {"agent": 1, "parents": [1], "patches": []}, {"agent": 0, "parents": [], "patches": []}
        ]}"#;
        let refused = Trace::new(serde_json::from_str(json).unwrap()).unwrap_err();
        assert!(refused.contains("parent"), "{refused}");
    }
}
