//! Blobs in a folder.
//!
//! Invariant: a name is visible only when its bytes and its directory entry are durable. Whole blobs
//! are written beside their place, synced, then renamed or linked into it; a leftover from a crash
//! carries the suffix `.part` and is removed when the folder is opened for writing.

mod appender;
mod direct;
mod write_behind;

use crate::blobs::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, Place, PutOutcome, StoreKind, Wait,
    check_name, short_read,
};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use appender::LocalAppender;
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use write_behind::WriteBehind;

const PART: &str = ".part";
/// How often a put whose unfinished file was swept away is tried.
const PUT_ATTEMPTS: u32 = 10;

/// A store in a folder of this machine.
#[derive(Debug)]
pub struct LocalBlobs {
    root: PathBuf,
    next_part: AtomicU64,
}

impl LocalBlobs {
    /// Opens the folder, creating it when it is not there. Writes nothing else.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be made or is a file.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)
            .map_err(|e| Error::io(root.display().to_string(), "create folder", &e))?;
        Self::existing(root)
    }

    /// Opens a folder that must be there.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, [`Error::Invalid`] when it is a file.
    pub fn existing(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let shown = root.display().to_string();
        let meta = fs::metadata(&root).map_err(|e| io_error(&shown, "open folder", &e, &shown))?;
        if !meta.is_dir() {
            return Err(Error::Invalid {
                name: shown,
                what: "is a file; a database is a folder".into(),
            });
        }
        Ok(Self {
            root,
            next_part: AtomicU64::new(0),
        })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what unfinished writes of a dead process left. Only the holder of the folder's lock
    /// may call it. Returns how many files went.
    ///
    /// # Errors
    /// [`Error::Io`] when a folder cannot be read or a file not removed.
    pub fn remove_leftovers(&self) -> Result<usize> {
        let mut found = Vec::new();
        self.walk(&self.root, &mut |entry| {
            if entry
                .file_name()
                .as_encoded_bytes()
                .ends_with(PART.as_bytes())
            {
                found.push(entry.path());
            }
            Ok(())
        })?;
        let mut removed = 0;
        for path in &found {
            match fs::remove_file(path) {
                Ok(()) => removed += 1,
                // A reader has finished its pin meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(self.error(path, "remove leftover", &e)),
            }
        }
        Ok(removed)
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    fn error(&self, path: &Path, operation: &'static str, error: &io::Error) -> Error {
        io_error(
            &path.display().to_string(),
            operation,
            error,
            &self.root.display().to_string(),
        )
    }

    fn part_of(&self, path: &Path) -> PathBuf {
        let n = self.next_part.fetch_add(1, Ordering::Relaxed);
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.{n}{PART}", std::process::id()));
        PathBuf::from(name)
    }

    /// Creates a file exclusively, making its folder (durably) on first use.
    fn create_file(&self, path: &Path) -> Result<File> {
        let open = || OpenOptions::new().write(true).create_new(true).open(path);
        match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_parent(path)?;
                open().map_err(|e| self.error(path, "create", &e))
            }
            other => other.map_err(|e| self.error(path, "create", &e)),
        }
    }

    fn make_parent(&self, path: &Path) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = path.parent();
        while let Some(dir) = at {
            if dir.is_dir() {
                break;
            }
            missing.push(dir);
            at = dir.parent();
        }
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(self.error(dir, "create folder", &e));
                }
                _ => self.sync_parent(dir)?,
            }
        }
        Ok(())
    }

    fn sync_parent(&self, path: &Path) -> Result<()> {
        let Some(dir) = path.parent() else {
            return Ok(());
        };
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(|e| self.error(dir, "fsync folder", &e))
    }

    /// Writes and syncs the bytes beside `path` and returns where.
    fn write_part(&self, path: &Path, bytes: &[u8]) -> Result<PathBuf> {
        let part = self.part_of(path);
        let mut file = self.create_file(&part)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(e) = written {
            let _ = fs::remove_file(&part);
            return Err(self.error(&part, "write", &e));
        }
        Ok(part)
    }

    /// Shows every blob whose name starts with `prefix`, with its name.
    fn walk_blobs(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(String, &fs::DirEntry) -> io::Result<()>,
    ) -> Result<()> {
        let dir = match prefix.rfind('/') {
            Some(end) => self.root.join(&prefix[..end]),
            None => self.root.clone(),
        };
        self.walk(&dir, &mut |entry| {
            let path = entry.path();
            let relative = path.strip_prefix(&self.root);
            let name = relative.map(Path::to_string_lossy).unwrap_or_default();
            match !name.is_empty() && name.starts_with(prefix) && !name.ends_with(PART) {
                true => visit(name.into_owned(), entry),
                false => Ok(()),
            }
        })
    }

    /// Shows every file below `dir`. Asks the system for no more than their names: a folder of many
    /// tables is walked at every open.
    fn walk(
        &self,
        dir: &Path,
        visit: &mut dyn FnMut(&fs::DirEntry) -> io::Result<()>,
    ) -> Result<()> {
        let failed = |e: &io::Error| self.error(dir, "list", e);
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| failed(&e))?,
        };
        for entry in entries {
            let entry = entry.map_err(|e| failed(&e))?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.walk(&entry.path(), visit)?,
                // What was deleted since the listing began is not there.
                Ok(_) => match visit(&entry) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&e)),
                    _ => {}
                },
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(&e)),
            }
        }
        Ok(())
    }
}

