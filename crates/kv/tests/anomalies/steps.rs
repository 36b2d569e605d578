//! What the transactions of the recorded histories do: reads, appends and writes of a few keys in
//! two keyspaces, each done in one of the ways that the engine offers.

use crate::history::Did;
use adya::Workload;
use siltstone_kv::{
    Error, KeyRange, Keyspace, KeyspaceOptions, Kv, Read, ScanOptions, Transaction,
};
use std::ops::Bound;

/// Keys of a keyspace.
pub(crate) const KEYS: i64 = 3;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Adds an element: by a merge operator, which reads nothing, or by reading and putting.
    Append {
        key: i64,
        element: i64,
        blind: bool,
    },
    Write {
        key: i64,
        value: i64,
    },
    Read {
        key: i64,
        for_update: bool,
    },
    /// Reads a keyspace with a scan.
    ReadAll {
        keyspace: i64,
        reverse: bool,
    },
    /// Writes something that a rollback to a savepoint takes back.
    Undone {
        key: i64,
    },
}

/// Plans of transactions, with values that are never used twice.
#[derive(Debug)]
pub(crate) struct Planner {
    pub(crate) workload: Workload,
    next: i64,
}

impl Planner {
    pub(crate) fn new(workload: Workload, first: i64) -> Self {
        Self {
            workload,
            next: first,
        }
    }

    pub(crate) fn plan(&mut self, rng: &mut fastrand::Rng) -> Vec<Step> {
        let len = rng.usize(1..5);
        let mut written = std::collections::BTreeSet::new();
        let mut steps = Vec::new();
        for _ in 0..len {
            let key = rng.i64(0..2 * KEYS);
            steps.push(match rng.u8(0..12) {
                0..=5 if self.workload == Workload::ListAppend || written.insert(key) => {
                    self.next += 1;
                    match self.workload {
                        Workload::ListAppend => Step::Append {
                            key,
                            element: self.next,
                            blind: rng.bool(),
                        },
                        Workload::RwRegister => Step::Write {
                            key,
                            value: self.next,
                        },
                    }
                }
                6 => Step::ReadAll {
                    keyspace: key / KEYS,
                    reverse: rng.bool(),
                },
                7 => Step::Undone { key },
                _ => Step::Read {
                    key,
                    for_update: rng.u8(0..8) == 0,
                },
            });
        }
        steps
    }
}

/// The steps as they are told before they are done.
pub(crate) fn planned(steps: &[Step]) -> Vec<Did> {
    let one = |step: &Step| match step {
        Step::Append { key, element, .. } => Some(Did::Append(*key, *element)),
        Step::Write { key, value } => Some(Did::Write(*key, *value)),
        Step::Read { key, .. } => Some(Did::Read(*key)),
        Step::ReadAll { .. } | Step::Undone { .. } => None,
    };
    steps.iter().filter_map(one).collect()
}

/// The settings of the histories' keyspaces.
pub(crate) fn keyspace_options() -> KeyspaceOptions {
    KeyspaceOptions {
        merge_operator: Some("append".into()),
        ..crate::common::small_keyspace()
    }
}

/// Both keyspaces, the second made when it is not there.
pub(crate) fn keyspaces(kv: &Kv) -> Result<[Keyspace; 2], Error> {
    let side = match kv.keyspace("side") {
        Ok(side) => side,
        Err(_) => kv.create_keyspace("side", keyspace_options())?,
    };
    Ok([kv.default_keyspace(), side])
}

pub(crate) fn key_bytes(key: i64) -> [u8; 2] {
    [b'k', b'0' + key as u8]
}

pub(crate) fn element_bytes(element: i64) -> [u8; 4] {
    (element as u32).to_be_bytes()
}

fn elements(value: Option<&[u8]>) -> Vec<i64> {
    let (chunks, rest) = value.unwrap_or_default().as_chunks::<4>();
    assert!(rest.is_empty(), "whole elements");
    let number = |chunk: &[u8; 4]| i64::from(u32::from_be_bytes(*chunk));
    chunks.iter().map(number).collect()
}

fn found(workload: Workload, key: i64, value: Option<&[u8]>) -> Did {
    match workload {
        Workload::ListAppend => Did::List(key, elements(value)),
        Workload::RwRegister => Did::Register(key, elements(value).last().copied()),
    }
}

/// Does one step inside `txn` and adds what came of it to `did`.
pub(crate) fn take(
    txn: &Transaction,
    keyspaces: &[Keyspace; 2],
    workload: Workload,
    step: &Step,
    did: &mut Vec<Did>,
) -> Result<(), Error> {
    let of = |key: i64| &keyspaces[(key / KEYS) as usize];
    match step {
        Step::Append {
            key,
            element,
            blind,
        } => {
            let (bytes, keyspace) = (key_bytes(*key), of(*key));
            if *blind {
                txn.merge(keyspace, &bytes, &element_bytes(*element))?;
            } else {
                let old = txn.on(keyspace).get(&bytes)?.unwrap_or_default();
                let new = [&old[..], &element_bytes(*element)].concat();
                txn.put(keyspace, &bytes, &new)?;
            }
            did.push(Did::Append(*key, *element));
        }
        Step::Write { key, value } => {
            txn.put(of(*key), &key_bytes(*key), &element_bytes(*value))?;
            did.push(Did::Write(*key, *value));
        }
        Step::Read { key, for_update } => {
            let value = match for_update {
                true => txn.get_for_update(of(*key), &key_bytes(*key))?,
                false => txn.on(of(*key)).get(&key_bytes(*key))?,
            };
            did.push(found(workload, *key, value.as_deref()));
        }
        Step::ReadAll { keyspace, reverse } => {
            let options = match reverse {
                true => ScanOptions::reverse(),
                false => ScanOptions::default(),
            };
            let mut values = vec![None; KEYS as usize];
            let scan = txn.on(&keyspaces[*keyspace as usize]);
            for row in scan.scan_prefix(b"k", options)? {
                let (key, value) = row?;
                values[(i64::from(key[1] - b'0') % KEYS) as usize] = Some(value);
            }
            for (key, value) in values.iter().enumerate() {
                let key = keyspace * KEYS + key as i64;
                did.push(found(workload, key, value.as_deref()));
            }
        }
        Step::Undone { key } => {
            let mark = txn.savepoint()?;
            txn.put(of(*key), &key_bytes(*key), b"undo")?;
            let bytes = key_bytes(*key);
            let range = KeyRange::new(Bound::Included(&bytes[..]), Bound::Unbounded)?;
            txn.delete_range(of(*key), &range)?;
            txn.roll_back_to(&mark)?;
        }
    }
    Ok(())
}
