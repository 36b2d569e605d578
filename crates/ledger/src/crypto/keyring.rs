//! The keys of a ledger, in memory and in a file that only its owner can read.
//!
//! This is the one module that speaks to the file system itself: a key ring lies outside the database's
//! store, is never synced with it, and needs rights (0600) that a `Blobs` does not have. The file is JSON:
//! `{"version": 1, "current": "<id>", "keys": ["<64 hexadecimal digits>", ...]}`.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::block::{Block, Cid};
use crate::error::{Error, Result};

use super::envelope::{Secret, key_of, open};
use super::{Entropy, KeyId, Sealer};

/// The format version of the file.
const VERSION: u64 = 1;
/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The keys of a ledger: each opens what it sealed, the current one seals.
pub struct KeyRing {
    keys: Vec<Key>,
    current: usize,
    path: Option<PathBuf>,
}

struct Key {
    id: KeyId,
    secret: Secret,
    cipher: XChaCha20Poly1305,
}

impl Key {
    fn new(secret: Secret) -> Self {
        Self {
            id: KeyId::of(&secret),
            cipher: XChaCha20Poly1305::new(secret.as_slice().into()),
            secret,
        }
    }

    fn generate(entropy: &dyn Entropy) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(secret.as_mut_slice());
        Self::new(secret)
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u64,
    current: String,
    keys: Vec<String>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.keys.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl KeyRing {
    /// A ring of one new key, in memory alone.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self {
            keys: vec![Key::generate(entropy)],
            current: 0,
            path: None,
        }
    }

    /// A new ring of one new key in a new file, which only its owner can read.
    ///
    /// # Errors
    /// [`Error::KeyRing`] when the file is there already or cannot be written.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self> {
        let ring = Self {
            path: Some(path.to_path_buf()),
            ..Self::generate(entropy)
        };
        let temporary = ring.write_beside(path)?;
        // A link fails where the name is taken, which a rename does not.
        let linked = std::fs::hard_link(&temporary, path);
        let _ = std::fs::remove_file(&temporary);
        linked.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                wrong(path, "it is there already; open it, or rotate its key")
            }
            _ => failed(path, "creating it", &error),
        })?;
        sync_folder(path)?;
        Ok(ring)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::KeyRing`] when it cannot be read, others than its owner can read it, or it is no key ring.
    pub fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|error| failed(path, "opening it", &error))?;
        check_rights(path, &file)?;
        let mut text = Zeroizing::new(Vec::new());
        file.take(MAX_FILE_BYTES)
            .read_to_end(&mut text)
            .map_err(|error| failed(path, "reading it", &error))?;
        let mut ring = Self::decode(&text).map_err(|what| wrong(path, what))?;
        ring.path = Some(path.to_path_buf());
        Ok(ring)
    }

    fn decode(text: &[u8]) -> Result<Self, &'static str> {
        let stored: Stored = serde_json::from_slice(text)
            .map_err(|_| "it is no key ring; restore it from a backup")?;
        if stored.version != VERSION {
            return Err("its version is newer than this build reads; upgrade siltstone");
        }
        let secrets = stored.keys.iter().map(|text| unhex(text));
        let keys = secrets.map(|secret| secret.map(Key::new));
        let keys: Vec<_> = keys
            .collect::<Option<_>>()
            .ok_or("one of its keys is not 64 hexadecimal digits; restore it from a backup")?;
        let current = keys
            .iter()
            .position(|key: &Key| key.id.to_string() == stored.current)
            .ok_or("its current key is not among its keys; restore it from a backup")?;
        Ok(Self {
            keys,
            current,
            path: None,
        })
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored {
            version: VERSION,
            current: self.current().to_string(),
            keys: self.keys.iter().map(|key| hex(&key.secret)).collect(),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(128 + 80 * self.keys.len()));
        serde_json::to_writer_pretty(&mut *text, &stored).expect("text in memory is writable");
        text.push(b'\n');
        text
    }

    /// Adds a new key and makes it the current one. The old keys go on opening what they sealed. The
    /// file, if there is one, is replaced first: a key that seals is never lost.
    ///
    /// # Errors
    /// [`Error::Stale`] when the file was changed since it was opened; [`Error::KeyRing`].
    pub fn rotate(&mut self, entropy: &dyn Entropy) -> Result<KeyId> {
        let before = (self.keys.len(), self.current);
        self.check_unchanged()?;
        self.keys.push(Key::generate(entropy));
        self.current = self.keys.len() - 1;
        self.store_or_go_back(before)?;
        Ok(self.current())
    }

    /// Adds the keys of another ring, so that what they sealed can be opened here. The current key
    /// stays.
    ///
    /// # Errors
    /// As [`KeyRing::rotate`].
    pub fn adopt(&mut self, other: &KeyRing) -> Result<()> {
        let before = (self.keys.len(), self.current);
        self.check_unchanged()?;
        for key in &other.keys {
            if self.key(&key.id).is_none() {
                self.keys.push(Key::new(key.secret.clone()));
            }
        }
        self.store_or_go_back(before)
    }

    fn check_unchanged(&self) -> Result<()> {
        if let Some(path) = &self.path
            && *Self::open(path)?.encode() != *self.encode()
        {
            return Err(Error::Stale {
                what: format!(
                    "key ring {} was changed by someone else since it was opened",
                    path.display()
                ),
            });
        }
        Ok(())
    }

    fn store_or_go_back(&mut self, (keys, current): (usize, usize)) -> Result<()> {
        let stored = self.path.as_deref().map_or(Ok(()), |path| {
            let temporary = self.write_beside(path)?;
            std::fs::rename(&temporary, path)
                .map_err(|error| failed(path, "replacing it", &error))?;
            sync_folder(path)
        });
        if stored.is_err() {
            self.keys.truncate(keys);
            self.current = current;
        }
        stored
    }

    /// Writes the ring to a new file beside `path` and makes it durable.
    fn write_beside(&self, path: &Path) -> Result<PathBuf> {
        let mut name = path.as_os_str().to_os_string();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = PathBuf::from(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // What a process of the same id left behind is no ring.
        let _ = std::fs::remove_file(&temporary);
        let write = || {
            let mut file = options.open(&temporary)?;
            file.write_all(&self.encode())?;
            file.sync_all()
        };
        match write() {
            Ok(()) => Ok(temporary),
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                Err(failed(path, "writing it", &error))
            }
        }
    }

    /// The key that seals.
    pub fn current(&self) -> KeyId {
        self.keys[self.current].id
    }

    /// All keys, oldest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().map(|key| key.id)
    }

    fn key(&self, id: &KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == *id)
    }

    /// What seals under the current key. It goes on doing so after a rotation.
    pub fn sealer(&self, entropy: Arc<dyn Entropy>) -> Sealer {
        Sealer::new(&self.keys[self.current].secret, entropy)
    }

    /// Opens the envelope of any block. What comes out is what was sealed: its hash need not be checked
    /// again. `place` is what messages call it.
    ///
    /// # Errors
    /// [`Error::Undecryptable`] when its key is not here, [`Error::Corrupt`] when it is no envelope or was
    /// changed, [`Error::NewerFormat`].
    pub fn open_envelope(&self, place: &dyn fmt::Display, envelope: &[u8]) -> Result<Block> {
        let id = key_of(place, envelope)?;
        let key = self.key(&id).ok_or_else(|| Error::Undecryptable {
            place: place.to_string(),
            key: id.to_string(),
            what: "the key is not in the key ring. Add it from the device that wrote this",
        })?;
        open(&key.cipher, place, envelope)
    }

    /// Opens the envelope of the block at `cid`.
    ///
    /// # Errors
    /// As [`KeyRing::open_envelope`]; [`Error::Corrupt`] when another block is inside.
    pub fn open_block(&self, cid: &Cid, envelope: &[u8]) -> Result<Block> {
        let block = self.open_envelope(&format_args!("block {cid}"), envelope)?;
        if block.cid != *cid {
            return Err(Error::corrupt(
                format!("block {cid}"),
                format!("its envelope holds block {}", block.cid),
            ));
        }
        Ok(block)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("current", &self.current())
            .field("keys", &self.keys.len())
            .field("path", &self.path)
            .finish()
    }
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::KeyRing {
        path: path.display().to_string(),
        what: what.into(),
    }
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Error {
    wrong(path, format!("{what} failed: {error}"))
}

#[cfg(unix)]
fn check_rights(path: &Path, file: &std::fs::File) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let meta = file
        .metadata()
        .map_err(|error| failed(path, "reading its rights", &error))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(
            path,
            format!(
                "others than its owner have rights to it ({mode:03o}). Run `chmod 600` on it, and rotate the key if it may have been read"
            ),
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_rights(_path: &Path, _file: &std::fs::File) -> Result<()> {
    Ok(())
}

/// Makes the name of `path` durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed(path, "making it durable", &error))
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> Result<()> {
    Ok(())
}

fn hex(secret: &Secret) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(64);
    for byte in secret.iter() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

fn unhex(text: &str) -> Option<Secret> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut secret = Zeroizing::new([0; 32]);
    for (byte, pair) in secret.iter_mut().zip(digits.chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(secret)
}
