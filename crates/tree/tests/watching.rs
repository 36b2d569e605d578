//! Scenarios 18 to 23: watches.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{all_words, keyspace, open, small_options, threaded, tree, tree_with, v, words};
use siltstone_kv::{Commit, CompactOptions, Durability, History, Isolation};
use siltstone_storage::MemBlobs;
use siltstone_tree::{Edit, Error, Trees, Value, Watch, WatchEvent, WatchFrom};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn after(n: u64) -> WatchFrom {
    WatchFrom::After(Commit(n))
}

#[test]
fn s18_events_come_live_and_from_a_commit_with_a_mark_between() {
    let (_kv, tree) = tree();
    let mut live = tree.watch("a", WatchFrom::Now).unwrap();
    assert_eq!(all_words(&mut live), ["state@0"]);
    for n in 1..=3 {
        tree.set("a", n).unwrap();
    }
    let mut from_start = tree.watch("a", after(0)).unwrap();
    let mut with_state = tree.watch("a", WatchFrom::StateAt(Commit(1))).unwrap();
    assert_eq!(
        all_words(&mut from_start),
        ["1: a=1", "2: a=2", "3: a=3", "caught up@3"]
    );
    tree.set("a", 4).unwrap();
    assert_eq!(all_words(&mut from_start), ["4: a=4"]);
    assert_eq!(
        all_words(&mut with_state),
        ["state@1 a=1", "2: a=2", "3: a=3", "4: a=4", "caught up@4"]
    );
    assert_eq!(
        all_words(&mut live),
        ["1: a=1", "2: a=2", "3: a=3", "4: a=4"]
    );
    assert!(
        tree.watch("a", after(5))
            .unwrap_err()
            .to_string()
            .contains("does not exist yet")
    );
    drop((live, from_start));
    assert_eq!(tree.watch_count(), 1);
}

/// Sees every event of a watch until it is told that writers are done and nothing is left.
fn follow(mut watch: Watch, done: &AtomicBool, pause: Option<Duration>) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    loop {
        let over = done.load(Ordering::SeqCst);
        match watch.next_within(Duration::from_millis(20)).unwrap() {
            Some(event) => events.push(event),
            None if over => return events,
            None => {}
        }
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
    }
}

/// What was written, by commit: the paths, in a world of `a` to `f` and numbers.
type Written = BTreeMap<u64, Vec<String>>;

fn check_events(pattern: &str, events: &[WatchEvent], written: &Written) {
    let concerns = |path: &String| match pattern {
        "" => true,
        "*.n1" => path.ends_with(".n1"),
        pattern => path == pattern || path.starts_with(&format!("{pattern}.")),
    };
    let expected: Vec<(u64, Vec<String>)> = written
        .iter()
        .map(|(commit, paths)| {
            let mut paths: Vec<_> = paths
                .iter()
                .filter(|path| concerns(path))
                .cloned()
                .collect();
            paths.sort();
            paths.dedup();
            (*commit, paths)
        })
        .filter(|(_, paths)| !paths.is_empty())
        .collect();
    let found: Vec<(u64, Vec<String>)> = events
        .iter()
        .filter_map(|event| match event {
            WatchEvent::Changes { commit, changes } => Some((
                commit.0,
                changes
                    .iter()
                    .map(|change| change.path.to_string())
                    .collect(),
            )),
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{pattern}: number of events");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{pattern}");
    }
}

fn writers(tree: &siltstone_tree::Tree, for_time: Duration) -> Written {
    let written = Mutex::new(Written::new());
    let clock = tree.keyspace().database().env().clock.clone();
    let until = clock.elapsed() + for_time;
    std::thread::scope(|scope| {
        for writer in 0..6u64 {
            let (written, clock) = (&written, &clock);
            scope.spawn(move || {
                let mut n = 0;
                let mut own = Vec::new();
                while clock.elapsed() < until {
                    n += 1;
                    let own_name = char::from(b'a' + writer as u8);
                    let other = char::from(b'a' + ((writer + 1) % 6) as u8);
                    let mut paths = vec![format!("{own_name}.n{}", n % 3)];
                    if n % 5 == 0 {
                        paths.push(format!("{other}.by{writer}"));
                    }
                    let value = format!("{writer}:{n}");
                    let edit = paths.iter().fold(Edit::new(), |edit, path| {
                        edit.set(path.as_str(), value.as_str())
                    });
                    let durability = if n % 7 == 0 {
                        Durability::Durable
                    } else {
                        Durability::Buffered
                    };
                    let commit = tree.commit_with(&edit, durability).unwrap().commit;
                    own.push((commit.0, paths));
                }
                written.lock().unwrap().extend(own);
            });
        }
    });
    written.into_inner().unwrap()
}

