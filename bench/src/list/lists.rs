//! Workloads on lists of JSON scalars, written once for every engine.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::clock::{sample, sample_chunks};
use super::engine::{ListEngine, Result, ensure};
use super::heap;
use super::item::Item;
use super::job::{ListFigure, Outcome, Subscriber};
use super::script::{self, Edit, Script, Shape};

/// Writers of the chat.
const WRITERS: usize = 8;
/// Cards that are moved.
const CARDS: usize = 1_000;
/// Elements read at random places, in chunks.
const GETS: usize = 100_000;
const GETS_CHUNK: usize = 100;

/// Measures `figure` of a list that `size` edits brought into `shape`. An engine that is slow at
/// random places makes fewer of them.
pub(crate) fn measure<E: ListEngine>(
    figure: ListFigure,
    shape: Shape,
    size: usize,
) -> Result<Outcome> {
    let most = match shape {
        Shape::Append | Shape::Prepend => usize::MAX,
        Shape::Random | Shape::Mixed => E::MOST_RANDOM,
    };
    let script = Script::new(shape, size.min(most));
    let outcome = match figure {
        ListFigure::Edit => edit::<E>(&script),
        ListFigure::ToVec => to_vec::<E>(&script),
        ListFigure::Get => get::<E>(&script),
        ListFigure::Load => load::<E>(&script),
        ListFigure::Encoded => encoded::<E>(&script),
        ListFigure::Heap => memory::<E>(&script),
    }?;
    Ok(Outcome {
        size: script.edits.len() as u64,
        ..outcome
    })
}

fn edit<E: ListEngine>(script: &Script) -> Result<Outcome> {
    sample(
        script.edits.len() as u64,
        || written::<E>(script),
        |list| check::<E>(&list.to_vec()?, script),
    )
}

fn to_vec<E: ListEngine>(script: &Script) -> Result<Outcome> {
    let list = written::<E>(script)?;
    sample(
        script.expected.len() as u64,
        || list.to_vec(),
        |values| check::<E>(&values, script),
    )
}

fn get<E: ListEngine>(script: &Script) -> Result<Outcome> {
    let list = written::<E>(script)?;
    let digests: Vec<u64> = script.expected_digests().collect();
    let places = script::places(digests.len(), GETS);
    for place in places.iter().take(GETS_CHUNK) {
        let right = list.get(*place as usize)? == Some(digests[*place as usize]);
        ensure(right, "an element is not the one that belongs there")?;
    }
    sample_chunks(GETS / GETS_CHUNK, GETS_CHUNK as u64, |chunk| {
        for place in &places[chunk * GETS_CHUNK..][..GETS_CHUNK] {
            black_box(list.get(*place as usize)?);
        }
        Ok(())
    })
}

fn load<E: ListEngine>(script: &Script) -> Result<Outcome> {
    let stored = written::<E>(script)?.encode()?;
    sample(
        script.expected.len() as u64,
        || {
            let list = E::load(&stored)?;
            let values = list.to_vec()?;
            Ok((list, values))
        },
        |(_, values)| check::<E>(&values, script),
    )
}

fn encoded<E: ListEngine>(script: &Script) -> Result<Outcome> {
    let mut list = written::<E>(script)?;
    let mut bytes = 0;
    let outcome = sample(
        script.expected.len() as u64,
        || list.encode(),
        |stored| {
            bytes = stored.len() as u64;
            Ok(())
        },
    )?;
    Ok(Outcome {
        bytes: Some(bytes),
        ..outcome
    })
}

fn memory<E: ListEngine>(script: &Script) -> Result<Outcome> {
    let (list, usage) = heap::measure(|| written::<E>(script));
    check::<E>(&list?.to_vec()?, script)?;
    Ok(Outcome {
        operations: script.edits.len() as u64,
        heap: Some(usage),
        ..Outcome::default()
    })
}

/// A list after all edits of `script`.
fn written<E: ListEngine>(script: &Script) -> Result<E> {
    let mut list = E::new(1);
    let mut items = script.items.iter();
    let mut item = || {
        items
            .next()
            .expect("a script has an element for each insertion")
    };
    for edit in &script.edits {
        match *edit {
            Edit::Append => list.append(item())?,
            Edit::Prepend => list.prepend(item())?,
            Edit::Insert(at) => list.insert(at as usize, item())?,
            Edit::Delete(at) => list.delete(at as usize)?,
        }
    }
    list.commit()?;
    Ok(list)
}

