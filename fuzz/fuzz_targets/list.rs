//! Encoded lists and texts, with a checksum that matches: refused, or sound.
#![no_main]

use siltstone_list::{List, PackedText, Session, Text};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut bytes = b"SLT\x01".to_vec();
    bytes.extend_from_slice(data);
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes) as u32;
    bytes.extend_from_slice(&sum.to_le_bytes());
    let _ = PackedText::new(bytes.as_slice());
    if let Ok(text) = Text::decode(&bytes, Session::new("fuzzer", 1)) {
        text.check().expect("a text that was taken in is sound");
    }
    let mut list = List::new(Session::new("fuzzer", 1));
    list.append("before".into()).expect("there is room");
    if list.apply(&bytes).is_ok() {
        list.check().expect("a list that was taken in is sound");
        let again = list.encode().expect("it has its history");
        List::decode(&again, Session::new("fuzzer", 2)).expect("what was encoded is decoded");
    }
});
