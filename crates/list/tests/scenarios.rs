//! The scenarios of the list's specification, one test each; 8 and 18 are in `convergence.rs`, 17 is
//! in `traces.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{exchange, exchange_texts, list, shown, text, values};
use serde_json::json;
use siltstone_list::{Bias, Error, Frontier, List, Session, Text};

#[test]
fn s01_equal_counters_and_times_still_give_one_order() {
    let (mut a, mut b) = (list("a"), list("b"));
    a.append(json!("root")).unwrap();
    exchange(&mut a, &mut b);
    a.set_time(5);
    b.set_time(5);
    a.insert(1, json!("one")).unwrap();
    b.insert(1, json!("two")).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(a.to_vec(), b.to_vec());
    assert_eq!(a.to_vec(), [json!("root"), json!("one"), json!("two")]);
}

#[test]
fn s02_a_reply_to_a_writer_whose_clock_is_ahead_stays_after_its_target() {
    let (mut a, mut b) = (list("a"), list("b"));
    a.set_time(3_600_000);
    a.append(json!("question")).unwrap();
    exchange(&mut a, &mut b);
    b.set_time(1);
    b.append(json!("reply")).unwrap();
    exchange(&mut a, &mut b);
    for list in [&a, &b] {
        assert_eq!(list.to_vec(), [json!("question"), json!("reply")]);
    }
}

#[test]
fn s03_insertions_before_one_element_keep_the_order_they_were_asked_for() {
    let mut a = list("a");
    a.append_items(values("AX")).unwrap();
    let x = a.id_at(1).unwrap();
    a.insert_before(&x, json!("B")).unwrap();
    a.insert_before(&x, json!("C")).unwrap();
    assert_eq!(shown(&a), "ABCX");
    a.check().unwrap();
}

#[test]
fn s04_a_sibling_from_the_future_does_not_push_mine_away() {
    let (mut a, mut b) = (list("a"), list("b"));
    a.append(json!("r")).unwrap();
    exchange(&mut a, &mut b);
    b.set_time(u64::MAX);
    for letter in ["f", "g", "h"] {
        b.append(json!(letter)).unwrap();
    }
    exchange(&mut a, &mut b);
    a.insert(1, json!("m")).unwrap();
    assert_eq!(shown(&a), "rmfgh");
    exchange(&mut a, &mut b);
    assert_eq!(shown(&b), "rmfgh");
}

#[test]
fn s05_concurrent_typing_never_interleaves_in_either_direction() {
    let (mut a, mut b) = (text("a"), text("b"));
    a.append("()").unwrap();
    exchange_texts(&mut a, &mut b);
    for (at, (left, right)) in "abc".chars().zip("xyz".chars()).enumerate() {
        a.insert_at_char(1 + at, &left.to_string()).unwrap();
        b.insert_at_char(1 + at, &right.to_string()).unwrap();
    }
    exchange_texts(&mut a, &mut b);
    assert_eq!(a.text(), "(abcxyz)");

    let (mut a, mut b) = (text("a"), text("b"));
    a.append("()").unwrap();
    exchange_texts(&mut a, &mut b);
    for (left, right) in "cba".chars().zip("zyx".chars()) {
        a.insert_at_char(1, &left.to_string()).unwrap();
        b.insert_at_char(1, &right.to_string()).unwrap();
    }
    exchange_texts(&mut a, &mut b);
    assert!(
        ["(abcxyz)", "(xyzabc)"].contains(&a.text().as_str()),
        "{}",
        a.text()
    );
}

#[test]
fn s06_deletions_may_come_first_or_twice_or_for_what_never_comes() {
    let mut a = list("a");
    a.append_items(values("ab")).unwrap();
    let first = a.missing_since(&Frontier::new()).unwrap();
    let known = a.frontier();
    a.delete(0..1).unwrap();
    let deletion = a.missing_since(&known).unwrap();
    let orders: [&[&Vec<u8>]; 3] = [
        &[&first, &deletion],
        &[&deletion, &first],
        &[&deletion, &deletion, &first, &deletion, &first],
    ];
    for order in orders {
        let mut copy = list("copy");
        for message in order {
            copy.apply(message).unwrap();
        }
        assert_eq!(shown(&copy), "b");
        copy.check().unwrap();
    }
    let mut never = list("never");
    assert_eq!(never.apply(&deletion).unwrap().pending, 1);
    assert!(never.is_empty());
    // Two writers delete the same.
    let (mut b, mut c) = (list("b"), list("c"));
    b.apply(&first).unwrap();
    c.apply(&first).unwrap();
    b.delete(0..2).unwrap();
    c.delete(1..2).unwrap();
    exchange(&mut b, &mut c);
    assert!(b.is_empty() && c.is_empty());
    assert_eq!(b.deletion_edits().len(), 3);
}

