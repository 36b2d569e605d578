//! Reads a table of a folder in order: a seek reads its block alone, and whoever steps on from there
//! gets several neighbouring blocks with each call to the system.

use crate::error::Result;
use crate::sst::ahead::Direction;
use crate::sst::writer::Handle;
use siltstone_storage::{BlobReader, Wait};

/// What is read with the first step on from a block, in bytes.
const FIRST: u64 = 16 << 10;
/// The most that is read at once, in bytes: more saves little time, and this stays in the caches of
/// a processor until it is unpacked.
const LARGEST: u64 = 64 << 10;
/// How much larger each read is than the one before.
const GROWTH: u64 = 2;

/// The last bytes that a cursor read in a table.
#[derive(Debug, Default)]
pub(crate) struct Nearby {
    start: u64,
    bytes: Vec<u8>,
    /// Size of the next read, in bytes, if it goes on from this one.
    next_len: u64,
}

impl Nearby {
    /// Forgets what it read; for another table.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.next_len = 0;
    }

    /// The framed bytes of the block at `handle`, which ends at `end` or before, where all blocks end.
    pub(crate) fn read(
        &mut self,
        reader: &dyn BlobReader,
        handle: Handle,
        end: u64,
        direction: Direction,
        wait: Wait,
    ) -> Result<&[u8]> {
        let (from, to) = (handle.at, handle.at + handle.len as u64);
        let held = self.start..=self.start + self.bytes.len() as u64;
        if !(held.contains(&from) && held.contains(&to)) {
            let goes_on = match direction {
                Direction::Forward => held.contains(&from),
                Direction::Backward => held.contains(&to),
            };
            let wanted = if goes_on { self.next_len } else { 0 };
            let (start, stop) = match direction {
                Direction::Forward => (from, to.max((from + wanted).min(end))),
                Direction::Backward => (from.min(to.saturating_sub(wanted)), to),
            };
            match self.fill(reader, start, stop, wait) {
                // Of many blocks one may have to be fetched from the disk while this one is in memory.
                Err(error) if error.is_would_block() && wanted > 0 => {
                    self.fill(reader, from, to, wait)?;
                }
                filled => filled?,
            }
            self.next_len = (wanted * GROWTH).clamp(FIRST, LARGEST);
        }
        let offset = (from - self.start) as usize;
        Ok(&self.bytes[offset..offset + handle.len])
    }

    fn fill(&mut self, reader: &dyn BlobReader, start: u64, stop: u64, wait: Wait) -> Result<()> {
        self.start = start;
        self.bytes.resize((stop - start) as usize, 0);
        let read = reader.read_into(start, &mut self.bytes, wait);
        if read.is_err() {
            self.clear();
        }
        Ok(read?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use siltstone_storage::Error as StorageError;

    /// Bytes in a file; what lies from `cold` on is not in the page cache.
    #[derive(Debug)]
    struct File {
        bytes: Bytes,
        cold: u64,
        reads: Mutex<Vec<(u64, usize)>>,
    }

    impl File {
        fn new(len: usize, cold: u64) -> Self {
            Self {
                bytes: (0..len).map(|n| (n % 251) as u8).collect(),
                cold,
                reads: Mutex::default(),
            }
        }
    }

    impl BlobReader for File {
        fn read(&self, at: u64, len: usize, wait: Wait) -> siltstone_storage::Result<Bytes> {
            self.reads.lock().push((at, len));
            if wait == Wait::Never && at + len as u64 > self.cold {
                let name = "file".to_owned();
                return Err(StorageError::WouldBlock { name });
            }
            Ok(self.bytes.slice(at as usize..at as usize + len))
        }

        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }
    }

    fn handles(lens: &[usize]) -> Vec<Handle> {
        let mut at = 0;
        let next = |len: &usize| {
            at += *len as u64;
            Handle {
                at: at - *len as u64,
                len: *len,
            }
        };
        lens.iter().map(next).collect()
    }

    proptest! {
        #[test]
        fn any_walk_gets_the_bytes_of_its_blocks(
            lens in prop::collection::vec(prop_oneof![20 => 1usize..9000, 1 => 60_000usize..150_000], 1..80),
            jumps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0usize..40), 1..8),
            cold in any::<prop::sample::Index>(),
        ) {
            let end: usize = lens.iter().sum();
            let file = File::new(end + 500, cold.index(end + 501) as u64);
            let handles = handles(&lens);
            let mut nearby = Nearby::default();
            for (from, forward, steps) in jumps {
                let from = from.index(handles.len());
                let (walk, direction): (Vec<_>, _) = match forward {
                    true => (handles[from..].iter().take(steps).collect(), Direction::Forward),
                    false => (handles[..=from].iter().rev().take(steps).collect(), Direction::Backward),
                };
                for handle in walk {
                    let start = handle.at as usize;
                    let wanted = &file.bytes[start..start + handle.len];
                    let in_memory = handle.at + handle.len as u64 <= file.cold;
                    match nearby.read(&file, *handle, end as u64, direction, Wait::Never) {
                        Ok(found) => prop_assert_eq!(found, wanted),
                        Err(error) => prop_assert!(error.is_would_block() && !in_memory),
                    }
                    let found = nearby.read(&file, *handle, end as u64, direction, Wait::Allowed).unwrap();
                    prop_assert_eq!(found, wanted);
                }
            }
            let behind = |(at, len): &(u64, usize)| at + *len as u64 > end as u64;
            prop_assert!(!file.reads.lock().iter().any(behind), "nothing behind the blocks is read");
        }
    }

    #[test]
    fn a_seek_reads_its_block_alone_and_a_walk_more_and_more() {
        for direction in [Direction::Forward, Direction::Backward] {
            let file = File::new(1 << 20, u64::MAX);
            let mut handles = handles(&[4096; 256]);
            if direction == Direction::Backward {
                handles.reverse();
            }
            let mut nearby = Nearby::default();
            for n in [100, 3, 200] {
                let read = nearby.read(&file, handles[n], 1 << 20, direction, Wait::Allowed);
                assert_eq!(read.unwrap().len(), 4096);
            }
            for handle in &handles[201..] {
                let read = nearby.read(&file, *handle, 1 << 20, direction, Wait::Allowed);
                read.unwrap();
            }
            let lens: Vec<_> = file.reads.lock().iter().map(|(_, len)| len >> 10).collect();
            // The last one ends where the blocks end.
            assert_eq!(lens, [4, 4, 4, 16, 32, 64, 64, 44], "{direction:?}");
        }
    }
}
