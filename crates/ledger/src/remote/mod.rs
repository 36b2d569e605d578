//! Remotes: any folder or bucket through which replicas exchange what they know, without a server.
//!
//! ```text
//! car/<cid>.car                 archives, named by their hash: whoever pushes one, it is the same
//! meta/<replica>/<number>       what a replica knows: heads, archives that hold it, redirects, floor
//! retired/, returning/          replicas that were given up, and those that came back
//! ```
//! A replica writes below its own name only, and always under a new number: nobody overwrites another.
//! Archives are there before the meta that names them. [`pull`] reads the newest meta of each other
//! replica and takes in what is missing; [`push`] sends what the remote does not have and publishes a
//! meta; [`clean`] deletes what we pushed and nobody can name any more; [`retry`] does all that by
//! itself, now and again. [`retire`] is about replicas that never come back. [`partial`] is about archives that stay in a remote until they are needed, [`mend`] is what a repair asks of a remote.

mod clean;
mod fetch;
mod mend;
mod meta;
mod note;
mod partial;
mod pull;
mod push;
mod retire;
mod retry;
mod run;
mod status;

pub(crate) use mend::{RemoteOrigin, Source};
pub(crate) use meta::RemoteCar;
pub use retire::{Replica, RetireReport, Standing};
pub use status::{Phase, Progress, RemoteStatus, SyncReport};

use crate::core::Core;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::names::check_name;
use parking_lot::Mutex;
use retry::Signals;
use run::Known;
use siltstone_storage::{Blobs, LocalBlobs};
use status::Board;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Who is told of progress.
type Told = dyn Fn(&Progress) + Send + Sync;

/// How much of a remote is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// Everything. The default.
    All,
    /// Heads and what was written lately at once; of archives over 256 KiB the index only. Such an archive
    /// is fetched when a block of it is read, and kept. While no remote can be reached such a read fails
    /// with [`Error::Away`].
    OnDemand,
}

/// A remote and how to keep in touch with it.
#[derive(Clone)]
pub struct Remote {
    name: String,
    blobs: Arc<dyn Blobs>,
    poll: Duration,
    grace: Duration,
    retry: (Duration, Duration),
    background: bool,
    place: Option<String>,
    fetch: Option<Fetch>,
    progress: Option<Arc<Told>>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("name", &self.name)
            .field("blobs", &self.blobs)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// A remote: any store, under a name of this ledger's own choice. One ledger to a store: give each
    /// a folder of its own, for instance by [`ScopedBlobs`](crate::store::ScopedBlobs).
    pub fn new(name: impl Into<String>, blobs: Arc<dyn Blobs>) -> Self {
        Self {
            name: name.into(),
            blobs,
            poll: Duration::from_secs(30),
            grace: Duration::from_secs(3600),
            retry: (Duration::from_secs(1), Duration::from_secs(300)),
            background: true,
            place: None,
            fetch: None,
            progress: None,
        }
    }

    /// A folder, created when there is none: on a shared disk, or kept in step by another program.
    ///
    /// # Errors
    /// The store's.
    pub fn folder(name: impl Into<String>, folder: impl AsRef<Path>) -> Result<Self> {
        let blobs = LocalBlobs::create(folder.as_ref())?;
        Ok(Self::new(name, Arc::new(blobs)))
    }

    /// How often to look for what others pushed. Default 30 s.
    #[must_use]
    pub fn poll(mut self, every: Duration) -> Self {
        self.poll = every;
        self
    }

    /// How long a file that nobody names any more stays. It must be longer than any one sync of any
    /// replica takes. Default one hour.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The first and the longest wait after a failure; each is twice the one before. Default 1 s, 5 min.
    #[must_use]
    pub fn retry(mut self, first: Duration, longest: Duration) -> Self {
        self.retry = (first, longest);
        self
    }

    /// Whether a thread syncs by itself, after local writes and on a poll. Default true.
    #[must_use]
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Where it is, in words by which the caller can open it again. Kept with the ledger when it is
    /// attached: [`Ledger::places`]. It is stored as it is, so it must hold no secrets.
    #[must_use]
    pub fn place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// How much is fetched. Kept with the ledger: who does not say it attaches the remote as it was, the
    /// first time with [`Fetch::All`]. From [`Fetch::OnDemand`] to that, the next sync fetches the rest.
    #[must_use]
    pub fn fetch(mut self, fetch: Fetch) -> Self {
        self.fetch = Some(fetch);
        self
    }

    /// Is told of progress, on the thread that syncs.
    #[must_use]
    pub fn progress(mut self, told: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(told));
        self
    }

    fn is_same(&self, other: &Self) -> bool {
        self.blobs.kind() == other.blobs.kind() && self.blobs.describe() == other.blobs.describe()
    }
}

/// A remote that is attached to an open ledger. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Attachment(Arc<Inner>);

