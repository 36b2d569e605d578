//! The change feed: every commit once, in order, from the writer's process and from another; going
//! on after restarts, crashes and time away; told where to start when the log has gone.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Db, roomy_options, simulated, small_options, text, threaded_options};
use siltstone_kv::{
    Background, Batch, ChangeKind, ChangeSet, Changes, Commit, Durability, Error, KeyRange,
    KeyspaceOptions, Kv, Options, Reader,
};
use siltstone_storage::{Blobs, Env, MemBlobs};
use std::ops::Bound;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

fn drain(changes: &mut Changes) -> Vec<ChangeSet> {
    std::iter::from_fn(|| changes.try_next().unwrap()).collect()
}

/// `commit:key=value` for each put.
fn shown(sets: &[ChangeSet]) -> Vec<String> {
    let show = |set: &ChangeSet| {
        let changes: Vec<_> = set.changes.iter().map(|c| one(&c.write)).collect();
        format!("{}:{}", set.commit, changes.join(","))
    };
    sets.iter().map(show).collect()
}

fn one(change: &ChangeKind) -> String {
    match change {
        ChangeKind::Put {
            key,
            value,
            expires,
        } => {
            let time = expires.map(|_| "!").unwrap_or_default();
            format!("{}={}{time}", text(key), text(value))
        }
        ChangeKind::Delete { key } => format!("-{}", text(key)),
        ChangeKind::Merge { key, operands } => {
            let operands: Vec<_> = operands.iter().map(|o| text(o)).collect();
            format!("{}+{}", text(key), operands.join("+"))
        }
        ChangeKind::DeleteRange { start, end } => {
            let end = end.as_ref().map(|end| text(end)).unwrap_or_default();
            format!("-[{}..{end})", text(start))
        }
        other => panic!("{other:?}"),
    }
}

fn reader(mem: &MemBlobs) -> Reader {
    let (env, _, _) = simulated(mem, 77);
    Reader::open(env, roomy_options()).unwrap()
}

fn commits(sets: &[ChangeSet]) -> Vec<u64> {
    sets.iter().map(|set| set.commit.0).collect()
}

#[test]
fn every_kind_of_write_is_delivered_with_its_keyspace() {
    let options = KeyspaceOptions {
        merge_operator: Some("append".into()),
        ..KeyspaceOptions::default()
    };
    let db = Db::with(roomy_options(), options);
    let side = db
        .kv
        .create_keyspace("side", KeyspaceOptions::default())
        .unwrap();
    let mut changes = db.kv.changes(Commit::ZERO).unwrap();
    let mut following = reader(&db.mem).changes(Commit::ZERO).unwrap();
    assert_eq!(changes.try_next().unwrap(), None);
    let keyspace = db.default();
    db.put("a", "1");
    db.delete("a");
    keyspace.merge(b"m", b"x").unwrap();
    keyspace
        .put_ttl(b"t", b"2", Duration::from_secs(9))
        .unwrap();
    let some = KeyRange::new(Bound::Included(&b"a"[..]), Bound::Excluded(&b"c"[..])).unwrap();
    keyspace.delete_range(&some).unwrap();
    let mut batch = Batch::new();
    batch
        .put(&side, b"s", b"3")
        .merge(&keyspace, b"m", b"y")
        .merge(&keyspace, b"m", b"z");
    db.kv.write(&batch, Durability::Durable).unwrap();
    let expected = [
        "1:a=1",
        "2:-a",
        "3:m+x",
        "4:t=2!",
        "5:-[a..c)",
        "6:m+y+z,s=3",
    ];
    let sets = drain(&mut changes);
    assert_eq!(shown(&sets), expected);
    assert_eq!(changes.position(), Commit(6));
    let names: Vec<_> = sets[5]
        .changes
        .iter()
        .map(|change| change.keyspace_name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["default", "side"]);
    assert_eq!(drain(&mut following), sets, "a reader's feed is the same");
}

