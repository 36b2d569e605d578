//! Which leaf holds an element: for each page of element numbers, the stretches that share a leaf.
//! It is built when first asked for and kept up from then on.

use super::entry::{Elem, NONE};

const PAGE: u32 = 256;

#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Where in its page the stretch begins; it ends where the next begins.
    at: u32,
    leaf: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    pages: Vec<Vec<Piece>>,
    /// How many elements the pages cover.
    len: Elem,
}

impl Places {
    /// The leaf that holds `elem`.
    #[inline]
    pub(crate) fn leaf(&self, elem: Elem) -> Option<u32> {
        if elem >= self.len {
            return None;
        }
        let page = self.pages.get((elem / PAGE) as usize)?;
        let at = page.partition_point(|piece| piece.at <= elem % PAGE);
        let leaf = page.get(at.checked_sub(1)?)?.leaf;
        (leaf != NONE).then_some(leaf)
    }

    /// Notes that the elements from `from` to before `to` are in `leaf`.
    #[inline]
    pub(crate) fn assign(&mut self, from: Elem, to: Elem, leaf: u32) {
        // New elements are the next ones.
        if from < self.len {
            self.assign_again(from, to.min(self.len), leaf);
        }
        if to > self.len {
            self.append(from.max(self.len), to, leaf);
        }
    }

    #[inline]
    fn append(&mut self, from: Elem, to: Elem, leaf: u32) {
        if from > self.len {
            self.extend(from, NONE);
        }
        self.extend(to, leaf);
    }

    /// Covers the elements up to `to`, which are in `leaf`.
    #[inline]
    fn extend(&mut self, to: Elem, leaf: u32) {
        let mut at = self.len;
        if let Some(page) = self.pages.last_mut()
            && !at.is_multiple_of(PAGE)
        {
            if page.last().is_none_or(|last| last.leaf != leaf) {
                page.push(Piece {
                    at: at % PAGE,
                    leaf,
                });
            }
            at = at.next_multiple_of(PAGE);
        }
        while at < to {
            self.pages.push(vec![Piece { at: 0, leaf }]);
            at += PAGE;
        }
        self.len = to;
    }

    fn assign_again(&mut self, from: Elem, to: Elem, leaf: u32) {
        let mut at = from;
        while at < to {
            let page = at / PAGE;
            let end = to.min((page + 1) * PAGE) - page * PAGE;
            let covered = (self.len - page * PAGE).min(PAGE);
            let pieces = &mut self.pages[page as usize];
            assign_in(pieces, covered, at % PAGE, end, leaf);
            at = page * PAGE + end;
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.pages.capacity() * size_of::<Vec<Piece>>()
            + self
                .pages
                .iter()
                .map(|page| page.capacity() * size_of::<Piece>())
                .sum::<usize>()
    }
}

/// Gives the elements from `from` to before `to` of a page that covers `covered` to `leaf`.
fn assign_in(page: &mut Vec<Piece>, covered: u32, from: u32, to: u32, leaf: u32) {
    let first = page.partition_point(|piece| piece.at <= from) - 1;
    let end_of = |page: &[Piece], at: usize| page.get(at + 1).map_or(covered, |piece| piece.at);
    if page[first].leaf == leaf && end_of(page, first) >= to {
        return;
    }
    let mut last = first;
    while end_of(page, last) < to {
        last += 1;
    }
    let (before, after) = (page[first], page[last]);
    let tail = end_of(page, last) > to;
    let mut put = [Piece { at: 0, leaf: 0 }; 3];
    let mut count = 0;
    let mut push = |piece: Piece| {
        if count == 0 || put[count - 1].leaf != piece.leaf {
            put[count] = piece;
            count += 1;
        }
    };
    if before.at < from {
        push(before);
    }
    push(Piece { at: from, leaf });
    if tail {
        push(Piece {
            at: to,
            leaf: after.leaf,
        });
    }
    let (mut start, mut stop) = (first, last + 1);
    let mut put = &put[..count];
    if start > 0 && page[start - 1].leaf == put[0].leaf {
        put = &put[1..];
    }
    if put
        .last()
        .is_some_and(|piece| page.get(stop).is_some_and(|next| next.leaf == piece.leaf))
        || put.is_empty()
            && page
                .get(stop)
                .is_some_and(|next| next.leaf == page[start - 1].leaf)
    {
        stop += 1;
    }
    // Most changes replace as many pieces as they remove.
    while let Some((piece, rest)) = put.split_first() {
        if start == stop {
            break;
        }
        page[start] = *piece;
        start += 1;
        put = rest;
    }
    page.splice(start..stop, put.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_element_is_where_it_was_last_put(
            puts in prop::collection::vec((0_u32..900, 1_u32..300, 0_u32..5), 1..60),
        ) {
            let mut places = Places::default();
            let mut plain = vec![NONE; 1300];
            for (from, len, leaf) in puts {
                places.assign(from, from + len, leaf);
                plain[from as usize..(from + len) as usize].fill(leaf);
                for page in &places.pages {
                    for pair in page.windows(2) {
                        prop_assert!(pair[0].at < pair[1].at && pair[0].leaf != pair[1].leaf);
                    }
                }
            }
            for (elem, leaf) in plain.iter().enumerate() {
                prop_assert_eq!(places.leaf(elem as u32).unwrap_or(NONE), *leaf);
            }
        }
    }
}
