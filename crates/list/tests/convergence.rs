//! Copies that have seen the same transactions are equal, whatever the order they came in.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use fastrand::Rng;
use serde_json::json;
use siltstone_list::{Frontier, List, Session, Text, Value};

/// One random edit, checked against a plain vector.
fn edit(list: &mut List, rng: &mut Rng, next: &mut u64) {
    let mut plain = list.to_vec();
    let len = plain.len();
    *next += 1;
    let value = json!(*next);
    match rng.u32(..100) {
        0..35 => {
            let at = rng.usize(..=len);
            list.insert(at, value.clone()).unwrap();
            plain.insert(at, value);
        }
        35..45 => {
            let at = rng.usize(..=len);
            let count = rng.u64(1..5);
            let values: Vec<Value> = (0..count).map(|i| json!(*next * 1000 + i)).collect();
            list.insert_items(at, values.clone()).unwrap();
            plain.splice(at..at, values);
        }
        45..55 => {
            list.prepend(value.clone()).unwrap();
            plain.insert(0, value);
        }
        55..75 if len > 0 => {
            let from = rng.usize(..len);
            let to = (from + rng.usize(1..4)).min(len);
            list.delete(from..to).unwrap();
            plain.drain(from..to);
        }
        75..82 if len > 0 => {
            let at = rng.usize(..len);
            list.set(at, value.clone()).unwrap();
            plain[at] = value;
        }
        82..92 if len > 0 => {
            let (from, to) = (rng.usize(..len), rng.usize(..len));
            list.move_to(from, to).unwrap();
            let moved = plain.remove(from);
            plain.insert(to, moved);
        }
        92..95 => {
            list.undo().unwrap();
            plain = list.to_vec();
        }
        95..97 => {
            list.redo().unwrap();
            plain = list.to_vec();
        }
        _ => {
            let mut transaction = list.transaction();
            transaction.append(value.clone()).unwrap();
            transaction.insert(0, json!("both")).unwrap();
            transaction.commit().unwrap();
            plain.push(value);
            plain.insert(0, json!("both"));
        }
    }
    assert_eq!(list.to_vec(), plain);
}

fn assert_equal(a: &List, b: &List) {
    assert_eq!(a.to_vec(), b.to_vec());
    assert_eq!(a.frontier(), b.frontier());
    assert_eq!(a.run_lengths(), b.run_lengths());
    assert_eq!(a.encode().unwrap(), b.encode().unwrap());
}

fn peers(count: u64) -> Vec<List> {
    (0..count)
        .map(|peer| List::new(Session::new(&format!("peer{peer}"), peer)))
        .collect()
}

fn sync(from: &List, to: &mut List) {
    let bytes = from.missing_since(&to.frontier()).unwrap();
    to.apply(&bytes).unwrap();
}

#[test]
fn random_edits_with_random_sync_converge_and_every_step_is_sound() {
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let mut peers = peers(rng.u64(2..=5));
        let mut next = 0;
        for step in 0..rng.u32(20..150) {
            let at = rng.usize(..peers.len());
            if rng.u32(..4) == 0 {
                let from = peers[rng.usize(..peers.len())].clone();
                sync(&from, &mut peers[at]);
            } else {
                edit(&mut peers[at], &mut rng, &mut next);
            }
            if let Err(problem) = peers[at].check() {
                panic!("seed {seed}, step {step}: {problem}");
            }
        }
        for _ in 0..2 {
            for from in 0..peers.len() {
                let from = peers[from].clone();
                peers.iter_mut().for_each(|to| sync(&from, to));
            }
        }
        for peer in &peers[1..] {
            assert_equal(&peers[0], peer);
        }
        let loaded = List::decode(&peers[0].encode().unwrap(), Session::new("loader", 9)).unwrap();
        loaded
            .check()
            .unwrap_or_else(|problem| panic!("seed {seed}, loaded: {problem}"));
        assert_equal(&peers[0], &loaded);
    }
}