#[test]
fn a_feed_goes_on_where_it_stopped_also_after_flushes_and_restarts() {
    for bucket in [false, true] {
        let mem = match bucket {
            true => MemBlobs::bucket(),
            false => MemBlobs::new(),
        };
        let mut db = Db::on(mem, small_options(), KeyspaceOptions::default());
        db.kv.keep_log(1 << 30).unwrap();
        let mut delivered = Vec::new();
        let mut position = Commit::ZERO;
        for round in 0..8u64 {
            for n in 0..20 {
                db.put(&format!("k{n}"), &format!("{round} {}", "x".repeat(50)));
            }
            let mut changes = match round % 2 {
                0 => db.kv.changes(position).unwrap(),
                _ => reader(&db.mem).changes(position).unwrap(),
            };
            for _ in 0..13 {
                let set = changes.try_next().unwrap().unwrap();
                delivered.push(set.commit.0);
            }
            position = changes.position();
            drop(changes);
            db.kv.flush().unwrap();
            db = match round % 3 {
                0 => db.reopen(),
                1 => db.power_cut(),
                _ => db,
            };
        }
        let mut changes = db.kv.changes(position).unwrap();
        delivered.extend(commits(&drain(&mut changes)));
        assert_eq!(delivered, (1..=160).collect::<Vec<_>>(), "bucket {bucket}");
    }
}

#[test]
fn writers_that_write_nothing_leave_no_gap_in_the_log() {
    let mut db = Db::on(MemBlobs::new(), roomy_options(), KeyspaceOptions::default());
    db.kv.keep_log(1 << 30).unwrap();
    for round in 1..=3u64 {
        db.put("k", &round.to_string());
        db = db.reopen().reopen();
        for seen in 0..=round {
            let expected: Vec<u64> = (seen + 1..=round).collect();
            let mut changes = db.kv.changes(Commit(seen)).unwrap();
            assert_eq!(commits(&drain(&mut changes)), expected);
            let mut following = reader(&db.mem).changes(Commit(seen)).unwrap();
            assert_eq!(commits(&drain(&mut following)), expected);
        }
    }
}

#[test]
fn a_feed_passes_a_log_file_that_a_crash_tore_before_its_header_was_whole() {
    for torn in [0, 9, 23, 39] {
        let db = Db::new();
        db.kv.keep_log(1 << 30).unwrap();
        db.put("before", "1");
        let mut near = db.kv.changes(Commit::ZERO).unwrap();
        assert_eq!(drain(&mut near).len(), 1);
        drop(near);
        let db = db.power_cut();
        // The next file was begun when the power went, and its version byte was hit as well.
        let last = common::files(&db.mem, "wal/").pop_last().unwrap();
        let mut header = db.mem.get(&last).unwrap()[..torn].to_vec();
        if let Some(byte) = header.get_mut(8) {
            *byte ^= 0x5a;
        }
        let number: u64 = last[4..24].parse().unwrap();
        let next = format!("wal/{:020}.wal", number + 1);
        let db = db.power_cut();
        db.mem.delete(&next).unwrap();
        db.mem.put(&next, &header).unwrap();
        let db = db.power_cut();
        db.put("behind", "2");
        let mut near = db.kv.changes(Commit::ZERO).unwrap();
        assert_eq!(commits(&drain(&mut near)), [1, 2], "{torn} bytes");
        let mut far = reader(&db.mem).changes(Commit(1)).unwrap();
        assert_eq!(commits(&drain(&mut far)), [2], "{torn} bytes");
    }
}

#[test]
fn a_feed_whose_lease_lapsed_goes_on_when_all_that_is_gone_was_delivered() {
    let db = Db::with(small_options(), KeyspaceOptions::default());
    let mut far = reader(&db.mem).changes(Commit::ZERO).unwrap();
    db.put("a", "1");
    assert_eq!(commits(&drain(&mut far)), [1]);
    // By the writer's clock the pin has lapsed: the file goes, and with it nothing new.
    db.clock.advance(Duration::from_secs(100));
    db.kv.flush().unwrap();
    assert!(drain(&mut far).is_empty());
    db.put("b", "2");
    assert_eq!(commits(&drain(&mut far)), [2]);
    // Here something new is lost, and it says so.
    db.put("c", "3");
    db.clock.advance(Duration::from_secs(100));
    db.kv.flush().unwrap();
    db.put("d", "4");
    assert!(matches!(
        far.try_next(),
        Err(Error::ChangesGone {
            after: Commit(2),
            oldest: Commit(3)
        })
    ));
}

