//! What a replica publishes about itself, as bytes.
//!
//! ```text
//! magic "SILTRMET", format u32 (1), flags u32 (bit 0: the body is an envelope)
//! body: postcard
//! crc64 of all of it
//! ```

use crate::block::{Block, Cid};
use crate::car::{CarRef, Seal};
use crate::crypto::{KeyRing, key_of};
use crate::error::{Error, Result};
use crate::store::{CarId, CarMeta, Floor, checksum};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use siltstone_storage::Blobs;
use std::collections::{BTreeMap, BTreeSet};

const MAGIC: &[u8; 8] = b"SILTRMET";
const FORMAT: u32 = 1;
const SEALED: u32 = 1;
const HEADER: usize = 16;
/// The largest meta that is read, in bytes.
const MAX_META: u64 = 64 << 20;

/// An archive of the remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteCar {
    pub(crate) car: CarRef,
    pub(crate) sealed: bool,
}

impl RemoteCar {
    pub(crate) fn of(id: CarId, meta: &CarMeta) -> Self {
        Self {
            car: CarRef {
                cid: id,
                length: meta.bytes,
                index_offset: meta.index_offset,
                blocks: meta.blocks,
            },
            sealed: meta.sealed,
        }
    }

    pub(crate) fn id(&self) -> CarId {
        self.car.cid
    }
}

/// What a replica knew when it published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemoteMeta {
    pub(super) replica: String,
    pub(super) number: u64,
    /// Milliseconds since 1970, by its clock. For people.
    pub(super) time: u64,
    /// The events that are its clock, sorted.
    pub(super) heads: Vec<Cid>,
    /// Archives that together hold all that the heads lead to, down to the floor.
    pub(super) cars: Vec<RemoteCar>,
    /// Where its history begins.
    pub(super) floor: Option<Floor>,
    /// Archives whose content others hold: the one, and those that hold it, which are among `cars`.
    pub(super) redirects: Vec<(CarId, Vec<CarId>)>,
}

impl RemoteMeta {
    /// Whether it says the same, but for number and time.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.heads == other.heads
            && self.cars == other.cars
            && self.floor == other.floor
            && self.redirects == other.redirects
    }

    pub(super) fn name(&self) -> String {
        meta_name(&self.replica, self.number)
    }

    /// Reads the meta that a replica published under a number.
    pub(super) fn read(
        blobs: &dyn Blobs,
        replica: &str,
        number: u64,
        keys: Option<&KeyRing>,
    ) -> Result<Self> {
        let name = meta_name(replica, number);
        let file = blobs.open(&name)?;
        if file.size() > MAX_META {
            return Err(Error::TooLarge {
                what: "bytes of a meta",
                size: file.size(),
                limit: MAX_META,
            });
        }
        Self::decode(replica, number, &blobs.get(&name)?, keys)
    }

    pub(super) fn encode(&self, seal: Option<&dyn Seal>) -> Result<Vec<u8>> {
        let body = postcard::to_stdvec(self)
            .map_err(|e| Error::invalid(format!("a meta cannot be written: {e}")))?;
        let (flags, body) = match seal {
            Some(seal) => (SEALED, seal.seal(&Block::raw(body))?.bytes),
            None => (0, body.into()),
        };
        let mut out = Vec::with_capacity(body.len() + 24);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&body);
        let sum = checksum(&[&out]);
        out.extend_from_slice(&sum.to_le_bytes());
        Ok(out)
    }

    /// Decodes the meta at `meta/<replica>/<number>`. A ledger with keys takes sealed ones only:
    /// whoever can write to the remote could forge others.
    pub(super) fn decode(
        replica: &str,
        number: u64,
        bytes: &Bytes,
        keys: Option<&KeyRing>,
    ) -> Result<Self> {
        let name = meta_name(replica, number);
        let corrupt = |what: &str| Error::corrupt(&name, what);
        let u32_at = |at: usize| -> Option<u32> {
            let field = bytes.get(at..at + 4)?;
            Some(u32::from_le_bytes(field.try_into().ok()?))
        };
        if bytes.len() < HEADER + 8 || &bytes[..8] != MAGIC {
            return Err(corrupt("it is no meta of a replica"));
        }
        let end = bytes.len() - 8;
        if checksum(&[&bytes[..end]]).to_le_bytes() != bytes[end..] {
            return Err(corrupt("its checksum does not match"));
        }
        let format = u32_at(8).unwrap_or(0);
        if format > FORMAT {
            return Err(Error::NewerFormat {
                place: name,
                found: u64::from(format),
                supported: u64::from(FORMAT),
            });
        }
        let body = bytes.slice(HEADER..end);
        let body = match (u32_at(12), keys) {
            (Some(0), None) => body,
            (Some(SEALED), Some(keys)) => keys.open_envelope(&name, &body)?.bytes,
            (Some(SEALED), None) => {
                return Err(Error::Undecryptable {
                    key: key_of(&name, &body)?.to_string(),
                    place: name,
                    what: "the ledger is open without a key ring; open it with one",
                });
            }
            (Some(0), Some(_)) => {
                return Err(corrupt("it is not encrypted, and this ledger is"));
            }
            _ => return Err(corrupt("its flags are not known")),
        };
        let meta: Self = postcard::from_bytes(&body).map_err(|e| corrupt(&e.to_string()))?;
        if meta.replica != replica || meta.number != number {
            return Err(corrupt("it was written under another name"));
        }
        let in_order = |ids: &mut dyn Iterator<Item = CarId>| {
            let ids: Vec<CarId> = ids.collect();
            ids.windows(2).all(|pair| pair[0] < pair[1])
        };
        let fits = |one: &RemoteCar| {
            one.car.index_offset < one.car.length && one.car.length <= u64::from(u32::MAX)
        };
        if !in_order(&mut meta.cars.iter().map(RemoteCar::id))
            || !in_order(&mut meta.redirects.iter().map(|(from, _)| *from))
            || !meta.cars.iter().all(fits)
        {
            return Err(corrupt("its archives are not in order"));
        }
        Ok(meta)
    }
}

