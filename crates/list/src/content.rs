//! What elements hold: JSON values or characters, stored in the order of their elements' numbers, so
//! that neither an edit nor a merge ever moves one.

use std::convert::Infallible;

use serde_json::Value;

use crate::cell::Cell;
use crate::codec::{Writer, values};
use crate::error::{Error, Result};
use crate::tree::{Elem, Entry, Tree};

/// A store of elements' contents, only ever appended to.
pub trait Content: Clone + Default {
    /// What one insertion brings.
    type Slice: ?Sized;
    /// What one or more elements' contents are once they are read out.
    type Owned: Clone + Default + PartialEq + std::fmt::Debug + Send + Sync;
    /// What an element can be set to.
    type Item: Clone + PartialEq + std::fmt::Debug + Send + Sync;

    /// At least as many elements as `items` are; none only if there are none.
    fn most(items: &Self::Slice) -> usize;
    /// How many elements `items` are.
    fn count(items: &Self::Slice) -> u32;
    /// Adds `items`, one new element each, and says how many they were.
    fn push(&mut self, items: &Self::Slice) -> u32;
    /// Adds an element without content of its own.
    fn push_empty(&mut self);
    /// Adds `count` elements from `from`, where `at` says how far it has been read, and moves `at`.
    fn push_part(&mut self, from: &Self::Owned, at: &mut usize, count: u32);
    /// Moves `at` past `count` elements of `from`.
    fn skip_part(&self, from: &Self::Owned, at: &mut usize, count: u32);
    /// What is left of `from` at `at`.
    fn rest(from: &Self::Owned, at: usize) -> Self::Owned;
    /// Adds something for each of `count` elements whose contents are gone.
    fn blank(count: usize, out: &mut Self::Owned);
    /// What [`Content::push`] takes.
    fn borrow(of: &Self::Owned) -> &Self::Slice;
    /// Adds what an element was set to.
    fn push_item(out: &mut Self::Owned, item: Self::Item);
    /// What stands for an item until it is read; nothing if there are no items.
    fn placeholder() -> Option<Self::Item>;
    /// The items one by one.
    fn items(of: Self::Owned) -> Vec<Self::Item>;
    /// Which content it is, in encoded data.
    const TAG: u8;
    /// Encodes contents.
    fn write(of: &Self::Owned, out: &mut Writer);
    /// Decodes contents: of `count` elements, if that is known.
    fn decode(bytes: Vec<u8>, count: Option<u32>) -> Result<Self::Owned>;
    /// The store of elements whose contents are in two heaps: those shown and those hidden, each in
    /// the order in which `entries` gives them. Entries are of elements, from left to right.
    fn arrange(shown: Self::Owned, hidden: Self::Owned, entries: &Tree, elems: u32) -> Self;
    /// Gives an element another content and returns the one it had.
    fn replace(&mut self, elem: Elem, item: Self::Item) -> Self::Item;
    /// Adds the contents of `entry`'s elements to `out`, from left to right.
    fn read(&self, entry: Entry, out: &mut Self::Owned);
    /// The same for several entries.
    fn read_all(&self, entries: &[Entry], out: &mut Self::Owned) {
        for entry in entries {
            self.read(*entry, out);
        }
    }
    /// Bytes on the heap, an estimate.
    fn heap_bytes(&self) -> usize;
}

/// JSON values, one an element.
#[derive(Clone, Default)]
pub struct Values {
    pub(crate) cells: Vec<Cell>,
}

impl Content for Values {
    type Slice = [Value];
    type Owned = Vec<Value>;
    type Item = Value;

    fn most(items: &[Value]) -> usize {
        items.len()
    }

    fn count(items: &[Value]) -> u32 {
        items.len() as u32
    }

    fn push(&mut self, items: &[Value]) -> u32 {
        self.cells.extend(items.iter().map(Cell::from));
        items.len() as u32
    }

