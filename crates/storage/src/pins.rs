//! How a reader process holds what the writer would delete.
//!
//! A reader writes a pin that names a manifest, then checks that this manifest still exists. The
//! writer deletes old manifests first, then lists the pins, then deletes segments. Whichever comes
//! first sees the other: either the reader finds its manifest gone and takes a newer one, or the
//! writer finds the pin. A pin has a lease, so that a reader that died holds nothing for long.

use crate::env::{Env, Timestamp};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const PREFIX: &str = "pins/";
const SUFFIX: &str = ".pin";

/// A pin as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinInfo {
    /// The manifest whose segments are held; `u64::MAX` for none.
    pub manifest: u64,
    /// The log is held from this file on; `u64::MAX` for not at all.
    pub log: u64,
    /// When the pin lapses.
    pub expires: Timestamp,
}

/// One reader's pin. Call [`ReaderPins::release`] when done; a lapsed lease does it otherwise.
#[derive(Debug)]
pub struct ReaderPins {
    env: Env,
    name: String,
    lease: Duration,
}

impl ReaderPins {
    /// A reader that will renew its pin well within `lease`.
    pub fn new(env: Env, lease: Duration) -> Self {
        let name = format!("{PREFIX}{:016x}{SUFFIX}", env.rng.next());
        Self { env, name, lease }
    }

    /// Holds `manifest` from now for the lease, in place of what this reader held before. The
    /// caller must then check that the manifest still exists.
    ///
    /// # Errors
    /// The store's.
    pub fn hold(&self, manifest: u64) -> Result<()> {
        self.put(manifest, u64::MAX)
    }

    /// Holds the log from file `number` on, from now for the lease, in place of what this reader
    /// held before. The caller must then check that the file still exists.
    ///
    /// # Errors
    /// The store's.
    pub fn hold_log(&self, number: u64) -> Result<()> {
        self.put(u64::MAX, number)
    }

    fn put(&self, manifest: u64, log: u64) -> Result<()> {
        let pin = PinInfo {
            manifest,
            log,
            expires: self.env.clock.now().after(self.lease),
        };
        let bytes = postcard::to_stdvec(&pin)
            .map_err(|e| Error::corrupt(self.name.clone(), 0, e.to_string()))?;
        self.env.blobs.put(&self.name, &bytes)
    }

    /// Lets go.
    ///
    /// # Errors
    /// The store's; the lease lapses all the same.
    pub fn release(&self) -> Result<()> {
        self.env.blobs.delete(&self.name)
    }

    /// All pins that have not lapsed. Lapsed ones are deleted, and so are unreadable ones: they
    /// hold nothing.
    ///
    /// # Errors
    /// The store's.
    pub fn list(env: &Env) -> Result<Vec<PinInfo>> {
        let now = env.clock.now();
        let mut pins = Vec::new();
        for blob in env.blobs.list(PREFIX)? {
            let bytes = match env.blobs.get(&blob.name) {
                Err(error) if error.is_not_found() => continue,
                other => other?,
            };
            match postcard::from_bytes::<PinInfo>(&bytes) {
                Ok(pin) if pin.expires > now => pins.push(pin),
                _ => env.blobs.delete(&blob.name)?,
            }
        }
        Ok(pins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemBlobs;
    use std::sync::Arc;

    #[test]
    fn a_pin_holds_until_released_or_lapsed() {
        let (env, clock) = Env::simulated(Arc::new(MemBlobs::new()), 1);
        let lease = Duration::from_secs(60);
        let first = ReaderPins::new(env.clone(), lease);
        let second = ReaderPins::new(env.clone(), lease);
        first.hold(7).unwrap();
        second.hold(8).unwrap();
        assert_eq!(ReaderPins::list(&env).unwrap().len(), 2);
        first.release().unwrap();
        assert_eq!(ReaderPins::list(&env).unwrap()[0].manifest, 8);
        clock.advance(Duration::from_secs(61));
        assert!(ReaderPins::list(&env).unwrap().is_empty());
        assert!(env.blobs.list("pins/").unwrap().is_empty());
    }
}
