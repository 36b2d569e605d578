//! What is kept with the ledger about its remotes, by notes of the state: `remote/replica` (our name in
//! remotes), `remote/floor` (the newest prune that others published), `remote/at/<name>`, `remote/place/<name>`
//! (where it is, in the caller's words), `remote/fetch/<name>` (there when archives stay in it until they
//! are needed), `remote/returning/<name>` (since when we say there that we come back).

use super::meta::RemoteCar;
use super::{Fetch, Remote};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::store::{CarId, Floor};
use serde::{Deserialize, Serialize};
use siltstone_storage::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

const VERSION: u8 = 1;
const REPLICA: &str = "remote/replica";
const FLOOR: &str = "remote/floor";
const PLACE: &str = "remote/place/";
const RETURNING: &str = "remote/returning/";
const FETCH: &str = "remote/fetch/";
const ON_DEMAND: &[u8] = b"on demand";

/// What is kept about one remote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The archives that we pushed or were about to, and since when nobody names them.
    pub(super) own: BTreeMap<CarId, Option<Timestamp>>,
    /// The number of our newest meta.
    pub(super) published: u64,
    /// The metas that were taken in: the newest of each replica.
    pub(super) applied: BTreeMap<String, u64>,
    /// Archives that a pull has brought whose heads are still to come: nothing here leads to their
    /// blocks yet, so a prune may have dropped them again.
    pub(super) pending: BTreeSet<CarId>,
    /// Archives of our log in whose place others are named in what we publish.
    pub(super) covers: BTreeMap<CarId, Vec<RemoteCar>>,
}

/// A note as the state takes it.
pub(super) type Kept = (String, Option<Vec<u8>>);

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = vec![VERSION];
    let body = postcard::to_stdvec(value);
    bytes.extend(body.map_err(|e| Error::invalid(format!("a note cannot be written: {e}")))?);
    Ok(bytes)
}

fn decode<T: serde::de::DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    let corrupt = |what: String| Error::corrupt(format!("the note {key:?}"), what);
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|e| corrupt(e.to_string())),
        Some((found, _)) => Err(Error::NewerFormat {
            place: format!("the note {key:?}"),
            found: u64::from(*found),
            supported: u64::from(VERSION),
        }),
        None => Err(corrupt("it is empty".into())),
    }
}

fn key_of(remote: &str) -> String {
    format!("remote/at/{remote}")
}

impl Note {
    pub(super) fn load(core: &Core, remote: &str) -> Result<Self> {
        let key = key_of(remote);
        let kept = core.store.log.lock().state.notes.get(&key).cloned();
        kept.map_or(Ok(Self::default()), |bytes| decode(&key, &bytes))
    }

    pub(super) fn kept(&self, remote: &str) -> Result<Kept> {
        Ok((key_of(remote), Some(encode(self)?)))
    }
}

/// A floor that others published, as the state keeps it.
pub(super) fn floor_note(floor: &Floor) -> Result<Kept> {
    Ok((FLOOR.to_string(), Some(encode(floor)?)))
}

impl Core {
    /// The newest prune that others published. It binds us too: who has not seen it cannot be merged
    /// with those who pruned.
    pub(crate) fn learned_floor(&self) -> Option<Floor> {
        let kept = self.store.log.lock().state.notes.get(FLOOR).cloned()?;
        decode(FLOOR, &kept).ok()
    }

    /// Keeps where a remote is, if it says so and that is news.
    pub(super) fn keep_place(&self, remote: &Remote) -> Result<()> {
        let Some(place) = &remote.place else {
            return Ok(());
        };
        let (key, place) = (format!("{PLACE}{}", remote.name), place.as_bytes());
        let kept = self.store.log.lock().state.notes.get(&key).cloned();
        match kept.as_deref() == Some(place) {
            true => Ok(()),
            false => self.set_note(&key, Some(place.to_vec())),
        }
    }

    /// How much of a remote is fetched: as it says, which is kept, or as was kept.
    pub(super) fn keep_fetch(&self, remote: &Remote) -> Result<Fetch> {
        let key = format!("{FETCH}{}", remote.name);
        let kept = match self.store.log.lock().state.notes.contains_key(&key) {
            true => Fetch::OnDemand,
            false => Fetch::All,
        };
        match remote.fetch {
            Some(Fetch::OnDemand) if kept == Fetch::All => {
                self.set_note(&key, Some(ON_DEMAND.to_vec()))?;
            }
            Some(Fetch::All) if kept == Fetch::OnDemand => self.set_note(&key, None)?,
            _ => {}
        }
        Ok(remote.fetch.unwrap_or(kept))
    }

    /// Where remotes are, by their names.
    pub(super) fn places(&self) -> Vec<(String, String)> {
        let log = self.store.log.lock();
        let notes = log.state.notes.iter();
        let places = notes.filter_map(|(key, place)| {
            let name = key.strip_prefix(PLACE)?;
            Some((name.to_string(), String::from_utf8(place.clone()).ok()?))
        });
        places.collect()
    }

    /// Since when we say in a remote that we come back.
    pub(super) fn returning_since(&self, remote: &str) -> Result<Option<Timestamp>> {
        let key = format!("{RETURNING}{remote}");
        let kept = self.store.log.lock().state.notes.get(&key).cloned();
        kept.map(|bytes| decode(&key, &bytes)).transpose()
    }

    /// Keeps it, or that it is over.
    pub(super) fn keep_returning(&self, remote: &str, since: Option<Timestamp>) -> Result<()> {
        let bytes = since.map(|since| encode(&since)).transpose()?;
        self.set_note(&format!("{RETURNING}{remote}"), bytes)
    }

    /// Our name in remotes.
    pub(super) fn replica(&self) -> Result<String> {
        let kept = self.store.log.lock().state.notes.get(REPLICA).cloned();
        match kept.map(String::from_utf8) {
            Some(Ok(name)) => Ok(name),
            _ => self.new_replica(),
        }
    }

    /// Takes a new name in remotes: another ledger uses the one we had.
    pub(super) fn new_replica(&self) -> Result<String> {
        let mut bytes = [0; 16];
        self.store.options.entropy.fill(&mut bytes);
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.set_note(REPLICA, Some(name.clone().into_bytes()))?;
        Ok(name)
    }
}
