//! A blocked bloom filter: all bits of a key in one cache line, so a probe costs one memory access.
//! (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007.)
//!
//! A filter is lines of 64 bytes. At 12 bits a key about one absent key in two hundred is taken for
//! present; no present key is ever taken for absent. In a table it stands in sections of 64 lines,
//! each a frame, and a head behind them, so that one that is not in memory is asked by reading 4 KiB
//! of it. Before version 2 of the format it was one frame: the lines, then the number of probes.

use crate::prefetch::prefetch;
use crate::sst::frame::{self, TRAILER};
use crate::sst::writer::Handle;
use bytes::Bytes;

const LINE: usize = 64;
const LINE_BITS: u64 = LINE as u64 * 8;
/// Lines of a section.
const SECTION: u64 = 64;
/// Lines, probes, lines of a section.
const HEAD: usize = 8 + 1 + 4;

/// The hash by which keys enter filters. Part of the file format.
#[inline]
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// Builds the filter over `hashes` with `bits` bits a key.
pub(crate) fn build(hashes: &[u64], bits: u8) -> Filter {
    let wanted = hashes.len() as u64 * u64::from(bits);
    let lines = wanted.div_ceil(LINE_BITS).max(1);
    // ln 2 times the bits a key gives the fewest false positives; blocking favours a little less.
    let probes = (f64::from(bits) * 0.6).round().clamp(1.0, 12.0) as u8;
    let mut filter = vec![Line([0; LINE]); lines as usize];
    for hash in hashes {
        let line = &mut filter[line_of(*hash, lines)].0;
        for bit in bits_of(*hash, probes) {
            line[bit / 8] |= 1 << (bit % 8);
        }
    }
    Filter {
        lines: filter.into(),
        probes,
    }
}

/// A line of a filter, which in memory is one of the processor's cache too.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u8; LINE]);

fn lines_of(bytes: &[u8]) -> impl Iterator<Item = Line> {
    bytes.as_chunks().0.iter().map(|line| Line(*line))
}

/// A whole filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    lines: Box<[Line]>,
    probes: u8,
}

impl Filter {
    /// A filter as tables of version 1 hold it.
    pub(crate) fn parse(bytes: Bytes) -> Result<Self, &'static str> {
        let lines = bytes.len().saturating_sub(1) / LINE;
        let probes = bytes.last().copied().unwrap_or(0);
        if lines == 0 || bytes.len() != lines * LINE + 1 || !(1..=12).contains(&probes) {
            return Err("a filter of the wrong shape");
        }
        Ok(Self {
            lines: lines_of(&bytes[..lines * LINE]).collect(),
            probes,
        })
    }

    /// The frames' contents, in order.
    pub(crate) fn sections(&self) -> impl Iterator<Item = Vec<u8>> {
        let sections = self.lines.chunks(SECTION as usize);
        sections.map(|lines| lines.iter().flat_map(|line| line.0).collect())
    }

    /// What stands behind the sections.
    pub(crate) fn head(&self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&(self.lines.len() as u64).to_le_bytes());
        head[8] = self.probes;
        head[9..].copy_from_slice(&(SECTION as u32).to_le_bytes());
        head
    }

    /// False when the key is certainly not in the table.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        has_bits(&self.line(hash).0, hash, self.probes)
    }

    /// Fetches what [`Filter::may_contain`] will look at.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(self.line(hash));
    }

    #[inline(always)]
    fn line(&self, hash: u64) -> &Line {
        &self.lines[line_of(hash, self.lines.len() as u64)]
    }

    pub(crate) fn weight(&self) -> usize {
        size_of_val(&*self.lines)
    }
}

/// Where a filter's sections are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sections {
    /// Where the first one starts in the file.
    at: u64,
    lines: u64,
    probes: u8,
    lines_each: u64,
}

impl Sections {
    /// Bytes of the head's frame, which is the filter's last.
    pub(crate) const HEAD_FRAME: u64 = (HEAD + TRAILER) as u64;

    /// The sections of a filter of `len` bytes that starts at `at`, by its head.
    pub(crate) fn parse(head: &[u8], at: u64, len: u64) -> Result<Self, &'static str> {
        const WRONG: &str = "a filter of the wrong shape";
        let head: &[u8; HEAD] = head.try_into().map_err(|_| WRONG)?;
        let sections = Self {
            at,
            lines: u64::from_le_bytes(head[..8].try_into().expect("eight bytes")),
            probes: head[8],
            lines_each: u32::from_le_bytes(head[9..].try_into().expect("four bytes")).into(),
        };
        if sections.lines == 0 || sections.lines_each == 0 || !(1..=12).contains(&sections.probes) {
            return Err(WRONG);
        }
        let bits = sections.lines.checked_mul(LINE as u64);
        let trailers = sections.lines.div_ceil(sections.lines_each) * TRAILER as u64;
        let whole = bits.and_then(|bits| bits.checked_add(trailers + Self::HEAD_FRAME));
        match whole == Some(len) {
            true => Ok(sections),
            false => Err(WRONG),
        }
    }

    /// The section that knows about a key.
    pub(crate) fn of(&self, hash: u64) -> Handle {
        self.section(line_of(hash, self.lines) as u64 / self.lines_each)
    }

    fn section(&self, number: u64) -> Handle {
        let lines = self.lines_each.min(self.lines - number * self.lines_each);
        Handle {
            at: self.at + number * (self.lines_each * LINE as u64 + TRAILER as u64),
            len: lines as usize * LINE + TRAILER,
        }
    }

    /// False when the key is certainly not in the table, by its `section`.
    pub(crate) fn may_contain(&self, section: &[u8], hash: u64) -> Result<bool, &'static str> {
        let start = (line_of(hash, self.lines) % self.lines_each as usize) * LINE;
        let line = section.get(start..start + LINE);
        let line = line.ok_or("a section of a filter that is too short")?;
        Ok(has_bits(line, hash, self.probes))
    }

    /// The whole filter, from all bytes of it in the file.
    pub(crate) fn all(&self, region: &Bytes) -> Result<Filter, &'static str> {
        let mut lines = Vec::with_capacity(self.lines as usize);
        for number in 0..self.lines.div_ceil(self.lines_each) {
            let handle = self.section(number);
            let from = (handle.at - self.at) as usize;
            let section = frame::open(region.slice(from..from + handle.len))?;
            if section.len() + TRAILER != handle.len {
                return Err("a section of a filter of the wrong length");
            }
            lines.extend(lines_of(&section));
        }
        Ok(Filter {
            lines: lines.into(),
            probes: self.probes,
        })
    }
}

