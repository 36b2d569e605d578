//! What is wrong is said in one line: what, where, what to do.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod common;

use common::{Db, Ran, command};
use std::fs;
use std::io::{BufRead, BufReader, Write};

#[test]
fn without_a_database_reading_says_how_to_make_one() {
    let db = Db::new();
    for args in [
        &["get", "k"][..],
        &["scan"],
        &["export"],
        &["stats"],
        &["history", "k"],
        &["verify"],
        &["checkpoint", "list"],
        &["keyspace", "list"],
        &["flush"],
        &["compact"],
        &["delete", "k"],
        &["delete", "--prefix", "k"],
        &["merge", "k", "1"],
        &["changes"],
        &["changes", "--follow"],
        &["keep-log", "1MiB"],
        &["backup", "create", "elsewhere"],
        &["clone", "elsewhere"],
        &["checkpoint", "create", "c"],
        &["keyspace", "create", "k"],
    ] {
        db.run(args).fails(1, &["there is no database", "init"]);
    }
    assert!(!db.path("db").exists(), "nothing was made");
    fs::create_dir(db.path("db")).unwrap();
    db.run(&["get", "k"]).fails(1, &["there is no database"]);
    db.run(&["flush"]).fails(1, &["there is no database"]);
}

#[test]
fn keys_and_values_have_limits() {
    let db = Db::with(&["k"]);
    db.run(&["put", "", "v"])
        .fails(1, &["key of 0 bytes", "1 to 65535 bytes"]);
    db.run(&["get", ""]).fails(1, &["key of 0 bytes"]);
    db.run(&["history", ""]).fails(1, &["key of 0 bytes"]);
    db.run(&["delete", "k", ""]).fails(1, &["key of 0 bytes"]);
    let long = "x".repeat(65_536);
    db.run(&["put", &long, "v"])
        .fails(1, &["key of 65536 bytes"]);
    let line = format!("{{\"_id\":\"{long}\"}}\n");
    db.feed(&["put"], line.as_bytes())
        .fails(1, &["line 1", "key of 65536 bytes"]);
    db.feed(&["import", "-"], line.as_bytes())
        .fails(1, &["line 1", "key of 65536 bytes"]);
    db.run(&["put", &long[1..], "v"]).ok();
    let large = vec![b'x'; (64 << 20) + 1];
    db.feed(&["put", "large", "-"], &large)
        .fails(1, &["value of 67108865 bytes", "max_value_bytes"]);
    db.run(&["get", "k"]).ok().says("v\n");
}

#[test]
fn ranges_have_their_start_first() {
    let db = Db::with(&["k"]);
    db.run(&["scan", "--from", "b", "--to", "a"])
        .fails(2, &["start \"b\" lies after end \"a\"", "Swap"]);
    let file = db.path("out.jsonl");
    db.run(&["export", file.to_str().unwrap(), "--from", "b", "--to", "a"])
        .fails(2, &["invalid range"]);
    assert!(!file.exists(), "nothing was made");
}

#[test]
fn names_must_be_known() {
    let db = Db::with(&["k"]);
    for args in [
        &["put", "k", "v"][..],
        &["get", "k"],
        &["scan"],
        &["delete", "k"],
        &["compact"],
    ] {
        let mut all = args.to_vec();
        all.extend(["--keyspace", "nowhere"]);
        db.run(&all)
            .fails(1, &["no keyspace \"nowhere\"", "there are: default"]);
    }
    db.run(&["keyspace", "create", "default"])
        .fails(1, &["exists already"]);
    db.run(&["keyspace", "create", ""])
        .fails(1, &["1 to 255 bytes"]);
    db.run(&["keyspace", "drop", "nowhere"])
        .fails(1, &["no keyspace"]);
}

#[test]
fn wrong_urls_say_what_would_be_right() {
    let run = |url: &str| Ran::of(command().args(["--db", url, "get", "k"]).output().unwrap());
    run("ftp://x").fails(2, &["ftp://x", "unknown scheme", "s3://"]);
    run("s3:///x").fails(2, &["names no bucket"]);
    run("").fails(2, &["is empty"]);
    run("/dev/null").fails(1, &["/dev/null", "a database is a folder"]);
    let put = command()
        .args(["--db", "/dev/null/x", "put", "k", "v"])
        .output()
        .unwrap();
    Ran::of(put).fails(1, &["/dev/null/x", "create folder"]);
}

#[test]
fn a_bucket_needs_credentials() {
    for args in [&["get", "k"][..], &["put", "k", "v"], &["verify"]] {
        let ran = Ran::of(
            command()
                .args(["--db", "s3://bucket/prefix"])
                .args(args)
                .output()
                .unwrap(),
        );
        ran.fails(1, &["s3://bucket", "AWS_ACCESS_KEY_ID"]);
    }
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let db = Db::with(&["k"]);
    for args in [
        &["nonsense"][..],
        &["put", "only-a-key"],
        &["get"],
        &["scan", "--limit", "many"],
        &["compact", "--order", "random"],
        &["compact", "--max-size", "5 parsecs"],
        &["compact", "--min-time", "yesterday"],
        &["scan", "--prefix", "a", "--from", "b"],
        &["put", "--ack", "--buffered"],
        &["import", "x", "--batch", "0"],
        &["checkpoint", "create", "c", "--lease", "soon"],
        &["get", "k", "--at", "now"],
        &["--memory", "lots", "get", "k"],
        &["--wal-recovery", "hope", "get", "k"],
    ] {
        let ran = db.run(args).code(2);
        assert!(ran.err.contains("error:"), "{ran:?}");
    }
    db.run(&["--memory", "1MiB", "get", "k"])
        .fails(2, &["memory_budget"]);
    db.run(&["keyspace", "create", "x", "--filter-bits", "99"])
        .fails(2, &["filter_bits"]);
    db.run(&["keyspace", "create", "x", "--window", "0"])
        .fails(2, &["history.window"]);
}

