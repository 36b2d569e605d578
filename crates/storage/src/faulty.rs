//! A store that fails by plan: the same seed and the same calls give the same faults, so a failing
//! run can be run again, and "crash at the n-th call" can be walked through for every n. It covers
//! the readers, writers and appenders that it hands out, and holds no lock while the inner store or
//! a hook runs.

mod handles;
mod plan;

pub use plan::{Call, CallKind, FaultPlan, Injected};

use crate::blobs::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, PendingPut, PutOutcome, StoreKind,
};
use crate::env::Clock;
use crate::error::{Error, Result};
use bytes::Bytes;
use handles::{FaultyAppender, FaultyReader, FaultyWriter};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

type Hook = Arc<dyn Fn(&Call) + Send + Sync>;

/// Wraps any store and fails as its [`FaultPlan`] says. Clones are the same store.
///
/// After a crash every call fails with [`Error::Crashed`] until [`FaultyBlobs::revive`]; what was
/// opened before the crash stays dead, as the memory of a process does. The inner store decides what
/// a crash loses: pair it with a store that knows what was synced.
///
/// Faults are a function of the seed and of the number of the call. A run of one thread repeats
/// exactly; with several threads the numbering follows their interleaving.
#[derive(Clone)]
pub struct FaultyBlobs(Arc<Core>);

struct Core {
    inner: Arc<dyn Blobs>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

struct State {
    plan: FaultPlan,
    trace: Vec<Call>,
    crashed: bool,
    /// Counts the crashes: handles of an earlier life are dead.
    life: u64,
}

impl std::fmt::Debug for FaultyBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyBlobs")
            .field("inner", &self.0.inner)
            .finish_non_exhaustive()
    }
}

impl FaultyBlobs {
    /// Wraps `inner`. Delays pass on `clock`.
    pub fn new(inner: Arc<dyn Blobs>, clock: Arc<dyn Clock>, plan: FaultPlan) -> Self {
        Self(Arc::new(Core {
            inner,
            clock,
            state: Mutex::new(State {
                plan,
                trace: Vec::new(),
                crashed: false,
                life: 0,
            }),
            hook: Mutex::new(None),
        }))
    }

    /// Goes on by another plan. Numbers go on counting.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.0.state.lock().plan = plan;
    }

    /// Stops the machine now.
    pub fn crash(&self) {
        let mut state = self.0.state.lock();
        if !state.crashed {
            state.stop();
        }
    }

    /// True between a crash and [`FaultyBlobs::revive`].
    pub fn is_crashed(&self) -> bool {
        self.0.state.lock().crashed
    }

    /// Starts the machine again. Numbers go on counting, so a planned crash does not come twice.
    pub fn revive(&self) {
        self.0.state.lock().crashed = false;
    }

    /// Calls made so far, those that failed by plan included, those refused after a crash not.
    pub fn calls(&self) -> u64 {
        self.0.state.lock().trace.len() as u64
    }

    /// Calls of one kind made so far.
    pub fn calls_of(&self, kind: CallKind) -> u64 {
        self.0
            .state
            .lock()
            .trace
            .iter()
            .filter(|call| call.kind == kind)
            .count() as u64
    }

    /// All calls made so far, in order. Grows without bound: for tests.
    pub fn trace(&self) -> Vec<Call> {
        self.0.state.lock().trace.clone()
    }

    /// Runs `hook` before each call, on the caller's thread, with no lock held: it may call this
    /// store itself (and is then run for its own calls too).
    pub fn on_call(&self, hook: Box<dyn Fn(&Call) + Send + Sync>) {
        *self.0.hook.lock() = Some(Arc::from(hook));
    }

    /// Takes the hook back.
    pub fn clear_hook(&self) {
        *self.0.hook.lock() = None;
    }

    fn life(&self) -> u64 {
        self.0.state.lock().life
    }

    /// Numbers a call, decides its fault and runs the hook.
    fn begin(&self, life: u64, kind: CallKind, name: &str, bytes: usize) -> Result<Call> {
        let call = {
            let mut state = self.0.state.lock();
            state.check(life)?;
            let number = state.trace.len() as u64 + 1;
            let call = Call {
                number,
                kind,
                name: name.into(),
                bytes,
                fault: state.plan.fault(number, kind, bytes),
            };
            state.trace.push(call.clone());
            if call.fault == Some(Injected::Crash) {
                state.stop();
            }
            call
        };
        let hook = self.0.hook.lock().clone();
        if let Some(hook) = hook {
            hook(&call);
            // The hook's own calls may have crashed the machine.
            if call.fault != Some(Injected::Crash) {
                self.0.state.lock().check(life)?;
            }
        }
        Ok(call)
    }

    /// Carries a call out as its fault says. `partly` does what half a write does.
    fn carry_out<T>(
        &self,
        call: &Call,
        partly: impl FnOnce(usize),
        whole: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match call.fault {
            None => whole(),
            Some(Injected::Delay(duration)) => {
                self.0.clock.sleep(duration);
                whole()
            }
            Some(Injected::ErrorBefore) => Err(failed(call, "it did not happen")),
            Some(Injected::ErrorAfter) => {
                whole()?;
                Err(failed(call, "it happened all the same"))
            }
            Some(Injected::HalfWrite { bytes }) => {
                partly(bytes.min(call.bytes));
                Err(failed(call, "it half happened"))
            }
            Some(Injected::NoSpace) => {
                partly(call.bytes / 2);
                Err(Error::Io {
                    name: call.name.clone(),
                    operation: call.kind.name(),
                    kind: io::ErrorKind::StorageFull,
                    message: format!("planned failure of call {}: no space left", call.number),
                })
            }
            Some(Injected::Crash) => {
                partly(call.bytes / 2);
                Err(Error::Crashed)
            }
        }
    }

    /// A call that happens whole or not at all.
    fn call<T>(
        &self,
        kind: CallKind,
        name: &str,
        bytes: usize,
        whole: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let call = self.begin(self.life(), kind, name, bytes)?;
        self.carry_out(&call, |_| (), whole)
    }
}

