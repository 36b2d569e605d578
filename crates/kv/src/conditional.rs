//! Writes on a condition: what a key holds is compared and changed in one step.

use crate::error::{Error, Result, show_key};
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::read::Read;
use crate::stats::PutStats;
use crate::transaction::{Isolation, Transaction};
use bytes::Bytes;

/// What a key must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect<'a> {
    /// Nothing.
    Absent,
    /// Some value.
    Present,
    /// Exactly this value.
    Value(&'a [u8]),
}

impl Expect<'_> {
    fn check(self, key: &[u8], found: Option<&Bytes>) -> Result<()> {
        let holds = match (self, found) {
            (Expect::Absent, found) => found.is_none(),
            (Expect::Present, found) => found.is_some(),
            (Expect::Value(expected), found) => found.is_some_and(|found| found == expected),
        };
        match holds {
            true => Ok(()),
            false => Err(Error::ConditionFailed {
                key: show_key(key),
                found: match found {
                    Some(value) => format!("the value is {:?}", show_key(value)),
                    None => "there is no value".into(),
                },
            }),
        }
    }
}

impl Keyspace {
    /// Sets `key` to `value` if it holds what is expected, durably.
    ///
    /// # Errors
    /// [`Error::ConditionFailed`] with what was found; as [`Keyspace::put`].
    pub fn put_if(&self, key: &[u8], expect: Expect<'_>, value: &[u8]) -> Result<PutStats> {
        self.write_if(key, expect, |txn| txn.put(self, key, value))
    }

    /// Deletes `key` if it holds what is expected, durably.
    ///
    /// # Errors
    /// As [`Keyspace::put_if`].
    pub fn delete_if(&self, key: &[u8], expect: Expect<'_>) -> Result<PutStats> {
        self.write_if(key, expect, |txn| txn.delete(self, key))
    }

    fn write_if(
        &self,
        key: &[u8],
        expect: Expect<'_>,
        write: impl Fn(&Transaction) -> Result<()>,
    ) -> Result<PutStats> {
        let mut retries = 0;
        loop {
            let txn = self.database().begin(Isolation::Snapshot)?;
            let found = txn.on(self).get(key)?;
            expect.check(key, found.as_ref())?;
            write(&txn)?;
            match txn.commit_with(Durability::Durable) {
                // Somebody was quicker: look again. Each time somebody else got on.
                Err(Error::Conflict { .. }) => retries += 1,
                Err(error) => return Err(error),
                Ok(stats) => {
                    return Ok(PutStats {
                        retries: stats.retries + retries,
                        ..stats
                    });
                }
            }
        }
    }
}