#[test]
fn an_open_feed_holds_the_log_that_it_has_still_to_read() {
    let db = Db::with(small_options(), KeyspaceOptions::default());
    let mut near = db.kv.changes(Commit::ZERO).unwrap();
    let reading = reader(&db.mem);
    let mut far = reading.changes(Commit::ZERO).unwrap();
    for n in 0..300 {
        db.put(&format!("k{n}"), &"x".repeat(100));
        if n % 50 == 0 {
            db.kv.flush().unwrap();
        }
    }
    db.kv.flush().unwrap();
    let logs = || common::files(&db.mem, "wal/").len();
    let held = logs();
    assert!(held > 3);
    assert_eq!(drain(&mut near).len(), 300);
    assert_eq!(drain(&mut far).len(), 300);
    db.put("last", "1");
    db.kv.flush().unwrap();
    assert!(logs() < held, "what was read may go");
    assert_eq!(drain(&mut near).len(), 1);
    drop((near, far));
    db.put("last", "2");
    db.kv.flush().unwrap();
    assert_eq!(logs(), 1);
}

#[test]
fn the_place_of_a_feed_in_the_writers_process_is_held_without_any_reader() {
    let db = Db::with(small_options(), KeyspaceOptions::default());
    let mut near = db.kv.changes(Commit::ZERO).unwrap();
    for n in 0..300 {
        db.put(&format!("k{n}"), &"x".repeat(100));
    }
    db.kv.flush().unwrap();
    assert_eq!(commits(&drain(&mut near)), (1..=300).collect::<Vec<_>>());
}

#[test]
fn a_feed_that_fell_behind_is_told_where_it_can_start_again() {
    let options = Options {
        max_feed_log_bytes: 10_000,
        ..small_options()
    };
    let db = Db::with(options, KeyspaceOptions::default());
    let mut slow = db.kv.changes(Commit::ZERO).unwrap();
    for n in 0..300 {
        db.put(&format!("k{n}"), &"x".repeat(100));
        if n % 20 == 0 {
            db.kv.flush().unwrap();
        }
    }
    db.kv.flush().unwrap();
    let gone = |result: Result<Option<ChangeSet>, Error>| match result.unwrap_err() {
        Error::ChangesGone { after, oldest } => (after, oldest),
        other => panic!("{other}"),
    };
    let (after, oldest) = gone(slow.try_next());
    assert_eq!(after, Commit::ZERO);
    assert!(oldest > Commit(100));
    assert_eq!(
        gone(db.kv.changes(Commit(7)).map(|_| None)),
        (Commit(7), oldest)
    );
    let mut again = db.kv.changes(oldest).unwrap();
    assert_eq!(
        commits(&drain(&mut again)),
        (oldest.0 + 1..=300).collect::<Vec<_>>()
    );
    drop((slow, again));
    // After a clean close the log is gone, and the head is the place to start.
    let db = db.reopen();
    let Err(Error::ChangesGone { oldest, .. }) = db.kv.changes(Commit(299)) else {
        panic!("nothing is left of the log");
    };
    assert_eq!(oldest, Commit(300));
    let mut changes = db.kv.changes(oldest).unwrap();
    assert_eq!(changes.try_next().unwrap(), None);
    db.put("k", "v");
    assert_eq!(commits(&drain(&mut changes)), [301]);
    assert!(matches!(
        db.kv.changes(Commit(500)),
        Err(Error::FutureCommit { .. })
    ));
}

#[test]
fn only_durable_commits_are_delivered_and_none_is_taken_back() {
    let db = Db::new();
    let mut changes = db.kv.changes(Commit::ZERO).unwrap();
    let mut following = reader(&db.mem).changes(Commit::ZERO).unwrap();
    db.default()
        .put_with(b"buffered", b"1", Durability::Buffered)
        .unwrap();
    assert_eq!(changes.try_next().unwrap(), None);
    assert_eq!(following.try_next().unwrap(), None);
    db.put("durable", "2");
    assert_eq!(commits(&drain(&mut changes)), [1, 2]);
    let delivered = commits(&drain(&mut following));
    assert_eq!(delivered, [1, 2]);
    // Whoever waits has buffered writes made durable.
    db.default()
        .put_with(b"buffered", b"3", Durability::Buffered)
        .unwrap();
    let waited = changes
        .next_within(Duration::from_secs(5))
        .unwrap()
        .unwrap();
    assert_eq!(waited.commit, Commit(3));
    drop((changes, following));
    let db = db.power_cut();
    assert_eq!(db.kv.head(), Commit(3), "what was delivered is still there");
}

