//! Cursors: positions that stay with their element while others edit.

use crate::content::Content;
use crate::error::{Error, Result};
use crate::id::OpId;
use crate::sequence::Sequence;

/// To which neighbour a cursor keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bias {
    /// To the element on its left: what is inserted at the cursor comes after it.
    Left,
    /// To the element on its right: what is inserted at the cursor comes before it.
    Right,
}

/// A place between two elements that stays beside one of them. It is a plain value: it can be stored
/// and sent to other copies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The element it keeps to; nothing is the start or, biased to the right, the end.
    pub element: Option<OpId>,
    /// The side it keeps to.
    pub bias: Bias,
}

impl<C: Content> Sequence<C> {
    /// A cursor at `position` that keeps to its neighbour on the side of `bias`.
    ///
    /// # Errors
    /// [`OutOfRange`](Error::OutOfRange) beyond the end.
    pub fn cursor(&self, position: usize, bias: Bias) -> Result<Cursor> {
        let len = self.len();
        if position > len {
            return Err(Error::OutOfRange { position, len });
        }
        let element = match bias {
            Bias::Left => position.checked_sub(1).and_then(|left| self.id_at(left)),
            Bias::Right => self.id_at(position),
        };
        Ok(Cursor { element, bias })
    }

    /// Where the cursor is now. Beside a deleted element it is where that one was.
    ///
    /// # Errors
    /// [`UnknownElement`](Error::UnknownElement) if its element has not come here yet.
    pub fn cursor_position(&self, cursor: &Cursor) -> Result<usize> {
        let Some(id) = &cursor.element else {
            return Ok(if cursor.bias == Bias::Left {
                0
            } else {
                self.len()
            });
        };
        let elem = self.elem(id)?;
        let place = self
            .doc
            .tree
            .place_of(self.doc.slot_of(elem))
            .expect("every element has a place");
        let hidden = self.doc.tree.entry(place).is_hidden();
        let position = self.doc.tree.position(place) as usize;
        Ok(position + usize::from(!hidden && cursor.bias == Bias::Left))
    }
}
