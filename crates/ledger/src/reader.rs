//! A ledger open for reading while somebody else, mostly another process, has it open for writing. It
//! follows its writer, at most [`Options::reader_staleness`] behind; what it reads is pinned, so that
//! neither compaction nor sweeping deletes it; it writes nothing but that pin.

use crate::changes::Clock;
use crate::core::{Core, View};
use crate::error::Result;
use crate::ledger::Ledger;
use crate::names::check_name;
use crate::options::Options;
use crate::store::{Found, ScopedBlobs, Store, outrun};
use siltstone_storage::{Env, LocalBlobs};
use std::path::Path;
use std::sync::Arc;

/// How often a reader begins anew because the writer compacted meanwhile.
const ATTEMPTS: u32 = 10;

impl Ledger {
    /// Opens ledger `name` in a folder of its own for reading, whoever has it open: see
    /// [`Ledger::open_reader`].
    ///
    /// # Errors
    /// As [`Ledger::open_reader`].
    pub fn open_folder_reader(
        database: impl AsRef<Path>,
        name: &str,
        options: Options,
    ) -> Result<Self> {
        let blobs = LocalBlobs::existing(database.as_ref())?;
        Self::open_reader(Env::system(Arc::new(blobs)), name, options)
    }

    /// Opens ledger `name` within the blobs of a database for reading, whoever has it open. Every call
    /// that reads looks for what is new when what it sees is older than
    /// [`Options::reader_staleness`]; [`Ledger::refresh`] does at once. Calls that write fail with
    /// [`ReadOnly`](crate::Error::ReadOnly), [`Ledger::checkpoint`] too. Indexes are brought forward in
    /// memory. Archives that are in a remote only are not fetched: [`Away`](crate::Error::Away).
    ///
    /// # Errors
    /// The store's: not found when there is no such ledger, damage, permission to write a pin.
    pub fn open_reader(mut env: Env, name: &str, options: Options) -> Result<Self> {
        check_name(name)?;
        env.blobs = Arc::new(ScopedBlobs::new(env.blobs, &format!("ledger/{name}")));
        let store = Store::open_reader(env, options)?;
        let author = store.options.author.clone().unwrap_or_default();
        let core = Core::new(store, author, View::default());
        core.refresh()?;
        Ok(Self::of(core, None, Default::default()))
    }

    /// True when it is open for reading only.
    pub fn is_reader(&self) -> bool {
        self.core().store.follower.is_some()
    }

    /// Moves a reader to the newest state of its ledger. Answers the clock. A ledger that is open for
    /// writing is always there.
    ///
    /// # Errors
    /// The store's: not found when the ledger was dropped, damage; [`Stale`](crate::Error::Stale) when
    /// the writer compacts faster than can be followed.
    pub fn refresh(&self) -> Result<Clock> {
        self.core().refresh()?;
        Ok(Clock(self.core().view().heads.clone()))
    }
}

impl Core {
    /// Looks for what is new, if this is a reader and has not done so for a while.
    pub(crate) fn keep_up(&self) -> Result<()> {
        match &self.store.follower {
            Some(follower) if follower.is_stale() => self.refresh(),
            _ => Ok(()),
        }
    }

    /// Moves a reader to the newest state.
    pub(crate) fn refresh(&self) -> Result<()> {
        let Some(follower) = &self.store.follower else {
            return Ok(());
        };
        let _one_at_a_time = follower.refreshing.lock();
        let mut found = self.store.newest_state(follower)?;
        for _ in 0..ATTEMPTS {
            let version = found.state.cars.version();
            if follower.is_held() {
                let oldest = self.store.log.lock().pins.oldest();
                if follower.hold(oldest.unwrap_or(version).min(version))? {
                    return self.show(found);
                }
            } else {
                follower.hold(version)?;
            }
            // Nothing held between the state and the pin: only if nothing was replaced until now, whoever
            // replaces something lists the pins afterwards.
            let swaps = found.state.counters.compactions;
            found = self.store.newest_state(follower)?;
            if found.state.counters.compactions == swaps && follower.is_held() {
                return self.show(found);
            }
        }
        Err(outrun())
    }

    fn show(&self, found: Found) -> Result<()> {
        let Some(follower) = &self.store.follower else {
            return Ok(());
        };
        self.store.list_cars(&found)?;
        let heads = found.state.heads.clone();
        let view = View::of(&self.store, heads);
        let view = Arc::new(view);
        self.store
            .move_to(follower, found, || *self.view.write() = view);
        Ok(())
    }

    /// How often what snapshots hold was let go of.
    pub(crate) fn lapses(&self) -> u64 {
        let follower = self.store.follower.as_ref();
        follower.map_or(0, |follower| follower.lapses())
    }
}
