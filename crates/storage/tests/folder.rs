//! A folder as a store: whole or absent, one writer, exactly one winner of a race.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use siltstone_storage::{Blobs, Error, FolderLock, LocalBlobs, PutOutcome, Wait};
use std::sync::Barrier;

fn folder() -> (tempfile::TempDir, LocalBlobs) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = LocalBlobs::create(dir.path()).unwrap();
    (dir, blobs)
}

#[test]
fn blobs_are_written_read_listed_and_deleted() {
    let (_dir, blobs) = folder();
    blobs.put("sst/b.sst", b"bee").unwrap();
    blobs.put("sst/a.sst", b"ay").unwrap();
    blobs.put("wal/1.wal", b"log").unwrap();
    let names: Vec<_> = blobs
        .list("sst/")
        .unwrap()
        .into_iter()
        .map(|m| (m.name, m.size))
        .collect();
    assert_eq!(
        names,
        [("sst/a.sst".to_string(), 2), ("sst/b.sst".to_string(), 3)]
    );
    assert_eq!(blobs.names("sst/").unwrap(), ["sst/a.sst", "sst/b.sst"]);
    assert_eq!(blobs.names("sst/b").unwrap(), ["sst/b.sst"]);
    assert_eq!(blobs.names("pins/").unwrap(), [""; 0]);
    let reader = blobs.open("sst/b.sst").unwrap();
    assert_eq!(&reader.read(1, 2, Wait::Allowed).unwrap()[..], b"ee");
    assert_eq!(&reader.read(1, 2, Wait::Never).unwrap()[..], b"ee");
    assert!(matches!(
        reader.read(2, 2, Wait::Allowed),
        Err(Error::Corrupt { .. })
    ));
    blobs.delete("sst/b.sst").unwrap();
    blobs.delete("sst/b.sst").unwrap();
    assert!(blobs.get("sst/b.sst").unwrap_err().is_not_found());
    assert_eq!(
        &reader.read(0, 3, Wait::Allowed).unwrap()[..],
        b"bee",
        "an open reader keeps its file"
    );
}

#[test]
fn an_unfinished_blob_never_was() {
    let (dir, blobs) = folder();
    let mut writer = blobs.create("sst/x.sst").unwrap();
    writer.write(b"half").unwrap();
    drop(writer);
    assert!(blobs.list("sst/").unwrap().is_empty());
    let mut writer = blobs.create("sst/x.sst").unwrap();
    writer.write(b"whole").unwrap();
    assert!(blobs.get("sst/x.sst").unwrap_err().is_not_found());
    assert_eq!(blobs.names("sst/").unwrap(), [""; 0]);
    std::mem::forget(writer);
    assert_eq!(
        LocalBlobs::existing(dir.path())
            .unwrap()
            .remove_leftovers()
            .unwrap(),
        1
    );
}

#[test]
fn sixteen_racing_creations_of_one_name_have_one_winner() {
    let (_dir, blobs) = folder();
    for round in 0..20 {
        let name = format!("manifest/{round}");
        let barrier = Barrier::new(16);
        let winners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16u8)
                .map(|id| {
                    let (name, barrier, blobs) = (&name, &barrier, &blobs);
                    scope.spawn(move || {
                        barrier.wait();
                        blobs.put_if_absent(name, &[id]).unwrap() == PutOutcome::Created
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|t| usize::from(t.join().unwrap()))
                .sum()
        });
        assert_eq!(winners, 1);
    }
}

#[test]
fn a_second_writer_is_told_who_holds_the_folder() {
    let (dir, _blobs) = folder();
    let held = FolderLock::take(dir.path()).unwrap();
    let refused = FolderLock::take(dir.path()).unwrap_err();
    let me = format!("process {}", std::process::id());
    assert!(refused.to_string().contains(&me), "{refused}");
    drop(held);
    FolderLock::take(dir.path()).unwrap();
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let (_dir, blobs) = folder();
    for name in ["../x", "/etc/passwd", "a//b", "a/./b", "", "a/", "a\0b"] {
        assert!(
            matches!(blobs.put(name, b""), Err(Error::Invalid { .. })),
            "{name:?}"
        );
    }
}

#[test]
fn a_reader_puts_its_pin_while_a_writer_sweeps_leftovers() {
    let (dir, blobs) = folder();
    let sweeper = LocalBlobs::existing(dir.path()).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                sweeper.remove_leftovers().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let put = (0..200u32).map(|n| blobs.put("pins/a.pin", &n.to_le_bytes()));
        let put: Result<Vec<()>, _> = put.collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        put.unwrap();
    });
    assert_eq!(&blobs.get("pins/a.pin").unwrap()[..], 199u32.to_le_bytes());
    assert_eq!(blobs.list("pins/").unwrap().len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_on_a_disk_without_any_room_can_be_locked() {
    let dir = tempfile::tempdir().unwrap();
    // Whatever is written there finds no room.
    std::os::unix::fs::symlink("/dev/full", dir.path().join("LOCK")).unwrap();
    let held = FolderLock::take(dir.path()).unwrap();
    let refused = FolderLock::take(dir.path()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    drop(held);
    FolderLock::take(dir.path()).unwrap();
}
