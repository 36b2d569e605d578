//! One measurement: which workload on which database, and how it is passed to the process that
//! runs it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::Shape;
use crate::engine::{Compression, Config};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Buffered puts in random order, then one flush.
    FillRandom,
    /// One writer, each put durable before the next.
    #[serde(rename = "durable_1")]
    #[value(name = "durable_1")]
    Durable1,
    /// Sixty-four such writers at once.
    #[serde(rename = "durable_64")]
    #[value(name = "durable_64")]
    Durable64,
    /// Random gets of existing keys, warm.
    #[serde(rename = "get_1")]
    #[value(name = "get_1")]
    Get1,
    /// The same from two callers at once.
    #[serde(rename = "get_2")]
    #[value(name = "get_2")]
    Get2,
    /// Gets of keys that are not there, warm.
    GetMissing,
    /// Random gets at the newest commit and at one as many commits behind as there are entries, in
    /// turns, with history kept by levels.
    GetAtOld,
    /// Scans of 1,000 entries from random keys, warm.
    #[serde(rename = "scan_1000")]
    #[value(name = "scan_1000")]
    Scan1000,
    /// Scans of the whole database, warm.
    ScanFull,
    /// Three random overwrites an entry, then settling; measures space and write amplification.
    #[serde(rename = "overwrite_3x")]
    #[value(name = "overwrite_3x")]
    Overwrite3x,
    /// One writer and one reader together.
    #[serde(rename = "mixed_1w1r")]
    #[value(name = "mixed_1w1r")]
    Mixed1w1r,
    /// From open to the first get, after a clean close.
    OpenClean,
    /// From open to the first get, after the writer was killed with a log to read.
    OpenAfterKill,
}

impl Workload {
    /// The name on the command line and in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FillRandom => "fill_random",
            Self::Durable1 => "durable_1",
            Self::Durable64 => "durable_64",
            Self::Get1 => "get_1",
            Self::Get2 => "get_2",
            Self::GetMissing => "get_missing",
            Self::GetAtOld => "get_at_old",
            Self::Scan1000 => "scan_1000",
            Self::ScanFull => "scan_full",
            Self::Overwrite3x => "overwrite_3x",
            Self::Mixed1w1r => "mixed_1w1r",
            Self::OpenClean => "open_clean",
            Self::OpenAfterKill => "open_after_kill",
        }
    }

    /// Whether it runs on a database loaded and closed by another process before.
    pub(crate) fn wants_loaded(self) -> bool {
        matches!(
            self,
            Self::Get1
                | Self::Get2
                | Self::GetMissing
                | Self::Scan1000
                | Self::ScanFull
                | Self::OpenClean
        )
    }

    /// Whether it is only for databases that can read at old commits.
    pub(crate) fn wants_history(self) -> bool {
        self == Self::GetAtOld
    }

    /// How long it runs if it is timed, in seconds.
    pub(crate) fn default_seconds(self) -> u64 {
        if self == Self::Mixed1w1r { 30 } else { 5 }
    }

    /// Whether callers of this workload wait for the disk.
    fn is_durable(self) -> bool {
        matches!(self, Self::Durable1 | Self::Durable64)
    }
}

/// What a child process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Loads all entries, settles and closes.
    Load,
    /// Loads in turn 0, leaves a log behind, says "ready" and waits to be killed.
    LeaveLog(u64),
    /// Runs a workload.
    Measure(Workload),
}

/// Everything the process that runs one measurement needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What to do.
    pub(crate) step: Step,
    /// The name of the database.
    pub(crate) engine: String,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Entries in the database.
    pub(crate) entries: u64,
    /// Duration of timed workloads in seconds, if not the workload's own.
    pub(crate) seconds: Option<u64>,
    /// Memory of the database in MiB: block cache and one write buffer.
    pub(crate) memory_mib: usize,
    /// Of it, the write buffer.
    pub(crate) memtable_mib: usize,
    /// Whether blocks are compressed.
    pub(crate) compress: bool,
    /// What the entries are like.
    pub(crate) shape: Shape,
}

impl Job {
    /// How the database is opened.
    pub(crate) fn config(&self) -> Config {
        let durable = matches!(self.step, Step::Measure(workload) if workload.is_durable());
        let history = matches!(self.step, Step::Measure(workload) if workload.wants_history());
        Config {
            history,
            cache_bytes: (self.memory_mib - self.memtable_mib) << 20,
            memtable_bytes: self.memtable_mib << 20,
            compression: if self.compress {
                Compression::Lz4
            } else {
                Compression::None
            },
            durable,
        }
    }

    /// The same database, another step.
    pub(crate) fn with_step(&self, step: Step) -> Self {
        Self {
            step,
            ..self.clone()
        }
    }

    /// The database folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}
