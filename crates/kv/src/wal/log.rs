//! The end of the log: commits go in, in order; records come out at the store.

use crate::error::Result;
use crate::types::Commit;
use crate::wal::files::{LogFiles, MAX_FULL, Tail};
use crate::wal::frame::{self, Record};
use crate::wal::{FILE_HEADER, FileHeader, blob_name};
use bytes::Bytes;
use siltstone_storage::{Env, Error as StorageError, PendingPut, PutOutcome, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Buffered commits go to the store when they reach this size, in bytes.
const BUFFER: usize = 256 * 1024;
/// A file with so many bytes is one that fills: the next one is made meanwhile.
const FILLS_FROM: u64 = 1 << 20;

/// Records of a folder are compressed from this size on, in bytes: below it, they are on the way of
/// somebody who waits for a disk.
const COMPRESS_FILE: usize = 16 * 1024;
/// Records of a bucket are compressed from this size on, in bytes.
const COMPRESS_OBJECT: usize = 1024;

/// The log of one writer.
#[derive(Debug)]
pub(crate) struct Log {
    env: Env,
    epoch: u64,
    number: u64,
    file_bytes: u64,
    files: Arc<LogFiles>,
    file: File,
    pending: Vec<u8>,
    first: Commit,
    last: Commit,
    record: Vec<u8>,
    written: u64,
    /// Somebody was asked to make the next file.
    asked: bool,
    /// The newest commit that was handed to the store.
    handed: Commit,
    /// The newest commit that is durable; in a bucket, once its upload is over.
    durable: Commit,
}

#[derive(Debug)]
enum File {
    /// A folder's, there from the first record on: two syncs less for who opens and only reads.
    Folder(Option<Tail>),
    Bucket,
}

/// A record on its way to a bucket, with its number and header for finding out who won.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) put: PendingPut,
    pub(crate) number: u64,
    /// When it left.
    pub(crate) started: Duration,
    object: Bytes,
}

impl Log {
    /// A log that goes on in file `number`; what comes follows commit `last`. Asks nothing of the store.
    pub(crate) fn new(env: Env, epoch: u64, number: u64, file_bytes: u64, last: Commit) -> Self {
        let file = match env.blobs.can_append() {
            true => File::Folder(None),
            false => File::Bucket,
        };
        let files = Arc::new(LogFiles::new(env.clone(), epoch, number, file_bytes));
        Self {
            env,
            epoch,
            number,
            file_bytes,
            files,
            file,
            pending: Vec::new(),
            first: Commit::ZERO,
            last: Commit::ZERO,
            record: Vec::new(),
            written: 0,
            asked: false,
            handed: last,
            durable: last,
        }
    }

    /// A folder's file for records, made now unless that was done before.
    fn start_file(&mut self) -> Result<()> {
        if let File::Folder(tail @ None) = &mut self.file {
            *tail = Some(self.files.take()?);
        }
        Ok(())
    }

    /// What makes the files of a folder.
    pub(crate) fn files(&self) -> Arc<LogFiles> {
        self.files.clone()
    }

    /// The number of the file that the next record goes to.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The number after the last file that there is or will be of this writer when it writes no more.
    pub(crate) fn end(&self) -> u64 {
        match self.file {
            File::Folder(_) => self.files.end(),
            File::Bucket => self.number + 1,
        }
    }

    /// Bytes handed to the store by this handle.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The newest durable commit. A bucket's is so when the uploads under way are over.
    pub(crate) fn durable(&self) -> Commit {
        match self.file {
            File::Folder(_) => self.durable.max(self.files.durable()),
            File::Bucket => self.handed,
        }
    }

    /// Adds the commits `first..=last`, which follow what was added before.
    pub(crate) fn add(&mut self, payload: &[u8], first: Commit, last: Commit) {
        if self.pending.is_empty() {
            self.first = first;
        }
        self.pending.extend_from_slice(payload);
        self.last = last;
    }

