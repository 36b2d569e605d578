//! The end of the journal. A failed append or sync stops it for good: what the disk holds is then
//! unknown, and only opening the ledger again finds it out.

use super::frame::{FILE_HEADER, FileHeader, MAX_EDIT, RecordHeader};
use super::{Position, journal_name};
use siltstone_storage::{Appender, Env, Error, PutOutcome, Result};

/// How often an object's creation whose outcome is unknown is tried.
const PUT_ATTEMPTS: u32 = 3;

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Number of the journal file.
    pub(crate) number: u64,
    /// Where the body starts in it.
    pub(crate) body_at: u64,
    /// Where the next record goes.
    pub(crate) end: Position,
}

/// Appends records.
#[derive(Debug)]
pub(crate) struct Journal {
    env: Env,
    epoch: u64,
    /// A file is left for the next one from this size on, in bytes.
    file_bytes: u64,
    /// The number of the next file.
    next: u64,
    sequence: u64,
    file: Option<File>,
    failed: bool,
}

#[derive(Debug)]
struct File {
    appender: Box<dyn Appender>,
    number: u64,
    nonce: u64,
    offset: u64,
}

impl Journal {
    /// A journal whose next file has number `next`; nothing is created before the first record.
    pub(crate) fn new(env: Env, epoch: u64, next: u64, file_bytes: u64) -> Self {
        Self {
            env,
            epoch,
            file_bytes,
            next,
            sequence: 0,
            file: None,
            failed: false,
        }
    }

    /// Where the next record goes, at the earliest.
    pub(crate) fn position(&self) -> Position {
        match &self.file {
            Some(file) => Position {
                number: file.number,
                offset: file.offset,
            },
            None => Position {
                number: self.next,
                offset: 0,
            },
        }
    }

    /// True when bodies go into the journal; else they are objects, put before the record.
    pub(crate) fn takes_bodies(&self) -> bool {
        self.env.blobs.can_append()
    }

    /// Leaves the file at hand: the next record goes into another one.
    pub(crate) fn leave_file(&mut self) {
        if let Some(mut file) = self.file.take() {
            file.appender.trim();
        }
    }

    /// Writes a record and makes it durable. After an error nothing more can be written.
    pub(crate) fn append(&mut self, edit: &[u8], body: &[&[u8]]) -> Result<Placed> {
        if self.failed {
            return Err(Error::Invalid {
                name: "journal".into(),
                what: "an earlier write failed; reopen the ledger".into(),
            });
        }
        if edit.len() > MAX_EDIT as usize {
            return Err(Error::Invalid {
                name: "journal".into(),
                what: format!("an edit of {} bytes is over {MAX_EDIT}", edit.len()),
            });
        }
        let done = match self.takes_bodies() {
            true => self.append_to_file(edit, body),
            false => self.put_object(edit),
        };
        self.failed = done.is_err();
        done
    }

    fn append_to_file(&mut self, edit: &[u8], body: &[&[u8]]) -> Result<Placed> {
        if self
            .file
            .as_ref()
            .is_some_and(|file| file.offset >= self.file_bytes)
        {
            self.leave_file();
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.start_file()?,
        };
        let sequence = self.sequence + 1;
        let mut bytes = RecordHeader::encode(file.nonce, sequence, edit, body);
        let body_at = file.offset + bytes.len() as u64;
        bytes.reserve(body.iter().map(|piece| piece.len()).sum());
        for piece in body {
            bytes.extend_from_slice(piece);
        }
        file.appender.append_durable(&bytes)?;
        file.offset += bytes.len() as u64;
        self.sequence = sequence;
        let placed = Placed {
            number: file.number,
            body_at,
            end: Position {
                number: file.number,
                offset: file.offset,
            },
        };
        self.file = Some(file);
        Ok(placed)
    }

    fn start_file(&mut self) -> Result<File> {
        let number = self.next;
        let mut appender = self
            .env
            .blobs
            .append(&journal_name(number), self.file_bytes)?;
        let header = self.header(number);
        // Durable before the first record: a damaged header in front of records is damage, then, and
        // one in front of nothing is a file that was never begun.
        appender.append_durable(&header.encode())?;
        self.next += 1;
        self.sequence = 0;
        Ok(File {
            appender,
            number,
            nonce: header.nonce,
            offset: FILE_HEADER as u64,
        })
    }

    fn header(&self, number: u64) -> FileHeader {
        FileHeader {
            number,
            epoch: self.epoch,
            // Not zero: zeros are what unwritten space holds.
            nonce: self.env.rng.next() | 1,
        }
    }

    fn put_object(&mut self, edit: &[u8]) -> Result<Placed> {
        let number = self.next;
        let header = self.header(number);
        let mut bytes = header.encode();
        bytes.extend_from_slice(&RecordHeader::encode(header.nonce, 1, edit, &[]));
        let body_at = bytes.len() as u64;
        if !create(&self.env, &journal_name(number), &bytes)? {
            return Err(Error::Fenced {
                ours: self.epoch,
                theirs: self.epoch + 1,
            });
        }
        self.next += 1;
        Ok(Placed {
            number,
            body_at,
            end: Position {
                number: self.next,
                offset: 0,
            },
        })
    }

    /// In a bucket: takes the next free number with a record that says nothing, so that a writer
    /// that was replaced meets it. Returns false when another record has the number: it is to be
    /// applied first.
    pub(crate) fn fence(&mut self) -> Result<bool> {
        let header = self.header(self.next);
        let mut bytes = header.encode();
        bytes.extend_from_slice(&RecordHeader::encode(header.nonce, 1, &[], &[]));
        let created = create(&self.env, &journal_name(self.next), &bytes)?;
        self.next += u64::from(created);
        Ok(created)
    }
}

/// Creates an object; true when these very bytes are there in the end, whatever the store said.
fn create(env: &Env, name: &str, bytes: &[u8]) -> Result<bool> {
    let mut attempt = 1;
    loop {
        let error = match env.blobs.put_if_absent(name, bytes) {
            Ok(PutOutcome::Created) => return Ok(true),
            Ok(PutOutcome::Exists) => return Ok(env.blobs.get(name)? == bytes),
            Err(error) => error,
        };
        match env.blobs.get(name) {
            Ok(found) => return Ok(found == bytes),
            Err(missing) if missing.is_not_found() && attempt < PUT_ATTEMPTS => attempt += 1,
            Err(_) => return Err(error),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.leave_file();
    }
}
