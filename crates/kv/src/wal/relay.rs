//! Hands the batches of a replay on, in order. In a long log of large values a second thread does it:
//! while one reads and unpacks, the other fills memtables, which takes about as long.

use crate::error::Result;
use crate::wal::batch::Batch;
use crate::wal::recovery::Replay;
use parking_lot::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Two batches of fewer bytes may be on their way at once.
const TWICE: usize = 8 << 20;

/// The way from the log to what takes it.
pub(super) struct Relay<'scope, 'env, 'target> {
    scope: &'scope Scope<'scope, 'env>,
    /// The thread holds it as long as it lives.
    target: &'env Mutex<&'target mut dyn Replay>,
    second: Option<Second<'scope>>,
}

struct Second<'scope> {
    full: SyncSender<Batch>,
    empty: Receiver<Batch>,
    thread: ScopedJoinHandle<'scope, Result<()>>,
}

impl<'scope, 'env, 'target> Relay<'scope, 'env, 'target> {
    pub(super) fn new(
        scope: &'scope Scope<'scope, 'env>,
        target: &'env Mutex<&'target mut dyn Replay>,
    ) -> Self {
        Self {
            scope,
            target,
            second: None,
        }
    }

    /// Hands `batch` on and leaves an empty one, perhaps before what it held has arrived.
    pub(super) fn hand_on(&mut self, batch: &mut Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        // With small values all of a file is one batch: nobody would read meanwhile.
        if self.second.is_none() && batch.is_quick() {
            self.second = self.start();
        }
        let Some(second) = &self.second else {
            return batch.replay(&mut **self.target.lock());
        };
        let is_large = batch.payloads.len() > TWICE;
        if second.full.send(std::mem::take(batch)).is_err() {
            return self.finish();
        }
        // The thread has taken this batch, so it is done with the one before.
        let back = match is_large {
            true => second.empty.recv().ok(),
            false => second.empty.try_recv().ok(),
        };
        *batch = back.unwrap_or_default();
        Ok(())
    }

