//! Archives: ours read by others, others' read here, lookups, and hostile bytes.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::future::Future;

use bytes::Bytes;
use proptest::prelude::*;
use siltstone_ledger::block::{MAX_BLOCK_BYTES, sha256};
use siltstone_ledger::car::{
    CarIndex, CarRef, CarStream, CarWriter, Frame, Frames, Header, IndexPage, Location, Lookup,
    write_car,
};
use siltstone_ledger::{Block, Cid, Codec, Document, Error};

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn blocks(count: usize) -> Vec<Block> {
    let document = |n: usize| {
        let value = serde_json::json!({"number": n, "text": "x".repeat(n % 300)});
        Document::from_json(&value).unwrap().block()
    };
    (0..count)
        .map(|n| match n % 10 {
            9 => Block::raw(vec![n as u8; n]),
            _ => document(n),
        })
        .collect()
}

fn header() -> Header {
    Header {
        cars: Vec::new(),
        heads: vec![Block::raw("head").cid],
        parents: Vec::new(),
    }
}

/// Finds a block as a store does: the index, at most one page, the block.
fn look_up(car: &Bytes, reference: &CarRef, cid: &Cid) -> Option<Location> {
    let index = CarIndex::decode(&car.slice(reference.index_offset as usize..)).unwrap();
    assert_eq!(index.blocks(), reference.blocks);
    match index.lookup(cid) {
        Lookup::At(location) => Some(location),
        Lookup::OnPage(page) => {
            let bytes = car.slice(page.offset as usize..(page.offset + page.length) as usize);
            IndexPage::decode(bytes).unwrap().lookup(cid)
        }
        Lookup::Absent => None,
    }
}

#[test]
fn s33_every_block_is_found_and_every_tool_reads_the_archive() {
    for count in [0, 1, 100, 1024, 1025, 5000] {
        let blocks = blocks(count);
        let mut writer = CarWriter::new(Vec::new(), &header().block(), None).unwrap();
        for block in &blocks {
            writer.add(block).unwrap();
        }
        let estimated = writer.length();
        let (bytes, reference) = writer.finish().unwrap();
        assert!(estimated >= bytes.len() as u64 && estimated < bytes.len() as u64 + 2_000);
        assert_eq!(reference.length, bytes.len() as u64);
        assert_eq!(reference.cid, Cid::of(Codec::CAR, &bytes));
        assert_eq!(reference.blocks, count as u64);
        let car = Bytes::from(bytes);
        for block in &blocks {
            let at = look_up(&car, &reference, &block.cid).unwrap();
            assert_eq!(at.cid, block.cid);
            let found = car.slice(at.offset as usize..(at.offset + at.length) as usize);
            assert_eq!(found, block.bytes);
        }
        for n in 0..1000 {
            let absent = Block::raw(format!("absent {n}")).cid;
            assert_eq!(look_up(&car, &reference, &absent), None);
        }

        // Ours, in memory and as a stream.
        let frames: Vec<Frame> = Frames::new(car.clone())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let streamed = CarStream::new(&car[..]).unwrap().map(Result::unwrap);
        assert_eq!(streamed.collect::<Vec<_>>(), frames);
        let roots = Frames::new(car.clone()).unwrap().roots().to_vec();
        assert_eq!(roots, [header().block().cid]);
        let read: Vec<_> = frames.iter().map(|frame| frame.block.clone()).collect();
        assert_eq!(
            Header::decode(&read[0].cid, &read[0].bytes).unwrap(),
            header()
        );
        assert_eq!(read[1..=count], blocks);
        assert_eq!(frames.last().unwrap().offset, reference.index_offset);
        for frame in &frames {
            frame.block.check().unwrap();
            let end = frame.offset as usize + frame.block.bytes.len();
            assert_eq!(car[frame.offset as usize..end], frame.block.bytes);
        }

        // Theirs.
        wait(async {
            let mut reader = iroh_car::CarReader::new(&car[..]).await.unwrap();
            assert_eq!(reader.header().roots(), [cid::Cid::from(roots[0])]);
            for block in &read {
                let (cid, bytes) = reader.next_block().await.unwrap().unwrap();
                assert_eq!(
                    (Cid::try_from(&cid).unwrap(), bytes),
                    (block.cid, block.bytes.to_vec())
                );
            }
            assert!(reader.next_block().await.unwrap().is_none());
        });
    }
}

