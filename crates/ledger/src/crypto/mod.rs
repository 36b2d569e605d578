//! Encryption.
use crate::block::{Block, Cid};
use crate::error::Result;
use std::path::Path;
use std::sync::Arc;

/// Where secret random bytes come from.
pub trait Entropy: Send + Sync {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, _out: &mut [u8]) {
        todo!()
    }
}

/// The name of a key: a fingerprint of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

/// The keys of a ledger: all open, the current one seals.
pub struct KeyRing {}

impl KeyRing {
    /// A ring of one new key, in memory.
    pub fn generate(_entropy: &dyn Entropy) -> Self {
        todo!()
    }
    /// Creates the file with one new key; fails if it is there.
    ///
    /// # Errors
    /// KeyRing.
    pub fn create(_path: &Path, _entropy: &dyn Entropy) -> Result<Self> {
        todo!()
    }
    /// Opens the file.
    ///
    /// # Errors
    /// KeyRing.
    pub fn open(_path: &Path) -> Result<Self> {
        todo!()
    }
    /// Adds a new key and makes it current; the file, if any, is replaced first.
    ///
    /// # Errors
    /// KeyRing.
    pub fn rotate(&mut self, _entropy: &dyn Entropy) -> Result<KeyId> {
        todo!()
    }
    /// The key that seals.
    pub fn current(&self) -> KeyId {
        todo!()
    }
    /// All keys, oldest first.
    pub fn ids(&self) -> Vec<KeyId> {
        todo!()
    }
    /// What seals under the current key. It stays right when the ring is rotated later.
    pub fn sealer(&self, _entropy: Arc<dyn Entropy>) -> Sealer {
        todo!()
    }
    /// Opens an envelope of a block; `place` is for the message. The bytes are authentic: no need to hash.
    ///
    /// # Errors
    /// Undecryptable, Corrupt.
    pub fn open_block(&self, _place: &dyn std::fmt::Display, _envelope: &[u8]) -> Result<Block> {
        todo!()
    }
    /// The key an envelope asks for.
    ///
    /// # Errors
    /// Corrupt.
    pub fn key_of(_envelope: &[u8]) -> Result<KeyId> {
        todo!()
    }
}

/// Seals blocks (and metas, as raw blocks) under one key.
pub struct Sealer {}

impl crate::car::Seal for Sealer {
    fn seal(&self, _block: &Block) -> Result<Block> {
        todo!()
    }
}

/// Bytes that [`crate::car::Seal::seal`] adds to a block's.
pub fn overhead(_cid: &Cid) -> usize {
    todo!()
}
