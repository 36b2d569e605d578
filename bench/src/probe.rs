//! What the operating system says about this process and the database folder: memory, processor
//! time, bytes sent to storage, bytes allocated on disk. Linux only; elsewhere it reads as zero.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Readings that only grow; differences of two give the cost of a phase.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Bytes this process caused to be sent to storage (dirtied pages, log included).
    pub(crate) written_bytes: u64,
    /// Bytes this process passed to write calls.
    pub(crate) called_bytes: u64,
    /// Processor time of all threads, user and system, in microseconds (steps of 10 ms).
    pub(crate) cpu_us: u64,
}

impl Counters {
    /// Reads both counters now.
    pub(crate) fn now() -> Self {
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Fields 14 and 15, counted after the name in brackets, which may hold spaces.
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let ticks: u64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Self {
            written_bytes: field(&io, "write_bytes:"),
            called_bytes: field(&io, "wchar:"),
            cpu_us: ticks * 10_000,
        }
    }

    /// What was spent since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            called_bytes: self.called_bytes.saturating_sub(earlier.called_bytes),
            cpu_us: self.cpu_us.saturating_sub(earlier.cpu_us),
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Follows the memory of this process from its start on.
pub(crate) struct MemoryWatch {
    peak_anon: Arc<AtomicU64>,
}

impl MemoryWatch {
    /// Starts a thread that samples anonymous memory every 20 ms until the process ends.
    pub(crate) fn start() -> Self {
        let peak_anon = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&peak_anon);
        std::thread::spawn(move || {
            loop {
                shared.fetch_max(status_bytes("RssAnon:"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { peak_anon }
    }

    /// Most anonymous bytes seen resident at once: the memory that is the engine's own.
    pub(crate) fn peak_anon_bytes(&self) -> u64 {
        self.peak_anon
            .fetch_max(status_bytes("RssAnon:"), Ordering::Relaxed);
        self.peak_anon.load(Ordering::Relaxed)
    }

    /// Most bytes ever resident at once, mapped file pages included.
    pub(crate) fn peak_bytes(&self) -> u64 {
        status_bytes("VmHWM:")
    }
}

fn status_bytes(name: &str) -> u64 {
    field(
        &fs::read_to_string("/proc/self/status").unwrap_or_default(),
        name,
    ) * 1024
}

/// Bytes of this process resident now, mapped file pages included.
pub(crate) fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// Threads of this process now.
pub(crate) fn threads() -> u64 {
    field(
        &fs::read_to_string("/proc/self/status").unwrap_or_default(),
        "Threads:",
    )
}

/// Files this process holds open now.
pub(crate) fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64)
}

/// Anonymous bytes of this process resident now.
pub(crate) fn anonymous_bytes() -> u64 {
    status_bytes("RssAnon:")
}

/// Bytes allocated on disk under `dir` (blocks, not lengths, so holes are free).
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    let Ok(list) = fs::read_dir(dir) else {
        return 0;
    };
    list.flatten()
        .map(|item| match item.metadata() {
            Ok(about) if about.is_dir() => disk_bytes(&item.path()),
            Ok(about) => about.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Waits until this process has been idle for a second: under 64 KiB to storage and
/// under 5 % of a core in each of four windows of 250 ms in a row. Gives up after `longest`; returns whether it was quiet.
pub(crate) fn wait_until_quiet(longest: Duration) -> bool {
    let start = Instant::now();
    let mut before = Counters::now();
    let mut quiet = 0;
    while quiet < 4 && start.elapsed() < longest {
        std::thread::sleep(Duration::from_millis(250));
        let now = Counters::now();
        let spent = now.since(before);
        before = now;
        let idle = spent.written_bytes < 64 * 1024 && spent.cpu_us <= 10_000;
        quiet = if idle { quiet + 1 } else { 0 };
    }
    quiet == 4
}
