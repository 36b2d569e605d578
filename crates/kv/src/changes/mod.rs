//! The change feed: every commit with what it wrote, once, in order, from any commit that the log
//! still holds; in the writer's process or in a reader's.
//!
//! A feed holds the log it has still to read: in the writer's process by its place, in a reader's by
//! a pin with a lease. [`crate::Kv::keep_log`] keeps more of it for feeds that come back later.

mod tail;

use crate::core::Core;
use crate::db::Kv;
use crate::error::{Error, Result};
use crate::operator;
use crate::range_delete::RangeDelete;
use crate::reader::Reader;
use crate::ttl;
use crate::types::{Commit, KeyspaceId, Kind};
use crate::wal::blob_name;
use crate::wal::files::MAX_FULL;
use crate::wal::frame::{self, Op};
use bytes::Bytes;
use siltstone_storage::{Env, ReaderPins, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tail::{Log, LogTail, Piece, Start};

/// The longest that a feed waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What one commit wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// The commit.
    pub commit: Commit,
    /// When it was logged, by the writer's clock.
    pub time: Timestamp,
    /// What it wrote: deletions of ranges first, then writes of keys; of two to one key the later
    /// counts.
    pub changes: Vec<Change>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Number of the keyspace.
    pub keyspace: KeyspaceId,
    /// Its name; `None` when it has been dropped since.
    pub keyspace_name: Option<Arc<str>>,
    /// What it did.
    pub write: ChangeKind,
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// A key was set.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// When it expires.
        expires: Option<Timestamp>,
    },
    /// A key was deleted.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// A key was changed by its keyspace's merge operator.
    Merge {
        /// The key.
        key: Bytes,
        /// The operands, oldest first.
        operands: Vec<Bytes>,
    },
    /// All keys of a range were deleted.
    DeleteRange {
        /// First key of the range; empty: the first there is.
        start: Bytes,
        /// The key after the range; `None`: to the last there is.
        end: Option<Bytes>,
    },
    /// A bulk ingest: read this range at this commit for what is there since.
    Ingested {
        /// The first key of it.
        first: Bytes,
        /// The last key of it.
        last: Bytes,
    },
}

/// A feed of changes.
#[derive(Debug)]
pub struct Changes {
    source: Source,
    tail: LogTail,
    ready: VecDeque<ChangeSet>,
    position: Commit,
    names: BTreeMap<KeyspaceId, Arc<str>>,
}

#[derive(Debug)]
enum Source {
    Writer {
        kv: Kv,
        /// Under which its place is known to the engine.
        id: u64,
    },
    Reader {
        reader: Reader,
        pin: ReaderPins,
        renew_at: Duration,
        /// The file that was held last.
        held: u64,
    },
}

impl Kv {
    /// Every commit after `after`, in order, as it becomes durable. Go on after a restart with the
    /// last commit that was delivered.
    ///
    /// # Errors
    /// [`Error::ChangesGone`] naming where to start instead; [`Error::FutureCommit`]; the store's.
    pub fn changes(&self, after: Commit) -> Result<Changes> {
        let core = self.core();
        core.shared.check_open()?;
        let id = core.feeds.lock().enter();
        let found = core.find_tail(after);
        let tail = found.inspect_err(|_| core.feeds.lock().leave(id))?;
        core.feeds.lock().move_to(id, tail.file());
        let source = Source::Writer {
            kv: self.clone(),
            id,
        };
        Ok(Changes::new(source, tail, after))
    }

    /// Keeps at least `bytes` of log, in whole files, beside what recovery and open feeds need, so that
    /// a feed can go on after it was away. Holds from now on, also after a restart and for other
    /// writers; 0, the default, keeps nothing more. A file that was cut off by a crash counts with the
    /// space set aside for it, up to 1 MiB more than it holds.
    ///
    /// # Errors
    /// The store's.
    pub fn keep_log(&self, bytes: u64) -> Result<()> {
        self.core().edit(|state| {
            state.keep_log = bytes;
            Ok(())
        })?;
        Ok(())
    }
}

impl Reader {
    /// As [`Kv::changes`], in a process that only reads.
    ///
    /// # Errors
    /// As [`Kv::changes`].
    pub fn changes(&self, after: Commit) -> Result<Changes> {
        let pin = ReaderPins::new(self.env().clone(), self.lease());
        // Everything is held until the place is found.
        let found = pin
            .hold_log(0)
            .map_err(Error::from)
            .and_then(|()| self.find_tail(after));
        let tail = found.inspect_err(|_| {
            // What could not be let go of lapses with its lease.
            let _ = pin.release();
        })?;
        let source = Source::Reader {
            reader: self.clone(),
            pin,
            renew_at: Duration::ZERO,
            held: 0,
        };
        let mut changes = Changes::new(source, tail, after);
        changes.hold()?;
        Ok(changes)
    }

