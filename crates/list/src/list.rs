//! The list of JSON values.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::births::Side;
use crate::cell::Cell;
use crate::content::Values;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::id::OpId;
use crate::permit::Action;
use crate::sequence::Sequence;
use crate::stage::Transaction;
use crate::version::View;

/// A list of JSON values that merges.
///
/// Every method that edits makes one transaction, or none if there is nothing to do. Its errors are
/// [`OutOfRange`](Error::OutOfRange) and [`BadRange`](Error::BadRange), [`Full`](Error::Full) and
/// [`Refused`](Error::Refused); whichever it is, nothing was changed.
///
/// ```
/// use serde_json::json;
/// use siltstone_list::{List, Session};
///
/// let mut list = List::new(Session::new("ann", 1));
/// list.append_items(vec![json!("sand"), json!("clay"), json!({"grain": "silt"})])?;
/// list.move_to(2, 0)?;
/// list.set(2, json!("mud"))?;
/// assert_eq!(list.to_vec(), [json!({"grain": "silt"}), json!("sand"), json!("mud")]);
/// # Ok::<(), siltstone_list::Error>(())
/// ```
pub type List = Sequence<Values>;

impl Sequence<Values> {
    /// Adds `value` at the end.
    ///
    /// # Errors
    /// See [`List`].
    pub fn append(&mut self, value: Value) -> Result<()> {
        self.insert(self.len(), value)
    }

    /// Adds `values` at the end, in their order.
    ///
    /// # Errors
    /// See [`List`].
    pub fn append_items(&mut self, values: Vec<Value>) -> Result<()> {
        self.insert_items(self.len(), values)
    }

    /// Puts `value` before all others.
    ///
    /// # Errors
    /// See [`List`].
    pub fn prepend(&mut self, value: Value) -> Result<()> {
        self.insert(0, value)
    }

    /// Inserts `value` so that it stands at `position`, at most the length.
    ///
    /// # Errors
    /// See [`List`].
    pub fn insert(&mut self, position: usize, value: Value) -> Result<()> {
        self.insert_slice(position, &[value])
    }

    /// Inserts `values`, in their order, so that the first stands at `position`.
    ///
    /// # Errors
    /// See [`List`].
    pub fn insert_items(&mut self, position: usize, values: Vec<Value>) -> Result<()> {
        self.insert_slice(position, &values)
    }

    /// Inserts `value` next to the right of the element `id`, or of where it was.
    ///
    /// # Errors
    /// See [`List`]; [`UnknownElement`](Error::UnknownElement).
    pub fn insert_after(&mut self, id: &OpId, value: Value) -> Result<()> {
        self.insert_near(id, Side::Right, value)
    }

    /// Inserts `value` next to the left of the element `id`, or of where it was.
    ///
    /// # Errors
    /// See [`List`]; [`UnknownElement`](Error::UnknownElement).
    pub fn insert_before(&mut self, id: &OpId, value: Value) -> Result<()> {
        self.insert_near(id, Side::Left, value)
    }

    fn insert_near(&mut self, id: &OpId, side: Side, value: Value) -> Result<()> {
        let elem = self.elem(id)?;
        self.doc.room(1)?;
        self.doc.ask(Action::Insert, 0..0, 1)?;
        let place = self.doc.slot_of(elem);
        let count = self.doc.insert_beside(place, side, &[value]);
        self.doc.commit(count);
        self.tell(Origin::Local, None);
        Ok(())
    }

    /// Deletes the elements at `range`.
    ///
    /// # Errors
    /// See [`List`].
    pub fn delete(&mut self, range: Range<usize>) -> Result<()> {
        self.delete_range(range)
    }

    /// Gives the element at `position` another value. It stays the same element: of concurrent sets
    /// one wins everywhere.
    ///
    /// # Errors
    /// See [`List`].
    pub fn set(&mut self, position: usize, value: Value) -> Result<()> {
        let mut transaction = self.transaction();
        transaction.set(position, value)?;
        transaction.commit()
    }

    /// Puts a new element in the place of the one at `position`. Of concurrent replacements all new
    /// elements stay.
    ///
    /// # Errors
    /// See [`List`].
    pub fn replace(&mut self, position: usize, value: Value) -> Result<()> {
        let len = self.len();
        if position >= len {
            return Err(Error::OutOfRange { position, len });
        }
        self.splice(position..position + 1, vec![value])
    }

    /// Puts `values` in the place of the elements at `range`.
    ///
    /// # Errors
    /// See [`List`].
    pub fn splice(&mut self, range: Range<usize>, values: Vec<Value>) -> Result<()> {
        let mut transaction = self.transaction();
        transaction.insert_items(range.end, values)?;
        transaction.delete(range)?;
        transaction.commit()
    }

