//! Measures the store of a ledger, in the rows of `specs/ledger.md`, on documents of about 100 bytes.
//!
//! `cargo run --release -p siltstone-ledger --example measure_store -- [documents] [memory]`: in a
//! folder below the current one, or in memory (no syncs), which shows what the processor alone does.

use serde_json::json;
use siltstone_ledger::block::sha256;
use siltstone_ledger::{AllDocs, Background, BulkWrite, Clock, Document, Ledger, Options, Result};
use siltstone_storage::{Blobs, Clock as _, Env, LocalBlobs, MemBlobs, SystemClock};
use std::sync::Arc;
use std::time::Duration;

fn document(n: u64) -> Document {
    let value = json!({
        "name": format!("person number {n}"),
        "age": n % 90,
        "city": "Somewhere upon Sea",
        "tags": ["a", "b"],
        "n": n,
    });
    Document::from_json(&value).expect("an object is a document")
}

fn key(n: u64) -> String {
    format!("doc-{n:08}")
}

struct Bench {
    clock: SystemClock,
    documents: u64,
}

impl Bench {
    fn row<T>(&self, what: &str, count: u64, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = self.clock.elapsed();
        let done = work()?;
        let took = self.clock.elapsed() - start;
        self.show(what, count, took);
        Ok(done)
    }

    fn show(&self, what: &str, count: u64, took: Duration) {
        let each = took.as_secs_f64() / count.max(1) as f64;
        println!(
            "{what:<44} {:>9.1} ms {:>12.0}/s {:>9.2} us each",
            took.as_secs_f64() * 1e3,
            1.0 / each,
            each * 1e6
        );
    }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let found = status.lines().find(|line| line.starts_with(name));
        found.map_or_else(
            || "?".into(),
            |line| line[name.len() + 1..].trim().to_string(),
        )
    };
    format!("{} now, {} at most", line("VmRSS"), line("VmHWM"))
}

fn open(env: &Env, name: &str, options: Options) -> Result<Ledger> {
    Ledger::open(env.clone(), name, options)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let documents = args
        .get(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(10_000);
    let memory = args.iter().any(|arg| arg == "memory");
    let folder = std::path::PathBuf::from(format!("measure-{}", std::process::id()));
    let blobs: Arc<dyn Blobs> = match memory {
        true => Arc::new(MemBlobs::new()),
        false => Arc::new(LocalBlobs::create(&folder)?),
    };
    let env = Env::system(blobs.clone());
    let bench = Bench {
        clock: SystemClock::default(),
        documents,
    };
    let done = measure(&bench, &env);
    if !memory {
        let _ = std::fs::remove_dir_all(&folder);
    }
    done
}

fn measure(bench: &Bench, env: &Env) -> Result<()> {
    let count = bench.documents;
    let ledger = open(env, "one-by-one", Options::default())?;
    bench.row("put one by one, each durable", count, || {
        for n in 0..count {
            ledger.put(&key(n), &document(n))?;
        }
        Ok(())
    })?;
    println!("{:<44} {}", "  memory", resident());
    println!("  {:?}", ledger.stats());
    ledger.close()?;

    let ledger = open(env, "parallel", Options::default())?;
    bench.row("put by 32 threads, each durable", count, || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..32)
                .map(|thread| {
                    let ledger = &ledger;
                    scope.spawn(move || {
                        for n in (thread..count).step_by(32) {
                            ledger.put(&key(n), &document(n))?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().expect("a writer does not panic")
            };
            threads.into_iter().try_for_each(join)
        })
    })?;
    ledger.close()?;

    // A thread, so that a compaction reads ahead, and no compaction by itself.
    let quiet = Options {
        background: Background::Thread,
        compact_from: None,
        ..Options::default()
    };
    let ledger = open(env, "bulk", quiet.clone())?;
    let made: Vec<Vec<BulkWrite>> = (0..count.div_ceil(100))
        .map(|bulk| {
            let range = bulk * 100..((bulk + 1) * 100).min(count);
            range.map(|n| BulkWrite::Put(key(n), document(n))).collect()
        })
        .collect();
    bench.row("bulk of 100", count, || {
        for bulk in made {
            ledger.bulk(bulk)?;
        }
        Ok(())
    })?;
    let bytes = ledger.stats().car_bytes;
    let buffer = vec![7_u8; bytes as usize];
    bench.row("  copy and hash as many bytes once", bytes, || {
        Ok(sha256(&buffer.clone()))
    })?;
    let report = bench.row("compact", bytes, || ledger.compact())?;
    println!("  {report:?}");
    ledger.close()?;

    let parallel = open(env, "bulks", quiet.clone())?;
    bench.row("bulk of 100 by 16 threads", count * 4, || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|thread| {
                    let ledger = &parallel;
                    scope.spawn(move || {
                        for bulk in (thread..count.div_ceil(25)).step_by(16) {
                            let range = bulk * 100..(bulk + 1) * 100;
                            let writes = range.map(|n| BulkWrite::Put(key(n), document(n)));
                            ledger.bulk(writes.collect())?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread.join().expect("a writer does not panic")
            };
            threads.into_iter().try_for_each(join)
        })
    })?;
    let bytes = parallel.stats().car_bytes;
    let buffer = vec![7_u8; bytes as usize];
    bench.row("  copy and hash as many bytes once", bytes, || {
        Ok(sha256(&buffer.clone()))
    })?;
    bench.row("compact", bytes, || parallel.compact())?;
    parallel.close()?;

    let ledger = bench.row("open", 1, || open(env, "bulk", quiet.clone()))?;
    bench.row("  first get", 1, || ledger.get(&key(count / 2)))?;
    let mut random = fastrand::Rng::with_seed(1);
    let order: Vec<String> = (0..count).map(|_| key(random.u64(0..count))).collect();
    bench.row("get, random, cold", count, || get_all(&ledger, &order))?;
    for _ in 0..2 {
        bench.row("get, random, warm", count, || get_all(&ledger, &order))?;
    }
    ledger.drop_caches();
    let all = AllDocs::default();
    for heat in ["all_docs, cold", "all_docs, warm", "all_docs, warm"] {
        let page = bench.row(heat, count, || ledger.all_docs(&all))?;
        assert_eq!(page.rows.len() as u64, count);
    }
    bench.row("changes since the start", count, || {
        ledger.changes(Clock::start(), usize::MAX)
    })?;
    bench.row("verify", count, || ledger.verify()?.into_result())?;
    println!("{:<44} {}", "  memory", resident());
    ledger.close()
}

fn get_all(ledger: &Ledger, order: &[String]) -> Result<()> {
    for id in order {
        std::hint::black_box(ledger.get(id)?);
    }
    Ok(())
}
