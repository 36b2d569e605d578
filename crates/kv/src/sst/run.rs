//! A run: tables of one level that do not overlap, read as one ordered source.

use crate::cursor::Cursor;
use crate::error::Result;
use crate::sst::block::head_of;
use crate::sst::table::{ReadState, Table};
use crate::sst::table_cursor::TableCursor;
use crate::types::{Commit, Tag};
use siltstone_storage::Wait;
use std::cmp::Ordering;
use std::sync::Arc;

/// Tables in key order whose ranges do not meet.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) level: u8,
    pub(crate) tables: Arc<[Arc<Table>]>,
    /// Of each table.
    bounds: Arc<[Bounds]>,
    pub(crate) max_commit: Commit,
}

/// The first eight bytes of a table's first and last key, as numbers. Where the wanted key's differs
/// from them, the keys need not be looked at.
#[derive(Debug)]
struct Bounds {
    min: u64,
    max: u64,
}

impl Run {
    /// A run of `tables`, which are sorted here.
    pub(crate) fn new(level: u8, mut tables: Vec<Arc<Table>>) -> Self {
        tables.sort_by(|a, b| a.meta.min_key.cmp(&b.meta.min_key));
        debug_assert!(
            tables
                .windows(2)
                .all(|pair| pair[0].meta.max_key < pair[1].meta.min_key)
        );
        let max_commit = tables
            .iter()
            .map(|t| t.meta.max_commit)
            .max()
            .unwrap_or_default();
        let bounds = tables.iter().map(|table| Bounds {
            min: head_of(&table.meta.min_key),
            max: head_of(&table.meta.max_key),
        });
        Self {
            level,
            bounds: bounds.collect(),
            tables: tables.into(),
            max_commit,
        }
    }

    /// The table whose range holds `key`.
    #[inline]
    pub(crate) fn table_for(&self, key: &[u8]) -> Option<&Arc<Table>> {
        let head = head_of(key);
        let (mut low, mut high) = (0, self.tables.len());
        while low < high {
            let middle = (low + high) / 2;
            let max = self.bounds[middle].max.cmp(&head);
            match max.then_with(|| self.tables[middle].meta.max_key.as_slice().cmp(key)) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal | Ordering::Greater => high = middle,
            }
        }
        // The first that does not end before the key.
        let table = self.tables.get(low)?;
        let min = self.bounds[low].min.cmp(&head);
        let begins = min.then_with(|| table.meta.min_key.as_slice().cmp(key));
        begins.is_le().then_some(table)
    }
}

/// A place in a run.
#[derive(Debug)]
pub(crate) struct RunCursor {
    tables: Arc<[Arc<Table>]>,
    state: Arc<ReadState>,
    at: usize,
    cursor: Option<TableCursor>,
    /// The table at `at` is not positioned yet: from which end it is to be entered.
    entering: Option<Enter>,
}

#[derive(Debug, Clone, Copy)]
enum Enter {
    First,
    Last,
}

impl RunCursor {
    pub(crate) fn new(run: &Run, state: Arc<ReadState>) -> Self {
        Self {
            at: run.tables.len(),
            tables: run.tables.clone(),
            state,
            cursor: None,
            entering: None,
        }
    }

    fn go_to(&mut self, at: usize) -> Option<&mut TableCursor> {
        let table = self.tables.get(at)?.clone();
        self.at = at;
        let cursor = match self.cursor.take() {
            Some(mut cursor) => {
                cursor.reset(table);
                cursor
            }
            None => TableCursor::new(table, self.state.clone()),
        };
        Some(self.cursor.insert(cursor))
    }

    fn enter(&mut self) -> Result<()> {
        if let (Some(from), Some(cursor)) = (self.entering, &mut self.cursor) {
            match from {
                Enter::First => cursor.seek_first()?,
                Enter::Last => cursor.seek_last()?,
            }
            self.entering = None;
        }
        Ok(())
    }

    /// The table in which a seek to `key` begins.
    fn place_of(&self, key: &[u8]) -> usize {
        self.tables
            .partition_point(|table| table.meta.max_key.as_slice() < key)
    }

    /// In a bucket, starts to read the index that a seek to `key` will want. The indexes of several
    /// runs then come at the same time, and so do their blocks after [`RunCursor::expect_block`].
    pub(crate) fn expect_index(&self, key: &[u8]) -> Result<()> {
        match self.tables.get(self.place_of(key)) {
            Some(table) if self.state.wait() == Wait::Allowed => table.expect_tail(),
            _ => Ok(()),
        }
    }

    /// In a bucket, starts to read the block that a seek to (`key`, `commit`) will want.
    pub(crate) fn expect_block(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        let at = self.place_of(key);
        let remote = self.tables.get(at).is_some_and(|table| table.is_remote());
        if !remote || self.state.wait() == Wait::Never {
            return Ok(());
        }
        match self.go_to(at) {
            Some(cursor) => cursor.expect(key, commit),
            None => Ok(()),
        }
    }

    fn go_to_end(&mut self) {
        self.at = self.tables.len();
        self.entering = None;
    }

    fn enter_at(&mut self, at: Option<usize>, from: Enter) -> Result<()> {
        match at {
            Some(at) if self.go_to(at).is_some() => {
                self.entering = Some(from);
                self.enter()
            }
            _ => {
                self.go_to_end();
                Ok(())
            }
        }
    }

    #[inline(always)]
    fn here(&self) -> &TableCursor {
        self.cursor.as_ref().expect("only a valid cursor is read")
    }
}

impl Cursor for RunCursor {
    fn seek(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        self.entering = None;
        let at = self.place_of(key);
        let Some(cursor) = self.go_to(at) else {
            self.go_to_end();
            return Ok(());
        };
        cursor.seek(key, commit)?;
        if !cursor.valid() {
            return self.enter_at(Some(at + 1), Enter::First);
        }
        Ok(())
    }

    fn seek_first(&mut self) -> Result<()> {
        self.enter_at(Some(0), Enter::First)
    }

    fn seek_before(&mut self, key: &[u8], commit: Commit) -> Result<()> {
        self.entering = None;
        let after = self
            .tables
            .partition_point(|table| table.meta.min_key.as_slice() <= key);
        let Some(at) = after.checked_sub(1) else {
            self.go_to_end();
            return Ok(());
        };
        let Some(cursor) = self.go_to(at) else {
            return Ok(());
        };
        cursor.seek_before(key, commit)?;
        if !cursor.valid() {
            return self.enter_at(at.checked_sub(1), Enter::Last);
        }
        Ok(())
    }

    fn seek_last(&mut self) -> Result<()> {
        self.enter_at(self.tables.len().checked_sub(1), Enter::Last)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if self.entering.is_some() {
            return self.enter();
        }
        let cursor = self.cursor.as_mut().expect("only a valid cursor moves");
        cursor.next()?;
        if !cursor.valid() {
            return self.enter_at(Some(self.at + 1), Enter::First);
        }
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        if self.entering.is_some() {
            return self.enter();
        }
        let cursor = self.cursor.as_mut().expect("only a valid cursor moves");
        cursor.prev()?;
        if !cursor.valid() {
            return self.enter_at(self.at.checked_sub(1), Enter::Last);
        }
        Ok(())
    }

    #[inline]
    fn valid(&self) -> bool {
        self.at < self.tables.len()
            && self.entering.is_none()
            && self.cursor.as_ref().is_some_and(Cursor::valid)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.here().key()
    }

    #[inline]
    fn commit(&self) -> Commit {
        self.here().commit()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.here().tag()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.here().value()
    }
}
