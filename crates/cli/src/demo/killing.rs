//! Kills a writer process in the middle of its work and counts what is left.

use super::prove;
use super::writer::{JOURNAL, key, value};
use crate::failure::{Failure, Result};
use crate::session::Session;
use siltstone::blocking::Database;
use siltstone::{Blobs, KeyspaceOptions, Read, inspect};
use siltstone_storage::{Clock, LocalBlobs, SystemClock};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long the writer may take to report its first record.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one round of killing showed.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) process: u32,
    /// Writes that were acknowledged in this round.
    pub(crate) acknowledged: u64,
    /// Records of this round that are there after reopening.
    pub(crate) recovered: u64,
    /// Bytes of an unfinished record at the end of the log.
    pub(crate) torn_bytes: u64,
    /// Commits replayed from the log.
    pub(crate) replayed: u64,
    pub(crate) reopened_in: Duration,
    /// Bytes of keys and values of the recovered records.
    pub(crate) given: u64,
    /// Bytes in the log that the dead writer left.
    pub(crate) log: u64,
}

/// Runs a writer from record `from` on, kills it, reopens, and proves that nothing is missing.
pub(crate) fn round(
    dir: &Path,
    from: u64,
    run_for: Duration,
    session: &Session,
) -> Result<(Round, Database)> {
    let clock = SystemClock::default();
    let mut child = spawn(dir, from)?;
    let process = child.id();
    let counted = Counted::start(&mut child, from)?;
    let killed = wait_and_kill(&mut child, &counted, &clock, run_for);
    // The pipe keeps what was reported before the kill; it is read to its end.
    let acknowledged = counted.join()?;
    killed?;
    let log = log_bytes(dir)?;
    let started = clock.elapsed();
    let url = dir.to_string_lossy();
    let db = Database::open_with(&url, super::options(session), KeyspaceOptions::default())?;
    let reopened_in = clock.elapsed() - started;
    let (there, given) = check_journal(&db, from)?;
    let recovered = there.saturating_sub(from);
    prove(recovered >= acknowledged, || {
        format!("{acknowledged} writes were acknowledged, {recovered} are there after the kill")
    })?;
    prove(recovered <= acknowledged + 1, || {
        format!(
            "{recovered} records are there, at most {} were written",
            acknowledged + 1
        )
    })?;
    let round = Round {
        process,
        acknowledged,
        recovered,
        torn_bytes: db.open_stats().torn_bytes,
        replayed: db.open_stats().replayed_commits,
        reopened_in,
        given,
        log,
    };
    Ok((round, db))
}

/// Intact bytes in the log files.
fn log_bytes(dir: &Path) -> Result<u64> {
    let blobs = LocalBlobs::existing(dir)?;
    let mut intact = 0;
    for file in blobs.list("wal/")? {
        intact += inspect::wal(&blobs, &file.name, |_| {})?;
    }
    Ok(intact)
}

fn spawn(dir: &Path, from: u64) -> Result<Child> {
    let this = std::env::current_exe().map_err(|e| Failure::io("this program's path", &e))?;
    Command::new(&this)
        .arg("--db")
        .arg(dir)
        .args(["demo-writer", "--from", &from.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::io(&this.display().to_string(), &e))
}

/// Lets the writer work for a while after its first acknowledgement, then kills it.
fn wait_and_kill(
    child: &mut Child,
    counted: &Counted,
    clock: &SystemClock,
    run_for: Duration,
) -> Result<()> {
    let started = clock.elapsed();
    let alive = |child: &mut Child| matches!(child.try_wait(), Ok(None));
    while counted.so_far() == 0 && alive(child) && clock.elapsed() - started < PATIENCE {
        clock.sleep(Duration::from_millis(1));
    }
    if counted.so_far() > 0 {
        clock.sleep(run_for);
    }
    let in_the_middle = alive(child);
    // SIGKILL: nothing in the process gets a chance to tidy up.
    let killed = child.kill().and_then(|()| child.wait());
    killed.map_err(|e| Failure::io("kill the writer", &e))?;
    match in_the_middle && counted.so_far() > 0 {
        true => Ok(()),
        false => Err(Failure::Other(
            "the writer process ended before it was killed".into(),
        )),
    }
}

/// Counts acknowledgements as they come through the pipe.
struct Counted {
    so_far: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Result<u64>>,
}

impl Counted {
    fn start(child: &mut Child, from: u64) -> Result<Self> {
        let pipe = child.stdout.take();
        let pipe = pipe.ok_or_else(|| Failure::Other("the writer has no pipe".into()))?;
        let so_far = Arc::new(AtomicU64::new(0));
        let counter = so_far.clone();
        let thread = std::thread::spawn(move || count(pipe, from, &counter));
        Ok(Self { so_far, thread })
    }

    fn so_far(&self) -> u64 {
        self.so_far.load(Ordering::Relaxed)
    }

    fn join(self) -> Result<u64> {
        self.thread
            .join()
            .map_err(|_| Failure::Other("counting acknowledgements failed".into()))?
    }
}

fn count(pipe: ChildStdout, from: u64, so_far: &AtomicU64) -> Result<u64> {
    let mut pipe = BufReader::new(pipe);
    let mut line = String::new();
    for n in from.. {
        line.clear();
        pipe.read_line(&mut line)
            .map_err(|e| Failure::io("the writer's pipe", &e))?;
        if !line.ends_with('\n') {
            return Ok(n - from);
        }
        prove(line.trim_end() == n.to_string(), || {
            format!(
                "record {n} should be acknowledged next, {} is",
                line.trim_end()
            )
        })?;
        so_far.store(n - from + 1, Ordering::Relaxed);
    }
    unreachable!("the pipe ends before the numbers do")
}

/// All records of the journal must be there, from the first on, without a gap and with the right
/// bytes. Answers how many, and the bytes of those from `from` on.
fn check_journal(db: &Database, from: u64) -> Result<(u64, u64)> {
    let journal = db.keyspace(JOURNAL)?;
    let mut scan = journal.scan::<&str>(..)?;
    let (mut n, mut given) = (0, 0);
    while scan.next() {
        prove(scan.key() == key(n) && scan.value() == value(n), || {
            format!("record {n} of the journal is missing or not what was written")
        })?;
        if n >= from {
            given += (scan.key().len() + scan.value().len()) as u64;
        }
        n += 1;
    }
    scan.error()
        .map_or(Ok((n, given)), |error| Err(error.clone().into()))
}
