//! The demo's document: the cities by country and name, as one tree.

use crate::document::Record;
use crate::failure::{Failure, Result};
use siltstone::blocking::{Database, Tree};
use siltstone::trees::Fields;
use siltstone::{
    Commit, CompactOptions, Edit, History, KeyspaceOptions, Path, Value, WatchEvent, WatchFrom,
};
use std::collections::BTreeMap;

/// The name of the tree.
pub(crate) const TREE: &str = "world";

/// The document.
pub(crate) struct Document {
    tree: Tree,
    pub(crate) cities: u64,
    pub(crate) imported: Commit,
}

/// What a patch did, and what a watch told of it.
pub(crate) struct Patched {
    pub(crate) commit: Commit,
    /// The patch as the watch told it.
    pub(crate) told: String,
    /// The watch told exactly the commits that changed what it watches, in order.
    pub(crate) once: bool,
}

/// Where a city is in the document.
fn place(key: &[u8]) -> Option<Path> {
    let key = std::str::from_utf8(key).ok()?;
    let (country, city) = key.split_once('/')?;
    Some(Path::root().field(country).field(city))
}

impl Document {
    /// Sets the whole document in one commit.
    pub(crate) fn import(db: &Database, records: &[Record]) -> Result<Self> {
        let everything = KeyspaceOptions {
            history: History::everything(),
            ..KeyspaceOptions::default()
        };
        let tree = db.create_tree(TREE, everything)?;
        let mut countries: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        let mut cities = 0;
        for (key, value) in records {
            let text = String::from_utf8_lossy(key).into_owned();
            let Some((country, city)) = text.split_once('/') else {
                continue;
            };
            let value: Value = String::from_utf8_lossy(value)
                .parse()
                .map_err(|error| Failure::Other(format!("{text}: {error}")))?;
            let country = countries.entry(country.to_string()).or_default();
            country.insert(city.to_string(), value);
            cities += 1;
        }
        let countries = countries.into_iter();
        let of_country = |(name, cities): (String, BTreeMap<String, Value>)| {
            (name, Value::Object(cities.into_iter().collect()))
        };
        let world: Fields = countries.map(of_country).collect();
        let imported = tree.set("", Value::Object(world))?;
        Ok(Self {
            tree,
            cities,
            imported,
        })
    }

    /// Patches a city, and others, under a watch of the city.
    pub(crate) fn patch_watched(&self, key: &[u8]) -> Result<(Path, Patched)> {
        let place = place(key).ok_or_else(|| Failure::Other("a city without a country".into()))?;
        let mut watch = self.tree.watch(&place, WatchFrom::Now)?;
        let state = watch.next()?;
        let population = place.field("population");
        let elsewhere = self.tree.set("elsewhere", true)?;
        let mut changed = Vec::new();
        changed.push(self.tree.increment(&population, 1000)?);
        self.tree.patch("elsewhere", 1)?;
        let edit = Edit::new()
            .set(
                place.field("twinned"),
                Value::Array(vec!["Gothenburg".into()]),
            )
            .increment(&population, 1);
        changed.push(self.tree.commit(&edit)?.commit);
        self.tree.delete("elsewhere")?;
        let mut events = Vec::new();
        while let Some(event) = watch.try_next()? {
            events.push(event);
        }
        let told: Vec<_> = events.iter().map(WatchEvent::commit).collect();
        let last = match events.last() {
            Some(WatchEvent::Changes { changes, .. }) => changes
                .iter()
                .map(|change| match &change.value {
                    Some(value) => format!("{} = {value}", change.path),
                    None => format!("{} is gone", change.path),
                })
                .collect::<Vec<_>>()
                .join(", "),
            _ => String::new(),
        };
        let once = told == changed && state.commit() < elsewhere;
        let commit = changed.last().copied().unwrap_or_default();
        Ok((
            place,
            Patched {
                commit,
                told: last,
                once,
            },
        ))
    }

    /// What the city's population was when it was imported, and at `commit`; and that every city is
    /// still there.
    pub(crate) fn answers(&self, place: &Path, commit: Commit) -> Result<[Value; 4]> {
        let population = place.field("population");
        let country = Path::from(place.segments()[..1].to_vec());
        Ok([
            self.tree.get_at(&population, self.imported)?,
            self.tree.get_at(&population, commit)?,
            self.tree.get_at(&country, self.imported)?,
            self.tree.get("")?,
        ])
    }

    /// Compacts everything that the tree consists of.
    pub(crate) fn compact(&self) -> Result<()> {
        self.tree.keyspace().database().flush()?;
        let compacted = self.tree.keyspace().compact(&CompactOptions::default());
        compacted.map(drop).map_err(|failed| failed.error.into())
    }
}
