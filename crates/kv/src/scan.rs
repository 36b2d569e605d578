//! Scans: the newest version of each key of a range, as of one commit, in either direction.
//!
//! A scan holds its view, its commit and, from its first step on, one permit until it is closed or
//! dropped. Errors stick, except the one that says that the next bytes are not in memory: then the
//! same call may be made again where waiting is allowed.

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::key_range::KeyRange;
use crate::merge::MergeCursor;
use crate::operator::{self, Fold};
use crate::permits::{CancelToken, Permit, Turn};
use crate::read::{Keep, ReadAt};
use crate::sst::table::ReadState;
use crate::stats::ScanStats;
use crate::transaction::overlay::{Overlay, ScanNote};
use crate::types::{Commit, Tag};
use bytes::Bytes;
use siltstone_storage::Wait;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// From the smallest key.
    #[default]
    Forward,
    /// From the largest key.
    Reverse,
}

/// How a scan goes about it.
#[derive(Debug, Clone, Default)]
pub struct ScanOptions {
    /// The direction.
    pub order: Order,
    /// Ends the scan from outside, also while it waits for its turn.
    pub cancel: Option<CancelToken>,
    /// Ends the scan this long after it was opened.
    pub deadline: Option<Duration>,
}

impl ScanOptions {
    /// From the largest key down.
    pub fn reverse() -> Self {
        Self {
            order: Order::Reverse,
            ..Self::default()
        }
    }
}

/// An open scan. Call [`Scan::next`], then look at [`Scan::key`] and [`Scan::value`]; or iterate.
#[derive(Debug)]
pub struct Scan {
    open: Option<Open>,
    state: Arc<ReadState>,
    stats: ScanStats,
    error: Option<Error>,
    row: Row,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Where the current row's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    None,
    /// In the merge, which stands on it.
    InPlace,
    /// In the scan's own buffers.
    Copied,
}

#[derive(Debug)]
struct Open {
    at: ReadAt,
    merge: MergeCursor,
    range: KeyRange,
    options: ScanOptions,
    expires: Option<Duration>,
    placed: bool,
    /// The merge must move before it is looked at again.
    moving: bool,
    /// `key` holds the last key met.
    has_key: bool,
    /// Deletions of ranges must be asked for.
    has_ranges: bool,
    /// The newest deletion of a range that holds `key`.
    range_deleted: Option<Commit>,
    /// Forward: the operands of `key` met so far, and the last one's commit.
    fold: Option<(Fold, Commit)>,
    /// Backward: the newest visible entry of `key` so far that is no merge; the scan's buffer holds
    /// what is stored there.
    candidate: Option<Tag>,
    /// Backward: the operands of `key` above that, oldest first.
    operands: Vec<u8>,
    /// Backward: the commit of the last of them.
    last_operand: Option<Commit>,
    /// Forward: the last version passed is newer than the commit and carries the truncated mark.
    thinned: Option<(Vec<u8>, Commit)>,
    /// Backward: a version of `key` newer than the commit has been seen.
    newer_seen: bool,
    /// A transaction's: where it is noted how far the scan has read.
    note: Option<ScanNote>,
    admission: Admission,
}

/// Only so many scans run at once.
#[derive(Debug)]
enum Admission {
    Waiting(Turn),
    In(#[expect(dead_code, reason = "held, and given back when dropped")] Permit),
}

impl Scan {
    /// Opens a scan and waits for its turn.
    pub(crate) fn open(at: ReadAt, range: KeyRange, options: ScanOptions) -> Result<Self> {
        let mut scan = Self::open_outside(at, range, options);
        if let Some(open) = &mut scan.open {
            open.enter()?;
        }
        Ok(scan)
    }

