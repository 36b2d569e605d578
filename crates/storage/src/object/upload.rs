//! A blob written piece by piece: small ones go up in one put, larger ones in parts of 8 MiB, a few
//! at a time. Dropped unfinished, the parts already sent are given back.

use super::runtime::{Pending, run, start};
use super::{Target, retrying};
use crate::blobs::BlobWriter;
use crate::error::{Error, Result};
use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectMeta, ObjectStoreExt, PutPayload, UploadPart};
use std::collections::VecDeque;
use std::time::Duration;

/// Size of a part in bytes; also the largest blob that goes up in one put.
pub(super) const PART_BYTES: usize = 8 << 20;
/// The most parts a store takes for one blob (S3's limit): 78 GiB.
const MAX_PARTS: usize = 10_000;
/// Parts under way at once; bounds the memory of a writer to this many parts and one more.
const PARTS_UNDER_WAY: usize = 3;
/// How long a dropped writer waits for the store to take its parts back.
const ABORT_LIMIT: Duration = Duration::from_secs(5);

/// A multipart upload that has begun.
struct Upload {
    upload: Box<dyn MultipartUpload>,
    /// What was under the name before: tells our blob from an older one when the answer to the
    /// completion is lost.
    before: Option<ObjectMeta>,
    under_way: VecDeque<Pending<Result<()>>>,
    parts: usize,
}

/// Writes one blob.
pub(super) struct ObjectWriter {
    target: Target,
    buffer: BytesMut,
    upload: Option<Upload>,
    size: u64,
}

impl std::fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectWriter")
            .field("name", &self.target.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl ObjectWriter {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            buffer: BytesMut::new(),
            upload: None,
            size: 0,
        }
    }

    fn send_part(&mut self, part: Bytes) -> Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            empty => empty.insert(begin(&self.target)?),
        };
        upload.parts += 1;
        if upload.parts > MAX_PARTS {
            return Err(Error::Invalid {
                name: self.target.name.clone(),
                what: format!("a blob in a bucket has at most {MAX_PARTS} parts of 8 MiB"),
            });
        }
        while upload.under_way.len() >= PARTS_UNDER_WAY {
            upload.wait_for_oldest()?;
        }
        let sent = upload.upload.put_part(PutPayload::from(part));
        let target = self.target.clone();
        upload.under_way.push_back(start(send(target, sent))?);
        Ok(())
    }
}

impl Upload {
    fn wait_for_oldest(&mut self) -> Result<()> {
        match self.under_way.pop_front() {
            Some(part) => part.wait()?,
            None => Ok(()),
        }
    }
}

async fn send(target: Target, part: UploadPart) -> Result<()> {
    part.await.map_err(|error| target.typed(&error, "write"))
}

fn begin(target: &Target) -> Result<Upload> {
    let target = target.clone();
    run(async move {
        let before = match target.store.head(&target.path).await {
            Ok(meta) => Some(meta),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => return Err(target.typed(&error, "create")),
        };
        let upload = retrying(|| {
            let target = target.clone();
            async move { target.store.put_multipart(&target.path).await }
        });
        let upload = upload
            .await
            .map_err(|error| target.typed(&error, "create"))?;
        Ok(Upload {
            upload,
            before,
            under_way: VecDeque::new(),
            parts: 0,
        })
    })
}

impl BlobWriter for ObjectWriter {
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.buffer.len() == PART_BYTES {
                let part = self.buffer.split().freeze();
                self.send_part(part)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PART_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let last = self.buffer.split().freeze();
        if self.upload.is_none() {
            return self.target.put_whole(last);
        }
        self.send_part(last)?;
        while self
            .upload
            .as_ref()
            .is_some_and(|upload| !upload.under_way.is_empty())
        {
            if let Some(upload) = &mut self.upload {
                upload.wait_for_oldest()?;
            }
        }
        let Some(upload) = self.upload.take() else {
            return Ok(());
        };
        let (target, size) = (self.target.clone(), self.size);
        run(complete(target, upload.upload, upload.before, size))
    }
}

/// Completes an upload. When the store commits and its answer is lost, the repeated completion finds
/// no such upload; then the blob itself tells.
async fn complete(
    target: Target,
    mut upload: Box<dyn MultipartUpload>,
    before: Option<ObjectMeta>,
    size: u64,
) -> Result<()> {
    let Err(error) = upload.complete().await else {
        return Ok(());
    };
    if let Ok(now) = target.store.head(&target.path).await {
        let replaced = before.is_none_or(|before| before.e_tag != now.e_tag);
        if now.size == size && replaced {
            return Ok(());
        }
    }
    // The failure to report is the first one.
    let _ = upload.abort().await;
    Err(target.typed(&error, "finish"))
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        let Some(mut unfinished) = self.upload.take() else {
            return;
        };
        let parts = std::mem::take(&mut unfinished.under_way);
        let abort = start(async move { unfinished.upload.abort().await.is_ok() });
        // Parts the store keeps cost money and nothing else; its own lifecycle rules take the rest.
        let aborted = abort.ok().and_then(|abort| abort.wait_at_most(ABORT_LIMIT));
        if aborted != Some(true) {
            tracing::warn!(
                blob = %self.target.name,
                parts = parts.len(),
                "the parts of an unfinished upload could not be given back"
            );
        }
    }
}