#[test]
fn s07_an_insertion_after_a_deleted_element_stands_where_that_was() {
    let (mut a, mut b) = (list("a"), list("b"));
    a.append_items(values("abc")).unwrap();
    exchange(&mut a, &mut b);
    a.delete(1..2).unwrap();
    let target = b.id_at(1).unwrap();
    b.insert_after(&target, json!("x")).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!(shown(&a), "axc");
    a.insert_after(&target, json!("y")).unwrap();
    assert_eq!(shown(&a), "ayxc");
    assert_eq!(a.to_vec().len(), 4);
}

#[test]
fn s09_what_waits_for_a_message_that_never_comes_is_reported_and_the_rest_applied() {
    let mut a = list("a");
    a.append(json!("a")).unwrap();
    let one = a.frontier();
    a.append(json!("b")).unwrap();
    let two = a.frontier();
    a.append(json!("c")).unwrap();
    let third = a.missing_since(&two).unwrap();
    let second = a.missing_since(&one).unwrap();
    let mut b = list("b");
    b.append(json!("z")).unwrap();
    let mut copy = list("copy");
    let applied = copy.apply(&third).unwrap();
    assert_eq!((applied.transactions, applied.pending), (0, 1));
    copy.apply(&b.missing_since(&Frontier::new()).unwrap())
        .unwrap();
    assert_eq!(shown(&copy), "z");
    let waiting = copy.pending();
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (waiting[0].needs.author(), waiting[0].count, waiting[0].tx),
        ("a", 2, 2)
    );
    copy.apply(&second).unwrap();
    assert_eq!((copy.pending().len(), copy.len()), (2, 1));
    copy.apply(&a.missing_since(&Frontier::new()).unwrap())
        .unwrap();
    assert!(copy.pending().is_empty());
    assert_eq!(copy.len(), 4);
}

#[test]
fn s10_concurrent_replacements_all_stay_and_of_concurrent_sets_one_wins() {
    let (mut a, mut b) = (list("a"), list("b"));
    a.append_items(values("x")).unwrap();
    exchange(&mut a, &mut b);
    a.replace(0, json!("1")).unwrap();
    b.replace(0, json!("2")).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!((shown(&a), shown(&b)), ("12".into(), "12".into()));

    a.set(0, json!("from a")).unwrap();
    b.set(0, json!("from b")).unwrap();
    let (to_b, to_a) = (
        a.missing_since(&b.frontier()).unwrap(),
        b.missing_since(&a.frontier()).unwrap(),
    );
    let (in_a, in_b) = (a.apply(&to_a).unwrap(), b.apply(&to_b).unwrap());
    assert_eq!(a.get(0).as_deref(), Some(&json!("from b")));
    assert_eq!(a.to_vec(), b.to_vec());
    for applied in [in_a, in_b] {
        let [conflict] = &applied.conflicts[..] else {
            panic!("one conflict, not {:?}", applied.conflicts)
        };
        assert_eq!(conflict.kept.session.author(), "b");
        assert_eq!(conflict.lost.session.author(), "a");
        assert_eq!(Some(&conflict.element), a.id_at(0).as_ref());
    }
    // A set that knew of the other is no conflict.
    a.set(0, json!("later")).unwrap();
    let update = a.missing_since(&b.frontier()).unwrap();
    assert!(b.apply(&update).unwrap().conflicts.is_empty());
    assert_eq!(b.get(0).as_deref(), Some(&json!("later")));
}

