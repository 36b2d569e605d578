//! The front of a ledger: documents in, documents out. Every call blocks until it is done; a write
//! returns once it is durable.

use crate::background;
use crate::block::{Block, Cid};
use crate::changes::{Changes, Clock, Since};
use crate::compaction::{Compaction, CompactionReport, Strategy};
use crate::core::{Core, View};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::names::{check_id, check_name, uuid_v7};
use crate::options::{Background, Options};
use crate::reading::{AllDocs, Conflict, History, Page};
use crate::snapshot::Snapshot;
use crate::store::{Edit, OpenStats, ScopedBlobs, Store};
use crate::subscribe::Subscription;
use crate::writes::{PendingWrite, Request};
use parking_lot::Mutex;
use siltstone_storage::{Env, FolderLock, LocalBlobs};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The most writes of one bulk.
pub const MAX_BULK: usize = 1_000_000;

/// An open ledger. Clones are the same ledger; it closes with the last of them, or by
/// [`Ledger::close`].
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
    opened: OpenStats,
}

/// What a put or a delete did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The document's id, a new one if none was given.
    pub id: String,
    /// The event of the write: the clock right after it.
    pub event: Cid,
}

/// One write of a bulk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkWrite {
    /// Puts a document. An empty id asks for a new one.
    Put(String, Document),
    /// Deletes a document, whether it is there or not.
    Delete(String),
}

/// What a ledger looked like at some moment: heads, and the names of the CARs that held them. It may be
/// kept anywhere, and [opened](Ledger::at_meta) after any number of compactions.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Meta {
    /// The head events.
    pub heads: Vec<Cid>,
    /// The CARs of the log.
    pub cars: Vec<Cid>,
}

const AUTHOR: &str = "author";

impl Ledger {
    /// Opens ledger `name` in a folder of its own, `<database>/ledger/<name>`, creating it when there
    /// is none. No other process can open it meanwhile.
    ///
    /// # Errors
    /// The store's ([`Locked`](siltstone_storage::Error::Locked) when it is open elsewhere);
    /// [`Error::Invalid`] for the name; what is wrong with its files.
    pub fn open_folder(database: impl AsRef<Path>, name: &str, options: Options) -> Result<Self> {
        check_name(name)?;
        let folder = database.as_ref().join("ledger").join(name);
        let blobs = LocalBlobs::create(folder)?;
        let lock = FolderLock::take(blobs.root())?;
        blobs.remove_leftovers()?;
        Self::start(Env::system(Arc::new(blobs)), options, Some(lock))
    }

    /// Opens ledger `name` within the blobs of a database, below `ledger/<name>/`, creating it when
    /// there is none. The caller holds the database's lock; in a bucket, a later opening fences this
    /// one.
    ///
    /// # Errors
    /// As [`Ledger::open_folder`].
    pub fn open(mut env: Env, name: &str, options: Options) -> Result<Self> {
        check_name(name)?;
        env.blobs = Arc::new(ScopedBlobs::new(env.blobs, &format!("ledger/{name}")));
        Self::start(env, options, None)
    }

    fn start(env: Env, options: Options, lock: Option<FolderLock>) -> Result<Self> {
        let threaded = options.background == Background::Thread;
        let given = options.author.clone();
        let (store, opened) = Store::open(env, options, lock)?;
        let (heads, kept) = {
            let log = store.log.lock();
            (
                log.state.heads.clone(),
                log.state.notes.get(AUTHOR).cloned(),
            )
        };
        let view = View::of(&store, heads);
        let fresh = || store.env.rng.next().to_be_bytes().to_vec();
        let author = given.or_else(|| kept.clone()).unwrap_or_else(fresh);
        let core = Core::new(store, author.clone(), view);
        let origin = crate::remote::RemoteOrigin(Arc::downgrade(&core));
        core.store.cars.set_origin(Box::new(origin));
        if kept.as_ref() != Some(&author) {
            core.set_note(AUTHOR, Some(author))?;
        }
        let thread = match threaded {
            true => Some(background::start(&core).map_err(|e| Error::io("start thread", &e))?),
            false => None,
        };
        let ledger = Self::of(core, thread, opened);
        ledger.0.core.after_write();
        Ok(ledger)
    }