    /// Opens a scan that will wait for its turn at its first step.
    pub(crate) fn open_outside(at: ReadAt, range: KeyRange, options: ScanOptions) -> Self {
        let turn = Turn::new(&at.shared.scans, "a scan", options.cancel.clone());
        let at = ReadAt {
            view: crate::read::ViewRef::Held(at.view.into_arc()),
            ..at
        };
        let state = Arc::new(ReadState::new(Wait::Allowed));
        let (sources, tables_skipped) = match range.is_empty() {
            true => (Vec::new(), 0),
            false => at.sources(range.borrowed(), &state),
        };
        let has_ranges = at.has_ranges();
        let note = at.overlay.as_ref().and_then(Overlay::note_scan);
        let stats = ScanStats {
            commit: at.commit,
            sources: sources.len() as u64,
            tables_skipped,
            ..ScanStats::default()
        };
        let clock = &at.shared.env.clock;
        let expires = options.deadline.map(|deadline| clock.elapsed() + deadline);
        Self {
            open: Some(Open {
                merge: MergeCursor::new(sources),
                at,
                range,
                options,
                expires,
                placed: false,
                moving: false,
                has_key: false,
                has_ranges,
                range_deleted: None,
                fold: None,
                candidate: None,
                operands: Vec::new(),
                last_operand: None,
                thinned: None,
                newer_seen: false,
                note,
                admission: Admission::Waiting(turn),
            }),
            state,
            stats,
            error: None,
            row: Row::None,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Waits, as a task, until this scan may run. One that was opened by [`crate::Read::scan`] has
    /// waited already; [`crate::Read::open_scan`] leaves it to the first step.
    ///
    /// # Errors
    /// [`Error::Cancelled`], which sticks. One for which [`Error::is_would_block`] holds when the scan
    /// has a deadline and must wait: a task has no clock to wake it, so [`Scan::next`] has to be
    /// called where waiting is allowed.
    pub fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(open) = &mut self.open else {
            return Poll::Ready(Ok(()));
        };
        let entered = ready!(open.poll_enter(context));
        if let Err(error) = &entered
            && !error.is_would_block()
        {
            self.fail(error.clone());
        }
        Poll::Ready(entered)
    }

    /// Moves to the next row; false at the end, after [`Scan::close`], and after an error, which
    /// [`Scan::error`] then holds.
    #[expect(
        clippy::should_implement_trait,
        reason = "rows are borrowed; see IntoIterator for owned ones"
    )]
    pub fn next(&mut self) -> bool {
        match self.advance(Wait::Allowed) {
            Ok(more) => more,
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// As [`Scan::next`], without waiting for a disk or a network.
    ///
    /// # Errors
    /// One for which [`Error::is_would_block`] holds when the next bytes are not in memory; the scan
    /// stands where it stood and either call may follow. Other errors stick.
    pub fn try_next(&mut self) -> Result<bool> {
        match self.advance(Wait::Never) {
            Err(error) if !error.is_would_block() => {
                self.fail(error.clone());
                Err(error)
            }
            other => other,
        }
    }

    fn fail(&mut self, error: Error) {
        self.close();
        self.error = Some(error);
    }

    fn advance(&mut self, wait: Wait) -> Result<bool> {
        self.row = Row::None;
        let Some(open) = &mut self.open else {
            return match &self.error {
                Some(error) if wait == Wait::Never => Err(error.clone()),
                _ => Ok(false),
            };
        };
        open.check_alive()?;
        match wait {
            Wait::Allowed => open.enter()?,
            Wait::Never => open.try_enter()?,
        }
        self.state.set_wait(wait);
        if !open.placed {
            open.place()?;
        }
        self.row = match open.options.order {
            Order::Forward => {
                open.forward(&mut self.key, &mut self.value, &mut self.stats, wait)?
            }
            Order::Reverse => {
                open.backward(&mut self.key, &mut self.value, &mut self.stats, wait)?
            }
        };
        if self.row == Row::None {
            open.note_end();
            self.close();
            return Ok(false);
        }
        if open.note.is_some() {
            self.note_row();
        }
        self.stats.rows += 1;
        Ok(true)
    }

    /// Notes for a transaction that it has read as far as the current row.
    fn note_row(&self) {
        if let Some(open) = &self.open
            && let Some(note) = &open.note
        {
            let (start, end) = open.range.borrowed();
            match open.options.order {
                Order::Forward => note.read_to(start, self.key()),
                Order::Reverse => note.read_down_to(self.key(), end),
            }
        }
    }

    /// The key of the current row; empty when there is none.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match (self.row, &self.open) {
            (Row::None, _) => b"",
            (Row::InPlace, Some(open)) => open.merge.key(),
            _ => &self.key,
        }
    }

