//! Which blob files are still pointed to, and by how much. Pure: from the manifest's state.

use crate::sst::format::TableMeta;
use crate::state::DbState;
use crate::types::{KeyspaceId, SegmentId};
use siltstone_storage::Segment;
use std::collections::{BTreeMap, BTreeSet};

/// A file of which less than one part in this many is pointed to is cleared out.
const WORTH: u64 = 2;

/// How many bytes of each blob file live tables point to; files without any are there with 0.
pub(crate) fn live_bytes(state: &DbState) -> BTreeMap<SegmentId, u64> {
    let mut live: BTreeMap<SegmentId, u64> = BTreeMap::new();
    for segment in state.tables.live() {
        if segment.meta.is_blob_file() {
            live.entry(segment.id).or_default();
        }
        for (file, bytes) in &segment.meta.blobs {
            *live.entry(*file).or_default() += bytes;
        }
    }
    live
}

/// The blob files whose values a compaction should copy elsewhere.
pub(crate) fn sparse(state: &DbState, keyspace: KeyspaceId) -> BTreeSet<SegmentId> {
    let files = blob_files(state, keyspace);
    if files.clone().next().is_none() {
        return BTreeSet::new();
    }
    let live = live_bytes(state);
    let is_sparse = |file: &&Segment<SegmentId, TableMeta>| {
        // Of a new file all of its values are live: clearing out always gets somewhere.
        live.get(&file.id).copied().unwrap_or(0) * WORTH < file.meta.index_at
    };
    files.filter(is_sparse).map(|file| file.id).collect()
}

fn blob_files(
    state: &DbState,
    keyspace: KeyspaceId,
) -> impl Iterator<Item = &Segment<SegmentId, TableMeta>> + Clone {
    state
        .tables
        .live()
        .iter()
        .filter(move |s| s.meta.keyspace == keyspace && s.meta.is_blob_file())
}

/// The blob files of a keyspace in numbers.
#[derive(Debug, Default)]
pub(crate) struct BlobTotals {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Of those, what tables point to.
    pub(crate) live_bytes: u64,
}

impl DbState {
    pub(crate) fn blob_totals(&self, keyspace: KeyspaceId) -> BlobTotals {
        let mut totals = BlobTotals::default();
        let live = live_bytes(self);
        for file in blob_files(self, keyspace) {
            totals.files += 1;
            totals.bytes += file.meta.bytes;
            totals.live_bytes += live.get(&file.id).copied().unwrap_or(0);
        }
        totals
    }

    /// The tables, without the blob files beside them.
    pub fn tables(&self) -> impl Iterator<Item = &Segment<SegmentId, TableMeta>> + Clone {
        self.tables
            .live()
            .iter()
            .filter(|segment| !segment.meta.is_blob_file())
    }

    /// Retires the blob files of a keyspace that no table points to any more.
    pub(crate) fn retire_blob_files(&mut self, keyspace: KeyspaceId) {
        if blob_files(self, keyspace).next().is_none() {
            return;
        }
        let live = live_bytes(self);
        let dead = self.tables.capture(|segment| {
            segment.meta.keyspace == keyspace
                && segment.meta.is_blob_file()
                && live.get(&segment.id).copied().unwrap_or(0) == 0
        });
        if !dead.ids().is_empty() {
            self.tables
                .replace(&dead, Vec::new())
                .expect("it was captured in this state");
        }
    }
}