    /// Edits the list into `new` with the fewest insertions and deletions (Myers), so that elements
    /// that stay keep their names and history.
    ///
    /// # Errors
    /// See [`List`].
    pub fn apply_diff(&mut self, new: &[Value]) -> Result<()> {
        let old = self.to_vec();
        // Values compare by what they print: equal values print alike.
        let print = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>();
        let steps = capture_diff_slices(Algorithm::Myers, &print(&old), &print(new));
        let mut transaction = self.transaction();
        for step in steps.into_iter().rev() {
            let (_, old, to) = step.as_tag_tuple();
            if !matches!(step, DiffOp::Equal { .. }) {
                transaction.delete(old.clone())?;
                transaction.insert_items(old.start, new[to].to_vec())?;
            }
        }
        transaction.commit()
    }

    /// The value at `position`: borrowed, if it is an array, an object or a string of more than 14
    /// bytes; numbers and short strings are kept in less space and made anew.
    pub fn get(&self, position: usize) -> Option<Cow<'_, Value>> {
        let elem = (position < self.len()).then(|| self.doc.elem_at(position as u32))?;
        self.doc.content.cells.get(elem as usize).map(Cell::read)
    }

    /// The values at `range`, as far as there are any, in order, as [`List::get`] gives them.
    pub fn iter(&self, range: Range<usize>) -> impl Iterator<Item = Cow<'_, Value>> {
        let len = self.len();
        let (start, end) = (range.start.min(len), range.end.min(len));
        let count = end.saturating_sub(start);
        let from = (count > 0).then(|| self.doc.tree.find(start as u32));
        let skip = from.map_or(0, |from| from.offset as usize);
        let entries = from
            .into_iter()
            .flat_map(|from| self.doc.tree.entries_from(from));
        let elems = entries
            .filter(|entry| !entry.is_hidden())
            .flat_map(move |entry| {
                (0..entry.len()).map(move |offset| self.doc.shown_elem(entry, offset))
            });
        elems
            .skip(skip)
            .take(count)
            .map(|elem| self.doc.content.cells[elem as usize].read())
    }

    /// Copies of all values, in order.
    pub fn to_vec(&self) -> Vec<Value> {
        let mut values = Vec::with_capacity(self.len());
        self.doc.read(0..self.doc.len(), &mut values);
        values
    }
}

impl Transaction<'_, Values> {
    /// Stages [`List::insert`](Sequence::insert).
    ///
    /// # Errors
    /// See [`List`].
    pub fn insert(&mut self, position: usize, value: Value) -> Result<()> {
        self.stage_insert(position, vec![value], 1)
    }

    /// Stages [`List::insert_items`](Sequence::insert_items).
    ///
    /// # Errors
    /// See [`List`].
    pub fn insert_items(&mut self, position: usize, values: Vec<Value>) -> Result<()> {
        let count = values.len();
        self.stage_insert(position, values, count)
    }

    /// Stages [`List::append`](Sequence::append).
    ///
    /// # Errors
    /// See [`List`].
    pub fn append(&mut self, value: Value) -> Result<()> {
        self.insert(self.len(), value)
    }

    /// Stages [`List::delete`](Sequence::delete).
    ///
    /// # Errors
    /// See [`List`].
    pub fn delete(&mut self, range: Range<usize>) -> Result<()> {
        self.stage_delete(range)
    }

    /// Stages [`List::set`](Sequence::set).
    ///
    /// # Errors
    /// See [`List`].
    pub fn set(&mut self, position: usize, value: Value) -> Result<()> {
        self.stage_set(position, value)
    }

    /// Stages [`List::move_to`](Sequence::move_to).
    ///
    /// # Errors
    /// See [`List`].
    pub fn move_to(&mut self, from: usize, to: usize) -> Result<()> {
        self.stage_move(from, to)
    }
}

impl View<'_, Values> {
    /// The value at `position`.
    pub fn get(&self, position: usize) -> Option<Value> {
        self.read(position..position.checked_add(1)?).pop()
    }

    /// Copies of all values, in order.
    pub fn to_vec(&self) -> Vec<Value> {
        self.read(0..self.len())
    }
}

impl Delta<Vec<Value>> {
    /// Applies the steps of a change to a mirror of what the list showed before.
    pub fn apply(steps: &[Self], mirror: &mut Vec<Value>) {
        let mut at = 0;
        for step in steps {
            match step {
                Self::Retain(count) => at += count,
                Self::Insert(values) => {
                    mirror.splice(at..at, values.iter().cloned());
                    at += values.len();
                }
                Self::Delete(count) => {
                    mirror.drain(at..at + count);
                }
            }
        }
    }
}
