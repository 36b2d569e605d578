//! Where keys and nonces come from. Not from `Env`, whose random numbers are good enough for ids and not
//! for secrets; a simulation passes its own.

use chacha20poly1305::aead::OsRng;
use chacha20poly1305::aead::rand_core::RngCore;
use siltstone_storage::Rng;

/// A source of random bytes that nobody can guess.
pub trait Entropy: Send + Sync {
    /// Fills `out`.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) {
        OsRng.fill_bytes(out);
    }
}

/// From a seeded stream, so that a simulated run is the same each time. Its keys are not secret.
#[derive(Debug)]
pub struct SeededEntropy<R>(pub R);

impl<R: Rng> Entropy for SeededEntropy<R> {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.next().to_le_bytes()[..chunk.len()]);
        }
    }
}
