//! Copies a database to another store while it is written to. Tables that are there already are not
//! copied again, so the next backup to the same place copies what is new.

use crate::db::Kv;
use crate::error::Result;
use crate::sst::format::TableMeta;
use crate::state::DbState;
use crate::types::Commit;
use crate::types::SegmentId;
use crate::wal::number_of;
use serde::Serialize;
use siltstone_storage::{Blobs, Env, ManifestStore, Role, Wait};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes copied in one piece.
const PIECE: usize = 1 << 20;

/// What a backup did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BackupStats {
    /// The newest commit in the backup.
    pub commit: Commit,
    /// Tables copied.
    pub copied_tables: u64,
    /// Tables that were there already.
    pub kept_tables: u64,
    /// Bytes copied.
    pub bytes: u64,
}

impl Kv {
    /// Copies everything up to the newest commit to `to`. What is written meanwhile may be in the
    /// copy or not; the copy is consistent. `progress` is told how many of how many tables are done.
    ///
    /// # Errors
    /// The stores'; an unfinished copy is not a database and can be continued.
    pub fn backup(
        &self,
        to: Arc<dyn Blobs>,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<BackupStats> {
        let core = self.core();
        let from = &core.shared.env.blobs;
        core.sync()?;
        // While no flush runs, no log file goes.
        let no_flush = core.flushing.lock();
        let (current, _pin) = core.pin_current();
        let mut stats = BackupStats {
            commit: core.shared.visible(),
            ..BackupStats::default()
        };
        let target = Env {
            blobs: to.clone(),
            ..core.shared.env.clone()
        };
        let there: BTreeSet<String> = to.list("")?.into_iter().map(|blob| blob.name).collect();
        let known = tables_of(&target)?;
        let floor = current.state.wal_floor;
        let log = from.list("wal/")?;
        // What an earlier state of the copy needs stays until the new one is there.
        let is_stale = |name: &&String| {
            number_of(name).is_some_and(|n| n >= floor)
                && log.iter().all(|blob| blob.name != **name)
        };
        for stale in there.iter().filter(is_stale) {
            to.delete(stale)?;
        }
        for blob in log {
            if number_of(&blob.name).is_some_and(|n| n >= floor) {
                let bytes = from.get(&blob.name)?;
                // Space set aside at the end of a log is not worth copying.
                let used = crate::inspect::wal(&**from, &blob.name, |_| {})?;
                let bytes = bytes.slice(..(used as usize).min(bytes.len()));
                stats.bytes += bytes.len() as u64;
                to.put(&blob.name, &bytes)?;
            }
        }
        drop(no_flush);
        let live = current.state.tables.live();
        for (done, segment) in live.iter().enumerate() {
            let name = segment.id.blob();
            // A copy that was opened and written to may have given this name to another table.
            if there.contains(&name) && known.get(&segment.id) == Some(&segment.meta) {
                stats.kept_tables += 1;
            } else {
                stats.copied_tables += 1;
                stats.bytes += copy(&**from, &*to, &name)?;
            }
            progress(done + 1, live.len());
        }
        let mut state: DbState = current.state.clone();
        let retired: Vec<_> = state.tables.retired().copied().collect();
        state.tables.remove_retired(&retired);
        ManifestStore::publish(target, core.manifest.epoch(), state)?;
        let live: BTreeSet<String> = live.iter().map(|segment| segment.id.blob()).collect();
        let is_old = |name: &&String| {
            let segment = name.starts_with("sst/") || name.starts_with("blob/");
            let table = segment && !live.contains(*name);
            table || number_of(name).is_some_and(|n| n < floor)
        };
        for old in there.iter().filter(is_old) {
            to.delete(old)?;
        }
        Ok(stats)
    }
}

/// The tables that the newest manifest of a backup lists, with what it says about them.
fn tables_of(target: &Env) -> Result<BTreeMap<SegmentId, TableMeta>> {
    let opened = ManifestStore::<DbState>::open(target.clone(), Role::Reader, || {
        unreachable!("readers create nothing")
    });
    match opened {
        Ok(manifest) => {
            let state = &manifest.current().state;
            let listed = state.tables.live().iter();
            Ok(listed
                .map(|segment| (segment.id, segment.meta.clone()))
                .collect())
        }
        Err(error) if error.is_not_found() => Ok(BTreeMap::new()),
        Err(error) => Err(error.into()),
    }
}

fn copy(from: &dyn Blobs, to: &dyn Blobs, name: &str) -> Result<u64> {
    let reader = from.open(name)?;
    let mut writer = to.create(name)?;
    let size = reader.size();
    let mut at = 0;
    while at < size {
        let len = PIECE.min((size - at) as usize);
        writer.write(&reader.read(at, len, Wait::Allowed)?)?;
        at += len as u64;
    }
    writer.finish()?;
    Ok(size)
}
