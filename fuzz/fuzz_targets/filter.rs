//! A filter.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| siltstone_kv::fuzzing::filter(data));