#[test]
fn s19_a_hundred_watches_see_every_commit_of_six_writers_once_and_in_order() {
    let (_kv, tree) = threaded();
    let containers = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .fold(Edit::new(), |edit, name| edit.set(*name, v("{}")));
    tree.commit(&containers).unwrap();
    let patterns: Vec<String> = (0..100)
        .map(|n| match n % 10 {
            0 => String::new(),
            1 => "*.n1".into(),
            n => {
                let name = char::from(b'a' + (n % 6) as u8);
                match n % 3 {
                    0 => name.to_string(),
                    k => format!("{name}.n{k}"),
                }
            }
        })
        .collect();
    let watches: Vec<_> = patterns
        .iter()
        .map(|pattern| tree.watch(pattern.as_str(), WatchFrom::Now).unwrap())
        .collect();
    let done = AtomicBool::new(false);
    let (written, seen) = std::thread::scope(|scope| {
        let following: Vec<_> = watches
            .into_iter()
            .map(|watch| scope.spawn(|| follow(watch, &done, None)))
            .collect();
        let written = writers(&tree, Duration::from_secs(5));
        done.store(true, Ordering::SeqCst);
        let seen: Vec<_> = following
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        (written, seen)
    });
    assert!(written.len() > 500, "{}", written.len());
    for (pattern, events) in patterns.iter().zip(&seen) {
        assert!(matches!(&events[0], WatchEvent::State { .. }));
        check_events(pattern, events, &written);
    }
}

#[test]
fn s19_watches_that_begin_while_writers_write_miss_nothing() {
    let (_kv, tree) = threaded();
    let containers = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .fold(Edit::new(), |edit, name| edit.set(*name, v("{}")));
    tree.commit(&containers).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut watching = Vec::new();
        let writing = scope.spawn(|| writers(&tree, Duration::from_secs(2)));
        for n in 0..40 {
            std::thread::sleep(Duration::from_millis(40));
            let from = match n % 3 {
                0 => WatchFrom::Now,
                1 => WatchFrom::After(Commit(1)),
                _ => WatchFrom::After(tree.head()),
            };
            let watch = tree.watch("a", from).unwrap();
            let done = &done;
            watching.push((from, scope.spawn(move || follow(watch, done, None))));
        }
        let written = writing.join().unwrap();
        done.store(true, Ordering::SeqCst);
        for (from, thread) in watching {
            let events = thread.join().unwrap();
            let start = match (from, &events[..]) {
                (WatchFrom::After(commit), _) => commit.0,
                (_, [WatchEvent::State { commit, nodes }, ..]) => {
                    assert_eq!(nodes[0].1, tree.get_at("a", *commit).unwrap());
                    commit.0
                }
                other => panic!("{other:?}"),
            };
            let since: Written = written
                .range(start + 1..)
                .map(|(n, paths)| (*n, paths.clone()))
                .collect();
            check_events("a", &events, &since);
        }
    });
}

