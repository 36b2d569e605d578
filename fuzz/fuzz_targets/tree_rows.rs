//! Rows of a document tree, put together.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| siltstone_tree::fuzzing::rows(data));
