//! The same command on a bucket: a test server speaks S3 on loopback.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, Ran, command};
use siltstone_s3_test_server::TestServer;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

struct Bucket {
    server: TestServer,
    _folder: tempfile::TempDir,
}

impl Bucket {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = TestServer::start(folder.path()).unwrap();
        Self {
            server,
            _folder: folder,
        }
    }

    fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.server.bucket())
    }

    fn command(&self) -> Command {
        let mut command = command();
        command
            .env("AWS_ENDPOINT_URL", self.server.endpoint())
            .env("AWS_ACCESS_KEY_ID", self.server.access_key())
            .env("AWS_SECRET_ACCESS_KEY", self.server.secret_key())
            .env("SILTSTONE_DB", self.url("db"));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command().args(args).output().unwrap())
    }
}

#[test]
fn a_bucket_is_written_read_compacted_and_verified() {
    let bucket = Bucket::start();
    bucket
        .run(&["get", "k"])
        .fails(1, &["there is no database", "init"]);
    for n in ["1", "2", "3"] {
        bucket.run(&["put", "k", n]).ok().notes(&["durable"]);
    }
    bucket.run(&["get", "k"]).ok().says("3\n");
    bucket.run(&["get", "k", "--at", "2"]).ok().says("2\n");
    bucket.run(&["compact"]).ok().notes(&["into 1 table"]);
    bucket.run(&["scan"]).ok().says("k\t3\n");
    bucket.run(&["stats"]).ok();
    bucket.run(&["dump", "sst"]).ok();
    bucket.run(&["verify"]).ok().notes(&["all is well"]);
}

