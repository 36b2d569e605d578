//! The workloads on a tree of Siltstone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use siltstone::blocking::{Database, Tree};
use siltstone::trees::{Fields, KEYSPACE_PREFIX};
use siltstone::{
    CompactOptions, Durability, Edit, History, KeyspaceOptions, Options, Value, WatchEvent,
    WatchFrom,
};

use super::{Job, Workload};
use crate::figure::{Goal, Row};
use crate::latency::Latencies;
use crate::probe::{self, Counters};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const OWN: &str = "siltstone";
/// Paths that are patched in turn.
const PATHS: u64 = 1_000;
/// Clients of the durable workload.
pub(crate) const CLIENTS: usize = 64;
/// Bytes of a value of the durable workload.
pub(crate) const VALUE_BYTES: usize = 100;
/// Watches of the watch workload.
const WATCHES: u64 = 10_000;

pub(crate) fn run(job: &Job) -> Result<Vec<Row>> {
    match job.workload {
        Workload::PatchDurable => patch_durable(job),
        Workload::PatchBuffered => patch_buffered(job),
        Workload::Subtree => subtree(job),
        Workload::Document => document(job),
        Workload::Memory => memory(job),
        Workload::Watch => watch(job),
        Workload::Thinning => thinning(job),
    }
}

fn open(job: &Job, name: &str, history: History) -> Result<(Database, Tree)> {
    open_within(job, name, history, Options::default().memory_budget)
}

fn open_within(job: &Job, name: &str, history: History, budget: usize) -> Result<(Database, Tree)> {
    let path = job.dir.join(name);
    let url = path.to_str().ok_or("the folder's name is not UTF-8")?;
    let limits = Options {
        memory_budget: budget,
        ..Options::default()
    };
    let db = Database::open_with(url, limits, KeyspaceOptions::default())?;
    let options = KeyspaceOptions {
        history,
        ..KeyspaceOptions::default()
    };
    let tree = db.create_tree("t", options)?;
    Ok((db, tree))
}

/// So many entries `prefix0000000` and on, each a number.
fn numbered(prefix: &str, count: u64) -> Value {
    let field = |number| (format!("{prefix}{number:07}"), number);
    Value::Object((0..count).map(field).collect())
}

/// How many fields an object has.
fn fields(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

/// A tree with the paths that are patched.
fn with_paths(tree: &Tree) -> Result<()> {
    let user = |number| {
        let fields: Fields = [("n", 0_u64)].into_iter().collect();
        (format!("u{number}"), Value::Object(fields))
    };
    let users: Fields = (0..PATHS).map(user).collect();
    tree.set("users", Value::Object(users))?;
    Ok(())
}

/// Patches the paths in turn, `commits` times.
fn patch_in_turn(tree: &Tree, commits: u64) -> Result<()> {
    for number in 0..commits {
        let edit = Edit::new().patch(format!("users.u{}.n", number % PATHS), number);
        tree.commit_with(&edit, Durability::Buffered)?;
    }
    Ok(())
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

fn patch_durable(job: &Job) -> Result<Vec<Row>> {
    let (_db, tree) = open(job, "durable", History::default())?;
    let end = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (tree, end) = (tree.clone(), Arc::clone(&end));
            std::thread::spawn(move || -> Result<Latencies> {
                let path = format!("clients.c{client:02}.value");
                let mut number = 0_u64;
                let mut latencies = Latencies::start();
                while !end.load(Ordering::Relaxed) {
                    let value = format!("{number:0width$}", width = VALUE_BYTES);
                    let edit = Edit::new().patch(path.as_str(), value.as_str());
                    tree.commit_with(&edit, Durability::Durable)?;
                    latencies.lap();
                    number += 1;
                }
                Ok(latencies)
            })
        })
        .collect();
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(job.seconds));
    end.store(true, Ordering::Relaxed);
    let took = start.elapsed();
    durable_row(OWN, clients, took)
}

/// The row of the durable workload, of what its clients measured.
pub(crate) fn durable_row(
    engine: &str,
    clients: Vec<std::thread::JoinHandle<Result<Latencies>>>,
    took: Duration,
) -> Result<Vec<Row>> {
    let mut all = Latencies::start();
    for client in clients {
        all.merge(&client.join().map_err(|_| "a client panicked")??);
    }
    let goal = if engine == OWN {
        Goal::TimesPeer(2.0)
    } else {
        Goal::None
    };
    let rate = rate(all.count(), took);
    let figure = format!("durable patches of one path by {CLIENTS} writers");
    let row = Row::new("patch_durable", figure, engine, rate, "/s", goal);
    Ok(vec![
        row.with_latency(all.quantile_us(0.5), all.quantile_us(0.99)),
    ])
}

