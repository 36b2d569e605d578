//! Envelopes and key rings.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use siltstone_ledger::car::{CarIndex, Frames, Header, IndexPage, Lookup, Seal, write_car};
use siltstone_ledger::crypto::{KeyRing, SeededEntropy, SystemEntropy, key_of};
use siltstone_ledger::{Block, Codec, Error};
use siltstone_storage::SeededRng;

fn seeded(seed: u64) -> SeededEntropy<SeededRng> {
    SeededEntropy(SeededRng::new(seed))
}

fn block(text: &str) -> Block {
    Block::dag_cbor(text.as_bytes().to_vec())
}

#[test]
fn s34_old_keys_open_old_blocks_and_the_wrong_key_is_named() {
    let mut ring = KeyRing::generate(&SystemEntropy);
    let old = ring
        .sealer(Arc::new(SystemEntropy))
        .seal(&block("old"))
        .unwrap();
    let first = ring.current();
    let second = ring.rotate(&SystemEntropy).unwrap();
    assert_ne!(first, second);
    let new = ring
        .sealer(Arc::new(SystemEntropy))
        .seal(&block("new"))
        .unwrap();
    assert_eq!(key_of(&"x", &old.bytes).unwrap(), first);
    assert_eq!(key_of(&"x", &new.bytes).unwrap(), second);
    assert_eq!(
        ring.open_block(&block("old").cid, &old.bytes).unwrap(),
        block("old")
    );
    assert_eq!(
        ring.open_block(&block("new").cid, &new.bytes).unwrap(),
        block("new")
    );
    // The address is the hash of what is stored, and tells nothing of what is inside.
    assert_eq!(old.cid.codec(), Codec::RAW);
    old.check().unwrap();
    let again = ring
        .sealer(Arc::new(SystemEntropy))
        .seal(&block("new"))
        .unwrap();
    assert_ne!(again.cid, new.cid);

    let mut other = KeyRing::generate(&SystemEntropy);
    let error = other.open_block(&block("new").cid, &new.bytes).unwrap_err();
    assert!(
        matches!(&error, Error::Undecryptable { key, .. } if *key == second.to_string()),
        "{error}"
    );
    assert!(error.to_string().contains(&second.to_string()));
    other.adopt(&ring).unwrap();
    assert_eq!(other.ids().count(), 3);
    assert_eq!(
        other.open_block(&block("new").cid, &new.bytes).unwrap(),
        block("new")
    );

    let swapped = ring.open_block(&block("old").cid, &new.bytes).unwrap_err();
    assert!(swapped.is_corrupt(), "{swapped}");
}

#[test]
fn s34_a_flip_anywhere_is_found_with_and_without_the_key() {
    let ring = KeyRing::generate(&seeded(1));
    let sealed = ring
        .sealer(Arc::new(seeded(2)))
        .seal(&block("some text"))
        .unwrap();
    for at in 0..sealed.bytes.len() {
        assert!(ring.open_envelope(&"x", &sealed.bytes[..at]).is_err());
        for bit in 0..8 {
            let mut flipped = sealed.bytes.to_vec();
            flipped[at] ^= 1 << bit;
            assert!(!sealed.cid.matches(&flipped));
            let error = ring.open_envelope(&"x", &flipped).unwrap_err();
            match at {
                0 => assert!(error.is_corrupt() || matches!(error, Error::NewerFormat { .. })),
                1..=16 => assert!(matches!(error, Error::Undecryptable { .. })),
                _ => assert!(error.is_corrupt()),
            }
        }
    }
}

