//! Several open transactions at once, a step at a time: their reads are compared with the model at
//! their snapshot below their own writes, their commits with what others wrote since.

use crate::check::{self, Allowed, Checked, Range};
use crate::commit::{Commit, Doing, Name, Write};
use crate::model::{Answer, Map, Times};
use crate::values::{KEYS, Key, key_bytes, operand_bytes, value_bytes};
use crate::world::World;
use crate::writes::key_range;
use siltstone_kv::{Error, Isolation, Savepoint, Transaction};
use siltstone_storage::Clock;
use std::time::Duration;

/// Open at once.
const MOST: usize = 4;
/// As the databases are opened.
const IDLE: Duration = Duration::from_secs(20);

/// A transaction, and what is known of it.
pub(crate) struct Open {
    txn: Transaction,
    isolation: Isolation,
    snapshot: u64,
    writes: Vec<Write>,
    /// What the writes come to.
    own: Commit,
    /// Read and guarded: a keyspace's keys from one to another.
    guarded: Vec<(Name, Key, Key)>,
    /// Perhaps guarded: a planned fault may have ended the read.
    half_guarded: Vec<(Name, Key, Key)>,
    /// With the number of writes before each.
    savepoints: Vec<(Savepoint, usize)>,
    /// Times between which it was last used.
    used: (Duration, Duration),
}

impl Open {
    fn answer(&self, name: &Name, map: &Map, key: Key, times: Times) -> Answer {
        let place = (name.clone(), key);
        match self.own.entries.get(&place) {
            Some(entry) => map.get_with(key, self.snapshot, times, Some(entry)),
            None if self.own.deletes(name, key) => Answer {
                value: None,
                or: None,
            },
            None => map.get(key, self.snapshot, times),
        }
    }

    fn guard(&mut self, name: Name, from: Key, to: Key, allowed: Allowed) {
        match allowed.faults || allowed.truncated {
            true => self.half_guarded.push((name, from, to)),
            false => self.guarded.push((name, from, to)),
        }
    }

    /// A value that expires and is merged with in one transaction would need the time of each read.
    fn expires_here(&self, name: &Name, key: Key) -> bool {
        self.writes.iter().any(|write| {
            write.keyspace == *name && matches!(write.doing, Doing::PutUntil(at, _, _) if at == key)
        })
    }
}

impl World {
    pub(crate) fn in_transaction(&mut self) -> Checked {
        if self.transactions.is_empty() || self.transactions.len() < MOST && self.rng.u8(0..8) == 0
        {
            return self.begin();
        }
        let at = self.rng.usize(0..self.transactions.len());
        let mut open = self.transactions.swap_remove(at);
        let before = self.clock.elapsed();
        let idle = (
            before.saturating_sub(open.used.1) > IDLE,
            before.saturating_sub(open.used.0) <= IDLE,
        );
        match self.go_on(&mut open) {
            Step::Over => return Ok(()),
            Step::Wrong(what) => {
                return Err(format!(
                    "transaction {} at {}: {what}",
                    open.txn.id(),
                    open.snapshot
                ));
            }
            Step::Expired if idle.1 => return Err("a transaction expired too early".into()),
            Step::Expired => {
                self.report.expired += 1;
                return Ok(());
            }
            Step::Done if idle.0 => return Err("an idle transaction did not expire".into()),
            Step::Done => {}
        }
        open.used = (before, self.clock.elapsed());
        self.transactions.push(open);
        Ok(())
    }

    fn begin(&mut self) -> Checked {
        let isolation = match self.rng.bool() {
            true => Isolation::Serializable,
            false => Isolation::Snapshot,
        };
        let before = self.clock.elapsed();
        let Some(txn) = self.tolerate("begin", self.kv()?.begin(isolation))? else {
            return Ok(());
        };
        let snapshot = txn.snapshot_commit().0;
        self.note(format!("begin {} {isolation:?} at {snapshot}", txn.id()));
        if snapshot != self.head()? {
            return Err(format!("a transaction began at {snapshot}"));
        }
        self.transactions.push(Open {
            txn,
            isolation,
            snapshot,
            writes: Vec::new(),
            own: Commit::default(),
            guarded: Vec::new(),
            half_guarded: Vec::new(),
            savepoints: Vec::new(),
            used: (before, self.clock.elapsed()),
        });
        Ok(())
    }

