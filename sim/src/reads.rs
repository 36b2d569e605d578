//! Reads at the head, at retained commits and of what is held.

use crate::check::{self, Checked, Range};
use crate::commit::Name;
use crate::values::KEYS;
use crate::world::{DIVISOR, Held, LEVELS, WINDOW, World};
use siltstone_kv::{Commit, Error, Keyspace, Order, Read};

/// All keys.
pub(crate) fn everything(order: Order) -> Range {
    Range {
        from: 0,
        to: KEYS,
        order,
        limit: 1_000,
    }
}

impl World {
    /// Compares one key, picked by chance, with the model at `commit`.
    fn check_point(&mut self, read: &impl Read, name: &Name, commit: u64) -> Checked {
        let (key, times) = (self.pick_key(), self.times());
        self.report.checks += 1;
        let map = &self.model[name];
        let expected = map.get(key, commit, times);
        check::point(read, key, &expected, self.allowed(map))
            .map_err(|what| format!("{name} at {commit}: {what}"))
    }

    /// Compares a range with the model at `commit`.
    pub(crate) fn check_range(
        &mut self,
        read: &impl Read,
        name: &Name,
        commit: u64,
        range: Range,
    ) -> Checked {
        let times = self.times();
        self.report.checks += 1;
        let Some(map) = self.model.get(name) else {
            return Ok(());
        };
        let expected = |key| map.get(key, commit, times);
        check::range(read, range, expected, self.allowed(map))
            .map_err(|what| format!("{name} at {commit}: {what}"))
    }

    pub(crate) fn get(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let head = self.head()?;
        self.check_point(&keyspace, &name, head)
    }

    pub(crate) fn get_at(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let head = self.head()?;
        // Far back there are levels.
        let back = [60, 60, 1_000][self.rng.usize(0..3)];
        let commit = head.saturating_sub(self.rng.u64(0..back));
        match keyspace.at_commit(Commit(commit)) {
            Ok(snapshot) => {
                self.check_point(&snapshot, &name, commit)?;
                if self.held.len() < 8 && self.rng.u8(0..20) == 0 {
                    self.note(format!("hold {name} at {commit} of {head}"));
                    self.held.push(Held {
                        snapshot,
                        keyspace: name,
                        commit,
                    });
                }
                Ok(())
            }
            Err(Error::NotRetained { before, after, .. }) => {
                if &*name == "default" && on_level(commit, head) {
                    return Err(format!("{name} at {commit} of {head}: refused on a level"));
                }
                if commit + self.model[&name].window > head {
                    return Err(format!(
                        "{name} at {commit} of {head}: refused inside the window"
                    ));
                }
                self.check_neighbours(&keyspace, &name, commit, before, after)
            }
            Err(error) => Err(format!("{name} at {commit} of {head}: {error}")),
        }
    }

    /// The neighbours that a refusal names are readable, and right.
    fn check_neighbours(
        &mut self,
        keyspace: &Keyspace,
        name: &Name,
        asked: u64,
        before: Option<Commit>,
        after: Option<Commit>,
    ) -> Checked {
        if before.is_some_and(|before| before.0 >= asked)
            || after.is_some_and(|after| after.0 <= asked)
        {
            return Err(format!(
                "{name}: {before:?} and {after:?} are no neighbours of {asked}"
            ));
        }
        for neighbour in before.into_iter().chain(after) {
            let snapshot = keyspace.at_commit(neighbour);
            let snapshot =
                snapshot.map_err(|error| format!("{name}: neighbour of {asked}: {error}"))?;
            self.check_point(&snapshot, name, neighbour.0)?;
        }
        Ok(())
    }

    pub(crate) fn scan(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let (a, b) = (self.rng.u16(0..=KEYS), self.rng.u16(0..=KEYS));
        let range = Range {
            from: a.min(b),
            to: a.max(b),
            order: self.pick_order(),
            limit: self.rng.usize(1..60),
        };
        let head = self.head()?;
        self.check_range(&keyspace, &name, head, range)
    }

    /// The whole contents at some commit of those that are listed as retained.
    pub(crate) fn scan_at(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let listed = keyspace.retained_commits();
        let listed = listed.map_err(|error| format!("{name}: {error}"))?;
        let head = self.head()?;
        let from = Commit(self.rng.u64(0..=head));
        let Some(commit) = listed.at_or_after(from) else {
            return Err(format!("{name}: the head {head} is not listed as retained"));
        };
        let snapshot = keyspace.at_commit(commit);
        let snapshot =
            snapshot.map_err(|error| format!("{name} at {commit}, which is listed: {error}"))?;
        let range = everything(self.pick_order());
        self.check_range(&snapshot, &name, commit.0, range)
    }

    /// The whole contents of something that is held.
    pub(crate) fn read_held(&mut self) -> Checked {
        if self.held.is_empty() {
            return Ok(());
        }
        let at = self.rng.usize(0..self.held.len());
        let held = self.held.swap_remove(at);
        let range = everything(self.pick_order());
        let checked = self.check_range(&held.snapshot, &held.keyspace, held.commit, range);
        self.held.push(held);
        checked.map_err(|what| format!("held: {what}"))
    }

    pub(crate) fn take_snapshot(&mut self) -> Checked {
        if self.held.len() >= 8 {
            return Ok(());
        }
        let (keyspace, name) = self.pick_keyspace()?;
        let commit = self.head()?;
        self.note(format!("snapshot of {name} at {commit}"));
        let snapshot = keyspace
            .snapshot()
            .map_err(|error| format!("snapshot: {error}"))?;
        self.held.push(Held {
            snapshot,
            keyspace: name,
            commit,
        });
        Ok(())
    }

    pub(crate) fn drop_snapshot(&mut self) {
        if !self.held.is_empty() {
            let at = self.rng.usize(0..self.held.len());
            let held = self.held.swap_remove(at);
            self.note(format!(
                "drop the snapshot of {} at {}",
                held.keyspace, held.commit
            ));
        }
    }

    pub(crate) fn check_all(&mut self) -> Checked {
        let head = self.head()?;
        let kv = self.kv()?.clone();
        let names: Vec<_> = self.model.keys().cloned().collect();
        for name in names {
            let Ok(keyspace) = kv.keyspace(&name) else {
                continue;
            };
            let range = everything(self.pick_order());
            self.check_range(&keyspace, &name, head, range)?;
        }
        self.read_held()
    }
}

/// True when a level of the default keyspace, whose policy never changes, retains `commit`.
fn on_level(commit: u64, head: u64) -> bool {
    (1..=LEVELS).any(|level| {
        let step = DIVISOR.pow(level);
        commit.is_multiple_of(step) && commit + WINDOW * step > head
    })
}