/// The numbers under which each replica published.
pub(super) type Listed = BTreeMap<String, BTreeSet<u64>>;

/// The metas that there are.
pub(super) fn list_metas(blobs: &dyn Blobs) -> Result<Listed> {
    let mut found = Listed::new();
    for blob in blobs.list("meta/")? {
        if let Some((replica, number)) = meta_of_name(&blob.name) {
            found.entry(replica).or_default().insert(number);
        }
    }
    Ok(found)
}

/// The blob of a meta.
pub(super) fn meta_name(replica: &str, number: u64) -> String {
    format!("meta/{replica}/{number:020}")
}

/// Replica and number of a meta by its name.
pub(super) fn meta_of_name(name: &str) -> Option<(String, u64)> {
    let (replica, number) = name.strip_prefix("meta/")?.split_once('/')?;
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let known = replica.len() == 32 && replica.chars().all(hex) && number.len() == 20;
    let number = number.parse().ok().filter(|_| known)?;
    Some((replica.to_string(), number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Codec;
    use crate::crypto::SystemEntropy;
    use std::sync::Arc;

    fn meta() -> RemoteMeta {
        let id = |n: u8| Cid::from_digest(Codec::CAR, [n; 32]);
        let car = |n| RemoteCar {
            car: CarRef {
                cid: id(n),
                length: 900,
                index_offset: 800,
                blocks: 4,
            },
            sealed: false,
        };
        RemoteMeta {
            replica: "0123456789abcdef0123456789abcdef".into(),
            number: 7,
            time: 5,
            heads: vec![id(9)],
            cars: vec![car(1), car(2)],
            floor: None,
            redirects: vec![(id(3), vec![id(1), id(2)])],
        }
    }

    #[test]
    fn every_flip_and_every_cut_of_a_meta_is_a_typed_error() {
        let meta = meta();
        let keys = KeyRing::generate(&SystemEntropy);
        let sealer = keys.sealer(Arc::new(SystemEntropy));
        for keys in [None, Some(&keys)] {
            let seal = keys.map(|_| &sealer as &dyn Seal);
            let bytes = meta.encode(seal).unwrap();
            let read = |bytes: &[u8]| {
                let bytes = Bytes::copy_from_slice(bytes);
                RemoteMeta::decode(&meta.replica, 7, &bytes, keys)
            };
            assert_eq!(read(&bytes).unwrap(), meta);
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 4;
                assert!(read(&bad).is_err(), "flip at {at}");
                assert!(read(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn hostile_bodies_under_a_right_checksum_are_refused_in_bounded_memory() {
        let meta = meta();
        let good = meta.encode(None).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..20_000 {
            let mut body = good[..good.len() - 8].to_vec();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(HEADER..body.len());
                body[at] = random.u8(..);
            }
            if round % 3 == 0 {
                body.truncate(random.usize(HEADER..body.len()));
            }
            let sum = checksum(&[&body]);
            body.extend_from_slice(&sum.to_le_bytes());
            let _ = RemoteMeta::decode(&meta.replica, 7, &body.into(), None);
        }
    }

    #[test]
    fn a_sealed_ledger_takes_no_plain_meta_and_a_plain_one_names_the_key() {
        let meta = meta();
        let keys = KeyRing::generate(&SystemEntropy);
        let sealer = keys.sealer(Arc::new(SystemEntropy));
        let plain = meta.encode(None).unwrap().into();
        let forged = RemoteMeta::decode(&meta.replica, 7, &plain, Some(&keys));
        assert!(matches!(forged, Err(Error::Corrupt { .. })), "{forged:?}");
        let sealed = meta.encode(Some(&sealer)).unwrap().into();
        let blind = RemoteMeta::decode(&meta.replica, 7, &sealed, None);
        let key = keys.current().to_string();
        assert!(matches!(blind, Err(Error::Undecryptable { key: k, .. }) if k == key));
        let moved = RemoteMeta::decode(&meta.replica, 8, &sealed, Some(&keys));
        assert!(matches!(moved, Err(Error::Corrupt { .. })));
        assert_eq!(meta_of_name(&meta.name()), Some((meta.replica, 7)));
        assert_eq!(meta_of_name("meta/../../x"), None);
    }
}