#[test]
fn s08_any_permutation_and_duplication_of_messages_gives_the_same_list() {
    for seed in 0..40 {
        let mut rng = Rng::with_seed(1000 + seed);
        let mut peers = peers(5);
        let (mut messages, mut next) = (Vec::new(), 0);
        for _ in 0..80 {
            let at = rng.usize(..5);
            if rng.bool() {
                let from = peers[rng.usize(..5)].clone();
                sync(&from, &mut peers[at]);
            }
            let before = peers[at].frontier();
            edit(&mut peers[at], &mut rng, &mut next);
            messages.push(peers[at].missing_since(&before).unwrap());
        }
        let mut in_order = List::new(Session::new("reader", 1));
        for message in &messages {
            in_order.apply(message).unwrap();
        }
        assert!(in_order.pending().is_empty());
        for round in 0..4 {
            let mut shuffled = messages.clone();
            shuffled.extend(messages.iter().take(20).cloned());
            rng.shuffle(&mut shuffled);
            let mut copy = List::new(Session::new("reader", 2));
            for (at, message) in shuffled.iter().enumerate() {
                copy.apply(message).unwrap();
                if at % 16 == 0 {
                    copy.check()
                        .unwrap_or_else(|problem| panic!("seed {seed}, round {round}: {problem}"));
                    // What waits survives being stored.
                    copy =
                        List::decode(&copy.encode().unwrap(), Session::new("reader", 2)).unwrap();
                }
            }
            assert!(
                copy.pending().is_empty(),
                "seed {seed}: {:?}",
                copy.pending()
            );
            assert_equal(&in_order, &copy);
        }
        // Each message's prefix as a version.
        let mut prefix = List::new(Session::new("reader", 3));
        for message in messages.iter().take(30) {
            prefix.apply(message).unwrap();
            assert_eq!(
                in_order.at(&prefix.frontier()).unwrap().to_vec(),
                prefix.to_vec(),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn s18_a_subscribed_mirror_equals_the_list_after_each_step() {
    use siltstone_list::Delta;
    use std::sync::{Arc, Mutex};
    for seed in 0..30 {
        let mut rng = Rng::with_seed(2000 + seed);
        let mut peers = peers(3);
        let mirror = Arc::new(Mutex::new(Vec::new()));
        let told = mirror.clone();
        peers[0].subscribe(move |event| {
            Delta::<Vec<Value>>::apply(&event.delta, &mut told.lock().unwrap())
        });
        let mut next = 0;
        for _ in 0..120 {
            let at = rng.usize(..3);
            edit(&mut peers[at], &mut rng, &mut next);
            if rng.u32(..5) == 0 {
                let from = peers[rng.usize(1..3)].clone();
                sync(&from, &mut peers[0]);
                let from = peers[0].clone();
                sync(&from, &mut peers[at]);
            }
            assert_eq!(*mirror.lock().unwrap(), peers[0].to_vec(), "seed {seed}");
        }
    }
}

#[test]
fn texts_of_wide_characters_converge() {
    for seed in 0..30 {
        let mut rng = Rng::with_seed(3000 + seed);
        let mut texts: Vec<Text> = (0..3)
            .map(|peer| Text::new(Session::new("writer", peer)))
            .collect();
        for _ in 0..80 {
            let at = rng.usize(..3);
            let text = &mut texts[at];
            let mut plain: Vec<char> = text.text().chars().collect();
            if rng.u32(..3) > 0 || plain.is_empty() {
                let position = rng.usize(..=plain.len());
                let new: String = (0..rng.usize(1..6))
                    .map(|_| *rng.choice(&['a', 'é', '漢', '🦀']).unwrap())
                    .collect();
                text.insert_at_char(position, &new).unwrap();
                plain.splice(position..position, new.chars());
            } else {
                let from = rng.usize(..plain.len());
                let to = (from + 3).min(plain.len());
                text.delete_chars(from..to).unwrap();
                plain.drain(from..to);
            }
            assert_eq!(text.text(), plain.into_iter().collect::<String>());
            text.check().unwrap();
            if rng.bool() {
                let bytes = texts[at].missing_since(&Frontier::new()).unwrap();
                texts[rng.usize(..3)].apply(&bytes).unwrap();
            }
        }
        let all: Vec<_> = texts
            .iter()
            .map(|text| text.missing_since(&Frontier::new()).unwrap())
            .collect();
        for text in &mut texts {
            all.iter().for_each(|bytes| {
                text.apply(bytes).unwrap();
            });
            text.check().unwrap();
        }
        let bytes = texts[0].encode().unwrap();
        assert!(
            texts
                .iter()
                .all(|text| text.text() == texts[0].text() && text.encode().unwrap() == bytes)
        );
        let loaded = Text::decode(&bytes, Session::new("loader", 0)).unwrap();
        assert_eq!(loaded.text(), texts[0].text());
        assert_eq!(loaded.encode().unwrap(), bytes);
    }
}

/// A million steps take some minutes in a release build: `SILTSTONE_LIST_STEPS=1000000`.
#[test]
fn s14_every_invariant_holds_after_every_operation_of_three_peers() {
    let steps =
        std::env::var("SILTSTONE_LIST_STEPS").map_or(20_000, |steps| steps.parse().unwrap());
    let mut rng = Rng::with_seed(14);
    let (mut all, mut next) = (peers(3), 0);
    for step in 0..steps {
        // Small lists, many of them: what is rare in a long one is common here.
        if step % 250 == 0 {
            all = peers(3);
        }
        let at = rng.usize(..3);
        if rng.u32(..5) == 0 {
            let from = all[rng.usize(..3)].clone();
            sync(&from, &mut all[at]);
        } else {
            edit(&mut all[at], &mut rng, &mut next);
        }
        if let Err(problem) = all[at].check() {
            panic!("step {step}: {problem}");
        }
    }
}

#[test]
fn long_texts_typed_in_bursts_are_those_of_a_plain_vector() {
    for seed in 0..8 {
        let mut rng = Rng::with_seed(4000 + seed);
        let (mut text, mut plain) = (Text::new(Session::new("typist", 1)), Vec::new());
        let mut other = Text::new(Session::new("other", 1));
        for burst in 0..1500 {
            let mut at = rng.usize(..=plain.len());
            for _ in 0..rng.usize(1..12) {
                if rng.u32(..4) == 0 && at > 0 {
                    at -= 1;
                    text.delete_chars(at..at + 1).unwrap();
                    plain.remove(at);
                } else {
                    let letter = rng.lowercase();
                    text.insert_at_char(at, &letter.to_string()).unwrap();
                    plain.insert(at, letter);
                    at += 1;
                }
            }
            if burst % 100 == 0 {
                let update = text.missing_since(&other.frontier()).unwrap();
                other.apply(&update).unwrap();
                let position = rng.usize(..=other.len());
                other.insert_at_char(position, "#").unwrap();
                plain.insert(position, '#');
                text.apply(&other.missing_since(&text.frontier()).unwrap())
                    .unwrap();
                text.check().unwrap();
                assert!(
                    text.text().chars().eq(plain.iter().copied()),
                    "seed {seed}, burst {burst}"
                );
            }
        }
        let loaded = Text::decode(&text.encode().unwrap(), Session::new("loader", 1)).unwrap();
        loaded.check().unwrap();
        assert!(loaded.text().chars().eq(plain), "seed {seed}");
    }
}
