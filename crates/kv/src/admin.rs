//! Everything about a database that is neither a write nor a read: keyspaces, checkpoints, numbers.

use crate::core::Core;
use crate::db::Kv;
use crate::error::{Error, Result};
use crate::hidden::Hidden;
use crate::keyspace::Keyspace;
use crate::memtable::Memtable;
use crate::open::new_core;
use crate::options::KeyspaceOptions;
use crate::read::operator_of;
use crate::state::{Checkpoint, DEFAULT_KEYSPACE, DbState, KeyspaceState};
use crate::stats::{KeyspaceStats, LevelStats, Stats};
use crate::types::{Commit, KeyspaceId};
use crate::view::{KeyspaceCore, View};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest name of a keyspace or a checkpoint, in bytes.
const MAX_NAME: usize = 255;

impl Kv {
    /// The names of all keyspaces.
    pub fn keyspaces(&self) -> Vec<String> {
        self.core()
            .keyspaces
            .read()
            .values()
            .map(|core| core.name.clone())
            .collect()
    }

    /// Creates a keyspace.
    ///
    /// # Errors
    /// [`Error::KeyspaceName`] when the name is taken, empty or too long, [`Error::Setting`].
    pub fn create_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let engine = self.core();
        engine.shared.check_writable()?;
        options.check()?;
        engine.check_operator(name, &options)?;
        let bad = |what| Error::KeyspaceName {
            name: name.to_string(),
            what,
        };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(bad("a name has 1 to 255 bytes"));
        }
        let mut created = None;
        engine.edit(|state| {
            if state.keyspaces.iter().any(|k| k.name == name) {
                return Err(bad("it exists already"));
            }
            let id = KeyspaceId(state.next_keyspace);
            let keyspace = KeyspaceState::new(id, name, options.clone());
            state.next_keyspace += 1;
            state.keyspaces.push(keyspace.clone());
            created = Some(keyspace);
            Ok(())
        })?;
        let keyspace = created.expect("the edit was applied");
        let (_, pin) = engine.pin_current();
        let log = engine.log.lock();
        let limit = engine.shared.options.memtable_limit();
        let memtable = Arc::new(Memtable::new(limit, log.number()));
        let memtables = (memtable, Vec::new());
        let view = View::new(
            &keyspace,
            &Hidden::default(),
            memtables,
            Vec::new().into(),
            Commit::ZERO,
            pin,
        );
        let core = Arc::new(new_core(&keyspace, view));
        engine.keyspaces.write().insert(keyspace.id, core.clone());
        Ok(Keyspace::new(self.clone(), core))
    }

    /// Changes the settings of a keyspace; they hold for what is written and compacted from now on.
    ///
    /// # Errors
    /// [`Error::UnknownKeyspace`], [`Error::Setting`].
    pub fn set_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<()> {
        options.check()?;
        let keyspace = self.keyspace(name)?;
        self.core().check_operator(name, &options)?;
        self.core().edit(|state| {
            if let Some(found) = state.keyspace_mut(keyspace.core().id) {
                found.limited = found.is_limited();
                if found.options.history != options.history {
                    found.policy_changes += 1;
                }
                found.options = options.clone();
            }
            Ok(())
        })?;
        self.core().install(keyspace.core(), None);
        Ok(())
    }

    /// Drops a keyspace with everything in it. Its files go when no reader holds them.
    ///
    /// # Errors
    /// [`Error::UnknownKeyspace`]; [`Error::KeyspaceName`] for the default keyspace.
    pub fn drop_keyspace(&self, name: &str) -> Result<()> {
        if name == DEFAULT_KEYSPACE {
            return Err(Error::KeyspaceName {
                name: name.to_string(),
                what: "the default keyspace cannot be dropped; delete its keys instead",
            });
        }
        let engine = self.core();
        let keyspace = self.keyspace(name)?;
        let id = keyspace.core().id;
        engine.edit(|state| {
            let all = state.tables.capture(|segment| segment.meta.keyspace == id);
            state
                .tables
                .replace(&all, Vec::new())
                .map_err(crate::compaction::lost)?;
            state.keyspaces.retain(|k| k.id != id);
            Ok(())
        })?;
        let removed = engine.keyspaces.write().remove(&id);
        if let Some(core) = removed {
            engine.forget_memtables(&core);
        }
        engine.collect_garbage();
        Ok(())
    }

    /// Holds the newest commit by name, also over restarts: for `lease`, or for good without one.
    /// What it holds stays readable; the commit is made durable first.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the name is taken, empty or too long.
    pub fn checkpoint(&self, name: &str, lease: Option<Duration>) -> Result<Checkpoint> {
        let engine = self.core();
        let bad = |what| Error::Checkpoint {
            name: name.to_string(),
            what,
        };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(bad("a name has 1 to 255 bytes"));
        }
        // Chosen first and made durable then: a crash must not take back a commit that has a name.
        let snapshot = self.default_keyspace().snapshot()?;
        engine.sync()?;
        let now = engine.shared.env.clock.now();
        let made = Checkpoint {
            name: name.to_string(),
            commit: snapshot.pin.commit,
            created: now,
            expires: lease.map(|lease| now.after(lease)),
        };
        engine.edit(|state| {
            state.forget_lapsed(now, |_| false);
            if state.checkpoints.iter().any(|c| c.name == name) {
                return Err(bad("it exists already; drop it first"));
            }
            state.checkpoints.push(made.clone());
            Ok(())
        })?;
        Ok(made)
    }

    /// Lets go of a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when there is none of this name.
    pub fn drop_checkpoint(&self, name: &str) -> Result<()> {
        self.core()
            .edit(|state| {
                let before = state.checkpoints.len();
                state.checkpoints.retain(|c| c.name != name);
                if state.checkpoints.len() == before {
                    return Err(Error::Checkpoint {
                        name: name.to_string(),
                        what: "there is none of this name",
                    });
                }
                Ok(())
            })
            .map(|_| ())
    }

    /// The checkpoints whose lease has not ended.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let engine = self.core();
        let now = engine.shared.env.clock.now();
        let current = engine.manifest.current();
        let live = |c: &&Checkpoint| c.expires.is_none_or(|expires| expires > now);
        current
            .state
            .checkpoints
            .iter()
            .filter(live)
            .cloned()
            .collect()
    }
}

