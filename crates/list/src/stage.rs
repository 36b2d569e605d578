//! Several edits as one transaction.

use std::ops::Range;

use crate::content::Content;
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::permit::Action;
use crate::sequence::Sequence;

enum Step<C: Content> {
    Insert { position: u32, items: C::Owned },
    Delete(Range<u32>),
    Set { position: u32, item: C::Item },
    Move { from: u32, to: u32 },
}

/// Edits that take effect together, in one transaction, when it is [committed](Self::commit), or not
/// at all. Positions are those after the edits staged before. Made by
/// [`Sequence::transaction`](crate::Sequence::transaction).
#[must_use = "edits take effect when the transaction is committed"]
pub struct Transaction<'a, C: Content> {
    sequence: &'a mut Sequence<C>,
    steps: Vec<Step<C>>,
    len: usize,
    inserted: usize,
}

impl<'a, C: Content> Transaction<'a, C> {
    pub(crate) fn new(sequence: &'a mut Sequence<C>) -> Self {
        let len = sequence.len();
        Self {
            sequence,
            steps: Vec::new(),
            len,
            inserted: 0,
        }
    }

    /// How many elements there will be.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there will be none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn stage_insert(
        &mut self,
        position: usize,
        items: C::Owned,
        count: usize,
    ) -> Result<()> {
        if position > self.len {
            return Err(Error::OutOfRange {
                position,
                len: self.len,
            });
        }
        self.sequence.doc.room(self.inserted + count)?;
        if count > 0 {
            self.inserted += count;
            self.len += count;
            self.steps.push(Step::Insert {
                position: position as u32,
                items,
            });
        }
        Ok(())
    }

    pub(crate) fn stage_delete(&mut self, range: Range<usize>) -> Result<()> {
        if range.start > range.end || range.end > self.len {
            return Err(Error::BadRange {
                range,
                len: self.len,
            });
        }
        if !range.is_empty() {
            self.len -= range.len();
            self.steps
                .push(Step::Delete(range.start as u32..range.end as u32));
        }
        Ok(())
    }

    pub(crate) fn stage_set(&mut self, position: usize, item: C::Item) -> Result<()> {
        if position >= self.len {
            return Err(Error::OutOfRange {
                position,
                len: self.len,
            });
        }
        self.steps.push(Step::Set {
            position: position as u32,
            item,
        });
        Ok(())
    }

    pub(crate) fn stage_move(&mut self, from: usize, to: usize) -> Result<()> {
        if let Some(&position) = [from, to].iter().find(|&&position| position >= self.len) {
            return Err(Error::OutOfRange {
                position,
                len: self.len,
            });
        }
        if from != to {
            self.sequence.doc.room(self.inserted + 1)?;
            self.inserted += 1;
            self.steps.push(Step::Move {
                from: from as u32,
                to: to as u32,
            });
        }
        Ok(())
    }

    /// Makes the edits.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) if the permission check refuses one of them; none is made then.
    pub fn commit(self) -> Result<()> {
        let Self {
            sequence, steps, ..
        } = self;
        if sequence.doc.permit.is_some() && steps.len() > 1 {
            // Who a later edit concerns depends on the earlier ones: try them on a copy.
            let mut trial = Sequence::with_doc(sequence.doc.clone());
            trial.make(&steps)?;
        }
        let before = sequence.before_many();
        let items = sequence.make(&steps)?;
        sequence.doc.commit(items);
        sequence.tell(Origin::Local, before.as_ref());
        Ok(())
    }
}

impl<C: Content> Sequence<C> {
    /// Makes the steps, asking before each, and says how many items they were.
    fn make(&mut self, steps: &[Step<C>]) -> Result<u32> {
        let mut items = 0;
        for step in steps {
            match step {
                Step::Insert {
                    position,
                    items: new,
                } => {
                    let slice = C::borrow(new);
                    self.doc
                        .ask(Action::Insert, *position..*position, C::most(slice) as u32)?;
                    items += self.doc.insert(*position, slice);
                }
                Step::Delete(range) => {
                    self.doc.ask(Action::Delete, range.clone(), 0)?;
                    self.doc.delete(range.clone());
                    items += range.end - range.start;
                }
                Step::Set { position, item } => {
                    self.doc.ask(Action::Set, *position..position + 1, 0)?;
                    self.doc.set(*position, item.clone());
                    items += 1;
                }
                Step::Move { from, to } => {
                    self.doc.ask(Action::Move, *from..from + 1, 0)?;
                    self.doc.move_to(*from, *to);
                    items += 1;
                }
            }
        }
        Ok(items)
    }
}
