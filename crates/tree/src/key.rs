//! Paths as keys: sorted as paths are, and a node's key is a prefix of the keys of everything below
//! it and of nothing else. Pure; decoding never panics.
//!
//! A key is a byte that says what it is of, then the steps. A name ends with 0; in it 0 is written
//! 1 1, and 1 is written 1 2. An index is its length in bytes and its bytes, most significant first;
//! a sparse one has 0x80 added to its length, a negative one its complement under 0x7f minus its
//! length.

use crate::path::{Path, Segment};
use std::ops::Bound;

/// The document.
pub(crate) const DATA: u8 = 1;
/// Scopes.
pub(crate) const SCOPE: u8 = 2;
/// Declarations, schemas, names of scopes.
pub(crate) const META: u8 = 0;

/// Longest key, in bytes.
pub(crate) const MAX_KEY: usize = 60_000;

const FIELD: u8 = 0x10;
const INDEX: u8 = 0x20;
const SPARSE: u8 = 0x30;
const KEY: u8 = 0x40;

/// The key of a node of the document.
pub(crate) fn encode(path: &Path) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 + path.depth() * 12);
    key.push(DATA);
    for segment in path.segments() {
        push(&mut key, segment);
    }
    key
}

/// Adds a step to a key.
pub(crate) fn push(key: &mut Vec<u8>, segment: &Segment) {
    match segment {
        Segment::Field(name) => {
            key.push(FIELD);
            push_name(key, name);
        }
        Segment::Index(index) => push_index(key, *index),
        Segment::Sparse(index) => {
            key.push(SPARSE);
            match u64::try_from(*index) {
                Ok(index) => push_number(key, index, |len| 0x80 + len, 0),
                Err(_) => push_number(key, !*index as u64, |len| 0x7f - len, 0xff),
            }
        }
        Segment::Key(name) => {
            key.push(KEY);
            push_name(key, name);
        }
    }
}

/// Adds the step to a field.
pub(crate) fn push_field(key: &mut Vec<u8>, name: &str) {
    key.push(FIELD);
    push_name(key, name);
}

/// Adds the step to an element of a dense array.
pub(crate) fn push_index(key: &mut Vec<u8>, index: u64) {
    key.push(INDEX);
    push_number(key, index, |len| len, 0);
}

/// Adds a name and its end.
pub(crate) fn push_name(key: &mut Vec<u8>, name: &str) {
    if name.bytes().all(|byte| byte > 1) {
        key.extend_from_slice(name.as_bytes());
    } else {
        for byte in name.bytes() {
            match byte {
                0 => key.extend([1, 1]),
                1 => key.extend([1, 2]),
                byte => key.push(byte),
            }
        }
    }
    key.push(0);
}

fn push_number(key: &mut Vec<u8>, number: u64, length: impl Fn(u8) -> u8, mask: u8) {
    let bytes = number.to_be_bytes();
    let zeros = number.leading_zeros() as usize / 8;
    let significant = &bytes[zeros..];
    key.push(length(significant.len() as u8));
    key.extend(significant.iter().map(|byte| byte ^ mask));
}

/// The path of a node's key; `None` when the bytes are no key of a node.
pub(crate) fn decode(key: &[u8]) -> Option<Path> {
    let (DATA, mut rest) = key.split_first().map(|(kind, rest)| (*kind, rest))? else {
        return None;
    };
    let mut segments = Vec::new();
    while !rest.is_empty() {
        let (segment, len) = step(rest)?;
        segments.push(segment);
        rest = &rest[len..];
    }
    Some(segments.into())
}

/// The first step of `bytes`, and its length.
pub(crate) fn step(bytes: &[u8]) -> Option<(Segment, usize)> {
    let (kind, rest) = bytes.split_first()?;
    let (segment, len) = match *kind {
        FIELD => name(rest).map(|(name, len)| (Segment::Field(name), len))?,
        KEY => name(rest).map(|(name, len)| (Segment::Key(name), len))?,
        INDEX => {
            let len = usize::from(*rest.first()?);
            (Segment::Index(number(rest, len, 0)?), len + 1)
        }
        SPARSE => match *rest.first()? {
            first @ 0x80..=0xff => {
                let len = usize::from(first - 0x80);
                let index = i64::try_from(number(rest, len, 0)?).ok()?;
                (Segment::Sparse(index), len + 1)
            }
            first => {
                let len = usize::from(0x7f - first);
                let index = i64::try_from(number(rest, len, 0xff)?).ok()?;
                (Segment::Sparse(!index), len + 1)
            }
        },
        _ => return None,
    };
    Some((segment, len + 1))
}

/// Length of the first step of `bytes`, without making it.
pub(crate) fn step_len(bytes: &[u8]) -> Option<usize> {
    let (kind, rest) = bytes.split_first()?;
    let len = match *kind {
        FIELD | KEY => rest.iter().position(|byte| *byte == 0)? + 1,
        INDEX => usize::from(*rest.first()?) + 1,
        SPARSE => match *rest.first()? {
            first @ 0x80..=0xff => usize::from(first - 0x80) + 1,
            first => usize::from(0x7f - first) + 1,
        },
        _ => return None,
    };
    (len <= rest.len()).then_some(len + 1)
}