    /// The value of the current row; empty when there is none.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match (self.row, &self.open) {
            (Row::None, _) => b"",
            (Row::InPlace, Some(open)) => open.merge.value(),
            _ => &self.value,
        }
    }

    /// What ended the scan early.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// What the scan has done so far; exact at every moment.
    pub fn stats(&self) -> ScanStats {
        ScanStats {
            tables_read: self.state.tables_read.load(Ordering::Relaxed),
            blocks_read: self.state.blocks_read.load(Ordering::Relaxed),
            ..self.stats
        }
    }

    /// Lets go of view, commit and permit. A second call does nothing.
    pub fn close(&mut self) {
        self.open = None;
        self.row = Row::None;
    }
}

impl Open {
    /// Notes for a transaction that it has read everything.
    fn note_end(&self) {
        if let Some(note) = &self.note {
            note.read(self.range.clone());
        }
    }

    /// Waits for its turn on this thread.
    fn enter(&mut self) -> Result<()> {
        if let Admission::Waiting(turn) = &mut self.admission {
            let elapsed = || self.at.shared.env.clock.elapsed();
            let patience = self.expires.map(|at| at.saturating_sub(elapsed()));
            self.admission = Admission::In(turn.wait(patience)?);
        }
        Ok(())
    }

    fn try_enter(&mut self) -> Result<()> {
        match self.poll_enter(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(entered) => entered,
            Poll::Pending => Err(must_wait()),
        }
    }

    fn poll_enter(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Admission::Waiting(turn) = &mut self.admission {
            self.admission = match turn.poll(context) {
                Poll::Ready(permit) => Admission::In(permit?),
                Poll::Pending if self.expires.is_some() => return Poll::Ready(Err(must_wait())),
                Poll::Pending => return Poll::Pending,
            };
        }
        Poll::Ready(Ok(()))
    }

    fn check_alive(&self) -> Result<()> {
        if self
            .options
            .cancel
            .as_ref()
            .is_some_and(CancelToken::is_cancelled)
        {
            return Err(Error::Cancelled { what: "a scan" });
        }
        if let Some(expires) = self.expires
            && self.at.shared.env.clock.elapsed() >= expires
        {
            return Err(Error::Cancelled {
                what: "a scan past its deadline",
            });
        }
        Ok(())
    }

    fn place(&mut self) -> Result<()> {
        let (start, end) = self.range.borrowed();
        match (self.options.order, start, end) {
            (Order::Forward, Some(start), _) => self.merge.seek(start, Commit::MAX)?,
            (Order::Forward, None, _) => self.merge.seek_first()?,
            (Order::Reverse, _, Some(end)) => self.merge.seek_before(end, Commit::MAX)?,
            (Order::Reverse, _, None) => self.merge.seek_last()?,
        }
        self.placed = true;
        Ok(())
    }