#[test]
fn acknowledged_writes_to_a_bucket_survive_kill_9() {
    let bucket = Bucket::start();
    let mut there = 0;
    for _ in 0..3 {
        let mut writer = bucket
            .command()
            .args(["put", "--ack"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = writer.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            for n in there.. {
                if stdin
                    .write_all(format!("{{\"_id\":\"{n:06}\"}}\n").as_bytes())
                    .is_err()
                {
                    return;
                }
            }
        });
        let mut acks = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut acknowledged = there;
        for line in acks.by_ref().take(300) {
            assert_eq!(line.unwrap(), format!("{acknowledged:06}"));
            acknowledged += 1;
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        feeder.join().unwrap();
        acknowledged += acks
            .filter(|line| line.as_ref().is_ok_and(|l| l.len() == 6))
            .count() as u64;
        let keys = bucket.run(&["scan", "--keys-only"]).ok().out;
        for (n, line) in keys.lines().enumerate() {
            assert_eq!(line, format!("{n:06}"));
        }
        there = keys.lines().count() as u64;
        assert!(
            there >= acknowledged,
            "{acknowledged} acknowledged, {there} there"
        );
    }
    bucket.run(&["verify"]).ok();
}

#[test]
fn a_folder_is_backed_up_into_a_bucket_and_back() {
    let bucket = Bucket::start();
    let db = Db::with(&["a", "b"]);
    let repository = bucket.url("backups");
    bucket
        .run(&["--db", &db.url(), "backup", "create", &repository])
        .ok()
        .notes(&["2 files copied"]);
    let back = db.path("back").to_string_lossy().into_owned();
    bucket.run(&["backup", "verify", &repository]).ok();
    bucket.run(&["backup", "restore", &repository, &back]).ok();
    bucket.run(&["--db", &back, "put", "c", "v"]).ok();
    bucket
        .run(&["--db", &back, "scan", "--keys-only"])
        .ok()
        .says("a\nb\nc\n");
}

#[test]
fn a_clone_inside_a_bucket_reads_no_file() {
    let bucket = Bucket::start();
    bucket.run(&["put", "a", "1"]).ok();
    bucket.run(&["put", "b", "1"]).ok();
    let to = bucket.url("clone");
    let cloned = bucket.run(&["clone", &to, "--at", "1", "--json"]).ok();
    let cloned = cloned.objects().remove(0);
    assert_eq!(
        (cloned["copied"].as_u64(), cloned["bytes"].as_u64()),
        (Some(0), Some(0))
    );
    bucket.run(&["--db", &to, "put", "c", "1"]).ok();
    bucket
        .run(&["--db", &to, "scan", "--keys-only"])
        .ok()
        .says("a\nc\n");
    bucket.run(&["--db", &to, "verify"]).ok();
}

#[test]
fn wrong_credentials_and_a_silent_endpoint_are_said() {
    let bucket = Bucket::start();
    let wrong = bucket
        .command()
        .env("AWS_SECRET_ACCESS_KEY", "wrong")
        .args(["get", "k"])
        .output();
    Ran::of(wrong.unwrap()).fails(1, &["s3://bucket"]);
}

#[cfg(not(feature = "disk-cache"))]
#[test]
fn a_build_without_the_disk_cache_says_how_to_make_one_with_it() {
    let bucket = Bucket::start();
    let dir = tempfile::tempdir().unwrap();
    let cache = ["--disk-cache", dir.path().to_str().unwrap()];
    let hint = "this build has no disk cache; build it with `--features disk-cache`";
    bucket
        .run(&[&["put", "k", "v"], &cache[..]].concat())
        .fails(2, &[hint]);
    bucket.run(&["put", "k", "v"]).ok();
}

#[cfg(feature = "disk-cache")]
mod disk_cache {
    use super::*;
    use siltstone_storage::{Blobs, ObjectBlobs, S3Settings};
    use std::path::Path;

    /// A bucket with a table of 20,000 rows.
    fn filled() -> Bucket {
        let bucket = Bucket::start();
        let mut import = bucket.command();
        import
            .args(["import", "--ingest", "-"])
            .stdin(Stdio::piped());
        let mut import = import.spawn().unwrap();
        let mut stdin = import.stdin.take().unwrap();
        for n in 0..20_000 {
            writeln!(stdin, "{{\"_id\":\"{n:06}\",\"twice\":{}}}", 2 * n).unwrap();
        }
        drop(stdin);
        assert!(import.wait().unwrap().success());
        bucket
    }

    /// The database without the command.
    fn store(bucket: &Bucket) -> ObjectBlobs {
        let server = &bucket.server;
        let settings = S3Settings::new(server.bucket(), server.access_key(), server.secret_key());
        ObjectBlobs::s3(settings.endpoint(&server.endpoint()), "db").unwrap()
    }

    /// Removes the tables: what is read after that comes from the cache.
    fn remove_tables(bucket: &Bucket) {
        let store = store(bucket);
        let tables = store.list("sst/").unwrap();
        assert!(!tables.is_empty());
        for table in tables {
            store.delete(&table.name).unwrap();
        }
    }

    /// A command that keeps what it reads in `folder`.
    fn cached(bucket: &Bucket, folder: &Path, args: &[&str]) -> Ran {
        let mut command = bucket.command();
        command.env("SILTSTONE_DISK_CACHE", folder).args(args);
        Ran::of(command.output().unwrap())
    }

    #[test]
    fn what_one_process_read_the_next_one_has() {
        let bucket = filled();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cache");
        let cached = |args: &[&str]| {
            let size = ["--disk-cache-size", "100MiB"];
            cached(&bucket, &folder, &[&size, args].concat())
        };
        cached(&["get", "000777"]).ok();
        remove_tables(&bucket);
        cached(&["get", "000777"]).ok().says("{\"twice\":1554}\n");
        cached(&["get", "000778"]).ok();
        bucket.run(&["get", "000777"]).fails(4, &["is not there"]);
        cached(&["verify"]).fails(4, &["1 problem found"]);
        let stats = cached(&["stats"]).ok();
        assert!(stats.out.contains("  disk cache "), "{}", stats.out);
        assert!(
            stats.out.contains("of 100 MiB; pages: 0 found"),
            "{}",
            stats.out
        );
        let stats = cached(&["stats", "--json"]).ok();
        assert!(
            stats.out.contains("\"capacity_bytes\":104857600"),
            "{}",
            stats.out
        );
    }

    #[test]
    fn trees_and_lists_are_read_from_the_cache() {
        let bucket = Bucket::start();
        let dir = tempfile::tempdir().unwrap();
        let cached = |args: &[&str]| cached(&bucket, dir.path(), args);
        let stock = "{\"stock\": {\"apples\": 5, \"pears\": 2}}";
        bucket.run(&["tree", "patch", "", stock]).ok();
        bucket
            .run(&["tree", "patch", "stock", "{\"apples\": 4}"])
            .ok();
        let items = ["list", "append", "todo", "\"buy sand\"", "42"];
        bucket.run(&items).ok();
        bucket.run(&["flush"]).ok();
        let reads: [&[&str]; 4] = [
            &["tree", "get", "stock"],
            &["tree", "get", "stock", "--at", "1"],
            &["tree", "history", "stock.apples"],
            &["list", "show", "todo"],
        ];
        let before = reads.map(|read| cached(read).ok().out);
        assert!(before[0].contains('4') && before[1].contains('5'));
        assert!(before[3].contains("buy sand"), "{before:?}");
        remove_tables(&bucket);
        assert_eq!(reads.map(|read| cached(read).ok().out), before);
        bucket.run(reads[0]).fails(4, &["is not there"]);
    }

    #[test]
    fn a_ledger_is_read_from_the_cache_and_checked_past_it() {
        let bucket = Bucket::start();
        let dir = tempfile::tempdir().unwrap();
        let cached = |args: &[&str]| cached(&bucket, dir.path(), args);
        bucket.run(&["init"]).ok();
        bucket.run(&["ledger", "new", "notes"]).ok();
        for id in ["clay", "sand"] {
            let put = ["ledger", "put", "notes", id, "{\"grain\": 0.2}"];
            bucket.run(&put).ok();
        }
        bucket.run(&["ledger", "compact", "notes"]).ok();
        let whole = cached(&["ledger", "all", "notes"]).ok().out;
        cached(&["ledger", "verify", "notes"]).ok();
        // A byte of the bucket's changes; the cache has it as it was.
        let store = store(&bucket);
        let archives = store.list("ledger/notes/car/").unwrap();
        assert_eq!(archives.len(), 1, "{archives:?}");
        let mut bytes = store.get(&archives[0].name).unwrap().to_vec();
        for at in (60..bytes.len()).step_by(7) {
            bytes[at] ^= 1;
        }
        store.put(&archives[0].name, &bytes).unwrap();
        bucket.run(&["ledger", "all", "notes"]).fails(4, &["hash"]);
        cached(&["ledger", "all", "notes"]).ok().says(&whole);
        cached(&["ledger", "verify", "notes"]).fails(4, &["problem"]);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_a_note_and_no_error() {
        let bucket = filled();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"in the way").unwrap();
        let cached = ["--disk-cache", file.to_str().unwrap()];
        let get = [&["get", "000777"], &cached[..]].concat();
        bucket
            .run(&get)
            .ok()
            .says("{\"twice\":1554}\n")
            .notes(&["no disk cache:", "make the folder"]);
        let ran = bucket.run(&[&get[..], &["--quiet"]].concat()).ok();
        assert_eq!(ran.err, "");
        bucket
            .run(&[&get[..], &["--disk-cache-size", "1MiB"]].concat())
            .fails(2, &["disk_cache", "give it 16777216 or more"]);
    }
}
