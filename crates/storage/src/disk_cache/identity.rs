//! Which database the pages belong to.
//!
//! Its place is not enough: a database that was deleted and made again at the same place uses the same
//! names for other tables. What tells them apart is the blob that the probe leaves standing: random
//! bytes, made with the database and gone with it. It is read once, while the database opens.

use super::page::Database;
use crate::blobs::{Blobs, PendingRead, PutOutcome};
use crate::env::{Env, Rng};
use crate::error::{Error, Result};
use crate::probe::STANDING;
use parking_lot::Mutex;
use std::sync::Arc;

/// The least it takes to be unique, in bytes.
const LEAST: usize = 16;

#[derive(Debug)]
enum Known {
    /// The answer is on its way, or is to be asked for.
    Not(Option<PendingRead>),
    Yes(Database),
    /// It could not be found out; this handle goes without the cache.
    Never,
}

#[derive(Debug)]
pub(super) struct Identity {
    blobs: Arc<dyn Blobs>,
    rng: Arc<dyn Rng>,
    known: Mutex<Known>,
}

impl Identity {
    /// Starts to ask.
    pub(super) fn ask(env: &Env) -> Self {
        let coming = env.blobs.start_get(STANDING);
        Self {
            blobs: env.blobs.clone(),
            rng: env.rng.clone(),
            known: Mutex::new(Known::Not(Some(coming))),
        }
    }

    /// The database, when it can be told.
    pub(super) fn get(&self) -> Option<Database> {
        let mut known = self.known.lock();
        let coming = match &mut *known {
            Known::Yes(database) => return Some(*database),
            Known::Never => return None,
            Known::Not(coming) => coming.take(),
        };
        let store = self.blobs.describe();
        match self.find(coming) {
            Ok(incarnation) => {
                let database = Database::new(&store, &incarnation);
                *known = Known::Yes(database);
                Some(database)
            }
            Err(error) => {
                tracing::warn!(%store, %error, "no disk cache: it cannot be told which database this is");
                *known = Known::Never;
                None
            }
        }
    }

    /// What was known may be another's: the standing blob was made or deleted by this process.
    pub(super) fn forget(&self) {
        *self.known.lock() = Known::Not(None);
    }

    /// Makes it another database, so that nothing that is cached of it is ever found.
    pub(super) fn renew(&self) -> Result<()> {
        self.blobs.delete(STANDING)?;
        self.forget();
        Ok(())
    }

    fn find(&self, coming: Option<PendingRead>) -> Result<Vec<u8>> {
        let found = match coming {
            Some(coming) => coming.wait(),
            None => self.blobs.get(STANDING),
        };
        let found = match found {
            Err(error) if error.is_not_found() => {
                let fresh = [self.rng.next().to_le_bytes(), self.rng.next().to_le_bytes()];
                match self.blobs.put_if_absent(STANDING, &fresh.concat())? {
                    PutOutcome::Created => return Ok(fresh.concat()),
                    PutOutcome::Exists => self.blobs.get(STANDING)?,
                }
            }
            found => found?,
        };
        match found.len() {
            LEAST.. => Ok(found.to_vec()),
            _ => Err(Error::corrupt(STANDING, 0, "it is too short to be unique")),
        }
    }
}
