//! The question asked of every store before it is trusted with a database: does put-if-absent hold?

use crate::blobs::{Blobs, PendingPut, PutOutcome};
use crate::env::Rng;
use crate::error::{Error, Result};

/// Creates a fresh name twice, with different bytes. Several servers take the condition and ignore
/// it; two writers there would overwrite each other's commits without noticing. The probe blob
/// (`probe/` and 32 hex digits) is deleted in the end.
///
/// # Errors
/// [`Error::ConditionIgnored`] when the second creation succeeds or the blob does not hold the first
/// one's bytes; or the store's own error.
pub fn probe_put_if_absent(blobs: &dyn Blobs, rng: &dyn Rng) -> Result<()> {
    let name = format!("probe/{:016x}{:016x}", rng.next(), rng.next());
    let verdict = create_twice(blobs, &name, rng);
    let deleted = blobs.delete(&name);
    verdict?;
    deleted
}

/// A blob that stays: whoever honours the condition refuses to create it once more. Its bytes are random
/// and never rewritten, so they also tell a database from one that was at its place before.
pub(crate) const STANDING: &str = "probe/standing";

/// Deletes what an earlier database left standing at a place where one is made, so that the two can be
/// told apart.
///
/// # Errors
/// As [`Blobs::delete`].
pub fn forget_standing(blobs: &dyn Blobs) -> Result<()> {
    blobs.delete(STANDING)
}

/// The same question, asked while something else is under way, and answered by one request once it
/// has been answered before.
#[derive(Debug)]
pub struct Probe(PendingPut);

impl Probe {
    /// Starts to ask and returns at once where the store allows it.
    pub fn start(blobs: &dyn Blobs, rng: &dyn Rng) -> Self {
        let bytes = [rng.next().to_le_bytes(), rng.next().to_le_bytes()].concat();
        Self(blobs.start_put_if_absent(STANDING, bytes.into()))
    }

    /// Waits for the answer. A refusal proves that the condition holds; a creation proves nothing, and
    /// is followed by [`probe_put_if_absent`]. Answers whether the blob that stays was created now, or
    /// stood there from an earlier opening.
    ///
    /// # Errors
    /// As [`probe_put_if_absent`].
    pub fn finish(self, blobs: &dyn Blobs, rng: &dyn Rng) -> Result<PutOutcome> {
        let outcome = self.0.wait()?;
        if outcome == PutOutcome::Created {
            probe_put_if_absent(blobs, rng)?;
        }
        Ok(outcome)
    }
}

fn create_twice(blobs: &dyn Blobs, name: &str, rng: &dyn Rng) -> Result<()> {
    let first = rng.next();
    let second = !first;
    let ignored = || Error::ConditionIgnored {
        store: blobs.describe(),
    };
    if blobs.put_if_absent(name, &first.to_le_bytes())? != PutOutcome::Created {
        return Err(Error::Invalid {
            name: name.into(),
            what: "a fresh probe name is taken; the random numbers repeat".into(),
        });
    }
    if blobs.put_if_absent(name, &second.to_le_bytes())? != PutOutcome::Exists {
        return Err(ignored());
    }
    match *blobs.get(name)? == first.to_le_bytes() {
        true => Ok(()),
        false => Err(ignored()),
    }
}
