//! The life of the database: opening, planned faults, crashes and what comes after them.

use crate::check::Checked;
use crate::world::{DIVISOR, LEVELS, WINDOW, World};
use siltstone_kv::{Background, Durability, Error, History, KeyspaceOptions, Kv, Options};
use siltstone_storage::{Env, Error as StorageError, FaultPlan, FaultyBlobs, FolderLock, Injected};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// A planned fault that is not over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// The number of the call after which it is.
    pub(crate) until: u64,
    /// The disk is full; nothing else goes wrong.
    full: bool,
}

/// How the simulated databases are opened: so small that every limit is met.
pub(crate) fn options() -> Options {
    Options {
        background: Background::Manual,
        memory_budget: 8 << 20,
        memtable_bytes: 16 << 10,
        wal_bytes: 16 << 10,
        table_bytes: 16 << 10,
        level1_bytes: 32 << 10,
        max_wal_files: 4,
        transaction_idle: Duration::from_secs(20),
        ..Options::default()
    }
}

impl World {
    /// Opens over a store of its own; `faults`: with one planned, now and then.
    pub(crate) fn open(&mut self, faults: bool) -> siltstone_kv::Result<Kv> {
        let (env, _) = Env::simulated(Arc::new(self.mem.clone()), self.rng.u64(..));
        self.plan = match self.rng.u8(0..3) {
            0 => FaultPlan {
                seed: self.rng.u64(..),
                delay: 15,
                delay_max: Duration::from_millis(50),
                ..FaultPlan::default()
            },
            _ => FaultPlan::default(),
        };
        self.store = FaultyBlobs::new(env.blobs.clone(), self.clock.clone(), self.plan.clone());
        self.fault = None;
        if faults && self.rng.u8(..) < 20 {
            self.plan_fault(30);
        }
        let env = Env {
            blobs: Arc::new(self.store.clone()),
            clock: self.clock.clone(),
            ..env
        };
        let keyspace = KeyspaceOptions {
            history: History {
                window: WINDOW,
                divisor: DIVISOR,
                levels: LEVELS,
                ..History::default()
            },
            merge_operator: Some("append".into()),
            block_bytes: 512,
            ..KeyspaceOptions::default()
        };
        // A writer with the lock raises its epoch later: not in open, but before it writes.
        let lock = match &self.folder {
            Some(folder) if self.rng.bool() => Some(FolderLock::take(folder.path())?),
            _ => None,
        };
        Kv::open(env, options(), keyspace, lock)
    }

    pub(crate) fn plan_fault(&mut self, within: u64) {
        let at = self.store.calls() + self.rng.u64(1..=within);
        let mut plan = self.plan.clone();
        let fault = match self.rng.u8(0..7) {
            0 | 1 => Injected::ErrorBefore,
            2 => Injected::ErrorAfter,
            3 => Injected::HalfWrite {
                bytes: self.rng.usize(0..200),
            },
            4 => Injected::NoSpace,
            _ => Injected::Crash,
        };
        let full = fault == Injected::NoSpace;
        let mut until = at;
        if full {
            until = at + self.rng.u64(1..40);
            plan.full = at..until;
        } else {
            plan.at.insert(at, fault);
        }
        self.note(format!("fault {fault:?} at call {at}"));
        self.store.set_plan(plan);
        self.fault = Some(Fault { until, full });
    }