fn io_error(name: &str, operation: &'static str, error: &io::Error, store: &str) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::NotFound {
            name: name.to_string(),
            store: store.to_string(),
        };
    }
    Error::io(name, operation, error)
}

impl Blobs for LocalBlobs {
    fn kind(&self) -> StoreKind {
        StoreKind::Folder
    }

    fn describe(&self) -> String {
        format!("folder {}", self.root.display())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        for attempt in 1.. {
            let part = self.write_part(&path, bytes)?;
            match fs::rename(&part, &path) {
                Ok(()) => break,
                // A writer that opens the folder takes the part of a reader's pin for a leftover.
                Err(e) if e.kind() == io::ErrorKind::NotFound && attempt < PUT_ATTEMPTS => {}
                Err(e) => return Err(self.error(&path, "rename", &e)),
            }
        }
        self.sync_parent(&path)
    }

    fn place(&self, name: &str) -> Option<Place> {
        let path = self.path(name).ok()?;
        Some(Place::File(std::path::absolute(path).ok()?))
    }

    fn link(&self, name: &str, source: &Place) -> Result<bool> {
        let Place::File(source) = source else {
            return Ok(false);
        };
        let path = self.path(name)?;
        self.make_parent(&path)?;
        match fs::hard_link(source, &path) {
            Ok(()) => {
                self.sync_parent(&path)?;
                Ok(true)
            }
            // Another file system, or one without links.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::CrossesDevices
                        | io::ErrorKind::Unsupported
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::TooManyLinks
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(self.error(&path, "link", &e)),
        }
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<PutOutcome> {
        let path = self.path(name)?;
        if path.exists() {
            return Ok(PutOutcome::Exists);
        }
        let part = self.write_part(&path, bytes)?;
        // A hard link fails when the name is taken, atomically; a rename would replace.
        let linked = fs::hard_link(&part, &path);
        let _ = fs::remove_file(&part);
        match linked {
            Ok(()) => {
                self.sync_parent(&path)?;
                Ok(PutOutcome::Created)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(PutOutcome::Exists),
            Err(e) => Err(self.error(&path, "link", &e)),
        }
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        let path = self.path(name)?;
        fs::read(&path)
            .map(Bytes::from)
            .map_err(|e| self.error(&path, "read", &e))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>> {
        let path = self.path(name)?;
        let file = File::open(&path).map_err(|e| self.error(&path, "open", &e))?;
        let size = file
            .metadata()
            .map_err(|e| self.error(&path, "stat", &e))?
            .len();
        Ok(Arc::new(LocalReader { file, path, size }))
    }

    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>> {
        let path = self.path(name)?;
        let part = self.part_of(&path);
        let file = self.create_file(&part)?;
        Ok(Box::new(LocalWriter {
            blobs: Self {
                root: self.root.clone(),
                next_part: AtomicU64::new(0),
            },
            file,
            written: 0,
            behind: WriteBehind::default(),
            part,
            path,
            finished: false,
        }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        let mut found = Vec::new();
        self.walk_blobs(prefix, &mut |name, entry| {
            let size = entry.metadata()?.len();
            found.push(BlobMeta { name, size });
            Ok(())
        })?;
        found.sort();
        Ok(found)
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.walk_blobs(prefix, &mut |name, _| {
            found.push(name);
            Ok(())
        })?;
        found.sort();
        Ok(found)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.error(&path, "delete", &e)),
            _ => Ok(()),
        }
    }

    fn sync(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        File::open(&path)
            .and_then(|file| file.sync_data())
            .map_err(|e| self.error(&path, "fsync", &e))
    }

    fn can_append(&self) -> bool {
        true
    }

    fn append(&self, name: &str, reserve: u64) -> Result<Box<dyn Appender>> {
        let path = self.path(name)?;
        let file = self.create_file(&path)?;
        let appender = match LocalAppender::new(file, path.clone(), reserve) {
            Ok(appender) => appender,
            Err(error) => {
                let _ = fs::remove_file(&path);
                return Err(error);
            }
        };
        // The name is durable from here on; what the file holds, and how long it is, with the first sync.
        self.sync_parent(&path)?;
        Ok(Box::new(appender))
    }
}

#[derive(Debug)]
struct LocalReader {
    file: File,
    path: PathBuf,
    size: u64,
}

impl BlobReader for LocalReader {
    fn read(&self, offset: u64, len: usize, wait: Wait) -> Result<Bytes> {
        self.check_range(offset, len)?;
        let mut bytes = Buffer::of(len);
        self.read_into(offset, &mut bytes, wait)?;
        Ok(bytes.freeze())
    }

    fn read_into(&self, offset: u64, bytes: &mut [u8], wait: Wait) -> Result<()> {
        self.check_range(offset, bytes.len())?;
        match wait {
            Wait::Allowed => read_all(&self.file, bytes, offset)
                .map_err(|e| Error::io(self.path.display().to_string(), "read", &e)),
            Wait::Never if read_cached(&self.file, bytes, offset) => Ok(()),
            Wait::Never => Err(Error::WouldBlock {
                name: self.path.display().to_string(),
            }),
        }
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl LocalReader {
    fn check_range(&self, offset: u64, len: usize) -> Result<()> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.size => Ok(()),
            _ => {
                let name = self.path.display().to_string();
                Err(short_read(&name, self.size, offset, len))
            }
        }
    }
}

/// Fills `bytes`. A log may have been trimmed since it was opened: what it lost were zeros.
fn read_all(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => {
                bytes[done..].fill(0);
                break;
            }
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Fills `bytes` from the page cache; false when some of them are not in it.
fn read_cached(file: &File, bytes: &mut [u8], offset: u64) -> bool {
    let mut done = 0;
    while done < bytes.len() {
        let mut rest = [io::IoSliceMut::new(&mut bytes[done..])];
        let at = offset + done as u64;
        match rustix::io::preadv2(file, &mut rest, at, rustix::io::ReadWriteFlags::NOWAIT) {
            Ok(0) | Err(_) => return false,
            Ok(n) => done += n,
        }
    }
    true
}

#[derive(Debug)]
struct LocalWriter {
    blobs: LocalBlobs,
    file: File,
    written: u64,
    behind: WriteBehind,
    part: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl BlobWriter for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|e| self.blobs.error(&self.part, "write", &e))?;
        self.written += bytes.len() as u64;
        self.behind.wrote(&self.file, self.written);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|e| self.blobs.error(&self.part, "fsync", &e))?;
        fs::rename(&self.part, &self.path)
            .map_err(|e| self.blobs.error(&self.path, "rename", &e))?;
        self.finished = true;
        self.blobs.sync_parent(&self.path)
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.part);
        }
    }
}
