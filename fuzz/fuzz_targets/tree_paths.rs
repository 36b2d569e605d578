//! Paths, patterns and pointers of a document tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| siltstone_tree::fuzzing::paths(data));
