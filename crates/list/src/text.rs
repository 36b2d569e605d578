//! The text.

use std::fmt;
use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::content::Chars;
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::sequence::Sequence;
use crate::stage::Transaction;
use crate::version::View;

/// A text that merges. Positions count characters (Unicode scalar values) unless a method's name says
/// otherwise.
///
/// Every method that edits makes one transaction, or none if there is nothing to do. Its errors are
/// [`OutOfRange`](Error::OutOfRange) and [`BadRange`](Error::BadRange), [`Full`](Error::Full) and
/// [`Refused`](Error::Refused); whichever it is, nothing was changed.
pub type Text = Sequence<Chars>;

impl Sequence<Chars> {
    /// Inserts `text` so that its first character stands at `position`.
    ///
    /// # Errors
    /// See [`Text`].
    #[inline]
    pub fn insert_at_char(&mut self, position: usize, text: &str) -> Result<()> {
        self.insert_slice(position, text)
    }

    /// Adds `text` at the end.
    ///
    /// # Errors
    /// See [`Text`].
    pub fn append(&mut self, text: &str) -> Result<()> {
        self.insert_slice(self.len(), text)
    }

    /// Deletes the characters at `range`.
    ///
    /// # Errors
    /// See [`Text`].
    #[inline]
    pub fn delete_chars(&mut self, range: Range<usize>) -> Result<()> {
        self.delete_range(range)
    }

    /// Puts `text` in the place of the characters at `range`.
    ///
    /// # Errors
    /// See [`Text`].
    pub fn splice_chars(&mut self, range: Range<usize>, text: &str) -> Result<()> {
        if text.is_empty() {
            return self.delete_range(range);
        }
        if range.is_empty() {
            return self.insert_slice(range.start, text);
        }
        let mut transaction = self.transaction();
        transaction.insert_at_char(range.end, text)?;
        transaction.delete_chars(range)?;
        transaction.commit()
    }

    /// Edits the text into `new` with few insertions and deletions (Myers, by lines and within changed
    /// lines by characters), so that characters that stay keep their names and history.
    ///
    /// # Errors
    /// See [`Text`].
    pub fn apply_diff(&mut self, new: &str) -> Result<()> {
        let old = self.text();
        let (old_lines, new_lines): (Vec<_>, Vec<_>) = (
            old.split_inclusive('\n').collect(),
            new.split_inclusive('\n').collect(),
        );
        let chars = |lines: &[&str]| lines.iter().map(|line| line.chars().count()).sum::<usize>();
        let steps = capture_diff_slices(Algorithm::Myers, &old_lines, &new_lines);
        let mut transaction = self.transaction();
        for step in steps.into_iter().rev() {
            let (_, from, to) = step.as_tag_tuple();
            if matches!(step, DiffOp::Equal { .. }) {
                continue;
            }
            let start = chars(&old_lines[..from.start]);
            transaction.change(start, &old_lines[from].concat(), &new_lines[to].concat())?;
        }
        transaction.commit()
    }

