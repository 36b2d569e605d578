//! Encryption of blocks, and the keys.
//!
//! XChaCha20-Poly1305 with a random nonce a block. An envelope is a raw block: its address is the hash of
//! what is stored, so anyone can check it, and the plain address lies inside, so only who has the key
//! learns it. A [`KeyRing`] keeps every key a ledger ever had; the current one seals. Keys never travel with
//! data.

mod entropy;
mod envelope;
mod keyring;

pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use envelope::{KeyId, Sealer, key_of};
pub use keyring::KeyRing;
