//! Reads every block of every file and checks it against everything that is known about it.

use crate::blob::Pointer;
use crate::blob::file::{BlobFiles, check_footer};
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::options::WalRecovery;
use crate::sst::block::BlockCursor;
use crate::sst::format::TableMeta;
use crate::sst::table::{Lookup, Table};
use crate::state::DbState;
use crate::ttl;
use crate::types::{Commit, SegmentId};
use crate::wal::frame::Op;
use crate::wal::recovery::{Replay, replay};
use serde::Serialize;
use siltstone_storage::{Caching, Env, Timestamp, Wait};
use std::cmp::Reverse;
use std::sync::Arc;

/// What a verification looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Tables read.
    pub tables: u64,
    /// Blob files checked; their values are read from the tables that point to them.
    pub blob_files: u64,
    /// Data blocks read.
    pub blocks: u64,
    /// Entries decoded.
    pub entries: u64,
    /// Bytes of tables and blob files.
    pub bytes: u64,
    /// Commits in the log.
    pub wal_commits: u64,
    /// What is wrong, each with the file's name. Empty: all is well.
    pub problems: Vec<String>,
}

/// Verifies the database of `state`. `progress` is told after each table how many of how many are
/// done.
///
/// # Errors
/// Only when the check itself cannot be made; damage is in the report.
pub fn verify(
    env: &Env,
    state: &DbState,
    mut progress: impl FnMut(usize, usize),
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let env = &past_disk_cache(env);
    let cache = Arc::new(BlockCache::new(8 << 20));
    let live = state.tables.live();
    for (done, segment) in live.iter().enumerate() {
        if segment.meta.is_blob_file() {
            if let Err(error) = check_blob_file(env, segment.id, &segment.meta) {
                report.problems.push(error.to_string());
            }
            report.blob_files += 1;
            report.bytes += segment.meta.bytes;
            progress(done + 1, live.len());
            continue;
        }
        let table = Table::new(
            segment.id,
            segment.meta.clone(),
            env.blobs.clone(),
            cache.clone(),
        );
        let mut found = Found::default();
        if let Err(error) = check_table(&table, env, &mut found) {
            report.problems.push(error.to_string());
        }
        report.tables += 1;
        report.blocks += found.blocks;
        report.entries += found.entries;
        report.bytes += segment.meta.bytes;
        drop(table);
        cache.forget(segment.id);
        progress(done + 1, live.len());
    }
    check_levels(state, &mut report);
    match replay(
        env,
        state.wal_floor,
        state.head,
        WalRecovery::Strict,
        &mut Nothing,
    ) {
        Ok(recovered) => report.wal_commits = recovered.commits,
        Err(error) => report.problems.push(error.to_string()),
    }
    Ok(report)
}

/// What is checked is the store, not a copy of it on a local disk.
fn past_disk_cache(env: &Env) -> Env {
    let blobs = env.blobs.caching(Caching::Past);
    Env {
        blobs: blobs.unwrap_or_else(|| env.blobs.clone()),
        ..env.clone()
    }
}

struct Nothing;