/// Writers that append to replicas of their own, each append a transaction; pairs exchange at
/// random, and at the end all have everything.
pub(crate) fn chat<E: ListEngine>(count: usize) -> Result<Outcome> {
    let messages = script::chat(WRITERS, count);
    let items: Vec<Item> = (0..count as u32).map(Item::numbered).collect();
    sample(
        count as u64,
        || {
            let mut replicas: Vec<E> = (1..=WRITERS as u64).map(E::new).collect();
            for (message, item) in messages.iter().zip(&items) {
                replicas[message.writer].append(item)?;
                replicas[message.writer].commit()?;
                if let Some(other) = message.meets {
                    exchange(&mut replicas, message.writer, other)?;
                }
            }
            for round in [1..WRITERS, 1..WRITERS] {
                for other in round {
                    exchange(&mut replicas, 0, other)?;
                }
            }
            Ok(replicas)
        },
        |replicas| {
            let lists: Vec<Vec<u64>> = replicas.iter().map(digests).collect::<Result<_>>()?;
            ensure(
                lists.iter().all(|list| *list == lists[0]),
                "replicas that exchanged everything differ",
            )?;
            ensure(lists[0].len() == count, "messages were lost or doubled")?;
            (0..WRITERS).try_for_each(|writer| {
                let own = messages.iter().zip(&items);
                let mut own = own.filter(|(message, _)| message.writer == writer);
                let mut next = own.next();
                for digest in &lists[0] {
                    if next.is_some_and(|(_, item)| item.as_scalar().digest() == *digest) {
                        next = own.next();
                    }
                }
                ensure(next.is_none(), "a writer's messages are out of order")
            })
        },
    )
}

fn exchange<E: ListEngine>(replicas: &mut [E], one: usize, other: usize) -> Result<()> {
    let pair = replicas.get_disjoint_mut([one, other]);
    let [one, other] = pair.expect("nobody exchanges with themselves");
    one.pull(other)?;
    other.pull(one)
}

/// Random moves in a list of cards.
pub(crate) fn kanban<E: ListEngine>(count: usize) -> Result<Outcome> {
    let (moves, order) = script::moves(CARDS, count);
    let script = Script {
        expected: order,
        ..Script::new(Shape::Append, CARDS)
    };
    // The list is made within the clock: a thousand appends beside many more moves.
    sample(
        count as u64,
        || {
            let mut list = written::<E>(&script)?;
            for (from, to) in &moves {
                list.move_to(*from as usize, *to as usize)?;
            }
            list.commit()?;
            Ok(list)
        },
        |list| check::<E>(&list.to_vec()?, &script),
    )
}

/// Appends, each a transaction of its own.
pub(crate) fn subscriber<E: ListEngine>(subscriber: Subscriber, size: usize) -> Result<Outcome> {
    let script = Script::new(Shape::Append, size);
    sample(
        size as u64,
        || {
            let seen = Arc::new(AtomicUsize::new(0));
            let mut list = E::new(1);
            if subscriber == Subscriber::Attached {
                list.subscribe(Arc::clone(&seen))?;
            }
            for item in &script.items {
                list.append(item)?;
                list.commit()?;
            }
            Ok((list, seen.load(Relaxed)))
        },
        |(list, seen)| {
            let wanted = if subscriber == Subscriber::Attached {
                size
            } else {
                0
            };
            ensure(
                seen == wanted,
                "the subscriber was not told of every element",
            )?;
            check::<E>(&list.to_vec()?, &script)
        },
    )
}

fn digests<E: ListEngine>(list: &E) -> Result<Vec<u64>> {
    let mut digests = Vec::new();
    E::each(&list.to_vec()?, |scalar| digests.push(scalar.digest()))?;
    Ok(digests)
}

fn check<E: ListEngine>(values: &E::Values, script: &Script) -> Result<()> {
    let mut expected = script.expected.iter();
    let mut right = true;
    E::each(values, |scalar| {
        let wanted = expected
            .next()
            .map(|number| &script.items[*number as usize]);
        right &= wanted.is_some_and(|item| item.as_scalar() == scalar);
    })?;
    ensure(
        right && expected.next().is_none(),
        "the list does not hold what its edits lead to",
    )
}
