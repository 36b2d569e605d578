//! What can go wrong in the engine: what, where, and what to do.

use crate::transaction::guard::Touched;
use crate::types::Commit;
use std::sync::Arc;
use std::time::Duration;

/// The result of an engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the key-value engine.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed, or holds damaged bytes.
    #[error(transparent)]
    Storage(#[from] siltstone_storage::Error),
    /// A key of zero bytes or over the limit.
    #[error("key of {len} bytes: keys have 1 to {max} bytes")]
    KeyLength {
        /// Length given, in bytes.
        len: usize,
        /// Largest allowed, in bytes.
        max: usize,
    },
    /// A value over the limit.
    #[error(
        "value of {len} bytes for key {key:?}: values have at most {max} bytes. Split it, or raise `max_value_bytes`"
    )]
    ValueTooLarge {
        /// Start of the key.
        key: String,
        /// Length given, in bytes.
        len: usize,
        /// Largest allowed, in bytes.
        max: usize,
    },
    /// A batch over the limit.
    #[error(
        "batch of {len} bytes: a batch has at most {max} bytes. Write it as several, or raise `max_batch_bytes`"
    )]
    BatchTooLarge {
        /// Size in bytes.
        len: usize,
        /// Largest allowed, in bytes.
        max: usize,
    },
    /// A range whose start lies after its end.
    #[error(
        "invalid range: start {start:?} lies after end {end:?}. Swap them; use reverse order to read backwards"
    )]
    InvalidRange {
        /// Start of the range.
        start: String,
        /// End of the range.
        end: String,
    },
    /// No keyspace has this name.
    #[error("no keyspace {name:?}; there are: {known}")]
    UnknownKeyspace {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The name is taken, reserved or malformed.
    #[error("keyspace name {name:?}: {what}")]
    KeyspaceName {
        /// The name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The commit is not readable any more: the history policy let it go.
    #[error("commit {asked} is not retained: {}. Read at one of those, or keep more history", neighbours(*before, *after))]
    NotRetained {
        /// The commit asked for.
        asked: Commit,
        /// The nearest readable commit before it.
        before: Option<Commit>,
        /// The nearest readable commit after it.
        after: Option<Commit>,
    },
    /// The commit lies in the future.
    #[error("commit {asked} does not exist yet; the newest is {newest}")]
    FutureCommit {
        /// The commit asked for.
        asked: Commit,
        /// The newest visible commit.
        newest: Commit,
    },
    /// Versions of this key at this commit were removed by `max_versions` or `max_age`.
    #[error(
        "key {key:?} at commit {asked}: its versions before commit {oldest_kept} were removed by max_versions or max_age"
    )]
    Truncated {
        /// Start of the key.
        key: String,
        /// The commit asked for.
        asked: Commit,
        /// The oldest version kept.
        oldest_kept: Commit,
    },
    /// An earlier write could not be made durable; nothing after it can be trusted.
    #[error(
        "writes are stopped since this failed: {cause}. Close the database and open it again; everything acknowledged is safe"
    )]
    Stopped {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// The handle was closed.
    #[error("the database is closed")]
    Closed,
    /// A wait was given up: cancelled, or past its deadline.
    #[error("{what} was cancelled while it waited")]
    Cancelled {
        /// What was waiting.
        what: &'static str,
    },
    /// Damage in the middle of the log, before records that are intact.
    #[error(
        "{name}: the log is damaged at byte {offset}, and {after} intact bytes follow. Commits up to {good_until} can be saved: restore a backup, or open with WAL recovery `truncate` to give up what follows"
    )]
    WalDamaged {
        /// The log file.
        name: String,
        /// Where the damage starts.
        offset: u64,
        /// How many bytes of intact records follow it.
        after: u64,
        /// The last commit before the damage.
        good_until: Commit,
    },
    /// A log file between two others is missing.
    #[error(
        "{name}: this log file is missing, and later ones exist. Restore it from a backup, or open with WAL recovery `truncate`"
    )]
    WalMissing {
        /// The missing file.
        name: String,
    },
    /// Another compaction took one of the inputs first. Nothing was changed.
    #[error(
        "table {segment} was already replaced by another compaction; nothing was changed, run it again"
    )]
    CompactionLost {
        /// The input that was gone.
        segment: String,
    },
    /// A transaction came second: what it read or wrote was written since it began.
    #[error(
        "conflict in keyspace {keyspace:?}: {touched} was written at commit {commit}, after the transaction's snapshot at commit {snapshot}. Begin again"
    )]
    Conflict {
        /// The keyspace.
        keyspace: String,
        /// The key or range.
        touched: Touched,
        /// The commit that the transaction reads at.
        snapshot: Commit,
        /// The commit that came first.
        commit: Commit,
    },
    /// The log no longer holds what a change feed was to start with.
    #[error(
        "the changes after commit {after} are not in the log any more. Read the database at commit {oldest} and go on from there, or keep more of the log"
    )]
    ChangesGone {
        /// The commit the feed was to go on after.
        after: Commit,
        /// The earliest commit that a feed can go on after.
        oldest: Commit,
    },
    /// The transaction stood idle for too long and was ended.
    #[error(
        "the transaction was ended after it had not been used for {idle:?}; nothing of it was written. Begin again, or raise `transaction_idle`"
    )]
    TransactionExpired {
        /// How long it was not used.
        idle: Duration,
    },
    /// The transaction is over.
    #[error("the transaction {how}; begin another")]
    TransactionOver {
        /// How it ended.
        how: &'static str,
    },
    /// No open transaction has this number.
    #[error("no transaction {id} is open: it never was, or it has ended")]
    UnknownTransaction {
        /// The number asked for.
        id: u64,
    },
    /// Too many transactions are open.
    #[error(
        "{limit} transactions are open, and no more are allowed. End some, or raise `max_transactions`"
    )]
    TooManyTransactions {
        /// How many are allowed.
        limit: usize,
    },
    /// A savepoint that cannot be rolled back to.
    #[error("the savepoint {what}")]
    Savepoint {
        /// Why not.
        what: &'static str,
    },
    /// Operands that cannot be merged with what is there.
    #[error(
        "key {key:?}: operator {operator:?} cannot merge: {what}. Put or delete the key to go on"
    )]
    Merge {
        /// Start of the key.
        key: String,
        /// The operator.
        operator: String,
        /// Its reason.
        what: String,
    },
    /// The keyspace has no merge operator, or one that this process does not know.
    #[error("keyspace {keyspace:?} {what}. Known operators: {known}")]
    NoMergeOperator {
        /// The keyspace.
        keyspace: String,
        /// What is missing.
        what: String,
        /// The operators there are.
        known: String,
    },
    /// A condition did not hold.
    #[error("key {key:?}: the condition does not hold: {found}; nothing was written")]
    ConditionFailed {
        /// Start of the key.
        key: String,
        /// What was found instead.
        found: String,
    },
    /// A key that came out of order in a bulk ingest.
    #[error(
        "key {key:?} does not sort after {last:?}: an ingest takes each key once, in rising order"
    )]
    IngestOrder {
        /// Start of the key.
        key: String,
        /// Start of the key before it.
        last: String,
    },
    /// A backup that is not there, or cannot be made or removed as asked.
    #[error("backup: {what}")]
    Backup {
        /// What is wrong.
        what: String,
    },
    /// A place that was to be filled and holds something.
    #[error("{store} is not empty: {found} is there. Choose another place, or clear this one")]
    NotEmpty {
        /// The place.
        store: String,
        /// What was found first.
        found: String,
    },
    /// A layer above a keyspace does not allow what a transaction was to write there.
    #[error("keyspace {keyspace:?}: {cause}; nothing was written")]
    Refused {
        /// The keyspace.
        keyspace: String,
        /// Why.
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A checkpoint name that is taken or unknown.
    #[error("checkpoint {name:?}: {what}")]
    Checkpoint {
        /// The name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A setting outside what is allowed.
    #[error("setting {setting}: {what}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong and what is right.
        what: String,
    },
}

impl Error {
    pub(crate) fn corrupt(name: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Self::Storage(siltstone_storage::Error::corrupt(name, offset, what))
    }

    /// True when the call asked not to wait and would have had to.
    pub fn is_would_block(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_would_block())
    }
}

fn neighbours(before: Option<Commit>, after: Option<Commit>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => {
            format!("the nearest readable ones are {before} and {after}")
        }
        (None, Some(after)) => format!("the oldest readable one is {after}"),
        (Some(before), None) => format!("the newest readable one is {before}"),
        (None, None) => "no commit is readable".into(),
    }
}

/// The start of a key, for messages: printable text, or escaped bytes, 40 at most.
pub(crate) fn show_key(key: &[u8]) -> String {
    let cut = &key[..key.len().min(40)];
    let mut shown = String::new();
    for byte in cut {
        shown.extend(std::ascii::escape_default(*byte).map(char::from));
    }
    if cut.len() < key.len() {
        shown.push('…');
    }
    shown
}
