//! A caller that takes turns on all cores.
//!
//! Where one thread waits for the disk again and again, the core it sits on decides more than the
//! database: the kernel leaves it where it is, and one core takes the disk's interrupts (on the
//! machine of the published figures, 95 us a put there and 165 us on the other core). Which one it
//! is, is the luck of what the thread did before. Taking turns gives every database the same.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of the calling thread. It may run on all of them again once this is gone.
pub(crate) struct Turns {
    all: CpuSet,
    cores: Vec<usize>,
    next: usize,
}

impl Turns {
    /// Of the calling thread; none on a system that does not tell.
    pub(crate) fn of_this_thread() -> Self {
        let all = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        Self {
            all,
            cores: cores.collect(),
            next: 0,
        }
    }

    /// Moves the calling thread to the next core.
    pub(crate) fn turn(&mut self) {
        let Some(core) = self.cores.get(self.next % self.cores.len().max(1)) else {
            return;
        };
        let mut only = CpuSet::new();
        only.set(*core);
        // A system that refuses leaves the thread where it is, as without turns.
        let _ = sched_setaffinity(None, &only);
        self.next += 1;
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if !self.cores.is_empty() {
            let _ = sched_setaffinity(None, &self.all);
        }
    }
}
