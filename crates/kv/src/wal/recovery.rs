//! Reads the log back at open: every intact commit in order, a torn tail dropped, damage refused.

use crate::error::{Error, Result};
use crate::options::WalRecovery;
use crate::types::Commit;
use crate::varint;
use crate::wal::ahead::LogAhead;
use crate::wal::file::{Found, LogFile};
use crate::wal::frame::{self, Op, Payloads, Record};
use crate::wal::{FILE_HEADER, FileHeader, PREFIX, blob_name};
use siltstone_storage::{Env, Error as StorageError, Timestamp};

/// What a recovery found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The newest commit in the log, or the one before it.
    pub(crate) last: Commit,
    /// Commits replayed.
    pub(crate) commits: u64,
    /// The number after the last log file there is.
    pub(crate) next_file: u64,
    /// Bytes of a torn tail that were dropped.
    pub(crate) torn_bytes: u64,
    /// Files that hold replayed records.
    pub(crate) files: Vec<u64>,
    /// Files behind the end of the log: of a fenced writer, behind what a crash took, or given up on
    /// request.
    pub(crate) strays: Vec<u64>,
    /// The first file that was asked for is there.
    pub(crate) from_floor: bool,
    /// Damage was met and what follows it given up, on request.
    pub(crate) gave_up: bool,
    /// The newest epoch in a header of the log.
    pub(crate) epoch: u64,
}

/// Unpacked records of a file are handed on when they have so many bytes, with large values: they are
/// still in the processor's cache, and the memory is used again.
const FEW_BYTES: usize = 1 << 20;
/// A large value, in bytes. The smaller they are, the more is gained by putting all of them in order
/// at once.
const LARGE: u64 = 512;
/// Records are handed on when they have so many bytes, whatever they hold.
const MANY_BYTES: usize = 64 << 20;

/// Takes what the log holds, in order.
pub(crate) trait Replay {
    /// Some of what log file `file` holds: operations with their commits, in commit order.
    fn ops(&mut self, file: u64, ops: &[(Commit, Op<'_>)]);

    /// Commits up to `last` were made at `time` or before.
    fn time(&mut self, last: Commit, time: Timestamp);
}

/// Replays the log from file `floor`, where `head` is a commit known to exist.
pub(crate) fn replay(
    env: &Env,
    floor: u64,
    head: Commit,
    recovery: WalRecovery,
    target: &mut dyn Replay,
) -> Result<Recovered> {
    let ahead = LogAhead::new(env, &env.blobs.list(PREFIX)?);
    replay_listed(ahead, env, floor, head, recovery, target)
}

/// As [`replay`], of a log that was listed before.
pub(crate) fn replay_listed(
    ahead: LogAhead,
    env: &Env,
    floor: u64,
    head: Commit,
    recovery: WalRecovery,
    target: &mut dyn Replay,
) -> Result<Recovered> {
    let numbers = ahead.numbers_from(floor);
    let mut found = Recovered {
        last: head,
        commits: 0,
        next_file: numbers.last().map_or(floor, |last| last + 1),
        torn_bytes: 0,
        files: Vec::new(),
        strays: Vec::new(),
        from_floor: numbers.first() == Some(&floor),
        gave_up: false,
        epoch: 0,
    };
    let bucket = !env.blobs.can_append();
    let mut walk = Walk {
        ahead,
        recovery,
        target,
        next: None,
        head,
        bucket,
        batch: Batch::default(),
        found: &mut found,
    };
    let mut expected = floor;
    for (at, number) in numbers.iter().enumerate() {
        if *number != expected {
            if bucket {
                walk.found.strays.extend_from_slice(&numbers[at..]);
                break;
            }
            if recovery == WalRecovery::Truncate {
                walk.found.gave_up = true;
                walk.found.strays.extend_from_slice(&numbers[at..]);
                break;
            }
            let name = blob_name(expected);
            return Err(Error::WalMissing { name });
        }
        if walk.found.gave_up || !walk.file(*number, &numbers[at + 1..])? {
            walk.found.strays.extend_from_slice(&numbers[at..]);
            break;
        }
        expected = number + 1;
    }
    // What was given up keeps its names until the log starts behind them.
    if !found.gave_up {
        found.next_file = expected;
    }
    Ok(found)
}

struct Walk<'a> {
    ahead: LogAhead,
    recovery: WalRecovery,
    target: &'a mut dyn Replay,
    /// The commit the next record must start with; `None` before the first record.
    next: Option<Commit>,
    head: Commit,
    bucket: bool,
    batch: Batch,
    found: &'a mut Recovered,
}

/// Records of a file that were read and not handed on.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<Found>,
    payloads: Payloads,
    /// About as many operations.
    ops: u64,
}

impl Batch {
    /// A record whose payload is among the payloads.
    fn add(&mut self, found: Found) {
        let Record { first, last, .. } = found.record;
        let commits = last.0.saturating_sub(first.0).saturating_add(1);
        // Of the first commit; the others are about like it.
        let ops = varint::get(self.payloads.get(found.payload.clone()), &mut 0);
        self.ops = self
            .ops
            .saturating_add(commits.saturating_mul(ops.unwrap_or(1)));
        self.records.push(found);
    }

    fn is_full(&self) -> bool {
        let bytes = self.payloads.len();
        bytes >= MANY_BYTES || bytes >= FEW_BYTES && bytes as u64 / self.ops.max(1) >= LARGE
    }

