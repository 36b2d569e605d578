//! Reads the records of a journal file back. Only headers and edits are read: the bodies, which are
//! nearly all of the bytes, are passed over, but for the last one, whose checksum says whether its
//! write was finished.
//!
//! Records go to the file one append at a time, each synced before the next is written. So what a
//! crash can tear is the last record; a bad record with a good one after it is damage, and an error.

use super::frame::{FILE_HEADER, FileHeader, RECORD_HEADER, RecordHeader};
use siltstone_storage::{BlobReader, Blobs, Error, Result, Wait};

/// Bytes read at once while walking from record to record.
const WINDOW: usize = 64 << 10;

/// One record, as far as it is read.
#[derive(Debug)]
pub(crate) struct Record {
    /// Of the record's edit, from the file's start.
    pub(crate) edit: Vec<u8>,
    /// Where the record starts.
    pub(crate) at: u64,
    /// Where its body starts.
    pub(crate) body_at: u64,
    /// Bytes of its body.
    pub(crate) body: u64,
}

/// What a journal file holds.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) records: Vec<Record>,
    /// Where the last whole record ends.
    pub(crate) end: u64,
    /// Bytes after it that were written in part.
    pub(crate) torn: u64,
}

struct Windowed<'a> {
    reader: &'a dyn BlobReader,
    at: u64,
    bytes: bytes::Bytes,
}

impl Windowed<'_> {
    /// Exactly `len` bytes at `at`; fewer only at the end of the file.
    fn read(&mut self, at: u64, len: usize) -> Result<bytes::Bytes> {
        let len = len.min(usize::try_from(self.reader.size().saturating_sub(at)).unwrap_or(len));
        let have = self.at + self.bytes.len() as u64;
        if at < self.at || at + len as u64 > have {
            let rest = usize::try_from(self.reader.size() - at.min(self.reader.size()));
            let want = len.max(WINDOW).min(rest.unwrap_or(usize::MAX));
            self.bytes = self.reader.read(at, want, Wait::Allowed)?;
            self.at = at;
        }
        let start = (at - self.at) as usize;
        Ok(self.bytes.slice(start..start + len))
    }
}

/// Reads journal `name` from offset `from` on (0: from its first record). `None` when the file was
/// never finished being created: its header, which is synced before the first record is written, is
/// not there or was torn, and nothing follows it.
///
/// # Errors
/// The store's; [`Error::Corrupt`] when a bad record is followed by a good one.
pub(crate) fn replay(blobs: &dyn Blobs, name: &str, from: u64) -> Result<Option<Replayed>> {
    let reader = blobs.open(name)?;
    let mut window = Windowed {
        reader: &*reader,
        at: 0,
        bytes: bytes::Bytes::new(),
    };
    let header = match FileHeader::decode(name, &window.read(0, FILE_HEADER)?) {
        Ok(Some(header)) => header,
        other => {
            return match is_blank_after_header(&*reader)? {
                true => Ok(None),
                false => other.and_then(|_| Err(Error::corrupt(name, 0, "it has no header"))),
            };
        }
    };
    let mut at = from.max(FILE_HEADER as u64);
    let mut found = Replayed {
        records: Vec::new(),
        end: at,
        torn: 0,
    };
    let mut sequence = None;
    while let Some((record, next, head)) = next_record(&mut window, header.nonce, at)? {
        if sequence.is_some_and(|before| head.sequence != before + 1) {
            return Err(Error::corrupt(name, at, "a record is missing before this"));
        }
        // Only the last record can be torn: the next header says that this one was synced.
        let last = next_record_at(&mut window, header.nonce, next)?.is_none();
        if last && !body_holds(&*reader, &record, head.body_sum)? {
            break;
        }
        sequence = Some(head.sequence);
        found.records.push(record);
        at = next;
        found.end = next;
    }
    found.torn = check_tail(&*reader, name, header.nonce, found.end, sequence)?;
    Ok(Some(found))
}

fn next_record_at(window: &mut Windowed<'_>, nonce: u64, at: u64) -> Result<Option<RecordHeader>> {
    let head = window.read(at, RECORD_HEADER)?;
    Ok(RecordHeader::decode(nonce, &head))
}

fn next_record(
    window: &mut Windowed<'_>,
    nonce: u64,
    at: u64,
) -> Result<Option<(Record, u64, RecordHeader)>> {
    let head_bytes = window.read(at, RECORD_HEADER)?;
    let Some(head) = RecordHeader::decode(nonce, &head_bytes) else {
        return Ok(None);
    };
    let next = head.len().and_then(|len| at.checked_add(len));
    let Some(next) = next.filter(|next| *next <= window.reader.size()) else {
        return Ok(None);
    };
    let edit = window.read(at + RECORD_HEADER as u64, head.edit as usize)?;
    if !head.holds(&head_bytes, &edit) {
        return Ok(None);
    }
    let record = Record {
        edit: edit.to_vec(),
        at,
        body_at: next - head.body,
        body: head.body,
    };
    Ok(Some((record, next, head)))
}

