//! A process that takes turns on all cores.
//!
//! Where one thread waits for the disk again and again, the core it sits on decides more than the
//! database: the kernel leaves it where it is, and one core takes the disk's interrupts (on the
//! machine of the published figures, 95 us a put there and 165 us on the other core). Which one it
//! is, is the luck of what the threads did before. Taking turns gives every database the same. All
//! threads move together, because in some databases another than the caller's waits for the disk.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of this process. Its threads may run on all of them again once this is gone.
pub(crate) struct Turns {
    all: CpuSet,
    cores: Vec<usize>,
    next: usize,
}

impl Turns {
    /// Of this process; none on a system that does not tell.
    pub(crate) fn new() -> Self {
        let all = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        Self {
            all,
            cores: cores.collect(),
            next: 0,
        }
    }

    /// Moves all threads to the next core.
    pub(crate) fn turn(&mut self) {
        let Some(core) = self.cores.get(self.next % self.cores.len().max(1)) else {
            return;
        };
        let mut only = CpuSet::new();
        only.set(*core);
        allow(&only);
        self.next += 1;
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        if !self.cores.is_empty() {
            allow(&self.all);
        }
    }
}

/// A thread that ended meanwhile, and a system that refuses, are left as they are.
fn allow(cores: &CpuSet) {
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten() {
        let name = thread.map(|thread| thread.file_name());
        let id = name.ok().and_then(|name| name.to_str()?.parse().ok());
        if let Some(id) = id.and_then(Pid::from_raw) {
            let _ = sched_setaffinity(Some(id), cores);
        }
    }
}
