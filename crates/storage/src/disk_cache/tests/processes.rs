//! What happens to a process: a disk that takes nothing, a kill.

use super::listening::{listen, warnings};
use super::{Place, SIZE, contents, stats, whole};
use crate::blobs::{Blobs, Wait};
use crate::disk_cache::DiskCache;
use crate::probe::STANDING;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// The folder that a child process is to use; `None` in the test's own process.
const CHILD: &str = "SILTSTONE_DISK_CACHE_TEST";

/// The number of the first blob that a child process reads.
const FIRST: &str = "SILTSTONE_DISK_CACHE_TEST_FIRST";

/// Runs the test `name` of this file in another process, with `folder` for its cache.
fn child(name: &str, folder: &Path, limit: &str) -> Command {
    let mut command = Command::new("sh");
    let line = format!(
        "{limit}exec \"$0\" --exact disk_cache::tests::processes::{name} --ignored --nocapture"
    );
    command
        .arg("-c")
        .arg(line)
        .arg(std::env::current_exe().unwrap());
    command.env(CHILD, folder);
    command
}

/// A bucket in this child process, and the cache that it is to put in front of it; `None` when nobody
/// gave it a folder.
fn child_place() -> Option<(Place, DiskCache)> {
    let folder = std::env::var_os(CHILD)?;
    let place = Place::new();
    let settings = DiskCache {
        folder: folder.into(),
        ..place.settings()
    };
    Some((place, settings))
}

#[test]
#[ignore = "run by a_disk_that_takes_nothing_is_warned_of_and_the_bucket_read"]
fn reads_with_a_disk_that_takes_nothing() {
    listen();
    let Some((place, settings)) = child_place() else {
        return;
    };
    let blobs = settings.in_front_of(place.env.clone()).unwrap().blobs;
    place.bucket.put("sst/new.sst", &contents(3, SIZE)).unwrap();
    let reader = blobs.open_sized("sst/new.sst", SIZE).unwrap();
    // The pages that are on their way answer until the disk has refused them.
    let mut rounds = 0;
    while warnings(&settings.folder).is_empty() {
        let read = reader.read(0, SIZE as usize, Wait::Allowed).unwrap();
        assert_eq!(read, contents(3, SIZE));
        rounds += 1;
        assert!(rounds < 1_000_000, "{:?}", stats(&blobs));
    }
    let warned = warnings(&settings.folder);
    assert!(warned[0].contains("cannot be written"), "{warned:?}");
    assert_eq!(stats(&blobs).off, None);
    let read = reader.read(0, SIZE as usize, Wait::Allowed).unwrap();
    assert_eq!(read, contents(3, SIZE));
    drop((blobs, reader));
    std::io::Write::write_all(&mut std::io::stdout(), b"all read\n").unwrap();
}

#[test]
fn a_disk_that_takes_nothing_is_warned_of_and_the_bucket_read() {
    let place = Place::new();
    // Its files are made while there is space; then nothing can be written behind their first bytes.
    drop(place.open());
    let limit = "trap '' XFSZ; ulimit -f 1; ";
    let name = "reads_with_a_disk_that_takes_nothing";
    let done = child(name, place.folder.path(), limit).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.status.success() && said.contains("all read"),
        "{said}\n{errors}"
    );
    // What it left is usable.
    place.fill();
    let blobs = place.open();
    assert_eq!(place.reads(|| whole(&blobs)), (0, contents(1, SIZE)));
}

#[test]
#[ignore = "run by a_process_killed_while_it_writes_leaves_a_cache_that_can_be_used"]
fn writes_until_killed() {
    let Some((place, settings)) = child_place() else {
        return;
    };
    // The database of the parent.
    place.bucket.put(STANDING, &[4; 16]).unwrap();
    let blobs = settings.in_front_of(place.env.clone()).unwrap().blobs;
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    for n in first.. {
        let name = format!("sst/{n:016x}.sst");
        place.bucket.put(&name, &contents(n, SIZE)).unwrap();
        let sized = blobs.open_sized(&name, SIZE).unwrap();
        let bytes = sized.read(0, SIZE as usize, Wait::Allowed).unwrap();
        assert_eq!(bytes, contents(n, SIZE));
        place.bucket.delete(&name).unwrap();
        println!("{n} {} read and written", stats(&blobs).written);
    }
}

#[test]
fn a_process_killed_while_it_writes_leaves_a_cache_that_can_be_used() {
    let place = Place::new();
    place.bucket.put(STANDING, &[4; 16]).unwrap();
    for round in 0..5 {
        let first = round * 1_000_000;
        let mut child = child("writes_until_killed", place.folder.path(), "");
        let child = child.env(FIRST, first.to_string()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // How many blobs it has read, once it has written pages of some.
        let read = lines.map(Result::unwrap).find_map(|line| {
            let mut words = line.split(' ').map_while(|word| word.parse::<u64>().ok());
            let (read, written) = (words.next()?, words.next()?);
            (read >= first + round * 17 && written > 0).then_some(read)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let blobs = place.open();
        assert_eq!(stats(&blobs).off, None);
        let read = read.unwrap();
        for n in first.max(read.saturating_sub(20))..read + 5 {
            let name = format!("sst/{n:016x}.sst");
            place.bucket.put(&name, &contents(n, SIZE)).unwrap();
            let sized = blobs.open_sized(&name, SIZE).unwrap();
            let bytes = sized.read(0, SIZE as usize, Wait::Allowed).unwrap();
            assert_eq!(bytes, contents(n, SIZE), "round {round}, {name}");
            place.bucket.delete(&name).unwrap();
        }
        assert!(stats(&blobs).hits > 0, "round {round}: {:?}", stats(&blobs));
    }
}
