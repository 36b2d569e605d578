//! Envelopes: only what was sealed is opened; and what is inside may be anything.
#![no_main]

use std::sync::Arc;

use siltstone_ledger::Block;
use siltstone_ledger::car::Seal;
use siltstone_ledger::crypto::{KeyRing, SeededEntropy};
use siltstone_storage::SeededRng;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let ring = KeyRing::generate(&SeededEntropy(SeededRng::new(1)));
    assert!(ring.open_envelope(&"fuzz", data).is_err());
    let mut ours = vec![1];
    ours.extend(ring.current().0);
    ours.extend(data);
    assert!(ring.open_envelope(&"fuzz", &ours).is_err());
    let sealer = ring.sealer(Arc::new(SeededEntropy(SeededRng::new(2))));
    let block = Block::dag_cbor(data.to_vec());
    let sealed = sealer.seal(&block).expect("it is small");
    assert_eq!(
        ring.open_block(&block.cid, &sealed.bytes)
            .expect("it was sealed"),
        block
    );
});
