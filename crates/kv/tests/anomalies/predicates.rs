//! Phantoms: what a transaction scanned must still be so when it commits, also where there was
//! nothing. The checker of histories knows single keys only, so this is checked with a model: in
//! the order of commits, every scan of a serializable transaction saw the contents just before its
//! commit, every scan of any transaction the contents at its snapshot.

use crate::common::{Db, roomy_options};
use fastrand::Rng;
use siltstone_kv::{
    CompactOptions, Durability, Error, Isolation, KeyRange, KeyspaceOptions, Read, ScanOptions,
    Transaction,
};
use std::collections::BTreeSet;
use std::ops::Bound;

const KEYS: u8 = 24;
/// How many keys a range of eight may hold.
const ROOM: usize = 3;

type Keys = BTreeSet<u8>;

struct Open {
    txn: Transaction,
    isolation: Isolation,
    /// The first key of the eight.
    from: u8,
    seen: Keys,
    writes: Vec<Write>,
}

#[derive(Debug, Clone, Copy)]
enum Write {
    Put(u8),
    Delete(u8),
    /// All of the eight from this one on.
    Clear(u8),
}

fn apply(keys: &mut Keys, write: Write) {
    match write {
        Write::Put(key) => drop(keys.insert(key)),
        Write::Delete(key) => drop(keys.remove(&key)),
        Write::Clear(from) => keys.retain(|key| !(from..from + 8).contains(key)),
    }
}

fn range(from: u8) -> KeyRange {
    let (start, end) = ([b'a' + from], [b'a' + from + 8]);
    KeyRange::new(Bound::Included(&start[..]), Bound::Excluded(&end[..])).unwrap()
}

fn scan(read: &impl Read, from: u8, reverse: bool) -> Keys {
    let options = match reverse {
        true => ScanOptions::reverse(),
        false => ScanOptions::default(),
    };
    let (start, end) = ([b'a' + from], [b'a' + from + 8]);
    let bounds = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
    let rows = read.scan_with::<&[u8]>(bounds, options).unwrap();
    rows.into_iter()
        .map(|row| row.unwrap().0[0] - b'a')
        .collect()
}

struct Outcome {
    committed: u64,
    conflicts: u64,
    /// A range held more keys than each transaction allowed.
    overfull: bool,
}

fn run(seed: u64, isolation: impl Fn(&mut Rng) -> Isolation) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    let db = Db::with(roomy_options(), KeyspaceOptions::default());
    let keyspace = db.default();
    // The contents at every commit.
    let mut model: Vec<Keys> = vec![Keys::new()];
    let mut open: [Option<Open>; 4] = Default::default();
    let mut outcome = Outcome {
        committed: 0,
        conflicts: 0,
        overfull: false,
    };
    for _ in 0..120 {
        match rng.u8(0..20) {
            0 => drop(db.kv.flush().unwrap()),
            1 => drop(db.compact(&CompactOptions::default())),
            _ => {}
        }
        let slot = rng.usize(0..open.len());
        let Some(mut one) = open[slot].take() else {
            let isolation = isolation(&mut rng);
            let txn = db.kv.begin(isolation).unwrap();
            let from = rng.u8(0..KEYS - 8);
            let seen = scan(&txn.on(&keyspace), from, rng.bool());
            let at = &model[txn.snapshot_commit().0 as usize];
            let expected: Keys = at.range(from..from + 8).copied().collect();
            assert_eq!(seen, expected, "seed {seed}: the snapshot");
            open[slot] = Some(Open {
                txn,
                isolation,
                from,
                seen,
                writes: Vec::new(),
            });
            continue;
        };
        if one.writes.is_empty() {
            let free = (one.from..one.from + 8).find(|_| one.seen.len() < ROOM);
            let write = match (rng.u8(0..8), free) {
                (0, _) => Write::Clear(one.from),
                (1..=6, Some(_)) => Write::Put(one.from + rng.u8(0..8)),
                _ => Write::Delete(one.from + rng.u8(0..8)),
            };
            match write {
                Write::Put(key) => one.txn.put(&keyspace, &[b'a' + key], b"v").unwrap(),
                Write::Delete(key) => one.txn.delete(&keyspace, &[b'a' + key]).unwrap(),
                Write::Clear(from) => one.txn.delete_range(&keyspace, &range(from)).unwrap(),
            }
            one.writes.push(write);
            // Its own writes are seen on top of the snapshot.
            let mut expected = one.seen.clone();
            apply(&mut expected, write);
            let own = scan(&one.txn.on(&keyspace), one.from, rng.bool());
            assert_eq!(own, expected, "seed {seed}: own writes");
            open[slot] = Some(one);
            continue;
        }
        match one.txn.commit_with(Durability::Buffered) {
            Ok(stats) => {
                let before = model.last().unwrap();
                if one.isolation == Isolation::Serializable {
                    let now: Keys = before.range(one.from..one.from + 8).copied().collect();
                    assert_eq!(one.seen, now, "seed {seed}: a phantom at {}", stats.commit);
                }
                let mut next = before.clone();
                for write in &one.writes {
                    apply(&mut next, *write);
                }
                assert_eq!(stats.commit.0, model.len() as u64, "seed {seed}");
                // Nobody put a key into a range that held enough; ranges overlap, so what others
                // hold may still be more.
                let held = next.range(one.from..one.from + 8).count();
                outcome.overfull |= matches!(one.writes[0], Write::Put(_)) && held > ROOM;
                model.push(next);
                outcome.committed += 1;
            }
            Err(Error::Conflict { .. }) => outcome.conflicts += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    outcome
}

#[test]
fn no_phantom_appears_in_what_a_serializable_transaction_scanned() {
    let (mut committed, mut conflicts) = (0, 0);
    for seed in 0..600 {
        let outcome = run(seed, |_| Isolation::Serializable);
        assert!(!outcome.overfull, "seed {seed}");
        committed += outcome.committed;
        conflicts += outcome.conflicts;
    }
    assert!(
        committed > 5_000 && conflicts > 1_000,
        "{committed} {conflicts}"
    );
}

#[test]
fn phantoms_do_appear_under_snapshot_isolation_and_spare_serializable_neighbours() {
    let mut overfull = 0;
    for seed in 0..300 {
        overfull += u64::from(run(seed, |_| Isolation::Snapshot).overfull);
        run(seed, |rng| match rng.bool() {
            true => Isolation::Serializable,
            false => Isolation::Snapshot,
        });
    }
    assert!(overfull > 10, "only {overfull} of 300 runs show a phantom");
}
