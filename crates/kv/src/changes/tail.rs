//! Reads the log as it grows: one file after another, one record after another, each commit once.
//!
//! Only what is certainly durable is handed out: a change that was delivered is never taken back.

use crate::error::{Error, Result};
use crate::types::Commit;
use crate::wal::frame::{self, Record};
use crate::wal::{FILE_HEADER, FileHeader, blob_name, number_of};
use siltstone_storage::{BlobReader, Env, Error as StorageError, Wait};
use std::sync::Arc;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A place in the log.
#[derive(Debug)]
pub(crate) struct LogTail {
    env: Env,
    /// The file, and where in it the next record starts.
    file: u64,
    at: u64,
    /// The epoch of the last file entered. An older one belongs to a writer that was fenced.
    epoch: u64,
    entered: bool,
    /// Commits up to this one have been handed out.
    after: Commit,
}

/// Where a feed is to start, and what is known of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// The last commit that was delivered.
    pub(crate) after: Commit,
    /// A commit that exists.
    pub(crate) head: Commit,
    /// The log starts here when there is no file.
    pub(crate) floor: u64,
    /// The epoch of the newest writer.
    pub(crate) epoch: u64,
}

/// What is known of the log at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    /// Recovery needs the files from this one on.
    pub(crate) floor: u64,
    /// A commit that exists.
    pub(crate) head: Commit,
    /// Commits up to this one may be delivered.
    pub(crate) upto: Commit,
}

/// A record of the log.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) record: Record,
    pub(crate) payload: Vec<u8>,
}

impl LogTail {
    /// Finds the place to start at.
    ///
    /// # Errors
    /// [`Error::ChangesGone`] naming where to start instead, [`Error::FutureCommit`].
    pub(crate) fn find(env: Env, start: Start) -> Result<Self> {
        let Start { after, head, .. } = start;
        if after > head {
            return Err(Error::FutureCommit {
                asked: after,
                newest: head,
            });
        }
        let mut numbers: Vec<u64> = env
            .blobs
            .list("wal/")?
            .iter()
            .filter_map(|blob| number_of(&blob.name))
            .collect();
        numbers.sort_unstable();
        let mut tail = Self {
            env,
            file: 0,
            at: 0,
            epoch: 0,
            entered: false,
            after,
        };
        tail.leave_out_strays(&mut numbers, start.epoch)?;
        let mut oldest = None;
        let mut last: Option<u64> = None;
        for number in numbers.iter().rev() {
            if last.is_some_and(|last| last != number + 1) {
                break;
            }
            last = Some(*number);
            tail.go_to(*number);
            if let Some(first) = tail.first_commit()? {
                oldest = Some(first);
                if first.0 <= after.0 + 1 {
                    tail.go_to(*number);
                    return Ok(tail);
                }
            }
        }
        // Everything there is in the log comes later, or there is nothing.
        let oldest = oldest.map_or(head, |first| Commit(first.0.saturating_sub(1)));
        if after < oldest {
            return Err(Error::ChangesGone { after, oldest });
        }
        tail.go_to(last.unwrap_or(start.floor));
        Ok(tail)
    }

    /// Files at the end that a fenced writer left behind are not part of the log: every writer
    /// starts a file with its epoch, and what is older and comes later does not count.
    fn leave_out_strays(&self, numbers: &mut Vec<u64>, epoch: u64) -> Result<()> {
        for (at, number) in numbers.iter().enumerate().rev() {
            let header = self.header_of(*number)?;
            if header.is_some_and(|header| header.epoch >= epoch) {
                numbers.truncate(at + 1);
                break;
            }
        }
        Ok(())
    }

    /// The log is needed from this file on.
    pub(crate) fn file(&self) -> u64 {
        self.file
    }

    fn go_to(&mut self, file: u64) {
        self.file = file;
        self.at = 0;
        self.entered = false;
    }

    /// The start of another file.
    fn start_of(&self, file: u64) -> Self {
        Self {
            env: self.env.clone(),
            file,
            at: 0,
            epoch: self.epoch,
            entered: false,
            after: self.after,
        }
    }

    /// The first commit of the file; `None` when it holds none.
    fn first_commit(&mut self) -> Result<Option<Commit>> {
        let epoch = self.epoch;
        let first = self.read_record()?.map(|(piece, _)| piece.record.first);
        self.epoch = epoch;
        Ok(first)
    }