    fn push_empty(&mut self) {
        self.cells.push(Cell::Null);
    }

    fn push_part(&mut self, from: &Vec<Value>, at: &mut usize, count: u32) {
        let end = *at + count as usize;
        self.cells.extend(from[*at..end].iter().map(Cell::from));
        *at = end;
    }

    fn skip_part(&self, _: &Vec<Value>, at: &mut usize, count: u32) {
        *at += count as usize;
    }

    fn rest(from: &Vec<Value>, at: usize) -> Vec<Value> {
        from[at..].to_vec()
    }

    fn blank(count: usize, out: &mut Vec<Value>) {
        out.resize(out.len() + count, Value::Null);
    }

    fn borrow(of: &Vec<Value>) -> &[Value] {
        of
    }

    fn push_item(out: &mut Vec<Value>, item: Value) {
        out.push(item);
    }

    fn placeholder() -> Option<Value> {
        Some(Value::Null)
    }

    fn items(of: Vec<Value>) -> Vec<Value> {
        of
    }

    const TAG: u8 = 1;

    fn write(of: &Vec<Value>, out: &mut Writer) {
        values::write(of, out);
    }

    fn decode(bytes: Vec<u8>, count: Option<u32>) -> Result<Vec<Value>> {
        values::read(&bytes, count.map(|count| count as usize))
    }

    fn arrange(shown: Vec<Value>, hidden: Vec<Value>, tree: &Tree, elems: u32) -> Self {
        let mut cells = vec![Cell::Null; elems as usize];
        let (mut shown, mut hidden) = (shown.into_iter(), hidden.into_iter());
        for entry in tree.entries().filter(|entry| !entry.is_slot()) {
            let from = if entry.is_hidden() {
                &mut hidden
            } else {
                &mut shown
            };
            for (offset, value) in (0..entry.len()).zip(from) {
                cells[entry.at(offset) as usize] = Cell::from(value);
            }
        }
        Self { cells }
    }

    fn replace(&mut self, elem: Elem, item: Value) -> Value {
        std::mem::replace(&mut self.cells[elem as usize], item.into()).into()
    }

    fn read(&self, entry: Entry, out: &mut Vec<Value>) {
        let range = &self.cells[entry.lo as usize..entry.end() as usize];
        match range {
            [cell] => out.push(cell.value()),
            _ if entry.is_reversed() => out.extend(range.iter().rev().map(Cell::value)),
            _ => out.extend(range.iter().map(Cell::value)),
        }
    }

    fn read_all(&self, entries: &[Entry], out: &mut Vec<Value>) {
        // Neighbours in the list may lie far apart here. What kind of value each is decides what is
        // done with it, and a processor that guessed wrong has nothing else to do than wait for the
        // next one: so all are asked for first, without a question.
        let asked =
            |sum: usize, entry: &Entry| sum + self.cells[entry.lo as usize].is_null() as usize;
        std::hint::black_box(entries.iter().fold(0, asked));
        for entry in entries {
            self.read(*entry, out);
        }
    }

    fn heap_bytes(&self) -> usize {
        let boxed: usize = self.cells.iter().map(Cell::heap_bytes).sum();
        self.cells.capacity() * size_of::<Cell>() + boxed
    }
}

/// Characters between two remembered byte offsets.
const STEP: u32 = 64;

/// Characters as UTF-8, one an element, with a byte offset kept for every 64th once one of them is
/// not ASCII.
#[derive(Clone, Default)]
pub struct Chars {
    text: String,
    len: u32,
    /// Where character `64 * i` begins; empty while all are ASCII.
    offsets: Vec<u32>,
}

impl Chars {
    pub(crate) fn from_string(text: String) -> Self {
        let mut chars = Self::default();
        if text.is_ascii() {
            chars.len = text.len() as u32;
        } else {
            chars.len = text.chars().count() as u32;
            chars.offsets = offsets(&text, 0, 0);
        }
        chars.text = text;
        chars
    }

