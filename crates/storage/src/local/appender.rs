//! The end of a log file.

use super::direct::{self, DirectTail};
use super::write_behind::WriteBehind;
use crate::blobs::Appender;
use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Space is set aside for a growing log in pieces of at least this many bytes.
const RESERVE: u64 = 1 << 20;
/// So many durable appends in sequence, with nothing else between them, go on around the page cache.
const OFTEN: u32 = 8;

/// Sets space aside in a file: so many bytes from an offset on.
type Allocate = fn(&File, u64, u64) -> rustix::io::Result<()>;

fn allocate(file: &File, from: u64, len: u64) -> rustix::io::Result<()> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), from, len)
}

/// Writes through the page cache, and around it where one durable append follows another.
#[derive(Debug)]
pub(super) struct LocalAppender {
    file: File,
    path: PathBuf,
    offset: u64,
    /// The size that the log is expected to reach.
    reserve: u64,
    /// Space is set aside up to here.
    reserved: u64,
    /// Bytes up to here are durable.
    synced: u64,
    behind: WriteBehind,
    /// How space is set aside: `fallocate`, unless a test has a disk that is full.
    allocate: Allocate,
    /// Durable appends in sequence; `None`: this file does not go on around the page cache.
    in_sequence: Option<u32>,
    direct: Option<DirectTail>,
}

impl LocalAppender {
    /// The end of a new file, which sets its first space aside.
    pub(super) fn new(file: File, path: PathBuf, reserve: u64) -> Result<Self> {
        let mut appender = Self {
            file,
            path,
            offset: 0,
            reserve,
            reserved: 0,
            synced: 0,
            behind: WriteBehind::default(),
            allocate,
            in_sequence: Some(0),
            direct: None,
        };
        appender.reserve_ahead(0)?;
        Ok(appender)
    }

    fn error(&self, operation: &'static str, error: &io::Error) -> Error {
        Error::io(self.path.display().to_string(), operation, error)
    }

    /// Sets space aside for everything up to `end`, so that a sync has no length to write. As much as
    /// there is already: each call may wait for the file system's journal. A file system that cannot is
    /// still right.
    fn reserve_ahead(&mut self, end: u64) -> Result<()> {
        if self.reserved >= self.reserve || end < self.reserved {
            return Ok(());
        }
        let limit = self.reserve.max(end);
        let piece = (end + 1).next_multiple_of(RESERVE).min(limit);
        let double = piece.max(self.reserved * 2).min(limit);
        if self.set_aside(double) || (double > piece && self.set_aside(piece)) {
            return Ok(());
        }
        let full = io::Error::from(io::ErrorKind::StorageFull);
        Err(self.error("reserve space", &full))
    }

    /// Sets space aside up to `to`; false, and no more is set aside than before: there is not as much.
    fn set_aside(&mut self, to: u64) -> bool {
        let result = (self.allocate)(&self.file, self.reserved, to - self.reserved);
        if result == Err(rustix::io::Errno::NOSPC) {
            // What there was has been taken; a flush, which gives log back, needs it more.
            let _ = self.file.set_len(self.reserved);
            return false;
        }
        self.reserved = to;
        true
    }

    /// Writes around the page cache, when that is how this log goes on; false: nothing happened.
    fn append_direct(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.direct.is_none() || !direct::fits(bytes.len()) {
            return Ok(false);
        }
        self.reserve_ahead(self.offset + bytes.len() as u64)?;
        let Some(tail) = &mut self.direct else {
            return Ok(false);
        };
        let written = tail.append(bytes, self.reserved);
        let went = written.map_err(|e| self.error("append", &e))?;
        if went {
            self.offset += bytes.len() as u64;
            self.synced = self.offset;
            self.behind.synced(self.offset);
        } else {
            // The file's end, or a file system that turns such writes down.
            self.in_sequence = None;
        }
        Ok(went)
    }

    /// Goes on around the page cache once enough durable appends have followed each other.
    fn count_durable(&mut self) {
        let Some(count) = &mut self.in_sequence else {
            return;
        };
        *count += 1;
        if *count >= OFTEN {
            self.direct = DirectTail::open(&self.path, self.offset);
            self.in_sequence = self.direct.is_some().then_some(0);
        }
    }
}

