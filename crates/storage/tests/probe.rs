//! The probe tells a store that honours put-if-absent from one that does not.

use siltstone_storage::{Blobs, Error, MemBlobs, SeededRng, probe_put_if_absent};

#[test]
fn an_honest_store_passes_and_keeps_nothing() {
    let store = MemBlobs::bucket();
    for seed in 0..3 {
        probe_put_if_absent(&store, &SeededRng::new(seed)).unwrap();
    }
    assert_eq!(store.list("").unwrap(), []);
}

#[test]
fn a_taken_probe_name_is_told() {
    let store = MemBlobs::bucket();
    let rng = SeededRng::new(1);
    let name = {
        use siltstone_storage::Rng;
        format!("probe/{:016x}{:016x}", rng.next(), rng.next())
    };
    store.put(&name, b"x").unwrap();
    let refused = probe_put_if_absent(&store, &SeededRng::new(1));
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}