    /// An error is one that the planned fault explains, and a full disk is called by its name.
    pub(crate) fn fits_the_fault(&self, what: &str, error: &Error) -> Checked {
        match self.fault {
            None => Err(format!("{what}: {error}")),
            Some(Fault { full: true, .. }) if !is_no_space(error) => {
                Err(format!("{what}, while the disk is full: {error}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// A planned fault may make anything fail, with an error.
    pub(crate) fn tolerate<T>(
        &self,
        what: &str,
        result: siltstone_kv::Result<T>,
    ) -> Result<Option<T>, String> {
        match result {
            Ok(done) => Ok(Some(done)),
            Err(error) => self.fits_the_fault(what, &error).map(|()| None),
        }
    }

    /// After a crash, or when a fault stopped writes: opens again.
    pub(crate) fn recover(&mut self) -> Checked {
        if self.store.is_crashed() {
            return self.reopen(true);
        }
        if self.kv()?.is_stopped() {
            let crash = self.rng.bool();
            return self.reopen(crash);
        }
        Ok(())
    }

    pub(crate) fn reopen(&mut self, crash: bool) -> Checked {
        self.note(format!("reopen, crash {crash}"));
        self.report.reopens += 1;
        self.let_go();
        let crash = crash || self.store.is_crashed();
        if crash {
            self.store.crash();
            self.kv = None;
            self.lose_what_was_not_synced();
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
            match self.open(true) {
                Ok(kv) => {
                    self.kv = Some(kv);
                    break;
                }
                Err(_) if self.store.is_crashed() => {
                    self.report.faults += 1;
                    self.lose_what_was_not_synced();
                }
                // The error was planned: the next try is without it.
                Err(error) if self.faulty() => {
                    self.fits_the_fault("open", &error)?;
                    self.report.faults += 1;
                }
                Err(error) => return Err(format!("open: {error}")),
            }
        }
        self.begin_life()
    }

    /// What the process that ends had open.
    fn let_go(&mut self) {
        self.held.clear();
        self.transactions.clear();
        for feed in &mut self.feeds {
            feed.let_go(false);
        }
    }

    fn lose_what_was_not_synced(&mut self) {
        // Readers and workers stand on the store as it was.
        self.reader = None;
        self.helper = None;
        for feed in &mut self.feeds {
            feed.let_go(true);
        }
        let rng = &mut self.rng;
        self.mem = self.mem.after_crash(|most| rng.usize(0..=most));
    }

    /// Compares what came back with what must have.
    fn begin_life(&mut self) -> Checked {
        let head = self.head()?;
        if head < self.durable || head > self.issued {
            return Err(format!(
                "head {head} after reopening, {} durable, {} issued",
                self.durable, self.issued
            ));
        }
        self.issued = head;
        self.durable = head;
        self.records.cut(head);
        for map in self.model.values_mut() {
            map.cut(head);
        }
        // Keyspaces whose fate a fault left open are as the database says.
        let names = self.kv()?.keyspaces();
        self.model
            .retain(|name, _| names.iter().any(|known| **known == **name));
        let known = |name: &&String| self.model.contains_key(name.as_str());
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            return Err(format!("keyspace {unknown} came back"));
        }
        self.check_all()
    }

    /// Another writer opens while this one is at work: this one is fenced at its next write, and
    /// nothing that it acknowledged is lost. Only a bucket lets that happen.
    pub(crate) fn take_over(&mut self) -> Checked {
        if !self.bucket || self.faulty() {
            return Ok(());
        }
        self.note("another writer takes over".into());
        self.report.takeovers += 1;
        self.let_go();
        let old = self.kv.take();
        let old_store = self.store.clone();
        let opened = self.open(false);
        self.kv = Some(opened.map_err(|error| format!("take over: {error}"))?);
        self.begin_life()?;
        let Some(old) = old else {
            return Ok(());
        };
        let head = self.head()?;
        let keyspace = old.default_keyspace();
        for _ in 0..self.rng.usize(0..3) {
            // It does not know yet; nothing is promised.
            drop(keyspace.put_with(b"late", b"buffered", Durability::Buffered));
        }
        match self.rng.u8(0..3) {
            0 => drop(old.flush()),
            1 => drop(old.work()),
            _ => {}
        }
        if keyspace.put(b"late", b"durable").is_ok() {
            return Err("a writer that was replaced had a write acknowledged".into());
        }
        if old.sync().is_ok() || old.checkpoint("late", None).is_ok() {
            return Err("a writer that was replaced goes on".into());
        }
        drop(old.close());
        old_store.crash();
        if self.head()? != head {
            return Err("a writer that was replaced moved the head".into());
        }
        self.check_all()
    }
}

/// True when the cause is a full disk.
fn is_no_space(error: &Error) -> bool {
    match error {
        Error::Storage(StorageError::Io { kind, .. }) => *kind == ErrorKind::StorageFull,
        Error::Stopped { cause } => is_no_space(cause),
        _ => false,
    }
}