/// Checks a body against its checksum, a piece at a time.
fn body_holds(reader: &dyn BlobReader, record: &Record, sum: u64) -> Result<bool> {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let mut at = record.body_at;
    let end = record.body_at + record.body;
    while at < end {
        let piece = reader.read(at, (end - at).min(1 << 20) as usize, Wait::Allowed)?;
        digest.update(&piece);
        at += piece.len() as u64;
    }
    Ok(digest.finalize() == sum)
}

/// True when nothing was ever written behind the header.
fn is_blank_after_header(reader: &dyn BlobReader) -> Result<bool> {
    let mut at = FILE_HEADER as u64;
    while at < reader.size() {
        let piece = reader.read(
            at,
            (reader.size() - at).min(1 << 20) as usize,
            Wait::Allowed,
        )?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += piece.len() as u64;
    }
    Ok(true)
}

/// Looks for a whole record after the end, which would make this damage instead of a torn write.
/// Returns how many bytes of an unfinished one there are.
fn check_tail(
    reader: &dyn BlobReader,
    name: &str,
    nonce: u64,
    end: u64,
    last: Option<u64>,
) -> Result<u64> {
    const PIECE: u64 = 1 << 20;
    let size = reader.size();
    let mark = nonce.to_le_bytes();
    let (mut at, mut torn) = (end, 0);
    while at < size {
        let piece = reader.read(at, (size - at).min(PIECE) as usize, Wait::Allowed)?;
        if let Some(written) = piece.iter().rposition(|byte| *byte != 0) {
            torn = at + written as u64 + 1 - end;
            for start in marks(&piece, &mark) {
                let here = at + start as u64;
                if here > end && is_whole(reader, nonce, here, last)? {
                    let what = "this record is damaged, and good ones follow it";
                    return Err(Error::corrupt(name, end, what));
                }
            }
        }
        if at + piece.len() as u64 >= size {
            break;
        }
        at += piece.len() as u64 - mark.len() as u64 + 1;
    }
    Ok(torn)
}

fn marks<'a>(piece: &'a [u8], mark: &'a [u8; 8]) -> impl Iterator<Item = usize> + 'a {
    let windows = piece.windows(mark.len()).enumerate();
    windows
        .filter(move |(_, window)| window[0] == mark[0] && *window == mark)
        .map(|(at, _)| at)
}

fn is_whole(reader: &dyn BlobReader, nonce: u64, at: u64, last: Option<u64>) -> Result<bool> {
    if at + RECORD_HEADER as u64 > reader.size() {
        return Ok(false);
    }
    let head_bytes = reader.read(at, RECORD_HEADER, Wait::Allowed)?;
    let Some(head) = RecordHeader::decode(nonce, &head_bytes) else {
        return Ok(false);
    };
    let fits = head.len().is_some_and(|len| len <= reader.size() - at);
    if !fits || last.is_some_and(|last| head.sequence <= last) {
        return Ok(false);
    }
    let edit_at = at + RECORD_HEADER as u64;
    let edit = reader.read(edit_at, head.edit as usize, Wait::Allowed)?;
    Ok(head.holds(&head_bytes, &edit))
}

/// Checks all of journal `name`, up to `end` when it is still being written: headers, edits, bodies.
/// Unlike opening, it takes no torn record for an answer.
pub(crate) fn verify(blobs: &dyn Blobs, name: &str, end: Option<u64>) -> Result<()> {
    let reader = blobs.open(name)?;
    let mut window = Windowed {
        reader: &*reader,
        at: 0,
        bytes: bytes::Bytes::new(),
    };
    let header = FileHeader::decode(name, &window.read(0, FILE_HEADER)?)?;
    let header = header.ok_or_else(|| Error::corrupt(name, 0, "it has no header"))?;
    let mut at = FILE_HEADER as u64;
    while end.is_none_or(|end| at < end) {
        let Some((record, next, head)) = next_record(&mut window, header.nonce, at)? else {
            break;
        };
        if !body_holds(&*reader, &record, head.body_sum)? {
            let what = "the body of a record does not have its checksum";
            return Err(Error::corrupt(name, record.body_at, what));
        }
        at = next;
    }
    match end {
        Some(end) if at != end => Err(Error::corrupt(name, at, "a record is damaged")),
        Some(_) => Ok(()),
        None if check_tail(&*reader, name, header.nonce, at, None)? > 0 => {
            Err(Error::corrupt(name, at, "a record is damaged or was torn"))
        }
        None => Ok(()),
    }
}
