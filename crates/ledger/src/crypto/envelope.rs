//! A block in its envelope.
//!
//! ```text
//! version 1 | key id 16 | nonce 24 | ciphertext of (plain CID, bytes) | tag 16
//! ```
//! Version and key id are authenticated with the ciphertext.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::block::{Block, Cid};
use crate::car::Seal;
use crate::error::{Error, Result};

use super::Entropy;

/// The format version of an envelope.
const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Version and key id, which are authenticated.
const OPEN_BYTES: usize = 1 + KEY_ID_BYTES;
const HEAD_BYTES: usize = OPEN_BYTES + NONCE_BYTES;
/// Nonces that are drawn at once.
const NONCES: usize = 64;

/// A secret key.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// The name of a key: the start of a hash of it. It gives nothing of the key away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; KEY_ID_BYTES]);

impl KeyId {
    /// The name of a key.
    pub(super) fn of(secret: &Secret) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"siltstone ledger key");
        hasher.update(secret.as_slice());
        let digest: [u8; 32] = hasher.finalize().into();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key that an envelope asks for.
///
/// # Errors
/// [`Error::Corrupt`] for bytes that are no envelope, [`Error::NewerFormat`].
pub fn key_of(place: &dyn fmt::Display, envelope: &[u8]) -> Result<KeyId> {
    let head = envelope
        .first_chunk::<HEAD_BYTES>()
        .filter(|_| envelope.len() >= HEAD_BYTES + TAG_BYTES)
        .ok_or_else(|| Error::corrupt(place.to_string(), "it is too short for an envelope"))?;
    match head[0] {
        VERSION => {
            let mut id = [0; KEY_ID_BYTES];
            id.copy_from_slice(&head[1..OPEN_BYTES]);
            Ok(KeyId(id))
        }
        0 => Err(Error::corrupt(place.to_string(), "it is no envelope")),
        newer => Err(Error::NewerFormat {
            place: place.to_string(),
            found: u64::from(newer),
            supported: u64::from(VERSION),
        }),
    }
}

/// Opens an envelope whose key is known. The bytes are those that were sealed.
pub(super) fn open(
    cipher: &XChaCha20Poly1305,
    place: &dyn fmt::Display,
    envelope: &[u8],
) -> Result<Block> {
    let key = key_of(place, envelope)?;
    let (head, rest) = envelope.split_at(HEAD_BYTES);
    let (ciphertext, tag) = rest.split_at(rest.len() - TAG_BYTES);
    let mut plain = ciphertext.to_vec();
    cipher
        .decrypt_in_place_detached(
            XNonce::from_slice(&head[OPEN_BYTES..]),
            &head[..OPEN_BYTES],
            &mut plain,
            Tag::from_slice(tag),
        )
        .map_err(|_| {
            Error::corrupt(
                place.to_string(),
                format!("its bytes were changed after they were sealed with key {key}"),
            )
        })?;
    let (cid, used) = Cid::read_from(&plain)?;
    Ok(Block {
        cid,
        bytes: Bytes::from(plain).slice(used..),
    })
}

/// Seals blocks under one key.
pub struct Sealer {
    id: KeyId,
    cipher: XChaCha20Poly1305,
    entropy: Arc<dyn Entropy>,
    nonces: Mutex<Nonces>,
}

struct Nonces {
    drawn: [u8; NONCES * NONCE_BYTES],
    left: usize,
}

impl Sealer {
    pub(super) fn new(secret: &Secret, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            id: KeyId::of(secret),
            cipher: XChaCha20Poly1305::new(secret.as_slice().into()),
            entropy,
            nonces: Mutex::new(Nonces {
                drawn: [0; NONCES * NONCE_BYTES],
                left: 0,
            }),
        }
    }

    /// The key it seals under.
    pub fn key(&self) -> KeyId {
        self.id
    }

    fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonces = self.nonces.lock();
        if nonces.left == 0 {
            self.entropy.fill(&mut nonces.drawn);
            nonces.left = NONCES;
        }
        nonces.left -= 1;
        let at = nonces.left * NONCE_BYTES;
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&nonces.drawn[at..at + NONCE_BYTES]);
        nonce
    }
}

impl Seal for Sealer {
    fn seal(&self, block: &Block) -> Result<Block> {
        let nonce = self.nonce();
        let mut out = Vec::with_capacity(block.bytes.len() + self.overhead(&block.cid));
        out.push(VERSION);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&nonce);
        block.cid.write_to(&mut out);
        out.extend_from_slice(&block.bytes);
        let (head, plain) = out.split_at_mut(HEAD_BYTES);
        let tag = self
            .cipher
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), &head[..OPEN_BYTES], plain)
            .map_err(|_| Error::TooLarge {
                what: "the bytes of a block to be sealed",
                size: block.bytes.len() as u64,
                limit: crate::block::MAX_BLOCK_BYTES as u64,
            })?;
        out.extend_from_slice(&tag);
        Ok(Block::raw(out))
    }

    fn overhead(&self, cid: &Cid) -> usize {
        HEAD_BYTES + cid.encoded_len() + TAG_BYTES
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer(key {})", self.id)
    }
}
