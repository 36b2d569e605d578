//! A blocked bloom filter: all bits of a key in one cache line, so a probe costs one memory access.
//! (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007.)
//!
//! Layout: lines of 64 bytes, then one byte for the number of probes. At 12 bits a key about one
//! absent key in two hundred is taken for present; no present key is ever taken for absent.

use bytes::Bytes;

const LINE: usize = 64;
const LINE_BITS: u64 = LINE as u64 * 8;

/// The hash by which keys enter filters. Part of the file format.
#[inline]
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// Builds the filter over `hashes` with `bits` bits a key.
pub(crate) fn build(hashes: &[u64], bits: u8) -> Vec<u8> {
    let wanted = hashes.len() as u64 * u64::from(bits);
    let lines = wanted.div_ceil(LINE_BITS).max(1);
    // ln 2 times the bits a key gives the fewest false positives; blocking favours a little less.
    let probes = (f64::from(bits) * 0.6).round().clamp(1.0, 12.0) as u8;
    let mut filter = vec![0; lines as usize * LINE + 1];
    for hash in hashes {
        let start = line_of(*hash, lines) * LINE;
        let line = &mut filter[start..start + LINE];
        for bit in bits_of(*hash, probes) {
            line[bit / 8] |= 1 << (bit % 8);
        }
    }
    *filter.last_mut().expect("it has at least one byte") = probes;
    filter
}

/// A filter read from a table.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    bits: Bytes,
    lines: u64,
    probes: u8,
}

impl Filter {
    /// Checks the shape of a filter.
    pub(crate) fn parse(bytes: Bytes) -> Result<Self, &'static str> {
        let lines = bytes.len().saturating_sub(1) / LINE;
        let probes = bytes.last().copied().unwrap_or(0);
        if lines == 0 || bytes.len() != lines * LINE + 1 || !(1..=12).contains(&probes) {
            return Err("a filter of the wrong shape");
        }
        Ok(Self {
            bits: bytes,
            lines: lines as u64,
            probes,
        })
    }

    /// False when the key is certainly not in the table.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let start = line_of(hash, self.lines) * LINE;
        let line = &self.bits[start..start + LINE];
        bits_of(hash, self.probes).all(|bit| line[bit / 8] & 1 << (bit % 8) != 0)
    }

    pub(crate) fn weight(&self) -> usize {
        self.bits.len()
    }
}

#[inline(always)]
fn line_of(hash: u64, lines: u64) -> usize {
    ((u128::from(hash) * u128::from(lines)) >> 64) as usize
}

#[inline(always)]
fn bits_of(hash: u64, probes: u8) -> impl Iterator<Item = usize> {
    // Double hashing within the line, from bits that did not choose the line.
    let mut at = hash as u32;
    let step = (hash.rotate_left(32) as u32).wrapping_mul(0x9e37_79b1) | 1;
    (0..probes).map(move |_| {
        at = at.wrapping_add(step);
        (at >> 23) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn present_keys_are_found_and_absent_ones_mostly_not() {
        for (bits, worst) in [(10, 0.015), (12, 0.006), (16, 0.003), (6, 0.08)] {
            let hashes: Vec<u64> = (0..100_000u64).map(|n| hash(&n.to_be_bytes())).collect();
            let filter = Filter::parse(Bytes::from(build(&hashes, bits))).unwrap();
            assert!(hashes.iter().all(|h| filter.may_contain(*h)));
            let wrong = (100_000..200_000u64)
                .filter(|n| filter.may_contain(hash(&n.to_be_bytes())))
                .count();
            let rate = wrong as f64 / 100_000.0;
            assert!(rate < worst, "{bits} bits a key: {rate}");
        }
    }

    #[test]
    fn filters_of_the_wrong_shape_are_refused() {
        for bytes in [vec![], vec![0; 64], vec![0; 65], vec![13; 65], vec![3; 66]] {
            assert!(Filter::parse(Bytes::from(bytes)).is_err());
        }
    }
}
