//! The workloads on a ledger of Siltstone.

use std::hint::black_box;
use std::time::{Duration, Instant};

use siltstone::ledger::block::sha256;
use siltstone::ledger::car::{CarWriter, Frames, Header, write_car};
use siltstone::ledger::{AllDocs, Background, Block, BulkWrite, Document, Ledger, Options, Query};

use super::{Job, Workload};
use crate::figure::{Goal, Row};
use crate::probe;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const OWN: &str = "siltstone";
const MIB: f64 = (1 << 20) as f64;

pub(crate) fn run(job: &Job) -> Result<Vec<Row>> {
    match job.workload {
        Workload::Documents => documents(job),
        Workload::Archives => archives(),
        Workload::Growth => growth(job),
    }
}

fn id(number: u64) -> String {
    format!("doc-{number:07}")
}

/// About 100 bytes, as in the peer's script.
fn document(number: u64) -> Result<Document> {
    let text = "silt settles, is compacted, and becomes stone";
    let text = &text[..30 + (number % 10) as usize];
    let value = serde_json::json!({
        "name": format!("name of {number}"),
        "group": number % 100,
        "text": text,
    });
    Ok(Document::from_json(&value)?)
}

fn open(job: &Job, name: &str, background: Background) -> Result<Ledger> {
    let options = Options {
        background,
        ..Options::default()
    };
    Ok(Ledger::open_folder(&job.dir, name, options)?)
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed()))
}

/// Puts documents from `from` to before `to` in bulks.
fn bulks(ledger: &Ledger, from: u64, to: u64, size: u64) -> Result<()> {
    let mut at = from;
    while at < to {
        let end = (at + size).min(to);
        let bulk = (at..end)
            .map(|number| Ok(BulkWrite::Put(id(number), document(number)?)))
            .collect::<Result<_>>()?;
        ledger.bulk(bulk)?;
        at = end;
    }
    Ok(())
}

/// The time to read all bytes below a folder, hash them and write them elsewhere, synced once: what a
/// compaction cannot be quicker than.
fn copy_and_hash(from: &std::path::Path, to: &std::path::Path) -> Result<Duration> {
    let mut files = Vec::new();
    for folder in ["car", "journal"] {
        let Ok(entries) = std::fs::read_dir(from.join(folder)) else {
            continue;
        };
        for entry in entries {
            files.push(entry?.path());
        }
    }
    let ((), took) = timed(|| {
        use std::io::Write;
        let mut out = std::fs::File::create(to)?;
        for file in &files {
            let bytes = std::fs::read(file)?;
            black_box(sha256(&bytes));
            out.write_all(&bytes)?;
        }
        Ok(out.sync_all()?)
    })?;
    Ok(took)
}

/// The time to write `bytes` at the end of what was written of a file that has its size, and to sync
/// them: what a durable write cannot be quicker than. The median of a hundred.
fn sync_of(file: &std::path::Path, bytes: usize) -> Result<Duration> {
    use std::io::Write;
    let mut out = std::fs::File::create(file)?;
    out.write_all(&vec![0; 100 * bytes])?;
    out.sync_all()?;
    let mut out = std::fs::File::options().write(true).open(file)?;
    let block = vec![7; bytes];
    let mut took = Vec::with_capacity(100);
    for _ in 0..100 {
        let one = timed(|| {
            out.write_all(&block)?;
            Ok(out.sync_data()?)
        });
        took.push(one?.1);
    }
    took.sort_unstable();
    Ok(took[50])
}

