//! What a keyspace holds beside the inputs of a flush or a compaction.

use crate::compaction::versions::Outside;
use crate::memtable::Memtable;
use crate::sst::table::Table;
use crate::types::Commit;
use std::sync::Arc;

/// The tables and memtables that are not inputs.
#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) tables: Vec<Arc<Table>>,
    pub(crate) memtables: Vec<Arc<Memtable>>,
    /// Memtables of another process hold nothing older; [`Commit::MAX`] where there is none.
    pub(crate) in_memory_from: Commit,
}

impl Others {
    /// Does a memtable hold anything written before `commit`?
    fn in_memory(&self, commit: Commit) -> bool {
        self.in_memory_from < commit || self.memtables.iter().any(|m| m.min_commit() < commit)
    }
}

impl Outside for Others {
    fn older(&self, key: &[u8], commit: Commit) -> bool {
        let table = |table: &Arc<Table>| table.meta.min_commit < commit && table.meta.covers(key);
        self.in_memory(commit) || self.tables.iter().any(table)
    }

    fn between(&self, key: &[u8], after: Commit, before: Commit) -> bool {
        let table = |table: &Arc<Table>| {
            table.meta.min_commit < before
                && table.meta.max_commit > after
                && table.meta.covers(key)
        };
        self.in_memory(before) || self.tables.iter().any(table)
    }
}