#[test]
fn s11_concurrent_moves_neither_duplicate_nor_lose() {
    let start = || {
        let (mut a, mut b) = (list("a"), list("b"));
        a.append_items(values("abcdef")).unwrap();
        exchange(&mut a, &mut b);
        (a, b)
    };
    let (mut a, mut b) = start();
    a.move_to(0, 5).unwrap();
    b.move_to(0, 2).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!((shown(&a), shown(&b)), ("bcadef".into(), "bcadef".into()));

    // Against a deletion: deleted. Against a set: both.
    let (mut a, mut b) = start();
    a.move_to(1, 4).unwrap();
    a.move_to(0, 5).unwrap();
    b.delete(0..1).unwrap();
    b.set(0, json!("B")).unwrap();
    exchange(&mut a, &mut b);
    assert_eq!((shown(&a), shown(&b)), ("cdeBf".into(), "cdeBf".into()));

    // A circle of moves: each element beside the next one's old place.
    let mut peers: Vec<List> = (0..6).map(|peer| list(&format!("p{peer}"))).collect();
    peers[0].append_items(values("abcdef")).unwrap();
    let all = peers[0].missing_since(&Frontier::new()).unwrap();
    peers[1..]
        .iter_mut()
        .for_each(|peer| drop(peer.apply(&all).unwrap()));
    for (at, peer) in peers.iter_mut().enumerate() {
        peer.move_to(at, (at + 1) % 6).unwrap();
        peer.move_to((at + 1) % 6, (at + 3) % 6).unwrap();
    }
    let messages: Vec<_> = peers
        .iter()
        .map(|peer| peer.missing_since(&Frontier::new()).unwrap())
        .collect();
    for peer in &mut peers {
        messages
            .iter()
            .for_each(|message| drop(peer.apply(message).unwrap()));
        peer.check().unwrap();
    }
    let result = shown(&peers[0]);
    let mut letters: Vec<char> = result.chars().collect();
    letters.sort_unstable();
    assert_eq!(letters, ['a', 'b', 'c', 'd', 'e', 'f']);
    assert!(peers.iter().all(|peer| shown(peer) == result));
}

#[test]
fn s12_merging_a_branch_twice_is_merging_it_once() {
    let mut main = list("ann");
    main.set_time(10);
    main.append_items(values("abc")).unwrap();
    let fork = main.frontier();
    let mut branch = main.branch("draft", &fork).unwrap();
    assert_eq!(branch.to_vec(), main.to_vec());
    branch.set_time(20);
    branch.insert(1, json!("x")).unwrap();
    branch.delete(2..3).unwrap();
    let in_branch = branch.id_at(1).unwrap();
    assert_eq!(in_branch.session.branch(), Some("draft"));
    main.append(json!("d")).unwrap();
    main.merge(&branch).unwrap();
    assert_eq!(shown(&main), "axcd");
    let once = main.encode().unwrap();
    assert_eq!(main.merge(&branch).unwrap().transactions, 0);
    assert_eq!(main.encode().unwrap(), once);
    assert_eq!(main.position_of(&in_branch), Some(1));
    let edit = main.edit_at(1).unwrap();
    assert_eq!((edit.id, edit.time), (in_branch, 20));
    assert_eq!(main.edit_at(0).unwrap().time, 10);
}

#[test]
fn s13_appends_are_one_run_an_insertion_splits_it_in_two_and_deletions_do_nothing() {
    let mut a = list("a");
    assert_eq!(a.compaction_stats().compaction_ratio, 1.0);
    for i in 0..1000 {
        a.append(json!(i)).unwrap();
    }
    assert_eq!(a.run_lengths(), [1000]);
    let stats = a.compaction_stats();
    assert_eq!(
        (
            stats.linear_chains,
            stats.max_chain_length,
            stats.compaction_ratio
        ),
        (1, 1000, 0.001)
    );
    a.delete(100..200).unwrap();
    a.delete(300..301).unwrap();
    assert_eq!(a.run_lengths(), [1000]);
    a.insert(50, json!("x")).unwrap();
    assert_eq!(a.run_lengths(), [50, 1, 950]);
    let mut b = list("b");
    for i in 0..1000 {
        b.prepend(json!(i)).unwrap();
    }
    assert_eq!(b.run_lengths(), [1000]);
    assert_eq!(b.compaction_stats().compaction_ratio, 0.001);
    b.check().unwrap();
    let mut random = list("r");
    let mut rng = fastrand::Rng::with_seed(7);
    for i in 0..10_000 {
        random.insert(rng.usize(..=random.len()), json!(i)).unwrap();
    }
    let ratio = random.compaction_stats().compaction_ratio;
    assert!((0.70..0.85).contains(&ratio), "{ratio}");
}