impl Core {
    /// Refuses a merge operator that is not known here.
    fn check_operator(&self, keyspace: &str, options: &KeyspaceOptions) -> Result<()> {
        match options.merge_operator {
            Some(_) => operator_of(options, &self.shared.options, keyspace).map(drop),
            None => Ok(()),
        }
    }
}

/// For tests: what no user needs to see.
impl Kv {
    /// The tables of which something is in the cache.
    #[doc(hidden)]
    pub fn cached_tables(&self) -> std::collections::BTreeSet<crate::SegmentId> {
        self.core().shared.cache.segments()
    }

    /// True when writes are stopped until the database is reopened.
    #[doc(hidden)]
    pub fn is_stopped(&self) -> bool {
        self.core().shared.is_stopped()
    }

    /// Whether somebody asked for a look at what there is to compact or to delete, since this was last
    /// asked.
    #[doc(hidden)]
    pub fn take_compact_signal(&self) -> bool {
        self.core().signals.take_compact()
    }

    /// Permits given out to scans and to compactions.
    #[doc(hidden)]
    pub fn permits_in_use(&self) -> (usize, usize) {
        (
            self.core().shared.scans.used(),
            self.core().compactions.used(),
        )
    }
}

impl Keyspace {
    /// Tells, whenever asked, whether the memtable that is active now is still in memory.
    #[doc(hidden)]
    pub fn watch_memtable(&self) -> impl Fn() -> bool + use<> {
        let memtable = Arc::downgrade(&self.core().view.load().active);
        move || memtable.strong_count() > 0
    }
}

impl Core {
    fn forget_memtables(&self, core: &KeyspaceCore) {
        let log = self.log.lock();
        core.change(|view| {
            view.with_memtables(Arc::new(Memtable::new(4096, log.number())), Vec::new())
        });
        drop(log);
        self.note_memory();
    }

    pub(crate) fn stats(&self) -> Stats {
        let current = self.manifest.current();
        let keyspaces = self.keyspaces.read();
        let (_, misses) = self.shared.cache.hits_and_misses();
        Stats {
            commit: self.shared.visible(),
            manifest: current.number,
            epoch: self.manifest.epoch(),
            keyspaces: keyspaces
                .values()
                .map(|core| keyspace_stats(core, &current.state))
                .collect(),
            cache_bytes: self.shared.cache.weight(),
            cache_capacity: self.shared.cache.capacity(),
            pinned_bytes: self.shared.cache.pinned(),
            cache_misses: misses,
            totals: self.shared.counters.totals(),
            retired_tables: (current.state.tables.retired().count() as u64)
                .saturating_sub(self.deleted.lock().len() as u64),
            open_scans: self.shared.scans.used() as u64,
            open_snapshots: self.shared.held.count() as u64,
            open_transactions: self.transactions.count() as u64,
            open_feeds: self.feeds.lock().count() as u64,
            disk_cache: self.shared.env.blobs.disk_cache(),
        }
    }
}

/// A keyspace in numbers.
pub(crate) fn keyspace_stats(core: &KeyspaceCore, state: &DbState) -> KeyspaceStats {
    let view = core.view.load();
    let blobs = state.blob_totals(core.id);
    let mut levels: BTreeMap<u8, LevelStats> = BTreeMap::new();
    for table in view.tables() {
        let level = levels.entry(table.meta.level).or_default();
        level.level = table.meta.level;
        level.tables += 1;
        level.bytes += table.meta.bytes;
        level.entries += table.meta.entries;
        level.tombstones += table.meta.tombstones;
        level.raw_bytes += table.meta.raw_bytes;
    }
    KeyspaceStats {
        name: core.name.clone(),
        levels: levels.into_values().collect(),
        memtable_entries: view.memtables().map(|memtable| memtable.entries()).sum(),
        memtable_bytes: view
            .memtables()
            .map(|memtable| memtable.bytes() as u64)
            .sum(),
        sealed_memtables: view.sealed.len() as u64,
        blob_files: blobs.files,
        blob_bytes: blobs.bytes,
        blob_live_bytes: blobs.live_bytes,
        dropped: view.dropped.newest(),
    }
}
