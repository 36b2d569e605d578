//! The keyspace of a tree, as its writer or a reader beside the writer sees it.

use crate::error::Result;
use siltstone_kv::{
    Commit, CommitRanges, Keyspace, Read, ReadAt, ReaderKeyspace, Result as KvResult, Snapshot,
};

/// Where a tree's rows lie.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Writer(Keyspace),
    Reader(ReaderKeyspace),
}

impl Source {
    /// The rows as they were at `commit`, held readable.
    pub(crate) fn at_commit(&self, commit: Commit) -> Result<Snapshot> {
        Ok(match self {
            Source::Writer(keyspace) => keyspace.at_commit(commit)?,
            Source::Reader(keyspace) => keyspace.at_commit(commit)?,
        })
    }

    /// The rows as they are now, held readable.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        Ok(match self {
            Source::Writer(keyspace) => keyspace.snapshot()?,
            Source::Reader(keyspace) => keyspace.at_commit(keyspace.commit()?)?,
        })
    }

    pub(crate) fn retained(&self) -> Result<CommitRanges> {
        Ok(match self {
            Source::Writer(keyspace) => keyspace.retained_commits()?,
            Source::Reader(keyspace) => keyspace.retained_commits()?,
        })
    }

    /// The first commit from which on every one is retained: what happened after it can be told
    /// commit by commit.
    pub(crate) fn window_start(&self) -> Result<Commit> {
        let retained = self.retained()?;
        Ok(match retained.ranges().last() {
            Some(range) if range.step == 1 => range.first,
            Some(range) => range.last,
            None => Commit::ZERO,
        })
    }
}

impl Read for Source {
    fn at(&self) -> KvResult<ReadAt> {
        match self {
            Source::Writer(keyspace) => keyspace.at(),
            Source::Reader(keyspace) => keyspace.at(),
        }
    }

    fn try_at(&self) -> KvResult<ReadAt> {
        match self {
            Source::Writer(keyspace) => keyspace.try_at(),
            Source::Reader(keyspace) => keyspace.try_at(),
        }
    }
}
