//! Opens a store: take charge, read the manifest, apply the edits of the journal, sweep what nobody
//! names. Of the journal only headers and edits are read, of the CARs nothing.

use super::cache::BlockCache;
use super::car_ref::{CarId, CarMeta, Location, car_of_name, car_of_tail};
use super::cars::Cars;
use super::core::{Log, Store};
use super::journal::frame::{FILE_HEADER, RECORD_HEADER};
use super::journal::{Journal, Position, journal_name, journal_number, journal_numbers, replay};
use super::redirects::redirect_number;
use super::state::{Edit, State};
use crate::error::{Error, Result};
use crate::options::Options;
use parking_lot::Mutex;
use siltstone_storage::{Env, FolderLock, ManifestStore, Pins, ReaderPins, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenStats {
    /// True when there was no ledger before.
    pub created: bool,
    /// Edits applied from the journal.
    pub replayed_edits: u64,
    /// Bytes at the journal's end that a crash cut off.
    pub torn_bytes: u64,
    /// Files and objects that nobody named, deleted.
    pub swept: u64,
}

/// What the journal added to the manifest's state.
pub(super) struct Replayed {
    pub(super) state: State,
    pub(super) edits: u64,
    torn: u64,
    /// A journal file that was created by a process that died before its first record.
    blank: Option<u64>,
    /// Journal files that are there.
    pub(super) files: BTreeSet<u64>,
    /// The number of the next one.
    next: u64,
}

impl Store {
    /// Opens the ledger in `env.blobs`, creating it when there is none.
    pub(crate) fn open(
        env: Env,
        options: Options,
        folder_lock: Option<FolderLock>,
    ) -> Result<(Arc<Self>, OpenStats)> {
        let mut stats = OpenStats::default();
        let manifest = ManifestStore::open(env.clone(), Role::Writer, || {
            stats.created = true;
            State {
                journal: Position {
                    number: 1,
                    offset: 0,
                },
                ..State::default()
            }
        })?;
        let replay = || -> Result<Replayed> {
            let replayed = apply_journal(&env, manifest.current().state.clone())?;
            if let Some(number) = replayed.blank {
                env.blobs.delete(&journal_name(number))?;
            }
            Ok(replayed)
        };
        let mut replayed = replay()?;
        let (epoch, bytes) = (manifest.epoch(), options.journal_bytes);
        let mut journal = Journal::new(env.clone(), epoch, replayed.next, bytes);
        if !env.blobs.can_append() {
            while !journal.fence()? {
                // A writer that is being replaced was quicker.
                replayed = replay()?;
                journal = Journal::new(env.clone(), epoch, replayed.next, bytes);
            }
            let newest = manifest.refresh()?;
            if newest.epoch > epoch {
                return Err(Error::Storage(siltstone_storage::Error::Fenced {
                    ours: epoch,
                    theirs: newest.epoch,
                }));
            }
        }
        stats.replayed_edits = replayed.edits;
        stats.torn_bytes = replayed.torn;
        let mut state = replayed.state;
        if replayed.edits > 0 || replayed.torn > 0 {
            // What was read may be in the page cache only; what follows must not outlive it.
            if env.blobs.can_append() {
                for number in replayed
                    .files
                    .range(manifest.current().state.journal.number..)
                {
                    env.blobs.sync(&journal_name(*number))?;
                }
            }
            state.journal = journal.position();
            state
                .cuts
                .retain(|number, _| replayed.files.contains(number));
            manifest.commit(|_| Ok::<_, siltstone_storage::Error>(state.clone()))?;
        }
        let cars = Cars::new(env.blobs.clone(), options.keys.clone());
        let fetched = fetched(&env, &state)?;
        for segment in state.cars.live() {
            let location = match fetched.contains(&segment.id) {
                true => Location::File,
                false => segment.meta.location,
            };
            cars.add(
                segment.id,
                CarMeta {
                    location,
                    ..segment.meta
                },
            );
        }
        // Nobody reads here yet; readers elsewhere may hold what is replaced.
        let retired = free_of_readers(&env, &state)?;
        stats.swept = sweep(&env, &state, &retired, &mut replayed.files, &manifest)?;
        let store = Arc::new(Self {
            cache: BlockCache::new(options.cache_bytes),
            log: Mutex::new(Log {
                state,
                pins: Pins::default(),
                forgotten: retired,
                edits: 0,
                journals: replayed.files,
            }),
            journal: Mutex::new(journal),
            cars,
            env,
            options,
            manifest,
            stopped: Mutex::default(),
            collecting: Mutex::default(),
            checkpointing: Mutex::default(),
            folder_lock: Mutex::new(folder_lock),
            pruned: Mutex::default(),
            follower: None,
        });
        Ok((store, stats))
    }
}

/// The state of a ledger as its files say it, without opening it; `None` when there is none. Somebody may
/// be writing it meanwhile.
pub(crate) fn read_state(env: &Env) -> Result<Option<State>> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let unused = State::default;
        let manifest = match ManifestStore::<State>::open(env.clone(), Role::Reader, unused) {
            Err(error) if error.is_not_found() && attempts < 4 => continue,
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let read = manifest.current();
        // A journal that grows or goes while it is read may look damaged.
        match apply_journal(env, read.state.clone()) {
            // Nothing new may also mean that the journal went with a newer manifest.
            Ok(replayed)
                if replayed.edits == 0
                    && attempts < 4
                    && manifest.refresh()?.number != read.number => {}
            Ok(replayed) => return Ok(Some(replayed.state)),
            Err(_) if attempts < 4 => {}
            Err(error) => return Err(error),
        }
    }
}

