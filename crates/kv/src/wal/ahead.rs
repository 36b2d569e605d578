//! Reads log objects of a bucket before they are wanted: many at once, so that a long log costs the
//! time of few requests, and bounded in number and bytes, so that it costs little memory.
//!
//! Of a folder, looks into the last file first. A writer makes the next file while one still fills:
//! whoever read the two in their order could find records in the next that follow what came into the
//! first after it was read. Once the next has a record the first is full.

use crate::wal::file::LogFile;
use crate::wal::{FILE_HEADER, blob_name, number_of};
use bytes::Bytes;
use siltstone_storage::{BlobMeta, Env, PendingRead, Result as StorageResult, Wait};
use std::collections::{BTreeMap, VecDeque};

/// Objects under way at once.
const OBJECTS: usize = 64;
/// Bytes under way or waiting at once; one object may be larger.
const BYTES: u64 = 32 << 20;

/// The log as it was listed, and the objects of it that are on their way.
#[derive(Debug)]
pub(crate) struct LogAhead {
    env: Env,
    listed: BTreeMap<u64, u64>,
    /// A folder's last file had no record yet.
    empty: Option<u64>,
    coming: VecDeque<(u64, u64, PendingRead)>,
    bytes: u64,
}

impl LogAhead {
    /// A log that was listed. What its end holds is asked for at once, before it is known where the
    /// part that is needed starts: that part ends there.
    pub(crate) fn new(env: &Env, listed: &[BlobMeta]) -> Self {
        let listed: BTreeMap<_, _> = listed
            .iter()
            .filter_map(|blob| Some((number_of(&blob.name)?, blob.size)))
            .collect();
        let mut ahead = Self {
            env: env.clone(),
            listed,
            empty: None,
            coming: VecDeque::new(),
            bytes: 0,
        };
        if !ahead.reads_ahead() {
            ahead.empty = ahead.listed.keys().next_back().copied();
            // One that cannot be read is noticed by whoever takes it.
            ahead.empty = ahead
                .empty
                .filter(|last| matches!(ahead.has_record(*last), Ok(false)));
        } else {
            let (mut start, mut count, mut bytes) = (None, 0, 0);
            for (number, size) in ahead.listed.iter().rev() {
                (count, bytes) = (count + 1, bytes + size);
                if count > OBJECTS || bytes > BYTES {
                    break;
                }
                start = Some(*number);
            }
            if let Some(start) = start {
                ahead.ask_from(start);
            }
        }
        ahead
    }

    /// A file of a folder is large and at hand.
    fn reads_ahead(&self) -> bool {
        !self.env.blobs.can_append()
    }

    /// The listed files from `floor` on, in order.
    pub(crate) fn numbers_from(&self, floor: u64) -> Vec<u64> {
        self.listed.range(floor..).map(|(n, _)| *n).collect()
    }

    /// False for a file that nothing was written to behind its header.
    fn has_record(&self, number: u64) -> StorageResult<bool> {
        let reader = self.env.blobs.open(&blob_name(number))?;
        let start = FILE_HEADER as u64;
        Ok(reader.size() > start && reader.read(start, 1, Wait::Allowed)?[0] != 0)
    }

    /// File `number`. Files are asked for in rising order.
    pub(crate) fn take(&mut self, number: u64) -> StorageResult<LogFile> {
        if !self.reads_ahead() {
            let reader = self.env.blobs.open(&blob_name(number))?;
            let end = match self.empty == Some(number) {
                true => FILE_HEADER as u64,
                false => u64::MAX,
            };
            return Ok(LogFile::of(reader, end));
        }
        self.take_object(number).map(LogFile::at_hand)
    }

    fn take_object(&mut self, number: u64) -> StorageResult<Bytes> {
        while let Some((first, ..)) = self.coming.front()
            && *first < number
        {
            self.drop_first();
        }
        if self
            .coming
            .front()
            .is_none_or(|(first, ..)| *first > number)
        {
            // The part that is needed starts before what was asked for at first.
            self.coming.clear();
            self.bytes = 0;
            self.ask_from(number);
        }
        let Some(found) = self.drop_first() else {
            return self.env.blobs.get(&blob_name(number));
        };
        let after = self.coming.back().map_or(number, |(last, ..)| *last) + 1;
        self.ask_from(after);
        found.wait()
    }

    fn drop_first(&mut self) -> Option<PendingRead> {
        let (_, size, read) = self.coming.pop_front()?;
        self.bytes -= size;
        Some(read)
    }

    /// Asks for listed files from `number` on while there is room.
    fn ask_from(&mut self, number: u64) {
        for (number, size) in self.listed.range(number..) {
            let full = self.coming.len() >= OBJECTS || self.bytes + size > BYTES;
            if full && !self.coming.is_empty() {
                return;
            }
            let read = self.env.blobs.start_get(&blob_name(*number));
            self.coming.push_back((*number, *size, read));
            self.bytes += size;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use siltstone_storage::{Blobs, MemBlobs};
    use std::sync::Arc;

    fn log(sizes: &[usize]) -> LogAhead {
        let blobs = MemBlobs::bucket();
        for (number, size) in (1..).zip(sizes) {
            blobs
                .put(&blob_name(number), &vec![number as u8; *size])
                .unwrap();
        }
        let listed = blobs.list("wal/").unwrap();
        let (env, _) = Env::simulated(Arc::new(blobs), 1);
        LogAhead::new(&env, &listed)
    }

    #[test]
    fn every_object_comes_in_order_wherever_the_needed_part_starts() {
        for start in [1, 2, 90, 199] {
            let mut ahead = log(&[10; 200]);
            assert_eq!(ahead.coming.len(), OBJECTS, "the end");
            for number in start..=200u64 {
                let found = ahead.take(number).unwrap().all().unwrap();
                assert_eq!(&found[..], &[number as u8; 10]);
                assert!(ahead.coming.len() <= OBJECTS);
                assert_eq!(ahead.bytes, 10 * ahead.coming.len() as u64);
            }
            assert!(ahead.coming.is_empty());
        }
    }

    #[test]
    fn large_objects_do_not_come_all_at_once() {
        let mut ahead = log(&[12 << 20; 6]);
        for number in 1..=6u64 {
            assert_eq!(ahead.take(number).unwrap().all().unwrap().len(), 12 << 20);
            assert!(ahead.bytes <= BYTES, "{} bytes", ahead.bytes);
        }
        let mut huge = log(&[40 << 20, 1]);
        assert_eq!(huge.take(1).unwrap().all().unwrap().len(), 40 << 20);
        assert_eq!(huge.take(2).unwrap().all().unwrap().len(), 1);
    }
}
