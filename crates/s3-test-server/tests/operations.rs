//! Every operation of `Blobs` over the S3 protocol.

mod common;

use common::Bucket;
use siltstone_storage::{
    Blobs, Error, PutOutcome, SeededRng, StoreKind, Wait, probe_put_if_absent,
};
use std::sync::Barrier;

#[test]
fn a_blob_is_put_read_listed_and_deleted() {
    let bucket = Bucket::new();
    let store = bucket.store("db/one");
    assert_eq!(store.kind(), StoreKind::Bucket);
    assert_eq!(store.describe(), "s3://bucket/db/one");

    store.put("sst/1.sst", b"first").unwrap();
    store.put("sst/1.sst", b"second").unwrap();
    store.put("empty", b"").unwrap();
    assert_eq!(store.get("sst/1.sst").unwrap(), &b"second"[..]);
    assert_eq!(store.get("empty").unwrap(), &b""[..]);
    let names: Vec<_> = store
        .list("")
        .unwrap()
        .into_iter()
        .map(|blob| (blob.name, blob.size))
        .collect();
    assert_eq!(
        names,
        [("empty".to_string(), 0), ("sst/1.sst".to_string(), 6)]
    );

    store.delete("sst/1.sst").unwrap();
    store.delete("sst/1.sst").unwrap();
    store.delete("never/was").unwrap();
    let missing = store.get("sst/1.sst").unwrap_err();
    assert!(
        missing.is_not_found() && missing.to_string().contains("sst/1.sst"),
        "{missing}"
    );
    assert!(store.open("sst/1.sst").unwrap_err().is_not_found());
}

#[test]
fn two_databases_of_one_bucket_do_not_see_each_other() {
    let bucket = Bucket::new();
    let (one, two, root) = (bucket.store("db"), bucket.store("db2"), bucket.store(""));
    one.put("a", b"1").unwrap();
    two.put("b", b"2").unwrap();
    assert_eq!(one.list("").unwrap().len(), 1);
    assert_eq!(two.list("").unwrap().len(), 1);
    assert!(one.get("b").unwrap_err().is_not_found());
    let all: Vec<_> = root
        .list("")
        .unwrap()
        .into_iter()
        .map(|blob| blob.name)
        .collect();
    assert_eq!(all, ["db/a", "db2/b"]);
}

#[test]
fn a_reader_reads_ranges_and_refuses_what_it_must() {
    let bucket = Bucket::new();
    let store = bucket.store("");
    store.put("blob", b"0123456789").unwrap();
    let reader = store.open("blob").unwrap();
    assert_eq!(reader.size(), 10);
    assert_eq!(reader.read(3, 4, Wait::Allowed).unwrap(), &b"3456"[..]);
    assert_eq!(reader.read(10, 0, Wait::Allowed).unwrap(), &b""[..]);
    assert!(reader.read(0, 1, Wait::Never).unwrap_err().is_would_block());
    for (offset, len) in [(8, 3), (11, 0), (u64::MAX, 2)] {
        let short = reader.read(offset, len, Wait::Allowed);
        assert!(
            matches!(short, Err(Error::Corrupt { .. })),
            "{offset} {len}: {short:?}"
        );
    }
}

#[test]
fn a_writer_shows_nothing_until_finished() {
    let bucket = Bucket::new();
    let store = bucket.store("");
    let mut small = store.create("small").unwrap();
    small.write(b"some ").unwrap();
    small.write(b"pieces").unwrap();
    assert!(store.get("small").unwrap_err().is_not_found());
    small.finish().unwrap();
    assert_eq!(store.get("small").unwrap(), &b"some pieces"[..]);

    let mut dropped = store.create("dropped").unwrap();
    dropped.write(b"x").unwrap();
    drop(dropped);
    store.create("nothing").unwrap().finish().unwrap();
    assert_eq!(store.get("nothing").unwrap().len(), 0);
    assert!(store.get("dropped").unwrap_err().is_not_found());
}

