//! One database, its store, its clock, everything that is held open on it, and the model: makes one
//! operation a step. The operations themselves are in the modules beside this one.

use crate::Report;
use crate::check::{Allowed, Checked};
use crate::commit::{Commit, Name};
use crate::feeds::Feed;
use crate::life::Fault;
use crate::model::{Map, Times};
use crate::records::Records;
use crate::transactions::Open;
use crate::values::{KEYS, Key};
use crate::workers::Helper;
use fastrand::Rng;
use siltstone_kv::{Durability, Keyspace, Kv, Order, PutStats, Reader, Snapshot};
use siltstone_storage::{Clock, Env, FaultPlan, FaultyBlobs, ManualClock, MemBlobs, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The history policy of the default keyspace.
pub(crate) const WINDOW: u64 = 30;
pub(crate) const DIVISOR: u64 = 4;
pub(crate) const LEVELS: u32 = 3;
/// Operations that are shown when something differs.
const SHOWN: usize = 40;
/// No read takes longer, with all the delays of the store.
const SLACK_US: u64 = 10_000_000;

/// A snapshot with where it stands.
pub(crate) struct Held {
    pub(crate) snapshot: Snapshot,
    pub(crate) keyspace: Name,
    pub(crate) commit: u64,
}

/// Everything.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) bucket: bool,
    /// Holds the lock file, which is a real one. Only a folder has one.
    pub(crate) folder: Option<TempDir>,
    pub(crate) mem: MemBlobs,
    pub(crate) store: FaultyBlobs,
    pub(crate) clock: Arc<ManualClock>,
    /// `None` only while it is being reopened.
    pub(crate) kv: Option<Kv>,
    pub(crate) model: BTreeMap<Name, Map>,
    pub(crate) records: Records,
    /// The newest commit that was issued, and the newest known to be durable.
    pub(crate) issued: u64,
    pub(crate) durable: u64,
    pub(crate) held: Vec<Held>,
    pub(crate) transactions: Vec<Open>,
    pub(crate) reader: Option<Reader>,
    pub(crate) helper: Option<Helper>,
    /// When it was refreshed last.
    pub(crate) reader_seen: Duration,
    pub(crate) feeds: Vec<Feed>,
    /// Bytes of log that are kept for feeds that come back.
    pub(crate) kept_log: u64,
    pub(crate) fault: Option<Fault>,
    /// What goes wrong besides: delays.
    pub(crate) plan: FaultPlan,
    /// The furthest that the wall clock has ever been.
    latest: Timestamp,
    /// When the wall clock was set last.
    pub(crate) clock_set: Option<Duration>,
    pub(crate) nonces: u64,
    last: VecDeque<String>,
    pub(crate) report: Report,
    pub(crate) made: u64,
}

impl World {
    pub(crate) fn new(seed: u64, bucket: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mem = match bucket {
            true => MemBlobs::bucket(),
            false => MemBlobs::new(),
        };
        let (env, clock) = Env::simulated(Arc::new(mem.clone()), rng.u64(..));
        let store = FaultyBlobs::new(env.blobs, clock.clone(), FaultPlan::default());
        let default = Map::new(WINDOW, false, true);
        let mut world = Self {
            latest: clock.now(),
            rng,
            bucket,
            folder: (!bucket).then(|| tempfile::tempdir().expect("a temporary folder")),
            mem,
            store,
            clock,
            kv: None,
            model: BTreeMap::from([("default".into(), default)]),
            records: Records::new(),
            issued: 0,
            durable: 0,
            held: Vec::new(),
            transactions: Vec::new(),
            reader: None,
            helper: None,
            reader_seen: Duration::ZERO,
            feeds: vec![Feed::new(false), Feed::new(true)],
            kept_log: 0,
            fault: None,
            plan: FaultPlan::default(),
            clock_set: None,
            nonces: 0,
            last: VecDeque::new(),
            report: Report::default(),
            made: 0,
        };
        world.kv = world.open(false).ok();
        if world.rng.bool()
            && world
                .kv
                .as_ref()
                .is_some_and(|kv| kv.keep_log(KEPT_LOG).is_ok())
        {
            world.kept_log = KEPT_LOG;
        }
        world
    }

    pub(crate) fn report(&self) -> Report {
        self.report.clone()
    }

    pub(crate) fn last_operations(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }

    pub(crate) fn note(&mut self, what: String) {
        for byte in what.bytes() {
            self.report.trace = (self.report.trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(what);
    }

    pub(crate) fn kv(&self) -> Result<&Kv, String> {
        self.kv
            .as_ref()
            .ok_or_else(|| "the database could not be opened".to_string())
    }

    /// One operation.
    pub(crate) fn step(&mut self) -> Checked {
        self.made += 1;
        self.recover()?;
        match self.rng.u32(0..10_000) {
            0..3_400 => self.write_one()?,
            3_400..4_000 => self.write_batch()?,
            4_000..4_200 => self.write_if()?,
            4_200..6_200 => self.in_transaction()?,
            6_200..7_700 => self.get()?,
            7_700..8_200 => self.get_at()?,
            8_200..8_600 => self.scan()?,
            8_600..8_650 => self.scan_at()?,
            8_650..8_750 => self.read_held()?,
            8_750..8_850 => self.take_snapshot()?,
            8_850..8_940 => self.drop_snapshot(),
            8_940..9_000 => self.flush()?,
            9_000..9_070 => self.compact()?,
            9_070..9_210 => self.work()?,
            9_210..9_250 => self.sync()?,
            9_250..9_290 => self.checkpoint()?,
            9_290..9_330 => self.keyspaces()?,
            9_330..9_350 => self.change_history()?,
            9_350..9_420 => self.read_as_reader()?,
            9_420..9_540 => self.follow()?,
            9_540..9_590 => self.move_clock(),
            9_590..9_610 => self.reopen(false)?,
            9_610..9_630 => self.reopen(true)?,
            9_630..9_640 => self.take_over()?,
            9_640..9_690 => self.plan_fault(40),
            9_690..9_720 => self.check_all()?,
            9_720..9_900 => self.work_elsewhere()?,
            _ => self.get()?,
        }
        if let Some(fault) = self.fault
            && self.store.calls() >= fault.until
        {
            self.report.faults += 1;
            // The fault is over; what it stopped is reopened, with a fault of its own perhaps.
            self.fault = None;
            self.recover()?;
        }
        Ok(())
    }

    /// Answers may be wrong in no way, but missing while a fault is about.
    pub(crate) fn faulty(&self) -> bool {
        self.fault.is_some()
    }

    pub(crate) fn allowed(&self, map: &Map) -> Allowed {
        Allowed {
            truncated: map.limited,
            faults: self.faulty(),
        }
    }

    pub(crate) fn head(&self) -> Result<u64, String> {
        Ok(self.kv()?.head().0)
    }

    pub(crate) fn times(&mut self) -> Times {
        let now = self.clock.now();
        self.latest = self.latest.max(now);
        Times {
            now,
            latest: Timestamp(self.latest.0 + SLACK_US),
        }
    }

    pub(crate) fn pick_keyspace(&mut self) -> Result<(Keyspace, Name), String> {
        let name = match self.rng.u8(0..3) {
            0 => {
                let at = self.rng.usize(0..self.model.len());
                self.model.keys().nth(at).cloned().unwrap_or_default()
            }
            _ => "default".into(),
        };
        let keyspace = self.kv()?.keyspace(&name);
        Ok((keyspace.map_err(|error| error.to_string())?, name))
    }

    pub(crate) fn pick_key(&mut self) -> Key {
        match self.rng.bool() {
            true => self.rng.u16(0..KEYS),
            false => self.rng.u16(0..KEYS / 8),
        }
    }

    /// A range, seldom a wide one.
    pub(crate) fn pick_range(&mut self) -> (Key, Key) {
        let from = self.rng.u16(0..KEYS);
        let most = match self.rng.u8(0..6) {
            0 => KEYS,
            _ => 8,
        };
        (from, (from + self.rng.u16(1..=most)).min(KEYS))
    }

    pub(crate) fn pick_order(&mut self) -> Order {
        match self.rng.bool() {
            true => Order::Forward,
            false => Order::Reverse,
        }
    }

    pub(crate) fn durability(&mut self) -> Durability {
        match self.rng.u8(0..3) {
            0 => Durability::Durable,
            _ => Durability::Buffered,
        }
    }

    /// Tells the model what a write came to.
    pub(crate) fn written(
        &mut self,
        done: siltstone_kv::Result<PutStats>,
        durability: Durability,
        commit: Commit,
    ) -> Checked {
        let next = self.issued + 1;
        match done {
            Ok(stats) if stats.commit.0 != next => {
                return Err(format!("commit {} answered, {next} expected", stats.commit));
            }
            Ok(_) => {
                self.report.commits += 1;
                if durability == Durability::Durable {
                    self.durable = next;
                }
            }
            Err(error) => {
                self.fits_the_fault("write", &error)?;
                // Refused before it got a number; else it may be in the log, and opening again
                // will tell.
                if !self.kv()?.is_stopped() {
                    return Ok(());
                }
            }
        }
        self.issued = next;
        for (name, from, to) in &commit.ranges {
            if let Some(map) = self.model.get_mut(name) {
                map.delete_range(*from, *to, next);
            }
        }
        for ((name, key), entry) in &commit.entries {
            if let Some(map) = self.model.get_mut(name) {
                map.write(*key, next, entry.clone());
            }
        }
        self.records.push(commit);
        Ok(())
    }
}

/// Bytes of log kept for feeds, in runs that keep some.
const KEPT_LOG: u64 = 100_000;
