//! Rough numbers of a tree, on this machine: `cargo run --release -p siltstone-tree --example measure`.
#![allow(clippy::unwrap_used, reason = "a measurement ends where it fails")]

use siltstone_kv::{Commit, Durability, History, KeyspaceOptions, Kv, Options};
use siltstone_storage::{Env, LocalBlobs};
use siltstone_tree::{Edit, Trees, Value, WatchFrom};
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::system(Arc::new(LocalBlobs::create(dir.path()).unwrap()));
    let clock = env.clock.clone();
    let kv = Kv::open(env, Options::default(), KeyspaceOptions::default(), None).unwrap();
    let history = KeyspaceOptions {
        history: History::everything(),
        ..KeyspaceOptions::default()
    };
    let tree = Trees::of(&kv).create("t", history).unwrap();
    let took = |what: &str, count: u64, work: &mut dyn FnMut()| {
        let started = clock.elapsed();
        work();
        let took = clock.elapsed() - started;
        let each = took.as_nanos() as f64 / count as f64;
        println!("{what:<50} {:>12.0} ns each  {:>12.0} /s", each, 1e9 / each);
        took
    };
    let thousand: Value = Value::Object(
        (0..1000u64)
            .map(|n| (format!("leaf{n:04}"), Value::from(n)))
            .collect(),
    );
    tree.set("sub", thousand).unwrap();
    tree.set(
        "users",
        Value::Object(
            (0..1000u64)
                .map(|n| {
                    (
                        format!("u{n}"),
                        Value::Object([("n", 0u64)].into_iter().collect()),
                    )
                })
                .collect(),
        ),
    )
    .unwrap();
    let first = tree.head();
    let patches = 1_000_000u64;
    took(
        "buffered patches of a leaf, one thread",
        patches,
        &mut || {
            for n in 0..patches {
                let edit = Edit::new().patch(format!("users.u{}.n", n % 1000), n);
                tree.commit_with(&edit, Durability::Buffered).unwrap();
            }
        },
    );
    took("patches of 20 paths", 20_000, &mut || {
        for n in 0..20_000u64 {
            let edit = (0..20).fold(Edit::new(), |edit, k| {
                edit.patch(format!("users.u{}.n", (n + k * 37) % 1000), n)
            });
            tree.commit_with(&edit, Durability::Buffered).unwrap();
        }
    });
    for _ in 0..2 {
        took("a 1,000-leaf subtree, now", 1000, &mut || {
            (0..1000).for_each(|_| drop(tree.get("sub").unwrap()))
        });
        took("the same, a million commits ago", 1000, &mut || {
            (0..1000).for_each(|_| drop(tree.get_at("sub", first).unwrap()))
        });
    }
    took("a leaf, now", 100_000, &mut || {
        (0..100_000).for_each(|n| drop(tree.get(format!("users.u{}.n", n % 1000)).unwrap()))
    });
    took(
        "leaves of the document that is set, 200,000",
        200_000,
        &mut || {
            let group = |g: u64| {
                (
                    format!("g{g:04}"),
                    Value::Object(
                        (0..100u64)
                            .map(|n| (format!("k{n:02}"), Value::from(n * g)))
                            .collect(),
                    ),
                )
            };
            tree.set("big", Value::Object((0..2000).map(group).collect()))
                .unwrap();
        },
    );
    took(
        "leaves of the document read whole, 200,000",
        200_000,
        &mut || drop(tree.get("big").unwrap()),
    );
    took("the same again", 200_000, &mut || {
        drop(tree.get("big").unwrap())
    });
    let n = 100_000u64;
    let one = |tree: &siltstone_tree::Tree| {
        for n in 0..n {
            tree.commit_with(&Edit::new().set("users.u7.n", n), Durability::Buffered)
                .unwrap();
        }
    };
    let without = took("commits of one path, no watches", n, &mut || one(&tree));
    let watches: Vec<_> = (0..10_000)
        .map(|n| {
            tree.watch(
                format!("users.u{}.x{}", n % 1000, n / 1000),
                WatchFrom::After(tree.head()),
            )
            .unwrap()
        })
        .collect();
    let mut one_watch = tree
        .watch("users.u7.n", WatchFrom::After(tree.head()))
        .unwrap();
    let with = took(
        "the same, with 10,000 watches and one of it",
        n,
        &mut || one(&tree),
    );
    println!("times {:.2}", with.as_secs_f64() / without.as_secs_f64());
    drop(watches);
    while one_watch.try_next().unwrap().is_some() {}
    let mut late: Vec<Duration> = Vec::new();
    let commits = 30_000u64;
    std::thread::scope(|scope| {
        let (tree, clock) = (&tree, &clock);
        scope.spawn(move || {
            let started = clock.elapsed();
            for n in 0..commits {
                while clock.elapsed() < started + Duration::from_micros(100 * n) {
                    std::hint::spin_loop();
                }
                let at = clock.elapsed().as_nanos() as u64;
                tree.commit_with(&Edit::new().set("users.u7.n", at), Durability::Buffered)
                    .unwrap();
            }
        });
        for _ in 0..commits {
            let event = one_watch.next().unwrap();
            let siltstone_tree::WatchEvent::Changes { changes, .. } = event else {
                continue;
            };
            let at = changes[0]
                .value
                .as_ref()
                .and_then(Value::as_i64)
                .unwrap_or(0) as u64;
            late.push(clock.elapsed().saturating_sub(Duration::from_nanos(at)));
        }
    });
    late.sort();
    println!(
        "delivery at 10,000 commits/s: p50 {:?}  p99 {:?}  worst {:?}",
        late[late.len() / 2],
        late[late.len() * 99 / 100],
        late.last().unwrap()
    );
    let _ = Commit::ZERO;
}