fn documents(job: &Job) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut push = |figure: &str, value: f64, unit: &str, goal: Goal| {
        rows.push(Row::new("documents", figure, OWN, value, unit, goal));
    };
    let count = job.documents;
    let ledger = open(job, "one-by-one", Background::Thread)?;
    let ((), took) = timed(|| {
        for number in 0..count {
            ledger.put(&id(number), &document(number)?)?;
        }
        Ok(())
    })?;
    push(
        "put one by one",
        rate(count, took),
        "/s",
        Goal::TimesPeer(50.0),
    );
    let memory = probe::anonymous_bytes() as f64 / MIB;
    push(
        "resident memory after the puts",
        memory,
        "MiB",
        Goal::AtMost(64.0),
    );
    ledger.close()?;

    push(
        "a sync of 16 KiB",
        sync_of(&job.dir.join("synced"), 16 << 10)?.as_secs_f64() * 1e3,
        "ms",
        Goal::None,
    );
    let ledger = open(job, "bulks-of-1000", Background::Off)?;
    let ((), took) = timed(|| bulks(&ledger, 0, 4 * count, 1000))?;
    push("bulks of 1,000", rate(4 * count, took), "/s", Goal::None);
    ledger.close()?;

    let ledger = open(job, "bulks", Background::Off)?;
    let ((), took) = timed(|| bulks(&ledger, 0, count, 100))?;
    push(
        "bulks of 100",
        rate(count, took),
        "/s",
        Goal::TimesPeer(20.0),
    );
    ledger.close()?;
    // As by default, but that nothing is compacted before it is asked for.
    let options = Options {
        compact_from: None,
        ..Options::default()
    };
    let ledger = Ledger::open_folder(&job.dir, "bulks", options)?;
    let least = copy_and_hash(&job.dir.join("ledger/bulks"), &job.dir.join("copy"))?;
    let (_, took) = timed(|| Ok(ledger.compact()?))?;
    push(
        "compact",
        took.as_secs_f64() * 1e3,
        "ms",
        Goal::PartOfPeer(0.05),
    );
    let times = took.as_secs_f64() / least.as_secs_f64();
    push(
        "compaction over copying and hashing once",
        times,
        "x",
        Goal::AtMost(1.5),
    );
    let mut random = fastrand::Rng::with_seed(1);
    let gets = 200_000;
    let mut read = || -> Result<Duration> {
        let ((), took) = timed(|| {
            for _ in 0..gets {
                black_box(ledger.get(&id(random.u64(..count)))?);
            }
            Ok(())
        })?;
        Ok(took)
    };
    read()?;
    push(
        "get, random, warm",
        rate(gets, read()?),
        "/s",
        Goal::TimesPeer(100.0),
    );
    let list = || -> Result<usize> { Ok(ledger.all_docs(&AllDocs::default())?.rows.len()) };
    list()?;
    let (found, took) = timed(list)?;
    push(
        "all documents",
        rate(found as u64, took),
        "/s",
        Goal::TimesPeer(20.0),
    );
    let groups = ledger.index_by_field("group")?;
    let wanted = Query::key(7);
    let first = groups.query(&wanted)?.len();
    let ((), took) = timed(|| {
        for more in 0..100 {
            ledger.put(&id(count + more), &document(count + more)?)?;
            black_box(groups.query(&wanted)?);
        }
        Ok(())
    })?;
    let found = groups.query(&wanted)?.len();
    if found != first + 1 {
        return Err(format!("{found} rows, and there were {first}").into());
    }
    let each = took.as_secs_f64() * 1e3 / 100.0;
    push(
        "a put, then an indexed query",
        each,
        "ms",
        Goal::PartOfPeer(0.001),
    );
    let (_, took) = timed(|| Ok(groups.query(&wanted)?))?;
    push(
        "an indexed query of 100 rows",
        took.as_secs_f64() * 1e3,
        "ms",
        Goal::AtMost(1.0),
    );
    drop(groups);
    ledger.close()?;
    Ok(rows)
}

/// Bytes that go nowhere.
struct Nothing;

impl siltstone::ledger::car::Sink for Nothing {
    fn write(&mut self, bytes: &[u8]) -> siltstone::ledger::Result<()> {
        black_box(bytes);
        Ok(())
    }
}

fn best(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = Duration::MAX;
    for _ in 0..20 {
        least = least.min(timed(&mut work)?.1);
    }
    Ok(least.as_secs_f64())
}

fn archives() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let header = Header::default().block();
    for (size, count) in [(1_000, 4_000), (100_000, 40)] {
        let blocks: Vec<_> = (0..count)
            .map(|number: usize| Block::raw([&number.to_le_bytes()[..], &vec![7; size]].concat()))
            .collect();
        let (car, _) = write_car(&header, &blocks, None)?;
        let car = bytes::Bytes::from(car);
        let hash = best(|| {
            black_box(sha256(&car));
            Ok(())
        })?;
        let write = best(|| {
            let mut writer = CarWriter::new(Nothing, &header, None)?;
            for block in &blocks {
                writer.add(block)?;
            }
            black_box(writer.finish()?.1);
            Ok(())
        })?;
        let hashes = best(|| {
            for block in &blocks {
                black_box(sha256(&block.bytes));
            }
            Ok(())
        })?;
        let read = best(|| {
            for frame in Frames::new(car.clone())? {
                frame?.block.check()?;
            }
            Ok(())
        })?;
        let mut push = |what: &str, share: f64| {
            let figure = format!("{what}, blocks of {size} bytes, of sha2-256's speed");
            rows.push(Row::new(
                "archives",
                figure,
                OWN,
                100.0 * share,
                "%",
                Goal::AtLeast(80.0),
            ));
        };
        push("archive written", hash / write);
        push("archive read with checks", hashes / read);
    }
    Ok(rows)
}

fn growth(job: &Job) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut ledger = open(job, "growth", Background::Thread)?;
    let (mut at, mut size) = (0, 1_000);
    while size <= job.most {
        let ((), put) = timed(|| bulks(&ledger, at, size, 1_000))?;
        let memory = probe::anonymous_bytes() as f64 / MIB;
        ledger.close()?;
        let (opened, open_time) = timed(|| open(job, "growth", Background::Thread))?;
        ledger = opened;
        let (_, get_time) = timed(|| Ok(ledger.get(&id(size / 2))?))?;
        let disk = probe::disk_bytes(&job.dir.join("ledger/growth")) as f64;
        let mut push = |figure: &str, value: f64, unit: &str| {
            let figure = format!("{figure}, {size} documents");
            rows.push(Row::new("growth", figure, OWN, value, unit, Goal::None));
        };
        push("puts in bulks of 1,000", rate(size - at, put), "/s");
        push("opening", open_time.as_secs_f64() * 1e3, "ms");
        push("the first get", get_time.as_secs_f64() * 1e3, "ms");
        push("memory", memory, "MiB");
        push("bytes on disk a document", disk / size as f64, "B");
        (at, size) = (size, size * 10);
    }
    ledger.close()?;
    Ok(rows)
}
