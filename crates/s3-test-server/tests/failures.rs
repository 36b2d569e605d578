//! What the bucket store makes of a network and a server that fail.

mod common;

use common::Bucket;
use siltstone_s3_test_server::{Fault, Rule, TestServer};
use siltstone_storage::{
    Blobs, Clock, Error, ObjectBlobs, PutOutcome, S3Settings, SystemClock, Wait,
};
use std::io::ErrorKind;
use std::time::Duration;

#[test]
fn a_winner_whose_answer_was_lost_learns_that_it_won() {
    for fault in [Fault::ErrorAfterCommit, Fault::ResetAfterCommit] {
        let bucket = Bucket::new();
        let (ours, theirs) = (bucket.store(""), bucket.store(""));
        for round in 0..10 {
            let name = format!("manifest/{round}");
            bucket
                .server
                .faults()
                .inject(Rule::always(fault).method("PUT").times(1));
            let outcome = ours.put_if_absent(&name, b"writer 1, attempt 1").unwrap();
            assert_eq!(outcome, PutOutcome::Created, "{fault:?}");
            let late = theirs.put_if_absent(&name, b"writer 2, attempt 1").unwrap();
            assert_eq!(late, PutOutcome::Exists, "{fault:?}");
            assert_eq!(ours.get(&name).unwrap(), &b"writer 1, attempt 1"[..]);
        }
        assert_eq!(bucket.server.faults().met(), 10, "{fault:?}");
    }
}

#[test]
fn a_loser_whose_answer_was_lost_learns_that_it_lost() {
    for fault in [
        Fault::ErrorAfterCommit,
        Fault::ResetAfterCommit,
        Fault::Unavailable,
    ] {
        let bucket = Bucket::new();
        let store = bucket.store("");
        store.put("name", b"theirs").unwrap();
        bucket
            .server
            .faults()
            .inject(Rule::always(fault).method("PUT").times(1));
        assert_eq!(
            store.put_if_absent("name", b"ours!!").unwrap(),
            PutOutcome::Exists,
            "{fault:?}"
        );
        assert_eq!(store.get("name").unwrap(), &b"theirs"[..], "{fault:?}");
    }
}

#[test]
fn a_put_that_is_not_answered_is_sent_again() {
    let bucket = Bucket::new();
    let store = bucket.store("");
    let put = |name: &str| store.start_put_if_absent(name, format!("{name}, attempt 1").into());
    // On a machine that stands still for a moment one of these is late too, and is sent again; only
    // so many are, and then the next one is not.
    let faults = bucket.server.faults();
    let mut sent_once = 0;
    for number in 0.. {
        let before = faults.requests();
        put(&format!("warm/{number}")).wait().unwrap();
        sent_once = match faults.requests() - before {
            1 => sent_once + 1,
            _ => 0,
        };
        if sent_once == 40 {
            break;
        }
    }
    let lost = Rule::always(Fault::Delay(Duration::from_secs(50)));
    faults.inject(lost.method("PUT").times(1));
    let (before, clock) = (faults.requests(), SystemClock::default());
    let late = put("wal/40");
    assert_eq!(put("wal/41").wait().unwrap(), PutOutcome::Created);
    assert_eq!(late.wait().unwrap(), PutOutcome::Created);
    assert!(clock.elapsed() < Duration::from_secs(25));
    assert_eq!(faults.requests(), before + 3);
    assert_eq!(faults.met(), 1);
    assert_eq!(store.get("wal/40").unwrap(), &b"wal/40, attempt 1"[..]);
}

#[test]
fn every_operation_survives_refusals_and_resets() {
    for fault in [Fault::Unavailable, Fault::Reset] {
        let bucket = Bucket::new();
        let store = bucket.store("db");
        let faults = bucket.server.faults();
        let next_fails = || faults.inject(Rule::always(fault).times(2));
        next_fails();
        store.put("a", b"0123456789").unwrap();
        next_fails();
        assert_eq!(
            store.put_if_absent("b", b"x").unwrap(),
            PutOutcome::Created,
            "{fault:?}"
        );
        next_fails();
        assert_eq!(store.get("a").unwrap(), &b"0123456789"[..]);
        next_fails();
        let reader = store.open("a").unwrap();
        next_fails();
        assert_eq!(reader.read(1, 2, Wait::Allowed).unwrap(), &b"12"[..]);
        next_fails();
        assert_eq!(store.list("").unwrap().len(), 2);
        next_fails();
        let mut writer = store.create("big").unwrap();
        writer.write(&vec![7; 9 << 20]).unwrap();
        next_fails();
        writer.finish().unwrap();
        next_fails();
        assert!(store.get("big").unwrap() == vec![7; 9 << 20]);
        next_fails();
        store.delete("a").unwrap();
        assert!(store.get("a").unwrap_err().is_not_found());
        assert!(faults.met() >= 16, "{fault:?}: {}", faults.met());
    }
}