#[test]
fn a_folder_without_permission_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let db = Db::with(&["k"]);
    let closed = |mode| fs::set_permissions(db.url(), fs::Permissions::from_mode(mode)).unwrap();
    closed(0o000);
    let barred = fs::read_dir(db.url()).is_err();
    let ran = db.run(&["get", "k"]);
    closed(0o700);
    // Nothing is barred from the superuser.
    if barred {
        ran.fails(1, &["Check the owner and mode"]);
    }
}

#[test]
fn a_second_writer_is_told_who_the_first_is_and_readers_go_on() {
    let db = Db::new();
    let mut first = db.spawn(&["put", "--ack"]);
    first
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"{\"_id\":\"k\",\"n\":1}\n")
        .unwrap();
    let mut ack = String::new();
    let mut acks = BufReader::new(first.stdout.take().unwrap());
    acks.read_line(&mut ack).unwrap();
    assert_eq!(ack, "k\n");
    let holder = format!("process {}, siltstone", first.id());
    for args in [
        &["put", "k", "v"][..],
        &["flush"],
        &["delete", "k"],
        &["compact"],
        &["backup", "create", "x"],
        &["clone", "x"],
    ] {
        db.run(args).fails(1, &["open for writing", &holder]);
    }
    db.run(&["get", "k"]).ok().says("{\"n\":1}\n");
    db.run(&["verify"]).ok();
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    db.run(&["put", "k", "v"]).ok();
}

#[test]
fn a_foreign_or_newer_manifest_is_refused_and_left_alone() {
    let db = Db::with(&["k"]);
    let newest = db.files("manifest").pop().unwrap();
    let good = fs::read(&newest).unwrap();
    fs::write(
        &newest,
        "a shopping list: eggs, milk, bread, and something that is long enough",
    )
    .unwrap();
    for args in [
        &["get", "k"][..],
        &["put", "k", "v"],
        &["verify"],
        &["dump", "manifest"],
    ] {
        db.run(args)
            .fails(4, &["manifest/", "not a Siltstone manifest"]);
    }
    let mut newer = good.clone();
    newer[8] = 99;
    fs::write(&newest, &newer).unwrap();
    db.run(&["get", "k"])
        .fails(1, &["format version 99 is newer", "Upgrade"]);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&newest, &damaged).unwrap();
    db.run(&["get", "k"])
        .fails(4, &["damaged at byte", "checksum", "backup"]);
    fs::write(&newest, &good).unwrap();
    db.run(&["get", "k"]).ok().says("v\n");
}

#[test]
fn damage_in_a_table_is_found_by_verify_and_never_read_over() {
    let db = Db::new();
    let line = |n: u32| format!("{{\"_id\":\"key {n:04}\",\"n\":{n}}}\n");
    let lines: String = (0..5000).map(line).collect();
    db.feed(&["put", "--buffered"], lines.as_bytes()).ok();
    db.run(&["verify"])
        .ok()
        .says("")
        .notes(&["5,000 entries", "all is well"]);
    let table = db.files("sst").pop().unwrap();
    let mut bytes = fs::read(&table).unwrap();
    bytes[100] ^= 0x20;
    fs::write(&table, bytes).unwrap();
    let name = table.file_name().unwrap().to_string_lossy().into_owned();
    let ran = db.run(&["verify"]).fails(4, &["1 problem found"]);
    assert!(
        ran.out.contains(&name) && ran.out.contains("damaged at byte"),
        "{ran:?}"
    );
    let report = db.run(&["verify", "--json"]).code(4).objects().remove(0);
    assert_eq!(
        (report["ok"].as_bool(), report["tables"].as_u64()),
        (Some(false), Some(1))
    );
    db.run(&["get", "key 0000"]).fails(4, &[&name, "damaged"]);
    db.run(&["scan"]).fails(4, &[&name]).says("");
    db.run(&["export"]).fails(4, &[&name]);
    db.run(&["dump", "sst"]).fails(4, &[&name]);
    db.run(&["get", "key 4999"]).ok();
    fs::remove_file(&table).unwrap();
    db.run(&["verify"]).fails(4, &["1 problem"]);
    db.run(&["get", "key 0000"])
        .fails(4, &[&name, "is not there"]);
}

#[test]
fn a_log_damaged_in_the_middle_is_refused_until_it_is_given_up() {
    let db = Db::new();
    let mut writer = db.spawn(&["put", "--ack"]);
    let mut acks = BufReader::new(writer.stdout.take().unwrap());
    for n in 0..20 {
        let line = format!("{{\"_id\":\"{n:02}\",\"n\":{n}}}\n");
        writer
            .stdin
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
        acks.read_line(&mut String::new()).unwrap();
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    let log = db.files("wal").pop().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    let at = bytes
        .windows(8)
        .position(|w| w == b"{\"n\":10}")
        .expect("the value is in the log");
    bytes[at] ^= 1;
    fs::write(&log, bytes).unwrap();
    for args in [&["get", "00"][..], &["flush"], &["put", "k", "v"]] {
        db.run(args).fails(
            4,
            &["the log is damaged at byte", "Commits up to 10", "truncate"],
        );
    }
    db.run(&["--wal-recovery", "truncate", "flush"]).ok();
    let kept = db.run(&["scan", "--keys-only"]).ok().out;
    assert_eq!(
        kept.lines().collect::<Vec<_>>(),
        (0..10).map(|n| format!("{n:02}")).collect::<Vec<_>>()
    );
}
