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
}

impl Outside for Others {
    fn older(&self, key: &[u8], commit: Commit) -> bool {
        let table = |table: &Arc<Table>| table.meta.min_commit < commit && table.meta.covers(key);
        self.tables.iter().any(table) || self.memtables.iter().any(|m| m.min_commit() < commit)
    }

    fn between(&self, key: &[u8], after: Commit, before: Commit) -> bool {
        let table = |table: &Arc<Table>| {
            table.meta.min_commit < before
                && table.meta.max_commit > after
                && table.meta.covers(key)
        };
        self.tables.iter().any(table) || self.memtables.iter().any(|m| m.min_commit() < before)
    }
}