/// Applies the records from the state's position on.
pub(super) fn apply_journal(env: &Env, mut state: State) -> Result<Replayed> {
    let blobs = &*env.blobs;
    let files: BTreeSet<u64> = journal_numbers(blobs)?.into_iter().collect();
    let from = state.journal;
    let mut found = Replayed {
        edits: 0,
        torn: 0,
        blank: None,
        next: files
            .last()
            .map_or(from.number, |last| (last + 1).max(from.number)),
        files,
        state: State::default(),
    };
    let files = found.files.clone();
    for (expected, number) in (from.number..).zip(files.range(from.number..).copied()) {
        let name = journal_name(number);
        let last = found.files.last() == Some(&number);
        if number != expected {
            let what = format!("{} is missing", journal_name(expected));
            return Err(Error::Storage(siltstone_storage::Error::corrupt(
                name, 0, what,
            )));
        }
        let offset = if number == from.number {
            from.offset
        } else {
            0
        };
        let Some(replayed) = replay(blobs, &name, offset)? else {
            if !last {
                let what = "its header was never written, and later files follow";
                return Err(Error::Storage(siltstone_storage::Error::corrupt(
                    name, 0, what,
                )));
            }
            found.blank = Some(number);
            found.files.remove(&number);
            found.next = number;
            continue;
        };
        if replayed.torn > 0 && !last {
            let what = "its last record is damaged, and later files follow";
            let at = replayed.end;
            return Err(Error::Storage(siltstone_storage::Error::corrupt(
                name, at, what,
            )));
        }
        if replayed.torn > 0 {
            found.torn += replayed.torn;
            state.cuts.insert(number, replayed.end);
        }
        for record in replayed.records {
            if record.edit.is_empty() {
                continue;
            }
            let damaged = |what: String| {
                Error::Storage(siltstone_storage::Error::corrupt(&name, record.at, what))
            };
            let edit = Edit::decode(&record.edit).map_err(damaged)?;
            fits(&edit, record.body).map_err(damaged)?;
            let end = Position {
                number,
                offset: record.body_at + record.body,
            };
            state
                .apply(&edit, number, record.body_at, end)
                .map_err(damaged)?;
            found.edits += 1;
        }
    }
    found.state = state;
    Ok(found)
}

/// The replaced CARs that no reader elsewhere holds.
fn free_of_readers(env: &Env, state: &State) -> Result<BTreeSet<CarId>> {
    if state.retired.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut pins = Pins::default();
    for pin in ReaderPins::list(env)? {
        pins.pin(pin.manifest);
    }
    Ok(state.cars.retirable(&pins).into_iter().collect())
}

/// The CARs of which the state says that they are in a remote, and that were fetched since.
pub(super) fn fetched(env: &Env, state: &State) -> Result<BTreeSet<CarId>> {
    let live = state.cars.live().iter();
    let away = live.filter(|car| car.meta.location == Location::Away);
    let away: BTreeMap<CarId, u64> = away.map(|car| (car.id, car.meta.bytes)).collect();
    if away.is_empty() {
        return Ok(BTreeSet::new());
    }
    let blobs = env.blobs.list("car/")?.into_iter();
    let whole = blobs.filter_map(|blob| {
        let id = car_of_name(&blob.name)?;
        (away.get(&id) == Some(&blob.size)).then_some(id)
    });
    Ok(whole.collect())
}

/// Every CAR that an edit says is in its body is.
fn fits(edit: &Edit, body: u64) -> Result<(), String> {
    for car in &edit.appended {
        if let Location::Journal { number: 0, offset } = car.meta.location
            && offset
                .checked_add(car.meta.bytes)
                .is_none_or(|end| end > body)
        {
            return Err(format!("CAR {} passes the end of its record", car.id));
        }
    }
    Ok(())
}

/// Deletes what nobody names: CARs of compactions and commits that were not finished, the `retired` CARs,
/// journal files whose edits are in the manifest and whose CARs are gone, redirect files that were
/// merged.
fn sweep(
    env: &Env,
    state: &State,
    retired: &BTreeSet<CarId>,
    journals: &mut BTreeSet<u64>,
    manifest: &ManifestStore<State>,
) -> Result<u64> {
    let mut live: BTreeSet<CarId> = state.cars.live().iter().map(|segment| segment.id).collect();
    let held = state.retired.keys().filter(|id| !retired.contains(id));
    live.extend(held);
    let redirects: BTreeSet<u64> = state.redirects.iter().map(|file| file.number).collect();
    let in_use = state.journals_in_use(retired);
    let floor = manifest.current().state.journal.number;
    let mut swept = 0;
    let mut delete = |name: &str| -> Result<()> {
        env.blobs.delete(name)?;
        swept += 1;
        Ok(())
    };
    for blob in env.blobs.list("car/")? {
        if car_of_name(&blob.name).is_some_and(|id| !live.contains(&id)) {
            delete(&blob.name)?;
        }
    }
    for blob in env.blobs.list("away/")? {
        if car_of_tail(&blob.name).is_some_and(|id| !live.contains(&id)) {
            delete(&blob.name)?;
        }
    }
    for blob in env.blobs.list("redirect/")? {
        if redirect_number(&blob.name).is_some_and(|number| !redirects.contains(&number)) {
            delete(&blob.name)?;
        }
    }
    for blob in env.blobs.list("journal/")? {
        let Some(number) = journal_number(&blob.name) else {
            continue;
        };
        if number < floor && !in_use.contains(&number) && !is_fence(env, blob.size) {
            delete(&blob.name)?;
            journals.remove(&number);
        }
    }
    manifest.sweep(&[])?;
    Ok(swept)
}

/// In a bucket a record that says nothing holds its number against a writer that was replaced: it
/// stays.
pub(crate) fn is_fence(env: &Env, size: u64) -> bool {
    !env.blobs.can_append() && size == (FILE_HEADER + RECORD_HEADER) as u64
}