/// Bytes that differ everywhere, so that swapped or lost parts show.
fn pattern(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(len as u64);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

#[test]
fn large_blobs_go_up_in_parts_and_come_back_whole() {
    let bucket = Bucket::new();
    let store = bucket.store("");
    const PART: usize = 8 << 20;
    for len in [PART, PART + 1, 2 * PART, 4 * PART + 12345] {
        let bytes = pattern(len);
        let mut writer = store.create("big").unwrap();
        for piece in bytes.chunks(1_000_003) {
            writer.write(piece).unwrap();
        }
        writer.finish().unwrap();
        assert!(store.get("big").unwrap() == bytes, "{len}");
        let reader = store.open("big").unwrap();
        assert_eq!(reader.size(), len as u64);
        assert!(
            reader.read(0, len, Wait::Allowed).unwrap() == bytes,
            "{len}"
        );
        let tail = reader.read(len as u64 - 7, 7, Wait::Allowed).unwrap();
        assert!(tail == bytes[len - 7..], "{len}");
    }
    let bytes = pattern(3 * PART);
    store.put("put", &bytes).unwrap();
    assert!(store.get("put").unwrap() == bytes);
}

#[test]
fn a_dropped_upload_gives_its_parts_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = siltstone_s3_test_server::TestServer::start(folder.path()).unwrap();
    let settings = siltstone_storage::S3Settings::new(
        server.bucket(),
        server.access_key(),
        server.secret_key(),
    );
    let store =
        siltstone_storage::ObjectBlobs::s3(settings.endpoint(&server.endpoint()), "").unwrap();
    let parts = || -> Vec<String> {
        std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("upload"))
            .collect()
    };
    let mut writer = store.create("big").unwrap();
    writer.write(&pattern(40 << 20)).unwrap();
    assert!(!parts().is_empty());
    drop(writer);
    assert!(store.get("big").unwrap_err().is_not_found());
    let left = parts();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn listings_of_more_than_a_thousand_blobs_are_whole_and_sorted() {
    let bucket = Bucket::new();
    let store = bucket.store("db");
    let mut names: Vec<String> = (0..2_345)
        .map(|number| format!("sst/{number}.sst"))
        .collect();
    names.push("sstx".into());
    names.push("wal/1".into());
    std::thread::scope(|scope| {
        for names in names.chunks(600) {
            let store = store.clone();
            scope.spawn(move || {
                for name in names {
                    store.put(name, name.as_bytes()).unwrap();
                }
            });
        }
    });
    names.sort();
    let listed = |prefix: &str| -> Vec<String> {
        store
            .list(prefix)
            .unwrap()
            .into_iter()
            .map(|blob| blob.name)
            .collect()
    };
    assert_eq!(listed(""), names);
    let with = |prefix: &str| -> Vec<String> {
        names
            .iter()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    };
    for prefix in ["sst/", "sst", "sst/1", "sst/10", "w", "nothing", "nothing/"] {
        assert_eq!(listed(prefix), with(prefix), "{prefix}");
    }
}

#[test]
fn a_bucket_cannot_append() {
    let bucket = Bucket::new();
    let store = bucket.store("");
    assert!(!store.can_append());
    assert!(matches!(
        store.append("log", 0),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn names_that_leave_the_root_are_refused() {
    let bucket = Bucket::new();
    let store = bucket.store("db");
    for name in ["", "/a", "a/", "a//b", "../a", "a/./b"] {
        assert!(
            matches!(store.put(name, b"x"), Err(Error::Invalid { .. })),
            "{name}"
        );
        assert!(
            matches!(store.get(name), Err(Error::Invalid { .. })),
            "{name}"
        );
    }
}

#[test]
fn of_sixteen_racing_creations_exactly_one_wins() {
    let bucket = Bucket::new();
    let stores: Vec<_> = (0..16).map(|_| bucket.store("race")).collect();
    for round in 0..50 {
        let name = format!("manifest/{round}");
        let start = Barrier::new(stores.len());
        let winners: Vec<usize> = std::thread::scope(|scope| {
            let racers: Vec<_> = stores
                .iter()
                .enumerate()
                .map(|(racer, store)| {
                    let (name, start) = (&name, &start);
                    scope.spawn(move || {
                        start.wait();
                        store
                            .put_if_absent(name, format!("racer {racer}").as_bytes())
                            .unwrap()
                    })
                })
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .enumerate()
                .filter(|(_, outcome)| *outcome == PutOutcome::Created)
                .map(|(racer, _)| racer)
                .collect()
        });
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let held = stores[0].get(&name).unwrap();
        assert_eq!(
            held,
            format!("racer {}", winners[0]).as_bytes(),
            "round {round}"
        );
    }
}

#[test]
fn conditional_puts_run_side_by_side() {
    use siltstone_s3_test_server::{Fault, Rule};
    let bucket = Bucket::new();
    let store = bucket.store("");
    store.put("warm", b"").unwrap();
    let delay = std::time::Duration::from_millis(300);
    bucket
        .server
        .faults()
        .inject(Rule::always(Fault::Delay(delay)).method("PUT"));
    let clock = siltstone_storage::SystemClock::default();
    let began = siltstone_storage::Clock::elapsed(&clock);
    let pending: Vec<_> = (0..8)
        .map(|number| {
            let bytes = bytes::Bytes::from(format!("wal {number}"));
            store.start_put_if_absent(&format!("wal/{number}"), bytes)
        })
        .collect();
    let started = siltstone_storage::Clock::elapsed(&clock) - began;
    for put in pending {
        assert_eq!(put.wait().unwrap(), PutOutcome::Created);
    }
    let took = siltstone_storage::Clock::elapsed(&clock) - began;
    assert!(started < delay, "starting waited: {started:?}");
    assert!(
        took < delay * 4,
        "eight puts of {delay:?} each took {took:?}"
    );
    assert_eq!(store.list("wal/").unwrap().len(), 8);
}

#[test]
fn calls_work_on_a_thread_of_another_runtime() {
    let bucket = Bucket::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = bucket.store("");
        store.put("a", b"1").unwrap();
        assert_eq!(store.get("a").unwrap(), &b"1"[..]);
        assert_eq!(store.put_if_absent("a", b"2").unwrap(), PutOutcome::Exists);
        drop(store);
    });
}

#[test]
fn the_probe_trusts_this_server_and_refuses_it_when_it_ignores_conditions() {
    let bucket = Bucket::new();
    let store = bucket.store("db");
    probe_put_if_absent(&store, &SeededRng::new(1)).unwrap();
    bucket.server.faults().ignore_conditions(true);
    let refused = probe_put_if_absent(&store, &SeededRng::new(2));
    assert!(
        matches!(refused, Err(Error::ConditionIgnored { .. })),
        "{refused:?}"
    );
    assert_eq!(
        store.list("").unwrap(),
        [],
        "the probe leaves nothing behind"
    );
}
