//! Events and merges against a model that knows nothing of maps: a write replaces what it knew.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use siltstone_ledger::block::MemBlocks;
use siltstone_ledger::clock::{
    Change, Event, Siblings, Write, apart, append, events_since, knows, newest,
};
use siltstone_ledger::merge::merge;
use siltstone_ledger::prolly::{self, Direction, KeyRange, Scan};
use siltstone_ledger::{Block, Blocks, Cid, Error, Staged};

fn doc(n: usize) -> Cid {
    Block::raw(format!("document {n}").into_bytes()).cid
}

/// A write of the model: its key, its document, and the writes it knew of.
struct Made {
    key: String,
    doc: Option<Cid>,
    knew: BTreeSet<usize>,
}

#[derive(Default)]
struct Replica {
    blocks: MemBlocks,
    head: Option<Cid>,
    knows: BTreeSet<usize>,
}

impl Replica {
    fn append(&mut self, author: &[u8], time: u64, writes: Vec<Write>) {
        let mut staged = Staged::new(&self.blocks);
        let head = append(&mut staged, self.head.as_ref(), author, time, writes).unwrap();
        let new = staged.into_blocks();
        self.blocks.extend(new);
        self.head = Some(head);
    }

    fn merge(&mut self, others: &[Cid]) {
        let heads: Vec<_> = self.head.iter().chain(others).copied().collect();
        let mut staged = Staged::new(&self.blocks);
        let head = merge(&mut staged, &heads).unwrap();
        let new = staged.into_blocks();
        self.blocks.extend(new);
        self.head = head;
    }

    fn state(&self) -> Option<Event> {
        self.head.map(|head| self.blocks.event(&head).unwrap())
    }

    /// Keeps of the maps only the one at the head: no merge may need an older one.
    fn forget_old_maps(&mut self) {
        let mut kept = MemBlocks::new();
        for block in self.blocks.iter() {
            if self.blocks.node(&block.cid).is_err() {
                kept.insert(block);
            }
        }
        let event = self.state().unwrap();
        let mut open: Vec<_> = event.root.into_iter().chain(event.conflicts).collect();
        while let Some(cid) = open.pop() {
            let node = self.blocks.node(&cid).unwrap();
            open.extend(node.children());
            kept.insert(Block::dag_cbor(node.bytes().clone()));
        }
        self.blocks = kept;
    }
}

type Values = BTreeMap<String, BTreeSet<Option<Cid>>>;

fn expected(made: &[Made], known: &BTreeSet<usize>) -> Values {
    let mut values = Values::new();
    for n in known {
        let write = &made[*n];
        let replaced = known
            .iter()
            .any(|other| made[*other].key == write.key && made[*other].knew.contains(n));
        if !replaced {
            values
                .entry(write.key.clone())
                .or_default()
                .insert(write.doc);
        }
    }
    values
}

fn found(replica: &Replica) -> (Values, BTreeSet<String>) {
    let Some(event) = replica.state() else {
        return Default::default();
    };
    prolly::check(&replica.blocks, event.root.as_ref()).unwrap();
    prolly::check(&replica.blocks, event.conflicts.as_ref()).unwrap();
    let scan = |root| {
        Scan::new(&replica.blocks, root, KeyRange::all(), Direction::Ascending).map(Result::unwrap)
    };
    let id = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
    let values = scan(event.root).map(|entry| {
        let siblings = Siblings::decode(&entry.value).unwrap();
        let (winner, count) = Siblings::winner_of(&entry.value).unwrap();
        assert_eq!((&winner, count), (siblings.winner(), siblings.all().len()));
        let docs = siblings.all().iter().map(|sibling| sibling.doc).collect();
        (id(&entry.key), docs)
    });
    let values = values.collect();
    let conflicts = scan(event.conflicts).map(|entry| id(&entry.key)).collect();
    (values, conflicts)
}