    /// The value where the merge stands. When it is not in memory, the merge is looked at again here
    /// the next time.
    fn live_value(&mut self, wait: Wait) -> Result<Option<Cow<'_, [u8]>>> {
        let (tag, stored) = (self.merge.tag(), self.merge.value());
        self.at
            .live_value(tag, stored, wait, Keep::Nowhere)
            .inspect_err(|_| {
                self.moving = false;
                self.has_key = false;
            })
    }

    fn forward(
        &mut self,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
        stats: &mut ScanStats,
        wait: Wait,
    ) -> Result<Row> {
        loop {
            if self.moving {
                self.merge.next()?;
                self.moving = false;
            }
            let ended = !self.merge.valid()
                || self
                    .range
                    .end
                    .as_deref()
                    .is_some_and(|end| self.merge.key() >= end);
            if let Some((newer, oldest_kept)) = &self.thinned
                && (ended || self.merge.commit() <= self.at.commit || self.merge.key() != newer)
            {
                return Err(self.at.truncated(newer, *oldest_kept));
            }
            if self.fold.is_some() && (ended || self.merge.key() != key.as_slice()) {
                // All versions of `key` have been seen; the next one is looked at again.
                return self.finish_fold(key, None, value);
            }
            if ended {
                return Ok(Row::None);
            }
            stats.records_scanned += 1;
            self.moving = true;
            let here = self.merge.key();
            let commit = self.merge.commit();
            if !self.at.sees(commit) {
                if commit <= self.at.commit {
                    // It never happened here.
                    continue;
                }
                let marked = self.merge.tag().is_truncated() && !self.at.is_exact();
                self.thinned = marked.then(|| (here.to_vec(), commit));
                continue;
            }
            if self.has_key && here == key.as_slice() {
                if self.fold.is_some()
                    && let Some(row) = self.go_on_folding(key, value, wait)?
                {
                    return Ok(row);
                }
                continue;
            }
            key.clear();
            key.extend_from_slice(here);
            self.has_key = true;
            if self.has_ranges {
                self.range_deleted = self.at.range_deleted(key);
                if self.range_deleted.is_some_and(|at| at > commit) {
                    continue;
                }
            }
            let tag = self.merge.tag();
            if tag.is_plain_put() {
                return Ok(Row::InPlace);
            }
            if tag.is_merge() {
                let mut fold = Fold::default();
                fold.add(self.merge.value());
                self.fold = Some((fold, commit));
            } else if let Some(found) = self.live_value(wait)? {
                match found {
                    Cow::Owned(found) => *value = found,
                    Cow::Borrowed(found) => {
                        value.clear();
                        value.extend_from_slice(found);
                    }
                }
                return Ok(Row::Copied);
            }
        }
    }

    /// Looks at the next older version of a key whose operands are being gathered; the row, when
    /// it is the last one needed.
    fn go_on_folding(
        &mut self,
        key: &[u8],
        value: &mut Vec<u8>,
        wait: Wait,
    ) -> Result<Option<Row>> {
        let commit = self.merge.commit();
        let Some((fold, last)) = &mut self.fold else {
            return Ok(None);
        };
        if *last == commit {
            // A twin that a log replay made counts once.
            return Ok(None);
        }
        if self.range_deleted.is_some_and(|at| at > commit) {
            return self.finish_fold(key, None, value).map(Some);
        }
        let tag = self.merge.tag();
        if tag.is_merge() {
            *last = commit;
            fold.add(self.merge.value());
            return Ok(None);
        }
        let base = self
            .at
            .live_value(tag, self.merge.value(), wait, Keep::Nowhere);
        // When it is not in memory, this version is looked at again the next time.
        let base = base.inspect_err(|_| self.moving = false)?;
        let base = base.map(Cow::into_owned);
        self.finish_fold(key, base, value).map(Some)
    }

    fn finish_fold(
        &mut self,
        key: &[u8],
        base: Option<Vec<u8>>,
        value: &mut Vec<u8>,
    ) -> Result<Row> {
        let (fold, _) = self.fold.take().unwrap_or_default();
        *value = fold.finish(&*self.at.operator()?, key, base.as_deref())?;
        Ok(Row::Copied)
    }

    fn backward(
        &mut self,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
        stats: &mut ScanStats,
        wait: Wait,
    ) -> Result<Row> {
        loop {
            if self.moving {
                self.merge.prev()?;
                self.moving = false;
            }
            let ended = !self.merge.valid()
                || self
                    .range
                    .start
                    .as_deref()
                    .is_some_and(|start| self.merge.key() < start);
            if self.has_key && (ended || self.merge.key() != key.as_slice()) {
                // All versions of `key` have been seen; the next one is looked at again.
                let found = self.finish_backward(key, value, wait)?;
                self.has_key = false;
                if found {
                    return Ok(Row::Copied);
                }
            }
            if ended {
                return Ok(Row::None);
            }
            if !self.has_key {
                key.clear();
                key.extend_from_slice(self.merge.key());
                self.has_key = true;
                self.candidate = None;
                self.operands.clear();
                self.newer_seen = false;
                if self.has_ranges {
                    self.range_deleted = self.at.range_deleted(key);
                }
            }
            stats.records_scanned += 1;
            self.moving = true;
            let commit = self.merge.commit();
            if self.at.sees(commit) {
                self.take_backward(commit, value);
            } else if commit > self.at.commit && !self.newer_seen {
                // The oldest version above the commit: does it say that some are gone below it?
                if self.merge.tag().is_truncated() && !self.at.is_exact() {
                    return Err(self.at.truncated(key, commit));
                }
                self.newer_seen = true;
            }
        }
    }

    /// Takes in a version that is newer than all of its key so far.
    fn take_backward(&mut self, commit: Commit, value: &mut Vec<u8>) {
        if self.range_deleted.is_some_and(|at| at > commit) {
            return;
        }
        let tag = self.merge.tag();
        if tag.is_merge() {
            if self.last_operand != Some(commit) {
                self.last_operand = Some(commit);
                self.operands.extend_from_slice(self.merge.value());
            }
            return;
        }
        self.operands.clear();
        self.candidate = Some(tag);
        value.clear();
        value.extend_from_slice(self.merge.value());
    }

    /// True when the key that was left behind has a value, which `value` then holds. May be called
    /// again when it fails.
    fn finish_backward(&mut self, key: &[u8], value: &mut Vec<u8>, wait: Wait) -> Result<bool> {
        let stored = self.candidate.map(|tag| (tag, value.as_slice()));
        let base = match stored {
            Some((tag, stored)) => self.at.live_value(tag, stored, wait, Keep::Nowhere)?,
            None => None,
        };
        let found = match (self.operands.is_empty(), base) {
            (true, None) => None,
            // As it stands: nothing before it, nothing to fetch.
            (true, Some(Cow::Borrowed(base))) if base.len() == value.len() => {
                self.forget_backward();
                return Ok(true);
            }
            (true, Some(base)) => Some(base.into_owned()),
            (false, base) => {
                let operator = self.at.operator()?;
                let base = base.as_deref();
                Some(operator::apply(&*operator, key, base, &self.operands)?)
            }
        };
        self.forget_backward();
        Ok(found.map(|found| *value = found).is_some())
    }

    fn forget_backward(&mut self) {
        self.last_operand = None;
        self.candidate = None;
        self.operands.clear();
    }
}

/// As many scans are open as may be.
fn must_wait() -> Error {
    let name = "the turn of a scan".into();
    siltstone_storage::Error::WouldBlock { name }.into()
}

/// Owned rows of a scan: keys and values, or the error that ended it.
#[derive(Debug)]
pub struct Rows(Scan);

impl Iterator for Rows {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.next() {
            let key = Bytes::copy_from_slice(self.0.key());
            return Some(Ok((key, Bytes::copy_from_slice(self.0.value()))));
        }
        self.0.error.take().map(Err)
    }
}

impl IntoIterator for Scan {
    type Item = Result<(Bytes, Bytes)>;
    type IntoIter = Rows;

    fn into_iter(self) -> Rows {
        Rows(self)
    }
}