    fn go_on(&mut self, open: &mut Open) -> Step {
        // A keyspace that it uses may be dropped meanwhile: reads and writes of one that is there.
        let (keyspace, name) = match self.pick_keyspace() {
            Ok(found) => found,
            Err(what) => return Step::Wrong(what),
        };
        match self.rng.u8(0..24) {
            0..9 => self.write_in(open, &keyspace, &name),
            9..15 => {
                let key = self.pick_key();
                let times = self.times();
                let map = &self.model[&name];
                let expected = open.answer(&name, map, key, times);
                let for_update = self.rng.u8(0..6) == 0;
                let done = match for_update {
                    true => {
                        let got = open.txn.get_for_update(&keyspace, &key_bytes(key));
                        match got {
                            Ok(found) if !expected.is(found.as_deref()) => {
                                Err(format!("get for update of {name} {key}: {found:?}"))
                            }
                            Ok(_) => Ok(()),
                            Err(Error::TransactionExpired { .. }) => return Step::Expired,
                            Err(Error::Truncated { .. }) if map.limited => Ok(()),
                            Err(error) => self.fits_the_fault("get for update", &error),
                        }
                    }
                    false => {
                        let on = open.txn.on(&keyspace);
                        check::point(&on, key, &expected, self.allowed(map))
                    }
                };
                if for_update || open.isolation == Isolation::Serializable {
                    open.guard(name, key, key + 1, self.allowed(map));
                }
                Step::of(done)
            }
            15..18 => {
                let (from, to) = self.pick_range();
                let range = Range {
                    from,
                    to,
                    order: self.pick_order(),
                    limit: 1_000,
                };
                let times = self.times();
                let map = &self.model[&name];
                let expected = |key| open.answer(&name, map, key, times);
                let on = open.txn.on(&keyspace);
                let done = check::range(&on, range, expected, self.allowed(map));
                if open.isolation == Isolation::Serializable {
                    open.guard(name, from, to, self.allowed(map));
                }
                Step::of(done)
            }
            18 => match open.txn.savepoint() {
                Ok(savepoint) => {
                    open.savepoints.push((savepoint, open.writes.len()));
                    Step::Done
                }
                Err(error) => Step::error(&error),
            },
            19 => self.roll_back_to(open),
            20 => match open.txn.roll_back() {
                Ok(()) => Step::Over,
                Err(error) => Step::Wrong(error.to_string()),
            },
            _ => self.commit(open),
        }
    }

    fn write_in(
        &mut self,
        open: &mut Open,
        keyspace: &siltstone_kv::Keyspace,
        name: &Name,
    ) -> Step {
        let (mut write, ttl) = self.pick_write(name);
        if let Doing::Merge(key, nonce) = write.doing
            && open.expires_here(name, key)
        {
            write.doing = Doing::Put(key, nonce);
        }
        let txn = &open.txn;
        let done = match write.doing {
            Doing::Put(key, nonce) => txn.put(keyspace, &key_bytes(key), &value_bytes(key, nonce)),
            Doing::Delete(key) => txn.delete(keyspace, &key_bytes(key)),
            Doing::Merge(key, nonce) => txn.merge(keyspace, &key_bytes(key), &operand_bytes(nonce)),
            Doing::PutUntil(key, nonce, _) => {
                txn.put_ttl(keyspace, &key_bytes(key), &value_bytes(key, nonce), ttl)
            }
            Doing::DeleteRange(from, to) => match key_range(from, to) {
                Ok(range) => txn.delete_range(keyspace, &range),
                Err(what) => return Step::Wrong(what),
            },
        };
        if let Err(error) = done {
            return Step::error(&error);
        }
        self.note(format!(
            "transaction {}: {name} {:?}",
            txn.id(),
            write.doing
        ));
        open.writes.push(write);
        open.own = Commit::of(&open.writes);
        Step::Done
    }