    pub(crate) fn of(core: Arc<Core>, thread: Option<JoinHandle<()>>, opened: OpenStats) -> Self {
        Self(Arc::new(Handle {
            core,
            thread: Mutex::new(thread),
            opened,
        }))
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    /// What opening found and did.
    pub fn open_stats(&self) -> &OpenStats {
        &self.0.opened
    }

    /// Puts a document under an id; an empty id asks for a new one (UUIDv7). Returns once it is
    /// durable.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for an id over [`MAX_ID_BYTES`](crate::MAX_ID_BYTES) or a document over a block;
    /// [`Error::Stopped`] after a failed write; the store's.
    pub fn put(&self, id: &str, document: &Document) -> Result<Written> {
        self.write_one(BulkWrite::Put(id.to_string(), document.clone()))
    }

    /// Puts a JSON document under its `_id`; without one it gets a new id.
    ///
    /// # Errors
    /// As [`Ledger::put`]; [`Error::Invalid`] for what is no document.
    pub fn put_json(&self, value: &serde_json::Value) -> Result<Written> {
        let id = match value.get("_id") {
            None | Some(serde_json::Value::Null) => "",
            Some(serde_json::Value::String(id)) => id,
            Some(_) => return Err(Error::invalid("_id must be text")),
        };
        self.put(id, &Document::from_json(value)?)
    }

    /// Deletes a document. One that is not there is marked deleted all the same, so that a replica's
    /// older version of it loses.
    ///
    /// # Errors
    /// As [`Ledger::put`].
    pub fn delete(&self, id: &str) -> Result<Written> {
        self.write_one(BulkWrite::Delete(id.to_string()))
    }

    fn write_one(&self, write: BulkWrite) -> Result<Written> {
        let (mut ids, event) = self.bulk_ids(vec![write])?;
        let id = ids.pop().unwrap_or_default();
        Ok(Written { id, event })
    }

    /// Carries out any number of writes as one event: all or nothing. Of several writes to one id the
    /// last counts.
    ///
    /// # Errors
    /// As [`Ledger::put`]; [`Error::Invalid`] for no writes, [`Error::TooLarge`] for more than
    /// [`MAX_BULK`].
    pub fn bulk(&self, writes: Vec<BulkWrite>) -> Result<Vec<Written>> {
        let (ids, event) = self.bulk_ids(writes)?;
        Ok(ids.into_iter().map(|id| Written { id, event }).collect())
    }

    fn bulk_ids(&self, writes: Vec<BulkWrite>) -> Result<(Vec<String>, Cid)> {
        if writes.is_empty() {
            return Err(Error::invalid("a bulk needs at least one write"));
        }
        if writes.len() > MAX_BULK {
            return Err(Error::TooLarge {
                what: "writes of one bulk",
                size: writes.len() as u64,
                limit: MAX_BULK as u64,
            });
        }
        let mut ids = Vec::with_capacity(writes.len());
        let mut pending = Vec::with_capacity(writes.len());
        for write in writes {
            let (id, doc) = match write {
                BulkWrite::Put(id, document) if id.is_empty() => (self.new_id(), Some(document)),
                BulkWrite::Put(id, document) => (id, Some(document)),
                BulkWrite::Delete(id) => (id, None),
            };
            check_id(&id)?;
            let doc: Option<Block> = doc.map(|document| document.block());
            if let Some(doc) = &doc
                && doc.bytes.len() > crate::block::MAX_BLOCK_BYTES
            {
                return Err(Error::TooLarge {
                    what: "bytes of a document",
                    size: doc.bytes.len() as u64,
                    limit: crate::block::MAX_BLOCK_BYTES as u64,
                });
            }
            ids.push(id.clone());
            pending.push(PendingWrite { key: id, doc });
        }
        let event = self.core().submit(Request::Write(pending))?;
        self.core().after_write();
        let event = event.ok_or_else(|| Error::invalid("a write made no event"))?;
        Ok((ids, event))
    }

    /// A time-ordered id: UUIDv7 (RFC 9562, section 5.7).
    fn new_id(&self) -> String {
        let env = &self.core().store.env;
        uuid_v7(self.core().now_ms(), env.rng.next(), env.rng.next())
    }

    /// A document.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it was never put or is deleted; [`Error::MissingBlock`],
    /// [`Error::Corrupt`] and [`Error::Undecryptable`] when the store is broken.
    pub fn get(&self, id: &str) -> Result<Document> {
        self.core().keep_up()?;
        let view = self.core().view();
        self.core().reading(&view)?.get(id)
    }

    /// A page of documents in order of their ids (by bytes of UTF-8).
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub fn all_docs(&self, wanted: &AllDocs) -> Result<Page> {
        self.core().keep_up()?;
        self.snapshot().all_docs(wanted)
    }

    /// A document as it was at a clock.
    ///
    /// # Errors
    /// As [`Ledger::get`]; [`Error::Stale`] for a clock this ledger does not have, [`Error::Pruned`]
    /// for one below a prune.
    pub fn get_at(&self, clock: &Clock, id: &str) -> Result<Document> {
        self.at(clock)?.get(id)
    }

    /// The versions of a document, newest first, at most `limit`; those that lost a conflict too.
    ///
    /// # Errors
    /// As [`Ledger::get`], but for a deleted document, whose history is still there.
    pub fn history(&self, id: &str, limit: usize) -> Result<History> {
        self.core().keep_up()?;
        self.snapshot().history(id, limit)
    }

    /// The documents that replicas wrote without knowing of each other and nobody wrote since.
    ///
    /// # Errors
    /// As [`Ledger::get`].
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.core().keep_up()?;
        self.snapshot().conflicts()
    }