    /// True when something was added that the store was not handed.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// True when the buffer should go to the store.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= BUFFER
    }

    /// True when the file has reached its size.
    pub(crate) fn wants_rotation(&self) -> bool {
        match &self.file {
            File::Folder(Some(tail)) => tail.end >= self.file_bytes,
            File::Folder(None) | File::Bucket => false,
        }
    }

    /// The number of the next file, once for each file that fills: it should be made ahead.
    pub(crate) fn asks_for(&mut self) -> Option<u64> {
        match &self.file {
            File::Folder(Some(tail)) if tail.end >= FILLS_FROM => {
                (!std::mem::replace(&mut self.asked, true)).then_some(self.number + 1)
            }
            _ => None,
        }
    }

    /// As [`Log::prepare`], for a record that somebody waits for until it is durable. The full files are
    /// made durable first, and the record says so: if one of them is damaged later, it is not taken for
    /// a crash that took this record too.
    pub(crate) fn prepare_durable(&mut self, time: Timestamp) -> Result<Option<Upload>> {
        self.files.sync_full()?;
        self.prepare(time)
    }

    /// Hands the buffer to the store. In a folder it is then in the page cache; in a bucket the
    /// answer is an upload under way.
    pub(crate) fn write(&mut self, time: Timestamp) -> Result<Option<Upload>> {
        let upload = self.prepare(time)?;
        self.hand_over()?;
        Ok(upload)
    }

    /// As [`Log::write`], but a folder's record stays here until [`Log::sync`], which must be next.
    pub(crate) fn prepare(&mut self, time: Timestamp) -> Result<Option<Upload>> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        self.start_file()?;
        self.hand_over()?;
        let mut record = Record {
            first: self.first,
            last: self.last,
            durable: 0,
            time,
        };
        self.record.clear();
        match &mut self.file {
            File::Folder(tail) => {
                let tail = tail.as_mut().expect("started above");
                tail.check()?;
                if tail.durable == 0 && self.files.unsynced() == 0 {
                    tail.durable = FILE_HEADER as u64;
                }
                record.durable = tail.durable;
                frame::encode(
                    &mut self.record,
                    self.number,
                    &record,
                    &self.pending,
                    COMPRESS_FILE,
                );
                tail.held = true;
                tail.end += self.record.len() as u64;
                self.written += self.record.len() as u64;
                self.clear();
                Ok(None)
            }
            File::Bucket => {
                let number = self.number;
                let header = FileHeader {
                    number,
                    epoch: self.epoch,
                    nonce: self.env.rng.next(),
                };
                header.encode(&mut self.record);
                frame::encode(
                    &mut self.record,
                    number,
                    &record,
                    &self.pending,
                    COMPRESS_OBJECT,
                );
                self.written += self.record.len() as u64;
                let object = Bytes::from(std::mem::take(&mut self.record));
                let name = blob_name(number);
                let started = self.env.clock.elapsed();
                let put = self.env.blobs.start_put_if_absent(&name, object.clone());
                self.number += 1;
                self.clear();
                Ok(Some(Upload {
                    put,
                    number,
                    started,
                    object,
                }))
            }
        }
    }

    fn clear(&mut self) {
        self.handed = self.last;
        // One oversized batch must not keep its memory.
        if self.pending.capacity() > 8 * BUFFER {
            self.pending = Vec::new();
        }
        self.pending.clear();
    }

    /// Hands a folder's record to the page cache.
    fn hand_over(&mut self) -> Result<()> {
        if let File::Folder(Some(tail)) = &mut self.file
            && std::mem::take(&mut tail.held)
        {
            let record = &self.record;
            tail.attempt(|appender| appender.append(record))?;
            self.shrink();
        }
        Ok(())
    }

    /// One oversized batch must not keep its memory.
    fn shrink(&mut self) {
        if self.record.capacity() > 8 * BUFFER {
            self.record = Vec::new();
        }
    }

    /// Makes everything written or prepared durable (a folder; a bucket's records are when uploaded).
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.files.sync_full()?;
        if let File::Folder(Some(tail)) = &mut self.file
            && tail.durable < tail.end
        {
            let (held, record) = (std::mem::take(&mut tail.held), &self.record);
            tail.attempt(|appender| match held {
                true => appender.append_durable(record),
                false => appender.sync(),
            })?;
            tail.durable = tail.end;
            self.shrink();
        }
        self.durable = self.handed;
        Ok(())
    }

    /// Goes on in a new file. What is in the old one is handed over, and made durable by whoever asks
    /// next for anything that must be, or by [`LogFiles::sync_full`].
    pub(crate) fn rotate(&mut self, time: Timestamp) -> Result<()> {
        let File::Folder(_) = self.file else {
            return Ok(());
        };
        self.write(time)?;
        if self.files.unsynced() >= MAX_FULL {
            self.files.sync_full()?;
        }
        // Where none was begun, nothing is behind the next record.
        if let File::Folder(Some(tail)) = &mut self.file {
            tail.check()?;
            let full = std::mem::replace(tail, self.files.take()?);
            self.files.push_full(full, self.handed);
            self.number += 1;
            self.asked = false;
        }
        Ok(())
    }

    /// Gives back what was set aside for a file that nothing more goes to.
    pub(crate) fn trim(&mut self) {
        if let File::Folder(Some(tail)) = &mut self.file {
            tail.trim();
        }
    }
}

/// Waits for an upload. A name that an earlier writer took after it was replaced is taken back; one
/// that a later writer took means that this writer is fenced.
pub(crate) fn finish_upload(env: &Env, upload: Upload, epoch: u64) -> Result<()> {
    if upload.put.wait()? == PutOutcome::Created {
        return Ok(());
    }
    let name = blob_name(upload.number);
    let theirs = FileHeader::decode(&name, &env.blobs.get(&name)?)?;
    if theirs.is_some_and(|header| header.epoch < epoch) {
        env.blobs.put(&name, &upload.object)?;
        return Ok(());
    }
    Err(StorageError::Fenced {
        ours: epoch,
        theirs: theirs.map_or(epoch + 1, |header| header.epoch),
    }
    .into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use siltstone_storage::{FaultPlan, FaultyBlobs, Injected, MemBlobs};
    use std::sync::Arc;

    #[test]
    fn what_failed_once_is_never_durable_and_nothing_follows_it() {
        // The append of the second record, and its sync.
        for call in [0, 1] {
            for fault in [Injected::ErrorBefore, Injected::ErrorAfter] {
                let (env, clock) = Env::simulated(Arc::new(MemBlobs::new()), 1);
                let store = FaultyBlobs::new(env.blobs.clone(), clock, FaultPlan::default());
                let blobs = Arc::new(store.clone());
                let mut log = Log::new(Env { blobs, ..env }, 1, 1, 1 << 20, Commit::ZERO);
                let time = Timestamp(1);
                log.add(b"first", Commit(1), Commit(1));
                log.prepare(time).unwrap();
                log.sync().unwrap();
                assert_eq!(log.durable(), Commit(1));
                store.set_plan(FaultPlan::at(store.calls() + 1 + call, fault));
                log.add(b"second", Commit(2), Commit(2));
                log.prepare(time).unwrap();
                log.sync().unwrap_err();
                // Whoever has the log next is told the same, though the disk works again.
                let calls = store.calls();
                log.sync().unwrap_err();
                log.rotate(time).unwrap_err();
                log.add(b"third", Commit(3), Commit(3));
                log.write(time).unwrap_err();
                assert_eq!(log.durable(), Commit(1));
                assert_eq!(store.calls(), calls, "nothing was written behind it");
            }
        }
    }
}
