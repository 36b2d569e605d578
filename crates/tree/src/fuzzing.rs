//! What the fuzz targets in `fuzz/` call: each takes any bytes and must come back, with an answer or
//! with a typed error. Not part of the crate's interface, and not in a build without the feature
//! `fuzzing`.
#![allow(missing_docs, reason = "a panic is what a fuzzer looks for")]

use crate::assemble::Assembler;
use crate::key;
use crate::path::{Path, Pattern};
use crate::row;

/// A key names one path, and the path has one key.
pub fn keys(data: &[u8]) {
    if let Some(path) = key::decode(data) {
        assert_eq!(key::encode(&path), data, "{path} has two keys");
    }
}

/// Rows of any length, in any order, are a value or damage.
pub fn rows(mut data: &[u8]) {
    let mut assembler = Assembler::new(0);
    while let [key_len, row_len, rest @ ..] = data {
        let (key_len, row_len) = (usize::from(*key_len), usize::from(*row_len));
        if rest.len() < key_len + row_len {
            break;
        }
        let (key, rest) = rest.split_at(key_len);
        let (row, rest) = rest.split_at(row_len);
        let _ = row::decode(row);
        if assembler.feed(key, row).is_err() {
            return;
        }
        data = rest;
    }
    if let Some(value) = assembler.finish() {
        let _ = value.to_json();
    }
}

/// A path or a pattern that is understood is written so that it is understood again.
pub fn paths(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(path) = Path::parse(text) {
        assert_eq!(Path::parse(&path.to_string()).as_ref().ok(), Some(&path));
        assert_eq!(key::decode(&key::encode(&path)).as_ref(), Some(&path));
    }
    if let Ok(pattern) = Pattern::parse(text) {
        let again = Pattern::parse(&pattern.to_string());
        assert_eq!(again.ok(), Some(pattern));
    }
    if let Ok(path) = Path::from_pointer(text) {
        let _ = path.to_pointer();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_bytes_come_back(data in prop::collection::vec(any::<u8>(), 0..120)) {
            super::keys(&data);
            super::rows(&data);
            super::paths(&data);
        }

        #[test]
        fn small_bytes_come_back(data in prop::collection::vec(0_u8..16, 0..120)) {
            super::keys(&data);
            super::rows(&data);
        }

        #[test]
        fn texts_like_paths_come_back(text in "[a-c.'\\[\\]{}()*0-9/~\\\\ -]{0,24}") {
            super::paths(text.as_bytes());
        }
    }
}
