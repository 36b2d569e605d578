//! Reading what the list shows.

use std::ops::Range;

use crate::content::Content;
use crate::doc::Doc;
use crate::tree::Entry;

/// Entries whose contents are read together.
const BATCH: usize = 32;

impl<C: Content> Doc<C> {
    /// The contents that the elements of `entry` were inserted with, whatever they were set to since.
    pub(crate) fn read_as_inserted(&self, entry: Entry, out: &mut C::Owned) {
        if self.sets.is_empty() {
            return self.content.read(entry, out);
        }
        for offset in 0..entry.len() {
            match self.sets.get(&entry.at(offset)) {
                Some(set) => C::push_item(out, set.inserted.clone()),
                None => self.content.read(entry.part(offset, offset + 1), out),
            }
        }
    }

    /// Appends the contents shown at `range` to `out`.
    pub(crate) fn read(&self, range: Range<u32>, out: &mut C::Owned) {
        if range.is_empty() {
            return;
        }
        let at = self.tree.find(range.start);
        let (mut skip, mut left) = (at.offset, range.end - range.start);
        let (mut batch, mut filled) = ([Entry::default(); BATCH], 0);
        for stretch in self.tree.stretches_from(at) {
            for &entry in stretch.iter().filter(|entry| !entry.is_hidden()) {
                let count = left.min(entry.len() - skip);
                let part = if count == entry.len() {
                    entry
                } else {
                    entry.part(skip, skip + count)
                };
                batch[filled] = self.shown(part);
                filled += 1;
                (skip, left) = (0, left - count);
                if filled == BATCH || left == 0 {
                    self.content.read_all(&batch[..filled], out);
                    filled = 0;
                }
                if left == 0 {
                    return;
                }
            }
        }
    }
}