#[test]
fn s15_before_everything_the_view_is_empty() {
    let mut a = text("a");
    a.set_time(100);
    a.append("later").unwrap();
    assert_eq!(a.at_time(0).unwrap().text(), "");
    assert!(a.at(&Frontier::new()).unwrap().is_empty());
    assert_eq!(a.at_time(100).unwrap().text(), "later");
    let mut future = a.frontier();
    future.set(Session::new("b", 1), 3);
    assert!(matches!(
        a.at(&future),
        Err(Error::UnknownVersion {
            count: 3,
            known: 0,
            ..
        })
    ));
}

#[test]
fn s16_encoding_keeps_history_runs_and_what_waits_and_damage_is_told() {
    let (mut a, mut b) = (list("a"), list("b"));
    a.append_items(values("abcdef")).unwrap();
    exchange(&mut a, &mut b);
    b.delete(1..3).unwrap();
    a.set(0, json!([1, {"deep": null}])).unwrap();
    a.move_to(4, 1).unwrap();
    exchange(&mut a, &mut b);
    let before = b.frontier();
    b.append(json!("missed")).unwrap();
    let missed = b.frontier();
    b.append(json!("waits")).unwrap();
    assert_eq!(
        a.apply(&b.missing_since(&missed).unwrap()).unwrap().pending,
        1
    );
    let bytes = a.encode().unwrap();
    let mut c = List::decode(&bytes, Session::new("c", 1)).unwrap();
    c.check().unwrap();
    assert_eq!(c.to_vec(), a.to_vec());
    let packed = siltstone_list::PackedList::new(bytes.as_slice()).unwrap();
    assert_eq!(packed.values(), a.to_vec());
    assert_eq!(c.run_lengths(), a.run_lengths());
    assert_eq!(c.deletion_edits(), a.deletion_edits());
    assert_eq!(c.pending(), a.pending());
    assert_eq!(c.encode().unwrap(), bytes);
    assert_eq!(
        c.at(&before).unwrap().to_vec(),
        a.at(&before).unwrap().to_vec()
    );
    c.apply(&b.missing_since(&before).unwrap()).unwrap();
    assert_eq!(c.to_vec(), b.to_vec());

    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(
            List::decode(&flipped, Session::new("d", 1)).is_err(),
            "byte {at} flipped"
        );
        assert!(
            List::decode(&bytes[..at], Session::new("d", 1)).is_err(),
            "cut at {at}"
        );
    }
    let text = text("t").encode().unwrap();
    assert!(matches!(
        List::decode(&text, Session::new("d", 1)),
        Err(Error::Damaged { .. })
    ));
    let mut newer = bytes;
    newer[3] = 9;
    assert!(matches!(
        List::decode(&newer, Session::new("d", 1)),
        Err(Error::NewerFormat { found: 9, .. })
    ));
}

#[test]
fn s16_a_shallow_copy_is_smaller_shows_the_same_and_still_syncs() {
    let (mut a, mut b) = (text("a"), text("b"));
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..300 {
        let at = rng.usize(..=a.len());
        let word: String = (0..20).map(|_| rng.alphanumeric()).collect();
        a.insert_at_char(at, &word).unwrap();
        if a.len() > 200 {
            a.delete_chars(0..30).unwrap();
        }
    }
    let at = a.frontier();
    exchange_texts(&mut a, &mut b);
    a.delete_chars(0..5).unwrap();
    let (full, shallow) = (a.encode().unwrap(), a.encode_shallow(&at).unwrap());
    assert!(
        shallow.len() * 4 < full.len() * 3,
        "{} of {}",
        shallow.len(),
        full.len()
    );
    let mut c = Text::decode(&shallow, Session::new("c", 1)).unwrap();
    c.check().unwrap();
    assert_eq!(c.text(), a.text());
    assert_eq!(c.at(&at).unwrap().text(), b.text());
    assert!(matches!(
        c.at(&Frontier::new()),
        Err(Error::HistoryDropped { .. })
    ));
    assert!(matches!(
        c.missing_since(&Frontier::new()),
        Err(Error::HistoryDropped { .. })
    ));
    b.append("from b").unwrap();
    c.append("from c").unwrap();
    exchange_texts(&mut b, &mut c);
    let again = Text::decode(&c.encode().unwrap(), Session::new("d", 1)).unwrap();
    assert_eq!(again.text(), b.text());
    assert!(again.at(&Frontier::new()).is_err());
}

