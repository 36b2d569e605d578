//! Single writes, batches of all kinds, and writes on a condition.

use crate::check::Checked;
use crate::commit::{Commit, Doing, Name, Write, range_bytes};
use crate::values::{key_bytes, operand_bytes, value_bytes};
use crate::world::World;
use siltstone_kv::{Batch, Durability, Error, Expect, KeyRange, Keyspace};
use siltstone_storage::Clock;
use std::ops::Bound;
use std::time::Duration;

pub(crate) fn key_range(from: u16, to: u16) -> Result<KeyRange, String> {
    let (start, end) = range_bytes(from, to);
    KeyRange::new(
        Bound::Included(start.as_slice()),
        Bound::Excluded(end.as_slice()),
    )
    .map_err(|error| error.to_string())
}

impl World {
    /// Something to write to `keyspace`, and for a value that expires how long it lives.
    pub(crate) fn pick_write(&mut self, keyspace: &Name) -> (Write, Duration) {
        self.nonces += 1;
        let (key, nonce) = (self.pick_key(), self.nonces);
        let merges = self.model.get(keyspace).is_some_and(|map| map.merges);
        let mut ttl = Duration::ZERO;
        let doing = match self.rng.u16(0..400) {
            0..240 => Doing::Put(key, nonce),
            240..300 => Doing::Delete(key),
            300..370 if merges => Doing::Merge(key, nonce),
            300..390 => {
                ttl = Duration::from_micros(self.rng.u64(1_000_000..90_000_000));
                Doing::PutUntil(key, nonce, self.clock.now().after(ttl))
            }
            _ => {
                let (from, to) = self.pick_range();
                Doing::DeleteRange(from, to)
            }
        };
        let keyspace = keyspace.clone();
        (Write { keyspace, doing }, ttl)
    }

    pub(crate) fn write_one(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let (write, ttl) = self.pick_write(&name);
        let mut durability = self.durability();
        let done = match write.doing {
            Doing::Put(key, nonce) => {
                keyspace.put_with(&key_bytes(key), &value_bytes(key, nonce), durability)
            }
            Doing::Delete(key) => keyspace.delete_with(&key_bytes(key), durability),
            Doing::Merge(key, nonce) => {
                keyspace.merge_with(&key_bytes(key), &operand_bytes(nonce), durability)
            }
            Doing::PutUntil(key, nonce, _) => {
                durability = Durability::Durable;
                keyspace.put_ttl(&key_bytes(key), &value_bytes(key, nonce), ttl)
            }
            Doing::DeleteRange(from, to) => {
                durability = Durability::Durable;
                keyspace.delete_range(&key_range(from, to)?)
            }
        };
        self.note(format!("{name}: {:?} {durability:?}", write.doing));
        self.written(done, durability, Commit::of(&[write]))
    }

    pub(crate) fn write_batch(&mut self) -> Checked {
        let durability = self.durability();
        let mut batch = Batch::new();
        let mut writes = Vec::new();
        for _ in 0..self.rng.usize(1..12) {
            let (keyspace, name) = self.pick_keyspace()?;
            let (write, ttl) = self.pick_write(&name);
            add(&mut batch, &keyspace, &write, ttl)?;
            writes.push(write);
        }
        let doing: Vec<_> = writes.iter().map(|w| (&w.keyspace, w.doing)).collect();
        self.note(format!("batch {durability:?} of {doing:?}"));
        let done = self.kv()?.write(&batch, durability);
        self.written(done, durability, Commit::of(&writes))
    }

    pub(crate) fn write_if(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let key = self.pick_key();
        let (times, head) = (self.times(), self.head()?);
        let holds = self.model[&name].get(key, head, times);
        self.nonces += 1;
        let nonce = self.nonces;
        // No value has one byte.
        let other = [0xee];
        // What is there, or what is not.
        let right = self.rng.u8(0..3) > 0;
        let expect = match (&holds.value, right) {
            (None, true) => Expect::Absent,
            (Some(value), true) if self.rng.bool() => Expect::Value(value),
            (Some(_), true) => Expect::Present,
            (Some(_), false) if self.rng.bool() => Expect::Absent,
            (Some(_), false) => Expect::Value(&other),
            (None, false) if self.rng.bool() => Expect::Present,
            (None, false) => Expect::Value(&other),
        };
        let put = self.rng.u8(0..4) > 0;
        let (doing, done) = match put {
            true => {
                let value = value_bytes(key, nonce);
                let done = keyspace.put_if(&key_bytes(key), expect, &value);
                (Doing::Put(key, nonce), done)
            }
            false => (
                Doing::Delete(key),
                keyspace.delete_if(&key_bytes(key), expect),
            ),
        };
        let certain = holds.is_certain();
        self.note(format!("{name}: {doing:?} if as expected {right}"));
        match &done {
            // A policy that thins versions does not thin the newest.
            Err(Error::ConditionFailed { .. }) if !right || !certain => return Ok(()),
            Err(Error::ConditionFailed { found, .. }) => {
                return Err(format!("{name}: a condition on {key} that holds: {found}"));
            }
            Ok(_) if !right && certain => {
                return Err(format!(
                    "{name}: a condition on {key} that does not hold, as it holds {:?}",
                    holds.value
                ));
            }
            _ => {}
        }
        let write = Write {
            keyspace: name,
            doing,
        };
        self.written(done, Durability::Durable, Commit::of(&[write]))
    }
}

fn add(batch: &mut Batch, keyspace: &Keyspace, write: &Write, ttl: Duration) -> Checked {
    match write.doing {
        Doing::Put(key, nonce) => {
            batch.put(keyspace, &key_bytes(key), &value_bytes(key, nonce));
        }
        Doing::Delete(key) => {
            batch.delete(keyspace, &key_bytes(key));
        }
        Doing::Merge(key, nonce) => {
            batch.merge(keyspace, &key_bytes(key), &operand_bytes(nonce));
        }
        Doing::PutUntil(key, nonce, _) => {
            batch.put_ttl(keyspace, &key_bytes(key), &value_bytes(key, nonce), ttl);
        }
        Doing::DeleteRange(from, to) => {
            batch.delete_range(keyspace, &key_range(from, to)?);
        }
    }
    Ok(())
}
