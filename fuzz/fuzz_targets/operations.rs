//! A run of operations beside a model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| siltstone_kv::fuzzing::operations(data));