impl State {
    fn check(&self, life: u64) -> Result<()> {
        if self.crashed || self.life != life {
            return Err(Error::Crashed);
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.crashed = true;
        self.life += 1;
    }
}

fn failed(call: &Call, what: &str) -> Error {
    Error::Io {
        name: call.name.clone(),
        operation: call.kind.name(),
        kind: io::ErrorKind::Other,
        message: format!("planned failure of call {}: {what}", call.number),
    }
}

impl Blobs for FaultyBlobs {
    fn kind(&self) -> StoreKind {
        self.0.inner.kind()
    }

    fn describe(&self) -> String {
        format!("{} (with planned faults)", self.0.inner.describe())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.call(CallKind::Put, name, bytes.len(), || {
            self.0.inner.put(name, bytes)
        })
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<PutOutcome> {
        self.call(CallKind::PutIfAbsent, name, bytes.len(), || {
            self.0.inner.put_if_absent(name, bytes)
        })
    }

    fn start_put_if_absent(&self, name: &str, bytes: Bytes) -> PendingPut {
        let life = self.life();
        let call = match self.begin(life, CallKind::PutIfAbsent, name, bytes.len()) {
            Ok(call) => call,
            Err(error) => return PendingPut::done(Err(error)),
        };
        let store = self.clone();
        match call.fault {
            None | Some(Injected::Delay(_) | Injected::ErrorAfter) => {
                let pending = self.0.inner.start_put_if_absent(name, bytes);
                PendingPut::new(move || {
                    let answer = store.carry_out(&call, |_| (), || pending.wait());
                    store.0.state.lock().check(life)?;
                    answer
                })
            }
            Some(_) => PendingPut::done(self.carry_out(
                &call,
                |_| (),
                || Err(failed(&call, "it did not happen")),
            )),
        }
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        self.call(CallKind::Get, name, 0, || self.0.inner.get(name))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>> {
        let life = self.life();
        let inner = self.call(CallKind::Open, name, 0, || self.0.inner.open(name))?;
        Ok(Arc::new(FaultyReader::new(self.clone(), life, name, inner)))
    }

    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>> {
        let life = self.life();
        let inner = self.call(CallKind::Create, name, 0, || self.0.inner.create(name))?;
        Ok(Box::new(FaultyWriter::new(self.clone(), life, name, inner)))
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        self.call(CallKind::List, prefix, 0, || self.0.inner.list(prefix))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.call(CallKind::Delete, name, 0, || self.0.inner.delete(name))
    }

    fn sync(&self, name: &str) -> Result<()> {
        self.call(CallKind::Sync, name, 0, || self.0.inner.sync(name))
    }

    fn can_append(&self) -> bool {
        self.0.inner.can_append()
    }

    fn append(&self, name: &str, reserve: u64) -> Result<Box<dyn Appender>> {
        let life = self.life();
        let inner = self.call(CallKind::OpenAppend, name, 0, || {
            self.0.inner.append(name, reserve)
        })?;
        Ok(Box::new(FaultyAppender::new(
            self.clone(),
            life,
            name,
            inner,
        )))
    }
}
