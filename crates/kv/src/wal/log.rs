//! The end of the log: commits go in, in order; records come out at the store.

use crate::error::Result;
use crate::types::Commit;
use crate::wal::frame::{self, Record};
use crate::wal::{FILE_HEADER, FileHeader, blob_name};
use bytes::Bytes;
use siltstone_storage::{Appender, Env, Error as StorageError, PendingPut, PutOutcome, Timestamp};
use std::time::Duration;

/// Buffered commits go to the store when they reach this size, in bytes.
const BUFFER: usize = 256 * 1024;

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
    file: File,
    pending: Vec<u8>,
    first: Commit,
    last: Commit,
    record: Vec<u8>,
    written: u64,
    /// The newest commit that was handed to the store.
    handed: Commit,
    /// The newest commit that is durable; in a bucket, once its upload is over.
    durable: Commit,
}

#[derive(Debug)]
enum File {
    Folder {
        appender: Box<dyn Appender>,
        end: u64,
        durable: u64,
    },
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
    /// Starts log file `number`; what comes follows commit `last`.
    pub(crate) fn start(
        env: Env,
        epoch: u64,
        number: u64,
        file_bytes: u64,
        last: Commit,
    ) -> Result<Self> {
        let file = match env.blobs.can_append() {
            true => open_file(&env, epoch, number, file_bytes)?,
            false => File::Bucket,
        };
        Ok(Self {
            env,
            epoch,
            number,
            file_bytes,
            file,
            pending: Vec::new(),
            first: Commit::ZERO,
            last: Commit::ZERO,
            record: Vec::new(),
            written: 0,
            handed: last,
            durable: last,
        })
    }

    /// The number of the file that the next record goes to.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes handed to the store by this handle.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The newest durable commit. A bucket's is so when the uploads under way are over.
    pub(crate) fn durable(&self) -> Commit {
        match self.file {
            File::Folder { .. } => self.durable,
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

    /// True when the buffer should go to the store.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= BUFFER
    }

    /// True when the file has reached its size.
    pub(crate) fn wants_rotation(&self) -> bool {
        match &self.file {
            File::Folder { end, .. } => *end >= self.file_bytes,
            File::Bucket => false,
        }
    }

    /// Hands the buffer to the store. In a folder it is then in the page cache and [`Log::sync`]
    /// makes it durable; in a bucket the answer is an upload under way.
    pub(crate) fn write(&mut self, time: Timestamp) -> Result<Option<Upload>> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let mut record = Record {
            first: self.first,
            last: self.last,
            durable: 0,
            time,
        };
        self.record.clear();
        match &mut self.file {
            File::Folder {
                appender,
                end,
                durable,
            } => {
                record.durable = *durable;
                frame::encode(
                    &mut self.record,
                    self.number,
                    &record,
                    &self.pending,
                    COMPRESS_FILE,
                );
                appender.append(&self.record)?;
                *end += self.record.len() as u64;
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
            self.record = Vec::new();
        }
        self.pending.clear();
    }

    /// Makes everything written durable (a folder; a bucket's records are when uploaded).
    pub(crate) fn sync(&mut self) -> Result<()> {
        if let File::Folder {
            appender,
            end,
            durable,
        } = &mut self.file
            && *durable < *end
        {
            appender.sync()?;
            *durable = *end;
        }
        self.durable = self.handed;
        Ok(())
    }

    /// Goes on in a new file; what is in the old one is made durable first.
    pub(crate) fn rotate(&mut self, time: Timestamp) -> Result<()> {
        if let File::Folder { .. } = self.file {
            self.write(time)?;
            self.sync()?;
            self.trim();
            self.file = open_file(&self.env, self.epoch, self.number + 1, self.file_bytes)?;
            self.number += 1;
        }
        Ok(())
    }

    /// Gives back what was set aside for a file that nothing more goes to.
    pub(crate) fn trim(&mut self) {
        if let File::Folder { appender, .. } = &mut self.file {
            appender.trim();
        }
    }
}

fn open_file(env: &Env, epoch: u64, number: u64, reserve: u64) -> Result<File> {
    let mut appender = env.blobs.append(&blob_name(number), reserve)?;
    let mut header = Vec::with_capacity(FILE_HEADER);
    FileHeader {
        number,
        epoch,
        nonce: env.rng.next(),
    }
    .encode(&mut header);
    appender.append(&header)?;
    // A crash tears unsynced bytes; a header that records follow is never torn, only damaged.
    appender.sync()?;
    Ok(File::Folder {
        appender,
        end: FILE_HEADER as u64,
        durable: FILE_HEADER as u64,
    })
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
