//! The workloads on one database in a bucket some milliseconds away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use siltstone_storage::{Blobs, ObjectBlobs, S3Settings};

use crate::bucket::Job;
use crate::bucket::engine::BucketEngine;
use crate::bucket::server::{Control, Place, Requests};
use crate::data;
use crate::engine::Result;
use crate::figure::{Goal, Row};
use crate::latency::Latencies;

/// Concurrent writers.
const WRITERS: u64 = 64;
/// Puts a second that are offered, whatever becomes of them.
const OFFERED: u64 = 2_000;
/// Puts of a lone writer.
const LONE_PUTS: u64 = 200;
/// Puts between two flushes.
const FLUSHED_PUTS: u64 = 10_000;
/// Times a cold database is opened.
const OPENINGS: u64 = 7;
/// Keys of a scan.
const SCANNED: usize = 1_000;
/// Gets of a database whose indexes and filters are in memory.
const COLD_GETS: u64 = 100;
/// How long a database is left alone before its idle traffic is counted.
const CALM: Duration = Duration::from_secs(10);

/// How writers make what they put durable.
#[derive(Clone, Copy)]
enum How {
    /// The put waits for the bucket.
    Itself,
    /// Each puts without waiting and asks for a sync of the log after every put.
    ByASync,
}

impl How {
    fn workload(self) -> &'static str {
        match self {
            Self::Itself => "64 durable writers",
            Self::ByASync => "64 writers that each sync",
        }
    }
}

/// One measurement.
pub(super) struct Bench<'a> {
    job: &'a Job,
    control: Control,
    rows: Vec<Row>,
}

/// Runs all workloads.
pub(super) async fn run<E: BucketEngine>(job: &Job) -> Result<Vec<Row>> {
    let mut bench = Bench {
        job,
        control: Control::connect(&job.place)?,
        rows: Vec::new(),
    };
    let own = bench.own_put().await?;
    bench.puts::<E>(own).await?;
    bench.cold::<E>().await?;
    Ok(bench.rows)
}

fn ms(us: f64) -> f64 {
    us / 1000.0
}