#[test]
fn a_sealed_archive_shows_no_plain_address_and_every_block_is_found() {
    let ring = KeyRing::generate(&seeded(1));
    let sealer = ring.sealer(Arc::new(seeded(2)));
    let header = Header {
        heads: vec![block("head").cid],
        ..Header::default()
    };
    for count in [10, 1100] {
        let blocks: Vec<_> = (0..count).map(|n| block(&format!("block {n}"))).collect();
        let (car, reference) = write_car(&header.block(), &blocks, Some(&sealer)).unwrap();
        let car = Bytes::from(car);
        let frames = Frames::new(car.clone()).unwrap();
        let root = frames.roots()[0];
        let frames: Vec<_> = frames.map(|frame| frame.unwrap().block).collect();
        frames.iter().for_each(|block| block.check().unwrap());
        assert!(frames.iter().all(|block| block.cid.codec() == Codec::RAW));
        assert_eq!(frames[0].cid, root);
        let plain = ring.open_envelope(&"x", &frames[0].bytes).unwrap();
        assert_eq!(Header::decode(&plain.cid, &plain.bytes).unwrap(), header);
        for block in &blocks[..10] {
            let digest = block.cid.digest();
            assert!(!car.windows(32).any(|window| window == digest));
        }
        let opened = |offset: u64, end: u64| {
            let envelope = car.slice(offset as usize..end as usize);
            ring.open_envelope(&"x", &envelope).unwrap()
        };
        let index =
            CarIndex::decode(&opened(reference.index_offset, reference.length).bytes).unwrap();
        for block in blocks.iter().step_by(9) {
            let at = match index.lookup(&block.cid) {
                Lookup::At(at) => Some(at),
                Lookup::OnPage(page) => {
                    let end = page.offset + page.length;
                    let page = opened(page.offset.into(), end.into());
                    IndexPage::decode(page.bytes).unwrap().lookup(&block.cid)
                }
                Lookup::Absent => None,
            };
            let at = at.unwrap();
            assert_eq!(
                opened(at.offset.into(), (at.offset + at.length).into()),
                *block
            );
        }
    }
}

#[test]
fn a_seeded_envelope_has_its_golden_address() {
    let ring = KeyRing::generate(&seeded(1));
    assert_eq!(
        ring.current().to_string(),
        "fca8b9733beba6bbd0ffcb18f630cd98"
    );
    let sealed = ring
        .sealer(Arc::new(seeded(2)))
        .seal(&block("some text"))
        .unwrap();
    assert_eq!(
        sealed.cid.to_string(),
        "bafkreiamc4msbnobkznbb5r5hyj2sozqysrjvu3wxd3dds4niamnxsipzm"
    );
}

#[cfg(unix)]
#[test]
fn the_file_of_a_key_ring_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let mut ring = KeyRing::create(&path, &SystemEntropy).unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert!(matches!(
        KeyRing::create(&path, &SystemEntropy),
        Err(Error::KeyRing { .. })
    ));

    let sealed = ring
        .sealer(Arc::new(SystemEntropy))
        .seal(&block("text"))
        .unwrap();
    let mut stale = KeyRing::open(&path).unwrap();
    ring.rotate(&SystemEntropy).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(matches!(
        stale.rotate(&SystemEntropy),
        Err(Error::Stale { .. })
    ));
    assert_eq!(stale.ids().count(), 1);
    let again = KeyRing::open(&path).unwrap();
    assert_eq!(again.current(), ring.current());
    assert_eq!(
        again.ids().collect::<Vec<_>>(),
        ring.ids().collect::<Vec<_>>()
    );
    assert_eq!(
        again.open_envelope(&"x", &sealed.bytes).unwrap(),
        block("text")
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = &text[text.find("\"keys\"").unwrap() + 15..][..20];
    assert!(secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(!format!("{again:?}").contains(secret));

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = KeyRing::open(&path).unwrap_err();
    assert!(error.to_string().contains("640"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();

    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in [
        String::new(),
        text[..text.len() / 2].to_string(),
        text.replace("\"version\": 1", "\"version\": 2"),
        text.replace("\"current\": \"", "\"current\": \"0"),
        text.replacen("    \"", "    \"zz", 1),
    ] {
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(KeyRing::open(&path), Err(Error::KeyRing { .. })));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(KeyRing::open(&path), Err(Error::KeyRing { .. })));
}

proptest! {
    #[test]
    fn s36_hostile_envelopes_are_typed_errors(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let ring = KeyRing::generate(&seeded(1));
        prop_assert!(ring.open_envelope(&"x", &bytes).is_err());
        let mut ours = vec![1];
        ours.extend(ring.current().0);
        ours.extend(&bytes);
        prop_assert!(ring.open_envelope(&"x", &ours).unwrap_err().is_corrupt());
    }
}