#[test]
fn s33_blocks_of_structure_are_encoded_as_other_libraries_do() {
    let (car, _) = write_car(&header().block(), &blocks(2000), None).unwrap();
    for frame in Frames::new(car.into()).unwrap() {
        let block = frame.unwrap().block;
        if block.cid.codec() == Codec::DAG_CBOR {
            let ipld: ipld_core::ipld::Ipld = serde_ipld_dagcbor::from_slice(&block.bytes).unwrap();
            assert_eq!(serde_ipld_dagcbor::to_vec(&ipld).unwrap(), block.bytes);
        }
    }
}

#[test]
fn archives_of_other_tools_are_read() {
    let blocks = blocks(300);
    let roots: Vec<_> = blocks[..2]
        .iter()
        .map(|block| cid::Cid::from(block.cid))
        .collect();
    let car = wait(async {
        let header = iroh_car::CarHeader::new_v1(roots.clone());
        let mut writer = iroh_car::CarWriter::new(header, Vec::new());
        for block in &blocks {
            writer.write(block.cid.into(), &block.bytes).await.unwrap();
        }
        writer.finish().await.unwrap()
    });
    let frames = Frames::new(car.into()).unwrap();
    let ours: Vec<_> = frames
        .roots()
        .iter()
        .map(|root| cid::Cid::from(*root))
        .collect();
    assert_eq!(ours, roots);
    let read: Vec<_> = frames.map(|frame| frame.unwrap().block).collect();
    assert_eq!(read, blocks);
}

#[test]
fn an_archive_has_its_golden_address() {
    let (bytes, reference) = write_car(&header().block(), &blocks(3), None).unwrap();
    assert_eq!(
        reference.cid.to_string(),
        "bagbaieraf3y2ol27iql62olp76yemezu4ntyblqnbdmvpyjtthp43ppkkljq"
    );
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("fixtures/small.car.hex").trim());
    let (_, reference) = write_car(&header().block(), &blocks(3000), None).unwrap();
    assert_eq!(
        reference.cid.to_string(),
        "bagbaieraiywv4gvdhprlcvqykx5r6n7ehox73jluh22zmgdud32hw253elsa"
    );
}

#[test]
fn what_an_archive_does_not_hold_is_refused() {
    let mut writer = CarWriter::new(Vec::new(), &header().block(), None).unwrap();
    let large = Block::raw(vec![0; MAX_BLOCK_BYTES + 200]);
    assert!(matches!(writer.add(&large), Err(Error::TooLarge { .. })));
    let foreign = Block::new(Codec(0x0129), "{}");
    assert!(matches!(
        writer.add(&foreign),
        Err(Error::UnsupportedCid { .. })
    ));
}

#[test]
fn addresses_come_back() {
    for codec in [Codec::DAG_CBOR, Codec::RAW, Codec::CAR, Codec::DAG_PB] {
        let cid = Cid::of(codec, b"bytes");
        assert_eq!(cid.to_bytes(), cid::Cid::from(cid).to_bytes());
        assert_eq!(cid.to_bytes().len(), cid.encoded_len());
        assert_eq!(Cid::from_bytes(&cid.to_bytes()).unwrap(), cid);
        assert_eq!(cid.to_string().parse::<Cid>().unwrap(), cid);
        for end in 0..cid.encoded_len() {
            assert!(Cid::from_bytes(&cid.to_bytes()[..end]).is_err());
        }
        assert!(Cid::from_bytes(&[&cid.to_bytes()[..], &[0]].concat()).is_err());
    }
    let v0: Cid = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"
        .parse()
        .unwrap();
    assert_eq!(v0.codec(), Codec::DAG_PB);
    assert!(matches!("x".parse::<Cid>(), Err(Error::Invalid { .. })));
    // BLAKE2b-256, and the hash that is the bytes themselves.
    for bytes in [
        &b"\x01\x71\xa0\xe4\x02\x20"[..],
        b"\x01\x71\x00\x01a",
        b"\x02\x71\x12\x20",
    ] {
        assert!(matches!(
            Cid::from_bytes(bytes),
            Err(Error::UnsupportedCid { .. })
        ));
    }
    assert_eq!(Cid::of(Codec::RAW, b"").digest(), &sha256(b""));
}