    /// Where character `at` begins.
    #[inline]
    pub(crate) fn byte_of(&self, at: u32) -> usize {
        if self.offsets.is_empty() {
            return at as usize;
        }
        let Some(&known) = self.offsets.get((at / STEP) as usize) else {
            return self.text.len();
        };
        let rest = &self.text[known as usize..];
        known as usize
            + rest
                .char_indices()
                .nth((at % STEP) as usize)
                .map_or(rest.len(), |(byte, _)| byte)
    }

    /// The characters numbered from `from` to before `to`, in that order.
    #[inline]
    pub(crate) fn slice(&self, from: u32, to: u32) -> &str {
        &self.text[self.byte_of(from)..self.byte_of(to)]
    }

    pub(crate) fn char_at(&self, at: u32) -> char {
        self.text[self.byte_of(at)..]
            .chars()
            .next()
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    pub(crate) fn is_ascii(&self) -> bool {
        self.offsets.is_empty()
    }
}

fn arrange_ascii(shown: &[u8], hidden: &[u8], tree: &Tree, elems: u32) -> Chars {
    let mut bytes = vec![0; elems as usize];
    let (mut shown, mut hidden) = (shown, hidden);
    for entry in tree.entries().filter(|entry| !entry.is_slot()) {
        let from = if entry.is_hidden() {
            &mut hidden
        } else {
            &mut shown
        };
        let (part, rest) = from.split_at(entry.len() as usize);
        *from = rest;
        let to = &mut bytes[entry.lo as usize..entry.end() as usize];
        to.copy_from_slice(part);
        if entry.is_reversed() {
            to.reverse();
        }
    }
    Chars {
        text: String::from_utf8(bytes).unwrap_or_default(),
        len: elems,
        offsets: Vec::new(),
    }
}

/// How many bytes the first `count` characters have.
#[inline]
fn bytes_of(text: &str, count: u32) -> usize {
    match text.as_bytes().get(..count as usize) {
        Some(bytes) if bytes.is_ascii() => bytes.len(),
        _ => text
            .char_indices()
            .nth(count as usize)
            .map_or(text.len(), |(byte, _)| byte),
    }
}

/// The offsets of every 64th character of `text`, whose first is character `first` at byte `base`.
fn offsets(text: &str, first: u32, base: u32) -> Vec<u32> {
    let every = |(at, (byte, _)): (usize, (usize, char))| {
        (first + at as u32)
            .is_multiple_of(STEP)
            .then_some(base + byte as u32)
    };
    text.char_indices().enumerate().filter_map(every).collect()
}

impl Content for Chars {
    type Slice = str;
    type Owned = String;
    type Item = Infallible;

    #[inline]
    fn most(items: &str) -> usize {
        items.len()
    }

    #[inline]
    fn count(items: &str) -> u32 {
        if items.is_ascii() {
            items.len() as u32
        } else {
            items.chars().count() as u32
        }
    }

    #[inline]
    fn push(&mut self, items: &str) -> u32 {
        let added = Self::count(items);
        if !self.offsets.is_empty() || added as usize != items.len() {
            if self.offsets.is_empty() {
                self.offsets = offsets(&self.text, 0, 0);
            }
            self.offsets
                .extend(offsets(items, self.len, self.text.len() as u32));
        }
        self.text.push_str(items);
        self.len += added;
        added
    }

    fn push_empty(&mut self) {
        self.push("\0");
    }

    #[inline]
    fn push_part(&mut self, from: &String, at: &mut usize, count: u32) {
        let end = *at + bytes_of(&from[*at..], count);
        self.push(&from[*at..end]);
        *at = end;
    }

    fn skip_part(&self, from: &String, at: &mut usize, count: u32) {
        *at += bytes_of(&from[*at..], count);
    }

    fn rest(from: &String, at: usize) -> String {
        from[at..].to_owned()
    }