    /// Waits until everything has arrived.
    pub(super) fn finish(&mut self) -> Result<()> {
        let Some(Second { full, thread, .. }) = self.second.take() else {
            return Ok(());
        };
        drop(full);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// `None` where there are no more threads.
    fn start(&self) -> Option<Second<'scope>> {
        // Whoever sends waits until the batch is taken.
        let (full, batches) = sync_channel::<Batch>(0);
        let (done, empty) = channel();
        let target = self.target;
        let thread = Builder::new().name("siltstone-replay".into());
        let thread = thread.spawn_scoped(self.scope, move || {
            let mut target = target.lock();
            while let Ok(mut batch) = batches.recv() {
                batch.replay(&mut **target)?;
                // Nobody may want it any more.
                let _ = done.send(batch);
            }
            Ok(())
        });
        Some(Second {
            full,
            empty,
            thread: thread.ok()?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::error::{Error, Result};
    use crate::options::WalRecovery;
    use crate::types::{Commit, KeyspaceId, Tag};
    use crate::varint;
    use crate::wal::frame::{self, Op, Record};
    use crate::wal::recovery::{Recovered, Replay, replay};
    use crate::wal::{FileHeader, blob_name};
    use siltstone_storage::{Blobs, Env, MemBlobs, Timestamp};
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::thread::ThreadId;

    #[derive(Default)]
    struct Seen {
        /// File, commit, and the value's length and first byte.
        ops: Vec<(u64, Commit, usize, u8)>,
        times: Vec<Commit>,
        threads: Vec<ThreadId>,
    }

    impl Replay for Seen {
        fn ops(&mut self, file: u64, ops: &[(Commit, Op<'_>)]) {
            let all = ops.iter().map(|(commit, op)| {
                assert!(op.value.iter().all(|byte| *byte == op.value[0]));
                (file, *commit, op.value.len(), op.value[0])
            });
            self.ops.extend(all);
            self.threads.push(std::thread::current().id());
        }

        fn time(&mut self, last: Commit, _: Timestamp) {
            self.times.push(last);
        }
    }

    /// Log files of values so long, a commit each, and what of one is seen.
    fn log(files: &[&[usize]], nonsense: Option<u64>) -> (MemBlobs, Vec<(u64, Commit, usize, u8)>) {
        let (blobs, mut want, mut commit) = (MemBlobs::new(), Vec::new(), 0);
        for (number, lens) in (1..).zip(files) {
            let (mut bytes, epoch) = (Vec::new(), 1);
            let nonce = number;
            FileHeader {
                number,
                epoch,
                nonce,
            }
            .encode(&mut bytes);
            for len in *lens {
                commit += 1;
                let value = vec![commit as u8 | 1; *len];
                let mut payload = Vec::new();
                varint::put(&mut payload, 1 + u64::from(nonsense == Some(commit)));
                let op = Op {
                    keyspace: KeyspaceId(1),
                    tag: Tag::PUT,
                    key: &commit.to_be_bytes(),
                    value: &value,
                };
                frame::put_op(&mut payload, &op);
                let record = Record {
                    first: Commit(commit),
                    last: Commit(commit),
                    durable: 0,
                    time: Timestamp(commit),
                };
                frame::encode(&mut bytes, number, &record, &payload, 1000);
                want.push((number, Commit(commit), *len, value[0]));
            }
            blobs.put(&blob_name(number), &bytes).unwrap();
        }
        (blobs, want)
    }

    fn replayed(blobs: MemBlobs) -> (Result<Recovered>, Seen) {
        let (env, _) = Env::simulated(Arc::new(blobs), 1);
        let mut seen = Seen::default();
        let found = replay(&env, 1, Commit::ZERO, WalRecovery::Strict, &mut seen);
        (found, seen)
    }

    #[test]
    fn everything_arrives_in_order_whichever_thread_hands_it_on() {
        let (large, small, huge) = (vec![60_000; 100], vec![100; 30_000], vec![9 << 20; 3]);
        let logs: [(&[&[usize]], usize); 6] = [
            (&[&small, &small], 0),
            (&[&large[..10]], 0),
            (&[&large, &large], 1),
            (&[&small, &large, &small, &large], 1),
            (&[&huge, &small, &large[..5], &huge], 1),
            (&[&[], &large[..1], &[], &huge[..1]], 1),
        ];
        for (files, second) in logs {
            let (blobs, want) = log(files, None);
            let (found, seen) = replayed(blobs);
            let found = found.unwrap();
            assert!(seen.ops == want);
            assert_eq!(found.last, want.last().unwrap().1);
            assert_eq!(found.commits, want.len() as u64);
            assert!(
                seen.times
                    .iter()
                    .eq(want.iter().map(|(_, commit, ..)| commit))
            );
            let mine = std::thread::current().id();
            let others: BTreeSet<String> = seen
                .threads
                .iter()
                .filter(|thread| **thread != mine)
                .map(|thread| format!("{thread:?}"))
                .collect();
            assert_eq!(others.len(), second);
        }
    }

    #[test]
    fn a_record_of_nonsense_is_an_error_wherever_it_stands() {
        let large = [60_000; 100];
        for nonsense in [1, 2, 30, 99, 100, 101, 150, 200] {
            let (blobs, _) = log(&[&large, &large], Some(nonsense));
            // Whatever is wrong behind it.
            for damage in [false, true] {
                let blobs = blobs.clone();
                if damage {
                    blobs.delete(&blob_name(2)).unwrap();
                    blobs.put(&blob_name(3), b"").unwrap();
                }
                let (found, seen) = replayed(blobs);
                let error = found.unwrap_err();
                let is_nonsense =
                    matches!(&error, Error::Storage(_)) && error.to_string().contains("nonsense");
                assert!(
                    is_nonsense || damage && nonsense > 100,
                    "{nonsense}: {error}"
                );
                assert!((seen.times.len() as u64) < nonsense);
            }
        }
    }
}
