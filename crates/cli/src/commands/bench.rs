//! `siltstone bench`: a quick measurement of this machine, on a temporary database or beside the
//! data of a given one, in a keyspace that is dropped at the end.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{count, duration, parse_size, rate};
use clap::Args;
use hdrhistogram::Histogram;
use siltstone::blocking::{Database, Keyspace};
use siltstone::{Durability, KeyspaceOptions, Read};
use siltstone_storage::{Clock, SystemClock};
use std::time::Duration;

/// The keyspace used in a database that is given.
const KEYSPACE: &str = "siltstone-bench";
const SCAN_ROWS: u64 = 100;

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Runs in a temporary folder unless --db (or SILTSTONE_DB) names a database."
)]
pub(crate) struct BenchArgs {
    /// Keys
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: u64,
    /// Size of a value
    #[arg(long, value_name = "SIZE", default_value = "100", value_parser = parse_size)]
    value_size: u64,
    /// Durable puts; each waits for the disk [default: a hundredth of --count]
    #[arg(long, value_name = "N")]
    durable: Option<u64>,
    /// Seed of the random order
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(args: &BenchArgs, session: &mut Session) -> Result<()> {
    if session.url_given().is_some() {
        let db = session.create(KeyspaceOptions::default())?;
        let keyspace = db.create_keyspace(KEYSPACE, KeyspaceOptions::default())?;
        let measured = Bench::new(args, &db, &keyspace, session).run();
        drop(keyspace);
        db.kv().drop_keyspace(KEYSPACE)?;
        db.close()?;
        return measured;
    }
    let folder =
        tempfile::tempdir().map_err(|e| crate::failure::Failure::io("temporary folder", &e))?;
    let url = folder.path().to_string_lossy().into_owned();
    let db = Database::open_with(&url, session.options(), KeyspaceOptions::default())?;
    let keyspace = db.default_keyspace().clone();
    Bench::new(args, &db, &keyspace, session).run()?;
    db.close()?;
    Ok(())
}

struct Bench<'a> {
    args: &'a BenchArgs,
    db: &'a Database,
    keyspace: &'a Keyspace,
    session: &'a mut Session,
    clock: SystemClock,
    rng: fastrand::Rng,
}

impl<'a> Bench<'a> {
    fn new(
        args: &'a BenchArgs,
        db: &'a Database,
        keyspace: &'a Keyspace,
        session: &'a mut Session,
    ) -> Self {
        Self {
            args,
            db,
            keyspace,
            session,
            clock: SystemClock::default(),
            rng: fastrand::Rng::with_seed(args.seed),
        }
    }

    fn run(mut self) -> Result<()> {
        if !self.session.out.json() {
            let head = ["", "a second", "p50", "p99", "p99.9", "most"];
            let [what, rate, p50, p99, p999, most] = head;
            let line = format!("{what:<22}{rate:>12}{p50:>10}{p99:>10}{p999:>10}{most:>10}");
            let line = self.session.out.paint().bold(&line);
            self.session.out.line(line)?;
        }
        let n = self.args.count;
        let (keyspace, seed) = (self.keyspace, self.args.seed);
        let value = self.value();
        let mut order: Vec<u64> = (0..n).collect();
        self.rng.shuffle(&mut order);
        self.measure("put, buffered", n, |i, _| {
            keyspace.put_with(&key(order[i as usize]), &value, Durability::Buffered)?;
            Ok(1)
        })?;
        self.db.flush()?;
        let durable = self.args.durable.unwrap_or((n / 100).max(1));
        self.measure("put, durable", durable, |i, _| {
            keyspace.put(&key(i.wrapping_mul(seed | 1) % n), &value)?;
            Ok(1)
        })?;
        self.db.flush()?;
        self.measure("get", n, |_, rng| {
            let found = keyspace.get(&key(rng.u64(..n)))?;
            Ok(u64::from(found.is_some()))
        })?;
        self.measure("get, absent", n, |_, rng| {
            let mut absent = key(rng.u64(..n)).to_vec();
            absent.push(b'!');
            keyspace.get(&absent)?;
            Ok(1)
        })?;
        self.measure("scan of 100 rows", (n / 100).max(1), |_, rng| {
            let mut scan = keyspace.scan(&key(rng.u64(..n))[..]..)?;
            let mut rows = 0;
            while rows < SCAN_ROWS && scan.next() {
                rows += 1;
            }
            scan.error()
                .map_or(Ok(1), |error| Err(error.clone().into()))
        })?;
        self.measure("scan of all, in rows", 1, |_, _| {
            let mut scan = keyspace.scan::<&[u8]>(..)?;
            let mut rows = 0;
            while scan.next() {
                rows += 1;
            }
            scan.error()
                .map_or(Ok(rows), |error| Err(error.clone().into()))
        })?;
        self.account();
        Ok(())
    }

    /// Half of it repeats, so that it compresses like data does.
    fn value(&mut self) -> Vec<u8> {
        let size = usize::try_from(self.args.value_size).unwrap_or(usize::MAX);
        let rng = &mut self.rng;
        (0..size)
            .map(|at| if at % 2 == 0 { b'x' } else { rng.u8(..) })
            .collect()
    }

    /// Runs `work` `times` times; what it answers is how much it did.
    fn measure(
        &mut self,
        what: &'static str,
        times: u64,
        mut work: impl FnMut(u64, &mut fastrand::Rng) -> Result<u64>,
    ) -> Result<()> {
        let mut latencies = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3)
            .expect("these bounds are in order");
        let started = self.clock.elapsed();
        let mut before = started;
        let mut done = 0;
        for i in 0..times {
            done += work(i, &mut self.rng)?;
            let now = self.clock.elapsed();
            latencies.saturating_record((now - before).as_nanos() as u64);
            before = now;
        }
        self.report(what, done, before - started, &latencies)
    }

    fn report(
        &mut self,
        what: &str,
        done: u64,
        took: Duration,
        latencies: &Histogram<u64>,
    ) -> Result<()> {
        let at = |quantile| Duration::from_nanos(latencies.value_at_quantile(quantile));
        let most = Duration::from_nanos(latencies.max());
        let out = &mut self.session.out;
        if out.json() {
            let micros = |d: Duration| d.as_nanos() as f64 / 1e3;
            return out.object(
                Object::default()
                    .field("workload", what)
                    .field("operations", &done)
                    .field("ops_per_s", &(done as f64 / took.as_secs_f64().max(1e-9)))
                    .field("p50_us", &micros(at(0.5)))
                    .field("p99_us", &micros(at(0.99)))
                    .field("p999_us", &micros(at(0.999)))
                    .field("max_us", &micros(most)),
            );
        }
        out.line(format_args!(
            "{what:<22}{:>12}{:>10}{:>10}{:>10}{:>10}",
            rate(done, took).trim_end_matches("/s"),
            duration(at(0.5)),
            duration(at(0.99)),
            duration(at(0.999)),
            duration(most),
        ))?;
        out.flush()
    }

    fn account(&mut self) {
        let totals = self.db.stats().totals;
        let note = format!(
            "{} keys of 16 bytes, values of {} bytes, one thread; wrote {:.2} bytes for each byte put",
            count(self.args.count),
            self.args.value_size,
            totals.write_amplification().unwrap_or(0.0),
        );
        self.session.out.note(note);
    }
}

fn key(n: u64) -> [u8; 16] {
    let mut key = [b'0'; 16];
    let mut rest = n;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}
