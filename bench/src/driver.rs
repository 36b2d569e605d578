//! Runs callers of an engine: threads or tasks, as the engine asks, all from the same code.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::engine::{Config, Drive, Engine};
use crate::error::{Error, Result};

/// Worker threads of the runtime that async engines live on.
const RUNTIME_WORKERS: usize = 2;

/// An open database together with what its callers run on.
pub(crate) struct Driver<E> {
    /// Declared before the runtime: the engine goes first, while its tasks can still run.
    engine: Arc<E>,
    runtime: Arc<Host>,
}

/// What calls run on; outlives the engine, so that a database can be reopened on it.
pub(crate) struct Host {
    runtime: Option<Runtime>,
}

impl Host {
    /// A host for engine `E`: a runtime only if some of its calls are tasks.
    pub(crate) fn new<E: Engine>() -> Result<Arc<Self>> {
        let tasks = [E::WRITES, E::CROWD, E::READS].contains(&Drive::Tasks);
        let runtime = if tasks {
            let built = Builder::new_multi_thread()
                .worker_threads(RUNTIME_WORKERS)
                .enable_all()
                .build()
                .map_err(|source| Error::io("start the Tokio runtime", source))?;
            Some(built)
        } else {
            None
        };
        Ok(Arc::new(Self { runtime }))
    }

    /// Runs `future` on this thread.
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => poll_once(future),
        }
    }

    fn handle(&self) -> Option<Handle> {
        self.runtime
            .as_ref()
            .map(|runtime| runtime.handle().clone())
    }
}

/// The value of a future that never waits, as those of synchronous engines.
fn poll_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("an engine driven by threads returned a future that waits"),
    }
}

impl<E: Engine> Driver<E> {
    /// Opens the database in `dir`.
    pub(crate) fn open(runtime: &Arc<Host>, dir: &Path, config: &Config) -> Result<Self> {
        let engine = runtime
            .block_on(E::open(dir, config))
            .map_err(|source| Error::engine::<E>("open", source))?;
        Ok(Self {
            engine: Arc::new(engine),
            runtime: Arc::clone(runtime),
        })
    }

    /// Runs `callers` copies of `work` at the same time and returns what each returned.
    pub(crate) fn run<T, F>(
        &self,
        drive: Drive,
        callers: usize,
        work: impl Fn(Arc<E>, usize) -> F,
    ) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = crate::engine::Result<T>> + Send + 'static,
    {
        let running: Vec<_> = (0..callers)
            .map(|index| self.start(drive, work(Arc::clone(&self.engine), index)))
            .collect();
        running
            .into_iter()
            .map(|caller| self.join(caller))
            .collect()
    }

    /// Runs one writer, the way the engine drives writers.
    pub(crate) fn one<T, F>(&self, work: impl FnOnce(Arc<E>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = crate::engine::Result<T>> + Send + 'static,
    {
        self.join(self.start(E::WRITES, work(Arc::clone(&self.engine))))
    }

    /// Starts one caller.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        drive: Drive,
        future: impl Future<Output = crate::engine::Result<T>> + Send + 'static,
    ) -> Caller<T> {
        match (drive, self.runtime.handle()) {
            (Drive::Tasks, Some(handle)) => Caller::Task(handle.spawn(future)),
            (_, handle) => Caller::Thread(std::thread::spawn(move || {
                let _inside = handle.as_ref().map(Handle::enter);
                poll_once(future)
            })),
        }
    }

    /// Waits for a caller to end.
    pub(crate) fn join<T>(&self, caller: Caller<T>) -> Result<T> {
        let ended = match caller {
            Caller::Task(task) => self.runtime.block_on(task).map_err(|e| e.to_string()),
            Caller::Thread(thread) => thread.join().map_err(|_| "a caller panicked".to_owned()),
        };
        ended
            .map_err(Into::into)
            .and_then(|result| result)
            .map_err(|source| Error::engine::<E>("run the workload", source))
    }

    /// Another handle on the engine, for a caller started by hand.
    pub(crate) fn engine(&self) -> Arc<E> {
        Arc::clone(&self.engine)
    }

    /// Flushes and waits until the engine and the process are idle.
    pub(crate) fn settle(&self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.runtime
            .block_on(async move { engine.settle().await })
            .map_err(|source| Error::engine::<E>("settle", source))?;
        if !crate::probe::wait_until_quiet(std::time::Duration::from_secs(60)) {
            eprintln!("    {}: still busy after a minute of settling", E::NAME);
        }
        Ok(())
    }

    /// Merges everything into as few tables as the engine can; false if it cannot be asked to.
    pub(crate) fn compact(&mut self) -> Result<bool> {
        let engine = Arc::get_mut(&mut self.engine).expect("no caller is running");
        self.runtime
            .block_on(engine.compact())
            .map_err(|source| Error::engine::<E>("compact", source))
    }

    /// Closes the database cleanly.
    pub(crate) fn close(self) -> Result<()> {
        let engine = Arc::into_inner(self.engine).expect("no caller is running");
        self.runtime
            .block_on(engine.close())
            .map_err(|source| Error::engine::<E>("close", source))
    }
}

/// A running caller.
pub(crate) enum Caller<T> {
    /// A task on the runtime.
    Task(tokio::task::JoinHandle<crate::engine::Result<T>>),
    /// A thread of its own.
    Thread(std::thread::JoinHandle<crate::engine::Result<T>>),
}
