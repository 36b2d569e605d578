//! The log files of a folder: the one that is made before it is needed, and those that are full and
//! not durable yet. A writer that only wants its writes in the page cache goes from one to the next
//! and waits for no disk.
//!
//! Order: nothing of a file is durable before the files in front of it are. What a record says of its
//! own file's durable bytes says so: it is 0 until everything in front of the file is durable.

use crate::error::{Error, Result};
use crate::types::Commit;
use crate::wal::{FILE_HEADER, FileHeader, blob_name};
use parking_lot::Mutex;
use siltstone_storage::{Appender, Env, Error as StorageError};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// So many full files may wait to be made durable; the next one is waited for.
pub(crate) const MAX_FULL: usize = 4;

/// The end of a file that records go to.
#[derive(Debug)]
pub(crate) struct Tail {
    appender: Box<dyn Appender>,
    pub(crate) end: u64,
    /// Bytes of the file that are durable, as are the files in front of it; 0 while one of them may not
    /// be.
    pub(crate) durable: u64,
    /// The newest record is encoded and not handed over.
    pub(crate) held: bool,
    /// The first failure. What may be half written is followed by nothing, and is never durable.
    failed: Option<Error>,
}

impl Tail {
    pub(crate) fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Does something to the file, unless something failed before.
    pub(crate) fn attempt(
        &mut self,
        work: impl FnOnce(&mut dyn Appender) -> Result<(), StorageError>,
    ) -> Result<()> {
        self.check()?;
        work(&mut *self.appender).map_err(|error| self.failed.insert(Error::from(error)).clone())
    }

    /// Gives back what was set aside and not used.
    pub(crate) fn trim(&mut self) {
        self.appender.trim();
    }
}

/// A file that nothing more goes to.
#[derive(Debug)]
struct FullFile {
    tail: Tail,
    /// The newest commit in it.
    last: Commit,
}

#[derive(Debug)]
struct Next {
    /// The number of the next file to be made.
    number: u64,
    /// A file that is made, and that nothing was written to.
    ready: Option<Tail>,
    /// No further file is made ahead.
    ended: bool,
}

/// Makes the files of one writer's log, and makes full ones durable.
#[derive(Debug)]
pub(crate) struct LogFiles {
    env: Env,
    epoch: u64,
    /// The number of the first file.
    first: u64,
    /// The size that a file is expected to reach.
    file_bytes: u64,
    next: Mutex<Next>,
    full: Mutex<VecDeque<FullFile>>,
    /// Full files that may not be durable, with the one that is being synced.
    unsynced: AtomicUsize,
    /// The newest commit of the newest full file that is durable.
    durable: AtomicU64,
    /// Held while full files are synced; the first failure, after which nothing is ever durable.
    syncing: Mutex<Option<Error>>,
}

impl LogFiles {
    /// The first file will have `number`.
    pub(crate) fn new(env: Env, epoch: u64, number: u64, file_bytes: u64) -> Self {
        Self {
            env,
            epoch,
            first: number,
            file_bytes,
            next: Mutex::new(Next {
                number,
                ready: None,
                ended: false,
            }),
            full: Mutex::default(),
            unsynced: AtomicUsize::new(0),
            durable: AtomicU64::new(0),
            syncing: Mutex::default(),
        }
    }

    /// The number of this writer's first file.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Makes file `number`, if it is the next and not there. One that cannot be made is tried again when
    /// it is needed.
    pub(crate) fn prepare(&self, number: u64) {
        let mut next = self.next.lock();
        if next.ended || next.number != number {
            return;
        }
        match self.make(next.number) {
            Ok(tail) => {
                next.ready = Some(tail);
                next.number += 1;
            }
            Err(error) => tracing::debug!(%error, "the next log file was not made ahead"),
        }
    }

    /// The next file, made now if it was not made ahead.
    pub(crate) fn take(&self) -> Result<Tail> {
        let mut next = self.next.lock();
        if let Some(tail) = next.ready.take() {
            return Ok(tail);
        }
        let tail = self.make(next.number)?;
        next.number += 1;
        Ok(tail)
    }

    /// Makes no further file ahead. Answers the number after the last file there is.
    pub(crate) fn end(&self) -> u64 {
        let mut next = self.next.lock();
        next.ended = true;
        next.number
    }

    fn make(&self, number: u64) -> Result<Tail> {
        let mut appender = self.env.blobs.append(&blob_name(number), self.file_bytes)?;
        let mut header = Vec::with_capacity(FILE_HEADER);
        FileHeader {
            number,
            epoch: self.epoch,
            nonce: self.env.rng.next(),
        }
        .encode(&mut header);
        // A crash tears unsynced bytes; a header that records follow is never torn, only damaged.
        if let Err(error) = appender.append_durable(&header) {
            // This writer made it, and makes it again when it is needed. One that it could not make may
            // be another writer's.
            let _ = self.env.blobs.delete(&blob_name(number));
            return Err(error.into());
        }
        Ok(Tail {
            appender,
            end: FILE_HEADER as u64,
            durable: 0,
            held: false,
            failed: None,
        })
    }

    /// A file is full; `last` is the newest commit in it, and all of it was handed to the store.
    pub(crate) fn push_full(&self, mut tail: Tail, last: Commit) {
        if self.unsynced() == 0 && tail.durable == tail.end {
            tail.trim();
            self.durable.fetch_max(last.0, Ordering::AcqRel);
            return;
        }
        self.unsynced.fetch_add(1, Ordering::AcqRel);
        self.full.lock().push_back(FullFile { tail, last });
    }

    /// Full files that may not be durable.
    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.load(Ordering::Acquire)
    }

    /// The newest commit of the full files that are durable.
    pub(crate) fn durable(&self) -> Commit {
        Commit(self.durable.load(Ordering::Acquire))
    }

    /// Makes full files durable, in order.
    ///
    /// # Errors
    /// The store's; then nothing that comes later is ever durable.
    pub(crate) fn sync_full(&self) -> Result<()> {
        if self.unsynced() == 0 {
            return Ok(());
        }
        let mut failed = self.syncing.lock();
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        loop {
            let Some(mut file) = self.full.lock().pop_front() else {
                return Ok(());
            };
            if file.tail.durable < file.tail.end
                && let Err(error) = file.tail.attempt(|appender| appender.sync())
            {
                return Err(failed.insert(error).clone());
            }
            file.tail.trim();
            self.durable.fetch_max(file.last.0, Ordering::AcqRel);
            self.unsynced.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