#[test]
fn a_completed_upload_whose_answer_was_lost_is_there() {
    for fault in [Fault::ErrorAfterCommit, Fault::ResetAfterCommit] {
        let bucket = Bucket::new();
        let store = bucket.store("");
        for round in 0..3_u8 {
            // Only the completion: a POST that names its upload.
            let lost = Rule::always(fault)
                .method("POST")
                .key_contains("uploadId")
                .times(1);
            bucket.server.faults().inject(lost);
            let bytes = vec![round; 9 << 20];
            let mut writer = store.create("big").unwrap();
            writer.write(&bytes).unwrap();
            writer.finish().unwrap();
            assert!(store.get("big").unwrap() == bytes, "{fault:?}");
        }
        assert_eq!(bucket.server.faults().met(), 3, "{fault:?}");
    }
}

#[test]
fn a_flaky_store_elects_one_winner_a_name() {
    let bucket = Bucket::new();
    let faults = bucket.server.faults();
    for fault in [
        Fault::ErrorAfterCommit,
        Fault::ResetAfterCommit,
        Fault::Unavailable,
        Fault::Reset,
        Fault::Delay(Duration::from_millis(3)),
    ] {
        faults.inject(Rule::always(fault).method("PUT").percent(12));
    }
    let wins: Vec<Vec<usize>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = bucket.store("");
                scope.spawn(move || {
                    (0..60)
                        .filter(|number| {
                            let bytes = format!("writer {writer} of {number}");
                            let name = format!("manifest/{number}");
                            store.put_if_absent(&name, bytes.as_bytes()).unwrap()
                                == PutOutcome::Created
                        })
                        .collect()
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    faults.clear();
    assert!(faults.met() > 20, "{}", faults.met());
    let store = bucket.store("");
    for number in 0..60 {
        let winners: Vec<_> = (0..4)
            .filter(|writer| wins[*writer].contains(&number))
            .collect();
        assert_eq!(winners.len(), 1, "name {number}: {winners:?}");
        let held = store.get(&format!("manifest/{number}")).unwrap();
        assert_eq!(
            held,
            format!("writer {} of {number}", winners[0]).as_bytes()
        );
    }
}

#[test]
fn a_store_that_stays_down_gives_a_typed_error_in_bounded_time() {
    let bucket = Bucket::new();
    let store = bucket.store("");
    bucket
        .server
        .faults()
        .inject(Rule::always(Fault::Unavailable));
    let clock = SystemClock::default();
    let error = store.get("a").unwrap_err();
    assert!(
        matches!(&error, Error::Io { kind: ErrorKind::ResourceBusy, operation: "get", name, .. } if name == "a"),
        "{error:?}"
    );
    assert!(error.to_string().contains("503 (SlowDown)"), "{error}");
    assert!(
        clock.elapsed() < Duration::from_secs(40),
        "{:?}",
        clock.elapsed()
    );
}

#[test]
fn wrong_credentials_are_a_permission_error_that_shows_no_secret() {
    let bucket = Bucket::new();
    let settings = S3Settings::new("bucket", bucket.server.access_key(), "not-the-secret")
        .endpoint(&bucket.server.endpoint());
    let store = ObjectBlobs::s3(settings, "").unwrap();
    for error in [
        store.get("a").unwrap_err(),
        store.put("a", b"x").unwrap_err(),
        store.put_if_absent("a", b"x").unwrap_err(),
        store.list("").unwrap_err(),
        store.delete("a").unwrap_err(),
        store.open("a").unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                Error::Io {
                    kind: ErrorKind::PermissionDenied,
                    ..
                }
            ),
            "{error:?}"
        );
        let text = format!("{error} {error:?} {store:?}");
        assert!(
            !text.contains("not-the-secret") && !text.contains("Signature="),
            "{text}"
        );
    }
}

#[test]
fn a_wrong_endpoint_or_bucket_is_told_quickly() {
    let clock = SystemClock::default();
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(folder.path()).unwrap();
    let keys = (server.access_key(), server.secret_key());
    let missing = S3Settings::new("no-such-bucket", keys.0, keys.1).endpoint(&server.endpoint());
    let missing = ObjectBlobs::s3(missing, "").unwrap();
    for error in [
        missing.put("a", b"x").unwrap_err(),
        missing.list("").unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(
            text.contains("s3://no-such-bucket: there is no such bucket"),
            "{text}"
        );
    }

    let endpoint = server.endpoint();
    let settings = S3Settings::new("bucket", keys.0, keys.1).endpoint(&endpoint);
    drop(server);
    let gone = ObjectBlobs::s3(settings, "").unwrap();
    for error in [
        gone.get("a").unwrap_err(),
        gone.put_if_absent("a", b"x").unwrap_err(),
        gone.list("").unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                Error::Io {
                    kind: ErrorKind::ConnectionRefused,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .contains("Check that the endpoint is reachable"),
            "{error}"
        );
    }
    assert!(
        clock.elapsed() < Duration::from_secs(40),
        "{:?}",
        clock.elapsed()
    );
}