    /// The text as it is now.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.len());
        self.doc.read(0..self.doc.len(), &mut text);
        text
    }

    /// The characters at `range`, as far as there are any.
    pub fn slice_chars(&self, range: Range<usize>) -> String {
        let mut text = String::new();
        let len = self.len();
        let (start, end) = (range.start.min(len), range.end.min(len));
        if start < end {
            self.doc.read(start as u32..end as u32, &mut text);
        }
        text
    }

    /// The character at `position`.
    pub fn char_at(&self, position: usize) -> Option<char> {
        let elem = (position < self.len()).then(|| self.doc.elem_at(position as u32))?;
        Some(self.doc.content.char_at(elem))
    }

    /// The UTF-8 offset of the character at `position`, or of the end. Takes time in proportion to the
    /// text before it unless all of it is ASCII.
    ///
    /// # Errors
    /// [`OutOfRange`](Error::OutOfRange) beyond the end.
    pub fn char_to_utf8(&self, position: usize) -> Result<usize> {
        self.units_before(position, char::len_utf8)
    }

    /// The UTF-16 offset of the character at `position`, or of the end; see
    /// [`char_to_utf8`](Self::char_to_utf8).
    ///
    /// # Errors
    /// [`OutOfRange`](Error::OutOfRange) beyond the end.
    pub fn char_to_utf16(&self, position: usize) -> Result<usize> {
        self.units_before(position, char::len_utf16)
    }

    /// The position of the character that begins at UTF-8 offset `offset`, or the end.
    ///
    /// # Errors
    /// [`OutOfRange`](Error::OutOfRange) beyond the end, [`InsideCharacter`](Error::InsideCharacter).
    pub fn utf8_to_char(&self, offset: usize) -> Result<usize> {
        self.chars_before(offset, char::len_utf8)
    }

    /// The position of the character that begins at UTF-16 offset `offset`, or the end.
    ///
    /// # Errors
    /// [`OutOfRange`](Error::OutOfRange) beyond the end, [`InsideCharacter`](Error::InsideCharacter).
    pub fn utf16_to_char(&self, offset: usize) -> Result<usize> {
        self.chars_before(offset, char::len_utf16)
    }

    fn units_before(&self, position: usize, units: fn(char) -> usize) -> Result<usize> {
        let len = self.len();
        if position > len {
            return Err(Error::OutOfRange { position, len });
        }
        if self.doc.content.is_ascii() {
            return Ok(position);
        }
        Ok(self.slice_chars(0..position).chars().map(units).sum())
    }

    fn chars_before(&self, offset: usize, units: fn(char) -> usize) -> Result<usize> {
        if self.doc.content.is_ascii() && offset <= self.len() {
            return Ok(offset);
        }
        let (mut at, mut position) = (0, 0);
        for char in self.text().chars() {
            if at >= offset {
                break;
            }
            at += units(char);
            position += 1;
        }
        match at.cmp(&offset) {
            std::cmp::Ordering::Equal => Ok(position),
            std::cmp::Ordering::Greater => Err(Error::InsideCharacter { offset }),
            std::cmp::Ordering::Less => Err(Error::OutOfRange {
                position: offset,
                len: at,
            }),
        }
    }
}

impl fmt::Display for Sequence<Chars> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl Transaction<'_, Chars> {
    /// Stages [`Text::insert_at_char`](Sequence::insert_at_char).
    ///
    /// # Errors
    /// See [`Text`].
    pub fn insert_at_char(&mut self, position: usize, text: &str) -> Result<()> {
        self.stage_insert(position, text.to_owned(), text.chars().count())
    }

    /// Stages [`Text::delete_chars`](Sequence::delete_chars).
    ///
    /// # Errors
    /// See [`Text`].
    pub fn delete_chars(&mut self, range: Range<usize>) -> Result<()> {
        self.stage_delete(range)
    }

    /// Changes `old`, which stands at `start`, into `new`, from right to left.
    fn change(&mut self, start: usize, old: &str, new: &str) -> Result<()> {
        let (old, new): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
        for step in capture_diff_slices(Algorithm::Myers, &old, &new)
            .into_iter()
            .rev()
        {
            let (_, from, to) = step.as_tag_tuple();
            if matches!(step, DiffOp::Equal { .. }) {
                continue;
            }
            self.delete_chars(start + from.start..start + from.end)?;
            self.insert_at_char(start + from.start, &new[to].iter().collect::<String>())?;
        }
        Ok(())
    }
}

impl View<'_, Chars> {
    /// The text at this version.
    pub fn text(&self) -> String {
        self.read(0..self.len())
    }

    /// The character at `position`.
    pub fn char_at(&self, position: usize) -> Option<char> {
        self.read(position..position.checked_add(1)?).pop()
    }
}

impl Delta<String> {
    /// Applies the steps of a change to a mirror of the text before.
    pub fn apply(steps: &[Self], mirror: &mut String) {
        let mut rest = std::mem::take(mirror);
        for step in steps {
            let cut = |rest: &str, count: usize| {
                rest.char_indices()
                    .nth(count)
                    .map_or(rest.len(), |(byte, _)| byte)
            };
            match step {
                Self::Retain(count) => {
                    let end = cut(&rest, *count);
                    mirror.push_str(&rest[..end]);
                    rest.drain(..end);
                }
                Self::Insert(text) => mirror.push_str(text),
                Self::Delete(count) => {
                    let end = cut(&rest, *count);
                    rest.drain(..end);
                }
            }
        }
        mirror.push_str(&rest);
    }
}