#[inline(always)]
fn has_bits(line: &[u8], hash: u64, probes: u8) -> bool {
    bits_of(hash, probes).all(|bit| line[bit / 8] & 1 << (bit % 8) != 0)
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
    use crate::options::Compression;
    use crate::sst::frame::Sealer;

    #[test]
    fn present_keys_are_found_and_absent_ones_mostly_not() {
        for (bits, worst) in [(10, 0.015), (12, 0.006), (16, 0.003), (6, 0.08)] {
            let hashes: Vec<u64> = (0..100_000u64).map(|n| hash(&n.to_be_bytes())).collect();
            let filter = build(&hashes, bits);
            assert!(hashes.iter().all(|h| filter.may_contain(*h)));
            let wrong = (100_000..200_000u64)
                .filter(|n| filter.may_contain(hash(&n.to_be_bytes())))
                .count();
            let rate = wrong as f64 / 100_000.0;
            assert!(rate < worst, "{bits} bits a key: {rate}");
        }
    }

    /// A filter as it stands in a file, from `at` on.
    fn written(filter: &Filter, at: usize) -> Vec<u8> {
        let mut sealer = Sealer::new(Compression::None);
        let mut file = vec![0; at];
        for section in filter.sections() {
            sealer.seal(&section, &mut file);
        }
        sealer.seal(&filter.head(), &mut file);
        file
    }

    fn read(file: &[u8], handle: Handle) -> Result<Bytes, &'static str> {
        let at = handle.at as usize;
        let bytes = file.get(at..at + handle.len).ok_or("beyond the end")?;
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn region(file: &[u8], at: usize) -> Bytes {
        Bytes::copy_from_slice(&file[at..])
    }

    fn sections_of(file: &[u8], at: usize) -> Result<Sections, &'static str> {
        let head = file.len() - Sections::HEAD_FRAME as usize;
        let head = frame::open(Bytes::copy_from_slice(&file[head..]))?;
        Sections::parse(&head, at as u64, (file.len() - at) as u64)
    }

    #[test]
    fn a_section_answers_as_the_whole_does() {
        // One line, a section less one line, a whole one, one line more, and many.
        for keys in [1, 63 * 42, 64 * 42, 65 * 42, 50_000u64] {
            let hashes: Vec<u64> = (0..keys).map(|n| hash(&n.to_be_bytes())).collect();
            let filter = build(&hashes, 12);
            let file = written(&filter, 100);
            let sections = sections_of(&file, 100).unwrap();
            let whole = sections.all(&region(&file, 100)).unwrap();
            assert!(whole.sections().eq(filter.sections()));
            for n in 0..keys + 1000 {
                let hash = hash(&n.to_be_bytes());
                let section = frame::open(read(&file, sections.of(hash)).unwrap()).unwrap();
                let expected = filter.may_contain(hash);
                assert_eq!(sections.may_contain(&section, hash), Ok(expected));
                assert_eq!(whole.may_contain(hash), expected);
            }
        }
    }

    #[test]
    fn sections_of_the_wrong_shape_are_refused() {
        let hashes: Vec<u64> = (0..10_000u64).map(|n| hash(&n.to_be_bytes())).collect();
        let filter = build(&hashes, 12);
        let file = written(&filter, 0);
        let len = file.len() as u64;
        let head = filter.head();
        assert!(Sections::parse(&head, 0, len).is_ok());
        assert!(Sections::parse(&head, 0, len + 1).is_err());
        assert!(Sections::parse(&head[1..], 0, len).is_err());
        for (from, value) in [(0, [0; 8]), (0, [255; 8])] {
            let mut head = head;
            head[from..from + 8].copy_from_slice(&value);
            assert!(Sections::parse(&head, 0, len).is_err());
        }
        for (at, value) in [(8, 0), (8, 13), (9, 16)] {
            let mut head = head;
            head[at] = value;
            assert!(Sections::parse(&head, 0, len).is_err(), "{at} {value}");
        }
        let mut head = head;
        head[9..].fill(0);
        assert!(Sections::parse(&head, 0, len).is_err());
        // A byte of any section changed is found.
        let sections = sections_of(&file, 0).unwrap();
        for at in (0..file.len() - Sections::HEAD_FRAME as usize).step_by(1001) {
            let mut file = file.clone();
            file[at] ^= 1;
            assert!(sections.all(&region(&file, 0)).is_err());
        }
    }

    #[test]
    fn filters_of_the_wrong_shape_are_refused() {
        for bytes in [vec![], vec![0; 64], vec![0; 65], vec![13; 65], vec![3; 66]] {
            assert!(Filter::parse(Bytes::from(bytes)).is_err());
        }
    }
}
