//! A scan for asynchronous programs.
//!
//! A step that must wait for a disk or a network takes the scan to a blocking thread and brings it
//! back. A caller who gives up meanwhile loses nothing: the next call waits for the same step.

use crate::error::{Error, Result};
use bytes::Bytes;
use siltstone_kv::ScanStats;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};

/// The next row of a scan; `None` at its end.
type Row = Option<(Bytes, Bytes)>;
type Opening = dyn FnOnce() -> siltstone_kv::Result<siltstone_kv::Scan> + Send;

/// An open scan. Rows whose blocks are in memory come without leaving the thread. When as many scans
/// are open as may be, it waits for its turn at its first step.
#[derive(Debug)]
pub struct Scan {
    place: Place,
    /// As they stood when the scan was last here.
    stats: ScanStats,
}

/// Where the scan is.
enum Place {
    /// Opening it has to wait for something.
    Unopened(Box<Opening>),
    Opening(JoinHandle<siltstone_kv::Result<siltstone_kv::Scan>>),
    Here(Box<siltstone_kv::Scan>),
    /// Taking a step on a blocking thread.
    Away(JoinHandle<(Box<siltstone_kv::Scan>, bool)>),
    Failed(Error),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Unopened(_) | Place::Opening(_) => "Unopened",
            Place::Here(_) => "Here",
            Place::Away(_) => "Away",
            Place::Failed(_) => "Failed",
        })
    }
}

impl Scan {
    pub(crate) fn opened(scan: siltstone_kv::Scan) -> Self {
        Self {
            stats: scan.stats(),
            place: Place::Here(Box::new(scan)),
        }
    }

    /// A scan that `open` opens, where waiting is allowed, at the first step.
    pub(crate) fn unopened(
        open: impl FnOnce() -> siltstone_kv::Result<siltstone_kv::Scan> + Send + 'static,
    ) -> Self {
        Self {
            stats: ScanStats::default(),
            place: Place::Unopened(Box::new(open)),
        }
    }

    /// The next row, `None` at the end. The future may be dropped before it is ready, in a `select!`
    /// for instance: no row is lost.
    ///
    /// # Errors
    /// The store's, or cancelled; the scan is over then.
    pub async fn next(&mut self) -> Result<Row> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Scan::next`], for futures written by hand.
    ///
    /// # Errors
    /// As [`Scan::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Row>> {
        loop {
            match &mut self.place {
                Place::Failed(error) => return Poll::Ready(Err(error.clone())),
                Place::Here(scan) => match scan.poll_turn(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) if !error.is_would_block() => {
                        return Poll::Ready(Err(error.into()));
                    }
                    Poll::Ready(_) => match scan.try_next() {
                        Err(error) if error.is_would_block() => self.go_away(),
                        more => return Poll::Ready(Ok(more?.then(|| row(scan)))),
                    },
                },
                Place::Away(step) => {
                    let (scan, more) = match ready!(std::pin::Pin::new(step).poll(context)) {
                        Ok(taken) => taken,
                        Err(_) => return Poll::Ready(Err(self.fail(Error::RuntimeGone))),
                    };
                    let outcome = match scan.error() {
                        Some(error) => Err(error.clone().into()),
                        None => Ok(more.then(|| row(&scan))),
                    };
                    self.place = Place::Here(scan);
                    return Poll::Ready(outcome);
                }
                Place::Opening(opening) => {
                    self.place = match ready!(std::pin::Pin::new(opening).poll(context)) {
                        Ok(Ok(scan)) => Place::Here(Box::new(scan)),
                        Ok(Err(error)) => return Poll::Ready(Err(self.fail(error.into()))),
                        Err(_) => return Poll::Ready(Err(self.fail(Error::RuntimeGone))),
                    };
                }
                Place::Unopened(_) => self.open(),
            }
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.place = Place::Failed(error.clone());
        error
    }

    fn open(&mut self) {
        self.place = match std::mem::replace(&mut self.place, Place::Failed(Error::RuntimeGone)) {
            Place::Unopened(open) => Place::Opening(spawn_blocking(open)),
            other => other,
        };
    }

    fn go_away(&mut self) {
        self.stats = self.stats();
        self.place = match std::mem::replace(&mut self.place, Place::Failed(Error::RuntimeGone)) {
            Place::Here(mut scan) => Place::Away(spawn_blocking(move || {
                let more = scan.next();
                (scan, more)
            })),
            other => other,
        };
    }

    /// What the scan has done so far, without the step it is taking.
    pub fn stats(&self) -> ScanStats {
        match &self.place {
            Place::Here(scan) => scan.stats(),
            _ => self.stats,
        }
    }
}

fn row(scan: &siltstone_kv::Scan) -> (Bytes, Bytes) {
    (
        Bytes::copy_from_slice(scan.key()),
        Bytes::copy_from_slice(scan.value()),
    )
}