#[test]
fn feeds_beside_racing_writers_see_each_commit_once_and_in_order() {
    for bucket in [false, true] {
        let mem = match bucket {
            true => MemBlobs::bucket(),
            false => MemBlobs::new(),
        };
        let env = Env::system(Arc::new(mem.clone()));
        let kv = Kv::open(env, threaded_options(), KeyspaceOptions::default(), None).unwrap();
        let total = 4 * 300;
        let mut feeds: Vec<_> = (0..2).map(|_| kv.changes(Commit::ZERO).unwrap()).collect();
        let env = Env::system(Arc::new(mem.clone()));
        let reader = Reader::open(env, roomy_options()).unwrap();
        feeds.push(reader.changes(Commit::ZERO).unwrap());
        thread::scope(|scope| {
            for writer in 0..4 {
                let keyspace = kv.default_keyspace();
                scope.spawn(move || {
                    for n in 0..300 {
                        let durability = match n % 3 {
                            0 => Durability::Durable,
                            _ => Durability::Buffered,
                        };
                        let key = format!("{writer} {n}");
                        keyspace
                            .put_with(key.as_bytes(), &[b'x'; 60], durability)
                            .unwrap();
                    }
                });
            }
            let follow = |mut changes: Changes| {
                let mut keys = std::collections::BTreeSet::new();
                for expected in 1..=total {
                    let set = changes
                        .next_within(Duration::from_secs(20))
                        .unwrap()
                        .unwrap();
                    assert_eq!(set.commit.0, expected);
                    let ChangeKind::Put { key, .. } = &set.changes[0].write else {
                        panic!("only puts");
                    };
                    assert!(keys.insert(key.clone()));
                }
                assert_eq!(changes.try_next().unwrap(), None);
            };
            for changes in feeds {
                scope.spawn(move || follow(changes));
            }
        });
    }
}

#[test]
fn a_feed_ends_with_its_database() {
    let env = Env::system(Arc::new(MemBlobs::new()));
    let options = Options {
        background: Background::Threads,
        ..roomy_options()
    };
    let kv = Kv::open(env, options, KeyspaceOptions::default(), None).unwrap();
    let mut changes = kv.changes(Commit::ZERO).unwrap();
    let closer = kv.clone();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| changes.next_within(Duration::from_secs(600)));
        closer.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    });
}

#[test]
fn a_readers_feed_that_cannot_start_holds_nothing() {
    let db = Db::on(MemBlobs::new(), small_options(), KeyspaceOptions::default());
    db.put("k", "v");
    let reader = reader(&db.mem);
    let before = db.kv.env().blobs.list("pins/").unwrap().len();
    let refused = reader.changes(Commit(9)).unwrap_err();
    assert!(matches!(refused, Error::FutureCommit { .. }), "{refused}");
    let after = db.kv.env().blobs.list("pins/").unwrap().len();
    assert_eq!(after, before);
}

#[test]
fn a_small_allowance_keeps_the_log_of_the_last_writers() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let blobs = siltstone_storage::LocalBlobs::create(folder.path()).unwrap();
        let env = Env::system(Arc::new(blobs));
        Kv::open(env, Options::default(), KeyspaceOptions::default(), None).unwrap()
    };
    for n in 0..5 {
        let kv = open();
        kv.keep_log(4096).unwrap();
        kv.default_keyspace().put(b"k", &[n]).unwrap();
        kv.close().unwrap();
    }
    let kv = open();
    let mut changes = kv.changes(Commit(0)).unwrap();
    assert_eq!(commits(&drain(&mut changes)), [1, 2, 3, 4, 5]);
}
