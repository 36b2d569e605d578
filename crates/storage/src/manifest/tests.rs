//! One writer at a time, none of its edits lost, whoever comes in between.

use super::*;
use crate::memory::MemBlobs;
use crate::{Blobs, CallKind, Env, FaultPlan, FaultyBlobs};

impl ManifestState for Vec<u8> {
    fn encode(&self) -> Vec<u8> {
        self.clone()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Ok(bytes.to_vec())
    }
}

fn open(blobs: &MemBlobs, role: Role, seed: u64) -> Result<ManifestStore<Vec<u8>>> {
    let (env, _) = Env::simulated(Arc::new(blobs.clone()), seed);
    ManifestStore::open(env, role, Vec::new)
}

fn push(store: &ManifestStore<Vec<u8>>, byte: u8) -> Result<Arc<Numbered<Vec<u8>>>> {
    store.commit(|state| {
        let mut state = state.clone();
        state.push(byte);
        Ok::<_, Error>(state)
    })
}

#[test]
fn an_edit_that_lost_the_race_is_applied_to_what_won() {
    let blobs = MemBlobs::new();
    let writer = open(&blobs, Role::Writer, 1).unwrap();
    let helper = open(&blobs, Role::Helper, 2).unwrap();
    push(&writer, 1).unwrap();
    push(&helper, 2).unwrap();
    push(&writer, 3).unwrap();
    assert_eq!(writer.current().state, [1, 2, 3]);
    assert_eq!(
        open(&blobs, Role::Reader, 3).unwrap().current().state,
        [1, 2, 3]
    );
}

#[test]
fn a_replaced_writer_is_fenced() {
    let blobs = MemBlobs::new();
    let old = open(&blobs, Role::Writer, 1).unwrap();
    let new = open(&blobs, Role::Writer, 2).unwrap();
    assert!(matches!(
        push(&old, 1),
        Err(Error::Fenced { ours: 1, theirs: 2 })
    ));
    push(&new, 2).unwrap();
    assert_eq!(new.current().state, [2]);
}

fn open_alone(blobs: &MemBlobs, seed: u64) -> ManifestStore<Vec<u8>> {
    let (env, _) = Env::simulated(Arc::new(blobs.clone()), seed);
    ManifestStore::open_alone(env, Vec::new).unwrap()
}

#[test]
fn a_writer_alone_has_its_epoch_before_it_is_in_a_manifest() {
    let blobs = MemBlobs::new();
    let first = open_alone(&blobs, 1);
    assert!(!first.owes_charge(), "a first manifest is made at once");
    assert_eq!((first.epoch(), first.current().number), (1, 1));
    push(&first, 1).unwrap();
    let helper = open(&blobs, Role::Helper, 2).unwrap();
    let second = open_alone(&blobs, 3);
    assert!(second.owes_charge());
    assert_eq!((second.epoch(), second.current().epoch), (2, 1));
    assert_eq!(
        blobs.list("manifest/").unwrap().len(),
        2,
        "nothing was written"
    );
    // What a helper edits meanwhile counts.
    push(&helper, 2).unwrap();
    second.take_charge().unwrap();
    assert!(!second.owes_charge());
    assert_eq!(second.current().epoch, 2);
    assert_eq!(push(&second, 3).unwrap().state, [1, 2, 3]);
    assert!(matches!(push(&first, 4), Err(Error::Fenced { .. })));
}

#[test]
fn a_writer_that_is_not_alone_after_all_is_fenced() {
    let blobs = MemBlobs::new();
    open(&blobs, Role::Writer, 1).unwrap();
    let (one, other) = (open_alone(&blobs, 2), open_alone(&blobs, 3));
    one.take_charge().unwrap();
    let fenced = other.take_charge();
    assert!(matches!(fenced, Err(Error::Fenced { ours: 2, theirs: 2 })));
}

#[test]
fn a_writer_overtaken_as_it_opens_keeps_its_own_epoch() {
    let blobs = MemBlobs::new();
    open(&blobs, Role::Writer, 1).unwrap();
    let (env, clock) = Env::simulated(Arc::new(blobs.clone()), 2);
    let faulty = FaultyBlobs::new(env.blobs.clone(), clock, FaultPlan::default());
    let theirs = Arc::new(Mutex::new(None));
    faulty.on_call(Box::new({
        let (blobs, theirs) = (blobs.clone(), theirs.clone());
        let own = manifest_name(2);
        move |call| {
            // Its manifest is there, and it lists the newest.
            if call.kind == CallKind::List && blobs.get(&own).is_ok() {
                let mut theirs = theirs.lock();
                theirs.get_or_insert_with(|| open(&blobs, Role::Writer, 3).unwrap());
            }
        }
    }));
    let env = Env {
        blobs: Arc::new(faulty),
        ..env
    };
    let overtaken = ManifestStore::<Vec<u8>>::open(env, Role::Writer, Vec::new).unwrap();
    assert_eq!(overtaken.epoch(), 2);
    assert_eq!(theirs.lock().as_ref().unwrap().epoch(), 3);
    let fenced = push(&overtaken, 1);
    assert!(matches!(fenced, Err(Error::Fenced { ours: 2, theirs: 3 })));
}

#[test]
fn a_number_that_was_swept_cannot_be_won_again() {
    let blobs = MemBlobs::new();
    let stalled = open(&blobs, Role::Helper, 9);
    assert!(stalled.is_err(), "a helper does not create a database");
    let writer = open(&blobs, Role::Writer, 1).unwrap();
    let stalled = open(&blobs, Role::Helper, 2).unwrap();
    for byte in 0..10 {
        push(&writer, byte).unwrap();
    }
    writer.sweep(&[]).unwrap();
    assert_eq!(blobs.list("manifest/").unwrap().len(), 2);
    let won = push(&stalled, 77).unwrap();
    assert_eq!(won.state, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77]);
    assert_eq!(blobs.list("manifest/").unwrap().len(), 3);
}

#[test]
fn every_flipped_byte_and_every_cut_is_a_typed_error() {
    let bytes = encode(1, 2, 3, &[4, 5], b"body");
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x40;
        assert!(
            decode_manifest::<Vec<u8>>("m", &bad).is_err(),
            "flip at {at}"
        );
        assert!(
            decode_manifest::<Vec<u8>>("m", &bytes[..at]).is_err(),
            "cut at {at}"
        );
    }
    assert_eq!(
        decode_manifest::<Vec<u8>>("m", &bytes).unwrap().state,
        b"body"
    );
}

#[test]
fn the_newest_manifest_is_never_passed_over_for_an_older_one() {
    let blobs = MemBlobs::new();
    let writer = open(&blobs, Role::Writer, 1).unwrap();
    let last = push(&writer, 1).unwrap().number;
    blobs.flip_byte(&manifest_name(last), 50);
    let refused = open(&blobs, Role::Writer, 2).map(|_| ());
    assert!(matches!(refused, Err(Error::Corrupt { name, .. }) if name == manifest_name(last)));
}
