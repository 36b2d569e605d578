//! Put-if-absent that tells the truth. A store can commit a conditional put and then answer with an
//! error, or lose the answer on the way; the repeated request then finds the name taken, by
//! ourselves. So no failure is believed: the object is read back and compared with the bytes that
//! were to be written.

use super::Target;
use super::failure::{Verdict, verdict};
use crate::blobs::PutOutcome;
use crate::error::Result;
use bytes::Bytes;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use std::time::Duration;

/// Conditional puts sent, at most, before the last failure is reported. Each of them repeats quick
/// refusals (429, 5xx) by itself.
const ATTEMPTS: u32 = 4;
/// The pause before the second attempt; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What the store holds under the name.
enum Found {
    Ours,
    Theirs,
    Nothing,
    Unknown,
}

pub(super) async fn put_if_absent(target: Target, bytes: Bytes) -> Result<PutOutcome> {
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let put = target.store.put_opts(
            &target.path,
            bytes.clone().into(),
            PutOptions::from(PutMode::Create),
        );
        let Err(error) = put.await else {
            return Ok(PutOutcome::Created);
        };
        let verdict = verdict(&error);
        if matches!(verdict, Verdict::Refused | Verdict::Missing) {
            return Err(target.typed(&error, "put_if_absent"));
        }
        match look(&target, &bytes).await {
            Found::Ours => return Ok(PutOutcome::Created),
            Found::Theirs => return Ok(PutOutcome::Exists),
            Found::Nothing | Found::Unknown => {}
        }
        if attempts >= ATTEMPTS || verdict == Verdict::Unreachable {
            return Err(target.typed(&error, "put_if_absent"));
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn look(target: &Target, ours: &Bytes) -> Found {
    let result = match target.store.get(&target.path).await {
        Ok(result) => result,
        Err(object_store::Error::NotFound { .. }) => return Found::Nothing,
        Err(_) => return Found::Unknown,
    };
    if result.meta.size != ours.len() as u64 {
        return Found::Theirs;
    }
    match result.bytes().await {
        Ok(found) if found == *ours => Found::Ours,
        Ok(_) => Found::Theirs,
        Err(_) => Found::Unknown,
    }
}
