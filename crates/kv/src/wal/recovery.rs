//! Reads the log back at open: every intact commit in order, a torn tail dropped, damage refused.

use crate::error::{Error, Result};
use crate::options::WalRecovery;
use crate::types::Commit;
use crate::wal::ahead::LogAhead;
use crate::wal::batch::Batch;
use crate::wal::file::LogFile;
use crate::wal::frame::{self, Op, Record};
use crate::wal::relay::Relay;
use crate::wal::{FILE_HEADER, FileHeader, PREFIX, blob_name};
use parking_lot::Mutex;
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

/// Takes what the log holds, in order.
pub(crate) trait Replay: Send {
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
    let target = Mutex::new(target);
    std::thread::scope(|scope| {
        let mut relay = Relay::new(scope, &target);
        let found = walk(ahead, env, floor, head, recovery, &mut relay);
        // What is wrong with what was read before comes first.
        relay.finish().and(found)
    })
}

fn walk(
    ahead: LogAhead,
    env: &Env,
    floor: u64,
    head: Commit,
    recovery: WalRecovery,
    relay: &mut Relay<'_, '_, '_>,
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
        relay,
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

struct Walk<'a, 'scope, 'env, 'target> {
    ahead: LogAhead,
    recovery: WalRecovery,
    relay: &'a mut Relay<'scope, 'env, 'target>,
    /// The commit the next record must start with; `None` before the first record.
    next: Option<Commit>,
    head: Commit,
    bucket: bool,
    batch: Batch,
    found: &'a mut Recovered,
}

impl Walk<'_, '_, '_, '_> {
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
            self.follow(&name, at, &found.record)?;
            at = end;
            batch.add(number, found);
            if batch.is_full() {
                self.relay.hand_on(&mut batch)?;
            }
        }
        self.relay.hand_on(&mut batch)?;
        self.batch = batch;
        self.tail(&name, number, &mut file, at)?;
        Ok(true)
    }

    /// Goes on with `record`, at `at` of file `name`.
    fn follow(&mut self, name: &str, at: u64, record: &Record) -> Result<()> {
        let fits = match self.next {
            Some(next) => record.first == next,
            // The first record may start with commits that are in tables already.
            None => record.first.0 <= self.head.0 + 1,
        };
        let (true, Some(after)) = (
            fits && record.first <= record.last,
            record.last.0.checked_add(1),
        ) else {
            let next = self.next.unwrap_or(Commit(self.head.0 + 1));
            let what = format!("commit {next} should follow, commit {} does", record.first);
            return Err(Error::corrupt(name, at, what));
        };
        self.next = Some(Commit(after));
        self.found.commits += after - record.first.0;
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
