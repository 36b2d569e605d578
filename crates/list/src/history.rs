//! Every transaction, in one order that all copies agree on.

use crate::content::Content;
use crate::doc::Doc;
use crate::id::{Frontier, Session};
use crate::log::Revised;
use crate::sequence::Sequence;

/// One transaction: who made it, when, and how much it did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionInfo {
    /// Whose it is.
    pub session: Session,
    /// Which of the session's, from 0.
    pub tx: u32,
    /// When, in milliseconds since 1970, by the author's clock; 0 if it was not said.
    pub time: u64,
    /// Elements inserted.
    pub inserted: u32,
    /// Elements deleted.
    pub deleted: u32,
    /// Elements set.
    pub set: u32,
    /// Elements moved.
    pub moved: u32,
    /// Whether the permission check refused it here.
    pub refused: bool,
}

impl<C: Content> Sequence<C> {
    /// All transactions, each after those it knew of: by Lamport counter, then by session.
    pub fn history(&self) -> Vec<TransactionInfo> {
        self.doc
            .in_order()
            .into_iter()
            .map(|(log, tx)| self.doc.info(log, tx))
            .collect()
    }

    /// The version after the first `count` transactions of [`history`](Self::history).
    pub fn frontier_after(&self, count: usize) -> Frontier {
        let mut frontier = Frontier::new();
        for (log, tx) in self.doc.in_order().into_iter().take(count) {
            frontier.set(self.doc.logs[log].id.clone(), tx + 1);
        }
        frontier
    }
}

impl<C: Content> Doc<C> {
    fn in_order(&self) -> Vec<(usize, u32)> {
        let mut all = Vec::new();
        for (at, log) in self.logs.iter().enumerate() {
            all.extend((0..log.txs).map(|tx| (log.lamport_of(tx), at, tx)));
        }
        all.sort_by(|a, b| {
            a.0.cmp(&b.0)
                .then_with(|| self.logs[a.1].id.cmp(&self.logs[b.1].id))
        });
        all.into_iter().map(|(_, log, tx)| (log, tx)).collect()
    }

    fn info(&self, log: usize, tx: u32) -> TransactionInfo {
        let log = &self.logs[log];
        let (from, to) = (log.item_at(tx), log.item_at(tx + 1));
        let rows = log.revisions.partition_point(|row| row.item < from)
            ..log.revisions.partition_point(|row| row.item < to);
        let moves = |row: &&crate::log::Revision<C::Item>| matches!(row.what, Revised::Place(_));
        let moved = log.revisions[rows.clone()].iter().filter(moves).count() as u32;
        let revised = rows.len() as u32;
        // Places that moves made are numbered like elements, and are not counted as such.
        let inserted = log.number_at(to) - log.number_at(from) - moved;
        TransactionInfo {
            session: log.id.clone(),
            tx,
            time: log.time_of(tx),
            inserted,
            deleted: to - from - inserted - revised,
            set: revised - moved,
            moved,
            refused: log.is_refused(tx),
        }
    }
}
