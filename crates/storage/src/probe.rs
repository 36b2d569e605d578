//! The question asked of every store before it is trusted with a database: does put-if-absent hold?

use crate::blobs::{Blobs, PutOutcome};
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
