//! A store that is open for reading beside its writer, which may be another process: it follows the
//! writer's manifest and journal, and holds what it reads by a pin that the writer respects.
//!
//! The pin (`pins/<id>.pin`) names a version of the log of CARs: whatever is live at it or later stays.
//! Writer and reader meet like this. The writer makes a swap durable, then lists the pins, then deletes
//! what was replaced. A reader writes its pin, then reads the state again: if nothing was swapped
//! in between, every later swap is listed after the pin; if not, it begins anew. A pin that is moved
//! on, while the one before still holds, needs no second look: what is live now was live since. Pins
//! have a lease, so that a reader that died holds nothing for long.

use super::cache::BlockCache;
use super::car_ref::{CarId, CarMeta, Location};
use super::cars::Cars;
use super::core::{Log, Store};
use super::journal::Journal;
use super::open::{apply_journal, fetched};
use super::read_only::ReadOnlyBlobs;
use super::state::State;
use crate::error::{Error, Result};
use crate::options::{Background, Options};
use parking_lot::Mutex;
use siltstone_storage::{Env, ManifestStore, Pins, ReaderPins, Role, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often a replay begins anew when files go while they are read.
const REPLAY_ATTEMPTS: u32 = 6;

/// How a reader keeps up with its writer.
#[derive(Debug)]
pub(crate) struct Follower {
    /// With the blobs that pins are written to.
    env: Env,
    lease: Duration,
    staleness: Duration,
    pin: ReaderPins,
    kept: Mutex<Kept>,
    /// One thread refreshes at a time.
    pub(crate) refreshing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The version of the log that is pinned.
    version: u64,
    /// When the pin was last written, by the clock that never goes back; `None` before the first time.
    renewed: Option<Duration>,
    /// When it lapses, by the clock that all share, which also goes on while a machine sleeps.
    until: Timestamp,
    /// When what is shown was read.
    seen: Option<Duration>,
    /// The manifest that it was read from.
    manifest: u64,
    /// How often the pin lapsed.
    lapses: u64,
}

/// The state of a ledger as its files say it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) state: State,
    manifest: u64,
    journals: BTreeSet<u64>,
    seen: Duration,
}

impl Follower {
    fn new(env: Env, options: &Options) -> Self {
        Self {
            pin: ReaderPins::new(env.clone(), options.reader_lease),
            env,
            lease: options.reader_lease,
            staleness: options.reader_staleness,
            kept: Mutex::default(),
            refreshing: Mutex::default(),
        }
    }

    /// True when what is shown is older than it may be, or is not held any more.
    pub(crate) fn is_stale(&self) -> bool {
        let now = self.env.clock.elapsed();
        let kept = self.kept.lock();
        let old = kept.seen.is_none_or(|seen| now >= seen + self.staleness);
        old || !self.holds(&kept, now)
    }

    fn holds(&self, kept: &Kept, now: Duration) -> bool {
        let by_all = self.env.clock.now() < kept.until;
        by_all && kept.renewed.is_some_and(|at| now < at + self.lease)
    }

    fn is_due(&self, kept: &Kept, now: Duration) -> bool {
        let third = self.lease / 3;
        let by_all = kept.until.since(self.env.clock.now()) <= self.lease - third;
        by_all || kept.renewed.is_none_or(|at| now >= at + third)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holds(&self.kept.lock(), self.env.clock.elapsed())
    }

    /// How often the pin lapsed: what was held before the last time may be gone.
    pub(crate) fn lapses(&self) -> u64 {
        self.kept.lock().lapses
    }

    /// Pins a version of the log. True when the pin before held until this one did.
    pub(crate) fn hold(&self, version: u64) -> Result<bool> {
        let mut kept = self.kept.lock();
        let now = self.env.clock.elapsed();
        match kept.version == version && self.holds(&kept, now) && !self.is_due(&kept, now) {
            true => Ok(true),
            false => self.write_pin(&mut kept, version),
        }
    }

    fn write_pin(&self, kept: &mut Kept, version: u64) -> Result<bool> {
        let began = self.env.clock.elapsed();
        let until = self.env.clock.now().after(self.lease);
        self.pin.hold(version)?;
        let without_gap = self.holds(kept, self.env.clock.elapsed());
        if !without_gap && kept.renewed.is_some() {
            kept.lapses += 1;
        }
        kept.version = version;
        kept.renewed = Some(began);
        kept.until = until;
        Ok(without_gap)
    }

    /// Renews the pin when it is time to: before anything is read.
    ///
    /// # Errors
    /// [`Error::Stale`] when it lapsed: what was held may be gone.
    pub(super) fn renew(&self) -> Result<()> {
        let now = self.env.clock.elapsed();
        let mut kept = self.kept.lock();
        // While it is being opened it holds nothing yet.
        if kept.renewed.is_none() || !self.is_due(&kept, now) {
            return Ok(());
        }
        let version = kept.version;
        match self.holds(&kept, now) && self.write_pin(&mut kept, version)? {
            true => Ok(()),
            false => Err(lapsed(self.lease)),
        }
    }

    pub(crate) fn release(&self) {
        let mut kept = self.kept.lock();
        if kept.renewed.take().is_some()
            && let Err(error) = self.pin.release()
        {
            tracing::debug!(%error, "a reader's pin will lapse with its lease");
        }
    }
}

