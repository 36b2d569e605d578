//! The small tokio runtime on which requests to buckets run, and the bridge to it. One runtime
//! serves every bucket of the process; a caller's thread waits on a channel, never on the runtime,
//! so calls work on any thread, one of another tokio runtime included.

use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Requests wait for the network and sign small bodies: two threads are plenty.
const WORKERS: usize = 2;

static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();

fn runtime() -> Result<&'static Runtime> {
    let built = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("siltstone-bucket")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    built.as_ref().map_err(|message| Error::Io {
        name: "bucket".into(),
        operation: "start of the network threads",
        kind: io::ErrorKind::Other,
        message: message.clone(),
    })
}

/// The answer of a request under way.
#[derive(Debug)]
pub(super) struct Pending<T>(Mutex<Receiver<T>>);

impl<T> Pending<T> {
    /// Waits for the answer.
    pub(super) fn wait(self) -> Result<T> {
        self.0.into_inner().recv().map_err(|_| gone())
    }

    /// Waits for the answer, but not for longer than `limit`.
    pub(super) fn wait_at_most(self, limit: Duration) -> Option<T> {
        self.0.into_inner().recv_timeout(limit).ok()
    }
}

/// A request that ended without an answer: its task panicked.
fn gone() -> Error {
    Error::Io {
        name: "bucket".into(),
        operation: "request",
        kind: io::ErrorKind::Other,
        message: "the request ended without an answer".into(),
    }
}

/// Starts `work` and returns at once.
pub(super) fn start<T, F>(work: F) -> Result<Pending<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (sender, receiver) = sync_channel(1);
    runtime()?.spawn(async move {
        // A caller that no longer waits needs no answer.
        let _ = sender.send(work.await);
    });
    Ok(Pending(Mutex::new(receiver)))
}

/// Runs `work` to its end while this thread waits.
pub(super) fn run<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    start(work)?.wait()?
}
