//! Archives: the same from memory and from a stream, and every block of them as each kind of block.
#![no_main]

use bytes::Bytes;
use siltstone_ledger::car::{CarIndex, CarStream, Frames, IndexPage};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let streamed = CarStream::new(data).and_then(|frames| frames.collect::<Result<Vec<_>, _>>());
    let walked = Frames::new(bytes).and_then(|frames| frames.collect::<Result<Vec<_>, _>>());
    assert_eq!(streamed.is_ok(), walked.is_ok());
    let Ok(frames) = walked else { return };
    assert_eq!(streamed.expect("as the other"), frames);
    for frame in frames {
        let _ = frame.block.check();
        if let Ok(index) = CarIndex::decode(&frame.block.bytes) {
            for location in index.entries().chain(index.pages()) {
                index.lookup(&location.cid);
            }
        }
        if let Ok(page) = IndexPage::decode(frame.block.bytes) {
            for location in page.entries() {
                page.lookup(&location.cid).expect("an entry is found");
            }
        }
    }
});