    fn roll_back_to(&mut self, open: &mut Open) -> Step {
        if open.savepoints.is_empty() {
            return Step::of(Ok(())).unless_idle(open);
        }
        let at = self.rng.usize(0..open.savepoints.len());
        let undone = open.savepoints.last().copied();
        let (savepoint, writes) = open.savepoints[at];
        if let Err(error) = open.txn.roll_back_to(&savepoint) {
            return Step::error(&error);
        }
        self.note(format!(
            "transaction {}: back to {writes} writes",
            open.txn.id()
        ));
        open.savepoints.truncate(at + 1);
        open.writes.truncate(writes);
        open.own = Commit::of(&open.writes);
        // One that was rolled back over is refused.
        match undone {
            Some((last, _)) if last != savepoint && open.txn.roll_back_to(&last).is_ok() => {
                Step::Wrong("a savepoint that was undone is still there".into())
            }
            _ => Step::Done,
        }
    }

    fn commit(&mut self, open: &mut Open) -> Step {
        let durability = self.durability();
        let done = open.txn.commit_with(durability);
        let own = std::mem::take(&mut open.own);
        self.note(format!("commit {} {durability:?}", open.txn.id()));
        match &done {
            Err(Error::TransactionExpired { .. }) => return Step::Expired,
            Err(Error::Conflict { commit, .. }) => {
                self.report.conflicts += 1;
                return self.must_conflict(open, &own, commit.0);
            }
            Ok(stats) if own.is_empty() => {
                return match stats.commit.0 == open.snapshot {
                    true => Step::Over,
                    false => Step::Wrong(format!("wrote nothing and became {}", stats.commit)),
                };
            }
            Ok(_) => {
                if let Some(what) = self.missed(open, &own) {
                    return Step::Wrong(format!("committed although {what}"));
                }
                self.report.transactions += 1;
            }
            Err(_) if own.is_empty() => return Step::Over,
            Err(_) => {}
        }
        match self.written(done, durability, own) {
            Ok(()) => Step::Over,
            Err(what) => Step::Wrong(what),
        }
    }

    /// What was written since the snapshot and stands against the commit.
    fn missed(&self, open: &Open, own: &Commit) -> Option<String> {
        for (name, key) in own.entries.keys() {
            let newest = self.model.get(name).map_or(0, |map| map.newest(*key));
            if newest > open.snapshot {
                return Some(format!(
                    "{name} {key}, written here, was written by {newest}"
                ));
            }
        }
        for (name, from, to) in own.ranges.iter().chain(&open.guarded) {
            let Some(map) = self.model.get(name) else {
                continue;
            };
            let newest = map.newest_in(*from, *to);
            if newest > open.snapshot {
                return Some(format!("{name} {from}..{to} was written by {newest}"));
            }
        }
        None
    }

    /// A conflict names a commit after the snapshot that wrote something that is guarded.
    fn must_conflict(&self, open: &Open, own: &Commit, commit: u64) -> Step {
        if commit <= open.snapshot || commit > self.issued {
            return Step::Wrong(format!("conflict with {commit}"));
        }
        let Some(record) = self.records.get(commit) else {
            return Step::Over;
        };
        let keys = own.entries.keys().map(|(name, key)| (name, *key, *key + 1));
        let ranges = own.ranges.iter().chain(&open.guarded);
        let ranges = ranges.chain(&open.half_guarded);
        let ranges = ranges.map(|(name, from, to)| (name, *from, (*to).min(KEYS)));
        match keys
            .chain(ranges)
            .any(|(name, from, to)| record.touches(name, from, to))
        {
            true => Step::Over,
            false => Step::Wrong(format!(
                "conflict with {commit}, which touched nothing here"
            )),
        }
    }
}

/// What came of one step.
enum Step {
    Done,
    Over,
    Expired,
    Wrong(String),
}

impl Step {
    fn error(error: &Error) -> Self {
        match error {
            Error::TransactionExpired { .. } => Self::Expired,
            error => Self::Wrong(error.to_string()),
        }
    }

    fn of(done: Checked) -> Self {
        match done {
            Ok(()) => Self::Done,
            // As the check of reads tells it.
            Err(what) if what.contains("the transaction was ended after") => Self::Expired,
            Err(what) => Self::Wrong(what),
        }
    }

    /// Nothing was asked of the transaction: it cannot have expired by being asked.
    fn unless_idle(self, open: &Open) -> Self {
        match open.txn.savepoint() {
            Ok(_) => self,
            Err(error) => Self::error(&error),
        }
    }
}