#[derive(Debug, Clone)]
enum Step {
    Write { at: usize, keys: Vec<(u8, bool)> },
    Pull { at: usize, from: Vec<usize> },
    Forget { at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec((0u8..6, prop::bool::weighted(0.8)), 1..4);
    prop_oneof![
        3 => (0usize..3, keys).prop_map(|(at, keys)| Step::Write { at, keys }),
        3 => (0usize..3, prop::collection::vec(0usize..3, 1..3))
            .prop_map(|(at, from)| Step::Pull { at, from }),
        1 => (0usize..3).prop_map(|at| Step::Forget { at }),
    ]
}

fn pull(replicas: &mut [Replica], at: usize, from: &[usize]) {
    let mut heads = Vec::new();
    for from in from {
        let blocks: Vec<_> = replicas[*from].blocks.iter().collect();
        replicas[at].blocks.extend(blocks);
        heads.extend(replicas[*from].head);
        let known = replicas[*from].knows.clone();
        replicas[at].knows.extend(known);
    }
    replicas[at].merge(&heads);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn replicas_converge_whoever_merges_what_first(
        steps in prop::collection::vec(step(), 1..30),
        rounds in prop::collection::vec((0usize..3, 0usize..3), 0..10),
    ) {
        let mut made: Vec<Made> = Vec::new();
        let mut replicas: Vec<Replica> = (0..3).map(|_| Replica::default()).collect();
        let pulls = rounds.into_iter().map(|(at, from)| Step::Pull { at, from: vec![from] });
        for (clock, step) in steps.into_iter().chain(pulls).enumerate() {
            let at = match step {
                Step::Write { at, keys } => {
                    let mut writes = Vec::new();
                    let knew = replicas[at].knows.clone();
                    for (key, put) in keys {
                        let key = format!("key {key}");
                        // The last write to a key counts.
                        let earlier = (0..made.len()).find(|n| {
                            made[*n].key == key && !knew.contains(n) && replicas[at].knows.contains(n)
                        });
                        if let Some(n) = earlier {
                            replicas[at].knows.remove(&n);
                        }
                        let doc = put.then(|| doc(made.len()));
                        writes.push(Write { key: key.clone(), doc });
                        replicas[at].knows.insert(made.len());
                        made.push(Made { key, doc, knew: knew.clone() });
                    }
                    replicas[at].append(&[at as u8], clock as u64, writes);
                    at
                }
                Step::Pull { at, from } => {
                    pull(&mut replicas, at, &from);
                    at
                }
                Step::Forget { at } => {
                    if replicas[at].head.is_some() {
                        replicas[at].forget_old_maps();
                    }
                    at
                }
            };
            let (values, conflicts) = found(&replicas[at]);
            let wanted = expected(&made, &replicas[at].knows);
            prop_assert_eq!(&values, &wanted);
            let disagreeing: BTreeSet<_> = wanted
                .into_iter()
                .filter(|(_, docs)| docs.len() > 1)
                .map(|(key, _)| key)
                .collect();
            prop_assert_eq!(conflicts, disagreeing);
            for other in 0..3 {
                if replicas[other].knows == replicas[at].knows {
                    prop_assert_eq!(replicas[other].head, replicas[at].head);
                }
            }
        }

        // One exchange with everyone: all are equal, and one more changes nothing.
        for at in 0..3 {
            pull(&mut replicas, at, &[0, 1, 2]);
        }
        pull(&mut replicas, 0, &[1, 2]);
        pull(&mut replicas, 1, &[0, 2]);
        let head = replicas[2].head;
        prop_assert!(replicas.iter().all(|replica| replica.head == head));
        let Some(head) = head else { return Ok(()) };
        let all = &replicas[0].blocks;
        let events = events_since(all, &[head], &[]).unwrap();
        let lamport = |event: &Cid| {
            let event = all.event(event).unwrap();
            all.change(&event.change).unwrap().lamport
        };
        prop_assert!(events.is_sorted_by_key(|event| (lamport(event), *event)));
        for event in &events {
            prop_assert!(knows(all, &[head], event).unwrap());
            let since = events_since(all, &[head], &[*event]).unwrap();
            let before = events_since(all, &[*event], &[]).unwrap();
            prop_assert_eq!(since.len() + before.len(), events.len());
            prop_assert!(since.iter().all(|event| !before.contains(event)));
            let sides = apart(all, &[head], &[*event]).unwrap();
            prop_assert!(sides.right.is_empty() && sides.left.len() == since.len());
            let other = &events[events.len() / 2];
            let known = before.contains(other);
            if !all.change(&all.event(other).unwrap().change).unwrap().is_merge() {
                prop_assert_eq!(knows(all, &[*event], other).unwrap(), known);
            }
            let after = events_since(all, &[*other], &[]).unwrap().contains(event);
            let mut top: Vec<_> = match (known, after) {
                (true, _) => vec![*event],
                (false, true) => vec![*other],
                (false, false) => vec![*event, *other],
            };
            top.sort_unstable();
            prop_assert_eq!(newest(all, &[*other, *event]).unwrap(), top);
        }
    }
}

fn write(n: usize) -> Write {
    Write {
        key: format!("id {n:06}"),
        doc: Some(doc(n)),
    }
}

#[test]
fn a_bulk_is_cut_into_blocks_of_operations() {
    let mut replica = Replica::default();
    let writes: Vec<_> = (0..5_500).map(write).collect();
    replica.append(b"author", 1, writes);
    assert!(
        replica
            .blocks
            .iter()
            .all(|block| block.bytes.len() < 1 << 20)
    );
    let change = replica.state().unwrap().change;
    let change = replica.blocks.change(&change).unwrap();
    assert_eq!(change.chunks().count(), 6);
    let ops: Vec<_> = change
        .ops(&replica.blocks)
        .map(|op| op.unwrap().key)
        .collect();
    assert!(ops.is_sorted() && ops.len() == 5_500);
    for n in [0, 999, 1_000, 5_499] {
        let op = change.op(&replica.blocks, &write(n).key).unwrap().unwrap();
        assert_eq!(op.doc, Some(doc(n)));
    }
    assert_eq!(change.op(&replica.blocks, "a").unwrap(), None);
    assert_eq!(change.op(&replica.blocks, "z").unwrap(), None);
}

#[test]
fn the_same_writes_make_the_same_events() {
    let make = || {
        let mut replica = Replica::default();
        replica.append(b"author", 1, (0..100).map(write).collect());
        let first = replica.head.unwrap();
        replica.append(
            b"author",
            2,
            vec![
                write(7),
                Write {
                    key: "id 000008".into(),
                    doc: None,
                },
            ],
        );
        let left = replica.head.unwrap();
        replica.head = Some(first);
        replica.append(
            b"other",
            2,
            vec![Write {
                key: "id 000007".into(),
                doc: None,
            }],
        );
        replica.merge(&[left]);
        (first, left, replica)
    };
    let (first, left, replica) = make();
    assert_eq!(make().2.head, replica.head);
    assert_eq!(
        first.to_string(),
        "bafyreic3rvujzpbazt2zqz7vre7slgvaf36x3vtunf6vnmsrd4svcb76yi"
    );
    assert_eq!(
        left.to_string(),
        "bafyreicuprl2mkqdmekjn5v6hwtohrxd3orvrg5nysdbz4hew2zhk34wyu"
    );
    assert_eq!(
        replica.head.unwrap().to_string(),
        "bafyreieyo2zqr532o32cntzcd3aycfeoh57mm6svoyuclg7x54rdr5pgwy"
    );
    let (values, conflicts) = found(&replica);
    assert_eq!(values["id 000007"].len(), 2);
    assert_eq!(conflicts.into_iter().collect::<Vec<_>>(), ["id 000007"]);
}

#[test]
fn writes_of_nothing_and_ids_out_of_range_are_refused() {
    let blocks = MemBlocks::new();
    let mut staged = Staged::new(&blocks);
    let mut refused = |writes| append(&mut staged, None, b"a", 0, writes).unwrap_err();
    let of = |key: String| vec![Write { key, doc: None }];
    assert!(matches!(refused(Vec::new()), Error::Invalid { .. }));
    assert!(matches!(refused(of(String::new())), Error::Invalid { .. }));
    assert!(matches!(
        refused(of("é".repeat(2049))),
        Error::TooLarge { size: 4098, .. }
    ));
    append(&mut staged, None, b"a", 0, of("é".repeat(2048))).unwrap();
}

#[test]
fn a_lamport_time_that_does_not_grow_is_found() {
    let mut replica = Replica::default();
    replica.append(b"a", 1, vec![write(1)]);
    let first = replica.head.unwrap();
    replica.append(b"a", 1, vec![write(1)]);
    let event = replica.state().unwrap();
    // The same change, at the time of its parent.
    let bytes = replica.blocks.block(&event.change).unwrap();
    let at = bytes.windows(8).position(|at| at == b"glamport").unwrap() + 8;
    assert_eq!(bytes[at], 2);
    let mut forged = bytes.to_vec();
    forged[at] = 1;
    let forged = Block::dag_cbor(forged);
    let event = Event {
        change: forged.cid,
        ..event
    }
    .block();
    let head = event.cid;
    replica.blocks.extend([forged, event]);
    let error = apart(&replica.blocks, &[head], &[first]).unwrap_err();
    assert!(error.is_corrupt(), "{error}");
}

#[test]
fn blocks_cut_short_or_flipped_are_typed_errors() {
    let mut replica = Replica::default();
    replica.append(b"author", 1, (0..20).map(write).collect());
    let first = replica.head;
    replica.append(b"author", 2, vec![write(3)]);
    let other = replica.head.unwrap();
    replica.head = first;
    replica.append(b"b", 2, vec![write(4)]);
    replica.merge(&[other]);
    let any = doc(0);
    for block in replica.blocks.iter() {
        for end in 0..block.bytes.len() {
            let cut = block.bytes.slice(..end);
            assert!(Event::decode(&any, &cut).unwrap_err().is_corrupt());
            assert!(Change::decode(&any, cut.clone()).unwrap_err().is_corrupt());
            assert!(prolly::Node::decode(&any, cut).unwrap_err().is_corrupt());
        }
        for at in 0..block.bytes.len() {
            for bit in 0..8 {
                let mut flipped = block.bytes.to_vec();
                flipped[at] ^= 1 << bit;
                if let Ok(event) = Event::decode(&any, &flipped) {
                    assert_eq!(event.block().bytes, flipped);
                }
                if let Ok(change) = Change::decode(&any, flipped.clone().into()) {
                    assert_eq!(change.block().bytes, flipped);
                    assert!(change.ops(&replica.blocks).all(|op| op.is_ok()));
                }
                let _ = prolly::Node::decode(&any, flipped.into());
            }
        }
    }
}