#[test]
fn s19_undo_and_redo_take_back_ones_own_only() {
    let (mut a, mut b) = (text("a"), text("b"));
    a.append("hello").unwrap();
    exchange_texts(&mut a, &mut b);
    b.insert_at_char(5, " world").unwrap();
    a.insert_at_char(0, ">> ").unwrap();
    exchange_texts(&mut a, &mut b);
    assert_eq!(a.text(), ">> hello world");
    assert!(a.undo().unwrap());
    assert_eq!(a.text(), "hello world");
    a.delete_chars(0..1).unwrap();
    a.insert_at_char(0, "J").unwrap();
    exchange_texts(&mut a, &mut b);
    assert!(b.undo().unwrap());
    assert_eq!(b.text(), "Jello");
    exchange_texts(&mut a, &mut b);
    a.undo().unwrap();
    a.undo().unwrap();
    assert_eq!(a.text(), "hello");
    a.redo().unwrap();
    a.redo().unwrap();
    assert_eq!(a.text(), "Jello");
    b.redo().unwrap();
    exchange_texts(&mut a, &mut b);
    assert_eq!(a.text(), "Jello world");
    assert!(!b.redo().unwrap());
    // Everything of a's back to the beginning; b's stays.
    while a.undo().unwrap() {}
    assert_eq!(a.text(), " world");
    a.check().unwrap();

    let mut list = list("l");
    list.append_items(values("abc")).unwrap();
    list.set(1, json!("B")).unwrap();
    list.move_to(0, 2).unwrap();
    assert_eq!(shown(&list), "Bca");
    list.undo().unwrap();
    assert_eq!(shown(&list), "aBc");
    list.undo().unwrap();
    assert_eq!(shown(&list), "abc");
    list.redo().unwrap();
    list.redo().unwrap();
    assert_eq!(shown(&list), "Bca");
    list.check().unwrap();
}

#[test]
fn s20_positions_out_of_range_change_nothing() {
    let mut a = list("a");
    assert!(matches!(
        a.insert(1, json!(1)),
        Err(Error::OutOfRange {
            position: 1,
            len: 0
        })
    ));
    assert!(matches!(
        a.delete(0..1),
        Err(Error::BadRange { len: 0, .. })
    ));
    a.append(json!(1)).unwrap();
    let before = a.encode().unwrap();
    #[allow(clippy::reversed_empty_ranges, reason = "what is refused")]
    let backward = 1..0;
    assert!(a.delete(backward).is_err());
    assert!(a.delete(0..2).is_err());
    assert!(a.set(1, json!(1)).is_err());
    assert!(a.move_to(0, 1).is_err());
    assert!(a.replace(1, json!(1)).is_err());
    assert!(a.splice(0..2, vec![json!(1)]).is_err());
    assert!(a.cursor(2, Bias::Left).is_err());
    let mut transaction = a.transaction();
    transaction.append(json!(2)).unwrap();
    assert!(transaction.insert(3, json!(3)).is_err());
    drop(transaction);
    assert_eq!(a.get(1), None);
    assert_eq!(a.encode().unwrap(), before);
    // Nothing to do is no transaction.
    a.delete(1..1).unwrap();
    a.append_items(vec![]).unwrap();
    a.move_to(0, 0).unwrap();
    assert_eq!(a.encode().unwrap(), before);
}

#[test]
fn s20_ten_million_elements() {
    let mut a = text("a");
    let chunk = "silt".repeat(250);
    for _ in 0..10_000 {
        a.append(&chunk).unwrap();
    }
    assert_eq!(a.len(), 10_000_000);
    a.insert_at_char(5_000_001, "X").unwrap();
    a.delete_chars(0..1).unwrap();
    assert_eq!(a.char_at(5_000_000), Some('X'));
    assert_eq!(a.run_lengths(), [5_000_001, 1, 4_999_999]);
    let b = Text::decode(&a.encode().unwrap(), Session::new("b", 1)).unwrap();
    assert_eq!(b.len(), a.len());
    assert_eq!(
        b.slice_chars(4_999_998..5_000_003),
        a.slice_chars(4_999_998..5_000_003)
    );
}
