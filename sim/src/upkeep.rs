//! What keeps a database in shape: flushes, compactions, checkpoints, keyspaces and their policies;
//! and the clock.

use crate::check::Checked;
use crate::model::Map;
use crate::reads::everything;
use crate::world::World;
use siltstone_kv::{CompactOptions, CompactOrder, Compression, History, KeyspaceOptions, Order};
use siltstone_storage::{Clock, Timestamp};
use std::time::Duration;

impl World {
    pub(crate) fn flush(&mut self) -> Checked {
        self.note("flush".into());
        let head = self.head()?;
        if self.tolerate("flush", self.kv()?.flush())?.is_some() {
            self.durable = self.durable.max(head);
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Checked {
        self.note("sync".into());
        let head = self.head()?;
        if self.tolerate("sync", self.kv()?.sync())?.is_some() {
            self.durable = self.durable.max(head);
        }
        Ok(())
    }

    pub(crate) fn work(&mut self) -> Checked {
        self.note("work".into());
        match self.rng.u8(0..4) {
            0 => self.tolerate("settle", self.kv()?.settle()).map(|_| ()),
            _ => self.tolerate("work", self.kv()?.work()).map(|_| ()),
        }
    }

    pub(crate) fn compact(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let orders = [
            CompactOrder::OldestFirst,
            CompactOrder::NewestFirst,
            CompactOrder::SmallestFirst,
            CompactOrder::LargestFirst,
        ];
        let options = CompactOptions {
            order: orders[self.rng.usize(0..4)],
            max_files: self.rng.bool().then(|| self.rng.usize(1..5)),
            max_size: (self.rng.u8(0..4) == 0).then(|| self.rng.u64(500..30_000)),
            ..CompactOptions::default()
        };
        self.note(format!(
            "compact {name} {:?} {:?}",
            options.order, options.max_files
        ));
        let done = keyspace.compact(&options).map_err(|failed| failed.error);
        self.tolerate("compact", done).map(|_| ())
    }

    pub(crate) fn checkpoint(&mut self) -> Checked {
        let name = format!("checkpoint {}", self.rng.u8(0..4));
        let kv = self.kv()?.clone();
        let head = self.head()?;
        if kv.checkpoints().iter().any(|held| held.name == name) {
            self.note(format!("drop {name}"));
            self.tolerate("drop checkpoint", kv.drop_checkpoint(&name))?;
        } else {
            let lease = self
                .rng
                .bool()
                .then(|| Duration::from_secs(self.rng.u64(1..100)));
            self.note(format!("{name} at {head} for {lease:?}"));
            if let Some(made) = self.tolerate("checkpoint", kv.checkpoint(&name, lease))? {
                if made.commit.0 != head {
                    return Err(format!("{name} holds {}, not {head}", made.commit));
                }
                self.durable = self.durable.max(head);
            }
        }
        // What checkpoints hold reads as it did.
        for checkpoint in kv.checkpoints() {
            let commit = checkpoint.commit.0;
            let snapshot = kv.default_keyspace().at_commit(checkpoint.commit);
            let snapshot =
                snapshot.map_err(|error| format!("{} at {commit}: {error}", checkpoint.name))?;
            self.check_range(
                &snapshot,
                &"default".into(),
                commit,
                everything(Order::Forward),
            )
            .map_err(|what| format!("{}: {what}", checkpoint.name))?;
        }
        Ok(())
    }

    fn random_history(&mut self) -> History {
        History {
            window: [1, 5, 30, 50][self.rng.usize(0..4)],
            divisor: self.rng.u64(2..6),
            levels: self.rng.u32(0..4),
            max_versions: (self.rng.u8(0..4) == 0).then(|| self.rng.u32(1..4)),
            ..History::default()
        }
    }

    pub(crate) fn keyspaces(&mut self) -> Checked {
        let kv = self.kv()?.clone();
        if self.model.len() > 1 && self.rng.bool() {
            let names = self.model.keys().filter(|name| &***name != "default");
            let names: Vec<_> = names.cloned().collect();
            let name = names[self.rng.usize(0..names.len())].clone();
            self.note(format!("drop {name}"));
            self.held.retain(|held| held.keyspace != name);
            self.tolerate("drop keyspace", kv.drop_keyspace(&name))?;
            if kv.keyspaces().iter().all(|known| **known != *name) {
                self.model.remove(&name);
            }
        } else if self.model.len() < 4 {
            let name = format!("side{}", self.made);
            let merges = self.rng.bool();
            let options = KeyspaceOptions {
                history: self.random_history(),
                compression: [Compression::None, Compression::Lz4, Compression::Zstd]
                    [self.rng.usize(0..3)],
                filter_bits: [0, 10][self.rng.usize(0..2)],
                block_bytes: 512,
                merge_operator: merges.then(|| "append".into()),
            };
            self.note(format!("create {name} {options:?}"));
            let history = options.history.clone();
            let map = Map::new(history.window, history.max_versions.is_some(), merges);
            self.model.insert(name.as_str().into(), map);
            let made = self.tolerate("create keyspace", kv.create_keyspace(&name, options))?;
            // It may exist when the database is opened again; until then it does not.
            if made.is_none() && !kv.is_stopped() {
                self.model.remove(name.as_str());
            }
        }
        Ok(())
    }

    pub(crate) fn change_history(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        if &*name == "default" {
            return Ok(());
        }
        let history = self.random_history();
        self.note(format!("history of {name}: {history:?}"));
        let options = KeyspaceOptions {
            history: history.clone(),
            ..keyspace.options()
        };
        // Told first: it may happen although the answer is an error.
        if let Some(map) = self.model.get_mut(&name) {
            map.window = map.window.min(history.window);
            map.limited |= history.max_versions.is_some();
        }
        let done = self.kv()?.set_keyspace(&name, options);
        self.tolerate("set keyspace", done).map(|_| ())
    }

    pub(crate) fn move_clock(&mut self) {
        // Where it was counts for what may have expired.
        self.times();
        let micros = self.clock.now().0;
        match self.rng.u8(0..4) {
            0 => {
                let back = self.rng.u64(0..100_000_000);
                self.note(format!("the clock steps back by {back} us"));
                self.clock_set = Some(self.clock.elapsed());
                self.clock.set_wall(Timestamp(micros - back));
            }
            1 if self.rng.u8(0..4) == 0 => {
                let ahead = self.rng.u64(0..200_000_000);
                self.note(format!("the clock steps ahead by {ahead} us"));
                self.clock_set = Some(self.clock.elapsed());
                self.clock.set_wall(Timestamp(micros + ahead));
            }
            _ => {
                let most = [1_000_000, 15_000_000, 60_000_000][self.rng.usize(0..3)];
                let ahead = self.rng.u64(0..most);
                self.note(format!("{ahead} us pass"));
                self.clock.advance(Duration::from_micros(ahead));
            }
        }
    }
}