    fn find_tail(&self, after: Commit) -> Result<LogTail> {
        self.refresh()?;
        let current = self.manifest();
        let start = Start {
            after,
            head: self.head(),
            floor: current.state.wal_floor,
            epoch: current.epoch,
        };
        LogTail::find(self.env().clone(), start)
    }
}

impl Core {
    fn find_tail(&self, after: Commit) -> Result<LogTail> {
        // What is in the log's buffer goes out, so that the log is complete up to here.
        self.sync()?;
        let start = Start {
            after,
            head: self.shared.visible(),
            floor: self.log.lock().number(),
            epoch: self.manifest.epoch(),
        };
        LogTail::find(self.shared.env.clone(), start)
    }
}

impl Changes {
    fn new(source: Source, tail: LogTail, position: Commit) -> Self {
        Self {
            source,
            tail,
            ready: VecDeque::new(),
            position,
            names: BTreeMap::new(),
        }
    }

    /// The last commit that was delivered; a later feed can start from it.
    pub fn position(&self) -> Commit {
        self.position
    }

    /// The next commit's changes; `None` when there is no further durable commit at this moment.
    ///
    /// # Errors
    /// [`Error::ChangesGone`] when the feed fell too far behind; the store's. The same call may be
    /// made again; nothing is passed over.
    pub fn try_next(&mut self) -> Result<Option<ChangeSet>> {
        if self.ready.is_empty() {
            self.hold()?;
            let log = self.log()?;
            if let Some(piece) = self.tail.next(&log)? {
                self.make_durable(&piece)?;
                self.take(&piece)?;
            }
        }
        Ok(self.next_at_hand())
    }

    /// The next commit's changes if they were read already; nothing is asked of the store.
    pub fn next_at_hand(&mut self) -> Option<ChangeSet> {
        let next = self.ready.pop_front()?;
        self.position = next.commit;
        Some(next)
    }

    /// As [`Changes::try_next`], waiting for up to `patience` for something to deliver.
    ///
    /// # Errors
    /// As [`Changes::try_next`]; [`Error::Closed`] once the database is closed and everything was
    /// delivered.
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<ChangeSet>> {
        let clock = self.env().clock.clone();
        let until = clock.elapsed() + patience;
        loop {
            let seen = self.published();
            if let Some(next) = self.try_next()? {
                return Ok(Some(next));
            }
            let left = until.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(seen, left.min(LOOK_AGAIN))?;
        }
    }

    fn env(&self) -> &Env {
        match &self.source {
            Source::Writer { kv, .. } => kv.env(),
            Source::Reader { reader, .. } => reader.env(),
        }
    }

    /// How often something was published, to be given to [`Changes::wait`].
    fn published(&self) -> u64 {
        match &self.source {
            Source::Writer { kv, .. } => kv.core().signals.published(),
            Source::Reader { .. } => 0,
        }
    }

    fn wait(&self, seen: u64, most: Duration) -> Result<()> {
        match &self.source {
            Source::Writer { kv, .. } => {
                let core = kv.core();
                core.shared.check_open()?;
                if core.shared.visible() > core.log.lock().durable() {
                    // Buffered writes that nobody makes durable would never be delivered.
                    return core.sync();
                }
                core.signals.wait_for_publication(seen, most);
            }
            Source::Reader { reader, .. } => {
                reader.env().clock.sleep(most);
            }
        }
        Ok(())
    }

    fn log(&self) -> Result<Log> {
        Ok(match &self.source {
            Source::Writer { kv, .. } => {
                let core = kv.core();
                let durable = core.shared.visible().min(core.log.lock().durable());
                Log {
                    floor: core.manifest.current().state.wal_floor,
                    head: durable,
                    upto: durable,
                }
            }
            // Found in the log, and made durable before it is delivered.
            Source::Reader { reader, .. } => {
                let newest = reader.newest_manifest()?;
                Log {
                    floor: newest.state.wal_floor,
                    head: newest.state.head,
                    upto: Commit::MAX,
                }
            }
        })
    }