pub(crate) struct Inner {
    remote: Remote,
    fetch: Mutex<Fetch>,
    core: Weak<Core>,
    /// What is known of the remote; held by who syncs.
    known: Mutex<Known>,
    board: Mutex<Board>,
    signals: Signals,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl Inner {
    pub(super) fn core(&self) -> Result<Arc<Core>> {
        let core = self.core.upgrade().filter(|_| !self.signals.is_ending());
        core.ok_or_else(|| Error::invalid(format!("the remote {:?} is detached", self.remote.name)))
    }

    /// How much is fetched.
    fn fetch(&self) -> Fetch {
        *self.fetch.lock()
    }

    fn end(&self) {
        self.signals.end();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Attachment {
    /// The remote's name.
    pub fn name(&self) -> &str {
        &self.0.remote.name
    }

    /// Pulls, then pushes, now. Waits for a sync that is under way, and does its own after it.
    ///
    /// # Errors
    /// The remote's; [`Error::BehindPrune`] when others pruned what this ledger has not seen: it must
    /// join again, and nothing was changed here or there. What fails for one other replica alone is in
    /// the report.
    pub fn sync(&self) -> Result<SyncReport> {
        self.0.sync()
    }

    /// Syncs when it is time to: after a local write, on the poll, when the wait after a failure is
    /// over. What the thread does, for who has none.
    ///
    /// # Errors
    /// As [`Attachment::sync`].
    pub fn tick(&self) -> Result<Option<SyncReport>> {
        match self.0.is_due()? {
            true => self.0.sync().map(Some),
            false => Ok(None),
        }
    }

    /// What is pending and how it goes.
    pub fn status(&self) -> RemoteStatus {
        self.0.status()
    }
}

/// The remotes of an open ledger.
#[derive(Debug, Default)]
pub(crate) struct Remotes(Mutex<Vec<Arc<Inner>>>);

impl Remotes {
    /// There is something to push.
    pub(crate) fn wake(&self) {
        for remote in &*self.0.lock() {
            remote.signals.wake();
        }
    }

    fn named(&self, name: &str) -> Option<Arc<Inner>> {
        let attached = self.0.lock();
        attached.iter().find(|one| one.remote.name == name).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Remote> {
        let attached = self.0.lock();
        attached.iter().map(|one| one.remote.clone()).collect()
    }

    /// Detaches all.
    pub(crate) fn end(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        for remote in all {
            remote.end();
        }
    }
}

impl Ledger {
    /// Attaches a remote: what was written before goes there too. The same remote again is the one
    /// attachment.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is none, or that another remote has.
    pub fn attach(&self, remote: Remote) -> Result<Attachment> {
        check_name(&remote.name)?;
        let core = self.core();
        core.store.check_writable()?;
        let same = |there: &Arc<Inner>| match there.remote.is_same(&remote) {
            true => Ok(Attachment(there.clone())),
            false => Err(Error::invalid(format!(
                "another remote is attached as {:?}; detach it or take another name",
                remote.name
            ))),
        };
        core.remotes
            .named(&remote.name)
            .as_ref()
            .map(same)
            .transpose()?;
        // Not under the lock: a write that waits for an archive asks who is attached.
        core.keep_place(&remote)?;
        let fetch = core.keep_fetch(&remote)?;
        let mut attached = core.remotes.0.lock();
        if let Some(there) = attached.iter().find(|one| one.remote.name == remote.name) {
            let there = same(there)?;
            *there.0.fetch.lock() = fetch;
            return Ok(there);
        }
        let threaded = remote.background;
        let inner = Arc::new(Inner {
            remote,
            fetch: Mutex::new(fetch),
            core: Arc::downgrade(core),
            known: Mutex::default(),
            board: Mutex::default(),
            signals: Signals::default(),
            thread: Mutex::default(),
        });
        inner.signals.wake();
        if threaded {
            let thread = retry::start(&inner).map_err(|e| Error::io("start thread", &e))?;
            *inner.thread.lock() = Some(thread);
        }
        attached.push(inner.clone());
        Ok(Attachment(inner))
    }

    /// Detaches a remote; false when there is none of that name. What is known about it is kept for
    /// the next time.
    pub fn detach(&self, name: &str) -> bool {
        let found = {
            let mut attached = self.core().remotes.0.lock();
            let at = attached.iter().position(|one| one.remote.name == name);
            at.map(|at| attached.remove(at))
        };
        if let Some(remote) = &found {
            remote.end();
        }
        found.is_some()
    }

    /// The remotes that were ever attached with a [place](Remote::place): name and place.
    pub fn places(&self) -> Vec<(String, String)> {
        self.core().places()
    }

    /// The attached remotes.
    pub fn remotes(&self) -> Vec<Attachment> {
        let attached = self.core().remotes.0.lock();
        attached.iter().cloned().map(Attachment).collect()
    }
}
