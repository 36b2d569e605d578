//! Edits of lists, from fixed seeds: the same for every engine, and what each must lead to.

use clap::ValueEnum;
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use super::item::Item;
use super::model::Model;

/// How a list comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// Each element at the end.
    Append,
    /// Each element at a random place.
    Random,
    /// 70 % at the end, 15 % at a random place, 15 % deletions of a random element.
    Mixed,
    /// Each element at the beginning.
    Prepend,
}

impl Shape {
    /// The name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Random => "random",
            Self::Mixed => "mixed",
            Self::Prepend => "prepend",
        }
    }
}

/// One edit. Those that insert take the next element of [`Script::items`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// At the end.
    Append,
    /// At the beginning.
    Prepend,
    /// Before the element at this place.
    Insert(u32),
    /// Takes out the element at this place.
    Delete(u32),
}

/// Edits, the elements they insert, and the list they lead to.
pub(crate) struct Script {
    /// In order.
    pub(crate) edits: Vec<Edit>,
    /// Inserted elements in order.
    pub(crate) items: Vec<Item>,
    /// Places in `items` of the elements of the final list.
    pub(crate) expected: Vec<u32>,
}

impl Script {
    /// `operations` edits that make a list of `shape`.
    pub(crate) fn new(shape: Shape, operations: usize) -> Self {
        let mut rng = Rng::with_seed(11);
        let mut model = Model::new();
        let mut items = Vec::with_capacity(operations);
        let mut edits = Vec::with_capacity(operations);
        for _ in 0..operations {
            let edit = next(shape, model.len(), &mut rng);
            edits.push(edit);
            let place = match edit {
                Edit::Append => model.len(),
                Edit::Prepend => 0,
                Edit::Insert(at) => at as usize,
                Edit::Delete(at) => {
                    model.remove(at as usize);
                    continue;
                }
            };
            let number = items.len() as u32;
            items.push(Item::numbered(number));
            model.insert(place, number);
        }
        Self {
            edits,
            items,
            expected: model.into_vec(),
        }
    }

    /// Digests of the final list.
    pub(crate) fn expected_digests(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        let digest = |number: &u32| self.items[*number as usize].as_scalar().digest();
        self.expected.iter().map(digest)
    }
}

fn next(shape: Shape, len: usize, rng: &mut Rng) -> Edit {
    let mut place = |end: usize| rng.usize(..end) as u32;
    match shape {
        Shape::Append => Edit::Append,
        Shape::Prepend => Edit::Prepend,
        Shape::Random => Edit::Insert(place(len + 1)),
        Shape::Mixed => match place(100) {
            0..15 => Edit::Insert(place(len + 1)),
            15..30 if len > 0 => Edit::Delete(place(len)),
            _ => Edit::Append,
        },
    }
}

/// `count` random places in a list of `len` elements.
pub(crate) fn places(len: usize, count: usize) -> Vec<u32> {
    let mut rng = Rng::with_seed(12);
    (0..count).map(|_| rng.usize(..len) as u32).collect()
}

/// One step of writers that each append to a replica of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// Who appends.
    pub(crate) writer: usize,
    /// With whom it then exchanges everything, if with anyone.
    pub(crate) meets: Option<usize>,
}

/// `count` messages of `writers` writers, of which one in twenty is followed by an exchange.
pub(crate) fn chat(writers: usize, count: usize) -> Vec<Message> {
    let mut rng = Rng::with_seed(13);
    let message = |_| {
        let writer = rng.usize(..writers);
        let other = (writer + rng.usize(1..writers)) % writers;
        let meets = (rng.u8(..20) == 0).then_some(other);
        Message { writer, meets }
    };
    (0..count).map(message).collect()
}

/// `count` moves (from, to) in a list of `len` elements, and the order they lead to. `to` is the
/// place after the move.
pub(crate) fn moves(len: usize, count: usize) -> (Vec<(u32, u32)>, Vec<u32>) {
    let mut rng = Rng::with_seed(14);
    let mut order: Vec<u32> = (0..len as u32).collect();
    let moves = (0..count)
        .map(|_| {
            let (from, to) = (rng.usize(..len), rng.usize(..len));
            let moved = order.remove(from);
            order.insert(to, moved);
            (from as u32, to as u32)
        })
        .collect();
    (moves, order)
}