/// Where the last step of a node's key starts.
pub(crate) fn last_step(key: &[u8]) -> usize {
    let mut at = 1;
    while let Some(len) = key.get(at..).and_then(step_len)
        && at + len < key.len()
    {
        at += len;
    }
    at
}

/// A name and the length of what it is written as, its end included.
pub(crate) fn name(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let written = &bytes[..end];
    if written.iter().all(|byte| *byte != 1) {
        return Some((std::str::from_utf8(written).ok()?.to_string(), end + 1));
    }
    let mut name = Vec::with_capacity(end);
    let mut rest = written.iter();
    while let Some(byte) = rest.next() {
        name.push(match *byte {
            1 => match rest.next()? {
                1 => 0,
                2 => 1,
                _ => return None,
            },
            byte => byte,
        });
    }
    Some((String::from_utf8(name).ok()?, end + 1))
}

/// The number of `len` bytes after the first byte of `bytes`; only the shortest form is one.
fn number(bytes: &[u8], len: usize, mask: u8) -> Option<u64> {
    let written = bytes.get(1..1 + len)?;
    if len > 8 || written.first().is_some_and(|first| *first == mask) {
        return None;
    }
    let fold = |number: u64, byte: &u8| number << 8 | u64::from(byte ^ mask);
    Some(written.iter().fold(0, fold))
}

/// The keys from `start` to `end`, excluded, for a map.
pub(crate) fn range<'k>(start: &'k [u8], end: &'k [u8]) -> (Bound<&'k [u8]>, Bound<&'k [u8]>) {
    (Bound::Included(start), Bound::Excluded(end))
}

/// The key after everything that starts with `prefix`, which starts with a byte below 0xff.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[a-c]{0,2}",
            prop::collection::vec(
                prop::sample::select(vec!['\0', '\u{1}', '\u{2}', 'a', 'ü', '\u{10ffff}']),
                0..4
            )
            .prop_map(String::from_iter),
        ]
    }

    pub(crate) fn segments() -> impl Strategy<Value = Segment> {
        prop_oneof![
            names().prop_map(Segment::Field),
            names().prop_map(Segment::Key),
            any::<u64>().prop_map(Segment::Index),
            (0u64..300).prop_map(Segment::Index),
            any::<i64>().prop_map(Segment::Sparse),
            (-300i64..300).prop_map(Segment::Sparse),
            prop::sample::select(vec![i64::MIN, i64::MAX, -1, 0, 255, 256, -256, -257])
                .prop_map(Segment::Sparse),
        ]
    }

    fn paths() -> impl Strategy<Value = Path> {
        prop::collection::vec(segments(), 0..5).prop_map(Path::from)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn s01_a_path_is_read_as_it_was_printed_and_encoded(path in paths()) {
            prop_assert_eq!(Path::parse(&path.to_string()).unwrap(), path.clone());
            let key = encode(&path);
            prop_assert_eq!(decode(&key), Some(path.clone()));
            let mut at = 1;
            let mut steps = 0;
            while at < key.len() {
                at += step_len(&key[at..]).unwrap();
                steps += 1;
            }
            prop_assert_eq!((at, steps), (key.len(), path.depth()));
        }

        #[test]
        fn s01_keys_sort_as_paths_and_prefixes_are_ancestors(a in paths(), b in paths(), below in paths()) {
            let (x, y) = (encode(&a), encode(&b));
            prop_assert_eq!(a.cmp(&b), x.cmp(&y));
            prop_assert_eq!(a.contains(&b), y.starts_with(&x));
            let longer = encode(&a.join(&below));
            prop_assert!(longer.starts_with(&x) && longer < end_of(&x));
            prop_assert!(x.starts_with(&y) || y.starts_with(&x) || (y < end_of(&x)) == (y < x));
        }

        #[test]
        fn s01_any_bytes_are_a_path_or_none_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            if let Some(path) = decode(&bytes) {
                prop_assert_eq!(encode(&path), bytes);
            }
        }

        #[test]
        fn s01_mangled_keys_are_a_path_or_none_and_never_a_panic(path in paths(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut key = encode(&path);
            let place = at.index(key.len());
            key[place] = byte;
            key.truncate(cut.index(key.len() + 1));
            if let Some(path) = decode(&key) {
                prop_assert_eq!(encode(&path), key.clone());
            }
            let _ = step_len(&key);
        }

        #[test]
        fn s01_any_text_is_a_path_or_an_error_and_never_a_panic(text in any::<String>(), rough in "[a-b.\\[\\]{}()'\"*0-9\\\\-]{0,12}") {
            for text in [text, rough] {
                if let Ok(path) = Path::parse(&text) {
                    prop_assert_eq!(Path::parse(&path.to_string()).unwrap(), path);
                }
            }
        }
    }

    #[test]
    fn s02_siblings_sort_by_kind_and_then_by_number() {
        let sorted = [
            "a",
            "a.b",
            "a.'b\u{1}'",
            "a.c",
            "a[0]",
            "a[1]",
            "a[2]",
            "a[10]",
            "a[256]",
            "a{-300}",
            "a{-3}",
            "a{0}",
            "a{7}",
            "a{300}",
            "a(k)",
            "a(k).x",
            "'a\u{1}'",
            "b",
        ];
        let keys: Vec<_> = sorted
            .iter()
            .map(|text| encode(&Path::parse(text).unwrap()))
            .collect();
        assert!(keys.is_sorted(), "{keys:?}");
    }
}
