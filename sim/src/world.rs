//! One database, its store, its clock, everything that is held open on it, and the model: makes one
//! operation a step.

use crate::Report;
use crate::check::{self, Checked};
use crate::model::{Key, Map, key_bytes, value_bytes};
use fastrand::Rng;
use siltstone_kv::{
    Background, Batch, Commit, CompactOptions, CompactOrder, Compression, Durability, Error,
    History, Keyspace, KeyspaceOptions, Kv, Options, Order, Reader, Snapshot,
};
use siltstone_storage::{Env, FaultPlan, FaultyBlobs, Injected, ManualClock, MemBlobs, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Keys of a keyspace.
const KEYS: Key = 120;
/// The history policy of the default keyspace.
const WINDOW: u64 = 30;
const DIVISOR: u64 = 4;
const LEVELS: u32 = 3;
/// Operations that are shown when something differs.
const SHOWN: usize = 30;

/// A snapshot with where it stands.
struct Held {
    snapshot: Snapshot,
    keyspace: String,
    commit: u64,
}

/// Everything.
pub(crate) struct World {
    rng: Rng,
    mem: MemBlobs,
    store: FaultyBlobs,
    clock: Arc<ManualClock>,
    /// `None` only while it is being reopened.
    kv: Option<Kv>,
    model: BTreeMap<String, Map>,
    /// The newest commit that was issued, and the newest known to be durable.
    issued: u64,
    durable: u64,
    held: Vec<Held>,
    checkpoints: Vec<(String, u64)>,
    reader: Option<Reader>,
    /// Calls of the store in earlier lives, and a plan waits for a call of this one.
    fault_waits_for: Option<u64>,
    last: VecDeque<String>,
    report: Report,
    made: u64,
}

impl World {
    pub(crate) fn new(seed: u64, bucket: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mem = if bucket {
            MemBlobs::bucket()
        } else {
            MemBlobs::new()
        };
        let (env, clock) = Env::simulated(Arc::new(mem.clone()), rng.u64(..));
        let store = FaultyBlobs::new(env.blobs, clock.clone(), FaultPlan::default());
        let mut world = Self {
            rng,
            mem,
            store,
            clock,
            kv: None,
            model: BTreeMap::from([("default".to_string(), Map::new(WINDOW, false))]),
            issued: 0,
            durable: 0,
            held: Vec::new(),
            checkpoints: Vec::new(),
            reader: None,
            fault_waits_for: None,
            last: VecDeque::new(),
            report: Report {
                trace: 0xcbf2_9ce4_8422_2325,
                commits: 0,
                reopens: 0,
                checks: 0,
                faults: 0,
            },
            made: 0,
        };
        world.kv = world.open().ok();
        world
    }

    pub(crate) fn report(&self) -> Report {
        self.report.clone()
    }

    pub(crate) fn last_operations(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }

    fn note(&mut self, what: String) {
        for byte in what.bytes() {
            self.report.trace = (self.report.trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(what);
    }

    fn open(&mut self) -> siltstone_kv::Result<Kv> {
        let (env, _) = Env::simulated(Arc::new(self.mem.clone()), self.rng.u64(..));
        self.store = FaultyBlobs::new(env.blobs.clone(), self.clock.clone(), FaultPlan::default());
        self.fault_waits_for = None;
        if self.rng.u8(..) < 20 {
            self.plan_fault(30);
        }
        let env = Env {
            blobs: Arc::new(self.store.clone()),
            clock: self.clock.clone(),
            ..env
        };
        let options = Options {
            background: Background::Manual,
            memory_budget: 8 << 20,
            memtable_bytes: 16 << 10,
            wal_bytes: 16 << 10,
            table_bytes: 16 << 10,
            level1_bytes: 32 << 10,
            max_wal_files: 4,
            ..Options::default()
        };
        let keyspace = KeyspaceOptions {
            history: History {
                window: WINDOW,
                divisor: DIVISOR,
                levels: LEVELS,
                ..History::default()
            },
            block_bytes: 512,
            ..KeyspaceOptions::default()
        };
        Kv::open(env, options, keyspace, None)
    }

    fn kv(&self) -> Result<&Kv, String> {
        self.kv
            .as_ref()
            .ok_or_else(|| "the database could not be opened".to_string())
    }

    /// Answers may be wrong in no way, but missing while a fault is about.
    fn faulty(&self) -> bool {
        self.fault_waits_for.is_some()
    }

    fn plan_fault(&mut self, within: u64) {
        let at = self.store.calls() + self.rng.u64(1..=within);
        let fault = match self.rng.u8(0..6) {
            0 | 1 => Injected::ErrorBefore,
            2 => Injected::ErrorAfter,
            3 => Injected::HalfWrite {
                bytes: self.rng.usize(0..200),
            },
            _ => Injected::Crash,
        };
        self.store.set_plan(FaultPlan::at(at, fault));
        self.fault_waits_for = Some(at);
    }

    /// One operation.
    pub(crate) fn step(&mut self) -> Checked {
        self.made += 1;
        self.recover()?;
        match self.rng.u32(0..10_000) {
            0..4_500 => self.write_one()?,
            4_500..5_500 => self.write_batch()?,
            5_500..7_600 => self.get()?,
            7_600..8_300 => self.get_at()?,
            8_300..8_900 => self.scan()?,
            8_900..9_100 => self.read_held()?,
            9_100..9_200 => self.take_snapshot()?,
            9_200..9_290 => self.drop_snapshot(),
            9_290..9_350 => self.flush()?,
            9_350..9_420 => self.compact()?,
            9_420..9_560 => self.work()?,
            9_560..9_600 => self.sync()?,
            9_600..9_640 => self.checkpoint()?,
            9_640..9_680 => self.keyspaces()?,
            9_680..9_700 => self.change_history()?,
            9_700..9_780 => self.read_as_reader()?,
            9_780..9_830 => self.move_clock(),
            9_830..9_850 => self.reopen(false)?,
            9_850..9_870 => self.reopen(true)?,
            9_870..9_920 => self.plan_fault(40),
            _ => self.check_all()?,
        }
        if self
            .fault_waits_for
            .is_some_and(|at| self.store.calls() >= at)
        {
            self.report.faults += 1;
            // The fault is over; what it stopped is reopened, with a fault of its own perhaps.
            self.fault_waits_for = None;
            self.recover()?;
        }
        Ok(())
    }

    /// After a crash, or when a fault stopped writes: opens again.
    fn recover(&mut self) -> Checked {
        if self.store.is_crashed() {
            return self.reopen(true);
        }
        if self.kv()?.is_stopped() {
            let crash = self.rng.bool();
            return self.reopen(crash);
        }
        Ok(())
    }

    fn reopen(&mut self, crash: bool) -> Checked {
        self.note(format!("reopen, crash {crash}"));
        self.report.reopens += 1;
        self.held.clear();
        let crash = crash || self.store.is_crashed();
        if crash {
            self.store.crash();
            self.reader = None;
            self.kv = None;
            let rng = &mut self.rng;
            self.mem = self.mem.after_crash(|most| rng.usize(0..=most));
        } else if let Some(kv) = self.kv.take() {
            let before = kv.head().0;
            if kv.close().is_ok() && !kv.is_stopped() {
                self.durable = self.durable.max(before);
            }
            if self.store.is_crashed() {
                return self.reopen(true);
            }
        }
        loop {
            match self.open() {
                Ok(kv) => {
                    self.kv = Some(kv);
                    break;
                }
                Err(_) if self.store.is_crashed() => {
                    self.report.faults += 1;
                    self.reader = None;
                    let rng = &mut self.rng;
                    self.mem = self.mem.after_crash(|most| rng.usize(0..=most));
                }
                // The error was planned: the next try is without it.
                Err(_)
                    if self
                        .fault_waits_for
                        .is_some_and(|at| self.store.calls() >= at) =>
                {
                    self.report.faults += 1;
                }
                Err(error) => return Err(format!("open: {error}")),
            }
        }
        let head = self.kv()?.head().0;
        if head < self.durable || head > self.issued {
            return Err(format!(
                "head {head} after reopening, {} durable, {} issued",
                self.durable, self.issued
            ));
        }
        self.issued = head;
        self.durable = head;
        for map in self.model.values_mut() {
            map.cut(head);
        }
        self.settle_names()?;
        self.check_all()
    }

    /// Keyspaces and checkpoints whose fate a fault left open are as the database says.
    fn settle_names(&mut self) -> Checked {
        let kv = self.kv()?.clone();
        let names = kv.keyspaces();
        self.model.retain(|name, _| names.contains(name));
        if let Some(unknown) = names.iter().find(|name| !self.model.contains_key(*name)) {
            return Err(format!("keyspace {unknown} came back"));
        }
        let live = kv.checkpoints();
        self.checkpoints = live.into_iter().map(|c| (c.name, c.commit.0)).collect();
        Ok(())
    }

    fn pick_keyspace(&mut self) -> Result<(Keyspace, String), String> {
        let names: Vec<_> = self.model.keys().cloned().collect();
        let name = match self.rng.u8(0..3) {
            0 => names[self.rng.usize(0..names.len())].clone(),
            _ => "default".to_string(),
        };
        let keyspace = self
            .kv()?
            .keyspace(&name)
            .map_err(|error| error.to_string())?;
        Ok((keyspace, name))
    }

    fn pick_key(&mut self) -> Key {
        match self.rng.bool() {
            true => self.rng.u16(0..KEYS),
            false => self.rng.u16(0..KEYS / 8),
        }
    }

    fn durability(&mut self) -> Durability {
        match self.rng.u8(0..3) {
            0 => Durability::Durable,
            _ => Durability::Buffered,
        }
    }

    fn write_one(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let (key, durability, put) = (self.pick_key(), self.durability(), self.rng.u8(0..4) > 0);
        self.note(format!("write {name} {key} put {put} {durability:?}"));
        let bytes = key_bytes(key);
        let done = match put {
            true => keyspace.put_with(&bytes, &value_bytes(key, self.issued + 1), durability),
            false => keyspace.delete_with(&bytes, durability),
        };
        self.written(done, durability, &[(name, key, put)])
    }

    fn write_batch(&mut self) -> Checked {
        let durability = self.durability();
        let mut batch = Batch::new();
        let mut rows = Vec::new();
        for _ in 0..self.rng.usize(1..12) {
            let (keyspace, name) = self.pick_keyspace()?;
            let (key, put) = (self.pick_key(), self.rng.u8(0..4) > 0);
            match put {
                true => batch.put(
                    &keyspace,
                    &key_bytes(key),
                    &value_bytes(key, self.issued + 1),
                ),
                false => batch.delete(&keyspace, &key_bytes(key)),
            };
            rows.push((name, key, put));
        }
        self.note(format!("batch of {} {durability:?}", rows.len()));
        let done = self.kv()?.write(&batch, durability);
        self.written(done, durability, &rows)
    }

    fn written(
        &mut self,
        done: siltstone_kv::Result<siltstone_kv::PutStats>,
        durability: Durability,
        rows: &[(String, Key, bool)],
    ) -> Checked {
        let next = self.issued + 1;
        match done {
            Ok(stats) if stats.commit.0 != next => {
                return Err(format!(
                    "commit {} was answered, {next} expected",
                    stats.commit
                ));
            }
            Ok(_) => {
                self.report.commits += 1;
                if durability == Durability::Durable {
                    self.durable = next;
                }
            }
            Err(error) if !self.faulty() => return Err(format!("write: {error}")),
            // Refused before it got a number.
            Err(_) if !self.kv()?.is_stopped() => return Ok(()),
            // It may be in the log; opening again will tell.
            Err(_) => {}
        }
        self.issued = next;
        for (name, key, put) in rows {
            if let Some(map) = self.model.get_mut(name) {
                map.write(*key, next, *put);
            }
        }
        Ok(())
    }

    fn head(&self) -> Result<u64, String> {
        Ok(self.kv()?.head().0)
    }

    fn get(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let key = self.pick_key();
        self.report.checks += 1;
        check::point(
            &keyspace,
            &self.model[&name],
            key,
            self.head()?,
            self.faulty(),
        )
    }

    fn get_at(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let head = self.head()?;
        // Far back there are levels.
        let back = [60, 60, 1_000][self.rng.usize(0..3)];
        let commit = head.saturating_sub(self.rng.u64(0..back));
        let key = self.pick_key();
        self.report.checks += 1;
        let map = &self.model[&name];
        match keyspace.at_commit(Commit(commit)) {
            Ok(snapshot) => {
                check::point(&snapshot, map, key, commit, self.faulty())?;
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
                if name == "default" && on_level(commit, head) {
                    return Err(format!("{name} at {commit} of {head}: refused on a level"));
                }
                if commit + map.window > head {
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
        name: &str,
        asked: u64,
        before: Option<Commit>,
        after: Option<Commit>,
    ) -> Checked {
        let key = self.pick_key();
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
            check::point(
                &snapshot,
                &self.model[name],
                key,
                neighbour.0,
                self.faulty(),
            )?;
        }
        Ok(())
    }

    fn scan(&mut self) -> Checked {
        let (keyspace, name) = self.pick_keyspace()?;
        let (a, b) = (self.rng.u16(0..=KEYS), self.rng.u16(0..=KEYS));
        let order = if self.rng.bool() {
            Order::Forward
        } else {
            Order::Reverse
        };
        let limit = self.rng.usize(1..60);
        let head = self.head()?;
        self.report.checks += 1;
        let range = (a.min(b), a.max(b));
        check::range(
            &keyspace,
            &self.model[&name],
            range,
            order,
            limit,
            head,
            self.faulty(),
        )
    }

    fn read_held(&mut self) -> Checked {
        for held in &self.held {
            let Some(map) = self.model.get(&held.keyspace) else {
                continue;
            };
            self.report.checks += 1;
            let order = if self.rng.bool() {
                Order::Forward
            } else {
                Order::Reverse
            };
            check::range(
                &held.snapshot,
                map,
                (0, KEYS),
                order,
                1_000,
                held.commit,
                self.faulty(),
            )
            .map_err(|what| format!("held {} {}: {what}", held.keyspace, held.commit))?;
        }
        Ok(())
    }

    fn take_snapshot(&mut self) -> Checked {
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

    fn drop_snapshot(&mut self) {
        if !self.held.is_empty() {
            let at = self.rng.usize(0..self.held.len());
            let held = self.held.swap_remove(at);
            self.note(format!(
                "drop the snapshot of {} at {}",
                held.keyspace, held.commit
            ));
        }
    }

    /// A planned fault may make anything fail, with an error.
    fn tolerate<T>(
        &self,
        what: &str,
        result: siltstone_kv::Result<T>,
    ) -> Result<Option<T>, String> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(_) if self.faulty() => Ok(None),
            Err(error) => Err(format!("{what}: {error}")),
        }
    }

    fn flush(&mut self) -> Checked {
        self.note("flush".into());
        let head = self.head()?;
        if self.tolerate("flush", self.kv()?.flush())?.is_some() {
            self.durable = self.durable.max(head);
        }
        Ok(())
    }

    fn sync(&mut self) -> Checked {
        self.note("sync".into());
        let head = self.head()?;
        if self.tolerate("sync", self.kv()?.sync())?.is_some() {
            self.durable = self.durable.max(head);
        }
        Ok(())
    }

    fn work(&mut self) -> Checked {
        self.note("work".into());
        match self.rng.u8(0..4) {
            0 => self.tolerate("settle", self.kv()?.settle()).map(|_| ()),
            _ => self.tolerate("work", self.kv()?.work()).map(|_| ()),
        }
    }

    fn compact(&mut self) -> Checked {
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

    fn checkpoint(&mut self) -> Checked {
        let name = format!("checkpoint {}", self.rng.u8(0..4));
        let kv = self.kv()?.clone();
        let head = self.head()?;
        if kv
            .checkpoints()
            .iter()
            .any(|checkpoint| checkpoint.name == name)
        {
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
            self.report.checks += 1;
            let map = &self.model["default"];
            check::range(
                &snapshot,
                map,
                (0, KEYS),
                Order::Forward,
                1_000,
                commit,
                self.faulty(),
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

    fn keyspaces(&mut self) -> Checked {
        let kv = self.kv()?.clone();
        if self.model.len() > 1 && self.rng.bool() {
            let names: Vec<_> = self
                .model
                .keys()
                .filter(|name| *name != "default")
                .cloned()
                .collect();
            let name = names[self.rng.usize(0..names.len())].clone();
            self.note(format!("drop {name}"));
            self.held.retain(|held| held.keyspace != name);
            self.tolerate("drop keyspace", kv.drop_keyspace(&name))?;
            if !kv.keyspaces().contains(&name) {
                self.model.remove(&name);
            }
        } else if self.model.len() < 4 {
            let name = format!("side{}", self.made);
            let options = KeyspaceOptions {
                history: self.random_history(),
                compression: [Compression::None, Compression::Lz4, Compression::Zstd]
                    [self.rng.usize(0..3)],
                filter_bits: [0, 10][self.rng.usize(0..2)],
                block_bytes: 512,
                ..KeyspaceOptions::default()
            };
            self.note(format!("create {name} {options:?}"));
            let history = options.history.clone();
            let map = Map::new(history.window, history.max_versions.is_some());
            self.model.insert(name.clone(), map);
            if self
                .tolerate("create keyspace", kv.create_keyspace(&name, options))?
                .is_none()
            {
                // It may exist when the database is opened again; until then it does not.
                if !kv.is_stopped() {
                    self.model.remove(&name);
                }
            }
        }
        Ok(())
    }

    fn change_history(&mut self) -> Checked {
        let (_, name) = self.pick_keyspace()?;
        if name == "default" {
            return Ok(());
        }
        let history = self.random_history();
        self.note(format!("history of {name}: {history:?}"));
        let options = KeyspaceOptions {
            history: history.clone(),
            block_bytes: 512,
            ..KeyspaceOptions::default()
        };
        // Told first: it may happen although the answer is an error.
        if let Some(map) = self.model.get_mut(&name) {
            map.window = map.window.min(history.window);
            map.limited |= history.max_versions.is_some();
        }
        let done = self.kv()?.set_keyspace(&name, options);
        self.tolerate("set keyspace", done).map(|_| ())
    }

    /// A reader over the same bytes; it meets no faults of its own.
    fn read_as_reader(&mut self) -> Checked {
        if self.reader.is_none() {
            let (env, _) = Env::simulated(Arc::new(self.mem.clone()), self.rng.u64(..));
            let env = Env {
                clock: self.clock.clone(),
                ..env
            };
            let options = Options {
                memory_budget: 8 << 20,
                memtable_bytes: 16 << 10,
                ..Options::default()
            };
            self.note("open a reader".into());
            self.reader =
                Some(Reader::open(env, options).map_err(|error| format!("reader: {error}"))?);
        }
        let Some(reader) = self.reader.clone() else {
            return Ok(());
        };
        if self.rng.bool() {
            self.note("refresh the reader".into());
            let head = reader
                .refresh()
                .map_err(|error| format!("refresh: {error}"))?;
            if head.0 < self.durable || head.0 > self.issued {
                return Err(format!(
                    "the reader is at {head}, {} durable, {} issued",
                    self.durable, self.issued
                ));
            }
        }
        let commit = reader.head().0;
        self.report.checks += 1;
        let order = if self.rng.bool() {
            Order::Forward
        } else {
            Order::Reverse
        };
        let keyspace = reader.default_keyspace();
        check::range(
            &keyspace,
            &self.model["default"],
            (0, KEYS),
            order,
            1_000,
            commit,
            false,
        )
        .or_else(|what| match what.contains("no such blob") {
            // Its lease lapsed while the clock jumped: it must refresh.
            true => reader
                .refresh()
                .map(|_| ())
                .map_err(|error| format!("refresh: {error}")),
            false => Err(format!("reader at {commit}: {what}")),
        })
    }

    fn move_clock(&mut self) {
        let micros = siltstone_storage::Clock::now(&*self.clock).0;
        match self.rng.u8(0..4) {
            0 => {
                let back = self.rng.u64(0..100_000_000);
                self.note(format!("the clock steps back by {back} us"));
                self.clock.set_wall(Timestamp(micros - back));
            }
            _ => {
                let ahead = self.rng.u64(0..60_000_000);
                self.note(format!("{ahead} us pass"));
                self.clock.advance(Duration::from_micros(ahead));
            }
        }
    }

    fn check_all(&mut self) -> Checked {
        let head = self.head()?;
        let kv = self.kv()?.clone();
        for (name, map) in &self.model {
            let Ok(keyspace) = kv.keyspace(name) else {
                continue;
            };
            for order in [Order::Forward, Order::Reverse] {
                self.report.checks += 1;
                check::range(&keyspace, map, (0, KEYS), order, 1_000, head, self.faulty())
                    .map_err(|what| format!("{name}: {what}"))?;
            }
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