    fn clear(&mut self) {
        self.records.clear();
        self.payloads.clear();
        self.ops = 0;
    }
}

impl Walk<'_> {
    /// Replays one file, which those of `later` follow; false when it is not part of the log: it belongs
    /// to a writer that was fenced before it, or follows something that a crash took.
    fn file(&mut self, number: u64, later: &[u64]) -> Result<bool> {
        let name = blob_name(number);
        let mut file = self.ahead.take(number)?;
        let header = match FileHeader::decode(&name, file.bytes(0, FILE_HEADER)?) {
            Ok(Some(header)) => header,
            // An object is there whole or not at all.
            Ok(None) if self.bucket => {
                self.damage(&name, 0, 0)?;
                return Ok(true);
            }
            // A header is durable before the first record is written.
            Err(StorageError::Corrupt { .. })
                if !self.bucket && frame::find_after(&file.all()?, number, 0).is_none() =>
            {
                self.torn(&file.all()?);
                return Ok(true);
            }
            Ok(None) => {
                self.torn(&file.all()?);
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        if header.number != number {
            let what = format!("it says it is log file {}", header.number);
            return Err(Error::corrupt(name, 12, what));
        }
        if header.epoch < self.found.epoch {
            return Ok(false);
        }
        self.found.epoch = header.epoch;
        let mut at = FILE_HEADER as u64;
        let mut batch = std::mem::take(&mut self.batch);
        while let Some((found, end)) = file.record(number, at, &mut batch.payloads)? {
            if at == FILE_HEADER as u64 {
                if self.follows_a_loss(&found.record, number, &mut file, later)? {
                    self.torn(&file.all()?);
                    for number in later {
                        let lost = self.ahead.take(*number)?.all()?;
                        self.torn(&lost);
                    }
                    return Ok(false);
                }
                self.found.files.push(number);
            }
            at = end;
            batch.add(found);
            if batch.is_full() {
                self.replay(&name, number, &mut batch)?;
            }
        }
        self.replay(&name, number, &mut batch)?;
        self.batch = batch;
        self.tail(&name, number, &mut file, at)?;
        Ok(true)
    }

    /// Hands on what was read of a file.
    fn replay(&mut self, name: &str, number: u64, batch: &mut Batch) -> Result<()> {
        let mut ops = Vec::new();
        for found in &batch.records {
            let payload = batch.payloads.get(found.payload.clone());
            self.record(name, found.at, &found.record, payload, &mut ops)?;
        }
        if !ops.is_empty() {
            self.target.ops(number, &ops);
        }
        batch.clear();
        Ok(())
    }

    fn record<'b>(
        &mut self,
        name: &str,
        at: u64,
        record: &Record,
        payload: &'b [u8],
        ops: &mut Vec<(Commit, Op<'b>)>,
    ) -> Result<()> {
        let fits = match self.next {
            Some(next) => record.first == next,
            // The first record may start with commits that are in tables already.
            None => record.first.0 <= self.head.0 + 1,
        };
        if !fits || record.last < record.first {
            let next = self.next.unwrap_or(Commit(self.head.0 + 1));
            let what = format!("commit {next} should follow, commit {} does", record.first);
            return Err(Error::corrupt(name, at, what));
        }
        let whole = frame::for_each_op(payload, record.first, record.last, |commit, op| {
            ops.push((commit, op));
        });
        if !whole {
            return Err(Error::corrupt(
                name,
                at,
                "a record that decodes to nonsense",
            ));
        }
        self.target.time(record.last, record.time);
        self.next = Some(Commit(record.last.0 + 1));
        self.found.commits += record.last.0 - record.first.0 + 1;
        self.found.last = self.found.last.max(record.last);
        Ok(())
    }

    /// True when commits before `first`, the first record of file `number`, are missing because a crash
    /// took the end of the file before: a writer goes on in the next file before that end is durable, and
    /// as long as it is not, every record says so. Whoever finds one that says otherwise, in this file or
    /// a later one, has lost what was durable once.
    fn follows_a_loss(
        &mut self,
        first: &Record,
        number: u64,
        file: &mut LogFile,
        later: &[u64],
    ) -> Result<bool> {
        let next = self.next.unwrap_or(Commit(self.head.0 + 1));
        if self.bucket || first.first <= next || any_durable(&file.all()?, number) {
            return Ok(false);
        }
        for number in later {
            if any_durable(&self.ahead.take(*number)?.all()?, *number) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Looks at what follows the last intact record: nothing, a torn tail, or damage.
    fn tail(&mut self, name: &str, number: u64, file: &mut LogFile, at: u64) -> Result<()> {
        if file.is_zero_from(at)? {
            return Ok(());
        }
        let (bytes, at) = (file.all()?, at as usize);
        if self.bucket {
            return self.damage(name, at, 0);
        }
        let mut from = at;
        while let Some((later, record)) = frame::find_after(&bytes, number, from + 1) {
            if record.durable > at as u64 {
                return self.damage(name, at, bytes.len() - later);
            }
            from = later;
        }
        self.found.torn_bytes += (bytes.len() - at) as u64;
        Ok(())
    }

    /// Nothing of the file counts.
    fn torn(&mut self, bytes: &[u8]) {
        self.found.torn_bytes += bytes.iter().filter(|byte| **byte != 0).count() as u64;
    }

    /// Damage at `offset`, with `after` intact bytes behind it: refused, or the rest is given up.
    fn damage(&mut self, name: &str, offset: usize, after: usize) -> Result<()> {
        if self.recovery == WalRecovery::Truncate {
            self.found.gave_up = true;
            return Ok(());
        }
        Err(Error::WalDamaged {
            name: name.to_string(),
            offset: offset as u64,
            after: after as u64,
            good_until: self.found.last,
        })
    }
}

/// True when an intact record, wherever it stands, says that something of its file was durable.
fn any_durable(bytes: &[u8], number: u64) -> bool {
    let mut at = 0;
    while let Some((found, record)) = frame::find_after(bytes, number, at) {
        if record.durable > 0 {
            return true;
        }
        at = found + 1;
    }
    false
}
