//! The readers, writers and appenders that [`FaultyBlobs`] hands out: each call goes through the
//! plan, and none outlives a crash.

use super::{CallKind, FaultyBlobs};
use crate::blobs::{Appender, BlobReader, BlobWriter, Wait};
use crate::error::Result;
use bytes::Bytes;
use std::sync::Arc;

/// What a handle remembers: its store, its blob, and the life in which it was opened.
#[derive(Debug)]
struct Opened<T> {
    store: FaultyBlobs,
    life: u64,
    name: String,
    inner: T,
}

#[derive(Debug)]
pub(super) struct FaultyReader(Opened<Arc<dyn BlobReader>>);

#[derive(Debug)]
pub(super) struct FaultyWriter(Opened<Box<dyn BlobWriter>>);

#[derive(Debug)]
pub(super) struct FaultyAppender(Opened<Box<dyn Appender>>);

impl<T> Opened<T> {
    fn new(store: FaultyBlobs, life: u64, name: &str, inner: T) -> Self {
        Self {
            store,
            life,
            name: name.into(),
            inner,
        }
    }
}

impl FaultyReader {
    pub(super) fn new(
        store: FaultyBlobs,
        life: u64,
        name: &str,
        inner: Arc<dyn BlobReader>,
    ) -> Self {
        Self(Opened::new(store, life, name, inner))
    }
}

impl FaultyWriter {
    pub(super) fn new(
        store: FaultyBlobs,
        life: u64,
        name: &str,
        inner: Box<dyn BlobWriter>,
    ) -> Self {
        Self(Opened::new(store, life, name, inner))
    }
}

impl FaultyAppender {
    pub(super) fn new(store: FaultyBlobs, life: u64, name: &str, inner: Box<dyn Appender>) -> Self {
        Self(Opened::new(store, life, name, inner))
    }
}

impl BlobReader for FaultyReader {
    fn read(&self, offset: u64, len: usize, wait: Wait) -> Result<Bytes> {
        let Opened {
            store,
            life,
            name,
            inner,
        } = &self.0;
        let call = store.begin(*life, CallKind::Read, name, len)?;
        store.carry_out(&call, |_| (), || inner.read(offset, len, wait))
    }

    fn size(&self) -> u64 {
        self.0.inner.size()
    }
}

impl BlobWriter for FaultyWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Opened {
            store,
            life,
            name,
            inner,
        } = &mut self.0;
        let call = store.begin(*life, CallKind::Write, name, bytes.len())?;
        store.carry_out(&call, |_| (), || inner.write(bytes))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Opened {
            store,
            life,
            name,
            inner,
        } = self.0;
        let call = store.begin(life, CallKind::Finish, &name, 0)?;
        store.carry_out(&call, |_| (), || inner.finish())
    }
}

impl Appender for FaultyAppender {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Opened {
            store,
            life,
            name,
            inner,
        } = &mut self.0;
        let call = store.begin(*life, CallKind::Append, name, bytes.len())?;
        // Both ways write to the same end; only one of them runs.
        let inner = std::cell::RefCell::new(inner);
        store.carry_out(
            &call,
            |first| {
                // The failure to report is the planned one.
                let _ = inner.borrow_mut().append(&bytes[..first]);
            },
            || inner.borrow_mut().append(bytes),
        )
    }

    fn sync(&mut self) -> Result<()> {
        let Opened {
            store,
            life,
            name,
            inner,
        } = &mut self.0;
        let call = store.begin(*life, CallKind::Sync, name, 0)?;
        store.carry_out(&call, |_| (), || inner.sync())
    }
}
