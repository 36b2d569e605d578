//! Where the names of replaced CARs lead: sorted files, listed by the manifest, without a bound on
//! their number. A compaction adds one; from [`FAN_IN`] of a level on they are merged into one of the
//! next, so that a name is looked for in few files and each entry is rewritten a logarithmic number
//! of times. A merge follows chains that lie within it.
//!
//! ```text
//! magic "SILTREDI", format u32, entries u32, sets u32
//! entries, sorted by name: CAR digest (32 bytes), number of its set u32
//! sets: count u32, then as many CAR digests; one after another
//! crc64 of all of it
//! ```

use super::car_ref::CarId;
use super::journal::frame::checksum;
use crate::block::Codec;
use serde::{Deserialize, Serialize};
use siltstone_storage::{Blobs, Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// From this many files of one level on, they are merged.
const FAN_IN: usize = 8;
const MAGIC: &[u8; 8] = b"SILTREDI";
const FORMAT: u32 = 1;
const HEADER: usize = 20;
const ENTRY: usize = 36;

/// A redirect file as the state lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedirectFile {
    /// Its number, which is its name.
    pub number: u64,
    /// How many merges its entries went through.
    pub level: u8,
    /// Names in it.
    pub entries: u64,
}

impl RedirectFile {
    /// The blob's name.
    pub fn name(&self) -> String {
        format!("redirect/{:020}.redirect", self.number)
    }
}

/// The number of a redirect file by its name.
pub(crate) fn redirect_number(name: &str) -> Option<u64> {
    name.strip_prefix("redirect/")?
        .strip_suffix(".redirect")?
        .parse()
        .ok()
}

/// Replaced names, each with those of what replaced it.
pub(crate) type Leads = BTreeMap<CarId, Arc<[CarId]>>;

fn encode(leads: &Leads) -> Vec<u8> {
    let mut sets: BTreeMap<Arc<[CarId]>, u32> = BTreeMap::new();
    let mut order = Vec::new();
    let mut entries = Vec::with_capacity(leads.len() * ENTRY);
    for (from, to) in leads {
        let next = sets.len() as u32;
        let set = *sets.entry(to.clone()).or_insert_with(|| {
            order.push(to.clone());
            next
        });
        entries.extend_from_slice(from.digest());
        entries.extend_from_slice(&set.to_le_bytes());
    }
    let mut bytes = MAGIC.to_vec();
    for field in [FORMAT, leads.len() as u32, order.len() as u32] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend(entries);
    for set in order {
        bytes.extend_from_slice(&(set.len() as u32).to_le_bytes());
        for id in set.iter() {
            bytes.extend_from_slice(id.digest());
        }
    }
    let sum = checksum(&[&bytes]);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Decodes a redirect file.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Leads> {
    let corrupt = |at: usize, what: &str| Error::corrupt(name, at as u64, what);
    let u32_at = |at: usize| -> Result<u32> {
        let field = bytes.get(at..at + 4);
        let field = field.and_then(|field| field.try_into().ok());
        field
            .map(u32::from_le_bytes)
            .ok_or_else(|| corrupt(at, "it is cut short"))
    };
    let id_at = |at: usize| -> Result<CarId> {
        let field = bytes.get(at..at + 32);
        let field = field.and_then(|field| field.try_into().ok());
        field
            .map(|digest| CarId::from_digest(Codec::CAR, digest))
            .ok_or_else(|| corrupt(at, "it is cut short"))
    };
    if bytes.len() < HEADER + 8 || &bytes[..8] != MAGIC {
        return Err(corrupt(0, "it is not a redirect file"));
    }
    let end = bytes.len() - 8;
    if checksum(&[&bytes[..end]]).to_le_bytes() != bytes[end..] {
        return Err(corrupt(end, "its checksum does not match"));
    }
    let format = u32_at(8)?;
    if format > FORMAT {
        return Err(Error::NewerFormat {
            name: name.into(),
            found: format,
            supported: FORMAT,
        });
    }
    let (entries, sets) = (u32_at(12)? as usize, u32_at(16)? as usize);
    let sets_at = HEADER.saturating_add(entries.saturating_mul(ENTRY));
    if sets_at > end || sets > (end - sets_at) / 4 {
        return Err(corrupt(12, "its counts pass its end"));
    }
    let mut at = sets_at;
    let mut targets: Vec<Arc<[CarId]>> = Vec::with_capacity(sets);
    for _ in 0..sets {
        let count = u32_at(at)? as usize;
        if count > (end - at) / 32 {
            return Err(corrupt(at, "a set passes its end"));
        }
        let ids: Result<Vec<CarId>> = (0..count).map(|n| id_at(at + 4 + n * 32)).collect();
        targets.push(ids?.into());
        at += 4 + count * 32;
    }
    let mut leads = Leads::new();
    for entry in 0..entries {
        let at = HEADER + entry * ENTRY;
        let set = u32_at(at + 32)? as usize;
        let to = targets.get(set).ok_or_else(|| corrupt(at, "no such set"))?;
        leads.insert(id_at(at)?, to.clone());
    }
    Ok(leads)
}

/// What adding redirects came to: the file to list, and those it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) file: RedirectFile,
    pub(crate) removed: Vec<u64>,
}

