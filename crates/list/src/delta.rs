//! Changes as steps from left to right: keep so many, insert these, delete so many.

use crate::content::Content;
use crate::doc::{Change, Doc};
use crate::tree::Entry;

/// One step of a change. The steps of a change together go over the list once, from the left; what
/// follows the last step stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta<T> {
    /// So many elements stay as they are.
    Retain(usize),
    /// These elements come.
    Insert(T),
    /// So many elements go.
    Delete(usize),
}

pub(crate) struct DeltaBuilder<T> {
    steps: Vec<Delta<T>>,
    /// Kept elements that are not a step yet: the last ones never become one.
    kept: u32,
}

impl<T> Default for DeltaBuilder<T> {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            kept: 0,
        }
    }
}

impl<T: Default> DeltaBuilder<T> {
    pub(crate) fn retain(&mut self, count: u32) {
        self.kept += count;
    }

    pub(crate) fn delete(&mut self, count: u32) {
        self.flush();
        match self.steps.last_mut() {
            Some(Delta::Delete(before)) => *before += count as usize,
            _ => self.steps.push(Delta::Delete(count as usize)),
        }
    }

    pub(crate) fn insert(&mut self, read: impl FnOnce(&mut T)) {
        self.flush();
        if !matches!(self.steps.last(), Some(Delta::Insert(_))) {
            self.steps.push(Delta::Insert(T::default()));
        }
        if let Some(Delta::Insert(items)) = self.steps.last_mut() {
            read(items);
        }
    }

    fn flush(&mut self) {
        if self.kept > 0 {
            self.steps.push(Delta::Retain(self.kept as usize));
            self.kept = 0;
        }
    }

    pub(crate) fn finish(self) -> Vec<Delta<T>> {
        self.steps
    }
}

/// A stretch of the list after some changes.
#[derive(Clone, Copy)]
enum Stretch {
    Old(u32),
    New(Entry),
    /// Elements that went.
    Gone(u32),
}

impl Stretch {
    fn len(self) -> u32 {
        match self {
            Self::Old(len) => len,
            Self::New(entry) => entry.len(),
            Self::Gone(_) => 0,
        }
    }
}

/// Joins changes made one after the other into one. Takes time in the square of their number; many
/// are better told as the difference of two versions.
pub(crate) fn join<C: Content>(doc: &Doc<C>, changes: &[Change]) -> Vec<Delta<C::Owned>> {
    let mut stretches = vec![Stretch::Old(u32::MAX)];
    for change in changes {
        let at = cut(&mut stretches, change.position);
        let mut left = change.removed;
        let mut index = at;
        while left > 0 {
            let len = stretches[index].len();
            if len > left {
                let position = stretches[..index]
                    .iter()
                    .map(|stretch| stretch.len())
                    .sum::<u32>();
                cut(&mut stretches, position + left);
                continue;
            }
            match stretches[index] {
                Stretch::Old(len) => stretches[index] = Stretch::Gone(len),
                Stretch::New(_) => {
                    stretches.remove(index);
                    left -= len;
                    continue;
                }
                Stretch::Gone(_) => {}
            }
            left -= len;
            index += 1;
        }
        if let Some(entry) = change.added {
            stretches.insert(at, Stretch::New(entry));
        }
    }
    let mut delta = DeltaBuilder::default();
    for stretch in &stretches[..stretches.len() - 1] {
        match *stretch {
            Stretch::Old(len) => delta.retain(len),
            Stretch::Gone(len) => delta.delete(len),
            Stretch::New(entry) => delta.insert(|out| doc.content.read(entry, out)),
        }
    }
    // The last stretch is all the rest, unless a change reached into it to the very end.
    delta.finish()
}

/// Cuts the stretches so that one begins at `position`, and says which.
fn cut(stretches: &mut Vec<Stretch>, position: u32) -> usize {
    let mut left = position;
    for index in 0..stretches.len() {
        let stretch = stretches[index];
        if left == 0 {
            return index;
        }
        if left >= stretch.len() {
            left -= stretch.len();
            continue;
        }
        let parts = match stretch {
            Stretch::Old(len) => [Stretch::Old(left), Stretch::Old(len - left)],
            Stretch::New(entry) => [
                Stretch::New(entry.part(0, left)),
                Stretch::New(entry.part(left, entry.len())),
            ],
            Stretch::Gone(_) => return index,
        };
        stretches.splice(index..=index, parts);
        return index + 1;
    }
    stretches.len()
}