    /// The next record; `None` at the end of the log. What lies beyond `upto` is left for later.
    pub(crate) fn next(&mut self, log: &Log) -> Result<Option<Piece>> {
        loop {
            match self.read_record()? {
                Some((piece, _)) if piece.record.first > log.upto => return Ok(None),
                Some((piece, end)) => {
                    let expected = Commit(self.after.0 + 1);
                    if piece.record.first > expected {
                        return Err(self.gone(piece.record.first));
                    }
                    self.at = end;
                    if piece.record.last <= self.after {
                        continue;
                    }
                    return Ok(Some(piece));
                }
                None => {
                    if !self.go_on(log)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The caller has handed out everything up to `commit`.
    pub(crate) fn advance(&mut self, commit: Commit) {
        self.after = self.after.max(commit);
    }

    fn gone(&self, first: Commit) -> Error {
        Error::ChangesGone {
            after: self.after,
            oldest: Commit(first.0.saturating_sub(1)),
        }
    }

    /// Moves to the next file when this one has ended for good; false when there is none yet.
    fn go_on(&mut self, log: &Log) -> Result<bool> {
        if self.open(self.file)?.is_none() {
            // Not there yet, or gone: only what recovery does not need is ever deleted. Of a
            // bucket's records, which are uploaded side by side, a later one may be there first.
            return match self.file < log.floor {
                true => self.pass_over(log),
                false => Ok(false),
            };
        }
        let next = self.file + 1;
        if !self.is_begun(next)? {
            // Deleted together with this file, had this one not been held.
            return match next < log.floor && self.open(next)?.is_none() {
                true => self.pass_over(log),
                false => Ok(false),
            };
        }
        // The file was complete before the next was begun: one more look finds what came meanwhile.
        if self.read_record()?.is_some() {
            return Ok(true);
        }
        self.go_to(next);
        Ok(true)
    }

    /// True for a file that records went to, or never will. A folder's is made while the one before it
    /// still fills; when there is one behind it, it was passed over by a crash, which may also have torn
    /// its header.
    fn is_begun(&self, file: u64) -> Result<bool> {
        if !self.env.blobs.can_append() {
            return Ok(self.header_of(file)?.is_some());
        }
        Ok(self.start_of(file).first_commit()?.is_some()
            || self.open(file)?.is_some() && self.open(file + 1)?.is_some())
    }

    /// Goes on behind files that are gone; fails when they held something still to be handed out.
    fn pass_over(&mut self, log: &Log) -> Result<bool> {
        let blobs = self.env.blobs.list("wal/")?;
        let later = blobs.iter().filter_map(|blob| number_of(&blob.name));
        let mut later: Vec<_> = later.filter(|number| *number > self.file).collect();
        later.sort_unstable();
        // The first commit that is still to be had, and where it is.
        let mut found = (Commit(log.head.0 + 1), log.floor);
        for number in later {
            if let Some(first) = self.start_of(number).first_commit()? {
                found = (first, number);
                break;
            }
        }
        let (first, file) = found;
        if first.0 > self.after.0 + 1 {
            return Err(self.gone(first));
        }
        self.go_to(file);
        Ok(true)
    }

    fn open(&self, file: u64) -> Result<Option<Arc<dyn BlobReader>>> {
        match self.env.blobs.open(&blob_name(file)) {
            Ok(reader) => Ok(Some(reader)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The header of a file that counts: whole, and not of a writer that was fenced.
    fn header_of(&self, file: u64) -> Result<Option<FileHeader>> {
        let Some(reader) = self.open(file)? else {
            return Ok(None);
        };
        let len = (reader.size() as usize).min(FILE_HEADER);
        let bytes = reader.read(0, len, Wait::Allowed)?;
        match FileHeader::decode(&blob_name(file), &bytes) {
            Ok(header) => Ok(header.filter(|header| header.epoch >= self.epoch)),
            // Torn by a crash, or being written.
            Err(StorageError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The record at the place, and where it ends.
    fn read_record(&mut self) -> Result<Option<(Piece, u64)>> {
        if !self.entered {
            let Some(header) = self.header_of(self.file)? else {
                return Ok(None);
            };
            self.epoch = header.epoch;
            self.at = FILE_HEADER as u64;
            self.entered = true;
        }
        let Some(reader) = self.open(self.file)? else {
            return Ok(None);
        };
        let left = usize::try_from(reader.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let head = reader.read(self.at, left.min(frame::HEADER), Wait::Allowed)?;
        let Some(len) = frame::record_bytes(&head).filter(|len| *len <= left) else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let piece = PIECE.min(len - bytes.len());
            let at = self.at + bytes.len() as u64;
            bytes.extend_from_slice(&reader.read(at, piece, Wait::Allowed)?);
        }
        let Some((record, payload, _)) = frame::decode(&bytes, self.file, 0) else {
            return Ok(None);
        };
        let piece = Piece {
            record,
            payload: payload.into_owned(),
        };
        Ok(Some((piece, self.at + len as u64)))
    }
}
