//! The settings of a ledger, each with its unit and what it is by default.

use crate::compaction::{Content, Strategy};
use crate::crypto::{Entropy, KeyRing, SystemEntropy};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Who does the work that nobody waits for: compactions, checkpoints, deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// A thread of the ledger.
    Thread,
    /// The writer that made it necessary, after its write was acknowledged: for simulations, where
    /// the same calls must always come in the same order.
    Inline,
    /// Nobody; the caller calls [`Ledger::compact`](crate::Ledger::compact) and
    /// [`Ledger::checkpoint`](crate::Ledger::checkpoint).
    Off,
}

/// The settings of a ledger.
#[derive(Clone)]
pub struct Options {
    /// A commit whose blocks pass this many bytes becomes a group of CARs. Default 1 MiB.
    pub car_bytes: usize,
    /// Compactions write CARs of at most about this many bytes; each is built in memory. Default 4 MiB.
    pub compacted_car_bytes: usize,
    /// Decoded blocks in memory, in bytes. Default 8 MiB.
    pub cache_bytes: u64,
    /// A journal file is left for the next one from this size on, in bytes. Default 16 MiB.
    pub journal_bytes: u64,
    /// After this many edits the manifest is written, so that opening reads at most about as many.
    /// Default 1,024.
    pub checkpoint_edits: u64,
    /// From this many CARs of commits on they are compacted by themselves; `None`: never. Default 100.
    pub compact_from: Option<usize>,
    /// From this many runs of one level on, they are compacted into one of the next. Default 8.
    pub compact_fan_in: usize,
    /// How CARs are compacted. Default [`Content`].
    pub strategy: Arc<dyn Strategy>,
    /// Who does the work that nobody waits for. Default a thread.
    pub background: Background,
    /// The name under which this replica writes. Default: random, kept with the ledger.
    pub author: Option<Vec<u8>>,
    /// The keys, when blocks are encrypted. Default none.
    pub keys: Option<Arc<KeyRing>>,
    /// Where the nonces of encrypted blocks come from. Default the operating system.
    pub entropy: Arc<dyn Entropy>,
    /// Writes that one commit takes together at most. Default 1,024.
    pub group_writes: usize,
    /// Changes that wait for a subscriber at most. Default 10,000.
    pub subscriber_queue: usize,
    /// How long what a [reader](crate::Ledger::open_reader) holds stays when it is not heard of any more.
    /// One that stands still for longer reads anew. Default 60 s.
    pub reader_lease: Duration,
    /// How far a reader may be behind its writer when a call begins. Default 1 s.
    pub reader_staleness: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            car_bytes: 1 << 20,
            compacted_car_bytes: 4 << 20,
            cache_bytes: 8 << 20,
            journal_bytes: 16 << 20,
            checkpoint_edits: 1024,
            compact_from: Some(100),
            compact_fan_in: 8,
            strategy: Arc::new(Content),
            background: Background::Thread,
            author: None,
            keys: None,
            entropy: Arc::new(SystemEntropy),
            group_writes: 1024,
            subscriber_queue: 10_000,
            reader_lease: Duration::from_secs(60),
            reader_staleness: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("car_bytes", &self.car_bytes)
            .field("compacted_car_bytes", &self.compacted_car_bytes)
            .field("cache_bytes", &self.cache_bytes)
            .field("journal_bytes", &self.journal_bytes)
            .field("compact_from", &self.compact_from)
            .field("background", &self.background)
            .field("encrypted", &self.keys.is_some())
            .finish_non_exhaustive()
    }
}
