//! One writer process a folder. The lock is the operating system's, so it goes with its process;
//! the text inside only says who holds it.

use crate::error::{Error, Result};
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "LOCK";

/// Who holds a folder, as written in its lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Process id.
    pub process: u32,
    /// The program's name.
    pub program: String,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}, {}", self.process, self.program)
    }
}

impl LockHolder {
    /// This process.
    pub fn this_process() -> Self {
        let program = std::env::current_exe()
            .ok()
            .and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "unknown program".into());
        Self {
            process: std::process::id(),
            program,
        }
    }
}

/// Holds a folder for writing until dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Takes the folder.
    ///
    /// # Errors
    /// [`Error::Locked`] naming the holder when another process (or another handle of this one) has
    /// it; [`Error::Io`] when the lock file cannot be opened for writing, or locked.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let io =
            |operation, e: &std::io::Error| Error::io(path.display().to_string(), operation, e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| io("open", &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = Read::by_ref(&mut file)
                    .take(1024)
                    .read_to_string(&mut holder);
                let holder =
                    match holder.trim_matches(|c: char| c.is_whitespace() || c.is_control()) {
                        "" => "which one is not known",
                        holder => holder,
                    };
                return Err(Error::Locked {
                    path: folder.display().to_string(),
                    holder: holder.into(),
                });
            }
            Err(TryLockError::Error(e)) => return Err(io("lock", &e)),
        }
        // It keeps nobody out: a database on a disk without room for it may be opened, and cleared.
        let text = LockHolder::this_process().to_string();
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(text.as_bytes()));
        Ok(Self { file, path })
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}
