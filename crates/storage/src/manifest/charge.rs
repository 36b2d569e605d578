//! Taking charge in few steps. A writer in a bucket puts its manifest while it puts its fence into the
//! log, and has it proved afterwards that it was in charge: a listing shows no newer manifest that
//! does not build on its own. Without the proof nothing may be acknowledged: a writer that slept
//! before its put may have created a number that had been used and swept.

use super::{ANCESTORS, ManifestState, ManifestStore, Numbered, PREFIX};
use super::{encode, load_latest, manifest_name, number_of};
use crate::blobs::{PendingList, PendingPut};
use crate::error::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;

/// A manifest under way that puts this writer in charge.
#[derive(Debug)]
pub struct Charge<S> {
    put: PendingPut,
    name: String,
    bytes: Bytes,
    next: Numbered<S>,
}

impl<S> Charge<S> {
    /// The epoch that the writer will have.
    pub fn epoch(&self) -> u64 {
        self.next.epoch
    }
}

impl<S: ManifestState> ManifestStore<S> {
    /// Starts to take charge of what [`ManifestStore::look`] found, with `state` made of it, and
    /// returns at once where the store allows it.
    pub fn start_charge(&self, state: impl FnOnce(&S) -> S) -> Charge<S> {
        let base = self.current();
        let mut attempts = vec![self.env.rng.next()];
        attempts.extend(base.attempts.iter().take(ANCESTORS));
        let next = Numbered {
            number: base.number + 1,
            epoch: base.epoch + 1,
            state: state(&base.state),
            attempts,
        };
        let (number, epoch) = (next.number, next.epoch);
        let body = next.state.encode();
        let bytes = Bytes::from(encode(number, epoch, self.writer, &next.attempts, &body));
        let name = manifest_name(number);
        Charge {
            put: self.env.blobs.start_put_if_absent(&name, bytes.clone()),
            name,
            bytes,
            next,
        }
    }

    /// Waits for it. False when somebody else was quicker: then all that was looked at is old. True
    /// makes this the writer in charge, as far as can be told before [`ManifestStore::prove`].
    ///
    /// # Errors
    /// The store's.
    pub fn finish_charge(&mut self, charge: Charge<S>) -> Result<bool> {
        let Charge {
            put,
            name,
            bytes,
            next,
        } = charge;
        if !self.settle_put(&name, &bytes, put.wait())? {
            return Ok(false);
        }
        self.epoch = next.epoch;
        *self.current.write() = Arc::new(next);
        Ok(true)
    }

    /// Starts the listing that [`ManifestStore::prove`] looks at. Call it when the charge is finished.
    pub fn start_proof(&self) -> PendingList {
        self.env.blobs.start_list(PREFIX)
    }

    /// Looks whether this writer was in charge when it took charge, by a listing made since. `number`
    /// is that of the manifest it took charge with.
    ///
    /// # Errors
    /// [`Error::Fenced`]; the store's.
    pub fn prove(&self, number: u64, listed: PendingList) -> Result<()> {
        let listed = match listed.wait() {
            Ok(listed) => listed,
            Err(_) => self.env.blobs.list(PREFIX)?,
        };
        let mut numbers = listed.iter().filter_map(|blob| number_of(&blob.name));
        if numbers.all(|found| found <= number) {
            return Ok(());
        }
        let current = self.current();
        let ours = current.attempt_of(number);
        let newest = load_latest::<S>(&self.env, || {})?;
        let (built_on_ours, theirs) = match &newest {
            Some(newest) => (newest.attempt_of(number) == ours, newest.epoch),
            None => (true, self.epoch),
        };
        if built_on_ours && theirs == self.epoch {
            return Ok(());
        }
        if !built_on_ours {
            // The number had been swept, and what was put there is nobody's predecessor.
            self.env.blobs.delete(&manifest_name(number))?;
        }
        Err(Error::Fenced {
            ours: self.epoch,
            theirs,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::memory::MemBlobs;
    use crate::{Env, Role};

    fn store(blobs: &MemBlobs, seed: u64) -> ManifestStore<Vec<u8>> {
        let (env, _) = Env::simulated(Arc::new(blobs.clone()), seed);
        ManifestStore::look(env, Role::Writer, Vec::new, || {}).unwrap()
    }

    fn charge(store: &mut ManifestStore<Vec<u8>>) -> bool {
        let charge = store.start_charge(Vec::clone);
        store.finish_charge(charge).unwrap()
    }

    fn edit(store: &ManifestStore<Vec<u8>>, byte: u8) -> Result<Arc<Numbered<Vec<u8>>>> {
        store.commit(|state| Ok([&state[..], &[byte]].concat()))
    }

    #[test]
    fn of_two_that_look_at_once_one_takes_charge() {
        let blobs = MemBlobs::bucket();
        let (mut a, mut b) = (store(&blobs, 1), store(&blobs, 2));
        assert!(charge(&mut a));
        assert!(!charge(&mut b));
        assert_eq!(a.epoch(), 1);
        a.prove(1, a.start_proof()).unwrap();
        edit(&a, 7).unwrap();
        // It proves as well by a listing that shows its own edits.
        a.prove(1, a.start_proof()).unwrap();
        let mut later = store(&blobs, 3);
        assert!(charge(&mut later));
        assert_eq!(later.current().state, [7]);
        assert!(matches!(edit(&a, 8), Err(Error::Fenced { .. })));
        let fenced = a.prove(1, a.start_proof());
        assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
    }

    #[test]
    fn a_writer_that_slept_past_the_sweep_of_its_number_learns_that_it_never_was_in_charge() {
        let blobs = MemBlobs::bucket();
        let mut awake = store(&blobs, 1);
        assert!(charge(&mut awake));
        let mut asleep = store(&blobs, 2);
        for byte in 0..5 {
            edit(&awake, byte).unwrap();
        }
        awake.sweep(&[]).unwrap();
        assert!(charge(&mut asleep), "its number is free again");
        let number = asleep.current().number;
        assert_eq!(number, 2);
        let fenced = asleep.prove(number, asleep.start_proof());
        assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
        // What it put is gone, and the one in charge goes on.
        assert_eq!(awake.sweep(&[]).unwrap(), [5, 6]);
        assert_eq!(edit(&awake, 9).unwrap().state, [0, 1, 2, 3, 4, 9]);
    }
}
