//! Archives beside the tools of npm: `@ipld/car` and `ipfs-car` read ours, and theirs are read here.
//!
//! The packages are fetched from the npm registry, so this is not part of a plain run:
//! `cargo test -p siltstone-ledger --test npm -- --ignored`. Without npm it says so and ends.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use siltstone_ledger::block::MemBlocks;
use siltstone_ledger::car::{CarWriter, Frames, Header};
use siltstone_ledger::clock::{Write, append};
use siltstone_ledger::merge::merge;
use siltstone_ledger::{Block, Document, Staged};

const PACKAGES: [&str; 4] = [
    "@ipld/car@5.4.2",
    "@ipld/dag-cbor@9.2.5",
    "multiformats@13.4.1",
    "ipfs-car@3.1.0",
];

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    output
}

/// A folder with the packages; None, with a word, when there is no npm.
fn packages() -> Option<PathBuf> {
    if Command::new("npm").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no npm on this machine");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("package.json"), r#"{"private": true}"#).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/npm/read_and_write.mjs");
    std::fs::copy(script, folder.join("read_and_write.mjs")).unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    run(npm.args(PACKAGES).current_dir(&folder));
    Some(folder)
}

/// The blocks of a small ledger with a bulk, a conflict and a merge.
fn ledger() -> (Header, Vec<Block>) {
    let mut blocks = MemBlocks::new();
    let mut order = Vec::new();
    let write = |n: usize, text: &str| {
        let value =
            serde_json::json!({"number": n, "text": text, "float": 0.5, "list": [null, true]});
        let block = Document::from_json(&value).unwrap().block();
        let write = Write {
            key: format!("id {n:05}"),
            doc: Some(block.cid),
        };
        (write, block)
    };
    let mut commit = |heads: &[_], writes: Vec<(Write, Block)>| {
        let mut staged = Staged::new(&blocks);
        let (writes, documents): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        documents.into_iter().for_each(|block| {
            staged.put(block);
        });
        let head = match writes.is_empty() {
            true => merge(&mut staged, heads).unwrap().unwrap(),
            false => append(&mut staged, heads.first(), b"author", 7, writes).unwrap(),
        };
        let new = staged.into_blocks();
        order.extend(new.iter().cloned());
        blocks.extend(new);
        head
    };
    let base = commit(&[], (0..3000).map(|n| write(n, "first")).collect());
    let left = commit(&[base], vec![write(5, "left")]);
    let right = commit(&[base], vec![write(5, "right"), write(9, "right")]);
    let head = commit(&[left, right], Vec::new());
    let header = Header {
        heads: vec![head],
        ..Header::default()
    };
    order.push(Block::raw(vec![7; 100_000]));
    (header, order)
}

#[test]
#[ignore = "fetches packages from the npm registry"]
fn s33_ipld_car_and_ipfs_car_read_ours_and_theirs_are_read_here() {
    let Some(folder) = packages() else { return };
    let (header, blocks) = ledger();
    let mut writer = CarWriter::new(Vec::new(), &header.block(), None).unwrap();
    blocks.iter().for_each(|block| writer.add(block).unwrap());
    let (car, _) = writer.finish().unwrap();
    std::fs::write(folder.join("ours.car"), &car).unwrap();
    let frames = Frames::new(Bytes::from(car)).unwrap();
    let ours: Vec<_> = frames.map(|frame| frame.unwrap().block).collect();
    let cids: Vec<_> = ours.iter().map(|block| block.cid.to_string()).collect();

    let mut node = Command::new("node");
    node.args(["read_and_write.mjs", "ours.car", "theirs.car"]);
    let told = run(node.current_dir(&folder)).stdout;
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["blocks"], serde_json::json!(cids));
    assert_eq!(told["roots"], serde_json::json!([cids[0]]));
    let theirs = Bytes::from(std::fs::read(folder.join("theirs.car")).unwrap());
    let theirs: Vec<_> = Frames::new(theirs)
        .unwrap()
        .map(|frame| frame.unwrap().block)
        .collect();
    assert_eq!(theirs, ours);

    let ipfs_car = |arguments: &[&str]| {
        let mut command = Command::new("node_modules/.bin/ipfs-car");
        let output = run(command.args(arguments).current_dir(&folder));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ipfs_car(&["roots", "ours.car"]).trim(), cids[0]);
    let listed = ipfs_car(&["blocks", "ours.car"]);
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), cids);

    let text = "silt settles ".repeat(50_000);
    std::fs::write(folder.join("file.txt"), &text).unwrap();
    let root = ipfs_car(&["pack", "file.txt", "--no-wrap", "--output", "packed.car"]);
    let packed = Bytes::from(std::fs::read(folder.join("packed.car")).unwrap());
    let frames = Frames::new(packed).unwrap();
    assert_eq!(frames.roots()[0].to_string(), root.trim());
    let packed: Vec<_> = frames.map(|frame| frame.unwrap().block).collect();
    packed.iter().for_each(|block| block.check().unwrap());
    let bytes: usize = packed.iter().map(|block| block.bytes.len()).sum();
    assert!(
        packed.len() > 1 || bytes >= text.len(),
        "{} blocks",
        packed.len()
    );
    // What they packed goes into an archive of ours and comes out again.
    let mut writer = CarWriter::new(Vec::new(), &Header::default().block(), None).unwrap();
    packed.iter().for_each(|block| writer.add(block).unwrap());
    let (car, _) = writer.finish().unwrap();
    let frames = Frames::new(car.into())
        .unwrap()
        .map(|frame| frame.unwrap().block);
    assert_eq!(
        frames.skip(1).take(packed.len()).collect::<Vec<_>>(),
        packed
    );
}