fn patch_buffered(job: &Job) -> Result<Vec<Row>> {
    let (_db, tree) = open(job, "buffered", History::default())?;
    with_paths(&tree)?;
    patch_in_turn(&tree, job.commits / 10)?;
    let (start, before) = (Instant::now(), Counters::now());
    patch_in_turn(&tree, job.commits)?;
    let took = start.elapsed();
    let spent = Duration::from_micros(Counters::now().since(before).cpu_us);
    let goal = Goal::AtLeast(200_000.0);
    let row = |figure, took| {
        let rate = rate(job.commits, took);
        Row::new("patch_buffered", figure, OWN, rate, "/s", goal)
    };
    Ok(vec![
        row("buffered patches of one path by one thread", took),
        row("the same, a second of processor time", spent),
    ])
}

fn subtree(job: &Job) -> Result<Vec<Row>> {
    let (_db, tree) = open(job, "subtree", History::everything())?;
    tree.set("sub", numbered("leaf", 1_000))?;
    with_paths(&tree)?;
    let first = tree.head();
    patch_in_turn(&tree, job.commits)?;
    let read = |work: &mut dyn FnMut() -> Result<Value>| -> Result<Latencies> {
        for _ in 0..100 {
            work()?;
        }
        let mut latencies = Latencies::start();
        for _ in 0..(job.commits / 100).clamp(100, 2_000) {
            let value = work()?;
            latencies.lap();
            if fields(&value) != 1_000 {
                return Err("the subtree has not its 1,000 leaves".into());
            }
            latencies.skip();
        }
        Ok(latencies)
    };
    let head = read(&mut || Ok(tree.get("sub")?))?;
    let old = read(&mut || Ok(tree.get_at("sub", first)?))?;
    let row = |figure: String, latencies: &Latencies, goal| {
        let ms = latencies.quantile_us(0.5) / 1e3;
        Row::new("subtree", figure, OWN, ms, "ms", goal)
            .with_latency(latencies.quantile_us(0.5), latencies.quantile_us(0.99))
    };
    let ago = job.commits;
    Ok(vec![
        row(
            "a subtree of 1,000 leaves at the head".into(),
            &head,
            Goal::AtMost(0.3),
        ),
        row(format!("the same {ago} commits ago"), &old, Goal::None),
        Row::new(
            "subtree",
            "the past over the head",
            OWN,
            old.quantile_us(0.5) / head.quantile_us(0.5),
            "x",
            Goal::AtMost(1.2),
        ),
    ])
}

fn document(job: &Job) -> Result<Vec<Row>> {
    let groups = (job.commits / 1_000).max(1);
    let (_db, tree) = open(job, "document", History::default())?;
    for group in 0..groups {
        let edit = Edit::new().set(format!("g{group:04}"), numbered("k", 1_000));
        tree.commit_with(&edit, Durability::Buffered)?;
    }
    let mut least = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let whole = tree.get("")?;
        least = least.min(start.elapsed());
        if fields(&whole) != groups as usize {
            return Err("the document is not whole".into());
        }
    }
    let leaves = rate(groups * 1_000, least);
    let goal = Goal::AtLeast(1_000_000.0);
    Ok(vec![Row::new(
        "document",
        format!("a document of {} leaves, read whole", groups * 1_000),
        OWN,
        leaves,
        "leaves/s",
        goal,
    )])
}

fn memory(job: &Job) -> Result<Vec<Row>> {
    // As a program that serves a database would: what the allocator keeps is not the database's.
    if !siltstone::return_freed_memory() {
        eprintln!("the allocator keeps freed memory as it likes: it is not glibc's");
    }
    // Small, so that it is used up soon.
    let (_db, tree) = open_within(job, "memory", History::everything(), 8 << 20)?;
    with_paths(&tree)?;
    let mut rows = Vec::new();
    let mut seen = Vec::new();
    // A fifth warms all caches up; then memory must stay where it is.
    for part in 1..=5_u64 {
        patch_in_turn(&tree, job.commits / 5)?;
        let bytes = probe::anonymous_bytes() as f64 / f64::from(1 << 20);
        seen.push(bytes);
        rows.push(Row::new(
            "memory",
            format!("memory after {} commits", job.commits / 5 * part),
            OWN,
            bytes,
            "MiB",
            Goal::None,
        ));
    }
    rows.push(Row::new(
        "memory",
        "the last over the second",
        OWN,
        seen[4] / seen[1],
        "x",
        Goal::AtMost(1.1),
    ));
    Ok(rows)
}