impl Appender for LocalAppender {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.direct = None;
        self.in_sequence = self.in_sequence.map(|_| 0);
        self.reserve_ahead(self.offset + bytes.len() as u64)?;
        self.file
            .write_all_at(bytes, self.offset)
            .map_err(|e| self.error("append", &e))?;
        self.offset += bytes.len() as u64;
        self.behind.wrote(&self.file, self.offset);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| self.error("fsync", &e))?;
        self.synced = self.offset;
        self.behind.synced(self.offset);
        Ok(())
    }

    fn append_durable(&mut self, bytes: &[u8]) -> Result<()> {
        if self.append_direct(bytes)? {
            return Ok(());
        }
        let follows = self.synced == self.offset && direct::fits(bytes.len());
        let in_sequence = self.in_sequence;
        self.append(bytes)?;
        self.sync()?;
        if follows {
            self.in_sequence = in_sequence;
            self.count_durable();
        }
        Ok(())
    }

    fn trim(&mut self) {
        if self.reserved > self.offset && self.file.set_len(self.offset).is_ok() {
            self.reserved = self.offset;
        }
        self.direct = None;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::blobs::{Blobs, Wait};
    use crate::local::LocalBlobs;

    /// A record that says where it begins.
    fn record(offset: usize, len: usize) -> Vec<u8> {
        (offset..offset + len)
            .map(|at| (at % 251) as u8 + 1)
            .collect()
    }

    struct Log {
        dir: tempfile::TempDir,
        appender: LocalAppender,
    }

    impl Log {
        fn new(reserve: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            let file = File::create_new(&path).unwrap();
            let appender = LocalAppender::new(file, path, reserve).unwrap();
            Self { dir, appender }
        }

        fn durable(&mut self, len: usize) {
            let bytes = record(self.appender.offset as usize, len);
            self.appender.append_durable(&bytes).unwrap();
        }

        fn buffered(&mut self, len: usize) {
            let bytes = record(self.appender.offset as usize, len);
            self.appender.append(&bytes).unwrap();
        }

        fn is_direct(&self) -> bool {
            self.appender.direct.is_some()
        }

        /// Every byte appended stands where it belongs, and nothing but zeros behind.
        fn check(&self) {
            let bytes = std::fs::read(self.dir.path().join("log")).unwrap();
            let end = self.appender.offset as usize;
            assert!(
                bytes[..end] == record(0, end),
                "a byte is not what was appended"
            );
            assert!(bytes[end..].iter().all(|&byte| byte == 0));
        }
    }

    /// Some file systems of test machines cannot write directly; the bytes are checked there too.
    fn can_write_directly() -> bool {
        let mut log = Log::new(1 << 20);
        (0..OFTEN).for_each(|_| log.durable(1));
        log.is_direct()
    }

    #[test]
    fn durable_appends_in_sequence_go_around_the_page_cache() {
        let can = can_write_directly();
        let mut log = Log::new(4 << 20);
        for at in 0..3000 {
            log.durable(1 + at * 7 % 500);
            assert_eq!(log.is_direct(), can && at + 1 >= OFTEN as usize);
            if at % 50 == 0 {
                log.check();
            }
        }
        log.check();
    }

    #[test]
    fn every_length_around_a_page_is_whole() {
        let mut log = Log::new(8 << 20);
        (0..OFTEN).for_each(|_| log.durable(100));
        for len in [
            1,
            4095,
            4096,
            4097,
            8191,
            8192,
            8193,
            100_000,
            128 * 1024,
            0,
            3,
        ] {
            log.durable(len);
            log.durable(4096 - (log.appender.offset % 4096) as usize);
            log.check();
        }
        assert_eq!(log.is_direct(), can_write_directly());
    }

    #[test]
    fn buffered_and_large_appends_between_durable_ones_keep_their_place() {
        let can = can_write_directly();
        let mut log = Log::new(64 << 20);
        for _ in 0..5 {
            (0..2 * OFTEN).for_each(|_| log.durable(333));
            assert_eq!(log.is_direct(), can);
            log.check();
            log.buffered(5000);
            assert!(!log.is_direct());
            log.durable(77);
            log.check();
            (0..2 * OFTEN).for_each(|_| log.durable(333));
            log.durable(300_000);
            assert!(
                !log.is_direct(),
                "a large record goes through the page cache"
            );
            log.check();
        }
        log.buffered(10);
        log.appender.sync().unwrap();
        log.check();
    }

    #[test]
    fn the_end_of_the_reserved_space_is_passed() {
        for reserve in [0, 10_000, 1 << 20, (1 << 20) + 5] {
            let mut log = Log::new(reserve);
            while log.appender.offset < reserve + 50_000 {
                log.durable(1009);
            }
            log.check();
            log.appender.trim();
            let len = std::fs::metadata(log.dir.path().join("log")).unwrap().len();
            assert_eq!(len, log.appender.offset, "zeros are given back");
            log.check();
        }
    }

    #[test]
    fn space_is_set_aside_in_pieces_that_grow() {
        let mut log = Log::new(5 << 20);
        let mut reserved = vec![log.appender.reserved >> 20];
        while log.appender.offset < 6 << 20 {
            log.buffered(100_000);
            reserved.push(log.appender.reserved >> 20);
        }
        reserved.dedup();
        assert_eq!(reserved, [1, 2, 4, 5]);
    }

    #[test]
    fn a_full_disk_is_filled_to_the_last_piece_and_what_is_left_is_given_back() {
        /// As a file system that takes what there is before it says that there is too little.
        fn on_a_full_disk(file: &File, from: u64, len: u64) -> rustix::io::Result<()> {
            const ROOM: u64 = (6 << 20) + 5000;
            file.set_len((from + len).min(ROOM)).unwrap();
            match from + len > ROOM {
                true => Err(rustix::io::Errno::NOSPC),
                false => Ok(()),
            }
        }
        let mut log = Log::new(64 << 20);
        log.appender.allocate = on_a_full_disk;
        let error = loop {
            let bytes = record(log.appender.offset as usize, 100_000);
            if let Err(error) = log.appender.append(&bytes) {
                break error.to_string();
            }
        };
        assert!(error.contains("Free some space"), "{error}");
        assert!(log.appender.offset > (6 << 20) - 100_000, "{error}");
        let len = std::fs::metadata(log.dir.path().join("log")).unwrap().len();
        assert_eq!(len, 6 << 20);
        log.check();
    }

    #[test]
    fn who_follows_the_log_sees_what_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::create(dir.path()).unwrap();
        let mut appender = blobs.append("log", 1 << 20).unwrap();
        let follower = blobs.open("log").unwrap();
        let mut end = 0;
        for _ in 0..200 {
            let bytes = record(end, 97);
            appender.append_durable(&bytes).unwrap();
            let seen = follower.read(end as u64, 97, Wait::Allowed).unwrap();
            assert_eq!(&seen[..], &bytes[..]);
            end += 97;
        }
    }
}