#[test]
fn s20_a_watch_is_for_and_about_its_path_alone() {
    let (_kv, tree) = tree();
    let mut user = tree.watch("user", after(0)).unwrap();
    assert_eq!(all_words(&mut user), ["caught up@0"]);
    tree.set("users", v(r#"{"name": "no"}"#)).unwrap();
    assert_eq!(all_words(&mut user), Vec::<String>::new());
    tree.set("user.name", "yes").unwrap();
    assert_eq!(all_words(&mut user), [r#"2: user={"name":"yes"}"#]);
    tree.set("user.name", "again").unwrap();
    let mut name = tree.watch("user.name", after(3)).unwrap();
    let mut age = tree.watch("user.age", after(3)).unwrap();
    tree.set("user", v(r#"{"name": "again", "age": 3}"#))
        .unwrap();
    assert_eq!(
        all_words(&mut user),
        [r#"3: user.name="again""#, "4: user.age=3"]
    );
    assert_eq!(
        all_words(&mut name),
        ["caught up@4"],
        "it stays what it was"
    );
    assert_eq!(all_words(&mut age), ["4: user.age=3", "caught up@4"]);
    tree.patch("", v(r#"{"user": {"name": "root"}, "users": null}"#))
        .unwrap();
    assert_eq!(all_words(&mut name), [r#"5: user.name="root""#]);
    assert_eq!(all_words(&mut age), Vec::<String>::new());
    tree.set("user", 5).unwrap();
    assert_eq!(all_words(&mut name), ["6: user.name-"]);
    assert_eq!(all_words(&mut age), ["6: user.age-"]);
    assert_eq!(
        all_words(&mut user),
        [r#"5: user.name="root""#, "6: user=5"]
    );
    tree.set("user", 5).unwrap();
    assert_eq!(
        all_words(&mut user),
        Vec::<String>::new(),
        "nothing changed"
    );
    tree.delete("").unwrap();
    assert_eq!(all_words(&mut user), ["8: user-"]);
    assert_eq!(
        all_words(&mut name),
        Vec::<String>::new(),
        "it was gone before"
    );
}

#[test]
fn s20_the_deletion_of_much_is_told_to_those_who_watch_something_in_it() {
    let (kv, tree) = tree();
    let big: Value = Value::Object(
        (0..2000)
            .map(|n| (format!("k{n:04}"), v(&format!(r#"{{"x": {n}}}"#))))
            .collect(),
    );
    let set = || tree.set("deep.big", big.clone()).unwrap();
    set();
    let patterns = [
        "",
        "deep",
        "deep.big",
        "deep.big.k0007",
        "deep.big.k0007.x",
        "deep.big.none",
        "deep.big.*.x",
        "other",
        "deep.other",
    ];
    let mut live: Vec<_> = patterns
        .iter()
        .map(|pattern| tree.watch(*pattern, WatchFrom::After(tree.head())).unwrap())
        .collect();
    for watch in &mut live {
        assert_eq!(all_words(watch), ["caught up@1"]);
    }
    let gone = |n: u64, seen: &[Vec<String>]| {
        let expected: [&[String]; 6] = [
            &[format!("{n}: deep.big-")],
            &[format!("{n}: deep.big-")],
            &[format!("{n}: deep.big-")],
            &[format!("{n}: deep.big.k0007-")],
            &[format!("{n}: deep.big.k0007.x-")],
            &[],
        ];
        for (at, expected) in expected.iter().enumerate() {
            assert_eq!(&seen[at], expected, "{}", patterns[at]);
        }
        assert_eq!(seen[6].len(), 1);
        assert_eq!(seen[6][0].matches(".x-").count(), 2000);
        assert!(seen[7].is_empty() && seen[8].is_empty());
    };
    tree.delete("deep.big").unwrap();
    let seen: Vec<Vec<String>> = live.iter_mut().map(all_words).collect();
    gone(2, &seen);
    set();
    for watch in &mut live {
        all_words(watch);
    }
    let txn = kv.begin(Isolation::Serializable).unwrap();
    tree.on(&txn).delete("deep.big").unwrap();
    txn.commit().unwrap();
    let seen: Vec<Vec<String>> = live.iter_mut().map(all_words).collect();
    gone(4, &seen);
    // The history tells the same as those who were there.
    for (pattern, seen) in patterns.iter().zip(&seen) {
        let mut later = tree.watch(*pattern, after(3)).unwrap();
        let mut told = all_words(&mut later);
        assert_eq!(told.pop().unwrap(), "caught up@4");
        assert_eq!(&told, seen, "{pattern}");
    }
}

#[test]
fn s21_a_slow_watch_delays_nobody_and_reads_on_from_the_history() {
    let (_kv, tree) = threaded();
    tree.set("a", v("{}")).unwrap();
    let mut slow = tree.watch("a", WatchFrom::Now).unwrap();
    let fast = tree.watch("a", WatchFrom::Now).unwrap();
    let done = AtomicBool::new(false);
    let events = std::thread::scope(|scope| {
        let following = scope.spawn(|| follow(fast, &done, None));
        for n in 0..5000 {
            let edit = Edit::new().set("a.n", n);
            tree.commit_with(&edit, Durability::Buffered).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        following.join().unwrap()
    });
    let numbers = |events: &[WatchEvent]| {
        events
            .iter()
            .skip(1)
            .map(|event| event.commit().0)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&events), (2..=5001).collect::<Vec<_>>());
    // More than its box holds.
    let mut late = Vec::new();
    while let Some(event) = slow.try_next().unwrap() {
        late.push(event);
    }
    assert_eq!(late, events);
    assert_eq!(slow.position(), Commit(5001));
}

#[test]
fn s21_a_watch_that_is_too_slow_is_told_where_to_start_again() {
    let (_kv, tree) = tree_with(
        small_options(),
        History {
            window: 50,
            ..History::default()
        },
    );
    tree.set("a", 0).unwrap();
    let mut slow = tree.watch("a", WatchFrom::Now).unwrap();
    assert_eq!(all_words(&mut slow), ["state@1 a=0"]);
    for n in 0..3000 {
        tree.commit_with(&Edit::new().set("a", n), Durability::Buffered)
            .unwrap();
    }
    tree.keyspace().database().flush().unwrap();
    tree.keyspace()
        .compact(&CompactOptions::default())
        .map_err(|e| e.error)
        .unwrap();
    let Err(Error::WatchGone { after, restart }) = slow.try_next() else {
        panic!()
    };
    assert_eq!((after, restart), (Commit(1), Commit(2952)));
    assert!(
        matches!(slow.try_next(), Err(Error::WatchGone { .. })),
        "the same answer again"
    );
    assert!(matches!(
        tree.watch("a", WatchFrom::After(Commit(2951))),
        Err(Error::WatchGone { .. })
    ));
    let mut again = tree.watch("a", WatchFrom::StateAt(restart)).unwrap();
    let events = common::drain(&mut again);
    assert_eq!(words(&events[0]), "state@2952 a=2950");
    assert_eq!(events.len(), 51, "the state, 49 changes, and the mark");
}

#[test]
fn s22_a_watch_on_what_never_was_fires_when_it_appears() {
    let (_kv, tree) = tree();
    let mut deep = tree.watch("a.b[1].c", WatchFrom::Now).unwrap();
    let mut any = tree.watch("**.c", WatchFrom::Now).unwrap();
    assert_eq!(all_words(&mut deep), ["state@0"]);
    assert_eq!(all_words(&mut any), ["state@0"]);
    tree.set("a", v(r#"{"b": [1, {"d": 2}]}"#)).unwrap();
    assert_eq!(all_words(&mut deep), Vec::<String>::new());
    tree.set("a.b[1].c", 3).unwrap();
    assert_eq!(all_words(&mut deep), ["2: a.b[1].c=3"]);
    assert_eq!(all_words(&mut any), ["2: a.b[1].c=3"]);
    tree.insert("a.b", 0, v(r#"{"c": 0}"#)).unwrap();
    assert_eq!(all_words(&mut deep), ["3: a.b[1].c-"], "it moved up");
    assert_eq!(all_words(&mut any), ["3: a.b[0].c=0 a.b[1].c- a.b[2].c=3"]);
}

#[test]
fn s22_watches_come_and_go_while_commits_are_made() {
    let (_kv, tree) = threaded();
    tree.set("a", v("{}")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let mut watch = tree.watch("a.n", WatchFrom::Now).unwrap();
                    let mut last: Option<i64> = None;
                    for _ in 0..20 {
                        let value = match watch.next_within(Duration::from_millis(5)).unwrap() {
                            Some(WatchEvent::State { nodes, .. }) => {
                                nodes.first().map(|(_, value)| value.clone())
                            }
                            Some(WatchEvent::Changes { changes, .. }) => changes[0].value.clone(),
                            _ => None,
                        };
                        if let Some(n) = value.and_then(|value| value.as_i64()) {
                            assert!(last.is_none_or(|last| n == last + 1), "{last:?} then {n}");
                            last = Some(n);
                        }
                    }
                }
            });
        }
        for n in 0..3000 {
            let durability = if n % 50 == 0 {
                Durability::Durable
            } else {
                Durability::Buffered
            };
            tree.commit_with(&Edit::new().set("a.n", n), durability)
                .unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(tree.watch_count(), 0);
}

#[test]
fn s23_a_watch_goes_on_from_the_last_commit_it_has_seen() {
    let mem = MemBlobs::new();
    let kv = open(&mem, small_options());
    let tree = Trees::of(&kv)
        .create("t", keyspace(History::everything()))
        .unwrap();
    let mut seen = Vec::new();
    let mut place = Commit(0);
    let mut written = 0;
    for round in 0..20 {
        let mut watch = tree.watch("a", WatchFrom::After(place)).unwrap();
        for n in 0..round {
            tree.set("a.n", format!("{round}:{n}")).unwrap();
            tree.set("b", format!("{round}:{n}")).unwrap();
            written += 1;
        }
        for event in common::drain(&mut watch).into_iter().take(round + 1) {
            if let WatchEvent::Changes { commit, .. } = &event {
                seen.push(*commit);
            }
        }
        place = match seen.last() {
            Some(last) if round % 2 == 0 => *last,
            _ => watch.position(),
        };
    }
    kv.close().unwrap();
    let kv = open(&mem, small_options());
    let tree = Trees::of(&kv).open("t").unwrap();
    let mut watch = tree.watch("a", WatchFrom::After(place)).unwrap();
    seen.extend(
        common::drain(&mut watch)
            .iter()
            .filter(|event| matches!(event, WatchEvent::Changes { .. }))
            .map(WatchEvent::commit),
    );
    assert_eq!(seen.len(), written);
    assert!(seen.is_sorted());
    assert_eq!(
        seen.iter().collect::<BTreeSet<_>>().len(),
        written,
        "none twice"
    );
}

#[test]
fn s23_a_task_is_woken_by_what_it_watches() {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Poll, Wake};
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (_kv, tree) = tree();
    let mut watch = tree.watch("a", WatchFrom::Now).unwrap();
    let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
    let waker = count.clone().into();
    let mut context = Context::from_waker(&waker);
    assert!(watch.poll_next(&mut context).is_ready());
    assert!(watch.poll_next(&mut context).is_pending());
    tree.set("b", 1).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    tree.set("a", 1).unwrap();
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(event) = watch.poll_next(&mut context) else {
        panic!()
    };
    assert_eq!(words(&event.unwrap()), "2: a=1");
}
