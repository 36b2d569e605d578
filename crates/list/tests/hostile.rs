//! Bytes that somebody made up: with a checksum that matches, so that every decoder sees them. They are
//! refused with an error or make a list that is sound; nothing panics.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use fastrand::Rng;
use serde_json::json;
use siltstone_list::{Frontier, List, Session, Text};

fn seal(mut body: Vec<u8>) -> Vec<u8> {
    let sum = xxhash_rust::xxh3::xxh3_64(&body) as u32;
    body.extend_from_slice(&sum.to_le_bytes());
    body
}

/// Small enough that nothing is compressed, and with every kind of operation.
fn small_list(rng: &mut Rng) -> (List, Vec<u8>) {
    let (mut a, mut b) = (
        List::new(Session::new("a", 1)),
        List::new(Session::new("b", 2)),
    );
    let mut before = Frontier::new();
    for step in 0..rng.u32(1..8) {
        let len = a.len();
        match rng.u32(..6) {
            0 if len > 1 => a.delete(0..1).unwrap(),
            1 if len > 1 => a.move_to(0, len - 1).unwrap(),
            2 if len > 0 => a.set(0, json!(step)).unwrap(),
            3 => a.prepend(json!([step])).unwrap(),
            4 => {
                b.apply(&a.missing_since(&b.frontier()).unwrap()).unwrap();
                b.insert(0, json!("b")).unwrap();
                before = a.frontier();
                a.apply(&b.missing_since(&a.frontier()).unwrap()).unwrap();
            }
            _ => a.append(json!(step)).unwrap(),
        }
    }
    let update = a.updates_since(&before).unwrap();
    (a, update)
}

fn try_list(bytes: &[u8], onto: Option<&List>) {
    let mut list = onto
        .cloned()
        .unwrap_or_else(|| List::new(Session::new("reader", 3)));
    if list.apply(bytes).is_ok() {
        list.check().unwrap();
        let copy = List::decode(&list.encode().unwrap(), Session::new("again", 4)).unwrap();
        // Two different transactions under one name are told apart only where their sizes differ;
        // what waits may then be taken up where it was not.
        if list.pending().is_empty() {
            assert_eq!(copy.to_vec(), list.to_vec());
        }
        list.append(json!("mine")).unwrap();
        list.check().unwrap();
    } else {
        // What was taken in before the error is sound.
        list.check().unwrap();
    }
    if let Ok(packed) = siltstone_list::PackedList::new(bytes) {
        let _ = packed.open(Session::new("packed", 1));
    }
}

#[test]
fn s16_made_up_bytes_are_refused_or_make_a_sound_list() {
    let rounds = std::env::var("SILTSTONE_LIST_STEPS").map_or(300, |steps| steps.parse().unwrap());
    for seed in 0..rounds {
        let mut rng = Rng::with_seed(seed);
        let (list, update) = small_list(&mut rng);
        for bytes in [list.encode().unwrap(), update] {
            let body = &bytes[..bytes.len() - 4];
            for _ in 0..60 {
                let mut forged = body.to_vec();
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(4..forged.len());
                    match rng.u32(..4) {
                        0 => forged[at] = rng.u8(..),
                        1 => forged[at] ^= 1 << rng.u32(..8),
                        2 => drop(forged.splice(at..at, [rng.u8(..)])),
                        _ => drop(forged.remove(at)),
                    }
                    if forged.len() < 6 {
                        break;
                    }
                }
                let forged = seal(forged);
                try_list(&forged, None);
                try_list(&forged, Some(&list));
            }
        }
    }
}

#[test]
fn any_bytes_behind_a_header_are_refused_or_make_a_sound_text() {
    let mut rng = Rng::with_seed(5);
    for _ in 0..20_000 {
        let mut body = b"SLT\x01".to_vec();
        body.push(*rng.choice(&[0x21, 0x22, 0x2a, 0x12]).unwrap());
        body.extend(
            (0..rng.usize(..60)).map(|_| if rng.bool() { rng.u8(..4) } else { rng.u8(..) }),
        );
        if let Ok(text) = Text::decode(&seal(body), Session::new("reader", 1)) {
            text.check().unwrap();
        }
    }
}