    /// The clock: what is known now; of a reader, since it last looked.
    pub fn clock(&self) -> Clock {
        Clock(self.core().view().heads.clone())
    }

    /// What changed since a clock, oldest first, at most `limit` rows; each document at its newest
    /// change, deletions marked. The page says where the next one starts.
    ///
    /// # Errors
    /// As [`Ledger::get_at`].
    pub fn changes(&self, since: impl Into<Since>, limit: usize) -> Result<Changes> {
        self.core().keep_up()?;
        let snapshot = self.snapshot();
        self.core().changes(snapshot.view(), &since.into(), limit)
    }

    /// Every document that changes from now on, once it is durable, those of other replicas too. A reader
    /// is told nothing: it asks for [`changes`](Ledger::changes).
    pub fn subscribe(&self) -> Subscription {
        let limit = self.core().store.options.subscriber_queue;
        self.core().subscribers.add(limit)
    }

    /// Holds what is visible now: it stays readable, whatever is written, compacted and deleted, until
    /// the snapshot is dropped.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of_now(self.core().clone())
    }

    /// The ledger as it was at a clock.
    ///
    /// # Errors
    /// [`Error::Stale`] for a clock this ledger does not have, [`Error::Pruned`] below a prune.
    pub fn at(&self, clock: &Clock) -> Result<Snapshot> {
        self.core().keep_up()?;
        Snapshot::of_clock(self.core().clone(), clock)
    }

    /// What [`Ledger::at_meta`] opens later.
    pub fn meta(&self) -> Meta {
        let log = self.core().store.log.lock();
        Meta {
            heads: log.state.heads.clone(),
            cars: log.state.cars.live().iter().map(|car| car.id).collect(),
        }
    }

    /// The ledger as an old meta saw it: the CARs it names are found, or what replaced them.
    ///
    /// # Errors
    /// [`Error::Stale`] naming the CAR that leads nowhere; [`Error::Pruned`]. Never an empty ledger.
    pub fn at_meta(&self, meta: &Meta) -> Result<Snapshot> {
        let snapshot = self.at(&Clock(meta.heads.clone()))?;
        for car in &meta.cars {
            if self.resolve(car)?.is_empty() {
                return Err(Error::Stale {
                    what: format!(
                        "CAR {car} was never part of this ledger, and no redirect leads on from it"
                    ),
                });
            }
        }
        Ok(snapshot)
    }

    /// The live CARs that hold what `car` held: itself, or what compactions replaced it by. Empty when
    /// it never was part of this ledger.
    ///
    /// # Errors
    /// The store's.
    pub fn resolve(&self, car: &Cid) -> Result<Vec<Cid>> {
        self.core().store.resolve(car)
    }

    /// Compacts all CARs, by the strategy of the options. Safe at any time; commits go on.
    ///
    /// # Errors
    /// What the strategy was refused for or failed with; the log is unchanged then.
    pub fn compact(&self) -> Result<CompactionReport> {
        let strategy = self.core().store.options.strategy.clone();
        self.compact_with(&*strategy)
    }

    /// Compacts all CARs by a strategy.
    ///
    /// # Errors
    /// As [`Ledger::compact`].
    pub fn compact_with(&self, strategy: &dyn Strategy) -> Result<CompactionReport> {
        self.core().store.check_writer()?;
        let Some(mut compaction) = self.begin_compaction() else {
            return Ok(CompactionReport::default());
        };
        compaction.copy(strategy)?;
        compaction.swap()
    }

    /// Captures all CARs for a compaction that the caller copies and swaps. `None` when there is
    /// nothing to gain, and for a reader.
    pub fn begin_compaction(&self) -> Option<Compaction> {
        self.core().store.check_writer().ok()?;
        self.core().capture_all()
    }

    /// Captures these CARs. `None` when one of them is not live, and for a reader.
    pub fn begin_compaction_of(&self, cars: &[Cid]) -> Option<Compaction> {
        self.core().store.check_writer().ok()?;
        self.core().capture_these(cars)
    }

    /// Writes the manifest, so that opening reads nothing of the journal, and deletes what nobody can
    /// read any more.
    ///
    /// # Errors
    /// The store's.
    pub fn checkpoint(&self) -> Result<()> {
        self.core().store.check_writer()?;
        self.core().store.checkpoint()?;
        self.core().store.collect()?;
        Ok(())
    }

    /// Forgets what is in memory and closes files, so that reads come from the store. For measuring and
    /// testing.
    pub fn drop_caches(&self) {
        self.core().store.cache.clear();
        self.core().store.cars.close_files();
    }

    /// Closes the ledger: waits for what runs in the background, writes the manifest, lets go of the
    /// folder. Other handles of it fail from then on.
    ///
    /// # Errors
    /// The store's; everything acknowledged is durable all the same.
    pub fn close(self) -> Result<()> {
        self.0.end();
        self.core().publish_indexes();
        let store = &self.core().store;
        let written = match store.check_writable() {
            Ok(()) => store.checkpoint().and_then(|_| store.collect()).map(|_| ()),
            Err(_) => Ok(()),
        };
        store.close();
        written
    }
}

impl Handle {
    fn end(&self) {
        self.core.remotes.end();
        self.core.signals.end();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
        self.core.subscribers.close();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
        self.core.publish_indexes();
        self.core.store.close();
    }
}

impl Core {
    /// Sets or removes a note of the state: what remotes and indexes keep with a ledger.
    pub(crate) fn set_note(&self, key: &str, value: Option<Vec<u8>>) -> Result<()> {
        let edit = Edit {
            notes: vec![(key.to_string(), value)],
            ..Edit::default()
        };
        self.submit(Request::Edit(Box::new(move |_| Ok((edit, Vec::new())))))?;
        Ok(())
    }
}
