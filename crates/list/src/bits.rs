//! A set of small integers as bits, with ranges set and searched a word at a time.

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub(crate) fn with_len(len: u32) -> Self {
        Self {
            words: vec![0; (len as usize).div_ceil(64)],
        }
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> bool {
        self.words
            .get(at as usize / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    #[inline]
    pub(crate) fn set(&mut self, at: u32) {
        let word = at as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (at % 64);
    }

    pub(crate) fn set_range(&mut self, from: u32, to: u32) {
        if from >= to {
            return;
        }
        let (first, last) = (from as usize / 64, (to - 1) as usize / 64);
        if last >= self.words.len() {
            self.words.resize(last + 1, 0);
        }
        let low = u64::MAX << (from % 64);
        let high = u64::MAX >> (63 - (to - 1) % 64);
        if first == last {
            self.words[first] |= low & high;
            return;
        }
        self.words[first] |= low;
        self.words[first + 1..last].fill(u64::MAX);
        self.words[last] |= high;
    }

    pub(crate) fn clear_range(&mut self, from: u32, to: u32) {
        let (mut at, end) = (from as usize, (to as usize).min(self.words.len() * 64));
        while at < end {
            let next = ((at / 64 + 1) * 64).min(end);
            let mask = (u64::MAX << (at % 64)) & (u64::MAX >> (63 - (next - 1) % 64));
            self.words[at / 64] &= !mask;
            at = next;
        }
    }

    /// Clears every bit that is set in `other`.
    pub(crate) fn clear_all(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// How far the bit at `from` stays as it is: the end of its stretch, at most `end`.
    #[inline]
    pub(crate) fn stretch(&self, from: u32, end: u32) -> u32 {
        let flip = if self.get(from) { u64::MAX } else { 0 };
        let mut word = from as usize / 64;
        let mut left = (self.word(word) ^ flip) & (u64::MAX << (from % 64));
        loop {
            if left != 0 {
                return ((word * 64) as u32 + left.trailing_zeros()).min(end);
            }
            word += 1;
            if word * 64 >= end as usize {
                return end;
            }
            left = self.word(word) ^ flip;
        }
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_and_stretches_are_those_of_a_plain_vector(
            ranges in prop::collection::vec((0_u32..400, 0_u32..200), 0..8),
        ) {
            let mut bits = Bits::default();
            let mut plain = [false; 640];
            for (from, len) in ranges {
                bits.set_range(from, from + len);
                plain[from as usize..(from + len) as usize].fill(true);
            }
            let mut without = bits.clone();
            without.clear_range(70, 333);
            for at in 0..600_u32 {
                prop_assert_eq!(without.get(at), plain[at as usize] && !(70..333).contains(&at));
                prop_assert_eq!(bits.get(at), plain[at as usize]);
                let end = (at..600).find(|&i| plain[i as usize] != plain[at as usize]).unwrap_or(600);
                prop_assert_eq!(bits.stretch(at, 600), end);
            }
        }
    }
}