    /// A reader sees what the writer's process has handed to the system; only what the disk has may
    /// be delivered.
    fn make_durable(&self, piece: &Piece) -> Result<()> {
        if let Source::Reader { reader, .. } = &self.source
            && reader.env().blobs.can_append()
        {
            let file = self.tail.file();
            // A feed may have started here, behind files whose end nobody has waited for.
            let first = match piece.record.durable {
                0 => file.saturating_sub(MAX_FULL as u64),
                _ => file,
            };
            for number in first..=file {
                match reader.env().blobs.sync(&blob_name(number)) {
                    // In tables meanwhile.
                    Err(error) if error.is_not_found() && number < file => {}
                    synced => synced?,
                }
            }
        }
        Ok(())
    }

    /// Keeps the log from going away, from the feed's place on.
    fn hold(&mut self) -> Result<()> {
        let file = self.tail.file();
        match &mut self.source {
            Source::Writer { kv, id } => kv.core().feeds.lock().move_to(*id, file),
            Source::Reader {
                reader,
                pin,
                renew_at,
                held,
            } => {
                let now = reader.env().clock.elapsed();
                if now >= *renew_at || *held != file {
                    pin.hold_log(file)?;
                    *held = file;
                    *renew_at = now + reader.lease() / 3;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, piece: &Piece) -> Result<()> {
        let record = piece.record;
        let mut sets: Vec<ChangeSet> = (record.first.0..=record.last.0)
            .map(|commit| ChangeSet {
                commit: Commit(commit),
                time: record.time,
                changes: Vec::new(),
            })
            .collect();
        let mut whole = true;
        let decoded =
            frame::for_each_op(&piece.payload, record.first, record.last, |commit, op| {
                let at = (commit.0 - record.first.0) as usize;
                match (sets.get_mut(at), change_of(&op)) {
                    (Some(set), Some(write)) => set.changes.push(Change {
                        keyspace: op.keyspace,
                        keyspace_name: None,
                        write,
                    }),
                    _ => whole = false,
                }
            });
        if !(decoded && whole) {
            let name = blob_name(self.tail.file());
            return Err(Error::corrupt(name, 0, "a record that decodes to nonsense"));
        }
        for set in &mut sets {
            for change in &mut set.changes {
                change.keyspace_name = self.name_of(change.keyspace);
            }
        }
        sets.retain(|set| set.commit > self.position);
        self.tail.advance(record.last);
        self.ready.extend(sets);
        Ok(())
    }

    fn name_of(&mut self, id: KeyspaceId) -> Option<Arc<str>> {
        if !self.names.contains_key(&id) {
            let manifest = match &self.source {
                Source::Writer { kv, .. } => kv.manifest(),
                Source::Reader { reader, .. } => reader.newest_manifest().ok()?,
            };
            for keyspace in &manifest.state.keyspaces {
                self.names
                    .insert(keyspace.id, keyspace.name.as_str().into());
            }
        }
        self.names.get(&id).cloned()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        match &self.source {
            Source::Writer { kv, id } => kv.core().feeds.lock().leave(*id),
            Source::Reader { pin, .. } => {
                if let Err(error) = pin.release() {
                    tracing::debug!(%error, "a feed's pin will lapse with its lease");
                }
            }
        }
    }
}

fn change_of(op: &Op<'_>) -> Option<ChangeKind> {
    let key = Bytes::copy_from_slice(op.key);
    Some(match op.tag.kind() {
        Kind::Put => ChangeKind::Put {
            key,
            value: Bytes::copy_from_slice(&op.value[ttl::prefix(op.tag, op.value)..]),
            expires: ttl::expires(op.tag, op.value),
        },
        Kind::Delete => ChangeKind::Delete { key },
        Kind::Merge => ChangeKind::Merge {
            key,
            operands: operator::operands(op.value)?
                .into_iter()
                .map(Bytes::copy_from_slice)
                .collect(),
        },
        Kind::Ingested => ChangeKind::Ingested {
            first: key,
            last: Bytes::copy_from_slice(op.value),
        },
        Kind::RangeDelete => {
            let deleted = RangeDelete::of_op(op.key, op.value, Commit::ZERO);
            ChangeKind::DeleteRange {
                start: key,
                end: deleted.end.map(Bytes::from),
            }
        }
    })
}

/// The places of open feeds in the log.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    last: u64,
    places: BTreeMap<u64, u64>,
}

impl Feeds {
    /// A feed that holds everything until its place is known.
    fn enter(&mut self) -> u64 {
        self.last += 1;
        self.places.insert(self.last, 0);
        self.last
    }

    fn move_to(&mut self, id: u64, file: u64) {
        self.places.insert(id, file);
    }

    fn leave(&mut self, id: u64) {
        self.places.remove(&id);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// The first file that some feed has still to read.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.places.values().min().copied()
    }
}
