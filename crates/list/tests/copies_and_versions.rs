//! Cursors, sessions with rules, differences between versions, and messages that go to many copies.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{exchange, exchange_texts, list, shown, text, values};
use serde_json::json;
use siltstone_list::{Action, Bias, Delta, Error, List, Value};
#[test]
fn cursors_stay_with_their_element() {
    let (mut a, mut b) = (text("a"), text("b"));
    a.append("hello world").unwrap();
    exchange_texts(&mut a, &mut b);
    let (left, right) = (
        a.cursor(6, Bias::Left).unwrap(),
        a.cursor(6, Bias::Right).unwrap(),
    );
    let end = a.cursor(11, Bias::Right).unwrap();
    b.insert_at_char(6, "new ").unwrap();
    b.insert_at_char(0, "oh ").unwrap();
    exchange_texts(&mut a, &mut b);
    assert_eq!(a.text(), "oh hello new world");
    assert_eq!(
        (a.cursor_position(&left), a.cursor_position(&right)),
        (Ok(9), Ok(13))
    );
    assert_eq!(a.cursor_position(&end), Ok(18));
    a.delete_chars(8..14).unwrap();
    assert_eq!(a.text(), "oh helloorld");
    assert_eq!(
        (a.cursor_position(&left), a.cursor_position(&right)),
        (Ok(8), Ok(8))
    );
    assert!(text("c").cursor_position(&left).is_err());
}

#[test]
fn a_refused_transaction_is_refused_whole_wherever_it_comes_from() {
    let rule = |list: &mut List| {
        list.set_permissions(|request| match request.action {
            Action::Insert => Ok(()),
            _ if request.by.author() == "admin" || request.by == request.of => Ok(()),
            _ => Err("only admins change what others wrote".into()),
        });
    };
    let (mut admin, mut guest, mut free) =
        (list("admin"), list("guest"), list("guest-without-rules"));
    rule(&mut admin);
    rule(&mut guest);
    admin.append_items(values("abc")).unwrap();
    exchange(&mut admin, &mut guest);
    assert!(matches!(guest.delete(0..1), Err(Error::Refused { .. })));
    assert!(matches!(
        guest.replace(0, json!("mine")),
        Err(Error::Refused { .. })
    ));
    guest.append(json!("g")).unwrap();
    guest.set(3, json!("G")).unwrap();
    exchange(&mut admin, &mut free);
    // One that does not ask: its replacement is refused whole, what it inserts after that stands.
    free.replace(0, json!("!")).unwrap();
    free.insert(1, json!("h")).unwrap();
    let update = free.missing_since(&admin.frontier()).unwrap();
    let applied = admin.apply(&update).unwrap();
    assert_eq!((applied.refused, applied.transactions), (1, 1));
    assert_eq!(shown(&admin), "ahbc");
    exchange(&mut admin, &mut guest);
    assert_eq!(shown(&admin), "ahbcG");
    assert_eq!(admin.to_vec(), guest.to_vec());
    assert_eq!(
        admin.at(&admin.frontier()).unwrap().to_vec(),
        admin.to_vec()
    );
    admin.delete(0..5).unwrap();
    assert!(admin.is_empty());
}

#[test]
fn differences_between_versions_turn_one_into_the_other() {
    let mut a = list("a");
    let mut rng = fastrand::Rng::with_seed(11);
    let mut versions = vec![(a.frontier(), a.to_vec())];
    for i in 0..60 {
        let len = a.len();
        match rng.u32(..4) {
            0 if len > 1 => a.move_to(rng.usize(..len), rng.usize(..len)).unwrap(),
            1 if len > 0 => a.set(rng.usize(..len), json!(i)).unwrap(),
            2 if len > 2 => a.delete(1..2).unwrap(),
            _ => a.insert(rng.usize(..=len), json!(i)).unwrap(),
        }
        versions.push((a.frontier(), a.to_vec()));
    }
    for (from, before) in versions.iter().step_by(7) {
        for (to, after) in versions.iter().step_by(5) {
            let mut mirror = before.clone();
            Delta::<Vec<Value>>::apply(&a.diff(from, to).unwrap(), &mut mirror);
            assert_eq!(&mirror, after);
            let view = a.at(to).unwrap();
            assert_eq!((view.to_vec(), view.len()), (after.clone(), after.len()));
            for at in 0..after.len() {
                assert_eq!(view.get(at).as_ref(), after.get(at));
            }
        }
    }
}

#[test]
fn a_diff_keeps_what_stays() {
    let mut a = list("a");
    a.append_items(values("abcdef")).unwrap();
    let kept = a.id_at(2).unwrap();
    a.apply_diff(&values("xabcyef")).unwrap();
    assert_eq!(shown(&a), "xabcyef");
    assert_eq!(a.position_of(&kept), Some(3));
    let mut t = text("t");
    t.append("one\ntwo\nthree\n").unwrap();
    let id = t.id_at(4).unwrap();
    t.apply_diff("zero\none\ntwö\nthree\nfour").unwrap();
    assert_eq!(t.text(), "zero\none\ntwö\nthree\nfour");
    assert_eq!(t.position_of(&id), Some(9));
    assert_eq!(
        (t.char_to_utf8(12), t.utf8_to_char(13), t.char_to_utf16(12)),
        (Ok(13), Ok(12), Ok(12))
    );
    assert!(matches!(
        t.utf8_to_char(12),
        Err(Error::InsideCharacter { offset: 12 })
    ));
}

#[test]
fn a_message_read_once_goes_to_any_number_of_copies_in_any_order() {
    let mut writer = list("ann");
    let mut messages = Vec::new();
    for number in 0..40 {
        let before = writer.frontier();
        writer.insert(number / 2, number.into()).unwrap();
        if number % 3 == 0 {
            writer.delete(0..1).unwrap();
        }
        let bytes = writer.missing_since(&before).unwrap();
        messages.push(List::read_message(&bytes).unwrap());
    }
    for step in [1, 7, 39] {
        let mut copy = list(&format!("reader {step}"));
        for at in 0..messages.len() {
            copy.apply_message(&messages[at * step % 40]).unwrap();
        }
        copy.apply_message(&messages[0]).unwrap();
        assert_eq!(copy.to_vec(), writer.to_vec());
        assert_eq!(copy.pending(), []);
        copy.check().unwrap();
    }
}
