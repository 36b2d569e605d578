//! Many objects deleted by few requests, where the store has a request for that. Not every store that
//! speaks S3's protocol has: one that refuses is not asked again, and its objects go one by one.

use super::failure::{Verdict, status, verdict};
use futures_util::{StreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A client that deletes a thousand objects in a request.
pub(super) struct Bulk {
    client: Arc<dyn ObjectStore>,
    refused: AtomicBool,
}

impl Bulk {
    pub(super) fn new(client: Arc<dyn ObjectStore>) -> Self {
        Self {
            client,
            refused: AtomicBool::new(false),
        }
    }

    /// Deletes the objects; whether that was done. If not, any of them may be left.
    pub(super) async fn delete(&self, paths: &[Path]) -> bool {
        if self.refused.load(Ordering::Relaxed) {
            return false;
        }
        let deleted = delete_all(&*self.client, paths).await;
        if deleted.as_ref().is_err_and(is_final) {
            self.refused.store(true, Ordering::Relaxed);
        }
        deleted.is_ok()
    }
}

fn is_final(error: &Error) -> bool {
    verdict(error) == Verdict::Refused || status(error) == Some(501)
}

/// Deletes objects the way the client does it. One that is not there is already deleted.
pub(super) async fn delete_all(client: &dyn ObjectStore, paths: &[Path]) -> Result<()> {
    let paths: Vec<_> = paths.iter().cloned().map(Ok).collect();
    let mut answers = client.delete_stream(stream::iter(paths).boxed());
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