#[test]
fn lengths_that_lie_reserve_nothing() {
    let (car, _) = write_car(&header().block(), &blocks(1), None).unwrap();
    let header_len = 1 + car[0] as usize;
    for len in [
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
        &[0xff; 10],
        &[0x80, 0x80, 0x80, 0x01],
        &[0x00],
        &[0x80, 0x00],
    ] {
        let mut hostile = car[..header_len].to_vec();
        hostile.extend_from_slice(len);
        hostile.extend_from_slice(&[0; 100]);
        for result in [
            Frames::new(hostile.clone().into()).unwrap().last().unwrap(),
            CarStream::new(&hostile[..]).unwrap().last().unwrap(),
        ] {
            let error = result.unwrap_err();
            assert!(
                error.is_corrupt() || matches!(error, Error::TooLarge { .. }),
                "{error}"
            );
        }
    }
    for header in [
        &b""[..],
        b"\x00",
        b"\xff\xff\xff\xff\x0f",
        b"\x01\xa0",
        b"\x0a\xa1gversion\x01",
    ] {
        let outcome = Frames::new(Bytes::copy_from_slice(header));
        let streamed = CarStream::new(header);
        assert_eq!(outcome.is_err(), streamed.is_err());
    }
    let two = b"\x0a\xa1gversion\x02";
    assert!(matches!(
        Frames::new(Bytes::from_static(two)),
        Err(Error::NewerFormat { found: 2, .. })
    ));
}

fn walk(bytes: &[u8]) -> Result<usize, Error> {
    let mut count = 0;
    let streamed =
        CarStream::new(bytes).and_then(|mut frames| frames.try_for_each(|frame| frame.map(|_| ())));
    let walked = Frames::new(Bytes::copy_from_slice(bytes)).and_then(|mut frames| {
        frames.try_for_each(|frame| {
            let frame = frame?;
            let _ = Header::decode(&frame.block.cid, &frame.block.bytes);
            if let Ok(index) = CarIndex::decode(&frame.block.bytes) {
                assert!(index.entries().count() + index.pages().count() <= bytes.len());
                index.lookup(&frame.block.cid);
            }
            let _ = IndexPage::decode(frame.block.bytes.clone());
            count += 1;
            frame.block.check()
        })
    });
    if let Err(error) = &streamed {
        assert!(walked.is_err(), "{error}");
    }
    walked.map(|()| count)
}

#[test]
fn s36_every_cut_and_every_flip_of_an_archive_is_found() {
    let (car, reference) = write_car(&header().block(), &blocks(12), None).unwrap();
    let whole = walk(&car).unwrap();
    for end in 0..car.len() {
        // A cut between two frames leaves an archive without its index.
        assert!(
            walk(&car[..end]).is_err()
                || CarIndex::decode(&Bytes::copy_from_slice(&car[..end])).is_err()
        );
        assert!(walk(&car[..end]).unwrap_or(0) < whole);
    }
    let frames = Frames::new(car.clone().into()).unwrap();
    let within: Vec<_> = frames
        .map(|frame| frame.unwrap())
        .map(|frame| frame.offset as usize..frame.offset as usize + frame.block.bytes.len())
        .collect();
    for at in 0..car.len() {
        for bit in 0..8 {
            let mut flipped = car.clone();
            flipped[at] ^= 1 << bit;
            // Every flip changes the archive's address, and in a block's bytes the block's.
            assert_ne!(Cid::of(Codec::CAR, &flipped), reference.cid);
            let in_block = within.iter().any(|range| range.contains(&at));
            assert!(walk(&flipped).is_err() || !in_block, "byte {at}");
        }
    }
}

proptest! {
    #[test]
    fn s36_hostile_archives_are_typed_errors(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = walk(&bytes);
        let (car, _) = write_car(&header().block(), &[], None).unwrap();
        let mut spliced = car[..1 + car[0] as usize].to_vec();
        spliced.extend(&bytes);
        let _ = walk(&spliced);
        let _ = CarIndex::decode(&bytes.clone().into());
        let _ = IndexPage::decode(bytes.clone().into());
        let _ = Header::decode(&Block::raw("").cid, &bytes);
        let _ = Cid::from_bytes(&bytes);
    }
}
