//! Has the kernel write a growing file while it grows, so that the sync at its end waits for little, and
//! so that nobody else's sync waits behind a whole file that comes at once.

use std::fs::File;
use std::num::NonZeroU64;

/// Bytes that pile up before the kernel is asked to begin to write them.
const PIECE: u64 = 1 << 20;

/// How far a file is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    started: u64,
}

impl WriteBehind {
    /// The file was written up to `end`, through the page cache.
    pub(super) fn wrote(&mut self, file: &File, end: u64) {
        let Some(len) = NonZeroU64::new(end.saturating_sub(self.started)) else {
            return;
        };
        if len.get() < PIECE {
            return;
        }
        // On Linux this begins to write the dirty pages of the range and does not wait. They stay in the
        // page cache, for those who read the file soon.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(file, self.started, Some(len), rustix::fs::Advice::DontNeed);
        self.started = end;
    }

    /// The file is durable up to `end`.
    pub(super) fn synced(&mut self, end: u64) {
        self.started = end;
    }
}