/// What a reader is told whose writer is too quick.
pub(crate) fn outrun() -> Error {
    Error::Stale {
        what: "the reader could not keep up with its writer".into(),
    }
}

/// What a reader is told that stood still.
pub(crate) fn lapsed(lease: Duration) -> Error {
    Error::Stale {
        what: format!(
            "the reader stood still for longer than its lease ({} s), and what it held may be gone",
            lease.as_secs()
        ),
    }
}

impl Store {
    /// Opens the ledger in `env.blobs` for reading. Nothing is shown yet.
    ///
    /// # Errors
    /// The store's: not found when there is no ledger.
    pub(crate) fn open_reader(env: Env, options: Options) -> Result<Arc<Self>> {
        let options = Options {
            background: Background::Off,
            ..options
        };
        let follower = Arc::new(Follower::new(env.clone(), &options));
        let env = Env {
            blobs: Arc::new(ReadOnlyBlobs::new(env.blobs)),
            ..env
        };
        let manifest = ManifestStore::open(env.clone(), Role::Reader, State::default)?;
        let cars = Cars::new(env.blobs.clone(), options.keys.clone());
        cars.set_follower(follower.clone());
        Ok(Arc::new(Self {
            cache: BlockCache::new(options.cache_bytes),
            log: Mutex::new(Log {
                state: State::default(),
                pins: Pins::default(),
                forgotten: BTreeSet::new(),
                edits: 0,
                journals: BTreeSet::new(),
            }),
            journal: Mutex::new(Journal::new(env.clone(), 0, u64::MAX, 0)),
            cars,
            env,
            options,
            manifest,
            stopped: Mutex::default(),
            collecting: Mutex::default(),
            checkpointing: Mutex::default(),
            folder_lock: Mutex::default(),
            pruned: Mutex::default(),
            follower: Some(follower),
        }))
    }

    /// The newest state there is: by the manifest and all of the journal, or by what the journal has
    /// beyond what is shown.
    pub(crate) fn newest_state(&self, follower: &Follower) -> Result<Found> {
        let mut anew = false;
        for attempt in 1.. {
            let seen = follower.env.clock.elapsed();
            let newest = self.manifest.refresh()?;
            let known = follower.kept.lock().manifest;
            let base = match known == newest.number && !anew {
                true => self.log.lock().state.clone(),
                false => newest.state.clone(),
            };
            // A journal that grows or goes while it is read may look damaged.
            match apply_journal(&self.env, base) {
                // Nothing new may also mean that the journal went with a newer manifest.
                Ok(replayed)
                    if replayed.edits == 0 && self.manifest.refresh()?.number != newest.number =>
                {
                    if attempt == REPLAY_ATTEMPTS {
                        return Err(outrun());
                    }
                }
                Ok(replayed) => {
                    let mut state = replayed.state;
                    // What looks torn is what the writer is writing right now.
                    state
                        .cuts
                        .retain(|number, _| newest.state.cuts.contains_key(number));
                    return Ok(Found {
                        state,
                        manifest: newest.number,
                        journals: replayed.files,
                        seen,
                    });
                }
                Err(error) if attempt == REPLAY_ATTEMPTS => return Err(error),
                Err(_) => anew = true,
            }
        }
        unreachable!("the last attempt answers")
    }

    /// Blocks are read from the CARs of this state too, from now on.
    pub(crate) fn list_cars(&self, found: &Found) -> Result<()> {
        let fetched = fetched(&self.env, &found.state)?;
        for segment in found.state.cars.live() {
            let location = match fetched.contains(&segment.id) {
                true => Location::File,
                false => segment.meta.location,
            };
            let meta = CarMeta {
                location,
                ..segment.meta
            };
            match self.cars.get(&segment.id) {
                None => self.cars.add(segment.id, meta),
                Some(known) if known.meta.location != location => {
                    self.cars.renew(segment.id, meta);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Moves on to a state whose CARs are listed; `publish` runs at the same moment.
    pub(crate) fn move_to(&self, follower: &Follower, found: Found, publish: impl FnOnce()) {
        let gone: Vec<CarId> = {
            let mut log = self.log.lock();
            log.state = found.state;
            log.journals = found.journals;
            publish();
            let free: BTreeSet<CarId> = log.state.cars.retirable(&log.pins).into_iter().collect();
            let needed: BTreeSet<CarId> = log.state.cars.live().iter().map(|car| car.id).collect();
            let held = |id: &CarId| log.state.retired.contains_key(id) && !free.contains(id);
            let known = self.cars.ids().into_iter();
            known
                .filter(|id| !needed.contains(id) && !held(id))
                .collect()
        };
        if !gone.is_empty() {
            self.cars.remove(&gone);
        }
        let mut kept = follower.kept.lock();
        kept.manifest = found.manifest;
        kept.seen = Some(found.seen);
    }

    /// The pins of readers elsewhere: the oldest version that one of them holds.
    pub(crate) fn oldest_reader(&self) -> Result<Option<u64>> {
        let pins = ReaderPins::list(&self.env)?;
        Ok(pins.iter().map(|pin| pin.manifest).min())
    }
}
