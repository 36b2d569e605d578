//! Memory of large reads, used again. An allocator gives so much memory back to the system as soon
//! as it is free, and every 4 KiB of it that is taken again cost a page fault: together about a third
//! of the time of reading and unpacking a block of 64 KiB.

use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::{Deref, DerefMut};

/// Memory of fewer bytes is left to the allocator.
const LEAST: usize = 16 << 10;
/// So is memory of more.
const MOST: usize = 256 << 10;
/// So many are kept for the next use, in all of the process.
const KEPT: usize = 8;
/// A buffer has at most so many bytes more than were asked for.
const SLACK: usize = 4 << 10;

static POOL: Pool = Pool(Mutex::new(Vec::new()));

/// Memory that nobody uses, what came back last at the end.
#[derive(Debug)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn buffer(&'static self, len: usize) -> Buffer {
        let fits = |bytes: &Vec<u8>| (len..=len + SLACK).contains(&bytes.len());
        let used = (LEAST..=MOST)
            .contains(&len)
            .then(|| {
                let mut free = self.0.lock();
                let at = free.iter().rposition(fits)?;
                Some(free.remove(at))
            })
            .flatten();
        Buffer {
            bytes: used.unwrap_or_else(|| vec![0; len]),
            len,
            pool: self,
        }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut free = self.0.lock();
        // The one that was not asked for longest makes room.
        let oldest = (free.len() == KEPT).then(|| free.remove(0));
        free.push(bytes);
        drop(free);
        drop(oldest);
    }
}

/// Bytes that hold anything until they are written to.
#[derive(Debug)]
pub struct Buffer {
    /// At least `len` bytes.
    bytes: Vec<u8>,
    len: usize,
    pool: &'static Pool,
}

impl Buffer {
    /// A buffer of `len` bytes.
    pub fn of(len: usize) -> Self {
        POOL.buffer(len)
    }

    /// The bytes, to be shared. Their memory is used again when the last to share them is gone.
    pub fn freeze(mut self) -> Bytes {
        match self.is_kept() {
            true => Bytes::from_owner(self),
            false => Bytes::from(std::mem::take(&mut self.bytes)),
        }
    }

    fn is_kept(&self) -> bool {
        (LEAST..=MOST).contains(&self.bytes.len())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.is_kept() {
            self.pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_kept(pool: &Pool, len: usize) -> bool {
        pool.0.lock().iter().any(|bytes| bytes.len() == len)
    }

    #[test]
    fn memory_is_used_again_once_nobody_has_it() {
        static POOL: Pool = Pool(Mutex::new(Vec::new()));
        let len = 200_000;
        let mut buffer = POOL.buffer(len);
        buffer.fill(7);
        let start = buffer.as_ptr();
        let bytes = buffer.freeze();
        let shared = bytes.slice(100..200);
        drop(bytes);
        assert!(!is_kept(&POOL, len), "a slice is left");
        drop(shared);
        assert!(is_kept(&POOL, len));
        // One that is a little shorter takes it, one that is longer or much shorter does not.
        for other in [len + 1, len - SLACK - 1] {
            assert_ne!(POOL.buffer(other).as_ptr(), start);
        }
        let again = POOL.buffer(len - SLACK);
        assert_eq!((again.as_ptr(), again.len()), (start, len - SLACK));
        assert_eq!(again.freeze().len(), len - SLACK);
    }

    #[test]
    fn little_is_kept() {
        static POOL: Pool = Pool(Mutex::new(Vec::new()));
        for len in [0, 1, LEAST - 1, MOST + 1] {
            assert_eq!(POOL.buffer(len).freeze().len(), len);
            assert!(!is_kept(&POOL, len));
        }
        let many: Vec<_> = (0..3 * KEPT).map(|n| POOL.buffer(MOST - n)).collect();
        drop(many);
        let kept: Vec<usize> = POOL.0.lock().iter().map(Vec::len).collect();
        let last: Vec<usize> = (2 * KEPT..3 * KEPT).map(|n| MOST - n).collect();
        assert_eq!(kept, last);
    }
}