impl Bench<'_> {
    fn row(
        &mut self,
        workload: &str,
        figure: &str,
        value: f64,
        unit: &str,
        goal: Goal,
    ) -> &mut Row {
        let row = Row::new(workload, figure, &self.job.engine, value, unit, goal);
        self.rows.push(row);
        self.rows.last_mut().expect("it was just pushed")
    }

    fn timed(
        &mut self,
        workload: &str,
        figure: &str,
        value: f64,
        unit: &str,
        goal: Goal,
        of: &Latencies,
    ) {
        let (p50, p99) = (of.quantile_us(0.5), of.quantile_us(0.99));
        let row = self.row(workload, figure, value, unit, goal);
        (row.p50_us, row.p99_us) = (Some(p50), Some(p99));
    }

    /// What one conditional put takes without a database above it.
    async fn own_put(&mut self) -> Result<Latencies> {
        self.control.delay(self.job.away_ms)?;
        let place = self.job.place.clone();
        let measured = tokio::task::spawn_blocking(move || raw_puts(&place)).await??;
        self.timed(
            "a put of the bucket's own",
            "p50",
            ms(measured.quantile_us(0.5)),
            "ms",
            Goal::None,
            &measured,
        );
        Ok(measured)
    }

    /// Everything that writes.
    async fn puts<E: BucketEngine>(&mut self, own: Latencies) -> Result<()> {
        let engine = Arc::new(E::open(&self.job.place, "puts").await?);
        // Connections are made and the first log objects are behind.
        self.put_some(&engine, 0, 20).await?;
        self.lone_puts(&engine, &own).await?;
        self.many_writers(&engine, &own, How::Itself).await?;
        self.many_writers(&engine, &own, How::ByASync).await?;
        self.offered_puts(&engine, &own).await?;
        self.buffered_puts(&engine).await?;
        Arc::into_inner(engine)
            .ok_or("a writer still runs")?
            .close()
            .await
    }

    async fn put_some<E: BucketEngine>(
        &mut self,
        engine: &Arc<E>,
        from: u64,
        count: u64,
    ) -> Result<Latencies> {
        let mut latencies = Latencies::start();
        for number in from..from + count {
            let (key, value) = data::entry(number, 0);
            latencies.skip();
            engine.put_durable(&key, &value).await?;
            latencies.lap();
        }
        Ok(latencies)
    }

    async fn lone_puts<E: BucketEngine>(&mut self, engine: &Arc<E>, own: &Latencies) -> Result<()> {
        self.control.start_over()?;
        let latencies = self.put_some(engine, 100, LONE_PUTS).await?;
        let requests = self.control.requests()?;
        let each = requests.all() as f64 / LONE_PUTS as f64;
        let what = "a lone durable put";
        self.timed(what, "requests", each, "", Goal::AtMost(1.0), &latencies);
        self.over_own(what, &latencies, own);
        self.price(what, requests, LONE_PUTS);
        Ok(())
    }

    /// What durable puts take beyond a put of the bucket's own.
    fn over_own(&mut self, workload: &str, puts: &Latencies, own: &Latencies) {
        for (figure, quantile) in [
            ("p50 over one put's own", 0.5),
            ("p99 over one put's own", 0.99),
        ] {
            let excess = ms(puts.quantile_us(quantile) - own.quantile_us(quantile));
            self.row(workload, figure, excess, "ms", Goal::AtMost(2.0));
        }
    }

    fn price(&mut self, workload: &str, requests: Requests, operations: u64) {
        let million = requests.all() as f64 / operations as f64 * 1e6;
        self.row(workload, "requests per million", million, "", Goal::None);
        let price = requests.price_of_a_million(operations);
        self.row(workload, "price per million", price, "USD", Goal::None);
    }

    /// Writers that each wait for their put, made durable `how`.
    async fn many_writers<E: BucketEngine>(
        &mut self,
        engine: &Arc<E>,
        own: &Latencies,
        how: How,
    ) -> Result<()> {
        let seconds = Duration::from_secs(self.job.seconds);
        self.control.start_over()?;
        let started = Instant::now();
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let engine = Arc::clone(engine);
            writers.push(tokio::spawn(async move {
                let mut latencies = Latencies::start();
                let mut number = (writer + 1) << 32;
                while started.elapsed() < seconds {
                    let (key, value) = data::entry(number, 0);
                    match how {
                        How::Itself => engine.put_durable(&key, &value).await?,
                        How::ByASync => {
                            engine.put(&key, &value).await?;
                            engine.sync().await?;
                        }
                    }
                    latencies.lap();
                    number += 1;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latencies)
            }));
        }
        let mut all = Latencies::start();
        for writer in writers {
            all.merge(&writer.await??);
        }
        let took = started.elapsed().as_secs_f64();
        let requests = self.control.requests()?;
        let what = how.workload();
        self.timed(
            what,
            "puts",
            all.count() as f64 / took,
            "/s",
            Goal::TimesPeer(3.0),
            &all,
        );
        self.row(
            what,
            "p99",
            ms(all.quantile_us(0.99)),
            "ms",
            Goal::PartOfPeer(1.0),
        );
        self.over_own(what, &all, own);
        self.price(what, requests, all.count());
        Ok(())
    }

    /// Puts that come at their time and not when the one before is done: what waits shows.
    async fn offered_puts<E: BucketEngine>(
        &mut self,
        engine: &Arc<E>,
        own: &Latencies,
    ) -> Result<()> {
        let started = Instant::now();
        let mut puts = tokio::task::JoinSet::new();
        self.control.start_over()?;
        for number in 0..OFFERED * self.job.seconds {
            let due = started + Duration::from_micros(number * 1_000_000 / OFFERED);
            tokio::time::sleep_until(due.into()).await;
            let engine = Arc::clone(engine);
            puts.spawn(async move {
                let (key, value) = data::entry((1 << 40) + number, 0);
                let came = Instant::now();
                engine.put_durable(&key, &value).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(came.elapsed())
            });
        }
        let mut all = Latencies::start();
        while let Some(put) = puts.join_next().await {
            all.add(put??);
        }
        let requests = self.control.requests()?;
        let what = "2,000 durable puts a second offered";
        self.timed(
            what,
            "p99",
            ms(all.quantile_us(0.99)),
            "ms",
            Goal::PartOfPeer(1.0),
            &all,
        );
        self.over_own(what, &all, own);
        self.price(what, requests, all.count());
        Ok(())
    }

    async fn buffered_puts<E: BucketEngine>(&mut self, engine: &Arc<E>) -> Result<()> {
        // What the workloads before this one left in the log goes first.
        engine.flush().await?;
        self.control.start_over()?;
        let started = Instant::now();
        for number in 0..FLUSHED_PUTS {
            let (key, value) = data::entry((1 << 41) + number, 0);
            engine.put(&key, &value).await?;
        }
        let put = started.elapsed();
        engine.flush().await?;
        let flush = started.elapsed() - put;
        let requests = self.control.requests()?;
        let what = "10,000 buffered puts, then a flush";
        self.row(what, "puts", put.as_secs_f64() * 1e3, "ms", Goal::None);
        self.row(what, "flush", flush.as_secs_f64() * 1e3, "ms", Goal::None);
        self.row(what, "requests", requests.all() as f64, "", Goal::None);
        Ok(())
    }

    /// Everything that reads what another handle wrote, and doing nothing.
    async fn cold<E: BucketEngine>(&mut self) -> Result<()> {
        self.control.delay(0)?;
        let engine = E::open(&self.job.place, "loaded").await?;
        for number in 0..self.job.entries {
            let (key, value) = data::entry(number, 0);
            engine.put(&key, &value).await?;
        }
        engine.settle().await?;
        engine.close().await?;
        self.control.delay(self.job.away_ms)?;
        let (mut opens, mut first, mut scans) =
            (Latencies::start(), Latencies::start(), Latencies::start());
        let (mut opening, mut getting, mut scanning) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..OPENINGS {
            let engine = self.open_loaded::<E>(&mut opens, &mut opening).await?;
            self.control.start_over()?;
            let started = Instant::now();
            self.get(&engine, round * 31 + 7).await?;
            first.add(started.elapsed());
            getting.push(self.control.requests()?);
            engine.close().await?;
            let engine = E::open(&self.job.place, "loaded").await?;
            self.control.start_over()?;
            let started = Instant::now();
            // A third of the way into the keys, give or take.
            let from = [85 - round as u8; data::KEY_LEN];
            if engine.scan(&from, SCANNED).await? != SCANNED {
                return Err("a scan came back short".into());
            }
            scans.add(started.elapsed());
            scanning.push(self.control.requests()?);
            engine.close().await?;
        }
        let middle = |of: &[Requests], what: fn(&Requests) -> u64| {
            let mut counts: Vec<u64> = of.iter().map(what).collect();
            counts.sort_unstable();
            counts[counts.len() / 2] as f64
        };
        let sequence = |requests: &Requests| requests.in_sequence;
        self.timed(
            "open",
            "requests in sequence",
            middle(&opening, sequence),
            "",
            Goal::AtMost(3.0),
            &opens,
        );
        self.row(
            "open",
            "requests",
            middle(&opening, Requests::all),
            "",
            Goal::None,
        );
        let what = "the first get after open";
        self.timed(
            what,
            "requests",
            middle(&getting, Requests::all),
            "",
            Goal::AtMost(2.0),
            &first,
        );
        let what = "a cold scan of 1,000 keys";
        self.timed(
            what,
            "requests in sequence",
            middle(&scanning, sequence),
            "",
            Goal::None,
            &scans,
        );
        self.row(
            what,
            "requests",
            middle(&scanning, Requests::all),
            "",
            Goal::None,
        );
        let time = ms(scans.quantile_us(0.5)) / self.job.away_ms.max(1) as f64;
        self.row(
            what,
            "time in answers of the bucket",
            time,
            "",
            Goal::AtMost(3.0 * 1.25),
        );
        self.cold_gets::<E>().await
    }

    async fn open_loaded<E: BucketEngine>(
        &mut self,
        opens: &mut Latencies,
        opening: &mut Vec<Requests>,
    ) -> Result<E> {
        self.control.start_over()?;
        let started = Instant::now();
        let engine = E::open(&self.job.place, "loaded").await?;
        opens.add(started.elapsed());
        opening.push(self.control.requests()?);
        // What it still does by itself must not be counted with what follows.
        tokio::time::sleep(Duration::from_millis(20 * self.job.away_ms.max(20))).await;
        Ok(engine)
    }

    async fn get<E: BucketEngine>(&self, engine: &E, number: u64) -> Result<()> {
        match engine.get(&data::key(number % self.job.entries)).await? {
            true => Ok(()),
            false => Err("a value is wrong or missing".into()),
        }
    }

    /// Gets of keys from all over.
    async fn spread_gets<E: BucketEngine>(&mut self, engine: &E) -> Result<(Latencies, Requests)> {
        self.control.start_over()?;
        let mut latencies = Latencies::start();
        for number in 0..COLD_GETS {
            latencies.skip();
            self.get(engine, 1_000 + number * 997).await?;
            latencies.lap();
        }
        let requests = self.control.requests()?;
        Ok((latencies, requests))
    }

    /// The gets of [`Bench::cold_gets`] once more, by a handle that has read nothing yet.
    async fn gets_again<E: BucketEngine>(&mut self) -> Result<()> {
        let mut opens = Latencies::start();
        let engine = self.open_loaded::<E>(&mut opens, &mut Vec::new()).await?;
        let (latencies, requests) = self.spread_gets(&engine).await?;
        let what = "the same gets after opening again";
        let each = requests.all() as f64 / COLD_GETS as f64;
        self.timed(what, "requests", each, "", Goal::None, &latencies);
        let (p50, open) = (latencies.quantile_us(0.5), opens.quantile_us(0.5));
        self.row(what, "p50", ms(p50), "ms", Goal::None);
        self.row(what, "opening before", ms(open), "ms", Goal::None);
        engine.close().await
    }

    /// Gets with indexes and filters in memory and blocks not; then the same handle idle.
    async fn cold_gets<E: BucketEngine>(&mut self) -> Result<()> {
        let engine = E::open(&self.job.place, "loaded").await?;
        // Every table's index and filter, by keys from all over.
        for number in 0..20 {
            self.get(&engine, number * 7_919).await?;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (latencies, requests) = self.spread_gets(&engine).await?;
        let what = "a cold get, index and filter cached";
        let each = requests.all() as f64 / COLD_GETS as f64;
        self.timed(what, "requests", each, "", Goal::AtMost(1.0), &latencies);
        self.price(what, requests, COLD_GETS);
        tokio::time::sleep(CALM).await;
        self.control.start_over()?;
        let watched = Duration::from_secs(self.job.idle_seconds);
        tokio::time::sleep(watched).await;
        let requests = self.control.requests()?.all() as f64;
        let a_minute = requests / watched.as_secs_f64() * 60.0;
        self.row("idle", "requests a minute", a_minute, "", Goal::AtMost(1.0));
        engine.close().await?;
        self.gets_again::<E>().await
    }
}

/// Conditional puts one after another, as small as a lone durable put's.
fn raw_puts(place: &Place) -> Result<Latencies> {
    let settings = S3Settings::new(&place.bucket, &place.access_key, &place.secret_key);
    let store = ObjectBlobs::s3(settings.endpoint(&place.endpoint), "raw")?;
    let mut latencies = Latencies::start();
    for number in 0..LONE_PUTS + 10 {
        let (_, value) = data::entry(number, std::process::id().into());
        latencies.skip();
        store.put_if_absent(&format!("{}-{number}", std::process::id()), &value)?;
        // The first ones make connections.
        if number >= 10 {
            latencies.lap();
        }
    }
    Ok(latencies)
}