/// Makes it durable that each of `from` leads to `to`, merging files as needed. `next` numbers the
/// file, `listed` are those of the state. Nothing that is listed is touched.
pub(crate) fn add(
    blobs: &dyn Blobs,
    listed: &[RedirectFile],
    next: u64,
    from: &[CarId],
    to: &[CarId],
) -> Result<Added> {
    let to: Arc<[CarId]> = to.into();
    let mut leads: Leads = from.iter().map(|id| (*id, to.clone())).collect();
    let mut removed = Vec::new();
    let mut level = 0;
    loop {
        let same: Vec<_> = listed.iter().filter(|file| file.level == level).collect();
        if same.len() + 1 < FAN_IN {
            break;
        }
        for file in same {
            leads.extend(load(blobs, file)?);
            removed.push(file.number);
        }
        level += 1;
    }
    if !removed.is_empty() {
        shorten(&mut leads);
    }
    let file = RedirectFile {
        number: next,
        level,
        entries: leads.len() as u64,
    };
    blobs.put(&file.name(), &encode(&leads))?;
    Ok(Added { file, removed })
}

/// Follows chains: afterwards no target is itself among the names.
fn shorten(leads: &mut Leads) {
    // Ends of chains come first, so that each name is followed once.
    let mut ends: BTreeMap<CarId, Arc<[CarId]>> = BTreeMap::new();
    for start in leads.keys().copied().collect::<Vec<_>>() {
        let mut stack = vec![start];
        while let Some(id) = stack.last().copied() {
            if ends.contains_key(&id) {
                stack.pop();
                continue;
            }
            let targets = leads[&id].clone();
            let open = targets
                .iter()
                .find(|to| leads.contains_key(to) && !ends.contains_key(to));
            // A circle cannot be: a CAR's name is the hash of bytes that come after what it replaces.
            if let Some(open) = open
                && !stack.contains(open)
            {
                stack.push(*open);
                continue;
            }
            stack.pop();
            let chained = targets.iter().any(|to| ends.contains_key(to));
            let reached = match chained {
                false => targets,
                true => {
                    let mut all = Vec::new();
                    let mut seen = BTreeSet::new();
                    for to in targets.iter() {
                        let further = ends.get(to).cloned().unwrap_or_else(|| [*to].into());
                        all.extend(further.iter().copied().filter(|id| seen.insert(*id)));
                    }
                    all.into()
                }
            };
            ends.insert(id, reached);
        }
    }
    *leads = ends;
}

/// Reads a redirect file.
pub(crate) fn load(blobs: &dyn Blobs, file: &RedirectFile) -> Result<Leads> {
    let name = file.name();
    decode(&name, &blobs.get(&name)?)
}

/// The names that `id` leads to in the end, `is_known` being true for those that still hold their
/// bytes. Empty when the name was never replaced.
pub(crate) fn resolve(
    blobs: &dyn Blobs,
    listed: &[RedirectFile],
    id: CarId,
    is_known: impl Fn(&CarId) -> bool,
) -> Result<Vec<CarId>> {
    let mut files: Vec<Option<Leads>> = vec![None; listed.len()];
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        if is_known(&id) {
            found.push(id);
            continue;
        }
        for (at, file) in listed.iter().enumerate() {
            if files[at].is_none() {
                files[at] = Some(load(blobs, file)?);
            }
            if let Some(to) = files[at].as_ref().and_then(|leads| leads.get(&id)) {
                open.extend(to.iter().rev());
                break;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use siltstone_storage::MemBlobs;

    fn id(n: u32) -> CarId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        CarId::from_digest(Codec::CAR, bytes)
    }

    #[test]
    fn two_thousand_replacements_of_replacements_resolve_within_few_files() {
        let blobs = MemBlobs::new();
        let mut listed: Vec<RedirectFile> = Vec::new();
        for n in 0..2000 {
            let from = [id(10_000 + n), id(n)];
            let added = add(&blobs, &listed, u64::from(n), &from, &[id(n + 1)]).unwrap();
            listed.retain(|file| !added.removed.contains(&file.number));
            listed.push(added.file);
        }
        assert!(listed.len() <= 4 * (FAN_IN - 1), "{} files", listed.len());
        for n in [0, 1, 77, 1999] {
            for start in [id(n), id(10_000 + n)] {
                let live = id(2000);
                let end = resolve(&blobs, &listed, start, |known| *known == live).unwrap();
                assert_eq!(end, [live]);
            }
        }
        let live = id(2000);
        let never = resolve(&blobs, &listed, id(99_999), |known| *known == live).unwrap();
        assert!(never.is_empty());
    }

    #[test]
    fn every_flipped_byte_is_a_typed_error() {
        let leads: Leads = [(id(1), [id(3)].into()), (id(2), [id(3), id(4)].into())].into();
        let bytes = encode(&leads);
        assert_eq!(decode("r", &bytes).unwrap(), leads);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode("r", &bad).is_err(), "flip at {at}");
            assert!(decode("r", &bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