fn watch(job: &Job) -> Result<Vec<Row>> {
    let (_db, tree) = open(job, "watch", History::everything())?;
    with_paths(&tree)?;
    let commits = (job.commits / 10).max(1);
    let one_path = |tree: &Tree| -> Result<Duration> {
        let start = Instant::now();
        for number in 0..commits {
            let edit = Edit::new().set("users.u7.n", number);
            tree.commit_with(&edit, Durability::Buffered)?;
        }
        Ok(start.elapsed())
    };
    one_path(&tree)?;
    let without = one_path(&tree)?;
    let watches: Vec<_> = (0..WATCHES)
        .map(|number| {
            let path = format!("users.u{}.x{}", number % PATHS, number / PATHS);
            tree.watch(path, WatchFrom::After(tree.head()))
        })
        .collect::<std::result::Result<_, _>>()?;
    let mut heard = tree.watch("users.u7.n", WatchFrom::After(tree.head()))?;
    let with = one_path(&tree)?;
    drop(watches);
    while heard.try_next()?.is_some() {}
    let late = delivery(&tree, job.rate, job.seconds)?;
    Ok(vec![
        Row::new(
            "watch",
            "a commit with 10,000 watches over one without",
            OWN,
            with.as_secs_f64() / without.as_secs_f64(),
            "x",
            Goal::AtMost(2.0),
        ),
        Row::new(
            "watch",
            format!("delivery at {} commits/s, p99", job.rate),
            OWN,
            late.quantile_us(0.99) / 1e3,
            "ms",
            Goal::AtMost(5.0),
        )
        .with_latency(late.quantile_us(0.5), late.quantile_us(0.99)),
    ])
}

/// How late a watch hears of each of `rate` commits a second.
fn delivery(tree: &Tree, rate: u64, seconds: u64) -> Result<Latencies> {
    let commits = rate * seconds;
    let mut watch = tree.watch("users.u7.n", WatchFrom::After(tree.head()))?;
    let mut late = Latencies::start();
    let clock = Instant::now();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || -> Result<()> {
            for number in 0..commits {
                let due = Duration::from_micros(1_000_000 * number / rate);
                while let Some(left) = due.checked_sub(clock.elapsed()) {
                    std::thread::sleep(left.min(Duration::from_micros(50)));
                }
                let at = clock.elapsed().as_nanos() as u64;
                let edit = Edit::new().set("users.u7.n", at);
                tree.commit_with(&edit, Durability::Buffered)?;
            }
            Ok(())
        });
        let mut heard = 0;
        while heard < commits {
            // A mark that it caught up may come in between.
            let WatchEvent::Changes { changes, .. } = watch.next()? else {
                continue;
            };
            let value = changes.first().and_then(|change| change.value.as_ref());
            let at = value
                .and_then(Value::as_i64)
                .ok_or("a change without a value")?;
            late.add(
                clock
                    .elapsed()
                    .saturating_sub(Duration::from_nanos(at as u64)),
            );
            heard += 1;
        }
        writer.join().map_err(|_| "the writer panicked")?
    })?;
    Ok(late)
}

fn thinning(job: &Job) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let thinned = History::levels(1_000, 3);
    for (name, history) in [
        ("window 1,000, 3 levels of 10", thinned),
        ("all kept", History::everything()),
    ] {
        let folder = if rows.is_empty() { "thinned" } else { "whole" };
        let (db, tree) = open(job, folder, history)?;
        with_paths(&tree)?;
        // At random: in turn, each path would have one version for every thousandth commit exactly.
        let mut random = fastrand::Rng::with_seed(1);
        for number in 0..job.commits {
            let edit = Edit::new().patch(format!("users.u{}.n", random.u64(..PATHS)), number);
            tree.commit_with(&edit, Durability::Buffered)?;
        }
        db.flush()?;
        let start = Instant::now();
        let rows_of = db.keyspace(&format!("{KEYSPACE_PREFIX}t"))?;
        let compacted = rows_of.compact(&CompactOptions::default());
        let compacted = compacted.map_err(|failed| failed.error)?;
        let took = start.elapsed();
        if compacted.inputs.is_empty() {
            return Err("there was nothing to compact".into());
        }
        let stats = db.stats();
        let own = |keyspace: &&siltstone::KeyspaceStats| keyspace.name.ends_with(":t");
        let keyspace = stats.keyspaces.iter().find(own).ok_or("the tree is gone")?;
        let sum = |figure: fn(&siltstone::LevelStats) -> u64| -> f64 {
            keyspace.levels.iter().map(figure).sum::<u64>() as f64
        };
        let mut push = |figure: &str, value: f64, unit: &str| {
            let figure = format!("{figure}, {name}");
            rows.push(Row::new("thinning", figure, OWN, value, unit, Goal::None));
        };
        push("versions kept", sum(|level| level.entries), "");
        push(
            "bytes in tables",
            sum(|level| level.bytes) / f64::from(1 << 20),
            "MiB",
        );
        push("time to compact", took.as_secs_f64() * 1e3, "ms");
        let retained = tree.retained_commits()?;
        push("commits that can be read", retained.len() as f64, "");
        drop((db, tree));
    }
    Ok(rows)
}
