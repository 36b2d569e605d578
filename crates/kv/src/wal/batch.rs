//! Records of a log file that were read and unpacked, and wait to be handed on together.

use crate::error::{Error, Result};
use crate::types::Commit;
use crate::varint;
use crate::wal::blob_name;
use crate::wal::file::Found;
use crate::wal::frame::{self, Op, Payloads, Record};
use crate::wal::recovery::Replay;

/// Unpacked records of a file are handed on when they have so many bytes, with large values: they are
/// still in the processor's cache, and the memory is used again.
const FEW_BYTES: usize = 1 << 20;
/// A large value, in bytes. The smaller they are, the more is gained by putting all of them in order
/// at once.
const LARGE: u64 = 512;
/// Records are handed on when they have so many bytes, whatever they hold.
const MANY_BYTES: usize = 64 << 20;

/// Records of one log file.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The file's number.
    file: u64,
    records: Vec<Found>,
    /// Where the payloads of the records are put.
    pub(super) payloads: Payloads,
    /// About as many operations.
    ops: u64,
}

impl Batch {
    /// A record of `file` whose payload is among the payloads.
    pub(super) fn add(&mut self, file: u64, found: Found) {
        self.file = file;
        let Record { first, last, .. } = found.record;
        let commits = last.0.saturating_sub(first.0).saturating_add(1);
        // Of the first commit; the others are about like it.
        let ops = varint::get(self.payloads.get(found.payload.clone()), &mut 0);
        self.ops = self
            .ops
            .saturating_add(commits.saturating_mul(ops.unwrap_or(1)));
        self.records.push(found);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Nothing is gained by more of them.
    pub(super) fn is_full(&self) -> bool {
        self.payloads.len() >= MANY_BYTES || self.is_quick()
    }

    /// Many bytes in few operations.
    pub(super) fn is_quick(&self) -> bool {
        let bytes = self.payloads.len();
        bytes >= FEW_BYTES && bytes as u64 / self.ops.max(1) >= LARGE
    }

    /// Hands all of it on, and is empty again.
    pub(super) fn replay(&mut self, target: &mut dyn Replay) -> Result<()> {
        let mut ops: Vec<(Commit, Op<'_>)> = Vec::new();
        for found in &self.records {
            let Record { first, last, .. } = found.record;
            let payload = self.payloads.get(found.payload.clone());
            let whole = frame::for_each_op(payload, first, last, |commit, op| {
                ops.push((commit, op));
            });
            if !whole {
                let what = "a record that decodes to nonsense";
                return Err(Error::corrupt(blob_name(self.file), found.at, what));
            }
            target.time(last, found.record.time);
        }
        if !ops.is_empty() {
            target.ops(self.file, &ops);
        }
        drop(ops);
        self.records.clear();
        self.payloads.clear();
        self.ops = 0;
        Ok(())
    }
}
