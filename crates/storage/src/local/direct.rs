//! Durable writes at the end of a log, around the page cache.
//!
//! A small append through the page cache costs two steps, a copy and a sync that looks for what is
//! dirty, and at each page that was set aside but never written a commit of the file system's
//! journal. Here whole pages go to the disk in one call that returns when they are durable
//! (`O_DIRECT`, `RWF_DSYNC`), and each time a new page is reached, zeros go with it for some way
//! ahead. The last page is written again with each record until it is full, as the page cache does.
//!
//! Only where the file system is known to make such a write durable before it returns. Some take the
//! flags and sync nothing: those of network shares, and those in user space.
//!
//! Readers of the log read through the page cache; the kernel drops what it holds of a range that is
//! written directly.

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What direct writes are aligned to, in bytes: a multiple of the sector of every disk.
const PAGE: usize = 4096;
/// Zeros written ahead, in bytes.
const AHEAD: usize = 512 * 1024;
/// The largest record that goes this way, in bytes. Larger ones gain nothing.
const MAX_RECORD: usize = 128 * 1024;

/// True when a record is of a size that goes this way.
pub(super) fn fits(len: usize) -> bool {
    len <= MAX_RECORD
}

/// What zeros are written from.
#[repr(align(4096))]
struct Zeros([u8; 128 * 1024]);

static ZEROS: Zeros = Zeros([0; 128 * 1024]);

/// The last page of a log, and the way to write on from there.
#[derive(Debug)]
pub(super) struct DirectTail {
    file: File,
    /// Where the last page begins.
    page_at: u64,
    /// Bytes of it that belong to the log.
    filled: usize,
    /// Pages up to here have been written once, data or zeros.
    touched: u64,
    buffer: Aligned,
}

impl DirectTail {
    /// Goes on at `offset` of a log of which everything is durable; `None` where the file system
    /// cannot.
    pub(super) fn open(path: &Path, offset: u64) -> Option<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)
            .ok()?;
        if !syncs_direct_writes(&file) {
            return None;
        }
        let page_at = offset - offset % PAGE as u64;
        let filled = usize::try_from(offset - page_at).ok()?;
        let mut buffer = Aligned::default();
        let page = buffer.get(PAGE);
        if filled > 0 && file.read_at(page, page_at).ok()? < filled {
            return None;
        }
        Some(Self {
            file,
            page_at,
            filled,
            touched: offset.next_multiple_of(PAGE as u64),
            buffer,
        })
    }

    /// Makes a record durable behind the last; the pages written stay below `limit`. False: it did
    /// not go this way, and whatever stands behind the last record may be written over.
    pub(super) fn append(&mut self, record: &[u8], limit: u64) -> io::Result<bool> {
        let filled = self.filled + record.len();
        let len = filled.next_multiple_of(PAGE);
        let end = self.page_at + len as u64;
        if end > limit {
            return Ok(false);
        }
        let zeros = match end > self.touched {
            true => (limit - end).min(AHEAD as u64) as usize / PAGE * PAGE,
            false => 0,
        };
        let pages = self.buffer.get(len);
        pages[self.filled..filled].copy_from_slice(record);
        pages[filled..].fill(0);
        let Some(zeros) = write_durable(&self.file, pages, zeros, self.page_at)? else {
            return Ok(false);
        };
        self.touched = self.touched.max(end + zeros as u64);
        let full = filled - filled % PAGE;
        pages.copy_within(full..filled, 0);
        self.page_at += full as u64;
        self.filled = filled - full;
        Ok(true)
    }
}

/// Writes all pages and some of the zeros behind them, and says how many bytes of these; `None` when
/// it cannot be done directly.
fn write_durable(
    file: &File,
    mut pages: &[u8],
    zeros: usize,
    mut at: u64,
) -> io::Result<Option<usize>> {
    while !pages.is_empty() {
        let mut slices = vec![IoSlice::new(pages)];
        for done in (0..zeros).step_by(ZEROS.0.len()) {
            slices.push(IoSlice::new(&ZEROS.0[..(zeros - done).min(ZEROS.0.len())]));
        }
        match rustix::io::pwritev2(file, &slices, at, ReadWriteFlags::DSYNC) {
            Ok(n) if n >= pages.len() => return Ok(Some((n - pages.len()) / PAGE * PAGE)),
            Ok(n) if n > 0 && n % PAGE == 0 => {
                pages = &pages[n..];
                at += n as u64;
            }
            Err(Errno::INTR) => {}
            // Part of a page, or a file system that takes no such call; or the zeros found no room,
            // where the record alone may find it.
            Ok(_)
            | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOSPC | Errno::DQUOT) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(0))
}

/// ext4 (and what ext4 drives: ext2, ext3) and XFS.
fn syncs_direct_writes(file: &File) -> bool {
    const EXT4: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    rustix::fs::fstatfs(file).is_ok_and(|at| [EXT4, XFS].contains(&at.f_type))
}

/// Memory that begins at a multiple of [`PAGE`].
#[derive(Debug, Default)]
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// The first `len` bytes; those that were there before keep their values.
    fn get(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < self.start + len {
            let mut bytes = vec![0; len + PAGE];
            let start = bytes.as_ptr().align_offset(PAGE);
            let kept = &self.bytes[self.start..];
            let kept = &kept[..kept.len().min(PAGE)];
            bytes[start..start + kept.len()].copy_from_slice(kept);
            *self = Self { bytes, start };
        }
        &mut self.bytes[self.start..self.start + len]
    }
}