impl Replay for Nothing {
    fn ops(&mut self, _: u64, _: &[(Commit, Op<'_>)]) {}

    fn time(&mut self, _: Commit, _: Timestamp) {}
}

#[derive(Default)]
struct Found {
    blocks: u64,
    entries: u64,
    keys: u64,
    tombstones: u64,
    raw_bytes: u64,
    first_key: Option<Vec<u8>>,
    last: Option<(Vec<u8>, Reverse<Commit>)>,
    commits: Option<(Commit, Commit)>,
    blobs: Vec<(SegmentId, u64)>,
    files: BlobFiles,
}

/// A blob file has the size and the number of values that the manifest gives.
fn check_blob_file(env: &Env, id: SegmentId, meta: &TableMeta) -> Result<()> {
    let size = env.blobs.open(&id.blob())?.size();
    let values = check_footer(&*env.blobs, id)?;
    if (size, values) != (meta.bytes, meta.entries) {
        let what = format!(
            "it has {values} values in {size} bytes, the manifest says {} in {}",
            meta.entries, meta.bytes
        );
        return Err(Error::corrupt(id.blob(), 0, what));
    }
    Ok(())
}

fn check_table(table: &Table, env: &Env, found: &mut Found) -> Result<()> {
    let wrong = |what: String| Error::corrupt(table.id.blob(), 0, what);
    let cache = Arc::new(BlockCache::new(8 << 20));
    let file = Table::open_file(table.id, &table.id.blob(), env.blobs.clone(), cache)?;
    // A table may have moved to another level since it was written.
    let mut written = TableMeta {
        level: table.meta.level,
        ..file.meta.clone()
    };
    if written.ingested {
        written.min_commit = table.meta.min_commit;
        written.max_commit = table.meta.max_commit;
    }
    if written != table.meta {
        return Err(wrong(
            "its properties are not those the manifest gives".into(),
        ));
    }
    for handle in table.data_handles()? {
        let block = Arc::new(table.read_block(handle, Wait::Allowed)?);
        found.blocks += 1;
        let damaged = || table.damaged(handle.at);
        let mut cursor = BlockCursor::new(block);
        cursor.seek_first().ok_or_else(damaged)?;
        while cursor.valid() {
            check_entry(table, &cursor, found)?;
            check_value(table, env, &cursor, found)?;
            cursor.next().ok_or_else(damaged)?;
        }
    }
    let (min_commit, max_commit) = found.commits.unwrap_or_default();
    let seen = TableMeta {
        min_key: found.first_key.take().unwrap_or_default(),
        max_key: found.last.take().map(|(key, _)| key).unwrap_or_default(),
        min_commit,
        max_commit,
        entries: found.entries,
        tombstones: found.tombstones,
        keys: found.keys,
        raw_bytes: found.raw_bytes,
        blocks: found.blocks,
        blobs: std::mem::take(&mut found.blobs),
        ..table.meta.clone()
    };
    if seen != table.meta {
        return Err(wrong(format!(
            "its contents do not match the manifest: {} entries of {} keys at commits {} to {}, the manifest says {} of {} at {} to {}",
            seen.entries,
            seen.keys,
            seen.min_commit,
            seen.max_commit,
            table.meta.entries,
            table.meta.keys,
            table.meta.min_commit,
            table.meta.max_commit,
        )));
    }
    Ok(())
}

/// A value in a blob file can be read.
fn check_value(table: &Table, env: &Env, cursor: &BlockCursor, found: &mut Found) -> Result<()> {
    let (tag, stored) = (cursor.tag(), cursor.value());
    if !tag.points() {
        return Ok(());
    }
    let pointer = Pointer::decode(&stored[ttl::prefix(tag, stored)..]).ok_or_else(|| {
        let key = crate::error::show_key(cursor.key());
        let what = format!("the pointer of key {key} decodes to nonsense");
        Error::corrupt(table.id.blob(), 0, what)
    })?;
    found.files.read(&*env.blobs, pointer, Wait::Allowed)?;
    let len = pointer.len as u64;
    match found.blobs.iter_mut().find(|(id, _)| *id == pointer.file) {
        Some((_, bytes)) => *bytes += len,
        None => found.blobs.push((pointer.file, len)),
    }
    Ok(())
}

fn check_entry(table: &Table, cursor: &BlockCursor, found: &mut Found) -> Result<()> {
    let key = cursor.key();
    let here = (key.to_vec(), Reverse(cursor.commit()));
    if let Some(last) = &found.last
        && *last >= here
    {
        let what = format!("key {} is out of order", crate::error::show_key(key));
        return Err(Error::corrupt(table.id.blob(), 0, what));
    }
    let new_key = found.last.as_ref().is_none_or(|(last, _)| last != key);
    if new_key {
        found.keys += 1;
        let hash = crate::sst::filter::hash(key);
        let looked_up = table.get(key, hash, Commit::MAX, Wait::Allowed, &mut 0)?;
        if !matches!(looked_up, Lookup::Hit(_)) {
            let what = format!(
                "key {} is there and cannot be found",
                crate::error::show_key(key)
            );
            return Err(Error::corrupt(table.id.blob(), 0, what));
        }
    }
    found.entries += 1;
    found.tombstones += u64::from(cursor.tag().is_delete());
    found.raw_bytes += (key.len() + cursor.value().len()) as u64;
    found.first_key.get_or_insert_with(|| key.to_vec());
    let (min, max) = found.commits.unwrap_or((cursor.commit(), cursor.commit()));
    found.commits = Some((min.min(cursor.commit()), max.max(cursor.commit())));
    found.last = Some(here);
    Ok(())
}

/// Tables of one level must not overlap.
fn check_levels(state: &DbState, report: &mut VerifyReport) {
    let mut tables: Vec<_> = state.tables().filter(|s| s.meta.level > 0).collect();
    tables.sort_by(|a, b| {
        (a.meta.keyspace, a.meta.level, &a.meta.min_key).cmp(&(
            b.meta.keyspace,
            b.meta.level,
            &b.meta.min_key,
        ))
    });
    for pair in tables.windows(2) {
        let (a, b) = (&pair[0].meta, &pair[1].meta);
        if (a.keyspace, a.level) == (b.keyspace, b.level) && a.max_key >= b.min_key {
            let names: (SegmentId, SegmentId) = (pair[0].id, pair[1].id);
            report.problems.push(format!(
                "{} and {} of level {} overlap",
                names.0, names.1, a.level
            ));
        }
    }
}