    fn blank(count: usize, out: &mut String) {
        out.extend(std::iter::repeat_n('\0', count));
    }

    fn borrow(of: &String) -> &str {
        of
    }

    fn push_item(_: &mut String, item: Infallible) {
        match item {}
    }

    fn placeholder() -> Option<Infallible> {
        None
    }

    fn items(_: String) -> Vec<Infallible> {
        Vec::new()
    }

    const TAG: u8 = 2;

    fn write(of: &String, out: &mut Writer) {
        out.bytes.extend_from_slice(of.as_bytes());
    }

    fn decode(bytes: Vec<u8>, count: Option<u32>) -> Result<String> {
        let damaged = |offset, problem| Error::Damaged {
            what: "text",
            offset,
            problem,
        };
        let text = String::from_utf8(bytes)
            .map_err(|error| damaged(error.utf8_error().valid_up_to(), "it is not UTF-8"))?;
        let chars = || {
            if text.is_ascii() {
                text.len()
            } else {
                text.chars().count()
            }
        };
        if count.is_some_and(|count| chars() != count as usize) {
            return Err(damaged(
                text.len(),
                "it has more or fewer characters than the history says",
            ));
        }
        Ok(text)
    }

    fn arrange(shown: String, hidden: String, tree: &Tree, elems: u32) -> Self {
        if shown.is_ascii() && hidden.is_ascii() {
            return arrange_ascii(shown.as_bytes(), hidden.as_bytes(), tree, elems);
        }
        let mut pieces = Vec::new();
        let (mut shown_at, mut hidden_at) = (0, 0);
        for entry in tree.entries() {
            if entry.is_slot() {
                pieces.push((entry.lo, "\0"));
                continue;
            }
            let (text, at) = if entry.is_hidden() {
                (&hidden, &mut hidden_at)
            } else {
                (&shown, &mut shown_at)
            };
            if !entry.is_reversed() {
                let end = *at + bytes_of(&text[*at..], entry.len());
                pieces.push((entry.lo, &text[*at..end]));
                *at = end;
                continue;
            }
            for offset in 0..entry.len() {
                let end = *at + bytes_of(&text[*at..], 1);
                pieces.push((entry.at(offset), &text[*at..end]));
                *at = end;
            }
        }
        pieces.sort_unstable_by_key(|piece| piece.0);
        Self::from_string(pieces.into_iter().map(|piece| piece.1).collect())
    }

    fn replace(&mut self, _: Elem, item: Infallible) -> Infallible {
        item
    }

    #[inline]
    fn read(&self, entry: Entry, out: &mut String) {
        let text = self.slice(entry.lo, entry.end());
        if entry.is_reversed() && entry.len() > 1 {
            out.extend(text.chars().rev());
        } else {
            out.push_str(text);
        }
    }

    fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.offsets.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn characters_are_found_whatever_their_width(pieces in prop::collection::vec("[a-cäß漢🦀]{0,90}", 1..8)) {
            let mut chars = Chars::default();
            for piece in &pieces {
                chars.push(piece);
            }
            let plain: Vec<char> = pieces.concat().chars().collect();
            prop_assert_eq!(chars.len as usize, plain.len());
            for (at, char) in plain.iter().enumerate() {
                prop_assert_eq!(chars.char_at(at as u32), *char);
            }
            let built = Chars::from_string(pieces.concat());
            prop_assert_eq!(&built.offsets, &chars.offsets);
            let len = plain.len() as u32;
            for (from, to) in [(0, len), (len / 3, len / 2), (len, len)] {
                let part: String = plain[from as usize..to as usize].iter().collect();
                prop_assert_eq!(chars.slice(from, to), part);
            }
        }
    }

    #[test]
    fn reversed_entries_are_read_backwards() {
        let mut chars = Chars::default();
        chars.push("añb");
        let mut out = String::new();
        chars.read(Entry::shown(0, 3).reversed(), &mut out);
        assert_eq!(out, "bña");
    }
}
